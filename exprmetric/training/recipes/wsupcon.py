"""Paper 000: weighted supervised contrastive pre-training, then a classification head on the frozen encoder.

The recipe is the paper's (section IV) wherever it speaks. Choices where it is silent:

* Input: luma of the aligned face, or RGB with `color=rgb`, standardised in the network. FER+ and most of LFW have no
  colour.
* `votes` (off by default): one more linear task beside valence and arousal, soft-label cross-entropy against the
  raters' distribution where a data set has votes. FER+ has votes and no valence or arousal.
* `augment="robust"`: the paper's flip and crop, and degradations that swapped faces show.
* Validation loss: over fixed batches of the validation split, without augmentation.
* Several processes compare the faces of all their batches, as one process with a batch of that size does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from exprmetric.datasets.arrays import Batch, FaceArrays
from exprmetric.datasets.samples import EXPRESSIONS
from exprmetric.encoder.distributed import gather, world
from exprmetric.encoder.models import Encoder, PretrainingHeads, classification_head
from exprmetric.training import losses
from exprmetric.training.loop import Losses, Schedule, Trainer, autocast
from exprmetric.training.optimisers import warm_exponential
from exprmetric.training.recipes.common import Augmenter, RecipeConfig, Scores, descent, embed
from exprmetric.training.recipes.recipe import Recipe
from exprmetric.training.space import classification_scores

CLASSES = len(EXPRESSIONS)


@dataclass(frozen=True)
class WSupConConfig(RecipeConfig):
    """Settings of the recipe; the defaults are the paper's.

    Attributes:
        weighted: class weights in the contrastive loss (eq. 5); False gives eq. 7.
        affect: valence and arousal heads (eq. 6).
        votes: weight of the soft-label task.
        contrast: weight of the contrastive loss.
        warmup: steps of a rising learning rate; then it is multiplied with `decay` every `decay_steps` steps.
        head_epochs: at most, of the head; `patience` holds for it too.
        head_weighted: class weights in the head's cross-entropy too (the paper's); they favour the mean over classes at
            the price of the accuracy over faces.
        head_views: augmented copies of the training set that the head learns from; as many as epochs is the paper's.
        minutes: wall-clock limit of the pre-training, 0 for none.
    """

    weighted: bool = True
    affect: bool = True
    votes: float = 0.0
    contrast: float = 1.0
    temperature: float = 0.05
    projection: int = 128
    decay: float = 0.9
    decay_steps: int = 15_000
    head_epochs: int = 25
    head_views: int = 25
    head_weighted: bool = True

    def scheduler(self, optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
        """Exponential, however long the training is."""
        return warm_exponential(optimizer, self.warmup, self.decay, self.decay_steps)


class WSupCon(nn.Module):
    """Encoder and heads, trained as one."""

    def __init__(self, config: WSupConConfig) -> None:
        super().__init__()
        self.encoder = config.encoder()
        self.heads = PretrainingHeads(self.encoder.dimension, CLASSES, config.projection)


def pretraining_losses(
    model: WSupCon, images: Tensor, batch: Batch, weights: Tensor | None, config: WSupConConfig
) -> Losses:
    """Equation (6), or (7) without weights, over all processes' faces; each term by name, and their sum as `total`."""
    heads = model.heads
    with autocast(images.device):
        embedding = model.encoder(images)
        outputs = [head(embedding) for head in (heads.projection, heads.votes, heads.valence, heads.arousal)]
    projection, votes, valence, arousal = (gather(output.float()) for output in outputs)
    labels = gather(batch.labels)
    contrastive = losses.supervised_contrastive(projection, labels, temperature=config.temperature, weights=weights)
    terms: Losses = {"contrastive": config.contrast * contrastive}
    if config.affect:
        terms["valence"] = losses.masked_mse(valence[:, 0], gather(batch.valence))
        terms["arousal"] = losses.masked_mse(arousal[:, 0], gather(batch.arousal))
    if config.votes:
        terms["votes"] = config.votes * losses.soft_cross_entropy(votes, gather(batch.votes))
    terms["total"] = torch.stack(list(terms.values())).sum()
    return terms


class WSupConRecipe(Recipe[WSupConConfig, WSupCon]):
    """The recipe. Scores: see `classification_scores`."""

    settings = WSupConConfig

    def build(self) -> WSupCon:
        labels = self.faces["train"].labels
        self.weights = losses.class_weights(labels, self.config.classes_told) if self.config.weighted else None
        return WSupCon(self.config)

    def step(self, model: WSupCon, batch: Batch) -> Losses:
        return pretraining_losses(model, self.seen(model, batch), batch, self.weights, self.config)

    def scores(self) -> Scores:
        head = train_head(self.encoder, self.faces, self.config, self.out)
        return {
            split: classification_scores(head, embed(self.encoder, faces), faces.labels)
            for split, faces in self.tested()
        }


def train_head(encoder: Encoder, faces: dict[str, FaceArrays], config: WSupConConfig, out: Path) -> nn.Sequential:
    """Section IV.B: the encoder stays frozen, the head learns with the same class weights and the same augmentation.

    A frozen encoder need not run again and again: the features of `head_views` augmented copies of the training set are
    computed once, a share of them by each process, and the epochs go through them in turn. It resumes from a folder
    below `out/head`, one for each encoder: after more epochs of pre-training, the head begins anew.
    """
    train, valid = faces["train"], faces["valid"]
    device = train.labels.device
    torch.manual_seed(config.seed)
    head = classification_head(encoder.dimension, config.classes_told).to(device)
    weights = losses.class_weights(train.labels, config.classes_told) if config.head_weighted else None
    augmenter = Augmenter(config, device)
    augmenter.start(0)
    copies = min(config.head_views, config.head_epochs)
    views = [embed(encoder, train, augment=augmenter, precision=config.precision) for _ in range(0, copies, world())]
    held_out = embed(encoder, valid, precision=config.precision)
    per_epoch = len(train) // (config.batch * world())

    def step(head: nn.Module, batch: tuple[Tensor, Tensor]) -> Losses:
        features, labels = batch
        return {"total": losses.weighted_cross_entropy(gather(head(features)), gather(labels), weights)}

    def batches(epoch: int) -> Iterable[tuple[Tensor, Tensor]]:
        augmenter.start(epoch)
        order = torch.randperm(len(train), generator=augmenter.order, device=device)
        features = views[epoch % len(views)]
        return ((features[i], train.labels[i]) for i in torch.split(order, config.batch) if len(i) == config.batch)

    optimizer, scheduler = descent(head, config, config.head_epochs * per_epoch)
    trainer = Trainer(
        head,
        optimizer,
        scheduler,
        step,
        out / "head" / _digest(encoder),
        asdict(config),
        precision="float32",  # a few layers, without autocast
        tensorboard=config.tensorboard,
    )
    trainer.resume()
    trainer.fit(
        batches,
        lambda: [(held_out, valid.labels)],
        Schedule(config.head_epochs, config.patience),
        batches=per_epoch,
        label="head",
    )
    return head


def _digest(module: nn.Module) -> str:
    """Of all its weights."""
    found = hashlib.sha256()
    for value in module.state_dict().values():
        found.update(value.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:12]
