"""AffectNet's tables `training.csv` and `validation.csv`, with a header or without: both have been published."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from exprmetric.errors import InputError
from exprmetric.io.tables import open_text, show

COLUMNS = (
    "subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks",
    "expression", "valence", "arousal",
)  # fmt: skip
"""The columns of a table without a header."""
IMAGE = COLUMNS[0]
CODES = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
"""Names of the expressions 0..7."""
NO_EXPRESSION = range(8, 11)
"""Codes of none, uncertain and no face."""
FOLDERS = ("Manually_Annotated", "Automatically_Annotated", "images")
"""Beginnings of the names of the folders at which image names start."""


def headless(first: Sequence[str]) -> bool:
    """Whether a table's first line is a face of AffectNet instead of a header."""
    return len(first) == len(COLUMNS) and PurePosixPath(first[0]).suffix != "" and first[6].strip().isdigit()


def expression(cell: str) -> str | None:
    """The name of a code; None for those that are no expression. ValueError for what is no code."""
    code = int(cell)
    if code in NO_EXPRESSION:
        return None
    if not 0 <= code < len(CODES):
        raise ValueError(f"{cell!r} is no expression 0 to {NO_EXPRESSION[-1]}")
    return CODES[code]


def read(path: Path) -> list[tuple[str, str]] | None:
    """Image and expression of each face that has one; None where a CSV file is no table of AffectNet.

    Raises:
        InputError: the file can't be read, or a line of it has no expression.
    """
    try:
        with open_text(path) as file:
            lines = csv.reader(file)
            try:
                first = next(lines, [])
            except csv.Error:
                return None
            if IMAGE not in first and not headless(first):
                return None
            columns = first if IMAGE in first else list(COLUMNS)
            faces = [] if IMAGE in first else [_face(path, 1, columns, first)]
            faces += [_face(path, lines.line_num, columns, cells) for cells in lines if cells]
    except (OSError, csv.Error) as error:
        raise InputError(f"{show(path)} can't be read: {error}") from error
    return [(image, name) for image, name in faces if name is not None]


def _face(path: Path, line: int, columns: Sequence[str], cells: Sequence[str]) -> tuple[str, str | None]:
    row = dict(zip(columns, cells, strict=False))
    try:
        return row[IMAGE], expression(row["expression"])
    except (KeyError, ValueError) as error:
        raise InputError(f"{show(path)}, line {line}: no image and expression of AffectNet: {error}") from error


def folder_of(table: Path, image: str) -> Path:
    """The folder at which the table's image names start: the one that holds this image, else the table's own."""
    around = [folder.glob(depth) for depth in ("*", "*/*") for folder in (table.parent, table.parent.parent)]
    own = [path for paths in around for path in sorted(paths) if path.name.startswith(FOLDERS)]
    return next((folder for folder in (table.parent, *own) if (folder / image).is_file()), table.parent)
