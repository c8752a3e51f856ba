"""DBSCAN (Ester et al. 1996) on a few thousand points with weights; SciPy alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

NOISE = -1
_BLOCK = 1024


def dbscan(
    points: npt.ArrayLike, radius: float, least: float, weights: npt.ArrayLike | None = None
) -> npt.NDArray[np.intp]:
    """Clusters of points that lie densely.

    A point is a core where the points within `radius` of it, itself among them, weigh `least` together. Cores within
    `radius` of each other are of one cluster; any other point is of the cluster of the nearest core within `radius`.

    Args:
        points: (N, D); Euclidean distances. Takes N² bytes.
        radius: 0..inf.
        least: in weights.
        weights: (N,) how many points each stands for; 1 each by default.

    Returns:
        (N,) 0, 1, … in order of the first core of each; `NOISE` for points that are of no cluster.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial.distance import cdist

    x = np.asarray(points, np.float64)
    labels = np.full(len(x), NOISE, np.intp)
    if not len(x):
        return labels
    weight = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    near = np.concatenate([cdist(x[i : i + _BLOCK], x) <= radius for i in range(0, len(x), _BLOCK)])
    core = near @ weight >= least
    if not core.any():
        return labels
    labels[core] = connected_components(csr_array(near[np.ix_(core, core)]), directed=False)[1]
    cores = np.flatnonzero(core)
    for i in np.flatnonzero(~core & near[:, core].any(axis=1)):
        labels[i] = labels[cores[np.argmin(cdist(x[i : i + 1], x[cores])[0])]]
    return labels
