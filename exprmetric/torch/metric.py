"""`ExpressionPreservation`: the scores of `exprmetric evaluate` as a torchmetrics metric."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.utilities import rank_zero_warn
from torchmetrics.utilities.data import dim_zero_cat

from exprmetric.errors import InputError
from exprmetric.metrics.preservation import WITHOUT_SOURCE
from exprmetric.torch import kept
from exprmetric.torch.alignment import WARPS, aligned, check_alignment
from exprmetric.torch.encoder import ExpressionEncoder
from exprmetric.torch.frozen import Frozen, only_device
from exprmetric.torch.functional import SCORES, distance_function, l2, per_triplet, widened
from exprmetric.torch.intervals import interval_ends
from exprmetric.torch.pixels import check_images, to_bytes, to_pixels
from exprmetric.torch.value_range import are_numbers, check_value_range, faults, warnings_of

IDENTITY_SCORES = ("identity_nearer_to_source", "identity_mean_t2c", "identity_mean_s2c", "identity_mean_s2t")
"""The identity control's, where an identity encoder is given."""
NEED_NO_SOURCE = (*WITHOUT_SOURCE, kept.KEPT[0], "identity_mean_t2c")


class ExpressionPreservation(Metric):
    """How well swapped faces keep their targets' expression, over all batches and ranks.

    `update(target, source, swapped)` takes three batches of equal length; `compute()` gives a dict of 0-dim float64
    tensors: `l2_error` (lower is better), `mean_t2c` (lower), `ratio` (higher), `mean_s2c`, `mean_s2t`, as defined in
    `exprmetric.metrics.preservation_scores`; all NaN where nothing was measured. Where the encoder has a map of `kept`
    and crops are `eyes70`, also `kept` (higher), and its anchors `kept_nothing_swapped` and `kept_source_pasted`;
    `kept_map.calibrated` says whether it may be claimed. On 8-bit `eyes70` crops they are the
    command line's scores of the same crops. A triplet with a value that is NaN or infinite, in an image, a landmark or
    a distance, is left out of all scores: `left_out` counts them, and `compute` warns.

    An anonymized face has no source: `update(target, None, swapped)`. Scores that need a source are means over the
    triplets that have one, and where none has, `compute` has no key for them.

    The states are one sum for each score and some counts, so memory doesn't grow and ranks may have any number of
    triplets, or none. `update` never waits for the device. The encoder is in no checkpoint (see `Frozen`), computes in
    float32 whatever precision the trainer runs in, and sees what an image file would hold: values clipped, rounded to 8
    bits.

    Args:
        value_range: of floating-point images; uint8 images are 0..255. `compute` warns of images far outside, and of
            those that leave half the range empty, as 0..1 images do under (-1, 1).
        align: `none` (the images are `eyes70` crops), `center_crop`, `landmarks` or
            `arcface`; see `exprmetric.torch.alignment.aligned`. Only numbers with the same alignment can be compared.
        crop_fraction: for `center_crop`, the side as a share of the shorter side: about 0.8 for FFHQ-like images.
        identity: for the identity control, a module from (B, 3, S, S) float RGB 0..1 crops, as aligned here, to (B, D).
            It is put in eval mode. Adds the mean L2 distances `identity_mean_t2c`, `identity_mean_s2c`,
            `identity_mean_s2t` between unit-norm vectors, and `identity_nearer_to_source`, the share with s2c < t2c.
        intervals: keep every triplet's distances (memory grows by 16 bytes a triplet) and add a bootstrap interval:
            `l2_error_low`, `l2_error_high`, and so for `mean_t2c` and `ratio`.
        encoder: an `ExpressionEncoder`, to share it with a loss; None for one that rounds to 8 bits.
        kwargs: torchmetrics' own, such as `process_group` or `sync_on_compute`.

    Raises:
        InputError: an unknown name or a value outside its range.

    Example:
        >>> import torch
        >>> from exprmetric.torch import ExpressionPreservation
        >>> metric = ExpressionPreservation()  # doctest: +SKIP
        >>> target, source, swapped = torch.randint(0, 256, (3, 4, 3, 224, 224), dtype=torch.uint8)
        >>> metric.update(target, source, swapped)  # doctest: +SKIP
        >>> sorted(metric.compute())  # doctest: +SKIP
        ['l2_error', 'mean_s2c', 'mean_s2t', 'mean_t2c', 'ratio']
    """

    is_differentiable = False
    higher_is_better = None  # of a dict, some are and some aren't: exprmetric.metrics.HIGHER_IS_BETTER
    full_state_update = False

    sums: Tensor
    count: Tensor
    count_with_source: Tensor
    with_source: Tensor
    left_out: Tensor
    outside: Tensor
    half_empty: Tensor

    def __init__(
        self,
        *,
        value_range: tuple[float, float] = (0.0, 1.0),
        align: str = "none",
        crop_fraction: float = 1.0,
        identity: nn.Module | None = None,
        intervals: bool = False,
        encoder: ExpressionEncoder | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 0 < crop_fraction <= 1:
            raise InputError(f"crop_fraction must be above 0 and at most 1, got {crop_fraction}")
        self.value_range = check_value_range(value_range)
        self.align = check_alignment(align)
        self.crop_fraction = crop_fraction
        self.intervals = intervals
        self.encoder = encoder if encoder is not None else ExpressionEncoder(quantise=True)
        self.identity = Frozen(identity) if identity is not None else None
        self.kept_map = kept.map_of(self.encoder, align)
        self.names = SCORES + (kept.KEPT if self.kept_map else ()) + (IDENTITY_SCORES if identity is not None else ())
        self._in_forward = False
        self._had_source = True
        # float64: a sum over a million triplets must still notice the next one
        self.add_state("sums", torch.zeros(len(self.names), dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("count", "count_with_source", "with_source", "left_out", "outside", "half_empty"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        for name in ("t2c", "s2c", "s2t", "groups") if intervals else ():
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(
        self,
        target: Tensor,
        source: Tensor | None,
        swapped: Tensor,
        *,
        target_landmarks: Tensor | None = None,
        source_landmarks: Tensor | None = None,
        swapped_landmarks: Tensor | None = None,
        groups: Tensor | None = None,
    ) -> None:
        """Measure a batch of triplets.

        Args:
            target: (B, 3, H, W) RGB, uint8 or floats in `value_range`. B may be 0.
            source: the same; None where there is none. H and W may differ from those of the targets.
            swapped: the same.
            target_landmarks: with align `landmarks`, (B, 2, 2) eye centres or (B, 68, 2) points.
            source_landmarks: the same for the sources.
            swapped_landmarks: the same for the swapped faces. None: the target's, because a swapped face has its
                target's pose.
            groups: (B,) whole numbers below 2^24, with `intervals`: triplets that are not independent (of one video, of
                one target) have the same number, and the bootstrap draws them together. None: each is its own.

        Raises:
            InputError: images or landmarks of another shape, or batches of different length.
        """
        lengths = [len(target), *([] if source is None else [len(source)]), len(swapped)]
        if len(set(lengths)) > 1:
            what = "a target, a source and a swapped face" if source is not None else "a target and a swapped face"
            raise InputError(f"a triplet is {what}: got {', '.join(map(str, lengths))}")
        if source is None and source_landmarks is not None:
            raise InputError("source_landmarks are given and no source")
        self._had_source = source is not None
        if groups is not None and (not self.intervals or groups.shape != (len(target),)):
            raise InputError(f"groups are ({len(target)},), and for intervals=True; got {tuple(groups.shape)}")
        if swapped_landmarks is None:
            swapped_landmarks = target_landmarks
        given = [(target, target_landmarks), (swapped, swapped_landmarks)]
        if source is not None:
            given.insert(1, (source, source_landmarks))
        crops = [self._crop(images, points) for images, points in given]
        if not len(target):
            return
        self._look_at_range([images for images, _ in given])
        faces = [self.encoder.preprocess(images, value_range) for images, value_range in crops]
        distances = self._distances(faces, self.encoder.represent, distance_function(self.encoder.distance_name))
        columns = per_triplet(*distances)
        if self.identity is not None:
            columns |= self._identity_columns([self._pixels(*crop) for crop in crops], self.identity)
        t2c = distances[0]
        if self.kept_map is not None:
            columns |= kept.columns(self.kept_map, t2c, distances[2] if source is not None else None)
        nothing = torch.zeros_like(t2c)
        rows = torch.stack([columns.get(name, nothing) for name in self.names])
        measured = rows.isfinite().all(0)
        for values in (values for pair in given for values in pair if values is not None):
            measured = measured & are_numbers(values).to(measured.device)  # an infinite pixel would be clipped to white
        # not in place: a state that was reset under inference mode couldn't be changed outside it
        self.sums = self.sums + torch.where(measured, rows, 0).to(self.sums.dtype).sum(1)
        self.count = self.count + measured.sum()
        self.left_out = self.left_out + (~measured).sum()
        if source is not None:
            self.count_with_source = self.count_with_source + measured.sum()
            self.with_source = self.with_source + len(source)
        if self.intervals:
            s2c, s2t = distances[1:] if source is not None else (torch.full_like(t2c, torch.nan),) * 2
            # of the metric's own dtype, which is what torchmetrics sends for a rank that has none
            own = torch.full_like(t2c, -1) if groups is None else groups.to(self.device)
            for name, values in (("t2c", t2c), ("s2c", s2c), ("s2t", s2t), ("groups", own)):
                getattr(self, name).append(torch.where(measured, values, torch.nan).to(self.dtype))

    def _crop(self, images: Tensor, landmarks: Tensor | None) -> tuple[Tensor, tuple[float, float]]:
        """Aligned (B, 3, S, S) and the range of their values."""
        value_range = self.value_range
        check_images(images)
        if self.align in WARPS or not self.encoder.quantise:  # a warp mixes pixels; a cut comes cheaper first
            images, value_range = self._pixels(images, value_range), (0.0, 255.0)
        return aligned(images, self.align, landmarks, fraction=self.crop_fraction), value_range

    def _look_at_range(self, batches: list[Tensor]) -> None:
        """Count images that are in another range than was said."""
        for images in batches:
            outside, half_empty = faults(images, self.value_range)
            self.outside = self.outside + outside.sum()
            self.half_empty = self.half_empty + half_empty.sum()

    def _pixels(self, images: Tensor, value_range: tuple[float, float]) -> Tensor:
        """In 0..255, as an image file would hold them where the encoder rounds."""
        return to_bytes(images, value_range) if self.encoder.quantise else to_pixels(images, value_range).clamp(0, 255)

    @staticmethod
    def _distances(
        crops: list[Tensor], embed: Callable[[Tensor], Tensor], distance: Callable[[Tensor, Tensor], Tensor]
    ) -> tuple[Tensor, ...]:
        """t2c, s2c, s2t, or t2c alone of two crops; one call of the network where the crops are of one size."""
        if len({crop.shape for crop in crops}) == 1:
            target, *source, swapped = embed(torch.cat(crops)).chunk(len(crops))
        else:
            target, *source, swapped = (embed(crop) for crop in crops)
        more = [distance(s, face) for s in source for face in (swapped, target)]
        return distance(target, swapped), *more

    def _identity_columns(self, crops: list[Tensor], network: Frozen) -> dict[str, Tensor]:
        def embed(pixels: Tensor) -> Tensor:
            with torch.autocast(pixels.device.type, dtype=torch.bfloat16, enabled=False):
                return F.normalize(widened(network(pixels / 255)).flatten(1), dim=1)

        t2c, *more = self._distances(crops, embed, l2)
        if not more:
            return {"identity_mean_t2c": t2c}
        s2c, s2t = more
        return dict(zip(IDENTITY_SCORES, ((s2c < t2c).to(t2c.dtype), t2c, s2c, s2t), strict=True))

    def compute(self) -> dict[str, Tensor]:
        """The scores, NaN where nothing was measured; without those that need a source where there was none.

        With `intervals`, their bootstrap runs on the host.
        """
        if not self._in_forward:
            self._warn()
        counts = [self.count if name in NEED_NO_SOURCE else self.count_with_source for name in self.names]
        means = self.sums / torch.stack(counts)
        scores = dict(zip(self.names, means.unbind(), strict=True))
        if not self._some_source():
            scores = {name: score for name, score in scores.items() if name in NEED_NO_SOURCE}
        if self.kept_map is not None:
            scores[kept.CEILING] = 0.0 * scores["mean_t2c"] + self.kept_map.ceiling  # NaN where nothing was measured
        if self.intervals and not self._in_forward:
            scores |= self._intervals()
        return scores

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """A point for each score, or a line over several steps, as torchmetrics draws it.

        Args:
            val: what `compute` or `forward` gave, or a list of these; None: `compute()`.
            ax: a Matplotlib axis to draw on; None: a new one.

        Returns:
            The Matplotlib figure and its axis. ModuleNotFoundError where Matplotlib is missing.
        """
        return self._plot(val, ax)

    def _some_source(self) -> bool:
        """Whether any triplet, of all ranks, came with a source, or there was none at all."""
        if self._in_forward:  # of one batch: known without waiting for the device
            return self._had_source
        return bool(self.with_source > 0) or not bool(self.count + self.left_out)

    def _warn(self) -> None:
        triplets, left_out = int(self.count + self.left_out), int(self.left_out)
        images = 2 * triplets + int(self.with_source)
        said = warnings_of(int(self.outside), int(self.half_empty), images, self.value_range)
        if left_out:
            said.append(
                f"{left_out} of {triplets} triplets hold a value that is NaN or infinite, "
                "and are left out of all scores"
            )
        for sentence in said:
            rank_zero_warn(sentence, UserWarning)

    def _intervals(self) -> dict[str, Tensor]:
        t2c, s2c, s2t, groups = (
            dim_zero_cat(values).double().cpu().numpy() if len(values) else np.empty(0)
            for values in (getattr(self, name) for name in ("t2c", "s2c", "s2t", "groups"))
        )
        ends = interval_ends(t2c, s2c, s2t, groups, self.kept_map)
        return {name: self.sums.new_tensor(value) for name, value in ends.items()}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Update, and the scores of this batch alone; without what only `compute` gives: warnings and intervals."""
        self._in_forward = True
        try:
            return super().forward(*args, **kwargs)
        finally:
            self._in_forward = False

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Any = "") -> Any:
        """A model turned to half precision leaves the sums what they are; `set_dtype` changes them."""
        return super()._apply(fn if self._dtype_convert else only_device(fn), exclude_state)
