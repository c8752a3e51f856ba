"""From a result to a study: the page that people open, and the key with which their answers are read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from exprmetric.errors import InputError
from exprmetric.evaluation.choosing import fingerprint
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.evaluation.rows import DISTANCE_COLUMNS, Record, Rows
from exprmetric.faces import FaceFinder
from exprmetric.io.environment import stamp
from exprmetric.io.files import write_files
from exprmetric.io.plain import finite
from exprmetric.io.progress import Progress, no_progress
from exprmetric.report.crops import Picture, look, result_finder
from exprmetric.report.html import render
from exprmetric.study.drawing import NAME, ODD, PAIR, Counts, Drawn, draw_questions
from exprmetric.study.key import KEY, NAMES, PAGE, SCALE, SCHEMA_VERSION, digest_of

SIDE, QUALITY = 224, 90
"""Of the pictures: px of a side, and quality of the JPEG."""
SECONDS = {PAIR: 6, ODD: 8, NAME: 6}
"""How long people take for a question, about."""
TITLE = "How alike are these expressions?"


@dataclass(eq=False)
class _Pictures:
    """Pictures of rows, each made once."""

    rows: Rows
    finder: FaceFinder
    progress: Progress
    found: dict[int, dict[str, Picture]] = field(default_factory=dict)
    records: dict[int, Record] = field(default_factory=dict)
    missing: int = 0

    def usable(self, row: int) -> bool:
        """Whether all faces of a row are there."""
        if row not in self.found:
            self.records[row] = self.rows.record(row)
            pictures = look(self.records[row], self.finder, side=SIDE, quality=QUALITY)
            whole = all(p.uri and not p.problem for p in pictures)
            self.found[row] = {p.role: p for p in pictures} if whole else {}
            self.missing += not whole
            self.progress("pictures", len(self.found), 0)
        return bool(self.found[row])


@dataclass(frozen=True, eq=False)
class Made:
    """A study that can be written.

    Attributes:
        record: content of `study.json`.
        page: HTML.
        notes: what has to be said.
    """

    record: dict[str, Any]
    page: str
    notes: tuple[str, ...]

    def save(self, folder: Path) -> Path:
        """Write `study.html` and `study.json`; InputError where that can't be done."""
        import json

        text = json.dumps(self.record, indent=1, ensure_ascii=False, allow_nan=False)
        page = self.page.encode("utf-8", "backslashreplace")
        write_files(folder, {PAGE: page, KEY: text.encode("utf-8", "backslashreplace") + b"\n"})
        return folder


def make_study(
    result: EvaluationResult,
    counts: Counts | None = None,
    *,
    models: tuple[str, ...] = (),
    method: str = "",
    title: str = TITLE,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Made:
    """A study of a result's faces.

    Args:
        result: whose pictures are still where they were.
        counts: of questions.
        models: the only ones that are asked about; empty for all.
        method: over whose distances the rows are spread; '' for the first.
        title: of the page.
        seed: of every draw.

    Raises:
        InputError: no such method or model, or no row can be shown.
    """
    summary, rows = result.summary, result.rows
    methods = list(summary["methods"])
    if method and method not in methods:
        raise InputError(f"the result has no method {method!r}; it has {', '.join(methods)}")
    counts = counts or Counts()
    finder = result_finder(summary)
    pictures = _Pictures(rows, finder, progress)
    order = sorted(methods, key=lambda m: m != method)
    drawn = draw_questions(rows, order, counts, pictures.usable, models=models, seed=seed)
    generator = np.random.default_rng([seed, 1])
    shown: dict[str, dict[str, Any]] = {}
    uris: dict[str, str] = {}
    keys: dict[tuple[str, str], str] = {}
    questions = []
    for i, d in enumerate(drawn[k] for k in generator.permutation(len(drawn))):
        row = pictures.records[d.row]
        for role in d.roles:
            place = (row[role], row.get(f"box_{role}") or "")
            if place not in keys:
                uri = pictures.found[d.row][role].uri
                keys[place] = key = f"p{len(keys) + 1}"
                uris[key] = uri
                digest = hashlib.sha256(uri.encode()).hexdigest()
                path = str(Path(row[role]).absolute())
                shown[key] = {"path": path, "role": role, "faces": row.get(f"faces_{role}"), "sha256": digest}
        named = [keys[row[role], row.get(f"box_{role}") or ""] for role in d.roles]
        questions.append(_question(f"q{i + 1}", d, row, named, methods))
    record = {
        **stamp(SCHEMA_VERSION),
        "title": title,
        "seed": seed,
        "result": {
            "created": summary["created"],
            "methods": {m: {k: summary["methods"][m][k] for k in ("fingerprint", "distance")} for m in methods},
        },
        "pictures": shown,
        "questions": questions,
    }
    record["digest"] = digest_of(record)
    notes = _notes(drawn, counts, pictures.missing)
    if fingerprint(finder, summary["settings"]["face"]) != summary["detector"]["fingerprint"]:
        notes.append("the detector's weights are not those of the evaluation any more: faces may be cut elsewhere")
    return Made(record, _page(record, uris), tuple(notes))


def _question(name: str, drawn: Drawn, row: Record, pictures: list[str], methods: list[str]) -> dict[str, Any]:
    return {
        "id": name,
        "kind": drawn.kind,
        "catch": drawn.catch,
        "pictures": pictures,
        "roles": list(drawn.roles),
        "row": {k: row[k] or "" for k in ("id", "model", "group")},
        "distances": {m: [finite(row[f"{m}.{d}"]) for d in DISTANCE_COLUMNS] for m in methods},
    }


def _page(record: dict[str, Any], uris: dict[str, str]) -> str:
    """The page: questions and pictures, and nothing that tells raters of models, files or distances."""
    asked = [{k: q[k] for k in ("id", "kind", "pictures")} for q in record["questions"]]
    minutes = -(-sum(SECONDS[q["kind"]] for q in asked) // 60)
    data = {
        "schema_version": SCHEMA_VERSION,
        "study": record["digest"],
        "questions": asked,
        "pictures": uris,
        "scale": SCALE,
        "names": NAMES,
    }
    kinds = {q["kind"] for q in asked}
    return render("study.html", code="study.js", title=record["title"], data=data, minutes=minutes, kinds=kinds)


def _notes(drawn: list[Drawn], counts: Counts, missing: int) -> list[str]:
    found = []
    asked = {PAIR: counts.pairs, ODD: counts.odd, NAME: counts.names}
    for kind, wanted in asked.items():
        there = sum(d.kind == kind and not d.catch for d in drawn)
        if there < wanted:
            why = "each model gets its share, and some have no more rows"
            why = "it needs rows with a source" if kind == ODD and not there else why
            found.append(f"{there} questions of the kind {kind!r} in place of {wanted}: {why}")
    if missing:
        found.append(f"{missing} rows were passed over: a picture of theirs is gone, or shows no face any more")
    if counts.catch and not any(d.catch for d in drawn if d.roles[-1] == "source" or d.kind == ODD):
        found.append("no catch question with plainly different expressions: it needs rows with a source")
    return found
