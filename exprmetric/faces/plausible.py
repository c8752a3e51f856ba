"""Bounds that a face must keep, whichever detector found it: what lies outside is nonsense with a number on it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from exprmetric.errors import ImplausibleFaceError
from exprmetric.faces import alignment

SMALLEST = 16
"""Least longer side of a face's box, px: its eyes are some 6 px apart there, and landmarks stand on whole pixels."""
LONGEST = 2.0
"""Greatest ratio of a box's sides. Boxes of detectors reach 1.6, whole photographs 1.5."""
SPAN = (0.25, 1.6)
"""Extent of the 68 points, in longer sides of the box: 0.4 to 1.2 on 1,000 photographs of faces."""

FIVE_SPAN = (0.1, 0.8)
"""That of a detector's five points: 0.3 to 0.5 of frontal faces."""

Points = npt.NDArray[np.float64]


def check_box(box: Points, size: tuple[int, int], what: str) -> None:
    """Raises ImplausibleFaceError unless a face can fill this box.

    Args:
        box: (4,) x0, y0, x1, y1, px; of an aligned crop, the whole image.
        size: height and width of the image, px.
        what: what the box is, for the message.
    """
    width, height = (float(v) for v in box[2:] - box[:2])
    middle = (box[:2] + box[2:]) / 2
    if (middle < 0).any() or (middle > size[::-1]).any():
        raise ImplausibleFaceError(f"{what} lies outside the image")
    short, long = sorted((width, height))
    if long < SMALLEST:
        raise ImplausibleFaceError(
            f"{what} of {width:.0f} x {height:.0f} px is too small to read (needed: {SMALLEST} px)"
        )
    if long > LONGEST * short:
        raise ImplausibleFaceError(
            f"{what} of {width:.0f} x {height:.0f} px is no face: one side is {LONGEST:g} times the other"
        )


def check_points(points: Points, box: Points, what: str) -> None:
    """Raises ImplausibleFaceError unless the points can be those of a face that fills this box.

    Args:
        points: (68, 2) px.
        box: as in `check_box`.
        what: as in `check_box`.
    """
    _check(points, points[17:].mean(0), alignment.five_points(points), box, what, SPAN)


def check_five(points: Points, box: Points, what: str) -> None:
    """As `check_points`, of the five points, (5, 2) px, that the detector itself gives."""
    _check(points, points.mean(0), points, box, what, FIVE_SPAN)


def _check(points: Points, centre: Points, five: Points, box: Points, what: str, span: tuple[float, float]) -> None:
    wide = float(np.ptp(points, axis=0).max()) / float((box[2:] - box[:2]).max())
    low, high = span
    if not np.isfinite(points).all() or not low <= wide <= high or alignment.extent(five) < 1:
        raise ImplausibleFaceError(f"the landmarks span {wide:.2g} times the {what} (a face: {low:g} to {high:g})")
    if (centre < box[:2]).any() or (centre > box[2:]).any():
        raise ImplausibleFaceError(f"the landmarks lie outside the {what}")
