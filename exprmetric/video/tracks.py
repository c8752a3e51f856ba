"""From a video to its faces: decode, follow, place landmarks, smooth the alignment, let every method read the crops.

    decode thread ──► looks (thread pool) ──► link, landmarks, smooth ──► crops (thread pool) ──► methods, in batches

Pictures live from their frame's decoding until its crops are made, and crops until their batch is read: a few dozen
frames at any time, however long the video is. What stays is a row a face (`VideoFaces.row_bytes`).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.errors import DamagedVideoError, ImageError, InputError
from exprmetric.faces import Face, FaceFinder, alignment, load_detector
from exprmetric.faces.detection import Detection
from exprmetric.files import path_text
from exprmetric.methods import Method, load_method
from exprmetric.video import quality, smoothing
from exprmetric.video.faces import ROWS, VideoFaces
from exprmetric.video.follow import Seen, follow
from exprmetric.video.frames import FOLDER_RATE, Frame, frames, info

BATCH = 32
"""Faces that a method reads at a time; the numbers don't depend on it."""
DETECT_EVERY = 2
SPARSE = {"identity": 12}
"""Methods that read only each n-th face of a track, unless told otherwise: who it is doesn't change within one."""
DECODED_AHEAD = 8

Progress = Callable[[str, int, int], None]
Points = npt.NDArray[np.float64]


@dataclass(eq=False)
class TrackedFace(Face):
    """A face whose crops are placed by smoothed points; `landmarks` are this frame's own.

    Attributes:
        eyes: (2, 2) smoothed eye centres, px. Box and five points are smoothed too.
    """

    eyes: Points = field(default_factory=lambda: np.zeros((2, 2)))

    def matrix(self, template: str) -> alignment.Matrix:
        if template == "eyes70" and not self.aligned:
            return alignment.similarity(self.eyes, alignment.EYES)
        return super().matrix(template)


def track_faces(
    path: str | os.PathLike[str],
    methods: Sequence[str | Method] = ("default",),
    *,
    detector: str = "auto",
    detect_every: int = DETECT_EVERY,
    every: int = 1,
    rate: float = FOLDER_RATE,
    provider: str = "cpu",
    jobs: int | None = None,
    sparse: Mapping[str, int] = SPARSE,
    progress: Progress | None = None,
) -> VideoFaces:
    """All faces of a video, with their tracks, landmarks, quality and vectors.

    Args:
        path: what `frames` reads.
        methods: names for `load_method`, or methods.
        detector: a name for `load_detector`.
        detect_every: detect in each n-th frame that is looked at; between, boxes are interpolated.
        every: look at each n-th frame of the video.
        rate: of a folder of images, frames a second.
        provider: ONNX Runtime provider.
        jobs: threads that detect and crop. The numbers don't depend on it.
        sparse: how often a method reads a track: {"identity": 12} = its 1st, 13th, … face; the other rows are NaN.
        progress: told ("frames", done, stated total or 0).

    Returns:
        The faces; a video without one gives a table without rows. `problem` says what could not be decoded.

    Raises:
        VideoError: the video can't be read at all. InputError, WeightsError, ProviderError, MissingPackageError.
    """
    if detect_every < 1:
        raise InputError(f"detect_every must be 1 or more, got {detect_every}")
    said = info(path, rate=rate)
    loaded = [load_method(m, provider=provider) if isinstance(m, str) else m for m in methods]
    finder = FaceFinder(load_detector(detector, provider=provider))
    table = _Table(loaded, sparse)
    stream = _Undamaged(frames(path, every=every, rate=rate))
    total = -(-(said.frames or 0) // every)
    with (
        ThreadPoolExecutor(jobs or _cores(), "faces") as pool,
        closing(_ahead(stream, DECODED_AHEAD)) as decoded,
    ):
        followed = follow(decoded, finder.detector, _identify(finder), pool, every=detect_every)
        for frame, faces in _placed(followed, finder):
            table.add(frame, faces, pool)
            if progress:
                progress("frames", len(table.frames), total)
        table.read_batch()
    fingerprint = f"{finder.fingerprint}/{smoothing.NAME}/every-{every}-{detect_every}"
    return VideoFaces(
        path=path_text(os.fsdecode(path)),
        rate=said.rate,
        width=said.width,
        height=said.height,
        all_frames=np.array(table.frames, np.int64),
        all_times=np.array(table.times, np.float64),
        **table.rows(),
        vectors=table.vectors(),
        fingerprints={**{m.name: m.fingerprint for m in loaded}, "faces": fingerprint},
        problem=stream.problem,
    )


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


class _Undamaged:
    """The frames that could be decoded; what could not is remembered."""

    def __init__(self, stream: Iterable[Frame]) -> None:
        self._stream = stream
        self.problem = ""

    def __iter__(self) -> Iterator[Frame]:
        try:
            yield from self._stream
        except DamagedVideoError as error:
            self.problem = str(error)


def _ahead(stream: Iterable[Frame], depth: int) -> Generator[Frame, None, None]:
    """The same frames, decoded in a thread of their own before they are asked for."""
    iterator = iter(stream)
    reader = ThreadPoolExecutor(1, "frames")
    try:
        waiting: deque[Future[Frame | None]] = deque(reader.submit(next, iterator, None) for _ in range(depth))
        while (frame := waiting.popleft().result()) is not None:
            waiting.append(reader.submit(next, iterator, None))
            yield frame
    finally:
        reader.shutdown(cancel_futures=True)


def _identify(finder: FaceFinder) -> Callable[[npt.NDArray[np.uint8], Detection], npt.NDArray[np.float32]]:
    network: list[Method] = []

    def identify(image: npt.NDArray[np.uint8], detection: Detection) -> npt.NDArray[np.float32]:
        if not network:
            network.append(load_method("identity"))
        vector: npt.NDArray[np.float32] = network[0].represent([finder.face(image, detection)])[0]
        return vector

    return identify


_Found = tuple[Seen, TrackedFace]


def _placed(followed: Iterable[tuple[Frame, list[Seen]]], finder: FaceFinder) -> Iterator[tuple[Frame, list[_Found]]]:
    """Each frame's faces with landmarks and smoothed alignment, `smoothing.HALF` frames after they were seen."""
    history: dict[int, dict[int, Points]] = {}
    window: deque[tuple[int, Frame, list[tuple[Seen, Face]]]] = deque()

    def place() -> tuple[Frame, list[_Found]]:
        at, frame, faces = window.popleft()
        found = [(seen, _smoothed(face, smoothing.smoothed(history[seen.track], at))) for seen, face in faces]
        for track, points in list(history.items()):
            points.pop(at - smoothing.HALF, None)
            if not points:
                del history[track]
        return frame, found

    for at, (frame, seen) in enumerate(followed):
        faces = [(s, finder.face(frame.image, s.detection)) for s in seen]
        for s, face in faces:
            history.setdefault(s.track, {})[at] = _placing_points(face)
        window.append((at, frame, faces))
        if len(window) > smoothing.HALF:
            yield place()
    while window:
        yield place()


def _placing_points(face: Face) -> Points:
    """(9, 2) eye centres, corners of the box, five points: all that templates are fitted to."""
    five = face.five_points if face.five_points is not None else alignment.five_points(face.landmarks)
    return np.concatenate([alignment.eye_centres(face.landmarks), face.box.reshape(2, 2), five])


def _smoothed(face: Face, points: Points) -> TrackedFace:
    five = None if face.five_points is None else points[4:]
    box = face.box if face.aligned else points[2:4].ravel()
    return TrackedFace(
        face.image, box, face.score, face.landmarks, five, face.detector, aligned=face.aligned, eyes=points[:2]
    )


@dataclass(frozen=True, eq=False)
class _Prepared:
    row: dict[str, Any]
    face: Face
    readable: list[bool]


class _Table:
    """Gathers rows; faces wait for their batch and are then let go of."""

    def __init__(self, methods: Sequence[Method], sparse: Mapping[str, int]) -> None:
        self.frames: list[int] = []
        self.times: list[float] = []
        self._methods = methods
        self._steps = [sparse.get(m.name, 1) for m in methods]
        self._seen: dict[int, int] = {}
        self._waiting: list[Future[_Prepared]] = []
        self._rows: list[dict[str, npt.NDArray[Any]]] = []
        self._vectors: list[list[npt.NDArray[np.float32]]] = [[] for _ in methods]

    def add(self, frame: Frame, found: Sequence[_Found], pool: Executor) -> None:
        """The faces of the next frame."""
        self.frames.append(frame.index)
        self.times.append(frame.time)
        for seen, face in found:
            nth = self._seen[seen.track] = self._seen.get(seen.track, -1) + 1
            wanted = [nth % step == 0 for step in self._steps]
            self._waiting.append(pool.submit(self._prepare, frame.index, frame.time, seen, face, wanted))
        if len(self._waiting) >= BATCH:
            self.read_batch()

    def _prepare(self, index: int, time: float, seen: Seen, face: TrackedFace, wanted: list[bool]) -> _Prepared:
        assert face.image is not None
        height, width = face.image.shape[:2]
        eyes = alignment.transform(face.matrix("eyes70"), alignment.eye_centres(face.landmarks))
        row = {
            "frame": index,
            "time": time,
            "track": seen.track,
            "box": seen.detection.box,
            "score": seen.detection.score,
            "detected": seen.detected,
            "landmarks": face.landmarks,
            "sharpness": quality.sharpness(face.crop("eyes70"), eyes),
            "yaw": quality.yaw(face.landmarks, (width, height)),
        }
        readable = []
        for method, asked in zip(self._methods, wanted, strict=True):
            readable.append(asked and _can_read(method, face))
        return _Prepared(row, face.prepare([]), readable)

    def read_batch(self) -> None:
        """Rows and vectors of the faces that wait."""
        if not self._waiting:
            return
        prepared = [f.result() for f in self._waiting]
        self._waiting = []
        self._rows.append({k: np.array([p.row[k] for p in prepared], kind) for k, (kind, _) in ROWS.items()})
        for i, method in enumerate(self._methods):
            readable = np.array([p.readable[i] for p in prepared])
            read = method.represent([p.face for p in prepared if p.readable[i]])
            vectors = np.full((len(prepared), read.shape[1] if len(read) else method.dimension), np.nan, np.float32)
            vectors[readable] = read
            self._vectors[i].append(vectors)

    def rows(self) -> dict[str, npt.NDArray[Any]]:
        none = {k: np.empty((0, *shape), kind) for k, (kind, shape) in ROWS.items()}
        return {k: np.concatenate([none[k], *(r[k] for r in self._rows)]) for k in ROWS}

    def vectors(self) -> dict[str, npt.NDArray[np.float32]]:
        none = [np.empty((0, m.dimension), np.float32) for m in self._methods]
        return {m.name: np.concatenate(v or [n]) for m, v, n in zip(self._methods, self._vectors, none, strict=True)}


def _can_read(method: Method, face: Face) -> bool:
    """Make what the method reads of the face; False when it can't."""
    try:
        face.crop(method.template)
        method.prepare(face)
    except ImageError:
        return False
    return True
