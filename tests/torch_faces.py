"""Real faces and the default encoder for the tests of exprmetric.torch; no detector needed."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from exprmetric.encoder.onnx_file import load_encoder
from exprmetric.errors import WeightsError
from exprmetric.faces.alignment import EYES, similarity, warp
from exprmetric.io.images import read_image
from exprmetric.torch import Architecture, ExpressionEncoder
from exprmetric.weights import store as weights

Image = npt.NDArray[np.uint8]

PHOTOGRAPHS: dict[tuple[str, ...], list[list[list[float]]]] = {
    ("skimage", "data", "astronaut.png"): [[[203.5, 101.5], [246.8, 104.2]]],
    ("insightface", "data", "images", "t1.jpg"): [
        [[492.0, 320.3], [540.0, 333.7]],
        [[1149.2, 327.8], [1192.3, 324.8]],
        [[292.3, 213.5], [321.2, 195.2]],
        [[761.5, 398.0], [800.7, 403.8]],
        [[916.0, 119.0], [950.2, 115.5]],
        [[87.5, 330.0], [128.7, 310.0]],
    ],
}
"""Photographs that come with packages, and where the eyes of their faces are."""


def photographs() -> list[tuple[Image, npt.NDArray[np.float64]]]:
    """(H, W, 3) images and the (K, 2, 2) eye centres on them."""
    found = []
    for (package, *parts), eyes in PHOTOGRAPHS.items():
        spec = find_spec(package)
        assert spec is not None and spec.origin is not None, f"{package} is not installed"
        found.append((read_image(Path(spec.origin).parent.joinpath(*parts)), np.array(eyes)))
    return found


@cache
def crops() -> Image:
    """(14, 224, 224, 3) uint8 RGB: seven people at the `eyes70` template, and their mirror images."""
    faces = np.stack([warp(image, similarity(eyes, EYES)) for image, places in photographs() for eyes in places])
    return np.concatenate([faces, faces[:, :, ::-1]])


def triplets() -> tuple[Image, Image, Image]:
    """(11, 224, 224, 3) targets, sources and swapped faces: a swapped face is a blend of the two, more and less."""
    faces = crops()
    target, source = faces[:11], faces[3:]
    share = np.linspace(0, 1, 11)[:, None, None, None]
    swapped = np.round(target * (1 - share) + source * share).astype(np.uint8)
    return target, source, swapped


def batch(images: Image) -> Tensor:
    """(N, H, W, 3) → (N, 3, H, W) uint8."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


@cache
def architecture() -> Architecture | None:
    """Of the default weights; None where the file says it itself."""
    try:
        load_encoder(weights.find("default"))
    except WeightsError:
        return Architecture("regnetx_004", 0, False, 112)
    return None


def encoder(*, quantise: bool = False, precision: torch.dtype = torch.float32) -> ExpressionEncoder:
    return ExpressionEncoder(architecture=architecture(), quantise=quantise, precision=precision)
