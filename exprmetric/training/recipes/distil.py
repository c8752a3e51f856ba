"""The shipped encoder since `expression-2`: a network that has seen faces learns from labels and other networks.

| term | learns from | why |
| --- | --- | --- |
| votes | raters' votes, and labels softened over the classes of their set | soft cross-entropy |
| opinion | what the teachers say (see `exprmetric.training.opinions`) | degrees, also of faces without a label |
| agreement | the votes | distances between logits follow distances between votes; 0 leaves it out |

Data sets are drawn in equal parts, whatever their size, and a class of n faces with weight 1/n^`power`. Labels of the
sets in `unrated` are not believed: their faces are there for the teachers.

What ships is a linear read-out: the logits, and the opinion beside them, in place of the vector that they were read
from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exprmetric.choices import CHANNELS
from exprmetric.datasets.alignment import Alignment
from exprmetric.datasets.arrays import Arrays, Batch, FaceArrays
from exprmetric.datasets.layouts import FaceDataset
from exprmetric.datasets.samples import UNLABELLED
from exprmetric.encoder.distributed import world
from exprmetric.encoder.models import Encoder
from exprmetric.encoder.necks import BOUNDED
from exprmetric.errors import InputError
from exprmetric.training import losses
from exprmetric.training.loop import Losses, autocast
from exprmetric.training.opinions import ask, evenly
from exprmetric.training.optimisers import Parameters
from exprmetric.training.recipes.common import (
    RecipeConfig,
    Scores,
    check_known,
    embed,
    load_faces,
    save_encoder,
)
from exprmetric.training.recipes.recipe import Recipe
from exprmetric.training.space import classification_scores, space_scores
from exprmetric.training.student import CLASSES, READOUTS, Student, begin, read_out

FEWEST = 50
"""A class with fewer faces is drawn as if it had so many: a handful is not repeated for ever."""


@dataclass(frozen=True)
class DistilConfig(RecipeConfig):
    """Settings of the shipped encoder.

    Attributes:
        mirror: the embedding is the mean over a face and its mirror image.
        teachers: comma-separated, see `exprmetric.training.opinions.opinions`; empty for none.
        unrated: comma-separated names of the data sets whose labels are not learned from.
        views: faces an epoch, drawn with replacement.
        others: share of the unrated faces among them.
        power: a class of n faces is drawn with weight 1/n^power; 0 leaves them as they are, 1 draws all alike.
        smooth: share of a single label that is spread over all classes of its data set.
        mix: of the beta distribution by whose share two faces and what is known of them are blended; 0 for none.
        opinion: weight of the term (see the module).
        agreement: likewise.
        backbone_rate: learning rate of the backbone, as a share of `learning_rate`.
        start: a checkpoint of this recipe to begin from (`best.pt` of its folder); empty for the backbone's own.
        classes: expressions; they are what EXPRESSIONS names.
        readout: of READOUTS: the vector itself, or what is read from it in its place: the centred logits; these and the
            opinion; or both bounded by a hyperbolic tangent, without the logit of contempt, which few faces teach.
    """

    backbone: str = "dlib_resnet"
    pretrained: bool = True
    dimension: int = 256
    mirror: bool = True
    size: int = 112
    crop: int = 176
    augment: str = "robust"
    warmup: int = 120
    batch: int = 128
    epochs: int = 10
    patience: int = 10
    average: float = 0.99
    teachers: str = "mini-xception"
    unrated: str = "lfw_expressions,unlabelled_faces"
    views: int = 10240
    others: float = 0.3
    power: float = 0.6
    smooth: float = 0.05
    mix: float = 0.0
    opinion: float = 2.0
    agreement: float = 0.0
    backbone_rate: float = 0.3
    start: str = ""
    classes: int = CLASSES
    readout: str = "both"

    own_decay: ClassVar[float] = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        check_known((self.readout, READOUTS))
        if self.readout == "both" and not self.teachers:
            raise InputError("the read-out 'both' needs teachers: without them, choose readout=logits")
        # a finished encoder names the neck that its bounded read-out brought
        if self.readout != "embedding" and self.neck != "linear" and (self.readout, self.neck) != (BOUNDED, BOUNDED):
            raise InputError(f"the read-out {self.readout!r} needs the neck 'linear', not {self.neck!r}")

    def network(self) -> Encoder:
        return Encoder(
            self.backbone,
            dimension=self.dimension,
            mirror=self.mirror,
            neck=self.neck,
            classes=self.classes,
            channels=CHANNELS[self.color],
        )

    def learning(self, model: nn.Module) -> Parameters:
        backbone = list(cast(Student, model).encoder.backbone.parameters())
        slow = {id(p) for p in backbone}
        groups: list[dict[str, Any]] = [
            {"params": backbone, "lr": self.learning_rate * self.backbone_rate},
            {"params": [p for p in model.parameters() if id(p) not in slow]},
        ]
        return groups


def distil_losses(model: Student, images: Tensor, batch: Batch, config: DistilConfig) -> Losses:
    """Every term by name, weighted, and their sum as `total`. Terms that know nothing of a face leave it out."""
    with autocast(images.device):
        embedding = model.encoder(images).float()
        logits, said = model.encoder.logits(embedding), model.opinion(embedding)
    terms: Losses = {"votes": losses.soft_cross_entropy(logits, batch.votes)}
    if said.shape[1]:
        terms["opinion"] = config.opinion * losses.masked_mse(said, batch.extra["opinion"])
    if config.agreement:
        centred = logits - logits.mean(1, keepdim=True)
        terms["agreement"] = config.agreement * losses.distance_agreement(centred, batch.votes)
    terms["total"] = torch.stack(list(terms.values())).sum()
    return terms


def soften(faces: FaceArrays, config: DistilConfig) -> None:
    """Fill in `votes`, in place.

    Raters' votes stay. A label becomes a share of 1 - `smooth`, the rest is spread over its set's classes. Faces of the
    unrated sets keep none.
    """
    sources, unrated = _sources(faces), config.unrated.split(",")
    for name in sorted(set(sources.tolist())):
        rows = torch.nonzero(sources == name)[:, 0]
        if faces.sources[int(rows[0])] in unrated:
            faces.votes[rows] = float("nan")
            continue
        rows = rows[(faces.labels[rows] != UNLABELLED) & ~torch.isfinite(faces.votes[rows]).all(1)]
        if not len(rows):
            continue
        single = F.one_hot(faces.labels[rows], CLASSES).float()
        known = (single.sum(0) > 0).float()
        faces.votes[rows] = (1 - config.smooth) * single + config.smooth * known / known.sum()


def _sources(faces: FaceArrays) -> Tensor:
    """(N,) a number for each face's data set."""
    given = faces.sources or ("",) * len(faces)
    names = sorted(set(given))
    return torch.tensor([names.index(s) for s in given], device=faces.labels.device)


def draw_weights(faces: FaceArrays, config: DistilConfig) -> Tensor:
    """(N,) how likely each face is drawn: sets alike, rare classes more often; unrated ones by what teachers think."""
    sources = _sources(faces)
    rated = torch.isfinite(faces.votes).all(1)
    weights = torch.zeros(len(faces), device=faces.labels.device)
    for part, share in ((rated, 1 - config.others if (~rated).any() else 1.0), (~rated, config.others)):
        present = sorted(set(sources[part].tolist()))
        for name in present:
            rows = torch.nonzero(part & (sources == name))[:, 0]
            classes = faces.votes[rows] if part is rated else faces.extra["opinion"][rows]
            chosen = classes.argmax(1) if classes.shape[1] else torch.zeros_like(rows)
            count = torch.bincount(chosen).clamp(min=FEWEST).float()
            weight = count[chosen] ** -config.power
            weights[rows] = weight / weight.sum() * share / len(present)
    return weights


def blend(images: Tensor, batch: Batch, strength: float) -> tuple[Tensor, Batch]:
    """Every face with another one laid over it, by one share a batch, and what is known of both in the same shares.

    Zhang et al., 2018 (mixup). What is not known of one of them is not known of the blend.
    """
    share = float(torch.distributions.Beta(strength, strength).sample())
    share = max(share, 1 - share)
    other = torch.randperm(len(images), device=images.device)

    def mixed(values: Tensor) -> Tensor:
        return share * values + (1 - share) * values[other]

    extra = {**batch.extra, "opinion": mixed(batch.extra["opinion"])}
    return mixed(images), Batch(images, batch.labels, mixed(batch.votes), batch.valence, batch.arousal, extra)


class Distil(Recipe[DistilConfig, Student]):
    """The recipe.

    Scores by split and data set: accuracy of the encoder's own layer of classes; agreement with votes.

    Args:
        faces: with `opinion` (N, K) and `person` (N,) in `extra`; `votes` as `soften` leaves them.
    """

    settings = DistilConfig

    @classmethod
    def load(
        cls, paths: Sequence[str | Path], config: DistilConfig, out: Path, *, device: str = "auto", jobs: int = 2
    ) -> dict[str, FaceArrays]:
        """Faces by split with `opinion` and `person` beside, and votes as `soften` leaves them; all of `valid` and
        `test` have some."""
        faces = load_faces(paths, config, out, device=device, jobs=jobs, unlabelled=True, annotate=cls.annotate)
        teachers = [t.strip() for t in config.teachers.split(",") if t.strip()]
        said = {k: ask(teachers, part, crop=config.crop, cache=out / "alignment") for k, part in faces.items()}
        for split, part in faces.items():
            part.extra["opinion"] = evenly(said[split], said["train"]) if teachers else part.votes[:, :0]
            soften(part, config)
            if split != "train":
                faces[split] = part.subset(torch.nonzero(torch.isfinite(part.votes).all(1))[:, 0])
        return faces

    @staticmethod
    def annotate(dataset: FaceDataset, alignment: Alignment, keep: list[int]) -> Arrays:
        return {"person": dataset.persons(keep)}

    def build(self) -> Student:
        train = self.faces["train"]
        self._weights = draw_weights(train, self.config)
        model = Student(self.config.encoder(), train.extra["opinion"].shape[1])
        if self.config.start:
            begin(model, Path(self.config.start))
        return model

    @property
    def batches(self) -> int:
        return max(1, self.config.views // (self.config.batch * world()))

    def epoch(self, number: int) -> Iterable[Batch]:
        """Faces drawn by `draw_weights`, with replacement."""
        self.augmenter.start(number)
        count = self.batches * world() * self.config.batch
        seen = torch.multinomial(self._weights, count, replacement=True, generator=self.augmenter.order)
        return map(self.faces["train"].batch, torch.split(seen, self.config.batch))

    def step(self, model: Student, batch: Batch) -> Losses:
        images = self.seen(model, batch)
        if model.training and self.config.mix:
            images, batch = blend(images, batch, self.config.mix)
        return distil_losses(model, images, batch, self.config)

    def tested(self) -> Iterator[tuple[str, FaceArrays]]:
        """By split and data set."""
        for split, part in super().tested():
            for source in sorted(set(part.sources)):
                rows = [i for i, name in enumerate(part.sources) if name == source]
                yield f"{split} {source}", part.subset(torch.tensor(rows, device=self.device))

    def score(self, faces: FaceArrays) -> dict[str, Any]:
        embeddings = embed(self.encoder, faces, precision=self.config.precision)
        assert self.encoder.classes is not None
        classified = classification_scores(self.encoder.classes, embeddings, faces.labels)
        return {**classified, **space_scores(embeddings, faces)}

    def run(self) -> Scores:
        """As of every recipe; what is kept is the read-out."""
        self.fit()
        scores = self.scores()
        some = self.faces["train"].subset(torch.arange(min(len(self.faces["train"]), 2048)))
        encoder = read_out(self.model, some, self.config.readout, self.config.backbone)
        neck = BOUNDED if self.config.readout == BOUNDED else self.config.neck
        return save_encoder(encoder, replace(self.config, dimension=encoder.dimension, neck=neck), scores, self.out)
