"""Rows of all parts of a run → the result: the same summary whoever measured them, and in how many pieces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from exprmetric.choices import IDENTITY
from exprmetric.evaluation.carried import another_target
from exprmetric.evaluation.clouds import efid, id_retrieval
from exprmetric.evaluation.kept import add_kept, maps_of, with_kept
from exprmetric.evaluation.large.private import PrivateVectors
from exprmetric.evaluation.origin import input_record, weights_of
from exprmetric.evaluation.privacy import privacy
from exprmetric.evaluation.result import SCHEMA_VERSION, EvaluationResult
from exprmetric.evaluation.rows import Rows
from exprmetric.evaluation.session import Settings
from exprmetric.evaluation.summary import summarise, tells_people
from exprmetric.evaluation.tables import models_of
from exprmetric.evaluation.verdict import verdict
from exprmetric.io.environment import environment, stamp

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Measured:
    """All rows, and what is known of how they were measured.

    Attributes:
        rows: as `exprmetric.evaluation.rows.table` makes them, in input order.
        run: the description of the session that measured them, and its `settings`.
        origin: of `Origin.as_json`: where the rows come from.
        throughput: what it took; the only part of the summary, with `created`, that two runs don't share.
        notes: how rows were found in the input, where the user should know.
        vectors: by which people are looked up again; None: they aren't.
        clouds: the vectors of `Settings.clouds`.
    """

    rows: pa.Table
    run: dict[str, Any]
    origin: dict[str, Any]
    throughput: dict[str, Any]
    notes: Sequence[str]
    vectors: PrivateVectors | None
    clouds: PrivateVectors | None


def conclude(
    measured: Measured, settings: Settings, *, on_fail: str, seed: int, made_with: dict[str, str] | None = None
) -> EvaluationResult:
    """The result of all rows.

    Args:
        made_with: versions of what measured the rows; None: those that are here.
    """
    description, origin, vectors, clouds = measured.run, measured.origin, measured.vectors, measured.clouds
    given = Rows(measured.rows)
    rows = given.grouped()
    names = settings.names()
    behind = {IDENTITY, settings.privacy, settings.retrieval, settings.classes}
    shown = [n for n in names if n not in behind or n in settings.methods]
    identity = IDENTITY if settings.identity else None
    summary: dict[str, Any] = {
        **stamp(SCHEMA_VERSION),
        **summarise(rows, shown, identity, on_fail=on_fail, seed=seed, by=settings.by),
        "notes": list(measured.notes),
        "detector": description["detector"],
        "command": origin["command"],
        "input": input_record(origin, given, settings.face, description.get("photo", "")),
        "settings": {**settings.as_dict(), "on_fail": on_fail, "seed": seed},
        "weights": weights_of(_fingerprints(description)),
        "throughput": measured.throughput,
        "environment": made_with or environment(),
    }
    if clouds is not None:
        if settings.efid:
            summary["efid"] = {name: efid(rows, clouds, name) for name in dict.fromkeys(settings.methods)}
        if settings.retrieval:
            summary["id_retrieval"] = id_retrieval(rows, clouds, settings.retrieval, seed=seed)
    if vectors is not None:
        second = str(description.get("second_detector", ""))
        summary["privacy"] = privacy(rows, given, vectors, settings.privacy, second, seed=seed)
        summary["privacy"]["fingerprint"] = description["methods"][settings.privacy]["fingerprint"]
    for name, about in description["methods"].items():
        anchor = another_target(rows, name, about["distance"]) if name in shown else None
        for part in [summary["methods"], *(part["methods"] for part in _parts(summary))]:
            if name in part:
                part[name] |= about
                if anchor is not None:
                    part[name]["anchors"]["another_target"] = {"mean_t2c": anchor}
        if name == IDENTITY and settings.identity:
            summary["identity"]["fingerprint"] = about["fingerprint"]
    maps = maps_of(description["methods"], [name for name in shown if not tells_people(name)])
    add_kept(summary, rows, maps, on_fail=on_fail, seed=seed)
    groups = len(np.unique(rows.codes("group")[0][rows.ok]))
    summary["verdict"] = verdict(summary, groups, models_of(summary))
    return EvaluationResult(summary, with_kept(rows.without_inner(), maps))


def _fingerprints(description: dict[str, Any]) -> list[str]:
    return [description["detector"]["fingerprint"], *(m["fingerprint"] for m in description["methods"].values())]


def _parts(summary: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All that has `methods` of its own."""
    yield from summary["groups"].values()
    for values in summary.get("by", {}).values():
        for part in values.values():
            yield part
            yield from part.get("models", {}).values()
