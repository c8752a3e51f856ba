"""A folder of FEC as faces to train on: which of its triplets are used for what, and where each face is.

The folder holds the published tables and, in `images/`, the photographs that `exprmetric fec download` fetched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from exprmetric.datasets import fec
from exprmetric.datasets.alignment import Alignment
from exprmetric.datasets.arrays import FaceArrays, load_arrays
from exprmetric.datasets.layouts import FaceDataset
from exprmetric.datasets.samples import UNLABELLED, Sample
from exprmetric.encoder import distributed
from exprmetric.errors import InputError
from exprmetric.metrics.odd_one_out import Triplets

TABLES = {split: f"faceexp-comparison-data-{split}-public.csv" for split in ("train", "test")}
IMAGES = "images"


class FecSettings(Protocol):
    """What is asked of a recipe's settings; see `exprmetric.training.recipes.feenet.FEENetConfig`."""

    @property
    def agreement(self) -> float: ...
    @property
    def held_out(self) -> float: ...
    @property
    def limit(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def crop(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def color(self) -> str: ...


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


@dataclass(frozen=True)
class FecFolder:
    """What is used of a FEC folder.

    Attributes:
        dataset: one sample a face; `Sample.split` is that of its triplets.
        triplets: by split, whose rows are indices of samples.
        facts: by split, how many triplets there are, how many fell out and why, and `rater_accuracy`, the mean share of
            raters who gave the answer that counts.
    """

    dataset: FaceDataset
    triplets: dict[str, Triplets]
    facts: dict[str, dict[str, float]]


def is_fec(path: Path) -> bool:
    """Whether a folder holds one of FEC's published tables."""
    return any((path / name).is_file() for name in TABLES.values())


def open_fec(folder: Path, settings: FecSettings) -> FecFolder:
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
        clear = [t for t in table if t.is_clear(settings.agreement)]
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
    chosen = _split(usable, facts, settings)
    if not chosen["valid"]:
        raise InputError(
            f"none of {len(usable['train'])} triplets is kept for validation: raise held_out ({settings.held_out})"
        )
    numbers: dict[fec.FecFace, int] = {}
    samples: list[Sample] = []
    triplets = {}
    for split, kept in chosen.items():
        for face in (f for t in kept for f in t.faces if f not in numbers):
            numbers[face] = len(numbers)
            samples.append(Sample(fec.boxed(face), split, UNLABELLED))
        rows = np.array([[numbers[f] for f in t.odd_last()] for t in kept], np.intp).reshape(-1, 3)
        triplets[split] = Triplets(rows, np.array([t.kind for t in kept], np.intp))
        facts[split]["rater_accuracy"] = float(np.mean([t.agreement for t in kept])) if kept else float("nan")
    dataset = FaceDataset(folder.resolve().name, fec.BoxedPhotographs(images), tuple(samples))
    return FecFolder(dataset, triplets, facts)


def _split(
    usable: dict[str, list[fec.FecTriplet]], facts: dict[str, dict[str, float]], settings: FecSettings
) -> dict[str, list[fec.FecTriplet]]:
    """Triplets by split; no photograph is in two of them. What falls out is counted in `facts`."""
    seen = set(fec.urls_of(usable.get("test", [])))
    held = [t for t in usable["train"] if _share_of(t) < settings.held_out]
    valid = [t for t in held if seen.isdisjoint(f.url for f in t.faces)]
    seen.update(fec.urls_of(valid))
    train = [t for t in usable["train"] if seen.isdisjoint(f.url for f in t.faces)]
    facts["train"]["photograph_held_out"] = len(usable["train"]) - len(train) - len(valid)
    facts["train"]["share_held_out"] = facts["train"]["photograph_held_out"] / len(usable["train"])
    facts["valid"] = {}
    if settings.limit:
        order = np.random.default_rng(settings.seed).permutation(len(train))
        faces: set[fec.FecFace] = set()
        limited = []
        for i in order:
            if len(faces) + len(set(train[i].faces) - faces) <= settings.limit:
                faces.update(train[i].faces)
                limited.append(train[i])
        facts["train"]["beyond_limit"] = len(train) - len(limited)
        train = limited
    return {"train": train, "valid": valid, **({"test": usable["test"]} if usable.get("test") else {})}


def _share_of(triplet: fec.FecTriplet) -> float:
    """0..1 by a hash of the triplet's faces, so that the same ones are held out whatever else the file holds."""
    text = " ".join(f"{f.url} {f.left} {f.top}" for f in triplet.faces)
    return int(hashlib.sha256(text.encode()).hexdigest()[:13], 16) / 16**13


def load_fec(folder: Path, settings: FecSettings, out: Path, *, device: torch.device, jobs: int) -> TripletFaces:
    """Aligned faces and their triplets; a triplet of which a face isn't found is left out and counted."""
    opened = open_fec(folder, settings)

    def number(dataset: FaceDataset, alignment: Alignment, keep: list[int]) -> dict[str, npt.NDArray[np.generic]]:
        return {"sample": np.array(keep, np.int64)}

    with distributed.main_first():
        faces = {
            split: load_arrays(
                [opened.dataset],
                split,
                crop=settings.crop,
                size=settings.size,
                cache=out / "alignment",
                device=device,
                jobs=jobs,
                unlabelled=True,
                color=settings.color,
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
