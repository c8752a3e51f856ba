"""Scores of classifiers and regressors: hand-worked, and against scikit-learn and torchmetrics."""

from __future__ import annotations

import importlib.util
import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exprmetric.metrics.classification import (
    accuracy,
    balanced_accuracy,
    concordance,
    confusion,
    f1_scores,
    macro_f1,
    recalls,
    rmse,
)

# truth → prediction of nine faces: 4 of class 0 (3 right), 3 of class 1 (1 right), 2 of class 3 (0 right)
TRUTH = [0, 0, 0, 0, 1, 1, 1, 3, 3]
PREDICTED = [0, 0, 0, 1, 1, 0, 2, 0, 1]


def test_the_confusion_matrix_by_hand() -> None:
    matrix = confusion(TRUTH, PREDICTED, 4)
    assert matrix.tolist() == [[3, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0], [1, 1, 0, 0]]
    assert accuracy(matrix) == 4 / 9
    assert recalls(matrix) == pytest.approx([3 / 4, 1 / 3, math.nan, 0], nan_ok=True)
    # 2 TP / (row + column): 6 / (4 + 5), 2 / (3 + 3), class 2 has no face, 0 / (2 + 0)
    assert f1_scores(matrix) == pytest.approx([6 / 9, 2 / 6, math.nan, 0], nan_ok=True)
    assert macro_f1(matrix) == pytest.approx((6 / 9 + 2 / 6 + 0) / 3)
    assert balanced_accuracy(matrix) == pytest.approx((3 / 4 + 1 / 3 + 0) / 3)


def test_a_weight_of_two_is_the_face_twice_and_of_zero_is_none() -> None:
    weights = [2, 1, 1, 1, 0, 1, 1, 1, 3]
    rows = np.repeat(np.arange(9), weights)
    weighted = confusion(TRUTH, PREDICTED, 4, weights)
    assert np.array_equal(weighted, confusion(np.array(TRUTH)[rows], np.array(PREDICTED)[rows], 4))
    x, y = np.linspace(-1, 1, 9) ** 3, np.cos(np.arange(9))
    assert concordance(x, y, weights) == pytest.approx(concordance(x[rows], y[rows]))
    assert rmse(x, y, weights) == pytest.approx(rmse(x[rows], y[rows]))


@pytest.mark.parametrize("scale", [1e-3, 0.1, 30.0])
def test_only_the_proportions_of_weights_count(scale: float) -> None:
    weights = np.array([2.0, 1, 1, 1, 0, 1, 1, 1, 3])
    one, other = confusion(TRUTH, PREDICTED, 4, weights), confusion(TRUTH, PREDICTED, 4, scale * weights)
    for score in (accuracy, macro_f1, balanced_accuracy):
        assert score(other) == pytest.approx(score(one), rel=1e-12)
    for vector in (recalls, f1_scores):
        assert vector(other) == pytest.approx(vector(one), rel=1e-12, nan_ok=True)
    x, y = np.linspace(-1, 1, 9) ** 3, np.cos(np.arange(9))
    assert concordance(x, y, scale * weights) == pytest.approx(concordance(x, y, weights), rel=1e-12)
    assert rmse(x, y, scale * weights) == pytest.approx(rmse(x, y, weights), rel=1e-12)
    assert concordance(scale * x, scale * y) == pytest.approx(concordance(x, y), rel=1e-12)


def test_a_class_without_a_face_has_no_score_even_where_one_was_taken_for_it() -> None:
    matrix = confusion([0, 0, 1], [0, 2, 1], 3)
    assert recalls(matrix).tolist()[:2] == [0.5, 1.0] and math.isnan(recalls(matrix)[2])
    assert f1_scores(matrix)[:2] == pytest.approx([2 / 3, 1]) and math.isnan(f1_scores(matrix)[2])
    assert macro_f1(matrix) == pytest.approx(5 / 6) and balanced_accuracy(matrix) == 0.75


def test_nothing_to_score_is_nan_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for score in (accuracy, macro_f1, balanced_accuracy):
            assert math.isnan(score(np.zeros((3, 3))))
        assert np.isnan(recalls(np.zeros((3, 3)))).all() and np.isnan(f1_scores(np.zeros((3, 3)))).all()
        for measure in (concordance, rmse):
            assert math.isnan(measure([], [])) and math.isnan(measure([1.0], [2.0], [0.0]))


def test_perfect_constant_and_empty_predictions() -> None:
    perfect = confusion(TRUTH, TRUTH, 4)
    assert (accuracy(perfect), macro_f1(perfect), balanced_accuracy(perfect)) == (1, 1, 1)
    constant = confusion(TRUTH, [0] * 9, 4)
    assert accuracy(constant) == pytest.approx(4 / 9)
    assert balanced_accuracy(constant) == pytest.approx(1 / 3)
    assert macro_f1(constant) == pytest.approx(8 / 13 / 3)
    empty = confusion([], [], 4)
    assert all(math.isnan(score(empty)) for score in (accuracy, macro_f1, balanced_accuracy))


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        ([0, 1], [0], r"^expected two \(N,\) arrays of one length, got \(2,\) and \(1,\)$"),
        ([[0, 1]], [[0, 1]], "one length"),
        ([0, 4], [0, 0], "^truth has classes 0 to 4, expected 0 to 3$"),
        ([0], [-1], "^predicted has classes -1 to -1, expected 0 to 3$"),
    ],
)
def test_what_is_no_class_is_refused(truth: list[int], predicted: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        confusion(truth, predicted, 4)


labels = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 3)), min_size=1, max_size=40)


@given(labels)
def test_scores_are_those_of_scikit_learn(faces: list[tuple[int, int, int]]) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    truth, predicted, weights = (np.array(column) for column in zip(*faces, strict=True))
    matrix = confusion(truth, predicted, 6, weights)
    present = np.unique(truth)
    how = {"sample_weight": weights}
    assert np.array_equal(matrix, sklearn.confusion_matrix(truth, predicted, labels=range(6), **how))
    assert accuracy(matrix) == pytest.approx(sklearn.accuracy_score(truth, predicted, **how))
    each = {"labels": present, "average": None, "zero_division": 0, **how}
    assert recalls(matrix)[present] == pytest.approx(sklearn.recall_score(truth, predicted, **each))
    assert f1_scores(matrix)[present] == pytest.approx(sklearn.f1_score(truth, predicted, **each))
    assert macro_f1(matrix) == pytest.approx(sklearn.f1_score(truth, predicted, **{**each, "average": "macro"}))


def test_concordance_by_hand() -> None:
    # means 2 and 3, population variances 2/3 and 8/3, covariance 4/3: 2 * 4/3 / (2/3 + 8/3 + 1) = 8/13
    assert concordance([1, 2, 3], [1, 3, 5]) == pytest.approx(8 / 13)
    assert concordance([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert concordance([1, 2, 3], [1, 2, 3]) == 1
    assert rmse([1, 2, 3], [1, 3, 5]) == pytest.approx(math.sqrt(5 / 3))


def test_concordance_punishes_an_offset_that_correlation_does_not_see() -> None:
    # variances 2/3, covariance 2/3, offset 2: 4/3 / (4/3 + 4)
    assert concordance([1, 2, 3], [3, 4, 5]) == pytest.approx(1 / 4)


def test_what_does_not_vary_has_no_concordance() -> None:
    assert concordance([1, 2, 3], [2, 2, 2]) == 0
    assert math.isnan(concordance([2, 2], [2, 2]))
    assert concordance([2, 2], [3, 3]) == 0
    assert math.isnan(concordance([], [])) and math.isnan(rmse([], []))
    for pair in (([1, math.nan], [1, 2]), ([1, 2], [1, math.inf])):
        with pytest.raises(ValueError, match="every number must be finite"):
            concordance(*pair)
    for pair in (([1, 2], [1]), ([[1, 2]], [[1, 2]])):
        with pytest.raises(ValueError, match="one length"):
            rmse(*pair)


@pytest.mark.torch
def test_torchmetrics_differs_by_its_variance_alone() -> None:
    """torchmetrics divides by N - 1; that shows where the means differ."""
    if any(importlib.util.find_spec(name) is None for name in ("torch", "timm", "torchmetrics")):
        pytest.skip("needs the torch extra")
    from exprmetric.encoder.models import import_timm

    import_timm()  # torchmetrics imports torchvision, whose operators may be missing
    import torch
    from torchmetrics import ConcordanceCorrCoef

    generator = np.random.default_rng(0)
    x = generator.normal(size=50)
    y = 0.6 * x + generator.normal(size=50)

    def theirs(x: np.ndarray, y: np.ndarray) -> float:
        return float(ConcordanceCorrCoef()(torch.from_numpy(y), torch.from_numpy(x)))

    centred = y - y.mean() + x.mean()
    assert concordance(x, centred) == pytest.approx(theirs(x, centred), rel=1e-6)
    shifted = centred + 0.4
    cov, spread = np.cov(x, shifted, ddof=1)[0, 1], x.var(ddof=1) + shifted.var(ddof=1)
    assert theirs(x, shifted) == pytest.approx(2 * cov / (spread + 0.16), rel=1e-6)
    cov, spread = np.cov(x, shifted, ddof=0)[0, 1], x.var() + shifted.var()
    assert concordance(x, shifted) == pytest.approx(2 * cov / (spread + 0.16), rel=1e-9)
    assert concordance(x, shifted) != pytest.approx(theirs(x, shifted), rel=1e-4)
    many = np.tile(x, 400), np.tile(shifted, 400)
    assert concordance(*many) == pytest.approx(theirs(*many), rel=1e-4)
