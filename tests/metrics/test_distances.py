"""Distances: the formulas against SciPy and numbers worked by hand, and what they are invariant to."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from scipy.spatial import distance as scipy_distance

from exprmetric.metrics import DISTANCES, cosine, distance_function, l2, mse, ned
from exprmetric.metrics.distances import degrees

Floats = NDArray[np.float64]
Stack = tuple[Floats, ...]

NUMBERS = st.floats(-100, 100).map(lambda v: round(v, 3))
SHIFTS = st.floats(-10, 10).map(lambda v: round(v, 3))
SCALES = st.floats(0.1, 10).map(lambda v: round(v, 3))


def rows(count: int) -> st.SearchStrategy[Stack]:
    """`count` arrays of one shape (N, D)."""
    shapes = array_shapes(min_dims=2, max_dims=2, max_side=6)
    return shapes.flatmap(lambda shape: st.tuples(*[arrays(np.float64, shape, elements=NUMBERS)] * count))


every_distance = pytest.mark.parametrize("name", DISTANCES)


def row_by_row(function: Callable[[Floats, Floats], float], a: Floats, b: Floats) -> list[float]:
    return [function(x, y) for x, y in zip(a, b, strict=True)]


@given(rows(2))
def test_l2_is_scipys(pair: Stack) -> None:
    assert l2(*pair) == pytest.approx(row_by_row(scipy_distance.euclidean, *pair), rel=1e-12)


@given(rows(2))
def test_cosine_is_scipys(pair: Stack) -> None:
    assume(all(np.linalg.norm(x, axis=1).min() > 0.01 for x in pair))
    assert cosine(*pair) == pytest.approx(row_by_row(scipy_distance.cosine, *pair), abs=1e-12)


def test_worked_by_hand() -> None:
    a, b = [[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]], [[1.0, 4.0, 7.0], [3.0, 4.0, 0.0]]
    assert l2(a, b) == pytest.approx([np.sqrt(20), 5])
    assert mse(a, b) == pytest.approx([20 / 3, 25 / 3])
    # Variances of the first rows are 2/3 and 6, that of their difference (0, -2, -4) is 8/3: 0.5 * 8/3 / (20/3) = 0.2.
    # Of the second rows: 0, 26/9, 26/9.
    assert ned(a, b) == pytest.approx([0.2, 0.5])
    right, turned = [[1.0, 0.0], [1.0, 0.0], [1.0, 1.0]], [[0.0, 2.0], [-3.0, 0.0], [5.0, 5.0]]
    assert cosine(right, turned) == pytest.approx([1, 2, 0])


def test_a_vector_without_direction_has_no_cosine_distance() -> None:
    assert np.isnan(cosine([[0.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]])).all()


def test_cosine_stays_a_distance_where_numbers_are_too_small_or_too_large_to_be_squared() -> None:
    """Their rounded norms would give similarities beyond 1, and -inf or 0 for a vector whose norm is lost."""
    assert cosine([[2.63e-162], [2.63e-162]], [[-1.0], [1.0]]).tolist() == [2.0, 0.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(cosine([[1e-170], [1e-170], [0.0]], [[1e100], [-1e100], [1.0]])).all()
        assert np.isnan(cosine([[np.inf, 0.0]], [[1.0, 0.0]])).all()


@every_distance
@given(pair=rows(2))
def test_symmetric(name: str, pair: Stack) -> None:
    a, b = pair
    np.testing.assert_array_equal(DISTANCES[name](a, b), DISTANCES[name](b, a))


@every_distance
@given(pair=rows(1))
def test_nothing_is_far_from_itself(name: str, pair: Stack) -> None:
    (a,) = pair
    assume(np.linalg.norm(a, axis=1).min() > 0)
    assert DISTANCES[name](a, a) == pytest.approx(np.zeros(len(a)), abs=0 if name != "cosine" else 1e-12)


@given(rows(2))
def test_l2_and_mse_are_zero_for_equal_rows_only(pair: Stack) -> None:
    equal = (pair[0] == pair[1]).all(1)
    np.testing.assert_array_equal(l2(*pair) == 0, equal)
    np.testing.assert_array_equal(mse(*pair) == 0, equal)


@given(rows(3))
def test_l2_obeys_the_triangle_inequality(three: Stack) -> None:
    a, b, c = three
    assert (l2(a, c) <= l2(a, b) + l2(b, c) + 1e-9).all()


@given(rows(2))
def test_ranges(pair: Stack) -> None:
    assert (l2(*pair) >= 0).all() and (mse(*pair) >= 0).all()
    assert ((ned(*pair) >= 0) & (ned(*pair) <= 1 + 1e-12)).all()
    angles = cosine(*pair)
    assert (np.isnan(angles) | ((angles >= 0) & (angles <= 2))).all()


def has_spread(*arrays_: Floats) -> bool:
    return all(np.ptp(x, axis=1).min() > 0.1 for x in arrays_)


@given(rows(2), SHIFTS, SHIFTS)
def test_ned_ignores_the_offset_of_either_row(pair: Stack, u: float, v: float) -> None:
    a, b = pair
    assume(has_spread(a, b))
    assert ned(a + u, b + v) == pytest.approx(ned(a, b), abs=1e-9)


@given(rows(2), SCALES)
def test_ned_ignores_a_scale_of_both_rows_and_their_sign(pair: Stack, k: float) -> None:
    a, b = pair
    assume(has_spread(a, b))
    assert ned(k * a, k * b) == pytest.approx(ned(a, b), abs=1e-9)
    assert ned(-a, -b) == pytest.approx(ned(a, b), abs=1e-9)


@given(rows(1), SCALES)
def test_ned_sees_a_scale_of_one_row(pair: Stack, k: float) -> None:
    """0.5 Var(a - ka) / (Var a + Var ka) = 0.5 (1 - k)² / (1 + k²): 0 for k = 1, 1 for a row turned over."""
    (a,) = pair
    assume(has_spread(a))
    for scale in (k, -k, -1.0):
        expected = 0.5 * (1 - scale) ** 2 / (1 + scale**2)
        assert ned(a, scale * a) == pytest.approx(np.full(len(a), expected), abs=1e-9)


@given(NUMBERS, NUMBERS, st.integers(1, 40))
def test_ned_of_rows_without_variance_is_zero(u: float, v: float, dimension: int) -> None:
    """Also where the mean of equal numbers is rounded, as in [1000.1] * 11."""
    assert ned([[u] * dimension], [[v] * dimension]) == [0.0]
    assert ned([[1000.1] * 11], [[0.3] * 11]) == [0.0]


@given(rows(2))
def test_l2_and_cosine_agree_on_unit_vectors(pair: Stack) -> None:
    norms = [np.linalg.norm(x, axis=1, keepdims=True) for x in pair]
    assume(all(n.min() > 0.01 for n in norms))
    a, b = (x / n for x, n in zip(pair, norms, strict=True))
    assert l2(a, b) ** 2 / 2 == pytest.approx(cosine(a, b), abs=1e-12)


@every_distance
@given(pair=rows(2))
def test_rows_are_on_their_own(name: str, pair: Stack) -> None:
    """A triplet's distance can't depend on the triplets beside it."""
    a, b = pair
    alone = [DISTANCES[name](a[i : i + 1], b[i : i + 1])[0] for i in range(len(a))]
    assert DISTANCES[name](a, b) == pytest.approx(alone, rel=1e-12, abs=1e-15, nan_ok=True)


@every_distance
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32, np.uint8])
def test_float64_comes_out_and_is_computed_in(name: str, dtype: type[np.generic]) -> None:
    generator = np.random.default_rng(0)
    a, b = (generator.integers(0, 200, (5, 100)).astype(dtype) for _ in range(2))
    found = DISTANCES[name](a, b)
    assert found.dtype == np.float64 and found.shape == (5,)
    np.testing.assert_array_equal(found, DISTANCES[name](a.astype(np.float64), b.astype(np.float64)))


@every_distance
def test_no_rows_no_distances(name: str) -> None:
    found = DISTANCES[name](np.empty((0, 8)), np.empty((0, 8)))
    assert found.shape == (0,) and found.dtype == np.float64


@every_distance
@pytest.mark.parametrize(
    ("one", "other"),
    [((3,), (3,)), ((2, 3), (3, 3)), ((2, 3), (2, 4)), ((1, 3), (2, 3)), ((2, 3, 1), (2, 3, 1)), ((), ())],
)
def test_other_shapes_are_refused(name: str, one: tuple[int, ...], other: tuple[int, ...]) -> None:
    """Above all those that would broadcast."""
    with pytest.raises(ValueError, match=r"\(N, D\)") as caught:
        DISTANCES[name](np.ones(one), np.ones(other))
    assert str(one) in str(caught.value) and str(other) in str(caught.value)


def test_distances_are_found_by_name() -> None:
    assert {name: distance_function(name) for name in DISTANCES} == {
        "l2": l2,
        "cosine": cosine,
        "ned": ned,
        "mse": mse,
        "degrees": degrees,
    }
    with pytest.raises(ValueError, match=r"'manhattan'.*l2, cosine, ned, mse"):
        distance_function("manhattan")


@pytest.mark.parametrize(
    ("a", "b", "apart"),
    [([179.0], [-179.0], 2.0), ([0.0], [725.0], 5.0), ([90.0], [-90.0], 180.0), ([350.0, 10.0], [10.0, 40.0], 25.0)],
)
def test_angles_are_compared_the_short_way_round(a: list[float], b: list[float], apart: float) -> None:
    assert degrees([a, b], [b, a]).tolist() == [apart, apart]
    assert degrees([a], [a]).tolist() == [0.0]
