"""Faces of the data set FEC as a data set like any other: each is the part of a photograph around its box."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exprmetric.datasets.fec import BoxedPhotographs, boxed, image_name, read_fec
from exprmetric.datasets.layouts import FaceDataset
from exprmetric.datasets.samples import UNLABELLED, Sample
from exprmetric.errors import InputError
from exprmetric.metrics.odd_one_out import Triplets
from exprmetric.metrics.resampling import Indices
from exprmetric.probes.parts import FaceRows


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
    files = BoxedPhotographs(images)
    here = [t for t in clear if all(image_name(f.url) in files.names for f in t.faces)]
    if not here:
        raise InputError(f"{images} has the photographs of none of the {len(clear)} clear triplets of {table}")
    chosen = [here[i] for i in np.sort(np.random.default_rng(seed).permutation(len(here))[:limit])]
    numbers: dict[str, int] = {}
    rows = [[numbers.setdefault(boxed(face), len(numbers)) for face in t.odd_last()] for t in chosen]
    samples = tuple(Sample(name, "test", UNLABELLED) for name in numbers)
    faces = FaceRows(table.stem, FaceDataset(table.stem, files, samples), tuple(range(len(samples))))
    return FecSet(faces, Triplets(np.array(rows, np.intp), np.array([t.kind for t in chosen], np.intp)), len(clear))


def among(triplets: Triplets, kept: Indices, count: int) -> Triplets:
    """The triplets whose three faces are in `kept`, as rows of those; `count`: of all faces."""
    place = np.full(count, -1, np.intp)
    place[kept] = np.arange(len(kept))
    rows = place[triplets.rows]
    whole = (rows >= 0).all(1)
    return Triplets(rows[whole], triplets.types[whole])
