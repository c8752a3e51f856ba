"""`kept` of the training loop's metric: the package's map from distance to probability, on tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from exprmetric.methods.onnx import fingerprint_of
from exprmetric.metrics.kept import KeptMap
from exprmetric.torch.encoder import ExpressionEncoder
from exprmetric.torch.functional import widened
from exprmetric.weights.kept_maps import kept_map

KEPT = ("kept", "kept_source_pasted")
"""Means over triplets: of the swapped faces, and what pasting the sources would give."""
CEILING = "kept_nothing_swapped"
"""The other anchor, which is the same for all triplets: two people who look at one face."""
EYES70 = ("none", "landmarks")
"""Alignments that give the crops of the command line, which maps are made for."""


def map_of(encoder: ExpressionEncoder, align: str) -> KeptMap | None:
    """The map of an encoder's weights; None where none was made for them, or crops are aligned otherwise."""
    entry = encoder.entry
    if align not in EYES70 or entry.output is None:
        return None
    return kept_map(fingerprint_of(entry, entry.output), encoder.distance_name)


def columns(made: KeptMap, t2c: Tensor, s2t: Tensor | None) -> dict[str, Tensor]:
    """What each triplet adds to `KEPT`: (N,) distances → (N,) probabilities; without a source the first alone."""
    found = {KEPT[0]: _interpolated(made, t2c)}
    return found if s2t is None else found | {KEPT[1]: _interpolated(made, s2t)}


def _interpolated(made: KeptMap, distances: Tensor) -> Tensor:
    """As the map itself, on the distances' device, without waiting for it; NaN stays NaN."""
    x = widened(distances)
    knots, values = (
        torch.tensor(numbers, dtype=x.dtype).to(x.device, non_blocking=True)
        for numbers in (made.distances, made.probabilities)
    )
    right = torch.searchsorted(knots, x.contiguous()).clamp(1, len(knots) - 1)
    low, high = knots[right - 1], knots[right]
    share = ((x - low) / (high - low)).clamp(0, 1)
    return values[right - 1] + share * (values[right] - values[right - 1])
