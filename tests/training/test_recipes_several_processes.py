"""Two processes train a recipe as one with the doubled batch does: losses that compare faces see those of both.

The stand-in for the encoder has no batch norm, whose statistics are each process's own, and nothing is drawn but the
order of faces: then one process and two can be compared closely.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from several_processes import needs_gloo, spawn
from torch import nn

from exprmetric.datasets.arrays import FaceArrays
from exprmetric.encoder import distributed
from exprmetric.encoder.checkpoint import load_checkpoint
from exprmetric.training.recipes import default, selfsupervised, wsupcon
from exprmetric.training.recipes.common import RecipeConfig

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
SIDE, BATCH = 12, 16
CPU = torch.device("cpu")
COMMON: dict[str, Any] = {
    "backbone": "resnet18", "pretrained": False, "size": SIDE, "batch": BATCH, "epochs": 3, "patience": 9,
    "optimiser": "sgd", "learning_rate": 0.1, "augment": "none", "precision": "float32", "seed": 5,
}  # fmt: skip
Weights = dict[str, torch.Tensor]


class Plain(nn.Module):
    """(B, 1, 12, 12) → (B, 8)."""

    dimension = 8

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 6, 5, stride=3), nn.Tanh(), nn.Flatten(), nn.Linear(54, 8))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        embedding: torch.Tensor = self.layers(images)
        return embedding


def faces(count: int, seed: int) -> FaceArrays:
    """Noise that is brighter somewhere, by class; which faces have votes and valence differs from batch to batch."""
    chance = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=chance)
    images = torch.randint(0, 120, (count, 1, SIDE, SIDE), generator=chance)
    for label in range(3):
        images[labels == label, :, 4 * label : 4 * label + 4] += 110
    votes = 0.8 * nn.functional.one_hot(labels, 8).float() + 0.025
    votes[torch.rand(count, generator=chance) < 0.4] = float("nan")
    valence = labels / 4 - 0.5
    valence[torch.rand(count, generator=chance) < 0.4] = float("nan")
    extra = {"mesh": torch.rand(count, 5, generator=chance), "person": torch.arange(count) % 4}
    extra["mesh"][torch.rand(count, generator=chance) < 0.3] = float("nan")
    return FaceArrays(images.byte(), labels, votes, valence, -valence, (), extra)


def pretrained(batch: int, out: Path) -> Weights:
    config = wsupcon.WSupConConfig(**{**COMMON, "batch": batch}, votes=0.5, temperature=0.5, average=0.8, warmup=3)
    wsupcon.WSupConRecipe({"train": faces(75, 0), "valid": faces(37, 1)}, config, out).fit()
    return last(out)


def head(batch: int, out: Path) -> Weights:
    config = wsupcon.WSupConConfig(**{**COMMON, "batch": batch}, head_epochs=3, head_views=3)
    torch.manual_seed(2)
    with patch.object(wsupcon, "classification_head", nn.Linear):  # dropout would be each process's own
        wsupcon.train_head(Plain(), {"train": faces(75, 0), "valid": faces(37, 1)}, config, out)
    return last(next((out / "head").iterdir()))


def engine(name: str) -> Callable[[int, Path], Weights]:
    def train(batch: int, out: Path) -> Weights:
        config = selfsupervised.SelfSupervisedConfig(**COMMON, engine=name, queue=21, momentum=0.9, temperature=0.5)
        train_faces = {"train": faces(75, 0), "valid": faces(37, 1)}
        selfsupervised.SelfSupervised(train_faces, replace(config, batch=batch), out).run()
        return last(out)

    return train


def shipped(batch: int, out: Path) -> Weights:
    config = default.DefaultConfig(**{**COMMON, "batch": batch}, frozen=0, identity=0.1, others=0.8, average=0.8)
    default.Default({"train": faces(90, 0), "valid": faces(37, 1)}, config, out).fit()
    return last(out)


def last(out: Path) -> Weights:
    weights: Weights = load_checkpoint(out / "last.pt")["model"]
    return weights


TRAININGS = {
    "wsupcon": pretrained,
    "head": head,
    "simclr": engine("simclr"),
    "mocov2": engine("mocov2"),
    "default": shipped,
}


def all_trainings(folder: Path) -> dict[str, Weights]:
    found = {}
    with ExitStack() as stack:
        stack.enter_context(patch.object(RecipeConfig, "encoder", lambda config: Plain()))
        for name, train in TRAININGS.items():
            found[name] = train(BATCH // distributed.world(), folder / name)
            distributed.barrier()
    return found


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Weights], Path]:
    folder = tmp_path_factory.mktemp("one")
    return all_trainings(folder), folder


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Weights]], Path]:
    folder = tmp_path_factory.mktemp("two")
    return spawn(all_trainings, folder), folder


def log(out: Path) -> list[dict[str, Any]]:
    (found,) = out.rglob("log.jsonl")
    return [json.loads(line) for line in found.read_text().splitlines()]


@pytest.mark.slow
@needs_gloo
@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_make_the_steps_of_one_with_the_doubled_batch(name: str, one, two):
    alone, (first, second) = one[0][name], (found[name] for found in two[0])
    for key, value in alone.items():
        torch.testing.assert_close(first[key], value, atol=2e-5, rtol=1e-4, msg=f"{name}: {key}")
        assert torch.equal(first[key], second[key]), key
    ours, theirs = (log(folder / name) for folder in (two[1], one[1]))
    assert theirs[-1]["train"]["total"] != pytest.approx(theirs[0]["train"]["total"], rel=0.01)  # something is learned
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["train"] == pytest.approx(other["train"], rel=1e-4, abs=1e-5)
        if name not in ("simclr", "mocov2"):  # engines validate on each process's own faces
            assert mine["valid"] == pytest.approx(other["valid"], rel=1e-4, abs=1e-5)


@needs_gloo
def test_all_processes_have_the_keys_of_all_in_their_queues(one, two):
    steps = 3 * (75 // BATCH)
    for found in (one[0], *two[0]):
        assert int(found["mocov2"]["written"]) == steps * BATCH
        assert (found["mocov2"]["queue"].norm(dim=1) > 0.99).all()
