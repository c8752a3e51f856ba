"""Teacher labels: MediaPipe's blendshapes of every training face, computed once and kept as `.npz`.

A face whose mesh is unsure, or that no detector found, has no label: a teacher that guesses teaches noise.
"""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from exprmetric.datasets.alignment import CHUNK, Alignment
from exprmetric.datasets.layouts import FaceDataset
from exprmetric.errors import ImageError
from exprmetric.io.kept import kept
from exprmetric.io.processes import in_processes

if TYPE_CHECKING:
    from exprmetric.faces.face_mesh import FaceMesh

PRESENCE = 0.9
"""A mesh with a lower presence is unsure."""


def label_dataset(dataset: FaceDataset, alignment: Alignment, cache: Path, *, jobs: int = 2) -> npt.NDArray[np.float32]:
    """(N, 52) float32 blendshapes 0..1 of every sample, computed once and kept in the folder `cache`; rows of NaN where
    the teacher is unsure.

    Raises:
        MissingPackageError, WeightsNotFoundError, WeightsHashError: the teacher can't be run.
    """
    from exprmetric.faces.face_mesh import WEIGHTS
    from exprmetric.weights import store as weights

    weights.find(WEIGHTS)  # fails here, not in each worker

    def make() -> dict[str, npt.NDArray[np.float32]]:
        starts = range(0, len(dataset.samples), CHUNK)
        parts = [(s, alignment.subset(list(range(s, min(s + CHUNK, len(dataset.samples)))))) for s in starts]
        chunks = in_processes(partial(_label_chunk, dataset), parts, jobs, f"labelling {dataset.name}")
        return {"rows": np.concatenate(chunks)}

    key = (weights.entries()[WEIGHTS].sha256, alignment.matrices, *dataset.contents())
    rows: npt.NDArray[np.float32] = kept(cache, f"{dataset.name}-blendshapes", key, ("rows",), make)["rows"]
    return np.where(rows[:, :1] >= PRESENCE, rows[:, 1:], np.float32("nan"))


@lru_cache(maxsize=1)
def _worker_mesh() -> FaceMesh:
    import cv2

    from exprmetric.faces.face_mesh import FaceMesh

    cv2.setNumThreads(1)
    return FaceMesh()


def _label_chunk(dataset: FaceDataset, part: tuple[int, Alignment]) -> npt.NDArray[np.float32]:
    """(n, 1 + 52): presence and blendshapes of the samples from a number on; presence 0 where no face was found."""
    mesh, (start, alignment) = _worker_mesh(), part
    rows = np.zeros((len(alignment.found), 1 + 52), np.float32)
    for i in np.flatnonzero(alignment.found):
        try:
            read = mesh.read(dataset.image(start + int(i)), alignment.matrices[i])
        except ImageError:
            continue
        rows[i] = np.concatenate([[read.presence], read.blendshapes])
    return rows
