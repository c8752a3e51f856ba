"""Finding and aligning the faces of a training set once, with the same code that `evaluate` runs.

The result is a small table, one 2 x 3 matrix and 68 points a face, kept as `.npz`; training warps each face from its
original pixels.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.choices import LUMA
from exprmetric.datasets.layouts import FaceDataset
from exprmetric.errors import ImageError, InputError
from exprmetric.faces import FaceFinder, open_finder
from exprmetric.faces.alignment import CROP_SIZE, Matrix, warp
from exprmetric.io.kept import kept
from exprmetric.io.processes import in_processes

TEMPLATE = "eyes70"
CHOICE = "center"
CHUNK = 256


@dataclass(frozen=True)
class Alignment:
    """Where the faces of a data set are.

    Attributes:
        matrices: (N, 2, 3) float64 maps from image px to the px of the 224 crop.
        found: (N,) bool; where False, the matrix is the data set's median: a crop that is roughly right.
        detector: name of the detector.
        landmarks: (N, 68, 2) float32 x, y in px of the 224 crop; where not found, the data set's median.
    """

    matrices: npt.NDArray[np.float64]
    found: npt.NDArray[np.bool_]
    detector: str
    landmarks: npt.NDArray[np.float32]

    def subset(self, indices: list[int]) -> Alignment:
        """The alignment of some of the samples."""
        return Alignment(self.matrices[indices], self.found[indices], self.detector, self.landmarks[indices])


def _align_chunk(
    dataset: FaceDataset, detector: str, folder: Path, chunk: tuple[int, list[str]]
) -> npt.NDArray[np.float64]:
    """(n, 3 + 68, 2): the matrix, transposed, and the points; NaN where no face was found. Kept in the folder, so that
    a run that is killed loses one chunk of each process."""
    finder, (start, contents) = _worker_finder(detector), chunk

    def make() -> dict[str, npt.NDArray[np.float64]]:
        rows = np.full((len(contents), 3 + 68, 2), np.nan)
        for i in range(len(rows)):
            try:
                face = finder.find(dataset.image(start + i))
            except ImageError:
                continue
            rows[i] = np.concatenate([face.matrix(TEMPLATE).T, CROP_SIZE * face.aligned_landmarks(TEMPLATE)])
        return {"rows": rows}

    found = kept(folder, f"{start:08d}", (finder.fingerprint, *contents), ("rows",), make)
    return np.asarray(found["rows"], np.float64)


@lru_cache(maxsize=1)
def _worker_finder(detector: str) -> FaceFinder:
    """One finder a worker process; each process has one core's worth of work."""
    import cv2

    cv2.setNumThreads(1)
    return open_finder(detector, CHOICE)


def align_dataset(dataset: FaceDataset, cache: Path, *, detector: str = "auto", jobs: int = 2) -> Alignment:
    """Alignment of every sample, computed once and kept in the folder `cache`.

    Raises:
        InputError: fewer than half of the faces are found, so that a median says nothing.
    """
    finder = open_finder(detector, CHOICE)
    detector = finder.detector.name
    contents = dataset.contents()
    parts = cache / f"{dataset.name}-{detector}-parts"

    def make() -> dict[str, npt.NDArray[Any]]:
        chunks = [(start, contents[start : start + CHUNK]) for start in range(0, len(contents), CHUNK)]
        work = partial(_align_chunk, dataset, detector, parts)
        rows = np.concatenate(in_processes(work, chunks, jobs, f"aligning {dataset.name}"))
        found = np.asarray(np.isfinite(rows).all((1, 2)))
        there = sum(bool(dataset.checksum(int(i))) for i in np.flatnonzero(~found)) + int(found.sum())
        if not there:
            raise InputError(f"{dataset.name}: none of the {len(found)} images is there, the first: {contents[0]}")
        if found.sum() < 0.5 * there:
            raise InputError(f"{dataset.name}: {detector} finds a face in {found.sum()} of {there} images")
        rows[~found] = np.median(rows[found], axis=0)
        return {"matrices": rows[:, :3].transpose(0, 2, 1), "found": found, "landmarks": rows[:, 3:].astype(np.float32)}

    key = (finder.fingerprint, TEMPLATE, "points", *contents)
    made = kept(cache, f"{dataset.name}-{detector}", key, ("matrices", "found", "landmarks"), make)
    shutil.rmtree(parts, ignore_errors=True)
    return Alignment(**made, detector=detector)


def face_crop(
    image: npt.NDArray[np.uint8], matrix: Matrix, crop: int, size: int, color: str = LUMA
) -> npt.NDArray[np.uint8]:
    """(C, size, size) uint8 of a face: the centre `crop` px of the 224 crop, in one warp to `size` px.

    Args:
        image: (H, W, 3) uint8 RGB, original pixels. matrix: (2, 3) map from its px to the px of the 224 crop.
        color: a key of `exprmetric.choices.CHANNELS`.
    """
    scale = size / crop
    margin = (CROP_SIZE - crop) / 2
    inner = matrix * scale
    inner[:, 2] += 0.5 * scale - 0.5 - scale * margin  # pixel centres are at whole numbers on both sides
    return in_channels(warp(image, inner, size), color)


def in_channels(image: npt.NDArray[np.uint8], color: str) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB → (3, H, W), or (1, H, W) luma."""
    import cv2

    if color == LUMA:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)[None]
    return np.ascontiguousarray(image.transpose(2, 0, 1))
