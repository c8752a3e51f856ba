"""Files of a saved result, read again: `summary.json` and `triplets.parquet`, whole and of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exprmetric.errors import InputError
from exprmetric.evaluation.rows import (
    BOX_COLUMNS,
    CONTENT_COLUMNS,
    DISTANCE_COLUMNS,
    FACE_COLUMNS,
    HASH_COLUMNS,
    NAMING,
    OK,
    TRIPLET_COLUMNS,
    columns_of,
)
from exprmetric.io.shapes import NUMBER, NUMBER_OR_NONE, SCORE, Maybe
from exprmetric.io.tables import brief, listed, printable, show
from exprmetric.metrics.preservation import SCORES, WITHOUT_SOURCE

if TYPE_CHECKING:
    import pyarrow as pa

_COVERAGE = {"triplets": int, "ok": int, "failed": {str: int}}
_NEED_SOURCE = [score for score in SCORES if score not in WITHOUT_SOURCE]
_ANCHORS = ("nothing_swapped", "source_pasted")
_METHODS = {
    str: {
        "n": int,
        "fingerprint": str,
        "mean_t2c": SCORE,
        **{f"{score}?": SCORE for score in _NEED_SOURCE},
        "n_with_source?": int,
        "mean_s2c?": NUMBER_OR_NONE,
        "mean_s2t?": NUMBER_OR_NONE,
        "anchors?": {str: {str: NUMBER_OR_NONE}},
        "note?": str,
        "kept?": SCORE | {"calibrated": bool, "error": NUMBER_OR_NONE},
    }
}
_PART = {"coverage": _COVERAGE, "methods": _METHODS}
_IDENTITY = {
    "n": int,
    "nearer_to_source?": SCORE,
    "same_person?": SCORE,
    "mean_t2c": NUMBER_OR_NONE,
    **{f"mean_{d}?": NUMBER_OR_NONE for d in DISTANCE_COLUMNS[1:]},
}
_CLOUDS = {"value": NUMBER_OR_NONE, "n": int, "dimension": int, "halves": NUMBER_OR_NONE}
_RETRIEVAL = {"n": int, "rank1": SCORE}
SUMMARY = {
    "exprmetric_version": str,
    "created": str,
    "coverage": _COVERAGE,
    "alarms?": [str],
    "notes?": [str],
    "verdict?": [str],
    "methods": _METHODS,
    "groups": {str: {**_PART, "identity?": _IDENTITY}},
    "by?": {str: {str: {**_PART, "models?": {str: _PART}}}},
    "identity": Maybe({**_IDENTITY, "fingerprint": str}),
    "efid?": {str: {**_CLOUDS, "models?": {str: _CLOUDS}}},
    "id_retrieval?": {**_RETRIEVAL, "network": str, "gallery_size": int, "models?": {str: _RETRIEVAL}},
    "privacy?": {
        "network": str,
        "gallery": str,
        "gallery_size": int,
        "n": int,
        "left_out": int,
        **dict.fromkeys(("rank1", "rank5", "mrr", "same_person"), SCORE),
        "chance": NUMBER_OR_NONE,
        "unchanged": Maybe(SCORE),
        "detected": Maybe({"detector": str, "n": int, **SCORE}),
        "models": {str: {"n": int, **dict.fromkeys(("rank1", "same_person"), SCORE)}},
        "limit": str,
    },
    "detector": {"asked": str, "ran": str, "fingerprint": str},
    "settings": {
        "face": str,
        "provider": str,
        "on_fail": str,
        "seed": int,
        "landmarks?": str,
        "commercial_only?": bool,
        "methods?": [str],
        "detector?": str,
        "identity?": bool,
        "privacy?": str,
        "by?": [str],
        "efid?": bool,
        "retrieval?": str,
    },
    "command?": str,
    "input?": {
        "name": str,
        "layout": str,
        "options": dict,
        "faces_named": bool,
        "triplets": int,
        "images": int,
        "sha256": str,
    },
    "weights?": {str: str},
    "throughput": {"seconds": NUMBER, "triplets_per_second": NUMBER, "thread_seconds_by_stage": {str: NUMBER}},
    "environment": dict,
}
"""The shape of `summary.json`, its version aside."""


def read_parquet(path: Path, names: Sequence[str] = ()) -> pa.Table:
    """A Parquet file; the texts of the columns in `names` are kept once.

    Raises:
        FileNotFoundError: there is none.
        InputError: it can't be read, or is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as file:
            texts = [f.name for f in pq.ParquetFile(file).schema_arrow if pa.types.is_string(f.type)]
            once = [name for name in names if texts.count(name) == 1]
            table = pq.ParquetFile(file, read_dictionary=once, page_checksum_verification=True).read()
        table.validate(full=True)  # a damaged index of a dictionary would show when its text is asked for
        return table
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:  # what a damaged schema runs into
        raise InputError(f"{show(path)} is damaged: {brief(printable(str(error)))}") from error


def check_rows(path: Path, table: pa.Table, summary: Mapping[str, Any]) -> None:
    """InputError, which names the file and the column, where the rows aren't those of the summary."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def refuse(why: str) -> None:
        raise InputError(f"{show(path)} {why}")

    if twice := {c for c in table.column_names if table.column_names.count(c) > 1}:
        refuse(f"is damaged: it has the column {listed(sorted(twice))} twice")
    methods = [*summary["methods"], *(["identity"] if summary["identity"] else [])]
    numbers = [f"{m}.{d}" for m in methods for d in DISTANCE_COLUMNS]
    if missing := [c for c in (*TRIPLET_COLUMNS, *numbers) if c not in table.column_names]:
        refuse(f"lacks the columns {listed(missing)}")
    for together in (FACE_COLUMNS, BOX_COLUMNS, HASH_COLUMNS, (NAMING,)):  # older results have none
        absent = [c for c in together if c not in table.column_names]
        if absent and len(absent) < len(together):
            refuse(f"lacks the columns {listed(absent)}")
    all_numbers = [c for c in table.column_names if c.rpartition(".")[2] in DISTANCE_COLUMNS and "." in c]
    counted = [c for c in FACE_COLUMNS if c in table.column_names]
    boxes = [c for c in (*BOX_COLUMNS, *CONTENT_COLUMNS) if c in table.column_names]
    for column in (*TRIPLET_COLUMNS, *boxes, *all_numbers, *counted):
        kind = table.schema.field(column).type
        text = kind.value_type if pa.types.is_dictionary(kind) else kind
        if column in (*TRIPLET_COLUMNS, *boxes):
            right, word = pa.types.is_string(text) or pa.types.is_large_string(text), "text"
        elif column in FACE_COLUMNS:
            right, word = pa.types.is_integer(kind), "whole numbers"
        else:
            right, word = pa.types.is_floating(kind), "numbers"
        if not right:
            refuse(f"is damaged: the column {column!r} holds no {word} but {kind}")
    if incomplete := [m for m in {c.rpartition(".")[0] for c in all_numbers} if not _whole(m, all_numbers)]:
        refuse(f"lacks distances of {listed(sorted(incomplete))}")
    known = {*columns_of(methods, methods), *all_numbers}
    if strange := [c for c in table.column_names if "." in c and c not in known]:
        refuse(f"is damaged: no run writes a column {listed(strange)}")
    counts = summary["coverage"]
    ok = pc.sum(pc.equal(table["status"].cast(pa.string()), OK)).as_py() or 0
    if (len(table), ok) != (counts["triplets"], counts["ok"]):
        refuse(
            f"is not of the run of summary.json: it holds {len(table)} rows with {ok} measured, and that says "
            f"{counts['triplets']} with {counts['ok']}"
        )


def check_scores(path: Path, table: pa.Table, summary: Mapping[str, Any]) -> None:
    """InputError, which names the place, where a method that has distances to sources lacks a score that needs them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    models = table["model"].cast(pa.string())
    pairs = pc.any(
        pc.and_(pc.equal(table["source"].cast(pa.string()), ""), pc.equal(table["status"].cast(pa.string()), OK))
    )
    mixed = bool(pairs.as_py())
    parts = [("methods", summary["methods"], table)]
    for name, group in summary["groups"].items():
        own = table.filter(pc.equal(models, name)) if mixed else table
        parts.append((f"groups.{name}.methods", group["methods"], own))
    for place, methods, rows in parts:
        for method, scores in methods.items():
            column = f"{method}.s2c"
            if column not in rows.column_names or rows[column].null_count == len(rows):
                continue
            anchors = scores.get("anchors", {})
            needed = dict.fromkeys((*_NEED_SOURCE, "mean_s2c", "mean_s2t"), scores)
            needed |= {f"anchors.{a}.{s}": anchors.get(a, {}) for a in _ANCHORS for s in SCORES}
            for key, where in needed.items():
                if key.rpartition(".")[2] not in where:
                    raise InputError(f"{show(path)} is damaged: {printable(f'{place}.{method}.{key}')} is missing")


def _whole(method: str, columns: Sequence[str]) -> bool:
    return all(f"{method}.{d}" in columns for d in DISTANCE_COLUMNS)
