"""A run's checkpoints as tables and sentences."""

from __future__ import annotations

from collections.abc import Sequence

from exprmetric.choices import IDENTITY
from exprmetric.comparing.compared import HEADINGS_HERE
from exprmetric.comparing.sequence import Curve, Run
from exprmetric.evaluation.tables import alarm_lines
from exprmetric.io.environment import package_version
from exprmetric.io.page import Page, Section
from exprmetric.io.plain import as_json
from exprmetric.io.sheet import Column, Content, Number, Row, Sheet


def heading(score: str) -> str:
    """The name of a score without its arrow."""
    return HEADINGS_HERE[score].rpartition(" ")[0]


def points(run: Run, curves: Sequence[Curve] | None = None) -> Sheet:
    """A row for each method and checkpoint: all scores, and how the one that matters changed; of some of the curves."""
    shown = run.curves if curves is None else curves
    scores = [s for s in HEADINGS_HERE if any(c.score == s for c in shown)]
    columns = [Column("method", words=True), Column("checkpoint", words=True), Column("pairs")]
    columns += [Column(HEADINGS_HERE[s], s, ends=(f"{s}.low", f"{s}.high")) for s in scores]
    columns.append(Column("change", "change", ends=("change.low", "change.high")))
    rows = []
    for method in dict.fromkeys(c.method for c in shown):
        own = {c.score: c for c in shown if c.method == method}
        main = own[_main(run, own)]
        for i, checkpoint in enumerate(run.checkpoints):
            cells: list[Content] = [method, checkpoint.name, max(c.n for c in own.values())]
            cells += [_value(own[s], i) if s in own else Number(None) for s in scores]
            p = main.points[i]
            cells.append(Number(p.change, p.change_low, p.change_high, "+.3f"))
            rows.append(Row(cells, method))
    return Sheet(columns, rows)


def sheets(run: Run) -> list[Sheet]:
    """`points` of the expressions, and of the identity control, which has another score."""
    control = [c for c in run.curves if c.method == IDENTITY]
    parts = [[c for c in run.curves if c.method != IDENTITY], control]
    return [points(run, part) for part in parts if part]


def _main(run: Run, curves: dict[str, Curve]) -> str:
    return next((s for s in (run.primary[1], "mean_t2c") if s in curves), next(iter(curves)))


def _value(curve: Curve, i: int) -> Number:
    point = curve.points[i]
    return Number(point.value, point.low, point.high)


def coverage(run: Run) -> Sheet:
    """How many rows of each checkpoint were measured, and count."""
    rows = [[c.name, c.rows, c.ok, c.ok - c.left_out] for c in run.checkpoints]
    return Sheet.of(["checkpoint", "rows", "measured", "measured by all"], rows)


def verdict(run: Run) -> list[str]:
    """Which checkpoint is best by the primary score, which can't be told from it, and how the last one stands."""
    curve = run.primary_curve
    if curve is None:
        return ["No checkpoint shares a measured target and source with all others: nothing can be said."]
    name = f"{heading(run.primary[1])} of {run.primary[0]}"
    best = run.checkpoints[curve.best].name
    said = [f"Best by {name}: {best} ({_value(curve, curve.best)}; {run.n} pairs in {run.groups} groups)."]
    each = [(c.name, p) for c, p in zip(run.checkpoints, curve.points, strict=True)]
    others = [*each[: curve.best], *each[curve.best + 1 :]]
    if all(p.from_best_low != p.from_best_low for _, p in others):
        said.append("All pairs are of one group (one target or video): there is no interval, and no claim beyond it.")
    elif close := [n for n, p in others if p.from_best_low <= 0 <= p.from_best_high]:
        said.append(f"Not shown to be worse (the interval of the paired difference holds 0): {', '.join(close)}.")
    else:
        said.append("All others are worse: no interval of their paired differences to it holds 0.")
    said.append(
        "The best of several was chosen by these rows, so its score is a little too good, and intervals are not "
        "corrected for their number: measure the one that you take on other targets."
    )
    return said


def limits(run: Run) -> list[str]:
    """What limits the numbers, and what was left out."""
    lines = [
        f"Scores are over the {run.n} pairs (same target and source by {run.matched_by}) that all checkpoints "
        "measured; change: minus the one before, paired."
    ]
    if run.sources:
        lines.append(f"Groups share sources: intervals resample targets and the {run.sources} sources.")
    for c in run.checkpoints:
        lines += [f"{c.name}: {c.rows - c.ok} of {c.rows} rows could not be measured"] * (c.rows > c.ok)
        lines += [f"{c.name}: {c.left_out} measured rows that not all have are left out"] * bool(c.left_out)
    lines += [f"method {method} is left out: {reason}" for method, reason in run.left_out.items()]
    return [*lines, *run.notes]


def page(run: Run) -> Page:
    """The verdict, a table for the expressions and one for the identity, and what limits the numbers."""
    told = " ".join(f"{line.rstrip('.')}." for line in limits(run))
    caption = f"{told} Means with 95 % intervals. exprmetric {package_version('exprmetric')}."
    return Page(
        verdict=verdict(run),
        sections=[*map(Section, sheets(run)), Section(lines=limits(run))],
        whole=points(run),
        json=lambda: as_json(run.as_dict()),
        printed=[(sheet, caption, "") for sheet in sheets(run)],
        alarms=alarm_lines({"alarms": run.alarms}),
    )
