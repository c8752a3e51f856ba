"""Identity vectors of a run, on disk until the result stands: who is found again is known when all rows are.

A vector describes a person. In a run they lie in `partial/`, in a shard in `vectors.parquet` until it is merged; both
are deleted when the result is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from exprmetric.errors import InputError
from exprmetric.evaluation.rows import PRIVATE_COLUMNS
from exprmetric.io.files import sha256_of

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "vectors.parquet"
"""Of a shard."""
CLOUDS = "clouds.parquet"
"""Of a shard: the vectors of `exprmetric.evaluation.clouds`."""
TAKEN = 8192
"""Vectors in memory at a time."""
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PrivateVectors:
    """Vectors of N rows in the order of the result, mapped from files.

    Attributes:
        folder: where the files are.
        vectors: (N, D) of each column: by default of targets, and of changed faces.
        known: (N,) which rows have them.
        columns: their names.
    """

    folder: Path
    vectors: tuple[Vectors, ...]
    known: tuple[npt.NDArray[np.bool_], ...]
    columns: tuple[str, ...] = PRIVATE_COLUMNS

    @classmethod
    def gather(
        cls,
        folder: Path,
        indices: Sequence[npt.NDArray[np.int64]],
        tables: Iterable[pa.Table],
        columns: tuple[str, ...] = PRIVATE_COLUMNS,
    ) -> PrivateVectors:
        """Vectors of the parts of a run, put in the order of the input.

        Args:
            folder: for the files.
            indices: of each part the column `index`.
            tables: the parts, with `PRIVATE_COLUMNS`.
        """
        order = np.argsort(np.concatenate([np.empty(0, np.int64), *indices]), kind="stable")
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        known = tuple(np.zeros(len(order), bool) for _ in columns)
        mapped: list[Vectors | None] = [None] * len(columns)
        start = 0
        for table in tables:
            own = place[start : start + table.num_rows]
            start += table.num_rows
            for side, column in enumerate(columns):
                for at in range(0, table.num_rows, TAKEN):
                    cells = table[column].slice(at, TAKEN).to_pylist()
                    there = np.array([cell is not None for cell in cells], bool)
                    if not there.any():
                        continue
                    some = np.stack([np.frombuffer(cell, np.float32) for cell in cells if cell is not None])
                    file = mapped[side]
                    if file is None:
                        mapped[side] = file = _file(folder / f"{_safe(column)}.f32", len(order), some.shape[1])
                    file[own[at : at + TAKEN][there]] = some
                    known[side][own[at : at + TAKEN][there]] = True
        width = next((m.shape[1] for m in mapped if m is not None), 0)
        found = tuple(np.empty((len(order), width), np.float32) if m is None else m for m in mapped)
        return cls(folder, found, known, columns)

    def picked(self, side: int, rows: npt.NDArray[np.int64]) -> Vectors:
        """(M, D) vectors of some rows' targets (0) or changed faces (1), in a file of their own."""
        whole = self.vectors[side]
        found = _file(self.folder / f"picked-{_safe(self.columns[side])}.f32", len(rows), whole.shape[1])
        for at in range(0, len(rows), TAKEN):
            found[at : at + TAKEN] = whole[rows[at : at + TAKEN]]
        return found

    def save(self, path: Path) -> str:
        """Write them as Parquet, for their owner alone; the SHA-256 of the file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path.touch(mode=0o600)
        with pq.ParquetWriter(path, pa.schema([(c, pa.binary()) for c in self.columns])) as writer:
            for at in range(0, len(self.known[0]), TAKEN):
                part = slice(at, at + TAKEN)
                sides = zip(self.columns, self.vectors, self.known, strict=True)
                writer.write_table(pa.table({c: _cells(v[part], k[part]) for c, v, k in sides}))
        return sha256_of(path)


def _safe(column: str) -> str:
    """A name for a file: a distance stands behind a colon."""
    return column.replace(":", "-")


def _cells(vectors: Vectors, known: npt.NDArray[np.bool_]) -> pa.Array:
    import pyarrow as pa

    cells = [v.tobytes() if k else None for v, k in zip(vectors, known, strict=True)]
    return pa.array(cells, pa.binary())


def _file(path: Path, count: int, width: int) -> Vectors:
    if not count or not width:
        return np.empty((count, width), np.float32)
    path.touch(mode=0o600)
    return np.memmap(path, np.float32, "w+", shape=(count, width))


def of_shards(
    folder: Path, files: Sequence[tuple[Path, str]], columns: tuple[str, ...] = PRIVATE_COLUMNS
) -> PrivateVectors:
    """Vectors of shards, in their order.

    Args:
        folder: for what is mapped.
        files: `vectors.parquet` of each shard, and its hash.

    Raises:
        InputError: one is damaged.
    """
    import pyarrow.parquet as pq

    for path, expected in files:
        if sha256_of(path) != expected:
            raise InputError(f"{path} is damaged, or not of its shard: measure the shard again")
    counts = [pq.ParquetFile(path).metadata.num_rows for path, _ in files]
    starts = np.cumsum([0, *counts])
    indices = [np.arange(start, start + count) for start, count in zip(starts.tolist(), counts, strict=False)]
    tables: Any = (pq.read_table(path) for path, _ in files)
    return PrivateVectors.gather(folder, indices, tables, columns)


def forget(folders: Iterable[Path]) -> None:
    """Delete what shards keep of people, once their merged result is written."""
    for folder in folders:
        for name in (FILE, CLOUDS):
            (folder / name).unlink(missing_ok=True)
