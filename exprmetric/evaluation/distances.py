"""Vectors of triplets → their distances: finite numbers, or what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from exprmetric.errors import ImageError, LowQualityError
from exprmetric.evaluation.reading import Represented
from exprmetric.evaluation.rows import DISTANCE_COLUMNS
from exprmetric.inputs.triplets import ROLES
from exprmetric.io.faults import of_image
from exprmetric.methods.base import Method

Trio = Sequence[Represented | None]
"""Target, source and swapped; None is a source that a row doesn't have."""
BETWEEN = ((0, 2), (1, 2), (1, 0))
"""Places in a trio of the two faces of t2c, s2c and s2t."""


def triplet_distances(
    methods: Sequence[Method], faces: Sequence[Trio]
) -> tuple[dict[str, npt.NDArray[np.float64]], list[ImageError | None]]:
    """Distances of N triplets.

    Returns:
        By method (N, 3) t2c, s2c, s2t, NaN in triplets with a problem, s2c and s2t also in those without a source; and
        N problems: a distance that is no finite number (of a vector of zeros the cosine is none), or that the method
        can't compute.

    Raises:
        ExprmetricError: what is no triplet's fault.
    """
    problems: list[ImageError | None] = [None] * len(faces)
    found = {m.name: np.full((len(faces), len(DISTANCE_COLUMNS)), np.nan) for m in methods}
    kinds = [np.array([(trio[1] is None) == without for trio in faces], bool) for without in (False, True)]
    for method in methods:
        for places in (np.flatnonzero(kind).tolist() for kind in kinds if kind.any()):
            for i, cell in zip(places, _distances(method, [faces[i] for i in places]), strict=True):
                if isinstance(cell, ImageError):
                    problems[i] = problems[i] or cell
                else:
                    found[method.name][i, : len(cell)] = cell
    for values in found.values():
        values[[p is not None for p in problems]] = np.nan
    return found, problems


def _distances(method: Method, faces: Sequence[Trio]) -> list[npt.NDArray[np.float64] | ImageError]:
    """(3,) of each triplet, (1,) of each without a source, or its error; the triplets of a batch that fails are tried
    singly.

    Args:
        faces: all with a source, or all without.
    """
    between = BETWEEN if faces[0][1] is not None else BETWEEN[:1]
    try:
        of_role = ([face.vectors[method.name] for trio in faces if (face := trio[i])] for i in range(len(ROLES)))
        vectors = [np.stack(found) if found else np.empty(0) for found in map(list, of_role)]
        columns = np.column_stack([method.distance(vectors[a], vectors[b]) for a, b in between])
    except Exception as error:
        failed = of_image(error, method.name)
        return [failed] if len(faces) == 1 else [cell for trio in faces for cell in _distances(method, [trio])]
    return [_checked(method.name, row) for row in np.asarray(columns, np.float64)]


def _checked(method: str, row: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | ImageError:
    bad = [f"{name} is {value}" for name, value in zip(DISTANCE_COLUMNS, row, strict=False) if not np.isfinite(value)]
    return LowQualityError(f"{method}: the distance {', '.join(bad)}, which is no finite number") if bad else row
