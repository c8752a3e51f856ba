"""Results made by hand: rows with known numbers, over files whose content is their own name."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exprmetric.evaluation.pipeline import OK, Distances, Row
from exprmetric.evaluation.result import EvaluationResult, record
from exprmetric.evaluation.summary import summarise
from exprmetric.triplets import Triplet

METHODS = ("lm68", "other")


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
    summary: dict[str, Any] = {
        "schema_version": 1,
        "exprmetric_version": "0.0.0",
        "created": "2026-01-01T00:00:00+00:00",
        **summarise(rows, list(methods), "identity"),
        "detector": {"asked": "dlib", "ran": "dlib", "fingerprint": "dlib:0"},
        "settings": {"face": "largest", "provider": "cpu", "on_fail": "exclude", "seed": 0},
        "throughput": {"seconds": 1.0, "triplets_per_second": 1.0, "thread_seconds_by_stage": {}},
        "environment": {"python": "3"},
    }
    for part in (summary["methods"], *(g["methods"] for g in summary["groups"].values())):
        for name in methods:
            part[name] |= {"distance": "l2", "fingerprint": hashlib.sha256(f"{weights}{name}".encode()).hexdigest()}
    summary["identity"]["fingerprint"] = "identity:0"
    return EvaluationResult(summary, [record(r, [*methods, "identity"]) for r in rows])
