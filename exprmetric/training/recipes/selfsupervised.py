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

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from exprmetric.datasets.arrays import Batch, FaceArrays
from exprmetric.encoder import distributed
from exprmetric.errors import InputError
from exprmetric.training.engines import Engine, EngineConfig, Views, build_engine
from exprmetric.training.loop import Losses, pick_device
from exprmetric.training.recipes.common import (
    Augmenter,
    RecipeConfig,
    Scores,
    fit,
    load_faces,
    mean_terms,
    save_encoder,
)


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


def train_from_data(
    paths: Sequence[str | Path], out: Path, config: SelfSupervisedConfig, *, device: str = "auto", jobs: int = 2
) -> Scores:
    """Align, load, train; writes `out/encoder.pt`. Scores: the engine's terms on two views of each held-out face."""
    faces = load_faces(paths, config, out, device=device, jobs=jobs, unlabelled=config.unlabelled)
    return run(faces, config, out, pick_device(device))


def run(faces: dict[str, FaceArrays], config: SelfSupervisedConfig, out: Path, device: torch.device) -> Scores:
    """The recipe on faces that are loaded; see `train_from_data`."""
    torch.manual_seed(config.seed)
    steps = config.epochs * max(1, len(faces["train"]) // (config.batch * distributed.world()))
    engine = build_engine(config.encoder(), replace(config, momentum_steps=config.momentum_steps or steps))
    engine = engine.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    augmenter = Augmenter(config, device)

    def step(model: nn.Module, batch: Batch) -> Losses:
        return cast(Engine, model).losses(Views(*two_views(batch.images, augmenter)))

    fit(engine, step, faces, config, out, augmenter, after=engine.after_step, label=config.engine)
    scores: Scores = {
        split: held_out_terms(engine, faces[split], augmenter, config.batch)
        for split in ("valid", "test")
        if split in faces
    }
    return save_encoder(engine.encoder, config, scores, out)


def two_views(images: Tensor, augmenter: Augmenter) -> tuple[Tensor, Tensor]:
    """(B, 1, S, S) 0..1 → two augmentations of each face."""
    first, second = (augmenter(images).contiguous(memory_format=torch.channels_last) for _ in range(2))
    return first, second


@torch.no_grad()
def held_out_terms(engine: Engine, faces: FaceArrays, augmenter: Augmenter, batch: int) -> dict[str, float]:
    """Mean terms over full batches of faces in a fixed random order; nothing of the engine changes."""
    engine.eval()
    augmenter.start(-1)
    order = torch.Generator(faces.labels.device).manual_seed(0)
    batches = faces.shuffled(min(batch, len(faces)), order)
    return mean_terms(engine.losses(Views(*two_views(b.images, augmenter))) for b in batches)
