"""`--preset paper`: the table of face-swap papers, with dashes and commands where weights are missing."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from exprmetric_cli.main import main
from results import result, row
from swaps import small_folder

from exprmetric.comparing import paper
from exprmetric.comparing.paper import paper_methods, paper_sheet, papers_sheet
from exprmetric.evaluation.result import EvaluationResult


def score(value: float) -> dict[str, Any]:
    return {"value": value, "ci95": [value - 0.1, value + 0.1]}


def methods(level: float) -> dict[str, Any]:
    """Of one model: all errors at one level."""
    names = ("default", "pose", "gaze")
    return {m: {"n": 8, "l2_error": score(level), "mean_t2c": score(level), "ratio": score(1 - level)} for m in names}


def summary(**levels: float) -> dict[str, Any]:
    retrieval = {name: {"n": 8, "rank1": score(1 - level)} for name, level in levels.items()}
    return {
        "exprmetric_version": "1",
        "coverage": {"triplets": 8 * len(levels), "ok": 8 * len(levels), "failed": {}},
        "detector": {"fingerprint": "dlib"},
        "methods": {m: {**s, "fingerprint": m} for m, s in methods(0.5).items()},
        "groups": {
            name: {"coverage": {"triplets": 8, "ok": 8, "failed": {}}, "methods": methods(level)}
            for name, level in levels.items()
        },
        "id_retrieval": {"n": 16, "network": "identity", "gallery_size": 5, "rank1": score(0.5), "models": retrieval},
    }


def test_each_model_is_a_row_and_the_best_is_best_in_every_column() -> None:
    sheet = paper_sheet(summary(good=0.2, bad=0.4))
    assert [str(row.cells[0]) for row in sheet.rows] == ["good", "bad"]
    headings = [column.heading for column in sheet.columns]
    assert headings == [
        "model", "n", "ID retrieval ↑", "pose ↓ (°)", "expression ↓", "gaze ↓ (°)", "L2 error ↓", "ratio ↑",
    ]  # fmt: skip
    assert {place: rank for place, rank in sheet.ranks().items() if place[0] == 0} == {(0, i): 1 for i in range(2, 8)}


def test_latex_is_a_booktabs_table_with_coverage_and_versions_below(capsys: pytest.CaptureFixture[str]) -> None:
    class Result:
        summary = globals()["summary"](good=0.2, bad=0.4)

    paper.paper_page(Result()).say("latex")  # type: ignore[arg-type]
    text = capsys.readouterr().out
    assert r"\toprule" in text and r"\textbf{0.200" in text and r"\underline{0.400" in text
    assert "16 of 16 triplets measured" in text and "exprmetric 1" in text and "among 5" in text


def test_a_column_whose_weights_are_missing_is_a_dash_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper.weights, "is_present", lambda name: False)
    monkeypatch.setattr(paper, "find_spec", lambda name: None)
    assert paper_methods() == ("default", "pose")
    some = summary(only=0.2)
    some["methods"].pop("gaze")
    some["groups"] = {}
    sheet = paper_sheet(some)
    assert str(sheet.rows[0].cells[5]) == "–"
    assert (
        "exprmetric weights pull mediapipe-face-landmarker, then pip install 'exprmetric[mediapipe]'" in sheet.notes[0]
    )


@pytest.mark.slow
def test_one_command_prints_it(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = small_folder(tmp_path_factory)
    monkeypatch.setattr(paper, "paper_methods", lambda: ("default", "pose"))
    manifest = tmp_path / "three.csv"
    with manifest.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["target", "source", "swapped"])
        for swapped in sorted((folder / "swapped").iterdir())[:3]:
            rows.writerow([str(folder / role / swapped.name) for role in ("target", "source", "swapped")])
    asked = [
        "evaluate",
        str(manifest),
        "--preset",
        "paper",
        "--detector",
        "dlib",
        "--no-cache",
        "-q",
        "--format",
        "csv",
    ]
    done = CliRunner().invoke(main, asked)
    assert done.exit_code == 0, done.output
    (row,) = csv.DictReader(done.stdout.splitlines())
    assert row["model"] == "all" and row["n"] == "3" and row["gaze"] == ""
    assert 0 <= float(row["id_retrieval"]) <= 1 and 0 < float(row["pose"]) < 20 and float(row["expression"]) > 0


def made(tmp_path: Path, seed: int, targets: int = 6, weights: str = "w") -> EvaluationResult:
    rows = [row(tmp_path / "in", f"t{i}", f"s{i}", seed=seed, methods=("default", "pose")) for i in range(targets)]
    found = result(rows, methods=("default", "pose"), weights=weights)
    found.summary["id_retrieval"] = {"n": targets, "network": "identity", "gallery_size": targets, "rank1": score(0.5)}
    return found


def test_results_stand_in_one_table_and_what_is_not_comparable_is_left_out(tmp_path: Path) -> None:
    both = {"A": made(tmp_path, 1), "B": made(tmp_path, 2)}
    sheet = papers_sheet(both)
    assert [[str(c) for c in r.cells[:3]] for r in sheet.rows] == [[n, "6", "0.500 [0.400, 0.600]"] for n in "AB"]
    for name, cells in ((r.cells[0], r.cells) for r in sheet.rows):
        scores = both[str(name)].summary["methods"]
        assert [cells[i].value for i in (3, 4, 6)] == [  # type: ignore[union-attr]
            scores["pose"]["mean_t2c"]["value"],
            scores["default"]["mean_t2c"]["value"],
            scores["default"]["l2_error"]["value"],
        ]
    assert not [note for note in sheet.notes if "pairs" in note]
    other = papers_sheet({"A": both["A"], "C": made(tmp_path, 3, targets=5, weights="other")})
    assert [str(c) for r in other.rows for c in r.cells[2:5]] == ["–"] * 6
    assert any("5 of 6 pairs of target and source were measured for all models" in note for note in other.notes)


def test_compare_prints_the_table_of_papers_in_every_form(tmp_path: Path) -> None:
    folders = [str(made(tmp_path, i).save(tmp_path / name)) for i, name in enumerate("AB")]
    for form in ("table", "json", "csv", "markdown", "latex"):
        done = CliRunner().invoke(main, ["compare", *folders, "--preset", "paper", "--format", form])
        assert done.exit_code == 0 and "0.500" in done.stdout.replace("0.5,", "0.500"), done.output
    refused = CliRunner().invoke(main, ["compare", *folders, "--preset", "paper", "--out", str(tmp_path / "x.html")])
    assert refused.exit_code == 2 and "--preset prints one table" in refused.stderr
