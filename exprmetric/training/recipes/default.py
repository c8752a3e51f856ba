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

Each is a setting, all but `pseudo` a weight; 0 leaves the term out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exprmetric.training import losses
from exprmetric.training.alignment import Alignment
from exprmetric.training.arrays import Batch, FaceArrays
from exprmetric.training.augment import AUGMENTATIONS, low_resolution
from exprmetric.training.data import EXPRESSIONS, UNLABELLED, FaceDataset
from exprmetric.training.loop import Losses, Schedule, Trainer, autocast
from exprmetric.training.models import BACKBONES, Encoder, load_pretrained
from exprmetric.training.recipes.common import check_known, embed

CLASSES = len(EXPRESSIONS)
PHOTOGRAPHS = 5
"""Of a person with fewer, the adversary learns nothing."""
RATED_SIDE = 48
"""Resolution of the faces that raters saw, px."""


@dataclass(frozen=True)
class DefaultConfig:
    """Settings of the shipped encoder.

    Attributes:
        backbone: a key of `exprmetric.training.models.BACKBONES`.
        pretrained: start from the backbone's ImageNet weights.
        frozen: stages that keep them.
        dimension: D of the embedding.
        mirror: the embedding is the mean over a face and its mirror image.
        size: input side, px. crop: centre part of the 224 px `eyes70` crop that the network sees, px.
        votes, agreement, contrast, mesh, mesh_agreement, identity: weights of the terms (see the module).
        pseudo: above 0, faces without votes get the running average's from the second epoch on; its size says nothing.
        others: share of the faces without votes that an epoch sees.
        augment: a key of `exprmetric.training.augment.AUGMENTATIONS`.
        average: decay of the running average of the weights, which is what is kept.
        warmup: steps of a rising learning rate; then it falls to 0 along a cosine, over `epochs`.
        minutes: wall-clock limit, 0 for none.
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
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup: int = 300
    batch: int = 128
    epochs: int = 12
    average: float = 0.998
    minutes: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_known((self.backbone, BACKBONES), (self.augment, AUGMENTATIONS))


class ExpressionModel(nn.Module):
    """Encoder and the heads that are thrown away."""

    def __init__(self, config: DefaultConfig, mesh: int, people: int) -> None:
        super().__init__()
        self.encoder = Encoder(config.backbone, dimension=config.dimension, frozen=config.frozen, mirror=config.mirror)
        dimension = self.encoder.dimension
        self.votes = nn.Linear(dimension, CLASSES)
        self.mesh = nn.Linear(dimension, mesh)
        self.projection = nn.Linear(dimension, config.projection)
        self.identity = nn.Sequential(nn.Linear(dimension, 256), nn.ReLU(), nn.Linear(256, people))


def expression_losses(
    model: ExpressionModel, images: Tensor, batch: Batch, votes: Tensor, weights: Tensor, config: DefaultConfig
) -> Losses:
    """Every term by name, weighted, and their sum as `total`.

    Args:
        votes: (B, 8) of raters or of the running average; NaN where there are none.
        weights: (8,) of the classes in the contrastive loss.
    """
    with autocast(images.device):
        embedding = model.encoder(images)
        logits, mesh, projection = model.votes(embedding), model.mesh(embedding), model.projection(embedding)
    embedding = embedding.float()
    terms: Losses = {
        "votes": config.votes * losses.soft_cross_entropy(logits, votes),
        "agreement": config.agreement * losses.distance_agreement(embedding, votes),
    }
    if config.contrast:
        terms["contrastive"] = config.contrast * losses.supervised_contrastive(
            projection, batch.labels, temperature=config.temperature, weights=weights
        )
    if config.mesh:
        terms["mesh"] = config.mesh * losses.masked_mse(mesh, batch.extra["mesh"])
    if config.mesh_agreement:
        terms["mesh_agreement"] = config.mesh_agreement * losses.distance_agreement(embedding, batch.extra["mesh"])
    terms["total"] = torch.stack(list(terms.values())).sum()
    if config.identity and model.training:
        guess = model.identity(losses.reverse_gradient(F.normalize(embedding, dim=1)))
        person = batch.extra["person_class"]
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
    if config.pretrained:
        load_pretrained(model.encoder, config.backbone)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    weights = losses.class_weights(train.labels, CLASSES)
    augment, generator = AUGMENTATIONS[config.augment], torch.Generator(device).manual_seed(config.seed)
    voted = torch.nonzero(torch.isfinite(train.votes).all(1))[:, 0]
    others = torch.nonzero(~torch.isfinite(train.votes).all(1))[:, 0]
    per_epoch = (len(voted) + int(len(others) * config.others)) // config.batch
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad],
        config.learning_rate,
        weight_decay=config.weight_decay,
        fused=True,
    )
    steps = config.epochs * per_epoch
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda i: min(1.0, (i + 1) / config.warmup) * (0.5 + 0.5 * math.cos(math.pi * min(1.0, i / max(1, steps)))),
    )

    def step(model: nn.Module, batch: Batch) -> Losses:
        images, votes = batch.images, batch.votes
        if model.training:
            votes = known_votes(cast(ExpressionModel, trainer.kept), batch, config.pseudo if trainer.epoch else 0.0)
            images = augment(images, generator)
        images = images.contiguous(memory_format=torch.channels_last)
        return expression_losses(cast(ExpressionModel, model), images, batch, votes, weights, config)

    def batches(epoch: int) -> Iterable[Batch]:
        generator.manual_seed(config.seed * 100_003 + epoch)
        shuffle = partial(torch.randperm, generator=generator, device=device)
        seen = torch.cat([voted, others[shuffle(len(others))[: int(len(others) * config.others)]]])
        seen = seen[shuffle(len(seen))]
        return map(train.batch, torch.split(seen, config.batch)[:per_epoch])

    order = torch.randperm(len(valid), generator=torch.Generator().manual_seed(0)).to(device)
    trainer = Trainer(model, optimizer, scheduler, step, out, asdict(config), config.average)
    trainer.resume()
    trainer.fit(
        batches,
        lambda: map(valid.batch, torch.split(order, config.batch)[: max(1, len(order) // config.batch)]),
        Schedule(config.epochs, config.epochs, config.minutes),
        batches=per_epoch,
        label="encoder",
    )
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
    datasets: Sequence[FaceDataset], split: str, config: DefaultConfig, *, cache: Path, device: torch.device, jobs: int
) -> FaceArrays:
    """Faces of one split with `mesh` (N, K) and `person` (N,) beside, NaN or -1 where unknown."""
    from exprmetric.training.arrays import load_arrays
    from exprmetric.training.teacher import label_dataset

    def annotate(dataset: FaceDataset, alignment: Alignment, keep: list[int]) -> dict[str, npt.NDArray[np.generic]]:
        names = [dataset.samples[i].person for i in keep]
        numbers = {name: i for i, name in enumerate(sorted(set(names) - {""}))}
        return {
            "mesh": blendshape_targets(label_dataset(dataset, alignment, cache, jobs=jobs).blendshapes[keep]),
            "person": np.array([numbers.get(n, -1) for n in names]),
        }

    return load_arrays(
        datasets,
        split,
        crop=config.crop,
        size=config.size,
        cache=cache,
        device=device,
        jobs=jobs,
        unlabelled=split == "train",
        annotate=annotate,
    )


def train_from_data(
    paths: Sequence[str | Path], out: Path, config: DefaultConfig, *, device: str = "auto", jobs: int = 2
) -> dict[str, dict[str, Any]]:
    """The recipe on data sets as they are published: align, label, train, score; see `run`."""
    from exprmetric.training.data import open_datasets
    from exprmetric.training.distributed import refuse
    from exprmetric.training.loop import pick_device

    datasets, where = open_datasets(paths), pick_device(device)
    refuse("default")
    splits = ["train", "valid"] + ["test"] * any(s.split == "test" for d in datasets for s in d.samples)
    faces = {s: load_faces(datasets, s, config, cache=out / "alignment", device=where, jobs=jobs) for s in splits}
    return run(faces, config, out)


def run(faces: dict[str, FaceArrays], config: DefaultConfig, out: Path) -> dict[str, dict[str, Any]]:
    """Train on `faces["train"]`; writes `encoder.pt` and `scores.json` into `out` and returns the scores.

    Scores of the frozen encoder on the other splits: accuracy of paper 000's head trained on the embeddings, and of the
    encoder's own linear layer for votes; agreement with votes; identity leak.
    """
    from exprmetric.training.loop import save_checkpoint
    from exprmetric.training.recipes import wsupcon
    from exprmetric.training.space import space_scores

    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
    standardise(*faces.values())
    model = train_encoder(faces["train"], faces["valid"], config, out)
    save_checkpoint(out / "encoder.pt", {"encoder": model.encoder.state_dict(), "config": asdict(config)})
    rated = {k: f.subset(torch.nonzero(torch.isfinite(f.votes).all(1))[:, 0]) for k, f in faces.items()}
    head_config = wsupcon.WSupConConfig(augment="none", head_views=1, head_weighted=False, seed=config.seed)
    head = wsupcon.train_head(model.encoder, rated["train"], rated["valid"], head_config, out)
    scores: dict[str, dict[str, Any]] = {}
    for name in [k for k in faces if k != "train"]:
        embeddings = embed(model.encoder, rated[name])
        scores[name] = {
            **wsupcon.classification_scores(head, embeddings, rated[name].labels),
            "votes_layer": wsupcon.classification_scores(model.votes, embeddings, rated[name].labels),
            **space_scores(embed(model.encoder, faces[name]), faces[name]),
        }
    (out / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
    return scores
