"""A run's checkpoints as one self-contained page: verdict, a curve a score, numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from exprmetric.comparing.compared import HEADINGS_HERE
from exprmetric.comparing.sequence import Curve, Run
from exprmetric.comparing.sequenced import coverage, limits, sheets, verdict
from exprmetric.errors import InputError
from exprmetric.io.environment import package_version
from exprmetric.io.sheet import Number
from exprmetric.report.figures import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axes, Tick, scale, ticks
from exprmetric.report.html import render, write_page

MOST_LABELS = 6
"""Checkpoints that are named below a curve: the first, the last, and some between."""
LONGEST = 12
"""Characters of such a name."""


@dataclass(frozen=True)
class Mark:
    """A checkpoint on a curve: places in SVG units, and the same as text."""

    x: float
    y: float
    low: float | None
    high: float | None
    text: str
    best: bool


@dataclass(frozen=True)
class Plot:
    """One score of one method over the checkpoints; `path` joins them."""

    title: str
    axes: Axes
    marks: tuple[Mark, ...]
    path: str


def plot(curve: Curve, names: Sequence[str]) -> Plot:
    """The curve with its intervals. Its axis does not begin at 0: what is asked is how it changes."""
    ends = [v for p in curve.points for v in (p.value, p.low, p.high) if v == v]
    room = 0.08 * (max(ends) - min(ends)) or 0.5
    low, high = min(ends) - room, max(ends) + room
    y = scale(low, high, HEIGHT - BOTTOM, TOP)
    x = scale(0, max(len(names) - 1, 1), LEFT + 16, WIDTH - RIGHT - 16)
    short, last = short_names(names), len(names) - 1
    named = sorted({round(i * last / (MOST_LABELS - 1)) for i in range(MOST_LABELS)})
    axes = Axes(
        tuple(Tick(x(i), short[i]) for i in named),
        tuple(Tick(y(v), f"{v:g}") for v in ticks(low, high)),
        "checkpoint",
        HEADINGS_HERE[curve.score],
    )
    marks = [
        Mark(
            x(i),
            y(p.value),
            y(p.low) if p.low == p.low else None,
            y(p.high) if p.high == p.high else None,
            f"{name}: {Number(p.value, p.low, p.high)}",
            i == curve.best,
        )
        for i, (name, p) in enumerate(zip(names, curve.points, strict=True))
    ]
    path = "M" + "L".join(f"{m.x} {m.y}" for m in marks)
    return Plot(f"{curve.method}: {HEADINGS_HERE[curve.score]}", axes, tuple(marks), path)


def short_names(names: Sequence[str]) -> list[str]:
    """What tells the names apart, for below an axis: without what all begin and end with, and cut to LONGEST."""
    first = re.sub(r"\d+$", "", _common(names))
    last = re.sub(r"^\d+", "", _common([n[len(first) :][::-1] for n in names])[::-1])
    cut = [n[len(first) : len(n) - len(last)] or n for n in names]
    return [n if len(n) <= LONGEST else f"{n[: LONGEST - 1]}…" for n in cut]


def _common(names: Sequence[str]) -> str:
    """What all of them begin with."""
    same = (len(set(letters)) == 1 for letters in zip(*names, strict=False))
    return min(names, key=len)[: sum(takewhile(bool, same))]


def write_html(run: Run, path: Path) -> None:
    """Write the page; its folder is made.

    Raises:
        InputError: the file can't be written.
    """
    names = [c.name for c in run.checkpoints]
    main = [c for c in run.curves if (c.method, c.score) == run.primary]
    page = render(
        "sequence.html",
        run=run,
        summary={"alarms": run.alarms},
        version=package_version("exprmetric"),
        verdict=verdict(run),
        plots=[plot(c, names) for c in [*main, *(c for c in run.curves if c not in main)]],
        sheets=sheets(run),
        coverage=coverage(run),
        limits=limits(run),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_page(path, page)
    except OSError as error:
        raise InputError(f"can't write {path}: {error}") from error
