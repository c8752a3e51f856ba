"""What a self-supervised engine is: views of faces in, losses out.

An engine holds the encoder and all that stands on it while it learns. What the views are (other crops, nearby frames,
swapped faces, warped faces) is a recipe's choice; what is done with them is the engine's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from torch import Tensor, nn

from exprmetric.encoder.models import Encoder
from exprmetric.training.loop import Losses


@dataclass(frozen=True)
class Views:
    """What an engine sees of B faces; images are (B, 1, S, S) float 0..1.

    Attributes:
        anchor: one view of each face.
        positive: another view of the same expression.
        negatives: each one more view a face, of another expression than its anchor's: a frame far away in the same
            video (paper 001), the anchor locally warped (paper 003).
        ignored: (B, B) bool, True where another face of the batch is no negative of an anchor (paper 001's false
            negatives); engines without negatives of the batch have no use for it.
    """

    anchor: Tensor
    positive: Tensor
    negatives: tuple[Tensor, ...] = field(default=())
    ignored: Tensor | None = None


class Engine(nn.Module, ABC):
    """A self-supervised method.

    Attributes:
        encoder: what is kept.
    """

    encoder: Encoder

    @abstractmethod
    def losses(self, views: Views) -> Losses:
        """Each term by name; `total` is what is minimised. In eval mode nothing changes (no queue, no statistics), and
        the faces of this process are all there are."""

    def after_step(self) -> None:
        """Called after each step of the optimiser: a momentum encoder follows."""
