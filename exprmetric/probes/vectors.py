"""Vectors of several methods for the same faces: each image is decoded, and its face found, once for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.errors import ImageError
from exprmetric.evaluation.pipeline import BLOCK
from exprmetric.evaluation.reading import FaceReader, Outcome, Sight
from exprmetric.faces import Face, FaceFinder
from exprmetric.io.faults import of_image
from exprmetric.io.progress import Profile, Progress
from exprmetric.methods import Method
from exprmetric.methods.each import Cell, Vector
from exprmetric.probes.dataset import Faces
from exprmetric.video.faces.quality import yaw


@dataclass(frozen=True, eq=False)
class Vectors:
    """What M methods make of N photographs.

    Attributes:
        faces: the photographs.
        cells: by method, N vectors or the errors that say why there is none.
        seen: (N, 2) yaw of the head, degrees, and height of the face, px of the photograph; NaN without a face.
    """

    faces: Faces
    cells: dict[str, list[Cell]]
    seen: npt.NDArray[np.float64]

    @property
    def ok(self) -> npt.NDArray[np.bool_]:
        """(N,) rows that every method has a vector for: the ones that methods are compared on."""
        columns = [[isinstance(c, np.ndarray) for c in column] for column in self.cells.values()]
        return np.all(columns, axis=0) if columns else np.zeros(len(self.faces), bool)

    def matrix(self, method: str, rows: npt.ArrayLike) -> Vector:
        """(R, D) vectors of rows that are ok."""
        found = [c for i in np.asarray(rows, np.intp) if isinstance(c := self.cells[method][i], np.ndarray)]
        return np.stack(found) if found else np.empty((0, 1), np.float32)

    def coverage(self, method: str) -> dict[str, Any]:
        """`{"faces", "ok", "failed": {status: n}}` of one method."""
        failed = Counter(c.status for c in self.cells[method] if isinstance(c, ImageError))
        return {
            "faces": len(self.faces),
            "ok": len(self.faces) - failed.total(),
            "failed": dict(sorted(failed.items())),
        }

    def failures(self) -> Iterator[dict[str, str]]:
        """One record an image and method that failed; one for all methods where the image has no face."""
        for i, image in enumerate(self.faces.images):
            errors = {m: c for m, column in self.cells.items() if isinstance(c := column[i], ImageError)}
            if len({id(e) for e in errors.values()}) == 1 and len(errors) == len(self.cells):
                errors = {"": next(iter(errors.values()))}
            for method, error in errors.items():
                yield {
                    "set": self.faces.name,
                    "image": image,
                    "method": method,
                    "status": error.status,
                    "reason": str(error),
                }


def photograph_reader(finder: FaceFinder, methods: Sequence[Method]) -> FaceReader:
    """What reads the one face of a photograph; where one method fails, the others go on."""
    return FaceReader(finder, methods, Profile(), only=finder.choose, apart=True)


def embed_faces(faces: Faces, reader: FaceReader, pool: Executor, progress: Progress, stage: str) -> Vectors:
    """Vectors of all methods for all faces; memory holds the crops of one block."""
    cells: dict[str, list[Cell]] = {m: [] for m in reader.methods}
    seen = np.full((len(faces), 2), np.nan)

    def read(name: str) -> Outcome:
        try:
            return reader.read(faces.load(name))
        except Exception as error:
            return of_image(error)

    for start in range(0, len(faces), BLOCK):
        outcomes = list(pool.map(read, faces.images[start : start + BLOCK]))
        for name, column in represent_all(outcomes, reader).items():
            cells[name] += column
        for i, outcome in enumerate(outcomes, start):
            if isinstance(outcome, Sight) and (face := outcome.faces[0].face) is not None:
                seen[i] = pose_and_size(face)
        progress(stage, start + len(outcomes), len(faces))
    return Vectors(faces, cells, seen)


def pose_and_size(face: Face) -> tuple[float, float]:
    """Yaw of the head, degrees, and the longer side of the box around the face's 68 points, px of the photograph."""
    return yaw(face.landmarks), float(np.ptp(face.landmarks, axis=0).max())


def represent_all(outcomes: Sequence[Outcome], reader: FaceReader) -> dict[str, list[Cell]]:
    """Each method's vector, or the error, of the face of each outcome."""
    faces = [o if isinstance(o, ImageError) else o.faces[0] for o in reader.represent(outcomes)]
    return {name: [f if isinstance(f, ImageError) else f.cell(name) for f in faces] for name in reader.methods}
