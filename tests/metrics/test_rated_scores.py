"""Scores of a space against the raters of a set: against plain loops, SciPy, and the shared scoring tool."""

from __future__ import annotations

import csv
import importlib.util
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from exprmetric.metrics import identity_leak, triplet_accuracy
from exprmetric.metrics.rated import Condition, RatedLines
from exprmetric.metrics.resampling import draw_within, every_pair

Floats = NDArray[np.float64]
TERMS = ("happy", "sad", "angry", "disgusted", "fearful", "surprised")
PEOPLE = 9


@pytest.fixture(scope="module")
def rated() -> tuple[Floats, Floats, list[str], list[str]]:
    """(embeddings, ratings 1..5, persons, expressions) of 108 faces of 9 people, like a set of acted faces."""
    generator = np.random.default_rng(3)
    shown = generator.integers(0, 6, 108)
    ratings = 1 + 0.6 * generator.random((108, 6))
    ratings[np.arange(108), shown] += generator.uniform(1, 3, 108)
    person = np.arange(108) % PEOPLE
    face = 0.8 * generator.normal(size=(PEOPLE, 5))[person]
    embeddings = np.concatenate([ratings + 0.9 * generator.normal(size=ratings.shape), face], 1)
    return embeddings, ratings, [f"p{i}" for i in person], [TERMS[i] for i in shown]


def gap(x: Floats, i: int, j: int) -> float:
    return float(np.linalg.norm(x[i] - x[j]))


def plain_triplets(x: Floats, ratings: Floats, lines: list[tuple[int, int, int]], margin: float) -> list[bool]:
    right = []
    for t in lines:
        human = [gap(ratings, a, b) for a, b in combinations(t, 2)]
        if sorted(human)[1] - sorted(human)[0] > margin:
            right.append(int(np.argmin([gap(x, a, b) for a, b in combinations(t, 2)])) == int(np.argmin(human)))
    return right


def test_scores_within_one_person_are_those_of_plain_loops(rated: tuple[Floats, Floats, list[str], list[str]]) -> None:
    x, ratings, persons, _ = rated
    found = RatedLines(ratings, persons, points=0.8).scores(x, resamples=20).within
    assert found is not None
    rows = [[i for i, p in enumerate(persons) if p == q] for q in sorted(set(persons))]
    right = plain_triplets(x, ratings, [t for r in rows for t in combinations(r, 3)], 0.8)
    assert (found.triplet_accuracy.n, found.triplet_accuracy.value) == (len(right), pytest.approx(np.mean(right)))
    pairs = [p for r in rows for p in combinations(r, 2)]
    far, apart = ([gap(v, i, j) for i, j in pairs] for v in (x, ratings))
    assert found.rank_correlation.value == pytest.approx(stats.spearmanr(far, apart).statistic, abs=1e-9)
    assert found.rank_correlation.n == len(pairs) == PEOPLE * 66
    assert found.rank_correlation.low < found.rank_correlation.value < found.rank_correlation.high


def test_the_leak_is_of_the_twentieth_of_all_pairs_that_people_rate_most_alike(
    rated: tuple[Floats, Floats, list[str], list[str]],
) -> None:
    x, ratings, persons, _ = rated
    pairs = list(combinations(range(108), 2))
    apart = np.array([gap(ratings, i, j) for i, j in pairs])
    near = [p for p, d in zip(pairs, apart, strict=True) if d <= np.quantile(apart, 0.05)]
    one, two = ([gap(x, i, j) for i, j in near if (persons[i] == persons[j]) == same] for same in (True, False))
    wins = np.mean([(b > a) + 0.5 * (b == a) for a in one for b in two])
    for leak in (
        RatedLines(ratings, persons).scores(x, resamples=20).leak,
        identity_leak(x, persons, ratings=ratings, resamples=20),
    ):
        assert leak is not None and leak.ratio.n == len(one) and leak.auc.n == len(near)
        assert leak.ratio.value == pytest.approx(np.mean(two) / np.mean(one))
        assert leak.auc.value == pytest.approx(wins)
        assert leak.ratio.low < leak.ratio.value < leak.ratio.high


def test_confusions_and_conditions_are_those_of_plain_loops(
    rated: tuple[Floats, Floats, list[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, ratings, persons, shown = rated
    classes = np.arange(108) % 7 % 3 - (np.arange(108) == 5)  # one unknown
    yaw = Condition(("frontal", "turned", "sideways"), np.where(np.arange(108) == 5, -1, np.maximum(classes, 0)))
    monkeypatch.setattr("exprmetric.metrics.rated.TRIPLETS", 3000)
    lines = RatedLines(ratings, persons, points=0.8, expressions=shown, conditions={"yaw": yaw})
    monkeypatch.setattr("exprmetric.metrics.rated.LEAST", 1)
    found = lines.scores(x, resamples=5)
    right: dict[str, list[bool]] = {}
    by_class: dict[int, list[bool]] = {}
    for a, b, odd in lines.triplets["across"].tolist():
        assert len({persons[i] for i in (a, b, odd)}) == 3
        assert gap(ratings, a, b) + 0.8 < min(gap(ratings, a, odd), gap(ratings, b, odd))
        good = gap(x, a, b) < min(gap(x, a, odd), gap(x, b, odd))
        if shown[a] == shown[b] != shown[odd]:
            right.setdefault(" / ".join(sorted((shown[a], shown[odd]))), []).append(good)
        if 5 not in (a, b, odd):
            by_class.setdefault(max(int(yaw.classes[i]) for i in (a, b, odd)), []).append(good)
    assert {k: (e.n, e.value) for k, e in found.confusions.items()} == {
        k: (len(v), pytest.approx(np.mean(v))) for k, v in right.items()
    }
    assert len(right) == 15
    for i, name in enumerate(yaw.names):
        each = found.conditions["yaw"][name]
        assert (each.triplet_accuracy.n, each.triplet_accuracy.value) == (
            len(by_class[i]),
            pytest.approx(np.mean(by_class[i])),
        )
        pairs = [
            (i, j) for i, j in combinations(range(108), 2) if persons[i] != persons[j] and 5 not in (i, j)
            and max(yaw.classes[i], yaw.classes[j]) == i_class(name, yaw)
        ]  # fmt: skip
        rank = stats.spearmanr([gap(x, *p) for p in pairs], [gap(ratings, *p) for p in pairs]).statistic
        assert each.rank_correlation.value == pytest.approx(rank, abs=1e-9) and each.rank_correlation.n == len(pairs)


def i_class(name: str, condition: Condition) -> int:
    return condition.names.index(name)


def test_one_draw_of_people_counts_lines_as_often_as_their_people(
    rated: tuple[Floats, Floats, list[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, ratings, persons, _ = rated
    monkeypatch.setattr("exprmetric.metrics.rated.TRIPLETS", 3000)
    lines = RatedLines(ratings, persons, points=0.8, seed=4)
    found = lines.scores(x, resamples=1)
    times = np.random.default_rng(4).multinomial(PEOPLE, np.full(PEOPLE, 1 / PEOPLE))
    drawn = {p: int(n) for p, n in zip(sorted(set(persons)), times, strict=True)}
    kept = [(t, math.prod(drawn[persons[i]] for i in t)) for t in lines.triplets["across"].tolist()]
    good = [gap(x, a, b) < min(gap(x, a, c), gap(x, b, c)) for (a, b, c), _ in kept]
    expected = sum(g * n for g, (_, n) in zip(good, kept, strict=True)) / sum(n for _, n in kept)
    assert found.across.triplet_accuracy.low == found.across.triplet_accuracy.high == pytest.approx(expected)
    kept = [(t, drawn[persons[t[0]]]) for t in lines.triplets["within"].tolist()]  # once, not to the third power
    good = [gap(x, a, b) < min(gap(x, a, c), gap(x, b, c)) for (a, b, c), _ in kept]
    expected = sum(g * n for g, (_, n) in zip(good, kept, strict=True)) / sum(n for _, n in kept)
    assert found.within is not None and found.within.triplet_accuracy.low == pytest.approx(expected)
    pairs = [p for p in combinations(range(108), 2) if persons[p[0]] != persons[p[1]]]
    repeated = [p for p in pairs for _ in range(drawn[persons[p[0]]] * drawn[persons[p[1]]])]
    rank = stats.spearmanr([gap(x, *p) for p in repeated], [gap(ratings, *p) for p in repeated]).statistic
    assert found.across.rank_correlation.low == pytest.approx(rank, abs=1e-9)


def test_a_space_that_is_the_ratings_is_perfect_and_noise_is_chance(
    rated: tuple[Floats, Floats, list[str], list[str]],
) -> None:
    _, ratings, persons, shown = rated
    lines = RatedLines(ratings, persons, points=0.8, expressions=shown)
    perfect = lines.scores(2 * ratings, resamples=10)
    assert perfect.across.triplet_accuracy.value == perfect.across.triplet_accuracy.low == 1
    assert perfect.across.rank_correlation.value == pytest.approx(1)
    assert {e.value for e in perfect.confusions.values()} == {1.0}
    noise = lines.scores(np.random.default_rng(0).normal(size=(108, 4)), resamples=10)
    assert noise.across.triplet_accuracy.value == pytest.approx(1 / 3, abs=0.06)
    assert noise.across.rank_correlation.value == pytest.approx(0, abs=0.08)


def test_two_groups_of_raters_are_compared_in_both_directions(
    rated: tuple[Floats, Floats, list[str], list[str]],
) -> None:
    _, ratings, persons, _ = rated
    generator = np.random.default_rng(0)
    one, other = (
        RatedLines(ratings + 0.4 * generator.normal(size=ratings.shape), persons, points=0.8) for _ in range(2)
    )
    both = one.against(other, resamples=20)
    ways = [a.scores(b.ratings, resamples=5) for a, b in ((one, other), (other, one))]
    for name in ("triplet_accuracy", "rank_correlation"):
        found, each = getattr(both.across, name), [getattr(w.across, name) for w in ways]
        assert found.value == pytest.approx(np.mean([e.value for e in each])) and found.n == sum(e.n for e in each)
        assert found.low < found.value < found.high
    assert both.leak is not None
    assert both.leak.ratio.value == pytest.approx(np.mean([w.leak.ratio.value for w in ways if w.leak]))
    assert 0.8 < both.across.triplet_accuracy.value < 1


def test_sets_without_people_without_repeats_or_without_faces_say_what_they_can() -> None:
    generator = np.random.default_rng(0)
    ratings = generator.random((40, 3))
    alone = RatedLines(ratings).scores(ratings, resamples=10)
    assert alone.within is None and alone.leak is None and alone.across.triplet_accuracy.value == 1
    assert alone.confusions == {} and alone.conditions == {}
    pairs = RatedLines(ratings, [f"p{i // 2}" for i in range(40)]).scores(ratings, resamples=10)
    assert pairs.within is not None and pairs.within.triplet_accuracy.n == 0
    assert math.isnan(pairs.within.triplet_accuracy.value) and pairs.within.rank_correlation.value == pytest.approx(1)
    nobody = RatedLines(np.empty((0, 3)), []).scores(np.empty((0, 5)))
    assert nobody.across.triplet_accuracy.n == 0 and math.isnan(nobody.across.rank_correlation.value)


def test_a_margin_in_points_is_one_in_the_unit_of_the_ratings(
    rated: tuple[Floats, Floats, list[str], list[str]],
) -> None:
    x, ratings, _, _ = rated
    lines = [tuple(t) for t in np.random.default_rng(0).permuted(np.tile(np.arange(108), (400, 1)), axis=1)[:, :3]]
    right = plain_triplets(x, ratings, lines, 1.1)  # type: ignore[arg-type]
    found = triplet_accuracy(x, ratings, triplets=lines, points=1.1, resamples=5)
    assert (found.n, found.value) == (len(right), pytest.approx(np.mean(right)))
    assert triplet_accuracy(10 * x, 10 * ratings, triplets=lines, points=11, resamples=5).n == len(right)


def test_lines_within_one_person_and_pairs_are_all_or_a_draw() -> None:
    people = np.array([0, 0, 0, 0, 1, 1, 2])
    assert draw_within(3, 100, people, 0).tolist() == [[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]]
    assert draw_within(3, 100, np.array([0, 0, 1]), 0).shape == (0, 3)
    many = np.repeat(np.arange(4), (3, 30, 30, 2))
    drawn = draw_within(3, 500, many, 0)
    assert drawn.shape == (500, 3) and (many[drawn] == many[drawn[:, :1]]).all()
    assert all(len(set(t)) == 3 for t in drawn.tolist()) and {1, 2} <= set(many[drawn[:, 0]].tolist())
    assert len(every_pair(10, 45, 0)) == 45 and len(every_pair(11, 45, 0)) <= 45


@pytest.mark.shared
def test_scores_are_those_of_the_shared_tool_within_sampling_noise(
    rated: tuple[Floats, Floats, list[str], list[str]], shared: Path, tmp_path: Path
) -> None:
    tool = shared / "tools" / "score_dev.py"
    if not tool.is_file():
        pytest.skip(f"no {tool}")
    spec = importlib.util.spec_from_file_location("score_dev", tool)
    assert spec is not None and spec.loader is not None
    score_dev = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(score_dev)
    x, ratings, persons, _ = rated
    names = [f"{i}.jpg" for i in range(len(x))]
    with (tmp_path / "ratings.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "person", *TERMS])
        table.writerows([n, p, *r] for n, p, r in zip(names, persons, ratings.tolist(), strict=True))
    for embeddings in (x, np.sqrt(np.abs(x)), x[:, ::2]):
        plain = score_dev.score(tmp_path / "ratings.csv", names, embeddings)
        found = RatedLines(ratings, persons, points=0.8).scores(embeddings, resamples=2)
        assert found.leak is not None
        assert found.across.triplet_accuracy.value == pytest.approx(plain["triplet_acc"], abs=0.006)
        assert found.across.rank_correlation.value == pytest.approx(plain["rsa"], abs=0.005)
        assert found.leak.ratio.value == pytest.approx(plain["leak"], abs=0.03)
        assert found.leak.auc.value == pytest.approx(plain["leak_auc"], abs=0.02)
