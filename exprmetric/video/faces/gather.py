"""Rows of a video: each face is cropped and judged in a thread pool, read by the methods in batches, then let go of."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.errors import ImageError
from exprmetric.faces import Face, alignment
from exprmetric.io.faults import of_image
from exprmetric.io.video import Frame
from exprmetric.methods import Method
from exprmetric.methods.each import represent_each
from exprmetric.video.faces import quality
from exprmetric.video.faces.follow import Seen
from exprmetric.video.faces.spool import Spool
from exprmetric.video.faces.table import ROWS

BATCH = 16
"""Faces that a method reads at a time; the numbers don't depend on it."""

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


Found = tuple[Seen, TrackedFace]


@dataclass(frozen=True, eq=False)
class _Prepared:
    row: dict[str, Any]
    face: Face
    readable: list[bool]


_Batch = dict[str, npt.NDArray[Any]]
"""Arrays with one row a face, by column, or by method with `_VECTORS` before its name."""
_VECTORS = "vectors."


class Gatherer:
    """Gathers rows; faces wait for their batch and are then let go of.

    Attributes:
        frames: index of each frame.
        times: seconds of each frame.
    """

    def __init__(self, methods: Sequence[Method], sparse: Mapping[str, int]) -> None:
        self.frames = array("q")
        self.times = array("d")
        self._methods = methods
        self._steps = [sparse.get(m.name, 1) for m in methods]
        self._seen: dict[int, int] = {}
        self._waiting: list[Future[_Prepared]] = []
        none = {k: np.empty((0, *shape), kind) for k, (kind, shape) in ROWS.items()}
        self._table = Spool(none | {_VECTORS + m.name: np.empty((0, m.dimension), np.float32) for m in methods})
        self._reading: Future[_Batch] | None = None

    def add(self, frame: Frame, found: Sequence[Found], pool: Executor) -> None:
        """The faces of the next frame."""
        self.frames.append(frame.index)
        self.times.append(frame.time)
        for seen, face in found:
            nth = self._seen[seen.track] = self._seen.get(seen.track, -1) + 1
            wanted = [nth % step == 0 for step in self._steps]
            self._waiting.append(pool.submit(self._prepare, frame.index, frame.time, seen, face, wanted))
        if len(self._waiting) >= BATCH:
            self._next_batch(pool)

    def _prepare(self, index: int, time: float, seen: Seen, face: TrackedFace, wanted: list[bool]) -> _Prepared:
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
            "yaw": quality.yaw(face.landmarks),
        }
        readable = []
        for method, asked in zip(self._methods, wanted, strict=True):
            readable.append(asked and _can_read(method, face))
        return _Prepared(row, face.prepare([]), readable)

    def finish(self, pool: Executor) -> None:
        """Read what still waits."""
        for _ in range(2):
            self._next_batch(pool)

    def _next_batch(self, pool: Executor) -> None:
        """Take in the batch that is being read, and begin with the faces that wait: one at a time, beside detection."""
        prepared = [f.result() for f in self._waiting]
        self._waiting = []
        if self._reading is not None:
            self._table.add(self._reading.result())
        self._reading = pool.submit(self._read, prepared) if prepared else None

    def _read(self, prepared: Sequence[_Prepared]) -> _Batch:
        batch: _Batch = {k: np.array([p.row[k] for p in prepared], kind) for k, (kind, _) in ROWS.items()}
        for i, method in enumerate(self._methods):
            readable = np.array([p.readable[i] for p in prepared])
            read = represent_each(method, [p.face for p in prepared if p.readable[i]])
            wide = next((len(cell) for cell in read if not isinstance(cell, ImageError)), method.dimension)
            vectors = np.full((len(prepared), wide), np.nan, np.float32)
            for row, cell in zip(np.flatnonzero(readable), read, strict=True):
                if not isinstance(cell, ImageError):
                    vectors[row] = cell
            batch[_VECTORS + method.name] = vectors
        return batch

    def columns(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[np.float32]]]:
        """The arrays of `ROWS`, and the vectors by method; of long videos views of a temporary file."""
        whole = self._table.arrays()
        return {k: whole[k] for k in ROWS}, {m.name: whole[_VECTORS + m.name] for m in self._methods}


def _can_read(method: Method, face: Face) -> bool:
    """Make what the method reads of the face; False when it can't."""
    try:
        face.crop(method.template)
        method.prepare(face)
    except Exception as error:
        of_image(error)
        return False
    return True
