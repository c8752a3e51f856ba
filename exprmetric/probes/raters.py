"""What each rater of a set said: how far one half of the raters agrees with the other is as far as a method can get.

`raw_ratings.csv` stands beside the table: columns `image`, `rater`, optionally `rater_group`, and the table's rating
columns; a cell that is empty or `NA` was not rated. Two groups are compared with each other; of one, or of more, two
random halves of the raters are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exprmetric.errors import InputError
from exprmetric.io.tables import READERS, read_table, show
from exprmetric.probes.dataset import Faces

Floats = npt.NDArray[np.float64]

RAW = "raw_ratings.csv"
CLOSE = 0.05
"""How far a face's mean over all raters may lie from its rating in the table: rounding, and means of means."""
MISSING = (None, "", "NA")


@dataclass(frozen=True, eq=False)
class Halves:
    """Mean ratings by two groups of raters.

    Attributes:
        how: what the groups are, in words.
        rows: (M,) faces that both groups rated in every term.
        one: (M, K) ratings of the first half.
        other: (M, K) ratings of the second half.
    """

    how: str
    rows: npt.NDArray[np.intp]
    one: Floats
    other: Floats


def rater_halves(folder: Path, faces: Faces, path_of: Callable[[str], str], seed: int) -> Halves | None:
    """The two halves of the raters; None where no rater's own ratings are there, or there is one rater.

    Args:
        faces: as their table has them. path_of: an image as the table names it → its name in `faces.images`.

    Raises:
        InputError: the file is malformed, or its means are not the table's ratings.
    """
    path = folder / RAW
    if not path.is_file() or faces.ratings is None:
        return None
    table = read_table(path, ("image", "rater", "rater_group"))
    table.require("image", "rater", *faces.scales)
    place = {image: i for i, image in enumerate(faces.images)}
    rows, raters, groups, said = [], [], [], []
    for plain, (number, row) in zip(table.rows, READERS[path.suffix](path, faces.scales, []), strict=True):
        i = place.get(path_of(plain["image"]))
        if i is None:
            continue
        rows.append(i)
        raters.append(plain["rater"])
        groups.append(plain.get("rater_group", ""))
        where = f"line {number}"
        cells = [row.get(name) for name in faces.scales]
        said.append(
            [
                math.nan if cell in MISSING else rating(path, where, name, cell)
                for name, cell in zip(faces.scales, cells, strict=True)
            ]
        )
    values = np.array(said, np.float64).reshape(-1, len(faces.scales))
    where_of = np.array(rows, np.intp)
    whole = _means(where_of, values, len(faces))
    _check(path, faces, whole)
    second, how = _second_half(raters, groups, seed)
    if second is None:
        return None
    one, other = (_means(where_of[kept], values[kept], len(faces)) for kept in (~second, second))
    both = np.flatnonzero(np.isfinite(one).all(1) & np.isfinite(other).all(1))
    return Halves(how, both, one[both], other[both])


def rating(path: Path, where: str, column: str, cell: object) -> float:
    """A rating; InputError, with its place, for what is no finite number."""
    try:
        value = math.nan if isinstance(cell, bool) else float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        shown = "empty" if cell in (None, "") else repr(cell)
        raise InputError(f"{show(path)}, {where}: the rating {column!r} is {shown}; every rating must be a number")
    return value


def _means(rows: npt.NDArray[np.intp], values: Floats, count: int) -> Floats:
    """(count, K) means over the lines of each face; NaN where nobody said anything."""
    known = np.isfinite(values)
    sums, numbers = np.zeros((2, count, values.shape[1]))
    np.add.at(sums, rows, np.where(known, values, 0.0))
    np.add.at(numbers, rows, known)
    return np.where(numbers > 0, sums / np.maximum(numbers, 1), np.nan)


def _check(path: Path, faces: Faces, means: Floats) -> None:
    assert faces.ratings is not None
    apart = np.abs(means - faces.ratings)
    far = np.isfinite(apart) & (apart > CLOSE)
    if far.any():
        i, k = (int(n) for n in np.argwhere(far)[0])
        what = f"{faces.scales[k]!r} of {Path(faces.images[i]).name!r}"
        found = f"is {means[i, k]:.3f} on average, the table's rating {faces.ratings[i, k]:.3f}"
        raise InputError(f"{show(path)}: {what} {found}")


def _second_half(raters: list[str], groups: list[str], seed: int) -> tuple[npt.NDArray[np.bool_] | None, str]:
    """(L,) lines of the second half, and what the halves are; None where there is nobody to compare."""
    names = sorted(set(groups))
    if len(names) == 2 and "" not in names:
        return np.array([g == names[1] for g in groups]), f"raters {' against '.join(map(repr, names))}"
    people = sorted(set(zip(groups, raters, strict=True)))
    if len(people) < 2:
        return None, ""
    drawn = np.random.default_rng(seed).permutation(len(people))[: len(people) // 2]
    half = {people[i] for i in drawn}
    lines = np.array([key in half for key in zip(groups, raters, strict=True)])
    return lines, f"{len(people) - len(half)} raters against the other {len(half)}, drawn at random"
