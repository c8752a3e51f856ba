"""Bootstrap intervals: they resample groups, they don't depend on the order of rows, and they cover the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from exprmetric.metrics import bootstrap_means
from exprmetric.metrics.uncertainty import group_codes

Floats = NDArray[np.float64]
Interval = tuple[float, float]


def interval(values: Sequence[float] | Floats, groups: Sequence[object], **how: object) -> Interval:
    return bootstrap_means({"x": values}, groups, **how)["x"]  # type: ignore[arg-type]


def width(found: Interval) -> float:
    return found[1] - found[0]


@pytest.fixture(scope="module")
def clustered() -> tuple[Floats, list[str]]:
    """90 rows in 20 groups of 1 to 9 rows that deviate together; multiples of 1/64, whose sums are exact."""
    generator = np.random.default_rng(7)
    groups = [f"g{i}" for i in range(20) for _ in range(i % 9 + 1)]
    level = {g: generator.normal() for g in dict.fromkeys(groups)}
    values = np.array([level[g] + 0.3 * generator.normal() for g in groups])
    return np.round(values * 64) / 64, groups


def test_a_seed_gives_the_same_interval_again_and_another_seed_another(clustered: tuple[Floats, list[str]]) -> None:
    assert interval(*clustered, seed=3) == interval(*clustered, seed=3)
    assert interval(*clustered) == interval(*clustered, seed=0)
    assert interval(*clustered, seed=3) != interval(*clustered, seed=4)


def test_intervals_are_those_of_plain_loops_over_the_seeds_draws(clustered: tuple[Floats, list[str]]) -> None:
    values, groups = clustered
    names = sorted(set(groups))
    rows = [[float(v) for v, g in zip(values, groups, strict=True) if g == name] for name in names]
    generator = np.random.default_rng(9)
    means = []
    for _ in range(60):
        drawn = [v for r, times in zip(rows, generator.multinomial(20, [1 / 20] * 20), strict=True) for v in r * times]
        means.append(sum(drawn) / len(drawn))
    found = interval(values, groups, resamples=60, level=0.7, seed=9)
    assert found == pytest.approx(tuple(np.quantile(means, [0.15, 0.85])), rel=1e-12)
    assert interval(*clustered) == interval(*clustered, resamples=2000, level=0.95, seed=0)


def test_blocks_of_draws_do_not_show() -> None:
    """4,500 groups are drawn in three blocks, the last of them not full."""
    values = np.random.default_rng(0).normal(size=4500)
    draws = np.random.default_rng(2).multinomial(4500, np.full(4500, 1 / 4500), size=2000)
    assert interval(values, np.arange(4500), seed=2) == pytest.approx(
        tuple(np.quantile(draws @ values / 4500, [0.025, 0.975])), rel=1e-9
    )


def test_whole_numbers_are_in_their_own_order_and_names_in_that_of_their_text() -> None:
    for kind in (np.int64, np.uint8):
        assert group_codes(np.array([10, 9, 10], kind)).tolist() == [1, 0, 1]
    assert group_codes([10, 9, 10]).tolist() == group_codes(np.array(["10", "9", "10"])).tolist() == [0, 1, 0]
    assert group_codes(np.array([10, "9", None], dtype=object)).tolist() == [0, 1, 2]


def test_the_order_of_the_rows_does_not_show(clustered: tuple[Floats, list[str]]) -> None:
    values, groups = clustered
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(values))
        assert interval(values[order], [groups[i] for i in order]) == interval(values, groups)


def test_columns_share_the_draws_and_do_not_disturb_one_another(clustered: tuple[Floats, list[str]]) -> None:
    values, groups = clustered
    both = bootstrap_means({"x": values, "twice": 2 * values, "one": np.ones_like(values)}, groups)
    assert both["x"] == pytest.approx(interval(values, groups), rel=1e-12)
    assert both["twice"] == pytest.approx([2 * v for v in both["x"]], rel=1e-12)
    assert both["one"] == (1.0, 1.0)


def test_one_group_has_no_spread_to_show() -> None:
    assert all(math.isnan(v) for v in interval([0.1, 0.5, 0.9], ["a", "a", "a"]))
    assert all(math.isnan(v) for v in interval([0.1], ["a"]))
    assert all(math.isnan(v) for v in interval([], []))
    assert not any(math.isnan(v) for v in interval([0.1, 0.5, 0.9], ["a", "a", "b"]))


def test_more_frames_of_the_same_videos_say_no_more(clustered: tuple[Floats, list[str]]) -> None:
    """Every row twice in its group changes nothing; taken for independent rows, they would feign precision."""
    values, groups = clustered
    twice, groups_twice = np.tile(values, 2), groups * 2
    assert interval(twice, groups_twice) == interval(values, groups)
    alone = [f"row{i}" for i in range(len(twice))]
    independent, once = interval(twice, alone), interval(values, alone[: len(values)])
    assert width(independent) == pytest.approx(width(once) / math.sqrt(2), rel=0.1)
    assert width(independent) < 0.5 * width(interval(values, groups))


def test_rows_of_their_own_give_scipys_percentile_interval() -> None:
    values = np.random.default_rng(1).gamma(2.0, size=60)
    ours = interval(values, list(range(60)), resamples=20_000)
    found = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", random_state=np.random.default_rng(2)
    )
    assert ours == pytest.approx(tuple(found.confidence_interval), abs=0.03 * width(ours))


def test_groups_are_drawn_whole(clustered: tuple[Floats, list[str]]) -> None:
    """Against the definition in its plainest form: draw groups, lay their rows end to end, take the mean."""
    values, groups = clustered
    rows = [values[[g == name for g in groups]] for name in dict.fromkeys(groups)]
    generator = np.random.default_rng(5)
    means = [np.concatenate([rows[i] for i in generator.integers(0, 20, 20)]).mean() for _ in range(10_000)]
    ours = interval(values, groups, resamples=10_000)
    assert ours == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.04 * width(ours))


def test_the_level_is_the_share_of_means_inside(clustered: tuple[Floats, list[str]]) -> None:
    found = [interval(*clustered, level=level) for level in (0.5, 0.8, 0.95, 0.99)]
    for inner, outer in pairwise(found):
        assert outer[0] < inner[0] < inner[1] < outer[1]
    assert interval(*clustered, level=0.0) == pytest.approx([np.mean(clustered[0])] * 2, abs=0.1 * width(found[2]))


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(-100, 100), st.integers(0, 4)), min_size=1, max_size=15))
def test_an_interval_stays_inside_its_values(rows: list[tuple[float, int]]) -> None:
    values, groups = zip(*rows, strict=True)
    low, high = interval(values, groups, resamples=100)
    if len(set(groups)) < 2:
        assert math.isnan(low) and math.isnan(high)
    else:
        assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9


def test_codes_follow_the_names_and_not_the_rows() -> None:
    assert list(group_codes(["b", "a", "c", "a", "b"])) == [1, 0, 2, 0, 1]
    assert list(group_codes([])) == []
    assert list(group_codes(["ä/\n", "", "ä/"])) == [2, 0, 1]


def test_many_groups_give_the_interval_of_the_normal_distribution() -> None:
    """3,000 groups are more than one block of draws holds."""
    values = np.random.default_rng(0).normal(size=3000)
    found = interval(values, list(range(3000)))
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert found == pytest.approx([values.mean() - half, values.mean() + half], abs=0.15 * half)


@pytest.mark.slow
def test_the_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    """Normal groups of four rows that share half of their variance; true mean 0."""
    generator = np.random.default_rng(11)
    groups = [i for i in range(50) for _ in range(4)]
    covered = naive = 0
    runs = 1500
    for seed in range(runs):
        values = np.repeat(generator.normal(size=50), 4) + generator.normal(size=200)
        low, high = interval(values, groups, resamples=400, seed=seed)
        covered += low <= 0 <= high
        low, high = interval(values, list(range(200)), resamples=400, seed=seed)
        naive += low <= 0 <= high
    assert 0.92 <= covered / runs <= 0.97  # the percentile interval of 50 groups covers about 94 %
    assert naive / runs < 0.85  # what the groups are for
