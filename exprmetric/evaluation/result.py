"""`EvaluationResult`: scores, rows, and all that is needed to defend them."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from exprmetric.errors import InputError
from exprmetric.evaluation.pipeline import Row

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
            _write(out / "summary.json", lambda f: f.write(self.to_json().encode() + b"\n"))
            _write(out / "triplets.csv", lambda f: f.write(self.to_csv().encode()))
            _write(out / "triplets.parquet", self._write_parquet)
        except OSError as error:
            raise InputError(f"can't write the result into {out}: {error}") from error
        return out

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
        "group": _text(row.group),
        **{role: _text(getattr(triplet, role)) for role in ("target", "source", "swapped")},
        "status": row.status,
        "reason": _text(row.reason),
    }
    for method in methods:
        distances = row.distances.get(method)
        for column in DISTANCE_COLUMNS:
            values[f"{method}.{column}"] = None if distances is None else getattr(distances, column)
    return values


def _text(path: Path | str | None) -> str:
    """A path, or text with paths in it, that every file can hold: bytes that are no UTF-8 are shown as escapes."""
    return "" if path is None else os.fsencode(path).decode("utf-8", "backslashreplace")


def _write(path: Path, fill: Callable[[IO[bytes]], object]) -> None:
    """Write beside the file and move into place."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            fill(file)
        Path(name).chmod(0o644)  # mkstemp's own mode shuts everybody else out
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
