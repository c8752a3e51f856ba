"""Images that were on their way when a run died: noted on disk, and tried apart by the run that goes on.

Where threads read, an image that kills its process takes the run with it, and nobody is left to name it. So each image
is noted in the journal's folder while it is read or represented. The same command finds the notes of a run that died.
It tries these images first, one after the other, in a process of its own. Behind each one that kills it the process is
begun anew. An image is blamed only when it killed a process that had read no other: its row says so, in the words of
`forked.py`. The others are measured.
"""

from __future__ import annotations

import json
import pickle
import queue
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from exprmetric.errors import ImageError, InputError
from exprmetric.evaluation.large.forked import ForkedReader, ending, killed_its_reader
from exprmetric.evaluation.reading import FaceReader, Outcome, Sight
from exprmetric.io.faults import described
from exprmetric.io.images import Pinned

if TYPE_CHECKING:
    from exprmetric.evaluation.plan import Plan
    from exprmetric.evaluation.session import Settings
    from exprmetric.io.images import ImageSource

SECONDS = 300.0
"""So long may one suspect take, and the loading of the models before the first; it is then blamed as a killer is."""
WIDTH = 65
"""Bytes of a slot: a SHA-256 in hex digits, or blanks, and the end of the line."""
MOST = 4096
"""Slots that are looked at: no run has so many images on their way."""
READY = "ready"
"""What a process says when its models are loaded."""
RUN = "import sys; sys.path[:] = sys.argv[1:]; from exprmetric.evaluation.large.alone import main; main()"


class Notes:
    """The images that are on their way, one slot of a file for each. What is written outlives this process, if not a
    power cut, which no image causes.

    Args:
        path: the file. What a run that died has left in it is in `left` and stays there until each has ended.
    """

    def __init__(self, path: Path) -> None:
        if path.is_symlink():  # to somebody else's file
            path.unlink()
        self._file: IO[bytes] | None = path.open("r+b" if path.exists() else "w+b", buffering=0)
        lines = self._file.read(MOST * WIDTH).decode("ascii", "replace").split("\n")
        self._slots = [line if len(line) == WIDTH - 1 and line.strip() else "" for line in lines[:-1]]
        self._lock = threading.Lock()
        self._over = False
        self.left = list(dict.fromkeys(name for name in self._slots if name))

    def begin(self, image: str) -> None:
        """An image is on its way."""
        with self._lock:
            if "" not in self._slots:
                self._slots.append("")
            self._write(self._slots.index(""), image)

    def end(self, image: str) -> None:
        """It has been survived."""
        with self._lock:
            if image in self._slots:
                self._write(self._slots.index(image), "")
            self._let_go()

    @contextmanager
    def on_the_way(self, images: Sequence[str]) -> Iterator[None]:
        """Images are noted, and struck out again whatever rises."""
        for image in images:
            self.begin(image)
        try:
            yield
        finally:
            for image in images:
                self.end(image)

    def close(self) -> None:
        """No image begins any more; the file is closed once those on their way have ended."""
        with self._lock:
            self._over = True
            self._let_go()

    def _write(self, slot: int, image: str) -> None:
        self._slots[slot] = image
        if self._file:
            with suppress(OSError):  # a full disk is the journal's to tell
                self._file.seek(slot * WIDTH)
                self._file.write(f"{image:{WIDTH - 1}}\n".encode())

    def _let_go(self) -> None:
        if self._file and self._over and not (set(self._slots) - {"", *self.left}):
            self._file.close()
            self._file = None


class NotedReader(FaceReader):
    """Reads in threads and notes which images are on their way.

    Args:
        reader: what reads.
        notes: where to.
        tried: what became of images that were tried apart, by SHA-256: they aren't read again.
    """

    def __init__(self, reader: FaceReader, notes: Notes, tried: dict[str, Outcome]) -> None:
        methods = list(reader.methods.values())
        super().__init__(reader.finder, methods, reader.profile, only=reader.only, apart=reader.apart)
        self._notes, self._tried = notes, tried
        self._images: dict[int, str] = {}  # by id of what was seen in them, from reading to representing

    def submit(self, pool: Executor, source: ImageSource | Pinned, known: Sight | None = None) -> Future[Outcome]:
        """As `FaceReader.submit`; at once where an image was tried apart."""
        if isinstance(source, Pinned) and (found := self._tried.get(source.sha256)):
            done: Future[Outcome] = Future()
            done.set_result(found)
            return done
        return super().submit(pool, source, known)

    def read(self, source: ImageSource | Pinned, known: Sight | None = None) -> Outcome:
        """As `FaceReader.read`."""
        if not isinstance(source, Pinned):
            return super().read(source, known)
        with self._notes.on_the_way([source.sha256]):
            found = super().read(source, known)
        if isinstance(found, Sight):
            self._images[id(found)] = source.sha256
        return found

    def represent(self, seen: Sequence[Outcome]) -> list[Outcome]:
        """As `FaceReader.represent`."""
        with self._notes.on_the_way([self._images.pop(id(s)) for s in seen if id(s) in self._images]):
            return super().represent(seen)


@contextmanager
def open_noted(reader: FaceReader, path: Path | None, plan: Plan, settings: Settings) -> Iterator[FaceReader]:
    """The reader, with its images noted; first those that a run which died has left are tried apart.

    Args:
        reader: one of processes outlives its killers and is left as it is.
        path: of the notes; None: nothing can be noted.
        plan: of the whole input.
        settings: with which a process loads the same models.
    """
    if path is None or isinstance(reader, ForkedReader):
        yield reader
        return
    with ExitStack() as opened:
        try:
            notes = Notes(path)
        except OSError as error:
            raise InputError(f"can't write {path}: {error.strerror or error}") from error
        opened.callback(notes.close)
        number = {sha256: i for i, sha256 in enumerate(plan.hashes)}
        suspects = [plan.image(number[image]) for image in notes.left if image in number]
        tried, killers = try_apart(suspects, settings)
        for image in notes.left:
            if image not in killers:  # whose notes stay until the run is over
                notes.end(image)
        yield NotedReader(reader, notes, tried)


def try_apart(suspects: Sequence[Pinned], settings: Settings) -> tuple[dict[str, Outcome], set[str]]:
    """What becomes of each image, by SHA-256, when it is read with nothing beside it; and which of them killed.

    Raises:
        ExprmetricError: a fault of the machine, as `FaceReader.read` raises it.
    """
    tried: dict[str, Outcome] = {}
    killers: set[str] = set()
    left = list(suspects)
    if left:
        said = f"an earlier run died while {len(left)} images were on their way: they are tried first, one by one"
        warnings.warn(said, stacklevel=2)
    while left:
        found, how = _read_in_a_process(left, settings)
        if found is None:
            warnings.warn(f"images can't be tried in a process of their own here ({how})", stacklevel=2)
            break
        if not found and how:  # the first of its process: nothing else can have killed it
            found = [killed_its_reader(how)]
            killers.add(left[0].sha256)
        tried |= {image.sha256: outcome for image, outcome in zip(left, found, strict=False)}
        left = left[len(found) :]
    return tried, killers


def _read_in_a_process(images: Sequence[Pinned], settings: Settings) -> tuple[list[Outcome] | None, str]:
    """What became of the images up to the one that ended the process, and how it ended, '' where it read all.

    None where no process can load the models, and why.
    """
    asked = {"settings": settings.as_dict(), "images": [[str(i.path.absolute()), i.sha256] for i in images]}
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, *sys.path],
            stdin=subprocess.PIPE,  # it stays open: the process ends with this one
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError as error:
        return None, str(error)
    answers: queue.Queue[Any] = queue.Queue()
    assert process.stdin and process.stdout
    try:
        with suppress(OSError):
            process.stdin.write(json.dumps(asked).encode() + b"\n")
            process.stdin.flush()
        threading.Thread(target=_listen, args=(process.stdout, answers), daemon=True).start()
        return _answers(answers, process, len(images))
    finally:
        process.kill()
        process.wait()
        with suppress(OSError):
            process.stdin.close()


def _answers(
    answers: queue.Queue[Any], process: subprocess.Popen[bytes], count: int
) -> tuple[list[Outcome] | None, str]:
    found: list[Outcome] | None = None  # until the models are loaded
    while found is None or len(found) < count:
        try:
            answer = answers.get(timeout=SECONDS)
        except queue.Empty:
            return found, f"not over after {SECONDS:.0f} s"
        if answer is None:
            return found, ending(process.wait())
        if found is None:
            if answer != READY:
                return None, described(answer)
            found = []
        elif isinstance(answer, BaseException) and not isinstance(answer, ImageError):
            raise answer
        else:
            found.append(answer)
    return found, ""


def _listen(stream: IO[bytes], answers: queue.Queue[Any]) -> None:
    """Hand on what a process of ours says; None at its end."""
    with stream, suppress(Exception):
        while True:
            answers.put(pickle.load(stream))
    answers.put(None)
