"""What lies in a folder, by name. Names are looked up and never joined to a path, so none leads out of the folder."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from exprmetric.errors import InputError
from exprmetric.inputs.template import without_suffix
from exprmetric.inputs.triplets import Triplet
from exprmetric.io.files import path_text, walk_files
from exprmetric.io.names import nearest, plain
from exprmetric.io.tables import listed, show


@dataclass(frozen=True)
class Names:
    """Files and folders by their path below `folder`, with '/' between the parts.

    Attributes:
        exact: by the whole name.
        stems: by the name without a suffix that files of this kind have; several files may share one.
        folders: names of all folders on the way to them.
        odd: what was asked for and found though it is written differently, for the user; see `odd_note`.
    """

    folder: Path
    exact: Mapping[str, Path]
    stems: Mapping[str, tuple[Path, ...]]
    folders: frozenset[str]
    odd: dict[str, Path] = field(default_factory=dict, compare=False)

    def find(self, name: str, *, loosely: bool = False) -> Path | None:
        """The one file of this name, with or without its suffix; None where there is none, or more than one.

        Args:
            loosely: where there is none, take the one whose name is the same by `exprmetric.io.names.plain`.
        """
        if name in self.exact:
            return self.exact[name]
        found = self.stems.get(name, ())
        if loosely and not found:
            found = self._plainly.get(plain(name), ())
        return found[0] if len(found) == 1 else None

    def knows(self, name: str) -> bool:
        """Whether there is any file of this name, be it written differently."""
        return name in self.exact or name in self.stems or plain(name) in self._plainly

    @cached_property
    def _plainly(self) -> Mapping[str, tuple[Path, ...]]:
        found: dict[str, tuple[Path, ...]] = {}
        for stem, paths in self.stems.items():
            found[plain(stem)] = found.get(plain(stem), ()) + paths
        return found

    def missing(self, role: str, name: str) -> str:
        """Why `find` gave None: what was looked for, and where."""
        if several := self.stems.get(name, ()):
            return f"{len(several)} {role} files are named {name!r}: {listed(several)}"
        near = nearest(name, self.stems, 1)
        hint = f"; the nearest is {near[0]!r}" if near else ""
        return f"no {role}: {show(self.folder)} holds none named {name!r}{hint}"

    def odd_note(self) -> list[str]:
        """A sentence about the names that were found though they are written differently; [] where there are none."""
        if not self.odd:
            return []
        examples = "; ".join(f"{a!r} with {b.name!r}" for a, b in list(self.odd.items())[:3])
        count = f"{len(self.odd)} names that are written differently"
        return [f"{show(self.folder)}: {count} are taken for the same: {examples}"]


def names(folder: Path, paths: Iterable[Path], suffixes: frozenset[str], *, folders: bool = False) -> Names:
    """These files below a folder by name; if asked for, also the folders that they lie in."""
    exact = {path.relative_to(folder).as_posix(): path for path in paths}
    stems: dict[str, dict[Path, None]] = {}
    parents: set[str] = set()
    for name, path in exact.items():
        stems.setdefault(without_suffix(name, suffixes), {})[path] = None
        parents.update(parent.as_posix() for parent in PurePosixPath(name).parents)
        if folders and path.parent != folder:
            stems.setdefault(path.parent.relative_to(folder).as_posix(), {})[path.parent] = None
    return Names(folder, exact, {stem: tuple(found) for stem, found in stems.items()}, frozenset(parents - {"."}))


def files_below(folder: Path) -> list[Path]:
    """All files of a folder and those below it, sorted; hidden ones are passed over, links that lead up refused.

    Raises:
        InputError: there is no such folder, or it can't be listed.
    """
    if not folder.is_dir():
        raise InputError(f"no such folder: {show(folder)}")
    return sorted(walk_files(folder))


def partners(folder: Path, suffixes: frozenset[str], *, folders: bool = False) -> Names:
    """The files of a folder that may be targets or sources: those with these suffixes (and the folders they lie in).

    Raises:
        InputError: it can't be listed, or holds no such file.
    """
    files = files_below(folder)
    found = names(folder, (p for p in files if p.suffix.lower() in suffixes), suffixes, folders=folders)
    if not found.exact:
        raise InputError(f"{show(folder)} holds no images. Found: {listed(files) if files else 'nothing'}")
    return found


def unmatched(root: Path, path: Path, problem: str, *, model: str = "") -> Triplet:
    """The row of something that no rule made a triplet of; its id is its path below the root."""
    return Triplet(relative_text(root, path), None, None, path, model=model, problem=problem)


def relative_text(root: Path, path: Path) -> str:
    """The path below the root, with '/' between its parts, as text that every file can hold."""
    return path_text(path.relative_to(root).as_posix())


def require_unique(rows: Iterable[Triplet]) -> None:
    """Raise InputError if two rows have one id, naming their images."""
    seen: dict[str, Triplet] = {}
    for row in rows:
        if row.id in seen:
            shown = " and ".join(path_text(r.swapped or "no image") for r in (seen[row.id], row))
            raise InputError(f"two rows have the same id {row.id!r}: {shown}")
        seen[row.id] = row


def not_utf8(path: Path) -> str:
    """What is wrong with a name that no result file could hold; '' if nothing is."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8: rename it"
    return ""


def misnamed(path: Path, suffixes: Collection[str]) -> str:
    """Why a file is not looked at as an image, by its name; '' if nothing is seen."""
    if problem := not_utf8(path):
        return problem
    return "" if path.suffix.lower() in suffixes else f"its suffix {path.suffix!r} is not that of an image"
