"""The autoencoder: what it draws, its error by hand, and that it learns from real faces."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from few_faces import Tiny, few_faces, log_of, run_folder
from torch import nn

from exprmetric.datasets.arrays import FaceArrays
from exprmetric.encoder.export import export_encoder
from exprmetric.encoder.models import Standardise
from exprmetric.errors import InputError
from exprmetric.training.recipes import autoencoder as recipe
from exprmetric.training.recipes.autoencoder import AutoencoderConfig, Decoder, start_side

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]


@pytest.mark.parametrize(("size", "side"), [(224, 7), (64, 4), (48, 6), (112, 7), (176, 11), (14, 7), (7, 7)])
def test_a_decoder_doubles_its_first_map_up_to_the_faces_size(size: int, side: int):
    assert start_side(size) == side
    if size <= 112:
        assert Decoder(12, size, width=32)(torch.randn(2, 12)).shape == (2, 1, size, size)
    doublings = [m for m in Decoder(4, size, width=32).modules() if isinstance(m, nn.ConvTranspose2d)]
    assert side * 2 ** len(doublings) == size
    channels = [m.out_channels for m in doublings]
    assert channels == sorted(channels, reverse=True) and (not channels or channels[-1] == 1)


def test_a_size_that_doubling_doesn_t_reach_is_refused():
    with pytest.raises(InputError, match="size 75"):
        AutoencoderConfig(size=75)
    with pytest.raises(InputError, match="width is 0"):
        AutoencoderConfig(size=64, width=0)


class Drawer(nn.Module):
    """Draws one value everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.standardise = Standardise()
        self.value = value

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.full_like(images, self.value)


@pytest.mark.parametrize(("value", "expected"), [(0.0, 1.0), (2.0, 5.0)])
def test_the_error_is_that_of_standardised_faces(value: float, expected: float):
    images = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.3 + 0.5
    # mean 0 and variance 1: E (v - x)² = v² + 1
    assert float(recipe.reconstruction_losses(Drawer(value), images)["total"]) == pytest.approx(expected, rel=0.05)


def test_the_error_is_over_all_faces_whatever_the_batches():
    images = torch.randint(0, 255, (7, 1, 16, 16), generator=torch.Generator().manual_seed(0)).byte()
    nan = torch.full((7,), float("nan"))
    faces = FaceArrays(images, torch.zeros(7, dtype=torch.int64), torch.full((7, 8), float("nan")), nan, nan)
    whole = recipe.reconstruction_error(Drawer(0.5), faces)
    assert recipe.reconstruction_error(Drawer(0.5), faces, batch=3) == pytest.approx(whole, rel=1e-6)
    assert whole == pytest.approx(1.25, rel=0.05)


@pytest.mark.slow
@pytest.mark.shared
def test_it_learns_to_draw_real_faces(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(AutoencoderConfig, "encoder", lambda config: Tiny())
    out = run_folder(shared, tmp_path / "out", monkeypatch)
    config = AutoencoderConfig(size=48, crop=176, batch=16, epochs=20, width=32, learning_rate=5e-3)
    scores = recipe.Autoencoding.open([few_faces(shared)], out, config, device="cpu", jobs=1).run()
    log = log_of(out)
    assert log[-1]["train"]["total"] < log[0]["train"]["total"] * 0.6
    assert scores["valid"]["mse"] < 0.6  # a grey picture scores 1


@pytest.mark.shared
def test_the_encoder_of_a_training_is_exported(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = run_folder(shared, tmp_path / "out", monkeypatch)
    config = AutoencoderConfig(backbone="resnet18", size=32, crop=176, batch=16, epochs=1, width=32)
    scores = recipe.Autoencoding.open([few_faces(shared)], out, config, device="cpu", jobs=1).run()
    assert json.loads((out / "scores.json").read_text()) == scores
    assert export_encoder(out / "encoder.pt", tmp_path / "x.onnx").dimension == 512
