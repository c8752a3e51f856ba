"""Paper 001's strategies as functions on tensors: which frames are near or far, false negatives, mixed patches.

Swapped faces are made beforehand, see `swapped`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

TICKS = 1_000_000
"""A second in whole numbers: comparisons of times are exact."""
PATCH = (0.35, 0.6)
"""Sides of a mixed patch as shares of the image: never more than 36 % of the face comes from another one."""


class Timeline:
    """Which of N faces are near and far in time within their clip.

    Args:
        clip: (N,) integers; negative ones are photographs, each a clip of its own.
        time: (N,) seconds; of photographs anything.
    """

    def __init__(self, clip: Tensor, time: Tensor) -> None:
        own = -1 - torch.arange(len(clip), device=clip.device)
        clip = torch.where(clip < 0, own, clip)
        ticks = torch.where(clip < 0, 0, (torch.nan_to_num(time.double()) * TICKS).round().long())
        self._span = int(ticks.max()) + 1 if len(clip) else 1
        rank = torch.unique(clip, return_inverse=True)[1]
        self._key, self._order = (rank * self._span + ticks).sort()
        self._place = torch.empty_like(self._order)
        self._place[self._order] = torch.arange(len(clip), device=clip.device)
        self._start = torch.searchsorted(self._key, rank * self._span)
        self._end = torch.searchsorted(self._key, (rank + 1) * self._span)

    def near(self, faces: Tensor, seconds: float, generator: torch.Generator) -> Tensor:
        """(B,) for each of the faces (B,) another frame of its clip, by index, at most `seconds` away; else itself."""
        key, start, end = self._window(faces)
        reach = self._reach(seconds)
        first = torch.searchsorted(self._key, key - reach).maximum(start)
        last = torch.searchsorted(self._key, key + reach, right=True).minimum(end)
        own, others = self._place[faces], last - first - 1
        drawn = first + _below(others, generator)
        drawn += (drawn >= own).long()  # its own place is left out
        found: Tensor = self._order[torch.where(others > 0, drawn, own)]
        return found

    def far(self, faces: Tensor, seconds: float, generator: torch.Generator) -> Tensor:
        """(B,) for each of the faces (B,) a frame of its clip at least `seconds` away; -1 where there is none."""
        key, start, end = self._window(faces)
        reach = self._reach(seconds)
        before = (torch.searchsorted(self._key, key - reach, right=True) - start).clamp(min=0)
        resumes = torch.searchsorted(self._key, key + reach).minimum(end)
        count = before + end - resumes
        drawn = _below(count, generator)
        place = torch.where(drawn < before, start + drawn, resumes + drawn - before)
        return torch.where(count > 0, self._order[place.clamp(max=len(self._order) - 1)], -1)

    def _window(self, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self._key[self._place[faces]], self._start[faces], self._end[faces]

    def _reach(self, seconds: float) -> int:
        return min(round(seconds * TICKS), self._span)


def _below(count: Tensor, generator: torch.Generator) -> Tensor:
    """(B,) int64 drawn evenly from 0 … count - 1; 0 where there is none to draw."""
    share = torch.rand(len(count), generator=generator, device=count.device, dtype=torch.float64)
    return (share * count).long().minimum((count - 1).clamp(min=0))


def near_pairs(clip: Tensor, time: Tensor, seconds: float) -> Tensor:
    """(B, B) bool, True where two faces are frames of one clip at most `seconds` apart; a face is no pair with itself.

    Args:
        clip: (B,), as in `Timeline`.
        time: (B,), as in `Timeline`.
    """
    ticks = (torch.nan_to_num(time.double()) * TICKS).round().long()
    apart = (ticks[:, None] - ticks[None, :]).abs()
    same = (clip[:, None] == clip[None, :]) & (clip >= 0)[:, None]
    return (same & (apart <= round(seconds * TICKS))).fill_diagonal_(False)


def most_similar(descriptors: Tensor, out: Tensor | None = None) -> Tensor:
    """(B, B) bool, True in each row at the one other face whose descriptor is the most similar, by cosine.

    Args:
        descriptors: (B, D), any norm.
        out: (B, B) bool, faces that are not to be chosen (they are ignored for another reason).

    Returns:
        All False in a row whose other faces are all `out`.
    """
    z = F.normalize(descriptors.float())
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    barred = itself if out is None else out | itself
    similarity = (z @ z.T).masked_fill(barred, float("-inf"))
    chosen = F.one_hot(similarity.argmax(1), len(z)).bool()
    return chosen & ~barred


def another(ignored: Tensor, generator: torch.Generator) -> Tensor:
    """(B,) for each face of a batch, the index of another one that isn't ignored; of any other where all are.

    Args:
        ignored: (B, B) bool, the diagonal has no meaning.
    """
    itself = torch.eye(len(ignored), dtype=torch.bool, device=ignored.device)
    allowed = ~(ignored | itself)
    allowed = torch.where(allowed.any(1, keepdim=True), allowed, ~itself)
    drawn = torch.multinomial(allowed.float(), 1, generator=generator)
    return drawn[:, 0]


def mix_patches(images: Tensor, generator: torch.Generator) -> Tensor:
    """Paste a rectangle of another face of the batch over each face, at the same place (CutMix, Yun et al., 2019).

    Args:
        images: (B, 1, S, S). Sides of the rectangle are drawn from PATCH, its place anywhere inside the image.
    """
    n, size = len(images), images.shape[-1]
    other = another(torch.zeros(n, n, dtype=torch.bool, device=images.device), generator)
    place = (torch.arange(size, device=images.device) + 0.5) / size
    inside = []
    for _ in range(2):
        draw = torch.rand(2, n, 1, generator=generator, device=images.device)
        side = PATCH[0] + (PATCH[1] - PATCH[0]) * draw[0]
        start = (1 - side) * draw[1]
        inside.append((place >= start) & (place < start + side))
    patch = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return torch.where(patch, images[other], images)
