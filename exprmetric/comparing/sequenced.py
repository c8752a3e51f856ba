"""A run's checkpoints as tables: on the terminal, in Markdown, LaTeX, CSV, JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence

from exprmetric.choices import IDENTITY
from exprmetric.comparing.compared import HEADINGS_HERE
from exprmetric.comparing.sequence import Curve, Run
from exprmetric.evaluation.tables import alarm_lines
from exprmetric.io.environment import package_version
from exprmetric.io.say import say, say_csv, say_json
from exprmetric.io.sheet import WIDTH, Column, Content, Number, Row, Sheet
from exprmetric.io.tables import markdown_text, printable


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


def alarms(run: Run) -> list[str]:
    """The results' alarms, one line each."""
    return alarm_lines({"alarms": run.alarms})


def print_table(run: Run) -> None:
    """On stdout."""
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    for alarm in alarms(run):
        console.print(alarm, markup=False, style="bold red")
    for line in verdict(run):
        console.print(printable(line), markup=False, style="bold")
    for sheet in sheets(run):
        sheet.print(console)
    for line in limits(run):
        console.print(printable(line), markup=False)


def markdown(run: Run) -> str:
    """The same in Markdown; what an input named is escaped."""
    lines = [line for alarm in alarms(run) for line in (f"**{markdown_text(alarm)}**", "")]
    lines += [" ".join(map(markdown_text, verdict(run)))]
    lines += [line for sheet in sheets(run) for line in ("", sheet.markdown())]
    return "\n".join([*lines, "", *(f"- {markdown_text(line)}" for line in limits(run))])


def latex(run: Run) -> str:
    """A table for a paper (booktabs), its caption with what the numbers are."""
    said = " ".join(f"{line.rstrip('.')}." for line in limits(run))
    caption = f"{said} Means with 95 % intervals. exprmetric {package_version('exprmetric')}."
    return "\n\n".join([*(f"% {alarm}" for alarm in alarms(run)), *(s.latex(caption) for s in sheets(run))])


def print_csv(run: Run) -> None:
    """A row for each method and checkpoint. Alarms go to stderr: the columns have no place."""
    for alarm in alarms(run):
        print(alarm, file=sys.stderr)
    say_csv(points(run).csv())


FORMATS: dict[str, Callable[[Run], None]] = {
    "table": print_table,
    "json": lambda run: say_json(json.dumps(run.as_dict(), indent=2, allow_nan=False, ensure_ascii=False)),
    "csv": print_csv,
    "markdown": lambda run: say(markdown(run)),
    "latex": lambda run: say(latex(run)),
}
