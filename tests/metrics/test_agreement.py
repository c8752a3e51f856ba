"""Agreement with human ratings and identity leak: by hand, against SciPy and loops, on made-up spaces."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from exprmetric.metrics import cosine, identity_leak, l2, rank_correlation, triplet_accuracy
from exprmetric.metrics.resampling import bootstrap, draw, pair_distances, units

Floats = NDArray[np.float64]
FEW: dict[str, Any] = {"resamples": 50}


def gap(x: Floats, i: int, j: int) -> float:
    return float(np.sqrt(((x[i] - x[j]) ** 2).sum()))


@pytest.fixture(scope="module")
def faces() -> tuple[Floats, Floats, list[str]]:
    """(embeddings, ratings, persons) of 120 faces of 20 people; the embedding knows some of the ratings."""
    generator = np.random.default_rng(1)
    ratings = generator.dirichlet(np.full(5, 0.5), 120)
    embeddings = np.concatenate(
        [ratings + 0.3 * generator.normal(size=ratings.shape), generator.normal(size=(120, 3))], 1
    )
    return embeddings, ratings, [f"p{i % 20}" for i in range(120)]


# --- triplets ---


def test_triplets_by_hand() -> None:
    """Ratings on a line: 0, 1, 5, 7. Mean of the 12 pair distances of the 4 triplets: each pair stands in two, so 4."""
    ratings = np.array([[0.0], [1.0], [5.0], [7.0]])
    triplets = np.array(list(combinations(range(4), 3)))
    # gaps between the two smallest: 012: 1, 4 → 3; 013: 1, 6 → 5; 023: 2, 5 → 3; 123: 2, 4 → 2
    embeddings = np.array([[0.0], [1.0], [1.5], [9.0]])
    # nearest pairs: 012 → 12 (people 01); 013 → 01 as people; 023 → 02 (people 23); 123 → 12 (people 23)
    found = triplet_accuracy(embeddings, ratings, triplets=triplets, margin=0.6, **FEW)  # gaps above 2.4
    assert (found.n, found.value) == (3, pytest.approx(1 / 3))
    assert triplet_accuracy(embeddings, ratings, triplets=triplets, margin=0.4, **FEW).n == 4
    assert triplet_accuracy(embeddings, ratings, triplets=triplets, margin=1.0, **FEW).value == 1.0
    none = triplet_accuracy(embeddings, ratings, triplets=triplets, margin=2.0, **FEW)
    assert none.n == 0 and math.isnan(none.value)


def test_lines_are_of_different_people_by_default_and_the_seed_decides_which(
    faces: tuple[Floats, Floats, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    embeddings, ratings, persons = faces
    drawn: list[tuple[int, int]] = []

    def counted(size: int, count: int, people: Any, seed: int) -> Any:
        lines = draw(size, min(count, 500), people, seed)
        drawn.append((count, int(max(len(set(people[line])) for line in lines))))
        assert all(len(set(people[line])) == size for line in lines)
        return lines

    monkeypatch.setattr("exprmetric.metrics.agreement.draw", counted)
    whole = triplet_accuracy(embeddings, ratings, persons=persons, **FEW)
    assert whole == triplet_accuracy(embeddings, ratings, persons=persons, across_people=True, seed=0, **FEW)
    assert whole.n != triplet_accuracy(embeddings, ratings, persons=persons, across_people=False, **FEW).n
    assert whole.n != triplet_accuracy(embeddings, ratings, persons=persons, seed=1, **FEW).n
    rank_correlation(embeddings, ratings, persons=persons, **FEW)
    assert drawn == [(200_000, 3)] * 4 + [(50_000, 2)]


def test_triplets_against_plain_loops(faces: tuple[Floats, Floats, list[str]]) -> None:
    embeddings, ratings, _ = faces
    triplets = draw(3, 2000, np.arange(120), seed=4)
    pairs = ((0, 1), (0, 2), (1, 2))
    human = [[gap(ratings, t[a], t[b]) for a, b in pairs] for t in triplets]
    limit = 0.3 * np.mean(human)
    right = [
        int(np.argmin([gap(embeddings, t[a], t[b]) for a, b in pairs]) == np.argmin(h))
        for t, h in zip(triplets, human, strict=True)
        if sorted(h)[1] - sorted(h)[0] > limit
    ]
    found = triplet_accuracy(embeddings, ratings, triplets=triplets, margin=0.3, **FEW)
    assert found.n == len(right) and found.value == pytest.approx(np.mean(right), abs=1e-12)


def test_knowing_the_ratings_is_perfect_and_knowing_nothing_is_chance(faces: tuple[Floats, Floats, list[str]]) -> None:
    _, ratings, persons = faces
    perfect = triplet_accuracy(3.7 * ratings, ratings, persons=persons, triplets=20_000, **FEW)
    assert (perfect.value, perfect.low, perfect.high) == (1.0, 1.0, 1.0) and perfect.n > 1000
    rank = rank_correlation(3.7 * ratings, ratings, persons=persons, pairs=5000, **FEW)
    assert rank.value == pytest.approx(1.0) and rank.low == pytest.approx(1.0)
    noise = np.random.default_rng(0).normal(size=(1000, 8))
    labels = np.random.default_rng(1).dirichlet(np.ones(4), 1000)
    chance = triplet_accuracy(noise, labels, triplets=40_000, **FEW)
    assert chance.value == pytest.approx(1 / 3, abs=0.03) and chance.low < 1 / 3 < chance.high
    assert rank_correlation(noise, labels, pairs=20_000, **FEW).value == pytest.approx(0, abs=0.04)
    same = triplet_accuracy(np.ones((1000, 2)), labels, triplets=2000, **FEW)
    assert same.value == pytest.approx(1 / 3, abs=1e-12)  # ties are no luck
    assert math.isnan(rank_correlation(np.ones((1000, 2)), labels, pairs=2000, **FEW).value)


def test_scale_and_order_do_not_show(faces: tuple[Floats, Floats, list[str]]) -> None:
    embeddings, ratings, persons = faces
    triplets, pairs = draw(3, 3000, units(120, persons), 0), draw(2, 3000, units(120, persons), 0)
    order = np.random.default_rng(3).permutation(120)
    place = np.argsort(order)  # row i went to place[i]
    moved = [persons[i] for i in order]
    how: dict[str, Any] = {"persons": persons, **FEW}
    for score, lines, key in ((triplet_accuracy, triplets, "triplets"), (rank_correlation, pairs, "pairs")):
        found = score(embeddings, ratings, **{key: lines}, **how)  # type: ignore[operator]
        assert score(8 * embeddings, 4 * ratings, **{key: lines}, **how) == found  # type: ignore[operator]
        again = score(embeddings[order], ratings[order], **{key: place[lines]}, **(how | {"persons": moved}))  # type: ignore[operator]
        assert (again.value, again.low, again.high) == pytest.approx((found.value, found.low, found.high), abs=1e-12)


def test_the_methods_own_distance_is_used(faces: tuple[Floats, Floats, list[str]]) -> None:
    _, ratings, _ = faces
    stretched = ratings * np.random.default_rng(0).uniform(0.1, 10, (120, 1))
    unit = ratings / np.linalg.norm(ratings, axis=1, keepdims=True)
    by_cosine = rank_correlation(stretched, unit, pairs=3000, distance=cosine, **FEW)
    assert by_cosine.value == pytest.approx(1.0) and rank_correlation(stretched, unit, pairs=3000, **FEW).value < 0.6


def test_lines_are_of_different_people() -> None:
    people = units(60, [f"p{i % 4}" for i in range(60)])
    triplets = draw(3, 5000, people, 0)
    assert all(len(set(people[t])) == 3 for t in triplets) and 1500 < len(triplets) < 2300  # 3/8 of them
    assert len(draw(3, 100, units(10, ["a", "b"] * 5), 0)) == 0
    assert list(units(4, ["a", "", "", "a"])) == [0, 1, 2, 0] and list(units(3, None)) == [0, 1, 2]
    rows = np.eye(60)
    within = triplet_accuracy(rows, rows, persons=["a", "b"] * 30, across_people=False, margin=0.0, triplets=100, **FEW)
    across = triplet_accuracy(rows, rows, persons=["a", "b"] * 30, margin=0.0, triplets=100, **FEW)
    assert across.n == 0 and math.isnan(across.value) and within.n == 0


# --- ranks ---


def test_rank_correlation_is_spearmans(faces: tuple[Floats, Floats, list[str]]) -> None:
    embeddings, ratings, persons = faces
    votes = np.round(ratings * 3) / 3  # with many ties
    pairs = draw(2, 4000, units(120, persons), 7)
    d = [[gap(x, i, j) for i, j in pairs] for x in (embeddings, votes)]
    found = rank_correlation(embeddings, votes, pairs=pairs, persons=persons, **FEW)
    assert found.value == pytest.approx(stats.spearmanr(*np.round(d, 12)).statistic, abs=1e-6)
    assert found.low < found.value < found.high and found.n == len(pairs)


def test_weights_are_repetitions(faces: tuple[Floats, Floats, list[str]]) -> None:
    """One draw of the bootstrap by hand: each line repeated as often as its people were drawn."""
    embeddings, ratings, persons = faces
    people = units(120, persons)
    pairs = draw(2, 800, people, 2)
    times = np.random.default_rng(9).multinomial(20, np.full(20, 0.05))
    repeated = np.repeat(pairs, times[people[pairs[:, 0]]] * times[people[pairs[:, 1]]], axis=0)
    plain = rank_correlation(embeddings, ratings, pairs=repeated, persons=persons, resamples=0)
    drawn = rank_correlation(embeddings, ratings, pairs=pairs, persons=persons, resamples=1, seed=9)
    assert drawn.low == pytest.approx(plain.value, abs=1e-12) and drawn.low == drawn.high
    triplets = draw(3, 3000, people, 2)
    clear = triplets[  # the margin is of all triplets drawn: find the clear ones first
        [
            sorted(h)[1] - sorted(h)[0] > 0
            for h in ([gap(ratings, a, b) for a, b in combinations(t, 2)] for t in triplets)
        ]
    ]
    repeated = np.repeat(clear, times[people[clear]].prod(1), axis=0)
    plain = triplet_accuracy(embeddings, ratings, triplets=repeated, margin=0, persons=persons, resamples=0)
    drawn = triplet_accuracy(embeddings, ratings, triplets=clear, margin=0, persons=persons, resamples=1, seed=9)
    assert drawn.low == pytest.approx(plain.value, abs=1e-12)


# --- bootstrap ---


def test_the_bootstrap_of_a_mean_is_scipys() -> None:
    values = np.random.default_rng(1).gamma(2.0, size=80)
    ((value, low, high),) = bootstrap(lambda w: [w @ values / w.sum()], np.arange(80), resamples=8000)
    found = stats.bootstrap(
        (values,), np.mean, n_resamples=8000, method="percentile", random_state=np.random.default_rng(0)
    ).confidence_interval
    assert value == pytest.approx(values.mean()) and (low, high) == pytest.approx(tuple(found), abs=0.03 * (high - low))


def test_people_make_wider_intervals_than_their_photographs() -> None:
    generator = np.random.default_rng(0)
    level = np.repeat(generator.normal(size=(15, 3)), 20, axis=0)  # people differ in how well they are seen
    ratings = generator.dirichlet(np.ones(4), 300)
    embeddings = np.concatenate([ratings * np.exp(level[:, :1]), 0.1 * level], 1)
    persons = [f"p{i // 20}" for i in range(300)]
    by_people = rank_correlation(embeddings, ratings, pairs=5000, persons=persons, resamples=300)
    pairs = draw(2, 5000, units(300, persons), 0)
    by_rows = rank_correlation(embeddings, ratings, pairs=pairs, resamples=300)
    assert by_people.value == pytest.approx(by_rows.value)
    assert by_people.high - by_people.low > 1.5 * (by_rows.high - by_rows.low)


def test_one_person_has_no_interval() -> None:
    x = np.random.default_rng(0).normal(size=(30, 2))
    found = triplet_accuracy(x, x, persons=["a"] * 30, across_people=False, triplets=500)
    assert found.value == 1.0 and math.isnan(found.low) and math.isnan(found.high)


# --- refusals ---


def test_what_is_refused() -> None:
    x = np.zeros((4, 2))
    with pytest.raises(ValueError, match=r"\(4, 2\) and \(3, 2\)"):
        triplet_accuracy(x, x[:3])
    with pytest.raises(ValueError, match="embeddings: row 2 is not finite"):
        rank_correlation(np.where(np.arange(4)[:, None] == 2, np.nan, x), x)
    with pytest.raises(ValueError, match="3 persons for 4 rows"):
        rank_correlation(x, x, persons=["a"] * 3)
    with pytest.raises(ValueError, match="rows 0 and 1 is nan"):
        pair_distances(x, [0], [1], cosine)
    with pytest.raises(ValueError, match=r"\(T, 3\)"):
        triplet_accuracy(x, x, triplets=[[0, 1]])
    with pytest.raises(ValueError, match="groups or ratings"):
        identity_leak(x, ["a"] * 4)
    with pytest.raises(ValueError, match="3 groups for 4"):
        identity_leak(x, ["a"] * 4, ["g"] * 3)


def test_no_faces_give_no_numbers() -> None:
    none = np.empty((0, 3))
    for found in (triplet_accuracy(none, none), rank_correlation(none, none), identity_leak(none, [], []).ratio):
        assert found.n == 0 and math.isnan(found.value) and math.isnan(found.low)


def test_distances_in_blocks_are_distances() -> None:
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    a, b = np.random.default_rng(1).integers(0, 50, (2, 10_000))
    assert np.array_equal(pair_distances(x, a, b), l2(x[a], x[b]))


# --- leak ---


def album(seed: int = 0) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(persons, expressions) of 60 people with 2 to 9 photographs each, most of them of expression 0."""
    generator = np.random.default_rng(seed)
    persons = np.repeat(np.arange(60), generator.integers(2, 10, 60))
    return persons, generator.choice(3, len(persons), p=[0.6, 0.3, 0.1])


def space(persons: Any, expressions: Any, identity: float, noise: float = 1.0) -> Floats:
    generator = np.random.default_rng(5)
    face = identity * generator.normal(size=(persons.max() + 1, 6))
    mood = np.array([0.0, 4.0, 9.0])[:, None] * np.ones(6)
    # the third expression is shown far more differently than the first: a mix that isn't matched would show it
    return np.asarray(
        mood[expressions]
        + face[persons]
        + noise * (1 + 3 * expressions[:, None]) * generator.normal(size=(len(persons), 6))
    )


def test_a_space_without_identity_does_not_leak() -> None:
    persons, expressions = album()
    leak = identity_leak(space(persons, expressions, 0.0), list(persons), list(expressions), resamples=200)
    assert leak.ratio.value == pytest.approx(1, abs=0.04) and leak.ratio.low < 1 < leak.ratio.high
    assert leak.auc.value == pytest.approx(0.5, abs=0.04) and leak.auc.low < 0.5 < leak.auc.high
    # the trap that matching avoids: different people are often of different expressions
    x = space(persons, expressions, 0.0)
    i, j = draw(2, 20_000, np.arange(len(x)), 0).T
    d, same = pair_distances(x, i, j), persons[i] == persons[j]
    assert d[~same].mean() > 1.5 * d[same & (expressions[i] == expressions[j])].mean()


def test_a_space_of_identity_leaks() -> None:
    persons, expressions = album()
    leaks = [
        identity_leak(space(persons, expressions, s, 0.1), list(persons), list(expressions), **FEW)
        for s in (0.1, 1.0, 10.0)
    ]
    ratios, aucs = [x.ratio.value for x in leaks], [x.auc.value for x in leaks]
    assert ratios == sorted(ratios) and ratios[2] > 10 and aucs == sorted(aucs) and aucs[2] > 0.99
    assert leaks[2].ratio.low > 1 and leaks[2].people <= 60


def test_leak_by_hand() -> None:
    """Two people with two smiles each, one with a frown that nobody shares."""
    x = np.array([[0.0], [1.0], [10.0], [13.0], [50.0]])
    leak = identity_leak(x, ["a", "a", "b", "b", "b"], ["smile"] * 4 + ["frown"], doubles=200, **FEW)
    # within: 1 and 3. a's first face to b's two: 10, 13; b's first face to a's two: 10, 9
    assert leak.people == 2 and leak.ratio.n == 2
    assert leak.ratio.value == pytest.approx(((11.5 + 9.5) / 2) / 2, rel=0.02)
    assert leak.auc.value == 1.0


def test_no_pair_of_a_person_is_drawn_twice_and_no_more_than_asked_for() -> None:
    one, two = [[0.0], [1.0], [3.0], [7.0], [15.0]], [[100.0]]  # ten pairs, each with a distance of its own
    seen: list[float] = []

    def kept(a: Any, b: Any) -> Any:
        far = np.abs(np.asarray(a, float) - np.asarray(b, float))[:, 0]
        seen.extend(far[far < 50].tolist())
        return far

    for most, count in ((9, 9), (10, 10), (20, 10)):
        seen.clear()
        leak = identity_leak(one + two, ["a"] * 5 + ["b"], ["smile"] * 6, distance=kept, most=most, **FEW)
        assert leak.ratio.n == len(seen) == len(set(seen)) == count
    with pytest.raises(ValueError, match=r"^identity_leak needs either groups or ratings$"):
        identity_leak(one, ["a"] * 5)


def test_leak_auc_is_the_share_of_pairs_in_order() -> None:
    generator = np.random.default_rng(0)
    persons = np.repeat(np.arange(25), 3)
    x = np.round(0.7 * generator.normal(size=(25, 2))[persons] + generator.normal(size=(75, 2)))  # with ties
    from exprmetric.metrics.leak import _by_group

    matched = _by_group(units(75, list(persons)), np.zeros(75, np.intp), 20, 4, np.random.default_rng(0))
    within = np.array([gap(x, i, j) for i, j in matched.same])
    between = np.array([gap(x, i, j) for i, j in matched.different])
    assert len(within) == 75 and len(between) == 300
    wins = (between[:, None] > within).mean() + 0.5 * (between[:, None] == within).mean()
    leak = identity_leak(x, list(persons), ["one"] * 75, **FEW)
    assert leak.auc.value == pytest.approx(wins, abs=1e-12)
    assert leak.auc.value == pytest.approx(
        stats.mannwhitneyu(between, within).statistic / (len(within) * len(between)), abs=1e-12
    )
    assert leak.ratio.value == pytest.approx(between.mean() / within.mean(), abs=1e-12)


def test_a_person_drawn_twice_is_two_people() -> None:
    """One draw of the leak's bootstrap by hand: pairs of a person count as often as they were drawn, not squared."""
    from exprmetric.metrics.leak import _by_group

    generator = np.random.default_rng(0)
    persons = np.repeat(np.arange(20), 3)
    spread = generator.uniform(0.1, 3, (20, 1))[persons]
    x = spread * generator.normal(size=(60, 2)) + generator.normal(size=(20, 2))[persons]
    people = units(60, list(persons))
    matched = _by_group(people, np.zeros(60, np.intp), 20, 4, np.random.default_rng(6))
    times = np.random.default_rng(6).multinomial(20, np.full(20, 0.05))[people]
    within = [(gap(x, i, j), times[i]) for i, j in matched.same]
    between = [(gap(x, i, k), times[i] * times[k]) for i, k in matched.different]
    means = [sum(d * w for d, w in pairs) / sum(w for _, w in pairs) for pairs in (between, within)]
    leak = identity_leak(x, list(persons), ["g"] * 60, resamples=1, seed=6)
    assert leak.ratio.low == leak.ratio.high == pytest.approx(means[0] / means[1], abs=1e-12)


def test_the_most_photographed_person_does_not_decide() -> None:
    generator = np.random.default_rng(0)
    persons = np.array([0] * 100 + list(np.repeat(np.arange(1, 30), 2)))
    x = generator.normal(size=(158, 4)) * np.where(persons == 0, 10.0, 1.0)[:, None]
    few = identity_leak(x, list(persons), ["g"] * 158, most=1, **FEW)
    assert few.ratio.n == 30 and identity_leak(x, list(persons), ["g"] * 158, most=50, **FEW).ratio.n == 79


def test_leak_at_the_nearest_ratings() -> None:
    generator = np.random.default_rng(0)
    persons = np.repeat(np.arange(40), 5)
    ratings = generator.dirichlet(np.full(4, 0.4), 200)
    face = generator.normal(size=(40, 4))
    clean, leaky = (
        identity_leak(
            ratings + s * face[persons] + 0.2 * generator.normal(size=ratings.shape),
            list(persons),
            ratings=ratings,
            **FEW,
        )
        for s in (0.0, 1.0)
    )
    assert clean.ratio.value == pytest.approx(1, abs=0.1) and clean.auc.value == pytest.approx(0.5, abs=0.06)
    assert leaky.ratio.value > 2 and leaky.auc.value > 0.9 and 10 < leaky.people <= 40


def test_more_of_the_pairs_are_taken_where_more_are_asked_for(faces: tuple[Floats, Floats, list[str]]) -> None:
    embeddings, ratings, persons = faces
    few, many = (identity_leak(embeddings, persons, ratings=ratings, nearest=n, **FEW).auc.n for n in (0.1, 0.4))
    assert few == pytest.approx(0.1 * 120 * 119 / 2, abs=2) and many == pytest.approx(0.4 * 120 * 119 / 2, abs=2)


def test_nobody_with_two_photographs_gives_no_leak() -> None:
    x = np.random.default_rng(0).normal(size=(10, 3))
    leak = identity_leak(x, list(range(10)), ["g"] * 10)
    assert leak.people == 0 and leak.ratio.n == 0 and math.isnan(leak.ratio.value) and math.isnan(leak.auc.low)
    assert math.isnan(identity_leak(x, ["a", "a", *range(8)], ["g", "g", *["h"] * 8]).ratio.value)  # no doubles
