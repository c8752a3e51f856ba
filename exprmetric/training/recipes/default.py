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
from typing import ClassVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exprmetric.choices import CHANNELS
from exprmetric.datasets.alignment import Alignment
from exprmetric.datasets.arrays import Arrays, Batch, FaceArrays
from exprmetric.datasets.layouts import FaceDataset
from exprmetric.datasets.samples import EXPRESSIONS, UNLABELLED
from exprmetric.encoder.distributed import gather, world
from exprmetric.encoder.models import Encoder
from exprmetric.training import losses
from exprmetric.training.augment import low_resolution
from exprmetric.training.loop import Losses, autocast
from exprmetric.training.recipes import wsupcon
from exprmetric.training.recipes.common import RecipeConfig, Scores, embed, load_faces
from exprmetric.training.recipes.recipe import Recipe
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
        votes: weight of this term (see the module).
        agreement: weight of this term (see the module).
        contrast: weight of this term (see the module).
        mesh: weight of this term (see the module).
        mesh_agreement: weight of this term (see the module).
        identity: weight of this term (see the module).
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
    warmup: int = 300
    epochs: int = 12
    patience: int = 12
    average: float = 0.998

    def network(self) -> Encoder:
        return Encoder(
            self.backbone,
            dimension=self.dimension,
            frozen=self.frozen,
            mirror=self.mirror,
            neck=self.neck,
            channels=CHANNELS[self.color],
        )

    own_decay: ClassVar[float] = 0.02


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


class Default(Recipe[DefaultConfig, ExpressionModel]):
    """The recipe.

    Scores of the frozen encoder: accuracy of paper 000's head trained on the embeddings, and of the encoder's own
    linear layer for votes; agreement with votes; identity leak.

    Args:
        faces: with `mesh` (N, K), at mean 0 and deviation 1, and `person` (N,) in `extra`.
    """

    settings = DefaultConfig

    @classmethod
    def load(
        cls, paths: Sequence[str | Path], config: DefaultConfig, out: Path, *, device: str = "auto", jobs: int = 2
    ) -> dict[str, FaceArrays]:
        """Faces by split with `mesh` and `person` beside, NaN or -1 where unknown; labelled, but for `train`'s."""
        from exprmetric.datasets.teacher import label_dataset

        def annotate(dataset: FaceDataset, alignment: Alignment, keep: list[int]) -> Arrays:
            blendshapes = label_dataset(dataset, alignment, out / "alignment", jobs=jobs)[keep]
            return {"mesh": blendshape_targets(blendshapes), "person": dataset.persons(keep)}

        faces = load_faces(paths, config, out, device=device, jobs=jobs, unlabelled=True, annotate=annotate)
        for split in set(faces) - {"train"}:
            faces[split] = faces[split].subset(torch.nonzero(faces[split].labels != UNLABELLED)[:, 0])
        if faces:
            standardise(*faces.values())
        return faces

    def build(self) -> ExpressionModel:
        train = self.faces["train"]
        rated = torch.isfinite(train.votes).all(1)
        self._voted, self._others = torch.nonzero(rated)[:, 0], torch.nonzero(~rated)[:, 0]
        self._drawn = int(len(self._others) * self.config.others)
        self._weights = losses.class_weights(train.labels, self.config.classes_told)
        train.extra["person_class"] = person_classes(train.extra["person"])
        people = int(train.extra["person_class"].max()) + 1
        return ExpressionModel(self.config, train.extra["mesh"].shape[1], max(1, people))

    @property
    def batches(self) -> int:
        return (len(self._voted) + self._drawn) // (self.config.batch * world())

    def epoch(self, number: int) -> Iterable[Batch]:
        """All faces with votes, and a share of the others."""
        self.augmenter.start(number)
        shuffle = partial(torch.randperm, generator=self.augmenter.order, device=self.device)
        seen = torch.cat([self._voted, self._others[shuffle(len(self._others))[: self._drawn]]])
        seen = seen[shuffle(len(seen))]
        return map(self.faces["train"].batch, torch.split(seen, self.config.batch)[: self.batches * world()])

    def step(self, model: ExpressionModel, batch: Batch) -> Losses:
        votes = batch.votes
        if model.training:
            pseudo = self.config.pseudo if self.trainer.epoch else 0.0
            votes = known_votes(cast(ExpressionModel, self.trainer.kept), batch, pseudo)
        return expression_losses(model, self.seen(model, batch), batch, votes, self._weights, self.config)

    def scores(self) -> Scores:
        precision, faces = self.config.precision, self.faces
        rated = {k: f.subset(torch.nonzero(torch.isfinite(f.votes).all(1))[:, 0]) for k, f in faces.items()}
        head_config = wsupcon.WSupConConfig(
            augment="none", head_views=1, head_weighted=False, seed=self.config.seed, precision=precision
        )
        head = wsupcon.train_head(self.encoder, rated, head_config, self.out)
        scores: Scores = {}
        for name, part in self.tested():
            embeddings = embed(self.encoder, rated[name], precision=precision)
            scores[name] = {
                **classification_scores(head, embeddings, rated[name].labels),
                "votes_layer": classification_scores(self.model.votes, embeddings, rated[name].labels),
                **space_scores(embed(self.encoder, part, precision=precision), part),
            }
        return scores


def blendshape_targets(blendshapes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(N, 52) → (N, K) numbers that a mirror image leaves as they are, without gaze, which is no expression.

    Mean and absolute difference of each left-right pair, and those in the middle.
    """
    from exprmetric.faces.face_mesh import BLENDSHAPES

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
