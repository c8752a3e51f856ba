"""The examples run, shortened, and do what they say."""

from __future__ import annotations

import ast
import json
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import exprmetric

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SCORES = {"l2_error", "mean_t2c", "ratio", "mean_s2c", "mean_s2t"}
SCORES |= {"kept", "kept_nothing_swapped", "kept_source_pasted"}
CONTROL = "pixels_to_source"

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]


def needs(*packages: str) -> None:
    """Skip where a package is missing: none of them is one of exprmetric's own."""
    for package in packages:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):  # type: ignore[no-untyped-def]
    """`example("training_loop")` is that file as a module; what it writes goes nowhere else than to a new folder."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)
    return import_module


@pytest.fixture(scope="module")
def faces() -> tuple[torch.Tensor, torch.Tensor]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        found: tuple[torch.Tensor, torch.Tensor] = import_module("bundled_faces").aligned_faces()
    return found


def test_faces_are_several_people_each_with_a_mirror_image(faces: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, people = faces
    count = len(images) // 2
    assert count >= 4 and images.shape == (2 * count, 3, 112, 112)
    assert people.tolist() == 2 * list(range(count))
    assert torch.equal(images[:count].flip(3), images[count:])
    assert float(images.min()) >= 0 and 0.5 < float(images.max()) <= 1


class TestTrainingLoop:
    def test_it_logs_both_runs(self, example, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
        loop: ModuleType = example("training_loop")
        curves = loop.main(["--steps", "2", "--out", "log"])
        lines = [json.loads(line) for line in (tmp_path / "log" / "log.jsonl").read_text().splitlines()]
        assert [(line["run"], line["step"]) for line in lines] == [(run, step) for run in loop.RUNS for step in (0, 2)]
        assert set(lines[0]) == {"run", "step", CONTROL, *SCORES}
        (_, first), (_, other) = (curve[0] for curve in curves.values())
        assert first == other  # they start as the same generator
        assert all(np.isfinite(list(scores.values())).all() for curve in curves.values() for _, scores in curve)

    def test_its_people_are_not_those_it_is_judged_on(self, example) -> None:  # type: ignore[no-untyped-def]
        known, unseen = example("training_loop").split()
        assert len(known) and len(unseen)
        assert torch.cdist(known.flatten(1), unseen.flatten(1)).min() > 1

    @pytest.mark.slow
    def test_the_loss_teaches_what_pixels_do_not(self, example) -> None:  # type: ignore[no-untyped-def]
        train = example("training_loop").train
        *_, (_, pixels) = train(0.0, 40, every=40)
        (_, before), (_, taught) = train(0.5, 40, every=40)
        assert taught["mean_t2c"] < 0.5 * before["mean_t2c"] < before["mean_t2c"] < pixels["mean_t2c"]
        assert taught[CONTROL] > pixels[CONTROL]  # and that this has its price

    def test_the_curves_are_drawn(self, example, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
        needs("matplotlib")
        scores = {"mean_t2c": 0.1, CONTROL: 0.2}
        example("training_loop").draw({"one": [(0, scores), (9, scores)], "two": [(0, scores)]}, tmp_path / "c.svg")
        drawn = (tmp_path / "c.svg").read_text()
        assert all(f"<!-- {text} -->" in drawn for text in ("one", "two", "training step", "expression: mean t2c"))


def test_lightning_logs_the_scores_of_both_stages(example) -> None:  # type: ignore[no-untyped-def]
    needs("lightning")
    module: ModuleType = example("lightning_callback")
    scores = module.main(["--epochs", "1"])
    assert {f"{stage}/{name}" for stage in ("train", "valid") for name in SCORES} <= set(scores)
    assert all(0 <= value <= 2 for value in scores.values())
    assert 0 < scores["train/mean_s2t"] != scores["valid/mean_s2t"] > 0
    assert all(name.startswith("generator.") for name in module.Swapper().state_dict())


def test_lightning_validation_scores_are_the_metrics(example, faces: tuple[torch.Tensor, ...]) -> None:  # type: ignore[no-untyped-def]
    needs("lightning")
    callback = example("lightning_callback").ExpressionCallback()
    target, source, swapped = faces[0][:2], faces[0][2:4], faces[0][1:3]
    callback.on_validation_batch_end(None, None, {"swapped": swapped}, (target, source), 0)
    plain = exprmetric.torch.ExpressionPreservation()
    plain.update(target, source, swapped)
    assert callback.metrics["valid"].compute() == plain.compute()
    assert int(callback.metrics["train"].count) == 0


class TestLogging:
    def test_tensorboard_holds_the_scores(self, example, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
        needs("tensorboard")
        with example("logging_tensorboard").tensorboard(tmp_path) as log:
            log(0, {"ratio": 0.25})
            log(7, {"ratio": 0.75})
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        found = EventAccumulator(str(tmp_path)).Reload().Scalars("expression/ratio")
        assert [(event.step, event.value) for event in found] == [(0, 0.25), (7, 0.75)]

    def test_it_runs(self, example, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
        needs("tensorboard")
        example("logging_tensorboard").main(["--steps", "1", "--out", "events"])
        assert list((tmp_path / "events").glob("events.out.tfevents.*"))

    @pytest.mark.slow
    def test_wandb_needs_no_account(self, example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
        needs("wandb")
        monkeypatch.delenv("WANDB_API_KEY", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        with example("logging_tensorboard").wandb_offline(tmp_path) as log:
            log(3, {"ratio": 0.75})
        (written,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
        deadline = time.monotonic() + 60  # its own process may still be writing
        while b"expression/ratio" not in written.read_bytes():
            assert time.monotonic() < deadline, "the score was never written"
            time.sleep(0.1)


def test_a_hugging_face_data_set_is_measured(example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    needs("datasets")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    measured = example("huggingface_dataset").main(["--count", "2", "--out", "swaps.parquet"])
    assert (tmp_path / "swaps.parquet").is_file()
    assert list(measured["status"]) == ["ok", "ok"] and list(measured["reason"]) == ["", ""]
    row = measured[1]
    pictures = [np.asarray(row[role].convert("RGB")) for role in ("target", "source", "swapped")]
    expected = exprmetric.evaluate_triplet(*pictures, methods=["default"])["default"]
    assert {name: row[f"default.{name}"] for name in expected} == pytest.approx(expected, abs=1e-6)


class TestNotebook:
    @pytest.fixture
    def cells(self) -> list[dict]:  # type: ignore[type-arg]
        found: list[dict] = json.loads((EXAMPLES / "notebook.ipynb").read_text())["cells"]  # type: ignore[type-arg]
        return found

    def test_no_outputs_are_in_it(self, cells: list[dict]) -> None:  # type: ignore[type-arg]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        assert len(code) >= 4
        assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)

    def test_the_page_is_of_this_notebook(self, cells: list[dict]) -> None:  # type: ignore[type-arg]
        page = (ROOT / "docs" / "notebook.md").read_text(encoding="utf-8")
        assert all("".join(cell["source"]).strip() in page for cell in cells)
        pictures = [line.split("(")[1].rstrip(")") for line in page.splitlines() if line.startswith("![")]
        assert len(pictures) == 3 and all((ROOT / "docs" / picture).is_file() for picture in pictures)
        assert not any(told in page for told in ("Warning", "Traceback", "site-packages"))

    @pytest.mark.slow
    def test_it_runs(self, example, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
        needs("nbconvert", "ipykernel")
        page = example("render_notebook").render(tmp_path).read_text(encoding="utf-8")
        assert "| default | 20 |" in page and "torch 1." in page
        assert len(list((tmp_path / "images").glob("notebook_*.jpg"))) == 3


def test_one_training_leaves_out_each_set_and_all_are_judged_on_all_sets(example, monkeypatch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from click.testing import CliRunner

    module = example("leave_one_set_out")
    commands: list[list[str]] = []
    monkeypatch.setattr(module, "exprmetric", lambda words, standalone_mode: commands.append(words))
    sets = [tmp_path / name for name in ("one.zip", "two.zip", "three")]
    for path in sets:
        path.mkdir()
    named = [word for path in sets for word in ("--data", str(path))]
    out = tmp_path / "out"
    options = ["--rated", "mine=rated", "--recipe", "classification", "--set", "epochs=1", "--out", str(out)]
    for _ in range(2):  # again, it goes on
        commands.clear()
        result = CliRunner().invoke(module.main, [*named, *options])
        assert result.exit_code == 0, result.output
    trained = {c[-1].removeprefix(f"--out={out}/"): c for c in commands if c[0] == "train"}
    assert list(trained) == ["all", "without-one", "without-two", "without-three"]
    for name, command in trained.items():
        assert command[1] == "classification" and "--set=epochs=1" in command
        used = [word.removeprefix("--data=") for word in command if word.startswith("--data=")]
        assert used == [str(p) for p in sets if name != f"without-{p.stem}"]
        assert (out / name / "alignment").resolve() == out / "alignment"  # faces are aligned once
    protocols, agreement = commands[4:]
    spaces = [f"--checkpoint={name}={out / name / 'encoder.pt'}" for name in trained]
    assert protocols[:2] == ["probe", "protocols"] and protocols[2:5] == [str(p) for p in sets]
    assert agreement[:3] == ["probe", "agreement", "mine=rated"]
    assert set(spaces) <= set(protocols) and set(spaces) <= set(agreement)
    assert CliRunner().invoke(module.main, [*named[:2], *named[:2], "--out", str(out)]).exit_code == 2


@pytest.mark.parametrize(
    "path", sorted([*EXAMPLES.glob("*.py"), *(ROOT / "benchmarks").glob("*.py")]), ids=lambda p: p.name
)
def test_every_name_that_an_example_or_a_benchmark_imports_of_the_package_is_there(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "exprmetric":
            module = import_module(node.module or "")
            for name in node.names:
                assert hasattr(module, name.name) or find_spec(f"{node.module}.{name.name}"), name.name
