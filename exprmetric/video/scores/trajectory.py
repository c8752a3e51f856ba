"""Trajectories: a method's vector in each frame, some frames missing; long ones are read some components at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from exprmetric.video.faces.spool import blocks, let_go, readable

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

_NUMBERS = 2**19
"""As many components are read at a time as hold this many numbers."""
_AHEAD = 1024
"""Frames that are read at a time where they are needed in order."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Frames at even steps of time, some of which are missing.

    Attributes:
        rows: (P,) the frames that are there.
        places: (P,) where they stand, 0 … E - 1.
        times: (E,) s.
    """

    rows: Ints
    places: Ints
    times: Floats

    @property
    def rate(self) -> float:
        """Steps a second; NaN of a single frame."""
        return (len(self.times) - 1) / float(self.times[-1] - self.times[0]) if len(self.times) > 1 else float("nan")

    def spread(self, values: npt.NDArray[np.floating[Any]]) -> Floats:
        """(E, …) the values of all frames (F, …) at the places of those that are there, NaN between them."""
        found = np.full((len(self.times), *values.shape[1:]), np.nan)
        found[self.places] = values[self.rows]
        return found

    def place(self, rows: Ints) -> Ints:
        """(E,) numbers of rows of all frames (F,) at the places of those that are there, -1 between them."""
        found = np.full(len(self.times), -1, np.intp)
        found[self.places] = rows[self.rows]
        return found


def grid(times: npt.ArrayLike, there: npt.ArrayLike) -> Grid:
    """Put the frames that are there on a grid whose step is the median of theirs.

    So a swap with half the frames of its target is compared at half the rate, and one that lacks a stretch has a gap.

    Args:
        times: (F,) s, increasing.
        there: (F,) bool.
    """
    rows = np.flatnonzero(np.asarray(there, bool))
    when = np.asarray(times, np.float64)[rows]
    steps = np.diff(when)
    if not len(steps):
        return Grid(rows, np.arange(len(rows)), when)
    ahead = np.maximum(np.rint(steps / np.median(steps)), 1).astype(np.intp)
    places = np.concatenate([[0], np.cumsum(ahead)])
    return Grid(rows, places, np.interp(np.arange(places[-1] + 1), places, when))


@dataclass(frozen=True, eq=False)
class Along:
    """An (E, D) trajectory that is read from the rows of a column when it is asked for; see `Trajectory`.

    Attributes:
        column: (N, D), which may be mapped from a file (see `spool`).
        rows: (E,) the row of each frame, -1 where there is none: NaN.
        known: (E,) whether the row is there and all of it is finite.
    """

    column: npt.NDArray[np.floating[Any]]
    rows: Ints
    known: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, column: npt.NDArray[np.floating[Any]], rows: Ints) -> Along:
        """`known` is looked up."""
        known = rows >= 0
        known[known] = readable(column, rows[known])
        return cls(column, rows, known)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.rows), int(self.column.shape[1])

    def part(self, frames: slice, components: slice) -> Floats:
        """The numbers of some frames and components."""
        rows = self.rows[frames]
        wanted = self.column[:, components]
        found = np.full((len(rows), wanted.shape[1]), np.nan)
        for block in blocks(len(rows)):
            there = rows[block] >= 0
            found[block][there] = wanted[rows[block][there]]
            let_go(self.column)
        return found


Trajectory: TypeAlias = npt.ArrayLike | Along
"""(N, D) or (N,) numbers, or those of an `Along`."""


def parts(*trajectories: Floats | Along) -> Iterator[tuple[Floats, ...]]:
    """Some components of all (N, D) trajectories at a time: (N, d) each."""
    count, width = trajectories[0].shape
    step = max(1, _NUMBERS // max(count, 1))
    for start in range(0, width, step):
        chosen = slice(start, start + step)
        yield tuple(t.part(slice(None), chosen) if isinstance(t, Along) else t[:, chosen] for t in trajectories)


def one(trajectory: Trajectory) -> Floats | Along:
    """A trajectory as it is read: (N, D) float64, or an `Along` as it is."""
    if isinstance(trajectory, Along):
        return trajectory
    x = np.asarray(trajectory, np.float64)
    return x[:, None] if x.ndim == 1 else x


def known(*trajectories: Trajectory) -> npt.NDArray[np.bool_]:
    """(N,) the frames in which all of them have numbers."""
    return np.asarray(np.logical_and.reduce([_known(t) for t in trajectories]))


def _known(trajectory: Trajectory) -> npt.NDArray[np.bool_]:
    if isinstance(trajectory, Along):
        return trajectory.known
    x = np.asarray(trajectory, np.float64)
    return np.asarray(np.isfinite(x).reshape(len(x), -1).all(1))


class Known:
    """The known frames of a trajectory, of which those near the ones that were asked for last are in memory."""

    def __init__(self, trajectory: Trajectory) -> None:
        self._x = one(trajectory)
        self._rows = np.flatnonzero(known(self._x))
        self._start, self._near = 0, np.empty((0, self._x.shape[1]))

    def __len__(self) -> int:
        return len(self._rows)

    def between(self, low: int, high: int) -> Floats:
        """(high - low, D) known frames low … high - 1."""
        if not self._start <= low <= high <= self._start + len(self._near):
            rows = self._rows[low : max(low + _AHEAD, high)]
            x, self._start = self._x, low
            if isinstance(x, Along):
                self._near = Along(x.column, x.rows[rows], x.known[rows]).part(slice(None), slice(None))
            else:
                self._near = x[rows]
        return self._near[low - self._start : high - self._start]


def runs(rows: npt.ArrayLike) -> list[slice]:
    """Uninterrupted runs of True, as slices in order."""
    padded = np.concatenate([[False], np.asarray(rows, bool), [False]])
    edges = np.flatnonzero(np.diff(padded.astype(np.int8)))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
