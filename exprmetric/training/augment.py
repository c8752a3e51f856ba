"""Augmentation of batches on the device that trains: one geometric warp, then what swaps and cameras do to pixels."""

from __future__ import annotations

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
    shift = torch.stack([_uniform(n, -0.12, 0.12, generator, images) for _ in range(2)], 1)
    angle = _uniform(n, -0.14, 0.14, generator, images)
    flip = _uniform(n, 0, 1, generator, images) < 0.5
    out = _warp(images, _uniform(n, 0.85, 1.08, generator, images), angle, shift, flip)
    side = int(torch.randint(size // 4, size, (1,), generator=generator, device=images.device))
    low = F.interpolate(out, size=side, mode="bilinear", antialias=True, align_corners=False)
    low = F.interpolate(low, size=size, mode="bilinear", align_corners=False)
    out = torch.where(_chosen(n, 0.3, generator, images), low, out)
    gamma = torch.exp(_uniform(n, -0.4, 0.4, generator, images))[:, None, None, None]
    contrast = _uniform(n, 0.6, 1.4, generator, images)[:, None, None, None]
    out = ((out.clamp(1e-4, 1) ** gamma - 0.5) * contrast + 0.5).clamp(0, 1)
    noise = torch.randn(out.shape, generator=generator, device=images.device)
    out = out + noise * _uniform(n, 0.0, 0.04, generator, images)[:, None, None, None]
    return _hide(out, generator)


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


AUGMENTATIONS: dict[str, Augment] = {
    "paper": paper,
    "robust": robust,
    "none": lambda images, generator: images,
}
