"""The moments of videos whose expression is nearest to that of a query face, whoever shows it (paper 004)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exprmetric.errors import ImageError, InputError, LowQualityError, NoFaceError, UnreadableImageError
from exprmetric.io.tables import show
from exprmetric.methods import Method
from exprmetric.video.faces.spool import by_blocks
from exprmetric.video.people.courses import Course, nearest_moments

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
        far = by_blocks(lambda part: method.distance(part, np.broadcast_to(query, part.shape)), c.vectors)
        for i in nearest_moments(far, c.start, count, apart):
            row, frame = int(c.rows[i]), int(c.frame[i])
            moments.append(Moment(c.video, c.person, row, frame, float(c.start[i]), float(far[i])))
    return sorted(moments, key=lambda m: (m.distance, m.video, m.time))[:count]


def query_vector(query: Path, method: str, *, detector: str = "auto", provider: str = "cpu") -> npt.NDArray[np.float32]:
    """(D,) of the (largest) face in an image.

    Raises:
        NoFaceError: there is none. UnreadableImageError: it can't be read. ImageError: the method can't.
    """
    from exprmetric.evaluation.embed import embed_images

    (found,) = embed_images([query], method, detector=detector, provider=provider)
    if found.vector is None:
        kinds: dict[str, type[ImageError]] = {k.status: k for k in (NoFaceError, UnreadableImageError, LowQualityError)}
        raise kinds.get(found.status, ImageError)(f"the query {show(query)}: {found.reason}")
    return found.vector
