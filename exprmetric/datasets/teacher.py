"""Teacher labels: MediaPipe's blendshapes of every training face, computed once and kept as `.npz`.

A face whose mesh is unsure, or that no detector found, has no label: a teacher that guesses teaches noise.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from exprmetric.datasets.alignment import CHUNK, Alignment
from exprmetric.datasets.layouts import FaceDataset, digest
from exprmetric.errors import ImageError
from exprmetric.io.files import kept_arrays, write_whole

if TYPE_CHECKING:
    from exprmetric.methods.face_mesh import FaceMesh

PRESENCE = 0.9
"""A mesh with a lower presence is unsure."""


@dataclass(frozen=True)
class TeacherLabels:
    """What the teacher says of N faces; rows of NaN where it is unsure.

    Attributes:
        blendshapes: (N, 52) float32 0..1.
        tokens: (N, 64) float32, what the teacher's last layer reads.
    """

    blendshapes: npt.NDArray[np.float32]
    tokens: npt.NDArray[np.float32]


def label_dataset(dataset: FaceDataset, alignment: Alignment, cache: Path, *, jobs: int = 2) -> TeacherLabels:
    """Labels of every sample, computed once and kept in the folder `cache`.

    Raises:
        MissingPackageError, WeightsNotFoundError, WeightsHashError: the teacher can't be run.
    """
    from rich.console import Console
    from rich.progress import track

    from exprmetric.methods.face_mesh import WEIGHTS
    from exprmetric.weights import store as weights

    weights.find(WEIGHTS)  # fails here, not in each worker
    seen = hashlib.sha256(alignment.matrices.tobytes()).hexdigest()
    key = digest(weights.entries()[WEIGHTS].sha256, seen, *dataset.contents())
    path = cache / f"{dataset.name}-blendshapes-{key[:12]}.npz"
    kept = kept_arrays(path, "rows")
    if kept is None:
        starts = range(0, len(dataset.samples), CHUNK)
        parts = [alignment.subset(list(range(s, min(s + CHUNK, len(dataset.samples))))) for s in starts]
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            work = pool.map(_label_chunk, [dataset] * len(starts), starts, parts)
            chunks = list(track(work, f"labelling {dataset.name}", total=len(starts), console=Console(stderr=True)))
        cache.mkdir(parents=True, exist_ok=True)
        rows = np.concatenate(chunks)
        write_whole(path, lambda file: np.savez_compressed(file, rows=rows))
    else:
        rows = kept["rows"]
    unsure = ~(rows[:, 0] >= PRESENCE)
    rows[unsure] = np.nan
    return TeacherLabels(rows[:, 1:53], rows[:, 53:])


@lru_cache(maxsize=1)
def _worker_mesh() -> FaceMesh:
    import cv2

    from exprmetric.methods.face_mesh import FaceMesh

    cv2.setNumThreads(1)
    return FaceMesh()


def _label_chunk(dataset: FaceDataset, start: int, alignment: Alignment) -> npt.NDArray[np.float32]:
    """(n, 1 + 52 + 64): presence, blendshapes, token; presence 0 where no face was found."""
    mesh = _worker_mesh()
    rows = np.zeros((len(alignment.found), 1 + 52 + 64), np.float32)
    for i in np.flatnonzero(alignment.found):
        try:
            read = mesh.read(dataset.image(start + int(i)), alignment.matrices[i])
        except ImageError:
            continue
        rows[i] = np.concatenate([[read.presence], read.blendshapes, read.token])
    return rows
