"""FEENet, paper 004: 16 numbers in which the odd one of three faces lies apart.

EfficientNet-B0, two fully connected layers to 16 numbers, unit norm; trained on triplets (a, p, n) of which raters
found n the odd one, with the paper's loss on squared distances, margin δ = 0.2:

    L(a, p, n) = max(0, |F(a) - F(p)|² - |F(a) - F(n)|² + δ) + max(0, |F(a) - F(p)|² - |F(p) - F(n)|² + δ)

Scores are triplet accuracies: the positive pair must be nearer than both others; a tie is wrong.

What the triplets are made of:

* a folder with FEC's published tables and its photographs in `images/` (see `exprmetric.training.fec`): triplets of
  which at least 60 % of the raters agree. Of a photograph, twice the published box is cut out before the face is found
  in the middle of it, since there may be several.
* other data sets with votes of raters (FER+): triplets whose votes leave no doubt, made anew for each epoch (see
  `exprmetric.metrics.odd_one_out.vote_triplets`). Faces without votes are not used.

Where the paper is silent:

* Optimiser, rate, batch, augmentation, number of epochs. `batch` counts faces, of a third as many triplets; an epoch
  has a third as many triplets as there are training faces, so that it costs what it does in other recipes.
* Validation. FEC has none: `held_out` of the training triplets are kept for it, and training triplets with a photograph
  that also is in a validation or test triplet are left out.
* Whether the backbone begins with ImageNet's weights. `pretrained` does so for efficientnet_lite0, the one backbone
  whose weights a package brings.
* Colour. All recipes here see luma, because FER+ has no colour.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exprmetric.errors import InputError
from exprmetric.metrics.odd_one_out import MARGIN, Triplets, odd_one_out_accuracy, vote_triplets
from exprmetric.training import distributed, fec
from exprmetric.training.alignment import Alignment
from exprmetric.training.arrays import Batch, FaceArrays, load_arrays
from exprmetric.training.data import UNLABELLED, FaceDataset, Files, Sample
from exprmetric.training.loop import Losses, autocast, pick_device
from exprmetric.training.models import PRETRAINED, Encoder, load_pretrained
from exprmetric.training.recipes.common import (
    Augmenter,
    RecipeConfig,
    Scores,
    embed,
    fit,
    load_faces,
    save_encoder,
)

TABLES = {split: f"faceexp-comparison-data-{split}-public.csv" for split in ("train", "test")}
IMAGES = "images"
SCORED = 30_000
"""Triplets made from votes that a score is taken over; of FEC's, all."""


@dataclass(frozen=True)
class FEENetConfig(RecipeConfig):
    """Settings; those of the paper are the network, the margin and the raters' agreement.

    Attributes:
        batch: faces a step, three a triplet.
        limit: training faces; of FEC, triplets are left out until no more faces are needed.
        margin: δ of the loss, in squared distances of unit-norm embeddings.
        agreement: FEC: share of raters who must agree on a triplet.
        held_out: FEC: share of the training triplets that are validated on.
        clear: votes: how much farther the odd one is than the others are from each other, as a share of raters.
        pretrained: begin with ImageNet's weights; efficientnet_lite0 only.
    """

    neck: str = "two_layers"
    dimension: int = 16
    learning_rate: float = 5e-4
    batch: int = 120
    margin: float = 0.2
    agreement: float = fec.AGREEMENT
    held_out: float = 0.01
    clear: float = MARGIN
    pretrained: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pretrained and self.backbone not in PRETRAINED:
            raise InputError(f"pretrained needs one of the backbones {', '.join(PRETRAINED)}, not {self.backbone}")
        if self.batch < 3:
            raise InputError(f"batch is {self.batch}; a triplet has three faces")
        for name in ("agreement", "held_out", "clear"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected a share above 0 and at most 1")


class FEENet(nn.Module):
    """What is trained: the encoder, whose output the loss brings to unit norm."""

    def __init__(self, config: FEENetConfig) -> None:
        super().__init__()
        self.encoder: Encoder = config.encoder()
        if config.pretrained:
            load_pretrained(self.encoder, config.backbone)


def two_sided_triplet_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 0.2) -> Tensor:
    """Mean of the paper's L(a, p, n) over a batch.

    Args:
        anchor, positive, negative: (B, D), any norm; compared at unit norm.
        margin: δ, in squared distances.
    """
    a, p, n = (F.normalize(x.float(), dim=1) for x in (anchor, positive, negative))
    near = ((a - p) ** 2).sum(1)
    sides = ((a - n) ** 2).sum(1), ((p - n) ** 2).sum(1)
    loss: Tensor = sum((F.relu(near - far + margin) for far in sides), start=torch.zeros_like(near)).mean()
    return loss


@dataclass(frozen=True)
class TripletFaces:
    """Faces by split, and the triplets over them.

    Attributes:
        draw: split, how many at most, seed → triplets to learn from or validate on.
        scored: split → the triplets that its score is taken over.
        facts: by split, what is to be said beside a score.
    """

    faces: dict[str, FaceArrays]
    draw: Callable[[str, int, int], Triplets]
    scored: Callable[[str], Triplets]
    facts: dict[str, dict[str, float]]


def rated_faces(faces: dict[str, FaceArrays], config: FEENetConfig) -> TripletFaces:
    """Triplets made from the votes on faces."""
    votes = {split: arrays.votes.cpu().numpy() for split, arrays in faces.items()}

    def draw(split: str, count: int, seed: int) -> Triplets:
        return vote_triplets(votes[split], count, margin=config.clear, seed=seed)

    return TripletFaces(faces, draw, lambda split: draw(split, SCORED, config.seed), {})


# --- FEC ---


class BoxedPhotographs(Files):
    """Photographs of a folder; the file `NAME?left,right,top,bottom` is twice that box, with black outside the picture.

    So a face is in the middle of its image, where the one that is aligned is looked for.
    """

    def __reduce__(self) -> tuple[type[Files], tuple[Path]]:
        return BoxedPhotographs, (self.path,)

    def read(self, name: str) -> bytes:
        """A BMP file. Raises UnreadableImageError where the photograph is damaged."""
        import cv2

        from exprmetric.images import read_image

        photograph, _, box = name.partition("?")
        left, right, top, bottom = map(float, box.split(","))
        cut = _cut(read_image(self.path / photograph), left, right, top, bottom)
        return bytes(cv2.imencode(".bmp", cut[..., ::-1])[1].tobytes())


def _cut(image: npt.NDArray[np.uint8], left: float, right: float, top: float, bottom: float) -> npt.NDArray[np.uint8]:
    height, width = image.shape[:2]
    x0, x1 = (round(v * width) for v in ((3 * left - right) / 2, (3 * right - left) / 2))
    y0, y1 = (round(v * height) for v in ((3 * top - bottom) / 2, (3 * bottom - top) / 2))
    out = np.zeros((max(y1 - y0, 1), max(x1 - x0, 1), 3), np.uint8)
    inside = image[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
    top_row, first = max(-y0, 0), max(-x0, 0)
    out[top_row : top_row + inside.shape[0], first : first + inside.shape[1]] = inside
    return out


@dataclass(frozen=True)
class FecFolder:
    """What is used of a FEC folder.

    Attributes:
        dataset: one sample a face; `Sample.split` is that of its triplets.
        triplets: by split, whose rows are indices of samples.
        facts: by split, how many triplets there are, and how many fell out and why; `rater_accuracy`: the mean share of
            raters who gave the answer that counts.
    """

    dataset: FaceDataset
    triplets: dict[str, Triplets]
    facts: dict[str, dict[str, float]]


def is_fec(path: Path) -> bool:
    """Whether a folder holds one of FEC's published tables."""
    return any((path / name).is_file() for name in TABLES.values())


def open_fec(folder: Path, config: FEENetConfig) -> FecFolder:
    """Read a FEC folder and decide which triplets are used for what.

    Raises:
        InputError: the training table is missing, a table is not as published, or no photograph is there.
    """
    if not (folder / TABLES["train"]).is_file():
        raise InputError(f"{folder} has no {TABLES['train']}")
    tables = {split: fec.read_fec(folder / name) for split, name in TABLES.items() if (folder / name).is_file()}
    images = folder / IMAGES
    here = {p.name for p in images.iterdir()} if images.is_dir() else set()
    facts: dict[str, dict[str, float]] = {}
    usable: dict[str, list[fec.FecTriplet]] = {}
    for split, table in tables.items():
        clear = [t for t in table if t.is_clear(config.agreement)]
        usable[split] = [t for t in clear if all(fec.image_name(f.url) in here for f in t.faces)]
        facts[split] = {
            "published": len(table),
            "raters_divided": len(table) - len(clear),
            "without_photograph": len(clear) - len(usable[split]),
        }
    if not usable["train"]:
        raise InputError(
            f"no triplet of {folder / TABLES['train']} has its three photographs in {images}: "
            f"exprmetric fec download {folder / TABLES['train']} --out {images}"
        )
    chosen = _split(usable, facts, config)
    if not chosen["valid"]:
        raise InputError(
            f"none of {len(usable['train'])} triplets is kept for validation: raise held_out ({config.held_out})"
        )
    numbers: dict[fec.FecFace, int] = {}
    samples: list[Sample] = []
    triplets = {}
    for split, kept in chosen.items():
        for face in (f for t in kept for f in t.faces if f not in numbers):
            numbers[face] = len(numbers)
            name = f"{fec.image_name(face.url)}?{face.left},{face.right},{face.top},{face.bottom}"
            samples.append(Sample(name, split, UNLABELLED))
        rows = np.array([[numbers[f] for f in t.odd_last()] for t in kept], np.intp).reshape(-1, 3)
        triplets[split] = Triplets(rows, np.array([t.kind for t in kept], np.intp))
        facts[split]["rater_accuracy"] = float(np.mean([t.agreement for t in kept])) if kept else float("nan")
    dataset = FaceDataset(folder.resolve().name, BoxedPhotographs(images), tuple(samples))
    return FecFolder(dataset, triplets, facts)


def _split(
    usable: dict[str, list[fec.FecTriplet]], facts: dict[str, dict[str, float]], config: FEENetConfig
) -> dict[str, list[fec.FecTriplet]]:
    """Triplets by split; no photograph is in two of them. What falls out is counted in `facts`."""
    seen = set(fec.urls_of(usable.get("test", [])))
    held = [t for t in usable["train"] if _share_of(t) < config.held_out]
    valid = [t for t in held if seen.isdisjoint(f.url for f in t.faces)]
    seen.update(fec.urls_of(valid))
    train = [t for t in usable["train"] if seen.isdisjoint(f.url for f in t.faces)]
    facts["train"]["photograph_held_out"] = len(usable["train"]) - len(train) - len(valid)
    facts["valid"] = {}
    if config.limit:
        order = np.random.default_rng(config.seed).permutation(len(train))
        faces: set[fec.FecFace] = set()
        limited = []
        for i in order:
            if len(faces) + len(set(train[i].faces) - faces) <= config.limit:
                faces.update(train[i].faces)
                limited.append(train[i])
        facts["train"]["beyond_limit"] = len(train) - len(limited)
        train = limited
    return {"train": train, "valid": valid, **({"test": usable["test"]} if usable.get("test") else {})}


def _share_of(triplet: fec.FecTriplet) -> float:
    """0..1 by a hash of the triplet's faces, so that the same ones are held out whatever else the file holds."""
    text = " ".join(f"{f.url} {f.left} {f.top}" for f in triplet.faces)
    return int(hashlib.sha256(text.encode()).hexdigest()[:13], 16) / 16**13


def load_fec(folder: Path, config: FEENetConfig, out: Path, *, device: torch.device, jobs: int) -> TripletFaces:
    """Aligned faces and their triplets; a triplet of which a face isn't found is left out and counted."""
    opened = open_fec(folder, config)

    def number(dataset: FaceDataset, alignment: Alignment, keep: list[int]) -> dict[str, npt.NDArray[np.generic]]:
        return {"sample": np.array(keep, np.int64)}

    with distributed.main_first():
        faces = {
            split: load_arrays(
                [opened.dataset],
                split,
                crop=config.crop,
                size=config.size,
                cache=out / "alignment",
                device=device,
                jobs=jobs,
                unlabelled=True,
                annotate=number,
            )
            for split in opened.triplets
        }
    triplets: dict[str, Triplets] = {}
    for split, of_samples in opened.triplets.items():
        place = np.full(len(opened.dataset.samples), -1, np.intp)
        place[faces[split].extra["sample"].cpu().numpy()] = np.arange(len(faces[split]))
        rows = place[of_samples.rows]
        found = (rows >= 0).all(1)
        triplets[split] = Triplets(rows[found], of_samples.types[found])
        opened.facts[split] |= {"without_face": int((~found).sum()), "used": int(found.sum())}

    def draw(split: str, count: int, seed: int) -> Triplets:
        order = np.random.default_rng(seed).permutation(len(triplets[split]))[:count]
        return Triplets(triplets[split].rows[order], triplets[split].types[order])

    return TripletFaces(faces, draw, triplets.__getitem__, opened.facts)


# --- training and scores ---


def train_from_data(
    paths: Sequence[str | Path], out: Path, config: FEENetConfig, *, device: str = "auto", jobs: int = 2
) -> Scores:
    """The recipe on a FEC folder, or on data sets with votes; see `run`.

    Raises:
        InputError: a FEC folder stands beside other data sets, or there is no triplet.
    """
    folders = [Path(p) for p in paths if is_fec(Path(p))]
    if folders and len(paths) > 1:
        raise InputError(f"{folders[0]} is a FEC folder, which is trained on alone; name no other --data beside it")
    if folders:
        return run(load_fec(folders[0], config, out, device=pick_device(device), jobs=jobs), config, out)
    return run(rated_faces(load_faces(paths, config, out, device=device, jobs=jobs), config), config, out)


def run(data: TripletFaces, config: FEENetConfig, out: Path) -> Scores:
    """Train on the split `train`, score on the others; writes `encoder.pt`, `config.json` and `scores.json` into `out`.

    Returns:
        By split: triplet accuracy overall, with its interval, and by type; how many triplets it is of.
    """
    device = data.faces["train"].labels.device
    torch.manual_seed(config.seed)
    model = FEENet(config).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    augmenter = Augmenter(config, device)

    def step(model: nn.Module, batch: Batch) -> Losses:
        images = augmenter(batch.images) if model.training else batch.images
        with autocast(device, enabled=device.type == "cuda"):
            embeddings = cast(FEENet, model).encoder(images.contiguous(memory_format=torch.channels_last))
        anchor, positive, negative = embeddings.float().chunk(3)
        return {"total": two_sided_triplet_loss(anchor, positive, negative, config.margin)}

    def batches(arrays: FaceArrays, size: int, generator: torch.Generator) -> Iterator[Batch]:
        """A third as many triplets as faces; where there are fewer, some come again."""
        split = "train" if arrays is data.faces["train"] else "valid"
        seed = int(torch.randint(2**31, (1,), generator=generator, device=generator.device))
        rows = torch.from_numpy(data.draw(split, -(-len(arrays) // 3), seed).rows).to(device)
        if not len(rows):
            raise InputError(f"the split {split!r} of the data has no triplet with a clear odd one")
        order = torch.arange(len(arrays) // size * max(1, size // 3), device=device) % len(rows)
        for part in torch.split(order, max(1, size // 3)):
            yield arrays.batch(rows[part].T.reshape(-1))  # all a, all p, all n

    fit(model, step, data.faces, config, out, augmenter, batches=batches, label="feenet")
    scores: Scores = {split: dict(facts) for split, facts in data.facts.items()}
    for split, arrays in data.faces.items():
        if split != "train":
            scores.setdefault(split, {}).update(triplet_scores(model.encoder, arrays, data.scored(split), config))
    return save_encoder(model.encoder, config, scores, out)


def triplet_scores(encoder: Encoder, faces: FaceArrays, triplets: Triplets, config: FEENetConfig) -> dict[str, Any]:
    """`triplet_accuracy` with `_low` and `_high`, `triplet_accuracy_TYPE`, and the number of `triplets` of each."""
    unit = F.normalize(embed(encoder, faces, precision=config.precision), dim=1).cpu().numpy()
    found = odd_one_out_accuracy(unit, triplets.rows, triplets.types, seed=config.seed)
    overall = found.pop("all")
    return {
        "triplet_accuracy": overall.value,
        "triplet_accuracy_low": overall.low,
        "triplet_accuracy_high": overall.high,
        **{f"triplet_accuracy_{name}": each.value for name, each in found.items()},
        "triplets": overall.n,
        **{f"triplets_{name}": each.n for name, each in found.items()},
    }
