"""Paired differences of two models: p-values against SciPy and by hand, Holm's correction, groups of two results."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from exprmetric.metrics import paired
from exprmetric.metrics.paired import holm, merged_groups, sign_flip_p, win_tie_loss


def test_sign_flips_of_single_rows_are_scipys_permutation_test():
    values = np.random.default_rng(0).normal(0.3, 1.0, 11)
    expected = stats.permutation_test(
        (values,), lambda x, axis: np.sum(x, axis=axis), permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip_p(values, range(11)) == pytest.approx(expected.pvalue, abs=1e-12)


def test_groups_flip_as_a_whole():
    values, groups = [1.0, 2.0, -0.5, 4.0, 0.25], ["a", "a", "b", "c", "b"]
    sums = [3.0, -0.25, 4.0]
    flipped = [abs(sum(s * v for s, v in zip(signs, sums, strict=True))) for signs in product((1, -1), repeat=3)]
    assert sign_flip_p(values, groups) == np.mean([f >= abs(sum(sums)) - 1e-9 for f in flipped])
    assert sign_flip_p([5.0] * 100, ["one"] * 100) == 1.0  # a single group shows nothing


def test_random_flips_and_the_normal_limit_agree_with_going_through_all(monkeypatch: pytest.MonkeyPatch):
    values = np.random.default_rng(1).normal(0.6, 1.0, 14)
    exact = sign_flip_p(values, range(14))
    assert 0.001 < exact < 0.2
    monkeypatch.setattr(paired, "EXACT_GROUPS", 0)
    assert sign_flip_p(values, range(14)) == pytest.approx(exact, abs=0.01)
    many = np.random.default_rng(2).normal(0.05, 1.0, 900)
    flips = sign_flip_p(many, range(900))
    monkeypatch.setattr(paired, "NORMAL_GROUPS", 1)
    assert sign_flip_p(many, range(900)) == pytest.approx(flips, abs=0.02)
    # without a difference the normal p-value is that of a z-test
    assert sign_flip_p([1.0, -1.0] * 450, range(900)) == pytest.approx(1.0)


def test_p_values_are_uniform_where_there_is_no_difference():
    generator = np.random.default_rng(3)
    groups = np.repeat(np.arange(10), 5)
    found = [sign_flip_p((generator.normal(size=10)[groups] + generator.normal(size=50)), groups) for _ in range(400)]
    # rows of a group share most of their noise; a test that ignores groups finds far more than 5 %
    assert np.mean(np.array(found) <= 0.05) < 0.085
    naive = [stats.wilcoxon(generator.normal(size=10)[groups] + 0.3 * generator.normal(size=50)).pvalue for _ in found]
    assert np.mean(np.array(naive) <= 0.05) > 0.2


def test_no_rows_and_no_difference():
    assert math.isnan(sign_flip_p([], []))
    assert sign_flip_p([0.0, 0.0], ["a", "b"]) == 1.0


def test_holm_on_a_worked_example_and_its_order():
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]).tolist() == [1.0, 1.0]
    with_nan = holm([0.02, float("nan"), 0.01])
    assert with_nan[[0, 2]].tolist() == pytest.approx([0.02, 0.02]) and math.isnan(with_nan[1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferronis(p: list[float]):
    corrected = holm(p)
    assert all(a <= c + 1e-12 and c <= min(1.0, a * len(p)) + 1e-12 for a, c in zip(p, corrected, strict=True))
    assert all(corrected[i] <= corrected[j] for i in range(len(p)) for j in range(len(p)) if p[i] < p[j])


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("uvwxyz")), max_size=12))
def test_merged_groups_join_what_either_joins_and_nothing_else(names: list[tuple[str, str]]):
    found = merged_groups([a for a, _ in names], [b for _, b in names])
    clusters: list[set[str]] = []
    for a, b in names:  # names of both kinds that hang together
        touching = [c for c in clusters if {f"1{a}", f"2{b}"} & c]
        clusters = [c for c in clusters if c not in touching] + [set().union(*touching, {f"1{a}", f"2{b}"})]
    expected = [next(i for i, c in enumerate(clusters) if f"1{a}" in c) for a, _ in names]
    same = [[x == y for y in found] for x in found]
    assert same == [[x == y for y in expected] for x in expected]


def test_wins_by_the_direction_of_the_score():
    assert win_tie_loss([1, 2, 3, 3], [2, 2, 1, 1], higher_is_better=True) == (2, 1, 1)
    assert win_tie_loss([1, 2, 3, 3], [2, 2, 1, 1], higher_is_better=False) == (1, 1, 2)


def test_random_flips_are_the_seeds_and_count_the_flip_that_was_seen(monkeypatch: pytest.MonkeyPatch):
    values = np.random.default_rng(4).normal(0.4, 1.0, 20)
    groups = [f"{i:02}" for i in range(20)]
    signs = np.random.default_rng(7).integers(0, 2, (50, 20)) * 2.0 - 1.0
    reached = sum(abs(math.fsum(s * v for s, v in zip(row, values, strict=True))) >= abs(sum(values)) for row in signs)
    monkeypatch.setattr(paired, "FLIPS", 50)
    assert sign_flip_p(values, groups, seed=7) == pytest.approx((reached + 1) / 51)
    monkeypatch.setattr(paired, "_BLOCK", 20 * 16)  # blocks of 16, 16, 16 and 2
    assert sign_flip_p(values, groups, seed=7) == pytest.approx((reached + 1) / 51)
    monkeypatch.setattr(paired, "_BLOCK", 3)  # a block holds one flip at least
    assert sign_flip_p(values, groups, seed=7) == pytest.approx((reached + 1) / 51)
    assert sign_flip_p(values, groups) == sign_flip_p(values, groups, seed=0) != sign_flip_p(values, groups, seed=1)


def test_which_test_is_made_goes_by_the_number_of_groups(monkeypatch: pytest.MonkeyPatch):
    values = np.random.default_rng(5).normal(0.5, 1.0, 6)
    flips = [abs(sum(s * v for s, v in zip(row, values, strict=True))) for row in product((1, -1), repeat=6)]
    exact = np.mean([f >= abs(values.sum()) - 1e-9 for f in flips])
    normal = 2 * stats.norm.sf(abs(values.sum()) / math.sqrt((values**2).sum()))
    monkeypatch.setattr(paired, "EXACT_GROUPS", 6)
    monkeypatch.setattr(paired, "NORMAL_GROUPS", 7)
    assert sign_flip_p(values, range(6)) == exact
    monkeypatch.setattr(paired, "EXACT_GROUPS", 5)
    drawn = sign_flip_p(values, range(6))
    assert drawn != exact and drawn == pytest.approx(exact, abs=0.02)
    monkeypatch.setattr(paired, "NORMAL_GROUPS", 6)
    assert sign_flip_p(values, range(6)) == pytest.approx(normal, rel=1e-12)


def test_a_flip_is_as_extreme_as_the_one_seen_whatever_the_order_of_the_sum():
    """0.1 + 0.2 + 0.3 and its mirror image are the same sum but for its last digit."""
    for order in ([0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.2, 0.3, 0.1]):
        assert sign_flip_p(order, "abc") == 2 / 8
        assert sign_flip_p([1e6 * v for v in order], "abc") == 2 / 8
        assert sign_flip_p([1e-9 * v for v in order], "abc") == 2 / 8
    assert sign_flip_p([1.0, 1.0, 1e-9], "abc") == 2 / 8  # and a small difference is one


def test_groups_that_hang_together_have_the_first_name_of_theirs():
    assert merged_groups([], []) == []
    assert merged_groups(["b", "a", "c", "d"], ["x", "x", "y", "z"]) == ["a", "a", "c", "d"]
    assert merged_groups(["a", "b", "b", "c"], ["x", "x", "y", "y"]) == ["a"] * 4
    assert merged_groups(["a", "x"], ["x", "a"]) == ["a", "x"]  # a name of one result says nothing in the other
    with pytest.raises(ValueError):
        merged_groups(["a", "b"], ["x"])


def test_holm_of_nothing_and_of_what_is_no_number():
    assert holm([]).tolist() == []
    assert np.isnan(holm([math.nan, math.nan])).all()
    assert holm([math.nan, 0.04]).tolist()[1] == pytest.approx(0.04)
    assert holm([0.2, 0.2, 0.2]).tolist() == pytest.approx([0.6, 0.6, 0.6])


def test_wins_of_whole_numbers_are_counted_without_overflow():
    few, many = np.array([1, 5], np.uint8), np.array([2, 5], np.uint8)
    assert win_tie_loss(few, many, higher_is_better=True) == (0, 1, 1)
