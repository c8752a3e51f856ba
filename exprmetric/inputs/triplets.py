"""Triplets (target, source, swapped): which images are measured together.

A folder or a manifest becomes a list of `Triplet`, one for every row of the input. A row that can't be
measured stays in the list with its `problem`; only an input that is wrong as a whole raises InputError.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path, PurePath
from typing import overload

from exprmetric.errors import InputError
from exprmetric.inputs.face_names import NamedFace
from exprmetric.inputs.manifest_paths import PathReader
from exprmetric.inputs.role_folders import ROLES as ROLES
from exprmetric.inputs.role_folders import SOURCE, Row, find_roles, images_by_stem, match
from exprmetric.io.images import USE_VIDEO, VIDEO_SUFFIXES
from exprmetric.io.tables import READERS, Table, brief, listed, read_table, show

_OPTIONAL = ("id", "model", "group", "target_label", "source_label", "person")
_FACES = tuple(f"{role}_face" for role in ROLES)
COLUMNS = (*ROLES, *_OPTIONAL, *_FACES)
"""All columns of a manifest that say something of a triplet."""
_ROW = re.compile(r"row (\d{4,})")  # what a row without a name is called
_NAMED = 8  # rows that a message names
_MANIFEST_NAMES = tuple(f"triplets{suffix}" for suffix in READERS)


@dataclass(frozen=True)
class Triplet:
    """One face swap: the identity of `source` was put onto `target`, which gave `swapped`.

    A path is None where the input names no image. A row without a source and without a problem is a pair: what an
    anonymizer made of `target`, measured by the scores that need no source. Triplets of one `group` are not
    independent; without one ('') those that share a target image are a group. `problem` says why the row can't be
    measured ('' = nothing known against it); such a row ends as 'unreadable'. `target_face` and so on say which of
    several faces in an image is meant; None leaves it to the evaluation. `person` is who the target shows, for
    re-identification; `given` is what a manifest says in other columns that were asked for, (name, text) each.
    """

    id: str
    target: Path | None
    source: Path | None
    swapped: Path | None
    model: str = ""
    group: str = ""
    target_label: str = ""
    source_label: str = ""
    problem: str = ""
    target_face: NamedFace | None = None
    source_face: NamedFace | None = None
    swapped_face: NamedFace | None = None
    person: str = ""
    given: tuple[tuple[str, str], ...] = ()

    @property
    def roles(self) -> tuple[str, ...]:
        """The images that this row is measured by: all three, or target and swapped where it needs no source."""
        pair = self.source is None and not self.problem
        return tuple(role for role in ROLES if not (pair and role == "source"))


class Triplets(list[Triplet]):
    """Triplets, and what the user should know of how they were found: `notes`, a sentence each."""

    def __init__(self, rows: Iterable[Triplet] = (), notes: Iterable[str] = ()) -> None:
        super().__init__(rows)
        self.notes: list[str] = list(notes)


def notes_of(triplets: object) -> list[str]:
    """The notes of triplets that have some; [] of any others."""
    return list(getattr(triplets, "notes", ()))


def read_triplets(source: str | os.PathLike[str], *, given: Sequence[str] = ()) -> Sequence[Triplet]:
    """Read a folder (see `triplets_from_folder`) or a manifest file (see `triplets_from_manifest`).

    Args:
        source: the folder or file.
        given: other columns of the manifest that are wanted.

    Raises InputError if there is nothing of that name, or it is wrong as a whole.
    """
    path = Path(os.fsdecode(source))
    if path.is_dir():
        return triplets_from_folder(path, given=given)
    if path.is_file():
        return triplets_from_manifest(path, given=given)
    raise InputError(f"no such folder or manifest: {str(path)!r}")


def triplets_from_folder(folder: str | os.PathLike[str], *, given: Sequence[str] = ()) -> Sequence[Triplet]:
    """Triplets of a folder that holds `target/`, `swapped/` and, where there is one, `source/`, sorted by id.

    `target/` may be called `original/`, and `swapped/` `anonymized/`. Without `source/` the rows are pairs, which are
    measured by the scores that need no source.

    Images with the same path below their role folder, less the suffix, are one triplet and that path is its id:
    `swapped/modelA/x.png` belongs to `target/modelA/x.jpg`, or, where target/ has no such folder, is modelA's swap of
    `target/x.jpg`. What is taken for the same though it is written differently, and one source for all, is said in
    the `notes` (see `exprmetric.inputs.role_folders`), and so are files that are no images by their suffix. Hidden
    files and folders are passed over. Every image is in a row; a missing partner is named in `problem`. Bytes of a
    name that are no UTF-8 stand in the id as escapes.

    If the folder holds a manifest named `triplets.csv`, `.jsonl` or `.parquet`, that is read instead: it
    knows models, labels and groups, which file names don't.

    Raises InputError for a missing `target/` or `swapped/`, for an empty role folder, for two images with one stem in
    one role folder, where no swapped image has a target, where frames are counted from different numbers and their
    pictures don't tell which belong together, for more than one manifest, and for links that lead in circles.
    """
    root = Path(os.fsdecode(folder))
    manifests = [root / name for name in _MANIFEST_NAMES if (root / name).is_file()]
    if len(manifests) > 1:
        raise InputError(f"{show(root)} holds {listed(manifests)}; name the one to read")
    if manifests:
        return triplets_from_manifest(manifests[0], given=given)
    if given:
        raise InputError(f"{show(root)} holds no manifest, and so no column {listed(given)}")
    folders, notes = find_roles(root, f"a manifest named {listed(_MANIFEST_NAMES)}")
    images = {role: images_by_stem(folder, notes) for role, folder in folders.items()}
    rows, more = match(images, folders)
    return Triplets((_folder_triplet(row, folders) for row in rows), [*notes, *more])


def triplets_from_manifest(path: str | os.PathLike[str], *, given: Sequence[str] = ()) -> Sequence[Triplet]:
    """Triplets of a `.csv`, `.jsonl` or `.parquet` file, in its order.

    Columns `target swapped` are required, `source id model group person target_label source_label target_face
    source_face swapped_face` optional, others ignored, but for those in `given`. A row without a source is a pair,
    which is measured by the scores that need none. The last three name one of several faces: by its number from the
    left (0 is the leftmost), by a box `x0 y0 x1 y1` in px of the upright image, or by the path of a photograph of the
    person. Relative paths start at the manifest's folder. A row without an id gets the stem of its swapped image, or
    its row number ('row 0003') where another row has that name. An empty cell under `target` or `swapped`, or a file
    that isn't there, is named in `problem`.

    Raises InputError for a missing column, no rows, an id used twice, and what `read_table` refuses.
    """
    manifest = Path(os.fsdecode(path))
    wanted = tuple(dict.fromkeys([*COLUMNS, *given]))
    table = read_table(manifest, wanted)
    if strange := misspelt_sources(table.columns, given):
        table = read_table(manifest, (*wanted, *strange))
    return triplets_from_table(table, given)


def triplets_from_table(table: Table, given: Sequence[str] = ()) -> ManifestTriplets:
    """Triplets of a table that was read with the COLUMNS, those in `given`, and its `misspelt_sources`.

    Raises InputError for a missing column, a row whose source stands under another name, no rows, and an id used twice.
    """
    table.require(*given)
    strange = misspelt_sources(table.columns, given)
    table.require(*(role for role in ROLES if role != SOURCE or strange))
    if not len(table):
        raise InputError(f"{show(table.path)} has no rows")
    sources = table.cells[SOURCE]
    for name in strange:
        cells = table.cells[name]
        for row, code in enumerate(sources.codes):
            if not sources.texts[code].strip() and cells[row].strip():
                has = f"row {row + 1} has nothing under 'source', and something under {brief(repr(name))}"
                raise InputError(f"{show(table.path)}: {has}: which is its source?")
    found = ManifestTriplets(table, given)
    found.notes += _unread(table, given)
    return found


def _unread(table: Table, given: Sequence[str]) -> list[str]:
    """A note for each column that is not read, and whose name is nearly that of an optional one that is not there."""
    absent = [name for name in COLUMNS if name not in table.columns]
    others = (name for name in table.columns if name not in {*COLUMNS, *given})
    near = {name: get_close_matches(name.strip().lower(), absent, 1, 0.85) for name in others}
    return [
        f"{show(table.path)}: the column {brief(repr(name))} is not read; did you mean {match[0]!r}?"
        for name, match in near.items()
        if match
    ]


def misspelt_sources(columns: Iterable[str], given: Sequence[str] = ()) -> list[str]:
    """Columns that are perhaps the source, written otherwise: without them the rows would be measured as pairs."""
    others = {*COLUMNS, *given}
    plain = {name: name.strip().lower() for name in columns if name not in others}
    return [
        n for n, like in plain.items() if not like.startswith("source_") and get_close_matches(SOURCE, [like], 1, 0.8)
    ]


def single_triplet(
    target: str | os.PathLike[str], source: str | os.PathLike[str] | None, swapped: str | os.PathLike[str]
) -> list[Triplet]:
    """The one triplet of image files, without a source where that is None; its id is the stem of the swapped image."""
    three = zip(ROLES, (target, source, swapped), strict=True)
    named = {role: os.fsdecode(path) for role, path in three if path is not None}
    paths = {role: Path(text) if text.strip() else None for role, text in named.items()}
    problem = "; ".join(filter(None, (_problem_of(role, path) for role, path in paths.items())))
    id_ = PurePath(named["swapped"]).stem
    return [Triplet(id_, paths["target"], paths.get(SOURCE), paths["swapped"], problem=problem)]


class ManifestTriplets(Sequence[Triplet]):
    """The triplets of a manifest; some tens of bytes a row, each distinct path and text kept once.

    Raises InputError for an id used twice.
    """

    def __init__(self, table: Table, given: Sequence[str] = ()) -> None:
        self._table = table
        self._given = tuple(given)
        self._numbered = _Names(table)
        reader = PathReader(table.path)
        read = {role: [_read_cell(role, text, reader) for text in table.cells[role].texts] for role in ROLES}
        self._paths = {role: [path for path, _ in cells] for role, cells in read.items()}
        self._problems = {role: [problem for _, problem in cells] for role, cells in read.items()}
        self._faces = {n: [NamedFace.parse(t, table.path.parent) for t in table.cells[n].texts] for n in _FACES}
        self.notes = reader.notes
        sources = table.cells[SOURCE]
        empty = sum(not sources.texts[code].strip() for code in sources.codes)
        if 0 < empty < len(table):
            self.notes = [*reader.notes, f"{empty} of {len(table)} rows name no source: they are measured without one"]

    def __len__(self) -> int:
        return len(self._table)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    @overload
    def __getitem__(self, row: int) -> Triplet: ...

    @overload
    def __getitem__(self, row: slice) -> list[Triplet]: ...

    def __getitem__(self, row: int | slice) -> Triplet | list[Triplet]:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        row %= len(self)
        cells = self._table.cells
        codes = {role: cells[role].codes[row] for role in ROLES}
        target, source, swapped = (self._paths[role][code] for role, code in codes.items())
        faces = {name: self._faces[name][cells[name].codes[row]] for name in _FACES}
        return Triplet(
            self._numbered.id(row),
            target,
            source,
            swapped,
            model=cells["model"][row],
            group=cells["group"][row],
            target_label=cells["target_label"][row],
            source_label=cells["source_label"][row],
            person=cells["person"][row],
            given=tuple((name, cells[name][row]) for name in self._given),
            problem="; ".join(filter(None, (self._problems[role][code] for role, code in codes.items()))),
            **faces,
        )


class _Names:
    """Ids of a manifest's rows: the given one, else the stem of the swapped image where no other row has that name,
    else the row's number."""

    def __init__(self, table: Table) -> None:
        self._ids, self._swapped = table.cells["id"], table.cells["swapped"]
        self._given = [bool(text.strip()) for text in self._ids.texts]
        self._stems = [PurePath(text).stem.strip() for text in self._swapped.texts]
        uses: Counter[str] = Counter()
        given: Counter[str] = Counter()
        for code, count in Counter(self._ids.codes).items():
            if self._given[code]:
                given[self._ids.texts[code]] += count
        for code, count in Counter(
            swapped for id_, swapped in zip(self._ids.codes, self._swapped.codes, strict=True) if not self._given[id_]
        ).items():
            uses[self._stems[code]] += count
        self._alone = [bool(stem) and uses[stem] == 1 and stem not in given for stem in self._stems]
        for id_, count in given.items():
            others = [int(found[1])] if (found := _ROW.fullmatch(id_)) and self._is_numbered(int(found[1])) else []
            if count > 1 or others:
                self._refuse(table, id_, count + len(others))

    def _is_numbered(self, number: int) -> bool:
        row = number - 1
        return 0 <= row < len(self._ids.codes) and self.id(row) == f"row {number:04d}" and not self._has_id(row)

    def _has_id(self, row: int) -> bool:
        return self._given[self._ids.codes[row]]

    def id(self, row: int) -> str:
        if self._has_id(row):
            return self._ids[row]
        swapped = self._swapped.codes[row]
        return self._stems[swapped] if self._alone[swapped] else f"row {row + 1:04d}"

    def _refuse(self, table: Table, id_: str, count: int) -> None:
        rows = (str(row + 1) for row in range(len(table)) if self.id(row) == id_)
        more = f" and {count - _NAMED} more" if count > _NAMED else ""
        raise InputError(
            f"{show(table.path)}: rows {', '.join(islice(rows, _NAMED))}{more} have the same id {brief(repr(id_))}"
        )


def _read_cell(role: str, text: str, reader: PathReader) -> tuple[Path | None, str]:
    """The path that a cell of a manifest names, and what keeps it from being opened."""
    if not text.strip():
        return None, "" if role == SOURCE else _problem_of(role, None)
    path = reader.plain(text)
    problem = _file_problem(role, path)
    if problem and (other := reader.other(text)):
        return other, _file_problem(role, other)
    return path, problem + (reader.hint(path) if problem else "")


def refuse_videos(triplets: Sequence[Triplet]) -> None:
    """Raise InputError if all rows name videos where images are measured."""
    paths = (t.swapped or t.target for t in triplets)
    if triplets and all(path is not None and path.suffix.lower() in VIDEO_SUFFIXES for path in paths):
        raise InputError(f"these are videos, not images: {USE_VIDEO}")


def _problem_of(role: str, path: Path | None) -> str:
    return f"no {role} image is given" if path is None else _file_problem(role, path)


def _folder_triplet(row: Row, folders: Mapping[str, Path]) -> Triplet:
    paths = {role: row.images.get(role) for role in folders}
    name = row.id.removeprefix(f"{row.model}/") if row.model else row.id
    problem = _problem(paths, lambda role: f"no {role} image: {folders[role].name}/ holds none named {name!r}")
    problem = "; ".join(filter(None, (problem, row.hint)))
    return Triplet(row.id, paths["target"], paths.get(SOURCE), paths["swapped"], model=row.model, problem=problem)


def _problem(paths: dict[str, Path | None], absent: Callable[[str], str]) -> str:
    """What keeps the images from being opened, every role named; '' if nothing is seen from here."""
    found = (absent(role) if path is None else _file_problem(role, path) for role, path in paths.items())
    return "; ".join(filter(None, found))


def _file_problem(role: str, path: Path) -> str:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return f"{role} file not found: {show(path)}"
    except OSError as error:
        return f"{role} file can't be opened: {show(path)}: {error.strerror}"
    except ValueError as error:  # a NUL or half a character in the name
        return f"{role} can't be the name of a file: {show(path)}: {error}"
    if not stat.S_ISREG(mode):
        kind = "folder" if stat.S_ISDIR(mode) else "special file"
        return f"{role} is a {kind}, not an image: {show(path)}"
    return ""
