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
WITHOUT_SOURCE = ("mean_t2c",)
"""The scores that a pair (target, changed face) has; all others need a source."""


def per_triplet(
    t2c: npt.ArrayLike, s2c: npt.ArrayLike | None = None, s2t: npt.ArrayLike | None = None
) -> dict[str, Floats]:
    """What each triplet adds to each score; a score is the mean of its column.

    Args:
        t2c: (N,) distances target-swapped.
        s2c: (N,) distances source-swapped; None without a source.
        s2t: (N,) distances source-target; None without a source.

    Returns:
        (N,) float64 columns `l2_error` abs(s2t - s2c), `mean_t2c` t2c, `ratio` [t2c < s2c], `mean_s2c`, `mean_s2t`;
        `mean_t2c` alone without a source.
    """
    t = np.asarray(t2c, np.float64)
    if s2c is None and s2t is None:
        if t.ndim != 1:
            raise ValueError(f"scores need an (N,) array, got {t.shape}")
        return {"mean_t2c": t}
    if s2c is None or s2t is None:
        raise ValueError("s2c and s2t belong together: give both, or neither where there is no source")
    s, r = np.asarray(s2c, np.float64), np.asarray(s2t, np.float64)
    if not t.shape == s.shape == r.shape or t.ndim != 1:
        raise ValueError(f"scores need three (N,) arrays of one length, got {t.shape}, {s.shape}, {r.shape}")
    return {
        "l2_error": np.abs(r - s),
        "mean_t2c": t,
        "ratio": (t < s).astype(np.float64),
        "mean_s2c": s,
        "mean_s2t": r,
    }


def preservation_scores(
    t2c: npt.ArrayLike, s2c: npt.ArrayLike | None = None, s2t: npt.ArrayLike | None = None
) -> dict[str, float]:
    """Scores over N triplets.

    Args:
        t2c: (N,) distances target-swapped.
        s2c: (N,) distances source-swapped; None without a source.
        s2t: (N,) distances source-target; None without a source.

    Returns:
        `l2_error` = mean of abs(s2t - s2c) (lower is better), `mean_t2c` (lower), `ratio` = share of t2c < s2c
        (higher), and the plain means `mean_s2c`, `mean_s2t`. `mean_t2c` alone without a source. All NaN for N = 0:
        nothing was measured.

    Raises:
        ValueError: the arrays differ in length, or a distance is NaN, infinite or negative.
    """
    columns = per_triplet(t2c, s2c, s2t)
    for name in [n for n in ("mean_t2c", "mean_s2c", "mean_s2t") if n in columns]:
        bad = ~np.isfinite(columns[name]) | (columns[name] < 0)
        if bad.any():
            raise ValueError(f"distance {name[5:]} of triplet {int(np.argmax(bad))} is {columns[name][bad][0]}")
    return {name: float(v.mean()) if v.size else math.nan for name, v in columns.items()}
