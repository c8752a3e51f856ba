"""The layout `pairs`: swapped images whose names say which target and which source they were made of."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from exprmetric.errors import InputError
from exprmetric.images import IMAGE_SUFFIXES
from exprmetric.layouts.folder import Names, files_below, misnamed, partners, relative_text, require_unique, unmatched
from exprmetric.layouts.template import Split, Template, choose, first_splits, parse_template, without_suffix
from exprmetric.tables import show
from exprmetric.triplets import Triplet

DEFAULT = "{target}_{source}.png"


def triplets_from_template(
    swapped_dir: Path, target_dir: Path, source_dir: Path, template: str = DEFAULT
) -> list[Triplet]:
    """One row for every file below `swapped_dir`, in the order of their names.

    The path of a swapped image below `swapped_dir`, with '/' between folders, is read by the template. `{target}` and
    `{source}` name images, without suffix; `{model}` and `{id}` become those of the row. With `{frame}` they name
    folders of images of which that frame is taken (the source may be a single image), and rows of one target are one
    group. A template that doesn't end in the suffix of an image stands for all of them.

    Where a name can be split in several ways (`a_b_c.png`), the one whose target and source exist is taken. Files that
    don't match, are ambiguous or miss an image are rows with a `problem`. Hidden files are passed over.

    Raises:
        InputError: the template is wrong, a folder is missing or holds no images, or an id occurs twice.
    """
    pattern = parse_template(template)
    targets, sources = partners(target_dir, IMAGE_SUFFIXES), partners(source_dir, IMAGE_SUFFIXES)
    files = files_below(swapped_dir)
    if not files:
        raise InputError(f"{show(swapped_dir)} holds no images. Found: nothing")
    rows = [_row(path, swapped_dir, pattern, targets, sources) for path in files]
    if "id" not in pattern.fields:  # two images of one stem, or an image and a stray file of that name
        uses = Counter(row.id for row in rows)
        pairs = zip(rows, files, strict=True)
        rows = [r if uses[r.id] == 1 else replace(r, id=relative_text(swapped_dir, path)) for r, path in pairs]
    require_unique(rows)
    return rows


def _row(path: Path, root: Path, pattern: Template, targets: Names, sources: Names) -> Triplet:
    problem = misnamed(path, IMAGE_SUFFIXES)
    if problem:
        return unmatched(root, path, problem)
    name = path.relative_to(root).as_posix()
    stem = without_suffix(name, IMAGE_SUFFIXES)
    splits = first_splits(pattern, stem if _any_suffix(pattern) else name)
    if not splits:
        return unmatched(root, path, f"its name doesn't match the template {pattern.text!r}")
    split, problem = choose(
        splits,
        lambda s: _find(targets, "target", s) is not None,
        lambda s: _find(sources, "source", s) is not None,
    )
    if split is None:
        return unmatched(root, path, problem)
    found = {role: _find(where, role, split) for role, where in (("target", targets), ("source", sources))}
    lacking = (_missing(w, r, split) for r, w in (("target", targets), ("source", sources)) if found[r] is None)
    return Triplet(
        split.get("id", stem),
        found["target"],
        found["source"],
        path,
        model=split.get("model", ""),
        group=split["target"] if "frame" in split else "",
        problem="; ".join(lacking),
    )


def _any_suffix(pattern: Template) -> bool:
    end = pattern.literals[-1]
    return without_suffix(f"x{end}", IMAGE_SUFFIXES) == f"x{end}"


def _find(where: Names, role: str, split: Split) -> Path | None:
    """The image of a role. A still image may be the source of every frame, but not stand in for a frame of a clip."""
    name = split[role]
    if "frame" not in split:
        return where.find(name)
    if role == "source" and name not in where.folders:
        return where.find(name)
    return where.find(f"{name}/{split['frame']}")


def _missing(where: Names, role: str, split: Split) -> str:
    name = split[role]
    still = role == "source" and name not in where.folders
    return where.missing(f"{role} image", name if "frame" not in split or still else f"{name}/{split['frame']}")
