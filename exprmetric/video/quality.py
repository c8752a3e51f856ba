"""FaceQA (paper 004): which faces are fit for reading an expression off them. Pure functions on arrays.

A face is unfit when its eyes are blurred or it looks too far sideways. The paper fixes the two thresholds and the
formula of the sharpness; the size of the patches and the width of the blur, which it leaves open, are set here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from exprmetric.faces.alignment import eye_centres

SHARPNESS = 3.0
"""Faces below are too blurred, grey levels (paper 004)."""
YAW = 50.0
"""Faces turned farther are too sideways, degrees (paper 004)."""

PATCH = 40
"""M, side of the square around an eye, px of the crop where the eyes are 70 px apart."""
SIGMA = 2.0
"""Of the Gaussian, px of that crop."""

Floats = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]

# Points that keep their place on the head whatever the expression, by their number of dlib's 68, and where they are:
# x to the image's right, y down, z away from the camera; % of the distance between the eye centres, whose middle is
# the origin. Medians of dlib's points over 404 neutral, nearly frontal photographs of LFW, each with the depth that
# MediaPipe's mesh has there, turned to one pose and made symmetric.
_RIGID = (27, 28, 29, 30, 31, 33, 35, 36, 39, 42, 45, 48, 54)
_HEAD = np.array(
    [
        (0.0, -7.2, -24.8),
        (0.0, 11.1, -37.7),
        (0.0, 28.8, -54.1),
        (0.0, 48.0, -63.5),
        (-22.0, 66.5, -31.7),
        (0.0, 72.7, -39.7),
        (22.0, 66.5, -31.7),
        (-69.3, 1.3, 7.5),
        (-29.9, 1.8, -0.3),
        (29.9, 1.8, -0.3),
        (69.3, 1.3, 7.5),
        (-40.9, 112.6, -12.3),
        (40.9, 112.6, -12.3),
    ]
)
_FAR = 10.0
"""Distance of the camera, in distances between the eyes: about that of a webcam."""


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
    """How far the head is turned about its vertical axis, by perspective-n-point on 13 points of nose, eyes and mouth.

    The camera stands ten eye distances before the face and looks at it: what counts is how the face is seen, which does
    not depend on where in the picture it is, or how the picture was cut.

    Args:
        landmarks: (68, 2) dlib points, px.

    Returns:
        Degrees, 0 for a face that looks at the camera, positive when its nose points to the image's right; NaN when
        the points are no face.
    """
    import cv2

    points = np.asarray(landmarks, np.float64)
    eyes = eye_centres(points)
    extent = (np.linalg.norm(eyes[1] - eyes[0]) + np.linalg.norm(points[[48, 54]].mean(0) - eyes.mean(0))) / 2
    if not np.isfinite(extent) or extent < 1e-6:
        return float("nan")
    seen = points[list(_RIGID)]
    seen = (seen - seen.mean(0)) / extent
    try:
        found, turn, _ = cv2.solvePnP(_HEAD, seen, np.diag([_FAR, _FAR, 1.0]), None, flags=cv2.SOLVEPNP_SQPNP)
    except cv2.error:
        return float("nan")
    nose = -cv2.Rodrigues(turn)[0][:, 2]
    return float(np.degrees(np.arctan2(nose[0], -nose[2]))) if found else float("nan")


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
