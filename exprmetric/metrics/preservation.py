"""Expression preservation: the scores of paper 000, section V.B.

The caption of the paper's Table II and its text disagree on the L2 error; the text is followed: the difference between
the distance source-target and the distance source-swapped.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """A mean over triplets.

    Attributes:
        column: t2c, s2c, s2t → what each triplet adds, by operators that NumPy's arrays and torch's tensors share.
        heading: of its column in tables.
        higher_is_better: else lower is.
        needs_source: a pair (target, changed face) has no such score.
    """

    column: Callable[[Any, Any, Any], Any]
    heading: str
    higher_is_better: bool = False
    needs_source: bool = True


REGISTRY = {
    "l2_error": Score(lambda t2c, s2c, s2t: abs(s2t - s2c), "L2 error ↓"),
    "mean_t2c": Score(lambda t2c, s2c, s2t: t2c, "mean t2c ↓", needs_source=False),
    "ratio": Score(lambda t2c, s2c, s2t: t2c < s2c, "ratio ↑", higher_is_better=True),
}
"""The scores of a result, in the order of the paper's table. A line here is a score in every table, file and metric."""

SCORES = tuple(REGISTRY)
HIGHER_IS_BETTER = {name: score.higher_is_better for name, score in REGISTRY.items()}
HEADINGS = {name: score.heading for name, score in REGISTRY.items()}
WITHOUT_SOURCE = tuple(name for name, score in REGISTRY.items() if not score.needs_source)
"""The scores that a pair (target, changed face) has; all others need a source."""
MEANS = ("mean_s2c", "mean_s2t")
"""What stands beside the scores."""


def columns(t2c: Any, s2c: Any | None, s2t: Any | None) -> dict[str, Any]:
    """What each triplet adds to each score, of arrays or tensors; without a source, to those that need none."""
    if s2c is None or s2t is None:
        return {name: REGISTRY[name].column(t2c, None, None) for name in WITHOUT_SOURCE}
    found = {name: score.column(t2c, s2c, s2t) for name, score in REGISTRY.items()}
    return found | dict(zip(MEANS, (s2c, s2t), strict=True))


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
        return _float64(columns(t, None, None))
    if s2c is None or s2t is None:
        raise ValueError("s2c and s2t belong together: give both, or neither where there is no source")
    s, r = np.asarray(s2c, np.float64), np.asarray(s2t, np.float64)
    if not t.shape == s.shape == r.shape or t.ndim != 1:
        raise ValueError(f"scores need three (N,) arrays of one length, got {t.shape}, {s.shape}, {r.shape}")
    return _float64(columns(t, s, r))


def _float64(found: dict[str, Any]) -> dict[str, Floats]:
    return {name: np.asarray(column, np.float64) for name, column in found.items()}


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
