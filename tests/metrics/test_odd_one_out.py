"""Triplets with an odd one out: against plain loops, draw by draw."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exprmetric.metrics import cosine, odd_one_out
from exprmetric.metrics.odd_one_out import (
    TYPES,
    odd_one_out_accuracy,
    odd_one_out_correct,
    vote_triplets,
)


def test_a_tie_is_wrong_and_both_distances_to_the_odd_one_count():
    points = np.array([[0.0], [1.0], [3.0], [2.0], [-1.0], [0.0]])
    triplets = [
        (0, 1, 2),  # 1 < 3, 2
        (0, 2, 1),  # 3 > 1
        (0, 1, 3),  # |p - n| = |a - p|
        (1, 0, 4),  # the same with a and p exchanged
        (0, 5, 1),  # 0 < 1, 1
        (0, 1, 5),  # n where a is
    ]
    expected = [True, False, False, False, True, False]
    assert odd_one_out_correct(points, triplets).tolist() == expected
    swapped = [(p, a, n) for a, p, n in triplets]
    assert odd_one_out_correct(points, swapped).tolist() == expected
    assert not odd_one_out_correct(np.zeros((6, 4)), triplets).any()  # a method that sees nothing gets nothing


def test_accuracy_by_type_is_the_share_of_its_triplets():
    rng = np.random.default_rng(0)
    points, triplets = rng.normal(size=(60, 3)), np.array([rng.permutation(60)[:3] for _ in range(500)])
    types = rng.integers(0, 3, 500)
    found = odd_one_out_accuracy(points, triplets, types, resamples=200)
    plain = []
    for a, p, n in triplets:
        ap, an, pn = (float(np.linalg.norm(points[i] - points[j])) for i, j in ((a, p), (a, n), (p, n)))
        plain.append(ap < an and ap < pn)
    assert list(found) == ["all", *TYPES]
    for name, mask in zip(found, [types >= 0, types == 0, types == 1, types == 2], strict=True):
        assert found[name].value == pytest.approx(np.mean(np.array(plain)[mask]))
        assert found[name].n == mask.sum()
        assert found[name].low < found[name].value < found[name].high
    assert found["all"].value == pytest.approx(1 / 3, abs=0.07)  # chance
    few = odd_one_out_accuracy(points, triplets[:4], [0, 0, 2, 2], resamples=0)
    assert np.isnan(few["two_class"].value) and few["two_class"].n == 0
    assert np.isnan(few["all"].low)
    assert list(odd_one_out_accuracy(points, triplets, resamples=0)) == ["all"]


@pytest.mark.parametrize(
    ("triplets", "types"),
    [([(0, 1)], None), ([(0, 1, 3)], None), ([(-1, 1, 2)], None), ([(0, 1, 2)], [3]), ([(0, 1, 2)], [0, 1])],
)
def test_triplets_that_don_t_fit_are_refused(triplets, types):
    with pytest.raises(ValueError, match=r"expected|name rows"):
        odd_one_out_accuracy(np.eye(3), triplets, types)


def ten_raters(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.multinomial(10, p) for p in rng.dirichlet(np.full(5, 0.4), count)])


@settings(max_examples=20)
@given(st.integers(0, 1000), st.sampled_from([0.1, 0.3, 0.5]))
def test_made_triplets_respect_the_margin(seed, margin):
    counts = ten_raters(80, seed)
    made = vote_triplets(counts, 60, margin=margin, seed=seed)
    assert 0 < len(made) <= 60
    for (a, p, n), kind in zip(made.rows, made.types, strict=True):
        assert len({a, p, n}) == 3
        changed = {k: np.abs(counts[i] - counts[j]).sum() / 2 for k, i, j in (("ap", a, p), ("an", a, n), ("pn", p, n))}
        assert min(changed["an"], changed["pn"]) - changed["ap"] >= 10 * margin - 1e-9  # raters of ten
        assert kind == len({int(counts[i].argmax()) for i in (a, p, n)}) - 1


def test_made_triplets_are_the_same_for_a_seed_a_third_of_each_type_and_leave_unrated_faces_out():
    counts = ten_raters(300).astype(float)
    counts[::3] = np.nan
    made = vote_triplets(counts, 1000, seed=4)
    again, other = vote_triplets(counts, 1000, seed=4), vote_triplets(counts, 1000, seed=5)
    np.testing.assert_array_equal(made.rows, again.rows)
    np.testing.assert_array_equal(made.types, again.types)
    assert not np.array_equal(made.rows, other.rows)
    assert np.bincount(made.types).tolist() == [334, 333, 333]
    assert (made.rows % 3 != 0).all()
    assert (
        odd_one_out_accuracy(np.nan_to_num(counts), made.rows, resamples=0)["all"].value > 0.95
    )  # Euclidean, of votes


def test_a_type_that_isn_t_in_the_data_is_not_made_up():
    one_hot = np.repeat(np.eye(2), 20, axis=0)  # two classes, no doubt: of these only two-class triplets are clear
    made = vote_triplets(one_hot, 30)
    assert np.bincount(made.types, minlength=3).tolist() == [0, 10, 0]
    none = vote_triplets(one_hot[:2], 30)
    assert (none.rows.shape, none.types.shape, none.rows.dtype, none.types.dtype) == ((0, 3), (0,), np.intp, np.intp)
    for votes, margin in ((one_hot, 0.0), (one_hot[0], 0.3), (-one_hot, 0.3), (0 * one_hot, 0.3)):
        with pytest.raises(ValueError, match="votes"):
            vote_triplets(votes, 3, margin=margin)


# --- draw by draw ---


def test_intervals_are_those_of_people_drawn_again():
    rng = np.random.default_rng(3)
    points, triplets = rng.normal(size=(40, 3)), [tuple(rng.permutation(40)[:3]) for _ in range(300)]
    types, persons = rng.integers(0, 3, 300), [f"p{i % 8}" for i in range(40)]
    found = odd_one_out_accuracy(points, triplets, types, persons=persons, distance=cosine, resamples=30, seed=6)
    again = np.random.default_rng(6)

    def angle(i: int, j: int) -> float:
        return 1 - points[i] @ points[j] / np.linalg.norm(points[i]) / np.linalg.norm(points[j])

    right = [angle(a, p) < angle(a, n) and angle(a, p) < angle(p, n) for a, p, n in triplets]
    shares: list[list[float]] = []
    for _ in range(30):
        times = again.multinomial(8, [1 / 8] * 8)
        lines = [times[a % 8] * times[p % 8] * times[n % 8] for a, p, n in triplets]
        masks = [np.ones(300, bool), *(types == t for t in range(3))]
        shares.append([np.average(np.array(right)[m], weights=np.array(lines)[m]) for m in masks])
    for name, column in zip(["all", *TYPES], np.array(shares).T, strict=True):
        assert (found[name].low, found[name].high) == pytest.approx(tuple(np.quantile(column, [0.025, 0.975])))
    floats = odd_one_out_accuracy(points, np.array(triplets, float), types, persons=persons, resamples=0)
    assert floats["all"].value == odd_one_out_accuracy(points, triplets, resamples=0)["all"].value


def test_the_seed_is_0_by_default():
    rng = np.random.default_rng(0)
    points, triplets = rng.normal(size=(30, 2)), [rng.permutation(30)[:3] for _ in range(60)]
    assert odd_one_out_accuracy(points, triplets, resamples=20) == odd_one_out_accuracy(
        points, triplets, resamples=20, seed=0
    )
    counts = ten_raters(60)
    np.testing.assert_array_equal(vote_triplets(counts, 30).rows, vote_triplets(counts, 30, seed=0).rows)


@pytest.mark.parametrize(
    ("embeddings", "triplets", "types", "message"),
    [
        (np.eye(3), [(0, 1)], None, r"expected triplets of shape \(T, 3\), got \(1, 2\)"),
        (np.eye(3), [0, 1, 2], None, r"expected triplets of shape \(T, 3\), got \(3,\)"),
        (np.ones(3), [(0, 1, 2)], None, r"expected embeddings of shape \(N, D\), got \(3,\)"),
        (np.eye(3), [(0, 1, 3)], None, "triplets name rows 0 to 3 of 3 embeddings"),
        (np.eye(3), [(-1, 1, 2)], None, "triplets name rows -1 to 2 of 3 embeddings"),
        (np.eye(3), [(0, 1, 2)], [3], r"expected 1 types 0\.\.2, got \(1,\) of \{.*3.*\}"),
        (np.eye(3), [(0, 1, 2)], [-1], r"expected 1 types 0\.\.2"),
        (np.eye(3), [(0, 1, 2)], [0, 1], r"expected 1 types 0\.\.2, got \(2,\)"),
    ],
)
def test_what_does_not_fit_is_named(embeddings, triplets, types, message):
    with pytest.raises(ValueError, match=message):
        odd_one_out_accuracy(embeddings, triplets, types)


def test_no_triplet_no_number():
    none = np.empty((0, 3), int)
    assert odd_one_out_correct(np.eye(3), none).shape == (0,)
    found = odd_one_out_accuracy(np.eye(3), none, [], resamples=5)
    assert [e.n for e in found.values()] == [0] * 4 and all(np.isnan(e.value) for e in found.values())


def plain_vote_triplets(votes: np.ndarray, count: int, margin: float, seed: int, block: int, draws: int) -> tuple:
    """The docstring of `vote_triplets` in plain Python, with its draws."""
    rated = [i for i, row in enumerate(votes) if np.isfinite(row).all()]
    shares = [[v / sum(votes[i]) for v in votes[i]] for i in rated]
    labels = [row.index(max(row)) for row in shares]
    generator = np.random.default_rng(seed)
    wanted = [count // 3 + (i < count % 3) for i in range(3)]
    found: list[list[tuple[int, int, int]]] = [[], [], []]
    for _ in range(-(-max(draws * count, block) // block)):
        if [len(f) for f in found] == wanted:
            break
        for drawn in generator.integers(0, len(rated), (block, 3)).tolist():
            if len(set(drawn)) < 3:
                continue
            orders = [[drawn[i] for i in order] for order in ((0, 1, 2), (0, 2, 1), (1, 2, 0))]
            far = [sum(abs(x - y) for x, y in zip(shares[a], shares[p], strict=True)) / 2 for a, p, _ in orders]
            least, second, _ = sorted(far)
            kind = len({labels[i] for i in drawn}) - 1
            if second - least >= margin - 1e-12 and len(found[kind]) < wanted[kind]:
                found[kind].append(tuple(rated[i] for i in orders[far.index(least)]))
    types = [kind for kind in range(3) for _ in found[kind]]
    order = generator.permutation(len(types))
    rows = [*found[0], *found[1], *found[2]]
    return [rows[i] for i in order], [types[i] for i in order]


@pytest.mark.parametrize(
    ("count", "margin", "seed"), [(30, 0.3, 0), (31, 0.3, 1), (32, 0.5, 2), (500, 0.7, 3), (4, 1.0, 4), (0, 0.3, 5)]
)
def test_made_triplets_are_those_of_plain_loops(count, margin, seed, monkeypatch):
    monkeypatch.setattr(odd_one_out, "BLOCK", 64)
    monkeypatch.setattr(odd_one_out, "DRAWS", 5)
    votes = ten_raters(50, seed).astype(float)
    votes[[3, 8]] = np.nan
    votes[4] = [4.0, 4.0, 2.0, 0.0, 0.0]  # of two first, the first is its class
    made = vote_triplets(votes, count, margin=margin, seed=seed)
    rows, types = plain_vote_triplets(votes, count, margin, seed, 64, 5)
    assert [tuple(row) for row in made.rows.tolist()] == rows and made.types.tolist() == types
    assert made.rows.shape == (len(rows), 3) and made.rows.dtype == made.types.dtype == np.intp
    assert len(made) == len(rows) <= count


def test_three_faces_and_the_widest_margin_are_enough():
    made = vote_triplets(np.array([[1, 0], [1, 0], [0, 1]]), 3, margin=1.0)
    assert {tuple(sorted(row[:2])) for row in made.rows.tolist()} == {(0, 1)} and set(made.rows[:, 2]) == {2}
    assert vote_triplets(np.array([[1, 0], [0, 1]]), 3).rows.shape == (0, 3)


@pytest.mark.parametrize(
    ("votes", "margin", "message"),
    [
        (np.ones(3), 0.3, r"expected votes \(N, K\) and a margin in \(0, 1\], got \(3,\) and 0.3"),
        (np.eye(3), 0.0, r"a margin in \(0, 1\], got \(3, 3\) and 0.0"),
        (np.eye(3), 1.1, "and 1.1"),
        (np.array([[2, -1], [1, 1]]), 0.3, "votes must not be negative, and each rated row needs one$"),
        (np.array([[0, 0], [1, 1]]), 0.3, "^votes must not be negative"),
    ],
)
def test_votes_that_are_none_are_refused(votes, margin, message):
    with pytest.raises(ValueError, match=message):
        vote_triplets(votes, 3, margin=margin)
