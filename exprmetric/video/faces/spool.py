"""Arrays that grow with a video: in memory while they are small, then in a temporary file that is mapped back.

A mapped array is an ordinary read-only array whose pages the system fetches when they are touched. They count as this
process's memory until they are let go of (`let_go`), so whoever goes through a long one does it by blocks.
"""

from __future__ import annotations

import ctypes
import mmap
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from exprmetric.errors import InputError

KEPT_BYTES = 4 << 20
"""Rows that wait in memory until they go to the file; a video with fewer never has one."""
BLOCK = 4096
"""Rows that are in memory at a time where all rows of a mapped array are read."""
_ALIGN = 64

Array = npt.NDArray[Any]
Rows = Mapping[str, Array]


class Spool:
    """Gathers rows of several columns, in order.

    Args:
        none: by column, an array without rows that says type and shape. A column of vectors whose dimension isn't known
            yet has shape (0, 0); rows that come before it is known, and those that can't be read, are NaN.
    """

    def __init__(self, none: Rows) -> None:
        self._columns = {name: _Column(array) for name, array in none.items()}
        self._waiting: list[Rows] = []
        self._bytes = 0

    def add(self, rows: Rows) -> None:
        """Append a block of rows, an array for each column.

        Raises:
            InputError: the temporary file can't be written.
        """
        self._waiting.append(rows)
        self._bytes += sum(a.nbytes for a in rows.values())
        if self._bytes > KEPT_BYTES:
            self._write()

    def arrays(self) -> dict[str, Array]:
        """All rows by column; read-only views of one mapped file where they were too many for memory.

        Raises:
            InputError: the temporary file can't be written.
        """
        if not any(column.rows for column in self._columns.values()):
            return {name: _stack([c.none, *(r[name] for r in self._waiting)]) for name, c in self._columns.items()}
        self._write()
        return _mapped(self._columns)

    def _write(self) -> None:
        try:
            for name, column in self._columns.items():
                column.write(_stack([column.none, *(rows[name] for rows in self._waiting)]))
        except OSError as error:
            raise _no_room(error) from error
        self._waiting, self._bytes = [], 0
        _give_back()


def _give_back() -> None:
    """Have glibc return what is free to the system: where arrays of all sizes come and go, its heaps grow by holes."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other libraries have none, and need none
        if trim is not None:
            trim(0)


class _Column:
    """The part of a column that is in its own file."""

    def __init__(self, none: Array) -> None:
        self.none, self.rows = none, 0
        self._file: IO[bytes] | None = None

    def write(self, array: Array) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="exprmetric-")  # noqa: SIM115 - `move` closes it
        if self.none.shape[1:] == (0,) and array.shape[1]:  # the dimension is known from now on
            for start in range(0, self.rows, BLOCK):
                shape = min(BLOCK, self.rows - start), array.shape[1]
                self._file.write(np.full(shape, np.nan, array.dtype).tobytes())
        self.none = np.empty((0, *array.shape[1:]), array.dtype)
        self._file.write(np.ascontiguousarray(array).data)
        self.rows += len(array)

    def move(self, whole: IO[bytes]) -> int:
        """Append all to another file, and give up one's own; where it begins there."""
        whole.write(bytes(-whole.tell() % _ALIGN))
        start = whole.tell()
        if self._file is not None:
            with self._file as file:
                file.seek(0)
                shutil.copyfileobj(file, whole, 1 << 20)
            self._file = None
        return start


def _mapped(columns: Mapping[str, _Column]) -> dict[str, Array]:
    """One file for all columns: however many videos are open, each takes one of the few files a process may have."""
    try:
        with tempfile.TemporaryFile(prefix="exprmetric-") as whole:
            starts = {name: column.move(whole) for name, column in columns.items()}
            whole.write(bytes(_ALIGN))  # so that a column without components begins within the file
            whole.flush()
            pages = mmap.mmap(whole.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise _no_room(error) from error
    return {
        name: np.ndarray((c.rows, *c.none.shape[1:]), c.none.dtype, pages, starts[name]) for name, c in columns.items()
    }


def _no_room(error: OSError) -> InputError:
    return InputError(
        f"can't keep what was found in a long video in {tempfile.gettempdir()!r} ({error}); the environment variable "
        "TMPDIR names another folder"
    )


def _stack(arrays: list[Array]) -> Array:
    """One array below the other; where a method has not said its dimension, a batch it can't read has no columns."""
    if arrays[0].ndim == 2 and len(widths := {a.shape[1] for a in arrays}) > 1:
        wide = max(widths)
        arrays = [a if a.shape[1] == wide else np.full((len(a), wide), np.nan, a.dtype) for a in arrays]
    return np.concatenate(arrays)


def let_go(*arrays: Array) -> None:
    """Let the system take back the pages of mapped arrays; their content stays in the file. Others are left alone."""
    for array in arrays:
        base: object = array
        while isinstance(base, np.ndarray):
            base = base.base
        if isinstance(base, mmap.mmap) and hasattr(base, "madvise"):
            base.madvise(mmap.MADV_DONTNEED)


def blocks(count: int) -> Iterator[slice]:
    """Slices of at most `BLOCK` rows that cover `count` rows; one empty slice for none."""
    for start in range(0, max(count, 1), BLOCK):
        yield slice(start, min(start + BLOCK, count))


def by_blocks(compute: Callable[..., Array], *arrays: Array) -> Array:
    """What a function that treats each row alone makes of arrays of N rows, of which a block is in memory at a time."""
    found = []
    for rows in blocks(len(arrays[0])):
        found.append(compute(*(a[rows] for a in arrays)))
        let_go(*arrays)
    return found[0] if len(found) == 1 else np.concatenate(found)


def take(array: Array, rows: npt.NDArray[np.integer[Any]]) -> Array:
    """A copy of some rows, in memory."""
    found: Array = array[rows]
    let_go(array)
    return found


def readable(vectors: Array, rows: npt.NDArray[np.integer[Any]] | None = None) -> npt.NDArray[np.bool_]:
    """Which rows (all by default) of (N, D) vectors are known in every component."""
    asked = np.arange(len(vectors)) if rows is None else rows
    return by_blocks(lambda part: np.asarray(np.isfinite(take(vectors, part)).all(axis=1)), asked)


def mean_vector(vectors: Array, rows: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
    """(D,) mean in float64 of those of some rows that are known; NaN where none is."""
    total, count = np.zeros((1, vectors.shape[1])), 0
    for block in blocks(len(rows)):
        part = take(vectors, rows[block])
        part = part[np.isfinite(part).all(axis=1)]
        total, count = np.concatenate([total, part]).sum(axis=0, keepdims=True), count + len(part)
    return total[0] / count if count else np.full(vectors.shape[1], np.nan)
