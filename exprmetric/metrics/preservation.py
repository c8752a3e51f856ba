"""Expression preservation: the scores of paper 000, section V.B.

The caption of the paper's Table II and its text disagree on the L2 error; the text is followed: the difference between
the distance source-target and the distance source-swapped.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SCORES = ("l2_error", "mean_t2c", "ratio")
"""The scores of a result, in the order of the paper's table."""
HIGHER_IS_BETTER = {"l2_error": False, "mean_t2c": False, "ratio": True}


def per_triplet(t2c: npt.ArrayLike, s2c: npt.ArrayLike, s2t: npt.ArrayLike) -> dict[str, Floats]:
    """What each triplet adds to each score; a score is the mean of its column.

    Args:
        t2c: (N,) distances target-swapped.
        s2c: (N,) distances source-swapped.
        s2t: (N,) distances source-target.

    Returns:
        (N,) float64 columns `l2_error` abs(s2t - s2c), `mean_t2c` t2c, `ratio` [t2c < s2c], `mean_s2c`, `mean_s2t`.
    """
    t, s, r = (np.asarray(v, np.float64) for v in (t2c, s2c, s2t))
    if not t.shape == s.shape == r.shape or t.ndim != 1:
        raise ValueError(f"scores need three (N,) arrays of one length, got {t.shape}, {s.shape}, {r.shape}")
    return {
        "l2_error": np.abs(r - s),
        "mean_t2c": t,
        "ratio": (t < s).astype(np.float64),
        "mean_s2c": s,
        "mean_s2t": r,
    }


def preservation_scores(t2c: npt.ArrayLike, s2c: npt.ArrayLike, s2t: npt.ArrayLike) -> dict[str, float]:
    """Scores over N triplets.

    Args:
        t2c: (N,) distances target-swapped.
        s2c: (N,) distances source-swapped.
        s2t: (N,) distances source-target.

    Returns:
        `l2_error` = mean of abs(s2t - s2c) (lower is better), `mean_t2c` (lower), `ratio` = share of t2c < s2c
        (higher), and the plain means `mean_s2c`, `mean_s2t`. All NaN for N = 0: nothing was measured.

    Raises:
        ValueError: the arrays differ in length, or a distance is NaN, infinite or negative.
    """
    columns = per_triplet(t2c, s2c, s2t)
    for name in ("mean_t2c", "mean_s2c", "mean_s2t"):
        bad = ~np.isfinite(columns[name]) | (columns[name] < 0)
        if bad.any():
            raise ValueError(f"distance {name[5:]} of triplet {int(np.argmax(bad))} is {columns[name][bad][0]}")
    return {name: float(v.mean()) if v.size else math.nan for name, v in columns.items()}
