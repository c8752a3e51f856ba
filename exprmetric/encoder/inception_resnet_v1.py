"""Inception-ResNet-v1 (Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning", AAAI 2017, arXiv 1602.07261), the shared encoder of paper 002.

Written to the paper's figures: 14 (stem), 10, 11 and 13 (the blocks A, B, C), 7 with k, l, m, n = 192, 192, 256, 384
and 12 (the reductions), 15 (the whole). "V" in the figures is no padding, all else keeps the side. Batch norm and ReLU
follow each convolution but the 1 x 1 ones that bring a block's branches back to its width; these have a bias, and
their output is scaled before it is added. Section 3.3 asks for a scale of 0.1 to 0.3; 0.17, 0.10 and 0.20 for A, B
and C are the ones its authors published with their code.

No package brings pretrained weights: those that paper 002 starts from were trained on VGGFace2, which isn't given out
any more. Who has facenet-pytorch's file gives it as `init` (see `exprmetric.encoder.initial`). The dropout before the
paper's classifier belongs to a head that isn't here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from exprmetric.errors import InputError

MINIMUM = 75
"""Smallest side of an image, px: the last map is then 1 x 1. It is 2 x 2 from 107 px, 3 x 3 from 139 px."""


def _conv(before: int, after: int, size: int | tuple[int, int], stride: int = 1, *, valid: bool = False) -> nn.Module:
    """Convolution, batch norm, ReLU; `valid` is the figures' "V"."""
    height, width = (size, size) if isinstance(size, int) else size
    padding = (0, 0) if valid else (height // 2, width // 2)
    return nn.Sequential(
        nn.Conv2d(before, after, (height, width), stride, padding, bias=False),
        nn.BatchNorm2d(after, eps=1e-3),
        nn.ReLU(inplace=True),
    )


class Branches(nn.Module):
    """(B, C, h, w) → all branches of it beside each other."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([branch(features) for branch in self.branches], 1)


class Residual(nn.Module):
    """x → ReLU(x + scale · linear(branches(x))).

    Args:
        width: channels of x. joined: channels of all branches.
    """

    def __init__(self, width: int, joined: int, scale: float, *branches: nn.Module) -> None:
        super().__init__()
        self.scale = scale
        self.branches = Branches(*branches)
        self.linear = nn.Conv2d(joined, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(features + self.scale * self.linear(self.branches(features)))


def stem(channels: int) -> nn.Sequential:
    """Figure 14: (B, channels, 299, 299) → (B, 256, 35, 35)."""
    return nn.Sequential(
        _conv(channels, 32, 3, 2, valid=True),
        _conv(32, 32, 3, valid=True),
        _conv(32, 64, 3),
        nn.MaxPool2d(3, 2),
        _conv(64, 80, 1),
        _conv(80, 192, 3, valid=True),
        _conv(192, 256, 3, 2, valid=True),
    )


def block_a() -> Residual:
    """Figure 10, 256 channels."""
    return Residual(
        256,
        96,
        0.17,
        _conv(256, 32, 1),
        nn.Sequential(_conv(256, 32, 1), _conv(32, 32, 3)),
        nn.Sequential(_conv(256, 32, 1), _conv(32, 32, 3), _conv(32, 32, 3)),
    )


def reduction_a() -> Branches:
    """Figure 7: 256 → 896 channels, half the side."""
    return Branches(
        nn.MaxPool2d(3, 2),
        _conv(256, 384, 3, 2, valid=True),
        nn.Sequential(_conv(256, 192, 1), _conv(192, 192, 3), _conv(192, 256, 3, 2, valid=True)),
    )


def block_b() -> Residual:
    """Figure 11, 896 channels."""
    return Residual(
        896,
        256,
        0.10,
        _conv(896, 128, 1),
        nn.Sequential(_conv(896, 128, 1), _conv(128, 128, (1, 7)), _conv(128, 128, (7, 1))),
    )


def reduction_b() -> Branches:
    """Figure 12: 896 → 1792 channels, half the side."""
    return Branches(
        nn.MaxPool2d(3, 2),
        nn.Sequential(_conv(896, 256, 1), _conv(256, 384, 3, 2, valid=True)),
        nn.Sequential(_conv(896, 256, 1), _conv(256, 256, 3, 2, valid=True)),
        nn.Sequential(_conv(896, 256, 1), _conv(256, 256, 3), _conv(256, 256, 3, 2, valid=True)),
    )


def block_c() -> Residual:
    """Figure 13, 1792 channels."""
    return Residual(
        1792,
        384,
        0.20,
        _conv(1792, 192, 1),
        nn.Sequential(_conv(1792, 192, 1), _conv(192, 192, (1, 3)), _conv(192, 192, (3, 1))),
    )


class InceptionResNetV1(nn.Module):
    """(B, in_chans, S, S), S at least MINIMUM → (B, 1792), with the names that timm's networks have.

    Attributes:
        num_features: channels of the last map.
    """

    num_features = 1792

    def __init__(self, in_chans: int = 3) -> None:
        super().__init__()
        self.stem = stem(in_chans)
        self.a = nn.Sequential(*[block_a() for _ in range(5)])
        self.reduction_a = reduction_a()
        self.b = nn.Sequential(*[block_b() for _ in range(10)])
        self.reduction_b = reduction_b()
        self.c = nn.Sequential(*[block_c() for _ in range(5)])

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, in_chans, S, S) → (B, 1792, h, w). Raises InputError for images that are too small."""
        if not torch.onnx.is_in_onnx_export() and min(images.shape[-2:]) < MINIMUM:
            height, width = images.shape[-2:]
            raise InputError(f"inception_resnet_v1 needs at least {MINIMUM} x {MINIMUM} px, got {height} x {width}")
        features: Tensor = self.b(self.reduction_a(self.a(self.stem(images))))
        features = self.c(self.reduction_b(features))
        return features

    def forward_head(self, features: Tensor) -> Tensor:
        """(B, 1792, h, w) → (B, 1792), the mean over the map."""
        return features.mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))
