"""The moments of videos whose expression is nearest to that of a query face, whoever shows it (paper 004)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exprmetric.errors import InputError
from exprmetric.methods import Method
from exprmetric.video.courses import Course, nearest_moments

COUNT = 20
APART = 1.0
"""Seconds between two moments of one person in one video: the frames beside a hit are the same hit."""


@dataclass(frozen=True)
class Moment:
    """A face that was found: whose, where, when, and how far from the query. `row` is of the video's `VideoFaces`."""

    video: int
    person: int
    row: int
    frame: int
    time: float
    distance: float


def search(
    query: npt.NDArray[np.float32],
    found: Sequence[Course],
    method: Method,
    *,
    count: int = COUNT,
    apart: float = APART,
) -> list[Moment]:
    """The nearest moments, nearest first.

    Args:
        query: (D,) vector of the query face.
        found: courses of all people through all videos.
        method: whose distance is taken.
        count: at most.
        apart: s.

    Raises:
        InputError: `count` is below 1 or `apart` below 0.
    """
    if count < 1 or not apart >= 0:
        raise InputError(f"count must be 1 or more and apart 0 or more, got {count} and {apart}")
    moments = []
    for c in found:
        far = method.distance(c.vectors, np.broadcast_to(query, c.vectors.shape))
        for i in nearest_moments(far, c.start, count, apart):
            row, frame = int(c.rows[i]), int(c.frame[i])
            moments.append(Moment(c.video, c.person, row, frame, float(c.start[i]), float(far[i])))
    return sorted(moments, key=lambda m: (m.distance, m.video, m.time))[:count]
