"""`kept`: the probability that a rater of one face and a rater of the other give the same answer, from a distance."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from results import row, rows_of

from exprmetric.errors import InputError
from exprmetric.evaluation.kept import add_kept
from exprmetric.evaluation.summary import summarise
from exprmetric.io.plain import plain
from exprmetric.metrics.kept import LIMIT, Judged, KeptMap, agreement, ceiling, falling, fit, judge, spread
from exprmetric.metrics.resampling import Estimate
from exprmetric.probes.answers import answered_set
from exprmetric.weights import kept_maps as maps


def test_two_raters_agree_as_often_as_when_they_are_drawn_one_by_one():
    generator = np.random.default_rng(0)
    votes = generator.multinomial(10, [0.5, 0.3, 0.2], size=2)
    answers = [np.repeat(np.arange(3), v) for v in votes]
    between = np.mean([a == b for a in answers[0] for b in answers[1]])
    shares = votes / 10
    assert agreement(shares, np.array([0]), np.array([1])) == pytest.approx([between])
    within = [np.mean([x[i] == x[j] for i in range(10) for j in range(10) if i != j]) for x in answers]
    assert ceiling(shares, [10, 10]) == pytest.approx(np.mean(within))
    assert ceiling(shares, [10, 1]) == pytest.approx(within[0])  # one rater alone agrees with nobody


def test_the_falling_fit_is_the_isotonic_regression_of_sklearn():
    sklearn = pytest.importorskip("sklearn.isotonic")
    generator = np.random.default_rng(1)
    y, w = generator.random(60) - np.linspace(0, 1, 60), generator.random(60) + 0.1
    expected = sklearn.IsotonicRegression(increasing=False).fit_transform(np.arange(60), y, sample_weight=w)
    assert np.allclose(falling(y, w), expected)


def test_pairs_that_count_are_spread_over_all_distances():
    d = np.random.default_rng(2).beta(8, 2, 100_000)
    counts = np.histogram(d[spread(d)], bins=10, range=(0, np.quantile(d, 0.99)))[0]
    assert counts[4:].max() < 1.3 * counts[4:].min()  # random pairs: nearly all in the last


def the_truth(d: np.ndarray) -> np.ndarray:
    return 0.8 * np.exp(-2 * d)


def test_a_map_finds_the_probability_that_made_the_answers_and_says_how_far_off_it_is_elsewhere():
    generator = np.random.default_rng(3)
    d = generator.uniform(0, 1.5, 8000)
    same = (generator.random(8000) < the_truth(d)).astype(float)
    made = fit([(d, same, 0.8)])
    grid = np.linspace(0, 1.4, 30)
    assert np.abs(made(grid) - the_truth(grid)).max() < 0.05
    assert (np.diff(made(grid)) <= 0).all() and made(0.0) == made.ceiling == 0.8
    assert np.isnan(made(np.nan)) and made(99.0) == made.probabilities[-1]
    pairs, people = generator.integers(0, 100, (8000, 2)), np.arange(100)
    good = judge(made, d, same, pairs, people)
    assert good.error.value < 0.03 and good.error.high < 0.05
    bad = judge(made, d, (generator.random(8000) < the_truth(d) / 2).astype(float), pairs, people)
    level = np.array_split(np.sort(the_truth(d)), 10)
    assert bad.error.value == pytest.approx(np.mean([part.mean() / 2 for part in level]), abs=0.02)
    assert bad.error.n == 8000 and len(bad.predicted) == len(bad.observed) == 10


def test_a_map_counts_as_calibrated_only_where_every_left_out_set_says_so():
    def judged(error: float) -> Judged:
        return Judged(Estimate(error, error, error, 1), (), ())

    assert not KeptMap((0.0,), (0.7,)).calibrated  # nothing was left out
    assert KeptMap((0.0,), (0.7,), {"a": judged(LIMIT)}).calibrated
    assert not KeptMap((0.0,), (0.7,), {"a": judged(0.01), "b": judged(LIMIT + 0.001)}).calibrated


def test_a_map_is_read_back_as_it_was_written_and_belongs_to_its_weights_and_distance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = KeptMap((0.0, 0.5), (0.7, 0.2), {"set": Judged(Estimate(0.05, float("nan"), 0.07, 9), (0.2,), (0.3,))}, {})
    text = json.dumps({"maps": {maps.key("weights-1", "l2"): plain(made)}}, allow_nan=False)
    (tmp_path / "kept.json").write_text(text)
    monkeypatch.setattr(maps, "SHIPPED", tmp_path / "kept.json")
    maps.shipped.cache_clear()
    try:
        read = maps.kept_map("weights-1", "l2")
        assert read is not None and read([0.25]) == pytest.approx([0.45]) and read.error == 0.05
        assert plain(read) == plain(made)
        assert maps.kept_map("weights-2", "l2") is None is maps.kept_map("weights-1", "cosine")
    finally:
        maps.shipped.cache_clear()


def test_answers_are_the_term_that_each_rater_rates_highest_and_neutral_where_nothing_is(tmp_path: Path):
    said = {"a.png": [(3, 0), (2, 2), (0, 0)], "b.png": [(0, 1), (0, 4), (1, 0)]}
    for name in said:
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    with (tmp_path / "raw_ratings.csv").open("w", newline="") as file:
        rows = [[name, f"r{i}", *row] for name, rows in said.items() for i, row in enumerate(rows)]
        csv.writer(file).writerows([["image", "rater", "happy", "sad"], *rows])
    with (tmp_path / "ratings.csv").open("w", newline="") as file:
        means = [[name, *np.mean(rows, axis=0)] for name, rows in said.items()]
        csv.writer(file).writerows([["image", "happy", "sad"], *means])
    found = answered_set(tmp_path)
    assert found.raters.tolist() == [3, 3]
    assert found.shares == pytest.approx(np.array([[1.5, 0.5, 1], [1, 2, 0]]) / 3)


def test_a_set_of_means_alone_has_no_answers(tmp_path: Path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "ratings.csv").write_text("image,happy\na.png,2.5\n")
    with pytest.raises(InputError, match="no rater's own answers"):
        answered_set(tmp_path)


def test_each_part_that_scores_are_split_by_has_kept_and_so_has_each_model_in_it(tmp_path: Path):
    rows = rows_of([row(tmp_path, f"t{i}", "s", model="AB"[i % 2]) for i in range(6)], ["lm68"])
    table = rows.table.set_column(rows.table.column_names.index("faces_target"), "faces_target", [[1, 1, 1, 3, 3, 3]])
    rows, made = type(rows)(table), KeptMap((0.0, 2.0), (0.8, 0.2))
    summary = summarise(rows, ["lm68"], None, by=["faces"])
    add_kept(summary, rows, {"lm68": made}, on_fail="exclude", seed=0)
    expected, models = made(rows.distance("lm68", "t2c")), np.array([0, 1] * 3)
    for part, of_part in zip(summary["by"]["faces"].values(), (slice(0, 3), slice(3, 6)), strict=True):
        assert part["methods"]["lm68"]["kept"]["value"] == pytest.approx(expected[of_part].mean())
        for i, own in enumerate(part["models"].values()):
            mean = expected[of_part][models[of_part] == i].mean()
            assert own["methods"]["lm68"]["kept"]["value"] == pytest.approx(mean)
