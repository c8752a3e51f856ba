"""Output files: whole or not at all, and paths as text that every file can hold."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO

from exprmetric.errors import InputError

_CHUNK = 1 << 20  # bytes read at a time

Fill = Callable[[IO[bytes]], object]
"""Writes the content into the open file."""


def write_whole(path: Path, fill: Fill) -> None:
    """Write beside the file and move into place: a kill leaves the old file or the new one.

    Args:
        path: what is written or replaced; its folder exists.
        fill: writes the content into the open file.

    Raises:
        OSError: the folder can't be written.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            fill(file)
        Path(name).chmod(0o644)  # mkstemp's own mode shuts everybody else out
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_files(out: Path, files: Mapping[str, Fill | bytes]) -> None:
    """Write several files below a folder, which is made if it isn't there; each whole or not at all.

    Raises:
        InputError: the folder can't be made or written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            path = out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, partial(_write, content) if isinstance(content, bytes) else content)
    except OSError as error:
        raise InputError(f"can't write the result into {out}: {error}") from error


def _write(content: bytes, file: IO[bytes]) -> None:
    file.write(content)


def sweep(folder: Path) -> None:
    """Remove what writers who were killed have left beside the files of a folder. Nobody may be writing into it."""
    for path in folder.glob(".*"):
        whole = re.fullmatch(r"\.(.+)-[a-z0-9_]{8}", path.name)
        if whole and (folder / whole[1]).is_file() and path.is_file():
            path.unlink(missing_ok=True)


def path_text(path: Path | str | None) -> str:
    """A path, or text with paths in it, that every file can hold: bytes that are no UTF-8 are shown as escapes."""
    text = "" if path is None else str(path)
    try:
        text.encode()
        return text
    except UnicodeEncodeError:  # os.fsdecode keeps a byte that is no UTF-8 as half a character
        return text.encode("utf-8", "surrogateescape" if _only_bytes(text) else "backslashreplace").decode(
            "utf-8", "backslashreplace"
        )


def _only_bytes(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" and not "\udc80" <= letter <= "\udcff" for letter in text)


def walk_files(folder: Path) -> Iterator[Path]:
    """All files below a folder that are not hidden. Links are followed, except those that lead in circles."""

    def refuse(error: OSError) -> None:
        raise InputError(f"{str(error.filename)!r} can't be listed: {error.strerror}") from error

    for root, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        here = Path(root)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for link in (here / name for name in folders if (here / name).is_symlink()):
            target = link.resolve()
            way = [here, *here.parents][: len(here.relative_to(folder).parts) + 1]  # through links, where there are any
            if any(passed.resolve().is_relative_to(target) for passed in way):
                raise InputError(f"{str(link)!r} links to a folder that holds it; remove the link")
        yield from (here / name for name in names if not name.startswith("."))


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file, lower-case hexadecimal. Raises InputError when it can't be read."""
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error}") from error
    return digest.hexdigest()
