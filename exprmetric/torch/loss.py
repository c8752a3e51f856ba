"""`ExpressionLoss`: how far a swapped face's expression is from its target's, as something to descend on."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.utilities import rank_zero_warn

from exprmetric.errors import InputError
from exprmetric.torch.alignment import WARPS, aligned, check_alignment
from exprmetric.torch.encoder import EMBEDDING, ExpressionEncoder
from exprmetric.torch.functional import distance_function, widened
from exprmetric.torch.pixels import check_images, to_pixels
from exprmetric.torch.value_range import check_value_range, faults, warnings_of

REDUCTIONS = ("mean", "sum", "none")
LOOKS = (1, 10, 100, 1000)
"""Calls in which the values of the images are looked at: it makes the host wait for the device."""


class ExpressionLoss(nn.Module):
    """Distance t2c between the expressions of target and swapped face, with gradients to the swapped images alone.

    With `margin`, `max(0, t2c - s2c + margin)`: the swapped face is to be nearer to the target's expression than to the
    source's, by that much. Distances are those of the metric: 0..2 for `l2` between unit-norm embeddings.

    What descends on an encoder learns its blind spots too: judge it by the method `second` as well, a small encoder
    that took no part in the training of `default`.

    Args:
        margin: of the margin form, 0 or more; None for plain t2c.
        layers: weight by layer. `embedding` is the encoder's own distance. Any other name is a submodule of the encoder
            (`backbone.second.9`), compared as perceptual losses do (Zhang et al. 2018): unit norm over the channels,
            squared differences summed over them, mean over the places. None for `{"embedding": 1.0}`.
        reduction: `mean`, `sum`, or `none` for (B,).
        value_range: of floating-point images. Values outside aren't clipped: they keep their gradient. Some of the
            first calls look at the images and warn, once, of those far outside or that leave half the range empty.
        align: see `exprmetric.torch.alignment.aligned`.
        crop_fraction: its `fraction`.
        encoder: an `ExpressionEncoder` to share with the metric; None for one that doesn't round to 8 bits.

    Raises:
        InputError: an unknown name or a value outside its range.
    """

    def __init__(
        self,
        *,
        margin: float | None = None,
        layers: Mapping[str, float] | None = None,
        reduction: str = "mean",
        value_range: tuple[float, float] = (0.0, 1.0),
        align: str = "none",
        crop_fraction: float = 1.0,
        encoder: ExpressionEncoder | None = None,
    ) -> None:
        super().__init__()
        if margin is not None and not margin >= 0:
            raise InputError(f"margin must be 0 or more, got {margin}")
        if reduction not in REDUCTIONS:
            raise InputError(f"unknown reduction {reduction!r}; known: {', '.join(REDUCTIONS)}")
        if not 0 < crop_fraction <= 1:
            raise InputError(f"crop_fraction must be above 0 and at most 1, got {crop_fraction}")
        self.margin = margin
        self.reduction = reduction
        self.value_range = check_value_range(value_range)
        self.align = check_alignment(align)
        self.crop_fraction = crop_fraction
        self.encoder = encoder if encoder is not None else ExpressionEncoder()
        self.layers = dict(layers) if layers is not None else {EMBEDDING: 1.0}
        if not self.layers:
            raise InputError("layers is empty: name at least one")
        for name in self.layers:
            if name != EMBEDDING:
                self.encoder.layer(name)
        self._distance = distance_function(self.encoder.distance_name)
        self._calls, self._warned = 0, False

    def forward(
        self,
        target: Tensor,
        swapped: Tensor,
        source: Tensor | None = None,
        *,
        target_landmarks: Tensor | None = None,
        swapped_landmarks: Tensor | None = None,
        source_landmarks: Tensor | None = None,
    ) -> Tensor:
        """() or, with reduction `none`, (B,): float32.

        Args:
            target: (B, 3, H, W) RGB, uint8 or floats in `value_range`.
            swapped: the same; gradients reach these images alone.
            source: the same, with a margin only.
            target_landmarks: of the targets, with align `landmarks`.
            swapped_landmarks: of the swapped faces. None: the target's, because a swapped face has its target's pose.
            source_landmarks: of the sources.

        Raises:
            InputError: images or landmarks of another shape; a margin without a source, or a source without a margin.
        """
        if (source is None) != (self.margin is None):
            raise InputError("only a margin needs the source: ExpressionLoss(margin=0.2)(target, swapped, source)")
        if len(target) != len(swapped) or (source is not None and len(source) != len(target)):
            raise InputError(f"a batch has one swapped face a target, got {len(swapped)} for {len(target)}")
        if swapped_landmarks is None:
            swapped_landmarks = target_landmarks
        with torch.no_grad():
            wanted = self._describe(target, target_landmarks)
            unwanted = self._describe(source, source_landmarks) if source is not None else None
        found = self._describe(swapped, swapped_landmarks)
        if not torch.compiler.is_compiling():
            self._look_at_range([images.detach() for images in (target, swapped, source) if images is not None])
        loss = self._distances(wanted, found)
        if unwanted is not None and self.margin is not None:
            loss = F.relu(loss - self._distances(unwanted, found) + self.margin)
        if self.reduction == "none":
            return loss
        return loss.mean() if self.reduction == "mean" else loss.sum()

    def _look_at_range(self, batches: list[Tensor]) -> None:
        """Warn, once, of images that are in another range than was said."""
        self._calls += 1
        plain = all(
            type(images) is Tensor and not images.is_meta for images in batches
        )  # of others, values may be unknown
        captured = batches[0].is_cuda and torch.cuda.is_current_stream_capturing()
        if self._warned or self._calls not in LOOKS or captured or not plain or not len(batches[0]):
            return
        found = torch.stack([torch.stack(faults(images, self.value_range)).sum(1) for images in batches])
        outside, half_empty = found.sum(0).tolist()
        for sentence in warnings_of(outside, half_empty, len(batches) * len(batches[0]), self.value_range):
            self._warned = True
            rank_zero_warn(sentence, UserWarning)

    def _describe(self, images: Tensor, landmarks: Tensor | None) -> dict[str, Tensor]:
        check_images(images)
        points, value_range = None if landmarks is None else landmarks.detach(), self.value_range
        if self.align in WARPS:  # a warp mixes pixels; a cut is cheaper before they are anything
            images, value_range = to_pixels(images, value_range), (0.0, 255.0)
        crops = aligned(images, self.align, points, fraction=self.crop_fraction)
        return self.encoder.features(crops, self.layers, value_range)

    def _distances(self, a: dict[str, Tensor], b: dict[str, Tensor]) -> Tensor:
        """(B,) weighted sum over the layers."""
        terms = [
            weight * (self._distance(a[name], b[name]) if name == EMBEDDING else perceptual(a[name], b[name]))
            for name, weight in self.layers.items()
        ]
        return torch.stack(terms).sum(0)


def perceptual(a: Tensor, b: Tensor) -> Tensor:
    """(B, C, H, W), (B, C, H, W) → (B,) squared difference of unit-norm feature vectors, mean over the places, 0..4."""
    x, y = (F.normalize(widened(v), dim=1, eps=1e-6) for v in (a, b))
    return (x - y).square().sum(1, keepdim=True).flatten(1).mean(1)
