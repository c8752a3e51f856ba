"""The plan: which distinct images a list of triplets needs, told apart by their content and not by their names.

A target that was copied for each of its swaps is embedded once, and its swaps are one group of the bootstrap.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exprmetric.errors import UnreadableImageError
from exprmetric.images import content_hash
from exprmetric.triplets import ROLES, Triplet

AHEAD = 4096
"""Files that wait to be hashed at a time."""
Stamp = tuple[int, int]
NONE = -1
"""Stands for an image that is missing or unreadable."""


@dataclass(frozen=True, eq=False)
class Look:
    """One look at one image: which content, and whose face is searched in it.

    Attributes:
        content: number of the image's content.
        near: number of the target's content where the image is a swap of it: the face is searched near the target's
            place. NONE for targets and sources.
    """

    content: int
    near: int


@dataclass(frozen=True, eq=False)
class Plan:
    """What `pipeline.measure` works through.

    Attributes:
        triplets: in input order.
        hashes: content hash by number.
        paths: one path for each content, by number.
        stamps: size and time of change of those paths, as they were hashed.
        contents: (N, 3) numbers of the contents of target, source, swapped; NONE where there is none.
        unreadable: reason by path, for the files that can't be read.
    """

    triplets: Sequence[Triplet]
    hashes: list[str]
    paths: list[Path]
    stamps: list[Stamp]
    contents: npt.NDArray[np.int32]
    unreadable: dict[Path, str]

    def looks(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(M, 3) a number for each look that M rows need, NONE in rows with an image missing; `look` decodes it."""
        contents = self.contents[rows].astype(np.int64)
        near = np.full_like(contents, NONE)
        near[:, 2] = np.where(contents[:, 2] == contents[:, 0], NONE, contents[:, 0])
        numbers = contents * (len(self.hashes) + 1) + (near + 1)
        numbers[(contents == NONE).any(1)] = NONE
        return numbers

    def look(self, number: int) -> Look:
        content, near = divmod(number, len(self.hashes) + 1)
        return Look(content, near - 1)

    def number(self, content: int) -> int:
        """The number of the look at a target or source."""
        return content * (len(self.hashes) + 1)

    def hashes_of(self, look: Look) -> tuple[str, str]:
        """Content hash of the image, and of the target near whose place its face is searched ('' if none)."""
        return self.hashes[look.content], "" if look.near == NONE else self.hashes[look.near]

    def target_hash(self, row: int) -> str:
        """Content hash of a row's target; '' where it can't be read."""
        content = int(self.contents[row, 0])
        return "" if content == NONE else self.hashes[content]

    def problem(self, triplet: Triplet) -> str:
        """Why the triplet can't be measured, as far as its files tell; '' when it can."""
        if triplet.problem:
            return triplet.problem
        paths = {role: getattr(triplet, role) for role in ROLES}
        bad = {r: "no image is given" if p is None else self.unreadable.get(p) for r, p in paths.items()}
        return "; ".join(f"{role}: {reason}" for role, reason in bad.items() if reason)

    def changed(self, content: int) -> bool:
        """Whether a file is no more what was hashed: somebody writes into it while it is measured."""
        return _stamp(self.paths[content]) != self.stamps[content]

    def digest(self) -> str:
        """SHA-256 of all that decides the rows, but for the methods: names, labels and contents in their order."""
        found = hashlib.sha256("\n".join(self.hashes).encode())
        found.update(np.ascontiguousarray(self.contents).tobytes())
        for triplet in self.triplets:
            found.update(row_text(triplet) + json.dumps(triplet.problem).encode())
        return found.hexdigest()


def row_text(triplet: Triplet) -> bytes:
    """All that a row says of its triplet, for a digest: two models have swapped into files of the same names."""
    t = triplet
    paths = (str(t.target), str(t.source), str(t.swapped))
    return json.dumps((t.id, *paths, t.model, t.group, t.target_label, t.source_label)).encode() + b"\n"


def make_plan(triplets: Sequence[Triplet], pool: Executor) -> Plan:
    """Read and hash every distinct file once."""
    files: dict[Path, int] = {}
    wanted = np.full((len(triplets), len(ROLES)), NONE, np.int32)
    for row, triplet in enumerate(triplets):
        for column, role in enumerate(ROLES):
            path = getattr(triplet, role)
            if path is not None and (role == "target" or not triplet.problem):
                wanted[row, column] = files.setdefault(path, len(files))
    numbers: dict[str, int] = {}
    paths: list[Path] = []
    stamps: list[Stamp] = []
    unreadable: dict[Path, str] = {}
    content_of = np.full(len(files) + 1, NONE, np.int32)  # the last one stands for no file
    for (path, file), found in zip(files.items(), _in_order(pool, files), strict=True):
        if isinstance(found, UnreadableImageError):
            unreadable[path] = str(found)
            continue
        digest, stamp = found
        if digest not in numbers:
            numbers[digest] = len(paths)
            paths.append(path)
            stamps.append(stamp)
        content_of[file] = numbers[digest]
    return Plan(triplets, list(numbers), paths, stamps, content_of[wanted], unreadable)


def _in_order(pool: Executor, files: Iterable[Path]) -> Iterator[tuple[str, Stamp] | UnreadableImageError]:
    waiting = iter(files)
    while some := list(islice(waiting, AHEAD)):
        yield from pool.map(_hash, some)


def _hash(path: Path) -> tuple[str, Stamp] | UnreadableImageError:
    try:
        stamp = _stamp(path)
        return content_hash(path), stamp
    except UnreadableImageError as error:
        return error


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except (OSError, ValueError):  # `content_hash` says what is wrong with it
        return (0, 0)
    return found.st_size, found.st_mtime_ns
