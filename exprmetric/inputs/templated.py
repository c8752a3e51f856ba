"""The layout `pairs`: swapped images whose names say which target they were made of, and which source if any."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from exprmetric.errors import InputError
from exprmetric.inputs.clips import CLIP_SUFFIXES
from exprmetric.inputs.folder import (
    Names,
    files_below,
    misnamed,
    not_utf8,
    partners,
    relative_text,
    require_unique,
    unmatched,
)
from exprmetric.inputs.template import Split, Template, choose, first_splits, parse_template, without_suffix
from exprmetric.inputs.triplets import Triplet, Triplets
from exprmetric.io.frame_folders import pair_frames, seem_shifted
from exprmetric.io.images import PICTURE_SUFFIXES, VIDEO_SUFFIXES
from exprmetric.io.tables import listed, show

DEFAULT = "{target}_{source}.png"
ALONE = "{target}.png"
"""The default where there are no sources."""


def triplets_from_template(
    swapped_dir: Path,
    target_dir: Path,
    source_dir: Path | None = None,
    template: str | None = None,
    *,
    clips: bool = False,
) -> list[Triplet]:
    """One row for every file below `swapped_dir`, in the order of their names.

    The path of a swapped image below `swapped_dir`, with '/' between folders, is read by the template. `{target}` and
    `{source}` name images, without suffix; `{model}` and `{id}` become those of the row. With `{frame}` they name
    folders of images of which that frame is taken (the source may be a single image), and rows of one target are one
    group. Without `source_dir` names need no `{source}`, and rows have none. A template that doesn't end in the suffix
    of an image stands for all of them.

    Where a name can be split in several ways (`a_b_c.png`), the one whose target and source exist is taken. Files that
    don't match, are ambiguous or miss an image are rows with a `problem`. Hidden files are passed over. Names that are
    written differently (Unicode form, case, zeros before a number) are the same where one alone can be meant, frames
    are paired as `exprmetric.io.frame_folders` says; the `notes` tell of both.

    With `clips`, names are those of videos and of folders of frames, and a row is a whole clip. Rows of one target are
    one group.

    Raises:
        InputError: the template is wrong, matches no name, or none that names a target or a source that exists; a
            folder is missing or holds no images, or an id occurs twice.
    """
    folders = {"target": target_dir} | ({} if source_dir is None else {"source": source_dir})
    suffixes = CLIP_SUFFIXES if clips else PICTURE_SUFFIXES
    default = DEFAULT if source_dir else ALONE
    pattern = parse_template(template or (without_suffix(default, suffixes) if clips else default), tuple(folders))
    if clips and "frame" in pattern.fields:
        raise InputError(f"`template` {pattern.text!r}: a clip is named as a whole: leave out {{frame}}")
    if "source" in pattern.fields and source_dir is None:
        raise InputError(f"`template` {pattern.text!r} names sources: give their folder (`source_dir`)")
    where = {role: partners(folder, suffixes, folders=clips) for role, folder in folders.items()}
    files = files_below(swapped_dir)
    if not files:
        raise InputError(f"{show(swapped_dir)} holds no images. Found: nothing")
    if clips:
        own = (path.suffix.lower() in VIDEO_SUFFIXES or path.parent == swapped_dir for path in files)
        files = list(dict.fromkeys(path if alone else path.parent for path, alone in zip(files, own, strict=True)))
    splits = {path: _splits(path, swapped_dir, pattern, suffixes) for path in files}
    _require_some(splits, swapped_dir, pattern, where, suffixes)
    chosen: dict[Path, Split] = {}
    rows = [_row(path, swapped_dir, pattern, where, splits[path], chosen, suffixes) for path in files]
    notes = _shift_frames(rows, chosen, where)
    if "id" not in pattern.fields:  # two images of one stem, or an image and a stray file of that name
        uses = Counter(row.id for row in rows)
        pairs = zip(rows, files, strict=True)
        rows = [r if uses[r.id] == 1 else replace(r, id=relative_text(swapped_dir, path)) for r, path in pairs]
    require_unique(rows)
    return Triplets(rows, [*notes, *(note for names in where.values() for note in names.odd_note())])


def _problem(path: Path, suffixes: frozenset[str]) -> str:
    """Why it isn't looked at, by its name; a folder is a clip."""
    return not_utf8(path) if path.is_dir() else misnamed(path, suffixes)


def _splits(path: Path, root: Path, pattern: Template, suffixes: frozenset[str]) -> list[Split]:
    """All ways to read a file's name; none of what is no image by its name."""
    if _problem(path, suffixes):
        return []
    name = path.relative_to(root).as_posix()
    return first_splits(pattern, without_suffix(name, suffixes) if _any_suffix(pattern, suffixes) else name)


def _require_some(
    splits: Mapping[Path, list[Split]],
    root: Path,
    pattern: Template,
    where: Mapping[str, Names],
    suffixes: frozenset[str],
) -> None:
    """Refuse a template that fits nothing, before anything is measured."""
    images = [path for path in splits if not _problem(path, suffixes)]
    fit = [path for path in images if splits[path]]
    if images and not fit:
        examples = listed((path.relative_to(root).as_posix() for path in images), 3)
        raise InputError(f"no name in {show(root)} matches `template` {pattern.text!r}. Found: {examples}")
    for role, names in where.items() if fit else ():
        if not any(names.knows(_asked(names, role, split)) for path in fit for split in splits[path]):
            asked = {split[role]: None for path in fit for split in splits[path]}
            raise InputError(
                f"by `template` {pattern.text!r}, no name in {show(root)} is that of a {role} in {show(names.folder)} "
                f"(`{role}_dir`): {listed(asked, 3)} against {listed(names.stems, 3)}"
            )


def _row(
    path: Path,
    root: Path,
    pattern: Template,
    where: Mapping[str, Names],
    splits: list[Split],
    chosen: dict[Path, Split],
    suffixes: frozenset[str],
) -> Triplet:
    problem = _problem(path, suffixes)
    if problem:
        return unmatched(root, path, problem)
    if not splits:
        return unmatched(root, path, f"its name doesn't match the template {pattern.text!r}")
    targets, sources = where["target"], where.get("source")
    for loosely in (False, True):
        split, problem = choose(
            splits,
            lambda s, loosely=loosely: _find(targets, "target", s, loosely) is not None,  # type: ignore[misc]
            lambda s, loosely=loosely: sources is None or _find(sources, "source", s, loosely) is not None,  # type: ignore[misc]
        )
        found = {role: _find(names, role, split, loosely) if split else None for role, names in where.items()}
        if all(found.values()):
            break
    if split is None:
        return unmatched(root, path, problem)
    chosen[path] = split
    for role, image in found.items():
        if image and not _find(where[role], role, split, False):
            where[role].odd[split[role]] = image
    lacking = (_missing(where[role], role, split) for role, image in found.items() if image is None)
    return Triplet(
        split.get("id", without_suffix(path.relative_to(root).as_posix(), suffixes)),
        found["target"],
        found.get("source"),
        path,
        model=split.get("model", ""),
        group=split["target"] if "frame" in split or suffixes is CLIP_SUFFIXES else "",
        problem="; ".join(lacking),
    )


def _any_suffix(pattern: Template, suffixes: frozenset[str]) -> bool:
    end = pattern.literals[-1]
    return without_suffix(f"x{end}", suffixes) == f"x{end}"


def _asked(where: Names, role: str, split: Split) -> str:
    """The name that is looked for. A still image may be the source of every frame, but not stand in for a target's."""
    name = split[role]
    still = "frame" not in split or (role == "source" and name not in where.folders)
    return name if still else f"{name}/{split['frame']}"


def _find(where: Names, role: str, split: Split, loosely: bool) -> Path | None:
    return where.find(_asked(where, role, split), loosely=loosely)


def _missing(where: Names, role: str, split: Split) -> str:
    return where.missing(f"{role} image", _asked(where, role, split))


def _shift_frames(rows: list[Triplet], chosen: Mapping[Path, Split], where: Mapping[str, Names]) -> list[str]:
    """Pair the frames of clips again whose numbers seem shifted against their target's; rows are replaced. Notes."""
    clips: dict[tuple[str, ...], list[int]] = {}
    for at, row in enumerate(rows):
        if row.swapped and "frame" in (split := chosen.get(row.swapped, {})):
            key = (split["target"], split.get("source", ""), split.get("model", ""))
            clips.setdefault(key, []).append(at)
    notes: list[str] = []
    for (target, *_), places in clips.items():
        if all(rows[at].target for at in places):
            continue
        swapped = {chosen[path]["frame"]: path for at in places if (path := rows[at].swapped)}
        ours = _frames_of(where["target"], target)
        if not ours or len(swapped) < len(places) or not seem_shifted(ours, swapped):
            continue
        folders = where["target"].folder / target, next(iter(swapped.values())).parent
        try:
            pairs = pair_frames(ours, swapped, folders)
        except InputError as error:
            for at in places:
                rows[at] = replace(rows[at], target=None, source=None, problem=str(error))
            continue
        notes.append(pairs.note)
        of_swapped = {name: own for own, name in pairs.partner.items()}
        for at in places:
            split = chosen[rows[at].swapped]  # type: ignore[index]
            frame = of_swapped.get(split["frame"])
            images = {"target": ours.get(frame or "")}
            if "source" in where:
                images["source"] = _find(where["source"], "source", {**split, "frame": frame or split["frame"]}, False)
            lacking = [_missing(where[role], role, split) for role, image in images.items() if image is None]
            rows[at] = replace(
                rows[at], target=images["target"], source=images.get("source"), problem="; ".join(lacking)
            )
    return notes


def _frames_of(names: Names, clip: str) -> dict[str, Path]:
    """The frames of a clip by name; of two with one name, none."""
    below = f"{clip}/"
    found = {stem.removeprefix(below): paths for stem, paths in names.stems.items() if stem.startswith(below)}
    return {frame: paths[0] for frame, paths in found.items() if len(paths) == 1 and "/" not in frame}
