"""The shortest path of a face through the toolkit: read → detect → choose → landmarks → crops → vectors → distances.

Triplets are worked through in blocks. In each block, targets and sources come first, because a swapped image is
searched near the place of its target's face. An image's vectors are kept until its last triplet and then forgotten, so
that memory does not grow with the number of triplets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from exprmetric.errors import ImageError
from exprmetric.evaluation.plan import Key, Plan
from exprmetric.evaluation.profile import Profile
from exprmetric.faces.face import Face
from exprmetric.faces.finder import FaceFinder
from exprmetric.images import read_image
from exprmetric.methods.base import Method
from exprmetric.triplets import ROLES, Triplet

if TYPE_CHECKING:
    from exprmetric.images import ImageSource

BLOCK = 64
"""Triplets worked on at a time."""
OK = "ok"


@dataclass(frozen=True)
class Distances:
    """Distances of one triplet in the space of one method."""

    t2c: float
    s2c: float
    s2t: float


@dataclass(frozen=True)
class Row:
    """What became of one triplet.

    Attributes:
        status: `ok`, or the status of the first image that failed (`unreadable`, `no_face`, `low_quality`, `error`).
        reason: which image failed and why; '' when ok.
        distances: by method; empty unless ok.
    """

    triplet: Triplet
    group: str
    status: str
    reason: str = ""
    distances: dict[str, Distances] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Represented:
    """One face as each method sees it, and where it stood (box as shares of width and height)."""

    place: npt.NDArray[np.float64]
    vectors: dict[str, npt.NDArray[np.float32]]


Outcome = Represented | ImageError


class FaceReader:
    """From an image to a face that every method has prepared and whose pixels are let go of."""

    def __init__(self, finder: FaceFinder, methods: Sequence[Method], profile: Profile) -> None:
        self.finder = finder
        self.methods = methods
        self.templates = list(dict.fromkeys(m.template for m in methods))
        self.profile = profile

    def read(self, source: ImageSource, near: npt.NDArray[np.float64] | None = None) -> Face | ImageError:
        """The face, or the error that says why there is none; errors that are no image's fault rise."""
        try:
            with self.profile.stage("decode"):
                image = read_image(source)
            with self.profile.stage("detect"):
                found = self.finder.detect(image)
                chosen = self.finder.choose(found, image, near=near)
            with self.profile.stage("landmarks"):
                face = self.finder.face(image, chosen)
            with self.profile.stage("align"):
                face.prepare(self.templates, keep_image=True)
            for method in self.methods:
                with self.profile.stage(f"method {method.name}"):
                    method.prepare(face)
            return face.prepare([])
        except ImageError as error:
            return error


def represent(faces: Sequence[Face], methods: Sequence[Method], profile: Profile) -> list[Represented]:
    """Vectors of all methods for faces whose crops are made."""
    columns = {}
    for method in methods:
        with profile.stage(f"method {method.name}"):
            columns[method.name] = method.represent(faces)
    return [Represented(f.place, {name: v[i] for name, v in columns.items()}) for i, f in enumerate(faces)]


def measure(
    plan: Plan,
    sources: Callable[[Key], ImageSource],
    reader: FaceReader,
    methods: Sequence[Method],
    pool: Executor,
    *,
    block: int = BLOCK,
) -> Iterator[Row]:
    """Rows of the plan's triplets, in their order.

    Args:
        plan: what to measure.
        sources: a path or array for the image of a key.
        reader: finds faces.
        methods: what turns faces into vectors and vectors into distances.
        pool: where images are read; the result does not depend on its size.
        block: triplets worked on at a time; nor on this.
    """
    kept: dict[Key, Outcome] = {}

    def fill(keys: Iterable[Key], near: Callable[[Key], npt.NDArray[np.float64] | None]) -> None:
        wanted = [k for k in dict.fromkeys(keys) if k not in kept]
        read = pool.map(lambda k: reader.read(sources(k), near(k)), wanted)
        outcomes: dict[Key, Face | ImageError] = dict(zip(wanted, read, strict=True))
        faces = {k: f for k, f in outcomes.items() if isinstance(f, Face)}
        kept.update({k: f for k, f in outcomes.items() if isinstance(f, ImageError)})
        kept.update(zip(faces, represent(list(faces.values()), methods, reader.profile), strict=True))

    def target_place(key: Key) -> npt.NDArray[np.float64] | None:
        target = kept[(key[1], "")]
        return target.place if isinstance(target, Represented) else None

    for start in range(0, len(plan.triplets), block):
        triplets = plan.triplets[start : start + block]
        keys = [plan.keys(t) for t in triplets]
        known = [k for k in keys if k is not None]
        fill((k[role] for k in known for role in ("target", "source")), lambda key: None)
        fill((k["swapped"] for k in known), target_place)
        yield from _rows(plan, triplets, keys, kept, methods)
        for key in [k for k in kept if plan.last_use[k] < start + len(triplets)]:
            del kept[key]


def _rows(
    plan: Plan,
    triplets: Sequence[Triplet],
    keys: Sequence[dict[str, Key] | None],
    kept: dict[Key, Outcome],
    methods: Sequence[Method],
) -> Iterator[Row]:
    """Distances of one block, all its triplets at once for each method."""
    outcomes = [None if k is None else [kept[k[role]] for role in ROLES] for k in keys]
    good = [[r for r in o if isinstance(r, Represented)] if o else [] for o in outcomes]
    complete = [i for i, found in enumerate(good) if len(found) == len(ROLES)]
    columns = {m.name: triplet_distances(m, [good[i] for i in complete]) for m in methods} if complete else {}
    position = {i: n for n, i in enumerate(complete)}
    for i, (triplet, outcome) in enumerate(zip(triplets, outcomes, strict=True)):
        group = plan.group(triplet)
        if outcome is None:
            yield Row(triplet, group, "unreadable", plan.problem(triplet))
        elif i in position:
            distances = {name: Distances(*(float(c[position[i]]) for c in column)) for name, column in columns.items()}
            yield Row(triplet, group, OK, "", distances)
        else:
            failed = [(r, e) for r, e in zip(ROLES, outcome, strict=True) if isinstance(e, ImageError)]
            reason = "; ".join(f"{role} {getattr(triplet, role)}: {error}" for role, error in failed)
            yield Row(triplet, group, failed[0][1].status, reason)


def triplet_distances(method: Method, faces: Sequence[Sequence[Represented]]) -> list[npt.NDArray[np.float64]]:
    """(N,) t2c, s2c and s2t of N triplets (target, source, swapped) of faces."""
    target, source, swapped = (np.stack([f[i].vectors[method.name] for f in faces]) for i in range(len(ROLES)))
    return [
        method.distance(target, swapped),
        method.distance(source, swapped),
        method.distance(source, target),
    ]
