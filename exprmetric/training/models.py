"""The encoder and its training heads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from exprmetric.errors import InputError

BACKBONES = {
    "efficientnet_b0": "efficientnet_b0",
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "resnet50v2": "resnetv2_50",
    "regnetx_004": "regnetx_004",
}
"""Our names and timm's."""


def import_timm() -> Any:
    """timm, also beside a torchvision whose compiled operators don't load.

    torchvision's wheels are built for CUDA; next to a CPU build of torch its import fails on the missing operators
    `nms` and `qnms`, which no backbone uses. Declaring them lets the import pass.
    """
    try:
        import timm
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        import sys

        for name in [m for m in sys.modules if m.partition(".")[0] in ("timm", "torchvision")]:
            del sys.modules[name]
        for operator in ("nms", "qnms"):
            torch.library.define(
                f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        import timm
    return timm


class Standardise(nn.Module):
    """Each image to mean 0 and deviation 1: brightness and contrast of a photograph are no expression."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean((1, 2, 3), keepdim=True)
        deviation = ((images - mean) ** 2).mean((1, 2, 3), keepdim=True).sqrt()
        return (images - mean) / (deviation + 1e-3)


class Encoder(nn.Module):
    """(B, 1, S, S) luma 0..1 → (B, D): a timm backbone from scratch, ended by global average pooling."""

    def __init__(self, backbone: str = "efficientnet_b0") -> None:
        super().__init__()
        if backbone not in BACKBONES:
            raise InputError(f"unknown backbone {backbone!r}; known: {', '.join(BACKBONES)}")
        self.standardise = Standardise()
        self.backbone = import_timm().create_model(BACKBONES[backbone], pretrained=False, num_classes=0, in_chans=1)
        self.dimension: int = self.backbone.num_features

    def forward(self, images: Tensor) -> Tensor:
        embedding: Tensor = self.backbone(self.standardise(images))
        return embedding


class PretrainingHeads(nn.Module):
    """What stands on the encoder while it learns, and is thrown away (paper 000, figure 1).

    A projection to 128, one linear layer each for valence and arousal, and one for the raters' votes.
    """

    def __init__(self, dimension: int, classes: int, projection: int = 128) -> None:
        super().__init__()
        self.projection = nn.Linear(dimension, projection)
        self.valence = nn.Linear(dimension, 1)
        self.arousal = nn.Linear(dimension, 1)
        self.votes = nn.Linear(dimension, classes)


def classification_head(dimension: int, classes: int) -> nn.Sequential:
    """Paper 000, section IV.B: dropout 0.5, 512 units, dropout 0.5, linear."""
    return nn.Sequential(
        nn.Dropout(0.5), nn.Linear(dimension, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, classes)
    )
