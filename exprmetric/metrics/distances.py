"""Distances between the rows of two arrays of vectors: (N, D), (N, D) → (N,) float64.

Computed in float64 whatever the vectors' type, so that the order of a sum can't show in a score.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def _rows(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[Floats, Floats]:
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.shape != y.shape or x.ndim != 2:
        raise ValueError(f"distances need two (N, D) arrays of one shape, got {x.shape} and {y.shape}")
    return x, y


def l2(a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """Euclidean distance, 0..inf (0..2 for unit-norm vectors); paper 000's choice."""
    x, y = _rows(a, b)
    return np.asarray(np.sqrt(((x - y) ** 2).sum(1)))


def mse(a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """Mean of squared differences, 0..inf."""
    x, y = _rows(a, b)
    return np.asarray(((x - y) ** 2).mean(1))


def cosine(a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """1 - cosine similarity, 0..2; NaN where a vector is zero, since it has no direction."""
    x, y = _rows(a, b)
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    with np.errstate(invalid="ignore"):
        similarity = np.divide((x * y).sum(1), norms, out=np.full(len(x), np.nan), where=norms > 0)
    return np.asarray(np.clip(1.0 - similarity, 0.0, 2.0))


def ned(a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """Normalised Euclidean distance 0.5 Var(a - b) / (Var a + Var b), 0..1, variances over the D numbers of a row.

    It ignores a common offset and scale. Two rows without variance are at distance 0.
    """
    x, y = _rows(a, b)
    spread = _variance(x) + _variance(y)
    return np.asarray(0.5 * _variance(x - y) / np.where(spread > 0, spread, 1.0))


def degrees(a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """Mean absolute difference between D angles in degrees, 0..180; it goes the short way: 179 and -179 are 2 apart."""
    x, y = _rows(a, b)
    apart = np.abs(x - y) % 360.0
    return np.asarray(np.minimum(apart, 360.0 - apart).mean(1))


def _variance(x: Floats) -> Floats:
    """Of each row, without the offset, whose rounding would give rows of one number a variance."""
    return np.asarray((x - x[:, :1]).var(1))


DISTANCES: dict[str, Callable[[npt.ArrayLike, npt.ArrayLike], Floats]] = {
    "l2": l2,
    "cosine": cosine,
    "ned": ned,
    "mse": mse,
    "degrees": degrees,
}


def distance_function(name: str) -> Callable[[npt.ArrayLike, npt.ArrayLike], Floats]:
    """The distance of this name; ValueError lists the known ones."""
    try:
        return DISTANCES[name]
    except KeyError:
        raise ValueError(f"unknown distance {name!r}; known: {', '.join(DISTANCES)}") from None


def between_groups(
    vectors: npt.ArrayLike, groups: npt.ArrayLike, distance: Callable[[npt.ArrayLike, npt.ArrayLike], Floats]
) -> float:
    """Mean distance over all pairs of vectors from different groups; NaN where there is no such pair.

    Args:
        vectors: (N, D); memory grows with N, time with its square.
        groups: (N,) whole numbers.
        distance: of the rows of two arrays.
    """
    x, of = np.asarray(vectors), np.asarray(groups)
    total, count = 0.0, 0
    for i in range(len(x) - 1):
        others = x[i + 1 :][of[i + 1 :] != of[i]]
        if len(others):
            total += float(distance(np.repeat(x[i][None], len(others), axis=0), others).sum())
            count += len(others)
    return total / count if count else float("nan")
