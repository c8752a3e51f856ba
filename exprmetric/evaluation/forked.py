"""Images are read and represented in processes: else libraries that hold Python's lock keep the cores waiting.

dlib's point predictor and the code around a detector's network hold the lock for a good third of an image's time, so
that threads alone fill three or four cores at most. The processes are forks of this one: they share its models, start
within milliseconds and need nothing of the program that called. Where a process can't be forked (Windows; macOS, whose
own libraries don't bear it), threads read.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from exprmetric.errors import ExprmetricError
from exprmetric.evaluation.profile import Profile
from exprmetric.evaluation.reading import FaceReader, Outcome, Sight
from exprmetric.faces import landmarks

if TYPE_CHECKING:
    from exprmetric.images import ImageSource

TOGETHER = 4
"""Images that a process takes at a time: an encoder likes batches, and handing over costs half a millisecond."""
WORTH = 200
"""Fewer images are read by threads: forking copies what processes write to, some tens of MB each."""

_inherited: FaceReader | None = None
"""What a process has of the one that it was forked from."""


def can_fork() -> bool:
    """Whether processes of this system can be forked while they hold models."""
    return sys.platform == "linux"


@dataclass(frozen=True, eq=False)
class _Ready:
    """An image for a process.

    Attributes:
        source, known: arguments of `FaceReader.read`.
        sighted: to be set to what becomes of it.
    """

    source: ImageSource
    known: Sight | None
    sighted: Future[Outcome] = field(default_factory=Future)


class ForkedReader(FaceReader):
    """Reads images and represents their faces in one process, some at a time, so that vectors alone come back."""

    def __init__(self, reader: FaceReader, processes: Executor) -> None:
        super().__init__(reader.finder, list(reader.methods.values()), reader.profile, only=reader.only)
        self._processes = processes
        self._ready: list[_Ready] = []
        self._lock = threading.Lock()

    def submit(self, pool: Executor, source: ImageSource, known: Sight | None = None) -> Future[Outcome]:
        """As `FaceReader.submit`, in processes."""
        image = _Ready(source, known)
        with self._lock:
            self._ready.append(image)
            full = len(self._ready) >= TOGETHER
        if full:
            self.flush()
        return image.sighted

    def flush(self) -> None:
        """Hand over the images that are ready, fewer than `TOGETHER` too."""
        with self._lock:
            some, self._ready = self._ready, []
        if not some:
            return

        def fail(error: BaseException) -> None:
            for image in some:
                image.sighted.set_exception(_named(error))

        def finish(work: Future[tuple[list[Outcome], dict[str, float]]]) -> None:
            try:
                outcomes, seconds = work.result()
            except BaseException as error:
                fail(error)
            else:
                self.profile.add(seconds)
                for image, outcome in zip(some, outcomes, strict=True):
                    image.sighted.set_result(outcome)

        try:
            work = self._processes.submit(_read, [(i.source, i.known) for i in some])
        except BaseException as error:
            fail(error)
        else:
            work.add_done_callback(finish)


def _named(error: BaseException) -> BaseException:
    """The error, and of a process that is no more, what to do."""
    if not isinstance(error, BrokenExecutor):
        return error
    return ExprmetricError(
        "a process that read images was killed, perhaps because memory ran out; what is measured is kept: give the "
        "same command again, perhaps with fewer --jobs"
    )


@contextmanager
def open_reader(reader: FaceReader, jobs: int, images: int) -> Iterator[FaceReader]:
    """A reader for so many images: in `jobs` processes where that pays and can be, else `reader` itself."""
    global _inherited
    if jobs < 2 or images < WORTH or not can_fork():
        yield reader
        return
    with reader.profile.stage("load models"):
        landmarks.load_predictor()  # once, not in each process
    context = multiprocessing.get_context("fork")
    processes = ProcessPoolExecutor(jobs, context, _begin, (os.getpid(),))
    _inherited = reader
    try:
        with warnings.catch_warnings():  # Python warns of locks that other threads hold: those of the pool are idle
            warnings.simplefilter("ignore", DeprecationWarning)
            processes.submit(os.getpid).result()
        yield ForkedReader(reader, processes)
    finally:
        _inherited = None
        processes.shutdown(cancel_futures=True)


def _begin(parent: int) -> None:
    """In a new process: Ctrl-C is its parent's to hear, and it doesn't outlive it."""
    import ctypes
    import gc

    gc.freeze()  # a collection would write to all that is shared, and so copy it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent: Callable[..., int] = ctypes.CDLL(None).prctl
    die_with_parent(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it died before that was said
        os._exit(1)


def _read(images: list[tuple[Any, Sight | None]]) -> tuple[list[Outcome], dict[str, float]]:
    """In a process: what became of some images, with all vectors where they have faces, and seconds by stage."""
    assert _inherited is not None
    reader = FaceReader(_inherited.finder, list(_inherited.methods.values()), Profile(), only=_inherited.only)
    outcomes = reader.represent([reader.read(source, known) for source, known in images])
    return outcomes, reader.profile.seconds()
