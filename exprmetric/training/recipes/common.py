"""What all recipes share: settings, faces of a data set, the way from a model and its losses to `encoder.pt`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from exprmetric.choices import CHANNELS, LUMA
from exprmetric.datasets.arrays import Annotate, Batch, FaceArrays, load_arrays
from exprmetric.datasets.layouts import FaceDataset, open_datasets
from exprmetric.datasets.samples import EXPRESSIONS, person_split
from exprmetric.encoder import distributed
from exprmetric.encoder.checkpoint import save_checkpoint
from exprmetric.encoder.initial import begin_with
from exprmetric.encoder.models import BACKBONES, PRETRAINED, Encoder, load_pretrained
from exprmetric.encoder.necks import NECKS
from exprmetric.encoder.precision import PRECISIONS
from exprmetric.errors import InputError
from exprmetric.training.augment import AUGMENTATIONS, Augment, jittered
from exprmetric.training.epoch_log import need_tensorboard
from exprmetric.training.loop import Losses, Trainer, autocast, pick_device
from exprmetric.training.optimisers import OPTIMISERS, Parameters, warm_cosine

CONTEMPT = EXPRESSIONS.index("contempt")
LARS_DECAY = 1.5e-6
"""Weight decay that BYOL's paper has with LARS."""

Scores = dict[str, dict[str, Any]]
"""By split: score → number."""

Draw = Callable[[FaceArrays, int, torch.Generator], Iterable[Batch]]
"""Faces, batch size, chance → batches."""


def check_known(*settings: tuple[str, Iterable[str]]) -> None:
    """InputError for the first setting that is none of the names beside it."""
    for value, known in settings:
        if value not in known:
            raise InputError(f"unknown setting {value!r}; known: {', '.join(known)}")


@dataclass(frozen=True)
class RecipeConfig:
    """Settings that every recipe has; a recipe's own class adds its own and sets its paper's defaults.

    Attributes:
        backbone: a key of `exprmetric.encoder.models.BACKBONES`.
        neck: a key of `exprmetric.encoder.necks.NECKS`.
        dimension: D of the embedding; 0: the backbone's.
        contempt: False: 7 classes; faces of contempt are left out of all splits, and votes for it are not counted.
        pretrained: begin with weights that another task left: ImageNet's, or a face network's; only for the
            backbones in `exprmetric.encoder.models.PRETRAINED`.
        init: file whose weights the encoder begins with: a checkpoint of ours, or a state dict of timm or
            facenet-pytorch (see `exprmetric.encoder.initial`).
        size: input side, px.
        crop: centre part of the 224 px `eyes70` crop that the network sees, px.
        color: what the network sees, a key of `exprmetric.choices.CHANNELS`: `luma`, or `rgb`. Of grey photographs all
            three channels are equal.
        augment: a key of `exprmetric.training.augment.AUGMENTATIONS`.
        optimiser: a key of `exprmetric.training.optimisers.OPTIMISERS`.
        weight_decay: -1: as the recipe has it, and 1.5e-6 with LARS, as BYOL's paper has it.
        warmup: steps of a rising learning rate; then it falls to 0 along a cosine, over `epochs`.
        epochs: at most.
        patience: epochs without a lower validation loss before stopping.
        minutes: wall-clock limit.
        batch: faces a step, of each process where `torchrun` started several.
        limit: training faces, drawn with the seed; 0: all.
        average: decay of a running average of the weights, which is then what is kept; 0 for none.
        precision: a value of `exprmetric.encoder.precision.PRECISIONS`.
        tensorboard: write curves into `tensorboard` beside the checkpoints; needs the package.
    """

    backbone: str = "efficientnet_b0"
    neck: str = "linear"
    dimension: int = 0
    contempt: bool = True
    pretrained: bool = False
    init: str = ""
    size: int = 224
    crop: int = 224
    color: str = LUMA
    augment: str = "paper"
    optimiser: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = -1.0
    warmup: int = 0
    batch: int = 128
    epochs: int = 50
    patience: int = 10
    minutes: float = 0.0
    limit: int = 0
    average: float = 0.0
    seed: int = 0
    precision: str = "auto"
    tensorboard: bool = False

    own_decay: ClassVar[float] = 0.0
    """The recipe's weight decay, where none is set."""

    def __post_init__(self) -> None:
        if self.weight_decay < 0:
            object.__setattr__(self, "weight_decay", LARS_DECAY if self.optimiser == "lars" else self.own_decay)
        check_known(
            (self.backbone, BACKBONES),
            (self.neck, NECKS),
            (self.augment, AUGMENTATIONS),
            (self.color, CHANNELS),
            (self.optimiser, OPTIMISERS),
            (self.precision, PRECISIONS),
        )
        if self.init and self.pretrained:
            raise InputError("init and pretrained can't both be set: a network begins with one set of weights")
        if self.pretrained and self.backbone not in PRETRAINED:
            raise InputError(f"pretrained needs one of the backbones {', '.join(PRETRAINED)}, not {self.backbone}")

    @property
    def classes_told(self) -> int:
        """Expressions that are told apart: the first so many of EXPRESSIONS."""
        return len(EXPRESSIONS) if self.contempt else len(EXPRESSIONS) - 1

    @final
    def encoder(self) -> Encoder:
        """A new encoder: `network()`, which a recipe may override, with the weights that the settings ask for.

        Raises:
            WeightsNotFoundError, WeightsHashError: of ImageNet's weights, where they are asked for.
            InputError: the file `init` can't be read, or doesn't fit.
        """
        encoder = self.network()
        if self.init:
            begin_with(encoder, Path(self.init), self.backbone)
        if self.pretrained:
            load_pretrained(encoder, self.backbone)
        return encoder

    def network(self) -> Encoder:
        """A new encoder, untrained."""
        return Encoder(self.backbone, dimension=self.dimension, neck=self.neck, channels=CHANNELS[self.color])

    def learning(self, model: nn.Module) -> Parameters:
        """What the optimiser changes; with a learning rate of its own for a part, where a recipe asks for it."""
        return [p for p in model.parameters() if p.requires_grad]

    def scheduler(self, optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
        """The learning rate's way over a training of so many steps."""
        return warm_cosine(optimizer, self.warmup, steps)


def load_faces(
    paths: Sequence[str | Path],
    config: RecipeConfig,
    out: Path,
    *,
    device: str = "auto",
    jobs: int = 2,
    unlabelled: bool = False,
    annotate: Annotate | None = None,
) -> dict[str, FaceArrays]:
    """Aligned faces of the splits `train`, `valid` and, where the data sets have one, `test`; `train` has at most
    `config.limit`.

    Args:
        unlabelled: faces without a label too, in all splits.
        annotate: arrays of a recipe's own, see `load_arrays`.

    Of several processes all load all faces; the first one aligns them.

    Raises:
        InputError: no face in `train` or `valid`.
        MissingPackageError: TensorBoard is asked for and not installed: better now than after the alignment.
    """
    if config.tensorboard:
        need_tensorboard()
    datasets, where = with_valid(open_datasets(paths)), pick_device(device)
    present = {s.split for d in datasets for s in d.samples}
    with distributed.main_first():
        faces: dict[str, FaceArrays] = {
            split: load_arrays(
                datasets,
                split,
                crop=config.crop,
                size=config.size,
                cache=out / "alignment",
                device=where,
                jobs=jobs,
                unlabelled=unlabelled,
                color=config.color,
                annotate=annotate,
                limit=config.limit if split == "train" else 0,
                seed=config.seed,
            )
            for split in ("train", "valid", "test")
            if split in present
        }
    if not config.contempt:
        faces = {split: without_contempt(some) for split, some in faces.items()}
    if missing := {"train", "valid"} - set(faces):
        raise InputError(f"the data sets have no face in the split {' and '.join(sorted(missing))}")
    return faces


def with_valid(datasets: list[FaceDataset]) -> list[FaceDataset]:
    """The data sets as they are where one has a split `valid`; where all have only `train` and `test`, as RAF-DB has, a
    tenth of the training faces is held back, by a hash of the person's name, or else of the image's."""
    if {s.split for d in datasets for s in d.samples} != {"train", "test"}:
        return datasets
    return [
        replace(
            d,
            samples=tuple(
                replace(s, split=person_split(s.person or s.image)) if s.split == "train" else s for s in d.samples
            ),
        )
        for d in datasets
    ]


def without_contempt(faces: FaceArrays) -> FaceArrays:
    """The faces of the other seven expressions; shares of votes are of those for them, NaN where there is none."""
    kept = faces.subset(torch.nonzero(faces.labels != CONTEMPT)[:, 0])
    votes = kept.votes.clone()
    votes[:, CONTEMPT] = 0 * votes[:, CONTEMPT]
    return replace(kept, votes=votes / votes.sum(1, keepdim=True))


class Augmenter:
    """The recipe's augmentation with a generator of its own, so that an epoch is the same however it is reached.

    Attributes:
        generator: chance of the views; of several processes each has its own.
        order: chance of the batches, the same for all processes; of a single one it is `generator`.
    """

    def __init__(self, config: RecipeConfig, device: torch.device) -> None:
        self._augment: Augment = AUGMENTATIONS[config.augment]
        self._jitter = getattr(config, "jitter", 0.0) if config.color != LUMA else 0.0
        self._seed = config.seed
        self.generator = torch.Generator(device).manual_seed(config.seed)
        self.order = self.generator if distributed.world() == 1 else torch.Generator(device)

    def start(self, epoch: int) -> None:
        """Before an epoch; dropout and all other chance is seeded too."""
        seed = self._seed * 100_003 + epoch
        own = seed + distributed.rank() * 1_000_000_007
        self.order.manual_seed(seed)
        self.generator.manual_seed(own)
        torch.manual_seed(own)

    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, S, S) 0..1 → the same, another view of each face."""
        seen = self._augment(images, self.generator)
        return jittered(seen, self._jitter, self.generator) if self._jitter else seen


def descent(
    model: nn.Module, config: RecipeConfig, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """The settings' optimiser of all that learns, and its learning rate's way over so many steps."""
    learning = config.learning(model)
    optimizer = OPTIMISERS[config.optimiser](learning, config.learning_rate, config.weight_decay)
    return optimizer, config.scheduler(optimizer, steps)


def resumed(
    model: nn.Module,
    step: Callable[[nn.Module, Batch], Losses],
    config: RecipeConfig,
    steps: int,
    out: Path,
    *,
    after: Callable[[], None] | None = None,
) -> Trainer:
    """A trainer by the config's settings that goes on from `out/last.pt`, where there is one.

    Args:
        model: anything with parameters; on its device already.
        step: model, batch → losses with `total`; augments where `model.training`.
        steps: of the whole training.
        after: called after each step of the optimiser.
    """
    trainer = Trainer(
        model,
        *descent(model, config, steps),
        step,
        out,
        asdict(config),
        config.average,
        after,
        precision=config.precision,
        tensorboard=config.tensorboard,
    )
    trainer.resume()
    return trainer


def fixed_batches(faces: FaceArrays, config: RecipeConfig, draw: Draw = FaceArrays.shuffled) -> Iterable[Batch]:
    """Of held-out faces, the same each time, in an order that mixes classes; enough for each process to have one."""
    size = max(1, min(config.batch, len(faces) // distributed.world()))
    return draw(faces, size, torch.Generator(faces.labels.device).manual_seed(config.seed))


def save_encoder(encoder: Encoder, config: RecipeConfig, scores: Scores, out: Path) -> Scores:
    """Write `encoder.pt`, `config.json` and `scores.json`, in the first process; returns the scores."""
    if not distributed.is_main():
        return scores
    out.mkdir(parents=True, exist_ok=True)
    save_checkpoint(out / "encoder.pt", {"encoder": encoder.state_dict(), "config": asdict(config)})
    (out / "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
    (out / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
    return scores


@torch.no_grad()
def embed(
    encoder: nn.Module,
    faces: FaceArrays,
    *,
    augment: Callable[[Tensor], Tensor] = lambda images: images,
    batch: int = 256,
    precision: str = "auto",
) -> Tensor:
    """(N, D) float32 embeddings, of augmented faces where `augment` is given; on a CPU always computed in float32."""
    encoder.eval()
    parts = []
    for b in faces.ordered(batch):
        with autocast(b.images.device, enabled=b.images.device.type == "cuda", precision=precision):
            parts.append(encoder(augment(b.images).contiguous(memory_format=torch.channels_last)).float())
    return torch.cat(parts)


def mean_terms(found: Iterable[Losses]) -> dict[str, float]:
    """Each term's mean over batches."""
    losses = list(found)
    return {name: float(torch.stack([terms[name] for terms in losses]).mean()) for name in losses[0]}
