"""Mouth-eye descriptors (paper 001, MaskFN): what a fixed network makes of the eyes and of the mouth alone.

The paper's network is a fixed ResNet18, with ImageNet's weights as it seems. Those can't be had here: `imagenet` is
EfficientNet-Lite0 with ImageNet's weights, which a package of the `torch` extra brings. Any checkpoint of a recipe or
any encoder of the weights' manifest can be named instead.

The patches are cut at fixed places of the aligned crop, which has the eyes' centres at fixed places; they hold brows,
eyes and mouths of 98 % of FER+ and LFW. Each is described by the mean of the network's last feature map, brought to
unit norm, so that eyes count as much as mouths, and the two are put behind each other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from exprmetric.datasets.arrays import FaceArrays
from exprmetric.encoder.models import PRETRAINED, Encoder, load_pretrained
from exprmetric.errors import WeightsError
from exprmetric.faces.alignment import CROP_SIZE
from exprmetric.io.kept import digest, kept
from exprmetric.training.loop import autocast
from exprmetric.weights import store as weights

IMAGENET = "imagenet"
EYES = (40, 40, 184, 103)
MOUTH = (64, 124, 160, 196)
"""Left, top, right, bottom in px of the 224 crop; sides are multiples of STEP."""
STEP = 3 / 2
"""Px of the 224 crop that a patch's pixel stands for: finer ones take three times as long and tell hardly more."""


def open_encoder(name: str, device: torch.device | str = "cpu") -> tuple[Encoder, int, int]:
    """A fixed encoder, and the `size` and `crop` of its input, px.

    Args:
        name: `imagenet`, the path of a recipe's checkpoint (.pt), or a manifest entry of an encoder of ours.

    Raises:
        InputError: the file is no checkpoint. UnknownWeightsError: no entry has this name. WeightsError: the entry is
            no encoder that torch can run, or its weights are missing or others.
    """
    size, crop = CROP_SIZE, CROP_SIZE
    if name == IMAGENET:
        backbone = next(iter(PRETRAINED))
        encoder = Encoder(backbone)
        load_pretrained(encoder, backbone)
    elif name.endswith(".pt"):
        from exprmetric.encoder.export import load_encoder as load_checkpoint

        encoder, config = load_checkpoint(Path(name))
        size, crop = int(config["size"]), int(config.get("crop", CROP_SIZE))
    else:
        encoder, size, crop = _from_manifest(name)
    return encoder.to(device).eval().requires_grad_(False), size, crop


def _from_manifest(name: str) -> tuple[Encoder, int, int]:
    from exprmetric.encoder.onnx_file import load_encoder

    entry = weights.entry(name)
    if entry.format != "onnx" or entry.preprocessing is None or entry.preprocessing.color != "grey":
        raise WeightsError(f"{name} is no encoder of grey faces that torch can run")
    encoder, architecture = load_encoder(weights.find(entry))
    return encoder, architecture.size, entry.preprocessing.crop or CROP_SIZE


def cut(images: Tensor, crop: int, box: tuple[int, int, int, int]) -> Tensor:
    """A box of aligned faces, one px of the output for STEP px of the 224 crop.

    Args:
        images: (B, 1, S, S), the centre `crop` px of the 224 crop; what lies outside repeats its border.
        box: left, top, right, bottom in px of the 224 crop.

    Returns:
        (B, 1, (bottom - top) / STEP, (right - left) / STEP).
    """
    left, top, right, bottom = box
    margin = (CROP_SIZE - crop) / 2

    def place(low: int, high: int) -> Tensor:
        """Of pixel centres, from -1 to 1 over the input."""
        centres = low + (torch.arange(round((high - low) / STEP), device=images.device) + 0.5) * STEP
        return (centres - margin) / crop * 2 - 1

    y, x = torch.meshgrid(place(top, bottom), place(left, right), indexing="ij")
    grid = torch.stack([x, y], 2).expand(len(images), -1, -1, -1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


@torch.no_grad()
def describe(encoder: Encoder, faces: FaceArrays, crop: int, *, batch: int = 128) -> Tensor:
    """(N, 2 F) float16: the unit-norm features of the eyes and of the mouth of every face.

    Args:
        encoder: on the device of the faces. crop: of the faces' images, px.
    """
    encoder.eval()

    def features(patch: Tensor) -> Tensor:
        with autocast(patch.device, enabled=patch.device.type == "cuda"):
            mapped: Any = encoder.feature_map(patch.contiguous(memory_format=torch.channels_last))
        return F.normalize(mapped.float().mean((2, 3)))

    parts = []
    for part in faces.ordered(batch):
        both = [features(cut(part.images, crop, box)) for box in (EYES, MOUTH)]
        parts.append(torch.cat(both, 1).half())
    return torch.cat(parts)


def descriptors(name: str, faces: FaceArrays, crop: int, cache: Path) -> Tensor:
    """`describe` by the encoder of this name, made once and kept in the folder `cache`."""
    encoder = open_encoder(name, faces.labels.device)[0]
    weights_of = (tensor.cpu().numpy() for tensor in encoder.state_dict().values())
    faces = faces.luma()
    key = (EYES, MOUTH, STEP, crop, digest(*(block.cpu().numpy() for block in faces.blocks())), *weights_of)
    found = kept(
        cache, "mouth-eye", key, ("descriptors",), lambda: {"descriptors": describe(encoder, faces, crop).cpu().numpy()}
    )
    return torch.from_numpy(found["descriptors"]).to(faces.labels.device)
