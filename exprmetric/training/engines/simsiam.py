"""SimSiam: each view foretells the other's projection, which gets no gradient (Chen & He, 2021)."""

from __future__ import annotations

from torch import nn

from exprmetric.encoder.models import Encoder
from exprmetric.training.engines.base import Engine, Views
from exprmetric.training.engines.config import EngineConfig
from exprmetric.training.engines.heads import perceptron, predictive_losses, run
from exprmetric.training.loop import Losses


class SimSiam(Engine):
    """Encoder, projector of three layers with batch norm on all, predictor of two with a bottleneck.

    Of its own: projection 2048, hidden 2048, bottleneck a quarter of the projection.
    """

    def __init__(self, encoder: Encoder, config: EngineConfig) -> None:
        super().__init__()
        width = config.projection or 2048
        hidden = config.hidden or 2048
        self.encoder = encoder
        self.target_similarity = config.target_similarity
        self.projector = nn.Sequential(
            perceptron(encoder.dimension, hidden, hidden, width), nn.BatchNorm1d(width, affine=False)
        )
        self.predictor = perceptron(width, max(1, width // 4), width)

    def losses(self, views: Views) -> Losses:
        p, z = [], []
        for images in (views.anchor, views.positive, *views.negatives):
            _, projection, prediction = run(images, self.encoder, self.projector, self.predictor)
            z.append(projection)
            p.append(prediction)
        return predictive_losses(p, z, self.target_similarity)
