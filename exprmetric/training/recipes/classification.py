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

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from exprmetric.datasets.arrays import Batch, FaceArrays
from exprmetric.datasets.samples import EXPRESSIONS
from exprmetric.encoder.models import Encoder, classification_head
from exprmetric.training.loop import Losses, autocast
from exprmetric.training.losses import class_weights, weighted_cross_entropy
from exprmetric.training.recipes.common import RecipeConfig, embed
from exprmetric.training.recipes.recipe import Recipe
from exprmetric.training.space import classification_scores


@dataclass(frozen=True)
class ClassificationConfig(RecipeConfig):
    """Settings of the recipe; the defaults are the paper's.

    Attributes:
        weighted: class weights (equation 4) in the cross-entropy.
    """

    weighted: bool = True


class Classifier(nn.Module):
    """(B, 1, S, S) luma 0..1 → (B, classes) logits of the first of `EXPRESSIONS`."""

    def __init__(self, encoder: Encoder, classes: int = len(EXPRESSIONS)) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = classification_head(encoder.dimension, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(images))
        return logits


class Classification(Recipe[ClassificationConfig, Classifier]):
    """The recipe. Scores: accuracy, mean class accuracy and confusion a split, see `classification_scores`."""

    settings = ClassificationConfig
    label = "classifier"

    def build(self) -> Classifier:
        classes = self.config.classes_told
        self.weights = class_weights(self.faces["train"].labels, classes) if self.config.weighted else None
        return Classifier(self.config.encoder(), classes)

    def step(self, model: Classifier, batch: Batch) -> Losses:
        with autocast(batch.images.device):
            logits = model(self.seen(model, batch))
        hits = (logits.argmax(1) == batch.labels).float()
        return {"total": weighted_cross_entropy(logits, batch.labels, self.weights), "accuracy": hits.mean()}

    def score(self, faces: FaceArrays) -> dict[str, Any]:
        return classification_scores(self.model.head, embed(self.encoder, faces), faces.labels)
