"""`kept` of a result: how probably people would give target and swapped face the same answer.

It needs a map of the method's distance, which `exprmetric probe kept` makes; a method without one has no `kept`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from exprmetric.evaluation.by import split_by
from exprmetric.evaluation.rows import Rows
from exprmetric.evaluation.summary import Mask, models_in, splits
from exprmetric.io.plain import finite, score
from exprmetric.metrics.kept import KeptMap
from exprmetric.metrics.uncertainty import bootstrap_means
from exprmetric.weights.kept_maps import kept_map


def maps_of(methods: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> dict[str, KeptMap]:
    """The maps of those of some methods that have one.

    Args:
        methods: by name `{"fingerprint", "distance"}`.
        names: of the methods wanted.
    """
    found = {name: kept_map(methods[name]["fingerprint"], methods[name]["distance"]) for name in names}
    return {name: each for name, each in found.items() if each is not None}


def with_kept(rows: Rows, maps: Mapping[str, KeptMap]) -> Rows:
    """The rows with a column `<method>.kept` of each map: a probability, null in rows that weren't measured."""
    import pyarrow as pa

    table = rows.table
    for method, made in maps.items():
        values = made(rows.distance(method, "t2c"))
        place = table.column_names.index(f"{method}.s2t") + 1
        column = pa.array(values, pa.float64(), mask=np.isnan(values))
        table = table.add_column(place, f"{method}.kept", column)
    return Rows(table)


def _parts(summary: dict[str, Any], rows: Rows) -> Iterator[tuple[dict[str, Any], Mask]]:
    """All that has `methods` of its own, and (N,) which rows it is of."""
    yield summary["methods"], np.ones(len(rows), bool)
    for name, part in splits(rows).items():
        yield summary["groups"][name]["methods"], part
    models = models_in(rows)
    for name, values in summary.get("by", {}).items():
        masks = split_by(rows, name)
        for value, found in values.items():
            yield found["methods"], masks[value]
            for model, own in found.get("models", {}).items():
                yield own["methods"], masks[value] & models[model]


def add_kept(summary: dict[str, Any], rows: Rows, maps: Mapping[str, KeptMap], *, on_fail: str, seed: int) -> None:
    """Write `kept` of all rows, of each split and of each part of `by`, and of both anchors, into a summary.

    `kept` is `{"value", "ci95", "calibrated", "error"}`; the error is the largest on a set left out.
    """
    for methods, part in _parts(summary, rows):
        for method, made in maps.items():
            ok, failed = part & rows.ok, part & ~rows.ok
            values, groups = made(rows.distance(method, "t2c")[ok]), rows.codes("group")[0]
            drawn = groups[ok]
            if on_fail == "worst" and len(values):
                values = np.concatenate([values, np.full(int(failed.sum()), values.min())])
                drawn = np.concatenate([drawn, groups[failed]])
            (interval,) = bootstrap_means({"kept": values}, drawn, seed=seed).values()
            methods[method]["kept"] = {
                **score(values.mean() if len(values) else None, interval),
                "calibrated": made.calibrated,
                "error": finite(made.error),
            }
            anchors = methods[method].get("anchors", {})
            pasted = rows.distance(method, "s2t")[ok & ~rows.without_source]
            for anchor, value in (
                ("nothing_swapped", made.ceiling),
                ("source_pasted", made(pasted).mean() if len(pasted) else None),
            ):
                if anchor in anchors:
                    anchors[anchor]["kept"] = finite(value)
