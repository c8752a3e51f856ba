"""`Files`: a folder or a zip file, read alike."""

from __future__ import annotations

import csv
import io
import threading
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
import numpy.typing as npt

from exprmetric.errors import InputError, UnreadableImageError
from exprmetric.io import limits
from exprmetric.io.images import decode_image


class Files:
    """Read access to a folder or zip file, from any thread; pickles as its path, so that workers open it themselves."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Files], tuple[Path]]:
        return Files, (self.path,)

    @cached_property
    def _zip(self) -> zipfile.ZipFile | None:
        return None if self.path.is_dir() else zipfile.ZipFile(self.path)

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of all files, with forward slashes."""
        if self._zip is not None:
            return frozenset(n for n in self._zip.namelist() if not n.endswith("/"))
        return frozenset(p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if p.is_file())

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            InputError: it is missing or damaged, its name leads out of the data set, or it is beyond a limit of
                `exprmetric.io.limits`.
        """
        with self._lock, self._opened(name) as file:
            return file.read()

    @contextmanager
    def _opened(self, name: str) -> Iterator[IO[bytes]]:
        try:
            if self._zip is not None:
                member = self._zip.getinfo(name)
                if why := limits.costly_member(member):
                    raise InputError(f"{self.path}: {name!r} is not unpacked: {why}")
                with self._zip.open(member) as packed:
                    yield packed
                return
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise InputError(f"{self.path}: {name!r} is outside the data set")
            path = self.path / name
            if (size := path.stat().st_size) > limits.MAX_BYTES:
                raise InputError(f"{path} has {size:,} bytes, more than the {limits.MAX_BYTES:,} that are read")
            with path.open("rb") as file:
                yield file
        except (KeyError, OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise InputError(
                f"{self.path}: {name!r} can't be read: {error}"
            ) from error  # RuntimeError: it is encrypted

    def checksum(self, name: str) -> str:
        """CRC-32 and length of a file's content, which a zip knows without unpacking; '' where it can't be read."""
        if self._zip is not None:
            member = self._zip.NameToInfo.get(name)
            return f"{member.CRC:08x} {member.file_size}" if member else ""
        try:
            content = self.read(name)
        except InputError:
            return ""
        return f"{zlib.crc32(content):08x} {len(content)}"

    def image(self, name: str) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB of an image file, as `exprmetric.io.images.read_image` reads the faces that are measured.

        Raises:
            UnreadableImageError: it is missing, outside the data set, or can't be decoded.
        """
        try:
            content = self.read(name)
        except InputError as error:
            raise UnreadableImageError(f"{str(self.path / name)!r}: {error}") from error
        return decode_image(content, str(self.path / name))

    def rows(self, name: str, columns: Sequence[str] | None = None) -> Iterator[dict[str, str]]:
        """The rows of a CSV file, as they are read.

        Args:
            columns: names of the columns of a file without a header.

        Raises:
            InputError: as of `read`; it is no text, or has more than `limits.MAX_ROWS`.
        """
        with self._text(name) as text:
            for number, row in enumerate(csv.DictReader(text, columns)):
                if number == limits.MAX_ROWS:
                    raise InputError(f"{self.path}: {name!r} has more than the {number:,} rows that are read")
                yield row

    def header(self, name: str) -> list[str]:
        """The cells of the first line of a CSV file; InputError as of `rows`."""
        with self._text(name) as text:
            return next(csv.reader(text), [])

    @contextmanager
    def _text(self, name: str) -> Iterator[IO[str]]:
        try:
            with self._opened(name) as file:
                yield io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{self.path}: {name!r} is no table: {error}") from error
