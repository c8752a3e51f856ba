"""Sets of faces that people have rated.

| set | ratings |
| --- | --- |
| FER+ (folder or zip) | votes as shares of the 8 expressions |
| AffectNet | valence, arousal |
| a table `.csv`, `.jsonl` or `.parquet`, or a folder with `ratings.csv` | its columns of numbers |

A table has the column `image`, optionally `person` ('' = unknown) and `split`. Relative images resolve against it, or
against `images/` beside it. Columns of text, and the columns METADATA, are no ratings; every rating must be a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exprmetric.choices import ALL
from exprmetric.datasets.layouts import FaceDataset, open_dataset
from exprmetric.datasets.samples import EXPRESSIONS, Sample
from exprmetric.errors import InputError
from exprmetric.io.images import read_image
from exprmetric.io.tables import READERS, listed, read_table, show
from exprmetric.metrics.agreement import MARGIN
from exprmetric.probes.dataset import Faces
from exprmetric.probes.raters import Halves, rater_halves, rating

Floats = npt.NDArray[np.float64]

PLAIN_COLUMNS = ("image", "person", "split")
METADATA = ("posed", "morph_percent", "age", "raters")
"""Columns that tell of the face or of the rating, though some are numbers."""
TABLE = "ratings.csv"
POINTS = 0.8
"""Clear margin of a table's ratings, in their unit: of scales of about five points."""
CHOSEN, UNSEEN, UNSTATED = "used for choosing", "never looked at", "use not stated"
"""What a set was to those who made the methods: nobody but they can say."""
NEUTRAL, WEAK = "neutral", "weak"


@dataclass(frozen=True, eq=False)
class RatedSet:
    """Rated faces, and how they are compared.

    Attributes:
        faces: with ratings; `faces.name` names the set.
        points: clear margin in the unit of the ratings; None: MARGIN mean rating distances.
        use: one of CHOSEN, UNSEEN, UNSTATED.
        halves: ratings by two groups of the raters, where every rater's are known.
    """

    faces: Faces
    points: float | None = None
    use: str = UNSTATED
    halves: Halves | None = None

    @property
    def name(self) -> str:
        """Its name in tables."""
        return self.faces.name

    @property
    def margin(self) -> str:
        """The clear margin in words."""
        return f"{MARGIN:g} mean rating distances" if self.points is None else f"{self.points:g} rating points"


def rated_set(
    path: Path,
    *,
    name: str = "",
    split: str = "test",
    points: float | None = None,
    terms: Sequence[str] = (),
    limit: int = 0,
    seed: int = 0,
) -> RatedSet:
    """A rated set.

    Args:
        path: as in `rated_faces`.
        split: as in `rated_faces`.
        terms: as in `rated_faces`.
        name: '' for its file's or folder's.
        points: clear margin of a table, None for POINTS; shares of votes, valence and arousal have no points.
        limit: faces, drawn with the seed; 0: all. The seed also draws halves of raters.

    Raises:
        InputError: see `rated_faces`; or raters' own ratings beside the table are malformed.
    """
    table = _table(path)
    faces = rated_faces(path, split, terms)
    faces = replace(faces, name=name or faces.name)
    faces = faces.sample(limit, seed) if limit else faces
    if table is None:
        return RatedSet(faces)
    halves = rater_halves(table.parent, faces, lambda image: image_path(table.parent, image), seed)
    return RatedSet(faces, POINTS if points is None else points, halves=halves)


def state_use(sets: Sequence[RatedSet], chosen: Sequence[str], unseen: Sequence[str]) -> list[RatedSet]:
    """The sets with what they were used for: some by name CHOSEN, some UNSEEN, the others UNSTATED.

    Raises:
        InputError: a name is no set's, or is in both lists.
    """
    known = [s.name for s in sets]
    if strange := [name for name in (*chosen, *unseen) if name not in known]:
        raise InputError(f"no rated set is named {listed(strange)}; there is {listed(known)}")
    if both := sorted(set(chosen) & set(unseen)):
        raise InputError(f"{listed(both)} can't be both used for choosing and never looked at")
    uses = dict.fromkeys(chosen, CHOSEN) | dict.fromkeys(unseen, UNSEEN)
    return [replace(s, use=uses.get(s.name, UNSTATED)) for s in sets]


def rated_faces(path: Path, split: str = "test", terms: Sequence[str] = ()) -> Faces:
    """Faces with human ratings.

    Args:
        path: a table, a folder with `ratings.csv`, or FER+ or AffectNet as a folder or zip.
        split: `train`, `valid`, `test` or `all`; of tables without a column `split` all rows are taken.
        terms: rating columns of a table; without, all columns of numbers that are no METADATA.

    Raises:
        InputError: it can't be read, has no ratings, or nothing of this split; a message about a table names the line.
    """
    table = _table(path)
    if table is not None:
        return _rated_table(table, split, terms)
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


def shown_expressions(ratings: npt.ArrayLike, terms: Sequence[str]) -> tuple[str, ...]:
    """N expressions that people see: the term rated highest.

    Where no term is `neutral`, a face none of whose terms is rated above the middle of the set's range is WEAK. Ratings
    of which some are negative (valence) are no degrees of expressions: then all are ''.

    Args:
        ratings: (N, K).
    """
    rated = np.asarray(ratings, np.float64)
    if not rated.size or rated.min() < 0:
        return ("",) * len(rated)
    middle = -np.inf if NEUTRAL in terms else (rated.min() + rated.max()) / 2
    return tuple(terms[int(row.argmax())] if row.max() > middle else WEAK for row in rated)


def _table(path: Path) -> Path | None:
    """The table that a path names; None for a data set."""
    if path.suffix.lower() in READERS:
        return path
    return path / TABLE if (path / TABLE).is_file() else None


def image_path(folder: Path, name: str) -> str:
    """Path of an image that a table names: beside it, or in `images/`."""
    beside, below = folder / name, folder / "images" / name
    return str(below if not beside.exists() and below.exists() else beside)


def _splits(dataset: FaceDataset) -> list[str]:
    return sorted({s.split for s in dataset.samples})


def _ratings(path: Path, samples: list[Sample]) -> tuple[Floats, tuple[str, ...]]:
    if all(s.votes is not None for s in samples):
        return np.array([s.votes for s in samples], np.float64), EXPRESSIONS
    affect = np.array([(s.valence, s.arousal) for s in samples], np.float64)
    if np.isfinite(affect).all():
        return affect, ("valence", "arousal")
    raise InputError(f"{path} has no human ratings; it needs votes, valence and arousal, or rating columns")


def _is_text(cells: Iterable[object]) -> bool:
    """Does a column hold words, and nothing that is meant for a number (such as nan)?"""
    filled = [cell for cell in cells if cell not in (None, "")]
    return bool(filled) and not any(_like_a_number(cell) for cell in filled)


def _like_a_number(cell: object) -> bool:
    try:
        float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def _rated_table(path: Path, split: str, terms: Sequence[str]) -> Faces:
    table = read_table(path, PLAIN_COLUMNS)  # refuses what is malformed
    table.require("image", *terms)
    others = tuple(terms) or tuple(c for c in table.columns if c not in (*PLAIN_COLUMNS, *METADATA))
    cells = list(READERS[path.suffix.lower()](path, others, [])) if others else []
    scales = tuple(c for c in others if c in terms or not _is_text(row.get(c) for _, row in cells))
    if not scales:
        raise InputError(f"{show(path)} has no rating columns beside {listed(table.columns)}")
    images: list[str] = []
    persons: list[str] = []
    ratings: list[list[float]] = []
    seen: dict[str, str] = {}
    for plain, (number, row) in zip(table.rows, cells, strict=True):
        where = f"row {number}" if path.suffix.lower() == ".parquet" else f"line {number}"
        if not plain["image"]:
            raise InputError(f"{show(path)}, {where}: no image is named")
        image = image_path(path.parent, plain["image"])
        if image in seen:
            raise InputError(f"{show(path)}, {where}: {plain['image']!r} was rated in {seen[image]} already")
        seen[image] = where
        numbers = [rating(path, where, name, row.get(name)) for name in scales]
        if "split" in table.columns and split not in (ALL, plain["split"]):
            continue
        images.append(image)
        persons.append(plain["person"])
        ratings.append(numbers)
    if not images:
        raise InputError(f"{show(path)} has no rows" + (f" of the split {split!r}" if "split" in table.columns else ""))
    name = path.parent.resolve().name if path.name == TABLE else path.stem
    return Faces(
        name, tuple(images), read_image, tuple(persons) if any(persons) else (), np.array(ratings, np.float64), scales
    )
