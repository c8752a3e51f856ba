"""Which expressions a person shows: Ward's clusters of all faces, one representative face each (paper 004)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exprmetric.errors import InputError
from exprmetric.video.faces.spool import take
from exprmetric.video.people.courses import Course

CLUSTERS = 10
"""N (paper 004)."""
MOST = 4000
"""Faces of a person that are clustered, evenly drawn of all: Ward's method takes the square of their number."""


@dataclass(frozen=True)
class Expression:
    """A cluster of a person's faces and the face that stands for it, which is nearest to all others in sum.

    Attributes:
        video: number of the representative's video.
        row: its row in the video's `VideoFaces`.
        frame: its frame.
        time: its time, s.
        share: of the person's faces that were clustered, 0..1.
        faces: how many.
        videos: in how many videos.
        spread: mean distance of the cluster's faces to the representative.
    """

    person: int
    video: int
    row: int
    frame: int
    time: float
    share: float
    faces: int
    videos: int
    spread: float


@dataclass(frozen=True)
class Digest:
    """A person's expressions, the most frequent first, out of `clustered` of `faces` faces."""

    person: int
    expressions: tuple[Expression, ...]
    faces: int
    clustered: int


def digest(person: int, found: Sequence[Course], *, clusters: int = CLUSTERS) -> Digest:
    """Summarise one person over several videos.

    Args:
        person: whose courses are taken.
        found: courses of all people; vectors are compared by Euclidean distance.
        clusters: N; fewer where there are fewer different faces.

    Raises:
        InputError: `clusters` is below 1.
    """
    if clusters < 1:
        raise InputError(f"the number of clusters must be 1 or more, got {clusters}")
    mine = [c for c in found if c.person == person and len(c)]
    if not mine:
        return Digest(person, (), 0, 0)
    total = sum(len(c) for c in mine)
    drawn = np.unique(np.linspace(0, total - 1, min(total, MOST)).round().astype(np.intp))
    ends = np.cumsum([len(c) for c in mine])
    parts = np.split(drawn, np.searchsorted(drawn, ends[:-1]))
    vectors = np.concatenate([take(c.vectors, p - (end - len(c))) for c, p, end in zip(mine, parts, ends, strict=True)])
    vectors = vectors.astype(np.float64)
    video = np.concatenate([np.full(len(c), c.video) for c in mine])[drawn]
    row = np.concatenate([c.rows for c in mine])[drawn]
    frame = np.concatenate([c.frame for c in mine])[drawn]
    start = np.concatenate([c.start for c in mine])[drawn]
    labels = ward(vectors, clusters)
    expressions = []
    for label in range(int(labels.max()) + 1):
        members = np.flatnonzero(labels == label)
        best, spread = medoid(vectors[members])
        i = members[best]
        expressions.append(
            Expression(
                person=person,
                video=int(video[i]),
                row=int(row[i]),
                frame=int(frame[i]),
                time=float(start[i]),
                share=len(members) / len(drawn),
                faces=len(members),
                videos=len(np.unique(video[members])),
                spread=spread,
            )
        )
    expressions.sort(key=lambda e: (-e.faces, e.video, e.time))
    return Digest(person, tuple(expressions), total, len(drawn))


def ward(vectors: npt.ArrayLike, clusters: int) -> npt.NDArray[np.intp]:
    """Agglomerative clustering: Ward's linkage, Euclidean.

    Args:
        vectors: (N, D). Takes 4 N² bytes.
        clusters: at most; fewer when there are fewer distinct vectors.

    Returns:
        (N,) 0, 1, … in order of the first vector of each.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    x = np.asarray(vectors, np.float64)
    if len(x) < 2:
        return np.zeros(len(x), np.intp)
    tree = linkage(x, "ward")
    different = 1 + int((tree[:, 2] > 0).sum())
    found = fcluster(tree, min(clusters, different), "maxclust")
    _, first, labels = np.unique(found, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[labels], np.intp)


def medoid(vectors: npt.ArrayLike) -> tuple[int, float]:
    """The row with the least sum of Euclidean distances to all others, and the mean of these (0 for a single one)."""
    from scipy.spatial.distance import cdist

    x = np.asarray(vectors, np.float64)
    sums = cdist(x, x).sum(axis=1)
    best = int(sums.argmin())
    return best, float(sums[best] / max(len(x) - 1, 1))
