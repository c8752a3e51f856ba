"""Bootstrap intervals of the training loop's metric, on the host."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from exprmetric.metrics.kept import KeptMap
from exprmetric.metrics.preservation import SCORES, per_triplet
from exprmetric.metrics.uncertainty import bootstrap_means

Floats = npt.NDArray[np.float64]


def interval_ends(t2c: Floats, s2c: Floats, s2t: Floats, groups: Floats, made: KeptMap | None) -> dict[str, float]:
    """`SCORE_low` and `SCORE_high` of each score, whatever the order of the triplets.

    Args:
        t2c: (N,) distances; NaN of triplets that are left out.
        s2c: (N,) likewise; NaN where there is no source.
        s2t: (N,) likewise.
        groups: (N,) whole numbers; below 0: a group of its own.
        made: the map of `kept`; None: none.
    """
    order = np.lexsort((groups, s2t, s2c, t2c))  # so that batches and ranks don't show
    order = order[np.isfinite(t2c[order])]
    t2c, s2c, s2t, groups = t2c[order], s2c[order], s2t[order], groups[order]
    names = [f"row {i}" if g < 0 else f"group {int(g)}" for i, g in enumerate(groups)]
    known = np.isfinite(s2c)
    if known.all():
        columns = per_triplet(t2c, s2c, s2t)
        found = bootstrap_means({name: columns[name] for name in SCORES}, names)
    else:
        found = bootstrap_means(per_triplet(t2c), names)
        columns = per_triplet(t2c[known], s2c[known], s2t[known])
        rest = {name: columns[name] for name in SCORES if name not in found}
        if known.any():
            found |= bootstrap_means(rest, [n for n, k in zip(names, known, strict=True) if k])
    if made is not None:
        found |= bootstrap_means({"kept": made(t2c)}, names)
    ends = {f"{name}_low": low for name, (low, _) in found.items()}
    return ends | {f"{name}_high": high for name, (_, high) in found.items()}
