"""The Facial Expression Comparison data set (FEC), as Google publishes it (Vemulapalli and Agarwala, CVPR 2019).

`faceexp-comparison-data-train-public.csv` and `…-test-public.csv` have no header. A row is one triplet of faces: three
times (URL of the photograph, left, right, top, bottom of the face's box as shares of width and height), the triplet's
type, then pairs (rater's id, answer) of about six raters; the answer 1, 2 or 3 is the face that differs most.

The photographs are not published, only their addresses: see `exprmetric.datasets.fec_download`.
"""

from __future__ import annotations

import csv
import hashlib
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from exprmetric.errors import InputError
from exprmetric.io.tables import brief, open_text, show

TRIPLET_TYPES = ("ONE_CLASS_TRIPLET", "TWO_CLASS_TRIPLET", "THREE_CLASS_TRIPLET")
"""In the order of `exprmetric.metrics.odd_one_out.TYPES`."""
AGREEMENT = 0.6
"""Share of raters who must agree on a triplet that is used (paper 004)."""
FACE_CELLS = 5


class FecFormatError(InputError):
    """A line of a FEC file is not as published.

    Attributes:
        line: its number, from 1.
    """

    def __init__(self, path: Path, line: int, why: str) -> None:
        super().__init__(f"{show(path)}, line {line}: {why}")
        self.line = line


@dataclass(frozen=True)
class FecFace:
    """A face: the photograph's address, and its box as shares of width and height (0..1; it may stick out a little)."""

    url: str
    left: float
    right: float
    top: float
    bottom: float


@dataclass(frozen=True)
class FecTriplet:
    """Three faces, and what raters said.

    Attributes:
        kind: index into TRIPLET_TYPES.
        answers: of each rater, the face (0, 1 or 2) that differs most.
    """

    faces: tuple[FecFace, FecFace, FecFace]
    kind: int
    raters: tuple[str, ...]
    answers: tuple[int, ...]

    @property
    def odd(self) -> int | None:
        """The face that most raters chose; None where two have as many votes."""
        counts = [self.answers.count(i) for i in range(3)]
        return counts.index(max(counts)) if counts.count(max(counts)) == 1 else None

    @property
    def agreement(self) -> float:
        """Share of the raters who chose the face that most chose."""
        return max(self.answers.count(i) for i in range(3)) / len(self.answers)

    def is_clear(self, least: float = AGREEMENT) -> bool:
        """Whether one face has more votes than the others, and at least this share of them."""
        return self.odd is not None and self.agreement >= least

    def odd_last(self) -> tuple[FecFace, FecFace, FecFace]:
        """Anchor, positive, negative. Raises ValueError where raters are divided."""
        if self.odd is None:
            raise ValueError(f"raters are divided: {self.answers}")
        a, p = (face for i, face in enumerate(self.faces) if i != self.odd)
        return a, p, self.faces[self.odd]


def read_fec(path: Path) -> list[FecTriplet]:
    """All triplets of a published file, in its order; empty lines are passed over.

    Raises:
        FecFormatError: a line has not enough cells, a box or an answer that can't be, or an unknown type.
        InputError: the file can't be read, or is no UTF-8 text.
    """
    faces: dict[FecFace, FecFace] = {}  # each face stands in about nine triplets
    try:
        with open_text(path) as file:
            return list(_triplets(path, file, faces))
    except OSError as error:
        raise InputError(f"{show(path)} can't be read: {error.strerror or error}") from error


def _triplets(path: Path, file: Iterable[str], faces: dict[FecFace, FecFace]) -> Iterator[FecTriplet]:
    reader = csv.reader(file, strict=True)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise FecFormatError(path, reader.line_num, str(error)) from error
        if row is None:
            return
        if row:
            try:
                yield _triplet(row, faces)
            except ValueError as error:
                raise FecFormatError(path, reader.line_num, str(error)) from error


def _triplet(row: Sequence[str], faces: dict[FecFace, FecFace]) -> FecTriplet:
    """A row of cells; ValueError says what is wrong with it."""
    start = 3 * FACE_CELLS
    votes = row[start + 1 :]
    if not votes or len(votes) % 2:
        raise ValueError(
            f"{len(row)} cells; expected three faces of {FACE_CELLS} cells, a type, and two cells for each rater"
        )
    if row[start] not in TRIPLET_TYPES:
        raise ValueError(f"the type {brief(row[start])} is none of {', '.join(TRIPLET_TYPES)}")
    read = [_face(row[i : i + FACE_CELLS], i // FACE_CELLS + 1) for i in range(0, start, FACE_CELLS)]
    for answer in votes[1::2]:
        if answer not in ("1", "2", "3"):
            raise ValueError(f"the answer {brief(answer)} is none of 1, 2, 3")
    first, second, third = (faces.setdefault(face, face) for face in read)
    return FecTriplet(
        (first, second, third),
        TRIPLET_TYPES.index(row[start]),
        tuple(map(sys.intern, votes[::2])),
        tuple(int(answer) - 1 for answer in votes[1::2]),
    )


def _face(cells: Sequence[str], number: int) -> FecFace:
    url = cells[0]
    if not url.strip():
        raise ValueError(f"face {number} has no URL")
    try:
        left, right, top, bottom = map(float, cells[1:])
    except ValueError:
        raise ValueError(f"face {number}: the box {brief(', '.join(cells[1:]))} is not four numbers") from None
    inside = all(math.isfinite(v) and -1 <= v <= 2 for v in (left, right, top, bottom))
    if not (inside and max(left, 0) < min(right, 1) and max(top, 0) < min(bottom, 1)):
        raise ValueError(
            f"face {number}: left {left}, right {right}, top {top}, bottom {bottom} is no box of a picture "
            "that goes from 0 to 1"
        )
    return FecFace(url, left, right, top, bottom)


def urls_of(triplets: Iterable[FecTriplet]) -> list[str]:
    """The distinct addresses, in the order in which they occur."""
    return list(dict.fromkeys(face.url for triplet in triplets for face in triplet.faces))


def image_name(url: str) -> str:
    """Name of a photograph's file: 64 hex digits and `.jpg`; what format it has, its content says."""
    return f"{hashlib.sha256(url.encode('utf-8', 'surrogateescape')).hexdigest()}.jpg"
