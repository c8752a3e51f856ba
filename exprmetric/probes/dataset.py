"""Faces that people have rated, and faces of known people.

| what | from |
| --- | --- |
| rated | FER+ (folder or zip; votes as shares of the 8 expressions), AffectNet (valence, arousal), or a table |
| people | a data set with `image, person, emotion` |
| photographs | a folder or zip of images |

A table is a `.csv`, `.jsonl` or `.parquet` with the column `image`, optionally `person` ('' = unknown) and `split`, and
nothing else but rating columns, which hold numbers. Relative images resolve against it.
"""

from __future__ import annotations

import math
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exprmetric.errors import InputError
from exprmetric.evaluation.embed import find_images
from exprmetric.images import IMAGE_SUFFIXES, read_image
from exprmetric.tables import READERS, listed, read_table, show
from exprmetric.training.data import EXPRESSIONS, UNLABELLED, FaceDataset, Files, Sample, open_dataset

Image = npt.NDArray[np.uint8]

PLAIN_COLUMNS = ("image", "person", "split")
"""Columns of a table that are no ratings."""
ALL = "all"


@dataclass(frozen=True, eq=False)
class Faces:
    """Photographs with what is known about them.

    Attributes:
        name: of the set, for people to read.
        images: N names.
        load: a name → (H, W, 3) uint8 RGB; an ImageError says why it can't be read.
        persons: N names, '' where unknown; empty where nobody is known.
        ratings: (N, K) float64, or None.
        scales: the K ratings' names.
        labels: N expressions; empty where there are none.
    """

    name: str
    images: tuple[str, ...]
    load: Callable[[str], Image]
    persons: tuple[str, ...] = ()
    ratings: npt.NDArray[np.float64] | None = None
    scales: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: npt.ArrayLike) -> Faces:
        """These rows, in this order."""
        kept = [int(i) for i in np.asarray(rows, np.intp)]
        return replace(
            self,
            images=tuple(self.images[i] for i in kept),
            persons=tuple(self.persons[i] for i in kept) if self.persons else (),
            ratings=None if self.ratings is None else self.ratings[kept],
            labels=tuple(self.labels[i] for i in kept) if self.labels else (),
        )

    def sample(self, limit: int, seed: int) -> Faces:
        """At most `limit` rows, drawn without replacement, in their order."""
        if len(self) <= limit:
            return self
        return self.take(np.sort(np.random.default_rng(seed).permutation(len(self))[:limit]))


def rated_faces(path: Path, split: str = "test") -> Faces:
    """Faces with human ratings.

    Args:
        path: a table, or FER+ or AffectNet as a folder or zip.
        split: `train`, `valid`, `test` or `all`; of tables without a column `split` all rows are taken.

    Raises:
        InputError: it can't be read, has no ratings, or nothing of this split; a message about a table names the line.
    """
    if path.suffix.lower() in READERS:
        return _rated_table(path, split)
    dataset = open_dataset(path)
    samples = [s for s in dataset.samples if split in (ALL, s.split)]
    if not samples:
        raise InputError(f"{path} has no faces of the split {split!r}; it has {listed(_splits(dataset))}")
    ratings, scales = _ratings(path, samples)
    persons = tuple(s.person for s in samples)
    return Faces(
        f"{dataset.name} {split}",
        tuple(s.image for s in samples),
        dataset.files.image,
        persons if any(persons) else (),
        ratings,
        scales,
    )


def person_faces(path: Path, split: str = ALL) -> Faces:
    """Faces of known people with an expression each.

    Args:
        path: a data set of the layout `image, person, emotion`, as a folder or zip.
        split: `train`, `valid` or `all`; training keeps the people of `valid` out.

    Raises:
        InputError: no person is known, or nothing of this split.
    """
    dataset = open_dataset(path)
    known = [s for s in dataset.samples if s.person and s.label != UNLABELLED and split in (ALL, s.split)]
    if not known:
        raise InputError(f"{path} has no faces with a person and an expression (split {split!r})")
    return Faces(
        f"{dataset.name} {split}",
        tuple(s.image for s in known),
        dataset.files.image,
        tuple(s.person for s in known),
        labels=tuple(EXPRESSIONS[s.label] for s in known),
    )


def repeated_people(faces: Faces, limit: int, seed: int, *, most: int = 6) -> Faces:
    """The faces that an identity leak is measured on: people with several photographs of one expression.

    Args:
        limit: of all faces together; people and expressions are drawn until it is reached.
        most: photographs of one person and expression.
    """
    generator = np.random.default_rng(seed)
    counts = Counter(zip(faces.persons, faces.labels, strict=True))
    rows: dict[tuple[str, str], list[int]] = {key: [] for key in sorted(counts) if counts[key] > 1}
    for i, key in enumerate(zip(faces.persons, faces.labels, strict=True)):
        if key in rows:
            rows[key].append(i)
    chosen: list[int] = []
    keys = list(rows)
    for k in generator.permutation(len(keys)):
        some = generator.permutation(rows[keys[k]])[:most]
        if len(chosen) + len(some) > limit:
            break
        chosen += some.tolist()
    return faces.take(sorted(chosen))


def photographs(path: Path) -> Faces:
    """All images of a folder, zip or file.

    Raises:
        InputError: there is none.
    """
    if path.is_file() and zipfile.is_zipfile(path):
        files = Files(path)
        names = sorted(n for n in files.names if Path(n).suffix.lower() in IMAGE_SUFFIXES)
        if not names:
            raise InputError(f"no image in {path}")
        return Faces(path.stem, tuple(names), files.image)
    return Faces(path.name, tuple(str(p) for p in find_images([path])), read_image)


def _splits(dataset: FaceDataset) -> list[str]:
    return sorted({s.split for s in dataset.samples})


def _ratings(path: Path, samples: list[Sample]) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    if all(s.votes is not None for s in samples):
        return np.array([s.votes for s in samples], np.float64), EXPRESSIONS
    affect = np.array([(s.valence, s.arousal) for s in samples], np.float64)
    if np.isfinite(affect).all():
        return affect, ("valence", "arousal")
    raise InputError(f"{path} has no human ratings; it needs votes, valence and arousal, or rating columns")


def _rated_table(path: Path, split: str) -> Faces:
    table = read_table(path, PLAIN_COLUMNS)  # refuses what is malformed
    table.require("image")
    scales = tuple(c for c in table.columns if c not in PLAIN_COLUMNS)
    if not scales:
        raise InputError(f"{show(path)} has no rating columns beside {listed(table.columns)}")
    cells = READERS[path.suffix.lower()](path, scales, [])
    images: list[str] = []
    persons: list[str] = []
    ratings: list[list[float]] = []
    seen: dict[str, str] = {}
    for plain, (number, row) in zip(table.rows, cells, strict=True):
        where = f"row {number}" if path.suffix.lower() == ".parquet" else f"line {number}"
        if not plain["image"]:
            raise InputError(f"{show(path)}, {where}: no image is named")
        image = str(path.parent / plain["image"])
        if image in seen:
            raise InputError(f"{show(path)}, {where}: {plain['image']!r} was rated in {seen[image]} already")
        seen[image] = where
        numbers = [_number(path, where, name, row.get(name)) for name in scales]
        if "split" in table.columns and split not in (ALL, plain["split"]):
            continue
        images.append(image)
        persons.append(plain["person"])
        ratings.append(numbers)
    if not images:
        raise InputError(f"{show(path)} has no rows" + (f" of the split {split!r}" if "split" in table.columns else ""))
    known = tuple(persons) if any(persons) else ()
    return Faces(path.stem, tuple(images), read_image, known, np.array(ratings, np.float64), scales)


def _number(path: Path, where: str, column: str, cell: object) -> float:
    try:
        value = float("nan") if isinstance(cell, bool) else float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        value = float("nan")
    if not math.isfinite(value):
        shown = "empty" if cell in (None, "") else repr(cell)
        raise InputError(f"{show(path)}, {where}: the rating {column!r} is {shown}; every rating must be a number")
    return value
