"""Augmentation, the loop with its checkpoints, and the recipe of paper 000 at toy size on real faces."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from exprmetric.datasets import alignment
from exprmetric.datasets.arrays import FaceArrays, load_arrays
from exprmetric.datasets.layouts import FaceDataset, open_dataset
from exprmetric.datasets.samples import EXPRESSIONS
from exprmetric.encoder.checkpoint import load_checkpoint, save_checkpoint
from exprmetric.encoder.models import BACKBONES, Encoder, Standardise
from exprmetric.errors import ExprmetricError, InputError, ProviderError
from exprmetric.probes.classify import head as head_protocol
from exprmetric.probes.parts import Known, Part, Space
from exprmetric.training.augment import AUGMENTATIONS, PAPER_CROP, paper, robust
from exprmetric.training.loop import Schedule, Trainer, pick_device
from exprmetric.training.recipes import load_recipe, wsupcon
from exprmetric.training.recipes.common import embed, load_faces, without_contempt
from exprmetric.training.recipes.wsupcon import WSupConConfig, train_head

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def faces() -> list[np.ndarray]:
    """The frontal faces of the bundled photographs, RGB uint8 (256, 256, 3)."""
    from exprmetric.demo.make import demo_faces
    from exprmetric.faces import load_detector

    return [f.image for f in demo_faces(load_detector("dlib"))]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- augmentation ---


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
@pytest.mark.parametrize("channels", [1, 3])
def test_augmentation_keeps_shape_and_range_and_follows_its_generator(name: str, channels: int):
    images = torch.rand(6, channels, 40, 40, generator=generator(9))
    before = images.clone()
    out = AUGMENTATIONS[name](images, generator(1))
    assert out.shape == images.shape and out.dtype == images.dtype
    assert torch.isfinite(out).all()
    noise = 0.25 if name in ("robust", "degraded") else 0.0  # up to six deviations of 0.04
    assert out.min() >= -noise and out.max() <= 1 + noise
    assert torch.equal(images, before)  # a data set in memory is not changed
    assert torch.equal(out, AUGMENTATIONS[name](images, generator(1)))
    if name == "none":
        assert torch.equal(out, images)
    else:
        assert not torch.equal(out, AUGMENTATIONS[name](images, generator(2)))
        assert not torch.equal(out[0], AUGMENTATIONS[name](images[:1].expand(6, -1, -1, -1), generator(1))[1])


def ramps(count: int, size: int = 224) -> torch.Tensor:
    """Images whose two channels are the x and the y of each pixel's centre, 0..1."""
    place = (torch.arange(size) + 0.5) / size
    one = torch.stack([place.expand(size, size), place[:, None].expand(size, size)])
    return one.expand(count, -1, -1, -1)


def test_the_papers_crop_covers_200_of_224_px_inside_the_image():
    out = paper(ramps(300), generator())
    inner = out[:, :, 2:-2, 2:-2]  # half a pixel at the border is repeated
    steps = {"x": inner[:, 0].diff(dim=2).abs(), "y": inner[:, 1].diff(dim=1).abs()}
    for values in steps.values():  # each output pixel steps 200/224 of an input pixel
        torch.testing.assert_close(values, torch.full_like(values, 200 / 224 / 224), atol=2e-6, rtol=0)
    assert PAPER_CROP == 200 / 224
    middle = out[:, :, 111:113, 111:113].mean((2, 3))  # the crop's centre
    low, high = middle.min(0).values, middle.max(0).values
    room = (1 - 200 / 224) / 2
    assert (low >= 0.5 - room - 1e-5).all() and (high <= 0.5 + room + 1e-5).all()
    assert (low < 0.5 - 0.8 * room).all() and (high > 0.5 + 0.8 * room).all()  # anywhere in the room there is
    assert (inner[:, 1].diff(dim=1) > 0).all()  # never upside down


@pytest.mark.parametrize("augment", [paper, robust])
def test_half_of_the_faces_are_mirrored(augment):
    left_to_right = ramps(1000, 24)
    out = augment(left_to_right, generator(3))
    mirrored = (out[:, 0, :, :8].mean((1, 2)) > out[:, 0, :, -8:].mean((1, 2))).float().mean()
    assert float(mirrored) == pytest.approx(0.5, abs=0.06)


def test_robust_hides_a_part_of_some_faces_and_turns_both_ways():
    out = robust(torch.full((400, 1, 32, 32), 0.5), generator(4))
    hidden = (out - out.median(dim=3).values.median(dim=2).values[..., None, None]).abs().amax((1, 2, 3)) > 0.25
    assert 0.05 < float(hidden.float().mean()) < 0.3
    tilt = robust(ramps(400, 32), generator(5))[:, 1, :, :].diff(dim=2).mean((1, 2))
    assert (tilt > 0).any() and (tilt < 0).any()


# --- the loop ---


class Climber(nn.Module):
    """One number that every step raises by one."""

    def __init__(self) -> None:
        super().__init__()
        self.height = nn.Parameter(torch.zeros(()))


def climb(model: nn.Module, peak: float) -> dict[str, torch.Tensor]:
    loss = -model.height if model.training else (model.height - peak).abs()
    return {"total": loss}


def climber(out: Path, average: float = 0.0) -> Trainer:
    model = Climber()
    return Trainer(model, torch.optim.SGD(model.parameters(), 1.0), None, climb, out, {"seed": 0}, average)


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("patience", "epochs"), [(1, 4), (2, 5), (4, 7), (100, 9)])
def test_early_stopping_waits_its_patience_and_restores_the_best_weights(patience: int, epochs: int, tmp_path: Path):
    trainer = climber(tmp_path)
    trainer.fit(lambda epoch: [3.0], lambda: [3.0], Schedule(9, patience), batches=1)
    assert trainer.epoch == epochs  # the best epoch is the third
    assert float(trainer.model.height.detach()) == 3.0
    assert (trainer.best, trainer.best_epoch) == (0.0, 3)
    assert [line["best"] for line in lines(tmp_path)] == [True] * 3 + [False] * (epochs - 3)
    assert float(load_checkpoint(tmp_path / "last.pt")["model"]["height"]) == epochs


def test_the_log_has_a_line_an_epoch_with_mean_losses(tmp_path: Path):
    climber(tmp_path).fit(lambda epoch: [0.0, 0.0], lambda: [10.0, 20.0], Schedule(2, 9), batches=2)
    first, second = lines(tmp_path)
    assert (first["epoch"], second["epoch"]) == (1, 2)
    assert first["train"] == {"total": -0.5}  # heights 0 and 1
    assert first["valid"] == {"total": 13.0}  # from height 2 to 10 and to 20
    assert first["seconds"] >= 0 and first["best"] is True


def test_the_running_average_is_what_is_validated_and_kept(tmp_path: Path):
    trainer = climber(tmp_path, average=0.5)
    trainer.fit(lambda epoch: [0.0], lambda: [10.0], Schedule(3, 9), batches=1)
    # weights 1, 2, 3; the average begins at 1 and then goes half the way each time
    assert [line["valid"]["total"] for line in lines(tmp_path)] == [9.0, 8.5, 7.75]
    assert float(trainer.model.height.detach()) == 2.25
    assert float(load_checkpoint(tmp_path / "best.pt")["model"]["height"]) == 2.25
    last = load_checkpoint(tmp_path / "last.pt")
    assert float(last["model"]["height"]) == 3.0 and float(last["average"]["module.height"]) == 2.25


def test_an_epoch_without_batches_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="fewer faces than the batch size"):
        climber(tmp_path).fit(lambda epoch: [], lambda: [0.0], Schedule(2, 2), batches=0)


def test_a_loss_that_is_no_number_stops_the_run_and_spoils_no_checkpoint(tmp_path: Path):
    peaks = iter([5.0, float("nan")])
    with pytest.raises(ExprmetricError, match="epoch 2: the validation loss is nan"):
        climber(tmp_path).fit(lambda epoch: [0.0], lambda: [next(peaks)], Schedule(5, 5), batches=1)
    assert load_checkpoint(tmp_path / "last.pt")["epoch"] == 1


def test_a_run_stops_after_its_minutes(tmp_path: Path):
    trainer = climber(tmp_path)
    trainer.fit(lambda epoch: [0.0], lambda: [100.0], Schedule(50, 50, minutes=1e-9), batches=1)
    assert trainer.epoch == 1


SAMPLES = torch.randn(64, 4, generator=generator(1))
TRUTH = SAMPLES[:, :1].tanh() + SAMPLES[:, 1:2] * 0.5


def regression(out: Path, average: float = 0.0, dropout: float = 0.0) -> Trainer:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(dropout), nn.Linear(64, 1)
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)

    def step(model: nn.Module, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"total": nn.functional.mse_loss(model(SAMPLES[batch]), TRUTH[batch])}

    return Trainer(model, optimizer, scheduler, step, out, {"lr": 0.01}, average)


def shuffled(epoch: int) -> Iterable[torch.Tensor]:
    torch.manual_seed(1000 + epoch)  # for the dropout
    return torch.randperm(64, generator=generator(epoch)).split(16)


def everything() -> list[torch.Tensor]:
    return [torch.arange(64)]


def test_a_small_problem_is_learned_by_heart(tmp_path: Path):
    trainer = regression(tmp_path)
    trainer.fit(shuffled, everything, Schedule(60, 60), batches=4)
    losses = [line["valid"]["total"] for line in lines(tmp_path)]
    assert min(losses) < 0.08 * losses[0]
    trainer.model.eval()
    with torch.no_grad():  # the weights that are there now are those of the best epoch
        assert float(trainer.step(trainer.model, everything()[0])["total"]) == pytest.approx(min(losses), rel=1e-4)


@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("stop", ["between epochs", "killed within one"])
def test_a_run_that_is_stopped_and_resumed_equals_an_unbroken_one(stop: str, average: float, tmp_path: Path):
    unbroken = regression(tmp_path / "unbroken", average, dropout=0.2)
    unbroken.fit(shuffled, everything, Schedule(6, 6), batches=4)

    broken = regression(tmp_path / "broken", average, dropout=0.2)
    if stop == "between epochs":
        broken.fit(shuffled, everything, Schedule(3, 6), batches=4)
    else:

        def killed(epoch: int) -> Iterable[torch.Tensor]:
            for i, batch in enumerate(shuffled(epoch)):
                if (epoch, i) == (3, 2):
                    raise KeyboardInterrupt
                yield batch

        with pytest.raises(KeyboardInterrupt):
            broken.fit(killed, everything, Schedule(6, 6), batches=4)
    resumed = regression(tmp_path / "broken", average, dropout=0.2)
    assert resumed.resume() and resumed.epoch == 3
    resumed.fit(shuffled, everything, Schedule(6, 6), batches=4)

    assert (resumed.best, resumed.best_epoch) == (unbroken.best, unbroken.best_epoch)
    for name, tensor in unbroken.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    for file in ("best.pt", "last.pt"):
        one, other = (load_checkpoint(tmp_path / run / file)["model"] for run in ("unbroken", "broken"))
        assert all(torch.equal(one[k], other[k]) for k in one)
    plain = [{k: v for k, v in line.items() if k != "seconds"} for line in lines(tmp_path / "unbroken")]
    assert [{k: v for k, v in line.items() if k != "seconds"} for line in lines(tmp_path / "broken")] == plain


def test_a_checkpoint_with_another_kind_of_scheduler_is_refused(tmp_path: Path):
    regression(tmp_path).fit(shuffled, everything, Schedule(1, 6), batches=4)
    other = regression(tmp_path)
    other.scheduler = torch.optim.lr_scheduler.LambdaLR(other.optimizer, lambda i: 1.0)
    with pytest.raises(InputError, match="another way of the learning rate"):
        other.resume()


def test_nothing_to_resume_is_no_error(tmp_path: Path):
    assert climber(tmp_path).resume() is False


def test_checkpoints_hold_plain_values_alone(tmp_path: Path):
    regression(tmp_path, average=0.9).fit(shuffled, everything, Schedule(1, 1), batches=4)
    for name in ("best.pt", "last.pt"):
        state = torch.load(tmp_path / name, weights_only=True)
        assert state["config"] == {"lr": 0.01} and state["epoch"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.pt", "last.pt", "log.jsonl"]


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_a_foreign_checkpoint_runs_no_code(tmp_path: Path):
    save_checkpoint(tmp_path / "evil.pt", {"model": Bomb(tmp_path / "exploded")})
    with pytest.raises(Exception, match="weights_only"):
        load_checkpoint(tmp_path / "evil.pt")
    assert not (tmp_path / "exploded").exists()


def test_a_gpu_that_is_not_there_is_no_silent_cpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto").type == pick_device("cpu").type == "cpu"
    with pytest.raises(ProviderError, match="'cuda:1' was asked for"):
        pick_device("cuda:1")


# --- the encoder ---


def test_brightness_and_contrast_are_no_expression():
    images = torch.rand(3, 1, 16, 16, generator=generator()) * 0.5 + 0.2
    plain, changed = Standardise()(images), Standardise()(images * 0.6 + 0.1)
    torch.testing.assert_close(plain, changed, atol=0.03, rtol=0)
    torch.testing.assert_close(plain.mean((1, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    assert torch.isfinite(Standardise()(torch.zeros(1, 1, 8, 8))).all()


@pytest.mark.parametrize("backbone", ["resnet18", "regnetx_004"])
def test_the_encoder_gives_one_vector_a_face(backbone: str):
    encoder = Encoder(backbone).eval()
    with torch.no_grad():
        assert encoder(torch.rand(3, 1, 48, 48)).shape == (3, encoder.dimension)


def test_unknown_settings_are_refused_before_any_work():
    with pytest.raises(InputError, match=r"'vgg'.*resnet18"):
        WSupConConfig(backbone="vgg")
    with pytest.raises(InputError, match=r"'wild'.*robust"):
        WSupConConfig(augment="wild")
    with pytest.raises(InputError, match="'vgg'"):
        Encoder("vgg")


def test_the_rate_rises_over_the_warm_up_and_falls_by_the_decay_whatever_the_epochs():
    config = WSupConConfig(warmup=10, decay=0.5, decay_steps=100, learning_rate=0.2)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], config.learning_rate)
    scheduler = config.scheduler(optimizer, 7)
    rates = []
    for _ in range(201):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[4] == pytest.approx(0.2 * 0.5 * 0.5**0.04)
    assert (rates[100], rates[200]) == pytest.approx((0.1, 0.05))


def test_the_defaults_are_the_papers():
    config = WSupConConfig()
    assert (config.backbone, config.size, config.projection) == ("efficientnet_b0", 224, 128)
    assert (config.learning_rate, config.decay, config.decay_steps) == (1e-3, 0.9, 15_000)
    assert (config.batch, config.temperature) == (128, 0.05)
    assert (config.epochs, config.head_epochs) == (50, 25)
    assert config.weighted and config.affect and not config.votes and config.augment == "paper"
    assert config.backbone in BACKBONES


# --- data in memory ---


def save_png(path: Path, image: np.ndarray) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.fixture
def only_dlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)
    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path / "no cache"))


def test_arrays_hold_the_crops_that_evaluate_measures(only_dlib: None, faces, tmp_path: Path, monkeypatch):
    import cv2

    from exprmetric.faces import FaceFinder, load_detector

    for i, image in enumerate(faces[:3]):
        save_png(tmp_path / "set" / "train" / "happy" / f"{i}.png", image)
    save_png(tmp_path / "set" / "train" / "fear" / "no face.png", np.zeros((256, 256, 3), np.uint8))
    save_png(tmp_path / "set" / "valid" / "anger" / "3.png", faces[3])
    dataset = open_dataset(tmp_path / "set")

    def load(split: str, crop: int) -> FaceArrays:
        return load_arrays([dataset], split, crop=crop, size=crop, cache=tmp_path / "cache", device=CPU, jobs=1)

    whole, centre = load("train", 224), load("train", 176)
    assert whole.images.shape == (4, 1, 224, 224) and whole.images.dtype == torch.uint8
    assert [EXPRESSIONS[i] for i in whole.labels] == ["fear", "happiness", "happiness", "happiness"]
    assert whole.votes.shape == (4, 8) and whole.votes.isnan().all() and whole.valence.isnan().all()
    finder = FaceFinder(load_detector("dlib"), "center")
    for i, image in enumerate(faces[:3], start=1):
        crop = cv2.cvtColor(finder.find(image).crop("eyes70"), cv2.COLOR_RGB2GRAY)
        assert np.abs(whole.images[i, 0].numpy().astype(int) - crop).max() <= 1
        assert np.abs(centre.images[i, 0].numpy().astype(int) - crop[24:200, 24:200]).max() <= 1
    kept = alignment.align_dataset(dataset, tmp_path / "cache")
    assert kept.found.tolist() == [False, True, True, True, True] and kept.detector == "dlib"
    np.testing.assert_allclose(kept.matrices[0], np.median(kept.matrices[1:], axis=0))

    monkeypatch.setattr(alignment, "_align_chunk", None)  # what is kept needs no detector
    assert len(load("valid", 224)) == 1
    with pytest.raises(InputError, match="'test' of set"):
        load("test", 224)


def test_missing_and_broken_images_are_left_out_of_the_arrays_and_counted(only_dlib: None, faces, tmp_path: Path):
    label = "EmoLabel/list_patition_label.txt"
    (tmp_path / "raf" / "EmoLabel").mkdir(parents=True)
    (tmp_path / "raf" / label).write_text("".join(f"train_{i}.jpg {i + 1}\n" for i in range(5)))
    for i in (0, 2, 4):
        save_png(tmp_path / "raf" / "Image" / "aligned" / f"train_{i}_aligned.jpg", faces[i])
    (tmp_path / "raf" / "Image" / "aligned" / "train_3_aligned.jpg").write_bytes(b"no picture")
    seen = []

    def annotate(dataset, alignment, keep):
        seen.append(keep)
        return {"row": np.array(keep)}

    def load() -> FaceArrays:
        how = {"crop": 176, "size": 48, "cache": tmp_path / "cache", "device": CPU, "jobs": 1}
        return load_arrays([open_dataset(tmp_path / "raf")], "train", annotate=annotate, **how)

    for _ in range(2):  # aligned now, then from what is kept
        with pytest.warns(UserWarning, match="2 of 5 images are left out, the first: .*train_1_aligned"):
            arrays = load()
        assert [EXPRESSIONS[i] for i in arrays.labels] == ["surprise", "disgust", "sadness"]
        assert arrays.images.shape == (3, 1, 48, 48) and arrays.images.float().std((1, 2, 3)).min() > 5
        assert arrays.sources == ("raf",) * 3 and arrays.extra["row"].tolist() == [0, 2, 4]
    assert seen == [[0, 2, 4]] * 2


def test_batches_are_shuffled_by_their_generator_and_leave_no_face_out():
    pixels = torch.arange(10, dtype=torch.uint8)[:, None, None, None].expand(10, 1, 2, 2) * 25
    unknown = torch.full((10,), float("nan"))
    arrays = FaceArrays(pixels, torch.arange(10), torch.full((10, 8), float("nan")), unknown, unknown)
    epochs = [[b.labels.tolist() for b in arrays.shuffled(4, generator(s))] for s in (0, 0, 1)]
    assert epochs[0] == epochs[1] != epochs[2]
    assert [len(b) for b in epochs[0]] == [4, 4] and len({*epochs[0][0], *epochs[0][1]}) == 8
    ordered = list(arrays.ordered(4))
    assert torch.cat([b.labels for b in ordered]).tolist() == list(range(10))
    torch.testing.assert_close(ordered[2].images[1], torch.full((1, 2, 2), 225 / 255))


# --- the recipe ---

TOY = WSupConConfig(
    backbone="resnet18", size=32, crop=176, batch=16, epochs=4, head_epochs=6, head_views=2, votes=0.5, seed=3
)


def toy_arrays(faces: list[np.ndarray], copies: int, seed: int) -> FaceArrays:
    """Real faces, flipped, warped and degraded; the labels are made up: one a person, so that they can be learned."""
    grey = torch.tensor(np.stack(faces)).float().mean(3)[:, None] / 255
    small = nn.functional.interpolate(grey, size=32, mode="bilinear", antialias=True)
    labels = torch.arange(len(faces)).repeat(copies)
    images = (robust(small.repeat(copies, 1, 1, 1), generator(seed)).clamp(0, 1) * 255).round().byte()
    votes = 0.8 * nn.functional.one_hot(labels, 8).float() + 0.025
    votes[::3] = float("nan")
    valence = labels / 4 - 0.5
    valence[1::2] = float("nan")
    return FaceArrays(images, labels, votes, valence, -valence)


@pytest.fixture(scope="module")
def toy(faces) -> dict[str, FaceArrays]:
    valid = toy_arrays(faces, 6, 2)
    return {"train": toy_arrays(faces, 16, 1), "valid": valid, "test": valid}


@pytest.fixture(scope="module")
def toy_run(toy, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    out = tmp_path_factory.mktemp("toy")
    return wsupcon.WSupConRecipe(toy, TOY, out).run(), out


def test_the_recipe_learns_and_writes_what_it_promises(toy_run, toy):
    scores, out = toy_run
    log = lines(out)
    assert set(log[0]["train"]) == {"contrastive", "valence", "arousal", "votes", "total"}
    terms = [v for k, v in log[0]["train"].items() if k != "total"]
    assert log[0]["train"]["total"] == pytest.approx(sum(terms), rel=1e-4)
    assert log[-1]["train"]["total"] < 0.8 * log[0]["train"]["total"]
    assert json.loads((out / "scores.json").read_text()) == scores
    assert json.loads((out / "config.json").read_text()) == asdict(TOY)
    assert set(scores) == {"valid", "test"} and scores["valid"] == scores["test"]
    confusion = np.array(scores["valid"]["confusion"])
    assert confusion.shape == (8, 8) and confusion.sum() == scores["valid"]["n"] == len(toy["valid"])
    assert confusion.trace() / confusion.sum() == pytest.approx(scores["valid"]["accuracy"])
    assert scores["valid"]["mean_class_accuracy"] == pytest.approx(np.mean(list(scores["valid"]["recall"].values())))
    kept = load_checkpoint(out / "encoder.pt")
    assert kept["config"] == asdict(TOY)
    best = load_checkpoint(out / "best.pt")["model"]
    assert all(torch.equal(v, best[f"encoder.{k}"]) for k, v in kept["encoder"].items())


@pytest.mark.slow
def test_the_same_seed_gives_the_same_result_broken_off_or_not(toy_run, toy, tmp_path: Path):
    scores, out = toy_run
    # stopped after half of the epochs, and its head learnt
    wsupcon.WSupConRecipe(toy, replace(TOY, epochs=2), tmp_path).run()
    again = wsupcon.WSupConRecipe(toy, TOY, tmp_path).run()
    one, other = (load_checkpoint(folder / "encoder.pt")["encoder"] for folder in (out, tmp_path))
    assert all(torch.equal(one[k], other[k]) for k in one)
    assert again == scores


def test_a_head_that_is_stopped_and_resumed_equals_an_unbroken_one(toy_run, toy, tmp_path: Path):
    encoder = Encoder("resnet18")
    encoder.load_state_dict(load_checkpoint(toy_run[1] / "encoder.pt")["encoder"])
    unbroken = wsupcon.train_head(encoder, toy, TOY, tmp_path / "unbroken").state_dict()
    wsupcon.train_head(encoder, toy, replace(TOY, head_epochs=3), tmp_path / "broken")
    resumed = wsupcon.train_head(encoder, toy, TOY, tmp_path / "broken").state_dict()
    assert all(torch.equal(v, resumed[k]) for k, v in unbroken.items())


def test_the_head_leaves_the_encoder_frozen(toy_run, toy, tmp_path: Path):
    encoder = Encoder("resnet18")
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    wsupcon.train_head(encoder, toy, replace(TOY, head_epochs=1), tmp_path)
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())


def test_settings_change_the_terms_of_the_loss(toy):
    batch = toy["train"].batch(torch.arange(20))

    def terms(**settings) -> dict[str, float]:
        torch.manual_seed(0)
        config = replace(TOY, **settings)
        model = wsupcon.WSupCon(config)
        weights = torch.linspace(0.5, 4, 8) if config.weighted else None
        with torch.no_grad():
            found = wsupcon.pretraining_losses(model, batch.images, batch, weights, config)
        return {k: float(v) for k, v in found.items()}

    full = terms()
    assert set(terms(votes=0.0)) == {"contrastive", "valence", "arousal", "total"}
    assert set(terms(affect=False)) == {"contrastive", "votes", "total"}
    assert terms(votes=1.0)["votes"] == pytest.approx(2 * full["votes"])
    assert terms(contrast=3.0)["contrastive"] == pytest.approx(3 * full["contrastive"])
    assert terms(weighted=False)["contrastive"] != pytest.approx(full["contrastive"])


@pytest.mark.slow
def test_the_command_trains_from_a_folder_and_exports(only_dlib: None, faces, tmp_path: Path):
    from click.testing import CliRunner
    from exprmetric_cli.main import main

    for i, image in enumerate(faces):
        for j in range(6):
            split = "train" if j < 4 else "valid"
            shown = np.roll(image, 3 * j, axis=1)[:, :: 1 if j % 2 else -1]
            save_png(tmp_path / "data" / split / EXPRESSIONS[i % 3] / f"{i}-{j}.png", np.ascontiguousarray(shown))
    settings = ["backbone=resnet18", "size=32", "crop=176", "batch=8", "epochs=2", "head_epochs=2", "head_views=1"]
    command = ["train", "wsupcon", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--device", "cpu"]
    result = CliRunner().invoke(main, [*command, *(f"--set={s}" for s in settings)])
    assert result.exit_code == 0, result.output
    assert [line.split(":")[0] for line in result.stdout.splitlines()[:-1]] == ["valid"]  # no progress on stdout
    assert len(lines(tmp_path / "run")) == 2
    model = tmp_path / "toy.onnx"
    result = CliRunner().invoke(main, ["export", str(tmp_path / "run" / "encoder.pt"), str(model), "--entry"])
    assert result.exit_code == 0, result.output
    entry = json.loads(result.stdout)
    assert (entry["name"], entry["file"], entry["preprocessing"]["size"]) == ("toy", "toy.onnx", 32)
    assert entry["bytes"] == model.stat().st_size


@pytest.mark.parametrize("arguments", [["--device", "cuda"], ["--set", "backbone=vgg"]])
def test_the_command_refuses_without_a_traceback(arguments: list[str], only_dlib, faces, monkeypatch, tmp_path: Path):
    from click.testing import CliRunner
    from exprmetric_cli.main import main

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    save_png(tmp_path / "data" / "fear" / "1.png", faces[0])
    command = ["train", "wsupcon", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(main, [*command, *arguments])
    assert result.exit_code in (1, 2)
    assert isinstance(result.exception, SystemExit) and "Error: " in result.stderr


def test_the_heads_loss_is_ce_times_w_of_y_and_not_torchs_weighted_mean(tmp_path: Path):
    torch.manual_seed(0)
    images = torch.randint(0, 255, (40, 1, 32, 32)).byte()
    labels = torch.tensor([0] * 30 + [3] * 8 + [6] * 2)
    nan = torch.full((40,), float("nan"))
    faces = FaceArrays(images, labels, torch.full((40, 8), float("nan")), nan, nan)
    valid = faces.subset(torch.arange(25, 40))
    config = replace(TOY, head_epochs=1, head_views=1, augment="none", backbone="resnet18")
    encoder = config.encoder()
    head = train_head(encoder, {"train": faces, "valid": valid}, config, tmp_path)
    (log,) = [json.loads(line) for path in tmp_path.glob("head/*/log.jsonl") for line in path.read_text().splitlines()]
    with torch.no_grad():
        logits = head.eval()(embed(encoder, valid)).double().numpy()
    truth = valid.labels.numpy()
    weights = 40 / (8 * np.bincount(labels.numpy(), minlength=8).clip(1))
    each = np.log(np.exp(logits).sum(1)) - logits[np.arange(15), truth]
    assert log["valid"]["total"] == pytest.approx(float((weights[truth] * each).mean()), rel=1e-4)


def test_the_protocols_head_never_divides_by_the_sum_of_weights(monkeypatch: pytest.MonkeyPatch):
    real = torch.nn.functional.cross_entropy

    def plain(logits, labels, weight=None, **how):
        assert weight is None
        return real(logits, labels, **how)

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", plain)
    random = np.random.default_rng(0)
    known = Known(np.arange(40) % 3, np.full((40, 8), np.nan), np.full((40, 2), np.nan), ("",) * 40)
    part = Part(random.normal(size=(40, 4)).astype(np.float32), known)
    found = head_protocol(Space(part, part, None, lambda a, b: np.zeros(len(a)), resamples=0))
    assert 0 <= found.scores["accuracy"].value <= 1


def test_seven_classes_leave_contempt_out_and_share_its_votes_among_the_others(only_dlib: None, faces, tmp_path: Path):
    for split, labels in (("train", (0, 1, 7)), ("valid", (3, 7))):
        for i, label in enumerate(labels):
            save_png(tmp_path / "set" / split / EXPRESSIONS[label] / f"{i}.png", faces[i])
    config = WSupConConfig(backbone="resnet18", size=48, crop=176, contempt=False)
    found = load_faces([tmp_path / "set"], config, tmp_path / "out", device="cpu", jobs=1)
    assert sorted(found["train"].labels.tolist()) == [0, 1] and found["valid"].labels.tolist() == [3]
    assert len(load_faces([tmp_path / "set"], replace(config, contempt=True), tmp_path / "out", jobs=1)["train"]) == 3
    votes = torch.tensor([[0.5, 0, 0, 0, 0, 0.25, 0, 0.25], [0, 0, 0, 0, 0, 0, 0, 1.0]])
    arrays = replace(found["train"], votes=votes)
    kept = without_contempt(arrays).votes
    torch.testing.assert_close(kept[0], torch.tensor([2 / 3, 0, 0, 0, 0, 1 / 3, 0, 0]))
    assert torch.isnan(kept[1]).all()
    assert config.classes_told == 7 and classification_head_width(config, found, tmp_path) == 7


def classification_head_width(config: WSupConConfig, found: dict[str, FaceArrays], out: Path) -> int:
    head = train_head(config.encoder(), found, replace(config, head_epochs=0, head_views=1), out)
    return head[-1].out_features


@pytest.mark.parametrize(
    ("recipe", "settings", "decay"),
    [
        ("selfsupervised", {}, 0.0), ("selfsupervised", {"optimiser": "lars"}, 1.5e-6),
        ("contrawarping", {}, 1e-4), ("contrawarping", {"optimiser": "lars"}, 1.5e-6),
        ("contrawarping", {"optimiser": "lars", "weight_decay": 1e-4}, 1e-4),
        ("contrastive", {}, 1e-4), ("default", {}, 0.02), ("distil", {}, 0.02), ("wsupcon", {}, 0.0),
    ],
)  # fmt: skip
def test_lars_has_byols_weight_decay_unless_another_is_set(recipe: str, settings: dict[str, object], decay: float):
    assert load_recipe(recipe).settings(**settings).weight_decay == decay


def test_fewer_faces_than_a_batch_are_refused_in_one_sentence(tmp_path: Path):
    nan = torch.full((5,), float("nan"))
    images, votes = torch.zeros(5, 1, 32, 32, dtype=torch.uint8), torch.full((5, 8), float("nan"))
    faces = FaceArrays(images, torch.arange(5), votes, nan, nan)
    with pytest.raises(InputError, match=r"^5 training faces don't fill one batch of 16: set a smaller batch$"):
        wsupcon.WSupConRecipe({"train": faces, "valid": faces}, replace(TOY, batch=16), tmp_path)


def test_a_killed_alignment_goes_on_from_the_chunks_that_it_kept(
    only_dlib: None, faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for i in range(4):
        save_png(tmp_path / "set" / "images" / f"{i}.png", faces[i])
    dataset = open_dataset(tmp_path / "set")
    monkeypatch.setattr(alignment, "CHUNK", 2)
    whole = alignment.align_dataset(dataset, tmp_path / "whole", jobs=1)
    real, seen = FaceDataset.image, []

    def dies(self, index):
        seen.append(index)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return real(self, index)

    monkeypatch.setattr(FaceDataset, "image", dies)
    with pytest.raises(KeyboardInterrupt):
        alignment.align_dataset(dataset, tmp_path / "cache", jobs=1)
    again = alignment.align_dataset(dataset, tmp_path / "cache", jobs=1)
    assert seen == [0, 1, 2, 3, 2, 3]  # the first chunk was kept
    np.testing.assert_array_equal(again.matrices, whole.matrices)
    assert not list((tmp_path / "cache").glob("*-parts"))


def test_a_set_of_which_most_images_are_missing_is_aligned_by_those_that_are_there(
    only_dlib: None, faces, tmp_path: Path
):
    table = "image,person,emotion\n" + "".join(f"{i}.png,p{i},fear\n" for i in range(6))
    save_png(tmp_path / "set" / "images" / "0.png", faces[0])
    (tmp_path / "set" / "labels.csv").write_text(table)
    found = alignment.align_dataset(open_dataset(tmp_path / "set"), tmp_path / "cache", jobs=1)
    assert found.found.tolist() == [True] + [False] * 5
    (tmp_path / "set" / "images" / "0.png").unlink()
    with pytest.raises(InputError, match="none of the 6 images is there"):
        alignment.align_dataset(open_dataset(tmp_path / "set"), tmp_path / "cache", jobs=1)
