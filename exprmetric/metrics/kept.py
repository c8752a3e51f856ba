"""From a distance to the probability that people give two faces the same answer.

A rater looks at one face and names its expression, another rater looks at the other: the probability that both give
the same answer needs no threshold. Two raters of one face agree in the same sense: that is as high as it gets (the
ceiling). The map from a method's distance to that probability falls monotonically: pooled adjacent violators over bins
of distance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from exprmetric.metrics.resampling import Estimate, bootstrap
from exprmetric.metrics.uncertainty import TABLE_RESAMPLES

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

BINS = 25
"""Bins of distance, of one width: near and far pairs count alike, though random pairs are mostly far."""
PER_BIN = 400
FARTHEST = 0.99
"""Quantile of all distances at which the bins end."""
LEVELS = 10
"""Levels of probability in a reliability diagram, each with as many pairs."""
LIMIT = 0.10
"""Expected calibration error on a left-out set from which on a map is not used."""


@dataclass(frozen=True)
class Judged:
    """How well a map fits a set that took no part in its fit.

    Attributes:
        error: expected calibration error: mean |predicted - observed| over levels of the prediction; n: pairs.
        predicted: of the reliability diagram, one for each level.
        observed: likewise.
    """

    error: Estimate
    predicted: tuple[float, ...]
    observed: tuple[float, ...]


@dataclass(frozen=True)
class KeptMap:
    """A monotone map from the distance of a method to a probability.

    Attributes:
        distances: its knots, from 0 on.
        probabilities: at the knots; straight lines between them, level behind the last.
        left_out: by set, how well the map of the other sets fits it.
        about: faces, pairs and ceiling of each set.
    """

    distances: tuple[float, ...]
    probabilities: tuple[float, ...]
    left_out: dict[str, Judged] = field(default_factory=dict)
    about: dict[str, dict[str, float]] = field(default_factory=dict)

    def __call__(self, distances: npt.ArrayLike) -> Floats:
        """(N,) probabilities; NaN stays NaN."""
        return np.asarray(np.interp(np.asarray(distances, np.float64), self.distances, self.probabilities))

    @property
    def ceiling(self) -> float:
        """The probability at distance 0: two raters of one face."""
        return self.probabilities[0]

    @property
    def error(self) -> float:
        """The largest error on a left-out set; NaN where none was left out."""
        return max((j.error.value for j in self.left_out.values()), default=math.nan)

    @property
    def calibrated(self) -> bool:
        """Some set was left out, and no error is above LIMIT."""
        return self.error <= LIMIT


def agreement(shares: npt.ArrayLike, first: Indices, second: Indices) -> Floats:
    """(P,) probability that a rater of one face and a rater of another give the same answer.

    Args:
        shares: (N, K) shares of raters by answer, each row's sum 1.
        first: (P,) rows of one face.
        second: (P,) rows of the other face.
    """
    p = np.asarray(shares, np.float64)
    return np.asarray((p[first] * p[second]).sum(1))


def ceiling(shares: npt.ArrayLike, raters: npt.ArrayLike) -> float:
    """The probability that two different raters of one face give the same answer, mean over N faces.

    Args:
        shares: (N, K) of raters by answer.
        raters: (N,) how many answered; faces of one rater say nothing.
    """
    p, n = np.asarray(shares, np.float64), np.asarray(raters, np.float64)
    told = n > 1
    each = (n[told] * (p[told] ** 2).sum(1) - 1.0) / (n[told] - 1.0)
    return float(each.mean()) if told.any() else math.nan


def spread(distances: npt.ArrayLike, seed: int = 0) -> Indices:
    """Pairs that count, drawn such that every distance has as many, as far as there are so many."""
    d = np.asarray(distances, np.float64)
    generator = np.random.default_rng(seed)
    edges = np.linspace(0.0, float(np.quantile(d, FARTHEST)), BINS + 1)
    bins = np.clip(np.digitize(d, edges) - 1, 0, BINS - 1)
    kept = [generator.permutation(np.flatnonzero((bins == b) & (d <= edges[-1])))[:PER_BIN] for b in range(BINS)]
    return np.sort(np.concatenate(kept))


def falling(values: npt.ArrayLike, weights: npt.ArrayLike) -> Floats:
    """(N,) the falling values that are nearest in weighted squares (pooled adjacent violators)."""
    blocks: list[list[float]] = []
    for value, weight in zip(np.asarray(values, np.float64), np.asarray(weights, np.float64), strict=True):
        blocks.append([float(value), float(weight), 1])
        while len(blocks) > 1 and blocks[-2][0] < blocks[-1][0]:
            (a, wa, na), (b, wb, nb) = blocks[-2:]
            blocks[-2:] = [[(a * wa + b * wb) / (wa + wb), wa + wb, na + nb]]
    return np.concatenate([np.full(int(n), value) for value, _, n in blocks])


def fit(sets: Sequence[tuple[Floats, Floats, float]]) -> KeptMap:
    """A map through the pairs of several sets, each of the same weight.

    Args:
        sets: of each set (P,) distances, (P,) probabilities of the same answer, and its ceiling.

    Raises:
        ValueError: no set has a pair.
    """
    points = []
    for distances, same, _ in sets:
        order = np.argsort(distances, kind="stable")
        parts = np.array_split(order, min(BINS, len(order)))
        points += [(distances[part].mean(), same[part].mean(), len(part) / len(order)) for part in parts]
    if not points:
        raise ValueError("a map needs pairs of rated faces")
    x, y, weight = np.array(sorted(points)).T
    top = float(np.mean([c for _, _, c in sets]))
    fitted = np.minimum(falling(y, weight), top)
    inside = x > 0
    return KeptMap((0.0, *x[inside].tolist()), (top, *fitted[inside].tolist()))


def judge(made: KeptMap, distances: Floats, same: Floats, pairs: Indices, units: Indices, *, seed: int = 0) -> Judged:
    """How well a map fits pairs of a set that took no part in it.

    Args:
        distances: (P,) of the set's pairs.
        same: (P,) likewise.
        pairs: (P, 2) their rows.
        units: (N,) codes of the people that the bootstrap resamples, or of faces.
    """
    predicted = made(distances)
    levels = np.array_split(np.argsort(predicted, kind="stable"), min(LEVELS, len(predicted)))
    level = np.empty(len(predicted), np.intp)
    for i, part in enumerate(levels):
        level[part] = i

    def error(weights: Floats) -> list[float]:
        w = weights[pairs[:, 0]] * weights[pairs[:, 1]]
        if not w.sum():
            return [math.nan]
        gaps = np.bincount(level, w * (predicted - same), len(levels))
        return [float(np.abs(gaps).sum() / w.sum())]

    (found,) = bootstrap(error, units, resamples=TABLE_RESAMPLES, seed=seed)
    told = [(float(predicted[part].mean()), float(same[part].mean())) for part in levels]
    return Judged(Estimate(*found, n=len(predicted)), tuple(p for p, _ in told), tuple(o for _, o in told))
