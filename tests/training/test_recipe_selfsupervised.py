"""Self-supervised pre-training: views, settings, that it learns from real faces, resumes, and is exported."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from few_faces import Tiny, few_faces, log_of, run_folder

from exprmetric.datasets.arrays import FaceArrays
from exprmetric.encoder.export import export_encoder, load_encoder
from exprmetric.errors import InputError
from exprmetric.training.engines import ENGINES
from exprmetric.training.recipes import selfsupervised as recipe
from exprmetric.training.recipes.common import Augmenter
from exprmetric.training.recipes.selfsupervised import SelfSupervisedConfig

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
CPU = torch.device("cpu")
SMALL = SelfSupervisedConfig(
    backbone="resnet18", size=48, crop=176, batch=16, epochs=2, projection=32, hidden=32, queue=32, temperature=0.2
)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SelfSupervisedConfig, "encoder", lambda config: Tiny())


def made(count: int, seed: int = 0) -> FaceArrays:
    """Smooth pictures, each its own."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 1, 5, 5, generator=generator)
    images = torch.nn.functional.interpolate(coarse, 48, mode="bicubic").clamp(0, 1) * 255
    nan = torch.full((count,), float("nan"))
    return FaceArrays(images.byte(), torch.full((count,), -1), torch.full((count, 8), float("nan")), nan, nan)


def test_the_defaults_are_those_of_paper_000():
    config = SelfSupervisedConfig()
    assert (config.engine, config.backbone, config.size, config.batch) == ("simsiam", "efficientnet_b0", 224, 128)
    assert (config.learning_rate, config.epochs, config.augment, config.unlabelled) == (1e-3, 50, "paper", True)
    assert all(isinstance(v, (str, int, float, bool)) for v in asdict(config).values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engine": "dino"}, "unknown engine 'dino'"),
        ({"backbone": "vgg"}, "'vgg'"),
        ({"queue": -1}, "queue is -1"),
        ({"engine": "mocov2", "average": 0.9}, "average can't be set with mocov2"),
    ],
)
def test_wrong_settings_are_refused_before_any_face_is_read(settings: dict, message: str):
    with pytest.raises(InputError, match=message):
        SelfSupervisedConfig(**settings)


def test_the_two_views_differ_and_come_back_with_the_seed():
    images = made(4).batch(torch.arange(4)).images
    augmenter = Augmenter(SMALL, CPU)
    augmenter.start(3)
    first, second = recipe.two_views(images, augmenter)
    assert first.shape == second.shape == images.shape and not torch.equal(first, second)
    augmenter.start(3)
    assert torch.equal(recipe.two_views(images, augmenter)[1], second)


def test_held_out_scores_don_t_depend_on_when_they_are_computed(tmp_path: Path):
    training = recipe.SelfSupervised({"train": made(20)}, replace(SMALL, engine="simclr", batch=8), tmp_path)
    scores = training.score(made(20))
    training.augmenter(torch.rand(2, 1, 48, 48))
    assert training.score(made(20)) == scores
    assert scores["total"] == pytest.approx(scores["positive"] + scores["negative"], rel=1e-5)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("name", ["byol", "mocov2"])
def test_a_run_that_was_stopped_ends_where_an_unbroken_one_does(name: str, tmp_path: Path):
    faces = {"train": made(32), "valid": made(16, 1)}
    config = replace(SMALL, engine=name, epochs=2, momentum_steps=4)
    recipe.SelfSupervised(faces, config, tmp_path / "whole").run()
    (tmp_path / "stopped").mkdir()
    stop = replace(config, minutes=1e-6)  # after the first epoch
    recipe.SelfSupervised(faces, stop, tmp_path / "stopped").run()
    assert len(log_of(tmp_path / "stopped")) == 1
    recipe.SelfSupervised(faces, config, tmp_path / "stopped").run()
    one, other = (torch.load(tmp_path / n / "last.pt", weights_only=True)["model"] for n in ("whole", "stopped"))
    assert all(torch.equal(one[k], other[k]) for k in one)
    assert {"slow_encoder.layers.0.0.weight", "slow_projector.0.weight"} <= set(one)


@pytest.mark.usefixtures("tiny")
def test_byols_momentum_rises_over_the_training(tmp_path: Path):
    faces = {"train": made(32), "valid": made(16, 1)}
    recipe.SelfSupervised(faces, replace(SMALL, engine="byol", momentum=0.5), tmp_path).run()
    last = torch.load(tmp_path / "last.pt", weights_only=True)
    assert int(last["model"]["steps"]) == 4
    assert last["config"]["momentum_steps"] == 0  # what was set is what is written


@pytest.mark.shared
@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("name", sorted(ENGINES))
def test_every_engine_learns_from_real_faces(name: str, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = run_folder(shared, tmp_path / "out", monkeypatch)
    momentum = {"byol": 0.9, "mocov2": 0.99}.get(name, 0.0)
    config = replace(SMALL, engine=name, epochs=16, momentum=momentum, learning_rate=3e-3)
    scores = recipe.SelfSupervised.open([few_faces(shared)], out, config, device="cpu", jobs=1).run()
    log = log_of(out)
    # in the first epoch MoCo's queue fills: there is little to tell a face from, and the loss is low
    assert log[-1]["train"]["total"] < log[1]["train"]["total"] - 0.1
    assert log[-1]["valid"]["total"] < log[1]["valid"]["total"] - 0.05
    if name in ("simsiam", "byol"):
        assert scores["valid"]["spread"] > 0.5  # not by making all faces one point


@pytest.mark.shared
def test_the_encoder_of_a_training_is_exported(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = run_folder(shared, tmp_path / "out", monkeypatch)
    config = replace(SMALL, size=32, epochs=1)
    scores = recipe.SelfSupervised.open([few_faces(shared)], out, config, device="cpu", jobs=1).run()
    assert json.loads((out / "scores.json").read_text()) == scores
    encoder, settings = load_encoder(out / "encoder.pt")
    assert settings == asdict(config)
    assert export_encoder(out / "encoder.pt", tmp_path / "x.onnx").dimension == encoder.dimension == 512
