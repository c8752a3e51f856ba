"""Scores of classifiers and of regressors, all of them with weights, so that a bootstrap can count a face twice.

A class of which no face is there has no recall and no F1: it is NaN, and means over classes leave it out.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def confusion(
    truth: npt.ArrayLike, predicted: npt.ArrayLike, classes: int, weights: npt.ArrayLike | None = None
) -> Floats:
    """(C, C) summed weights of faces; rows: truth, columns: prediction.

    Args:
        truth: (N,) integers 0..C-1.
        predicted: (N,) integers 0..C-1.
        classes: C.
        weights: (N,) of the faces; 1 each by default.

    Raises:
        ValueError: the lengths differ, or a number is no class.
    """
    t, p = np.asarray(truth), np.asarray(predicted)
    if t.shape != p.shape or t.ndim != 1:
        raise ValueError(f"expected two (N,) arrays of one length, got {t.shape} and {p.shape}")
    for name, values in (("truth", t), ("predicted", p)):
        if values.size and not (values.min() >= 0 and values.max() < classes):
            raise ValueError(f"{name} has classes {values.min()} to {values.max()}, expected 0 to {classes - 1}")
    w = np.ones(len(t)) if weights is None else np.asarray(weights, np.float64)
    cells = t.astype(np.intp) * classes + p.astype(np.intp)
    return np.asarray(np.bincount(cells, w, classes**2).reshape(classes, classes), np.float64)


def accuracy(matrix: npt.ArrayLike) -> float:
    """Share of a `confusion` on its diagonal, 0..1; NaN where it is empty."""
    m = np.asarray(matrix, np.float64)
    return float(np.trace(m) / m.sum()) if m.sum() > 0 else math.nan


def recalls(matrix: npt.ArrayLike) -> Floats:
    """(C,) share of each class that is recognised, 0..1; NaN for a class without a face."""
    m = np.asarray(matrix, np.float64)
    return _shares(np.diagonal(m), m.sum(1), m.sum(1) > 0)


def f1_scores(matrix: npt.ArrayLike) -> Floats:
    """(C,) F1 = 2 TP / (2 TP + FP + FN), 0..1; NaN for a class without a face, even where one was taken for it."""
    m = np.asarray(matrix, np.float64)
    return _shares(2 * np.diagonal(m), m.sum(0) + m.sum(1), m.sum(1) > 0)


def macro_f1(matrix: npt.ArrayLike) -> float:
    """Mean F1 over the classes that have a face, 0..1; NaN where none has one."""
    return _mean(f1_scores(matrix))


def balanced_accuracy(matrix: npt.ArrayLike) -> float:
    """Mean recall over the classes that have a face, 0..1; NaN where none has one."""
    return _mean(recalls(matrix))


def concordance(truth: npt.ArrayLike, predicted: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """Lin's concordance correlation coefficient 2 cov / (var x + var y + (mean x - mean y)²), -1..1.

    Variances and covariance are the population's (divided by N), as in Lin (1989). torchmetrics divides by N - 1.

    Args:
        truth: (N,) numbers.
        predicted: (N,) numbers.
        weights: (N,) >= 0; 1 each by default.

    Returns:
        0 where one of the two doesn't vary, NaN where neither does and they agree.

    Raises:
        ValueError: the lengths differ, or a number is not finite.
    """
    x, y, w = _pair(truth, predicted, weights)
    if not w.sum() > 0:
        return math.nan
    w = w / w.sum()
    x_mean, y_mean = w @ x, w @ y
    x, y = x - x_mean, y - y_mean
    scale = w @ (x * x) + w @ (y * y) + (x_mean - y_mean) ** 2
    return float(2 * (w @ (x * y)) / scale) if scale > 0 else math.nan


def rmse(truth: npt.ArrayLike, predicted: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """Root of the mean squared difference, 0..inf; arguments and errors as in `concordance`."""
    x, y, w = _pair(truth, predicted, weights)
    return float(np.sqrt(w @ (x - y) ** 2 / w.sum())) if w.sum() > 0 else math.nan


def _pair(truth: npt.ArrayLike, predicted: npt.ArrayLike, weights: npt.ArrayLike | None) -> tuple[Floats, ...]:
    x, y = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"expected two (N,) arrays of one length, got {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("every number must be finite")
    return x, y, np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)


def _shares(above: Floats, below: Floats, where: npt.NDArray[np.bool_]) -> Floats:
    return np.asarray(np.divide(above, below, out=np.full(len(above), np.nan), where=where))


def _mean(values: Floats) -> float:
    kept = values[np.isfinite(values)]
    return float(kept.mean()) if kept.size else math.nan
