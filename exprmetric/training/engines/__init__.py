"""Self-supervised engines by name.

    config = EngineConfig(engine="simclr")                   # or a recipe's config that inherits from EngineConfig
    engine = build_engine(encoder, config).to(device)
    terms = engine.losses(Views(anchor, positive, negatives=(far,), ignored=same))     # terms["total"].backward()
    engine.after_step()                                      # after each step of the optimiser: `fit(..., after=...)`

Terms of all engines: `positive` and, where there is one, `negative`; `total` is their sum. SimSiam and BYOL also report
`negative_similarity` and `spread`, which are not minimised.

| engine | kind | what `Views.negatives` do | `Views.ignored` |
| --- | --- | --- | --- |
| simsiam, byol | predictive: one view foretells the other | mean of max(sim, s_t) (paper 003, eq. 4) | no use |
| mocov2 | contrastive, against a queue of keys | one more logit each, for their own anchor | no use |
| simclr | contrastive, against the batch | one more logit each, for their own anchor and its positive | left out |

simsiam, byol and simclr run `engine.encoder` once on each of anchor, positive and negatives, in this order; mocov2 runs
it on the anchor, and its momentum encoder on the others. Networks run under `autocast` by themselves and losses are
float32, so don't call `losses` under another autocast.
"""

from __future__ import annotations

from exprmetric.choices import resolve
from exprmetric.encoder.models import Encoder
from exprmetric.training.engines.base import Engine, Views
from exprmetric.training.engines.config import ENGINES, EngineConfig

USES_IGNORED = {"simclr"}
"""Engines whose negatives are the other faces of the batch; for the others `Views.ignored` changes nothing."""


def build_engine(encoder: Encoder, config: EngineConfig) -> Engine:
    """The engine that `config` names, on the CPU; InputError when there is none of this name."""
    config.check_engine()
    engine: Engine = resolve(ENGINES[config.engine])(encoder, config)
    return engine


__all__ = ["ENGINES", "USES_IGNORED", "Engine", "EngineConfig", "Views", "build_engine"]
