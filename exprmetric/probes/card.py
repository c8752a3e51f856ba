"""The result as a table on the terminal, a section of a model card in Markdown, and plots."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exprmetric.errors import InputError, MissingPackageError
from exprmetric.files import write_whole
from exprmetric.metrics.agreement import Estimate
from exprmetric.probes.agreement import AgreementResult, MethodReport
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


def _number(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None or not math.isfinite(value) else format(value, form)


def _estimate(found: Estimate | None, scale: float = 1.0, form: str = ".3f") -> str:
    """`0.123 [0.110, 0.140]`, or a dash."""
    if found is None or not math.isfinite(found.value):
        return "–"
    if not math.isfinite(found.low):
        return _number(found.value * scale, form)
    return f"{found.value * scale:{form}} [{found.low * scale:{form}}, {found.high * scale:{form}}]"


def _coverage(report: MethodReport) -> str:
    return ", ".join(f"{c['ok'] / c['faces']:.1%}" if c["faces"] else "–" for c in report.coverage.values())


COLUMNS: dict[str, Callable[[MethodReport], str]] = {
    "dim": lambda r: str(r.dimension),
    "triplet accuracy ↑": lambda r: _estimate(r.triplet_accuracy),
    "rank correlation ↑": lambda r: _estimate(r.rank_correlation),
    "leak ratio ↓1": lambda r: _estimate(r.leak.ratio if r.leak else None, form=".2f"),
    "leak AUC ↓.5": lambda r: _estimate(r.leak.auc if r.leak else None),
    "detector shift % ↓": lambda r: _estimate(r.detector_shift.share if r.detector_shift else None, 100, ".1f"),
    "monotonicity ↑": lambda r: _number(r.response.monotonicity if r.response else None, ".2f"),
    "signal/nuisance ↑": lambda r: _number(r.response.signal_to_nuisance if r.response else None, ".2f"),
    "coverage": _coverage,
}
"""The table's columns after the method's name."""


def print_table(result: AgreementResult) -> None:
    """A Rich table on stdout, and what it was measured on."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("method")
    for heading in COLUMNS:
        table.add_column(heading, justify="right")
    for report in result.methods:
        table.add_row(Text(report.name, style="bold"), *(column(report) for column in COLUMNS.values()))
    console.print(table)
    for line in _notes(result):
        console.print(_printable(line), markup=False)


def _notes(result: AgreementResult) -> list[str]:
    """What was compared with what, in sentences."""
    sets, compared = result.about["sets"], result.about["compared"]
    first = result.methods[0]
    rated = sets["rated"]
    lines = [
        f"Ratings: {compared['rated']} of {rated['faces']} faces of {rated['name']} that all methods could measure; "
        f"{first.triplet_accuracy.n:,} clear triplets (chance 0.333), {first.rank_correlation.n:,} pairs."
    ]
    if first.leak is not None:
        known = sets["people"]
        where = f"{compared['people']} faces of {known['name']}, equal labels" if known else "the rated faces, alike"
        lines.append(f"Leak: {first.leak.people} people in {where}; {first.leak.ratio.n:,} pairs of one person.")
    if first.response is not None:
        lines.append(
            f"Curves: {first.response.photographs} of {sets['photographs']['faces']} photographs of "
            f"{sets['photographs']['name']}; distances in mean distances between different photographs."
        )
    if first.detector_shift is not None:
        shift = first.detector_shift
        lines.append(f"Detector shift: {' against '.join(shift.detectors)}, {shift.share.n} photographs.")
    elif first.response is not None:
        lines.append("Detector shift: not measured; it needs `exprmetric weights pull scrfd-500m`.")
    failed: dict[str, int] = {}
    for f in result.failures:
        failed[f["status"]] = failed.get(f["status"], 0) + 1
    counts = ", ".join(f"{status} {n}" for status, n in sorted(failed.items())) or "none"
    lines.append(f"Failed: {counts}. Detector {result.about['detector']['ran']}. Intervals: 95 %, bootstrap over")
    lines[-1] += " people where they are known, else over images."
    return lines


def markdown(result: AgreementResult, plots: Sequence[str] = ()) -> str:
    """A section of a model card: table, notes, plots (file names beside the card)."""
    lines = ["## Agreement with people, identity, sensitivity", ""]
    lines += ["| method | " + " | ".join(COLUMNS) + " |", "| --- |" + " ---: |" * len(COLUMNS)]
    for report in result.methods:
        lines.append(f"| {_escape(report.name)} | " + " | ".join(c(report) for c in COLUMNS.values()) + " |")
    lines += ["", *(f"- {_escape(note)}" for note in _notes(result))]
    titles = {file: TITLES[kind] for kind, file in PLOTS.items()}
    lines += [line for file in plots for line in ("", f"![{titles[file]}]({file})")]
    return "\n".join(lines) + "\n"


def save_card(result: AgreementResult, folder: str | os.PathLike[str], *, plots: bool = True) -> list[str]:
    """Write `card.md`, and the plots where curves were measured; gives the names of the files written.

    Raises:
        MissingPackageError: there are curves to plot and Matplotlib is not installed.
        InputError: the folder can't be written.
    """
    out = Path(folder)
    drawn = {file: kind for kind, file in PLOTS.items() if plots and _panels(result, kind)}
    if drawn:
        need_matplotlib()
    try:
        out.mkdir(parents=True, exist_ok=True)
        for file, kind in drawn.items():
            _draw(result, kind, out / file)
        write_whole(out / "card.md", lambda f: f.write(markdown(result, list(drawn)).encode()))
    except OSError as error:
        raise InputError(f"can't write the card into {out}: {error}") from error
    return ["card.md", *drawn]


def need_matplotlib() -> None:
    """MissingPackageError, with what to install, where Matplotlib is missing."""
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        raise MissingPackageError("plots need Matplotlib: pip install 'exprmetric[plots]', or ask for none")


def _panels(result: AgreementResult, kind: str) -> dict[str, list[tuple[str, Curve]]]:
    """By change, (method, curve) of every method."""
    panels: dict[str, list[tuple[str, Curve]]] = {}
    for report in result.methods:
        for curve in report.response.curves if report.response else ():
            if curve.kind == kind:
                panels.setdefault(curve.name, []).append((report.name, curve))
    return panels


def _draw(result: AgreementResult, kind: str, path: Path) -> None:
    """Small multiples: one panel a change, one line a method, one scale for both figures, so that they compare."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = _panels(result, kind)
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


def _printable(text: str) -> str:
    """Text with its control characters shown as escapes: a terminal obeys them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _escape(text: str) -> str:
    """Text harmless in Markdown and in the HTML that it becomes."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for character in "\\*_|[]":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())
