"""Paper 000: weighted supervised contrastive pre-training, then a classification head on the frozen encoder.

The recipe is the paper's (section IV) wherever it speaks. Choices where it is silent:

* Input: luma of the aligned face, standardised in the network. FER+ and most of LFW have no colour.
* `votes` (off by default): one more linear task beside valence and arousal, soft-label cross-entropy against the
  raters' distribution where a data set has votes. FER+ has votes and no valence or arousal.
* `augment="robust"`: the paper's flip and crop, and degradations that swapped faces show.
* Validation loss: over fixed batches of the validation split, without augmentation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from exprmetric.training import losses
from exprmetric.training.arrays import Batch, FaceArrays
from exprmetric.training.augment import AUGMENTATIONS
from exprmetric.training.data import EXPRESSIONS
from exprmetric.training.loop import Losses, Schedule, Trainer, autocast
from exprmetric.training.models import BACKBONES, Encoder, PretrainingHeads, classification_head, load_pretrained
from exprmetric.training.recipes.common import check_known, embed

CLASSES = len(EXPRESSIONS)


@dataclass(frozen=True)
class WSupConConfig:
    """Settings of the recipe; the defaults are the paper's.

    Attributes:
        backbone: a key of `exprmetric.training.models.BACKBONES`.
        pretrained: begin with ImageNet's weights; only for the backbones in `exprmetric.training.models.PRETRAINED`.
        size: input side, px.
        crop: centre part of the 224 px `eyes70` crop that the network sees, px.
        weighted: class weights in the contrastive loss (eq. 5); False gives eq. 7.
        affect: valence and arousal heads (eq. 6).
        votes: weight of the soft-label task.
        contrast: weight of the contrastive loss.
        augment: a key of `exprmetric.training.augment.AUGMENTATIONS`.
        decay: factor on the learning rate every `decay_steps` steps.
        epochs, head_epochs: at most; `patience`: epochs without a lower validation loss before stopping.
        average: decay of a running average of the encoder's weights, 0 for none.
        head_weighted: class weights in the head's cross-entropy too (the paper's); they favour the mean over classes at
            the price of the accuracy over faces.
        head_views: augmented copies of the training set that the head learns from; as many as epochs is the paper's.
        minutes: wall-clock limit of the pre-training, 0 for none.
    """

    backbone: str = "efficientnet_b0"
    pretrained: bool = False
    size: int = 224
    crop: int = 224
    weighted: bool = True
    affect: bool = True
    votes: float = 0.0
    contrast: float = 1.0
    augment: str = "paper"
    temperature: float = 0.05
    projection: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    decay: float = 0.9
    decay_steps: int = 15_000
    batch: int = 128
    epochs: int = 50
    head_epochs: int = 25
    head_views: int = 25
    head_weighted: bool = True
    patience: int = 10
    minutes: float = 0.0
    average: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_known((self.backbone, BACKBONES), (self.augment, AUGMENTATIONS))


class WSupCon(nn.Module):
    """Encoder and heads, trained as one."""

    def __init__(self, config: WSupConConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config.backbone)
        if config.pretrained:
            load_pretrained(self.encoder, config.backbone)
        self.heads = PretrainingHeads(self.encoder.dimension, CLASSES, config.projection)


def pretraining_losses(
    model: WSupCon, images: Tensor, batch: Batch, weights: Tensor | None, config: WSupConConfig
) -> Losses:
    """Equation (6), or (7) without weights; each term by name, and their sum as `total`."""
    with autocast(images.device):
        embedding = model.encoder(images)
        projection = model.heads.projection(embedding)
        votes = model.heads.votes(embedding)
        valence, arousal = model.heads.valence(embedding)[:, 0], model.heads.arousal(embedding)[:, 0]
    terms: Losses = {
        "contrastive": config.contrast
        * losses.supervised_contrastive(projection, batch.labels, temperature=config.temperature, weights=weights)
    }
    if config.affect:
        terms["valence"] = losses.masked_mse(valence, batch.valence)
        terms["arousal"] = losses.masked_mse(arousal, batch.arousal)
    if config.votes:
        terms["votes"] = config.votes * losses.soft_cross_entropy(votes, batch.votes)
    terms["total"] = torch.stack(list(terms.values())).sum()
    return terms


def _generator(device: torch.device, seed: int) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def _optimiser(
    module: nn.Module, config: WSupConConfig
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    optimizer = torch.optim.AdamW(
        module.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    rate = config.decay ** (1 / config.decay_steps)
    return optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, rate)


def pretrain(train: FaceArrays, valid: FaceArrays, config: WSupConConfig, out: Path) -> Encoder:
    """Train the encoder; resumes from `out/last.pt`. Returns it with the weights of the lowest validation loss."""
    device = train.labels.device
    torch.manual_seed(config.seed)
    model = WSupCon(config).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    weights = losses.class_weights(train.labels, CLASSES) if config.weighted else None
    augment = AUGMENTATIONS[config.augment]
    generator = _generator(device, config.seed)

    def step(model: nn.Module, batch: Batch) -> Losses:
        images = augment(batch.images, generator) if model.training else batch.images
        return pretraining_losses(
            cast(WSupCon, model), images.contiguous(memory_format=torch.channels_last), batch, weights, config
        )

    def batches(epoch: int) -> Iterable[Batch]:
        generator.manual_seed(config.seed * 100_003 + epoch)
        return train.shuffled(config.batch, generator)

    order = torch.randperm(len(valid), generator=torch.Generator().manual_seed(0)).to(
        device
    )  # classes mixed in each batch
    held_out = [order[i : i + config.batch] for i in range(0, len(order) - config.batch + 1, config.batch)]
    optimizer, scheduler = _optimiser(model, config)
    trainer = Trainer(model, optimizer, scheduler, step, out, asdict(config), config.average)
    trainer.resume()
    trainer.fit(
        batches,
        lambda: map(valid.batch, held_out or [order]),
        Schedule(config.epochs, config.patience, config.minutes),
        batches=len(train) // config.batch,
        label="encoder",
    )
    return cast(Encoder, model.encoder)


def train_head(
    encoder: Encoder, train: FaceArrays, valid: FaceArrays, config: WSupConConfig, out: Path
) -> nn.Sequential:
    """Section IV.B: the encoder stays frozen, the head learns with the same class weights and the same augmentation.

    A frozen encoder need not run again and again: the features of `head_views` augmented copies of the training set are
    computed once, and the epochs go through them in turn.
    """
    device = train.labels.device
    torch.manual_seed(config.seed)
    head = classification_head(encoder.dimension, CLASSES).to(device)
    weights = losses.class_weights(train.labels, CLASSES) if config.head_weighted else None
    augment, generator = AUGMENTATIONS[config.augment], _generator(device, config.seed)
    views = [
        embed(encoder, train, augment=lambda images: augment(images, generator))
        for _ in range(min(config.head_views, config.head_epochs))
    ]
    held_out = embed(encoder, valid)

    def step(head: nn.Module, batch: tuple[Tensor, Tensor]) -> Losses:
        features, labels = batch
        return {"total": nn.functional.cross_entropy(head(features), labels, weights)}

    def batches(epoch: int) -> Iterable[tuple[Tensor, Tensor]]:
        generator.manual_seed(config.seed * 100_003 + epoch)
        torch.manual_seed(config.seed * 100_003 + epoch)  # dropout of a resumed run is that of an unbroken one
        order = torch.randperm(len(train), generator=generator, device=device)
        features = views[epoch % len(views)]
        return ((features[i], train.labels[i]) for i in torch.split(order, config.batch) if len(i) == config.batch)

    optimizer, scheduler = _optimiser(head, config)
    trainer = Trainer(head, optimizer, scheduler, step, out / "head", asdict(config))
    trainer.resume()
    trainer.fit(
        batches,
        lambda: [(held_out, valid.labels)],
        Schedule(config.head_epochs, config.patience),
        batches=len(train) // config.batch,
        label="head",
    )
    return head


@torch.no_grad()
def classification_scores(head: nn.Module, embeddings: Tensor, labels: Tensor) -> dict[str, Any]:
    """Accuracy, mean accuracy per class, and the confusion matrix (rows: truth; counts)."""
    head.eval()
    predicted = head(embeddings).argmax(1)
    confusion = torch.bincount(labels * CLASSES + predicted, minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    totals = confusion.sum(1)
    recall = confusion.diagonal()[totals > 0] / totals[totals > 0]
    return {
        "n": len(labels),
        "accuracy": float((predicted == labels).float().mean()),
        "mean_class_accuracy": float(recall.mean()),
        "recall": {
            e: float(r) for e, r in zip([e for e, t in zip(EXPRESSIONS, totals, strict=True) if t], recall, strict=True)
        },
        "confusion": confusion.tolist(),
    }


def run(
    train: FaceArrays, valid: FaceArrays, test: FaceArrays | None, config: WSupConConfig, out: Path
) -> dict[str, dict[str, Any]]:
    """The whole recipe; writes `encoder.pt` and `scores.json` into `out` and returns the scores."""
    from exprmetric.training.loop import save_checkpoint

    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
    encoder = pretrain(train, valid, config, out)
    save_checkpoint(out / "encoder.pt", {"encoder": encoder.state_dict(), "config": asdict(config)})
    head = train_head(encoder, train, valid, config, out)
    scores: dict[str, dict[str, Any]] = {}
    for name, faces in (("valid", valid), ("test", test)):
        if faces is not None:
            scores[name] = classification_scores(head, embed(encoder, faces), faces.labels)
    (out / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
    return scores


def train_from_data(
    paths: Sequence[str | Path], out: Path, config: WSupConConfig, *, device: str = "auto", jobs: int = 2
) -> dict[str, dict[str, Any]]:
    """The recipe on data sets as they are published: align, load, train; see `run`.

    Test scores are over the data sets that have a test split.
    """
    from exprmetric.training.arrays import load_arrays
    from exprmetric.training.data import open_datasets
    from exprmetric.training.distributed import refuse
    from exprmetric.training.loop import pick_device

    datasets = open_datasets(paths)
    where = pick_device(device)
    refuse("wsupcon")

    def arrays(split: str) -> FaceArrays:
        return load_arrays(
            datasets, split, crop=config.crop, size=config.size, cache=out / "alignment", device=where, jobs=jobs
        )

    has_test = any(s.split == "test" for d in datasets for s in d.samples)
    return run(arrays("train"), arrays("valid"), arrays("test") if has_test else None, config, out)
