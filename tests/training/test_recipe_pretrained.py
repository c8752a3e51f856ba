"""Every recipe begins with ImageNet's weights where its settings say so: looked at when its first step is due."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from exprmetric.datasets.arrays import FaceArrays
from exprmetric.encoder.models import IMAGENET, Encoder
from exprmetric.training.loop import Trainer
from exprmetric.training.recipes import RECIPES, load_recipe
from exprmetric.training.recipes.feenet import rated_faces
from exprmetric.weights import store as weights

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
FACES = 32
Faces = dict[str, FaceArrays]


def faces() -> Faces:
    """Noise with everything that a recipe asks of a face."""
    chance = torch.Generator().manual_seed(0)
    labels = torch.arange(FACES) % 8
    extra = {
        "mesh": torch.rand(FACES, 5, generator=chance),
        "opinion": torch.rand(FACES, 7, generator=chance),
        "person": torch.arange(FACES) % 4,
        "landmarks": torch.rand(FACES, 68, 2, generator=chance) * 224,
        "found": torch.ones(FACES, dtype=torch.bool),
        "clip": torch.full((FACES,), -1),
        "time": torch.full((FACES,), float("nan"), dtype=torch.float64),
    }
    images = torch.randint(0, 255, (FACES, 1, 64, 64), generator=chance).byte()
    votes = torch.nn.functional.one_hot(labels, 8).float()
    nan = torch.full((FACES,), float("nan"))
    part = FaceArrays(images, labels, votes, nan, nan, (), extra)
    return {"train": part, "valid": part}


class Begun(Exception):
    """Instead of the first step."""


@pytest.fixture
def begins(monkeypatch: pytest.MonkeyPatch) -> list[torch.nn.Module]:
    """The models whose training began; none makes a step."""
    models: list[torch.nn.Module] = []

    def fit(self: Trainer, *_: object, **__: object) -> None:
        models.append(self.model)
        raise Begun

    monkeypatch.setattr(Trainer, "fit", fit)
    return models


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_pretrained_recipe_begins_with_imagenets_weights(
    recipe: str, begins: list[torch.nn.Module], tmp_path: Path
) -> None:
    kind = load_recipe(recipe)
    config = kind.settings(backbone="efficientnet_lite0", pretrained=True, size=64, batch=16, epochs=1)
    given = rated_faces(faces(), config) if recipe == "feenet" else faces()
    with pytest.raises(Begun):
        kind(given, config, tmp_path).run()
    encoders = [m for m in begins[0].modules() if isinstance(m, Encoder)]  # two where one follows the other
    stored = list(torch.load(weights.find(IMAGENET), map_location="cpu", weights_only=True).values())
    stored[0] = stored[0].sum(1, keepdim=True)  # luma in all three channels
    assert encoders
    for encoder in encoders:
        own = list(encoder.backbone.state_dict().items())
        assert len(own) > 250
        for (name, value), expected in zip(own, stored[: len(own)], strict=True):
            assert torch.equal(value, expected), name
