"""Images as torch batches: value ranges, 8-bit rounding that lets gradients through, and OpenCV's grey and resize."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from exprmetric.errors import InputError
from exprmetric.torch.functional import widened

LUMA = (9798 / 32768, 19235 / 32768, 3735 / 32768)
"""OpenCV's RGB2GRAY: 0.299, 0.587, 0.114 in its 15-bit fixed point, exact in float32."""


def check_images(images: Tensor) -> Tensor:
    """The images themselves. Raises InputError unless they are (B, 3, H, W) uint8 or floating point."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"images must be (B, 3, H, W) RGB, got {tuple(images.shape)}")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise InputError(f"images must be uint8 or floating point, got {images.dtype}")
    return images


def to_pixels(images: Tensor, value_range: tuple[float, float] = (0.0, 1.0)) -> Tensor:
    """(B, 3, H, W) uint8, or floats in `value_range` → the same in 0..255, at least float32. Nothing is clipped.

    Raises:
        InputError: another shape, or another integer type.
    """
    if check_images(images).dtype == torch.uint8:
        return images.float()
    low, high = value_range
    if (low, high) == (0.0, 255.0):
        return widened(images)
    return (widened(images) - low) * (255.0 / (high - low))


def to_bytes(images: Tensor, value_range: tuple[float, float] = (0.0, 1.0)) -> Tensor:
    """(B, 3, H, W) uint8, or floats in `value_range` → whole numbers 0..255 as floats, as an image file holds them.

    Halves are rounded up; a gradient passes as if nothing had been rounded, and stops where a value was clipped.

    Raises:
        InputError: another shape, or another integer type.
    """
    if check_images(images).dtype == torch.uint8:
        return images.float()
    if images.requires_grad and torch.is_grad_enabled():
        return rounded(to_pixels(images, value_range).clamp(0, 255))
    low, high = value_range
    scale = 255.0 / (high - low)
    # one new tensor: on a CPU, fresh memory costs more than the arithmetic
    return (widened(images) * scale).add_(0.5 - low * scale).clamp_(0, 255.5).floor_()


def rounded(pixels: Tensor) -> Tensor:
    """To whole numbers, halves up; the gradient passes as if nothing had been rounded."""
    whole = torch.floor(pixels.detach() + 0.5)
    return whole + (pixels - pixels.detach()) if pixels.requires_grad else whole


def luma(pixels: Tensor) -> Tensor:
    """(B, 3, H, W) RGB → (B, 1, H, W)."""
    red, green, blue = LUMA
    return torch.add(red * pixels[:, 0:1], pixels[:, 1:2], alpha=green).add(pixels[:, 2:3], alpha=blue)


def resample(images: Tensor, box: tuple[float, float], size: int) -> Tensor:
    """Cut the square from `low` to `high` px on both axes out of (B, C, S, S) and resize it to size x size.

    Pixel i covers i..i+1. Shrinking averages over the area that a pixel of the result covers (OpenCV's INTER_AREA),
    enlarging interpolates (INTER_LINEAR). Differentiable; sums of a few products rather than matrices, which some GPUs
    multiply in reduced precision.
    """
    low, high = box
    side = images.shape[-1]
    if images.shape[-2] != side:
        raise InputError(f"an aligned face is square, got {tuple(images.shape)}")
    if (low, high) == (0.0, float(side)) and side == size:
        return images
    if float(low).is_integer() and high - low == size:
        return images[..., int(low) : int(high), int(low) : int(high)]
    taps = _taps.__wrapped__ if torch.compiler.is_compiling() else _taps  # a compiled graph keeps them itself
    indices, shares = taps(low, high, size, side, images.device)
    shares = shares.to(images.dtype)
    down = images.index_select(-2, indices[0]) * shares[0][:, None]  # rows first: they are whole in memory
    for index, share in zip(indices[1:], shares[1:], strict=True):
        down = torch.addcmul(down, images.index_select(-2, index), share[:, None])
    across = down.index_select(-1, indices[0]) * shares[0]
    for index, share in zip(indices[1:], shares[1:], strict=True):
        across = torch.addcmul(across, down.index_select(-1, index), share)
    return across


@lru_cache(maxsize=64)
def _taps(low: float, high: float, size: int, side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(K, size) pixels that each pixel of the result is made of, and their shares; a column of shares sums to 1."""
    with torch.inference_mode(False):  # what validation leaves in the cache, training differentiates through
        step = (high - low) / size
        numbers = torch.arange(size, dtype=torch.float64)
        if step > 1:
            start = low + step * numbers
            first = torch.floor(start + 1e-9)
            pixels = first + torch.arange(math.ceil(step) + 1, dtype=torch.float64)[:, None]
            shares = (torch.minimum(pixels + 1, start + step) - torch.maximum(pixels, start)).clamp(min=0)
            shares = torch.where(shares < 1e-3, torch.zeros_like(shares), shares)  # as OpenCV
            shares = shares / shares.sum(0)
        else:
            centre = low + step * (numbers + 0.5) - 0.5
            first = torch.floor(centre)
            pixels = torch.stack([first, first + 1])
            shares = torch.stack([first + 1 - centre, centre - first])
        indices = pixels.clamp(0, side - 1).long()
        return indices.to(device), shares.float().to(device)
