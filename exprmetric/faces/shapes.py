"""What the shape of a picture says of it beside its target's: the same scene, a crop of it, or several side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from exprmetric.faces.place import Place, Size, iou

SHAPE = 0.03
"""By how much aspect ratios may differ: a picture of 200 px whose sides were rounded, or cut to whole blocks of 8."""
PANELS = 4
"""Pictures in a row or column of a grid, at most."""
PANEL_OVERLAP = 0.4
"""Least overlap of a face's place in its panel with that of the target's."""


def other_shape(target: Size, other: Size) -> bool:
    """Whether two pictures, (height, width), can't show the same scene from edge to edge."""
    return abs(math.log(other[1] / other[0] * target[0] / target[1])) > math.log1p(SHAPE)


def is_grid(target: Size, targets: Sequence[Place], other: Size, others: Sequence[Place]) -> bool:
    """Whether a picture looks like several of the target's shape side by side: source, target and swap, perhaps.

    So it is where two panels show a face at the place of one of the target's, or where a picture of another shape is
    made of panels of the target's very size.

    Args:
        target: height and width of the target's picture.
        other: height and width of the other one.
        targets: places of the faces in the target's picture.
        others: places of those in the other one.
    """
    for rows in range(1, PANELS + 1):
        for columns in range(1, PANELS + 1):
            panel = other[0] // rows, other[1] // columns
            if rows * columns == 1 or 0 in panel or other_shape(target, panel):
                continue
            sides = [abs(p / t - 1) for p, t in zip(panel, target, strict=True)]
            if max(sides) <= 0.01 and other_shape(target, other):
                return True
            if len(_filled(rows, columns, targets, others)) > 1:
                return True
    return False


def _filled(rows: int, columns: int, targets: Sequence[Place], others: Sequence[Place]) -> set[tuple[int, int]]:
    """The panels that show a face where the target's picture does."""
    found = set()
    for place in others:
        scaled = place * [columns, rows, columns, rows]
        cell = np.floor((scaled[:2] + scaled[2:]) / 2)
        inside = scaled - np.tile(cell, 2)
        if any(iou(inside, t) >= PANEL_OVERLAP for t in targets):
            found.add((int(cell[0]), int(cell[1])))
    return found
