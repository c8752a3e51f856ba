"""Triplets (target, source, swapped): which images are measured together.

A folder or a manifest becomes a list of `Triplet`, one for every row of the input. A row that can't be
measured stays in the list with its `problem`; only an input that is wrong as a whole raises InputError.
"""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePath

from .errors import InputError
from .images import IMAGE_SUFFIXES

ROLES = ("target", "source", "swapped")
_OPTIONAL = ("id", "model", "group", "target_label", "source_label")


@dataclass(frozen=True)
class Triplet:
    """One face swap: the identity of `source` was put onto `target`, which gave `swapped`.

    A path is None where the input names no image. Triplets of one `group` are not independent; without one
    ('') those that share a target image are a group. `problem` says why the row can't be measured ('' = nothing
    known against it); such a row ends as 'unreadable'.
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

    @property
    def same_label(self) -> bool | None:
        """Whether target and source show the same expression class; None where a label is not known."""
        if not (self.target_label and self.source_label):
            return None
        return self.target_label == self.source_label


def read_triplets(source: str | os.PathLike[str]) -> list[Triplet]:
    """Read a folder (see `triplets_from_folder`) or a manifest file (see `triplets_from_manifest`).

    Raises InputError if there is nothing of that name, or it is wrong as a whole.
    """
    path = Path(os.fsdecode(source))
    if path.is_dir():
        return triplets_from_folder(path)
    if path.is_file():
        return triplets_from_manifest(path)
    raise InputError(f"no such folder or manifest: {str(path)!r}")


def triplets_from_folder(folder: str | os.PathLike[str]) -> list[Triplet]:
    """Triplets of a folder that holds `target/`, `source/` and `swapped/`, sorted by id.

    Images with the same path below their role folder, less the suffix, are one triplet and that path is its
    id: `swapped/modelA/x.png` belongs to `target/modelA/x.jpg`. Every stem found in any role folder gives a
    row; a missing partner is named in `problem`. Files that are no images by their suffix cause a UserWarning
    that names them; hidden files and folders are passed over.

    If the folder holds a manifest named `triplets.csv`, `.jsonl` or `.parquet`, that is read instead: it
    knows models, labels and groups, which file names don't.

    Raises InputError for a missing or empty role folder, for two images with one stem in one role folder, for
    more than one manifest, and for names that are not UTF-8.
    """
    root = Path(os.fsdecode(folder))
    manifests = [root / name for name in _MANIFEST_NAMES if (root / name).is_file()]
    if len(manifests) > 1:
        raise InputError(f"{_show(root)} holds {_list(manifests)}; name the one to read")
    if manifests:
        return triplets_from_manifest(manifests[0])
    missing = [role for role in ROLES if not (root / role).is_dir()]
    if missing:
        found = sorted(child.name for child in root.iterdir()) if root.is_dir() else []
        raise InputError(
            f"{_show(root)} has no folder {_list(missing)}; expected target/, source/ and swapped/, or a "
            f"manifest named {_list(_MANIFEST_NAMES)}. Found: {_list(found) if found else 'nothing'}"
        )
    images = {role: _images_by_stem(root / role) for role in ROLES}
    stems = sorted(set().union(*images.values()))
    return [_folder_triplet(root, stem, {role: images[role].get(stem) for role in ROLES}) for stem in stems]


def triplets_from_manifest(path: str | os.PathLike[str]) -> list[Triplet]:
    """Triplets of a `.csv`, `.jsonl` or `.parquet` file, in its order.

    Columns `target source swapped` are required, `id model group target_label source_label` optional, others
    ignored. Relative paths start at the manifest's folder. A row without an id gets the stem of its swapped
    image, or its row number ('row 0003') where another row has that name. An empty
    cell or a file that isn't there is named in `problem`.

    Raises InputError for a missing column, no rows, an id used twice, and what `read_table` refuses.
    """
    manifest = Path(os.fsdecode(path))
    table = read_table(manifest, ROLES + _OPTIONAL)
    table.require(*ROLES)
    if not table.rows:
        raise InputError(f"{_show(manifest)} has no rows")
    ids = _ids(table)
    return [_manifest_triplet(manifest.parent, row, id_) for row, id_ in zip(table.rows, ids, strict=True)]


def single_triplet(
    target: str | os.PathLike[str], source: str | os.PathLike[str], swapped: str | os.PathLike[str]
) -> list[Triplet]:
    """The one triplet of three image files; its id is the stem of the swapped image."""
    row = dict(zip(ROLES, map(os.fsdecode, (target, source, swapped)), strict=True))
    return [_manifest_triplet(Path(), row, PurePath(row["swapped"]).stem)]


def _manifest_triplet(base: Path, row: dict[str, str], id_: str) -> Triplet:
    paths = {role: base / row[role] if _given(row, role) else None for role in ROLES}
    return Triplet(
        id_,
        paths["target"],
        paths["source"],
        paths["swapped"],
        model=row.get("model", ""),
        group=row.get("group", ""),
        target_label=row.get("target_label", ""),
        source_label=row.get("source_label", ""),
        problem=_problem(paths, lambda role: f"no {role} image is given"),
    )


def _folder_triplet(root: Path, stem: str, paths: dict[str, Path | None]) -> Triplet:
    target = paths["target"]
    return Triplet(
        stem,
        target,
        paths["source"],
        paths["swapped"],
        problem=_problem(paths, lambda role: f"no {role} image: {role}/ holds none named {stem!r}"),
    )


def _problem(paths: dict[str, Path | None], absent: Callable[[str], str]) -> str:
    """What keeps the images from being opened, every role named; '' if nothing is seen from here."""
    found = (absent(role) if path is None else _file_problem(role, path) for role, path in paths.items())
    return "; ".join(filter(None, found))


def _file_problem(role: str, path: Path) -> str:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return f"{role} file not found: {_show(path)}"
    except OSError as error:
        return f"{role} file can't be opened: {_show(path)}: {error.strerror}"
    if not stat.S_ISREG(mode):
        kind = "folder" if stat.S_ISDIR(mode) else "special file"
        return f"{role} is a {kind}, not an image: {_show(path)}"
    return ""


def _images_by_stem(folder: Path) -> dict[str, Path]:
    """Images below a role folder by their relative path without suffix."""
    images: dict[str, Path] = {}
    others: list[Path] = []
    for path in sorted(_files(folder)):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        try:
            stem.encode()
        except UnicodeEncodeError:
            raise InputError(f"a file name is not UTF-8: {_show(path)}; rename it") from None
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            others.append(path)
        elif stem in images:
            raise InputError(f"two images with the stem {stem!r}: {_show(images[stem])} and {_show(path)}")
        else:
            images[stem] = path
    if others:
        warnings.warn(f"no images by their suffix, left out: {_list(others)}", UserWarning, stacklevel=4)
    if not images:
        raise InputError(f"{_show(folder)} holds no images. Found: {_list(others) if others else 'nothing'}")
    return images


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder that are not hidden. Links are followed, except those that lead back up."""

    def refuse(error: OSError) -> None:
        raise InputError(f"{str(error.filename)!r} can't be listed: {error.strerror}") from error

    for root, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        here = Path(root)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for link in (here / name for name in folders if (here / name).is_symlink()):
            if here.resolve().is_relative_to(link.resolve()):
                raise InputError(f"{_show(link)} links to a folder that holds it; remove the link")
        yield from (here / name for name in names if not name.startswith("."))


def _ids(table: Table) -> list[str]:
    names = [row["id"] if _given(row, "id") else PurePath(row["swapped"]).stem.strip() for row in table.rows]
    uses = Counter(names)
    ids = [
        name if _given(row, "id") or (name and uses[name] == 1) else f"row {number:04d}"
        for number, (row, name) in enumerate(zip(table.rows, names, strict=True), start=1)
    ]
    for id_, count in Counter(ids).items():
        if count > 1:
            rows = [str(number) for number, other in enumerate(ids, start=1) if other == id_]
            raise InputError(f"{_show(table.path)}: rows {', '.join(rows)} have the same id {id_!r}")
    return ids


def _given(row: dict[str, str], column: str) -> bool:
    return bool(row.get(column, "").strip())


@dataclass(frozen=True)
class Table:
    """A table of text: `columns` are all that the file has, a row maps each wanted one to its cell or ''."""

    path: Path
    columns: tuple[str, ...]
    rows: list[dict[str, str]]

    def require(self, *columns: str) -> None:
        """Raise InputError, with the columns found and the nearest guess, unless all these columns exist."""
        missing = [name for name in columns if name not in self.columns]
        if not missing:
            return
        plain = {column.strip().lower(): column for column in self.columns}
        hints = [
            f"{name!r} is perhaps {plain[match[0]]!r}"
            for name in missing
            if (match := get_close_matches(name, plain, n=1, cutoff=0.5))
        ]
        if len(self.columns) == 1 and any(mark in self.columns[0] for mark in ";\t|"):
            hints = ["cells must be separated by commas"]
        raise InputError(
            f"{_show(self.path)} has no column {_list(missing)}. "
            f"Columns found: {_list(self.columns) or 'none'}" + (f" ({'; '.join(hints)})" if hints else "")
        )


def read_table(path: Path, wanted: tuple[str, ...]) -> Table:
    """Read the wanted columns of a `.csv`, `.jsonl` or `.parquet` file, those that it has, as text.

    Whole numbers become text and null an empty cell. CSV is UTF-8 (a byte order mark is allowed) with commas
    and a header. Raises InputError, with the line, for malformed lines, rows longer than the header, a column
    named twice, cells that are no text, NUL characters and invalid UTF-8.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{_show(path)}: expected a file that ends in {', '.join(_READERS)}")
    try:
        columns, rows = reader(path, wanted)
    except OSError as error:
        raise InputError(f"{_show(path)} can't be read: {error.strerror or error}") from error
    if twice := [name for name, count in Counter(columns).items() if count > 1]:
        raise InputError(f"{_show(path)}: the column {_list(twice)} occurs twice")
    return Table(
        path,
        tuple(columns),
        [{name: _text(path, where, name, row.get(name)) for name in wanted} for where, row in rows],
    )


_Rows = tuple[list[str], list[tuple[str, dict[str, object]]]]  # column names; (where it stands, cells) a row


def _read_csv(path: Path, wanted: tuple[str, ...]) -> _Rows:
    reader = csv.reader(io.StringIO(_read_utf8(path), newline=""), strict=True)
    rows: list[tuple[str, dict[str, object]]] = []
    try:
        columns = next(reader, [])
        for cells in reader:
            where = f"line {reader.line_num}"
            if len(cells) > len(columns):
                raise InputError(
                    f"{_show(path)}, {where}: {len(cells)} cells under {len(columns)} columns; "
                    "put cells that hold commas in double quotes"
                )
            if cells:  # not an empty line
                rows.append((where, dict(zip(columns, cells, strict=False))))
    except csv.Error as error:
        raise InputError(f"{_show(path)}, line {reader.line_num}: {error}") from error
    return columns, rows


def _read_jsonl(path: Path, wanted: tuple[str, ...]) -> _Rows:
    columns: dict[str, None] = {}
    rows: list[tuple[str, dict[str, object]]] = []
    for number, line in enumerate(_read_utf8(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_no_key_twice)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{_show(path)}, line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise InputError(f"{_show(path)}, line {number}: expected an object, not {type(row).__name__}")
        columns.update(dict.fromkeys(row))
        rows.append((f"line {number}", row))
    return list(columns), rows


def _no_key_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a key occurs twice")
    return row


def _read_parquet(path: Path, wanted: tuple[str, ...]) -> _Rows:
    import pyarrow
    import pyarrow.parquet

    try:
        with path.open("rb") as file:
            parquet = pyarrow.parquet.ParquetFile(file)
            columns = parquet.schema_arrow.names
            known = [name for name in wanted if columns.count(name) == 1]  # read_table refuses the others
            cells = parquet.read(known).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{_show(path)} is not a Parquet file that can be read: {error}") from error
    return columns, [(f"row {number}", row) for number, row in enumerate(cells, start=1)]


_READERS: dict[str, Callable[[Path, tuple[str, ...]], _Rows]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
_MANIFEST_NAMES = tuple(f"triplets{suffix}" for suffix in _READERS)


def _read_utf8(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{_show(path)} is not UTF-8: {error.reason} at byte {error.start}") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{_show(path)}, line {line}: a NUL character; this is no text file")
    return text


def _text(path: Path, where: str, column: str, cell: object) -> str:
    if isinstance(cell, float) and (cell != cell or cell.is_integer()):  # what pandas makes of whole numbers
        cell = None if cell != cell else int(cell)
    if cell is None:
        return ""
    if isinstance(cell, bool) or not isinstance(cell, str | int):
        raise InputError(f"{_show(path)}, {where}: {column!r} must be text, not {cell!r}")
    text = str(cell)
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InputError(f"{_show(path)}, {where}: {column!r} holds a NUL or half a character: {text!r}")
    return text


def _show(path: Path) -> str:
    return repr(str(path))  # file names may hold line breaks and escape codes


def _list(items: Iterable[object], most: int = 8) -> str:
    names = [repr(str(item)) for item in items]
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
