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

import numpy as np
import numpy.typing as npt

from exprmetric.errors import InputError
from exprmetric.io.folders import Files
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


def boxed(face: FecFace) -> str:
    """Name of a face among `BoxedPhotographs`: two faces of a photograph are two images."""
    return f"{image_name(face.url)}?{face.left!r},{face.right!r},{face.top!r},{face.bottom!r}"


class BoxedPhotographs(Files):
    """Photographs of a folder or zip; the image `NAME?left,right,top,bottom` is twice that box, with black outside the
    picture.

    So a face is in the middle of its image, where the one that is aligned is looked for.
    """

    def __reduce__(self) -> tuple[type[Files], tuple[Path]]:
        return BoxedPhotographs, (self.path,)

    def image(self, name: str) -> npt.NDArray[np.uint8]:
        photograph, _, box = name.partition("?")
        left, right, top, bottom = map(float, box.split(","))
        return twice_the_box(super().image(photograph), left, right, top, bottom)

    def checksum(self, name: str) -> str:
        """Of the photograph."""
        return super().checksum(name.partition("?")[0])


def twice_the_box(
    image: npt.NDArray[np.uint8], left: float, right: float, top: float, bottom: float
) -> npt.NDArray[np.uint8]:
    """(h, w, 3) around a box, whose sides are shares of the image's."""
    height, width = image.shape[:2]
    x0, x1 = (round(v * width) for v in ((3 * left - right) / 2, (3 * right - left) / 2))
    y0, y1 = (round(v * height) for v in ((3 * top - bottom) / 2, (3 * bottom - top) / 2))
    out = np.zeros((max(y1 - y0, 1), max(x1 - x0, 1), 3), np.uint8)
    inside = image[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
    top_row, first = max(-y0, 0), max(-x0, 0)
    out[top_row : top_row + inside.shape[0], first : first + inside.shape[1]] = inside
    return out
