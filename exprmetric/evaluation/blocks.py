"""A block of rows: once all their images are known, their faces are chosen and compared."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exprmetric.errors import ImageError, NoFaceError
from exprmetric.evaluation.choosing import NO_SOURCE, NOBODY, Chooser, Chosen
from exprmetric.evaluation.distances import triplet_distances
from exprmetric.evaluation.plan import NONE, Plan
from exprmetric.evaluation.reading import Image, Outcome, Represented, Sight
from exprmetric.evaluation.rows import DISTANCE_COLUMNS, OK
from exprmetric.inputs.triplets import ROLES
from exprmetric.io.images import read_image
from exprmetric.io.tables import show
from exprmetric.methods.base import Method

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Block:
    """What became of some triplets.

    Attributes:
        rows: (N,) their places in the plan.
        status: `ok`, or that of the first image that failed (`unreadable`, `no_face`, `low_quality`, `error`).
        reasons: which images failed and why; where ok, what has to be said of the row, mostly ''.
        faces: (N, 3) faces in target, source and swapped image; -1 where that isn't known.
        boxes: N times 3 boxes that were measured, (4,) px; None where there is none.
        distances: by method (N, 3) t2c, s2c, s2t; NaN unless ok.
        chosen: N: the faces that were measured, or why there are none.
        targets: N: what is seen in the target; None where that isn't known.
    """

    rows: Integers
    status: list[str]
    reasons: list[str]
    faces: npt.NDArray[np.int32]
    boxes: list[list[npt.NDArray[np.float64] | None]]
    distances: dict[str, npt.NDArray[np.float64]]
    chosen: list[Chosen]
    targets: list[Sight | None]


def measured_block(
    plan: Plan,
    rows: Integers,
    looks: npt.NDArray[np.int32],
    order: Sequence[int],
    kept: dict[int, Outcome],
    methods: Sequence[Method],
    chooser: Chooser,
    pool: Executor,
) -> Block:
    """Statuses and distances; those of rows with the same images are computed once.

    A triplet of which every face is measured has a row for each.
    """
    asked = np.column_stack([looks, plan.named[rows]]) if len(plan.named) else looks
    _, first, inverse = np.unique(asked, axis=0, return_index=True, return_inverse=True)
    several = _choose(plan, rows[first], looks[first], order, kept, chooser, pool)
    chosen = [one for found in several for one in found]
    of_look = np.repeat(np.arange(len(several)), [len(found) for found in several])
    places = [np.flatnonzero(of_look == look) for look in range(len(several))]
    rows = np.repeat(rows, [len(places[look]) for look in inverse.ravel().tolist()])
    inverse = np.concatenate([np.empty(0, np.int64), *(places[look] for look in inverse.ravel().tolist())])
    whole = {i: c.trio for i, c in enumerate(chosen) if c.trio}
    distances, problems = triplet_distances(methods, list(whole.values()))
    problem = dict(zip(whole, problems, strict=True))
    columns = {m.name: np.full((len(chosen), len(DISTANCE_COLUMNS)), np.nan) for m in methods}
    for name, values in distances.items():
        columns[name][list(whole)] = values
    status, reasons = [], []
    for row, distinct in zip(rows.tolist(), inverse.tolist(), strict=True):
        found = _judged(plan, row, chosen[distinct], problem.get(distinct))
        status.append(found[0])
        reasons.append(found[1])
    counts = np.array([_counts(trio, kept) for trio in looks[first].tolist()], np.int32)[of_look]
    boxes = [[f.box if isinstance(f, Represented) else None for f in c.faces] for c in chosen]
    return Block(
        rows,
        status,
        reasons,
        counts[inverse],
        [boxes[i] for i in inverse.tolist()],
        {name: values[inverse] for name, values in columns.items()},
        [chosen[i] for i in inverse.tolist()],
        [_sight(kept.get(int(looks[first[of_look[i]], 0]))) for i in inverse.tolist()],
    )


def _sight(seen: Outcome | None) -> Sight | None:
    return seen if isinstance(seen, Sight) else None


def _counts(trio: Sequence[int], kept: dict[int, Outcome]) -> list[int]:
    """Faces in each image of a row; -1 where that isn't known."""
    found = []
    for rank in trio[: len(ROLES)]:
        outcome = None if rank == NONE else kept[rank]
        count = len(outcome.faces) if isinstance(outcome, Sight) else NONE
        found.append(0 if isinstance(outcome, NoFaceError) else count)
    return found


def _choose(
    plan: Plan,
    rows: Integers,
    looks: npt.NDArray[np.int32],
    order: Sequence[int],
    kept: dict[int, Outcome],
    chooser: Chooser,
    pool: Executor,
) -> list[list[Chosen]]:
    """Which faces are measured in each of some rows; in the pool, where pictures have to be compared."""

    def pixels(rank: int) -> Image:
        return read_image(plan.image(order[rank]))

    found: list[list[Chosen] | Future[list[Chosen]]] = []
    for row, ranks in zip(rows.tolist(), looks.tolist(), strict=True):
        if ranks[0] == NONE:
            found.append([Chosen((None,) * len(ROLES))])
            continue
        names, seen = plan.names(row), [None if r == NONE else (kept[r], partial(pixels, r)) for r in ranks]
        photos = seen[len(ROLES) :] or NOBODY
        images, own = zip(*(s or NO_SOURCE for s in seen[: len(ROLES)]), strict=True)
        if chooser.compares(images, names):
            found.append(pool.submit(chooser.choose_all, images, own, names, photos))
        else:
            found.append(chooser.choose_all(images, own, names, photos))
    return [f.result() if isinstance(f, Future) else f for f in found]


def _judged(plan: Plan, row: int, chosen: Chosen, problem: ImageError | None) -> tuple[str, str]:
    """Status and reason of a row; `problem` is what is wrong with its distances."""
    triplet, errors = plan.triplets[row], chosen.errors
    if errors:
        reasons = (_named(role, show(getattr(triplet, role)), str(e)) for role, e in errors)
        return errors[0][1].status, "; ".join(reasons)
    if not chosen.trio:
        return "unreadable", plan.problem(row)
    if problem:
        return problem.status, f"{problem}; swapped {show(triplet.swapped or Path())}"
    return OK, chosen.note


def _named(role: str, path: str, error: str) -> str:
    """The error with its image; that of a file that can't be read has it already."""
    return f"{role} {error}" if error.startswith(path) else f"{role} {path}: {error}"
