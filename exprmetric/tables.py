"""Tables that people write: `.csv`, `.jsonl` and `.parquet` with named columns, read into rows of text."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from .errors import InputError

MAX_CELL = 131_072
"""Characters a cell may have, in any format: the limit of Python's csv module."""
_SHOWN = 1000  # characters of a name or cell that a message quotes


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
            f"{show(self.path)} has no column {listed(missing)}. "
            f"Columns found: {listed(self.columns) or 'none'}" + (f" ({'; '.join(hints)})" if hints else "")
        )


def read_table(path: Path, wanted: tuple[str, ...]) -> Table:
    """Read the wanted columns of a `.csv`, `.jsonl` or `.parquet` file, those that it has, as text.

    Whole numbers become text and null an empty cell. CSV is UTF-8 (a byte order mark is allowed) with commas
    and a header. Raises InputError, with the line, for malformed lines, rows longer than the header, a column
    named twice, cells that are no text or have more than MAX_CELL characters, NUL characters and invalid UTF-8.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{show(path)}: expected a file that ends in {', '.join(READERS)}")
    try:
        columns, rows = reader(path, wanted)
    except OSError as error:
        raise InputError(f"{show(path)} can't be read: {error.strerror or error}") from error
    if twice := [name for name, count in Counter(columns).items() if count > 1]:
        raise InputError(f"{show(path)}: the column {listed(twice)} occurs twice")
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
                    f"{show(path)}, {where}: {len(cells)} cells under {len(columns)} columns; "
                    "put cells that hold commas in double quotes"
                )
            if cells:  # not an empty line
                rows.append((where, dict(zip(columns, cells, strict=False))))
    except csv.Error as error:
        raise InputError(f"{show(path)}, line {reader.line_num}: {_one_line(error)}") from error
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
            raise InputError(f"{show(path)}, line {number} is not JSON: {_one_line(error)}") from error
        if not isinstance(row, dict):
            raise InputError(f"{show(path)}, line {number}: expected an object, not {type(row).__name__}")
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
    except (pyarrow.ArrowException, OSError, ValueError, ArithmeticError) as error:  # of dates beyond Python's
        raise InputError(f"{show(path)} is not a Parquet file that can be read: {_one_line(error)}") from error
    return columns, [(f"row {number}", row) for number, row in enumerate(cells, start=1)]


READERS: dict[str, Callable[[Path, tuple[str, ...]], _Rows]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}


def _read_utf8(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{show(path)} is not UTF-8: {error.reason} at byte {error.start}") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{show(path)}, line {line}: a NUL character; this is no text file")
    return text


def _text(path: Path, where: str, column: str, cell: object) -> str:
    if isinstance(cell, float) and (cell != cell or cell.is_integer()):  # what pandas makes of whole numbers
        cell = None if cell != cell else int(cell)
    if cell is None:
        return ""
    if isinstance(cell, bool) or not isinstance(cell, str | int):
        raise InputError(f"{show(path)}, {where}: {column!r} must be text, not {brief(repr(cell))}")
    text = str(cell)
    if len(text) > MAX_CELL:
        size = f"{len(text):,} characters, more than {MAX_CELL:,}"
        raise InputError(f"{show(path)}, {where}: {column!r} has {size}: {brief(repr(text))}")
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InputError(f"{show(path)}, {where}: {column!r} holds a NUL or half a character: {brief(repr(text))}")
    return text


def show(path: Path) -> str:
    """A path as messages quote it: names may hold line breaks and escape codes, and cells far more than a name."""
    return brief(repr(str(path)))


def brief(text: str) -> str:
    """The text, or beginning and end of a long one."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}…{text[-_SHOWN // 2 :]}"


def _one_line(error: Exception) -> str:
    """What a library says, which may hold pieces of the file."""
    text = " ".join(str(error).split())
    return brief("".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text))


def listed(items: Iterable[object], most: int = 8) -> str:
    names = [brief(repr(str(item))) for item in items]
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
