"""Entries of one's own: weight files that the shipped manifest doesn't know, such as an encoder trained on one's data.

They stand in `local.json` beside the pulled weights, in the form of `weights_manifest.json`, and obey the same rules:
the hash is pinned, and a file that isn't it is never loaded.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from exprmetric.errors import UnknownWeightsError, WeightsError, WeightsHashError
from exprmetric.io.files import write_whole
from exprmetric.weights import manifest
from exprmetric.weights.manifest import SCHEMA_VERSION, WeightsEntry
from exprmetric.weights.onnx_file import check_alone

FILE = "local.json"
CheckFit = Callable[[WeightsEntry, Path], None]
"""Raises WeightsError where an encoder's file isn't what its entry says: `exprmetric.methods.onnx.check_fit`."""
_read: dict[tuple[str, int, int], dict[str, WeightsEntry]] = {}  # (path, size, mtime_ns) -> entries


def entries(folder: Path) -> dict[str, WeightsEntry]:
    """Own entries by name; none where the folder holds no `local.json`. Raises WeightsError for a damaged one."""
    path = folder / FILE
    try:
        stat = path.stat()
    except OSError:
        return {}
    key = (str(path), stat.st_size, stat.st_mtime_ns)
    if key not in _read:
        _read[key] = manifest.load(path, own=True)
    return _read[key]


def add(
    document: object, file: Path, folder: Path, taken: dict[str, WeightsEntry], check_fit: CheckFit
) -> WeightsEntry:
    """Pin a file: copy it into the folder and write its entry down.

    Args:
        document: the entry as JSON values, as `exprmetric export --entry` prints it.
        file: what its `sha256` is of.
        folder: of the pulled weights; made if it isn't there.
        taken: shipped entries, whose names and files can't be had again. An own entry of the same name is replaced.
        check_fit: runs an ONNX encoder.

    Raises:
        WeightsError: the entry is malformed, its name is taken, the file can't be opened and run as it says or keeps
            weights in other files, or the folder can't be written.
        WeightsHashError: the file is not what the entry says. InputError: it can't be read.
    """
    import filelock

    from exprmetric.io.files import sha256_of

    (item,) = manifest.parse({"schema_version": SCHEMA_VERSION, "weights": [document]}, own=True).values()
    if item.name in taken or item.file.lower() in {t.file.lower() for t in taken.values()}:
        raise WeightsError(f"{item.name!r} ({item.file}) has the name of weights that exprmetric ships: choose another")
    if item.bundled or item.package:
        raise WeightsError(f"{item.name!r} can't be bundled or come with a package: it is a file of your own")
    found = sha256_of(file)
    if found != item.sha256:
        raise WeightsHashError(f"{file} is not what the entry {item.name!r} says: SHA-256 {item.sha256}, found {found}")
    if item.format == "onnx":
        check_alone(file)
        if item.kind.endswith("-encoder"):
            check_fit(item, file)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / f"{FILE}.lock"):
            documents = [d for d in _documents(folder) if d.get("name") != item.name]
            _write(folder, [*documents, document])  # which refuses two entries of one file
            with file.open("rb") as source:
                write_whole(folder / item.file, lambda copy: shutil.copyfileobj(source, copy))
    except OSError as error:
        raise WeightsError(f"{item.name}: {folder} can't be written: {error}") from error
    return item


def remove(name: str, folder: Path) -> None:
    """Forget an own entry and its file. Raises UnknownWeightsError where there is none of this name."""
    import filelock

    known = entries(folder)
    if name not in known:
        raise UnknownWeightsError(f"{name!r} is no entry of your own; own ones: {', '.join(sorted(known)) or 'none'}")
    with filelock.FileLock(folder / f"{FILE}.lock"):
        _write(folder, [d for d in _documents(folder) if d.get("name") != name])
        (folder / known[name].file).unlink(missing_ok=True)


def _documents(folder: Path) -> list[Any]:
    path = folder / FILE
    return list(json.loads(path.read_bytes())["weights"]) if entries(folder) else []


def _write(folder: Path, documents: list[Any]) -> None:
    whole = {"schema_version": SCHEMA_VERSION, "weights": documents}
    manifest.parse(whole, own=True)
    text = json.dumps(whole, indent=2).encode()

    def fill(file: IO[bytes]) -> None:
        file.write(text + b"\n")

    write_whole(folder / FILE, fill)
