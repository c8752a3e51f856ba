"""Plots of curves: one panel a change, one line a method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exprmetric.errors import MissingPackageError
from exprmetric.io.files import write_whole
from exprmetric.probes.agreement import AgreementResult
from exprmetric.probes.curves import NUISANCE, WARP, Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLOTS = {WARP: "warps.png", NUISANCE: "nuisances.png"}
TITLES = {
    WARP: "Sensitivity: a good space rises steadily as a face is moved",
    NUISANCE: "Invariance: a good space stays flat under what is no expression",
}
COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
"""Okabe and Ito 2008: told apart with every kind of colour vision."""
MARKERS = "osD^vP*"


def need_matplotlib() -> None:
    """MissingPackageError, with what to install, where Matplotlib is missing."""
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        raise MissingPackageError("plots need Matplotlib: pip install 'exprmetric[plots]', or ask for none")


def curves_by_change(result: AgreementResult, kind: str) -> dict[str, list[tuple[str, Curve]]]:
    """By change, (method, curve) of every method."""
    panels: dict[str, list[tuple[str, Curve]]] = {}
    for report in result.methods:
        for curve in report.response.curves if report.response else ():
            if curve.kind == kind:
                panels.setdefault(curve.name, []).append((report.name, curve))
    return panels


def draw_curves(result: AgreementResult, kind: str, path: Path) -> None:
    """Small multiples: one panel a change, one line a method, one scale for both figures, so that they compare."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = curves_by_change(result, kind)
    columns = min(4, len(panels)) if kind == NUISANCE else len(panels)
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(2.7 * columns, 2.5 * rows + 1.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
        axis.remove()
    for axis, (name, curves) in zip(axes, panels.items(), strict=False):
        _panel(axis, kind, name, curves)
    axes[0].set_ylim(0, _top(result))
    for axis in axes[::columns]:
        axis.set_ylabel("relative distance")
    figure.suptitle(TITLES[kind], fontsize=11)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 8), frameon=False)
    write_whole(path, lambda f: figure.savefig(f, format="png", dpi=150))


def _top(result: AgreementResult) -> float:
    curves = [c for report in result.methods if report.response for c in report.response.curves]
    return 1.05 * max((d for c in curves for d in c.distances if math.isfinite(d)), default=1.0) or 1.0


def _panel(axis: Axes, kind: str, name: str, curves: Sequence[tuple[str, Curve]]) -> None:
    from exprmetric.probes.nuisance import NUISANCES

    strengths = [0.0, *curves[0][1].strengths] if kind == WARP else list(curves[0][1].strengths)
    for i, (method, curve) in enumerate(curves):
        distances = [0.0, *curve.distances] if kind == WARP else list(curve.distances)
        dashes = ("-", "--", ":")[i // len(COLOURS) % 3]
        how: Any = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)], "linestyle": dashes}
        axis.plot(range(len(strengths)), distances, label=method, markersize=4, linewidth=1.5, **how)
    axis.set_title(name, fontsize=10)
    axis.set_xticks(range(len(strengths)), [f"{s:g}" for s in strengths])
    axis.set_xlabel("crop px" if kind == WARP else NUISANCES[name].unit, fontsize=9)
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
