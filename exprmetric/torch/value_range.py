"""Images in another value range than was said, or with values that are no numbers; without a wait for the device."""

from __future__ import annotations

import torch
from torch import Tensor

from exprmetric.errors import InputError
from exprmetric.torch.functional import widened

OUTSIDE = 0.1
"""An image whose values leave the range by more than this share of it was normalised otherwise than it was said."""
NEARLY = 0.02
"""Share of the range that is let off where 0..1 images leave its lower half empty, as under (-1, 1), or all of it."""
MOST_BRIGHT = 0.25
"""Hardly a real face is without a dark pixel. Where more of them than this share are, they are in another range."""
LOOKED_AT = 8
"""Every which row and column is looked at for that: a wrong normalisation is everywhere."""


def check_value_range(value_range: tuple[float, float]) -> tuple[float, float]:
    """The range itself; InputError unless it rises."""
    if not value_range[0] < value_range[1]:
        raise InputError(f"value_range must rise, got {value_range}")
    return value_range


def are_numbers(values: Tensor) -> Tensor:
    """(B,) bool: of each image, or of its landmarks, whether no value of it is NaN or infinite."""
    if not values.is_floating_point():
        return torch.ones(len(values), dtype=torch.bool, device=values.device)
    flat = values.flatten(1)
    return flat.amax(1).isfinite() & flat.amin(1).isfinite()  # both pass a NaN on, and take one look at each value


def faults(images: Tensor, value_range: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """(B,) bool, twice: images that leave the range, and images that leave its lower half or nearly all of it empty.

    Args:
        images: (B, 3, H, W) uint8, which are always right, or floats.
        value_range: what their values are said to lie in.
    """
    if not images.is_floating_point():
        none = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        return none, none
    seen = widened(images[..., ::LOOKED_AT, ::LOOKED_AT].flatten(1))
    low, high = seen.amin(1), seen.amax(1)
    first, last = value_range
    width = last - first
    outside = (low < first - OUTSIDE * width) | (high > last + OUTSIDE * width)
    empty = (low > first + (0.5 - NEARLY) * width) | (high < first + NEARLY * width)
    return outside, empty & ~outside


def warnings_of(outside: int, empty: int, images: int, value_range: tuple[float, float]) -> list[str]:
    """What is to be said of so many images with those `faults`: a sentence for each kind."""
    said = []
    if outside:
        said.append(
            f"{outside} of {images} images have values far outside value_range={value_range}: "
            "are they normalised otherwise?"
        )
    if empty > MOST_BRIGHT * images:
        said.append(
            f"{empty} of {images} images fill only the upper half of value_range={value_range}, or almost none of it: "
            "are they normalised otherwise, as to 0..1?"
        )
    return said
