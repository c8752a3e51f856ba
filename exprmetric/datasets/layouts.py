"""Data sets of faces with expression labels, read from folders or zip files as their authors publish them.

| layout | recognised by |
| --- | --- |
| FER+ | `labels.csv` with a split and ten vote columns |
| labelled list | `labels.csv` with `image, person, emotion` (LFW and others) |
| RAF-DB | `basic/EmoLabel/list_patition_label.txt` beside `basic/Image/aligned/` (or `original/`) |
| AffectNet, official | `training.csv` / `validation.csv` with `subDirectory_filePath, expression, valence, arousal` |
| AffectNet, per image | `train_set/annotations/ID_exp.npy`, `_val.npy`, `_aro.npy` beside `train_set/images/` |
| folder per class | sub-folders named after expressions, optionally below `train/ valid/ test/` |
| unlabelled | a folder `images/` of photographs and nothing else; for recipes with a teacher |
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from exprmetric.choices import EXPRESSIONS as EXPRESSIONS
from exprmetric.errors import InputError
from exprmetric.io.folders import Files
from exprmetric.io.kept import digest

SYNONYMS = {
    "happy": "happiness",
    "sad": "sadness",
    "angry": "anger",
    "surprised": "surprise",
    "fearful": "fear",
}
AFFECTNET = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
"""AffectNet's codes 0..7; 8, 9 and 10 are none, uncertain and no face."""
RAFDB = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
"""RAF-DB's codes 1..7."""
RAFDB_TABLE = "EmoLabel/list_patition_label.txt"
SPLITS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
}
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
UNLABELLED = -1


class UnknownLayoutError(InputError):
    """A path is no data set of a known layout."""


@dataclass(frozen=True)
class Sample:
    """One face.

    Attributes:
        image: its name inside the data set.
        split: `train`, `valid` or `test`.
        label: index into `EXPRESSIONS`, or UNLABELLED.
        votes: shares of raters by expression, summing to 1, where raters voted.
        valence: -1..1, NaN where unknown.
        arousal: -1..1, NaN where unknown.
        raters: how many voted for an expression; 0 where unknown.
    """

    image: str
    split: str
    label: int
    votes: tuple[float, ...] | None = None
    valence: float = float("nan")
    arousal: float = float("nan")
    person: str = ""
    raters: int = 0


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


def expression_index(name: str) -> int:
    """Index into EXPRESSIONS of a label's name; UNLABELLED when it is none of them."""
    key = name.strip().lower()
    key = SYNONYMS.get(key, key)
    return EXPRESSIONS.index(key) if key in EXPRESSIONS else UNLABELLED


def person_split(person: str, valid_percent: int = 10) -> str:
    """`train` or `valid`, by a hash of the person's name: no person is in both, whatever the order of the rows."""
    return "valid" if int(hashlib.sha256(person.encode()).hexdigest(), 16) % 100 < valid_percent else "train"


def _ferplus(files: Files) -> Iterator[Sample]:
    for row in files.rows("labels.csv"):
        votes = np.array([int(row[e]) for e in EXPRESSIONS], np.float64)
        other = max(int(row["unknown"]), int(row["not_face"]))
        if votes.max() <= other:  # raters saw no face, or no expression that they know
            continue
        shares = tuple((votes / votes.sum()).tolist())
        image, raters = f"{row['split']}/{row['image']}", int(votes.sum())
        yield Sample(image, SPLITS[row["split"]], int(votes.argmax()), shares, raters=raters)


def _labelled_list(files: Files) -> Iterator[Sample]:
    for row in files.rows("labels.csv"):
        name = row["image"] if row["image"] in files.names else f"images/{row['image']}"
        yield Sample(name, person_split(row["person"]), expression_index(row["emotion"]), person=row["person"])


def _rafdb_table(files: Files) -> str | None:
    """Name of the list of labels; the data set may be packed below another folder."""
    return next((n for n in sorted(files.names) if f"/{n}".endswith(f"/{RAFDB_TABLE}")), None)


def _rafdb(files: Files) -> Iterator[Sample]:
    """`aligned` before `original`: the authors' crop shows one face, the photograph perhaps several."""
    table = _rafdb_table(files) or RAFDB_TABLE
    root = table.removesuffix(RAFDB_TABLE)
    for number, line in enumerate(files.read(table).decode("utf-8-sig").splitlines(), 1):
        name, _, code = line.strip().partition(" ")
        if not name:
            continue
        split, (stem, _, suffix) = SPLITS.get(name.partition("_")[0]), name.rpartition(".")
        if split is None or code.strip() not in map(str, range(1, len(RAFDB) + 1)):
            raise InputError(f"{files.path}: {table}, line {number}: {line!r} is no name and label 1 to {len(RAFDB)}")
        found = [
            f"{root}Image/{n}" for n in (f"aligned/{stem}_aligned.{suffix}", f"aligned/{name}", f"original/{name}")
        ]
        image = next((n for n in found if n in files.names), found[0])
        yield Sample(image, split, EXPRESSIONS.index(RAFDB[int(code) - 1]))


def _affectnet_csv(files: Files) -> Iterator[Sample]:
    for table in sorted(n for n in files.names if PurePosixPath(n).name in ("training.csv", "validation.csv")):
        split = SPLITS[PurePosixPath(table).stem]
        for row in files.rows(table):
            path = row["subDirectory_filePath"]
            name = next(
                (n for n in (path, f"Manually_Annotated_Images/{path}", f"images/{path}") if n in files.names),
                path,
            )
            code = int(row["expression"])
            if code < len(AFFECTNET):
                affect = _affect(float(row["valence"]), float(row["arousal"]))
                yield Sample(name, split, EXPRESSIONS.index(AFFECTNET[code]), None, *affect)


def _affectnet_npy(files: Files) -> Iterator[Sample]:
    for name in sorted(files.names):
        folder, _, file = name.rpartition("/")
        if not file.endswith("_exp.npy"):
            continue
        number, root = file[: -len("_exp.npy")], folder.rpartition("/")[0]
        exp, valence, arousal = (_npy_number(files, f"{folder}/{number}_{k}.npy") for k in ("exp", "val", "aro"))
        if exp < len(AFFECTNET):
            split = "train" if "train" in root.rpartition("/")[2] else "valid"
            image = f"{root}/images/{number}.jpg".lstrip("/")
            yield Sample(image, split, EXPRESSIONS.index(AFFECTNET[int(exp)]), None, *_affect(valence, arousal))


def _affect(valence: float, arousal: float) -> tuple[float, float]:
    """AffectNet writes -2 where there is none."""
    return (float("nan"), float("nan")) if valence < -1 else (valence, arousal)


def _npy_number(files: Files, name: str) -> float:
    """The one number in an array file, which may hold it as text; never unpickled."""
    content = io.BytesIO(files.read(name))
    try:
        return float(np.load(content, allow_pickle=False).item())
    except (ValueError, EOFError, MemoryError) as error:  # MemoryError: of a shape that it states
        raise InputError(f"{files.path}: {name} holds no number: {error}") from error


def _folder_per_class(files: Files) -> Iterator[Sample]:
    for name in sorted(files.names):
        parts = PurePosixPath(name).parts
        if len(parts) >= 2 and name.lower().endswith(SUFFIXES) and expression_index(parts[-2]) != UNLABELLED:
            split = next((SPLITS[p.lower()] for p in parts[:-2] if p.lower() in SPLITS), person_split(name))
            yield Sample(name, split, expression_index(parts[-2]))


def _unlabelled(files: Files) -> Iterator[Sample]:
    for name in sorted(files.names):
        if name.lower().endswith(SUFFIXES):
            yield Sample(name, person_split(name), UNLABELLED)


def _columns(files: Files) -> set[str]:
    return files.columns("labels.csv") if "labels.csv" in files.names else set()


LAYOUTS: dict[str, tuple[Callable[[Files], bool], Callable[[Files], Iterator[Sample]]]] = {
    "FER+": (lambda f: {"split", "neutral", "not_face"} <= _columns(f), _ferplus),
    "labelled list": (lambda f: {"image", "person", "emotion"} <= _columns(f), _labelled_list),
    "RAF-DB": (lambda f: _rafdb_table(f) is not None, _rafdb),
    "AffectNet CSV": (
        lambda f: any(PurePosixPath(n).name == "training.csv" for n in f.names),
        _affectnet_csv,
    ),
    "AffectNet npy": (lambda f: any(n.endswith("_exp.npy") for n in f.names), _affectnet_npy),
    "folder per class": (lambda f: next(_folder_per_class(f), None) is not None, _folder_per_class),
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
    for fits, read in LAYOUTS.values():
        if fits(files):
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
