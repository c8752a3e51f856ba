"""MoCo v2: a face's key is told from a queue of earlier keys, made by a slowly following network (Chen et al., 2020).

The paper shuffles the batch across GPUs, so that a query and its key aren't normalised by the same batch statistics.
Here one process normalises the whole batch, whose statistics don't depend on its order: a shuffle would change nothing.
(What it is meant to hide, that a query and its key come from batches of the same faces, it can't hide on one process.)
Of several processes each normalises its own batch, and all keys go into the queue of each: the queues stay equal.

Paper 003 appends its warped views "to the dictionary as full negative examples". Here a negative view is a negative of
its own anchor alone, and none of later batches: a warped or far frame says of its own face what differs.

The authors' code starts with a queue of random keys. Here a place counts only once a key has been written to it: random
keys are told from a face's by making all faces alike, which a short training doesn't recover from. Until the queue is
full, each key counts for as many as bring them to the queue's length; else the lowest validation loss would be that of
the emptiest queue.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from exprmetric.encoder import distributed
from exprmetric.encoder.models import Encoder
from exprmetric.training.engines.base import Engine, Views
from exprmetric.training.engines.config import EngineConfig
from exprmetric.training.engines.heads import contrastive_losses, follow, frozen_copy, perceptron, run
from exprmetric.training.loop import Losses


class MoCoV2(Engine):
    """Encoder and projector of two layers without batch norm; the two that follow; and the queue of keys.

    Of its own: projection 128, hidden the encoder's width, momentum 0.999, temperature 0.2.

    Attributes:
        queue: (K, D) unit-length keys. written: how many keys have been written to it; the next one goes to row
            `written` mod K.
    """

    queue: Tensor
    written: Tensor

    def __init__(self, encoder: Encoder, config: EngineConfig) -> None:
        super().__init__()
        width = config.projection or 128
        hidden = config.hidden or encoder.dimension
        self.momentum = config.momentum or 0.999
        self.temperature = config.temperature or 0.2
        self.encoder = encoder
        self.projector = perceptron(encoder.dimension, hidden, width, norm=False)
        self.slow_encoder = frozen_copy(encoder)
        self.slow_projector = frozen_copy(self.projector)
        self.register_buffer("queue", torch.zeros(config.queue, width))
        self.register_buffer("written", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def keys(self, images: Tensor) -> Tensor:
        """(B, D) unit-length projections of the following network."""
        return F.normalize(run(images, self.slow_encoder, self.slow_projector)[-1])

    def losses(self, views: Views) -> Losses:
        query = F.normalize(run(views.anchor, self.encoder, self.projector)[-1])
        key = self.keys(views.positive)
        own = [(query * self.keys(images)).sum(1, keepdim=True) for images in views.negatives]
        known = query @ self.queue.clone().T  # a copy: the queue is written to before the gradient is computed
        known = known + self.temperature * self._weights().log()
        terms = contrastive_losses((query * key).sum(1), torch.cat([known, *own], 1), self.temperature)
        if self.training:
            self._enqueue(distributed.gather(key))
        return terms

    def _weights(self) -> Tensor:
        """(K,) 0 for a place without a key; the others share K, so that losses are alike however full the queue is."""
        size = len(self.queue)
        held = torch.arange(size, device=self.queue.device) < self.written
        return held * (size / self.written.clamp(1, size))

    @torch.no_grad()
    def _enqueue(self, keys: Tensor) -> None:
        """Over the oldest; where there are more keys than room, the last of them stay."""
        size = len(self.queue)
        kept = keys[-size:]
        rows = (self.written + torch.arange(len(kept), device=keys.device)) % size
        self.queue[rows] = kept
        self.written += len(kept)

    def after_step(self) -> None:
        follow(self.slow_encoder, self.encoder, self.momentum)
        follow(self.slow_projector, self.projector, self.momentum)
