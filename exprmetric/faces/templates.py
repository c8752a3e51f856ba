"""Alignment templates: where the eyes, nose and mouth of a face go in a square crop.

* `eyes70` (paper 004): eye centres level and 70 px apart in a 224 x 224 crop. The paper leaves the position of
  the eyes open; here they stand at y = 76.5, which centres the face from its brows to the chin of an open mouth.
* `arcface`: the five-point template of ArcFace at twice its 112 px, fitted by least squares (Umeyama, 1991).
* `box`: the detector's box, stretched to the square; what encoders trained on unaligned boxes expect. Of a rolled face
  it is the box that the detector draws once the face is turned upright.
* `dlib150`: dlib's own face chip, 150 px; what dlib's identity network was trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from exprmetric.choices import resolve
from exprmetric.faces.alignment import ARCFACE, CROP_SIZE, EYES, Matrix, five_points, similarity


class Located(Protocol):
    """What a template asks of a face (`exprmetric.faces.Face`)."""

    @property
    def image(self) -> npt.NDArray[np.uint8] | None: ...
    @property
    def box(self) -> npt.NDArray[np.float64]: ...
    @property
    def eye_centres(self) -> npt.NDArray[np.float64]: ...
    @property
    def landmarks(self) -> npt.NDArray[np.float64]: ...
    @property
    def five_points(self) -> npt.NDArray[np.float64] | None: ...
    @property
    def corners(self) -> npt.NDArray[np.float64] | None: ...
    @property
    def upright(self) -> Matrix: ...


@dataclass(frozen=True)
class Template:
    """A way to crop a face.

    Attributes:
        matrix: the (2, 3) map from image px to the px of the 224 x 224 crop.
        cut: makes the crop where that is not one warp by `matrix`.
    """

    matrix: Callable[[Located], Matrix]
    cut: Callable[[Located], npt.NDArray[np.uint8]] | None = None


def _eyes70(face: Located) -> Matrix:
    return similarity(face.eye_centres, EYES)


def _arcface(face: Located) -> Matrix:
    points = face.five_points if face.five_points is not None else five_points(face.landmarks)
    return similarity(points, ARCFACE)


def _box(face: Located) -> Matrix:
    if face.corners is not None:
        return turned_box(face.corners)
    x0, y0, x1, y1 = (float(v) for v in face.box)
    sx, sy = CROP_SIZE / max(x1 - x0, 1.0), CROP_SIZE / max(y1 - y0, 1.0)
    return np.array([[sx, 0.0, 0.5 * sx - 0.5 - sx * x0], [0.0, sy, 0.5 * sy - 0.5 - sy * y0]])


def turned_box(corners: npt.ArrayLike, size: int = CROP_SIZE) -> Matrix:
    """(2, 3) map that stretches a rectangle, turned by any angle, to a square crop.

    Args:
        corners: (3, 2) its upper left, upper right and lower left pixel.
    """
    first, right, down = np.asarray(corners, np.float64)
    sides = np.column_stack([right - first, down - first])
    scale = size / np.maximum(np.linalg.norm(sides, axis=0), 1.0)
    linear = size * np.linalg.inv(sides)
    return np.column_stack([linear, 0.5 * scale - 0.5 - linear @ first])


def _dlib_chip(face: Located) -> npt.NDArray[np.uint8]:
    import dlib

    points = dlib.points([dlib.point(round(x), round(y)) for x, y in face.landmarks])
    x0, y0, x1, y1 = (round(float(v)) for v in face.box)
    shape = dlib.full_object_detection(dlib.rectangle(x0, y0, x1, y1), points)
    image = np.ascontiguousarray(face.image)  # of a slice dlib makes a copy and lets go of it before it has looked
    chip: npt.NDArray[np.uint8] = dlib.get_face_chip(image, shape, size=150, padding=0.25)
    return chip


TEMPLATES: dict[str, Template | str] = {
    "eyes70": Template(_eyes70),
    "arcface": Template(_arcface),
    "box": Template(_box),
    "dlib150": Template(_eyes70, cut=_dlib_chip),
}
"""By name; one that lies in a file of its own as `module:name`."""


def template(name: str) -> Template:
    """The template of this name; ValueError lists the known ones."""
    found = TEMPLATES.get(name)
    if found is None:
        raise ValueError(f"unknown alignment template {name!r}; known: {', '.join(TEMPLATES)}")
    if isinstance(found, str):
        made: Template = resolve(found)
        return made
    return found
