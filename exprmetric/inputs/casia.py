"""The layout `casia`: CASIA FaceSwapping (Li et al., 2026, "Towards High-Fidelity Face Swapping").

Its `benchmark/*_pairs_*.txt` name one pair a line, source first: `0041-0_0.png 1268-0_0.png` for images of `faces/`,
`1271-0 0113-1` for videos of `videos/`. Results are `<method>/<protocol>/<source>-<target>.png`, names without suffix.
Of a video pair the identity is that of the source's first frame, and frame N of the swap that of frame N of the target
(README.md of CASIA-NLPRAI/face-swapping-survey). It doesn't say how swapped videos are named; they are looked for under
the same name, as a video or a folder of frames.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from exprmetric.errors import InputError
from exprmetric.inputs.clips import CLIP_SUFFIXES, is_frame
from exprmetric.inputs.folder import Names, files_below, names, not_utf8, partners, require_unique, unmatched
from exprmetric.inputs.pairing import FRAMES, ClipSwap, pair_frames, whole_clips
from exprmetric.inputs.template import Template, first_splits, parse_template, without_suffix
from exprmetric.inputs.triplets import Triplet, Triplets
from exprmetric.io.images import IMAGE_SUFFIXES
from exprmetric.io.progress import Progress, no_progress
from exprmetric.io.tables import listed, open_text, show

RESULT = "{source}-{target}"


@dataclass(frozen=True)
class PairLine:
    """A line of a pair file: two names, or what is wrong with it."""

    number: int
    source: str = ""
    target: str = ""
    problem: str = ""


def read_pair_lines(path: Path) -> list[PairLine]:
    """The lines of a file of `source target` pairs, separated by white space.

    Empty lines and those that begin with '#' are passed over; a line that has not two names, or those of an earlier
    line, has a problem.

    Raises:
        InputError: it can't be read, is not UTF-8 (a byte order mark is allowed), or names no pair.
    """
    try:
        with open_text(path) as file:
            text = file.read()
    except OSError as error:
        raise InputError(f"{show(path)} can't be read: {error.strerror or error}") from error
    lines: list[PairLine] = []
    first: dict[tuple[str, str], int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        where = f"{show(path)}, line {number}"
        if len(words) != 2:
            lines.append(PairLine(number, problem=f"{where}: expected 'source target', found {len(words)} names"))
            continue
        source, target = words
        if (before := first.setdefault((source, target), number)) != number:
            lines.append(PairLine(number, source, target, f"{where}: the same pair as in line {before}"))
        else:
            lines.append(PairLine(number, source, target))
    if not lines:
        raise InputError(f"{show(path)} names no pairs")
    return lines


def triplets_from_casia(
    root: Path,
    *,
    pair_file: Path,
    source_dir: Path,
    target_dir: Path | None = None,
    template: str = RESULT,
    workdir: Path | None = None,
    frames: int = FRAMES,
    progress: Progress = no_progress,
    clips: bool = False,
) -> list[Triplet]:
    """A row for each image pair, and one for each frame of a video pair; `group` is the target video.

    Files below `root` that no line names are rows with a problem; hidden ones are passed over.

    Args:
        root: the results of one protocol.
        pair_file: which swaps there should be.
        source_dir: `faces/` or `videos/` of the data set.
        target_dir: the same for targets; None: that of the sources.
        template: names of results, without suffix; with `{model}` for several methods: `{model}/all_simple/{source}-…`.
        workdir: as in `pair_frames`.
        frames: as in `pair_frames`.
        progress: as in `pair_frames`.
        clips: a row is a whole clip.

    Raises:
        InputError: as `read_pair_lines`; a folder is missing, the template is wrong, or there is a video and no
            `workdir`.
    """
    pattern = parse_template(without_suffix(template, CLIP_SUFFIXES), ("target",))
    if unknown := [field for field in pattern.fields if field not in ("source", "target", "model")]:
        raise InputError(f"`template` {template!r}: a pair file knows no {{{unknown[0]}}}")
    if "source" not in pattern.fields:
        raise InputError(
            f"`template` {template!r}: a pair file names a source for each result, and this has none. Anonymized "
            "images are read by their names alone: give `template` and `target_dir`, without `pair_file` and `layout`"
        )
    lines = read_pair_lines(pair_file)
    sources = clip_names(source_dir)
    targets = clip_names(target_dir) if target_dir is not None else sources
    files = files_below(root)
    results = names(root, (path for path in files if not not_utf8(path)), CLIP_SUFFIXES, folders=True)
    items: list[ClipSwap | Triplet] = [_line_problem(line, line.problem) for line in lines if line.problem]
    made: dict[str, PairLine] = {}
    for model in _models(pattern, lines, results):
        for line in (line for line in lines if not line.problem):
            name = pattern.format({"source": _stem(line.source), "target": _stem(line.target), "model": model})
            if (other := made.setdefault(name, line)) is not line:
                items.append(_line_problem(line, f"its result {name!r} would be that of line {other.number}"))
            else:
                items.append(_item(line, model, name, sources, targets, results))
    named = {path for name in made if (path := results.find(name, loosely=True))}
    if made and not named:
        raise InputError(
            f"{show(root)} holds no result of a pair of {show(pair_file)}: by `template` {template!r} they are named "
            f"{listed(made, 3)}. Found: {listed((p.relative_to(root).as_posix() for p in files), 3) or 'nothing'}"
        )
    items += [
        unmatched(root, path, not_utf8(path) or f"no line of {show(pair_file)} names it")
        for path in files
        if path not in named and not (path.parent in named and is_frame(path))
    ]
    rows = whole_clips(items) if clips else pair_frames(items, workdir=workdir, frames=frames, progress=progress)
    require_unique(rows)
    distinct = {id(where): where for where in (targets, sources, results)}
    return Triplets(rows, [*rows.notes, *(note for where in distinct.values() for note in where.odd_note())])


def clip_names(folder: Path) -> Names:
    """Videos, images and folders of frames below a folder.

    Raises:
        InputError: it can't be listed, or there are none.
    """
    return partners(folder, CLIP_SUFFIXES, folders=True)


def _models(pattern: Template, lines: Iterable[PairLine], results: Names) -> list[str]:
    """The models of which there is a result; one without a name where the template has none."""
    if "model" not in pattern.fields:
        return [""]
    pairs = {(_stem(line.source), _stem(line.target)) for line in lines}
    splits = (split for name in results.stems for split in first_splits(pattern, name))
    models = sorted({split["model"] for split in splits if (split["source"], split["target"]) in pairs})
    if not models:
        raise InputError(f"{show(results.folder)} holds no result whose name is {pattern.text!r} of a pair")
    return models


def _item(line: PairLine, model: str, name: str, sources: Names, targets: Names, results: Names) -> ClipSwap | Triplet:
    looked_for = {"target": (targets, line.target), "source": (sources, line.source), "swapped": (results, name)}
    found = {role: where.find(wanted, loosely=True) for role, (where, wanted) in looked_for.items()}
    for role, (where, wanted) in looked_for.items():
        if (path := found[role]) and not where.find(wanted):
            where.odd[wanted] = path
    target, source, swapped = found["target"], found["source"], found["swapped"]
    group = re.sub(r"_[0-9]+$", "", _stem(line.target))  # images are VIDEO_NUMBER
    if target and source and swapped and not (_is_image(target) and _is_image(source) and _is_image(swapped)):
        return ClipSwap(name, target, source, swapped, model=model, group=group, still_source=True)
    missing = (where.missing(role, wanted) for role, (where, wanted) in looked_for.items() if found[role] is None)
    return Triplet(name, target, source, swapped, model=model, group=group, problem="; ".join(missing))


def _line_problem(line: PairLine, problem: str) -> Triplet:
    return Triplet(f"line {line.number:04d}", None, None, None, problem=problem)


def _stem(name: str) -> str:
    return without_suffix(name, CLIP_SUFFIXES)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
