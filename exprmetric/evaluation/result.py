"""`EvaluationResult`: scores, rows, and all that is needed to defend them."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from exprmetric.errors import InputError
from exprmetric.evaluation.pipeline import Row
from exprmetric.files import path_text, write_whole

SCHEMA_VERSION = 1
TRIPLET_COLUMNS = ("id", "model", "group", "target", "source", "swapped", "status", "reason")
DISTANCE_COLUMNS = ("t2c", "s2c", "s2t")

Record = dict[str, Any]


@dataclass(frozen=True)
class EvaluationResult:
    """What `evaluate` returns.

    Attributes:
        summary: the content of `summary.json`: scores with intervals, coverage, splits, controls, environment.
        triplets: one record a triplet, in input order: id, model, group, target, source, swapped, status, reason, then
            `<method>.t2c`, `<method>.s2c`, `<method>.s2t` (None unless the status is `ok`).
    """

    summary: dict[str, Any]
    triplets: list[Record]

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `summary.json`, `triplets.csv` and `triplets.parquet`; each file appears whole or not at all.

        Raises:
            InputError: the folder can't be made or written.
        """
        out = Path(folder)
        try:
            out.mkdir(parents=True, exist_ok=True)
            write_whole(out / "summary.json", lambda f: f.write(self.to_json().encode() + b"\n"))
            write_whole(out / "triplets.csv", lambda f: f.write(self.to_csv().encode()))
            write_whole(out / "triplets.parquet", self._write_parquet)
        except OSError as error:
            raise InputError(f"can't write the result into {out}: {error}") from error
        return out

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> EvaluationResult:
        """Read what `save` wrote: `summary.json` and `triplets.parquet`.

        Raises:
            InputError: a file is missing, damaged, or of another version.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = Path(folder)
        try:
            summary = json.loads((path / "summary.json").read_bytes())
            with (path / "triplets.parquet").open("rb") as file:
                table = pq.ParquetFile(file).read()
        except FileNotFoundError as error:
            raise InputError(
                f"{str(path)!r} is no folder that `exprmetric evaluate --out` wrote: no {Path(error.filename).name}"
            ) from error
        except (OSError, ValueError, RecursionError, pa.ArrowException) as error:
            raise InputError(f"{str(path)!r} can't be read as a result: {error}") from error
        version = summary.get("schema_version") if isinstance(summary, dict) else None
        if version != SCHEMA_VERSION:
            raise InputError(f"{path}/summary.json has schema_version {version!r}; this reads {SCHEMA_VERSION}")
        if missing := [c for c in TRIPLET_COLUMNS if c not in table.column_names]:
            raise InputError(f"{path}/triplets.parquet lacks the columns {', '.join(missing)}")
        return cls(summary, table.to_pylist())

    def to_json(self) -> str:
        """`summary` as JSON; never NaN."""
        return json.dumps(self.summary, indent=2, allow_nan=False, ensure_ascii=False)

    def to_csv(self) -> str:
        """`triplets` as CSV; distances with all their digits."""
        import io

        text = io.StringIO(newline="")
        # the default end of line, \r\n, is also what makes the writer quote a lone \r in a name
        writer = csv.DictWriter(text, list(self._columns()))
        writer.writeheader()
        writer.writerows(self.triplets)
        return text.getvalue()

    def _columns(self) -> Sequence[str]:
        return list(self.triplets[0]) if self.triplets else TRIPLET_COLUMNS

    def _write_parquet(self, file: IO[bytes]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        fields = [pa.field(c, pa.string() if c in TRIPLET_COLUMNS else pa.float64()) for c in self._columns()]
        pq.write_table(pa.Table.from_pylist(self.triplets, schema=pa.schema(fields)), file)


def record(row: Row, methods: Sequence[str]) -> Record:
    """A row as plain values."""
    triplet = row.triplet
    values: Record = {
        "id": triplet.id,
        "model": triplet.model,
        "group": path_text(row.group),
        **{role: path_text(getattr(triplet, role)) for role in ("target", "source", "swapped")},
        "status": row.status,
        "reason": path_text(row.reason),
    }
    for method in methods:
        distances = row.distances.get(method)
        for column in DISTANCE_COLUMNS:
            values[f"{method}.{column}"] = None if distances is None else getattr(distances, column)
    return values
