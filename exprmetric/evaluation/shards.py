"""Shards: one input measured in pieces, by jobs that know nothing of each other, and the pieces joined again.

A shard's folder is a result of its own rows, and holds beside it what joining needs: `rows.parquet` (the rows with the
contents of their targets, so that groups can be told apart across shards) and `shard.json`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exprmetric.errors import InputError
from exprmetric.evaluation.conclude import conclude
from exprmetric.evaluation.journal import joined
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.evaluation.rows import schema
from exprmetric.evaluation.session import Settings
from exprmetric.files import write_whole
from exprmetric.triplets import Triplet

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1
FILE, ROWS = "shard.json", "rows.parquet"


@dataclass(frozen=True)
class Shard:
    """Piece `number` (from 1) of `of` pieces: a run of consecutive triplets, whose targets mostly stand together."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`2/8`; InputError for anything else."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip(), re.ASCII)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise InputError(f"a shard is NUMBER/OF with 1 <= NUMBER <= OF, such as 2/8, not {text!r}")
        return cls(int(found[1]), int(found[2]))

    def rows(self, total: int) -> range:
        """Which of `total` rows are its own; every row is in one shard."""
        return range(total * (self.number - 1) // self.of, total * self.number // self.of)


def save_shard(
    out: Path,
    shard: Shard,
    triplets: Sequence[Triplet],
    rows: pa.Table,
    run: dict[str, Any],
    throughput: dict[str, Any],
) -> None:
    """Write what `merge` needs into a shard's folder.

    Args:
        triplets: of the whole input.
        rows: of this shard, numbered from 0.
        run: settings and description of the session.
    """
    import pyarrow.parquet as pq

    names = hashlib.sha256("\0".join(t.id for t in triplets).encode("utf-8", "surrogatepass")).hexdigest()
    document = {
        "schema_version": SCHEMA_VERSION,
        "shard": shard.number,
        "of": shard.of,
        "total": len(triplets),
        "ids": names,
        "run": run,
        "throughput": throughput,
    }
    write_whole(out / ROWS, lambda file: pq.write_table(rows, file))
    write_whole(out / FILE, lambda file: file.write(json.dumps(document, indent=1).encode()))


def merge(folders: Sequence[Path], *, on_fail: str = "exclude", seed: int = 0) -> EvaluationResult:
    """The result of an input whose shards lie in these folders: that of one run over all of it.

    Raises:
        InputError: a shard is missing, there twice, damaged, or of another input or of other settings.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    documents = {folder: _read(folder) for folder in folders}
    if not documents:
        raise InputError("no folder of a shard was named")
    first, model = next(iter(documents.items()))
    found: dict[int, Path] = {}
    for folder, document in documents.items():
        for key in ("of", "total", "ids", "run"):
            if document[key] != model[key]:
                what = {"of": "number of shards", "total": "input", "ids": "input", "run": "settings or weights"}[key]
                raise InputError(f"{folder} and {first} can't be merged: they are not of the same {what}")
        number = document["shard"]
        if number in found:
            raise InputError(f"{found[number]} and {folder} are both shard {number} of {document['of']}")
        found[number] = folder
    if missing := [str(i) for i in range(1, model["of"] + 1) if i not in found]:
        raise InputError(f"shard {', '.join(missing)} of {model['of']} is missing")
    settings = Settings(**{**model["run"]["settings"], "methods": tuple(model["run"]["settings"]["methods"])})
    columns = schema(settings.names())
    names = [f.name for f in columns if pa.types.is_dictionary(f.type)]
    tables = [columns.empty_table()]
    for number, folder in sorted(found.items()):
        own = Shard(number, model["of"]).rows(model["total"])
        try:
            with (folder / ROWS).open("rb") as file:
                rows = pq.ParquetFile(file, read_dictionary=names).read()
        except (OSError, ValueError, pa.ArrowException) as error:
            raise InputError(f"{folder / ROWS} can't be read: {error}") from error
        if rows.num_rows != len(own) or rows.schema.names != columns.names:
            raise InputError(f"{folder / ROWS} is not what {folder / FILE} says")
        place = columns.names.index("index")
        tables.append(rows.set_column(place, columns.field(place), pa.array(range(own.start, own.stop), pa.int64())))
    throughput = _together([d["throughput"] for d in documents.values()], model["total"])
    return conclude(joined(tables), model["run"], settings, throughput, on_fail=on_fail, seed=seed)


def _read(folder: Path) -> dict[str, Any]:
    try:
        document = json.loads((folder / FILE).read_bytes())
        if document["schema_version"] != SCHEMA_VERSION:
            raise InputError(f"{folder / FILE} is of another version of exprmetric")
        document["shard"], document["of"], document["run"]["settings"]["methods"]
    except FileNotFoundError:
        raise InputError(
            f"{str(folder)!r} is no finished shard: it has no {FILE}. `exprmetric evaluate --shard I/N --out` makes one"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{folder / FILE} can't be read: {error}") from error
    found: dict[str, Any] = document
    return found


def _together(parts: Sequence[dict[str, Any]], triplets: int) -> dict[str, Any]:
    """What shards took, as if one had run after the other."""
    seconds = sum(p["seconds"] for p in parts)
    stages: dict[str, float] = {}
    for part in parts:
        for stage, spent in part["thread_seconds_by_stage"].items():
            stages[stage] = round(stages.get(stage, 0.0) + spent, 4)
    return {
        "seconds": round(seconds, 3),
        "triplets_per_second": round(triplets / seconds, 3) if seconds else 0.0,
        "thread_seconds_by_stage": stages,
        "shards": len(parts),
    }
