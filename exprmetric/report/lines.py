"""Curves over time as numbers: paths, marks and bands of a wide figure that `templates/video_lines.html` draws."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.report.figures import BOTTOM, RIGHT, TOP, Axes, Scale, Tick, scale, ticks
from exprmetric.video.scores.trajectory import known, runs

WIDTH, HEIGHT = 1140, 210
"""Size of a figure, in SVG units."""
LEFT = 60
"""Room for the labels of the y axis."""
_COLUMNS = WIDTH - LEFT - RIGHT

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """A curve: its name, the number of its colour, its SVG path."""

    label: str
    series: int
    path: str


@dataclass(frozen=True)
class Mark:
    """A triangle on a curve, and what it says when pointed at; `kind` is its class in the page's style."""

    x: float
    y: float
    kind: str
    label: str


@dataclass(frozen=True)
class Band:
    """A stretch of time behind the curves."""

    x: float
    width: float
    label: str


@dataclass(frozen=True)
class LineChart:
    """A figure of curves over the same time."""

    title: str
    axes: Axes
    lines: tuple[Line, ...]
    marks: tuple[Mark, ...]
    bands: tuple[Band, ...]


Moments = Sequence[tuple[float, str, str, str]]
"""Time, name of the curve it stands on, kind, label."""


def line_chart(
    title: str,
    times: npt.ArrayLike,
    curves: Mapping[str, npt.ArrayLike],
    *,
    y_label: str,
    x_label: str = "seconds",
    low: float | None = None,
    high: float | None = None,
    span: float = 0.0,
    whole: bool = False,
    moments: Moments = (),
    bands: Sequence[tuple[float, float, str]] = (),
) -> LineChart:
    """Curves over time.

    Args:
        times: (N,) s, or what `x_label` says; increasing, at least one.
        curves: (N,) values by name; NaN leaves a gap.
        y_label: of the y axis.
        x_label: of the x axis.
        low: lower end of the y axis; by default the least value.
        high: upper end of the y axis; by default the greatest value.
        span: of the y axis at least.
        whole: whether `times` count something: no tick stands between two of them.
        moments: to be marked.
        bands: start, end, label of what is shaded.
    """
    when = np.asarray(times, np.float64)
    values = {name: np.asarray(v, np.float64) for name, v in curves.items()}
    bottom, top = _range(values.values(), low, high, span)
    first, last = float(when[0]), float(when[-1])
    last = last if last > first else first + 1.0
    x = scale(first, last, LEFT, WIDTH - RIGHT)
    y = scale(bottom, top, HEIGHT - BOTTOM, TOP)
    axes = Axes(
        tuple(Tick(x(v), f"{v:g}") for v in ticks(first, last, 10) if not whole or v == int(v)),
        tuple(Tick(y(v), f"{v:g}") for v in ticks(bottom, top, 4)),
        x_label,
        y_label,
        left=LEFT,
        right=WIDTH - RIGHT,
        bottom=HEIGHT - BOTTOM,
        width=WIDTH,
        height=HEIGHT,
    )
    lines = tuple(Line(name, i, path(when, v, x, y)) for i, (name, v) in enumerate(values.items()))
    marks = []
    for at, curve, kind, label in moments:
        value = values[curve][int(np.abs(when - at).argmin())]
        if np.isfinite(value):
            marks.append(Mark(x(at), y(float(value)), kind, label))
    inside = ((x(max(a, first)), x(min(b, last)), text) for a, b, text in bands)
    shaded = tuple(Band(a, round(max(b - a, 1.0), 2), text) for a, b, text in inside)
    return LineChart(title, axes, lines, tuple(marks), shaded)


def _range(values: Iterable[Floats], low: float | None, high: float | None, span: float) -> tuple[float, float]:
    """Ends of the y axis: around the known values, not below 0 where no value is."""
    finite = np.concatenate([v[np.isfinite(v)] for v in values])
    finite = finite if len(finite) else np.array([0.0, 1.0])
    bottom = float(finite.min()) if low is None else low
    top = float(finite.max()) if high is None else high
    room = max(0.05 * (top - bottom), (span - (top - bottom)) / 2)
    room = room if top - bottom + 2 * room > 0 else 0.5
    lowest = bottom - room if bottom < 0 else max(bottom - room, 0.0)
    bottom = lowest if low is None else low
    return bottom, max(top + room, bottom + span) if high is None else high


def path(times: Floats, values: Floats, x: Scale, y: Scale) -> str:
    """An SVG path through the known values, with gaps where they are not known; a single value is a dot.

    Of long curves each column of the figure keeps its first, lowest, highest and last value.
    """
    pieces = []
    for run in runs(known(values)):
        rows = _kept(times, values, run)
        points = [f"{x(float(times[i]))} {y(float(values[i]))}" for i in rows]
        pieces.append("M" + "L".join(points) + ("h0" if len(points) == 1 else ""))
    return "".join(pieces)


def _kept(times: Floats, values: Floats, run: slice) -> list[int]:
    rows = np.arange(run.start, run.stop)
    if len(times) <= 2 * _COLUMNS:
        return [int(i) for i in rows]
    span = float(times[-1] - times[0]) or 1.0
    column = np.floor((times[rows] - times[0]) / span * _COLUMNS).astype(np.intp)
    kept: set[int] = set()
    for part in np.split(rows, np.flatnonzero(np.diff(column)) + 1):
        inside = values[part]
        kept |= {int(part[0]), int(part[inside.argmin()]), int(part[inside.argmax()]), int(part[-1])}
    return sorted(kept)


def columns(table: Any, names: Sequence[str]) -> dict[str, Floats]:
    """Columns of a pyarrow table as float64, null as NaN; those that it doesn't have are left out."""
    return {
        n: np.asarray(table[n].to_numpy(zero_copy_only=False), np.float64) for n in names if n in table.column_names
    }
