"""Backbones that have seen faces before: dlib's identity network and 3DDFA_V2's MobileNet, for luma, to train further.

What ImageNet taught a network is edges and textures of things; these two learned who a face is, and where its parts
stand. Both have the names that timm's networks have (`num_features`, `forward_features`, `forward_head`).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exprmetric.encoder.convert_3ddfa import BLOCKS, MobileNet, load_network
from exprmetric.errors import WeightsError
from exprmetric.weights import dlib_resnet
from exprmetric.weights import store as weights

DLIB, MOBILENET = "dlib-resnet", "3ddfa-v2"
"""Manifest entries of the two files."""
_DLIB_SPREAD, _MOBILENET_SPREAD = 0.22, 0.45
"""What one standard deviation of luma is in the units that each network learned in (x / 256 and x / 127.5)."""


class DlibResnet(nn.Module):
    """(B, 1, S, S) standardised luma → (B, 256): dlib's residual network without its last layer.

    Each affine layer is folded into its convolution, as in the file that `exprmetric.weights.dlib_resnet` reads, so
    there is no batch norm. For luma the kernels of the three colours are summed.

    Args:
        in_chans: 1, or 3 for RGB.
    """

    num_features = dlib_resnet.BLOCKS[-1][0]

    def __init__(self, in_chans: int = 1) -> None:
        super().__init__()
        filters, strides = zip(*dlib_resnet.BLOCKS, strict=True)
        channels = (filters[0], *filters)
        self.stem = nn.Conv2d(in_chans, filters[0], 7, stride=2)
        self.first = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride, padding=0 if stride > 1 else 1)
            for (a, b), stride in zip(pairwise(channels), strides, strict=True)
        )
        self.second = nn.ModuleList(nn.Conv2d(b, b, 3, padding=1) for b in filters)

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) → (B, 256, h, w)."""
        x = F.max_pool2d(torch.relu(self.stem(images * _DLIB_SPREAD)), 3, 2)
        for first, second, (_, stride) in zip(self.first, self.second, dlib_resnet.BLOCKS, strict=True):
            y = second(torch.relu(first(x)))
            if stride > 1:  # the two ways differ in size then; to dlib's sum, what is missing is zero
                x = F.avg_pool2d(x, 2, 2)
                x = F.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
                y = F.pad(y, (0, x.shape[3] - y.shape[3], 0, x.shape[2] - y.shape[2]))
            x = torch.relu(x + y)
        return x

    def forward_head(self, features: Tensor) -> Tensor:
        """(B, 256, h, w) → (B, 256), the mean over the map."""
        return features.mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))


class FaceMobileNet(nn.Module):
    """(B, 1, S, S) standardised luma → (B, 512): 3DDFA_V2's MobileNet v1 without its last layers.

    Args:
        in_chans: 1, or 3 for RGB.
    """

    num_features = 512

    def __init__(self, in_chans: int = 1) -> None:
        super().__init__()
        network = MobileNet()
        self.stem = nn.Sequential(nn.Conv2d(in_chans, 16, 3, 2, 1, bias=False), network.bn1, nn.ReLU())
        self.blocks = nn.Sequential(*[network.get_submodule(name) for name, _, _ in BLOCKS])

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, 1, S, S) → (B, 512, h, w)."""
        features: Tensor = self.blocks(self.stem(images * _MOBILENET_SPREAD))
        return features

    def forward_head(self, features: Tensor) -> Tensor:
        """(B, 512, h, w) → (B, 512), the mean over the map."""
        return features.mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))


def load_dlib(network: DlibResnet) -> None:
    """Give it the weights of dlib's file. Raises WeightsNotFoundError, WeightsHashError, WeightsError."""
    stored = dlib_resnet.parse(weights.find(DLIB).read_bytes()).convolutions
    own = [network.stem, *[layer for block in zip(network.first, network.second, strict=True) for layer in block]]
    for layer, convolution in zip(own, stored, strict=True):
        kernels = torch.from_numpy(convolution.kernels.copy())
        _copy(layer.weight, kernels.sum(1, keepdim=True) if layer.in_channels == 1 else kernels)
        _copy(layer.bias, torch.from_numpy(convolution.bias.copy()))


def load_mobilenet(network: FaceMobileNet) -> None:
    """Give it the weights of 3DDFA_V2's file. Raises WeightsNotFoundError, WeightsHashError, WeightsError."""
    stored = load_network(weights.find(MOBILENET))
    blue_first = stored.conv1.weight.data  # it learned from pictures as OpenCV reads them
    kernels = blue_first.sum(1, keepdim=True) if network.stem[0].in_channels == 1 else blue_first.flip(1)
    _copy(network.stem[0].weight, kernels)
    network.stem[1].load_state_dict(stored.bn1.state_dict())
    for block, (name, _, _) in zip(network.blocks, BLOCKS, strict=True):
        block.load_state_dict(stored.get_submodule(name).state_dict())


def _copy(parameter: object, values: Tensor) -> None:
    assert isinstance(parameter, nn.Parameter)
    if parameter.shape != values.shape:
        raise WeightsError(f"a layer of {tuple(parameter.shape)} was given weights of {tuple(values.shape)}")
    parameter.data.copy_(values)
