"""Similarity transforms of points and one warp: the arithmetic of face alignment.

A face is never resampled twice: one warp takes it from its original pixels into the crop.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

CROP_SIZE = 224
EYES = np.array([[76.5, 76.5], [146.5, 76.5]])
"""Eye centres in the `eyes70` crop, px, pixel centres at whole numbers, the image's left eye first."""

ARCFACE = 2.0 * np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)

ARCFACE_EYES = np.array([[37.9, 53.2], [73.4, 53.2]])
"""Where eye centres (means of dlib's points) stand in the 112 px crop of `ARCFACE`: medians over 400 photographs. The
template's own points are those of a detector, 1.6 px higher."""

DLIB_BOX, DLIB_BOX_SHIFT = 2.126, (-0.076, -0.066)
"""The square that dlib's detector draws: its side, and how far its middle lies from that of eyes and mouth, in units of
`extent`. Medians over 384 photographs in which both dlib and SCRFD find one face."""

MOST_SHRINK = 16
"""Pixels of an image that a crop's pixel may stand for, each way, before the image is reduced: a face of 3,600 px."""

_WIDEST = 32_000
"""OpenCV's warp takes no side of 32,767 px or more."""

Matrix = npt.NDArray[np.float64]


def similarity(source: npt.ArrayLike, destination: npt.ArrayLike) -> Matrix:
    """Least-squares similarity transform (rotation, uniform scale, shift; no reflection).

    Args:
        source: (K, 2) points, K >= 2, px.
        destination: (K, 2) where they go, px.

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


def compose(second: Matrix, first: Matrix) -> Matrix:
    """The (2, 3) map that does the first, then the second."""
    return np.column_stack([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]])
