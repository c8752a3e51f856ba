"""The journal of a run: rows on disk as they come, so that a kill at any moment loses next to none of them.

Below the output folder, `partial/` holds `run.json` (what is measured, with what) and `rows-*.parquet`, each written
whole or not at all. The same run in the same folder goes on where the last one stopped. Once the result is
complete, `partial/` is removed.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from exprmetric.errors import InputError
from exprmetric.evaluation.rows import schema
from exprmetric.files import write_whole

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = "partial"
RUN = "run.json"
LOCK = "lock"
PATTERN = "rows-*.parquet"
SECONDS = 1.0
"""Rows wait at most this long before they go to disk."""
SHARE = 50
"""And no more than one in this many of all rows."""


class Journal:
    """Rows of one run. Use it as a context: while it is open, no other run can write into the folder.

    Args:
        out: the output folder; made if it isn't there.
        run: all that decides the rows, as JSON values: a run that differs in it can't go on here and begins anew.
        methods: those of the rows' columns.
        total: rows that there will be.

    Raises:
        InputError: the folder can't be written, or another run is writing into it.
    """

    def __init__(self, out: Path, run: dict[str, Any], methods: Sequence[str], total: int) -> None:
        self.out = out
        self.folder = out / FOLDER
        self._run = json.loads(json.dumps(run))
        self._schema = schema(methods)
        self._done = np.zeros(total, bool)
        self._waiting: list[pa.Table] = []
        self._since = time.monotonic()

    def __enter__(self) -> Journal:
        from filelock import FileLock, Timeout

        with self._written():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.folder / LOCK, timeout=0)
            try:
                self._lock.acquire()
            except Timeout:
                busy = f"another run is writing into {self.out}: wait for it, or name another folder"
                raise InputError(busy) from None
            try:
                self._begin()
            except BaseException:
                self._lock.release()
                raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if self._waiting:
                if kind is None:
                    self.flush()
                else:
                    with contextlib.suppress(Exception):  # what went wrong first is what has to be told
                        self.flush()
        finally:
            self._lock.release()

    def _begin(self) -> None:
        """Go on with what is there, or begin anew where it is of another run."""
        parts = sorted(self.folder.glob(PATTERN))
        try:
            same = json.loads((self.folder / RUN).read_text()) == self._run
        except (OSError, ValueError, RecursionError):
            same = False
        if not same:
            if parts:
                warnings.warn(
                    f"{self.out} holds an unfinished run of other images or settings; its rows are thrown away and "
                    "the measurement begins anew",
                    stacklevel=4,
                )
            for part in parts:
                part.unlink()
            text = json.dumps(self._run, indent=1).encode()
            write_whole(self.folder / RUN, lambda file: file.write(text))
            return
        for part in parts:
            indices = self._indices(part)
            if indices is None or (len(indices) and self._done[indices].any()):
                part.unlink()  # a power cut can leave an empty file behind a whole name
            else:
                self._done[indices] = True

    def _indices(self, part: Path) -> npt.NDArray[np.int64] | None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with part.open("rb") as file:
                return np.asarray(pq.ParquetFile(file).read(["index"])["index"].to_numpy(), np.int64)
        except (OSError, ValueError, pa.ArrowException):
            return None

    @property
    def missing(self) -> npt.NDArray[np.int64]:
        """Places in the input of the rows that are not there yet, in order."""
        return np.flatnonzero(~self._done)

    def add(self, rows: pa.Table) -> None:
        """Keep some rows; they go to disk at once, or within a second where that is a small part of all.

        Raises:
            InputError: the disk is full or the folder can't be written any more.
        """
        self._waiting.append(rows)
        count = sum(t.num_rows for t in self._waiting)
        if count * SHARE >= len(self._done) or time.monotonic() - self._since > SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._since = time.monotonic()
        if not self._waiting:
            return
        rows = pa.concat_tables(self._waiting)
        indices = rows["index"].to_numpy()
        with self._written():
            write_whole(
                self.folder / f"rows-{indices.min():09d}-{len(indices)}.parquet", lambda f: pq.write_table(rows, f)
            )
        self._done[indices] = True
        self._waiting.clear()

    def rows(self) -> pa.Table:
        """All rows so far, in the order of the input."""
        self.flush()
        return read_parts(sorted(self.folder.glob(PATTERN)), self._schema)

    def finish(self) -> None:
        """The result stands beside the journal: remove it."""
        for part in self.folder.glob(PATTERN):
            part.unlink()
        self._lock.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kept = int(self._done.sum())
            raise InputError(
                f"can't write into {self.out}: {error.strerror or error}"
                + (f". {kept} of {len(self._done)} rows are kept: the same command goes on from there" if kept else "")
            ) from error


class Memory:
    """The journal of a run that writes no files."""

    def __init__(self, methods: Sequence[str], total: int) -> None:
        self.missing = np.arange(total)
        self._rows = [schema(methods).empty_table()]

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def add(self, rows: pa.Table) -> None:
        self._rows.append(rows)

    def rows(self) -> pa.Table:
        return joined(self._rows)

    def finish(self) -> None:
        pass


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Rows of several tables in the order of the input."""
    import pyarrow as pa

    rows = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    order = np.argsort(rows["index"].to_numpy(), kind="stable")
    return rows if (order == np.arange(len(order))).all() else rows.take(order)


def read_parts(parts: Sequence[Path], columns: pa.Schema) -> pa.Table:
    """Rows of several files in the order of the input."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [f.name for f in columns if pa.types.is_dictionary(f.type)]
    return joined([columns.empty_table(), *(pq.ParquetFile(part, read_dictionary=names).read() for part in parts)])
