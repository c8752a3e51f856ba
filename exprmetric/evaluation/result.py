"""`EvaluationResult`: scores, rows, and all that is needed to defend them."""

from __future__ import annotations

import csv
import html
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from exprmetric.errors import InputError, MissingPackageError
from exprmetric.evaluation.plot import plot
from exprmetric.evaluation.rows import (
    BOX_COLUMNS,
    CONTENT_COLUMNS,
    FACE_COLUMNS,
    TRIPLET_COLUMNS,
    Record,
    Rows,
    columns_of,
    judged_columns,
    schema,
)
from exprmetric.evaluation.saved import SUMMARY, check_rows, check_scores, read_parquet
from exprmetric.evaluation.tables import alarm_lines, coverage_line, headline, models_of, page
from exprmetric.io.files import Fill, write_files, write_whole
from exprmetric.io.plain import as_json
from exprmetric.io.shapes import read_json
from exprmetric.io.sheet import score_cell
from exprmetric.io.tables import show

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1
NAMES = list(TRIPLET_COLUMNS[1:])
LINES = 8192
"""Rows that are plain values at a time."""
ROW_GROUP = 65_536
"""Rows of a group in the Parquet file."""


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """What `evaluate` returns.

    Attributes:
        summary: the content of `summary.json`: scores with intervals, coverage, splits, controls, environment.
        rows: one row a triplet, in input order, column by column.
    """

    summary: dict[str, Any]
    rows: Rows

    @cached_property
    def triplets(self) -> list[Record]:
        """One record a triplet, in input order: id, model, group, target, source, swapped, status, reason (where `ok`,
        what has to be said of the row, such as `crop`), `faces_target`, `faces_source`, `faces_swapped` (how many faces
        each image shows), then `<method>.t2c`, `<method>.s2c`, `<method>.s2t` (None unless the status is `ok`; the last
        two also without a source), `<method>.kept` where the method has a map (the probability that people give target
        and swapped face the same answer), `identity.same_person` (whether the identity control takes the swapped face
        for the target's person), then `box_target`, `box_source`, `box_swapped` (the faces that were measured,
        `x0 y0 x1 y1`, px), then `sha256_target`, `sha256_source`, `sha256_swapped` and `sha256_naming` (of the
        files that were read; the last of the photographs that name faces)."""
        return self.rows.records()

    def __repr__(self) -> str:
        """The scores in one line; of several models how many there are, and no score over all of them."""
        if models := models_of(self.summary):
            return f"<EvaluationResult: {coverage_line(self.summary['coverage'])}; {len(models)} models>"
        scores = ", ".join(f"{m}: t2c {score_cell(s['mean_t2c'])}" for m, s in self.summary["methods"].items())
        return f"<EvaluationResult: {coverage_line(self.summary['coverage'])}; {scores}>"

    def _repr_html_(self) -> str:
        """The verdict and the headline, for notebooks."""
        lines = [*alarm_lines(self.summary), *self.summary.get("verdict", [])]
        return "".join(f"<p>{html.escape(line)}</p>" for line in lines) + headline(self.summary).html()

    def to_pandas(self) -> Any:
        """The rows as a pandas data frame.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        try:
            return self.rows.table.to_pandas()
        except ImportError as error:
            raise MissingPackageError("to_pandas needs pandas: pip install pandas") from error

    def to_latex(self) -> str:
        """The headline as a table for a paper (booktabs), its caption with coverage and versions."""
        return page(self).latex()

    def to_markdown(self) -> str:
        """The tables in Markdown."""
        return page(self).markdown()

    def worst(self, n: int = 10, method: str = "") -> list[Record]:
        """The measured rows with the largest t2c, the worst first.

        Args:
            n: at most so many.
            method: whose t2c; '' for the first method.
        """
        name = method or next(iter(self.summary["methods"]))
        if name not in self.rows.methods:
            raise InputError(f"the result has no method {name!r}; it has {', '.join(self.rows.methods)}")
        far = np.where(self.rows.ok, self.rows.distance(name, "t2c"), -np.inf)
        order = np.argsort(-far, kind="stable")[: min(n, int(self.rows.ok.sum()))]
        return self.rows.records(order.tolist())

    def plot(self) -> Any:
        """Mean t2c of each method and model with its interval, between both anchors, as a Matplotlib figure.

        Raises:
            MissingPackageError: Matplotlib is not installed.
        """
        return plot(self.summary)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `summary.json`, `triplets.csv` and `triplets.parquet`; each file appears whole or not at all.

        Raises:
            InputError: the folder can't be made or written.
        """
        out = Path(folder)
        write_files(out, self._files())
        return out

    def write(self, out: Path) -> None:
        """`save` into a folder that exists, with OSErrors as they come."""
        for name, fill in self._files().items():
            write_whole(out / name, fill)

    def _files(self) -> dict[str, Fill]:
        return {
            "summary.json": lambda f: f.write(self.to_json().encode() + b"\n"),
            "triplets.csv": self._save_csv,
            "triplets.parquet": self._save_parquet,
        }

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> EvaluationResult:
        """Read what `save` wrote: `summary.json` and `triplets.parquet`.

        Raises:
            InputError: a file is missing, damaged, or of another version.
        """
        path = Path(folder)
        try:
            summary = read_json(path / "summary.json", SUMMARY, SCHEMA_VERSION)
            table = read_parquet(path / "triplets.parquet", NAMES)
        except FileNotFoundError as error:
            raise InputError(
                f"{show(path)} is no folder that `exprmetric evaluate --out` wrote: no {Path(error.filename).name}"
            ) from error
        check_rows(path / "triplets.parquet", table, summary)
        check_scores(path / "summary.json", table, summary)
        return cls(summary, Rows(_with_faces(table)))

    def to_json(self) -> str:
        """`summary` as JSON; never NaN."""
        return as_json(self.summary)

    def _parts(self, size: int) -> Iterator[pa.Table]:
        for start in range(0, len(self.rows), size):
            yield self.rows.table.slice(start, size)

    def _write_csv(self, text: IO[str]) -> None:
        # the default end of line, \r\n, is also what makes the writer quote a lone \r in a name
        columns = columns_of(self.rows.methods, self.rows.kept)
        writer = csv.writer(text)
        writer.writerow(columns)
        for part in self._parts(LINES):
            writer.writerows(zip(*(part[c].to_pylist() for c in columns), strict=True))

    def _save_csv(self, file: IO[bytes]) -> None:
        import io

        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        self._write_csv(text)
        text.flush()
        text.detach()

    def _save_parquet(self, file: IO[bytes]) -> None:
        import pyarrow.parquet as pq

        columns = schema(self.rows.methods, inner=False, kept=self.rows.kept)
        with pq.ParquetWriter(file, columns, write_page_checksum=True) as writer:
            for part in self._parts(ROW_GROUP):
                writer.write_table(part.cast(columns))


def _with_faces(table: pa.Table) -> pa.Table:
    """With the columns of faces, boxes, hashes and same person, which older results lack."""
    import pyarrow as pa

    judged = judged_columns(Rows(table).methods)
    whole = schema(Rows(table).methods, inner=False)
    for name in (*FACE_COLUMNS, *BOX_COLUMNS, *CONTENT_COLUMNS, *judged):
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(len(table), whole.field(name).type))
    return table
