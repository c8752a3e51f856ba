"""Paper 000's end-to-end classification (table I, third row from below): encoder and classifier learn together.

The classifier is section IV.B's (dropout 0.5, 512 units, dropout 0.5, linear) on an encoder that isn't frozen; the loss
is its weighted cross-entropy, CE · W(y) with the W of equation (4), mean over the batch; the augmentation is the same.
Choices:

* The paper says that it "only adjusted the learning rate", and not to what, and learnt nothing (15.15 % of 8 classes).
  Here the rate stays 0.001 unless set, with a cosine to 0 over the epochs.
* `weighted=false` is the usual cross-entropy, which favours the accuracy over faces over the mean over classes.
* The embedding that is kept is what the classifier reads. The whole network is in `best.pt`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exprmetric.datasets.arrays import Batch, FaceArrays
from exprmetric.datasets.layouts import EXPRESSIONS
from exprmetric.encoder.models import Encoder, classification_head
from exprmetric.training.loop import Losses, autocast, pick_device
from exprmetric.training.losses import class_weights
from exprmetric.training.recipes.common import Augmenter, RecipeConfig, Scores, embed, fit, load_faces, save_encoder
from exprmetric.training.space import classification_scores

CLASSES = len(EXPRESSIONS)


@dataclass(frozen=True)
class ClassificationConfig(RecipeConfig):
    """Settings of the recipe; the defaults are the paper's.

    Attributes:
        weighted: class weights (equation 4) in the cross-entropy.
    """

    weighted: bool = True


class Classifier(nn.Module):
    """(B, 1, S, S) luma 0..1 → (B, 8) logits of `EXPRESSIONS`."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = classification_head(encoder.dimension, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(images))
        return logits


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """CE · W(y), mean over the batch.

    Not torch's weighted mean, which divides by the batch's sum of weights: a batch of rare classes would weigh no more
    than one of common ones.

    Args:
        logits: (B, C). labels: (B,) 0..C-1. weights: (C,), or None for 1.
    """
    terms = F.cross_entropy(logits.float(), labels, reduction="none")
    return (terms if weights is None else terms * weights[labels]).mean()


def train_from_data(
    paths: Sequence[str | Path], out: Path, config: ClassificationConfig, *, device: str = "auto", jobs: int = 2
) -> Scores:
    """Align, load, train; writes `out/encoder.pt`. Scores: accuracy, mean class accuracy and confusion a split."""
    return run(load_faces(paths, config, out, device=device, jobs=jobs), config, out, pick_device(device))


def run(faces: dict[str, FaceArrays], config: ClassificationConfig, out: Path, device: torch.device) -> Scores:
    """The recipe on faces that are loaded; see `train_from_data`."""
    torch.manual_seed(config.seed)
    model = Classifier(config.encoder()).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    weights = class_weights(faces["train"].labels, CLASSES) if config.weighted else None
    augmenter = Augmenter(config, device)

    def step(model: nn.Module, batch: Batch) -> Losses:
        images = augmenter(batch.images) if model.training else batch.images
        with autocast(images.device):
            logits = model(images.contiguous(memory_format=torch.channels_last))
        hits = (logits.argmax(1) == batch.labels).float()
        return {"total": weighted_cross_entropy(logits, batch.labels, weights), "accuracy": hits.mean()}

    fit(model, step, faces, config, out, augmenter, label="classifier")
    scores: Scores = {split: scores_of(model, faces[split]) for split in ("valid", "test") if split in faces}
    return save_encoder(cast(Encoder, model.encoder), config, scores, out)


def scores_of(model: Classifier, faces: FaceArrays) -> dict[str, Any]:
    """See `classification_scores`."""
    return classification_scores(model.head, embed(model.encoder, faces), faces.labels)
