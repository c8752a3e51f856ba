"""Vectors of earlier runs, kept on disk: the same image is not looked at twice with the same weights.

One SQLite file, so that runs beside each other can use it and a kill leaves it whole. What is kept is found again by
the content of the image, by all that decides which pixels a method sees (detector, landmarks, versions of the
libraries) and by the method's weights. A vector describes a face: the file is for its owner alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from exprmetric.evaluation.entries import decode, encode, lasting
from exprmetric.evaluation.reading import Outcome, Sight
from exprmetric.faces.finder import FaceFinder
from exprmetric.io.environment import PACKAGES, package_version
from exprmetric.methods.base import Method
from exprmetric.weights import store as weights

FILE = "vectors.sqlite3"
FORM = "all faces"
"""Of what is kept; changes with what an entry means."""
MOST_BYTES = 2_000_000_000
_DAY = 86_400
_PATIENCE = 60.0
"""Seconds that a run waits for others that write."""
_CHECK_EVERY = 4096
"""Vectors between two looks at the size of the file."""


@dataclass(frozen=True)
class Kept:
    """Where faces and vectors are kept for later runs.

    Attributes:
        folder: of the file.
        identity: keep vectors that tell people apart too. Without it they are made anew by each run.
    """

    folder: Path
    identity: bool = False


class Cache(Protocol):
    """What the pipeline asks, by the content hash of an image."""

    def find(self, content: str) -> Outcome | None: ...

    def add(self, content: str, outcome: Outcome) -> None: ...

    def commit(self) -> None: ...


class NoCache:
    """Nothing is known and nothing is kept."""

    def find(self, content: str) -> Outcome | None:
        return None

    def add(self, content: str, outcome: Outcome) -> None:
        pass

    def commit(self) -> None:
        pass


class VectorCache:
    """Faces and vectors in a SQLite file; use it in the thread that made it.

    Whatever goes wrong with it (no room, no right to write, a damaged file, a wait without end) is said once in a
    warning, and the run goes on without it.

    Args:
        folder: holds the file; made if it isn't there.
        finder: finds the faces that the vectors are of.
        methods: make the vectors.
        provider: of ONNX Runtime, on which they run.
        most_bytes: what was used longest ago is forgotten when the file grows beyond it.
    """

    def __init__(
        self,
        folder: Path,
        finder: FaceFinder,
        methods: Sequence[Method],
        provider: str,
        *,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        versions = [f"{name} {package_version(name)}" for name in PACKAGES]
        self._finder = finder
        self._base = "\n".join([FORM, finder.seen, provider, *versions])
        self._methods = {m.name: (m.fingerprint, m.dimension) for m in methods}
        self._most_bytes = most_bytes
        self._today = int(time.time()) // _DAY
        self._used: list[bytes] = []
        self._waiting: list[tuple[bytes, bytes, int]] = []
        self._added = 0
        self._file = folder / FILE
        self._connection: sqlite3.Connection | None = None
        with self._forgiving():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._connection = self._open()

    def _open(self) -> sqlite3.Connection:
        self._file.touch(mode=0o600)
        connection = sqlite3.connect(self._file, timeout=_PATIENCE)
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS kept (name BLOB PRIMARY KEY, value BLOB NOT NULL, used INTEGER NOT NULL)"
        )
        return connection

    @contextlib.contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            warnings.warn(
                f"the vector cache {self._file} can't be used ({error}); this run goes on without it. If the file is "
                "damaged, delete it",
                stacklevel=3,
            )
            self.close()

    def _name(self, *parts: str) -> bytes:
        return hashlib.sha256("\0".join([self._base, *parts]).encode()).digest()[:16]

    def find(self, content: str) -> Outcome | None:
        """What is known of an image: the error that it gave, or its faces and those vectors that are kept."""
        if self._connection is None:
            return None
        names = {m: self._name(content, fingerprint) for m, (fingerprint, _) in self._methods.items()}
        faces = self._name(content)
        wanted = list(dict.fromkeys([faces, *names.values()]))
        rows: dict[bytes, bytes] = {}
        with self._forgiving():
            query = f"SELECT name, value, used FROM kept WHERE name IN ({','.join('?' * len(wanted))})"
            for name, sealed, used in self._connection.execute(query, wanted):
                value = _unsealed(name, sealed)
                if value is None:
                    continue
                rows[name] = value
                if used != self._today:
                    self._used.append(name)
        if faces not in rows:
            return None
        found = decode(rows[faces], self._finder)
        if isinstance(found, Sight):
            good = [f for f in found.faces if f.error is None]
            for method, name in names.items():
                vectors = np.frombuffer(rows.get(name, b""), np.float32)
                if not good or not len(vectors) or len(vectors) % len(good):
                    continue
                if self._methods[method][1] in (0, len(vectors) // len(good)):
                    for face, vector in zip(good, vectors.reshape(len(good), -1), strict=True):
                        face.vectors[method] = vector
        return found

    def add(self, content: str, outcome: Outcome) -> None:
        """Keep what became of an image; it is on disk after `commit`."""
        if self._connection is None or not lasting(outcome):
            return
        values = {self._name(content): encode(outcome)}
        if isinstance(outcome, Sight):
            good = [f for f in outcome.faces if f.error is None]
            for method, (fingerprint, _) in self._methods.items():
                if good and all(method in f.vectors for f in good):
                    vectors = np.concatenate([f.vectors[method] for f in good])
                    values[self._name(content, fingerprint)] = vectors.astype(np.float32).tobytes()
        # written by `commit`: who writes shuts the others out, and between two images lie seconds
        self._waiting += [(name, _sealed(name, value), self._today) for name, value in values.items()]

    def commit(self) -> None:
        """Make what was added survive a kill."""
        if self._connection is None:
            return
        with self._forgiving():
            if self._waiting or self._used:
                with self._connection:
                    self._connection.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", self._waiting)
                    used = [(self._today, name) for name in self._used]
                    self._connection.executemany("UPDATE kept SET used = ? WHERE name = ?", used)
                self._added += len(self._waiting)
                self._waiting.clear()
                self._used.clear()
            if self._added >= _CHECK_EVERY:
                self._added = 0
                self._shrink(self._connection)

    def _shrink(self, connection: sqlite3.Connection) -> None:
        while (size := _size(connection)) > self._most_bytes:
            (count,) = connection.execute("SELECT count(*) FROM kept").fetchone()
            if not count:
                break
            with connection:
                connection.execute(
                    "DELETE FROM kept WHERE name IN (SELECT name FROM kept ORDER BY used, rowid LIMIT ?)",
                    (max(1, int(count * (1 - 0.8 * self._most_bytes / size))),),
                )
            connection.executescript("PRAGMA incremental_vacuum")  # `execute` would free one page and stop
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Let go of the file; what was not committed is lost."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def __enter__(self) -> VectorCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.commit()
        if self._connection is not None:
            with self._forgiving():
                self._shrink(self._connection)
        self.close()


def cache_folder() -> Path:
    """Where vectors are kept unless a run says otherwise: beside the pulled weights. May not exist."""
    return weights.cache_dir().with_name("vectors")


def _size(connection: sqlite3.Connection) -> int:
    (page,), (pages,) = (connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_size", "page_count"))
    return int(page) * int(pages)


def _sealed(name: bytes, value: bytes) -> bytes:
    """With a check sum: SQLite has none, and a flipped bit in a vector would be a wrong number in silence."""
    return value + hashlib.sha256(name + value).digest()[:8]


def _unsealed(name: bytes, sealed: object) -> bytes | None:
    """What was sealed under this name; None where it is not as it was."""
    if not isinstance(sealed, bytes):
        return None
    value = sealed[:-8]
    return value if _sealed(name, value) == sealed else None
