"""`--preset paper`: the table that face-swap papers print, one row a model.

ID retrieval (does the swapped face find its source among all), pose error in degrees, expression (`default`), gaze
error in degrees, and paper 000's L2 error and ratio by `default`. A column whose weights are not here is a dash, and a
note says which command brings them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from exprmetric.evaluation.tables import alarm_lines, caption, coverage_line, models_of, note_lines
from exprmetric.io.say import say, say_csv, say_json
from exprmetric.io.sheet import Column, Content, Row, Sheet, score_cell
from exprmetric.io.tables import markdown_text, printable
from exprmetric.weights import store as weights

if TYPE_CHECKING:
    from exprmetric.evaluation.result import EvaluationResult

EXPRESSION, POSE, GAZE = "default", "pose", "gaze"
SCORES = ("id_retrieval",)
MESH = "mediapipe-face-landmarker"
_COLUMNS = (
    ("ID retrieval ↑", "id_retrieval", None, "rank1"),
    ("pose ↓ (°)", POSE, POSE, "mean_t2c"),
    ("expression ↓", "expression", EXPRESSION, "mean_t2c"),
    ("gaze ↓ (°)", GAZE, GAZE, "mean_t2c"),
    ("L2 error ↓", "l2_error", EXPRESSION, "l2_error"),
    ("ratio ↑", "ratio", EXPRESSION, "ratio"),
)
"""Heading, key, method (None: `id_retrieval` of the summary) and score."""


def missing() -> list[str]:
    """Commands that bring what the column of the gaze needs and is not here."""
    needed = [] if weights.is_present(MESH) else [f"exprmetric weights pull {MESH}"]
    return needed + ([] if find_spec("ai_edge_litert") else ["pip install 'exprmetric[mediapipe]'"])


def paper_methods() -> tuple[str, ...]:
    """The methods of the table that can be measured here."""
    return (EXPRESSION, POSE) if missing() else (EXPRESSION, POSE, GAZE)


def paper_sheet(summary: Mapping[str, Any]) -> Sheet:
    """The table of a result. Of several models each has a row; the best of a column is marked among them."""
    models = models_of(dict(summary))
    columns = [Column("model", words=True), Column("n")]
    columns += [Column(heading, key, ends=(f"{key}.low", f"{key}.high")) for heading, key, *_ in _COLUMNS]
    rows = []
    for name in models or [""]:
        methods = summary["groups"][name]["methods"] if models else summary["methods"]
        found = summary.get("id_retrieval")
        looked_up = (found.get("models", {}).get(name) if name else found) if found else None
        cells: list[Content] = [name or "all", max((m["n"] for m in methods.values()), default=0)]
        for _, _, method, score in _COLUMNS:
            part = looked_up if method is None else methods.get(method)
            cells.append(score_cell((part or {}).get(score)))
        rows.append(Row(cells))
    return Sheet(columns, rows, notes=_notes(summary))


def _notes(summary: Mapping[str, Any]) -> list[str]:
    return [*_own_notes(summary), *note_lines(dict(summary["methods"]))]


def _own_notes(summary: Mapping[str, Any]) -> list[str]:
    notes = []
    if GAZE not in summary["methods"] and (commands := missing()):
        notes.append(f"– gaze was not measured; it needs: {', then '.join(commands)}")
    if (found := summary.get("id_retrieval")) and found["n"]:
        notes.append(
            f"ID retrieval: share of swapped faces nearest to their own source among {found['gallery_size']} "
            f"({found['network']}, cosine)"
        )
    return notes


def print_paper(result: EvaluationResult, form: str) -> None:
    """The table on stdout in one of the forms of `--format`."""
    _FORMS[form](result)


def _table(result: EvaluationResult) -> None:
    summary = result.summary
    for line in (coverage_line(summary["coverage"]), *alarm_lines(summary)):
        say(printable(line))
    paper_sheet(summary).print()


def _markdown(result: EvaluationResult) -> None:
    sheet = paper_sheet(result.summary)
    lines: Sequence[str] = [coverage_line(result.summary["coverage"]), *alarm_lines(result.summary), *sheet.notes]
    first, *rest = (f"{markdown_text(line)}." for line in lines)
    say("\n\n".join([first, sheet.markdown(), *rest]))


def _latex(result: EvaluationResult) -> None:
    summary = result.summary
    alarms = [f"% {line}" for line in alarm_lines(summary)]
    said = "".join(f" {note}." for note in _own_notes(summary))
    say("\n".join([*alarms, paper_sheet(summary).latex(caption(summary) + said, "tab:swap")]))


def _csv(result: EvaluationResult) -> None:
    for line in alarm_lines(result.summary):
        print(line, file=sys.stderr)
    say_csv(paper_sheet(result.summary).csv())


_FORMS: dict[str, Callable[[EvaluationResult], None]] = {
    "table": _table,
    "json": lambda result: say_json(result.to_json()),
    "csv": _csv,
    "markdown": _markdown,
    "latex": _latex,
}
