"""SimCLR: a view is told from all other views of the batch, NT-Xent (Chen et al., 2020)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from exprmetric.encoder import distributed
from exprmetric.encoder.models import Encoder
from exprmetric.training.engines.base import Engine, Views
from exprmetric.training.engines.config import EngineConfig
from exprmetric.training.engines.heads import contrastive_losses, perceptron, run
from exprmetric.training.loop import Losses


def nt_xent(
    anchor: Tensor,
    positive: Tensor,
    temperature: float,
    *,
    negatives: tuple[Tensor, ...] = (),
    ignored: Tensor | None = None,
) -> Losses:
    """Both views of each face are anchors in turn, and each other's positive; see `contrastive_losses`.

    Args:
        anchor: (B, D), any norm.
        positive: (B, D), any norm.
        negatives: (B, D) each: one more negative of both views of the same row (paper 001's HardNeg).
        ignored: (B, B) bool: True at (i, j) leaves both views of face j out of the denominators of both views of
            face i (paper 001's MaskFN). The diagonal has no meaning: a face's other view is its positive.
    """
    b = len(anchor)
    z = F.normalize(torch.cat([anchor, positive]))
    itself = torch.eye(b, dtype=torch.bool, device=z.device)
    out = itself if ignored is None else ignored | itself
    others = (z @ z.T).masked_fill(out.repeat(2, 2), float("-inf"))
    own = [(z * F.normalize(n).repeat(2, 1)).sum(1, keepdim=True) for n in negatives]
    return contrastive_losses((z[:b] * z[b:]).sum(1).repeat(2), torch.cat([others, *own], 1), temperature)


class SimCLR(Engine):
    """Encoder and projector of two layers without batch norm.

    Of its own: projection 128, hidden the encoder's width, temperature 0.1.

    In training, a view is told from those of all processes' batches; where `Views.ignored` says something about the
    faces of this one, from those of this one.
    """

    def __init__(self, encoder: Encoder, config: EngineConfig) -> None:
        super().__init__()
        self.temperature = config.temperature or 0.1
        self.encoder = encoder
        self.projector = perceptron(
            encoder.dimension, config.hidden or encoder.dimension, config.projection or 128, norm=False
        )

    def losses(self, views: Views) -> Losses:
        seen = (views.anchor, views.positive, *views.negatives)
        projections = [run(images, self.encoder, self.projector)[-1] for images in seen]
        if self.training and views.ignored is None:
            projections = [distributed.gather(z) for z in projections]
        anchor, positive, *negatives = projections
        return nt_xent(anchor, positive, self.temperature, negatives=tuple(negatives), ignored=views.ignored)
