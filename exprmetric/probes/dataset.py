"""Photographs of faces, and faces of known people.

| what | from |
| --- | --- |
| people | a data set with `image, person, emotion` |
| photographs | a folder or zip of images |

Faces that people have rated stand in `rated.py`.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exprmetric.choices import ALL
from exprmetric.datasets.layouts import open_dataset
from exprmetric.datasets.samples import EXPRESSIONS, UNLABELLED
from exprmetric.errors import InputError
from exprmetric.evaluation.embed import find_images
from exprmetric.io.folders import Files
from exprmetric.io.images import IMAGE_SUFFIXES, read_image

Image = npt.NDArray[np.uint8]


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
