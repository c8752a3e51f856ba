"""The figures of a report as numbers: where each tick, dot and step stands. `templates/figures.html` draws them.

They are drawn as inline SVG by the template rather than by a plotting library: colours then follow light and dark, text
stays text, names are escaped in one place, and a report needs no more than Jinja2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Any

import numpy as np

from exprmetric.evaluation.rows import Floats, Rows
from exprmetric.evaluation.verdict import primary
from exprmetric.metrics.uncertainty import bootstrap_means

WIDTH, HEIGHT = 380, 270
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 12, 42
"""Size of a figure and the room around its axes, in SVG units; at full width a unit is about one px of a phone."""
ROW = 22
TEXT = 108
"""Room for numbers beside a calibration."""
SERIES = 6
"""Models with a colour of their own; further ones share the last."""
MOST_DOTS = 1000
BINS = 24

Scale = Callable[[float], float]


@dataclass(frozen=True)
class Tick:
    """A line of the grid: its place in SVG units and its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Axes:
    """Ticks and labels of both axes, and where the drawing area ends."""

    x: tuple[Tick, ...]
    y: tuple[Tick, ...]
    x_label: str
    y_label: str
    left: float = LEFT
    right: float = WIDTH - RIGHT
    top: float = TOP
    bottom: float = HEIGHT - BOTTOM
    width: float = WIDTH
    height: float = HEIGHT


@dataclass(frozen=True)
class Dot:
    """A point with the number of its series (for its colour) and what it says when pointed at."""

    x: float
    y: float
    series: int
    label: str


@dataclass(frozen=True)
class Scatter:
    """Identity transfer against expression error: dots, anchors, and of how many triplets."""

    method: str
    axes: Axes
    dots: tuple[Dot, ...]
    anchors: tuple[Dot, ...]
    shown: int
    total: int


@dataclass(frozen=True)
class Histogram:
    """How often t2c and s2c (where there are sources) have each value: outlines as SVG paths, where the means stand.

    `about` says below the figure whose they are.
    """

    method: str
    axes: Axes
    outlines: dict[str, str]
    means: dict[str, float]
    about: str


@dataclass(frozen=True)
class Bar:
    """A model on the way from "nothing swapped" to "source pasted": places in SVG units, and the same as text."""

    label: str
    y: float
    at: float
    low: float | None
    high: float | None
    text: str


@dataclass(frozen=True)
class Place:
    """Where a mean t2c stands between its anchors, for a card: places in SVG units, and the same as text.

    Attributes:
        about: whose it is.
        score: mean t2c as `summary.json` has it.
        n: measured triplets.
        far: what stands at the far anchor.
    """

    about: str
    method: str
    score: Mapping[str, Any]
    n: int
    at: float
    low: float | None
    high: float | None
    end: float
    far: str
    share: float


@dataclass(frozen=True)
class Calibration:
    method: str
    axes: Axes
    bars: tuple[Bar, ...]
    nothing: float
    pasted: float


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers (1, 2 or 5 times a power of ten apart) within [low, high]."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** floor(log10(rough))
    step = min((m * power for m in (1, 2, 5, 10)), key=lambda s: abs(s - rough))
    return [round(i * step, 10) for i in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]


def scale(low: float, high: float, start: float, end: float) -> Scale:
    """A linear map of [low, high] onto [start, end], rounded to a hundredth of an SVG unit."""
    span = (high - low) or 1.0
    return lambda value: round(start + (value - low) / span * (end - start), 2)


def _axes(
    x_high: float, y_high: float, x_label: str, y_label: str, *, whole: bool = False
) -> tuple[Axes, Scale, Scale]:
    x = scale(0.0, x_high, LEFT, WIDTH - RIGHT)
    y = scale(0.0, y_high, HEIGHT - BOTTOM, TOP)
    y_ticks = [v for v in ticks(0.0, y_high) if not whole or v == int(v)]
    return (
        Axes(
            tuple(Tick(x(v), f"{v:g}") for v in ticks(0.0, x_high)),
            tuple(Tick(y(v), f"{v:g}") for v in y_ticks),
            x_label,
            y_label,
        ),
        x,
        y,
    )


def spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers 0..count-1, evenly over all."""
    return list(range(count)) if count <= most else [i * count // most for i in range(most)]


def identity_transfer(t2c: Floats, s2c: Floats) -> Floats:
    """Where swapped faces' identities lie between the targets' (0) and the sources' (1): t2c / (t2c + s2c)."""
    whole = t2c + s2c
    return np.asarray(np.where(whole > 0, t2c / np.where(whole > 0, whole, 1.0), 0.5))


def scatter(rows: Rows, method: str, identity: str, series: dict[str, int]) -> Scatter:
    """One dot a triplet that was measured.

    Args:
        rows: at least one is measured.
        method: whose t2c is the expression error.
        identity: the method that tells people apart.
        series: number of each model's colour.
    """
    measured = np.flatnonzero(rows.ok)
    t2c = rows.distance(method, "t2c")
    codes, names = rows.codes("model")
    s2t = rows.distance(method, "s2t")
    pasted = {name: float(s2t[own].mean()) for i, name in enumerate(names) if (own := rows.ok & (codes == i)).any()}
    highest = max(*pasted.values(), float(t2c[measured].max())) * 1.05 or 1.0
    axes, x, y = _axes(1.0, highest, "identity transfer (0 target, 1 source)", "expression error, t2c")
    chosen = measured[spread(len(measured), MOST_DOTS)]
    transfer = identity_transfer(rows.distance(identity, "t2c")[chosen], rows.distance(identity, "s2c")[chosen])
    shown = zip(rows.records(chosen.tolist()), transfer.tolist(), t2c[chosen].tolist(), strict=True)
    dots = [
        Dot(x(moved), y(far), series[row["model"]], f"{row['id']}: identity {moved:.2f}, {method} t2c {far:.3f}")
        for row, moved, far in shown
    ]
    ends = [  # models of other pairs have other anchors
        Dot(
            x(1.0), y(far), series[name], "source pasted" + (f": {name or 'no model named'}" if len(pasted) > 1 else "")
        )
        for name, far in sorted(pasted.items(), key=lambda p: -p[1])
    ]
    anchors = (Dot(x(0.0), y(0.0), 0, "nothing swapped"), *ends)
    return Scatter(method, axes, tuple(dots), anchors, len(dots), len(measured))


def hidden(
    methods: Mapping[str, Any],
    method: str,
    privacy: Mapping[str, Any],
    models: Mapping[str, Any],
    series: Mapping[str, int],
) -> Scatter | None:
    """Expression kept against re-identification: a dot a model; the best stands at the lower left.

    Args:
        methods: scores of the whole result, with the anchors.
        method: whose t2c is the expression error.
        privacy: of the summary.
        models: scores of each model by its name; {} where none is named.
        series: number of each model's colour.

    Returns:
        None where there is no other target to compare with, or nothing to draw.
    """
    whole = methods[method]
    stranger = whole["anchors"].get("another_target", {}).get("mean_t2c")
    parts = {name: (models[name][method], found) for name, found in privacy["models"].items() if name in models}
    parts = parts or {"": (whole, privacy)}
    known = {
        name: (score["mean_t2c"]["value"], found["rank1"]["value"])
        for name, (score, found) in parts.items()
        if score["mean_t2c"]["value"] is not None and found["rank1"]["value"] is not None
    }
    if not stranger or not known:
        return None
    highest = 1.15 * max(stranger, *(t2c for t2c, _ in known.values()))
    axes, x, y = _axes(1.0, highest, "found again, rank-1 (0 nobody, 1 everybody)", "expression error, mean t2c")
    dots = [
        Dot(x(found), y(t2c), series.get(name, 0), f"{name or 'all'}: rank-1 {found:.2f}, {method} mean t2c {t2c:.3f}")
        for name, (t2c, found) in known.items()
    ]
    same = privacy["unchanged"]["value"] if privacy["unchanged"] else 1.0
    corners = (
        Dot(x(privacy["chance"] or 0.0), y(stranger), 0, "another target's face"),
        Dot(x(same), y(0.0), 0, "nothing changed"),
    )
    return Scatter(method, axes, tuple(dots), corners, len(dots), len(dots))


def histograms(rows: Rows, methods: Sequence[str], models: Sequence[str]) -> list[Histogram]:
    """Of one model a figure for each method; of several one for each model by the primary method, on one scale.

    Args:
        rows: at least one is measured.
        methods: at least one.
        models: those that stand side by side; none where all rows are of one.
    """
    if not models:
        return [histogram(rows, method) for method in methods]
    chosen = primary(methods)
    codes, names = rows.codes("model")
    own = {name: rows.ok & (codes == names.index(name)) for name in models}
    measured = np.any(list(own.values()), axis=0)
    distances = [rows.distance(chosen, name)[measured] for name in ("t2c", "s2c")]
    highest = max((float(np.nanmax(d)) for d in distances if np.isfinite(d).any()), default=0.0)
    return [histogram(rows.where(o), chosen, name, highest) for name, o in own.items() if o.any()]


def histogram(rows: Rows, method: str, about: str = "", highest: float = 0.0) -> Histogram:
    """Distributions of t2c and s2c over the same bins.

    Args:
        rows: at least one is measured.
        method: whose distances.
        about: whose these are; '' where `method` says all.
        highest: end of the scale; 0 for the greatest distance.
    """
    values = {name: rows.distance(method, name)[rows.ok] for name in ("t2c", "s2c")}
    values = {name: known for name, v in values.items() if len(known := v[np.isfinite(v)])}
    highest = highest or max(float(v.max()) for v in values.values()) or 1.0
    counts = {name: np.histogram(v, BINS, (0.0, highest))[0] for name, v in values.items()}
    top = float(max(c.max() for c in counts.values()))
    axes, x, y = _axes(highest, top * 1.05, f"distance ({method})", "triplets", whole=True)
    edges = [x(highest * i / BINS) for i in range(BINS + 1)]

    def outline(count: Sequence[int]) -> str:
        steps = "".join(f"V{y(float(n))}H{edges[i + 1]}" for i, n in enumerate(count))
        return f"M{edges[0]} {y(0.0)}{steps}V{y(0.0)}Z"

    return Histogram(
        method,
        axes,
        {name: outline(c.tolist()) for name, c in counts.items()},
        {name: x(float(v.mean())) for name, v in values.items()},
        f"{about} (n {int(rows.ok.sum())})" if about else method,
    )


FAR = {"source_pasted": "source pasted", "another_target": "another target's face"}
PLACE = 240
"""Length of a card's scale, SVG units."""


def place(about: str, scores: Mapping[str, Any], method: str = "") -> Place | None:
    """A card's scale from nothing swapped to the far anchor, which is the pasted source where there are sources.

    Args:
        about: whose scores these are.
        scores: of a method, as `summary.json` has them.
        method: named on the card; '' where `about` names it.

    Returns:
        None where nothing was measured, or there is no far anchor.
    """
    anchors, score = scores.get("anchors", {}), scores["mean_t2c"]
    far = next((a for a in FAR if anchors.get(a, {}).get("mean_t2c")), None)
    if far is None or score["value"] is None:
        return None
    end = anchors[far]["mean_t2c"]
    low, high = score["ci95"]
    x = scale(0.0, 1.05 * max(end, score["value"], high or 0.0), 4, PLACE - 4)
    left, right = (None if v is None else x(v) for v in (low, high))
    at, share = x(score["value"]), score["value"] / end
    return Place(about, method, score, scores["n"], at, left, right, x(end), FAR[far], share)


def places(methods: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]]) -> list[Place]:
    """Of one model a card for each method, of several one for each model by the primary method.

    Args:
        methods: scores of the whole, by method.
        models: of each model that stands beside others, by its name and by method; {} for one model.
    """
    if not models:
        return [p for name, found in methods.items() if (p := place(name, found))]
    chosen = primary(list(methods))
    return [p for name, found in models.items() if (p := place(name or "no model named", found[chosen], chosen))]


def calibration(rows: Rows, method: str, *, seed: int = 0) -> Calibration | None:
    """Each model between its anchors: mean t2c / mean s2t, 0 = nothing swapped, 1 = source pasted; over 1 is worse.

    The interval is that of the ratio, linearised: the bootstrap over groups of (t2c - ratio x s2t) / mean s2t. None
    where all distances between sources and targets are 0.
    """
    codes, models = rows.codes("model")
    groups = rows.codes("group")[0]
    parts = {name: rows.ok & (codes == i) for i, name in enumerate(models)}
    parts = {name: part for name, part in parts.items() if part.any()}
    unnamed = "no model named" if len(parts) > 1 else "all triplets"  # several models are never pooled
    found = []
    for name, part in ((n or unnamed, p) for n, p in parts.items()):
        t2c, s2t = (rows.distance(method, d)[part] for d in ("t2c", "s2t"))
        if s2t.mean() > 0:
            ratio = float(t2c.mean() / s2t.mean())
            rest = {"ratio": (t2c - ratio * s2t) / s2t.mean()}
            low, high = bootstrap_means(rest, groups[part], seed=seed)["ratio"]
            found.append((name, len(t2c), ratio, ratio + low, ratio + high))
    if not found:
        return None
    ends = [v for _, _, ratio, low, high in found for v in (ratio, low, high) if np.isfinite(v)]
    x = scale(0.0, max(1.1, *ends) * 1.02, LEFT / 2, WIDTH - RIGHT - TEXT)
    bottom = TOP + ROW * 1.6 * len(found) + 6
    axes = Axes(
        tuple(Tick(x(v), f"{v:g}") for v in ticks(0.0, max(1.1, *ends))),
        (),
        "share of the way to “source pasted”",
        "",
        left=LEFT / 2,
        right=WIDTH - RIGHT - TEXT,
        bottom=bottom,
        height=bottom + BOTTOM,
    )
    bars = [
        Bar(
            f"{name} (n {n})",
            TOP + ROW * 1.6 * (i + 0.72),
            x(ratio),
            x(low) if np.isfinite(low) else None,
            x(high) if np.isfinite(high) else None,
            f"{ratio:.2f}" + (f" [{low:.2f}, {high:.2f}]" if np.isfinite(low) else ""),
        )
        for i, (name, n, ratio, low, high) in enumerate(found)
    ]
    return Calibration(method, axes, tuple(bars), x(0.0), x(1.0))
