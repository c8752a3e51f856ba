"""BYOL: each view foretells the projection that a slowly following network makes of the other (Grill et al., 2020).

The paper minimises 2 - 2 cos for both directions; -sim of paper 003's equation (3), which is used here, is that divided
by 4, but for a constant. Its optimiser is LARS (`optimiser=lars`), which doesn't care for a loss's scale.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from exprmetric.encoder.models import Encoder
from exprmetric.training.engines.base import Engine, Views
from exprmetric.training.engines.config import EngineConfig
from exprmetric.training.engines.heads import follow, frozen_copy, perceptron, predictive_losses, run
from exprmetric.training.loop import Losses


class BYOL(Engine):
    """Encoder, projector and predictor of two layers each; and the encoder and projector that follow.

    Of its own: projection 256, hidden 4096, momentum 0.996.
    """

    steps: Tensor

    def __init__(self, encoder: Encoder, config: EngineConfig) -> None:
        super().__init__()
        width = config.projection or 256
        hidden = config.hidden or 4096
        self.momentum = config.momentum or 0.996
        self.momentum_steps = config.momentum_steps
        self.target_similarity = config.target_similarity
        self.encoder = encoder
        self.projector = perceptron(encoder.dimension, hidden, width)
        self.predictor = perceptron(width, hidden, width)
        self.slow_encoder = frozen_copy(encoder)
        self.slow_projector = frozen_copy(self.projector)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def losses(self, views: Views) -> Losses:
        p, z = [], []
        for images in (views.anchor, views.positive, *views.negatives):
            p.append(run(images, self.encoder, self.projector, self.predictor)[-1])
            with torch.no_grad():
                z.append(run(images, self.slow_encoder, self.slow_projector)[-1])
        return predictive_losses(p, z, self.target_similarity)

    def after_step(self) -> None:
        """1 - (1 - momentum) (cos(π k / K) + 1) / 2 at step k of K = `momentum_steps`; constant where K is 0."""
        done = min(1.0, int(self.steps) / self.momentum_steps) if self.momentum_steps else 0.0
        momentum = 1 - (1 - self.momentum) * (math.cos(math.pi * done) + 1) / 2
        follow(self.slow_encoder, self.encoder, momentum)
        follow(self.slow_projector, self.projector, momentum)
        self.steps += 1
