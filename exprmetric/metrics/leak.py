"""Identity in an expression space: how much farther apart two people are than two photographs of one person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exprmetric.metrics.distances import l2
from exprmetric.metrics.resampling import (
    Distance,
    Estimate,
    Floats,
    Indices,
    bootstrap,
    every_pair,
    matrices,
    pair_distances,
    units,
)
from exprmetric.metrics.uncertainty import PAIR_RESAMPLES, group_codes

NEAREST = 0.05
"""Share of all pairs of faces, by their rating distance, that show the same expression."""
PAIRS = 400_000
"""Of a set with more pairs of faces, so many are drawn."""


@dataclass(frozen=True)
class Leak:
    """Identity in the distances of an expression space, at matched expression.

    Attributes:
        ratio: mean distance between different people / mean distance within one person; 1 = no leak.
        auc: chance that two people are farther apart than two photographs of one person; 0.5 = no leak, 0..1.
        people: people with at least two matched photographs.
    """

    ratio: Estimate
    auc: Estimate
    people: int


@dataclass(frozen=True, eq=False)
class Matched:
    """Pairs (i, j) of one person in P lines, and pairs (i, k) of j's doubles in Q lines, with their groups' codes."""

    same: Indices
    same_group: Indices
    different: Indices
    different_group: Indices


def identity_leak(
    embeddings: npt.ArrayLike,
    persons: Sequence[object],
    groups: Sequence[object] | None = None,
    *,
    ratings: npt.ArrayLike | None = None,
    distance: Distance = l2,
    most: int = 20,
    doubles: int = 4,
    nearest: float = NEAREST,
    resamples: int = PAIR_RESAMPLES,
    seed: int = 0,
) -> Leak:
    """Distances between people against distances within one person, at the same expression.

    With `groups`, for each pair (i, j) of one person in one group, j is exchanged for doubles k: faces of other people
    of the same group. So both means run over the same mix of expressions, and a person's pairs are compared with pairs
    that share a photograph with them. Means and AUC are taken within each group and averaged, weighted by its pairs of
    one person.

    With `ratings`, the pairs of faces that people rate most alike are those of one expression, whoever wears them: the
    mean over those of two people is divided by the mean over those of one person.

    Args:
        embeddings: (N, D) the method's vectors.
        persons: N names; a row whose name is '' is a person of its own.
        groups: N expression labels: pairs and doubles have one label. Exactly one of `groups` and `ratings` is given.
        ratings: (N, K) human ratings.
        distance: of the method.
        most: with groups, pairs drawn of one person in one group, so that the most photographed don't decide.
        doubles: faces of other people that are drawn for each of these pairs.
        nearest: of ratings: the share of all pairs of faces, 0..1, that is taken.
        resamples: of the bootstrap over people.
        seed: of the bootstrap, and of the pairs and doubles that are drawn.

    Returns:
        NaN when there is no pair of one person, or of two, at one expression; `n` counts pairs of one
        person, and of two.

    Raises:
        ValueError: shapes differ, or a number is not finite.
    """
    vectors = np.asarray(embeddings)
    if (groups is None) == (ratings is None):
        raise ValueError("identity_leak needs either groups or ratings")
    people = units(len(vectors), persons)
    generator = np.random.default_rng(seed)
    if groups is not None:
        if len(groups) != len(vectors):
            raise ValueError(f"{len(groups)} groups for {len(vectors)} rows")
        matched = _by_group(people, group_codes(groups), most, doubles, generator)
    else:
        vectors, rated = matrices(vectors, np.asarray(ratings))
        matched = near_pairs(people, rated, nearest=nearest, seed=seed)
    i, j = matched.same.T
    first, second = matched.different.T
    within = pair_distances(vectors, i, j, distance)
    between = pair_distances(vectors, first, second, distance)
    statistic = MatchedMeans(within, between, matched)

    def numbers(weights: Floats) -> list[float]:
        # a person drawn twice is two people: their pairs count twice, not four times
        return statistic(weights[i], weights[first] * weights[second])

    ratio, auc = bootstrap(numbers, people, resamples=resamples, seed=seed)
    return Leak(Estimate(*ratio, n=len(i)), Estimate(*auc, n=len(i) + len(first)), len(np.unique(people[i])))


class MatchedMeans:
    """Ratio of means and AUC of weighted distances, by group, averaged by the groups' weights of one-person pairs."""

    def __init__(self, within: Floats, between: Floats, matched: Matched) -> None:
        self.within, self.between = within, between
        self.groups = matched.same_group, matched.different_group
        self.count = 1 + max((int(g.max()) for g in self.groups if g.size), default=-1)
        values = np.concatenate([within, between])
        group = np.concatenate(self.groups)
        # one code for each value within each group, in order
        keys, codes = np.unique(np.stack([group, values], axis=1), axis=0, return_inverse=True)
        self.key_group = keys[:, 0].astype(np.intp)
        self.same_code, self.different_code = np.split(codes.ravel(), [len(within)])

    def __call__(self, same: Floats, different: Floats) -> list[float]:
        a, b, n = *self.groups, self.count
        mass, other = np.bincount(a, same, n), np.bincount(b, different, n)
        both = (mass > 0) & (other > 0)
        if not both.any():
            return [float("nan"), float("nan")]
        means = np.bincount(a, same * self.within, n)[both].sum()
        scale = np.where(both, mass / np.where(both, other, 1.0), 0.0)
        apart = (np.bincount(b, different * self.between, n) * scale).sum()
        ratio = apart / means if means > 0 else float("nan")
        at, far = (
            np.bincount(c, w, len(self.key_group))
            for c, w in ((self.same_code, same), (self.different_code, different))
        )
        below = np.cumsum(at) - at
        before = np.cumsum(mass) - mass
        wins = far * (below - before[self.key_group] + 0.5 * at)
        auc = (np.bincount(self.key_group, wins, n)[both] / other[both]).sum() / mass[both].sum()
        return [float(ratio), float(auc)]


def _by_group(people: Indices, groups: Indices, most: int, doubles: int, generator: np.random.Generator) -> Matched:
    same: list[tuple[int, int]] = []
    different: list[tuple[int, int]] = []
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        owner = people[rows]
        for person in np.unique(owner):
            mine, others = rows[owner == person], rows[owner != person]
            if len(mine) < 2 or not len(others):
                continue
            i, j = np.triu_indices(len(mine), 1)
            if len(i) > most:
                kept = generator.choice(len(i), most, replace=False)
                i, j = i[kept], j[kept]
            same += zip(mine[i], mine[j], strict=True)
            k = generator.choice(others, (len(i), doubles))
            different += zip(np.repeat(mine[i], doubles), k.ravel(), strict=True)
    return _matched(same, different, groups)


def near_pairs(people: Indices, ratings: npt.ArrayLike, *, nearest: float = NEAREST, seed: int = 0) -> Matched:
    """The share `nearest` of all pairs of faces whose ratings are nearest, those of one person and those of two.

    Args:
        people: (N,) codes. ratings: (N, K).
    """
    i, j = every_pair(len(people), PAIRS, seed).T
    apart = pair_distances(ratings, i, j, l2)
    near = apart <= np.quantile(apart, nearest) if len(apart) else np.zeros(0, bool)
    same = people[i] == people[j]
    one, two = (np.stack([i[kept], j[kept]], axis=1) for kept in (near & same, near & ~same))
    return Matched(one, np.zeros(len(one), np.intp), two, np.zeros(len(two), np.intp))


def _matched(same: list[tuple[int, int]], different: list[tuple[int, int]], groups: Indices) -> Matched:
    a, b = (np.array(lines, np.intp).reshape(-1, 2) for lines in (same, different))
    return Matched(a, groups[a[:, 0]], b, groups[b[:, 0]])
