"""The verdict says in plain words what the intervals carry, and nothing beyond them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from results import result, row
from test_tables import a_result as tables_result
from test_tables import a_row, printed

from exprmetric.evaluation.kept import add_kept, with_kept
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.evaluation.rows import columns_of
from exprmetric.evaluation.verdict import primary, verdict
from exprmetric.metrics.kept import Judged, KeptMap
from exprmetric.metrics.resampling import Estimate


def score(value: float, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "ci95": [low, high]}


def a_summary(**more: Any) -> dict[str, Any]:
    return {
        "coverage": {"triplets": 100, "ok": 100, "failed": {}},
        "alarms": [],
        "methods": {"default": {"mean_t2c": score(0.2, 0.18, 0.22), "anchors": {"source_pasted": {"mean_t2c": 0.5}}}},
        "identity": {"n": 100, "nearer_to_source": score(0.9, 0.85, 0.95)},
        "detector": {"ran": "scrfd"},
    } | more


def said(groups: int = 50, models: tuple[str, ...] = (), **more: Any) -> str:
    return " ".join(verdict(a_summary(**more), groups, models))


def test_a_sound_result_says_what_was_measured_moved_and_kept_and_no_limit():
    text = said()
    assert text == (
        "100 of 100 swaps could be measured. The new face is nearer to the source's identity than to the target's in "
        "90 % (95 % interval 85 % to 95 %) of them. On the way from the target's expression (0 %) to the source's "
        "(100 %) it stands at 40 % (95 % interval 36 % to 44 %) (default)."
    )


@pytest.mark.parametrize(
    ("nearer", "words"),
    [
        (score(0.1, 0.05, 0.2), "most were hardly swapped"),
        (score(0.55, 0.45, 0.65), "it is open whether most were swapped"),
        (score(0.9, 0.8, 0.95), "of them."),
        (score(1.0), "in 100 % of them."),
    ],
)
def test_the_identity_is_said_to_have_moved_only_where_the_interval_says_so(nearer: dict[str, Any], words: str):
    text = said(identity={"n": 9, "nearer_to_source": nearer})
    assert words in text and ("hardly" in text) == ("hardly" in words) and ("open" in text) == ("open" in words)


def test_kept_enters_the_verdict_only_where_its_map_is_calibrated():
    for calibrated in (True, False):
        kept = score(0.58, 0.54, 0.62) | {"calibrated": calibrated, "error": 0.05}
        anchors = {"nothing_swapped": {"kept": 0.68}, "source_pasted": {"kept": 0.31, "mean_t2c": 0.5}}
        text = said(methods={"default": {"mean_t2c": score(0.2), "kept": kept, "anchors": anchors}})
        assert ("58 % (95 % interval 54 % to 62 %) of the cases" in text) == calibrated
        assert ("68 % when both look at one face, 31 % if the source's face had been pasted" in text) == calibrated


def test_what_limits_the_claim_is_said():
    assert "only 7 independent groups" in said(groups=7) and "one group" in said(groups=1)
    assert "10 % could not be measured" in said(coverage={"triplets": 100, "ok": 90, "failed": {"no_face": 10}})
    assert "An alarm stands" in said(alarms=["x"]) and "2 alarms stand" in said(alarms=["x", "y"])
    assert "dlib's detector" in said(detector={"ran": "dlib"})
    assert "Whether the identity changed was not measured" in said(identity=None)
    assert "Nothing can be said" in said(coverage={"triplets": 3, "ok": 0, "failed": {"no_face": 3}})
    assert "interval" not in said(models=("A", "B")) and "exprmetric compare" in said(models=("A", "B"))


def test_the_primary_method_says_something_about_expressions():
    assert primary(["lm68", "default"]) == "default" and primary(["identity", "lm68"]) == "lm68"


MAP = KeptMap((0.0, 1.0), (0.8, 0.2), {"set": Judged(Estimate(0.15, 0.1, 0.2, 9), (), ())}, {})


def with_map(tmp_path: Any) -> tuple[EvaluationResult, list[float]]:
    made = result([row(tmp_path, f"t{i}", "s", model="AB"[i % 2]) for i in range(6)])
    t2c = [r["lm68.t2c"] for r in made.triplets]
    add_kept(made.summary, made.rows, {"lm68": MAP}, on_fail="exclude", seed=0)
    return EvaluationResult(made.summary, with_kept(made.rows, {"lm68": MAP})), t2c


def test_kept_is_the_mean_of_the_mapped_distances_for_all_for_each_model_and_for_both_anchors(tmp_path: Any):
    made, t2c = with_map(tmp_path)
    expected = 0.8 - 0.6 * np.array(t2c)
    assert [r["lm68.kept"] for r in made.triplets] == pytest.approx(expected)
    found = made.summary["methods"]["lm68"]
    assert found["kept"]["value"] == pytest.approx(expected.mean())
    assert found["kept"]["ci95"][0] < expected.mean() < found["kept"]["ci95"][1]
    assert not found["kept"]["calibrated"] and found["kept"]["error"] == 0.15
    assert found["anchors"]["nothing_swapped"]["kept"] == 0.8
    s2t = np.array([r["lm68.s2t"] for r in made.triplets])
    assert found["anchors"]["source_pasted"]["kept"] == pytest.approx((0.8 - 0.6 * s2t).mean())
    assert made.summary["groups"]["A"]["methods"]["lm68"]["kept"]["value"] == pytest.approx(expected[::2].mean())
    assert "kept" not in made.summary["methods"]["other"]


def test_kept_stands_in_the_files_behind_the_distances_and_is_read_back(tmp_path: Any):
    made, _ = with_map(tmp_path)
    again = EvaluationResult.load(made.save(tmp_path / "out"))
    assert again.triplets == made.triplets and again.summary["methods"] == made.summary["methods"]
    columns = columns_of(["lm68", "other"], ["lm68"])
    assert columns[columns.index("lm68.s2t") + 1] == "lm68.kept" and "other.kept" not in columns


@pytest.mark.parametrize("form", ["table", "markdown", "latex"])
def test_a_kept_that_is_not_calibrated_is_marked_in_every_table(form: str, capsys: pytest.CaptureFixture[str]):
    made = tables_result([a_row(1), a_row(2)])
    add_kept(made.summary, made.rows, {"lm68": MAP}, on_fail="exclude", seed=0)
    text = " ".join(printed(made, form, capsys).split())
    mark = r"$\ddagger$" if form == "latex" else "‡"
    assert f"0.200 {mark}" in text and "not calibrated" in text and "lm68 by 0.15" in text
