"""`--preset paper`: the table of face-swap papers, with dashes and commands where weights are missing."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from exprmetric_cli.main import main
from swaps import small_folder

from exprmetric.evaluation import paper
from exprmetric.evaluation.paper import paper_methods, paper_sheet


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

    paper.print_paper(Result(), "latex")  # type: ignore[arg-type]
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
