"""Data sets of faces with expression labels, read from folders or zip files as their authors publish them.

| layout | recognised by |
| --- | --- |
| FER+ | `labels.csv` with a split and ten vote columns |
| FER+ folders | `FER2013Train/label.csv` and the like: image, box, ten votes, as Microsoft's program writes them |
| FER2013 | `fer2013.csv` with emotion, pixels, Usage; `fer2013new.csv` beside it makes it FER+ |
| labelled list | `labels.csv` with `image, person, emotion` (LFW and others) |
| RAF-DB | `basic/EmoLabel/list_patition_label.txt` beside `basic/Image/aligned/` (or `original/`) |
| RAF-DB folders | `train/1/train_00001_aligned.jpg` and the like and nothing else, codes 1 to 7 |
| AffectNet, official | `training.csv` / `validation.csv`, with a header or without; images beside it or below \
`Manually_Annotated…` |
| AffectNet, per image | `train_set/annotations/ID_exp.npy`, `_val.npy`, `_aro.npy` beside `train_set/images/` |
| CK+ | `Emotion/S005/001/…_emotion.txt` and frames `S005/001/S005_001_00000001.png` |
| folder per class | sub-folders named after expressions, optionally below `train/ valid/ test/` |
| folder per person | folders named as MS1M, VGGFace2, CASIA-WebFace or LFW name them, or any below `people/` |
| unlabelled | a folder `images/` of photographs and nothing else |

The last two have no labels: they are for recipes that need none.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from exprmetric.datasets import published
from exprmetric.datasets.samples import SUFFIXES, UNLABELLED, Sample, expression_index, person_split
from exprmetric.errors import InputError
from exprmetric.io.folders import Files
from exprmetric.io.kept import digest


class UnknownLayoutError(InputError):
    """A path is no data set of a known layout."""


@dataclass(frozen=True)
class FaceDataset:
    """Samples and the files that they name."""

    name: str
    files: Files
    samples: tuple[Sample, ...]

    def persons(self, indices: Sequence[int]) -> npt.NDArray[np.int64]:
        """(N,) a number for each of these samples' person, -1 where nobody says who it is.

        The same in every run; people of two data sets are never one, whatever their names.
        """
        named = [self.samples[i].person for i in indices]
        return np.array([person_number(self.name, "person", p) if p else -1 for p in named], np.int64)

    def image(self, index: int) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB; UnreadableImageError when it is missing or can't be decoded."""
        return self.files.image(self.samples[index].image)

    def checksum(self, index: int) -> str:
        """Of the file that shows a sample, see `Files.checksum`."""
        return self.files.checksum(self.samples[index].image)

    def contents(self, indices: Iterable[int] | None = None) -> list[str]:
        """Name and checksum of some samples, or of all: what is computed of images is kept under these, so that no
        image is taken for what another of its name showed."""
        chosen = range(len(self.samples)) if indices is None else indices
        return [f"{self.samples[i].image} {self.checksum(i)}" for i in chosen]


def person_number(*names: str) -> int:
    """A number that stands for a person (or whatever has these names), the same in every run."""
    return int(digest(*names)[:15], 16)


def names_apart(named: Mapping[Path, str]) -> dict[Path, str]:
    """A name of its own for each place: of several with one name, the later ones get a number behind it.

    By a data set's name its people, its files in the cache and the sources of faces are told apart.
    """
    places: dict[str, list[Path]] = {}
    for path, name in named.items():
        same = places.setdefault(name, [])
        if path.resolve() not in same:
            same.append(path.resolve())
    number = {path: places[name].index(path.resolve()) for path, name in named.items()}
    return {path: f"{name}-{number[path] + 1}" if number[path] else name for path, name in named.items()}


def _labelled_list(files: Files) -> Iterator[Sample]:
    for row in files.rows("labels.csv"):
        name = row["image"] if row["image"] in files.names else f"images/{row['image']}"
        yield Sample(name, person_split(row["person"]), expression_index(row["emotion"]), person=row["person"])


_IDENTITY = re.compile(r"m\.[0-9a-z_-]+|n\d{6}|\d{5,}")
"""Folders of people as MS1M, VGGFace2 and CASIA-WebFace name them."""
PEOPLE = "people"
"""A folder of this name holds a folder for each person, whatever they are called."""


def _identity(name: str) -> str:
    """Who an image shows, by its folder; '' where that says nothing."""
    parts = PurePosixPath(name).parts
    if PEOPLE in parts[:-2]:
        return parts[parts.index(PEOPLE) + 1]
    folder = parts[-2] if len(parts) > 1 else ""
    lfw = re.fullmatch(re.escape(folder) + r"_\d{4}\.\w+", parts[-1])
    return folder if lfw or _IDENTITY.fullmatch(folder) else ""


def _is_folder_per_person(files: Files) -> bool:
    images = [n for n in files.names if n.lower().endswith(SUFFIXES)]
    return len(images) > 0 and all(map(_identity, images))


def _folder_per_person(files: Files) -> Iterator[Sample]:
    for name in sorted(files.names):
        if name.lower().endswith(SUFFIXES):
            person = _identity(name)
            yield Sample(name, person_split(person), UNLABELLED, person=person)


def _unlabelled(files: Files) -> Iterator[Sample]:
    for name in sorted(files.names):
        if name.lower().endswith(SUFFIXES):
            yield Sample(name, person_split(name), UNLABELLED)


def _columns(files: Files) -> set[str]:
    return set(files.header("labels.csv")) if "labels.csv" in files.names else set()


LAYOUTS: dict[str, tuple[Callable[[Files], bool], Callable[[Files], Iterator[Sample]]]] = {
    "FER+": (lambda f: {"split", "neutral", "not_face"} <= _columns(f), published.ferplus),
    "FER+ folders": (
        lambda f: bool(published.named(f, *(f"{folder}/label.csv" for folder in published.FER_FOLDERS))),
        published.ferplus_folders,
    ),
    "FER2013": (lambda f: bool(published.named(f, "fer2013.csv")), published.fer2013),
    "labelled list": (lambda f: {"image", "person", "emotion"} <= _columns(f), _labelled_list),
    "RAF-DB": (lambda f: bool(published.named(f, published.RAFDB_TABLE)), published.rafdb),
    "RAF-DB folders": (published.is_rafdb_folders, published.rafdb_folders),
    "AffectNet CSV": (lambda f: bool(published.affectnet_tables(f)), published.affectnet_csv),
    "AffectNet npy": (lambda f: any(n.endswith("_exp.npy") for n in f.names), published.affectnet_npy),
    "CK+": (published.is_ckplus, published.ckplus),
    "folder per class": (
        lambda f: next(published.folder_per_class(f), None) is not None,
        published.folder_per_class,
    ),
    "folder per person": (_is_folder_per_person, _folder_per_person),
    "unlabelled": (
        lambda f: len(f.names) > 0 and all(n.startswith("images/") and n.count("/") == 1 for n in f.names),
        _unlabelled,
    ),
}


def open_dataset(path: str | Path) -> FaceDataset:
    """A data set from a folder or zip file of one of the known layouts.

    Raises:
        UnknownLayoutError: nothing is there, or no layout fits.
        InputError: a file of the data set is missing or broken.
    """
    path = Path(path)
    if not path.is_dir() and not zipfile.is_zipfile(path):
        raise UnknownLayoutError(f"{path} is neither a folder nor a zip file")
    files = Files(path)
    for layout, (fits, read) in LAYOUTS.items():
        if fits(files):
            files = published.PixelTable(path) if layout == "FER2013" else files
            return FaceDataset(path.stem, files, tuple(read(files)))
    raise UnknownLayoutError(f"{path} has none of the known layouts ({', '.join(LAYOUTS)})")


def open_datasets(paths: Sequence[str | Path]) -> list[FaceDataset]:
    """Data sets of several paths; a folder that is none itself gives all the sets directly inside it.

    Raises:
        InputError: a path gives no data set.
    """
    opened: list[FaceDataset] = []
    for path in map(Path, paths):
        try:
            opened.append(open_dataset(path))
        except UnknownLayoutError:
            if not path.is_dir():
                raise
            inside = [p for p in sorted(path.iterdir()) if p.is_dir() or zipfile.is_zipfile(p)]
            found = []
            for child in inside:
                try:
                    found.append(open_dataset(child))
                except UnknownLayoutError:
                    continue
            if not found:
                raise
            opened += found
    names = names_apart({d.files.path: d.name for d in opened})
    return [replace(d, name=names[d.files.path]) for d in opened]
