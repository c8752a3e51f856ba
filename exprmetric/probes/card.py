"""The result as tables on the terminal, and as a section of a model card in Markdown, with plots."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from exprmetric.errors import InputError
from exprmetric.io.files import write_whole
from exprmetric.io.sheet import Content, Number, Sheet
from exprmetric.io.tables import markdown_text
from exprmetric.metrics.agreement import Estimate
from exprmetric.metrics.rated import RatedScores
from exprmetric.probes.agreement import AgreementResult, MethodReport
from exprmetric.probes.card_plots import PLOTS, TITLES, curves_by_change, draw_curves, need_matplotlib

WORST = 3
"""Pairs of expressions that the terminal names."""


def _number(value: float | None, form: str = ".3f") -> Number:
    return Number(value, form=form)


def _estimate(found: Estimate | None, scale: float = 1.0, form: str = ".3f") -> Number:
    if found is None:
        return Number(None)
    return Number(found.value * scale, found.low * scale, found.high * scale, form)


def _coverage(report: MethodReport) -> str:
    return ", ".join(f"{c['ok'] / c['faces']:.1%}" if c["faces"] else "–" for c in report.coverage.values())


RATED_COLUMNS: dict[str, Callable[[RatedScores], Content]] = {
    "triplet accuracy ↑": lambda s: _estimate(s.across.triplet_accuracy),
    "rank correlation ↑": lambda s: _estimate(s.across.rank_correlation),
    "leak ratio ↓1": lambda s: _estimate(s.leak.ratio if s.leak else None, form=".2f"),
    "leak AUC ↓.5": lambda s: _estimate(s.leak.auc if s.leak else None),
    "triplets within a person ↑": lambda s: _estimate(s.within.triplet_accuracy if s.within else None),
    "rank within a person ↑": lambda s: _estimate(s.within.rank_correlation if s.within else None),
}
"""Columns of a rated set's table after the method's name."""

COLUMNS: dict[str, Callable[[MethodReport], Content]] = {
    "dim": lambda r: r.dimension,
    "leak ratio ↓1": lambda r: _estimate(r.leak.ratio if r.leak else None, form=".2f"),
    "leak AUC ↓.5": lambda r: _estimate(r.leak.auc if r.leak else None),
    "detector shift % ↓": lambda r: _estimate(r.detector_shift.share if r.detector_shift else None, 100, ".1f"),
    "monotonicity ↑": lambda r: _number(r.response.monotonicity if r.response else None, ".2f"),
    "signal/nuisance ↑": lambda r: _number(r.response.signal_to_nuisance if r.response else None, ".2f"),
    "coverage": _coverage,
}
"""Columns of the table of all that needs no ratings."""


def sheets(result: AgreementResult, *, terminal: bool = False) -> Iterator[Sheet]:
    """All tables, or those for the terminal: each rated set's, then the one of what needs no ratings."""
    for name in result.about["sets"]["rated"]:
        yield from _rated_sheets(result, name, terminal=terminal)
    yield Sheet.of(
        ("method", *COLUMNS),
        ((r.name, *(column(r) for column in COLUMNS.values())) for r in result.methods),
        title="Identity and sensitivity, without ratings",
        notes=tuple(_notes(result)),
    )


def _rated_sheets(result: AgreementResult, name: str, *, terminal: bool) -> Iterator[Sheet]:
    about = result.about["sets"]["rated"][name]
    scores = {r.name: r.rated[name] for r in result.methods}
    raters = result.raters[name]
    rows = [(method, *(column(s) for column in RATED_COLUMNS.values())) for method, s in scores.items()]
    if raters is not None:
        rows.append(("people", *(column(raters) for column in RATED_COLUMNS.values())))
    notes = tuple(_rated_notes(result, name, scores))
    yield Sheet.of(("method", *RATED_COLUMNS), rows, title=f"{name}: {about['use']}", notes=notes)
    with_people = scores | ({"people": raters} if raters is not None else {})
    kinds = sorted({kind for s in scores.values() for kind in s.confusions})
    if kinds and not terminal:
        yield Sheet.of(
            ("expressions", *with_people),
            ((kind, *(_estimate(s.confusions.get(kind)) for s in with_people.values())) for kind in kinds),
            title=f"{name}: triplet accuracy where two expressions could be confused",
        )
    for what in ("yaw", "size"):
        classes = [c for s in scores.values() for c in s.conditions.get(what, ())]
        if len(set(classes)) > 1:  # of one class the numbers above tell
            yield Sheet.of(
                ("faces", *with_people),
                ((c, *(_condition(s, what, c) for s in with_people.values())) for c in dict.fromkeys(classes)),
                title=f"{name}: triplet accuracy, rank correlation by the {_WHAT[what]} of a pair or triplet",
            )


_WHAT = {"yaw": "most turned head", "size": "smallest face"}


def _condition(scores: RatedScores, what: str, name: str) -> str:
    found = scores.conditions[what].get(name)
    if found is None:
        return "–"
    return f"{_estimate(found.triplet_accuracy)}, {_estimate(found.rank_correlation)}"


def _rated_notes(result: AgreementResult, name: str, scores: dict[str, RatedScores]) -> Iterator[str]:
    about, compared = result.about["sets"]["rated"][name], result.about["compared"][name]
    first = next(iter(scores.values()))
    people = f" of {about['people']} people" if about["people"] else ""
    yield (
        f"{compared} of {about['faces']} faces{people} that all methods could measure, rated for "
        f"{', '.join(about['scales'])}; {first.across.triplet_accuracy.n:,} clear triplets (chance 0.333, margin "
        f"{about['margin']}), {first.across.rank_correlation.n:,} pairs."
    )
    if first.leak is not None:
        yield (
            f"Leak: the twentieth of all pairs that people rate most alike; {first.leak.ratio.n:,} of them of one "
            f"person, {first.leak.auc.n - first.leak.ratio.n:,} of two."
        )
    if about["raters"]:
        yield f"People: {about['raters']}, so each side is the mean of fewer raters than the table's."
    for method, found in scores.items():
        worst = sorted(found.confusions.items(), key=lambda item: item[1].value)[:WORST]
        if worst:
            yield f"{method} confuses most: {', '.join(f'{kind} ({e.value:.2f})' for kind, e in worst)}."
    for what, told in (("yaw", "Turn of the head"), ("size", "Height of the face")):
        if len(classes := list(first.conditions.get(what, ()))) == 1:
            yield f"{told}: {classes[0]} in (nearly) all pairs and triplets."


def _notes(result: AgreementResult) -> Iterator[str]:
    """What the last table was measured on, and what failed."""
    sets, compared = result.about["sets"], result.about["compared"]
    first = result.methods[0]
    if first.leak is not None:
        where = f"{compared['people']} faces of {sets['people']['name']}, equal labels"
        yield f"Leak: {first.leak.people} people in {where}; {first.leak.ratio.n:,} pairs of one person."
    if first.response is not None:
        yield (
            f"Curves: {first.response.photographs} of {sets['photographs']['faces']} photographs of "
            f"{sets['photographs']['name']}; distances in mean distances between different photographs."
        )
    if first.detector_shift is not None:
        shift = first.detector_shift
        yield f"Detector shift: {' against '.join(shift.detectors)}, {shift.share.n} photographs."
    elif first.response is not None:
        yield "Detector shift: not measured; it needs `exprmetric weights pull scrfd-500m`."
    failed: dict[str, int] = {}
    for f in result.failures:
        failed[f["status"]] = failed.get(f["status"], 0) + 1
    counts = ", ".join(f"{status} {n}" for status, n in sorted(failed.items())) or "none"
    yield (
        f"Failed: {counts}. Detector {result.about['detector']['ran']}. Intervals: 95 %, bootstrap over people where "
        "they are known, else over images."
    )


def print_tables(result: AgreementResult) -> None:
    """On stdout, each table with what it was measured on."""
    for sheet in sheets(result, terminal=True):
        sheet.print(width=200)


def markdown(result: AgreementResult, plots: Sequence[str] = ()) -> str:
    """A section of a model card: tables, notes, plots (file names beside the card)."""
    lines = ["## Agreement with people, identity, sensitivity"]
    for sheet in sheets(result):
        lines += ["", f"### {markdown_text(sheet.title)}", "", sheet.markdown()]
        lines += [""] * bool(sheet.notes) + [f"- {markdown_text(note)}" for note in sheet.notes]
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
    drawn = {file: kind for kind, file in PLOTS.items() if plots and curves_by_change(result, kind)}
    if drawn:
        need_matplotlib()
    try:
        out.mkdir(parents=True, exist_ok=True)
        for file, kind in drawn.items():
            draw_curves(result, kind, out / file)
        write_whole(out / "card.md", lambda f: f.write(markdown(result, list(drawn)).encode()))
    except OSError as error:
        raise InputError(f"can't write the card into {out}: {error}") from error
    return ["card.md", *drawn]
