"""Self-supervised pre-training on two views of each face: table I's SimSiam row of paper 000, baselines of 001 and 003.

The views are the same face augmented twice; any engine learns from them, without labels. The defaults are 000's row
("trained with the same configuration and hyper-parameters as our best method"). Choices:

* The learning rate falls along a cosine, as in all recipes but wsupcon, not by 0.9 every 15,000 steps.
* The baselines of 001 and 003 name no settings but 003's: ResNet-18, SGD 0.05 and batch 256 for SimSiam, LARS 4.8 and
  batch 4096 for BYOL, all else as the engine's authors have it. Set `backbone`, `optimiser`, `learning_rate`, `batch`.
  003's rates belong to its batches: in proportion, 0.15 for BYOL at a batch of 128.
* `augment=paper` is what aligned faces bear; 000 suspects that SimSiam fails for want of heavier views. `robust` and
  `degraded` add small misalignments, tones, low resolution and hidden parts.
* As in 000, the weights of the lowest validation loss are kept. SimSiam's and BYOL's loss is also lowest, -1, when all
  faces have become one point. `spread` in the log and the scores tells: 1 is spread evenly, 0 is one point.
* The validation loss is over views made with one seed, in eval mode.
* BYOL's momentum rises to 1 over the epochs that are set, as its paper has it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from exprmetric.datasets.arrays import Batch
from exprmetric.errors import InputError
from exprmetric.training.engines import Engine, EngineConfig, Views, build_engine
from exprmetric.training.loop import Losses
from exprmetric.training.recipes.common import Augmenter, RecipeConfig
from exprmetric.training.recipes.recipe import Recipe


@dataclass(frozen=True)
class SelfSupervisedConfig(RecipeConfig, EngineConfig):
    """Settings of the recipe; the defaults are paper 000's SimSiam row.

    Attributes:
        unlabelled: learn from faces without a label too.
    """

    unlabelled: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_engine()
        if self.average and self.engine == "mocov2":
            raise InputError(
                "average can't be set with mocov2: keys of its queue have no average with other faces' keys"
            )


class SelfSupervised(Recipe[SelfSupervisedConfig, Engine]):
    """The recipe. Scores: the engine's terms on two views of each held-out face."""

    settings = SelfSupervisedConfig

    def build(self) -> Engine:
        self.label = self.config.engine
        return build_engine(self.config.encoder(), self.config.over(self.config.epochs * self.batches))

    def step(self, model: Engine, batch: Batch) -> Losses:
        return model.losses(Views(*two_views(batch.images, self.augmenter)))

    def after_step(self) -> None:
        self.model.after_step()


def two_views(images: Tensor, augmenter: Augmenter) -> tuple[Tensor, Tensor]:
    """(B, 1, S, S) 0..1 → two augmentations of each face."""
    first, second = (augmenter(images).contiguous(memory_format=torch.channels_last) for _ in range(2))
    return first, second
