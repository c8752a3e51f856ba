"""FaceQA (paper 004): which faces are fit for reading an expression off them. Pure functions on arrays.

A face is unfit when its eyes are blurred or it looks too far sideways. The paper fixes the two thresholds and the
formula of the sharpness; the size of the patches and the width of the blur, which it leaves open, are set here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from exprmetric.faces.head import head_pose

SHARPNESS = 3.0
"""Faces below are too blurred, grey levels (paper 004)."""
YAW = 50.0
"""Faces turned farther are too sideways, degrees (paper 004)."""

PATCH = 40
"""M, side of the square around an eye, px of the crop where the eyes are 70 px apart."""
SIGMA = 2.0
"""Of the Gaussian, px of that crop."""

Image = npt.NDArray[np.uint8]


def patch_sharpness(patch: npt.ArrayLike, sigma: float = SIGMA) -> float:
    """Mean absolute difference between a patch and itself under a Gaussian blur.

    Args:
        patch: (M, M') grey levels; its border is mirrored.
        sigma: of the blur, px.

    Returns:
        0..127.5 for levels in 0..255; 0 for a constant patch.
    """
    from scipy.ndimage import gaussian_filter

    levels = np.asarray(patch, np.float64)
    return float(np.abs(levels - gaussian_filter(levels, sigma, mode="mirror")).mean())


def sharpness(crop: Image, eyes: npt.ArrayLike, *, size: int = PATCH, sigma: float = SIGMA) -> float:
    """The mean of `patch_sharpness` around the two eyes.

    Args:
        crop: (H, W, 3) uint8 RGB face, aligned so that the eyes are 70 px apart (`eyes70`).
        eyes: (2, 2) their centres, px of the crop.

    Returns:
        Grey levels; NaN where a patch isn't inside the crop.
    """
    import cv2

    grey = np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), np.float64)
    found = []
    for x, y in np.asarray(eyes, np.float64):
        left, top = round(x - (size - 1) / 2), round(y - (size - 1) / 2)
        patch = grey[max(top, 0) : top + size, max(left, 0) : left + size]
        found.append(patch_sharpness(patch, sigma) if patch.shape == (size, size) else np.nan)
    return float(np.mean(found))


def yaw(landmarks: npt.ArrayLike) -> float:
    """How far the head is turned sideways, degrees, of (68, 2) dlib points; see `exprmetric.faces.head.Pose`."""
    return head_pose(landmarks).yaw


def passes(sharpness: npt.ArrayLike, yaw: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """(N,) whether each face is fit: sharp enough, not too sideways, both known."""
    return np.asarray((np.asarray(sharpness) >= SHARPNESS) & (np.abs(np.asarray(yaw)) <= YAW))


def reason(sharpness: float, yaw: float) -> str:
    """Why a face is unfit; '' when it is fit."""
    if not sharpness >= SHARPNESS:
        return f"blurred: sharpness {sharpness:.2f}, needed {SHARPNESS}"
    if not abs(yaw) <= YAW:
        return f"sideways: yaw {yaw:.0f} degrees, at most {YAW:.0f}"
    return ""
