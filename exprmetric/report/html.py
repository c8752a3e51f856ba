"""`report.html`: a result as one file that opens anywhere, without a network.

Whatever an input named (files, models, reasons) is escaped by Jinja2's autoescape; the page's own policy lets it load
nothing, and run only the one script whose hash it states.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from exprmetric.choices import IDENTITY
from exprmetric.comparing.compare import Comparison, compare
from exprmetric.comparing.compared import LEVEL, all_differences
from exprmetric.comparing.contestants import contestants
from exprmetric.errors import ExprmetricError
from exprmetric.evaluation.choosing import fingerprint
from exprmetric.evaluation.clouds import cloud_lines
from exprmetric.evaluation.privacy import privacy_sheet
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.evaluation.rows import DISTANCE_COLUMNS, Record, Rows
from exprmetric.evaluation.tables import (
    coverage_line,
    headline,
    identity_lines,
    label,
    models_of,
    note_lines,
    number,
    shown_scores,
    speed_line,
    splits,
)
from exprmetric.io.files import write_whole
from exprmetric.io.pool import open_pool
from exprmetric.io.sheet import Sheet
from exprmetric.report import figures
from exprmetric.report.crops import result_finder, with_pictures
from exprmetric.report.gallery import PLACES, failures, gallery

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

REPORT = "report.html"
CONTENTS = "<!-- contents -->"
MOST_ROWS = 2000
"""Triplets in the page's table; triplets.csv has all."""
SETTINGS = ("face", "provider", "on_fail", "seed", "landmarks", "commercial_only")
"""Settings that the page names; its command says the others."""
MOST_DUELS = 45
"""Pairs of models whose differences the page shows: those of ten models."""


def environment() -> Environment:
    """The templates, with autoescape on for every one of them."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    jinja = Environment(
        loader=PackageLoader("exprmetric.report"),
        autoescape=True,
        undefined=StrictUndefined,  # a misspelt name is an error, not an empty cell
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters["basename"] = lambda path: Path(path).name
    jinja.filters["commands"] = commands
    jinja.globals |= {"number": number, "coverage_line": coverage_line, "label": label, "LEVEL": LEVEL, "table": table}
    return jinja


def commands(text: str) -> Markup:
    """A sentence whose `commands` are set as code; all else in it is escaped."""
    from markupsafe import Markup, escape

    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def table(sheet: Sheet, name: str = "", kind: str = "") -> Markup:
    """A table of a page; `Sheet.html` escapes every text itself."""
    from markupsafe import Markup

    return Markup(sheet.html(name, kind))


def render(template: str, *, code: str = "report.js", **context: Any) -> str:
    """A page of the templates; the script inside it, `code` of the templates, is the one that its policy allows."""
    from markupsafe import Markup

    jinja = environment()
    script = (Path(__file__).parent / "templates" / code).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = jinja.get_template(template)
    return with_contents(page.render(script=Markup(script), script_hash=digest, **context))


def with_contents(page: str) -> str:
    """A page whose headings have ids, and a list of them where its template has `CONTENTS`."""
    found: list[tuple[str, str]] = []

    def mark(heading: re.Match[str]) -> str:
        found.append((f"part-{len(found) + 1}", heading[2]))
        return f'<h2 id="{found[-1][0]}"{heading[1]}>{heading[2]}</h2>'

    page = re.sub(r"<h2([^>]*)>([^<]*)</h2>", mark, page)
    links = "".join(f'<li><a href="#{name}" class="name">{text}</a></li>' for name, text in found)
    listed = f'<nav class="contents" aria-label="Contents"><ul>{links}</ul></nav>' if links else ""
    return page.replace(CONTENTS, listed)


def write_page(path: Path, page: str) -> None:
    """Write a page whole or not at all; OSError where that can't be."""
    write_whole(path, lambda file: file.write(page.encode("utf-8", "backslashreplace")))


def write_report(result: EvaluationResult, folder: str | os.PathLike[str], *, jobs: int | None = None) -> Path:
    """Draw `report.html` into a folder that `EvaluationResult.save` has written.

    Args:
        result: what `evaluate` returned, or `EvaluationResult.load` read.
        folder: exists.
        jobs: threads that read the gallery's images.

    Raises:
        ExprmetricError: the page could not be drawn or written; the folder's other files are as they were.
    """
    path = Path(folder) / REPORT
    try:
        write_page(path, report_page(result, jobs=jobs))
    except Exception as error:  # whatever it is, it must not look as if the measurement had failed
        path.unlink(missing_ok=True)  # an older page would show other numbers than the files beside it
        raise ExprmetricError(
            f"the result is written, but {path} could not be drawn: {type(error).__name__}: {error}"
        ) from error
    return path


def report_page(result: EvaluationResult, *, jobs: int | None = None) -> str:
    """The report as HTML."""
    summary, rows = result.summary, result.rows
    methods = list(summary["methods"])
    cards, failed = gallery(rows, methods), failures(rows)
    finder = result_finder(summary)
    with open_pool(jobs) as pool:
        cards = list(with_pictures(cards, finder, pool))
        failed = [replace(f, cards=list(with_pictures(f.cards, finder, pool))) for f in failed]
    shown = rows.records(range(min(MOST_ROWS, len(rows))))
    columns = [m for m in dict.fromkeys([*methods, IDENTITY]) if m in rows.methods]
    return render(
        "report.html",
        summary=summary,
        data_name=data_name(rows),
        places=_places(result),
        headline=headline(summary),
        headline_keys=shown_scores(summary["methods"]),
        splits=splits(summary),
        identity=identity_lines(summary),
        privacy=privacy_sheet(summary),
        clouds=cloud_lines(summary),
        speed=speed_line(summary["throughput"]),
        notes=note_lines(summary["methods"]),
        same_faces=fingerprint(finder, summary["settings"]["face"]) == summary["detector"]["fingerprint"],
        failures=failed,
        comparison=_between_models(result),
        all_differences=all_differences,
        most_duels=MOST_DUELS,
        models=_models(rows),
        several=bool(models_of(summary)),
        series=figures.SERIES,
        **_figures(result, methods),
        cards=cards,
        kinds=PLACES,
        rows=shown,
        columns=columns,
        distances=DISTANCE_COLUMNS,
        data=_data(shown, cards, columns),
        total=len(rows),
        shown_settings=SETTINGS,
    )


def data_name(rows: Rows) -> str:
    """What a page calls its data: the models where they are named, or else the folder that holds the pictures."""
    if models := [m for m in rows.codes("model")[1] if m]:
        return ", ".join(models)
    folders = {str(Path(p).parent) for role in ("target", "swapped") for p in rows.codes(role)[1] if p}
    try:
        return Path(os.path.commonpath(folders)).name if folders else ""
    except ValueError:  # some are absolute, some aren't
        return ""


def _places(result: EvaluationResult) -> list[figures.Place]:
    groups = result.summary["groups"]
    models = {m: groups[m]["methods"] for m in models_of(result.summary) if m in groups}
    return figures.places(result.summary["methods"], models)


def _models(rows: Rows) -> dict[str, int]:
    """Models by name with the number of their colour; those with most triplets have one of their own."""
    codes, models = rows.codes("model")
    counts = dict(zip(models, np.bincount(codes, minlength=len(models)).tolist(), strict=True))
    names = sorted(counts, key=lambda name: (-counts[name], name))
    return {name: min(i, figures.SERIES - 1) for i, name in enumerate(names)}


def _figures(result: EvaluationResult, methods: Sequence[str]) -> dict[str, Any]:
    summary, rows = result.summary, result.rows
    if not rows.ok.any():
        return {"scatters": [], "histograms": [], "calibrations": [], "hidden": []}
    series = _models(rows)
    sourced = rows.where(~rows.without_source)
    some = bool(sourced.ok.any())
    bars = [figures.calibration(sourced, m, seed=summary["settings"]["seed"]) for m in methods if some]
    control = summary["identity"] and some
    models = {name: group["methods"] for name, group in summary["groups"].items()}
    privacy = summary.get("privacy")
    dots = [figures.hidden(summary["methods"], m, privacy, models, series) for m in methods if privacy]
    return {
        "hidden": [d for d in dots if d],
        "scatters": [figures.scatter(sourced, m, IDENTITY, series) for m in methods] if control else [],
        "histograms": figures.histograms(rows, methods, models_of(summary)),
        "calibrations": [b for b in bars if b],
    }


def _between_models(result: EvaluationResult) -> Comparison | None:
    """The models of one result on the pairs they share; None where there are not two."""
    if len(result.rows.codes("model")[1]) < 2:
        return None
    models = contestants({"this report": result})
    if len(models) < 2:
        return None
    comparison = compare(models, seed=result.summary["settings"]["seed"])
    return replace(comparison, duels=sorted(comparison.duels, key=lambda d: -d.n))


def _data(rows: Sequence[Record], cards: Sequence[Any], methods: Sequence[str]) -> dict[str, Any]:
    """What the page's script sorts and filters by, for the rows and cards that it shows."""
    wanted = {**dict(enumerate(rows)), **{c.index: c.row for c in cards}}
    return {
        "scores": [f"{m}.{d}" for m in methods for d in DISTANCE_COLUMNS],
        "rows": {
            str(i): [r["model"], r["status"], [r[f"{m}.{d}"] for m in methods for d in DISTANCE_COLUMNS]]
            for i, r in wanted.items()
        },
    }
