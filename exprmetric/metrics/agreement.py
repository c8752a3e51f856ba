"""Does a method's space agree with people? Triplets and rank correlation against human ratings of the same faces.

`identity_leak`, the other half of what makes an expression space good, stands in `leak.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from exprmetric.metrics.distances import l2
from exprmetric.metrics.leak import Leak, identity_leak
from exprmetric.metrics.resampling import (
    Distance,
    Estimate,
    Floats,
    Indices,
    bootstrap,
    dot,
    draw,
    line_weights,
    matrices,
    pair_distances,
    ratio,
    units,
    value_codes,
)
from exprmetric.metrics.uncertainty import PAIR_RESAMPLES

__all__ = [
    "MARGIN",
    "Estimate",
    "Leak",
    "identity_leak",
    "lines_accuracy",
    "lines_correlation",
    "rank_correlation",
    "triplet_accuracy",
]

MARGIN = 0.5
"""Of clear triplets, in mean rating distances."""


def triplet_accuracy(
    embeddings: npt.ArrayLike,
    ratings: npt.ArrayLike,
    *,
    triplets: int | npt.ArrayLike = 200_000,
    margin: float = MARGIN,
    points: float | None = None,
    persons: Sequence[object] | None = None,
    across_people: bool = True,
    distance: Distance = l2,
    resamples: int = PAIR_RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Share of clear triplets of faces whose nearest pair is the same for the method as for people; chance is 1/3.

    A triplet is clear when its second smallest rating distance exceeds the smallest by more than `margin` times the
    mean rating distance of all triplets drawn, or by more than `points`. Where the method has k equally near pairs, it
    gets 1/k of the point.

    Args:
        embeddings: (N, D) the method's vectors.
        ratings: (N, K) human ratings, compared by Euclidean distance.
        triplets: how many to draw, or (T, 3) rows.
        margin: >= 0, in mean rating distances.
        points: the margin in the unit of the ratings; then `margin` says nothing.
        persons: N names ('' = unknown); intervals then resample people, else rows.
        across_people: only triplets of three different people; else of three different rows.
        distance: of the method.
        resamples: of the bootstrap.
        seed: of the bootstrap, and of the triplets that are drawn.

    Returns:
        0..1, NaN when no triplet is clear; `n` is the number of clear triplets.

    Raises:
        ValueError: shapes differ, or a number is not finite.
    """
    vectors, rated = matrices(embeddings, ratings)
    people = units(len(vectors), persons)
    drawn = _lines(triplets, 3, people if across_people else np.arange(len(vectors)), seed)
    drawn = clear_triplets(rated, drawn, margin=margin, points=points)
    far = triplet_distances(vectors, drawn, distance)
    return lines_accuracy(far, drawn, people, resamples=resamples, seed=seed)


def lines_accuracy(
    distances: Floats, lines: Indices, units: Indices, *, resamples: int = PAIR_RESAMPLES, seed: int = 0
) -> Estimate:
    """Share of triplets whose nearest pair is the same for a method as for people; 1/k of a point for k equal ones.

    Args:
        distances: (T, 3) of a method, that of the pair which is nearest for people in front.
        lines: (T, K) rows that each triplet rests on.
        units: (N,) of rows, what the bootstrap resamples.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    agreed = nearest_pair_found(distances)

    def share(weights: Floats) -> list[float]:
        w = line_weights(weights, lines)
        return [ratio(dot(w, agreed), w.sum())]

    (found,) = bootstrap(share, units, resamples=resamples, seed=seed)
    return Estimate(*found, n=len(lines))


def rank_correlation(
    embeddings: npt.ArrayLike,
    ratings: npt.ArrayLike,
    *,
    pairs: int | npt.ArrayLike = 50_000,
    persons: Sequence[object] | None = None,
    distance: Distance = l2,
    resamples: int = PAIR_RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Spearman's correlation between the method's distances and rating distances, over pairs of different people.

    Args:
        pairs: how many to draw, or (P, 2) rows.
        embeddings: as in `triplet_accuracy`.
        ratings: as in `triplet_accuracy`.
        persons: as in `triplet_accuracy`.
        distance: as in `triplet_accuracy`.
        resamples: as in `triplet_accuracy`.
        seed: as in `triplet_accuracy`.

    Returns:
        -1..1, NaN when one of the two doesn't vary; `n` is the number of pairs.

    Raises:
        ValueError: shapes differ, or a number is not finite.
    """
    vectors, rated = matrices(embeddings, ratings)
    people = units(len(vectors), persons)
    drawn = _lines(pairs, 2, people, seed)
    far = pair_distances(vectors, drawn[:, 0], drawn[:, 1], distance)
    apart = pair_distances(rated, drawn[:, 0], drawn[:, 1], l2)
    return lines_correlation(far, apart, drawn, people, resamples=resamples, seed=seed)


def lines_correlation(
    distances: Floats,
    apart: Floats,
    lines: Indices,
    units: Indices,
    *,
    resamples: int = PAIR_RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Spearman's correlation between a method's distances of pairs and how far people put them apart.

    Args:
        distances: (P,) of a method.
        apart: (P,) of people.
        lines: (P, K) rows that each pair rests on.
        units: (N,) of rows, what the bootstrap resamples.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    far, rated = value_codes(distances), value_codes(apart)

    def correlation(weights: Floats) -> list[float]:
        w = line_weights(weights, lines)
        return [weighted_correlation(mid_ranks(far, w), mid_ranks(rated, w), w)]

    (found,) = bootstrap(correlation, units, resamples=resamples, seed=seed)
    return Estimate(*found, n=len(lines))


def clear_triplets(
    ratings: npt.ArrayLike, triplets: Indices, *, margin: float = MARGIN, points: float | None = None
) -> Indices:
    """(C, 3) those of the triplets that people are clear about, each with their nearest pair in front.

    Args:
        ratings: (N, K). triplets: (T, 3) rows.
        margin: as in `triplet_accuracy`.
        points: as in `triplet_accuracy`.
    """
    human = triplet_distances(ratings, triplets, l2)
    ordered = np.sort(human, axis=1)
    least = margin * (human.mean() if human.size else 0.0) if points is None else points
    clear = ordered[:, 1] - ordered[:, 0] > least
    front = np.array([(0, 1, 2), (0, 2, 1), (1, 2, 0)])[human[clear].argmin(1)]
    return np.take_along_axis(triplets[clear], front, axis=1)


def nearest_pair_found(distances: Floats) -> Floats:
    """(T,) 1 where the first of a method's (T, 3) triplet distances is its smallest, 1/k of k equal ones, else 0."""
    nearest = distances == distances.min(axis=1, keepdims=True, initial=np.inf)
    return np.asarray(nearest[:, 0] / np.maximum(nearest.sum(1), 1))


def _lines(asked: int | npt.ArrayLike, size: int, people: Indices, seed: int) -> Indices:
    if isinstance(asked, int | np.integer):
        return draw(size, int(asked), people, seed)
    lines = np.asarray(asked, np.intp)
    if lines.ndim != 2 or lines.shape[1] != size:
        raise ValueError(f"expected rows of shape (T, {size}), got {lines.shape}")
    return lines


def triplet_distances(vectors: npt.ArrayLike, triplets: Indices, distance: Distance) -> Floats:
    """(T, 3) distances of the pairs (0, 1), (0, 2), (1, 2) of each triplet."""
    a, b, c = triplets.T
    return np.stack([pair_distances(vectors, x, y, distance) for x, y in ((a, b), (a, c), (b, c))], axis=1)


def mid_ranks(codes: Indices, weights: Floats) -> Floats:
    """Ranks of weighted values: the weight below, and half of the weight that is equal."""
    mass = np.bincount(codes, weights)
    return np.asarray((np.cumsum(mass) - 0.5 * mass)[codes])


def weighted_correlation(x: Floats, y: Floats, weights: Floats) -> float:
    total = weights.sum()
    if not total > 0:
        return float("nan")
    x, y = x - dot(weights, x) / total, y - dot(weights, y) / total
    weighed = weights * x
    spread = dot(weighed, x) * dot(weights * y, y)
    return float(dot(weighed, y) / np.sqrt(spread)) if spread > 0 else float("nan")
