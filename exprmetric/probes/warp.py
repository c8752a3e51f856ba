"""Local warps of a face: what a muscle does to the skin around it (paper 003, equation 1; Gustafsson 1993).

A circle of skin is moved from its centre c towards m; what is nearer to the rim moves less, and the rim stays. All
lengths are given in px of the 224 px crop, whose eyes are 70 px apart, and scaled to the photograph's face.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exprmetric.faces.alignment import EYES, eye_centres

Image = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]
EYE_DISTANCE = float(EYES[1, 0] - EYES[0, 0])


def warp_source(points: npt.ArrayLike, centre: npt.ArrayLike, target: npt.ArrayLike, radius: float) -> Points:
    """Where the warped image takes its pixels from: paper 003, equation 1.

    u = x - ((r² - |x-c|²) / (r² - |x-c|² + |m-c|²))² (m - c) inside the circle of radius r around c; u = x outside.

    Args:
        points: (..., 2) x, px.
        centre: (2,) c, px.
        target: (2,) m, px.
        radius: r, px.

    Returns:
        (..., 2) float64 u, px.
    """
    x, c = np.asarray(points, np.float64), np.asarray(centre, np.float64)
    move = np.asarray(target, np.float64) - c
    inside = np.maximum(radius**2 - ((x - c) ** 2).sum(-1), 0.0)
    whole = inside + (move**2).sum()
    share = np.divide(inside, whole, out=np.zeros_like(inside), where=whole > 0)
    return np.asarray(x - (share**2)[..., None] * move)


def local_warp(image: Image, centre: npt.ArrayLike, target: npt.ArrayLike, radius: float) -> Image:
    """The image with the circle around `centre` moved towards `target`; every pixel outside it is kept as it is.

    Args:
        image: (H, W, 3) uint8.
        centre: (2,) x, y px.
        target: (2,) x, y px; where it is the centre, nothing changes.
        radius: px.
    """
    import cv2

    c, m = np.asarray(centre, np.float64), np.asarray(target, np.float64)
    height, width = image.shape[:2]
    low = np.maximum(np.floor(c - radius).astype(int), 0)
    high = np.minimum(np.ceil(c + radius).astype(int) + 1, (width, height))
    warped: Image = image.copy()
    if (high <= low).any() or np.array_equal(c, m):
        return warped
    grid = np.stack(np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1])), axis=-1)
    source = warp_source(grid, c, m, radius).astype(np.float32)
    patch = cv2.remap(image, source[..., 0], source[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    within = ((grid - c) ** 2).sum(-1) < radius**2
    region = warped[low[1] : high[1], low[0] : high[0]]
    region[within] = np.asarray(patch, np.uint8)[within]
    return warped


@dataclass(frozen=True)
class Warp:
    """A movement of a face.

    Attributes:
        centres: (68, 2) landmarks → (K, 2) centres of the circles, px.
        directions: K unit steps in the face's own axes: x along the eyes, y down from them.
        radius: px of the crop.
    """

    name: str
    centres: Callable[[Points], Points]
    directions: tuple[tuple[float, float], ...]
    radius: float

    def __call__(self, image: Image, landmarks: npt.ArrayLike, strength: float) -> Image:
        """The photograph with its face moved.

        Args:
            image: (H, W, 3) uint8 RGB.
            landmarks: (68, 2) px.
            strength: |m - c|, px of the crop; 0 gives the photograph itself.
        """
        points = np.asarray(landmarks, np.float64)
        left, right = eye_centres(points)
        across = (right - left) / EYE_DISTANCE  # one px of the crop
        down = np.array([-across[1], across[0]])
        unit = float(np.linalg.norm(across))
        for centre, (x, y) in zip(self.centres(points), self.directions, strict=True):
            image = local_warp(image, centre, centre + strength * (x * across + y * down), self.radius * unit)
        return image


def _landmarks(*indices: int) -> Callable[[Points], Points]:
    return lambda points: points[list(indices)]


def _upper_lids(points: Points) -> Points:
    return np.stack([points[[37, 38]].mean(0), points[[43, 44]].mean(0)])


UP, DOWN = (0.0, -1.0), (0.0, 1.0)
STRENGTHS = (0.0, 3.0, 6.0, 9.0, 12.0)
"""Px of the crop; paper 003 trains with steps of 10 to 14. Beyond radius / sqrt(3), equation 1 moves c less again."""

WARPS: dict[str, Warp] = {
    w.name: w
    for w in (
        Warp("mouth corners up", _landmarks(48, 54), (UP, UP), 40.0),
        Warp("mouth corners down", _landmarks(48, 54), (DOWN, DOWN), 40.0),
        Warp("brows up", _landmarks(19, 24), (UP, UP), 35.0),
        Warp("brows together", _landmarks(21, 22), ((1.0, 0.5), (-1.0, 0.5)), 30.0),
        Warp("upper lids down", _upper_lids, (DOWN, DOWN), 22.0),
    )
}
