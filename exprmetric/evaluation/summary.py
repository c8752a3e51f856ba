"""Rows → scores: per method and per split, with intervals, coverage, the identity control and the two anchors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.choices import IDENTITY, ON_FAIL
from exprmetric.errors import InputError
from exprmetric.evaluation.alarms import find_alarms
from exprmetric.evaluation.by import by_parts
from exprmetric.evaluation.rows import DISTANCE_COLUMNS, OK, Rows
from exprmetric.io.plain import finite, score
from exprmetric.methods.identity import SAME_PERSON
from exprmetric.metrics.preservation import HIGHER_IS_BETTER, SCORES, WITHOUT_SOURCE, per_triplet
from exprmetric.metrics.uncertainty import bootstrap_means
from exprmetric.weights import store as weights

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

SAME, DIFFERENT = "same_label", "different_label"
WITH, WITHOUT = "with_source", "without_source"


def coverage(rows: Rows) -> dict[str, Any]:
    """How many triplets were measured, and how many failed by status."""
    codes, names = rows.codes("status")
    counts = dict(zip(names, np.bincount(codes, minlength=len(names)).tolist(), strict=True))
    ok = counts.pop(OK, 0)
    return {"triplets": len(rows), "ok": ok, "failed": {name: n for name, n in counts.items() if n}}


def method_scores(rows: Rows, part: Mask, method: str, *, on_fail: str = "exclude", seed: int = 0) -> dict[str, Any]:
    """Scores of one method with 95 % intervals.

    Args:
        rows: of all statuses.
        part: (N,) those that count.
        on_fail: `exclude` scores the rows that are ok. `worst` counts each failed row as the worst row that was
            measured, and as not preserved in the ratio: a model can't gain by faces that nobody finds.

    Returns:
        `n`, the scores of paper 000 as `{"value", "ci95"}`, `mean_s2c`, `mean_s2t`, and `anchors`: the scores of a
        model that changes nothing (c = t), and of one that pastes the source (c = s). What needs a source is taken over
        the rows that have one (`n_with_source`, where some have none), and absent where none has.
    """
    pairs = part & rows.without_source
    triplets = part & ~pairs
    if not pairs.any():
        return _scores(rows, part, method, SCORES, on_fail, seed) | _source_means(rows, part, method, on_fail)
    found = _scores(rows, part, method, WITHOUT_SOURCE, on_fail, seed)
    found["anchors"] = {"nothing_swapped": {"mean_t2c": 0.0}}
    if not triplets.any():
        return found
    of_sources = [s for s in SCORES if s not in WITHOUT_SOURCE]
    more = _scores(rows, triplets, method, of_sources, on_fail, seed) | _source_means(rows, triplets, method, on_fail)
    return {"n": found["n"], "n_with_source": more["n"], **found, **{k: v for k, v in more.items() if k != "n"}}


def _counted(rows: Rows, part: Mask, method: str, on_fail: str) -> tuple[dict[str, Floats], npt.NDArray[np.int32]]:
    """What each row that counts adds to each score, and its group. What needs a source that a row lacks is NaN."""
    ok, failed = part & rows.ok, part & ~rows.ok
    columns = per_triplet(*(rows.distance(method, d)[ok] for d in DISTANCE_COLUMNS))
    groups = rows.codes("group")[0]
    drawn = groups[ok]
    if on_fail == "worst" and ok.any():
        drawn = np.concatenate([drawn, groups[failed]])
        for name, values in columns.items():
            worst = 0.0 if HIGHER_IS_BETTER.get(name) else values.max()
            columns[name] = np.concatenate([values, np.full(int(failed.sum()), worst)])
    return columns, drawn


def _scores(rows: Rows, part: Mask, method: str, names: Sequence[str], on_fail: str, seed: int) -> dict[str, Any]:
    """`n` and some scores with intervals."""
    columns, drawn = _counted(rows, part, method, on_fail)
    intervals = bootstrap_means({name: columns[name] for name in names}, drawn, seed=seed)
    return {"n": len(drawn), **{name: score(_mean(columns[name]), intervals[name]) for name in names}}


def _source_means(rows: Rows, part: Mask, method: str, on_fail: str) -> dict[str, Any]:
    """Mean distances to sources, and the anchors, of rows that have sources."""
    columns, _ = _counted(rows, part, method, on_fail)
    s2t = rows.distance(method, "s2t")[part & rows.ok]
    nothing = np.zeros_like(s2t)
    return {
        "mean_s2c": finite(_mean(columns["mean_s2c"])),
        "mean_s2t": finite(_mean(columns["mean_s2t"])),
        "anchors": {
            "nothing_swapped": _means(nothing, s2t, s2t),
            "source_pasted": _means(s2t, nothing, s2t),
        },
    }


def _mean(values: Any) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _means(t2c: Any, s2c: Any, s2t: Any) -> dict[str, float | None]:
    columns = per_triplet(t2c, s2c, s2t)
    return {name: finite(_mean(columns[name])) for name in SCORES}


def identity_control(rows: Rows, method: str, *, seed: int = 0) -> dict[str, Any]:
    """Did the identity change? Share of swapped faces that are nearer to the source, and the mean distances.

    What needs a source is taken over the rows that have one, and absent where none has.
    """
    t2c = rows.distance(method, "t2c")[rows.ok]
    same = (t2c < SAME_PERSON).astype(np.float64)
    (interval,) = bootstrap_means({"same": same}, rows.codes("group")[0][rows.ok], seed=seed).values()
    found = {"n": len(t2c), "mean_t2c": finite(_mean(t2c)), "same_person": score(_mean(same), interval)}
    if len(rows) and rows.without_source.all():
        return found
    of_sources = rows.ok & ~rows.without_source
    t2c, s2c, s2t = (rows.distance(method, d)[of_sources] for d in DISTANCE_COLUMNS)
    nearer = (s2c < t2c).astype(np.float64)
    (interval,) = bootstrap_means({"nearer": nearer}, rows.codes("group")[0][of_sources], seed=seed).values()
    return found | {
        "nearer_to_source": score(_mean(nearer), interval),
        "mean_s2c": finite(_mean(s2c)),
        "mean_s2t": finite(_mean(s2t)),
    }


def alarms(rows: Rows, methods: Sequence[str], identity: str | None) -> list[str]:
    """What is suspicious about the measured rows, over all and by model: see `exprmetric.evaluation.alarms`."""
    measured = rows.where(rows.ok)
    codes, names = measured.codes("model")
    control = measured.distances(identity) if identity else None
    expressions = {m: measured.distances(m) for m in methods if not tells_people(m)}
    return find_alarms(expressions, control, {name: codes == i for i, name in enumerate(names)})


def tells_people(method: str) -> bool:
    """It is a method that tells people apart, and says nothing about expressions."""
    base = method.partition(":")[0]
    return base == IDENTITY or base in weights.entries("identity-encoder")


def check_models(models: Iterable[str]) -> None:
    """InputError if a model has the name of a split: they stand side by side in `groups`."""
    clash = set(models) & {SAME, DIFFERENT, WITH, WITHOUT}
    if clash:
        raise InputError(f"a model can't be named {', '.join(sorted(clash))}: that is the name of a split")


def splits(rows: Rows) -> dict[str, Mask]:
    """(N,) rows of each split: same and different label where labels are given (Table II), with and without a source
    where there are both, and each model."""
    check_models(rows.codes("model")[1])
    found: dict[str, Mask] = {}
    if "target_label" in rows.table.column_names:
        given = ~rows.mask("target_label", "") & ~rows.mask("source_label", "")
        same = given & rows.same_text("target_label", "source_label")
        found = {name: part for name, part in ((DIFFERENT, given & ~same), (SAME, same)) if part.any()}
    pairs = rows.without_source
    if pairs.any() and not pairs.all():
        found |= {WITH: ~pairs, WITHOUT: pairs}
    return found | models_in(rows)


def models_in(rows: Rows) -> dict[str, Mask]:
    """(N,) rows of each model that is named."""
    codes, names = rows.codes("model")
    return {name: codes == i for i, name in enumerate(names) if name}


def summarise(
    rows: Rows,
    methods: Sequence[str],
    identity: str | None,
    *,
    on_fail: str = "exclude",
    seed: int = 0,
    by: Sequence[str] = (),
) -> dict[str, Any]:
    """`coverage`, `alarms`, `methods`, `groups`, `by` (where asked for) and `identity` of `summary.json`."""
    if on_fail not in ON_FAIL:
        raise InputError(f"unknown on_fail {on_fail!r}; known: {', '.join(ON_FAIL)}")

    def scores(part: Mask) -> dict[str, Any]:
        return {m: method_scores(rows, part, m, on_fail=on_fail, seed=seed) for m in methods}

    def part_scores(part: Mask) -> dict[str, Any]:
        return {"coverage": coverage(rows.where(part)), "methods": scores(part)}

    groups = {name: part_scores(part) for name, part in splits(rows).items()}
    if identity:
        for name, part in models_in(rows).items():
            groups[name]["identity"] = identity_control(rows.where(part), identity, seed=seed)
    return {
        "coverage": coverage(rows),
        "alarms": alarms(rows, methods, identity),
        "methods": scores(np.ones(len(rows), bool)),
        "groups": groups,
        **({"by": by_parts(rows, by, part_scores)} if by else {}),
        "identity": identity_control(rows, identity, seed=seed) if identity else None,
    }
