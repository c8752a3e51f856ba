"""Images are read and represented in processes: a picture that kills its reader doesn't end the run.

And they are read faster: dlib's point predictor and the code around a detector's network hold Python's lock for a good
third of an image's time, so that threads alone fill three or four cores at most. The processes are forks of this one:
they share its models, start within milliseconds and need nothing of the program that called.

When a process dies (a decoder's fault, no memory), whatever was on its way is read again, each image in a process of
its own and nothing beside it: that of the culprit dies again, and its row says so. The others are measured.

Where a process can't be forked threads read: on Windows and macOS, whose own libraries don't bear it; in a process that
may have no children; and where a GPU is in use, whose state a fork can't share. They also read in small runs with
methods of other packages, which may hold threads that a fork would lack. There such a picture ends the run, and the
next one into the same folder finds it (`suspects.py`).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from exprmetric.errors import ExprmetricError, ImageError
from exprmetric.evaluation.reading import FaceReader, Outcome, Sight
from exprmetric.faces import landmarks
from exprmetric.io.progress import Profile

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from exprmetric.io.images import ImageSource, Pinned

TOGETHER = 4
"""Images that a process takes at a time: an encoder likes batches, and handing over costs half a millisecond."""
WORTH = 200
"""From so many triplets on, forks also read for methods of other packages: it pays."""

_inherited: FaceReader | None = None
"""In a process: what it has of the one that it was forked from."""


def can_fork(provider: str = "cpu") -> bool:
    """Whether processes can be forked off this one while it holds models.

    Args:
        provider: where the models run.
    """
    if sys.platform != "linux" or provider != "cpu" or multiprocessing.current_process().daemon:
        return False
    torch = sys.modules.get("torch")
    return not (torch and torch.cuda.is_initialized())


@dataclass(frozen=True, eq=False)
class _Ready:
    """An image for a process.

    Attributes:
        source: the image, as `FaceReader.read` takes it.
        known: what is known of it, likewise.
        sighted: to be set to what becomes of it.
    """

    source: ImageSource | Pinned
    known: Sight | None
    sighted: Future[Outcome] = field(default_factory=Future)


_Arguments = tuple[Any, "Sight | None"]
_Read = tuple[list[Outcome], dict[str, float]]
"""What became of some images, and seconds by stage."""


class ForkedReader(FaceReader):
    """Reads images and represents their faces in one process, some at a time, so that vectors alone come back.

    Use it as a context: its processes end with it.

    Args:
        reader: what the processes share.
        jobs: how many processes there are. They are forked when the first image comes.
    """

    def __init__(self, reader: FaceReader, jobs: int) -> None:
        super().__init__(reader.finder, list(reader.methods.values()), reader.profile, only=reader.only)
        self._reader, self._jobs = reader, jobs
        self._ready: list[_Ready] = []
        self._suspects: list[_Ready] = []
        self._lock = threading.Lock()
        self._over = False
        self._processes: ProcessPoolExecutor | None = None
        self._forks = ThreadPoolExecutor(1, "forks")
        """All processes are children of this one thread: they die with the thread that forked them."""

    def submit(self, pool: Executor, source: ImageSource | Pinned, known: Sight | None = None) -> Future[Outcome]:
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
        if some:
            self._in_forks(self._hand_over, some)

    def _in_forks(self, do: Callable[[list[_Ready]], None], images: list[_Ready]) -> None:
        """In the thread whose children the processes are; whatever goes wrong is what becomes of the images."""

        def guarded() -> None:
            try:
                if self._over:
                    raise CancelledError
                do(images)
            except BaseException as error:
                _fail(images, error)

        try:
            self._forks.submit(guarded)
        except RuntimeError as error:  # the run is over
            _fail(images, error)

    def _hand_over(self, images: list[_Ready]) -> None:
        if self._processes is None:
            self._processes = self._forked()

        def finish(work: Future[_Read]) -> None:
            try:
                outcomes, seconds = work.result()
            except BrokenExecutor:
                self._suspect(images)
            except BaseException as error:
                _fail(images, error)
            else:
                self.profile.add(seconds)
                for image, outcome in zip(images, outcomes, strict=True):
                    image.sighted.set_result(outcome)

        try:
            work = self._processes.submit(_read_some, [(i.source, i.known) for i in images])
        except BrokenExecutor:
            self._suspect(images)
        else:
            work.add_done_callback(finish)

    def _forked(self) -> ProcessPoolExecutor:
        with self.profile.stage("load models"):
            landmarks.load_predictor()  # once, not in each process
        context = multiprocessing.get_context("fork")
        processes = ProcessPoolExecutor(self._jobs, context, _begin, (os.getpid(), self._reader))
        with _unwarned():
            processes.submit(os.getpid).result()
        return processes

    def _suspect(self, images: list[_Ready]) -> None:
        """One of them may have killed a process."""
        with self._lock:
            self._suspects += images
        self._in_forks(self._read_suspects, images)

    def _read_suspects(self, _: list[_Ready]) -> None:
        """Each in a process of its own, when all other processes are gone: memory is free, and nothing else dies."""
        processes, self._processes = self._processes, None
        if processes is not None:
            processes.shutdown()  # until it has told of all that was on its way
        with self._lock:
            suspects, self._suspects = self._suspects, []
        for image in suspects:
            try:
                outcomes, seconds = self._read_alone(image)
            except BaseException as error:
                _fail([image], error)
            else:
                self.profile.add(seconds)
                image.sighted.set_result(outcomes[0])

    def _read_alone(self, image: _Ready) -> _Read:
        context = multiprocessing.get_context("fork")
        here, there = context.Pipe(duplex=False)
        alone = context.Process(target=_alone, args=(os.getpid(), self._reader, (image.source, image.known), there))
        found = None
        with here:
            with there, _unwarned():
                alone.start()
            wait([here, alone.sentinel])  # not for the pipe's end: a fork of another thread may hold it open
            with suppress(EOFError, OSError):
                found = here.recv() if here.poll() else None
            alone.join()
        if found is None:
            return [killed_its_reader(ending(alone.exitcode or 0))], {}
        if isinstance(found, BaseException):
            raise found
        read: _Read = found
        return read

    def __enter__(self) -> ForkedReader:
        return self

    def __exit__(self, *_: object) -> None:
        def end() -> None:
            if self._processes is not None:
                self._processes.shutdown(cancel_futures=True)

        self._over = True
        self._forks.submit(end)
        self._forks.shutdown()


def _fail(images: Sequence[_Ready], error: BaseException) -> None:
    for image in images:
        if not image.sighted.done():
            image.sighted.set_exception(error)


def killed_its_reader(how: str) -> ImageError:
    """Why an image has no row: whoever read it died of it."""
    return ImageError(f"it killed its reader ({how})")


def ending(status: int) -> str:
    """How a process ended, by the number that multiprocessing and subprocess give: that of a signal is negative."""
    try:
        name = signal.Signals(-status).name
    except ValueError:
        return f"exit status {status}"
    return f"{name}; perhaps memory ran out" if name == "SIGKILL" else name


@contextmanager
def _unwarned() -> Iterator[None]:
    """Python warns of locks that other threads hold while a process is forked: those of the pool are idle."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


@contextmanager
def open_reader(reader: FaceReader, jobs: int, triplets: int, provider: str = "cpu") -> Iterator[FaceReader]:
    """A reader in processes where there can be any, else `reader` itself, for threads.

    Args:
        jobs: processes, at most.
        triplets: what is to be read, or images that are read by themselves.
        provider: where the models run.
    """
    own = all(type(method).__module__.startswith("exprmetric.") for method in reader.methods.values())
    if not triplets or not can_fork(provider) or not (own or triplets >= WORTH):
        yield reader
        return
    with ForkedReader(reader, min(jobs, triplets)) as forked:
        yield forked


def _begin(parent: int, reader: FaceReader) -> None:
    """In a new process: Ctrl-C is its parent's to hear, and it doesn't outlive it."""
    import ctypes
    import gc

    global _inherited
    _inherited = reader
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # a progress bar's have locks that nobody here lets go of
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)  # those of its parent are not here
    gc.freeze()  # a collection would write to all that is shared, and so copy it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent: Callable[..., int] = ctypes.CDLL(None).prctl
    die_with_parent(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it died before that was said
        os._exit(1)


def _read_some(images: Sequence[_Arguments]) -> _Read:
    """In a process: what became of some images, with all vectors where they have faces."""
    if _inherited is None:
        raise ExprmetricError("this process has no reader")
    reader = FaceReader(_inherited.finder, list(_inherited.methods.values()), Profile(), only=_inherited.only)
    outcomes = reader.represent([reader.read(source, known) for source, known in images])
    return outcomes, reader.profile.seconds()


def _alone(parent: int, reader: FaceReader, image: _Arguments, there: Connection) -> None:
    """The whole life of a process that reads one image."""
    _begin(parent, reader)
    with there:
        try:
            there.send(_read_some([image]))
        except Exception as error:
            there.send(error)
