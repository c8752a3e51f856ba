"""From a batch of images to `eyes70` crops, on the device and differentiable (see `exprmetric.faces.alignment`)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from exprmetric.errors import InputError
from exprmetric.faces.alignment import ARCFACE_EYES, CROP_SIZE, EYES
from exprmetric.torch.functional import widened

ALIGNMENTS = ("none", "center_crop", "landmarks", "arcface")
WARPS = ("landmarks", "arcface")
"""Those that mix pixels."""


def check_alignment(align: str) -> str:
    """The alignment itself; InputError lists the known ones."""
    if align not in ALIGNMENTS:
        raise InputError(f"unknown align {align!r}; known: {', '.join(ALIGNMENTS)}")
    return align


def aligned(pixels: Tensor, align: str, landmarks: Tensor | None = None, *, fraction: float = 1.0) -> Tensor:
    """(B, 3, H, W) → square crops, taken for `eyes70` crops by whoever looks at them next.

    Args:
        align: `none` (they are such crops already, of any size), `center_crop` (the centre square), `landmarks`
            (one warp as the command line's, from given points), or `arcface` (they are crops of face recognition, 112
            px or another size, in which eyes stand nearly at one place: it is warped to that of `eyes70`. What lies
            below such a crop repeats its border).
        landmarks: for `landmarks`, (B, 2, 2) eye centres, or (B, 68, 2) dlib points; x, y in px, pixel centres at whole
            numbers. First comes the eye that is on the left once the face is upright: whichever way it is rolled, the
            crop is upright.
        fraction: for `center_crop`, the crop's side as a share of the image's shorter side.

    Raises:
        InputError: images that are not square, landmarks missing, of a wrong shape, or not asked for.
    """
    if (landmarks is not None) != (align == "landmarks"):
        raise InputError(f"align={align!r} takes {'landmarks' if align == 'landmarks' else 'no landmarks'}")
    height, width = pixels.shape[-2:]
    if landmarks is not None:
        return warp_to_eyes(pixels, eye_centres(landmarks, len(pixels)))
    if align == "center_crop":
        side = max(1, round(min(height, width) * fraction))
        top, left = (height - side) // 2, (width - side) // 2
        return pixels[..., top : top + side, left : left + side]
    if height != width:
        kind = "arcface" if align == "arcface" else "eyes70"
        raise InputError(f"align={align!r} needs square {kind} crops, got {height} x {width} px")
    if align == "arcface":
        places = torch.as_tensor((ARCFACE_EYES + 0.5) * (2 * width / CROP_SIZE) - 0.5)
        eyes = places.to(pixels.device, pixels.dtype, non_blocking=True)
        return warp_to_eyes(pixels, eyes.expand(len(pixels), 2, 2))
    return pixels


def eye_centres(landmarks: Tensor, count: int) -> Tensor:
    """(B, 2, 2) out of (B, 2, 2) or (B, 68, 2). Raises InputError for anything else."""
    if landmarks.shape == (count, 68, 2):
        landmarks = torch.stack([widened(landmarks)[:, a : a + 6].mean(1) for a in (36, 42)], 1)
    if landmarks.shape != (count, 2, 2):
        raise InputError(
            f"landmarks of {count} images must be ({count}, 2, 2) or ({count}, 68, 2), got {tuple(landmarks.shape)}"
        )
    return landmarks


def warp_to_eyes(pixels: Tensor, eyes: Tensor) -> Tensor:
    """The `eyes70` crops (B, C, 224, 224): bilinear, borders repeated, low-passed first where the face shrinks.

    Differentiable in the pixels and in the eyes.
    """
    eyes = eyes.to(pixels.device, pixels.dtype)
    height, width = pixels.shape[-2:]
    distance = float(EYES[1, 0] - EYES[0, 0])
    turn = (eyes[:, 1] - eyes[:, 0]) / distance  # px of the image for one px of the crop, along the line of the eyes
    right, down = turn[:, 0, None, None], turn[:, 1, None, None]
    pixels = _low_passed(pixels, torch.linalg.vector_norm(turn, dim=1))
    steps = torch.arange(CROP_SIZE, device=pixels.device, dtype=pixels.dtype)
    u, v = steps[None, None, :] - float(EYES[0, 0]), steps[None, :, None] - float(EYES[0, 1])
    x = eyes[:, 0, 0, None, None] + right * u - down * v
    y = eyes[:, 0, 1, None, None] + down * u + right * v
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _low_passed(pixels: Tensor, shrink: Tensor) -> Tensor:
    """Gaussian of 0.4 sqrt(shrink^2 - 1) px for each image, none where the crop enlarges.

    The number of taps follows from the images' size (a face doesn't fill more than the image) and not from the
    landmarks, which the host would have to wait for.
    """
    most = 0.4 * math.sqrt(max((1.5 * max(pixels.shape[-2:]) / CROP_SIZE) ** 2 - 1.0, 0.0))
    radius = math.ceil(3 * most)
    if radius == 0:
        return pixels
    sigma = 0.4 * (shrink.square() - 1.0).clamp(min=1e-12).sqrt()
    offsets = torch.arange(-radius, radius + 1, device=pixels.device, dtype=pixels.dtype)
    weights = torch.exp(-0.5 * (offsets / sigma[:, None].clamp(min=1e-3)).square())
    weights = (weights / weights.sum(1, keepdim=True))[:, :, None, None, None]
    for dim in (2, 3):
        side = pixels.shape[dim]
        padded = F.pad(pixels, (radius, radius, 0, 0) if dim == 3 else (0, 0, radius, radius), mode="replicate")
        pixels = torch.zeros_like(pixels)
        for tap in range(2 * radius + 1):
            pixels = pixels + weights[:, tap] * padded.narrow(dim, tap, side)
    return pixels
