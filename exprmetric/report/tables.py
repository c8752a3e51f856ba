"""A result as a table like Table II of paper 000: on the terminal, in Markdown, as CSV."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from exprmetric.evaluation.result import EvaluationResult
from exprmetric.io.tables import markdown_text, printable
from exprmetric.metrics.preservation import SCORES
from exprmetric.report.say import csv_text, say, say_csv, say_json

if TYPE_CHECKING:
    from rich.table import Table

HEADINGS = {"l2_error": "L2 error ↓", "mean_t2c": "mean t2c ↓", "ratio": "ratio ↑"}
ANCHORS = {"nothing_swapped": "nothing swapped", "source_pasted": "source pasted"}
SPLITS = {"same_label": "same label", "different_label": "different label"}
WIDTH = 120
"""Characters of a table that goes to a file or a pipe."""
MOST_FAILURES = 10
"""Failed triplets that the terminal names; the files name all."""


def number(value: float | None) -> str:
    """Three decimals, or a dash for what could not be computed."""
    return "–" if value is None or value != value else f"{value:.3f}"


def p_value(p: float | None) -> str:
    """`0.012`, `< 0.001`, or a dash."""
    if p is None or p != p:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def cell(score: dict[str, Any]) -> str:
    """A score with its interval: `0.123 [0.110, 0.140]`."""
    low, high = score["ci95"]
    return number(score["value"]) + ("" if low is None or high is None else f" [{low:.3f}, {high:.3f}]")


def coverage_line(coverage: dict[str, Any]) -> str:
    """`121 of 123 triplets measured (98.4 %); failed: no_face 2`."""
    total, ok = coverage["triplets"], coverage["ok"]
    share = f" ({ok / total:.1%})".replace("%", " %") if total else ""
    failed = ", ".join(f"{status} {n}" for status, n in coverage["failed"].items())
    return f"{ok} of {total} triplets measured{share}" + (f"; failed: {failed}" if failed else "")


def identity_line(identity: dict[str, Any] | None) -> str:
    """The control in a sentence; '' when it was not measured."""
    if not identity or not identity["n"]:
        return ""
    nearer = cell(identity["nearer_to_source"])
    distances = f"to source {number(identity['mean_s2c'])}, to target {number(identity['mean_t2c'])}"
    return f"identity control: share nearer to the source than to the target {nearer}; mean distance {distances}"


def alarm_lines(summary: dict[str, Any]) -> list[str]:
    """What is suspicious about a result, one line each; models' names come from the input."""
    return [f"ALARM: {printable(sentence)}" for sentence in summary.get("alarms", [])]  # older results have none


def speed_line(throughput: dict[str, Any]) -> str:
    """Triplets a second, and the stages that took longest."""
    stages = sorted(throughput["thread_seconds_by_stage"].items(), key=lambda s: -s[1])
    parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in stages if seconds >= 0.05)
    return f"{throughput['triplets_per_second']:.1f} triplets/s, {throughput['seconds']:.1f} s in all ({parts})"


def label(method: str, scores: dict[str, Any]) -> str:
    """A method's name, marked where a note belongs to its numbers."""
    return f"{method} †" if scores.get("note") else method


def note_lines(methods: dict[str, Any]) -> list[str]:
    """What the marks mean."""
    return [f"† {method}: {scores['note']}" for method, scores in methods.items() if scores.get("note")]


def _sections(summary: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(name, coverage, methods) of the whole and of each split."""
    yield "all", summary["coverage"], summary["methods"]
    for name, group in summary["groups"].items():
        yield SPLITS.get(name, name), group["coverage"], group["methods"]


def print_table(result: EvaluationResult) -> None:
    """Rich tables on stdout: all triplets with the anchors, then one line a split and method."""
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    summary = result.summary
    head = coverage_line(summary["coverage"]) + f"; detector {summary['detector']['ran']}"
    console.print(printable(head), markup=False)
    for line in alarm_lines(summary):
        console.print(line, markup=False, style="bold red")
    console.print(_whole_table(summary["methods"]))
    if summary["groups"]:
        console.print(_splits_table(summary["groups"]))
    for line in (
        *note_lines(summary["methods"]),
        identity_line(summary["identity"]),
        speed_line(summary["throughput"]),
    ):
        if line:
            console.print(printable(line), markup=False)
    failed = np.flatnonzero(~result.rows.ok).tolist()
    for triplet in result.rows.records(failed[:MOST_FAILURES]):
        line = printable(f"{triplet['status']}: {triplet['id']}: {triplet['reason']}")
        console.print(line, markup=False, style="red")
    if len(failed) > MOST_FAILURES:
        console.print(f"… and {len(failed) - MOST_FAILURES} more failed triplets; --out writes all", markup=False)


def _table(*first: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0))
    for name in first:
        table.add_column(name, justify="right" if name in ("n", "failed") else "left")
    for score in SCORES:
        table.add_column(HEADINGS[score], justify="right", no_wrap=True)
    return table


def _whole_table(methods: dict[str, Any]) -> Table:
    from rich.text import Text

    table = _table("method", "n")
    for method, scores in methods.items():
        table.add_row(
            Text(printable(label(method, scores)), style="bold"), str(scores["n"]), *(cell(scores[s]) for s in SCORES)
        )
        for anchor, name in ANCHORS.items():
            values = (number(scores["anchors"][anchor][s]) for s in SCORES)
            table.add_row(Text(f"  {name}"), "", *values, style="dim")
    return table


def _splits_table(groups: dict[str, Any]) -> Table:
    from rich.text import Text

    table = _table("split", "n", "failed", "method")
    for name, group in groups.items():
        failed = sum(group["coverage"]["failed"].values())
        head: list[Text | str] = [
            Text(printable(SPLITS.get(name, name)), style="bold"),
            str(group["coverage"]["ok"]),
            str(failed),
        ]
        for method, scores in group["methods"].items():
            table.add_row(*head, Text(printable(label(method, scores))), *(cell(scores[s]) for s in SCORES))
            head = [Text(""), "", ""]
        table.add_section()
    return table


def markdown(result: EvaluationResult) -> str:
    """The tables in Markdown; what an input named is escaped."""
    lines = [coverage_line(result.summary["coverage"]) + f"; detector `{result.summary['detector']['ran']}`."]
    for line in alarm_lines(result.summary):
        lines += ["", f"**{markdown_text(line)}**"]
    for name, coverage, methods in _sections(result.summary):
        title = "All triplets" if name == "all" else f"{markdown_text(name)}: {coverage_line(coverage)}"
        lines += ["", f"**{title}**", "", "| method | n | " + " | ".join(HEADINGS.values()) + " |"]
        lines.append("| --- | ---: | ---: | ---: | ---: |")
        for method, scores in methods.items():
            lines.append(
                f"| {markdown_text(label(method, scores))} | {scores['n']} | "
                + " | ".join(cell(scores[s]) for s in SCORES)
                + " |"
            )
            if name == "all":
                for anchor, words in ANCHORS.items():
                    values = " | ".join(number(scores["anchors"][anchor][s]) for s in SCORES)
                    lines.append(f"| *{words}* | | {values} |")
    control = identity_line(result.summary["identity"])
    for note in note_lines(result.summary["methods"]):
        lines += ["", markdown_text(note) + "."]
    return "\n".join([*lines, *(["", control[0].upper() + control[1:] + "."] if control else [])])


def print_csv(result: EvaluationResult) -> None:
    """One line a split and method: scores, interval ends, coverage. Alarms go to stderr: the columns have no place."""
    for line in alarm_lines(result.summary):
        print(line, file=sys.stderr)
    columns = ["split", "method", "n", "triplets"]
    columns += [f"{s}{end}" for s in SCORES for end in ("", ".low", ".high")] + ["note"]
    rows: list[list[Any]] = [columns]
    for name, coverage, methods in _sections(result.summary):
        for method, scores in methods.items():
            values = [v for s in SCORES for v in (scores[s]["value"], *scores[s]["ci95"])]
            rows.append([name, method, scores["n"], coverage["triplets"], *values, scores.get("note", "")])
    say_csv(csv_text(rows))


FORMATS: dict[str, Callable[[EvaluationResult], None]] = {
    "table": print_table,
    "json": lambda result: say_json(result.to_json()),
    "csv": print_csv,
    "markdown": lambda result: say(markdown(result)),
}
