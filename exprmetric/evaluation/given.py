"""What Python hands over as input: tuples, mappings or a data frame, of paths, Pillow images or arrays."""

from __future__ import annotations

import os
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from exprmetric.errors import InputError
from exprmetric.inputs.folder import require_unique
from exprmetric.inputs.triplets import COLUMNS, ROLES, Triplet, Triplets, misspelt_sources, triplets_from_table
from exprmetric.io.images import pillow_pixels, read_image
from exprmetric.io.tables import Column, Table, cell_text, listed

_ROWS = Path("rows given in Python")
"""What messages call the table."""
_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []
"""Pictures that came as pixels lie here until the process ends."""


def as_image(given: Any) -> Any:
    """A path as it is, and a Pillow image as an RGB uint8 (H, W, 3) array; arrays are checked where they are read.

    Raises:
        InputError: it is none of these.
        UnreadableImageError: a Pillow image can't be decoded, or its pixels have no stated range.
    """
    if isinstance(given, str | os.PathLike):
        return given
    if hasattr(given, "convert") and hasattr(given, "getbands"):
        return pillow_pixels(given)
    if hasattr(given, "__array__") or hasattr(given, "__array_interface__"):
        import numpy as np

        return np.asarray(given)
    raise InputError(f"an image is a path, an array (H, W, 3) or a Pillow image, not {type(given).__name__}")


def given_triplets(source: Iterable[Any], out: str | os.PathLike[str] | None, given: Sequence[str] = ()) -> Triplets:
    """Triplets of what `evaluate` is given.

    Mappings and data frames have the columns of a manifest, and are read by its rules (see
    `exprmetric.inputs.triplets.triplets_from_manifest`); relative paths start at the working folder.

    Args:
        source: `Triplet`s; tuples (target, source, swapped) or, without a source, (target, swapped); mappings; or a
            pandas data frame.
        out: folder of the result: pixels are written into its `images/` as PNG; None: into a temporary folder.
        given: other columns that are wanted, of the rows that are no `Triplet`s.

    Raises:
        InputError: a row is none of these, a field of a `Triplet` is of a wrong type, two rows have one id, or a
            manifest with these columns and rows would be refused.
    """
    if hasattr(source, "to_dict") and hasattr(source, "columns"):
        if twice := [name for name, count in Counter(source.columns).items() if count > 1]:
            raise InputError(f"the data frame has the column {listed(twice)} twice")
        source = source.astype(object).where(source.notna(), None).to_dict("records")  # type: ignore[attr-defined]
    if isinstance(source, Mapping):
        raise InputError("the input is one mapping: give a list of them, one for each row")
    try:
        if isinstance(source, bytes | bytearray):
            raise TypeError
        rows = list(source)
    except TypeError as error:
        message = f"the input is a path, or rows of target, source and swapped, not {type(source).__name__}"
        raise InputError(message) from error
    records = {i: _record(i + 1, row) for i, row in enumerate(rows) if not isinstance(row, Triplet)}
    for i, row in enumerate(rows):
        if i not in records:
            _check(i + 1, row)
    made = Triplets(rows)
    if records:
        read = triplets_from_table(_table(records, out, given), given)
        made.notes += read.notes
        for at, i in enumerate(records):
            made[i] = read[at]
    require_unique(made)
    return made


def _check(number: int, row: Triplet) -> None:
    """Raise InputError for a field that holds what no manifest could say, as the NaN of a data frame's empty cell."""
    for field in fields(row):
        cell = getattr(row, field.name)
        if field.type == "str" and not isinstance(cell, str):
            raise InputError(f"row {number}: {field.name} is text, not {cell!r}")
        if field.name in ROLES and cell is not None and not isinstance(cell, str | os.PathLike):
            raise InputError(f"row {number}: {field.name} is a path or None, not {cell!r}")


def _record(number: int, row: Any) -> Mapping[str, Any]:
    if isinstance(row, Mapping):
        return {str(key): value for key, value in row.items()}
    if isinstance(row, tuple | list) and len(row) in (2, 3):
        return dict(zip(ROLES if len(row) == 3 else ("target", "swapped"), row, strict=True))
    expected = "expected (target, source, swapped), (target, swapped) or a mapping"
    of = f" of {len(row)}" if isinstance(row, tuple | list) else ""
    raise InputError(f"row {number}: {expected}, not {type(row).__name__}{of}")


def _table(records: Mapping[int, Mapping[str, Any]], out: str | os.PathLike[str] | None, given: Sequence[str]) -> Table:
    """The rows as the table that a manifest of them would be."""
    columns = tuple(dict.fromkeys(key for record in records.values() for key in record))
    wanted = dict.fromkeys([*COLUMNS, *given, *misspelt_sources(columns, given)])
    texts: dict[str, list[str]] = {name: [] for name in wanted}
    for i, record in records.items():
        for name, cells in texts.items():
            cells.append(_text(i, name, record.get(name), out))
        if not texts["id"][-1] and not isinstance(record.get("swapped"), str | os.PathLike):
            texts["id"][-1] = f"row {i + 1:04d}"  # and not the name of the file that pixels are written to
    return Table(_ROWS, columns, {name: _column(cells) for name, cells in texts.items()}, len(records))


def _column(cells: Sequence[str]) -> Column:
    codes: dict[str, int] = {}
    numbers = array("i", [codes.setdefault(cell, len(codes)) for cell in cells])
    return Column(list(codes), numbers)


def _text(row: int, name: str, cell: Any, out: str | os.PathLike[str] | None) -> str:
    """A cell as a manifest would have it: pixels become a file, a box of a face its four numbers."""
    if cell is None or (isinstance(cell, float) and cell != cell):  # an empty cell of a data frame
        return ""
    if name in COLUMNS and isinstance(cell, os.PathLike):
        return os.fsdecode(cell)
    if name in ROLES:
        return cell if isinstance(cell, str) else _file(as_image(cell), f"{row:06d}_{name}", out)
    if getattr(cell, "ndim", None) == 0:  # a number of NumPy's
        cell = cell.item()
    if name.endswith("_face") and name in COLUMNS and not isinstance(cell, str | int):
        if isinstance(cell, tuple | list) or getattr(cell, "ndim", None) == 1:
            return " ".join(str(float(value)) for value in cell)
        return _file(as_image(cell), f"{row:06d}_{name}", out)
    return cell_text(_ROWS, row + 1, name, cell)


def _file(image: Any, name: str, out: str | os.PathLike[str] | None) -> str:
    """The path of a PNG file with these pixels."""
    from PIL import Image

    if out is None and not _FOLDERS:
        _FOLDERS.append(tempfile.TemporaryDirectory(prefix="exprmetric-images-"))
    folder = Path(out) / "images" if out is not None else Path(_FOLDERS[0].name)
    pixels = read_image(image)
    path = folder / f"{name}.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    except OSError as error:
        raise InputError(f"can't write {path}: {error}") from error
    return str(path)
