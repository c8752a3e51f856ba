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
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from exprmetric.errors import ExprmetricError, ImageError
from exprmetric.evaluation.profile import Profile
from exprmetric.evaluation.reading import FaceReader, Place, Represented, Sight, Sighted
from exprmetric.faces import landmarks

if TYPE_CHECKING:
    from exprmetric.images import ImageSource

WORTH = 200
"""Fewer images are read by threads: forking copies what processes write to, some tens of MB each."""

_inherited: FaceReader | None = None
"""What a process has of the one that it was forked from."""


def can_fork() -> bool:
    """Whether processes of this system can be forked while they hold models."""
    return sys.platform == "linux"


class ForkedReader(FaceReader):
    """Reads an image and represents its face in one process, so that vectors alone come back."""

    def __init__(self, reader: FaceReader, processes: Executor) -> None:
        super().__init__(reader.finder, list(reader.methods.values()), reader.profile)
        self._processes = processes

    def submit(
        self,
        pool: Executor,
        source: ImageSource,
        near: Sight | None = None,
        known: Sighted | None = None,
    ) -> Future[Sighted | ImageError]:
        """As `FaceReader.submit`; an image waits for its target here, and in no process."""
        found: Future[Sighted | ImageError] = Future()

        def start(target: Sight | None) -> None:
            try:
                work = self._processes.submit(_read, source, self.place(target), known)
            except BaseException as error:
                found.set_exception(_named(error))
            else:
                work.add_done_callback(finish)

        def finish(work: Future[tuple[Sighted | ImageError, dict[str, float]]]) -> None:
            try:
                outcome, seconds = work.result()
            except BaseException as error:
                found.set_exception(_named(error))
            else:
                self.profile.add(seconds)
                found.set_result(outcome)

        if near is None:
            start(None)
        else:
            near.add_done_callback(start)
        return found


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

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent: Callable[..., int] = ctypes.CDLL(None).prctl
    die_with_parent(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it died before that was said
        os._exit(1)


def _read(source: Any, place: Place | None, known: Sighted | None) -> tuple[Sighted | ImageError, dict[str, float]]:
    """In a process: what became of the image, with all vectors where it has a face, and seconds by stage."""
    assert _inherited is not None
    reader = FaceReader(_inherited.finder, list(_inherited.methods.values()), Profile())
    seen = reader.read(source, lambda: place, known)
    (outcome,) = reader.represent([seen])
    done = Sighted(outcome.face, outcome.vectors) if isinstance(outcome, Represented) else outcome
    return done, reader.profile.seconds()
