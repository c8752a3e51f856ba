"""The loop: images are read ahead of where they are needed, represented in batches, and become rows in order.

Reading and representing are tasks of one pool, each on one core, so that no core waits for the others; in large runs
processes do both (`forked.py`). Each distinct image is read once. The vectors of its faces are kept until the last
triplet that needs them and then forgotten, so that memory does not grow with the number of triplets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from exprmetric.errors import ImageError
from exprmetric.evaluation.blocks import Block, Integers, measured_block
from exprmetric.evaluation.choosing import Chooser
from exprmetric.evaluation.large.cache import Cache
from exprmetric.evaluation.plan import NONE, Plan
from exprmetric.evaluation.reading import BATCH, FaceReader, Outcome
from exprmetric.methods.base import Method

if TYPE_CHECKING:
    from exprmetric.io.images import ImageSource, Pinned

BLOCK = 64
"""New images that a block of rows needs, at most, and images that are read ahead."""
MOST_ROWS = 8192
"""Rows of a block, at most."""
SPARE = 3
"""Images that are read, at least, while those before them are represented."""


@dataclass(eq=False)
class Task:
    """One image on its way through the pool.

    Attributes:
        source: path, array, or a file whose content is known.
        known: what an earlier run has found out.
        sighted: set once the image is in the pool.
        new: something is found out that was not known.
    """

    source: ImageSource | Pinned
    known: Outcome | None = None
    sighted: Future[Outcome] = field(default_factory=Future)
    new: bool = False

    def enter(self, reader: FaceReader, pool: Executor) -> None:
        """Have the image read, where anything is left to do."""
        if isinstance(self.known, ImageError) or (self.known and not reader.missing(self.known)):
            self.sighted.set_result(self.known)
        else:
            self.sighted = reader.submit(pool, self.source, self.known)
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
    """The images that some rows need, numbered in the order in which they are needed.

    Attributes:
        order: content in the plan of each image.
        of_row: (M, 3) or (M, 6) the images of each row, as `Plan.looks` gives their contents.
        needed: (M,) how many images have to be looked at for all rows up to each.
        leaving: images in the order in which they are not needed any more.
        last: the last row of each of them.
    """

    def __init__(self, plan: Plan, rows: Integers) -> None:
        rank: dict[int, int] = {NONE: NONE}
        parts: list[npt.NDArray[np.int32]] = [plan.looks(rows[:0])]
        last = np.empty(0, np.int64)
        for start in range(0, len(rows), MOST_ROWS):
            looks = plan.looks(rows[start : start + MOST_ROWS])
            numbers, first, inverse = np.unique(looks, return_index=True, return_inverse=True)
            for number in numbers[np.argsort(first)].tolist():
                rank.setdefault(number, len(rank) - 1)
            ranks = np.array([rank[number] for number in numbers.tolist()], np.int32)
            parts.append(np.asarray(ranks[inverse.ravel()].reshape(looks.shape), np.int32))
            last = np.concatenate([last, np.zeros(len(rank) - 1 - len(last), np.int64)])
            at, _ = np.nonzero(parts[-1] != NONE)
            np.maximum.at(last, parts[-1][parts[-1] != NONE], start + at)
        self.of_row = np.concatenate(parts)
        self.order = [number for number in rank if number != NONE]
        self.needed = np.maximum.accumulate(self.of_row.max(1, initial=NONE) + 1)
        self.leaving = np.argsort(last, kind="stable")
        self.last = last[self.leaving]

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
    chooser: Chooser,
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
        chooser: which of several faces is measured.
        pool: where images are read; the result does not depend on its size.
        cache: what earlier runs have found out.
        block: new images a block of rows needs at most; nor on this.
    """
    looks = _Looks(plan, rows)
    tasks: dict[int, Task] = {}
    kept: dict[int, Outcome] = {}

    def line() -> Iterator[Task]:
        for rank, content in enumerate(looks.order):
            tasks[rank] = Task(plan.image(content), cache.find(plan.hashes[content]))
            yield tasks[rank]

    outcomes = enumerate(represent_all(line(), reader, pool, block=block))
    left = 0
    for part in looks.blocks(block):
        while len(kept) + left < looks.needed[part.stop - 1]:
            rank, outcome = next(outcomes)
            content = looks.order[rank]
            kept[rank] = outcome
            if tasks.pop(rank).new:
                cache.add(plan.hashes[content], outcome)
        cache.commit()
        yield measured_block(plan, rows[part], looks.of_row[part], looks.order, kept, methods, chooser, pool)
        while left < len(looks.last) and looks.last[left] < part.stop:
            del kept[int(looks.leaving[left])]
            left += 1
