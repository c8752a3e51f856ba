"""Every recipe's loss curves and scores on a tiny network and made faces, as they were when each ran on its own.

python tests/test_golden_recipes.py wsupcon     # prints what the golden file holds of a recipe, made anew

The golden file was made by the code before recipes had one frame; equal to 1e-5, since the order in which a BLAS sums
differs between machines and two epochs of training carry that on. On one machine they are equal digit by digit.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

if importlib.util.find_spec("timm") is None:  # and not imported: its torchvision may be of another build than torch
    pytest.skip("timm is not installed", allow_module_level=True)

from test_golden import assert_near, golden

from exprmetric.datasets.arrays import FaceArrays
from exprmetric.encoder import models
from exprmetric.training.recipes import RECIPES, load_recipe
from exprmetric.training.recipes.default import standardise
from exprmetric.training.recipes.feenet import rated_faces

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
CURVES = golden("recipes")
Faces = dict[str, FaceArrays]


class Tiny(torch.nn.Module):
    """A backbone that is trained within seconds."""

    num_features = 16

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            *[
                torch.nn.Sequential(torch.nn.Conv2d(a, b, 3, 2, 1), torch.nn.BatchNorm2d(b), torch.nn.ReLU())
                for a, b in ((channels, 8), (8, 16))
            ]
        )

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        return features.mean((2, 3))


def made(count: int, seed: int) -> FaceArrays:
    """Smooth pictures with everything that a recipe asks of a face."""
    chance = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 8
    coarse = torch.rand(count, 1, 5, 5, generator=chance)
    images = (torch.nn.functional.interpolate(coarse, 32, mode="bicubic").clamp(0, 1) * 255).byte()
    votes = torch.softmax(3 * torch.rand(count, 8, generator=chance), 1)
    votes[::3] = float("nan")
    extra = {
        "mesh": torch.rand(count, 5, generator=chance),
        "person": torch.arange(count) % 4,
        "landmarks": torch.rand(count, 68, 2, generator=chance) * 160 + 32,
        "found": torch.arange(count) % 5 > 0,
        "clip": torch.arange(count) % 4 - 1,
        "time": torch.arange(count).double() // 4 * 0.2,
        "descriptor": torch.rand(count, 6, generator=chance).half(),
        "has_swap": torch.arange(count) % 2 == 0,
        "swapped": images.flip(3),
    }
    nan = torch.full((count,), float("nan"))
    valence = torch.rand(count, generator=chance)
    return FaceArrays(images, labels, votes, valence, nan, (), extra)


def prepared(name: str, faces: Faces, config: Any) -> tuple[Any, ...]:
    """What a recipe is given before its config: faces as its `open` would leave them."""
    if name == "default":
        standardise(*faces.values())
    if name == "feenet":
        rated = {k: f.subset(torch.nonzero(torch.isfinite(f.votes).all(1))[:, 0]) for k, f in faces.items()}
        return (rated_faces(rated, config),)
    return (faces,)


def run(name: str, settings: dict[str, Any], out: Path) -> dict[str, Any]:
    """Log and scores of a recipe; `tiny` must be among the backbones."""
    recipe = load_recipe(name)
    config = recipe.settings(**settings)
    arguments = prepared(name, {"train": made(210, 0), "valid": made(40, 1)}, config)
    more = ({"faces": 210.0},) if name == "contrastive" else ()
    scores = recipe(*arguments, config, out, *more).run()
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return {"settings": settings, "log": log, "scores": json.loads(json.dumps(scores))}


@pytest.mark.parametrize("name", [n for n in RECIPES if n in CURVES])
def test_a_recipe_learns_as_it_did_before(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.BACKBONES, "tiny", Tiny)
    expected = CURVES[name]
    found = run(name, expected["settings"], tmp_path)
    log, scores = found["log"], found["scores"]
    assert_near(log, expected["log"], 1e-5)
    assert_near(scores, expected["scores"], 1e-5)
    if name in ("selfsupervised", "contrawarping", "contrastive"):  # what is kept is what was validated
        best = min(log, key=lambda line: line["valid"]["total"])
        assert_near(scores["valid"], best["valid"], 1e-5)


if __name__ == "__main__":
    torch.set_num_threads(1)
    models.BACKBONES["tiny"] = Tiny
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(run(sys.argv[1], CURVES[sys.argv[1]]["settings"], Path(folder))))
