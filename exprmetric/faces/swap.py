"""A classical face swap by landmarks: nothing is learned, so nothing needs a download.

The source's texture is warped into the target's landmarks (piecewise affine), takes on the target's light,
is cloned in by its gradients and set in with a soft edge. The landmarks stay the target's, so the geometry of
the expression is kept; gaze and wrinkles are the source's.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from exprmetric.errors import InputError

Image = NDArray[np.uint8]
Points = NDArray[np.float64]
Mask = NDArray[np.uint8]  # (H, W), 255 inside and 0 outside
Field = NDArray[np.float64]  # (H, W), one number a pixel

FOREHEAD = 0.2  # height of the lifted brow points, in lengths of the nose: most hairlines are above
FEATHER = 0.25  # width of the soft edge, in inter-ocular distances
HIDDEN = 0.5  # a source that shows less than this share of what its mirror image shows hides that cheek
SHADING = 0.4  # light that varies more slowly than this many inter-ocular distances is the target's
# Bounds of the gain on contrast in L, a and b: more would blow skin up to noise and coloured blotches.
CONTRAST = ((0.75, 0.5, 0.5), (1.25, 1.0, 1.0))
OPEN_MOUTH = 0.08  # opening of the inner lips over their width, above which a mouth shows teeth

# dlib's 68 points in the order in which the mirrored face's points are numbered
MIRROR = [
    *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1),
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1),
]  # fmt: skip


def swap_face(target: Image, target_points: Points, source: Image, source_points: Points) -> Image:
    """Give the face in `target` the texture of the face in `source`.

    Args:
        target: RGB uint8, (H, W, 3).
        target_points: dlib's 68 points of the target's face, (68, 2) x and y in pixels.
        source: RGB uint8, (h, w, 3); its size may differ.
        source_points: dlib's 68 points of the source's face, (68, 2).

    Returns:
        A new RGB uint8 image, (H, W, 3); outside the convex hull of the target's face it is the target.

    Raises:
        InputError: an image is not RGB uint8, or the points are not 68 finite pairs around a face.
    """
    target_points = _checked("target", target, target_points)
    source_points = _checked("source", source, source_points)
    source, source_points = _facing_like(target_points, source, source_points)
    source, source_points = _shrunk_to(source, source_points, _eye_distance(target_points))

    outline = with_forehead(target_points)
    feather = max(2, round(FEATHER * _eye_distance(target_points)))
    # The canvas is all that the swap touches; it may leave the image, and then repeats the image's border.
    left, top = np.floor(outline.min(axis=0)).astype(int) - 2 * feather
    right, bottom = np.ceil(outline.max(axis=0)).astype(int) + 2 * feather
    canvas = window(target, left, top, right, bottom)
    outline = outline - (left, top)

    texture = texture_of(source, source_points, outline, canvas.shape[:2], feather / 2)
    face = _filled(outline, canvas.shape[:2])
    # Along the hull's edge the source shows hair and background: neither sets the colours.
    skin = np.asarray(cv2.erode(face, np.ones((3, 3), np.uint8), iterations=feather // 2), dtype=np.uint8)
    shading = SHADING * _eye_distance(target_points)
    texture = _cloned(canvas, match_colours(texture, canvas, skin, shading), skin)
    texture = match_colours(texture, canvas, skin, shading)  # what the rim tinted gets its colour back
    mouth = outline[_kept_mouth(target_points, source_points)]
    if len(mouth):
        texture = _blend(texture, canvas, _soft(_filled(mouth, canvas.shape[:2]), max(1, feather // 3)))
    blended = _blend(canvas, texture, _soft(face, feather))

    swapped: Image = target.copy()
    height, width = target.shape[:2]
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    swapped[y0:y1, x0:x1] = blended[y0 - top : y1 - top, x0 - left : x1 - left]
    return swapped


def with_forehead(points: Points) -> Points:
    """The 68 points and the ten brow points lifted along the nose onto the forehead, (78, 2)."""
    up = points[27] - points[33]
    return np.concatenate([points, points[17:27] + FOREHEAD * up]).astype(np.float64, copy=False)


def warp(image: Image, points: Points, onto: Points, shape: tuple[int, int]) -> tuple[Image, Field]:
    """`image` warped so that `points` land on `onto` (both (N, 2)), piecewise affine over Delaunay triangles.

    One dense map for all triangles, so no seam can open between them.

    Returns:
        The warped image, (*shape, 3), and how many pixels of `image` each of its pixels shows, (*shape): near
        0 where texture is stretched, negative where a triangle is turned over. Both mean nothing outside the
        triangles.
    """
    mesh = Delaunay(onto)
    height, width = shape
    grid = np.indices((height, width))[::-1].reshape(2, -1).T.astype(np.float64)  # x, y of every pixel
    triangle = mesh.find_simplex(grid)
    to_barycentric = mesh.transform[triangle]
    first = np.einsum("nij,nj->ni", to_barycentric[:, :2], grid - to_barycentric[:, 2])
    barycentric = np.concatenate([first, 1 - first.sum(axis=1, keepdims=True)], axis=1)
    where = np.einsum("nk,nkd->nd", barycentric, points[mesh.simplices[triangle]])
    where[triangle < 0] = 0
    lookup = where.reshape(height, width, 2).astype(np.float32)
    empty = np.empty(0, np.float32)  # the second map is not needed where the first has both coordinates
    warped = cv2.remap(image, lookup, empty, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    share = _areas(points[mesh.simplices]) / _areas(onto[mesh.simplices])
    return warped.astype(np.uint8, copy=False), share[triangle].reshape(shape)


def texture_of(source: Image, source_points: Points, onto: Points, shape: tuple[int, int], softness: float) -> Image:
    """The source's face warped onto the points `onto`; what it hides is filled from its mirror image.

    The far cheek of a turned head is a few columns of pixels, which would be stretched to a smear.
    """
    own, share = warp(source, with_forehead(source_points), onto, shape)
    mirror_image, mirror_points = _mirrored(source, source_points)
    mirror, mirror_share = warp(mirror_image, with_forehead(mirror_points), onto, shape)
    scale = (_eye_distance(source_points) / _eye_distance(onto)) ** 2
    wanted = np.clip(mirror_share, 0.1 * scale, scale)  # more than the target's resolution can't be seen
    hidden = np.clip(2 - share / wanted / HIDDEN, 0, 1)
    soft = cv2.GaussianBlur(hidden, (0, 0), softness)
    return _blend(own, mirror, np.asarray(soft, dtype=np.float64))


def match_colours(image: Image, like: Image, inside: Mask, sigma: float) -> Image:
    """`image` with the shading of `like` and with the contrast that `like` has, where `inside` is set.

    In Lab, the mean in a Gaussian window of `sigma` pixels becomes the one of `like`; so does, within bounds,
    the spread around it over the whole face. One mean for all of it would leave light from one side as it is.
    """
    mask = inside > 0
    lab, like_lab = _lab(image), _lab(like)
    shading, like_shading = _local_mean(lab, mask, sigma), _local_mean(like_lab, mask, sigma)
    # Half of the middle 68 % stands for the standard deviation: glasses, teeth and beards shift it less.
    spread, like_spread = (
        np.subtract(*np.percentile((x - mean)[mask], (84, 16), axis=0)) / 2
        for x, mean in ((lab, shading), (like_lab, like_shading))
    )
    gain = np.clip(like_spread / np.maximum(spread, 1e-3), *CONTRAST)
    matched = ((lab - shading) * gain + like_shading).astype(np.float32)
    rgb = cv2.cvtColor(matched, cv2.COLOR_LAB2RGB)
    return np.asarray(np.rint(np.clip(rgb, 0, 1) * 255), dtype=np.uint8)


def window(image: Image, left: int, top: int, right: int, bottom: int) -> Image:
    """`image[top:bottom, left:right]` where the box may leave the image: its border is repeated there.

    Repeated and not reflected, since a reflection can show a second face.
    """
    rows = np.clip(np.arange(top, bottom), 0, image.shape[0] - 1)
    columns = np.clip(np.arange(left, right), 0, image.shape[1] - 1)
    return image[np.ix_(rows, columns)]


def _checked(name: str, image: Image, points: Points) -> Points:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"{name}: an RGB uint8 image (H, W, 3) is needed, not {image.dtype} {image.shape}")
    points = np.asarray(points, dtype=np.float64)
    if points.shape != (68, 2) or not np.isfinite(points).all():
        raise InputError(f"{name}: 68 finite points (68, 2) are needed, not an array of shape {points.shape}")
    if _eye_distance(points) < 4:
        raise InputError(f"{name}: the eyes are {_eye_distance(points):.1f} px apart, too close to swap")
    if (points.max(axis=0) < 0).any() or (points.min(axis=0) >= (image.shape[1], image.shape[0])).any():
        raise InputError(f"{name}: the points lie outside the image of {image.shape[1]} x {image.shape[0]} px")
    if np.linalg.matrix_rank(points - points.mean(axis=0), tol=4) < 2:
        raise InputError(f"{name}: the points lie in a line, so they are no face's")
    return points


def _eye_distance(points: Points) -> float:
    return float(np.linalg.norm(points[36:42].mean(axis=0) - points[42:48].mean(axis=0)))


def _facing_like(target_points: Points, image: Image, points: Points) -> tuple[Image, Points]:
    """The face or its mirror image, whichever fits the target's points better.

    The cheek that a turned head hides has no texture to give; mirroring gives the cheek that it shows.
    """
    faces = (image, points), _mirrored(image, points)
    return min(faces, key=lambda face: _misfit(face[1], target_points))


def _mirrored(image: Image, points: Points) -> tuple[Image, Points]:
    return np.ascontiguousarray(image[:, ::-1]), points[MIRROR] * (-1, 1) + (image.shape[1] - 1, 0)


def _misfit(points: Points, onto: Points) -> float:
    """What is left between two shapes after the best shift, turn and scale: 0 (equal) to 1."""
    a, b = (((p - p.mean(axis=0)) @ (1, 1j)) for p in (points, onto))
    return float(1 - abs(np.vdot(a, b)) ** 2 / (np.vdot(a, a).real * np.vdot(b, b).real))


def _shrunk_to(image: Image, points: Points, eye_distance: float) -> tuple[Image, Points]:
    """A larger face shrunk to about `eye_distance`: sampling it as it is would alias."""
    scale = eye_distance / _eye_distance(points)
    if scale > 0.8:
        return image, points
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    exact = np.array([width / image.shape[1], height / image.shape[0]])
    shrunk = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return shrunk.astype(np.uint8, copy=False), (points + 0.5) * exact - 0.5


def _local_mean(image: NDArray[np.float32], mask: NDArray[np.bool_], sigma: float) -> NDArray[np.float32]:
    """Gaussian mean over the pixels in `mask` alone."""
    weight = mask.astype(np.float32)
    total = cv2.GaussianBlur(image * weight[..., None], (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    share = cv2.GaussianBlur(weight, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(total / np.maximum(share, 1e-6)[..., None], dtype=np.float32)


def _areas(triangles: Points) -> NDArray[np.float64]:
    """Twice the signed areas of (N, 3, 2) triangles."""
    (ax, ay), (bx, by) = (triangles[:, 1] - triangles[:, 0]).T, (triangles[:, 2] - triangles[:, 0]).T
    return np.asarray(ax * by - ay * bx)


def _lab(image: Image) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), dtype=np.float32)


def _filled(points: Points, shape: tuple[int, int]) -> Mask:
    hull = cv2.convexHull(np.rint(points).astype(np.int32))
    return np.asarray(cv2.fillConvexPoly(np.zeros(shape, np.uint8), hull, (255,)), dtype=np.uint8)


def _soft(mask: Mask, feather: int) -> Field:
    """0 outside `mask`, 1 from `feather` pixels inside it, a smooth step between."""
    depth = np.clip(cv2.distanceTransform(mask, cv2.DIST_L2, 5) / feather, 0, 1)
    return np.asarray(depth * depth * (3 - 2 * depth), dtype=np.float64)


def _mouth_is_open(points: Points) -> bool:
    lips = points[60:68]
    opening = np.linalg.norm(lips[1:4] - lips[7:4:-1], axis=1).mean()
    return bool(opening > OPEN_MOUTH * np.linalg.norm(lips[0] - lips[4]))


def _kept_mouth(points: Points, source_points: Points) -> slice:
    """Which of the target's points enclose the part of its mouth that the source has no texture for.

    An open mouth keeps its inside, over which the source's lips would be stretched. A closed one keeps its
    lips where the source's mouth is open: else a row of teeth is squeezed between them.
    """
    if _mouth_is_open(points):
        return slice(60, 68)
    return slice(48, 60) if _mouth_is_open(source_points) else slice(0)


def _cloned(below: Image, above: Image, mask: Mask) -> Image:
    """`above` inside the mask, its gradients kept and its rim that of `below` (Poisson blending, Perez et al., 2003).

    Hair on the mask's rim tints what is inside: keep the mask inside the skin.
    """
    inner = mask.copy()
    inner[[0, 1, -2, -1]] = 0
    inner[:, [0, 1, -2, -1]] = 0
    x, y, width, height = cv2.boundingRect(inner)
    if not width or not height:
        return above
    centre = (x + width // 2, y + height // 2)  # of the mask's box: the clone stays where it is
    return np.asarray(cv2.seamlessClone(above, below, inner, centre, cv2.NORMAL_CLONE), dtype=np.uint8)


def _blend(below: Image, above: Image, weight: Field) -> Image:
    mixed = below + weight[..., None] * (above.astype(np.float64) - below)
    return np.rint(mixed).astype(np.uint8)
