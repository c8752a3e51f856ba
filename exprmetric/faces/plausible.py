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
    long = float((box[2:] - box[:2]).max())
    span = float(np.ptp(points, axis=0).max()) / long
    centre = points[17:].mean(0)
    low, high = SPAN
    if not np.isfinite(points).all() or not low <= span <= high or alignment.extent(alignment.five_points(points)) < 1:
        raise ImplausibleFaceError(f"the landmarks span {span:.2g} times the {what} (a face: {low:g} to {high:g})")
    if (centre < box[:2]).any() or (centre > box[2:]).any():
        raise ImplausibleFaceError(f"the landmarks lie outside the {what}")
