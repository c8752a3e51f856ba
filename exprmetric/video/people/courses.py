"""A person's expressions in order of time: FaceQA, one face a frame, temporal median pooling (paper 004)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.choices import QUALITIES
from exprmetric.errors import InputError
from exprmetric.video.faces import quality
from exprmetric.video.faces.spool import Spool, blocks, readable, take
from exprmetric.video.faces.table import VideoFaces
from exprmetric.video.people.people import NOBODY, People

POOL = 3
"""Frames of the median filter (paper 004)."""

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Course:
    """The M faces of one person in one video that can be used, in order of time.

    Attributes:
        video: its number.
        person: of `People`.
        rows: (M,) of the `VideoFaces`.
        frame: (M,) index of its frame in the video.
        place: (M,) which of the frames that were looked at, 0, 1, …, each is in.
        start: (M,) seconds from which its frame is shown.
        end: (M,) seconds until which it is shown.
        vectors: (M, D) float32, pooled; a view of a temporary file where they are many.
    """

    video: int
    person: int
    rows: Ints
    frame: Ints
    place: Ints
    start: Floats
    end: Floats
    vectors: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Left:
    """Faces of a video that no course has, by why: `nobody`, `unfit` by FaceQA, `unread` by the method, `double`."""

    faces: int
    used: int
    nobody: int
    unfit: int
    unread: int
    double: int


def courses(
    videos: Sequence[VideoFaces], people: People, method: str, *, required: str = "paper004", pool: int = POOL
) -> tuple[list[Course], list[Left]]:
    """The courses of all people through all videos, and for each video which faces they leave out.

    Args:
        videos: with vectors of `method`.
        people: found in the same videos.
        required: `paper004` takes faces that pass FaceQA, `any` takes all.
        pool: frames of the median filter, odd.

    Raises:
        InputError: `required` is unknown or `pool` is not odd.
    """
    if required not in QUALITIES:
        raise InputError(f"unknown quality {required!r}; known: {', '.join(QUALITIES)}")
    if pool < 1 or pool % 2 == 0:
        raise InputError(f"pool must be an odd number of frames, got {pool}")
    found, left = [], []
    for v, video in enumerate(videos):
        labels = people.labels[v]
        fit = quality.passes(video.sharpness, video.yaw) if required == "paper004" else np.ones(len(video), bool)
        read = readable(video.vectors[method])
        somebody = labels != NOBODY
        good = somebody & fit & read
        used = 0
        for person in np.unique(labels[good]).tolist():
            course = _course(v, person, video, np.flatnonzero(good & (labels == person)), method, pool)
            used += len(course)
            found.append(course)
        left.append(
            Left(
                faces=len(video),
                used=used,
                nobody=int((~somebody).sum()),
                unfit=int((somebody & ~fit).sum()),
                unread=int((somebody & fit & ~read).sum()),
                double=int(good.sum()) - used,
            )
        )
    return found, left


def _course(v: int, person: int, video: VideoFaces, rows: Ints, method: str, pool: int) -> Course:
    sides = video.box[rows, 2:] - video.box[rows, :2]
    order = np.lexsort((-sides.prod(axis=1), video.frame[rows]))  # of two faces in a frame the larger comes first
    rows = rows[order]
    rows = rows[np.unique(video.frame[rows], return_index=True)[1]]
    place = np.searchsorted(video.all_frames, video.frame[rows])
    ends = _ends(video)
    vectors = pooled(video.vectors[method], rows, place, video.track[rows], pool)
    return Course(v, person, rows, video.frame[rows], place, video.all_times[place], ends[place], vectors)


def _ends(video: VideoFaces) -> Floats:
    """(F,) when the frames that were looked at give way to the next; the last is shown as long as most."""
    times = video.all_times
    step = video.step if len(times) > 1 else (1 / video.rate if video.rate > 0 else 0.04)
    return np.append(times[1:], times[-1] + step)


def pooled(vectors: Any, rows: Ints, place: Ints, track: Ints, extent: int = POOL) -> npt.NDArray[np.float32]:
    """Component-wise median of each face and its neighbours in time.

    Neighbours are in the `extent` frames around it and of the same track: nothing is pooled over a cut, or over frames
    without a face. Of two faces the median is the mean.

    Args:
        vectors: (N, D) float32.
        rows: (M,) those that are of the course.
        place: (M,) numbers of their frames, increasing.
        track: (M,).
        extent: frames, odd.

    Returns:
        (M, D).
    """
    reach = extent // 2
    found = Spool({"vectors": np.empty((0, vectors.shape[1]), np.float32)})
    for block in blocks(len(rows)):
        low, high = max(block.start - reach, 0), min(block.stop + reach, len(rows))  # with the neighbours of its ends
        x = take(vectors, rows[low:high])
        pool = _medians(x, place[low:high], track[low:high], extent)
        found.add({"vectors": pool[block.start - low : block.stop - low]})
    return found.arrays()["vectors"]


def _medians(x: npt.NDArray[np.float32], at: Ints, who: Ints, extent: int) -> npt.NDArray[np.float32]:
    if extent == 1 or not len(x):
        return x
    wanted = at[:, None] + np.arange(-(extent // 2), extent // 2 + 1)
    index = np.minimum(np.searchsorted(at, wanted), len(at) - 1)
    there = (at[index] == wanted) & (who[index] == who[:, None])
    whole = there.all(axis=1)
    found = np.empty_like(x)
    found[whole] = np.median(x[index[whole]], axis=1)
    for k in np.flatnonzero(~whole):
        found[k] = np.median(x[index[k][there[k]]], axis=0)
    return found


def nearest_moments(values: npt.ArrayLike, times: npt.ArrayLike, count: int, apart: float) -> list[int]:
    """Which moments have the smallest values, smallest first, each at least `apart` seconds from those before it.

    Args:
        values: (M,); NaN is never chosen. times: (M,) s.
    """
    x, when = np.asarray(values, np.float64), np.asarray(times, np.float64)
    free = np.isfinite(x)
    found: list[int] = []
    for i in np.argsort(np.where(free, x, np.inf), kind="stable"):
        if len(found) == count or not np.isfinite(x[i]):
            break
        if free[i]:
            found.append(int(i))
            free &= np.abs(when - when[i]) >= apart - 1e-9
    return found
