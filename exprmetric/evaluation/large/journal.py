"""The journal of a run: rows on disk as they come, so that a kill at any moment loses next to none of them.

Below the output folder, `partial/` holds `run.json` (what is measured, with what) and `rows-FIRST-SHA256.parquet`, each
written whole or not at all. `on-the-way` names the images that threads are reading (`suspects.py`). The same run in the
same folder goes on where the last one stopped. Once the result is complete, `partial/` is removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from exprmetric.errors import InputError
from exprmetric.evaluation.large.private import PrivateVectors
from exprmetric.evaluation.rows import PRIVATE_COLUMNS, name_columns, schema
from exprmetric.io.files import sweep, write_whole

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = "partial"
DONE = ".partial-done"
RUN = "run.json"
LOCK = "lock"
NOTES = "on-the-way"
PATTERN = "rows-*.parquet"
SECONDS = 1.0
"""Rows wait at most this long before they go to disk."""
ONE_PIECE = 1_000_000
"""Fewer rows are joined in one piece, which is quicker to look into; more would stand in memory twice."""
SHARE = 50
"""And no more than one in this many of all rows."""


class Journal:
    """Rows of one run. Use it as a context: while it is open, no other run can write into the folder. `begin` it.

    Args:
        out: the output folder; made if it isn't there.
        methods: those of the rows' columns.
        total: rows that there will be.

    Raises:
        InputError: the folder can't be written, or another run is writing into it.
    """

    def __init__(self, out: Path, methods: Sequence[str], total: int) -> None:
        self.out = out
        self.folder = out / FOLDER
        self.notes: Path | None = self.folder / NOTES
        self._schema = schema(methods)
        self._done = np.zeros(total, bool)
        self._waiting: list[pa.Table] = []
        self._since = time.monotonic()

    def __enter__(self) -> Journal:
        from filelock import FileLock, Timeout

        with self.writing():
            if self.folder.is_symlink():  # of somebody else's folder, in which parts would be overwritten
                raise InputError(f"{self.folder} is a link: remove it")
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.folder / LOCK, timeout=0)
            try:
                self._lock.acquire()
            except Timeout:
                busy = f"another run is writing into {self.out}: wait for it, or name another folder"
                raise InputError(busy) from None
            try:
                for folder in (self.out, self.folder):  # now, not after hours of work
                    tempfile.TemporaryFile(dir=folder).close()
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

    def begin(self, run: dict[str, Any]) -> None:
        """Go on with what is there, or begin anew where it is of another run.

        Args:
            run: all that decides the rows, as JSON values.
        """
        asked = json.loads(json.dumps({**run, "columns": self._schema.names}))
        parts = sorted(self.folder.glob(PATTERN))
        try:
            same = json.loads((self.folder / RUN).read_text()) == asked
        except (OSError, ValueError, RecursionError):
            same = False
        if parts and not same:
            warnings.warn(
                f"{self.out} holds an unfinished run of other images or settings; its rows are thrown away and "
                "the measurement begins anew",
                stacklevel=3,
            )
        with self.writing():
            for part in parts:
                rows = _read_part(part, ["index"]) if same else None
                indices = None if rows is None else rows["index"].to_numpy()
                if indices is None or self._done[indices].any():
                    part.unlink()
                else:
                    self._done[indices] = True
            if not same:
                text = json.dumps(asked, indent=1).encode()
                write_whole(self.folder / RUN, lambda file: file.write(text))

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
        content = io.BytesIO()
        pq.write_table(rows, content)
        name = f"rows-{indices.min():09d}-{_digest(content.getvalue())}.parquet"
        with self.writing():
            write_whole(self.folder / name, lambda file: file.write(content.getvalue()))
        self._done[indices] = True
        self._waiting.clear()

    def rows(self) -> pa.Table:
        """All rows so far, in the order of the input.

        Raises:
            InputError: somebody has changed what this run wrote.
        """
        self.flush()
        names = name_columns(self._schema)
        tables = [self._schema.empty_table()]
        for part in sorted(self.folder.glob(PATTERN)):
            rows = _read_part(part, self._schema.names, names)
            if rows is None:
                raise InputError(f"{part} was changed while this run wrote; the same command measures its rows again")
            tables.append(rows)
        found = joined(tables)
        if len(np.unique(found["index"].to_numpy())) != self._done.sum():
            raise InputError(f"rows vanished from {self.folder} while this run wrote; the same command goes on")
        return found

    def private(self, columns: tuple[str, ...] = PRIVATE_COLUMNS) -> PrivateVectors:
        """Vectors of all rows, mapped from files in the journal's folder, which go with it."""
        self.flush()
        parts = sorted(self.folder.glob(PATTERN))
        read = (table for part in parts if (table := _read_part(part, ["index", *columns])) is not None)
        return PrivateVectors.gather(self.folder, [_read_index(part) for part in parts], read, columns)

    def finish(self) -> None:
        """The result stands beside the journal: remove it, and what killed runs have left beside the result."""
        done = self.out / DONE
        shutil.rmtree(done, ignore_errors=True)
        try:
            self.folder.rename(done)  # at once: a kill leaves a journal or none
        except OSError:  # Windows moves no folder of open files
            done = self.folder
        sweep(self.out)
        self._lock.release()
        shutil.rmtree(done, ignore_errors=True)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """OSErrors become InputErrors that say what is kept."""
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

    notes: Path | None = None

    def __init__(self, methods: Sequence[str], total: int) -> None:
        self.missing = np.arange(total)
        self._rows = [schema(methods).empty_table()]

    def begin(self, run: dict[str, Any]) -> None:
        pass

    def writing(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def add(self, rows: pa.Table) -> None:
        self._rows.append(rows)

    def rows(self) -> pa.Table:
        return joined(self._rows)

    def private(self, columns: tuple[str, ...] = PRIVATE_COLUMNS) -> PrivateVectors:
        """A run that keeps identity vectors writes files."""
        raise NotImplementedError

    def finish(self) -> None:
        pass


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Rows of several tables in the order of the input."""
    import pyarrow as pa

    rows = pa.concat_tables(tables).unify_dictionaries()
    if rows.num_rows < ONE_PIECE:
        rows = rows.combine_chunks()
    order = np.argsort(rows["index"].to_numpy(), kind="stable")
    return rows if (order == np.arange(len(order))).all() else rows.take(order)


def _read_index(part: Path) -> npt.NDArray[np.int64]:
    import pyarrow.parquet as pq

    return np.asarray(pq.read_table(part, columns=["index"])["index"].to_numpy())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _read_part(part: Path, columns: Sequence[str], names: Sequence[str] = ()) -> pa.Table | None:
    """Columns of a part, some of them as dictionaries; None where it is not as it was written.

    A power cut can leave an empty file behind a whole name, a bad disk a wrong number.
    """
    import pyarrow.parquet as pq

    try:
        content = part.read_bytes()
    except OSError:
        return None
    if part.stem.rpartition("-")[2] != _digest(content):
        return None
    return pq.ParquetFile(io.BytesIO(content), read_dictionary=list(names)).read(list(columns))
