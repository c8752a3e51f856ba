"""Alignment templates: where the eyes, nose and mouth of a face go in a square crop.

A template turns landmarks into one similarity transform, and one warp takes the face from its original pixels into
the crop; a face is never resampled twice.

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
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from exprmetric.faces.face import Face

CROP_SIZE = 224
EYES = np.array([[76.5, 76.5], [146.5, 76.5]])
"""Eye centres in the `eyes70` crop, px, pixel centres at whole numbers, the image's left eye first."""

ARCFACE = 2.0 * np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)

MOST_SHRINK = 16
"""Pixels of an image that a crop's pixel may stand for, each way, before the image is reduced: a face of 3,600 px."""

_WIDEST = 32_000
"""OpenCV's warp takes no side of 32,767 px or more."""

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Template:
    """A named way to crop a face.

    Attributes:
        matrix: the (2, 3) map from image px to the px of the 224 x 224 crop.
        cut: makes the crop where that is not one warp by `matrix`.
    """

    name: str
    matrix: Callable[[Face], Matrix]
    cut: Callable[[Face], npt.NDArray[np.uint8]] | None = None


def similarity(source: npt.ArrayLike, destination: npt.ArrayLike) -> Matrix:
    """Least-squares similarity transform (rotation, uniform scale, shift; no reflection).

    Args:
        source, destination: (K, 2) points, K >= 2, px.

    Returns:
        (2, 3) float64 M with destination ~ M[:, :2] @ source + M[:, 2] (Umeyama 1991, eq. 40-42).
    """
    src, dst = np.asarray(source, np.float64), np.asarray(destination, np.float64)
    src_mean, dst_mean = src.mean(0), dst.mean(0)
    centred = src - src_mean
    u, s, vt = np.linalg.svd((dst - dst_mean).T @ centred)
    sign = np.array([1.0, np.sign(np.linalg.det(u @ vt)) or 1.0])
    scale = (s * sign).sum() / max((centred**2).sum(), 1e-12)
    linear = scale * (u * sign) @ vt
    return np.column_stack([linear, dst_mean - linear @ src_mean])


def transform(matrix: Matrix, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Apply a (2, 3) affine map to (K, 2) points."""
    moved: npt.NDArray[np.float64] = np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]
    return moved


def eye_centres(landmarks: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """(2, 2) centres of the two eyes: means of points 36-41 and 42-47 of dlib's 68."""
    points = np.asarray(landmarks, np.float64)
    return np.stack([points[36:42].mean(0), points[42:48].mean(0)])


def five_points(landmarks: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """(5, 2) eye centres, nose tip and mouth corners out of dlib's 68 points."""
    points = np.asarray(landmarks, np.float64)
    return np.concatenate([eye_centres(points), points[[30, 48, 54]]])


def extent(points: npt.ArrayLike) -> float:
    """Size of a face, px: the mean of the distance between the eyes and that from the eyes to the mouth.

    Args:
        points: (5, 2) eyes, nose, mouth corners.
    """
    five = np.asarray(points, np.float64)
    down = np.linalg.norm(five[3:].mean(0) - five[:2].mean(0))
    return float(np.linalg.norm(five[1] - five[0]) + down) / 2


def warp(image: npt.NDArray[np.uint8], matrix: Matrix, size: int = CROP_SIZE) -> npt.NDArray[np.uint8]:
    """One warp from original pixels into a size x size crop.

    Bilinear; pixels outside the image repeat its border. When the crop shrinks the face, the image is first low-passed
    to the crop's sampling rate, so that a face gives the same crop at whatever resolution it was photographed. Beyond
    `MOST_SHRINK` it is first reduced by means over whole pixels: the low pass would take time without bounds.

    Args:
        image: (H, W, 3) uint8 RGB.
        matrix: (2, 3) map from image px to crop px.

    Returns:
        (size, size, 3) uint8 RGB.
    """
    import cv2

    image, matrix = _reduced(image, matrix)
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    sigma = 0.4 * np.sqrt(1.0 / scale**2 - 1.0) if scale < 1.0 else 0.0
    if sigma or max(image.shape) > _WIDEST:
        corners = transform(inverse(matrix), [[0, 0], [size - 1, 0], [0, size - 1], [size - 1, size - 1]])
        margin = int(np.ceil(4 * sigma)) + 2
        height, width = image.shape[:2]
        low = np.clip(np.floor(corners.min(0)) - margin, 0, (width - 1, height - 1)).astype(int)
        high = np.clip(np.ceil(corners.max(0)) + margin + 1, low + 1, (width, height)).astype(int)
        image = image[low[1] : high[1], low[0] : high[0]]
        if sigma:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.uint8)
        matrix = np.column_stack([matrix[:, :2], matrix[:, 2] + matrix[:, :2] @ low])
    crop = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(crop, np.uint8)


def _reduced(image: npt.NDArray[np.uint8], matrix: Matrix) -> tuple[npt.NDArray[np.uint8], Matrix]:
    """Fewer columns and rows where a px of the crop stands for more than `MOST_SHRINK` of them; else what is given."""
    import cv2

    per_crop_px = 1 / np.maximum(np.linalg.norm(matrix[:, :2], axis=0), 1e-12)
    size = np.array([image.shape[1], image.shape[0]])
    smaller = np.maximum(1, size // np.maximum(1, np.floor(per_crop_px / (MOST_SHRINK / 2)))).astype(int)
    smaller = np.where(per_crop_px > MOST_SHRINK, smaller, size)
    if (smaller == size).all():
        return image, matrix
    step = size / smaller
    reduced = np.asarray(cv2.resize(image, smaller.tolist(), interpolation=cv2.INTER_AREA), np.uint8)
    linear = matrix[:, :2] * step
    return reduced, np.column_stack([linear, matrix[:, 2] + matrix[:, :2] @ (step / 2 - 0.5)])


def inverse(matrix: Matrix) -> Matrix:
    """The (2, 3) map back."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def _eyes70(face: Face) -> Matrix:
    return similarity(eye_centres(face.landmarks), EYES)


def _arcface(face: Face) -> Matrix:
    points = face.five_points if face.five_points is not None else five_points(face.landmarks)
    return similarity(points, ARCFACE)


def _box(face: Face) -> Matrix:
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


def compose(second: Matrix, first: Matrix) -> Matrix:
    """The (2, 3) map that does the first, then the second."""
    return np.column_stack([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]])


def _dlib_chip(face: Face) -> npt.NDArray[np.uint8]:
    import dlib

    points = dlib.points([dlib.point(round(x), round(y)) for x, y in face.landmarks])
    x0, y0, x1, y1 = (round(float(v)) for v in face.box)
    shape = dlib.full_object_detection(dlib.rectangle(x0, y0, x1, y1), points)
    image = np.ascontiguousarray(face.image)  # of a slice dlib makes a copy and lets go of it before it has looked
    chip: npt.NDArray[np.uint8] = dlib.get_face_chip(image, shape, size=150, padding=0.25)
    return chip


TEMPLATES: dict[str, Template] = {
    t.name: t
    for t in (
        Template("eyes70", _eyes70),
        Template("arcface", _arcface),
        Template("box", _box),
        Template("dlib150", _eyes70, cut=_dlib_chip),
    )
}


def template(name: str) -> Template:
    """The template of this name; ValueError lists the known ones."""
    try:
        return TEMPLATES[name]
    except KeyError:
        raise ValueError(f"unknown alignment template {name!r}; known: {', '.join(TEMPLATES)}") from None
