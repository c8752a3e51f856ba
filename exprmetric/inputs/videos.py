"""Triplets of videos: a manifest, or a folder with `target/`, `swapped/` and, where there is one, `source/`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from exprmetric.errors import InputError
from exprmetric.inputs.role_folders import SOURCE, find_roles, match
from exprmetric.inputs.triplets import ROLES, Triplet, Triplets, notes_of, triplets_from_manifest
from exprmetric.io.images import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from exprmetric.io.tables import READERS, listed, show

_MANIFESTS = tuple(f"triplets{suffix}" for suffix in READERS)


def read_video_triplets(source: str | os.PathLike[str]) -> Triplets:
    """Triplets of videos.

    A manifest is read as `exprmetric.inputs.triplets` reads one of images. In a folder, entries of `target/`,
    `source/` and `swapped/` with the same name, less the suffix, are one clip: a video, an animated or (as a source)
    a still image, or a folder of images. Which names are the same is told by `exprmetric.inputs.role_folders`. A
    missing partner is named in `problem`. Hidden entries are passed over.

    Raises:
        InputError: there is nothing of that name, a role folder is missing or empty, two entries share a name, or no
            swapped clip has a target.
    """
    path = Path(os.fsdecode(source))
    if path.is_dir():
        manifests = [path / name for name in _MANIFESTS if (path / name).is_file()]
        if len(manifests) > 1:
            raise InputError(f"{show(path)} holds {listed(manifests)}; name the one to read")
        return _from_manifest(manifests[0]) if manifests else _from_folder(path)
    if path.is_file():
        return _from_manifest(path)
    raise InputError(f"no such folder or manifest: {str(path)!r}")


def _from_manifest(path: Path) -> Triplets:
    read = triplets_from_manifest(path)
    return Triplets((folders_too(t) for t in read), notes_of(read))


def folders_too(triplet: Triplet) -> Triplet:
    """A row that was read as one of images: there a folder is a problem, here it is a video, if it isn't missing."""
    paths = {role: getattr(triplet, role) for role in ROLES}
    if triplet.source is None:  # a row of a manifest without a source needs none
        del paths[SOURCE]
    missing = [
        f"no {role} is given" if p is None else f"{role} not found: {show(p)}"
        for role, p in paths.items()
        if p is None or not p.exists()
    ]
    if any((triplet.target_face, triplet.source_face, triplet.swapped_face)):
        missing.append("faces of videos can't be named: leave target_face, source_face and swapped_face empty")
    return replace(triplet, problem="; ".join(missing))


def _from_folder(root: Path) -> Triplets:
    folders, notes = find_roles(root, f"a manifest named {listed(_MANIFESTS)}")
    rows, more = match({role: _by_stem(folder) for role, folder in folders.items()}, folders)
    triplets = Triplets(notes=[*notes, *more])
    for row in rows:
        paths = {role: row.images.get(role) for role in folders}
        missing = [
            f"no {role}: {folders[role].name}/ holds none for {row.id!r}" for role, p in paths.items() if p is None
        ]
        problem = "; ".join(filter(None, [*missing, row.hint]))
        found = (paths["target"], paths.get(SOURCE), paths["swapped"])
        triplets.append(Triplet(row.id, *found, row.model, problem=problem))
    return triplets


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not (path.is_dir() or path.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES):
            continue
        stem = path.name if path.is_dir() else path.stem
        if stem in found:
            raise InputError(f"two videos of one name: {show(found[stem])} and {show(path)}")
        found[stem] = path
    if not found:
        raise InputError(f"{show(folder)} holds no videos")
    return found
