"""A comparison of models as a table on the terminal, in Markdown, as CSV, JSON and HTML."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from exprmetric.errors import InputError
from exprmetric.evaluation.compare import Comparison, Difference, Duel
from exprmetric.io.tables import markdown_text, printable
from exprmetric.report.say import csv_text, say, say_csv, say_json
from exprmetric.report.tables import HEADINGS, WIDTH, alarm_lines, number, p_value

HEADINGS_HERE = {**HEADINGS, "nearer_to_source": "nearer to source ↑"}
MATRIX_SCORES = ("mean_t2c", "nearer_to_source")
"""Scores with a win/tie/loss matrix: one a method. The table has the others' counts."""
MOST_NAMES = 10
"""Rows that the terminal and Markdown name for each reason; JSON names all."""
MOST_NAMES_HTML = 500

Wins = dict[tuple[int, int], tuple[int, int, int]]


def difference_cell(d: Difference) -> str:
    """`-0.012 [-0.020, -0.004]`."""
    interval = f" [{d.low:+.3f}, {d.high:+.3f}]" if d.low == d.low else ""
    return f"{d.difference:+.3f}{interval}"


def win_tie_losses(comparison: Comparison) -> Iterator[tuple[str, str, Wins]]:
    """(method, score, counts) of each matrix; counts by (row, column) are wins, ties, losses of the row's model."""
    number_of = {name: i for i, name in enumerate(comparison.models)}
    matrices: dict[tuple[str, str], Wins] = {}
    for duel in comparison.duels:
        a, b = number_of[duel.a], number_of[duel.b]
        for d in duel.differences:
            if d.score in MATRIX_SCORES:
                counts = matrices.setdefault((d.method, d.score), {})
                counts[a, b], counts[b, a] = (d.wins, d.ties, d.losses), (d.losses, d.ties, d.wins)
    for (method, score), counts in matrices.items():
        yield method, score, counts


def left_over(duel: Duel, most: int = MOST_NAMES) -> Iterator[str]:
    """A line for each reason why rows or methods of two models are not compared, and for what else matters."""
    for reason, ids in duel.unpaired.items():
        names = ", ".join(ids[:most]) + (f", and {len(ids) - most} more" if len(ids) > most else "")
        yield f"{reason}: {len(ids)} ({names})"
    if duel.repeated:
        yield f"pairs that one model swapped several times, which count once with their mean: {duel.repeated}"
    for method, reason in duel.left_out.items():
        yield f"method {method} is left out: {reason}"
    yield from duel.notes


def _how(comparison: Comparison) -> str:
    return (
        f"rows are paired where target and source are the same by {comparison.matched_by}; p: sign flips of groups, "
        f"Holm's correction over {comparison.tests} tests"
    )


def _alarms(comparison: Comparison) -> list[str]:
    return alarm_lines({"alarms": comparison.alarms})


def _cells(d: Difference) -> list[str]:
    wins = f"{d.wins}/{d.ties}/{d.losses}"
    return [number(d.a), number(d.b), difference_cell(d), p_value(d.p), p_value(d.p_holm), wins]


def print_table(comparison: Comparison) -> None:
    """Rich tables on stdout: differences of every two models, the matrices, and what could not be paired."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    console.print(_how(comparison), markup=False)
    for alarm in _alarms(comparison):
        console.print(alarm, markup=False, style="bold red")
    for duel in comparison.duels:
        title = f"A = {duel.a}, B = {duel.b}: {duel.n} pairs in {duel.groups} groups"
        console.print(Text("\n" + printable(title), style="bold"))
        if duel.differences:
            table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0))
            for name in ("method", "score"):
                table.add_column(name)
            for name in ("A", "B", "A - B [95 %]", "p", "p Holm", "win/tie/loss"):
                table.add_column(name, justify="right", no_wrap=True)
            for d in duel.differences:
                table.add_row(Text(printable(d.method)), HEADINGS_HERE[d.score], *_cells(d))
            console.print(table)
        for line in left_over(duel):
            console.print(Text("  " + printable(line)))
    if len(comparison.models) > 2:
        for method, score, wins in win_tie_losses(comparison):
            heading = f"{method}, {HEADINGS_HERE[score]}: wins/ties/losses of the row's model"
            table = Table(
                box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), title=Text(printable(heading)), title_justify="left"
            )
            table.add_column("", overflow="fold")
            for name in comparison.models:
                table.add_column(Text(printable(name)), justify="right", overflow="fold")
            for i, name in enumerate(comparison.models):
                counts = (wins.get((i, j)) for j in range(len(comparison.models)))
                table.add_row(Text(printable(name)), *("/".join(map(str, c)) if c else "–" for c in counts))
            console.print(table)


def markdown(comparison: Comparison) -> str:
    """The same in Markdown; what an input named is escaped."""
    lines = [f"{_how(comparison).capitalize()}."]
    for alarm in _alarms(comparison):
        lines += ["", f"**{markdown_text(alarm)}**"]
    for duel in comparison.duels:
        title = f"A = {markdown_text(duel.a)}, B = {markdown_text(duel.b)}: {duel.n} pairs in {duel.groups} groups"
        lines += ["", f"**{title}**"]
        if duel.differences:
            lines += ["", "| method | score | A | B | A − B [95 %] | p | p Holm | win/tie/loss |"]
            lines.append("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
            lines += [
                f"| {markdown_text(d.method)} | {HEADINGS_HERE[d.score]} | {' | '.join(_cells(d))} |"
                for d in duel.differences
            ]
        lines += ["", *(f"- {markdown_text(line)}" for line in left_over(duel))]
    for method, score, wins in win_tie_losses(comparison):
        names = [markdown_text(name) for name in comparison.models]
        heading = f"{markdown_text(method)}, {HEADINGS_HERE[score]}: wins/ties/losses of the row's model"
        lines += ["", f"**{heading}**", "", f"| | {' | '.join(names)} |", "| --- |" + " ---: |" * len(names)]
        for i, name in enumerate(names):
            counts = (wins.get((i, j)) for j in range(len(names)))
            lines.append(f"| {name} | " + " | ".join("/".join(map(str, c)) if c else "–" for c in counts) + " |")
    return "\n".join(lines)


def print_csv(comparison: Comparison) -> None:
    """One line for two models, method and score, with all digits; rows without a partner are counted. Alarms go to
    stderr: the columns have no place."""
    for alarm in _alarms(comparison):
        print(alarm, file=sys.stderr)
    numbers = ["a_mean", "b_mean", "difference", "low", "high", "p", "p_holm", "wins", "ties", "losses"]
    rows: list[list[object]] = [["a", "b", "pairs", "groups", "unpaired", "method", "score", *numbers]]
    for duel in comparison.duels:
        head = [duel.a, duel.b, duel.n, duel.groups, sum(map(len, duel.unpaired.values()))]
        if not duel.differences:
            rows.append([*head, *[""] * (2 + len(numbers))])
        for d in duel.differences:
            values = (d.a, d.b, d.difference, d.low, d.high, d.p, d.p_holm, d.wins, d.ties, d.losses)
            rows.append([*head, d.method, d.score, *values])
    say_csv(csv_text(rows))


def as_json(comparison: Comparison) -> str:
    """All of it; never NaN."""
    return json.dumps(comparison.as_dict(), indent=2, allow_nan=False, ensure_ascii=False)


def write_html(comparison: Comparison, path: Path) -> None:
    """One self-contained page; its folder is made.

    Raises:
        InputError: the file can't be written.
    """
    from exprmetric._version import __version__
    from exprmetric.report.html import render, write_page

    page = render(
        "compare.html",
        comparison=comparison,
        summary={"alarms": comparison.alarms},
        version=__version__,
        matrices=list(win_tie_losses(comparison)),
        most=MOST_NAMES_HTML,
        incomplete=any(list(left_over(duel)) for duel in comparison.duels),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_page(path, page)
    except OSError as error:
        raise InputError(f"can't write {path}: {error}") from error


FORMATS: dict[str, Callable[[Comparison], None]] = {
    "table": print_table,
    "json": lambda comparison: say_json(as_json(comparison)),
    "csv": print_csv,
    "markdown": lambda comparison: say(markdown(comparison)),
}
