"""Preservation scores: paper 000, section V.B, on a case worked by hand, and what no input may do to them."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exprmetric.metrics import HIGHER_IS_BETTER, SCORES, per_triplet, preservation_scores

# t2c, s2c, s2t of five triplets. |s2t - s2c| is 0.25, 0.5, 0, 1, 0.25; t2c < s2c holds for the first and the fourth:
# the second is a tie, which is not nearer to the target, the third is exactly on the source.
T2C = [0.25, 0.5, 1.0, 0.0, 2.0]
S2C = [0.75, 0.5, 0.0, 2.0, 1.0]
S2T = [1.0, 1.0, 0.0, 1.0, 0.75]

Triples = list[tuple[float, float, float]]
DISTANCE = st.floats(0, 1e6)
TRIPLES = st.lists(st.tuples(DISTANCE, DISTANCE, DISTANCE), min_size=1, max_size=20)


def test_worked_by_hand() -> None:
    assert preservation_scores(T2C, S2C, S2T) == {
        "l2_error": pytest.approx(2.0 / 5),
        "mean_t2c": pytest.approx(3.75 / 5),
        "ratio": pytest.approx(2 / 5),
        "mean_s2c": pytest.approx(4.25 / 5),
        "mean_s2t": pytest.approx(3.75 / 5),
    }


def test_what_each_triplet_adds() -> None:
    columns = per_triplet(T2C, S2C, S2T)
    assert {name: list(column) for name, column in columns.items()} == {
        "l2_error": [0.25, 0.5, 0.0, 1.0, 0.25],
        "mean_t2c": T2C,
        "ratio": [1.0, 0.0, 0.0, 1.0, 0.0],
        "mean_s2c": S2C,
        "mean_s2t": S2T,
    }
    assert all(column.dtype == np.float64 for column in columns.values())


def test_the_error_is_that_of_the_text_and_not_of_the_caption() -> None:
    """Table II's caption takes the target for the source in both distances; the text says s2t and s2c."""
    assert preservation_scores([0.0], [3.0], [1.0])["l2_error"] == 2.0  # |s2t - t2c| would be 1


def test_the_error_is_a_mean_of_differences_and_not_a_difference_of_means() -> None:
    assert preservation_scores([0.0, 0.0], [1.0, 3.0], [3.0, 1.0])["l2_error"] == 2.0


def test_a_tie_is_not_nearer_to_the_target() -> None:
    assert preservation_scores([0.5], [0.5], [0.5])["ratio"] == 0.0
    assert preservation_scores([np.nextafter(0.5, 0)], [0.5], [0.5])["ratio"] == 1.0


@given(TRIPLES)
def test_scores_are_the_means_of_what_the_triplets_add(triples: Triples) -> None:
    t2c, s2c, s2t = zip(*triples, strict=True)
    scores, columns = preservation_scores(t2c, s2c, s2t), per_triplet(t2c, s2c, s2t)
    assert list(scores) == list(columns)
    for name, column in columns.items():
        assert scores[name] == pytest.approx(math.fsum(column) / len(triples), rel=1e-12)


@given(TRIPLES, st.randoms(use_true_random=False))
def test_the_order_of_the_triplets_does_not_matter(triples: Triples, random: object) -> None:
    shuffled = list(triples)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (preservation_scores(*zip(*t, strict=True)) for t in (triples, shuffled))
    assert other == pytest.approx(one, rel=1e-12)


@given(TRIPLES, st.integers(-3, 3))
def test_distances_in_another_unit_give_the_same_ratio(triples: Triples, power: int) -> None:
    unit = 2.0**power
    columns = np.array(triples).T
    one, other = preservation_scores(*columns), preservation_scores(*(unit * columns))
    assert other.pop("ratio") == one.pop("ratio")
    assert other == pytest.approx({name: unit * value for name, value in one.items()}, rel=1e-12)


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=20))
def test_the_two_anchors(s2t: list[float]) -> None:
    """A model that changes nothing is perfect in every score, and one that pastes the source is not."""
    nothing, zeros = preservation_scores([0.0] * len(s2t), s2t, s2t), [0.0] * len(s2t)
    assert (nothing["l2_error"], nothing["mean_t2c"], nothing["ratio"]) == (0.0, 0.0, 1.0)
    pasted = preservation_scores(s2t, zeros, s2t)
    assert pasted["ratio"] == 0.0
    assert pasted["l2_error"] == pasted["mean_t2c"] == pytest.approx(np.mean(s2t))


@pytest.mark.parametrize("role", ["t2c", "s2c", "s2t"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.125])
def test_no_number_hides_what_is_no_distance(role: str, value: float) -> None:
    distances = {"t2c": [0.5] * 4, "s2c": [0.5] * 4, "s2t": [0.5] * 4}
    distances[role][2] = value
    with pytest.raises(ValueError, match=rf"{role} of triplet 2 is {value}"):
        preservation_scores(**distances)


@pytest.mark.parametrize("shapes", [((2,), (2,), (3,)), ((1,), (2,), (2,)), ((2, 1), (2, 1), (2, 1)), ((), (), ())])
def test_three_columns_of_one_length_are_needed(shapes: tuple[tuple[int, ...], ...]) -> None:
    """Above all those that would broadcast."""
    with pytest.raises(ValueError, match=r"\(N,\) arrays of one length"):
        preservation_scores(*(np.ones(shape) for shape in shapes))


def test_nothing_measured_is_nan_and_never_zero() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = preservation_scores([], [], [])
    assert set(scores) == {*SCORES, "mean_s2c", "mean_s2t"}
    assert all(math.isnan(v) for v in scores.values())


def test_every_score_knows_its_direction() -> None:
    assert not HIGHER_IS_BETTER["l2_error"] and not HIGHER_IS_BETTER["mean_t2c"] and HIGHER_IS_BETTER["ratio"]
    assert tuple(HIGHER_IS_BETTER) == SCORES
