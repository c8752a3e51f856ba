"""Statistics over fixed pairs or triplets of faces, with bootstrap intervals over people.

Every number is a weighted statistic over a fixed set of lines (pairs, triplets), so that a bootstrap over people only
changes weights: a triplet of people a, b, c counts (times a was drawn) x (times b) x (times c). The same seed and the
same people give the same lines and draws, so that methods are compared on the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from exprmetric.metrics.distances import l2
from exprmetric.metrics.uncertainty import LEVEL, PAIR_RESAMPLES, group_codes

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
Distance = Callable[[npt.ArrayLike, npt.ArrayLike], Floats]
Statistic = Callable[[Floats], Sequence[float]]

CHUNK = 4096
"""Pairs whose vectors are in memory at a time."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval (NaN where there is nothing to resample) and how much it rests on.

    Attributes:
        n: triplets or pairs counted.
    """

    value: float
    low: float
    high: float
    n: int

    def plain(self) -> dict[str, object]:
        """As scores stand in `summary.json`."""
        return {"value": self.value, "ci95": [self.low, self.high], "n": self.n}


def pair_distances(
    vectors: npt.ArrayLike, first: npt.ArrayLike, second: npt.ArrayLike, distance: Distance = l2
) -> Floats:
    """(P,) distances of P pairs of rows of an (N, D) array, a block at a time.

    Raises:
        ValueError: a distance is NaN, infinite or negative.
    """
    rows, a, b = np.asarray(vectors), np.asarray(first, np.intp), np.asarray(second, np.intp)
    found = np.empty(len(a))
    for start in range(0, len(a), CHUNK):
        part = slice(start, start + CHUNK)
        found[part] = distance(rows[a[part]], rows[b[part]])
    bad = ~(np.isfinite(found) & (found >= 0))
    if bad.any():
        i = int(np.argmax(bad))
        raise ValueError(f"the distance of rows {a[i]} and {b[i]} is {found[i]}")
    return found


def units(count: int, persons: Sequence[object] | None) -> Indices:
    """(N,) codes of what the bootstrap resamples: people, or rows where nobody knows the people.

    A row whose person is '' is a person of its own.
    """
    if persons is None:
        return np.arange(count)
    if len(persons) != count:
        raise ValueError(f"{len(persons)} persons for {count} rows")
    return group_codes([f"person {p}" if str(p) else f"row {i}" for i, p in enumerate(persons)])


def draw(size: int, count: int, units: Indices, seed: int) -> Indices:
    """(<= count, size) random rows, each line's from different units; lines drawn with a unit twice are left out."""
    if not len(units):
        return np.empty((0, size), np.intp)
    drawn = np.random.default_rng(seed).integers(0, len(units), (count, size))
    codes = np.sort(units[drawn], axis=1)
    return np.asarray(drawn[(np.diff(codes, axis=1) > 0).all(1)], np.intp)


def draw_within(size: int, count: int, units: Indices, seed: int) -> Indices:
    """(<= count, size) different rows of one unit each: all there are, or so many of them, drawn."""
    lines = [rows for unit in np.unique(units) if len(rows := np.flatnonzero(units == unit)) >= size]
    total = sum(math.comb(len(rows), size) for rows in lines)
    if not total:
        return np.empty((0, size), np.intp)
    if total <= count:
        return np.array([line for rows in lines for line in combinations(rows.tolist(), size)], np.intp)
    generator = np.random.default_rng(seed)
    shares = np.array([math.comb(len(rows), size) for rows in lines]) / total
    numbers = generator.multinomial(count, shares)
    # the first `size` of a random order of the unit's rows
    drawn = [
        rows[np.argsort(generator.random((number, len(rows))), axis=1)[:, :size]]
        for rows, number in zip(lines, numbers, strict=True)
    ]
    return np.asarray(np.concatenate(drawn), np.intp)


def every_pair(count: int, most: int, seed: int) -> Indices:
    """(P, 2) all pairs of different rows; of more than `most`, about so many, drawn."""
    if count * (count - 1) // 2 <= most:
        return np.stack(np.triu_indices(count, 1), axis=1).astype(np.intp)
    return draw(2, most, np.arange(count), seed)


def bootstrap(
    statistic: Statistic, units: Indices, *, resamples: int = PAIR_RESAMPLES, level: float = LEVEL, seed: int = 0
) -> list[tuple[float, float, float]]:
    """(value, low, high) of each number that `statistic` gives for (N,) row weights; percentile intervals.

    Draws for which a number is NaN (nothing is left to count) are left out of its interval.
    """
    values = list(statistic(np.ones(len(units))))
    people = int(units.max()) + 1 if units.size else 0
    if people < 2 or resamples < 1:
        return [(float(v), math.nan, math.nan) for v in values]
    generator = np.random.default_rng(seed)
    shares = np.full(people, 1.0 / people)
    draws = np.array(
        [statistic(generator.multinomial(people, shares)[units].astype(np.float64)) for _ in range(resamples)]
    )
    tails = [(1.0 - level) / 2.0, (1.0 + level) / 2.0]
    found = []
    for value, column in zip(values, draws.T, strict=True):
        kept = column[np.isfinite(column)]
        low, high = np.quantile(kept, tails) if kept.size else (math.nan, math.nan)
        found.append((float(value), float(low), float(high)))
    return found


def matrices(embeddings: npt.ArrayLike, ratings: npt.ArrayLike) -> tuple[npt.NDArray[np.floating], Floats]:
    """(N, D) embeddings and (N, K) float64 ratings; ValueError unless they fit and are finite."""
    vectors, rated = np.asarray(embeddings), np.asarray(ratings, np.float64)
    if vectors.ndim != 2 or rated.ndim != 2 or len(vectors) != len(rated):
        raise ValueError(f"expected (N, D) embeddings and (N, K) ratings, got {vectors.shape} and {rated.shape}")
    for name, array in (("embeddings", vectors), ("ratings", rated)):
        finite = np.isfinite(array).all(1)
        if not finite.all():
            raise ValueError(f"{name}: row {int(np.argmin(finite))} is not finite")
    return vectors, rated


def line_weights(drawn: Floats, owners: Indices) -> Floats:
    """(L,) how often lines of (L, K) rows or people are drawn: as often as all of them.

    Args:
        drawn: (N,) times that each was drawn. owners: (L, K) indices into it.
    """
    times = drawn[owners[:, 0]]
    for column in owners.T[1:]:
        times = times * drawn[column]
    return times


def dot(a: Floats, b: Floats) -> float:
    """Sum of the products of two (P,) arrays, in this thread: for a thousand short sums, waking others costs more."""
    return float(np.einsum("i,i->", a, b))


def ratio(above: float, below: float) -> float:
    """NaN where there is nothing to divide by."""
    return float(above / below) if below > 0 else math.nan


def value_codes(values: Floats) -> Indices:
    """(P,) 0..U-1 in the order of the values; equal values share a code, also those that rounding has parted."""
    largest = values.max(initial=0.0)
    rounded = np.round(values / largest, 12) if largest > 0 else values
    return np.asarray(np.unique(rounded, return_inverse=True)[1], np.intp).ravel()
