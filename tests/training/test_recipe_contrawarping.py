"""Paper 003's recipe: heatmaps, weights and losses by hand, views with their landmarks, learning from real faces."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from few_faces import few_faces, log_of, run_folder

from exprmetric.datasets.alignment import Alignment
from exprmetric.datasets.arrays import Batch, FaceArrays
from exprmetric.encoder.export import export_encoder, load_encoder
from exprmetric.encoder.models import Encoder
from exprmetric.errors import InputError
from exprmetric.training.loop import autocast
from exprmetric.training.recipes import contrawarping as recipe
from exprmetric.training.recipes.common import Augmenter
from exprmetric.training.recipes.contrawarping import ContraWarping, ContraWarpingConfig
from exprmetric.training.warping import to_input

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
CPU = torch.device("cpu")
SMALL = ContraWarpingConfig(
    size=48, crop=176, batch=16, epochs=4, projection=32, hidden=32, queue=32, landmark_weight=10.0
)


def made(count: int, seed: int = 0) -> FaceArrays:
    """Smooth pictures, each its own, with points anywhere in the middle of them."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 1, 5, 5, generator=generator)
    images = torch.nn.functional.interpolate(coarse, 48, mode="bicubic").clamp(0, 1) * 255
    nan = torch.full((count,), float("nan"))
    extra = {
        "landmarks": 40 + 144 * torch.rand(count, 68, 2, generator=generator),
        "found": torch.arange(count) % 4 != 3,
    }
    none = torch.full((count, 8), float("nan"))
    return FaceArrays(images.byte(), torch.full((count,), -1), none, nan, nan, (), extra)


def batch_of(count: int) -> Batch:
    return made(count).batch(torch.arange(count))


def drawn(config: ContraWarpingConfig, batch: Batch, seed: int = 0) -> recipe.Drawn:
    augmenter = Augmenter(config, CPU)
    augmenter.start(seed)
    return recipe.draw(batch, config, augmenter)


# --- settings ---


def test_the_defaults_are_the_papers():
    config = ContraWarpingConfig()
    assert (config.engine, config.backbone, config.size) == ("simsiam", "resnet18", 224)
    assert (config.optimiser, config.learning_rate, config.batch) == ("sgd", 0.05, 256)
    assert (config.warp, config.warps, config.landmark_head, config.target_similarity) == ("landmarks", 2, True, 0.6)
    assert (recipe.SIGMA, recipe.UNMOVED, recipe.POINTS) == (1.5, 0.1, 68)
    assert all(isinstance(v, str | int | float | bool) for v in asdict(config).values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warp": "mouth"}, "unknown warp 'mouth'"),
        ({"warps": 0}, "warps is 0"),
        ({"tones": 1.0}, "tones is 1.0"),
        ({"landmark_weight": -1.0}, "landmark_weight is -1.0"),
        ({"engine": "dino"}, "unknown engine 'dino'"),
        ({"target_similarity": 2.0}, "target_similarity is 2.0"),
        ({"augment": "warp"}, "'warp'"),
        ({"engine": "mocov2", "average": 0.9}, "average can't be set with mocov2"),
    ],
)
def test_wrong_settings_are_refused_before_any_face_is_read(settings: dict, message: str):
    with pytest.raises(InputError, match=message):
        ContraWarpingConfig(**settings)


# --- landmarks ---


def test_heatmaps_by_hand():
    """Input of 64 px, maps of 16: the point (21.5, 9.5) is the centre of the map's pixel (5, 2)."""
    maps = recipe.heatmaps(torch.tensor([[[21.5, 9.5], [-40.0, 9.5]]]), size=64, height=16, width=16)
    assert maps.shape == (1, 2, 16, 16)
    assert maps[0, 0, 2, 5].item() == pytest.approx(1.0)
    assert maps[0, 0, 2, 8].item() == pytest.approx(math.exp(-9 / 4.5))  # 3 px to the right
    assert maps[0, 0, 3, 6].item() == pytest.approx(math.exp(-2 / 4.5))
    assert maps[0, 0].argmax().item() == 2 * 16 + 5
    assert maps[0, 1].max() < 1e-6  # outside the input
    wide = recipe.heatmaps(torch.tensor([[[21.5, 9.5]]]), size=64, height=16, width=32)
    assert wide[0, 0].argmax().item() in (2 * 32 + 10, 2 * 32 + 11)  # 10.5, between two


def test_only_points_that_a_warp_carried_more_than_a_pixel_of_224_are_moved():
    before = torch.tensor([[[10.0, 10.0], [20.0, 20.0], [30.0, 30.0], [30.0, 30.0]]])
    after = before + torch.tensor([[[0.0, 0.0], [0.0, 3.0], [0.25, 0.0], [0.3, 0.0]]])
    weights = recipe.point_weights(before, after, size=48, crop=176)  # 1 px of 224 is 0.273 px here
    torch.testing.assert_close(weights, torch.tensor([[0.1, 1.0, 0.1, 1.0]]))


def test_landmark_loss_by_hand():
    """Two points on maps of four pixels: moved ½ ((1 - 0)² / 4), and unmoved ½ (0.1 · 2)² = 0.02 on all pixels."""
    maps = torch.zeros(2, 2, 2, 2)
    truth = torch.zeros(2, 2, 2, 2)
    truth[0, 0, 1, 1] = 1.0
    maps[0, 1] = 2.0
    maps[1] = 7.0  # a face that was not found
    weights = torch.tensor([[1.0, 0.1], [1.0, 1.0]])
    loss = recipe.landmark_loss(maps, truth, weights, torch.tensor([True, False]))
    assert loss.item() == pytest.approx((0.25 + 0.04) / 2)
    both = recipe.landmark_loss(maps, truth, weights, torch.tensor([True, True]))
    assert both.item() == pytest.approx(((0.25 + 0.04) / 2 + 49) / 2)
    maps.requires_grad_()
    nothing = recipe.landmark_loss(maps, truth, weights, torch.tensor([False, False]))
    nothing.backward()
    assert nothing.item() == 0 and maps.grad.abs().max() == 0


def test_the_median_points_of_faces_that_were_not_found_are_marked():
    points = np.arange(3 * 68 * 2, dtype=np.float32).reshape(3, 68, 2)
    alignment = Alignment(np.zeros((3, 2, 3)), np.array([True, False, True]), "none", points)
    kept = recipe.ContraWarpingRecipe.annotate(None, alignment, [2, 1])
    assert kept["found"].tolist() == [True, False]
    np.testing.assert_array_equal(kept["landmarks"], points[[2, 1]])


def test_points_of_faces_that_were_not_found_change_no_loss():
    torch.manual_seed(0)
    model = ContraWarping(replace(SMALL, warp="random")).eval()
    batch = batch_of(8)
    view = drawn(replace(SMALL, warp="random"), batch)
    before = model.losses(view)
    moved = torch.where(view.found[:, None, None], 0.0, 9.0)
    after = model.losses(replace(view, before=view.before + moved, after=view.after - moved))
    torch.testing.assert_close(after["total"], before["total"])
    other = model.losses(replace(view, after=view.after - 9.0))
    assert other["landmark3"] > before["landmark3"]


# --- views ---


def test_x1_keeps_every_pixel_in_its_place_and_x3_is_x1_but_for_the_warp():
    batch = batch_of(6)
    view = drawn(SMALL, batch)
    for x, face in zip(view.views.anchor, batch.images, strict=True):
        order = face.flatten().argsort()
        assert (x.flatten()[order].diff() >= 0).all()  # gamma and contrast keep the order of brightness
    assert not torch.equal(view.views.anchor, batch.images)
    assert not torch.equal(view.views.anchor, view.views.positive)
    (x3,) = view.views.negatives
    changed = (x3 != view.views.anchor).flatten(1).float().mean(1)
    assert (changed > 0.02).all() and (changed < 1).all()
    torch.testing.assert_close(view.before, to_input(batch.extra["landmarks"], size=48, crop=176))
    moved = (view.after - view.before).norm(dim=-1)
    assert (moved > 1).any(1).all()  # a warp at a landmark moves it
    assert moved.max() < 2 * math.sqrt(200) * 48 / 176
    plain = drawn(replace(SMALL, tones=0.0), batch)
    assert torch.equal(plain.views.anchor, batch.images)


def test_draws_come_back_with_the_seed():
    one, again, other = (drawn(SMALL, batch_of(6), seed) for seed in (1, 1, 2))
    assert torch.equal(one.views.negatives[0], again.views.negatives[0]) and torch.equal(one.after, again.after)
    assert not torch.equal(one.after, other.after)


def test_random_centres_ask_for_no_landmarks_and_no_warp_has_no_x3():
    batch = batch_of(6)
    elsewhere = replace(batch, extra={**batch.extra, "landmarks": batch.extra["landmarks"] + 500})
    at, far = (drawn(replace(SMALL, warp="random"), b).views.negatives[0] for b in (batch, elsewhere))
    assert torch.equal(at, far)
    at, far = (drawn(SMALL, b).views.negatives[0] for b in (batch, elsewhere))
    assert not torch.equal(at, far)
    none = drawn(replace(SMALL, warp="none"), batch)
    assert none.views.negatives == () and torch.equal(none.before, none.after)
    terms = ContraWarping(replace(SMALL, warp="none")).losses(none)
    assert "landmark1" in terms and "landmark3" not in terms and "negative" not in terms


# --- losses ---


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_the_joint_loss_is_equations_2_to_6_by_hand():
    torch.manual_seed(0)
    config = replace(SMALL, landmark_weight=3.0)
    model = ContraWarping(config).train()  # by the batch's own statistics, faces differ more
    view = drawn(config, batch_of(12))
    with torch.no_grad():
        z, p, maps = [], [], []
        for images in (view.views.anchor, view.views.positive, view.views.negatives[0]):
            with autocast(CPU):
                features = model.encoder.feature_map(images)
                z.append(model.engine.projector(model.encoder.embed_map(features)))
                p.append(model.engine.predictor(z[-1]).float().numpy())
                maps.append(model.head(features).double().numpy())
    z = [v.float().numpy() for v in z]

    def sim(i: int, j: int) -> np.ndarray:
        return (cosine(p[i], z[j]) + cosine(p[j], z[i])) / 2

    target = float(np.median(sim(0, 2)))  # so that either side of the max is taken
    model.engine.target_similarity = target
    with torch.no_grad():
        terms = model.losses(view)
    cont12, cont13 = -sim(0, 1).mean(), np.maximum(sim(0, 2), target).mean()
    assert cont13 > max(target, sim(0, 2).mean()) + 0.01
    before, after = view.before.numpy().astype(float), view.after.numpy().astype(float)
    side = maps[0].shape[-1]
    y, x = np.mgrid[:side, :side]
    landmark = []
    for points, shown in ((before, maps[0]), (after, maps[2])):
        faces = []
        for i in np.flatnonzero(view.found.numpy()):
            errors = []
            for k in range(68):
                w = 1.0 if np.hypot(*(after[i, k] - before[i, k])) > 48 / 176 else 0.1
                cx, cy = (points[i, k] + 0.5) * side / 48 - 0.5
                pseudo = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 1.5**2))
                errors.append(((w * shown[i, k] - w * pseudo) ** 2).mean())
            faces.append(np.mean(errors))
        landmark.append(np.mean(faces))
    assert terms["positive"].item() == pytest.approx(cont12, abs=1e-4)
    assert terms["negative"].item() == pytest.approx(cont13, abs=1e-4)
    assert terms["landmark1"].item() == pytest.approx(landmark[0], rel=1e-3)
    assert terms["landmark3"].item() == pytest.approx(landmark[1], rel=1e-3)
    assert terms["total"].item() == pytest.approx(cont12 + cont13 + 3.0 * sum(landmark), abs=1e-4)


def test_without_the_head_the_loss_is_the_engines():
    config = replace(SMALL, landmark_head=False)
    model = ContraWarping(config).eval()
    assert model.head is None
    view = drawn(config, batch_of(6))
    assert model.losses(view)["total"].item() == model.engine.losses(view.views)["total"].item()


@pytest.mark.parametrize(("engine", "runs"), [("simsiam", 3), ("byol", 3), ("simclr", 3), ("mocov2", 2)])
def test_each_view_goes_through_the_trained_backbone_once(engine: str, runs: int, monkeypatch: pytest.MonkeyPatch):
    config = replace(SMALL, engine=engine)
    model = ContraWarping(config).train()
    seen = []
    real = Encoder.feature_map

    def counting(self: Encoder, images: torch.Tensor) -> torch.Tensor:
        if self is model.encoder:
            seen.append(images)
        return real(self, images)

    monkeypatch.setattr(Encoder, "feature_map", counting)
    view = drawn(config, batch_of(8))
    model.losses(view)["landmark3"].backward()
    assert len(seen) == runs
    assert next(model.encoder.backbone.parameters()).grad.abs().sum() > 0
    model.encoder.feature_map(view.views.anchor)
    assert len(seen) == runs + 1  # nothing is kept behind a step


# --- training ---


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_where_an_unbroken_one_does(tmp_path: Path):
    faces = {"train": made(32), "valid": made(16, 1)}
    config = replace(SMALL, engine="byol", epochs=2, momentum_steps=4)
    recipe.ContraWarpingRecipe(faces, config, tmp_path / "whole").run()
    recipe.ContraWarpingRecipe(faces, replace(config, minutes=1e-6), tmp_path / "stopped").run()  # an epoch
    assert len(log_of(tmp_path / "stopped")) == 1
    recipe.ContraWarpingRecipe(faces, config, tmp_path / "stopped").run()
    one, other = (torch.load(tmp_path / n / "last.pt", weights_only=True)["model"] for n in ("whole", "stopped"))
    assert all(torch.equal(one[k], other[k]) for k in one)
    assert "head.0.weight" in one and "engine.slow_encoder.embedding.weight" not in one


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("engine", ["simsiam", "byol", "mocov2"])
def test_it_learns_from_real_faces_and_is_exported(
    engine: str, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = run_folder(shared, tmp_path / "out", monkeypatch)
    config = replace(SMALL, engine=engine, epochs=3, momentum=0.0 if engine == "simsiam" else 0.9)
    scores = recipe.ContraWarpingRecipe.open([few_faces(shared)], out, config, device="cpu", jobs=1).run()
    first, *_, last = (line["train"] for line in log_of(out))
    assert last["total"] < first["total"] - 0.1
    assert last["landmark1"] < first["landmark1"] and last["landmark3"] < first["landmark3"]
    assert {"total", "positive", "negative", "landmark1", "landmark3"} <= set(scores["valid"])
    assert json.loads((out / "scores.json").read_text()) == scores
    encoder, settings = load_encoder(out / "encoder.pt")
    assert settings == asdict(config)
    best, _ = load_encoder(out / "best.pt")
    assert all(torch.equal(v, best.state_dict()[k]) for k, v in encoder.state_dict().items())
    if engine == "simsiam":
        assert export_encoder(out / "encoder.pt", tmp_path / "x.onnx").dimension == 512
