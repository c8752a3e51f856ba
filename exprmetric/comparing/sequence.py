"""`compare --sequence`: the scores of a run's checkpoints in a row, over the pairs that all of them measured.

A checkpoint that loses faces would else be scored over other pictures than its neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from exprmetric.comparing.contestants import (
    HIGHER,
    Contestant,
    Found,
    Keys,
    Pair,
    by_pair,
    crossed_sources,
    groups_of,
    measured,
    notes_of,
    pair_means,
    primary_score,
    score_parts,
    shared_methods,
)
from exprmetric.errors import InputError
from exprmetric.io.plain import plain
from exprmetric.metrics.paired import merged_groups
from exprmetric.metrics.uncertainty import Floats, bootstrap_means, two_way_means


@dataclass(frozen=True)
class Point:
    """A checkpoint's score, and how it changed.

    Attributes:
        value: mean over the pairs.
        low: lower end of its 95 % interval over groups (NaN for one group).
        high: upper end.
        change: minus the score of the checkpoint before; NaN for the first.
        change_low: lower end of the change's interval, which is paired.
        change_high: upper end.
        from_best: minus the score of the best checkpoint; 0 for that one.
        from_best_low: lower end of its interval, likewise.
        from_best_high: upper end.
    """

    value: float
    low: float
    high: float
    change: float
    change_low: float
    change_high: float
    from_best: float
    from_best_low: float
    from_best_high: float


@dataclass(frozen=True)
class Curve:
    """One score of one method, a point a checkpoint; `n` pairs are behind each, and the number of the best is known."""

    method: str
    score: str
    n: int
    best: int
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Checkpoint:
    """What was measured of one: `ok` of `rows`, and how many of those that are ok some other checkpoint lacks."""

    name: str
    rows: int
    ok: int
    left_out: int


@dataclass(frozen=True)
class Run:
    """A run's checkpoints.

    Attributes:
        matched_by: what makes two targets or sources the same.
        checkpoints: in order.
        n: pairs that all of them measured.
        groups: how many independent groups these form.
        sources: how many sources they have where groups share sources, and are then resampled too; else 0.
        primary: method and score that the verdict is about.
        curves: all scores.
        left_out: methods that not all have, or not with the same weights, by name with the reason.
        notes: what else a reader has to know.
        alarms: of the results.
    """

    matched_by: str
    checkpoints: tuple[Checkpoint, ...]
    n: int
    groups: int
    sources: int
    primary: tuple[str, str]
    curves: tuple[Curve, ...]
    left_out: dict[str, str]
    notes: tuple[str, ...]
    alarms: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what could not be computed (NaN) is None."""
        found: dict[str, Any] = plain(self)
        return found

    @property
    def primary_curve(self) -> Curve | None:
        """None where it could not be taken."""
        return next((c for c in self.curves if (c.method, c.score) == self.primary), None)


def in_order(models: Sequence[Contestant]) -> list[Contestant]:
    """By the numbers in their names where these differ in numbers alone (step-200 before step-1000), else as named."""
    if len({re.sub(r"\d+", "#", m.name) for m in models}) > 1:
        return list(models)
    return sorted(models, key=lambda m: [int(number) for number in re.findall(r"\d+", m.name)])


def sequence(
    models: Sequence[Contestant],
    *,
    match: str = "content",
    methods: Sequence[str] = (),
    score: str = "",
    seed: int = 0,
) -> Run:
    """The scores of checkpoints.

    Args:
        models: two or more checkpoints of one run; see `in_order`.
        match: as in `exprmetric.comparing.compare.compare`.
        methods: those that are shown, the first of them primary; without any all.
        score: the primary score; '' as there.
        seed: of the bootstrap.

    Raises:
        InputError: an unknown `match`, method or score, or fewer than two checkpoints.
    """
    keys = Keys(match)
    if len(models) < 2:
        raise InputError("a sequence needs two checkpoints or more")
    models = in_order(models)
    first = primary_score(models, methods, score)
    found = [by_pair((m, keys.pairs(m.rows, every=m.every_face))) for m in models]
    ok = [measured(m.rows, pairs) for m, pairs in zip(models, found, strict=True)]
    pairs = sorted(set.intersection(*(set(o) for o in ok)))
    each = (groups_of(m.rows, [f[p][0] for p in pairs]) for m, f in zip(models, found, strict=True))
    groups = reduce(merged_groups, each)
    crossed = crossed_sources(pairs, groups)
    shared, left_out = shared_methods(models, methods)
    curves: list[Curve] = []
    for method in shared:
        for scores, part in score_parts(method, pairs, kept=all(method in m.rows.kept for m in models)):
            columns = [_columns(method, scores, m, o, pairs, part) for m, o in zip(models, ok, strict=True)]
            sources = [pairs[i][1] for i in part] if crossed else []
            curves += [_curve(method, name, columns, [groups[i] for i in part], sources, seed) for name in scores]
    return Run(
        match,
        tuple(
            Checkpoint(m.name, len(m.rows), int(m.rows.ok.sum()), int(m.rows.ok.sum()) - sum(len(o[p]) for p in pairs))
            for m, o in zip(models, ok, strict=True)
        ),
        len(pairs),
        len(set(groups)),
        len({p[1] for p in pairs}) if crossed else 0,
        first,
        tuple(curves),
        left_out,
        tuple(notes_of(models, shared)),
        tuple(dict.fromkeys(alarm for model in models for alarm in model.alarms)),
    )


def _columns(
    method: str, scores: Sequence[str], model: Contestant, ok: Found, pairs: Sequence[Pair], part: Sequence[int]
) -> dict[str, Floats]:
    return pair_means(method, scores, model.rows, [ok[pairs[i]] for i in part])


def _curve(
    method: str,
    score: str,
    checkpoints: Sequence[Mapping[str, Floats]],
    groups: Sequence[str],
    sources: Sequence[str],
    seed: int,
) -> Curve:
    values = [columns[score] for columns in checkpoints]
    means = [float(v.mean()) for v in values]
    best = int((np.argmax if HIGHER[score] else np.argmin)(means))
    wanted = {("", i): v for i, v in enumerate(values)}
    wanted |= {("change", i): v - values[i - 1] for i, v in enumerate(values) if i}
    wanted |= {("best", i): v - values[best] for i, v in enumerate(values)}
    named = {f"{kind}{i}": column for (kind, i), column in wanted.items()}
    ends = two_way_means(named, groups, sources, seed=seed) if sources else bootstrap_means(named, groups, seed=seed)
    nothing = (float("nan"),) * 3
    points = [
        Point(
            mean,
            *ends[str(i)],
            *((means[i] - means[i - 1], *ends[f"change{i}"]) if i else nothing),
            mean - means[best],
            *ends[f"best{i}"],
        )
        for i, mean in enumerate(means)
    ]
    return Curve(method, score, len(groups), best, tuple(points))
