"""Fréchet distance: against scipy's matrix square root, and from sums that merge."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy.linalg import sqrtm

from exprmetric.metrics import frechet
from exprmetric.metrics.frechet import Moments, frechet_distance


def by_sqrtm(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """FID as its authors compute it."""
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(first @ second).real
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root))


def clouds(count: int, dimension: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    random = np.random.default_rng(3)
    mixed = random.normal(size=(dimension, dimension))
    return random.normal(size=(count, dimension)) @ mixed, 0.3 + 1.4 * random.normal(size=(count + 7, dimension))


def test_the_distance_is_that_of_scipys_matrix_square_root() -> None:
    a, b = clouds(200, 6)
    assert frechet_distance(Moments.of(a), Moments.of(b)) == pytest.approx(by_sqrtm(a, b), rel=1e-9)
    assert frechet_distance(Moments.of(b), Moments.of(a)) == pytest.approx(by_sqrtm(a, b), rel=1e-9)


def test_of_two_normal_variables_it_is_what_the_formula_says() -> None:
    a, b = clouds(500, 1)
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert frechet_distance(Moments.of(a), Moments.of(b)) == pytest.approx(expected, rel=1e-9)


def test_equal_clouds_are_at_distance_zero_also_with_fewer_vectors_than_dimensions() -> None:
    a, _ = clouds(5, 12)
    assert frechet_distance(Moments.of(a), Moments.of(a)) == pytest.approx(0, abs=1e-9)
    moved = frechet_distance(Moments.of(a), Moments.of(a + 0.5))
    assert moved == pytest.approx(12 * 0.25, rel=1e-9)


def test_parts_add_up_to_the_whole_in_any_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = clouds(100, 6)
    whole = frechet_distance(Moments.of(a), Moments.of(b))
    monkeypatch.setattr(frechet, "TAKEN", 9)
    pieces = Moments.joined((Moments.of(p) for p in np.array_split(a, 7)), 6)
    assert pieces.count == 100
    assert frechet_distance(pieces, Moments.of(b)) == pytest.approx(whole, rel=1e-12)


def test_few_samples_make_the_distance_too_large() -> None:
    random = np.random.default_rng(5)
    few, many = (frechet_distance(*(Moments.of(random.normal(size=(n, 20))) for _ in range(2))) for n in (40, 4000))
    assert few > 50 * many > 0


def test_what_is_no_cloud_has_no_distance() -> None:
    one, two = Moments.of(np.zeros((1, 3))), Moments.of(np.zeros((2, 3)))
    assert np.isnan(frechet_distance(one, two))
    with pytest.raises(ValueError, match="3 and 4 dimensions"):
        frechet_distance(two, Moments.of(np.zeros((2, 4))))
    with pytest.raises(ValueError, match="finite"):
        Moments.of([[np.nan]])
    with pytest.raises(ValueError, match="moments are of"):
        Moments.of([1.0])
