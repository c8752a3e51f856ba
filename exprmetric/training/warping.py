"""Paper 003's local warp: what a facial muscle does to a photograph, and to the landmarks on it.

A warp carries the content of a circle along one direction. In its result, x shows what was at

    u = x - (a / (a + k |m - c|²))² (m - c)        with a = r_max² - |x - c|²        (1)

inside the circle of centre c and radius r_max, and what was at x outside it. Choices where the paper is silent:

* **Strength.** Section 4.3 draws one from U(150, 300), equation (1) has none. In the usual code for this warp, strength
  is in percent and divides |m - c|²: k = 100 / strength. At 100 that is equation (1) as printed, above it more of the
  circle moves by nearly the whole step. It has no unit and doesn't scale with the image.
* **Several warps** (n) act one after another on coordinates, and the photograph is sampled once: sampled n times, the
  warped view would be the blurred one, and blur is easier to learn than muscles.
* **Pixels in between** are bilinear; beyond the border the border's pixel is repeated. Pixels that no warp reaches are
  the photograph's own, to the bit.

Where content goes: (1) has no closed inverse, but a point only ever moves along m - c, so p goes to p + s (m - c) with
one unknown, s = (a / (a + k |m - c|²))² at the place it arrives. The difference of both sides is not positive at s = 0
and not negative at s = 1; halving that interval STEPS times finds s to 2^-STEPS, the place to |m - c| 2^-STEPS, beside
the rounding of float32. With the paper's numbers (1) is steep near the circle: on the side that the content leaves, a
strip outside it, up to 8 px of 224 wide, is seen inside a second and a third time (du/dx falls below zero). A point
there stays in its own place, which (1) always shows; its mirages are no landmarks. A point inside goes to one place
only, but for the last 0.04 px before the circle on that side, where this finds one of three.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from exprmetric.faces.alignment import CROP_SIZE

CENTRE = (50.0, 150.0)
"""Both coordinates of c, px of a 224 px image (section 4.3, as the three below)."""
STEP_SQUARED = (100.0, 200.0)
"""|m - c|², px²."""
RADIUS = (50.0, 80.0)
"""r_max, px."""
STRENGTH = (150.0, 300.0)
"""Percent."""
STEPS = 24
"""Halvings: 2^-24 is float32's own step at 1."""


@dataclass(frozen=True)
class Warps:
    """n warps for each of B faces, in the order in which they happen; px of the image, pixel centres at whole numbers.

    Attributes:
        centres: c, (B, n, 2), x before y.
        steps: m - c, (B, n, 2).
        radii: r_max, (B, n).
        strengths: (B, n), percent.
    """

    centres: Tensor
    steps: Tensor
    radii: Tensor
    strengths: Tensor

    def __len__(self) -> int:
        """n."""
        return self.radii.shape[1]


def to_input(points: Tensor, *, size: int, crop: int) -> Tensor:
    """(…, 2) px of the 224 crop → px of the network's input: the centre `crop` px, seen at `size` px."""
    scale = size / crop
    return (points + 0.5 - (CROP_SIZE - crop) / 2) * scale - 0.5


def draw_warps(
    count: int, generator: torch.Generator, *, n: int = 2, size: int, crop: int, landmarks: Tensor | None = None
) -> Warps:
    """Random warps by section 4.3, lengths times size / crop; the direction is uniform.

    Args:
        count: B. n: warps a face.
        generator: its device is that of the warps.
        landmarks: (B, K, 2) px of the input: each centre is one of the face's, any with the same chance (section 4.4).
            None: both coordinates from CENTRE.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, n, *shape, generator=generator, device=generator.device)

    scale = size / crop
    if landmarks is None:
        centres = to_input(uniform(*CENTRE, 2), size=size, crop=crop)
    else:
        chosen = torch.randint(landmarks.shape[1], (count, n), generator=generator, device=generator.device)
        centres = landmarks.float().gather(1, chosen[..., None].expand(-1, -1, 2))
    angle = uniform(0.0, 2 * math.pi)
    lengths = scale * uniform(*STEP_SQUARED).sqrt()
    steps = lengths[..., None] * torch.stack([angle.cos(), angle.sin()], -1)
    return Warps(centres, steps, scale * uniform(*RADIUS), uniform(*STRENGTH))


def _share(points: Tensor, warps: Warps, i: int) -> Tensor:
    """(B, K, 2) places → (B, K): the square of (1), by how much of m - c their content has moved in warp i."""
    centre, step = warps.centres[:, i, None], warps.steps[:, i, None]
    inside = (warps.radii[:, i, None] ** 2 - ((points - centre) ** 2).sum(-1)).clamp(min=0)
    yielding = 100 / warps.strengths[:, i, None] * (step**2).sum(-1)
    share: Tensor = (inside / (inside + yielding).clamp(min=torch.finfo(inside.dtype).tiny)) ** 2
    return share


def sources(points: Tensor, warps: Warps) -> Tensor:
    """(B, K, 2) places in the warped images → the same, where their content was before all warps: equation (1)."""
    for i in reversed(range(len(warps))):
        points = points - _share(points, warps, i)[..., None] * warps.steps[:, i, None]
    return points


def move_points(points: Tensor, warps: Warps) -> Tensor:
    """(B, K, 2) points of the images → where they are in the warped ones, each warp's error below |m - c| 2^-STEPS."""
    for i in range(len(warps)):
        centre, step = warps.centres[:, i, None], warps.steps[:, i, None]
        outside = ((points - centre) ** 2).sum(-1) >= warps.radii[:, i, None] ** 2
        low = torch.zeros(points.shape[:-1], dtype=points.dtype, device=points.device)
        high = torch.ones_like(low)
        for _ in range(STEPS):
            middle = (low + high) / 2
            short = middle < _share(points + middle[..., None] * step, warps, i)
            low, high = torch.where(short, middle, low), torch.where(short, high, middle)
        points = torch.where(outside[..., None], points, points + low[..., None] * step)
    return points


def warp_images(images: Tensor, warps: Warps) -> Tensor:
    """(B, C, H, W) → the same, warped."""
    b, _, height, width = images.shape
    rows, columns = (torch.arange(k, dtype=torch.float32, device=images.device) for k in (height, width))
    places = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).reshape(1, -1, 2).expand(b, -1, -1)
    content = sources(places, warps)
    moved = (content != places).any(-1).reshape(b, 1, height, width)
    sides = torch.tensor([width, height], dtype=torch.float32, device=images.device)
    grid = ((2 * content + 1) / sides - 1).reshape(b, height, width, 2).to(images.dtype)
    sampled = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return torch.where(moved, sampled, images)
