"""`color=rgb`: every recipe trains on colour, and what it leaves behind sees colour wherever it is run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_golden_recipes import Tiny, made, prepared

from exprmetric.datasets.alignment import face_crop
from exprmetric.datasets.arrays import FaceArrays
from exprmetric.datasets.swapped import swap_pixels
from exprmetric.encoder import models
from exprmetric.encoder.checkpoint import load_checkpoint
from exprmetric.faces.face import Face
from exprmetric.training.augment import GREY_SHARE, jittered
from exprmetric.training.recipes import RECIPES, load_recipe
from exprmetric.training.recipes.classification import ClassificationConfig
from exprmetric.training.recipes.common import Augmenter, save_encoder
from exprmetric.training.recipes.selfsupervised import SelfSupervisedConfig

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
LUMA = torch.tensor([0.299, 0.587, 0.114])


def coloured(count: int, seed: int) -> FaceArrays:
    faces = made(count, seed)
    scale = torch.tensor([1.0, 0.7, 0.4])[:, None, None]
    extra = {**faces.extra, "swapped": (faces.extra["swapped"] * scale).byte(), "opinion": torch.rand(count, 3)}
    return replace(faces, images=(faces.images * scale).byte(), extra=extra)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_trains_on_colour(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.BACKBONES, "tiny", Tiny)
    kind = load_recipe(recipe)
    how: dict[str, Any] = {
        "backbone": "tiny",
        "pretrained": False,
        "size": 32,
        "batch": 16,
        "epochs": 1,
        "color": "rgb",
    }
    more: dict[str, dict[str, Any]] = {
        "default": {"frozen": 0, "dimension": 16}, "wsupcon": {"head_epochs": 1, "head_views": 1},
        "disentangle": {"dimension": 16, "neck": "linear", "beta1": 0.001}, "feenet": {"clear": 0.02, "batch": 15},
        "contrastive": {"near": 0.3, "far": 1.0, "projection": 16, "hidden": 16}, "autoencoder": {"width": 16},
        "selfsupervised": {"projection": 16, "hidden": 16}, "contrawarping": {"projection": 16, "hidden": 16},
        "distil": {"views": 32, "dimension": 16, "readout": "embedding"},
    }  # fmt: skip
    config = kind.settings(**{**how, **more.get(recipe, {})})
    count = 210 if recipe == "default" else 48  # its head wants batches of 128
    arguments = prepared(recipe, {"train": coloured(count, 0), "valid": coloured(32, 1)}, config)
    kind(*arguments, config, tmp_path, *(({},) if recipe == "contrastive" else ())).run()
    stored = load_checkpoint(tmp_path / "encoder.pt")
    assert stored["config"]["color"] == "rgb"
    first = next(v for k, v in stored["encoder"].items() if k.startswith("backbone.") and v.ndim == 4)
    assert first.shape[1] == 3


def test_an_exported_colour_encoder_sees_as_the_checkpoint_does_and_tells_red_from_grey(
    portrait_photo: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    import cv2

    from exprmetric.encoder.export import export_encoder, manifest_entry
    from exprmetric.methods.onnx import OnnxEncoder
    from exprmetric.probes.checkpoint import open_checkpoint
    from exprmetric.torch import ExpressionEncoder
    from exprmetric.weights import manifest

    torch.manual_seed(0)
    config = ClassificationConfig(backbone="resnet18", size=48, crop=176, color="rgb")
    save_encoder(config.encoder(), config, {}, tmp_path)
    made_file = export_encoder(tmp_path / "encoder.pt", tmp_path / "net.onnx", half=False)
    document = json.loads(json.dumps(manifest_entry(made_file, "net")))
    assert document["preprocessing"]["color"] == "rgb" and document["preprocessing"]["mean"] == [0.0] * 3
    (entry,) = manifest.parse({"schema_version": 1, "weights": [document]}, own=True).values()
    onnx = OnnxEncoder(entry, path=tmp_path / "net.onnx")
    crop = cv2.resize(cv2.imread(str(portrait_photo))[30:230, 130:330, ::-1], (224, 224))
    grey = np.repeat(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    seen = onnx.embed([crop, grey])
    in_torch = ExpressionEncoder(entry, path=tmp_path / "net.onnx", quantise=True)
    pixels = torch.from_numpy(np.stack([crop, grey])).permute(0, 3, 1, 2)
    np.testing.assert_allclose(in_torch(pixels).detach().numpy(), seen, atol=2e-4)
    assert np.linalg.norm(seen[0] - seen[1]) > 1e-3
    face = Face(crop, np.array([0.0, 0.0, 224.0, 224.0]), 1.0, np.zeros((68, 2)), aligned=True)
    checkpoint = open_checkpoint("", tmp_path / "encoder.pt", device="cpu")
    checkpoint.prepare(face)
    np.testing.assert_allclose(checkpoint.represent([face])[0], seen[0], atol=0.05)  # one warp there, two steps here


def test_a_colour_crop_has_the_luma_of_the_luma_crop(portrait_photo: Path) -> None:
    import cv2

    photo = np.ascontiguousarray(cv2.imread(str(portrait_photo))[..., ::-1])
    matrix = np.array([[1.0, 0.0, -120.0], [0.0, 1.0, -20.0]])
    rgb, luma = face_crop(photo, matrix, 176, 64, "rgb"), face_crop(photo, matrix, 176, 64)
    assert rgb.shape == (3, 64, 64) and luma.shape == (1, 64, 64)
    nan = torch.full((1,), float("nan"))
    arrays = FaceArrays(torch.from_numpy(rgb)[None], torch.zeros(1), nan[:, None].repeat(1, 8), nan, nan)
    np.testing.assert_array_equal(arrays.luma().images[0].numpy(), luma)
    np.testing.assert_array_equal(np.repeat(luma, 3, axis=0).shape, rgb.shape)


def test_jitter_moves_colour_and_leaves_luma(portrait_photo: Path) -> None:
    chance = torch.Generator().manual_seed(0)
    images = 0.35 + 0.3 * torch.rand(400, 3, 4, 4, generator=chance)  # far from what would be clipped
    seen = jittered(images, 0.4, chance)
    for each in (images, seen):
        assert each.shape == (400, 3, 4, 4)
    torch.testing.assert_close(torch.einsum("c,nchw->nhw", LUMA, seen), torch.einsum("c,nchw->nhw", LUMA, images))
    grey = (seen.amax(1) - seen.amin(1)).amax((1, 2)) < 1e-3
    assert abs(float(grey.float().mean()) - GREY_SHARE) < 0.06
    assert float((seen - images).abs().mean()) > 0.01


def test_views_of_luma_are_not_jittered() -> None:
    grey = SelfSupervisedConfig(backbone="resnet18", augment="none")
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(Augmenter(grey, torch.device("cpu"))(x), x)
    colour = replace(grey, color="rgb")
    y = torch.rand(2, 3, 8, 8)
    assert not torch.equal(Augmenter(colour, torch.device("cpu"))(y), y)
    assert torch.equal(Augmenter(replace(colour, jitter=0.0), torch.device("cpu"))(y), y)


def test_swaps_of_colour_faces_are_in_colour(portrait_photo: Path) -> None:
    from exprmetric.demo.make import demo_faces
    from exprmetric.faces import load_detector

    a, b = demo_faces(load_detector("dlib"))[:2]
    size = a.image.shape[0]
    pictures = [np.ascontiguousarray(f.image.transpose(2, 0, 1)) for f in (a, b)]
    points = [np.asarray(f.points, np.float32) for f in (a, b)]
    swapped = swap_pixels(pictures[0], points[0], pictures[1], points[1])
    assert swapped.shape == (3, size, size)
    assert np.abs(swapped[0].astype(int) - swapped[2]).max() > 20
