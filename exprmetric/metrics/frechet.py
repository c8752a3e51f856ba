"""Fréchet distance between two clouds of vectors, as FID takes it, from sums and products alone, which merge."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

TAKEN = 4096
"""Vectors whose products are taken at a time."""


@dataclass(frozen=True, eq=False)
class Moments:
    """What a cloud of vectors leaves behind; of constant size.

    Attributes:
        count: how many vectors.
        total: (D,) their sum.
        products: (D, D) the sum of their products with themselves.
    """

    count: int
    total: Floats
    products: Floats

    @classmethod
    def of(cls, vectors: npt.ArrayLike) -> Moments:
        """Of (N, D) vectors; taken in float64, and in pieces of `TAKEN`, so that a file may be mapped.

        Raises:
            ValueError: another shape, or numbers that are not finite.
        """
        values = np.asarray(vectors)
        if values.ndim != 2:
            raise ValueError(f"moments are of (N, D) vectors, got {values.shape}")
        found = cls.empty(values.shape[1])
        for start in range(0, len(values), TAKEN):
            part = np.asarray(values[start : start + TAKEN], np.float64)
            if not np.isfinite(part).all():
                raise ValueError("moments need finite vectors")
            found += cls(len(part), part.sum(0), part.T @ part)
        return found

    @classmethod
    def empty(cls, dimension: int) -> Moments:
        """Of no vectors."""
        return cls(0, np.zeros(dimension), np.zeros((dimension, dimension)))

    @classmethod
    def joined(cls, parts: Iterable[Moments], dimension: int) -> Moments:
        """Of several clouds together."""
        return sum(parts, cls.empty(dimension))

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.count + other.count, self.total + other.total, self.products + other.products)

    @property
    def mean(self) -> Floats:
        """(D,)."""
        return self.total / self.count

    @property
    def covariance(self) -> Floats:
        """(D, D), divided by N - 1."""
        return (self.products - self.count * np.outer(self.mean, self.mean)) / (self.count - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """|mean a - mean b|² + trace(A + B - 2 (A B)^½), for the covariances A and B; 0 for equal clouds.

    It is the squared Fréchet distance of two normal distributions (Dowson and Landau 1982), which FID reports. The
    trace of the root is the sum of the singular values of A^½ B^½: real, whatever rounding does, also where there are
    fewer vectors than dimensions. Of few vectors it is too large, by an amount that falls as 1 / N: compare runs of one
    size.

    Returns:
        0..inf in the vectors' squared unit; NaN where a cloud has fewer than two vectors.

    Raises:
        ValueError: the dimensions differ.
    """
    if a.total.shape != b.total.shape:
        raise ValueError(f"the clouds have {len(a.total)} and {len(b.total)} dimensions")
    if min(a.count, b.count) < 2:
        return float("nan")
    apart = float(((a.mean - b.mean) ** 2).sum())
    shared = float(np.linalg.svd(_root(a.covariance) @ _root(b.covariance), compute_uv=False).sum())
    return max(apart + float(np.trace(a.covariance) + np.trace(b.covariance)) - 2 * shared, 0.0)


def _root(covariance: Floats) -> Floats:
    """The symmetric square root of a positive semi-definite matrix."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)
