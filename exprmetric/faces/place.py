"""Where faces stand in pictures of one scene: which face of another picture stands where this one's stood.

A *place* is a box as shares of its picture's width and height, so that pictures of several sizes can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Place = npt.NDArray[np.float64]
"""(4,) x0, y0, x1, y1 as shares of width and height, 0..1."""
Size = tuple[int, int]
"""Height and width, px."""

LEAST_OVERLAP = 0.1
"""Least intersection over union of the places of one face in two pictures."""
TIE = 0.1
"""Overlaps that differ by less decide nothing if the faces say otherwise."""
NOT_THERE = "no face where the target's was"


def iou(a: Place, b: Place) -> float:
    """Intersection over union of two boxes x0, y0, x1, y1; 0..1."""
    overlap = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - overlap
    return float(overlap / union) if union > 0 else 0.0


def place_of(box: Place, size: Size) -> Place:
    """(4,) a box in px as shares of the picture's width and height."""
    height, width = size
    return np.asarray(box / np.array([width, height, width, height], np.float64))


def box_text(box: npt.NDArray[np.float64] | None) -> str:
    """`x0 y0 x1 y1` of a box (4,) in px, in whole px; '' for None."""
    return "" if box is None else " ".join(str(round(v)) for v in box.tolist())


def one_to_one(
    places: Sequence[Place], others: Sequence[Place], alike: npt.ArrayLike | None = None
) -> list[int | None]:
    """Which face of another picture belongs to each of this one's: each to one at most, by the sum of overlaps.

    Args:
        places: faces of this picture.
        others: faces of the other one.
        alike: (N, M) 0..1, how alike the faces are otherwise; it decides where places hardly do (`TIE`).

    Returns:
        N numbers of faces of the other picture; None where none is left that overlaps by `LEAST_OVERLAP`.
    """
    from scipy.optimize import linear_sum_assignment

    found: list[int | None] = [None] * len(places)
    if not len(places) or not len(others):
        return found
    overlaps = np.array([[iou(a, b) for b in others] for a in places])
    possible = overlaps >= LEAST_OVERLAP
    gain = np.where(possible, 1.0 + overlaps + (0.0 if alike is None else TIE * np.asarray(alike, np.float64)), 0.0)
    for face, other in zip(*(indices.tolist() for indices in linear_sum_assignment(gain, maximize=True)), strict=True):
        if possible[face, other]:
            found[face] = other
    return found


def at_place(place: Place, candidates: Sequence[Place], others: Sequence[Place] = ()) -> int | None:
    """Which face of another picture stands where this one's stands.

    Args:
        place: of a face.
        candidates: the faces of the other picture.
        others: the other faces of its own picture. Where one of them is nearer to the candidate, the candidate is
            that one's.

    Returns:
        The number of the candidate that overlaps best; None where none does by `LEAST_OVERLAP`.
    """
    overlaps = [iou(place, c) for c in candidates]
    best = int(np.argmax(overlaps)) if overlaps else -1
    if best < 0 or overlaps[best] < LEAST_OVERLAP:
        return None
    return None if any(iou(o, candidates[best]) > overlaps[best] for o in others) else best
