"""The encoder and its training heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from exprmetric.encoder.depthwise import use_fast_depthwise
from exprmetric.encoder.face_networks import DlibResnet, FaceMobileNet, load_dlib, load_mobilenet
from exprmetric.encoder.inception_resnet_v1 import InceptionResNetV1
from exprmetric.encoder.necks import NECKS, ON_MAP
from exprmetric.errors import InputError

BACKBONES: dict[str, dict[str, Any] | Callable[[int], nn.Module]] = {
    "efficientnet_b0": {"model_name": "efficientnet_b0"},
    "efficientnet_lite0": {"model_name": "efficientnet_lite0", "bn_eps": 1e-3},
    "resnet18": {"model_name": "resnet18"},
    "resnet50": {"model_name": "resnet50"},
    "resnet50v2": {"model_name": "resnetv2_50"},
    "regnetx_004": {"model_name": "regnetx_004"},
    "inception_resnet_v1": InceptionResNetV1,
    "dlib_resnet": DlibResnet,
    "3ddfa_mobilenet": FaceMobileNet,
}
"""Our names, and how timm is asked for them; or, for what timm doesn't have, channels of the images → a network with
`num_features`, `forward_features` and `forward_head` as timm's have them."""


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


def make_backbone(name: str, channels: int = 1) -> Any:
    """A new network for luma, or RGB, ended by global average pooling. `name`: a key of BACKBONES."""
    how = BACKBONES[name]
    if isinstance(how, dict):
        return import_timm().create_model(**how, pretrained=False, num_classes=0, in_chans=channels)
    return how(channels)


class Standardise(nn.Module):
    """Each image to mean 0 and deviation 1: brightness and contrast of a photograph are no expression."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean((1, 2, 3), keepdim=True)
        deviation = ((images - mean) ** 2).mean((1, 2, 3), keepdim=True).sqrt()
        return (images - mean) / (deviation + 1e-3)


class Encoder(nn.Module):
    """(B, C, S, S) luma or RGB 0..1 → (B, D): a backbone ended by global average pooling, then a neck.

    Args:
        backbone: a key of BACKBONES.
        dimension: D of the neck; 0 for a linear neck that isn't there, so that D is the backbone's.
        frozen: stages of an EfficientNet, from the pixels on, that keep their weights (edges and textures are the same
            on every photograph, and the first stages take the most time to train).
        mirror: outside training, the embedding is the mean over a face and its mirror image.
        neck: a key of `exprmetric.encoder.necks.NECKS`.
        classes: expressions that a linear layer on the embedding tells apart; 0 for no such layer.
        channels: C, 1 or 3.

    Attributes:
        features: channels of the backbone's last feature map.
        classes: the linear layer, embedding → logits; None without one.
    """

    def __init__(
        self,
        backbone: str = "efficientnet_b0",
        *,
        dimension: int = 0,
        frozen: int = 0,
        mirror: bool = False,
        neck: str = "linear",
        classes: int = 0,
        channels: int = 1,
    ) -> None:
        super().__init__()
        if backbone not in BACKBONES:
            raise InputError(f"unknown backbone {backbone!r}; known: {', '.join(BACKBONES)}")
        if neck not in NECKS:
            raise InputError(f"unknown neck {neck!r}; known: {', '.join(NECKS)}")
        if neck != "linear" and not dimension:
            raise InputError(f"the neck {neck!r} needs a dimension")
        self.standardise = Standardise()
        self.backbone = make_backbone(backbone, channels)
        self.channels = channels
        use_fast_depthwise(self.backbone)
        self.features: int = self.backbone.num_features
        self.dimension: int = dimension or self.features
        self.mirror = mirror
        self.embedding = NECKS[neck](self.features, dimension)
        self.classes = nn.Linear(self.dimension, classes) if classes else None
        self._on_map = neck in ON_MAP
        self._frozen: list[nn.Module] = []
        if frozen:
            if not hasattr(self.backbone, "conv_stem"):
                raise InputError(f"{backbone} has no stages that can be frozen")
            self._frozen = [self.backbone.conv_stem, self.backbone.bn1, *self.backbone.blocks[:frozen]]
            for stage in self._frozen:
                stage.requires_grad_(False)

    def train(self, mode: bool = True) -> Encoder:
        """Training mode, in which frozen stages keep their batch statistics too."""
        super().train(mode)
        for stage in self._frozen:
            stage.eval()
        return self

    def feature_map(self, images: Tensor) -> Tensor:
        """(B, C, S, S) 0..1 → (B, features, h, w), the backbone's last."""
        features: Tensor = self.backbone.forward_features(self.standardise(images))
        return features

    def embed_map(self, features: Tensor) -> Tensor:
        """(B, features, h, w) of `feature_map` → (B, D)."""
        embedding: Tensor = self.embedding(features if self._on_map else self.backbone.forward_head(features))
        return embedding

    def forward(self, images: Tensor) -> Tensor:
        embedding = self.embed_map(self.feature_map(images))
        if self.mirror and not self.training:
            embedding = (embedding + self.embed_map(self.feature_map(images.flip(3)))) / 2
        return embedding

    def logits(self, embedding: Tensor) -> Tensor:
        """(B, D), not normalised → (B, classes): their softmax is the probability of each expression.

        Raises:
            InputError: this encoder has no layer for classes.
        """
        if self.classes is None:
            raise InputError("this encoder knows no classes: it has an embedding and nothing behind it")
        found: Tensor = self.classes(embedding)
        return found


IMAGENET = "efficientnet-lite0-imagenet"
"""Manifest entry of the file that a package of the `torch` extra brings."""


def _load_imagenet(backbone: nn.Module) -> None:
    """EfficientNet-Lite0's ImageNet weights; for luma the first layer's kernels are summed over red, green, blue.

    The file names its layers otherwise than timm, in the same order; every shape is checked.
    """
    from exprmetric.weights import store as weights

    stored = torch.load(weights.find(IMAGENET), map_location="cpu", weights_only=True)
    own = backbone.state_dict()
    tensors = dict(zip(own, stored.values(), strict=False))
    first = next(iter(own))
    if own[first].shape[1] == 1:
        tensors[first] = tensors[first].sum(1, keepdim=True)
    wrong = [k for k in own if own[k].shape != tensors[k].shape]
    if wrong:
        raise InputError(f"{IMAGENET}: layer {wrong[0]} has another shape than timm's")
    backbone.load_state_dict(tensors)


PRETRAINED: dict[str, Callable[[Any], None]] = {
    "efficientnet_lite0": _load_imagenet,
    "dlib_resnet": load_dlib,
    "3ddfa_mobilenet": load_mobilenet,
}
"""Backbones that need not begin with random weights: ImageNet's, or those of a network that has learned faces."""


def load_pretrained(encoder: Encoder, backbone: str) -> None:
    """Give an encoder's backbone the weights of PRETRAINED.

    Raises:
        InputError: there are none for this backbone. WeightsNotFoundError, WeightsHashError.
    """
    if backbone not in PRETRAINED:
        raise InputError(f"no pretrained weights for {backbone!r}; there are some for {', '.join(PRETRAINED)}")
    PRETRAINED[backbone](encoder.backbone)


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
