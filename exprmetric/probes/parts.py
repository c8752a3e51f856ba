"""What encoders are judged on: faces of a data set, what is known of them, and one encoder's vectors of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exprmetric.choices import ALL
from exprmetric.datasets.layouts import FaceDataset, open_dataset
from exprmetric.datasets.samples import EXPRESSIONS, UNLABELLED
from exprmetric.errors import InputError
from exprmetric.io.tables import listed
from exprmetric.metrics.odd_one_out import Triplets
from exprmetric.metrics.resampling import Distance, Floats, Indices
from exprmetric.metrics.uncertainty import TABLE_RESAMPLES
from exprmetric.probes.dataset import Faces, person_faces, repeated_people

CONTEMPT = EXPRESSIONS.index("contempt")
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of N faces.

    Attributes:
        labels: (N,) indices into EXPRESSIONS.
        votes: (N, 8) shares of raters, NaN where nobody voted.
        affect: (N, 2) valence and arousal -1..1, NaN where unknown.
        persons: N names, '' where unknown.
    """

    labels: Indices
    votes: Floats
    affect: Floats
    persons: tuple[str, ...]

    def take(self, rows: npt.ArrayLike) -> Known:
        """These rows, in this order."""
        kept = np.asarray(rows, np.intp)
        persons = tuple(self.persons[i] for i in kept)
        return Known(self.labels[kept], self.votes[kept], self.affect[kept], persons)

    @property
    def people(self) -> tuple[str, ...] | None:
        """Whom a bootstrap resamples; None (it resamples faces) where nobody is known."""
        return self.persons if any(self.persons) else None


@dataclass(frozen=True, eq=False)
class Part:
    """One encoder's (N, D) float32 vectors of N faces, and what is known of them."""

    vectors: Vectors
    known: Known

    def __len__(self) -> int:
        return len(self.vectors)

    def take(self, rows: npt.ArrayLike) -> Part:
        """These rows, in this order."""
        kept = np.asarray(rows, np.intp)
        return Part(self.vectors[kept], self.known.take(kept))


@dataclass(frozen=True, eq=False)
class Space:
    """One encoder's vectors of a data set: all that a protocol sees.

    Attributes:
        train: faces that classifiers learn from.
        test: faces that everything is judged on.
        people: faces of people with several photographs of one expression, or None.
        distance: the encoder's own.
        compared: faces of FEC with the triplets that people judged, or None.
        seed: of every draw. resamples: of every bootstrap.
    """

    train: Part
    test: Part
    people: Part | None
    distance: Distance
    compared: tuple[Vectors, Triplets] | None = None
    seed: int = 0
    resamples: int = TABLE_RESAMPLES


@dataclass(frozen=True, eq=False)
class FaceRows:
    """Some faces of a data set.

    Attributes:
        name: for people to read.
        rows: indices into `dataset.samples`.
    """

    name: str
    dataset: FaceDataset
    rows: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def images(self) -> tuple[str, ...]:
        """The faces' names inside the data set."""
        return tuple(self.dataset.samples[i].image for i in self.rows)

    @property
    def faces(self) -> Faces:
        """As photographs, for methods."""
        index = dict(zip(self.images, self.rows, strict=True))
        return Faces(self.name, self.images, lambda name: self.dataset.image(index[name]))

    @cached_property
    def known(self) -> Known:
        """Labels, votes, valence, arousal and persons."""
        samples = [self.dataset.samples[i] for i in self.rows]
        unrated = (float("nan"),) * len(EXPRESSIONS)
        return Known(
            np.array([s.label for s in samples], np.intp),
            np.array([s.votes or unrated for s in samples], np.float64).reshape(-1, len(EXPRESSIONS)),
            np.array([(s.valence, s.arousal) for s in samples], np.float64).reshape(-1, 2),
            tuple(s.person for s in samples),
        )


@dataclass(frozen=True, eq=False)
class JudgedSet:
    """The faces of a data set that encoders are judged on; `split` is what `test` comes from."""

    name: str
    split: str
    train: FaceRows
    test: FaceRows


def judged_set(path: Path, limit: int, seed: int, *, contempt: bool = True) -> JudgedSet:
    """Labelled faces of the splits `train` and `test`, or `valid` where there is no `test`; at most `limit` of each.

    Args:
        contempt: False: faces of contempt are left out, and seven classes are told apart.

    Raises:
        InputError: there are none of one of both, or the path is no data set.
    """
    dataset = open_dataset(path)
    if not contempt:
        dataset = replace(dataset, samples=tuple(s for s in dataset.samples if s.label != CONTEMPT))
    labelled = [s.split for s in dataset.samples if s.label != UNLABELLED]
    split = "test" if "test" in labelled else "valid"
    missing = {"train", split} - set(labelled)
    if missing:
        has = listed(sorted(set(labelled))) or "none at all"
        raise InputError(f"{path}: no labelled faces of the split {' and '.join(sorted(missing))}; it has {has}")
    train, test = (_split_rows(dataset, s, limit, seed) for s in ("train", split))
    return JudgedSet(dataset.name, split, train, test)


def _split_rows(dataset: FaceDataset, split: str, limit: int, seed: int) -> FaceRows:
    rows = [i for i, s in enumerate(dataset.samples) if s.split == split and s.label != UNLABELLED]
    drawn = np.random.default_rng(seed).permutation(len(rows))[:limit]
    return FaceRows(f"{dataset.name} {split}", dataset, tuple(rows[i] for i in np.sort(drawn)))


def people_rows(path: Path, split: str, limit: int, seed: int) -> FaceRows:
    """Faces of people with several photographs of one expression, at most `limit`; see `repeated_people`.

    Raises:
        InputError: no person is known.
    """
    faces = repeated_people(person_faces(path, split), limit, seed)
    dataset = open_dataset(path)
    chosen = set(faces.images)
    rows = tuple(
        i
        for i, s in enumerate(dataset.samples)
        if s.image in chosen and s.person and s.label != UNLABELLED and split in (ALL, s.split)
    )
    return FaceRows(faces.name, dataset, rows)


def unique_names(names: Sequence[str]) -> None:
    """InputError where two encoders, or two data sets, would be one row of the table."""
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise InputError(f"{listed(twice)} is named twice; a checkpoint's name can be given: NAME=path")
