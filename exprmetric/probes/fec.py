"""Faces of the data set FEC as a data set like any other: each is the part of a photograph around its box."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exprmetric.datasets.fec import FecFace, image_name, read_fec
from exprmetric.datasets.layouts import UNLABELLED, FaceDataset, Sample
from exprmetric.errors import InputError
from exprmetric.io.folders import Files
from exprmetric.metrics.odd_one_out import Triplets
from exprmetric.metrics.resampling import Indices
from exprmetric.probes.parts import FaceRows

MARGIN = 0.35
"""Kept around a face's box, in its width and height: a detector needs more than the face."""


@dataclass(frozen=True)
class FecFaces(FaceDataset):
    """Samples are named `file#left,right,top,bottom`, so that two faces of a photograph are two samples."""

    def image(self, index: int) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB: the photograph around the face's box."""
        name, _, box = self.samples[index].image.rpartition("#")
        whole = FaceDataset(self.name, self.files, (Sample(name, "test", UNLABELLED),)).image(0)
        height, width = whole.shape[:2]
        left, right, top, bottom = map(float, box.split(","))
        x, y = MARGIN * (right - left), MARGIN * (bottom - top)
        columns = slice(*_within(left - x, right + x, width))
        return np.ascontiguousarray(whole[slice(*_within(top - y, bottom + y, height)), columns])

    def checksum(self, index: int) -> str:
        """Of the photograph."""
        return self.files.checksum(self.samples[index].image.rpartition("#")[0])


def _within(low: float, high: float, length: int) -> tuple[int, int]:
    """Whole px inside 0..length, at least one."""
    first = min(max(int(low * length), 0), length - 1)
    return first, max(min(int(np.ceil(high * length)), length), first + 1)


@dataclass(frozen=True, eq=False)
class FecSet:
    """Distinct faces, the triplets among them, and how many clear triplets the file has in all."""

    rows: FaceRows
    triplets: Triplets
    published: int


def fec_set(table: Path, images: Path, limit: int, seed: int) -> FecSet:
    """Triplets of a published file on which raters clearly agree and whose photographs are in a folder.

    Args:
        table: `faceexp-comparison-data-test-public.csv`, say.
        images: folder of photographs, named as `exprmetric.datasets.fec.image_name` does.
        limit: of triplets, drawn with the seed.

    Raises:
        InputError: the file is malformed, or no triplet has its photographs.
    """
    clear = [t for t in read_fec(table) if t.is_clear()]
    files = Files(images)
    here = [t for t in clear if all(image_name(f.url) in files.names for f in t.faces)]
    if not here:
        raise InputError(f"{images} has the photographs of none of the {len(clear)} clear triplets of {table}")
    chosen = [here[i] for i in np.sort(np.random.default_rng(seed).permutation(len(here))[:limit])]
    numbers: dict[str, int] = {}
    rows = [[numbers.setdefault(_name(face), len(numbers)) for face in t.odd_last()] for t in chosen]
    samples = tuple(Sample(name, "test", UNLABELLED) for name in numbers)
    faces = FaceRows(table.stem, FecFaces(table.stem, files, samples), tuple(range(len(samples))))
    return FecSet(faces, Triplets(np.array(rows, np.intp), np.array([t.kind for t in chosen], np.intp)), len(clear))


def _name(face: FecFace) -> str:
    return f"{image_name(face.url)}#{face.left!r},{face.right!r},{face.top!r},{face.bottom!r}"


def among(triplets: Triplets, kept: Indices, count: int) -> Triplets:
    """The triplets whose three faces are in `kept`, as rows of those; `count`: of all faces."""
    place = np.full(count, -1, np.intp)
    place[kept] = np.arange(len(kept))
    rows = place[triplets.rows]
    whole = (rows >= 0).all(1)
    return Triplets(rows[whole], triplets.types[whole])
