"""A comparison of models as one self-contained page: verdict, forest plot, numbers, where models differ most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exprmetric.comparing.compare import Comparison, Duel
from exprmetric.comparing.compared import all_differences, left_over, limits, matrices, verdicts
from exprmetric.errors import ImageError, InputError
from exprmetric.io.environment import package_version
from exprmetric.io.images import read_image
from exprmetric.io.sheet import Number
from exprmetric.report.crops import jpeg_uri
from exprmetric.report.figures import Tick, scale, ticks
from exprmetric.report.html import render, write_page

MOST_NAMES = 500
"""Rows that the page names for each reason."""
MOST_DUELS = 12
"""Pairs of models of which the page shows pictures."""
WIDTH, LEFT, RIGHT, ROW = 380, 14, 14, 44
"""Of the forest plot, SVG units."""
MARGIN = 0.35
"""Of a face's box that is shown around it."""


@dataclass(frozen=True)
class Line:
    """The primary difference of two models: places in SVG units, and the same as text."""

    label: str
    text: str
    y: float
    at: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Forest:
    """Primary differences of every two models on one scale, and where 0 is."""

    lines: tuple[Line, ...]
    ticks: tuple[Tick, ...]
    zero: float
    width: float
    height: float
    left_is: str


@dataclass(frozen=True)
class Shown:
    """A pair on which two models differ much: pictures with what stands below each."""

    pictures: tuple[tuple[str, str], ...]


def forest(comparison: Comparison) -> Forest | None:
    """The plot; None where nothing could be compared."""
    found = [(duel, d) for duel in comparison.duels if (d := duel.primary) is not None]
    if not found:
        return None
    ends = [v for _, d in found for v in (d.difference, d.low, d.high, 0.0) if v == v]
    room = 0.05 * ((max(ends) - min(ends)) or 1.0)
    low, high = min(ends) - room, max(ends) + room
    x = scale(low, high, LEFT, WIDTH - RIGHT)
    lines = []
    for i, (duel, d) in enumerate(found):
        number = Number(d.difference, d.low, d.high, "+.3f")
        known = d.low == d.low
        label = f"{duel.a} − {duel.b}"
        lines.append(
            Line(
                label,
                f"{number}, p {Number(d.p_holm, form='p')}",
                30 + i * ROW,
                x(d.difference),
                x(d.low) if known else None,
                x(d.high) if known else None,
            )
        )
    marks = tuple(Tick(x(v), f"{v:g}") for v in ticks(low, high))
    left_is = "worse" if comparison.primary[1] in ("kept", "ratio", "nearer_to_source") else "better"
    return Forest(tuple(lines), marks, x(0.0), WIDTH, 30 + len(lines) * ROW + 18, left_is)


def examples(duel: Duel) -> Iterator[Shown]:
    """Target and both swaps of the pairs on which two models differ most; files that are gone are left out."""
    for e in duel.examples:
        try:
            pictures = (
                (_face(e.target, e.box_target), "target"),
                (_face(e.swapped_a, e.box_a), f"{duel.a}: t2c {e.a:.3f}"),
                (_face(e.swapped_b, e.box_b), f"{duel.b}: t2c {e.b:.3f}"),
            )
        except ImageError:
            continue
        yield Shown(pictures)


def _face(path: str, box: str) -> str:
    """The face with some room around it as a data URI; the whole picture where its box isn't known."""
    image = read_image(path)
    numbers: Sequence[float] = [float(v) for v in box.split()]
    if len(numbers) == 4:
        x0, y0, x1, y1 = numbers
        half = (0.5 + MARGIN) * max(x1 - x0, y1 - y0)
        middle = ((x0 + x1) / 2, (y0 + y1) / 2)
        (left, right), (top, bottom) = (
            (max(0, round(m - half)), min(size, round(m + half)))
            for m, size in zip(middle, (image.shape[1], image.shape[0]), strict=True)
        )
        if right - left > 1 and bottom - top > 1:
            image = np.ascontiguousarray(image[top:bottom, left:right])
    return jpeg_uri(image)


def write_html(comparison: Comparison, path: Path) -> None:
    """Write the page; its folder is made.

    Raises:
        InputError: the file can't be written.
    """
    page = render(
        "compare.html",
        comparison=comparison,
        summary={"alarms": comparison.alarms},
        version=package_version("exprmetric"),
        verdicts=verdicts(comparison),
        forest=forest(comparison),
        matrices=list(matrices(comparison)) if len(comparison.models) > 2 else [],
        differences=all_differences(comparison.duels),
        limits=[(duel, list(limits(duel))) for duel in comparison.duels],
        examples=[(duel, list(examples(duel))) for duel in comparison.duels[:MOST_DUELS]],
        left_over=[(duel, list(left_over(duel, MOST_NAMES))) for duel in comparison.duels],
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_page(path, page)
    except OSError as error:
        raise InputError(f"can't write {path}: {error}") from error
