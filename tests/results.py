"""Results made by hand: rows with known numbers, over files whose content is their own name."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from exprmetric.evaluation.result import EvaluationResult
from exprmetric.evaluation.rows import OK, Rows, table
from exprmetric.evaluation.summary import summarise
from exprmetric.inputs.triplets import Triplet

METHODS = ("lm68", "other")


class Distances(NamedTuple):
    """Distances of one triplet in the space of one method."""

    t2c: float
    s2c: float
    s2t: float


@dataclass(frozen=True)
class Row:
    """What became of one triplet; distances by method."""

    triplet: Triplet
    group: str
    status: str = OK
    reason: str = ""
    distances: dict[str, Distances] = field(default_factory=dict)


def rows_of(rows: Sequence[Row], methods: Sequence[str]) -> Rows:
    """The rows as `evaluate` makes them; the groups are given."""
    none = (np.nan, np.nan, np.nan)
    distances = {m: np.array([r.distances.get(m, none) for r in rows]).reshape(-1, 3) for m in methods}
    made = table(
        [replace(r.triplet, group=r.group) for r in rows],
        range(len(rows)),
        [[str(getattr(r.triplet, role) or "") for role in ("target", "source", "swapped")] for r in rows],
        [r.status for r in rows],
        [r.reason for r in rows],
        distances,
    )
    return Rows(made)


def without_inner(rows: Rows) -> Rows:
    return rows.without_inner()


def content_file(folder: Path, name: str, content: str) -> Path:
    """A file below `folder` with this content; no image, which nothing that compares results has to open."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def row(
    folder: Path,
    target: str,
    source: str,
    *,
    model: str = "",
    group: str = "",
    status: str = OK,
    id_: str = "",
    seed: object = 0,
    reason: str = "",
    methods: Sequence[str] = METHODS,
) -> Row:
    """A triplet whose distances are random, and the same for the same names and seed."""
    paths = {r: content_file(folder, f"{r}/{n}", n) for r, n in (("target", target), ("source", source))}
    triplet = Triplet(
        id_ or f"{target}_{source}", paths["target"], paths["source"], folder / "swapped" / target, model=model
    )
    chance = random.Random(f"{target}/{source}/{seed}")
    distances = {m: Distances(*(chance.uniform(0.1, 1.0) for _ in range(3))) for m in [*methods, "identity"]}
    return Row(triplet, group or target, status, reason, distances if status == OK else {})


def result(rows: Sequence[Row], *, methods: Sequence[str] = METHODS, weights: str = "w") -> EvaluationResult:
    """What `evaluate` returns, for rows."""
    made = rows_of(rows, [*methods, "identity"])
    summary: dict[str, Any] = {
        "schema_version": 1,
        "exprmetric_version": "0.0.0",
        "created": "2026-01-01T00:00:00+00:00",
        **summarise(made, list(methods), "identity"),
        "detector": {"asked": "dlib", "ran": "dlib", "fingerprint": "dlib:0"},
        "settings": {"face": "largest", "provider": "cpu", "on_fail": "exclude", "seed": 0},
        "throughput": {"seconds": 1.0, "triplets_per_second": 1.0, "thread_seconds_by_stage": {}},
        "environment": {"python": "3"},
    }
    for part in (summary["methods"], *(g["methods"] for g in summary["groups"].values())):
        for name in methods:
            part[name] |= {"distance": "l2", "fingerprint": hashlib.sha256(f"{weights}{name}".encode()).hexdigest()}
    summary["identity"]["fingerprint"] = "identity:0"
    return EvaluationResult(summary, without_inner(made))
