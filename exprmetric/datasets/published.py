"""Readers of data sets of expressions as their authors publish them; `layouts` says which one a folder is of."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from exprmetric.datasets.samples import EXPRESSIONS, SPLITS, SUFFIXES, Sample, expression_index, person_split
from exprmetric.errors import InputError, UnreadableImageError
from exprmetric.inputs import affectnet
from exprmetric.io.folders import Files

VOTED = (*EXPRESSIONS, "unknown", "not_face")
"""FER+'s ten columns of votes, in its order."""
FER_SIDE = 48
FER_CODES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
"""FER2013's codes 0..6."""
FER_USAGES = {"Training": "train", "PublicTest": "valid", "PrivateTest": "test"}
FER_FOLDERS = {"FER2013Train": "train", "FER2013Valid": "valid", "FER2013Test": "test"}
RAFDB = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
"""RAF-DB's codes 1..7."""
RAFDB_TABLE = "EmoLabel/list_patition_label.txt"
_RAFDB_IMAGE = re.compile(r"(?:.*/)?(?:train|test)/([1-7])/(train|test)_\d+(?:_aligned)?\.(?:jpg|jpeg|png)")
CK = ("neutral", "anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")
"""CK+'s codes 0..7."""
CK_PEAK = 3
"""Last frames of a sequence that show its expression, as most papers take them."""
_CK_EMOTION = re.compile(r"(?:.*/)?(S\d{3})/(\d{3})/\1_\2_\d{8}_emotion\.txt")
_CK_FRAME = re.compile(r"(?:.*/)?(S\d{3})/(\d{3})/\1_\2_\d{8}\.png")
_CK_NAME = re.compile(r"(S\d{3})_\d{3}_\d{8}")


def named(files: Files, *ends: str) -> list[str]:
    """The files of these names, in whatever folder, sorted."""
    return sorted(n for n in files.names if any(f"/{n}".endswith(f"/{end}") for end in ends))


def ferplus(files: Files) -> Iterator[Sample]:
    """`labels.csv` with a split and ten columns of votes."""
    for row in files.rows("labels.csv"):
        yield from _voted(f"{row['split']}/{row['image']}", SPLITS[row["split"]], row, files, "labels.csv")


def _voted(image: str, split: str, votes: Mapping[str, str], files: Files, table: str) -> Iterator[Sample]:
    """A face by the votes on it; none where most raters saw no face, or no expression that they know."""
    try:
        counts = np.array([int(votes[name]) for name in VOTED], np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{files.path}: {table}: the votes on {image!r} are not ten whole numbers") from error
    of = counts[: len(EXPRESSIONS)]
    if of.max() > counts[len(EXPRESSIONS) :].max():
        yield Sample(image, split, int(of.argmax()), tuple((of / of.sum()).tolist()), raters=int(of.sum()))


def ferplus_folders(files: Files) -> Iterator[Sample]:
    """`FER2013Train/label.csv` and the like: image name, box, ten votes, without a header."""
    for table in named(files, *(f"{folder}/label.csv" for folder in FER_FOLDERS)):
        folder = PurePosixPath(table).parent
        for row in files.rows(table, ("image", "box", *VOTED)):
            yield from _voted(f"{folder}/{row['image']}", FER_FOLDERS[folder.name], row, files, table)


class PixelTable(Files):
    """FER2013's `fer2013.csv`, whose cells hold the pixels: the image `fer2013.csv?12` is that of row 12, from 0."""

    def __reduce__(self) -> tuple[type[Files], tuple[Path]]:
        return PixelTable, (self.path,)

    @cached_property
    def _pixels(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """(N, 48, 48), and which rows hold as many numbers 0..255."""
        faces, whole = [], []
        for row in self.rows(named(self, "fer2013.csv")[0]):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of cells that hold no numbers
                values = np.fromstring(row["pixels"] or "", np.int64, sep=" ")
            whole.append(len(values) == FER_SIDE**2 and values.min() >= 0 and values.max() <= 255)
            faces.append(values.astype(np.uint8) if whole[-1] else np.zeros(FER_SIDE**2, np.uint8))
        return np.array(faces, np.uint8).reshape(-1, FER_SIDE, FER_SIDE), np.array(whole, np.bool_)

    def _face(self, name: str) -> npt.NDArray[np.uint8]:
        table, _, row = name.partition("?")
        faces, whole = self._pixels
        if not row.isdigit() or int(row) >= len(whole) or not whole[int(row)]:
            raise UnreadableImageError(f"{self.path / table}, face {row}: expected {FER_SIDE**2} pixels 0 to 255")
        return np.asarray(faces[int(row)])

    def image(self, name: str) -> npt.NDArray[np.uint8]:
        return np.repeat(self._face(name)[..., None], 3, axis=2)

    def checksum(self, name: str) -> str:
        import zlib

        try:
            return f"{zlib.crc32(self._face(name).tobytes()):08x} {FER_SIDE**2}"
        except UnreadableImageError:
            return ""


def fer2013(files: Files) -> Iterator[Sample]:
    """`fer2013.csv` with emotion, pixels, Usage; with the votes of `fer2013new.csv`, row by row, where it is there."""
    table = named(files, "fer2013.csv")[0]
    rated = named(files, "fer2013new.csv")
    rows = enumerate(files.rows(table))
    if not rated:
        for i, row in rows:
            yield Sample(f"{table}?{i}", _usage(files, table, i, row), _code(files, table, i, row, FER_CODES))
        return
    votes = iter(list(files.rows(rated[0])))
    for i, row in rows:
        said = next(votes, None)
        if said is None or said.get("Usage") != row["Usage"]:
            raise InputError(f"{files.path}: row {i + 1} of {rated[0]} is not of the same face as that of {table}")
        split = _usage(files, table, i, row)
        yield from _voted(f"{table}?{i}", split, {**said, "not_face": said.get("NF", "")}, files, rated[0])
    if next(votes, None) is not None:
        raise InputError(f"{files.path}: {rated[0]} has more rows than {table}")


def _usage(files: Files, table: str, i: int, row: Mapping[str, str]) -> str:
    if row["Usage"] not in FER_USAGES:
        raise InputError(f"{files.path}: {table}, row {i + 1}: Usage is none of {', '.join(FER_USAGES)}")
    return FER_USAGES[row["Usage"]]


def _code(files: Files, table: str, i: int, row: Mapping[str, str], codes: Sequence[str]) -> int:
    if row["emotion"] not in map(str, range(len(codes))):
        raise InputError(f"{files.path}: {table}, row {i + 1}: {row['emotion']!r} is no emotion 0 to {len(codes) - 1}")
    return EXPRESSIONS.index(codes[int(row["emotion"])])


def rafdb(files: Files) -> Iterator[Sample]:
    """`aligned` before `original`: the authors' crop shows one face, the photograph perhaps several."""
    table = named(files, RAFDB_TABLE)[0]
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


def is_rafdb_folders(files: Files) -> bool:
    """Whether all images are RAF-DB's, by their own names, in `train/1` … `test/7`: other sets number otherwise."""
    images = [n for n in files.names if n.lower().endswith(SUFFIXES)]
    return len(images) > 0 and all(_RAFDB_IMAGE.fullmatch(n) for n in images)


def rafdb_folders(files: Files) -> Iterator[Sample]:
    """`train/1/train_00001_aligned.jpg` and the like."""
    for name in sorted(files.names):
        if found := _RAFDB_IMAGE.fullmatch(name):
            yield Sample(name, found[2], EXPRESSIONS.index(RAFDB[int(found[1]) - 1]))


def affectnet_tables(files: Files) -> list[str]:
    """Names of AffectNet's `training.csv` and `validation.csv`, known by their first line."""
    tables = named(files, "training.csv", "validation.csv")
    return [t for t in tables if affectnet.IMAGE in (first := files.header(t)) or affectnet.headless(first)]


def affectnet_csv(files: Files) -> Iterator[Sample]:
    """Image names start at the table's folder, or at one of AffectNet's own folders, wherever that is."""
    roots = _affectnet_roots(files)
    for table in affectnet_tables(files):
        beside = [table.rpartition("/")[0], *roots]
        columns = None if affectnet.IMAGE in files.header(table) else affectnet.COLUMNS
        for number, row in enumerate(files.rows(table, columns), 1):
            path = row[affectnet.IMAGE]
            image = next((n for root in beside if (n := f"{root}/{path}".lstrip("/")) in files.names), path)
            try:
                expression = affectnet.expression(row["expression"])
                affect = _affect(float(row["valence"]), float(row["arousal"]))
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(f"{files.path}: {table}, face {number}: no expression, valence and arousal") from error
            if expression is not None:
                split = SPLITS[PurePosixPath(table).stem]
                yield Sample(image, split, EXPRESSIONS.index(expression), None, *affect)


def _affectnet_roots(files: Files) -> list[str]:
    """Folders at which image names may start, the deepest first."""
    parents = {n.rpartition("/")[0] for n in files.names if n.lower().endswith(SUFFIXES)}
    folders = {p for folder in parents for p in (PurePosixPath(folder), *PurePosixPath(folder).parents)}
    own = [p for p in folders if p.name.startswith(affectnet.FOLDERS)]
    return [*map(str, sorted(own, key=lambda p: (-len(p.parts), str(p)))), ""]


def affectnet_npy(files: Files) -> Iterator[Sample]:
    """`train_set/annotations/ID_exp.npy`, `_val.npy` and `_aro.npy` beside `train_set/images/ID.jpg`."""
    for name in sorted(files.names):
        folder, _, file = name.rpartition("/")
        if not file.endswith("_exp.npy"):
            continue
        number, root = file[: -len("_exp.npy")], folder.rpartition("/")[0]
        exp, valence, arousal = (_npy_number(files, f"{folder}/{number}_{k}.npy") for k in ("exp", "val", "aro"))
        if exp < len(affectnet.CODES):
            split = "train" if "train" in root.rpartition("/")[2] else "valid"
            image = f"{root}/images/{number}.jpg".lstrip("/")
            yield Sample(image, split, EXPRESSIONS.index(affectnet.CODES[int(exp)]), None, *_affect(valence, arousal))


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


def is_ckplus(files: Files) -> bool:
    """Whether there is a CK+ sequence's `_emotion.txt`."""
    return any(_CK_EMOTION.fullmatch(n) for n in files.names)


def ckplus(files: Files) -> Iterator[Sample]:
    """CK+: of each sequence with an emotion, the first frame as neutral and the last CK_PEAK frames as the emotion."""
    frames: dict[tuple[str, ...], list[str]] = {}
    for name in sorted(files.names):
        if found := _CK_FRAME.fullmatch(name):
            frames.setdefault(found.groups(), []).append(name)
    for name in sorted(files.names):
        if found := _CK_EMOTION.fullmatch(name):
            label = EXPRESSIONS.index(CK[_ck_code(files, name)])
            person, sequence = found[1], frames.get(found.groups(), [])
            faces = [(n, EXPRESSIONS.index("neutral")) for n in sequence[:1]]
            faces += [(n, label) for n in sequence[1:][-CK_PEAK:]]
            yield from (Sample(n, person_split(person), code, person=person) for n, code in faces)


def _ck_code(files: Files, name: str) -> int:
    """A text file that holds one number, such as `   3.0000000e+00`."""
    try:
        code = float(files.read(name))
    except ValueError:
        code = math.nan
    if code not in range(len(CK)):
        raise InputError(f"{files.path}: {name} holds no emotion 0 to {len(CK) - 1}")
    return int(code)


def folder_per_class(files: Files) -> Iterator[Sample]:
    """Sub-folders named after expressions; a file of CK+ (`S010_004_00000017.png`) says who it shows."""
    for name in sorted(files.names):
        parts = PurePosixPath(name).parts
        if len(parts) >= 2 and name.lower().endswith(SUFFIXES) and expression_index(parts[-2]) >= 0:
            known = _CK_NAME.match(parts[-1])
            person = known[1] if known else ""
            split = next((SPLITS[p.lower()] for p in parts[:-2] if p.lower() in SPLITS), person_split(person or name))
            yield Sample(name, split, expression_index(parts[-2]), person=person)
