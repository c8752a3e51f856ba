"""Paper 000's autoencoder (table I, last row): the encoder learns what a decoder can draw the face from.

The paper says "a simple autoencoder built on top of the original encoder", in the same configuration, and no more.
Choices:

* The decoder: a linear layer from the embedding to a map of at most 16 px of side, then transposed convolutions
  (4 x 4, stride 2) with batch norm and ReLU, each of which doubles the side and halves the channels, down to 16.
* The loss: mean squared error of the pixels. What is drawn is the face as the backbone sees it, standardised to mean 0
  and deviation 1 (the encoder doesn't know brightness and contrast): 1 is what a grey picture would score.
* The face is augmented before it enters; the same augmented face is what has to be drawn.
* The learning rate falls along a cosine, as in all recipes but wsupcon. Faces without a label are learnt from too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exprmetric.datasets.arrays import Batch, FaceArrays
from exprmetric.encoder.models import Encoder
from exprmetric.errors import InputError
from exprmetric.training.loop import Losses, autocast
from exprmetric.training.recipes.common import RecipeConfig
from exprmetric.training.recipes.recipe import Recipe

COARSEST = 16
"""Largest side, px, of the map that the decoder starts from."""


def start_side(size: int) -> int:
    """Side of the decoder's first map: `size` halved until it is odd or at most 7.

    Raises:
        InputError: too few halvings: the first map would be larger than `COARSEST`.
    """
    side = size
    while side > 7 and side % 2 == 0:
        side //= 2
    if side > COARSEST:
        raise InputError(
            f"size {size} can't be reached by doubling from {COARSEST} px or less: choose one like 64 or 224"
        )
    return side


@dataclass(frozen=True)
class AutoencoderConfig(RecipeConfig):
    """Settings of the recipe; the defaults are the paper's where it has any.

    Attributes:
        width: channels of the decoder's first map.
        unlabelled: learn from faces without a label too.
    """

    width: int = 256
    unlabelled: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        start_side(self.size)
        if self.width < 1:
            raise InputError(f"width is {self.width}: the decoder needs at least one channel")


class Decoder(nn.Module):
    """(B, dimension) → (B, drawn, size, size), mean 0 and deviation 1 a picture once it has learnt."""

    def __init__(self, dimension: int, size: int, width: int = 256, drawn: int = 1) -> None:
        super().__init__()
        side, channels = start_side(size), width
        self.start = nn.Sequential(nn.Linear(dimension, width * side**2), nn.Unflatten(1, (width, side, side)))
        layers: list[nn.Module] = []
        while side * 2 < size:
            narrower = max(min(16, channels), channels // 2)
            layers += [_double(channels, narrower), nn.BatchNorm2d(narrower), nn.ReLU()]
            side, channels = side * 2, narrower
        last = _double(channels, drawn) if side < size else nn.Conv2d(channels, drawn, 3, padding=1)
        self.draw = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), *layers, last)

    def forward(self, embedding: Tensor) -> Tensor:
        picture: Tensor = self.draw(self.start(embedding))
        return picture


def _double(before: int, after: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)


class Autoencoder(nn.Module):
    """(B, C, S, S) 0..1 → (B, C, S, S), the same faces drawn from their embeddings, standardised."""

    def __init__(self, encoder: Encoder, size: int, width: int = 256) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = Decoder(encoder.dimension, size, width, encoder.channels)

    def forward(self, images: Tensor) -> Tensor:
        picture: Tensor = self.decoder(self.encoder(images))
        return picture


def reconstruction_losses(model: Autoencoder, images: Tensor) -> Losses:
    """`total`: mean squared error between what is drawn and the standardised faces."""
    images = images.contiguous(memory_format=torch.channels_last)
    with autocast(images.device):
        drawn = model(images)
    return {"total": F.mse_loss(drawn.float(), model.encoder.standardise(images))}


class Autoencoding(Recipe[AutoencoderConfig, Autoencoder]):
    """The recipe. Scores: `mse`, the error over all faces of a split as they are."""

    settings = AutoencoderConfig
    label = "autoencoder"

    def build(self) -> Autoencoder:
        return Autoencoder(self.config.encoder(), self.config.size, self.config.width)

    def step(self, model: Autoencoder, batch: Batch) -> Losses:
        return reconstruction_losses(model, self.seen(model, batch))

    def score(self, faces: FaceArrays) -> dict[str, Any]:
        return {"mse": reconstruction_error(self.model, faces)}


@torch.no_grad()
def reconstruction_error(model: Autoencoder, faces: FaceArrays, *, batch: int = 256) -> float:
    """Mean squared error over all pixels of all faces."""
    model.eval()
    errors = [reconstruction_losses(model, b.images)["total"] * len(b.labels) for b in faces.ordered(batch)]
    return float(torch.stack(errors).sum()) / len(faces)
