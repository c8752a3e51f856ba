"""Paths as people write them into manifests: with `\\`, `~`, `file://`, in another Unicode form, with spaces around."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from exprmetric.io.names import nearest
from exprmetric.io.tables import brief, show

_MOST_HINTS = 20  # missing files for which a nearest name is looked for


class PathReader:
    """Finds the files that cells name, and remembers in which ways they were written.

    Args:
        manifest: relative paths start at its folder.
    """

    def __init__(self, manifest: Path) -> None:
        self._manifest = manifest
        self._ways: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._listed: dict[Path, dict[str, str]] = {}
        self._hints = 0

    def plain(self, text: str) -> Path:
        """The path as it is written."""
        return self._manifest.parent / text

    def other(self, text: str) -> Path | None:
        """The one file or folder that is meant where there is none of that name as it is written; None if none is."""
        for way, texts in _readings(text):
            paths = {path: None for t in texts if _is_there(path := self._manifest.parent / t, text)}
            if len(paths) == 1:
                self._ways[way] += 1
                self._examples.setdefault(way, text)
                return next(iter(paths))
            if paths:
                return None
        return None

    def hint(self, path: Path) -> str:
        """Which names there are most like that of a missing file, for a message; '' if none is."""
        if self._hints == _MOST_HINTS:
            return ""
        self._hints += 1
        if path.parent not in self._listed:
            try:
                self._listed[path.parent] = {child.stem: child.name for child in path.parent.iterdir()}
            except (OSError, ValueError):
                self._listed[path.parent] = {}
        there = self._listed[path.parent]
        found = nearest(path.stem, there, 1)
        return f" (the nearest name there is {brief(repr(there[found[0]]))})" if found else ""

    @property
    def notes(self) -> list[str]:
        """What the user should know of how paths were read."""
        return [
            f"{show(self._manifest)}: {count} paths {way}, such as {brief(repr(self._examples[way]))}"
            for way, count in self._ways.items()
        ]


def _readings(text: str) -> Iterator[tuple[str, list[str]]]:
    """How the text is also read: what is said of it, and the paths; each reading goes on from the one before."""
    now = text
    if (stripped := now.strip()) != now:
        now = stripped
        yield "are read without the spaces around them", [now]
    if now.lower().startswith("file:"):
        parts = urlsplit(now)
        if parts.netloc.lower() not in ("", "localhost"):
            return
        from urllib.request import url2pathname

        now = url2pathname(parts.path)
        yield "are addresses (file:)", [now]
    if "\\" in now:
        now = now.replace("\\", "/")
        yield "are written with '\\' and read with '/'", [now]
    if now.startswith("~"):
        try:
            now = str(Path(now).expanduser())
        except RuntimeError:  # nobody's home
            return
        yield "begin with '~', the home folder", [now]
    forms = unicodedata.normalize("NFC", now), unicodedata.normalize("NFD", now)
    yield "are written in another Unicode form than the file's name", [*forms]


def _is_there(path: Path, text: str) -> bool:
    """A file, or a folder (of frames) that the text names: '~' alone names none."""
    try:
        return path.is_file() or (path.is_dir() and path.name not in ("", "..") and path.name in text)
    except (OSError, ValueError):
        return False
