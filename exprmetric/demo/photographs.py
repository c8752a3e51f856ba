"""The demonstration's photographs: files that installed packages carry, so nothing is downloaded."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np

from exprmetric.errors import InputError
from exprmetric.faces.swap import Image, Points, window


def group_photo() -> Path:
    """The group photograph in the package insightface. Raises `InputError` where it is missing."""
    return _packaged("insightface", "data/images/t1.jpg")


def portrait_photo() -> Path:
    """NASA's portrait of Eileen Collins in scikit-image. Raises `InputError` where it is missing."""
    return _packaged("skimage", "data/astronaut.png")


def cut_face(image: Image, points: Points, size: int = 256, margin: float = 0.5) -> Image:
    """A square crop around one face.

    Args:
        image: RGB uint8, (H, W, 3).
        points: the face's landmarks, (N, 2) x and y in pixels.
        size: side of the crop that is returned, in pixels.
        margin: room on every side of the landmarks, in lengths of their bounding box's longer side.

    Returns:
        RGB uint8, (size, size, 3). Where the crop leaves the image, the image's border is repeated.

    Raises:
        InputError: `size` is not positive, `margin` is negative, or the points span no area.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    extent = float((high - low).max())
    if size < 1 or margin < 0 or not extent >= 1:
        raise InputError(f"can't cut a face: size {size}, margin {margin}, landmarks {extent:.1f} px wide")
    side = round(extent * (1 + 2 * margin))
    left, top = np.rint((low + high) / 2 - side / 2).astype(int)
    crop = window(image, left, top, left + side, top + side)
    interpolation = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(crop, (size, size), interpolation=interpolation), dtype=np.uint8)


def _packaged(package: str, file: str) -> Path:
    """Path of a package's data file; the package is only located: importing some takes seconds."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise InputError(f"the demo needs the package {package!r} for its photograph {file}: install it")
    path = Path(spec.origin).parent / file
    if not path.is_file():
        raise InputError(f"the demo's photograph is missing: {path}; reinstall the package {package!r}")
    return path
