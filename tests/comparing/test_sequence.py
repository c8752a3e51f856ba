"""Checkpoints of a run in a row: arithmetic by hand, one set of pairs for all, their order, what is printed."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from exprmetric_cli.main import main
from results import Row, result, row

from exprmetric.comparing.contestants import Contestant, contestants
from exprmetric.comparing.sequence import Run, in_order, sequence
from exprmetric.comparing.sequenced import verdict
from exprmetric.errors import InputError
from exprmetric.evaluation.rows import Rows
from exprmetric.metrics.uncertainty import bootstrap_means
from exprmetric.report.sequence import short_names

NAMES = ("step-1000", "step-200", "step-30")


def checkpoint(folder: Path, factor: float, lost: int = -1) -> list[Row]:
    """Twelve rows whose t2c is `factor` times that of the others; one may be lost."""
    rows = []
    for i in range(12):
        made = row(folder, f"t{i}", f"s{i}", status="no_face" if i == lost else "ok")
        moved = {m: d._replace(t2c=d.t2c * factor) for m, d in made.distances.items()}
        rows.append(replace(made, distances=moved))
    return rows


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, list[Row]]:
    factors = ((0.5, 3), (0.4, 4), (1.0, -1))
    return {n: checkpoint(tmp_path / "in", f, lost) for n, (f, lost) in zip(NAMES, factors, strict=True)}


def measured(runs: dict[str, list[Row]], **settings: str) -> Run:
    return sequence(contestants({name: result(rows) for name, rows in runs.items()}), **settings)  # type: ignore[arg-type]


def test_scores_and_changes_are_plain_arithmetic_over_the_pairs_that_all_measured(runs: dict[str, list[Row]]):
    run = measured(runs)
    assert [(c.name, c.rows, c.ok, c.left_out) for c in run.checkpoints] == [
        ("step-30", 12, 12, 2),
        ("step-200", 12, 11, 1),
        ("step-1000", 12, 11, 1),
    ]
    assert (run.n, run.groups, run.primary) == (10, 10, ("lm68", "mean_t2c"))
    values = {
        n: np.array([r.distances["lm68"].t2c for i, r in enumerate(rows) if i not in (3, 4)])
        for n, rows in runs.items()
    }
    curve = run.primary_curve
    assert curve is not None and run.checkpoints[curve.best].name == "step-200"
    first, best, last = curve.points
    assert [p.value for p in curve.points] == pytest.approx([values[f"step-{n}"].mean() for n in (30, 200, 1000)])
    assert np.isnan(first.change) and best.change == pytest.approx(best.value - first.value)
    assert last.change == last.from_best == pytest.approx(last.value - best.value) and best.from_best == 0
    groups = [f"t{i}" for i in range(12) if i not in (3, 4)]
    apart = bootstrap_means({"x": values["step-1000"] - values["step-200"]}, groups)["x"]
    assert (last.change_low, last.change_high) == pytest.approx(apart)
    assert (best.low, best.high) == pytest.approx(bootstrap_means({"x": values["step-200"]}, groups)["x"])


def test_the_verdict_names_the_best_and_those_that_cannot_be_told_from_it(runs: dict[str, list[Row]]):
    said = verdict(measured(runs))
    assert said[0].startswith("Best by mean t2c of lm68: step-200 (") and said[1].startswith("All others are worse")
    runs["step-200"] = [replace(r, distances={**r.distances}) for r in runs["step-1000"]]
    near = verdict(measured(runs, score="ratio"))
    assert near[0].startswith("Best by ratio of lm68") and "Not shown to be worse" in near[1]
    assert "measure the one that you take on other targets" in near[-1]


def test_numbers_in_names_are_counted_as_numbers_and_other_names_keep_their_order():
    made = [Contestant(n, Rows.from_records([]), {}, "", {}) for n in ("s-1000", "s-200", "s-30")]
    assert [m.name for m in in_order(made)] == ["s-30", "s-200", "s-1000"]
    made.append(replace(made[0], name="best"))
    assert [m.name for m in in_order(made)] == ["s-1000", "s-200", "s-30", "best"]
    assert short_names(["run/step-100", "run/step-2000"]) == ["100", "2000"]
    assert short_names(["a/x.pt", "b/x.pt"]) == ["a", "b"] and short_names(["one"] * 2) == ["one", "one"]


def test_every_form_says_the_same_and_the_page_draws_each_score(runs: dict[str, list[Row]], tmp_path: Path):
    folders = [str(result(rows).save(tmp_path / "run" / name)) for name, rows in runs.items()]
    page = tmp_path / "page.html"
    printed = {
        form: CliRunner().invoke(main, ["compare", *folders, "--sequence", "--format", form])
        for form in ("table", "json", "csv", "markdown", "latex")
    }
    assert {p.exit_code for p in printed.values()} == {0}, [p.output for p in printed.values()]
    run = json.loads(printed["json"].stdout)
    (curve,) = (c for c in run["curves"] if [c["method"], c["score"]] == run["primary"])
    number = f"{curve['points'][1]['value']:.3f} [{curve['points'][1]['low']:.3f}"
    assert all(number in printed[form].stdout for form in ("table", "markdown"))
    rows = list(csv.DictReader(io.StringIO(printed["csv"].stdout)))
    assert [r["checkpoint"] for r in rows[:3]] == ["step-30", "step-200", "step-1000"]
    assert float(rows[1]["mean_t2c"]) == pytest.approx(curve["points"][1]["value"]) and rows[0]["change"] == ""
    assert r"\toprule" in printed["latex"].stdout
    drawn = CliRunner().invoke(main, ["compare", *folders, "--sequence", "-m", "lm68", "--out", str(page)])
    assert drawn.exit_code == 0 and page.read_text().count('class="curve"') == 3 and "step-200" in page.read_text()


def test_checkpoints_that_share_nothing_are_no_sequence(runs: dict[str, list[Row]], tmp_path: Path):
    away = [row(tmp_path / "other", f"x{i}", f"y{i}") for i in range(3)]
    folders = [str(result(rows).save(tmp_path / n)) for n, rows in (("a", runs["step-30"]), ("b", away))]
    ended = CliRunner().invoke(main, ["compare", *folders, "--sequence", "--out", str(tmp_path / "page.html")])
    assert ended.exit_code == 1 and "No checkpoint shares" in ended.stdout
    with pytest.raises(InputError, match="two checkpoints or more"):
        sequence(contestants({"a": result(runs["step-30"])}))
    other = result(runs["step-200"], weights="others")
    mixed = sequence(contestants({"a": result(runs["step-30"]), "b": other}))
    assert mixed.left_out.keys() == {"lm68", "other"}
    assert all(why.startswith("not the same weights: ") for why in mixed.left_out.values())
