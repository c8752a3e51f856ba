"""Augmentation of batches on the device that trains: one geometric warp, then what swaps and cameras do to pixels."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

PAPER_CROP = 200 / 224
"""Side of the random crop as a share of the image (paper 000, section IV.A)."""

Augment = Callable[[Tensor, torch.Generator], Tensor]


def _uniform(count: int, low: float, high: float, generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.rand(count, generator=generator, device=like.device) * (high - low) + low


def _chosen(count: int, share: float, generator: torch.Generator, like: Tensor) -> Tensor:
    return (torch.rand(count, generator=generator, device=like.device) < share)[:, None, None, None]


def _warp(images: Tensor, scale: Tensor, angle: Tensor, shift: Tensor, flip: Tensor) -> Tensor:
    """Sample each image in a frame turned by `angle` (rad), of relative side `scale`, moved by `shift` (half sides)."""
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    mirror = torch.where(flip, -1.0, 1.0)
    theta = torch.stack(
        [
            torch.stack([cos * mirror, -sin, shift[:, 0]], 1),
            torch.stack([sin * mirror, cos, shift[:, 1]], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def paper(images: Tensor, generator: torch.Generator) -> Tensor:
    """Paper 000: horizontal flip, and a random crop of 200 of 224 px resized back.

    Args:
        images: (B, C, S, S) float 0..1.
    """
    n = len(images)
    room = 1 - PAPER_CROP
    shift = torch.stack([_uniform(n, -room, room, generator, images) for _ in range(2)], 1)
    side = torch.full((n,), PAPER_CROP, device=images.device)
    flip = _uniform(n, 0, 1, generator, images) < 0.5
    return _warp(images, side, torch.zeros_like(side), shift, flip)


def robust(images: Tensor, generator: torch.Generator) -> Tensor:
    """`paper`, and what other detectors, cameras and swap models do to a face.

    Misalignment (±8° roll, 0.85-1.08 of the side, ±6 % shift), low resolution, noise, contrast, gamma, and a patch that
    hides part of the face.

    Args:
        images: (B, C, S, S) float 0..1.
    """
    n, size = len(images), images.shape[-1]
    out = _geometry(images, generator)
    side = int(torch.randint(size // 4, size, (1,), generator=generator, device=images.device))
    out = torch.where(_chosen(n, 0.3, generator, images), low_resolution(out, side), out)
    return _hide(_tones(out, generator), generator)


def _geometry(images: Tensor, generator: torch.Generator) -> Tensor:
    """What another detector would have made of the alignment, and the mirror image."""
    n = len(images)
    shift = torch.stack([_uniform(n, -0.12, 0.12, generator, images) for _ in range(2)], 1)
    angle = _uniform(n, -0.14, 0.14, generator, images)
    flip = _uniform(n, 0, 1, generator, images) < 0.5
    return _warp(images, _uniform(n, 0.85, 1.08, generator, images), angle, shift, flip)


def _tones(images: Tensor, generator: torch.Generator) -> Tensor:
    """Gamma, contrast and noise."""
    n = len(images)
    gamma = torch.exp(_uniform(n, -0.4, 0.4, generator, images))[:, None, None, None]
    contrast = _uniform(n, 0.6, 1.4, generator, images)[:, None, None, None]
    out = ((images.clamp(1e-4, 1) ** gamma - 0.5) * contrast + 0.5).clamp(0, 1)
    noise = torch.randn(out.shape, generator=generator, device=images.device)
    return out + noise * _uniform(n, 0.0, 0.04, generator, images)[:, None, None, None]


def degraded(images: Tensor, generator: torch.Generator) -> Tensor:
    """`robust`, and more of what makes a swapped face differ from a photograph: JPEG, blur, very low resolution.

    Half of the images are seen at 24 to 112 px of side, one resolution a quarter of them, a third through JPEG.

    Args:
        images: (B, C, S, S) float 0..1, S a multiple of 8.
    """
    n, size = len(images), images.shape[-1]
    out = _geometry(images, generator)
    order = torch.randperm(n, generator=generator, device=images.device)
    for part in order[: n // 2].chunk(4):
        side = int(torch.randint(size * 3 // 14, size, (1,), generator=generator, device=images.device))
        out[part] = low_resolution(out[part], side)
    part = torch.randperm(n, generator=generator, device=images.device)[: n // 3]
    out[part] = jpeg(out[part], _uniform(len(part), 10, 60, generator, images))
    return _hide(_tones(out, generator), generator)


def low_resolution(images: Tensor, side: int) -> Tensor:
    """Seen at `side` px and enlarged again."""
    low = F.interpolate(images, size=side, mode="bilinear", antialias=True, align_corners=False)
    return F.interpolate(low, size=images.shape[-1], mode="bilinear", align_corners=False)


LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""Annex K.1 of the JPEG standard: quantisation of luminance at quality 50."""


def jpeg(images: Tensor, quality: Tensor) -> Tensor:
    """What JPEG compression leaves of luma: each 8 x 8 block's cosine transform, quantised.

    Args:
        images: (B, C, S, S) float 0..1, S a multiple of 8.
        quality: (B,) 1..100 as libjpeg counts it.
    """
    steps = torch.arange(8, device=images.device, dtype=images.dtype)
    cosine = torch.cos((2 * steps[None, :] + 1) * steps[:, None] * math.pi / 16) / 2
    cosine[0] /= math.sqrt(2)
    scale = torch.where(quality < 50, 5000 / quality.clamp(min=1), 200 - 2 * quality) / 100
    table = torch.tensor(LUMINANCE, dtype=images.dtype, device=images.device)
    quantum = (table * scale[:, None, None]).round().clamp(1, 255)[:, None, None, None] / 255
    b, c, s, _ = images.shape
    blocks = images.reshape(b, c, s // 8, 8, s // 8, 8).transpose(3, 4)
    kept = (cosine @ (blocks - 128 / 255) @ cosine.T / quantum).round() * quantum
    return (cosine.T @ kept @ cosine + 128 / 255).transpose(3, 4).reshape(b, c, s, s).clamp(0, 1)


def _hide(images: Tensor, generator: torch.Generator, share: float = 0.25) -> Tensor:
    """Put a rectangle of one grey over a part of some images (random erasing, Zhong et al., 2020)."""
    n, size = len(images), images.shape[-1]
    place = torch.arange(size, device=images.device)[None, :] / size
    inside = []
    for _ in range(2):
        length = _uniform(n, 0.1, 0.4, generator, images)
        start = _uniform(n, 0, 1, generator, images) * (1 - length)
        inside.append((place >= start[:, None]) & (place < (start + length)[:, None]))
    patch = inside[0][:, None, :, None] & inside[1][:, None, None, :] & _chosen(n, share, generator, images)
    return torch.where(patch, _uniform(n, 0, 1, generator, images)[:, None, None, None], images)


YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
"""Luma and two axes of colour, from red, green and blue (NTSC)."""
GREY_SHARE = 0.2
"""Views that lose their colour."""


def jittered(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Another hue and saturation, and a fifth without colour, as self-supervised views have (Chen et al., 2020).

    Luma stays, up to what is clipped: the augmentations before change it.

    Args:
        images: (B, 3, S, S) RGB.
        strength: saturation is multiplied with 1 ± `strength`, the hue turned by up to `strength` quarters of a circle.
    """
    n = len(images)
    to_yiq = torch.tensor(YIQ, dtype=images.dtype, device=images.device)
    colourful = _uniform(n, 0, 1, generator, images) >= GREY_SHARE
    saturation = (1 + strength * _uniform(n, -1, 1, generator, images)) * colourful
    angle = strength * math.pi / 2 * _uniform(n, -1, 1, generator, images)
    cos, sin, zero = saturation * angle.cos(), saturation * angle.sin(), 0 * angle
    rows = [[zero + 1, zero, zero], [zero, cos, -sin], [zero, sin, cos]]
    turn = torch.stack([torch.stack(row, 1) for row in rows], 1)
    return torch.einsum("nij,njhw->nihw", torch.linalg.inv(to_yiq) @ turn @ to_yiq, images).clamp(0, 1)


AUGMENTATIONS: dict[str, Augment] = {
    "paper": paper,
    "robust": robust,
    "degraded": degraded,
    "none": lambda images, generator: images,
}
