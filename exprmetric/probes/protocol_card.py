"""The table of all encoders under all protocols: on the terminal, and in Markdown."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exprmetric.datasets.samples import EXPRESSIONS
from exprmetric.errors import InputError
from exprmetric.io.files import write_whole
from exprmetric.io.sheet import Sheet
from exprmetric.io.tables import markdown_text
from exprmetric.metrics.odd_one_out import TYPES
from exprmetric.metrics.resampling import Estimate
from exprmetric.probes.measurement import Measurement
from exprmetric.probes.protocols import PROTOCOLS, ProtocolResult, Row, SetReport

NOTHING = "n/a"
"""Where there is no number: never a zero."""
PLAIN = ("_ccc", "_rmse", "rank_correlation", "ratio", "auc")
"""Scores that are no shares end so; shares are shown in per cent."""


@dataclass(frozen=True)
class Column:
    """A column of the table: what it is called, and one encoder's cell."""

    heading: str
    cell: Callable[[Row], str]


def number(found: Estimate | None, *, share: bool) -> str:
    """`61.2 ±1.6`, or `0.412 ±0.020`: half of the interval's width behind the value."""
    if found is None or not math.isfinite(found.value):
        return NOTHING
    scale, form = (100.0, ".1f") if share else (1.0, ".3f")
    half = (found.high - found.low) / 2
    around = f" ±{scale * half:{form}}" if math.isfinite(half) else ""
    return f"{scale * found.value:{form}}{around}"


def _column(protocol: str, score: str, heading: str) -> Column:
    def cell(row: Row) -> str:
        found = row.found.get(protocol)
        if not isinstance(found, Measurement):
            return NOTHING
        return number(found.scores.get(score), share=not score.endswith(PLAIN))

    return Column(heading, cell)


def columns(result: ProtocolResult) -> list[Column]:
    """All columns behind the encoder's name: the protocols' scores, then coverage of training and test faces."""
    scores = [_column(name, s, h) for name in result.protocols for s, h in PROTOCOLS[name].columns.items()]
    return [*scores, Column("coverage %", _coverage)]


def _coverage(row: Row) -> str:
    return " / ".join(_percent(row.coverage[part]["ok"], row.coverage[part]["faces"]) for part in ("train", "test"))


def _percent(part: int, whole: int) -> str:
    if not whole:
        return NOTHING
    return f"{math.floor(1000 * part / whole) / 10:.1f}"  # 100.0 means all


def print_protocols(result: ProtocolResult) -> None:
    """A table a data set; columns without any number are named below it, with the reason."""
    for report in result.sets:
        shown = [c for c in columns(result) if any(c.cell(row) != NOTHING for row in report.rows)]
        _sheet(shown, report, title=report.name, notes=notes(result, report)).print(width=260)


def notes(result: ProtocolResult, report: SetReport) -> list[str]:
    """What was compared, what could not be measured and why."""
    compared = report.compared
    lines = [
        f"Learnt from {compared['train']} training faces, judged on {compared['test']} of {report.split}: "
        "those that all encoders could measure. Shares in %, ± half of the 95 % interval (bootstrap over people where "
        "they are known, else over faces)."
    ]
    if "people" in compared:
        lines.append(f"Leak: {compared['people']} faces of known people.")
    if "fec_triplets" in compared:
        lines.append(f"FEC: {compared['fec_triplets']} triplets of {compared['fec']} faces.")
    reasons: dict[str, list[str]] = {}
    for name in result.protocols:
        for reason in dict.fromkeys(f for row in report.rows if isinstance(f := row.found[name], str)):
            reasons.setdefault(reason, []).append(name)
    lines += [f"Not measured: {', '.join(names)} ({reason})." for reason, names in reasons.items()]
    failed: dict[str, int] = {}
    for row in report.rows:
        for part in row.coverage.values():
            for status, n in part["failed"].items():
                failed[status] = max(failed.get(status, 0), n)
    if failed:
        lines.append("Failed, most of any encoder: " + ", ".join(f"{s} {n}" for s, n in sorted(failed.items())) + ".")
    return lines


def markdown(result: ProtocolResult) -> str:
    """A section for each data set: the table, recall by class, triplets by type, and notes."""
    lines = ["# Encoders under all protocols", ""]
    lines += [f"- {name}: {PROTOCOLS[name].what}" for name in result.protocols]
    for report in result.sets:
        lines += ["", f"## {markdown_text(report.name)}", ""]
        lines.append(_sheet(columns(result), report).markdown())
        for name, title in (("linear", "linear probe"), ("head", "classification head")):
            recall = [_column(name, f"recall {e}", e) for e in EXPRESSIONS]
            lines += _section(f"Recall by class, {title}", recall, report)
        for name, title in (("triplets", "triplets from votes"), ("fec", "FEC")):
            kinds = [_column(name, kind, kind.replace("_", " ")) for kind in TYPES]
            lines += _section(f"Odd one out by triplet type, {title}", kinds, report)
        lines += ["", *(f"- {markdown_text(note)}" for note in notes(result, report))]
    return "\n".join(lines) + "\n"


def _section(title: str, found: list[Column], report: SetReport) -> list[str]:
    if all(c.cell(row) == NOTHING for c in found for row in report.rows):
        return []
    return ["", f"### {title}", "", _sheet(found, report).markdown()]


def _sheet(found: list[Column], report: SetReport, **about: Any) -> Sheet:
    rows = ([row.encoder, *(c.cell(row) for c in found)] for row in report.rows)
    return Sheet.of(["encoder", *(c.heading for c in found)], rows, **about)


def save_protocols(result: ProtocolResult, folder: str | os.PathLike[str]) -> list[str]:
    """Write `protocols.json` and `protocols.md`; gives their names. InputError where the folder can't be written."""
    out = Path(folder)
    files = {"protocols.json": result.to_json() + "\n", "protocols.md": markdown(result)}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            content = text.encode()
            write_whole(out / name, lambda f, content=content: f.write(content))  # type: ignore[misc]
    except OSError as error:
        raise InputError(f"can't write the result into {out}: {error}") from error
    return list(files)
