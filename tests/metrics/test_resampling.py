"""Lines of faces and the bootstrap over people, draw by draw against plain loops."""

from __future__ import annotations

import math
import warnings
from itertools import combinations

import numpy as np
import pytest

from exprmetric.metrics import cosine, l2, resampling
from exprmetric.metrics.resampling import (
    bootstrap,
    draw,
    draw_within,
    every_pair,
    matrices,
    pair_distances,
    ratio,
    units,
    value_codes,
)

PEOPLE = units(30, [f"p{i % 7}" if i % 10 else "" for i in range(30)])


def test_units_are_people_and_unknown_rows_are_each_their_own():
    assert units(3, None).tolist() == [0, 1, 2]
    assert units(5, ["b", "", "a", "b", ""]).tolist() == [1, 2, 0, 1, 3]
    assert units(3, [2, 0, 2]).tolist() == [1, 0, 1]  # a person may be number 0
    assert len(set(units(3, ["row 1", "", "row 2"]))) == 3
    with pytest.raises(ValueError, match=r"^2 persons for 3 rows$"):
        units(3, ["a", "b"])


@pytest.mark.parametrize("size", [2, 3])
def test_drawn_lines_are_those_of_the_seed_whose_units_differ(size: int):
    lines = np.random.default_rng(4).integers(0, 30, (200, size)).tolist()
    expected = [line for line in lines if len({PEOPLE[i] for i in line}) == size]
    found = draw(size, 200, PEOPLE, 4)
    assert found.tolist() == expected and 0 < len(expected) < 200
    assert draw(size, 200, PEOPLE[:0], 4).shape == (0, size)
    assert draw(size, 5, PEOPLE[:1], 4).shape == (0, size)  # one row: no pair


@pytest.mark.parametrize("size", [2, 3])
def test_lines_within_a_unit_are_all_there_are_or_so_many_of_them(size: int):
    by_unit = [np.flatnonzero(u == PEOPLE).tolist() for u in sorted(set(PEOPLE.tolist()))]
    everything = [line for rows in by_unit for line in combinations(rows, size)]
    for count in (len(everything), len(everything) + 1):
        assert draw_within(size, count, PEOPLE, 1).tolist() == [list(line) for line in everything]
    some = draw_within(size, len(everything) - 1, PEOPLE, 1)
    assert some.shape == (len(everything) - 1, size) and some.dtype == np.intp
    assert {tuple(sorted(line)) for line in some.tolist()} < set(everything)
    # each unit is drawn from as often as it has lines
    many = draw_within(size, 20_000, np.repeat([0, 1, 2, 3], [2, 8, 40, 60]), 2)
    counts = np.array([math.comb(n, size) for n in (2, 8, 40, 60)])
    drawn = np.bincount(np.repeat([0, 1, 2, 3], [2, 8, 40, 60])[many[:, 0]], minlength=4)
    if counts.sum() > 20_000:
        assert drawn / 20_000 == pytest.approx(counts / counts.sum(), abs=0.01)
    assert draw_within(size, 9, np.arange(5), 0).shape == (0, size)
    assert draw_within(size, 9, PEOPLE[:0], 0).shape == (0, size)


def test_every_pair_is_all_of_them_or_a_draw_of_about_so_many():
    assert every_pair(5, 10, 0).tolist() == [list(p) for p in combinations(range(5), 2)]
    assert every_pair(5, 9, 3).tolist() == draw(2, 9, np.arange(5), 3).tolist()
    assert every_pair(0, 9, 3).shape == every_pair(1, 9, 3).shape == (0, 2)
    assert every_pair(5, 10, 0).dtype == np.intp


def test_intervals_are_the_quantiles_of_the_statistic_of_people_drawn_again():
    values = np.random.default_rng(2).normal(size=30)
    count = int(PEOPLE.max()) + 1
    again = np.random.default_rng(8)
    means = []
    for _ in range(40):
        weights = again.multinomial(count, [1 / count] * count)[PEOPLE]
        means.append([sum(weights * values) / sum(weights), sum(weights)])
    both = bootstrap(lambda w: [w @ values / w.sum(), w.sum()], PEOPLE, resamples=40, level=0.8, seed=8)
    for (value, low, high), column, whole in zip(both, np.array(means).T, (values.mean(), 30), strict=True):
        assert value == pytest.approx(whole)
        assert (low, high) == pytest.approx(tuple(np.quantile(column, [0.1, 0.9])))


def test_by_default_the_interval_holds_95_of_100_draws_of_a_thousand_with_seed_0():
    values = np.random.default_rng(2).normal(size=30)
    given = bootstrap(lambda w: [w @ values], PEOPLE, resamples=1000, level=0.95, seed=0)
    assert bootstrap(lambda w: [w @ values], PEOPLE) == given


def test_draws_that_leave_nothing_are_left_out():
    units_ = np.arange(2)  # of two, one is drawn twice in half of the draws
    ((value, low, high),) = bootstrap(lambda w: [float(w[0]) if w[0] * w[1] else math.nan], units_, resamples=50)
    assert (value, low, high) == (1.0, 1.0, 1.0)
    ((value, low, high),) = bootstrap(lambda w: [math.nan], units_, resamples=5)
    assert math.isnan(value) and math.isnan(low) and math.isnan(high)


@pytest.mark.parametrize(("people", "resamples"), [(1, 10), (5, 0), (0, 10)])
def test_without_two_people_or_a_resample_there_is_no_interval(people: int, resamples: int):
    ((value, low, high),) = bootstrap(lambda w: [len(w)], np.arange(people), resamples=resamples)
    assert value == people and isinstance(value, float) and math.isnan(low) and math.isnan(high)
    if people > 1:
        ((_, low, high),) = bootstrap(lambda w: [len(w)], np.arange(people), resamples=1)
        assert low == high == people
    ((_, low, _),) = bootstrap(lambda w: [len(w)], np.arange(2), resamples=1)
    assert low == 2


def test_blocks_of_pairs_and_the_distance_do_not_show(monkeypatch: pytest.MonkeyPatch):
    x = np.random.default_rng(0).normal(size=(20, 3))
    a, b = np.random.default_rng(1).integers(0, 20, (2, 23))
    monkeypatch.setattr(resampling, "CHUNK", 5)
    assert np.array_equal(pair_distances(x, a, b), l2(x[a], x[b]))
    assert np.array_equal(pair_distances(x, a, b, cosine), cosine(x[a], x[b]))
    assert pair_distances(x.tolist(), list(a.astype(float)), list(b)).tolist() == l2(x[a], x[b]).tolist()
    assert pair_distances(x, [], []).shape == (0,)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.5])
def test_a_distance_that_is_none_is_named_by_its_rows(bad: float):
    def distance(a: object, b: object) -> np.ndarray:
        return np.array([0.0, bad, bad])

    with pytest.raises(ValueError, match=rf"^the distance of rows 7 and 4 is {bad}$"):
        pair_distances(np.zeros((9, 2)), [1, 7, 2], [3, 4, 5], distance)


def test_matrices_are_refused_unless_they_fit_and_are_finite():
    x, y = matrices([[1, 2]], [[3, 4, 5]])
    assert x.tolist() == [[1, 2]] and y.dtype == np.float64
    for embeddings, ratings in (([1, 2], [[1], [2]]), ([[1], [2]], [1, 2]), ([[1], [2]], [[1]])):
        shapes = [str(np.shape(v)).replace("(", r"\(").replace(")", r"\)") for v in (embeddings, ratings)]
        with pytest.raises(
            ValueError, match=rf"^expected \(N, D\) embeddings and \(N, K\) ratings, got {shapes[0]} and {shapes[1]}$"
        ):
            matrices(embeddings, ratings)
    with pytest.raises(ValueError, match=r"^embeddings: row 1 is not finite$"):
        matrices([[1, 2], [1, math.nan], [math.inf, 0]], [[0], [0], [0]])
    with pytest.raises(ValueError, match=r"^ratings: row 2 is not finite$"):
        matrices([[1], [1], [0]], [[0], [0], [math.inf]])


def test_nothing_to_divide_by_is_nan():
    assert ratio(1, 4) == 0.25 and ratio(1, 0.5) == 2 and math.isnan(ratio(0, 0)) and math.isnan(ratio(1, -1))


def test_equal_values_share_a_code_also_those_that_rounding_has_parted():
    assert value_codes(np.array([0.5, 0.25, 0.5, 1.0])).tolist() == [1, 0, 1, 2]
    for scale in (1.0, 1e9, 1e-9):
        parted = scale * np.array([1.0, 0.5, 0.5 + 4e-13, 0.5 + 3e-12])
        assert value_codes(parted).tolist() == [2, 0, 0, 1]
    assert value_codes(np.array([0.1 + 0.2, 0.3, 0.9])).tolist() == [0, 0, 1]
    assert value_codes(np.zeros(3)).tolist() == [0, 0, 0] and value_codes(np.empty(0)).tolist() == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value_codes(np.zeros(3))
