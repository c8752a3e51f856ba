"""Tables that people write: `.csv`, `.jsonl` and `.parquet` with named columns, read into rows of text."""

from __future__ import annotations

import codecs
import csv
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import IO

from exprmetric.errors import InputError

MAX_CELL = 131_072
"""Characters a cell may have, in any format: the limit of Python's csv module."""
_CHUNK = 1 << 20
_SHOWN = 1000  # characters of a name or cell that a message quotes


@dataclass(frozen=True, eq=False)
class Column:
    """Cells of text, each distinct text kept once: `texts[codes[row]]` is a row's."""

    texts: list[str]
    codes: array[int]

    def __getitem__(self, row: int) -> str:
        return self.texts[self.codes[row]]


@dataclass(frozen=True)
class Table:
    """A table of text: `columns` are all that the file has, `cells` the wanted ones; '' where there is nothing."""

    path: Path
    columns: tuple[str, ...]
    cells: dict[str, Column]
    count: int

    def __len__(self) -> int:
        return self.count

    @property
    def rows(self) -> Iterator[dict[str, str]]:
        """Row after row, the wanted columns by name."""
        for row in range(self.count):
            yield {name: column[row] for name, column in self.cells.items()}

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
        unpack = ". Unpack the archive and give its folder" if path.suffix.lower() in ARCHIVES else ""
        raise InputError(f"{show(path)}: expected a file that ends in {', '.join(READERS)}{unpack}")
    known: dict[str, dict[object, int]] = {name: {} for name in wanted}
    cells = {name: Column([], array("i")) for name in wanted}
    columns: list[str] = []
    count = 0
    try:
        for where, row in reader(path, wanted, columns):
            count += 1
            for name, column in cells.items():
                cell = row.get(name)
                code = known[name].get(cell) if type(cell) is str else None
                if code is None:
                    text = cell_text(path, where, name, cell)
                    code = known[name].setdefault(text, len(column.texts))
                    if code == len(column.texts):
                        column.texts.append(text)
                column.codes.append(code)
    except OSError as error:
        raise InputError(f"{show(path)} can't be read: {error.strerror or error}") from error
    if twice := [name for name, times in Counter(columns).items() if times > 1]:
        raise InputError(f"{show(path)}: the column {listed(twice)} occurs twice")
    return Table(path, tuple(columns), cells, count)


_Rows = Iterator[tuple[int, Mapping[str, object]]]
"""The line (or row) where it stands, and its cells. The names of all columns are added to a list on the way."""


def _read_csv(path: Path, wanted: tuple[str, ...], columns: list[str]) -> _Rows:
    with open_text(path) as file:
        reader = csv.reader(file, strict=True)
        try:
            columns += next(reader, [])
            for cells in reader:
                if len(cells) > len(columns):
                    raise InputError(
                        f"{show(path)}, line {reader.line_num}: {len(cells)} cells under {len(columns)} columns; "
                        "put cells that hold commas in double quotes"
                    )
                if cells:  # not an empty line
                    yield reader.line_num, dict(zip(columns, cells, strict=False))
        except csv.Error as error:
            raise InputError(f"{show(path)}, line {reader.line_num}: {_one_line(error)}") from error


def _read_jsonl(path: Path, wanted: tuple[str, ...], columns: list[str]) -> _Rows:
    found: dict[str, None] = {}
    with open_text(path, newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line, object_pairs_hook=_no_key_twice)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{show(path)}, line {number} is not JSON: {_one_line(error)}") from error
            if not isinstance(row, dict):
                raise InputError(f"{show(path)}, line {number}: expected an object, not {type(row).__name__}")
            found.update(dict.fromkeys(row))
            yield number, row
    columns += found


def _no_key_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a key occurs twice")
    return row


def _read_parquet(path: Path, wanted: tuple[str, ...], columns: list[str]) -> _Rows:
    import pyarrow
    import pyarrow.parquet

    try:
        with path.open("rb") as file:
            parquet = pyarrow.parquet.ParquetFile(file)
            columns += parquet.schema_arrow.names
            known = [name for name in wanted if columns.count(name) == 1]  # read_table refuses the others
            number = 0
            for batch in parquet.iter_batches(columns=known):
                if not known:
                    batch = batch.select([])
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pyarrow.ArrowException, OSError, ValueError, ArithmeticError) as error:  # of dates beyond Python's
        raise InputError(f"{show(path)} is not a Parquet file that can be read: {_one_line(error)}") from error


ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")
READERS: dict[str, Callable[[Path, tuple[str, ...], list[str]], _Rows]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}


def open_text(path: Path, newline: str = "") -> IO[str]:
    """A text file that is UTF-8 from end to end; InputError, with the place, for what is not, and for NUL characters.

    It is read through once before, so that nothing is done with the beginning of a file that is none.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    lines = 1
    with path.open("rb") as file:
        while True:
            at = file.tell()
            chunk = file.read(_CHUNK)
            pending = len(decoder.getstate()[0])
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                place = at - pending + error.start
                raise InputError(f"{show(path)} is not UTF-8: {error.reason} at byte {place}") from error
            if "\0" in text:
                lines += text.count("\n", 0, text.index("\0"))
                raise InputError(f"{show(path)}, line {lines}: a NUL character; this is no text file")
            if not chunk:
                return path.open(encoding="utf-8-sig", newline=newline)
            lines += text.count("\n")


def cell_text(path: Path, line: int, column: str, cell: object) -> str:
    """A cell as text, '' for none. InputError, which names table, line (of text files) or row, and column, if it is
    neither text nor a whole number, too long, or holds a NUL or half a character."""
    where = f"{'line' if path.suffix.lower() in ('.csv', '.jsonl') else 'row'} {line}"
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


def printable(text: str) -> str:
    """Text from the input with its control characters shown as escapes: a terminal obeys them, and would turn text
    around for those that say in which direction it runs."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_lines(text: str) -> str:
    """`printable`, line by line."""
    return "\n".join(map(printable, text.replace("\r\n", "\n").split("\n")))


def markdown_text(text: str) -> str:
    """Text from the input, harmless on a terminal, in Markdown and in the HTML that it becomes; in one line."""
    text = printable(" ".join(text.split()))
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for character in "\\`*_|[]":
        text = text.replace(character, "\\" + character)
    return text


def brief(text: str) -> str:
    """The text, or beginning and end of a long one."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}…{text[-_SHOWN // 2 :]}"


def _one_line(error: Exception) -> str:
    """What a library says, which may hold pieces of the file."""
    text = " ".join(str(error).split())
    return brief(printable(text))


def counted(count: int, what: str) -> str:
    """`1 video`, `2 videos`."""
    return f"{count} {what}{'s' * (count != 1)}"


def listed(items: Iterable[object], most: int = 8) -> str:
    names = [brief(repr(str(item))) for item in items]
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
