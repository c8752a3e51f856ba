"""Which source goes into which target: the protocol of paper 000 (section V.B, "Identity Swap Metric").

Rosberg and Englund, "Comparing Facial Expressions for Face Swapping Evaluation with Supervised Contrastive
Representation Learning": 3000 swaps between images with expression labels, half with randomly different
labels and half with the same. The list is drawn here; the face-swap model makes every third image.
"""

from __future__ import annotations

import csv
import math
import os
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from exprmetric.errors import InputError
from exprmetric.inputs import affectnet
from exprmetric.io.tables import read_table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IMAGE_COLUMNS = ("image", "path", "file")
LABEL_COLUMNS = ("label", "emotion", "expression")


@dataclass(frozen=True)
class LabelledImage:
    """A face image, its expression class, and who it shows ('' = not known)."""

    path: str
    label: str
    person: str = ""


@dataclass(frozen=True)
class Pair:
    """One swap to be made: the identity of `source` onto `target`."""

    id: str
    target: str
    source: str
    target_label: str
    source_label: str


def read_labels(path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> list[LabelledImage]:
    """Read a table (.csv, .jsonl, .parquet) with the columns `image` and `label`, and `person` if present.

    `image` may also be called path or file, `label` emotion or expression. Image names start at `root`, by
    default the table's folder (of AffectNet also its own folders beside or above the table); whether the files exist is
    not looked at (see `missing_images`).

    AffectNet's `training.csv` and `validation.csv` are read as published, with a header or without: the codes become
    names, and images without an expression (none, uncertain, no face) are left out.

    Raises InputError for a missing column, two columns that could be meant, a name that is nearly `person`, an empty
    cell, an image named twice, and no rows.
    """
    table_path = Path(os.fsdecode(path))
    folder = table_path.parent if root is None else Path(os.fsdecode(root))
    if table_path.suffix.lower() == ".csv" and (faces := affectnet.read(table_path)) is not None:
        if root is None and faces:
            folder = affectnet.folder_of(table_path, faces[0][0])
        images = [LabelledImage(str(folder / name), label) for name, label in faces]
        _check_distinct(images)
        return images
    table = read_table(table_path, (*IMAGE_COLUMNS, *LABEL_COLUMNS, "person"))

    def one_of(names: tuple[str, ...]) -> str:
        found = [name for name in names if name in table.columns]
        if len(found) > 1:
            raise InputError(f"{str(table_path)!r}: the columns {found} could all be the {names[0]}; keep one")
        if not found:
            table.require(names[0])
        return found[0]

    image, label = one_of(IMAGE_COLUMNS), one_of(LABEL_COLUMNS)
    if get_close_matches("person", [name.strip().lower() for name in table.columns], cutoff=0.75):
        table.require("person")  # under another name it would be ignored, and people would meet themselves
    images = []
    for number, row in enumerate(table.rows, start=1):
        if not (row[image].strip() and row[label].strip()):
            empty = image if not row[image].strip() else label
            raise InputError(f"{str(table_path)!r}, row {number}: the cell {empty!r} is empty")
        images.append(LabelledImage(str(folder / row[image]), row[label], row["person"]))
    _check_distinct(images)
    return images


def missing_images(images: Sequence[LabelledImage]) -> list[str]:
    """Paths, in order, at which there is no file."""
    return [image.path for image in images if not Path(image.path).is_file()]


def draw_pairs(
    images: Sequence[LabelledImage], n: int = 3000, same: float = 0.5, seed: int = 0, balanced: bool = False
) -> list[Pair]:
    """Draw n ordered pairs (target, source); exactly round(n * same) show the same expression class twice.

    Targets are drawn uniformly over images, then sources uniformly over the images that may go with them, so
    class frequencies follow the data. `balanced` draws the class first, uniformly, and then an image of it.
    No image meets itself, no two images of one known person meet, and no ordered pair occurs twice. The pairs
    come in random order. They depend on the set of images, n, same, seed and balanced, and on nothing else:
    not on the order of `images`, the platform, or the version of a library.

    Raises InputError for n < 1, `same` outside 0..1, an image given twice, and more pairs than the images
    allow.
    """
    if n < 1:
        raise InputError(f"n is {n}; at least one pair must be drawn")
    if not isinstance(images, Sequence) or not all(isinstance(image, LabelledImage) for image in images):
        raise InputError("expected a list of LabelledImage, as `read_labels` gives it")
    if not 0 <= same <= 1:
        raise InputError(f"same is {same}; expected a share between 0 and 1")
    images = sorted(images, key=lambda image: image.path)
    _check_distinct(images)
    labels = _codes([image.label for image in images])
    # an unknown person is somebody of his own, so that unequal people also means unequal images
    persons = _codes([("known", image.person) if image.person else ("", image.path) for image in images])
    rng = random.Random(seed)
    n_same = round(n * same)
    drawn: list[tuple[int, int]] = []
    for count, alike in ((n_same, True), (n - n_same, False)):
        partners = _partner_counts(labels, persons, alike)
        if count > partners.sum():
            raise InputError(_too_few(images, count, int(partners.sum()), alike))
        drawn += _draw(rng, labels, persons, partners, count, alike, balanced)
    order = sorted(range(n), key=lambda _: rng.random())
    width = max(4, len(str(n - 1)))
    pairs = []
    for place, index in enumerate(order):
        target, source = (images[i] for i in drawn[index])
        pairs.append(Pair(f"pair_{place:0{width}d}", target.path, source.path, target.label, source.label))
    return pairs


def write_pairs(pairs: Sequence[Pair], path: str | os.PathLike[str]) -> None:
    """Write a CSV file `id,target,source,target_label,source_label`, UTF-8.

    With a column `swapped` added it is a manifest of `evaluate`: image paths are written relative to the
    file's folder (absolute where there is no relative path, as between two Windows drives). Raises InputError
    if the file can't be written.
    """
    out = Path(os.fsdecode(path))
    folder = os.path.realpath(out.parent)
    parents: dict[Path, str] = {}

    def relative(image: str) -> str:
        parent = Path(image).parent
        if parent not in parents:  # links are resolved: '..' means nothing behind one
            real = os.path.realpath(parent)
            try:
                parents[parent] = os.path.relpath(real, folder)
            except ValueError:
                parents[parent] = real
        return (Path(parents[parent]) / Path(image).name).as_posix()

    try:
        with out.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(field.name for field in fields(Pair))
            for pair in pairs:
                id_, target, source, *labels = astuple(pair)
                writer.writerow([id_, relative(target), relative(source), *labels])
    except OSError as error:
        raise InputError(f"{str(out)!r} can't be written: {error.strerror or error}") from error


def _draw(
    rng: random.Random,
    labels: NDArray[np.int64],
    persons: NDArray[np.int64],
    partners: NDArray[np.int64],
    count: int,
    alike: bool,
    balanced: bool,
) -> list[tuple[int, int]]:
    """`count` distinct (target, source) indices; `partners` (N,) says how many sources each target allows."""
    import numpy as np

    left = partners.copy()
    used: dict[int, list[int]] = {}
    drawn = []
    for _ in range(count):
        target = _pick(rng, np.flatnonzero(left), labels, balanced)
        allowed = ((labels == labels[target]) == alike) & (persons != persons[target])
        allowed[used.setdefault(target, [])] = False
        source = _pick(rng, np.flatnonzero(allowed), labels, balanced)
        used[target].append(source)
        left[target] -= 1
        drawn.append((target, source))
    return drawn


def _pick(rng: random.Random, indices: NDArray[np.intp], labels: NDArray[np.int64], balanced: bool) -> int:
    """One of the indices: uniformly, or uniformly within a label that was drawn uniformly."""
    import numpy as np

    if balanced:
        present = np.unique(labels[indices])
        indices = indices[labels[indices] == present[_below(rng, len(present))]]
    return int(indices[_below(rng, len(indices))])


def _below(rng: random.Random, n: int) -> int:
    """Uniform in 0..n-1, from the one method whose sequence Python promises to keep for a seed."""
    return math.floor(rng.random() * n)


def _partner_counts(labels: NDArray[np.int64], persons: NDArray[np.int64], alike: bool) -> NDArray[np.int64]:
    """(N,) how many images of other people have the same label (alike) or another one."""
    import numpy as np

    of_label = np.bincount(labels)[labels]
    of_person = np.bincount(persons)[persons]
    both = Counter(zip(labels.tolist(), persons.tolist(), strict=True))
    of_both = np.array([both[key] for key in zip(labels.tolist(), persons.tolist(), strict=True)])
    with_same = of_label - of_both
    counts: NDArray[np.int64] = with_same if alike else len(labels) - of_person - with_same
    return counts


def _codes(values: Sequence[object]) -> NDArray[np.int64]:
    """Equal values get equal numbers, counted from 0 in the order of appearance."""
    import numpy as np

    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], dtype=np.int64)


def _check_distinct(images: Sequence[LabelledImage]) -> None:
    if not images:
        raise InputError("there are no labelled images")
    path, count = Counter(image.path for image in images).most_common(1)[0]
    if count > 1:
        raise InputError(f"the image {path!r} is named {count} times; give every image one label")


def _too_few(images: Sequence[LabelledImage], wanted: int, possible: int, alike: bool) -> str:
    counts = Counter(image.label for image in images)
    people = ", different people" if any(image.person for image in images) else ""
    kind = f"the same label{people}" if alike else f"different labels{people}"
    return (
        f"{wanted} pairs with {kind} are asked for; these {len(images)} images allow {possible}. "
        f"Images per label: {dict(counts.most_common(10))}"
    )
