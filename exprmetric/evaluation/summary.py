"""Rows → scores: per method and per split, with intervals, coverage, the identity control and the two anchors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from exprmetric.errors import InputError
from exprmetric.evaluation.pipeline import OK, Row
from exprmetric.metrics.preservation import HIGHER_IS_BETTER, SCORES, per_triplet
from exprmetric.metrics.uncertainty import bootstrap_means
from exprmetric.triplets import Triplet

ON_FAIL = ("exclude", "worst")
SAME, DIFFERENT = "same_label", "different_label"


def coverage(rows: Sequence[Row]) -> dict[str, Any]:
    """How many triplets were measured, and how many failed by status."""
    counts = Counter(r.status for r in rows)
    return {"triplets": len(rows), "ok": counts.pop(OK, 0), "failed": dict(sorted(counts.items()))}


def _score(value: float, interval: tuple[float, float]) -> dict[str, Any]:
    return {"value": _number(value), "ci95": [_number(v) for v in interval]}


def _number(value: float) -> float | None:
    """JSON has no NaN: what could not be computed is null."""
    return float(value) if np.isfinite(value) else None


def method_scores(rows: Sequence[Row], method: str, *, on_fail: str = "exclude", seed: int = 0) -> dict[str, Any]:
    """Scores of one method with 95 % intervals.

    Args:
        rows: of all statuses.
        on_fail: `exclude` scores the rows that are ok. `worst` counts each failed row as the worst row that was
            measured, and as not preserved in the ratio: a model can't gain by faces that nobody finds.

    Returns:
        `n`, the scores of paper 000 as `{"value", "ci95"}`, `mean_s2c`, `mean_s2t`, and `anchors`: the scores of a
        model that changes nothing (c = t), and of one that pastes the source (c = s).
    """
    measured = [r for r in rows if r.status == OK]
    d = [r.distances[method] for r in measured]
    columns = per_triplet([v.t2c for v in d], [v.s2c for v in d], [v.s2t for v in d])
    groups = [r.group for r in measured]
    s2t = columns["mean_s2t"]
    if on_fail == "worst" and measured:
        failed = [r for r in rows if r.status != OK]
        groups += [r.group for r in failed]
        for name, values in columns.items():
            worst = 0.0 if HIGHER_IS_BETTER.get(name) else values.max()
            columns[name] = np.concatenate([values, np.full(len(failed), worst)])
    intervals = bootstrap_means({name: columns[name] for name in SCORES}, groups, seed=seed)
    nothing = np.zeros_like(s2t)
    return {
        "n": len(groups),
        **{name: _score(_mean(columns[name]), intervals[name]) for name in SCORES},
        "mean_s2c": _number(_mean(columns["mean_s2c"])),
        "mean_s2t": _number(_mean(columns["mean_s2t"])),
        "anchors": {
            "nothing_swapped": _means(nothing, s2t, s2t),
            "source_pasted": _means(s2t, nothing, s2t),
        },
    }


def _mean(values: Any) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _means(t2c: Any, s2c: Any, s2t: Any) -> dict[str, float | None]:
    columns = per_triplet(t2c, s2c, s2t)
    return {name: _number(_mean(columns[name])) for name in SCORES}


def identity_control(rows: Sequence[Row], method: str, *, seed: int = 0) -> dict[str, Any]:
    """Did the identity change? Share of swapped faces that are nearer to the source, and the mean distances."""
    measured = [r for r in rows if r.status == OK]
    d = [r.distances[method] for r in measured]
    nearer = np.array([v.s2c < v.t2c for v in d], np.float64)
    (interval,) = bootstrap_means({"nearer": nearer}, [r.group for r in measured], seed=seed).values()
    return {
        "n": len(d),
        "nearer_to_source": _score(_mean(nearer), interval),
        "mean_t2c": _number(_mean([v.t2c for v in d])),
        "mean_s2c": _number(_mean([v.s2c for v in d])),
        "mean_s2t": _number(_mean([v.s2t for v in d])),
    }


def check_models(triplets: Iterable[Triplet]) -> None:
    """InputError if a model has the name of a split: they stand side by side in `groups`."""
    clash = {t.model for t in triplets} & {SAME, DIFFERENT}
    if clash:
        raise InputError(f"a model can't be named {', '.join(sorted(clash))}: that is the name of a split")


def splits(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each split: same and different label where labels are given (Table II), and each model."""
    check_models(row.triplet for row in rows)
    found: dict[str, list[Row]] = {}
    for row in rows:
        same = row.triplet.same_label
        if same is not None:
            found.setdefault(SAME if same else DIFFERENT, []).append(row)
    models: dict[str, list[Row]] = {}
    for row in rows:
        if row.triplet.model:
            models.setdefault(row.triplet.model, []).append(row)
    return {**dict(sorted(found.items())), **dict(sorted(models.items()))}


def summarise(
    rows: Sequence[Row],
    methods: Sequence[str],
    identity: str | None,
    *,
    on_fail: str = "exclude",
    seed: int = 0,
) -> dict[str, Any]:
    """`coverage`, `methods`, `groups` and `identity` of `summary.json`."""
    if on_fail not in ON_FAIL:
        raise InputError(f"unknown on_fail {on_fail!r}; known: {', '.join(ON_FAIL)}")

    def scores(part: Sequence[Row]) -> dict[str, Any]:
        return {m: method_scores(part, m, on_fail=on_fail, seed=seed) for m in methods}

    return {
        "coverage": coverage(rows),
        "methods": scores(rows),
        "groups": {name: {"coverage": coverage(part), "methods": scores(part)} for name, part in splits(rows).items()},
        "identity": identity_control(rows, identity, seed=seed) if identity else None,
    }
