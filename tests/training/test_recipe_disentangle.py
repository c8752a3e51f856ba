"""Paper 002: its losses by hand, what each of them moves, the game with the adversary, and exchanged expressions."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from few_faces import few_faces, log_of, run_folder
from torch import nn

from exprmetric.datasets.arrays import FaceArrays
from exprmetric.encoder.checkpoint import load_checkpoint, save_checkpoint
from exprmetric.encoder.export import export_encoder, load_encoder
from exprmetric.encoder.models import BACKBONES
from exprmetric.errors import InputError
from exprmetric.training.disentangling import Adversary, Decoder, Disentangler, reconstruction, uncertainty
from exprmetric.training.recipes import disentangle as recipe
from exprmetric.training.recipes.disentangle import DisentangleConfig

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

SMALL = DisentangleConfig(
    backbone="resnet18", dimension=8, size=32, crop=176, augment="none", batch=16, epochs=2, learning_rate=2e-3
)


def make(beta1: float = 0.001, beta3: float = 1.0) -> Disentangler:
    torch.manual_seed(0)
    return replace(SMALL, beta1=beta1, beta3=beta3).model()


def some(count: int = 6, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(count, 1, size, size, generator=generator), torch.arange(count) % 4


# --- losses by hand ---


def test_the_reconstruction_is_a_sum_over_pixels_and_a_mean_over_faces():
    images = torch.zeros(2, 1, 2, 2)
    decoded = torch.tensor([[[[1.0, 2.0], [0.0, 0.0]]], [[[0.0, 0.0], [0.0, 3.0]]]])
    assert float(reconstruction(decoded, images)) == pytest.approx((1 + 4 + 9) / 2)


def test_uncertainty_is_least_where_all_classes_are_as_likely():
    logits = torch.tensor([[math.log(3.0), 0.0], [5.0, 5.0]])
    first = -(math.log(0.75) + math.log(0.25)) / 2
    assert float(uncertainty(logits)) == pytest.approx((first + math.log(2)) / 2)
    free = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert float(uncertainty(free).detach()) > math.log(8)
    for _ in range(300):
        (gradient,) = torch.autograd.grad(uncertainty(free), free)
        free = (free - 20 * gradient).detach().requires_grad_()
    assert float(uncertainty(free).detach()) == pytest.approx(math.log(8), abs=1e-4)


def test_terms_have_their_weights_and_the_adversarys_own_is_not_in_the_total():
    images, labels = some()
    one, other = (make().train().losses(images, labels, betas) for betas in ((1.0, 1.0, 1.0), (0.5, 2.0, 3.0)))
    assert set(one) == {"expression", "reconstruction", "uncertainty", "adversary", "total"}
    ratio = {k: float(other[k].detach() / one[k].detach()) for k in one if k != "total"}
    assert ratio == pytest.approx({"expression": 2.0, "reconstruction": 0.5, "uncertainty": 3.0, "adversary": 1.0})
    total = sum(float(other[k].detach()) for k in ("expression", "reconstruction", "uncertainty"))
    assert float(other["total"].detach()) == pytest.approx(total)
    held_out = make().eval().losses(images, labels, (0.5, 2.0, 3.0))  # the game tells no good epoch from a bad one
    assert float(held_out["total"].detach()) == pytest.approx(
        float(held_out["expression"].detach() + held_out["reconstruction"].detach())
    )
    assert set(make(0.0).losses(images, labels, (0, 1, 1))) == {"expression", "uncertainty", "adversary", "total"}
    assert set(make(0.0, 0.0).losses(images, labels, (0, 1, 0))) == {"expression", "total"}


# --- what each loss moves ---

PARTS = ("encoder.backbone", "encoder.embedding", "rest", "expression", "adversary", "decoder")


@pytest.mark.parametrize(
    ("betas", "moved"),
    [
        ((1.0, 0.0, 0.0), {"encoder.backbone", "encoder.embedding", "rest", "decoder"}),
        ((0.0, 1.0, 0.0), {"encoder.backbone", "encoder.embedding", "expression"}),
        ((0.0, 0.0, 1.0), {"encoder.backbone", "rest"}),
    ],
    ids=["reconstruction", "classification", "uncertainty"],
)
def test_each_loss_reaches_the_parts_that_the_paper_names(betas: tuple[float, float, float], moved: set[str]):
    model = make().train()
    images, labels = some()
    model.losses(images, labels, betas)["total"].backward()
    reached = {
        part
        for part in PARTS
        for name, p in model.named_parameters()
        if name.startswith(f"{part}.") and p.grad is not None and p.grad.abs().sum() > 0
    }
    assert reached == moved


def test_the_adversarys_step_moves_the_adversary_alone():
    model = make().train()
    images, labels = some()
    with torch.no_grad():
        _, codes = model.codes(images)
    codes.requires_grad_()
    before = {k: v.clone() for k, v in model.state_dict().items() if isinstance(v, torch.Tensor)}
    loss = model.adversary.learn(codes, labels)
    logits = nn.functional.linear(
        codes, before["adversary.classifier.weight"], before["adversary.classifier.bias"]
    ).detach()
    assert float(loss) == pytest.approx(float(nn.functional.cross_entropy(logits, labels)))  # the one before the step
    changed = {k for k, v in before.items() if not torch.equal(v, model.state_dict()[k])}
    assert changed == {"adversary.classifier.weight", "adversary.classifier.bias"}
    assert codes.grad is None and all(p.grad is None for p in model.parameters())
    assert not any(p.requires_grad for p in model.adversary.parameters())  # no optimiser around it takes them


def test_the_adversary_steps_downhill_by_adam():
    adversary = Adversary(3, 4, rate=0.01)
    codes = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(20) % 4
    before = adversary.classifier.weight.clone()
    error = adversary(codes).softmax(1) - nn.functional.one_hot(labels, 4)  # of cross-entropy's gradient, by hand
    first = float(adversary.learn(codes, labels))
    torch.testing.assert_close(
        adversary.classifier.weight - before, -0.01 * (error.T @ codes).sign(), atol=1e-5, rtol=0
    )
    for _ in range(50):
        last = float(adversary.learn(codes, labels))
    assert last < first


def test_uncertainty_pushes_the_codes_by_a_constant_adversary():
    adversary = Adversary(3, 4, rate=0.01)
    codes = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    uncertainty(adversary(codes)).backward()
    pull = (adversary(codes).softmax(1) - 0.25) / 5  # of each logit
    torch.testing.assert_close(codes.grad, (pull @ adversary.classifier.weight).detach())


def test_in_training_the_adversary_goes_first_and_in_validation_nothing_moves():
    model = make(0.0)
    images, labels = some()
    weight = model.adversary.classifier.weight.clone()
    model.eval().losses(images, labels, (0, 1, 1))
    assert torch.equal(model.adversary.classifier.weight, weight)
    kept = []
    model.rest.register_forward_hook(lambda module, inputs, codes: kept.append(codes.detach().float()))
    found = model.train().losses(images, labels, (0, 1, 1))
    before = uncertainty(nn.functional.linear(kept[0], weight))
    after = uncertainty(model.adversary(kept[0]))
    assert float(found["uncertainty"].detach()) == pytest.approx(float(after)) != pytest.approx(float(before), abs=1e-6)


# --- the parts ---


@pytest.mark.parametrize("size", [32, 64, 96, 160])
def test_the_decoder_makes_images_of_any_multiple_of_32(size: int):
    decoder = Decoder(10, size)
    decoded = decoder(torch.randn(3, 10) * 5)
    assert decoded.shape == (3, 1, size, size) and decoded.min() > 0 and decoded.max() < 1
    kinds = [type(m) for m in decoder.layers if not isinstance(m, nn.BatchNorm2d)]
    assert kinds == [nn.ConvTranspose2d, nn.LeakyReLU] * 5 + [nn.ConvTranspose2d, nn.Sigmoid]


def test_both_branches_are_four_convolutions_on_one_map():
    model = make()
    for branch in (model.encoder.embedding, model.rest):
        assert [m.out_channels for m in branch.modules() if isinstance(m, nn.Conv2d)] == [8] * 4
        assert sum(isinstance(m, nn.LeakyReLU) for m in branch.modules()) == 4
    expression, rest = model.eval().codes(some()[0])
    assert expression.shape == rest.shape == (6, 8) and not torch.allclose(expression, rest)
    torch.testing.assert_close(expression, model.encoder(some()[0]))  # what is exported
    assert isinstance(model.expression, nn.Linear) and isinstance(model.adversary.classifier, nn.Linear)


def test_what_is_decoded_has_one_brightness_and_contrast():
    images = 0.4 + 0.2 * some()[0]
    seen = make().seen(images)
    torch.testing.assert_close(seen.mean((1, 2, 3)), torch.full((6,), 0.5), atol=0.01, rtol=0)
    torch.testing.assert_close(seen, make().seen(images * 0.7 + 0.2), atol=0.02, rtol=0)


def test_settings_make_the_papers_models():
    config = DisentangleConfig()
    assert (config.backbone, config.neck, config.betas) == ("inception_resnet_v1", "four_convolutions", (0.0, 1.0, 1.0))
    baseline, default, whole = make(0, 0), make(0, 1), make(0.001, 1)
    assert baseline.rest is None and baseline.adversary is None and baseline.decoder is None
    assert default.adversary is not None and default.decoder is None and whole.decoder is not None
    with pytest.raises(InputError, match="without a decoder"):
        default.decode(torch.zeros(1, 8), torch.zeros(1, 8))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta1": 0.1, "size": 48}, "multiple of 32, got 48"),
        ({"beta3": -1.0}, "0 or more"),
        ({"beta2": float("nan")}, "0 or more"),
        ({"backbone": "vgg"}, "'vgg'"),
    ],
)
def test_settings_that_make_no_model_are_refused_at_once(settings: dict, message: str):
    with pytest.raises(InputError, match=message):
        replace(SMALL, **settings)


# --- scores ---


def test_accuracies_by_hand():
    logits = nn.functional.one_hot(torch.tensor([0, 0, 0, 5, 2]), 8).float()
    assert recipe.accuracies(logits, torch.tensor([0, 0, 0, 0, 2])) == pytest.approx((0.8, (0.75 + 1) / 2))


def test_pairs_are_of_different_people():
    codes = torch.tensor([[1.0, 0], [2.0, 0], [0, 3.0], [1.0, 1.0]])
    labels, persons = torch.tensor([0, 0, 1, 0]), torch.tensor([7, 7, -1, -1])
    half = math.sqrt(0.5)
    same, different = recipe.pair_similarities(codes, labels, persons)
    assert same == pytest.approx((half + half) / 2)  # faces 0 and 1 are one person's; 3 is anybody
    assert different == pytest.approx((0 + 0 + half) / 3)
    alone = recipe.pair_similarities(codes[:2], labels[:2], persons[:2])
    assert all(math.isnan(v) for v in alone)


def test_the_fresh_classifier_is_logistic_regression():
    linear_model = pytest.importorskip("sklearn.linear_model")
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 8
    codes = torch.randn(400, 5, generator=generator) + torch.randn(8, 5, generator=generator)[labels] + 3
    found = recipe.fresh_classifier(codes, labels, decay=1e-2)(codes).softmax(1)
    scaled = ((codes - codes.mean(0)) / codes.std(0)).numpy()
    reference = linear_model.LogisticRegression(C=1 / (2 * 400 * 1e-2), max_iter=2000, tol=1e-8).fit(scaled, labels)
    np.testing.assert_allclose(found.numpy(), reference.predict_proba(scaled), atol=2e-3)


# --- the game ---


def squares(count: int, seed: int) -> FaceArrays:
    """Noise; a brighter square on the left says the expression, one at the top says nothing about it."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    images = torch.randint(0, 80, (count, 1, 32, 32), generator=generator)
    images[:, :, 10:26, 2:14] += 150 * labels[:, None, None, None]
    images[:, :, 1:8, 8:24] += 100 * torch.randint(0, 2, (count, 1, 1, 1), generator=generator)
    nan = torch.full((count,), float("nan"))
    return FaceArrays(images.byte(), labels, torch.full((count, 8), float("nan")), nan, nan)


class Tiny(nn.Sequential):
    """A backbone that takes milliseconds."""

    num_features = 16

    def __init__(self, in_chans: int) -> None:
        layers = [
            nn.Conv2d(in_chans, 16, 5, 4, 2),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, 2, 1),
            nn.ReLU(),
        ]
        super().__init__(*layers)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return self(images)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> DisentangleConfig:
    monkeypatch.setitem(BACKBONES, "tiny", Tiny)
    return replace(SMALL, backbone="tiny")


@pytest.mark.slow
@pytest.mark.parametrize("beta3", [1.0, 1e-9])
def test_the_adversary_is_left_with_chance_where_the_branch_is_trained_against_it(
    beta3: float, tiny: DisentangleConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recipe, "CLASSES", 2)
    faces = {"train": squares(512, 0), "valid": squares(200, 1)}
    config = replace(tiny, beta3=beta3, batch=64, epochs=30, adversary_rate=0.01)
    scores = recipe.Disentangle(faces, config, tmp_path).run()["valid"]
    assert scores["majority"] == 0.5 and scores["expression_accuracy"] > 0.95
    if beta3 == 1:
        assert 0.3 < scores["adversary_accuracy"] < 0.7
    else:  # it only looks on
        assert scores["adversary_accuracy"] > 0.95
    assert scores["cosine_same"] > scores["cosine_different"]


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_run_that_was_stopped_ends_where_an_unbroken_one_does(
    average: float, tiny: DisentangleConfig, tmp_path: Path
):
    faces = {"train": squares(48, 0), "valid": squares(32, 1)}
    config = replace(tiny, beta1=0.001, epochs=3, average=average, adversary_rate=0.05)
    recipe.Disentangle(faces, config, tmp_path / "whole").run()
    for _ in range(3):
        recipe.Disentangle(faces, replace(config, minutes=1e-9), tmp_path / "broken").run()
    whole, broken = (load_checkpoint(tmp_path / run / "last.pt")["model"] for run in ("whole", "broken"))
    state = whole.pop("adversary._extra_state"), broken.pop("adversary._extra_state")
    for name, value in whole.items():
        torch.testing.assert_close(broken[name], value, rtol=0, atol=0, msg=name)
    assert state[0]["schedule"] == state[1]["schedule"]
    one, other = (s["optimizer"]["state"][0] for s in state)
    assert int(one["step"]) == int(other["step"]) == 9
    torch.testing.assert_close(one["exp_avg"], other["exp_avg"], rtol=0, atol=0)


# --- real faces ---


@pytest.fixture(scope="module")
def trained(shared: Path, tmp_path_factory: pytest.TempPathFactory):
    """A short run with a decoder on faces of LFW: its folder, the data, settings, scores."""
    monkeypatch = pytest.MonkeyPatch()
    out = run_folder(shared, tmp_path_factory.mktemp("run") / "out", monkeypatch)
    config = replace(SMALL, beta1=0.01, epochs=4, augment="paper", learning_rate=1e-3)
    scores = recipe.Disentangle.open([few_faces(shared)], out, config, device="cpu", jobs=1).run()
    yield out, few_faces(shared), config, scores
    monkeypatch.undo()


@pytest.mark.shared
def test_losses_fall_on_real_faces(trained):
    out, _, config, scores = trained
    log = log_of(out)
    for name in ("total", "expression", "reconstruction"):
        assert log[-1]["train"][name] < log[0]["train"][name], name
    assert log[-1]["valid"]["total"] < log[0]["valid"]["total"]
    assert set(scores["valid"]) == {
        *(f"{who}_{what}" for who in ("expression", "adversary", "refit") for what in ("accuracy", "mean_class")),
        *("majority", "cosine_same", "cosine_different", "pixel_error"),
    }
    assert 0 < scores["valid"]["pixel_error"] < 0.0625 * 1.2  # a little worse than plain grey at most
    assert load_checkpoint(out / "encoder.pt")["config"] == asdict(config)


@pytest.mark.shared
def test_the_encoder_is_the_base_and_the_expression_branch_and_exports(trained, tmp_path: Path):
    pytest.importorskip("onnx")
    out, _, _, _ = trained
    made = export_encoder(out / "encoder.pt", tmp_path / "toy.onnx")
    assert (made.dimension, made.size) == (8, 32)
    whole, part = load_encoder(out / "best.pt")[0], load_encoder(out / "encoder.pt")[0]
    assert all(torch.equal(v, part.state_dict()[k]) for k, v in whole.state_dict().items())


@pytest.mark.shared
def test_two_faces_exchange_their_expressions(trained, tmp_path: Path):
    from exprmetric.probes.exchange import ROWS, exchange, load_disentangler

    out, _, config, _ = trained
    model, found = load_disentangler(out / "best.pt")
    assert found == config and not model.training
    first, second = some(1)[0], some(2)[0][1:].sqrt()
    made = exchange(model, first, second)
    assert set(made.images) == set(made.read) == {name for row in ROWS for name in row}
    (e1, r1), (e2, r2) = model.codes(first), model.codes(second)
    for name, codes in {"x1'": (e1, r1), "x2'": (e2, r2), "x1''": (e2, r1), "x2''": (e1, r2)}.items():
        torch.testing.assert_close(made.images[name], model.decode(*codes)[0].detach(), atol=1e-5, rtol=1e-4, msg=name)
    torch.testing.assert_close(made.images["x2"], model.seen(second)[0], atol=1e-5, rtol=1e-4)
    itself = exchange(model, first, first)
    torch.testing.assert_close(itself.images["x1''"], itself.images["x1'"])  # the same expression changes nothing


def call(*arguments: object):
    from exprmetric_cli.main import main  # the group turns typed errors into exit codes

    return CliRunner().invoke(main, ["probe", "exchange", *map(str, arguments)])


@pytest.mark.shared
def test_the_command_draws_the_picture(trained, tmp_path: Path):
    from PIL import Image

    out, data, _, _ = trained
    first, second, *_ = sorted((data / "images").rglob("*.jpg"))
    result = call(out / "best.pt", first, second, "--out", tmp_path / "new" / "x.png")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("x1'") == 2 and "x2''" in result.stdout
    with Image.open(tmp_path / "new" / "x.png") as picture:
        pixels = np.asarray(picture)
    assert picture.format == "PNG" and pixels.shape[1] > pixels.shape[0] > 384 and pixels.std() > 20


@pytest.mark.shared
def test_the_command_says_what_is_wrong_with_its_files(trained, portrait_photo: Path, tmp_path: Path):
    out, data, _, _ = trained
    photo = min((data / "images").rglob("*.jpg"))
    settings = asdict(replace(SMALL, size=32))
    save_checkpoint(tmp_path / "plain.pt", {"model": {}, "config": settings})
    save_checkpoint(tmp_path / "other.pt", {"model": {}, "config": {"backbone": "resnet18"}})
    save_checkpoint(tmp_path / "empty.pt", {"model": {}, "config": {**settings, "beta1": 1.0}})
    (tmp_path / "text.pt").write_text("no checkpoint")
    for checkpoint, message in (
        (out / "encoder.pt", "holds the encoder alone"),
        (tmp_path / "plain.pt", r"without a decoder (beta1 = 0)"),
        (tmp_path / "other.pt", "another recipe"),
        (tmp_path / "empty.pt", "doesn't hold the model"),
        (tmp_path / "text.pt", "is no checkpoint"),
    ):
        result = call(checkpoint, photo, photo, "--out", tmp_path / "x.png")
        assert result.exit_code == 2 and message in result.stderr, (checkpoint, result.output)
    blank = tmp_path / "blank.png"
    from PIL import Image

    Image.new("RGB", (200, 200)).save(blank)
    for image, message in ((blank, "blank.png: "), (tmp_path / "none.jpg", "none.jpg")):
        result = call(out / "best.pt", photo, image, "--out", tmp_path / "x.png")
        assert result.exit_code == 1 and message in result.stderr, result.output
    assert not (tmp_path / "x.png").exists()
