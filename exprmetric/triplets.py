"""Triplets (target, source, swapped): which images are measured together.

A folder or a manifest becomes a list of `Triplet`, one for every row of the input. A row that can't be
measured stays in the list with its `problem`; only an input that is wrong as a whole raises InputError.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath

from .errors import InputError
from .files import path_text
from .images import IMAGE_SUFFIXES
from .tables import READERS, Table, brief, listed, read_table, show

ROLES = ("target", "source", "swapped")
_OPTIONAL = ("id", "model", "group", "target_label", "source_label")
_NAMED = 8  # rows that a message names
_MANIFEST_NAMES = tuple(f"triplets{suffix}" for suffix in READERS)


@dataclass(frozen=True)
class Triplet:
    """One face swap: the identity of `source` was put onto `target`, which gave `swapped`.

    A path is None where the input names no image. Triplets of one `group` are not independent; without one
    ('') those that share a target image are a group. `problem` says why the row can't be measured ('' = nothing
    known against it); such a row ends as 'unreadable'.
    """

    id: str
    target: Path | None
    source: Path | None
    swapped: Path | None
    model: str = ""
    group: str = ""
    target_label: str = ""
    source_label: str = ""
    problem: str = ""

    @property
    def same_label(self) -> bool | None:
        """Whether target and source show the same expression class; None where a label is not known."""
        if not (self.target_label and self.source_label):
            return None
        return self.target_label == self.source_label


def read_triplets(source: str | os.PathLike[str]) -> list[Triplet]:
    """Read a folder (see `triplets_from_folder`) or a manifest file (see `triplets_from_manifest`).

    Raises InputError if there is nothing of that name, or it is wrong as a whole.
    """
    path = Path(os.fsdecode(source))
    if path.is_dir():
        return triplets_from_folder(path)
    if path.is_file():
        return triplets_from_manifest(path)
    raise InputError(f"no such folder or manifest: {str(path)!r}")


def triplets_from_folder(folder: str | os.PathLike[str]) -> list[Triplet]:
    """Triplets of a folder that holds `target/`, `source/` and `swapped/`, sorted by id.

    Images with the same path below their role folder, less the suffix, are one triplet and that path is its
    id: `swapped/modelA/x.png` belongs to `target/modelA/x.jpg`. Every stem found in any role folder gives a
    row; a missing partner is named in `problem`. Bytes of a name that are no UTF-8 stand in the id as escapes. Files
    that are no images by their suffix cause a UserWarning that names them; hidden files and folders are passed over.

    If the folder holds a manifest named `triplets.csv`, `.jsonl` or `.parquet`, that is read instead: it
    knows models, labels and groups, which file names don't.

    Raises InputError for a missing or empty role folder, for two images with one stem in one role folder, for
    more than one manifest, and for links that lead in circles.
    """
    root = Path(os.fsdecode(folder))
    manifests = [root / name for name in _MANIFEST_NAMES if (root / name).is_file()]
    if len(manifests) > 1:
        raise InputError(f"{show(root)} holds {listed(manifests)}; name the one to read")
    if manifests:
        return triplets_from_manifest(manifests[0])
    missing = [role for role in ROLES if not (root / role).is_dir()]
    if missing:
        found = sorted(child.name for child in root.iterdir()) if root.is_dir() else []
        raise InputError(
            f"{show(root)} has no folder {listed(missing)}; expected target/, source/ and swapped/, or a "
            f"manifest named {listed(_MANIFEST_NAMES)}. Found: {listed(found) if found else 'nothing'}"
        )
    images = {role: _images_by_stem(root / role) for role in ROLES}
    stems = sorted(set().union(*images.values()))
    return [_folder_triplet(root, stem, {role: images[role].get(stem) for role in ROLES}) for stem in stems]


def triplets_from_manifest(path: str | os.PathLike[str]) -> list[Triplet]:
    """Triplets of a `.csv`, `.jsonl` or `.parquet` file, in its order.

    Columns `target source swapped` are required, `id model group target_label source_label` optional, others
    ignored. Relative paths start at the manifest's folder. A row without an id gets the stem of its swapped
    image, or its row number ('row 0003') where another row has that name. An empty
    cell or a file that isn't there is named in `problem`.

    Raises InputError for a missing column, no rows, an id used twice, and what `read_table` refuses.
    """
    manifest = Path(os.fsdecode(path))
    table = read_table(manifest, ROLES + _OPTIONAL)
    table.require(*ROLES)
    if not table.rows:
        raise InputError(f"{show(manifest)} has no rows")
    ids = _ids(table)
    return [_manifest_triplet(manifest.parent, row, id_) for row, id_ in zip(table.rows, ids, strict=True)]


def single_triplet(
    target: str | os.PathLike[str], source: str | os.PathLike[str], swapped: str | os.PathLike[str]
) -> list[Triplet]:
    """The one triplet of three image files; its id is the stem of the swapped image."""
    row = dict(zip(ROLES, map(os.fsdecode, (target, source, swapped)), strict=True))
    return [_manifest_triplet(Path(), row, PurePath(row["swapped"]).stem)]


def _manifest_triplet(base: Path, row: dict[str, str], id_: str) -> Triplet:
    paths = {role: base / row[role] if _given(row, role) else None for role in ROLES}
    return Triplet(
        id_,
        paths["target"],
        paths["source"],
        paths["swapped"],
        model=row.get("model", ""),
        group=row.get("group", ""),
        target_label=row.get("target_label", ""),
        source_label=row.get("source_label", ""),
        problem=_problem(paths, lambda role: f"no {role} image is given"),
    )


def _folder_triplet(root: Path, stem: str, paths: dict[str, Path | None]) -> Triplet:
    target = paths["target"]
    return Triplet(
        stem,
        target,
        paths["source"],
        paths["swapped"],
        problem=_problem(paths, lambda role: f"no {role} image: {role}/ holds none named {stem!r}"),
    )


def _problem(paths: dict[str, Path | None], absent: Callable[[str], str]) -> str:
    """What keeps the images from being opened, every role named; '' if nothing is seen from here."""
    found = (absent(role) if path is None else _file_problem(role, path) for role, path in paths.items())
    return "; ".join(filter(None, found))


def _file_problem(role: str, path: Path) -> str:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return f"{role} file not found: {show(path)}"
    except OSError as error:
        return f"{role} file can't be opened: {show(path)}: {error.strerror}"
    except ValueError as error:  # a NUL or half a character in the name
        return f"{role} can't be the name of a file: {show(path)}: {error}"
    if not stat.S_ISREG(mode):
        kind = "folder" if stat.S_ISDIR(mode) else "special file"
        return f"{role} is a {kind}, not an image: {show(path)}"
    return ""


def _images_by_stem(folder: Path) -> dict[str, Path]:
    """Images below a role folder by their relative path without suffix."""
    images: dict[str, Path] = {}
    others: list[Path] = []
    for path in sorted(_files(folder)):
        stem = path_text(path.relative_to(folder).with_suffix("").as_posix())
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            others.append(path)
        elif stem in images:
            raise InputError(f"two images with the stem {stem!r}: {show(images[stem])} and {show(path)}")
        else:
            images[stem] = path
    if others:
        warnings.warn(f"no images by their suffix, left out: {listed(others)}", UserWarning, stacklevel=4)
    if not images:
        raise InputError(f"{show(folder)} holds no images. Found: {listed(others) if others else 'nothing'}")
    return images


def _files(folder: Path) -> Iterator[Path]:
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
                raise InputError(f"{show(link)} links to a folder that holds it; remove the link")
        yield from (here / name for name in names if not name.startswith("."))


def _ids(table: Table) -> list[str]:
    names = [row["id"] if _given(row, "id") else PurePath(row["swapped"]).stem.strip() for row in table.rows]
    uses = Counter(names)
    ids = [
        name if _given(row, "id") or (name and uses[name] == 1) else f"row {number:04d}"
        for number, (row, name) in enumerate(zip(table.rows, names, strict=True), start=1)
    ]
    for id_, count in Counter(ids).items():
        if count > 1:
            rows = (str(number) for number, other in enumerate(ids, start=1) if other == id_)
            more = f" and {count - _NAMED} more" if count > _NAMED else ""
            raise InputError(
                f"{show(table.path)}: rows {', '.join(islice(rows, _NAMED))}{more} have the same id {brief(repr(id_))}"
            )
    return ids


def _given(row: dict[str, str], column: str) -> bool:
    return bool(row.get(column, "").strip())
