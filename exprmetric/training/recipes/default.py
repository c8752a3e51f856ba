"""The shipped encoder: distances that agree with people, from votes, a mesh, and faces that nobody labelled.

One backbone, one linear layer to the embedding, and on it:

| term | learns from | why |
| --- | --- | --- |
| votes | FER+ raters | soft labels, Barsoum et al. 2016 |
| agreement | the same votes | embedding distance is to follow the distance between ratings |
| contrastive | labels | paper 000, equation (5) |
| mesh | MediaPipe's blendshapes | degrees that eight labels don't tell; a task beside, as valence in paper 000 |
| mesh_agreement | the same | distances between faces without votes |
| identity | who it is, gradient reversed | paper 002's adversary, with identity as the factor |
| pseudo | this network's running average | votes for photographs, seen at the resolution that it has votes for |

Each is a setting, all but `pseudo` a weight; 0 leaves the term out. Several processes compare the faces of all their
batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exprmetric.datasets.alignment import Alignment
from exprmetric.datasets.arrays import Batch, FaceArrays
from exprmetric.datasets.layouts import EXPRESSIONS, UNLABELLED, FaceDataset
from exprmetric.encoder.distributed import gather, world
from exprmetric.encoder.models import Encoder
from exprmetric.training import losses
from exprmetric.training.augment import low_resolution
from exprmetric.training.loop import Losses, Schedule, autocast
from exprmetric.training.recipes import common, wsupcon
from exprmetric.training.recipes.common import (
    Augmenter,
    RecipeConfig,
    Scores,
    embed,
    fixed_batches,
    resumed,
    save_encoder,
)
from exprmetric.training.space import classification_scores, space_scores

CLASSES = len(EXPRESSIONS)
PHOTOGRAPHS = 5
"""Of a person with fewer, the adversary learns nothing."""
RATED_SIDE = 48
"""Resolution of the faces that raters saw, px."""


@dataclass(frozen=True)
class DefaultConfig(RecipeConfig):
    """Settings of the shipped encoder.

    Attributes:
        frozen: stages of the backbone that keep the weights they begin with.
        mirror: the embedding is the mean over a face and its mirror image.
        votes, agreement, contrast, mesh, mesh_agreement, identity: weights of the terms (see the module).
        pseudo: above 0, faces without votes get the running average's from the second epoch on; its size says nothing.
        others: share of the faces without votes that an epoch sees.
    """

    backbone: str = "efficientnet_lite0"
    pretrained: bool = True
    frozen: int = 2
    dimension: int = 256
    mirror: bool = True
    size: int = 112
    crop: int = 176
    votes: float = 1.0
    agreement: float = 2.0
    contrast: float = 0.1
    mesh: float = 0.2
    mesh_agreement: float = 0.1
    identity: float = 0.0
    pseudo: float = 0.5
    others: float = 0.35
    augment: str = "degraded"
    temperature: float = 0.1
    projection: int = 128
    weight_decay: float = 0.02
    warmup: int = 300
    epochs: int = 12
    patience: int = 12
    average: float = 0.998

    def network(self) -> Encoder:
        return Encoder(self.backbone, dimension=self.dimension, frozen=self.frozen, mirror=self.mirror, neck=self.neck)


class ExpressionModel(nn.Module):
    """Encoder and the heads that are thrown away."""

    def __init__(self, config: DefaultConfig, mesh: int, people: int) -> None:
        super().__init__()
        self.encoder = config.encoder()
        dimension = self.encoder.dimension
        self.votes = nn.Linear(dimension, CLASSES)
        self.mesh = nn.Linear(dimension, mesh)
        self.projection = nn.Linear(dimension, config.projection)
        self.identity = nn.Sequential(nn.Linear(dimension, 256), nn.ReLU(), nn.Linear(256, people))


def expression_losses(
    model: ExpressionModel, images: Tensor, batch: Batch, votes: Tensor, weights: Tensor, config: DefaultConfig
) -> Losses:
    """Every term by name, weighted, over the faces of all processes, and their sum as `total`.

    Args:
        votes: (B, 8) of raters or of the running average; NaN where there are none.
        weights: (8,) of the classes in the contrastive loss.
    """
    votes, labels = gather(votes), gather(batch.labels)
    with autocast(images.device):
        embedding = gather(model.encoder(images).float())
        logits, mesh, projection = model.votes(embedding), model.mesh(embedding), model.projection(embedding)
    terms: Losses = {
        "votes": config.votes * losses.soft_cross_entropy(logits, votes),
        "agreement": config.agreement * losses.distance_agreement(embedding, votes),
    }
    if config.contrast:
        terms["contrastive"] = config.contrast * losses.supervised_contrastive(
            projection, labels, temperature=config.temperature, weights=weights
        )
    known = gather(batch.extra["mesh"])
    if config.mesh:
        terms["mesh"] = config.mesh * losses.masked_mse(mesh, known)
    if config.mesh_agreement:
        terms["mesh_agreement"] = config.mesh_agreement * losses.distance_agreement(embedding, known)
    terms["total"] = torch.stack(list(terms.values())).sum()
    if config.identity and model.training:
        guess = model.identity(losses.reverse_gradient(F.normalize(embedding, dim=1)))
        person = gather(batch.extra["person_class"])
        error = F.cross_entropy(guess, person, ignore_index=-1, reduction="sum")
        terms["identity"] = config.identity * error / (person >= 0).sum().clamp(min=1)
        terms["total"] = terms["total"] + terms["identity"]
    return terms


@torch.no_grad()
def known_votes(average: ExpressionModel, batch: Batch, share: float) -> Tensor:
    """(B, 8) votes: the raters' where there are some, else what the averaged network makes of the face.

    It looks at the face at the resolution that raters saw. A labelled face's label counts as much as its guess. With a
    `share` of 0, faces without votes stay without (NaN).
    """
    votes = batch.votes.clone()
    without = torch.nonzero(~torch.isfinite(votes).all(1))[:, 0]
    if not share or not len(without):
        return votes
    training = average.training
    average.eval()
    # a number of faces that recurs: a CPU compiles its kernels anew for each new one
    padded = torch.cat([without, without[:1].expand(-len(without) % 32)])
    images = low_resolution(batch.images[padded], RATED_SIDE).contiguous(memory_format=torch.channels_last)
    with autocast(images.device):
        guess = torch.softmax(average.votes(average.encoder(images)).float(), 1)[: len(without)]
    average.train(training)
    labels = batch.labels[without]
    known = (labels != UNLABELLED)[:, None]
    label = F.one_hot(labels.clamp(min=0), CLASSES).float()
    votes[without] = torch.where(known, (label + guess) / 2, guess)
    return votes


def train_encoder(train: FaceArrays, valid: FaceArrays, config: DefaultConfig, out: Path) -> ExpressionModel:
    """Train the encoder; resumes from `out/last.pt`. Returns it with the weights of the lowest validation loss."""
    device = train.labels.device
    torch.manual_seed(config.seed)
    train.extra["person_class"] = person_classes(train.extra["person"])
    people = int(train.extra["person_class"].max()) + 1
    model = ExpressionModel(config, train.extra["mesh"].shape[1], max(1, people))
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    weights = losses.class_weights(train.labels, CLASSES)
    augmenter = Augmenter(config, device)
    voted = torch.nonzero(torch.isfinite(train.votes).all(1))[:, 0]
    others = torch.nonzero(~torch.isfinite(train.votes).all(1))[:, 0]
    drawn = int(len(others) * config.others)
    per_epoch = (len(voted) + drawn) // (config.batch * world())

    def step(model: nn.Module, batch: Batch) -> Losses:
        images, votes = batch.images, batch.votes
        if model.training:
            votes = known_votes(cast(ExpressionModel, trainer.kept), batch, config.pseudo if trainer.epoch else 0.0)
            images = augmenter(images)
        images = images.contiguous(memory_format=torch.channels_last)
        return expression_losses(cast(ExpressionModel, model), images, batch, votes, weights, config)

    def batches(epoch: int) -> Iterable[Batch]:
        augmenter.start(epoch)
        shuffle = partial(torch.randperm, generator=augmenter.order, device=device)
        seen = torch.cat([voted, others[shuffle(len(others))[:drawn]]])
        seen = seen[shuffle(len(seen))]
        return map(train.batch, torch.split(seen, config.batch)[: per_epoch * world()])

    trainer = resumed(model, step, config, config.epochs * per_epoch, out)
    schedule = Schedule(config.epochs, config.patience, config.minutes)
    trainer.fit(batches, lambda: fixed_batches(valid, config), schedule, batches=per_epoch, label="encoder")
    return model


def blendshape_targets(blendshapes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(N, 52) → (N, K) numbers that a mirror image leaves as they are, without gaze, which is no expression.

    Mean and absolute difference of each left-right pair, and those in the middle.
    """
    from exprmetric.methods.face_mesh import BLENDSHAPES

    columns = []
    for i, name in enumerate(BLENDSHAPES):
        if name == "_neutral" or name.startswith("eyeLook") or name.endswith("Right"):
            continue
        if name.endswith("Left"):
            left, right = blendshapes[:, i], blendshapes[:, BLENDSHAPES.index(f"{name[:-4]}Right")]
            columns += [(left + right) / 2, np.abs(left - right)]
        else:
            columns.append(blendshapes[:, i])
    return np.stack(columns, 1)


def standardise(train: FaceArrays, *faces: FaceArrays) -> None:
    """Bring `mesh` to mean 0 and deviation 1 over the training set, in place, everywhere."""
    known = train.extra["mesh"][torch.isfinite(train.extra["mesh"]).all(1)]
    mean, deviation = (known.mean(0), known.std(0) + 1e-3) if len(known) > 1 else (0.0, 1.0)
    for each in (train, *faces):
        each.extra["mesh"].sub_(mean).div_(deviation)


def person_classes(persons: Tensor) -> Tensor:
    """(N,) numbers of people, -1 unknown → (N,) classes 0..P-1 of those with enough photographs, else -1."""
    numbers, counts = torch.unique(persons[persons >= 0], return_counts=True)  # type: ignore[no-untyped-call]
    classes = torch.full_like(persons, -1)
    for i, number in enumerate(numbers[counts >= PHOTOGRAPHS]):
        classes[persons == number] = i
    return classes


def load_faces(
    paths: Sequence[str | Path], config: DefaultConfig, out: Path, *, device: str = "auto", jobs: int = 2
) -> dict[str, FaceArrays]:
    """Faces by split with `mesh` (N, K) and `person` (N,) beside, NaN or -1 where unknown; labelled, but for `train`'s.

    See `common.load_faces`.
    """
    from exprmetric.datasets.teacher import label_dataset

    def annotate(dataset: FaceDataset, alignment: Alignment, keep: list[int]) -> dict[str, npt.NDArray[np.generic]]:
        blendshapes = label_dataset(dataset, alignment, out / "alignment", jobs=jobs).blendshapes[keep]
        return {"mesh": blendshape_targets(blendshapes), "person": dataset.persons(keep)}

    faces = common.load_faces(paths, config, out, device=device, jobs=jobs, unlabelled=True, annotate=annotate)
    for split in set(faces) - {"train"}:
        faces[split] = faces[split].subset(torch.nonzero(faces[split].labels != UNLABELLED)[:, 0])
    return faces


def train_from_data(
    paths: Sequence[str | Path], out: Path, config: DefaultConfig, *, device: str = "auto", jobs: int = 2
) -> Scores:
    """The recipe on data sets as they are published: align, label, train, score; see `run`."""
    return run(load_faces(paths, config, out, device=device, jobs=jobs), config, out)


def run(faces: dict[str, FaceArrays], config: DefaultConfig, out: Path) -> Scores:
    """Train on `faces["train"]`; writes `encoder.pt` and `scores.json` into `out` and returns the scores.

    Scores of the frozen encoder on the other splits: accuracy of paper 000's head trained on the embeddings, and of the
    encoder's own linear layer for votes; agreement with votes; identity leak.
    """
    standardise(*faces.values())
    model = train_encoder(faces["train"], faces["valid"], config, out)
    rated = {k: f.subset(torch.nonzero(torch.isfinite(f.votes).all(1))[:, 0]) for k, f in faces.items()}
    head_config = wsupcon.WSupConConfig(
        augment="none", head_views=1, head_weighted=False, seed=config.seed, precision=config.precision
    )
    head = wsupcon.train_head(model.encoder, rated, head_config, out)
    scores: Scores = {}
    for name in [k for k in faces if k != "train"]:
        embeddings = embed(model.encoder, rated[name], precision=config.precision)
        scores[name] = {
            **classification_scores(head, embeddings, rated[name].labels),
            "votes_layer": classification_scores(model.votes, embeddings, rated[name].labels),
            **space_scores(embed(model.encoder, faces[name], precision=config.precision), faces[name]),
        }
    return save_encoder(model.encoder, config, scores, out)
