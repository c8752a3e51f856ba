"""The frame that every recipe stands in: load faces, build a model, train it, score it, keep its encoder.

A recipe is a subclass of `Recipe` with a config class, `build` and `step`; all else has an answer that most share. Its
line in `exprmetric.training.recipes.RECIPES` makes it a command: `exprmetric train NAME`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from exprmetric.datasets.alignment import Alignment
from exprmetric.datasets.arrays import Arrays, Batch, FaceArrays
from exprmetric.datasets.layouts import FaceDataset
from exprmetric.encoder import distributed
from exprmetric.encoder.models import Encoder
from exprmetric.errors import InputError
from exprmetric.training.loop import Losses, Schedule, Trainer
from exprmetric.training.recipes.common import (
    Augmenter,
    RecipeConfig,
    Scores,
    fixed_batches,
    load_faces,
    mean_terms,
    resumed,
    save_encoder,
)

C = TypeVar("C", bound=RecipeConfig)
M = TypeVar("M", bound=nn.Module)


class Recipe(ABC, Generic[C, M]):
    """A training by one paper, on faces that are loaded.

    Args:
        faces: by split: `train`, `valid` and, where there is one, `test`; on the device that trains.
        config: an instance of `settings`.
        out: folder of checkpoints, log and scores. A training that was stopped goes on from it.

    Attributes:
        settings: class of the config.
        label: name of the progress bar.
        model: what is trained; its attribute `encoder` is kept.
        augmenter: started anew before each epoch, and with one seed before each validation.
        trainer: while the training goes on.
    """

    settings: ClassVar[type[RecipeConfig]]
    label: str = "encoder"
    trainer: Trainer

    def __init__(self, faces: dict[str, FaceArrays], config: C, out: Path) -> None:
        self.faces, self.config, self.out = faces, config, out
        self.device = faces["train"].labels.device
        if config.epochs and len(faces["train"]) < (least := config.batch * distributed.world()):
            raise InputError(
                f"{len(faces['train'])} training faces don't fill one batch of {least}: set a smaller batch"
            )
        torch.manual_seed(config.seed)
        self.model: M = self.build().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.augmenter = Augmenter(config, self.device)

    @classmethod
    def open(
        cls, paths: Sequence[str | Path], out: Path, config: C, *, device: str = "auto", jobs: int = 2
    ) -> Recipe[C, M]:
        """The recipe on data sets as they are published: their faces are found, aligned and loaded.

        Raises:
            InputError: see `load_faces`.
        """
        return cls(cls.load(paths, config, out, device=device, jobs=jobs), config, out)

    @classmethod
    def load(
        cls, paths: Sequence[str | Path], config: C, out: Path, *, device: str = "auto", jobs: int = 2
    ) -> dict[str, FaceArrays]:
        """Faces by split, with the arrays of `annotate`; unlabelled ones too where the settings say so."""
        unlabelled = getattr(config, "unlabelled", False)
        return load_faces(paths, config, out, device=device, jobs=jobs, unlabelled=unlabelled, annotate=cls.annotate)

    @staticmethod
    def annotate(dataset: FaceDataset, alignment: Alignment, keep: list[int]) -> Arrays:
        """Arrays of one row a chosen sample, for `Batch.extra`; see `load_arrays`."""
        return {}

    @abstractmethod
    def build(self) -> M:
        """The model, with the seed set; on the CPU."""

    @abstractmethod
    def step(self, model: M, batch: Batch) -> Losses:
        """Losses of a batch by name, with `total`; of the model, or of the running average of its weights."""

    def after_step(self) -> None:
        """After each step of the optimiser: a momentum encoder follows."""

    def draw(self, faces: FaceArrays, size: int, generator: torch.Generator) -> Iterable[Batch]:
        """Batches of an epoch, and of the validation; called alike on all processes."""
        return faces.shuffled(size, generator)

    @property
    def batches(self) -> int:
        """Steps of an epoch."""
        return max(1, len(self.faces["train"]) // (self.config.batch * distributed.world()))

    def epoch(self, number: int) -> Iterable[Batch]:
        """Batches of an epoch, the same however it is reached."""
        self.augmenter.start(number)
        return self.draw(self.faces["train"], self.config.batch, self.augmenter.order)

    def held_out(self, faces: FaceArrays) -> Iterable[Batch]:
        """Batches of held-out faces, the same each time."""
        self.augmenter.start(-1)
        return fixed_batches(faces, self.config, self.draw)

    def seen(self, model: nn.Module, batch: Batch) -> Tensor:
        """(B, 1, S, S) faces of a batch: augmented while the model trains, else as they are."""
        images = self.augmenter(batch.images) if model.training else batch.images
        return images.contiguous(memory_format=torch.channels_last)

    def fit(self) -> None:
        """Train on `train`, then restore the weights of the lowest validation loss; goes on from `out/last.pt`.

        Several processes, started by `torchrun`, are given the same batches; each goes through its share.
        """
        config, batches = self.config, self.batches
        self.trainer = resumed(
            self.model, cast(Any, self.step), config, config.epochs * batches, self.out, after=self.after_step
        )
        schedule = Schedule(config.epochs, config.patience, config.minutes)
        self.trainer.fit(
            self.epoch, lambda: self.held_out(self.faces["valid"]), schedule, batches=batches, label=self.label
        )

    def score(self, faces: FaceArrays) -> dict[str, Any]:
        """Scores of held-out faces: means of the losses, over batches drawn as the validation draws them."""
        self.model.eval()
        with torch.no_grad():
            return dict(mean_terms(self.step(self.model, batch) for batch in self.held_out(faces)))

    def tested(self) -> Iterator[tuple[str, FaceArrays]]:
        """Splits that are scored, and their faces."""
        yield from ((split, self.faces[split]) for split in ("valid", "test") if split in self.faces)

    def scores(self) -> Scores:
        """Scores by split."""
        return {split: self.score(faces) for split, faces in self.tested()}

    @property
    def encoder(self) -> Encoder:
        """What is kept."""
        return cast(Encoder, self.model.encoder)

    def run(self) -> Scores:
        """Train, score, and write `encoder.pt`, `config.json` and `scores.json` into `out`; returns the scores."""
        self.fit()
        return save_encoder(self.encoder, self.config, self.scores(), self.out)
