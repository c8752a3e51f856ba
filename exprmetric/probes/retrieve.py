"""Retrieval: are the faces nearest to a face, by the encoder's own distance, of the same expression?

Each test face asks all other test faces; photographs of the same person, where people are known, are left out, so that
identity can't help. Equally near faces have equal shares of a place.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from exprmetric.metrics import distances
from exprmetric.metrics.resampling import Distance, Floats, ratio, units
from exprmetric.probes.measurement import Measurement, NotMeasuredError, estimates
from exprmetric.probes.parts import Part, Space

PLACES = 10
BLOCK = 1 << 16
"""Pairs at a time of a distance that has no fast form."""
Booleans = npt.NDArray[np.bool_]


def distance_matrix(first: npt.ArrayLike, second: npt.ArrayLike, distance: Distance) -> Floats:
    """(N, M) float64 distances of all pairs of rows; for plain distances equal ones are exactly equal."""
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if distance in FAST:
        found = FAST[distance](a, b)
        return np.asarray(np.round(found / scale, 9) * scale if (scale := found.max(initial=0.0)) > 0 else found)
    found = np.empty((len(a), len(b)))
    step = max(1, BLOCK // max(1, len(b)))
    for start in range(0, len(a), step):
        rows = a[start : start + step]
        pairs = distance(np.repeat(rows, len(b), axis=0), np.tile(b, (len(rows), 1)))
        found[start : start + step] = np.asarray(pairs).reshape(len(rows), len(b))
    return found


def _squares(a: Floats, b: Floats) -> Floats:
    magnitude = (b**2).sum(1).max(initial=0.0)
    a, b = a - b.mean(0), b - b.mean(0)  # a common offset costs digits
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * (a @ b.T)
    rounding = 1e-13 * squares.max(initial=0.0) + 1e-20 * magnitude  # its root would be no small number
    return np.asarray(np.where(squares > rounding, squares, 0.0))


def _l2(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.sqrt(_squares(a, b)))


def _mse(a: Floats, b: Floats) -> Floats:
    return np.asarray(_squares(a, b) / a.shape[1])


def _cosine(a: Floats, b: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
    return np.asarray(np.clip(1.0 - a @ b.T, 0.0, 2.0))


FAST: dict[Distance, Callable[[Floats, Floats], Floats]] = {
    distances.l2: _l2,
    distances.mse: _mse,
    distances.cosine: _cosine,
}
"""All pairs at once, by one matrix product."""


def askable(part: Part) -> Booleans:
    """(N, N) whether face j may be found for face i: neither itself nor the same person."""
    people = units(len(part), part.known.people)
    return np.asarray(people[:, None] != people)


def precision_at(far: Floats, relevant: Booleans, places: int) -> float:
    """Share of relevant faces among the nearest `places` of (M,) faces, or among all where there are fewer."""
    places = min(places, len(far))
    edge = np.partition(far, places - 1)[places - 1]
    nearer, tied = far < edge, far == edge
    left = places - int(nearer.sum())
    return float((relevant[nearer].sum() + left * relevant[tied].mean()) / places)


def average_precision(far: Floats, relevant: Booleans) -> float:
    """Mean over relevant faces of the precision where each is found; equally near faces are found at once.

    The same as scikit-learn's `average_precision_score` of the negative distances. NaN where nothing is relevant.
    """
    order = np.argsort(far, kind="stable")
    ends = np.flatnonzero(np.diff(far[order], append=np.inf) > 0)
    hits = np.cumsum(relevant[order])[ends]
    return ratio(float((np.diff(hits, prepend=0) * hits / (ends + 1)).sum()), float(hits[-1]))


def retrieve(space: Space) -> Measurement:
    """Precision at 10 and mean average precision over queries; `macro_map` is its mean over expressions.

    `chance` in the details is the mean share of relevant faces: what a constant encoder has as mean average precision.
    """
    labels = space.test.known.labels
    far = distance_matrix(space.test.vectors, space.test.vectors, space.distance)
    if not np.isfinite(far).all():
        raise NotMeasuredError("some distances are no numbers")
    may = askable(space.test)
    asked, rows = [], []
    for i in range(len(labels)):
        relevant = labels[may[i]] == labels[i]
        if relevant.any():
            asked.append(i)
            near = far[i, may[i]]
            rows.append((precision_at(near, relevant, PLACES), average_precision(near, relevant), relevant.mean()))
    if not rows:
        raise NotMeasuredError("no expression has test faces of two people")
    precision, average, chance = np.array(rows).T
    known = space.test.known.take(asked)
    present = np.eye(int(labels.max()) + 1)[known.labels]

    def statistic(w: Floats) -> list[float]:
        mass = w @ present
        each = (w * average) @ present / np.where(mass > 0, mass, 1.0)
        return [ratio(w @ precision, w.sum()), ratio(w @ average, w.sum()), float(each[mass > 0].mean())]

    names = (f"precision_at_{PLACES}", "map", "macro_map")
    scores = estimates(statistic, names, known.people, len(asked), resamples=space.resamples, seed=space.seed)
    return Measurement(scores, {"queries": len(asked), "chance": float(chance.mean())})
