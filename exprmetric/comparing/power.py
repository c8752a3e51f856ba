"""How many targets a comparison needs, from the spread in an earlier result."""

from __future__ import annotations

import math

import numpy as np

from exprmetric.errors import InputError
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.evaluation.rows import Rows
from exprmetric.evaluation.tables import models_of
from exprmetric.evaluation.verdict import primary
from exprmetric.io.sheet import Number, Sheet
from exprmetric.metrics.paired import targets_needed
from exprmetric.metrics.uncertainty import Floats

SHARES = (0.05, 0.1, 0.2, 0.3)
"""Differences, as shares of the mean t2c."""


def power_sheet(result: EvaluationResult) -> Sheet:
    """The number of targets by the size of the difference that is to be found four times in five, at p < 0.05.

    Of a result with two models or more the spread is that of the paired differences between the first two; of one model
    alone that of its targets, as if both models' errors had nothing in common, which is on the safe side.

    Raises:
        InputError: fewer than two targets were measured.
    """
    method = primary(list(result.summary["methods"]))
    models = models_of(result.summary)[:2]
    parts = [_by_group(result.rows.where(result.rows.mask("model", m)), method) for m in models]
    shared = sorted(parts[0].keys() & parts[1].keys()) if len(parts) == 2 else []
    if len(shared) > 1:
        values: Floats = np.array([parts[0][g] - parts[1][g] for g in shared])
        spread, whose = float(values.std(ddof=1)), f"paired differences of {models[0]} and {models[1]}"
    else:
        of_all = _by_group(result.rows, method)
        if len(of_all) < 2:
            raise InputError("the spread of one target is unknown: the result needs two or more")
        values = np.array(list(of_all.values()))
        spread, whose = float(values.std(ddof=1)) * math.sqrt(2), "two models whose errors have nothing in common"
    mean = float(result.rows.distance(method, "t2c")[result.rows.ok].mean())
    rows = [
        [f"{share:.0%}".replace("%", " %"), Number(share * mean), targets_needed(spread, share * mean)]
        for share in SHARES
        if share * mean > 0
    ]
    title = f"Targets needed, by {method}: mean t2c {mean:.3f}, {len(values)} targets here"
    note = f"Found four times in five at p < 0.05; spread {spread:.3f} over targets, of {whose}."
    return Sheet.of(["difference", "in t2c", "targets"], rows, title=title, notes=[note])


def _by_group(rows: Rows, method: str) -> dict[str, float]:
    """Mean t2c of each group's measured rows."""
    codes, names = rows.codes("group")
    t2c, ok = rows.distance(method, "t2c"), rows.ok
    return {name: float(t2c[ok & (codes == i)].mean()) for i, name in enumerate(names) if (ok & (codes == i)).any()}
