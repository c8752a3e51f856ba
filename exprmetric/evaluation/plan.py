"""The plan: which distinct images a list of triplets needs, and until when each one's vectors are needed.

Images are told apart by their content, not by their name: a target that was copied for each of its swaps is embedded
once, and its swaps are one group of the bootstrap.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path

from exprmetric.errors import UnreadableImageError
from exprmetric.images import content_hash
from exprmetric.triplets import ROLES, Triplet

Key = tuple[str, str]
"""Content hash of an image, and that of the target whose face it was swapped into ('' for targets and sources)."""


@dataclass
class Plan:
    """What `pipeline.measure` works through.

    Attributes:
        triplets: in input order.
        hashes: content hash by path, for the images that can be read.
        unreadable: reason by path, for the others.
        last_use: index of the last triplet that needs a key.
        groups: by content hash of a target, the path that has it, of several the one that sorts first.
    """

    triplets: Sequence[Triplet]
    hashes: dict[Path, str] = field(default_factory=dict)
    unreadable: dict[Path, str] = field(default_factory=dict)
    last_use: dict[Key, int] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)

    def keys(self, triplet: Triplet) -> dict[str, Key] | None:
        """The key of each role; None where an image of the triplet is missing or unreadable."""
        paths = [getattr(triplet, role) for role in ROLES]
        if triplet.problem or any(p not in self.hashes for p in paths):
            return None
        target, source, swapped = (self.hashes[p] for p in paths)
        return {
            "target": (target, ""),
            "source": (source, ""),
            "swapped": (swapped, "" if swapped == target else target),
        }

    def problem(self, triplet: Triplet) -> str:
        """Why the triplet can't be measured, as far as its files tell; '' when it can."""
        if triplet.problem:
            return triplet.problem
        paths = {role: getattr(triplet, role) for role in ROLES}
        bad = {r: "no image is given" if p is None else self.unreadable.get(p) for r, p in paths.items()}
        return "; ".join(f"{role}: {reason}" for role, reason in bad.items() if reason)

    def group(self, triplet: Triplet) -> str:
        """The group of the bootstrap: the given one, else the target image, told apart by content."""
        if triplet.group or triplet.target is None:
            return triplet.group
        return self.groups.get(self.hashes.get(triplet.target, ""), str(triplet.target))


def make_plan(triplets: Sequence[Triplet], pool: Executor) -> Plan:
    """Hash every distinct file once and note when each image is needed for the last time."""
    plan = Plan(triplets)
    paths = list(dict.fromkeys(p for t in triplets if not t.problem for r in ROLES if (p := getattr(t, r)) is not None))
    for path, digest in zip(paths, pool.map(_hash, paths), strict=True):
        if isinstance(digest, UnreadableImageError):
            plan.unreadable[path] = str(digest)
        else:
            plan.hashes[path] = digest
    for index, triplet in enumerate(triplets):
        if triplet.target in plan.hashes:
            digest, name = plan.hashes[triplet.target], str(triplet.target)
            plan.groups[digest] = min(name, plan.groups.get(digest, name))  # the same for any order of the rows
        for key in (plan.keys(triplet) or {}).values():
            plan.last_use[key] = index
    return plan


def _hash(path: Path) -> str | UnreadableImageError:
    try:
        return content_hash(path)
    except UnreadableImageError as error:
        return error
