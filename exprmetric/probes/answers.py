"""Rated sets of which every rater's own answer is known: how many people call a face what.

FER+ holds the votes of some ten raters a face. A table's `raw_ratings.csv` holds what each rater said in every term:
the answer is the term rated highest (shared where several are), `neutral` where nothing is rated above zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exprmetric.datasets.layouts import open_dataset
from exprmetric.errors import InputError
from exprmetric.io.tables import READERS, read_table, show
from exprmetric.probes.dataset import Faces
from exprmetric.probes.rated import RatedSet, image_path, rated_set
from exprmetric.probes.raters import MISSING, RAW, rating

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Answered:
    """Faces and their raters' answers.

    Attributes:
        shares: (N, K) of raters by answer.
        raters: (N,) how many answered.
    """

    faces: Faces
    shares: Floats
    raters: Floats


def answered_set(path: Path, *, name: str = "", split: str = "test", limit: int = 0, seed: int = 0) -> Answered:
    """Faces with raters' answers.

    Args:
        path: FER+ as a folder or zip, or a folder or table with `raw_ratings.csv` beside it.
        name: '' for its folder's; split, limit, seed: as in `rated_set`.

    Raises:
        InputError: it can't be read, or holds no rater's own answers.
    """
    found = rated_set(path, name=name, split=split, limit=limit, seed=seed)
    raw = (path if path.is_dir() else path.parent) / RAW
    answers = _raw(raw, found) if raw.is_file() else _votes(path, split, found)
    told = np.flatnonzero(answers.sum(1) > 0)
    raters = answers.sum(1)[told]
    return Answered(found.faces.take(told), answers[told] / raters[:, None], raters)


def _votes(path: Path, split: str, found: RatedSet) -> Floats:
    """(N, K) votes of a data set."""
    samples = {} if found.points is not None else {s.image: s for s in open_dataset(path).samples}  # no table
    known = [samples.get(image) for image in found.faces.images]
    if found.faces.ratings is None or any(s is None or s.votes is None for s in known):
        raise InputError(f"{show(path)} holds no rater's own answers: neither votes nor {RAW}")
    return found.faces.ratings * np.array([[s.raters if s else 0] for s in known], np.float64)


def _raw(path: Path, found: RatedSet) -> Floats:
    """(N, K + 1) answers of a table's raters, the last column `neutral`."""
    scales = found.faces.scales
    table = read_table(path, ("image",))
    table.require("image", *scales)
    place = {image: i for i, image in enumerate(found.faces.images)}
    answers = np.zeros((len(place), len(scales) + 1))
    for plain, (number, row) in zip(table.rows, READERS[path.suffix](path, scales, []), strict=True):
        i = place.get(image_path(path.parent, plain["image"]))
        cells = [row.get(name) for name in scales]
        if i is None or any(cell in MISSING for cell in cells):
            continue
        said = np.array([rating(path, f"line {number}", n, c) for n, c in zip(scales, cells, strict=True)])
        highest = (said == said.max()).astype(np.float64) if said.max() > 0 else np.zeros(len(scales))
        answers[i] += [*(highest / max(highest.sum(), 1.0)), float(said.max() <= 0)]
    return answers
