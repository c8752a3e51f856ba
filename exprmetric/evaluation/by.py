"""Scores by anything: rows split by a column of the manifest, or by what is known of the target's face.

For who debugs a model, and for who must show that no group of people is treated worse.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.choices import BY, EXPRESSIONS
from exprmetric.evaluation.rows import EXPRESSION, GIVEN, YAW, Rows

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

UNKNOWN, OTHERS = "unknown", "others"
MOST = 40
"""Values of a manifest's column that are split; rarer ones stand together."""
YAWS = (15.0, 30.0, 60.0)
"""Degrees, whichever way the face is turned."""
SIZES = (64.0, 128.0, 256.0)
"""Longer side of the target's face, px."""
FACES = (2.0, 4.0)
"""Faces in the target."""


def split_by(rows: Rows, name: str) -> dict[str, Mask]:
    """(N,) which rows have each value, in their natural order; a row is in exactly one.

    Args:
        name: one of `BY`, else a column of the manifest that was asked for. Rows that tell nothing are `unknown`.
    """
    if name == EXPRESSION:
        parts = {expression: rows.mask(EXPRESSION, expression) for expression in EXPRESSIONS}
        parts[UNKNOWN] = rows.mask(EXPRESSION, "")
        return {value: part for value, part in parts.items() if part.any()}
    if name in BY:
        of_row, edges, unit = _KNOWN[name]
        return _binned(of_row(rows), edges, unit)
    codes, texts = rows.codes(GIVEN)
    values = [str(json.loads(text).get(name, "")) if text else "" for text in texts]
    counts: dict[str, int] = {}
    for value, count in zip(values, np.bincount(codes, minlength=len(values)).tolist(), strict=True):
        counts[value] = counts.get(value, 0) + count
    common = sorted(counts.keys() - {""}, key=lambda value: (-counts[value], value))[:MOST]

    def where(wanted: Callable[[str], bool]) -> Mask:
        chosen = np.array([wanted(value) for value in values], bool)
        return np.asarray(chosen[codes]) if len(values) else np.zeros(len(rows), bool)

    found = {value: where(value.__eq__) for value in sorted(common)}
    rest = {OTHERS: where(lambda v: bool(v) and v not in common), UNKNOWN: where(lambda v: not v)}
    return found | {_free(label, found): part for label, part in rest.items() if part.any()}


def _free(label: str, taken: Mapping[str, Mask]) -> str:
    """A label that the manifest does not use itself."""
    return _free(f"({label})", taken) if label in taken else label


def _binned(values: Floats, edges: Sequence[float], unit: str) -> dict[str, Mask]:
    """Rows between the edges; the lower one belongs to a bin."""
    names = [f"below {edges[0]:g}{unit}"]
    names += [f"{low:g} to {high:g}{unit}" for low, high in itertools.pairwise(edges)]
    names.append(f"{edges[-1]:g}{unit} and more")
    known = np.isfinite(values)
    bins = np.digitize(np.where(known, values, 0.0), edges)
    found = {name: known & (bins == i) for i, name in enumerate(names)} | {UNKNOWN: ~known}
    return {name: part for name, part in found.items() if part.any()}


def _yaw(rows: Rows) -> Floats:
    return np.abs(_numbers(rows, YAW))


def _faces(rows: Rows) -> Floats:
    return _numbers(rows, "faces_target")


def _size(rows: Rows) -> Floats:
    codes, texts = rows.codes("box_target")
    sides = []
    for text in texts:
        x0, y0, x1, y1 = (float(v) for v in text.split()) if text else (np.nan,) * 4
        sides.append(max(x1 - x0, y1 - y0))
    return np.array(sides or [np.nan])[codes] if len(codes) else np.empty(0)


def _numbers(rows: Rows, column: str) -> Floats:
    import pyarrow as pa
    import pyarrow.compute as pc

    return np.asarray(pc.cast(rows.table[column], pa.float64()).to_numpy(), np.float64)


_KNOWN: dict[str, tuple[Callable[[Rows], Floats], Sequence[float], str]] = {
    "yaw": (_yaw, YAWS, "°"),
    "size": (_size, SIZES, " px"),
    "faces": (_faces, FACES, ""),
}


def by_parts(rows: Rows, names: Sequence[str], scores: Callable[[Mask], dict[str, Any]]) -> dict[str, Any]:
    """`by` of `summary.json`: for each name and value what `scores` makes of these rows, and, of several models, of
    those of each."""
    codes, models = rows.codes("model")

    def scored(part: Mask) -> dict[str, Any]:
        of_models = {m: part & (codes == i) for i, m in enumerate(models) if m} if len(models) > 1 else {}
        own = {m: scores(rows_of) for m, rows_of in of_models.items() if rows_of.any()}
        return scores(part) | ({"models": own} if own else {})

    return {name: {value: scored(part) for value, part in split_by(rows, name).items()} for name in names}
