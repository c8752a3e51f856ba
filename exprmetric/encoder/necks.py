"""What stands between a backbone's feature map and the embedding."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from torch import Tensor, nn

BOUNDED = "bounded"
"""Neck whose numbers lie within -1 and 1, and are compared as they are."""


class Pool(nn.Module):
    """(B, F, h, w) → (B, F), the mean over the map."""

    def forward(self, features: Tensor) -> Tensor:
        return features.mean((2, 3))


def linear(features: int, dimension: int) -> nn.Module:
    """One linear layer, or none when `dimension` is 0."""
    return nn.Linear(features, dimension) if dimension else nn.Identity()


def bounded(features: int, dimension: int) -> nn.Module:
    """One linear layer and a hyperbolic tangent: what is certain doesn't grow without end."""
    return nn.Sequential(nn.Linear(features, dimension), nn.Tanh())


def two_layers(features: int, dimension: int) -> nn.Module:
    """Two fully connected layers (paper 004, figure 1); 512 between them make its 4.7 million parameters."""
    return nn.Sequential(nn.Linear(features, 512), nn.ReLU(), nn.Linear(512, dimension))


def four_convolutions(features: int, dimension: int) -> nn.Module:
    """Four 3 x 3 convolutions with leaky ReLU on the feature map (paper 002, section 3), then the mean over it."""
    widths = [features, *[dimension] * 4]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, Pool())


NECKS: dict[str, Callable[[int, int], nn.Module]] = {
    "linear": linear,
    BOUNDED: bounded,
    "two_layers": two_layers,
    "four_convolutions": four_convolutions,
}
"""By name: (features of the backbone, D) → module."""
ON_MAP = {"four_convolutions"}
"""Necks that take the feature map (B, F, h, w); the others take its mean (B, F)."""
