"""The loop: images are read ahead of where they are needed, represented in batches, and become rows in order.

Reading and representing are tasks of one pool, each on one core, so that no core waits for the others; in large runs
processes do both (`forked.py`). Each distinct look at an image is done once. Its vectors are kept until the last
triplet that needs them and then forgotten, so that memory does not grow with the number of triplets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from exprmetric.errors import ImageError, UnreadableImageError
from exprmetric.evaluation.cache import FAILURES, Cache
from exprmetric.evaluation.distances import triplet_distances
from exprmetric.evaluation.plan import NONE, Look, Plan
from exprmetric.evaluation.reading import FaceReader, Outcome, Represented, Sight, Sighted
from exprmetric.evaluation.rows import DISTANCE_COLUMNS, OK
from exprmetric.methods.base import Method
from exprmetric.tables import show
from exprmetric.triplets import ROLES

if TYPE_CHECKING:
    from exprmetric.images import ImageSource

Integers = npt.NDArray[np.int64]

BLOCK = 64
"""New images that a block of rows needs, at most, and images that are read ahead."""
MOST_ROWS = 8192
"""Rows of a block, at most."""
BATCH = 8
"""Faces represented at a time; on one core, more make an encoder no faster."""
SPARE = 3
"""Images that are read, at least, while those before them are represented."""


@dataclass(frozen=True, eq=False)
class Block:
    """What became of some triplets.

    Attributes:
        rows: (N,) their places in the plan.
        status: `ok`, or that of the first image that failed (`unreadable`, `no_face`, `low_quality`, `error`).
        reasons: which images failed and why; '' where ok.
        distances: by method (N, 3) t2c, s2c, s2t; NaN unless ok.
    """

    rows: Integers
    status: list[str]
    reasons: list[str]
    distances: dict[str, npt.NDArray[np.float64]]


@dataclass(eq=False)
class Task:
    """One image on its way through the pool.

    Attributes:
        source: path or array.
        near: what becomes of the target near whose face the face is searched, as in `FaceFinder.choose`.
        known: what an earlier run has found out.
        sighted: set once the image is in the pool.
        new: something is found out that was not known.
    """

    source: ImageSource
    near: Sight | None = None
    known: Sighted | ImageError | None = None
    sighted: Future[Sighted | ImageError] = field(default_factory=Future)
    new: bool = False

    def enter(self, reader: FaceReader, pool: Executor) -> None:
        """Have the image read, where anything is left to do."""
        if isinstance(self.known, ImageError) or (self.known and not reader.missing(self.known)):
            self.sighted.set_result(self.known)
        else:
            self.sighted = reader.submit(pool, self.source, self.near, self.known)
            self.new = True


def represent_all(
    tasks: Iterable[Task], reader: FaceReader, pool: Executor, *, block: int = BLOCK
) -> Iterator[Outcome]:
    """What becomes of each image, in their order.

    Args:
        tasks: taken as there is room for them.
        pool: its size does not show in the result.
        block: about as many images are read before they are asked for; nor does this.
    """
    waiting = iter(tasks)
    reading: deque[Task] = deque()
    batches: deque[Future[list[Outcome]]] = deque()
    batch = min(BATCH, block)

    def read_ahead() -> None:
        for task in islice(waiting, max(block, batch + SPARE) - len(reading)):
            task.enter(reader, pool)
            reading.append(task)
        reader.flush()

    while True:
        read_ahead()
        if not reading:
            break
        taken = [reading.popleft() for _ in range(min(batch, len(reading)))]
        read_ahead()  # before waiting: the pool must not run dry
        batches.append(pool.submit(reader.represent, [task.sighted.result() for task in taken]))
        if len(batches) > 1:
            yield from batches.popleft().result()
    while batches:
        yield from batches.popleft().result()


class _Looks:
    """The looks that some rows need, numbered in the order in which they are needed.

    Attributes:
        order: number in the plan of each look.
        of_row: (M, 3) the looks of each row; NONE where an image is missing.
        needed: (M,) how many looks have to be done for all rows up to each.
        leaving: looks in the order in which they are not needed any more; last: the last row of each of them.
    """

    def __init__(self, plan: Plan, rows: Integers) -> None:
        self._rank: dict[int, int] = {}
        self.of_row = np.full((len(rows), len(ROLES)), NONE, np.int32)
        last = np.empty(0, np.int64)
        for start in range(0, len(rows), MOST_ROWS):
            looks = plan.looks(rows[start : start + MOST_ROWS])
            whole = np.flatnonzero(looks[:, 0] != NONE)
            numbers, first, inverse = np.unique(looks[whole], return_index=True, return_inverse=True)
            for number in numbers[np.argsort(first)].tolist():
                self._rank.setdefault(number, len(self._rank))
            ranks = np.array([self._rank[number] for number in numbers.tolist()], np.int32)
            self.of_row[start + whole] = ranks[inverse.ravel()].reshape(-1, len(ROLES))
            last = np.concatenate([last, np.zeros(len(self._rank) - len(last), np.int64)])
            np.maximum.at(last, self.of_row[start + whole], (start + whole)[:, None])
        self.order = list(self._rank)
        self.needed = np.maximum.accumulate(self.of_row.max(1, initial=NONE) + 1)
        self.leaving = np.argsort(last, kind="stable")
        self.last = last[self.leaving]

    def rank(self, number: int) -> int:
        """The place of a look in the order."""
        return self._rank[number]

    def blocks(self, block: int) -> Iterator[slice]:
        """Rows that need at most `block` new looks together (a row that needs more is alone), in their order."""
        start = 0
        while start < len(self.needed):
            before = self.needed[start - 1] if start else 0
            stop = int(np.searchsorted(self.needed, before + block, side="right"))
            stop = min(max(stop, start + 1), start + MOST_ROWS)
            yield slice(start, stop)
            start = stop


def measure(
    plan: Plan,
    rows: Integers,
    reader: FaceReader,
    methods: Sequence[Method],
    pool: Executor,
    cache: Cache,
    *,
    block: int = BLOCK,
) -> Iterator[Block]:
    """Some rows of a plan, in their order.

    Args:
        plan: which images there are.
        rows: (M,) which of its triplets.
        reader: finds faces and represents them.
        methods: what turns vectors into distances.
        pool: where images are read; the result does not depend on its size.
        cache: what earlier runs have found out.
        block: new images a block of rows needs at most; nor on this.
    """
    looks = _Looks(plan, rows)
    tasks: dict[int, Task] = {}
    kept: dict[int, Outcome] = {}

    def sight(target: int) -> Sight:
        """What becomes of a target: it is on its way, or done."""
        if target in tasks:
            return tasks[target].sighted
        done: Future[Outcome] = Future()
        done.set_result(kept[target])
        return done

    def target_of(look: Look) -> int | None:
        """The look at the target near whose place the face is searched."""
        return None if look.near == NONE else looks.rank(plan.number(look.near))

    def lasting(look: Look) -> bool:
        """Whether another run sees the same: the place of a target that couldn't be read now may be known then."""
        target = target_of(look)
        found = None if target is None else kept[target]
        return not isinstance(found, ImageError) or type(found) in FAILURES.values()

    def line() -> Iterator[Task]:
        for rank, number in enumerate(looks.order):
            look = plan.look(number)
            target = target_of(look)
            near = None if target is None else sight(target)
            tasks[rank] = Task(plan.paths[look.content], near, cache.find(*plan.hashes_of(look)))
            yield tasks[rank]

    outcomes = enumerate(represent_all(line(), reader, pool, block=block))
    left = 0
    for part in looks.blocks(block):
        while len(kept) + left < looks.needed[part.stop - 1]:
            rank, outcome = next(outcomes)
            look = plan.look(looks.order[rank])
            if not isinstance(outcome, ImageError) and plan.changed(look.content):
                path = show(plan.paths[look.content])
                outcome = UnreadableImageError(f"{path}: it was changed while it was measured")
            kept[rank] = outcome
            if tasks.pop(rank).new and lasting(look):
                cache.add(*plan.hashes_of(look), outcome)
        cache.commit()
        yield _block(plan, rows[part], looks.of_row[part], kept, methods)
        while left < len(looks.last) and looks.last[left] < part.stop:
            del kept[int(looks.leaving[left])]
            left += 1


def _block(
    plan: Plan, rows: Integers, looks: npt.NDArray[np.int32], kept: dict[int, Outcome], methods: Sequence[Method]
) -> Block:
    """Statuses and distances; those of rows with the same images are computed once."""
    distinct, inverse = np.unique(looks, axis=0, return_inverse=True)
    inverse = inverse.ravel()
    outcomes = [[] if trio[0] == NONE else [kept[rank] for rank in trio] for trio in distinct.tolist()]
    faces = [[o for o in trio if isinstance(o, Represented)] for trio in outcomes]
    complete = [i for i, found in enumerate(faces) if len(found) == len(ROLES)]
    distances, problems = triplet_distances(methods, [faces[i] for i in complete])
    problem = dict(zip(complete, problems, strict=True))
    whole = {m.name: np.full((len(distinct), len(DISTANCE_COLUMNS)), np.nan) for m in methods}
    for name, values in distances.items():
        whole[name][complete] = values
    status, reasons = [], []
    for row, trio in zip(rows.tolist(), inverse.tolist(), strict=True):
        found = _judged(plan, row, outcomes[trio], problem.get(trio))
        status.append(found[0])
        reasons.append(found[1])
    return Block(rows, status, reasons, {name: values[inverse] for name, values in whole.items()})


def _judged(plan: Plan, row: int, outcomes: Sequence[Outcome], problem: ImageError | None) -> tuple[str, str]:
    """Status and reason of a row; `problem` is what is wrong with its distances."""
    triplet = plan.triplets[row]
    if not outcomes:
        return "unreadable", plan.problem(triplet)
    failed = [(r, e) for r, e in zip(ROLES, outcomes, strict=True) if isinstance(e, ImageError)]
    if failed:
        reasons = (_named(role, show(getattr(triplet, role)), str(e)) for role, e in failed)
        return failed[0][1].status, "; ".join(reasons)
    if problem:
        return problem.status, f"{problem}; swapped {show(triplet.swapped or Path())}"
    return OK, ""


def _named(role: str, path: str, error: str) -> str:
    """The error with its image; that of a file that can't be read has it already."""
    return f"{role} {error}" if error.startswith(path) else f"{role} {path}: {error}"
