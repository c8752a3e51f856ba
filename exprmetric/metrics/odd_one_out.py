"""Triplets of faces of which one is the odd one out: how often a method agrees, and triplets made from raters' votes.

A triplet is a row (a, p, n) of indices: for people, n is the odd one, so a and p are the nearest pair (paper 004;
Vemulapalli and Agarwala, 2019). Its type says how many classes of expression its three faces have.

`agreement.triplet_accuracy` draws triplets from ratings too, but gives a share of the point for a tie and knows no
types; here a tie is wrong, as in the papers that report triplet accuracy.
"""

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
    pair_distances,
    ratio,
    units,
)
from exprmetric.metrics.uncertainty import PAIR_RESAMPLES

TYPES = ("one_class", "two_class", "three_class")
"""By the number of classes among the three faces, less one."""
MARGIN = 0.3
"""Of triplets made from votes: with ten raters, three more would have to change their vote."""
DRAWS = 200
"""Random triples looked at for each triplet asked for; what is not found by then is too rare in the data."""
BLOCK = 1 << 16


@dataclass(frozen=True)
class Triplets:
    """T triplets.

    Attributes:
        rows: (T, 3) intp, the indices of anchor, positive and negative.
        types: (T,) intp, indices into TYPES.
    """

    rows: Indices
    types: Indices

    def __len__(self) -> int:
        return len(self.rows)


def odd_one_out_correct(
    embeddings: npt.ArrayLike, triplets: npt.ArrayLike, *, distance: Distance = l2
) -> npt.NDArray[np.bool_]:
    """(T,) whether the method too has a and p nearer to each other than either is to n; where two are equal: False.

    Args:
        embeddings: (N, D) the method's vectors.
        triplets: (T, 3) rows (a, p, n).
        distance: of the method.

    Raises:
        ValueError: the shapes are others, an index is no row, or a distance is NaN, infinite or negative.
    """
    vectors, rows = np.asarray(embeddings), np.asarray(triplets)
    if rows.ndim != 2 or rows.shape[1] != 3:
        raise ValueError(f"expected triplets of shape (T, 3), got {rows.shape}")
    if vectors.ndim != 2:
        raise ValueError(f"expected embeddings of shape (N, D), got {vectors.shape}")
    if rows.size and not (rows.min() >= 0 and rows.max() < len(vectors)):
        raise ValueError(f"triplets name rows {rows.min()} to {rows.max()} of {len(vectors)} embeddings")
    a, p, n = rows.astype(np.intp).T
    near = pair_distances(vectors, a, p, distance)
    return np.asarray(
        (near < pair_distances(vectors, a, n, distance)) & (near < pair_distances(vectors, p, n, distance))
    )


def odd_one_out_accuracy(
    embeddings: npt.ArrayLike,
    triplets: npt.ArrayLike,
    types: npt.ArrayLike | None = None,
    *,
    persons: Sequence[object] | None = None,
    distance: Distance = l2,
    resamples: int = PAIR_RESAMPLES,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Triplet accuracy, overall (`all`) and by each of TYPES; chance is 1/3.

    Args:
        embeddings: (N, D) the method's vectors.
        triplets: (T, 3) rows (a, p, n).
        types: (T,) indices into TYPES; None: only `all` is returned.
        persons: N names ('' = unknown); intervals then resample people, else faces.
        distance: of the method.
        resamples: of the bootstrap; 0 gives no interval (NaN).
        seed: of the bootstrap.

    Returns:
        By name the share 0..1 with its interval; NaN where there is no triplet. `n` is the number of triplets.

    Raises:
        ValueError: as `odd_one_out_correct`, or the types don't fit.
    """
    correct = odd_one_out_correct(embeddings, triplets, distance=distance)
    first, second, third = np.asarray(triplets, np.intp).T
    people = units(len(np.asarray(embeddings)), persons)
    names, members = ["all"], np.ones((1, len(correct)), bool)
    if types is not None:
        kinds = np.asarray(types)
        if kinds.shape != correct.shape or not np.isin(kinds, range(len(TYPES))).all():
            raise ValueError(
                f"expected {len(correct)} types 0..{len(TYPES) - 1}, got {kinds.shape} of {set(kinds.flat)}"
            )
        names += TYPES
        members = np.concatenate([members, kinds == np.arange(len(TYPES))[:, None]])
    right = members & correct

    def shares(weights: Floats) -> list[float]:
        w = weights[first] * weights[second] * weights[third]
        return [ratio(w[yes].sum(), w[of].sum()) for yes, of in zip(right, members, strict=True)]

    found = bootstrap(shares, people, resamples=resamples, seed=seed)
    counts = members.sum(1).tolist()
    return {name: Estimate(*each, n=n) for name, each, n in zip(names, found, counts, strict=True)}


def vote_triplets(votes: npt.ArrayLike, count: int, *, margin: float = MARGIN, seed: int = 0) -> Triplets:
    """Random triplets whose votes say clearly which face is the odd one: a third of each type, where there are as many.

    The distance between two faces is the share of raters who would have to change their vote to make the votes of one
    those of the other (total variation, 0..1). Both distances to the odd one are larger than that between the other two
    by `margin` or more. A face's class is the expression with most votes, of several the first.

    Args:
        votes: (N, K) shares that sum to 1, or counts; rows with NaN are left out.
        count: triplets wanted; fewer are returned where a type is too rare to be found in DRAWS triples for each.
        margin: above 0, at most 1.
        seed: the same seed and votes give the same triplets.

    Raises:
        ValueError: a vote is negative, a row has none, or the margin is out of range.
    """
    shares = np.asarray(votes, np.float64)
    if shares.ndim != 2 or not 0 < margin <= 1:
        raise ValueError(f"expected votes (N, K) and a margin in (0, 1], got {shares.shape} and {margin}")
    rated = np.flatnonzero(np.isfinite(shares).all(1))
    shares = shares[rated]
    if (shares < 0).any() or (shares.sum(1) <= 0).any():
        raise ValueError("votes must not be negative, and each rated row needs one")
    if len(shares) < 3:
        return Triplets(np.empty((0, 3), np.intp), np.empty(0, np.intp))
    shares /= shares.sum(1, keepdims=True)
    labels = shares.argmax(1)
    generator = np.random.default_rng(seed)
    wanted = np.array([count // 3 + (i < count % 3) for i in range(3)])
    found: list[list[Indices]] = [[], [], []]
    missing = wanted.copy()
    for _ in range(-(-max(DRAWS * count, BLOCK) // BLOCK)):
        if not missing.any():
            break
        rows = _odd_last(shares, generator.integers(0, len(shares), (BLOCK, 3)), margin)
        kinds = _classes(labels[rows]) - 1
        for kind in range(3):
            fresh = rows[kinds == kind][: missing[kind]]
            found[kind].append(fresh)
            missing[kind] -= len(fresh)
    parts = [np.concatenate([np.empty((0, 3), np.intp), *each]) for each in found]
    types = np.repeat(np.arange(3), [len(part) for part in parts])
    order = generator.permutation(len(types))
    return Triplets(rated[np.concatenate(parts)[order]], types[order])


def _odd_last(shares: Floats, drawn: npt.NDArray[np.int64], margin: float) -> Indices:
    """The rows of three different faces of which one is clearly the odd one, with that one moved to the end."""
    sides = ((0, 1, 2), (0, 2, 1), (1, 2, 0))  # a pair, and the face opposite to it
    far = np.stack([_variation(shares, drawn[:, i], drawn[:, j]) for i, j, _ in sides], axis=1)
    nearest = far.argmin(1)
    ordered = np.sort(far, axis=1)
    rows = np.take_along_axis(drawn, np.array(sides)[nearest], axis=1)
    clear = ordered[:, 1] - ordered[:, 0] >= margin - 1e-12  # shares of ten raters are no round numbers
    return np.asarray(rows[clear & (_classes(drawn) == 3)], np.intp)


def _variation(shares: Floats, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> Floats:
    return np.asarray(np.abs(shares[first] - shares[second]).sum(1) / 2)


def _classes(values: npt.NDArray[np.integer]) -> Indices:
    """How many different numbers each row of (T, 3) holds."""
    return np.asarray(1 + (np.diff(np.sort(values, axis=1), axis=1) > 0).sum(1), np.intp)
