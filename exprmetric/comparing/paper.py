"""`--preset paper`: the table that face-swap papers print, one row a model.

ID retrieval (does the swapped face find its source among all), pose error in degrees, expression (`default`), gaze
error in degrees, and paper 000's L2 error and ratio by `default`. A column whose weights are not here is a dash, and a
note says which command brings them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from exprmetric.comparing.contestants import Keys, by_pair, contestants, measured, notes_of
from exprmetric.errors import InputError
from exprmetric.evaluation.tables import alarm_lines, caption, coverage_line, models_of, note_lines
from exprmetric.io.page import Page, Section
from exprmetric.io.plain import as_json
from exprmetric.io.sheet import Column, Content, Row, Sheet, score_cell
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
    return Sheet(_columns(), _rows(summary, "all"), notes=_notes(summary))


def _columns() -> list[Column]:
    scores = [Column(heading, key, ends=(f"{key}.low", f"{key}.high")) for heading, key, *_ in _COLUMNS]
    return [Column("model", words=True), Column("n"), *scores]


def _rows(summary: Mapping[str, Any], nameless: str, left_out: Collection[str] = ()) -> list[Row]:
    """A row for each model, or one with the name of all; without the columns that are left out."""
    rows = []
    models = models_of(dict(summary))
    for name in models or [""]:
        methods = summary["groups"][name]["methods"] if models else summary["methods"]
        found = summary.get("id_retrieval")
        looked_up = (found.get("models", {}).get(name) if name else found) if found else None
        cells: list[Content] = [name or nameless, max((m["n"] for m in methods.values()), default=0)]
        for _, key, method, score in _COLUMNS:
            part = looked_up if method is None else methods.get(method)
            cells.append(score_cell(None if key in left_out else (part or {}).get(score)))
        rows.append(Row(cells))
    return rows


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


def paper_page(result: EvaluationResult) -> Page:
    """The table of one result."""
    summary = result.summary
    sheet = paper_sheet(summary)
    said = "".join(f" {note}." for note in _own_notes(summary))
    return Page(
        first=[coverage_line(summary["coverage"])],
        sections=[Section(sheet)],
        whole=sheet,
        json=lambda: result.to_json(),
        printed=[(sheet, caption(summary) + said, "tab:swap")],
        alarms=alarm_lines(summary),
    )


def papers_sheet(results: Mapping[str, EvaluationResult], match: str = "content") -> Sheet:
    """The table of several results, a row a model; a column that was not measured in one way in all is left out.

    Args:
        results: by name.
        match: what makes two targets or sources the same: `content` or `path`.
    """
    summaries = {name: result.summary for name, result in results.items()}
    left_out: dict[str, str] = {}
    for _, key, method, _ in _COLUMNS:
        ways = {_way(summary, method) for summary in summaries.values()} - {""}
        if len(ways) > 1:
            left_out[key] = f"– {key} was not measured in one way in all: {' and '.join(sorted(ways))}"
    rows = [row for name, summary in summaries.items() for row in _rows(summary, name, left_out)]
    names = [str(row.cells[0]) for row in rows]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise InputError(f"two of the models compared are called {twice!r}; rename a folder")
    notes = [note for summary in summaries.values() for note in _notes(summary)]
    return Sheet(_columns(), rows, notes=list(dict.fromkeys([*left_out.values(), *_same_rows(results, match), *notes])))


def _way(summary: Mapping[str, Any], method: str | None) -> str:
    """By what a column was measured: its fingerprint; '' where it wasn't."""
    if method is not None:
        return str(summary["methods"].get(method, {}).get("fingerprint", ""))
    found = summary.get("id_retrieval")
    return f"{found['network']} among {found['gallery_size']}" if found else ""


def _same_rows(results: Mapping[str, EvaluationResult], match: str) -> list[str]:
    """A sentence where the models were not measured on the same targets and sources, or with other detectors."""
    models = contestants(results)
    keys = Keys(match)
    pairs = [set(measured(m.rows, by_pair((m, keys.pairs(m.rows, every=m.every_face))))) for m in models]
    common, every = set.intersection(*pairs), set.union(*pairs)
    lines = []
    if len(common) < len(every):
        lines.append(
            f"{len(common)} of {len(every)} pairs of target and source were measured for all models; each model's "
            "scores are over its own: `exprmetric compare` without --preset compares on shared ones"
        )
    return [*lines, *notes_of(models, ())]


def papers_page(results: Mapping[str, EvaluationResult], match: str = "content") -> Page:
    """The table of several results."""
    sheet = papers_sheet(results, match)
    summaries = {name: result.summary for name, result in results.items()}
    made = "; ".join(f"{name}: {caption(summary)}" for name, summary in summaries.items())
    return Page(
        first=[f"{name}: {coverage_line(summary['coverage'])}" for name, summary in summaries.items()],
        sections=[Section(sheet)],
        whole=sheet,
        json=lambda: as_json(list(sheet.records())),
        printed=[(sheet, " ".join([*(f"{note}." for note in sheet.notes), made]), "tab:swap")],
        alarms=[f"{name}: {line}" for name, summary in summaries.items() for line in alarm_lines(summary)],
    )
