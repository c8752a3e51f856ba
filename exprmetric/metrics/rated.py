"""A method against the raters of one set of faces: all scores, from the same lines and one bootstrap over people.

| score | of |
| --- | --- |
| triplet accuracy, rank correlation | faces of different people: are expressions found alike, whoever wears them? |
| the same within one person | faces of one person each: are they found alike where identity can't disturb? |
| leak ratio, leak AUC | the pairs that people rate most alike: those of two people against those of one |
| confusions | triplets of two faces of one expression and one of another, by these two |
| conditions | lines by their worst face: the most turned one, the smallest one |

What people say of a set is worked out once (`RatedLines`), and every method is asked about the same lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exprmetric.metrics.agreement import MARGIN, clear_triplets, mid_ranks, nearest_pair_found, weighted_correlation
from exprmetric.metrics.distances import l2
from exprmetric.metrics.leak import Leak, MatchedMeans, near_pairs
from exprmetric.metrics.resampling import (
    Distance,
    Estimate,
    Floats,
    Indices,
    bootstrap,
    draw,
    draw_within,
    every_pair,
    line_weights,
    matrices,
    pair_distances,
    units,
    value_codes,
)
from exprmetric.metrics.uncertainty import PAIR_RESAMPLES

TRIPLETS, PAIRS = 200_000, 50_000
"""At most, across people and within them; of more, so many are drawn."""
MATRIX = 1000
"""Of at most so many faces all distances are taken once; of more, those of the lines."""
LEAST = 100
"""Of fewer lines, a confusion or a condition has no score."""
ACROSS, WITHIN = "across", "within"
TRIPLET, RANK, RATIO, AUC = "triplet accuracy", "rank correlation", "leak ratio", "leak AUC"

Key = tuple[str, str, str]
"""What a number is of: `across`, `within`, `confusion` or a condition; the class of it; the score."""


@dataclass(frozen=True)
class Agreement:
    """Triplet accuracy 0..1 (chance 1/3) and rank correlation -1..1."""

    triplet_accuracy: Estimate
    rank_correlation: Estimate


@dataclass(frozen=True)
class RatedScores:
    """What the raters of one set say of a method.

    Attributes:
        across: over faces of different people.
        within: over faces of one person each; None where nobody has three faces.
        leak: at the nearest ratings; None where nobody has two faces.
        confusions: by `expression / expression`, the triplet accuracy where these two could be confused.
        conditions: by condition and its class.
    """

    across: Agreement
    within: Agreement | None
    leak: Leak | None
    confusions: dict[str, Estimate]
    conditions: dict[str, dict[str, Agreement]]


@dataclass(frozen=True, eq=False)
class Condition:
    """A class of each face, from the best to the worst; a line counts in the class of its worst face.

    Attributes:
        names: of the classes.
        classes: (N,) 0..C-1, -1 where unknown.
    """

    names: tuple[str, ...]
    classes: Indices

    def of_lines(self, lines: Indices) -> Indices:
        """(L,) the worst class of each of (L, K) lines of faces; -1 where one is unknown."""
        found = self.classes[lines]
        return np.where((found < 0).any(1), -1, found.max(1, initial=-1))


@dataclass(frozen=True, eq=False)
class _Part:
    """Some numbers of a method: what they are of, what they rest on, and what they are when people are drawn so often.

    Attributes:
        counts: lines that each number counts.
        statistic: (P,) times that each person was drawn → the numbers.
    """

    keys: tuple[Key, ...]
    counts: tuple[int, ...]
    statistic: Callable[[Floats], Sequence[float]]


class RatedLines:
    """What people say of N faces: triplets that they are clear about, pairs of faces, and the pairs that are alike.

    Args:
        ratings: (N, K) human ratings, compared by Euclidean distance.
        persons: N names, '' where unknown; None where nobody is known, so that a bootstrap resamples faces.
        margin: of a clear triplet, as in `triplet_accuracy`.
        points: likewise.
        expressions: N names for the confusions, '' where unknown.
        conditions: by name.
        seed: of all draws.

    Raises:
        ValueError: shapes differ, or a rating is not finite.
    """

    def __init__(
        self,
        ratings: npt.ArrayLike,
        persons: Sequence[object] | None = None,
        *,
        margin: float = MARGIN,
        points: float | None = None,
        expressions: Sequence[str] | None = None,
        conditions: Mapping[str, Condition] | None = None,
        seed: int = 0,
    ) -> None:
        _, self.ratings = matrices(ratings, ratings)
        self.people = units(len(self.ratings), persons)
        self.conditions = dict(conditions or {})
        self.seed = seed
        self.expressions = np.array(expressions if expressions is not None else [""] * len(self.ratings), dtype=str)
        triplets = {ACROSS: draw(3, TRIPLETS, self.people, seed), WITHIN: draw_within(3, TRIPLETS, self.people, seed)}
        self.triplets = {
            name: clear_triplets(self.ratings, drawn, margin=margin, points=points) for name, drawn in triplets.items()
        }
        pairs = every_pair(len(self.people), PAIRS, seed)
        two = self.people[pairs[:, 0]] != self.people[pairs[:, 1]]
        self.pairs = {ACROSS: pairs[two], WITHIN: draw_within(2, PAIRS, self.people, seed)}
        self.near = near_pairs(self.people, self.ratings, seed=seed)

    def scores(
        self, embeddings: npt.ArrayLike, distance: Distance = l2, *, resamples: int = PAIR_RESAMPLES
    ) -> RatedScores:
        """All scores of a method's (N, D) vectors, with intervals over people.

        Raises:
            ValueError: shapes differ, or a number is not finite.
        """
        return self._scores([list(self._parts(embeddings, distance))], resamples)

    def against(self, other: RatedLines, *, resamples: int = PAIR_RESAMPLES) -> RatedScores:
        """How far two groups of raters of the same faces agree: one group's ratings as a method, judged by the other's.

        The numbers are means of both directions, and count the lines of both.
        """
        directions = [list(one._parts(judged.ratings, l2)) for one, judged in ((self, other), (other, self))]
        return self._scores(directions, resamples)

    def _parts(self, embeddings: npt.ArrayLike, distance: Distance) -> Iterator[_Part]:
        vectors, _ = matrices(embeddings, self.ratings)
        far = _distances(vectors, distance)
        for name in (ACROSS, WITHIN):
            triplets, pairs = self.triplets[name], self.pairs[name]
            agreed = nearest_pair_found(np.stack([far(triplets[:, a], triplets[:, b]) for a, b in _SIDES], axis=1))
            owners = [self.people[lines if name == ACROSS else lines[:, :1]] for lines in (triplets, pairs)]
            yield _shares(agreed, owners[0], np.zeros(len(agreed), np.intp), [(name, "", TRIPLET)])
            found, rated = far(*pairs.T), pair_distances(self.ratings, *pairs.T)
            yield _correlation(found, rated, owners[1], (name, "", RANK))
            if name == WITHIN:
                continue
            kinds, classes = self._confusions(triplets)
            yield _shares(agreed, owners[0], classes, [("confusion", kind, TRIPLET) for kind in kinds])
            for what, condition in self.conditions.items():
                of_triplets, of_pairs = condition.of_lines(triplets), condition.of_lines(pairs)
                yield _shares(agreed, owners[0], of_triplets, [(what, c, TRIPLET) for c in condition.names])
                for i, kind in enumerate(condition.names):
                    kept = of_pairs == i
                    yield _correlation(found[kept], rated[kept], owners[1][kept], (what, kind, RANK))
        yield self._leak(far)

    def _confusions(self, triplets: Indices) -> tuple[list[str], Indices]:
        """Names of the pairs of expressions, and which one each triplet is of; -1 for none."""
        names, codes = np.unique(self.expressions, return_inverse=True)
        first, second, odd = codes.ravel()[triplets].T
        known = names != ""
        of_two = (first == second) & (first != odd) & known[first] & known[odd]
        pair = np.minimum(first, odd) * len(names) + np.maximum(first, odd)
        kinds = np.unique(pair[of_two])
        shown = [f"{names[k // len(names)]} / {names[k % len(names)]}" for k in kinds]
        return shown, np.where(of_two, np.searchsorted(kinds, pair), -1)

    def _leak(self, far: Callable[[Indices, Indices], Floats]) -> _Part:
        one, two = self.near.same, self.near.different
        means = MatchedMeans(far(*one.T), far(*two.T), self.near)
        person, (first, second) = self.people[one[:, 0]], self.people[two].T
        return _Part(
            (("leak", "", RATIO), ("leak", "", AUC)),
            (len(one), len(one) + len(two)),
            lambda drawn: means(drawn[person], drawn[first] * drawn[second]),
        )

    def _scores(self, directions: Sequence[Sequence[_Part]], resamples: int) -> RatedScores:
        found = _estimates(directions, int(self.people.max(initial=-1)) + 1, resamples, self.seed)

        def agreement(name: str, kind: str = "") -> Agreement:
            return Agreement(found[name, kind, TRIPLET], found[name, kind, RANK])

        within = agreement(WITHIN)
        ratio, auc = found["leak", "", RATIO], found["leak", "", AUC]
        known = {key: e for key, e in found.items() if e.n >= LEAST}
        return RatedScores(
            agreement(ACROSS),
            within if within.rank_correlation.n else None,
            Leak(ratio, auc, len(np.unique(self.people[self.near.same[:, 0]]))) if ratio.n else None,
            {kind: e for (what, kind, _), e in known.items() if what == "confusion"},
            {
                what: {c: agreement(what, c) for c in condition.names if (what, c, TRIPLET) in known}
                for what, condition in self.conditions.items()
            },
        )


_SIDES = ((0, 1), (0, 2), (1, 2))


def _distances(vectors: npt.ArrayLike, distance: Distance) -> Callable[[Indices, Indices], Floats]:
    """(L,) distances of pairs of rows: out of one matrix of them where there are few rows."""
    rows = np.asarray(vectors)
    if len(rows) > MATRIX:
        return lambda i, j: pair_distances(rows, i, j, distance)
    first, second = np.triu_indices(len(rows), 1)
    matrix = np.zeros((len(rows), len(rows)))
    matrix[first, second] = matrix[second, first] = pair_distances(rows, first, second, distance)
    return lambda i, j: matrix[i, j]


def _shares(values: Floats, owners: Indices, classes: Indices, keys: Sequence[Key]) -> _Part:
    """Mean of lines' values by class, each line as often as all its owners were drawn.

    Args:
        owners: (L, K) codes of people. classes: (L,) index into `keys`, -1 for none.
    """
    kept = classes >= 0
    rows, of = np.sort(owners[kept], axis=1), classes[kept]
    # lines of the same people and class count alike: added up first, they are few
    cell = np.ravel_multi_index((*rows.T, of), (*[int(rows.max(initial=0)) + 1] * rows.shape[1], max(len(keys), 1)))
    _, first, codes = np.unique(cell, return_index=True, return_inverse=True)
    sums, counts = (np.bincount(codes.ravel(), v, len(first)) for v in (values[kept], None))
    people, of = rows[first], of[first]

    def means(drawn: Floats) -> list[float]:
        weights = line_weights(drawn, people)
        mass = np.bincount(of, weights * counts, len(keys))
        total = np.bincount(of, weights * sums, len(keys))
        return np.where(mass > 0, total / np.where(mass > 0, mass, 1.0), np.nan).tolist()  # type: ignore[no-any-return]

    return _Part(tuple(keys), tuple(np.bincount(classes[kept], minlength=len(keys)).tolist()), means)


def _correlation(found: Floats, rated: Floats, owners: Indices, key: Key) -> _Part:
    """Spearman's correlation over pairs, each as often as all its owners were drawn."""
    far, apart = value_codes(found), value_codes(rated)

    def correlation(drawn: Floats) -> list[float]:
        weights = line_weights(drawn, owners)
        return [weighted_correlation(mid_ranks(far, weights), mid_ranks(apart, weights), weights)]

    return _Part((key,), (len(found),), correlation)


def _estimates(directions: Sequence[Sequence[_Part]], people: int, resamples: int, seed: int) -> dict[Key, Estimate]:
    """Means over all directions of the numbers that all of them have."""
    keys = [[key for part in parts for key in part.keys] for parts in directions]
    counts = [
        dict(zip(k, (n for part in parts for n in part.counts), strict=True))
        for k, parts in zip(keys, directions, strict=True)
    ]
    common = [key for key in keys[0] if all(key in other for other in counts)]
    places = [[k.index(key) for key in common] for k in keys]

    def numbers(drawn: Floats) -> list[float]:
        values = [
            np.array([v for part in parts for v in part.statistic(drawn)])[place]
            for parts, place in zip(directions, places, strict=True)
        ]
        return np.mean(values, axis=0).tolist()  # type: ignore[no-any-return]

    found = bootstrap(numbers, np.arange(people), resamples=resamples, seed=seed)
    return {key: Estimate(*each, n=sum(c[key] for c in counts)) for key, each in zip(common, found, strict=True)}
