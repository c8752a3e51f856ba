"""Two models on the same triplets: paired differences, their p-values, and Holm's correction for looking at many.

Rows of one group (swaps of one target, frames of one video) are not independent: intervals resample groups, and the
test flips the sign of whole groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, erfc, nan, sqrt

import numpy as np
import numpy.typing as npt

from exprmetric.metrics.uncertainty import Floats, group_codes

FLIPS = 20_000
"""Random sign flips of a test; the smallest p-value is 1 / (FLIPS + 1)."""
EXACT_GROUPS = 14
"""Up to so many groups all 2^G sign flips are gone through: no chance in it."""
NORMAL_GROUPS = 5_000
"""From so many groups on, the flips' sum is as good as normal."""
_BLOCK = 4_000_000
POWER = 1.959964 + 0.841621
"""Normal quantiles of a two-sided test at 0.05, and of a power of 0.8."""


def sign_flip_p(differences: npt.ArrayLike, groups: Sequence[object], *, seed: int = 0) -> float:
    """Two-sided p-value of "which of the two models a group's swaps came from makes no difference".

    Under it, each group's sum of differences could as well have the other sign (Fisher's randomisation test, with
    groups as units). The p-value is the share of sign flips whose sum is at least as far from 0 as the one seen.

    Args:
        differences: (N,) paired differences.
        groups: N group names.
        seed: of the random flips; not used up to EXACT_GROUPS groups.

    Returns:
        0..1; NaN for N = 0. With G groups it can't be below 2 / 2^G: few groups show nothing.
    """
    codes = group_codes(groups)
    values = np.asarray(differences, np.float64)
    if not values.size:
        return nan
    sums = np.bincount(codes, values)
    seen = abs(float(sums.sum()))
    spread = float(np.abs(sums).sum())
    if spread == 0.0:
        return 1.0
    reached = seen - 1e-12 * spread  # sums of the same numbers in another order differ in their last digits
    count = len(sums)
    if count <= EXACT_GROUPS:
        bits = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
        return float(np.mean(np.abs((1.0 - 2.0 * bits) @ sums) >= reached))
    if count >= NORMAL_GROUPS:
        return erfc(seen / sqrt(2.0 * float((sums**2).sum())))
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK // count)
    extreme = 0
    for start in range(0, FLIPS, block):
        signs = generator.integers(0, 2, (min(block, FLIPS - start), count)) * 2.0 - 1.0
        extreme += int(np.sum(np.abs(signs @ sums) >= reached))
    return (extreme + 1) / (FLIPS + 1)


def smallest_p(groups: int) -> float:
    """The smallest p-value that `sign_flip_p` can give with so many groups; NaN for none."""
    if groups < 1:
        return nan
    if groups <= EXACT_GROUPS:
        return float(min(1.0, 2.0 / 2**groups))
    return 0.0 if groups >= NORMAL_GROUPS else 1.0 / (FLIPS + 1)


def targets_needed(spread: float, difference: float) -> int:
    """How many groups a paired difference needs to be found four times in five, two-sided at 0.05.

    Args:
        spread: standard deviation of the groups' mean differences.
        difference: the true mean difference, not 0.
    """
    return max(2, ceil((POWER * spread / difference) ** 2))


def holm(p_values: npt.ArrayLike) -> Floats:
    """(K,) p-values corrected for K tests, so that one false alarm among them is as rare as the level says.

    Holm (1979): the i-th smallest, i from 0, times K - i, never below the one before, at most 1. NaN (no test was made)
    stays NaN and does not count.
    """
    p = np.asarray(p_values, np.float64)
    corrected = np.full(p.shape, np.nan)
    order = np.argsort(p, kind="stable")[: int(np.isfinite(p).sum())]  # NaN sorts last
    steps = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * steps), 1.0)
    return corrected


def win_tie_loss(first: npt.ArrayLike, second: npt.ArrayLike, *, higher_is_better: bool) -> tuple[int, int, int]:
    """How many of N paired values of the first are better than, equal to, worse than the second's."""
    difference = np.subtract(first, second, dtype=np.float64)
    better = difference if higher_is_better else -difference
    return int((better > 0).sum()), int((better == 0).sum()), int((better < 0).sum())


def merged_groups(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """N group names such that rows which either grouping puts together are together.

    Two reports may group the same triplets differently (by video in one, by target in the other).
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not first:
        return []
    # of 32 bits: with wider indices SciPy 1.11 finds no components, and doesn't say so
    rows, columns = (group_codes(each).astype(np.int32) for each in (first, second))
    height, width = int(rows.max()) + 1, int(columns.max()) + 1
    size = height + width
    edges = coo_array((np.ones(len(rows)), (rows, columns + height)), shape=(size, size))
    _, component = connected_components(edges, directed=False)
    names: dict[int, str] = {}
    for code, name in sorted(zip(component[rows].tolist(), first, strict=True)):
        names.setdefault(code, name)  # the first by name, so that the order of the rows can't show
    return [names[code] for code in component[rows].tolist()]
