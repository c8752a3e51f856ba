"""The one command of the table of recipes: equal budgets, seeds, and what a cell joins. Nothing is trained here."""

from __future__ import annotations

import json
import math
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import torch

from exprmetric.encoder.onnx_file import load_encoder
from exprmetric.training.recipes import load_recipe

EXAMPLES = Path(__file__).parents[1] / "examples"
pytestmark = pytest.mark.torch


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return import_module("recipes")


def test_every_row_sees_as_many_faces_with_every_seed(recipes: ModuleType) -> None:
    runs = recipes.planned(list(recipes.ROWS), [0, 1, 2], 36000)
    assert len({r.name for r in runs}) == len(runs) == 3 * len(recipes.ROWS)
    seen = {r.settings["epochs"] * r.settings["limit"] for r in runs if not r.row.startswith("start")}
    assert seen == {36000}
    assert {r.settings["seed"] for r in runs} == {0, 1, 2}
    for run in runs[: len(recipes.ROWS)]:
        load_recipe(run.recipe).settings(**{k: v for k, v in run.settings.items() if k != "pretrained"})


def test_paper_003s_rows_have_its_best_target_similarity_and_the_low_one_beside_it(recipes: ModuleType) -> None:
    similarity = {row: s["target_similarity"] for row, (_, _, s) in recipes.ROWS.items() if row.startswith("003")}
    assert {row for row, value in similarity.items() if value == 0.2} == {
        "003-rw-random-ld-0.2",
        "003-rw-landmarks-ld-0.2",
    }
    assert {value for row, value in similarity.items() if not row.endswith("0.2")} == {0.6}


def test_fine_tuning_begins_with_the_rows_encoder_and_tells_seven_classes(recipes: ModuleType, tmp_path: Path) -> None:
    run = recipes.finetuning("000-wsupcon-resnet50v2", tmp_path / "encoder.pt", 36000, 1)
    config = load_recipe(run.recipe).settings(**{**run.settings, "init": str(run.settings["init"])})
    assert (config.backbone, config.classes_told, config.init) == ("resnet50v2", 7, str(tmp_path / "encoder.pt"))
    assert run.data == ["rafdb"] and not config.weighted and not config.pretrained


def test_the_shipped_encoder_can_be_fine_tuned_beside_the_rows(recipes: ModuleType) -> None:
    run = recipes.finetuning("default", recipes.SHIPPED["default"], 36000, 2)
    assert run.name == "default@2"
    config = load_recipe(run.recipe).settings(**{**run.settings, "init": str(run.settings["init"])})
    encoder = config.encoder()
    start = load_encoder(recipes.SHIPPED["default"])[0].backbone.state_dict()
    assert all(torch.equal(start[name], value) for name, value in encoder.backbone.state_dict().items())


def test_colour_is_fine_tuned_as_colour(recipes: ModuleType, tmp_path: Path) -> None:
    run = recipes.finetuning("start-rgb", tmp_path / "encoder.pt", 36000, 0)
    assert run.settings["color"] == "rgb"
    assert "color" not in recipes.finetuning("start", tmp_path / "encoder.pt", 36000, 0).settings


def test_a_cell_joins_the_interval_over_faces_with_that_over_seeds(recipes: ModuleType, tmp_path: Path) -> None:
    table = import_module("recipes_table")
    assert table.joined([]) == table.joined([(math.nan, 1.0)]) == ""
    assert table.joined([(60.0, 1.5)]) == "60.0 ±1.5"
    # three seeds: spread 1, so 4.30 / √3 over seeds, and 1.5 over faces
    assert table.joined([(59.0, 1.5), (60.0, 1.5), (61.0, 1.5)]) == f"60.0 ±{math.hypot(1.5, 4.30 / math.sqrt(3)):.1f}"

    def score(value: float) -> dict[str, Any]:
        return {"value": value, "ci95": [value - 0.01, value + 0.01], "n": 100}

    encoders = {"a": {"linear": {"accuracy": score(0.5)}, "leak": {"not_measured": "nobody is known"}}}
    encoders |= {"a@1": {"linear": {"accuracy": score(0.7)}}, "lm68": {"linear": {"accuracy": score(0.4)}}}
    (tmp_path / "protocols.json").write_text(json.dumps({"sets": {"rafdb": {"encoders": encoders}}}))
    for name in ("a", "a@1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"limit": 300, "batch": 128}))
        (tmp_path / name / "log.jsonl").write_text("{}\n{}\n")
    (tmp_path / "finetuned" / "a").mkdir(parents=True)
    (tmp_path / "finetuned" / "a" / "scores.json").write_text(json.dumps({"test": {"accuracy": 0.8, "n": 400}}))
    lines = table.write_table(tmp_path, ["a", "a@1"]).read_text().splitlines()
    assert lines[0] == "| encoder | views | seeds | rafdb: linear | rafdb: fine-tuned |"
    half = math.hypot(1.0, 12.71 * math.sqrt(200) / math.sqrt(2))
    assert lines[2] == f"| a | 512 | 2 | 60.0 ±{half:.1f} | 80.0 ±3.9 |"
    assert lines[4] == "| lm68 |  |  | 40.0 ±1.0 |  |"


def test_the_judges_are_asked_with_options_that_they_have(
    recipes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from exprmetric_cli.main import main

    asked: list[list[str]] = []
    monkeypatch.setattr(recipes.subprocess, "run", lambda command, **how: asked.append(command))
    data = [tmp_path / f"{name}.zip" for name in ("ferplus", "lfw_expressions", "rafdb")]
    for path in data:
        path.touch()
    recipes.judge(["a"], tmp_path, tmp_path / "out", [tmp_path])
    assert len(asked) == 2
    for command in asked:
        words = command[command.index("probe") :]
        main.make_context("exprmetric", words, resilient_parsing=False)
        group = main.get_command(main.context_class(main), "probe")
        assert isinstance(group, click.Group)
        command_asked = group.get_command(group.context_class(group), words[1])
        assert command_asked is not None
        command_asked.make_context(words[1], words[2:])  # a UsageError for an option that it doesn't have
