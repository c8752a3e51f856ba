"""Models on the same targets and sources: which rows of several results pair up, and how their scores differ.

A row of one model is paired with the row of another model that has the same target and the same source. Rows that
can't be paired are named, never dropped silently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from exprmetric.comparing.contestants import (
    HIGHER,
    Contestant,
    Found,
    Keyed,
    Keys,
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
from exprmetric.evaluation.rows import Rows
from exprmetric.io.plain import plain
from exprmetric.metrics.paired import holm, merged_groups, sign_flip_p, smallest_p, win_tie_loss
from exprmetric.metrics.uncertainty import Floats, bootstrap_means, two_way_means

EXAMPLES = 6
"""Pairs on which two models differ most that a page shows."""


@dataclass(frozen=True)
class Difference:
    """One score of one method over the paired rows of two models.

    Attributes:
        a: mean of the first model.
        b: mean of the second model.
        difference: a - b, with its 95 % interval over groups (NaN for one group).
        p: of a sign-flip test over groups.
        p_holm: the same, corrected for all tests of its kind: the primary ones of all duels, or the exploratory ones.
        primary: it is the comparison's primary score, tested by itself; the others are exploratory.
        wins: rows in which a is better than b.
        ties: rows in which they are equal.
        losses: rows in which a is worse.
    """

    method: str
    score: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    wins: int
    ties: int
    losses: int
    primary: bool = False


@dataclass(frozen=True)
class Example:
    """A pair on which two models differ much: the images, the faces' boxes, and both models' score."""

    target: str
    source: str
    swapped_a: str
    swapped_b: str
    box_target: str
    box_a: str
    box_b: str
    a: float
    b: float


@dataclass(frozen=True)
class Duel:
    """Two models on the rows that both measured.

    Attributes:
        n: pairs (target, source) that both measured.
        groups: how many independent groups they form.
        sources: how many sources they have where groups share sources, and are then resampled too; else 0.
        smallest_p: no p-value can be smaller with so many groups.
        repeated: pairs that a model swapped several times; its mean over them counts once.
        unpaired: ids of the rows that count for nothing, by the reason.
        left_out: methods that can't be compared, by name, with the reason.
        notes: what else a reader has to know.
        examples: the pairs with the largest differences of the primary method's t2c, the largest first.
    """

    a: str
    b: str
    n: int
    groups: int
    sources: int
    smallest_p: float
    repeated: int
    unpaired: dict[str, list[str]]
    left_out: dict[str, str]
    notes: list[str]
    differences: list[Difference]
    examples: list[Example]

    @property
    def primary(self) -> Difference | None:
        """The difference that is tested by itself; None where nothing could be compared."""
        return next((d for d in self.differences if d.primary), None)


@dataclass(frozen=True)
class Comparison:
    """Every two of the models.

    Attributes:
        matched_by: what makes two targets or sources the same.
        models: their names.
        alarms: of their results.
        primary: method and score that are tested by themselves.
        tests: how many exploratory p-values Holm's correction is over.
        duels: every two of the models.
    """

    matched_by: str
    models: list[str]
    alarms: list[str]
    primary: tuple[str, str]
    tests: int
    duels: list[Duel]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what could not be computed (NaN) is None."""
        found: dict[str, Any] = plain(self)
        return found


def compare(
    models: Sequence[Contestant],
    *,
    match: str = "content",
    methods: Sequence[str] = (),
    score: str = "",
    seed: int = 0,
) -> Comparison:
    """Every two models on the pairs (target, source) that both measured.

    Args:
        models: two or more, with names of their own.
        match: `content`: a pair is the same where the bytes of its target and source are, wherever they lie; the files
            must still be there. `path`: where the paths in the results are.
        methods: those that are compared, the first of them primary. Without any: all, `default` primary where it is
            there.
        score: the primary score, which is tested by itself; '' for `kept` where it is calibrated, else `mean_t2c`.
        seed: of the bootstrap and of the sign flips.

    Raises:
        InputError: an unknown `match`, method or score.
    """
    key = Keys(match)
    first = primary_score(models, methods, score)
    keyed = [(model, key.pairs(model.rows, every=model.every_face)) for model in models]
    settings = _Settings(match, tuple(methods), first, seed)
    duels = [_duel(keyed[i], keyed[j], settings) for i, j in combinations(range(len(models)), 2)]
    corrected, tests = {}, 0
    for primary in (True, False):
        p_values = [d.p for duel in duels for d in duel.differences if d.primary == primary]
        corrected[primary], tests = iter(holm(p_values).tolist()), len(p_values)
    duels = [
        replace(duel, differences=[replace(d, p_holm=next(corrected[d.primary])) for d in duel.differences])
        for duel in duels
    ]
    alarms = list(dict.fromkeys(alarm for model in models for alarm in model.alarms))
    return Comparison(match, [m.name for m in models], alarms, first, tests, duels)


@dataclass(frozen=True)
class _Settings:
    match: str
    methods: tuple[str, ...]
    primary: tuple[str, str]
    seed: int


def _duel(first: Keyed, second: Keyed, settings: _Settings) -> Duel:
    match = settings.match
    a, b = first[0], second[0]
    found_a, found_b = (by_pair(keyed) for keyed in (first, second))
    ok_a, ok_b = (measured(keyed[0].rows, found) for keyed, found in ((first, found_a), (second, found_b)))
    pairs = sorted(ok_a.keys() & ok_b.keys())
    unpaired = {
        **dict(_unpaired(first, b.name, found_b, ok_b, match)),
        **dict(_unpaired(second, a.name, found_a, ok_a, match)),
    }
    groups = merged_groups(
        groups_of(a.rows, [found_a[p][0] for p in pairs]), groups_of(b.rows, [found_b[p][0] for p in pairs])
    )
    methods, left_out = shared_methods((a, b), settings.methods)
    crossed = crossed_sources(pairs, groups)
    differences: list[Difference] = []
    for method in methods:
        for scores, part in score_parts(method, pairs, kept=all(method in c.rows.kept for c in (a, b))):
            columns_a = pair_means(method, scores, a.rows, [ok_a[pairs[i]] for i in part])
            columns_b = pair_means(method, scores, b.rows, [ok_b[pairs[i]] for i in part])
            sources = [pairs[i][1] for i in part] if crossed else []
            differences += _differences(method, columns_a, columns_b, [groups[i] for i in part], sources, settings)
    repeated = sum(len(ok[p]) > 1 for ok in (ok_a, ok_b) for p in pairs)
    shared = {p[1] for p in pairs} if crossed else set()
    smallest = max((smallest_p(len(kind)) for kind in (set(groups), shared) if kind), default=float("nan"))
    places = [(ok_a[p][0], ok_b[p][0]) for p in pairs]
    examples = _examples(settings.primary[0], a.rows, b.rows, places) if settings.primary[0] in methods else []
    return Duel(
        a.name,
        b.name,
        len(pairs),
        len(set(groups)),
        len(shared),
        smallest,
        repeated,
        unpaired,
        left_out,
        notes_of((a, b), methods),
        differences,
        examples,
    )


def _examples(method: str, a: Rows, b: Rows, places: Sequence[tuple[int, int]]) -> list[Example]:
    """The pairs whose t2c differs most, with the first row of each model."""
    if not places:
        return []
    t2c_a, t2c_b = a.distance(method, "t2c"), b.distance(method, "t2c")
    gaps = np.array([abs(t2c_a[i] - t2c_b[j]) for i, j in places])
    found = []
    for k in np.argsort(-gaps, kind="stable")[:EXAMPLES].tolist():
        i, j = places[k]
        x, y = a.record(i), b.record(j)
        boxes = (x.get("box_target") or "", x.get("box_swapped") or "", y.get("box_swapped") or "")
        images = (x["target"], x["source"], x["swapped"], y["swapped"])
        found.append(Example(*images, *boxes, float(t2c_a[i]), float(t2c_b[j])))
    return found


def _unpaired(
    keyed: Keyed, other: str, found_other: Found, ok_other: Found, match: str
) -> Iterator[tuple[str, list[str]]]:
    """Reasons why rows of one model count for nothing, with the rows' ids; every such row has one reason."""
    model, pairs = keyed
    reasons: dict[str, list[str]] = {}
    ids = model.rows.table["id"]
    for row, (pair, ok) in enumerate(zip(pairs, model.rows.ok.tolist(), strict=True)):
        if not ok:
            reason = f"failed in {model.name}"
        elif pair is None:
            why = "can't be read any more: match by path" if match == "content" else "is not named"
            reason = f"target or source of {model.name} {why}"
        elif pair not in found_other:
            reason = f"only in {model.name}"
        elif pair not in ok_other:
            reason = f"measured in {model.name}, failed in {other}"
        else:
            continue
        reasons.setdefault(reason, []).append(ids[row].as_py())
    yield from sorted(reasons.items())


def _differences(
    method: str,
    a: Mapping[str, Floats],
    b: Mapping[str, Floats],
    groups: Sequence[str],
    sources: Sequence[str],
    settings: _Settings,
) -> Iterator[Difference]:
    """Of each score; where `sources` are given, they are resampled and flipped too, and the larger p-value counts."""
    seed = settings.seed
    paired = {score: a[score] - b[score] for score in a}
    intervals = (
        two_way_means(paired, groups, sources, seed=seed) if sources else bootstrap_means(paired, groups, seed=seed)
    )
    for score, values in paired.items():
        p_values = [sign_flip_p(values, kind, seed=seed) for kind in (groups, sources) if kind]
        yield Difference(
            method,
            score,
            float(a[score].mean()),
            float(b[score].mean()),
            float(values.mean()),
            *intervals[score],
            max(p_values, default=float("nan")),
            float("nan"),
            *win_tie_loss(a[score], b[score], higher_is_better=HIGHER[score]),
            primary=(method, score) == settings.primary,
        )
