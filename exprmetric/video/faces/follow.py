"""Faces followed from frame to frame: a look at every n-th frame, and what is seen between two looks.

Two detections are one face when their boxes overlap and the pictures in them are alike. Overlap alone would carry a
track over a cut to whoever sits in the same place, and lose a head that moves fast: whatever is not sure by overlap and
likeness is decided by the identity network. Frames between two looks get boxes in between where the same faces stand at
both ends; where a face comes, goes or changes, they are looked at too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exprmetric.faces.detection import Detection, Detector
from exprmetric.faces.place import iou
from exprmetric.io.video import Frame
from exprmetric.methods.identity import SAME_PERSON

OVERLAP = 0.3
"""Least intersection over union of one face's boxes in two looks."""
ALIKE = 0.8
"""Least correlation of the small grey pictures of one face in two looks; below, the identity network is asked."""
PATIENCE = 1.0
"""Seconds that a track waits for a face that is out of sight."""

_THUMB, _AROUND = 24, 1.4
"""Side of the small pictures, px, and of the square they show, in sides of the box."""

Identify = Callable[[npt.NDArray[np.uint8], Detection], npt.NDArray[np.float32]]
"""Identity vector of a face of an image; NaN where it can't be read: then it is nobody's that was seen before."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A face in a frame: its track and its box; `detected` is false where that lies between two looks."""

    track: int
    detection: Detection
    detected: bool = True


class _Look:
    """A face as it was last seen."""

    def __init__(self, frame: Frame, detection: Detection) -> None:
        self.frame, self.detection = frame, detection
        self.thumbnail = _thumbnail(frame.image, detection.box)
        self.identity: npt.NDArray[np.float32] | None = None

    def who(self, identify: Identify) -> npt.NDArray[np.float32]:
        if self.identity is None:
            self.identity = identify(self.frame.image, self.detection)
        return self.identity


class Linker:
    """Gives every detection its track; frames come in order.

    Args:
        identify: the identity network; asked in doubt alone.
    """

    def __init__(self, identify: Identify) -> None:
        self._identify = identify
        self._tracks: dict[int, _Look] = {}
        self._visible: set[int] = set()
        self._count = 0

    def expected(self, frame: Frame, detections: Sequence[Detection]) -> list[Seen] | None:
        """Link, if just the faces of the last look are surely found again; else None, and nothing is remembered."""
        faces = [_Look(frame, d) for d in detections]
        matches = self._sure(faces)
        if len(matches) != len(faces) or set(matches.values()) != self._visible:
            return None
        return self._remember(faces, matches)

    def link(self, frame: Frame, detections: Sequence[Detection]) -> list[Seen]:
        """The faces of the next frame with their tracks; a face that belongs to none begins one."""
        faces = [_Look(frame, d) for d in detections]
        return self._remember(faces, self._match(faces))

    def _remember(self, faces: Sequence[_Look], matches: dict[int, int]) -> list[Seen]:
        seen = []
        for i, face in enumerate(faces):
            if i not in matches:
                matches[i] = self._count
                self._count += 1
            self._tracks[matches[i]] = face
            seen.append(Seen(matches[i], face.detection))
        self._visible = set(matches.values())
        return sorted(seen, key=lambda s: s.track)

    def _sure(self, faces: Sequence[_Look]) -> dict[int, int]:
        """Track by face: of pictures that are alike, the best overlaps."""
        if faces:
            now = faces[0].frame.time
            self._tracks = {n: t for n, t in self._tracks.items() if now - t.frame.time <= PATIENCE}
        pairs = [
            (-overlap, i, n)
            for n, track in self._tracks.items()
            for i, face in enumerate(faces)
            if (overlap := iou(track.detection.box, face.detection.box)) >= OVERLAP
            and _correlation(track.thumbnail, face.thumbnail) >= ALIKE
        ]
        return _take(pairs, {})

    def _match(self, faces: Sequence[_Look]) -> dict[int, int]:
        """Those that are sure, and of the others the nearest identities."""
        matches = self._sure(faces)
        left = [
            (i, n) for n in self._tracks if n not in matches.values() for i in range(len(faces)) if i not in matches
        ]
        pairs = [(self._apart(self._tracks[n], faces[i]), i, n) for i, n in left]
        return _take([p for p in pairs if p[0] < SAME_PERSON], matches)

    def _apart(self, track: _Look, face: _Look) -> float:
        return float(np.linalg.norm(track.who(self._identify) - face.who(self._identify)))


def _take(pairs: list[tuple[float, int, int]], matches: dict[int, int]) -> dict[int, int]:
    for _, i, n in sorted(pairs):
        if i not in matches and n not in matches.values():
            matches[i] = n
    return matches


def _thumbnail(image: npt.NDArray[np.uint8], box: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(576,) grey levels around a box, without their mean, of norm 1."""
    import cv2

    height, width = image.shape[:2]
    middle, half = (box[:2] + box[2:]) / 2, _AROUND * (box[2:] - box[:2]) / 2
    low = np.clip(middle - half, 0, (width - 1, height - 1)).astype(int)
    high = np.clip(middle + half, low + 1, (width, height)).astype(int)
    part = cv2.resize(image[low[1] : high[1], low[0] : high[0]], (_THUMB, _THUMB), interpolation=cv2.INTER_AREA)
    grey = part.mean(2).ravel()
    grey = grey - grey.mean()
    return np.asarray(grey / max(float(np.linalg.norm(grey)), 1e-9))


def _correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    return float(a @ b)


def between(a: Seen, b: Seen, share: float) -> Seen:
    """The box of a track between two looks.

    Args:
        share: 0..1 of the way from a to b.
    """

    def mix(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray((1 - share) * x + share * y)

    p, q = a.detection, b.detection
    five = None if p.five_points is None or q.five_points is None else mix(p.five_points, q.five_points)
    score = (1 - share) * p.score + share * q.score
    return Seen(a.track, Detection(mix(p.box, q.box), score, mix(p.landmark_box, q.landmark_box), five), False)


def follow(
    frames: Iterable[Frame],
    detector: Detector,
    identify: Identify,
    pool: Executor,
    *,
    every: int = 2,
    ahead: int = 4,
) -> Iterator[tuple[Frame, list[Seen]]]:
    """Each frame with its faces, sorted by track.

    Args:
        frames: of one video, in order.
        detector: looks at the frames.
        identify: see `Linker`.
        pool: where it looks.
        every: look at each n-th frame, and at more where faces come and go.
        ahead: looks that are taken before their turn.
    """
    linker = Linker(identify)
    waiting: list[Frame] = []
    before: tuple[Frame, list[Seen]] | None = None
    for frame, look in _looks(frames, detector, pool, every, ahead):
        if look is None:
            waiting.append(frame)
            continue
        found = look.result()
        seen = linker.expected(frame, found) if before else None
        if before and seen is not None:
            start, faces = before
            for middle in waiting:
                share = (middle.time - start.time) / (frame.time - start.time)
                yield middle, [between(a, b, share) for a, b in zip(faces, seen, strict=True)]
        else:
            for middle in waiting:
                yield middle, linker.link(middle, detector.detect(middle.image))
            seen = linker.link(frame, found)
        yield frame, seen
        before, waiting = (frame, seen), []
    for middle in waiting:  # the video ends before the next look
        yield middle, linker.link(middle, detector.detect(middle.image))


def _looks(
    frames: Iterable[Frame], detector: Detector, pool: Executor, every: int, ahead: int
) -> Iterator[tuple[Frame, Future[list[Detection]] | None]]:
    """Frames in order, some with a look that was begun `ahead` looks earlier."""
    queue: deque[tuple[Frame, Future[list[Detection]] | None]] = deque()
    for i, frame in enumerate(frames):
        queue.append((frame, pool.submit(detector.detect, frame.image) if i % every == 0 else None))
        if len(queue) > ahead * every:
            yield queue.popleft()
    yield from queue
