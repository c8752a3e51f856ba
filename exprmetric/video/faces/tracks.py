"""From a video to its faces: decode, follow, place landmarks, smooth the alignment, let every method read the crops.

    decode thread ──► looks (thread pool) ──► link, landmarks, smooth ──► crops (thread pool) ──► methods, in batches

Pictures live from their frame's decoding until its crops are made, and crops until their batch is read: a few dozen
frames at any time, however long the video is. What stays is a row a face, from a few thousand
rows on in a temporary file (`spool`).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exprmetric.errors import DamagedVideoError, ImageError, ImplausibleFaceError, InputError
from exprmetric.faces import Face, FaceFinder, alignment, open_finder
from exprmetric.faces.detection import Detection
from exprmetric.faces.point_models import DEFAULT
from exprmetric.io.faults import of_image
from exprmetric.io.files import path_text
from exprmetric.io.pool import open_pool
from exprmetric.io.tables import show
from exprmetric.io.video import FOLDER_RATE, Frame, frames, info
from exprmetric.methods import Method, load_method
from exprmetric.methods.each import represent_each
from exprmetric.video.faces import smoothing
from exprmetric.video.faces.follow import Seen, follow
from exprmetric.video.faces.gather import Found, Gatherer, Points, TrackedFace
from exprmetric.video.faces.table import VideoFaces
from exprmetric.weights import store as weights
from exprmetric.weights.runtime import session_threads

DETECT_EVERY = 2
SPARSE = {"identity": 12}
"""Methods that read only each n-th face of a track, unless told otherwise: who it is doesn't change within one."""
DECODED_AHEAD = 8

Progress = Callable[[str, int, int], None]


def track_faces(
    path: str | os.PathLike[str],
    methods: Sequence[str | Method] = ("default",),
    *,
    detector: str = "auto",
    detect_every: int = DETECT_EVERY,
    every: int = 1,
    only: Collection[int] | None = None,
    rate: float = FOLDER_RATE,
    provider: str = "cpu",
    jobs: int | None = None,
    sparse: Mapping[str, int] = SPARSE,
    progress: Progress | None = None,
    landmarks: str = DEFAULT,
    commercial_only: bool = False,
) -> VideoFaces:
    """All faces of a video, with their tracks, landmarks, quality and vectors.

    Args:
        path: what `frames` reads.
        methods: names for `load_method`, or methods.
        detector: a name for `load_detector`.
        detect_every: detect in each n-th frame that is looked at; between, boxes are interpolated.
        every: look at each n-th frame of the video.
        only: look at the frames with these indices instead.
        rate: of a folder of images, frames a second.
        provider: ONNX Runtime provider.
        jobs: threads that detect and crop. The numbers don't depend on it.
        sparse: how often a method reads a track: {"identity": 12} = its 1st, 13th, … face; the other rows are NaN.
        progress: told ("frames", done, stated total or 0).
        landmarks: as in `exprmetric.evaluate`, but for `none`: yaw and events are read off landmarks.
        commercial_only: as in `exprmetric.evaluate`. The identity network may not be asked then: where place and
            likeness leave a doubt, as at a cut, a new track begins.

    Returns:
        The faces; a video without one gives a table without rows. `problem` says what could not be decoded.

    Raises:
        VideoError: the video can't be read at all. InputError, WeightsError, ProviderError, MissingPackageError.
    """
    if detect_every < 1:
        raise InputError(f"detect_every must be 1 or more, got {detect_every}")
    if landmarks == "none":
        raise InputError("landmarks 'none' are not enough for videos: yaw and events are read off dlib68's or mesh's")
    said = info(path, rate=rate)
    with session_threads(1), weights.commercial_only(commercial_only):  # the pool is what keeps the cores busy
        loaded = [load_method(m, provider=provider) if isinstance(m, str) else m for m in methods]
        finder = open_finder(detector, provider=provider, landmarks=landmarks)
    identify = _nobody if commercial_only else _identify(finder)
    table = Gatherer(loaded, sparse)
    stream = _Undamaged(frames(path, every=every, only=only, rate=rate))
    total = -(-(said.frames or 0) // every) if only is None else len(only)
    try:
        with (
            open_pool(jobs) as pool,
            closing(_ahead(stream, DECODED_AHEAD)) as decoded,
        ):
            followed = follow(decoded, finder.detector, identify, pool, every=detect_every)
            for frame, faces in _placed(followed, finder):
                table.add(frame, faces, pool)
                if progress:
                    progress("frames", len(table.frames), total)
            table.finish(pool)
    except Exception as error:
        raise of_image(error, show(Path(os.fsdecode(path)))) from error
    rows, vectors = table.columns()
    fingerprint = f"{finder.fingerprint}/{smoothing.NAME}/every-{every}-{detect_every}"
    return VideoFaces(
        path=path_text(os.fsdecode(path)),
        rate=said.rate,
        width=said.width,
        height=said.height,
        all_frames=np.array(table.frames, np.int64),
        all_times=np.array(table.times, np.float64),
        **rows,
        vectors=vectors,
        fingerprints={**{m.name: m.fingerprint for m in loaded}, "faces": fingerprint},
        problem=stream.problem,
    )


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
            with session_threads(1):
                network.append(load_method("identity"))
        try:
            (vector,) = represent_each(network[0], [finder.face(image, detection)])
        except ImplausibleFaceError as error:
            vector = error
        return np.full(network[0].dimension, np.nan, np.float32) if isinstance(vector, ImageError) else vector

    return identify


def _nobody(image: npt.NDArray[np.uint8], detection: Detection) -> npt.NDArray[np.float32]:
    return np.full(1, np.nan, np.float32)


def _placed(followed: Iterable[tuple[Frame, list[Seen]]], finder: FaceFinder) -> Iterator[tuple[Frame, list[Found]]]:
    """Each frame's faces with landmarks and smoothed alignment, `smoothing.HALF` frames after they were seen."""
    paths: dict[int, smoothing.Path] = {}
    window: deque[tuple[int, Frame, list[tuple[Seen, Face, smoothing.Path]]]] = deque()

    def place() -> tuple[Frame, list[Found]]:
        at, frame, faces = window.popleft()
        return frame, [(seen, _smoothed(face, path.smoothed(at))) for seen, face, path in faces]

    for at, (frame, seen) in enumerate(followed):
        faces = []
        for s in seen:
            try:
                face = finder.face(frame.image, s.detection)
            except ImplausibleFaceError:  # in this frame the track has no face
                continue
            path = paths[s.track] = paths.get(s.track, smoothing.Path()).extended(at, _placing_points(face))
            faces.append((s, face, path))
        paths = {track: path for track, path in paths.items() if path.last == at}
        window.append((at, frame, faces))
        if len(window) > smoothing.HALF:
            yield place()
    while window:
        yield place()


def _placing_points(face: Face) -> Points:
    """(12, 2) eye centres, the box's first and last corner, five points, and the box's three corners as the face
    stands: all that templates are fitted to."""
    five = face.five_points if face.five_points is not None else alignment.five_points(face.landmarks)
    (x0, y0), (x1, y1) = box = face.box.reshape(2, 2)
    corners = face.corners if face.corners is not None else np.array([(x0, y0), (x1, y0), (x0, y1)])
    return np.concatenate([alignment.eye_centres(face.landmarks), box, five, corners])


def _smoothed(face: Face, points: Points) -> TrackedFace:
    return TrackedFace(
        face.image,
        face.box if face.aligned else points[2:4].ravel(),
        face.score,
        face.landmarks,
        None if face.five_points is None else points[4:9],
        face.detector,
        aligned=face.aligned,
        corners=None if face.corners is None else points[9:],
        eyes=points[:2],
    )
