"""How near is the same expression? Distances below which a face gets a reference's tag, and how they are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exprmetric.errors import InputError
from exprmetric.methods import Method
from exprmetric.video.faces.spool import by_blocks, take
from exprmetric.video.people.courses import Course
from exprmetric.video.people.references import Reference

SAME_SHARE = 0.75
"""This share of the pairs with the same expression lies within a calibrated threshold …"""
OTHER_SHARE = 0.05
"""… unless more than this share of the pairs with different expressions would, too: then the threshold is where it is
this share."""
STEP_SHARE = 0.99
"""Without such pairs: within it lies this share of the steps from a frame to the next, over which an expression hardly
changes."""
LEAST_PAIRS = 10
"""Pairs of references of one tag that a calibration needs."""


@dataclass(frozen=True)
class Threshold:
    """A distance of one method, and what it was measured on."""

    value: float
    measured_on: str

    def __post_init__(self) -> None:
        if not (self.value > 0 and np.isfinite(self.value)):
            raise InputError(f"a threshold must be above 0, got {self.value}")


def _ferplus(
    value: float, same: float, other: float, counts: tuple[int, int, int] = (551, 28_555, 122_970)
) -> Threshold:
    faces, same_pairs, other_pairs = counts
    return Threshold(
        value,
        f"{faces} faces of FER+ test on which 8 of 10 raters agree: within it are {same:g} % of {same_pairs:,} pairs "
        f"with the same expression and {other:g} % of {other_pairs:,} pairs with different ones",
    )


CALIBRATED = {
    "feenet": Threshold(0.5, "paper 004: works well in practice"),
    "default": _ferplus(0.84, 75, 3.3, (559, 29_145, 126_816)),
    "expression-2": _ferplus(0.84, 75, 3.3, (559, 29_145, 126_816)),
    "expression-1": _ferplus(0.53, 75, 0.6),
    "lm68": _ferplus(0.30, 10, 5),
    "lm51": _ferplus(0.20, 11, 5),
    "blendshapes": _ferplus(0.97, 17, 5),
    "blendshapes-token": _ferplus(11.4, 24, 5),
    "3ddfa": _ferplus(0.88, 15, 5),
}
"""By method, for the distance that the method has by default: `calibrate` on faces found by SCRFD, at most 120 of each
expression, drawn at random. `python benchmarks/tag_thresholds.py ferplus.zip` measures those of FER+ again."""


def calibrate(same: npt.ArrayLike, other: npt.ArrayLike, measured_on: str) -> Threshold:
    """A threshold out of distances between faces with the same, and with different expressions (which may be none)."""
    value = float(np.quantile(np.asarray(same, np.float64), SAME_SHARE))
    different = np.asarray(other, np.float64)
    if len(different):
        value = min(value, float(np.quantile(different, OTHER_SHARE)))
    return Threshold(value, measured_on)


def threshold_of(
    method: Method,
    references: Sequence[Reference],
    found: Sequence[Course],
    asked: float | None = None,
) -> Threshold:
    """The one that was asked for; else the method's (`CALIBRATED`, or its maker's); else of the references; else of
    the videos.

    Args:
        method: whose vectors these are.
        references: with vectors of the method.
        found: courses of the videos that are tagged.

    Raises:
        InputError: there is nothing to calibrate on.
    """
    if asked is not None:
        return Threshold(asked, "asked for")
    if method.name in CALIBRATED:
        return CALIBRATED[method.name]
    if method.tag_threshold is not None:
        return Threshold(
            method.tag_threshold, "its manifest entry: of FEENet, what paper 004 found to work in practice"
        )
    same, other = _pairs(method, references)
    if len(same) >= LEAST_PAIRS:
        return calibrate(same, other, f"{len(same)} pairs of references of one tag, {len(other)} of different tags")
    steps = np.concatenate([np.empty(0), *(_steps(method, course) for course in found)])
    if not len(steps):
        raise InputError(
            f"no threshold is known for {method.name!r}, and neither the references ({len(same)} pairs of one tag; "
            f"{LEAST_PAIRS} are needed) nor the videos give one: ask for one"
        )
    value = max(float(np.quantile(steps, STEP_SHARE)), float(np.finfo(np.float32).eps))
    return Threshold(value, f"{len(steps)} steps from a frame to the next: {STEP_SHARE:.0%} are within")


def _pairs(method: Method, references: Sequence[Reference]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Distances between references that share a tag, and that share none."""
    i, j = np.triu_indices(len(references), 1)
    if not len(i):
        return np.empty(0), np.empty(0)
    vectors, tags = np.stack([r.vector for r in references]), [r.tags for r in references]
    far = method.distance(vectors[i], vectors[j])
    same = np.array([bool(tags[a] & tags[b]) for a, b in zip(i.tolist(), j.tolist(), strict=True)])
    return far[same], far[~same]


def _steps(method: Method, course: Course) -> npt.NDArray[np.float64]:
    near = np.flatnonzero(np.diff(course.place) == 1)
    if not len(near):
        return np.empty(0)
    return by_blocks(lambda rows: method.distance(take(course.vectors, rows), take(course.vectors, rows + 1)), near)
