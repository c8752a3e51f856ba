"""Bootstrap intervals that resample groups: frames of one video, or swaps of one target, are not independent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Groups = Sequence[object] | npt.NDArray[np.integer]

RESAMPLES = 2000
"""Of the bootstrap of a result's scores, which are means and quickly drawn again."""
PAIR_RESAMPLES = 1000
"""Of a statistic over all pairs or triplets of faces."""
TABLE_RESAMPLES = 300
"""Of a table of many intervals: twenty encoders under ten protocols, say."""
LEVEL = 0.95


def group_codes(groups: Groups) -> npt.NDArray[np.intp]:
    """(N,) whole numbers 0..G-1 in the order in which the groups' names (or numbers) sort: row order can't show."""
    names: npt.NDArray[Any]
    if isinstance(groups, np.ndarray) and groups.dtype.kind in "iu":
        names = groups
    else:
        names = np.asarray([str(g) for g in groups], dtype=object).astype(str)
    _, codes = np.unique(names, return_inverse=True)
    return np.asarray(codes, np.intp).ravel()


def bootstrap_means(
    columns: Mapping[str, npt.ArrayLike],
    groups: Groups,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of column means under a cluster bootstrap.

    G groups are drawn with replacement, each with all its rows; the mean is over the rows drawn (Field, Welsh 2007).
    All columns share the draws, and memory does not grow with the number of rows.

    Args:
        columns: (N,) values by name.
        groups: N group names, or whole numbers in the order of the names.
        resamples: how many bootstrap samples.
        level: coverage of the interval, 0..1.
        seed: of the draws.

    Returns:
        (low, high) by name; (nan, nan) where there are fewer than two groups, since one group has no spread to show.
    """
    codes = group_codes(groups)
    count = int(codes.max()) + 1 if codes.size else 0
    if count < 2:
        return dict.fromkeys(columns, (math.nan, math.nan))
    sizes = np.bincount(codes).astype(np.float64)
    sums = np.stack([np.bincount(codes, np.asarray(v)) for v in columns.values()], axis=1)
    generator = np.random.default_rng(seed)
    means = np.empty((resamples, sums.shape[1]))
    block = max(1, min(resamples, 4_000_000 // count))
    for start in range(0, resamples, block):
        draws = generator.multinomial(count, np.full(count, 1.0 / count), size=min(block, resamples - start))
        means[start : start + block] = (draws @ sums) / (draws @ sizes)[:, None]
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail], axis=0)
    return {name: (float(lo), float(hi)) for name, lo, hi in zip(columns, low, high, strict=True)}


def two_way_means(
    columns: Mapping[str, npt.ArrayLike],
    first: Groups,
    second: Groups,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of column means where rows share groups in two ways, such as a target and a source.

    Targets and sources are drawn independently; a row counts (times its target was drawn) x (times its source was)
    (Owen 2007's pigeonhole bootstrap). It errs on the wide side.

    Args:
        columns: (N,) values by name.
        first: N groups of one kind.
        second: N groups of the other kind.
        resamples: how many bootstrap samples.
        level: coverage of the interval, 0..1.
        seed: of the draws.

    Returns:
        (low, high) by name; (nan, nan) where either kind has fewer than two groups.
    """
    codes = [group_codes(groups) for groups in (first, second)]
    counts = [int(c.max()) + 1 if c.size else 0 for c in codes]
    if min(counts) < 2:
        return dict.fromkeys(columns, (math.nan, math.nan))
    values = np.stack([np.asarray(v, np.float64) for v in columns.values()], axis=1)
    generator = np.random.default_rng(seed)
    means = np.full((resamples, values.shape[1]), np.nan)
    for i in range(resamples):
        draws = [generator.multinomial(n, np.full(n, 1.0 / n))[c] for n, c in zip(counts, codes, strict=True)]
        weights = (draws[0] * draws[1]).astype(np.float64)
        if weights.any():
            means[i] = weights @ values / weights.sum()
    tail = (1.0 - level) / 2.0
    low, high = np.nanquantile(means, [tail, 1.0 - tail], axis=0)
    return {name: (float(lo), float(hi)) for name, lo, hi in zip(columns, low, high, strict=True)}
