"""Nuisances: what changes a photograph, or how its face is cropped, and no expression.

Pixel nuisances act on the photograph before its face is searched for, so that detection and landmarks suffer with it.
Lengths are in px of the 224 px crop, whose eyes are 70 px apart, so that a strength means the same for every
photograph. A new nuisance is a function and a line in `NUISANCES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.faces.alignment import CROP_SIZE, EYES, eye_centres
from exprmetric.faces.face import Face

Image = npt.NDArray[np.uint8]
PixelEdit = Callable[[Image, Face, float], Image]
FaceEdit = Callable[[Face, float], Face]


@dataclass(frozen=True)
class Nuisance:
    """One nuisance with the strengths it is measured at.

    Attributes:
        unit: of the strengths.
        strengths: in the order in which they are plotted; none of them is "nothing".
        pixels: the photograph and the face found in it → the changed photograph, in which the face is searched again.
        face: the face found → the face as it would be cropped; exactly one of `pixels` and `face` is given.
    """

    name: str
    unit: str
    strengths: tuple[float, ...]
    pixels: PixelEdit | None = None
    face: FaceEdit | None = None


def crop_pixel(face: Face) -> float:
    """Px of the photograph in one px of the crop."""
    left, right = eye_centres(face.landmarks)
    return float(np.linalg.norm(right - left) / (EYES[1, 0] - EYES[0, 0]))


def jpeg(image: Image, face: Face, strength: float) -> Image:
    """Written and read as JPEG of quality `strength` (1..100)."""
    import cv2

    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(strength)])
    read = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(read[..., ::-1])


def blur(image: Image, face: Face, strength: float) -> Image:
    """Gaussian blur; sigma in crop px."""
    import cv2

    sigma = strength * crop_pixel(face)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.uint8)


def brightness(image: Image, face: Face, strength: float) -> Image:
    """Values times `strength`, clipped at white."""
    return _levels(image, np.arange(256, dtype=np.float64) * strength)


def gamma(image: Image, face: Face, strength: float) -> Image:
    """255 (v / 255)^strength: above 1 darker, below 1 brighter."""
    curve: npt.NDArray[np.float64] = 255.0 * (np.arange(256) / 255.0) ** strength
    return _levels(image, curve)


def _levels(image: Image, curve: npt.NDArray[np.float64]) -> Image:
    table: Image = np.clip(np.rint(curve), 0, 255).astype(np.uint8)
    return table[image]


def downscale(image: Image, face: Face, strength: float) -> Image:
    """Shrunk until the crop would hold `strength` px of the photograph, and enlarged again; never enlarged alone."""
    import cv2

    factor = strength / (CROP_SIZE * crop_pixel(face))
    if factor >= 1:
        return image
    height, width = image.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def roll(image: Image, face: Face, strength: float) -> Image:
    """Turned around the face by `strength` degrees, counter-clockwise."""
    import cv2

    x, y = (float(v) for v in face.landmarks.mean(0))
    matrix = cv2.getRotationMatrix2D((x, y), strength, 1.0)
    size = (image.shape[1], image.shape[0])
    turned = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(turned, np.uint8)


def grey(image: Image, face: Face, strength: float) -> Image:
    """Mixed with its luma (Rec. 601); 1 has no colour left."""
    luma = image @ np.array([0.299, 0.587, 0.114])
    return np.asarray(np.rint((1.0 - strength) * image + strength * luma[..., None]), np.uint8)


def shift(face: Face, strength: float) -> Face:
    """The face as a detector would place it that misses by `strength` crop px to the right and down.

    Box and points move together, so that the crop of every template moves, whatever it is made from; to a method that
    reads points alone that is no change. Of an image that is an aligned crop itself, the pixels move.
    """
    if face.aligned:
        return fresh(face, image=_moved(face.image, -strength))
    left, right = eye_centres(face.landmarks)
    across = (right - left) / (EYES[1, 0] - EYES[0, 0])
    step = strength * (across + np.array([-across[1], across[0]]))
    five = None if face.five_points is None else face.five_points + step
    corners = None if face.corners is None else face.corners + step
    moved = {"box": face.box + np.tile(step, 2), "landmarks": face.landmarks + step}
    return fresh(face, **moved, five_points=five, corners=corners)


def fresh(face: Face, **changes: Any) -> Face:
    """The changed face without anything that was made of it before."""
    kept = ("image", "box", "score", "landmarks", "five_points", "detector", "aligned", "corners")
    return Face(**{name: getattr(face, name) for name in kept} | changes)


def _moved(image: Image | None, step: float) -> Image:
    """The image moved right and down by crop px, of which its sides have CROP_SIZE."""
    import cv2

    if image is None:
        raise ValueError("the face let go of its image before it was shifted")
    height, width = image.shape[:2]
    matrix = np.array([[1.0, 0.0, step * width / CROP_SIZE], [0.0, 1.0, step * height / CROP_SIZE]])
    moved = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)


NUISANCES: dict[str, Nuisance] = {
    n.name: n
    for n in (
        Nuisance("JPEG", "quality", (75, 50, 25, 10), jpeg),
        Nuisance("blur", "sigma, crop px", (1.0, 2.0, 3.0), blur),
        Nuisance("brightness", "times", (0.5, 0.75, 1.25, 1.5), brightness),
        Nuisance("gamma", "exponent", (0.5, 0.75, 1.5, 2.0), gamma),
        Nuisance("scale", "px across the crop", (112, 80, 48), downscale),
        Nuisance("roll", "degrees", (-10, -5, 5, 10), roll),
        Nuisance("shift", "crop px", (-3, -1.5, 1.5, 3), face=shift),
        Nuisance("grey", "share", (0.5, 1.0), grey),
    )
}
