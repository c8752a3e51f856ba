"""Distances and preservation scores of `exprmetric.metrics`, on tensors: any device, differentiable, no host sync.

Half precision is widened to float32 before any arithmetic; float32 and float64 stay what they are.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from exprmetric.errors import InputError
from exprmetric.metrics import preservation

SCORES = (*preservation.SCORES, *preservation.MEANS)
"""The scores of `preservation_scores`, in this order."""


def widened(x: Tensor) -> Tensor:
    """As float32, or as float64 where it was that."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _rows(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if a.shape != b.shape or a.ndim != 2:
        raise InputError(f"distances need two (N, D) tensors of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    return widened(a), widened(b)


def l2(a: Tensor, b: Tensor) -> Tensor:
    """(N, D), (N, D) → (N,) Euclidean distance; where it is 0 its gradient is 0 too, not NaN."""
    x, y = _rows(a, b)
    distances: Tensor = torch.linalg.vector_norm(x - y, dim=1)
    return distances


def mse(a: Tensor, b: Tensor) -> Tensor:
    """(N, D), (N, D) → (N,) mean of squared differences."""
    x, y = _rows(a, b)
    return (x - y).square().mean(1)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """(N, D), (N, D) → (N,) 1 - cosine similarity, 0..2; NaN where a vector is zero, since it has no direction."""
    x, y = _rows(a, b)
    norms = torch.linalg.vector_norm(x, dim=1) * torch.linalg.vector_norm(y, dim=1)
    distances: Tensor = (1 - (x * y).sum(1) / norms).clamp(0, 2)
    return distances


def ned(a: Tensor, b: Tensor) -> Tensor:
    """(N, D), (N, D) → (N,) normalised Euclidean distance 0.5 Var(a - b) / (Var a + Var b), 0..1.

    Two rows without variance are at distance 0.
    """
    x, y = _rows(a, b)
    spread = _variance(x) + _variance(y)
    return 0.5 * _variance(x - y) / torch.where(spread > 0, spread, torch.ones_like(spread))


def degrees(a: Tensor, b: Tensor) -> Tensor:
    """(N, D), (N, D) → (N,) mean absolute difference between angles in degrees, 0..180; it goes the short way."""
    x, y = _rows(a, b)
    apart = (x - y).abs().remainder(360.0)
    return torch.minimum(apart, 360.0 - apart).mean(1)


def _variance(x: Tensor) -> Tensor:
    """Of each row, without the offset, whose rounding would give rows of one number a variance."""
    return (x - x[:, :1]).var(1, correction=0)


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l2": l2,
    "cosine": cosine,
    "ned": ned,
    "mse": mse,
    "degrees": degrees,
}


def distance_function(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The distance of this name; InputError lists the known ones."""
    try:
        return DISTANCES[name]
    except KeyError:
        raise InputError(f"unknown distance {name!r}; known: {', '.join(DISTANCES)}") from None


def per_triplet(t2c: Tensor, s2c: Tensor | None = None, s2t: Tensor | None = None) -> dict[str, Tensor]:
    """What each triplet adds to each score; a score is the mean of its column.

    Args:
        t2c: (N,) distances target-swapped.
        s2c: (N,) distances source-swapped; None without a source.
        s2t: (N,) distances source-target; None without a source.

    Returns:
        (N,) columns `l2_error` |s2t - s2c|, `mean_t2c` t2c, `ratio` [t2c < s2c], `mean_s2c`, `mean_s2t`, all of the
        dtype of t2c; `mean_t2c` alone without a source. All but `ratio` are differentiable.
    """
    if s2c is None and s2t is None:
        if t2c.ndim != 1:
            raise InputError(f"scores need an (N,) tensor, got {tuple(t2c.shape)}")
        t = widened(t2c)
        return {name: column.to(t.dtype) for name, column in preservation.columns(t, None, None).items()}
    if s2c is None or s2t is None:
        raise InputError("s2c and s2t belong together: give both, or neither where there is no source")
    if not t2c.shape == s2c.shape == s2t.shape or t2c.ndim != 1:
        raise InputError(
            f"scores need three (N,) tensors of one length, got {tuple(t2c.shape)}, {tuple(s2c.shape)}, "
            f"{tuple(s2t.shape)}"
        )
    t, s, r = widened(t2c), widened(s2c), widened(s2t)
    return {name: column.to(t.dtype) for name, column in preservation.columns(t, s, r).items()}


def preservation_scores(t2c: Tensor, s2c: Tensor | None = None, s2t: Tensor | None = None) -> dict[str, Tensor]:
    """Scores over N triplets, as `exprmetric.metrics.preservation_scores`, each a 0-dim tensor on the input's device.

    NaN for N = 0: nothing was measured. A distance that is not finite shows as NaN or infinity in the scores; asking
    for it here would make the host wait for the device.
    """
    return {name: column.mean() for name, column in per_triplet(t2c, s2c, s2t).items()}
