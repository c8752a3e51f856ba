"""Swaps of clips become triplets: which frame of the target and of the source goes with which frame of the swap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from exprmetric.errors import InputError, UnreadableImageError
from exprmetric.inputs.clips import Choice, Clip, evenly, open_clip
from exprmetric.inputs.triplets import Triplet, Triplets
from exprmetric.io.frame_folders import FramePairs
from exprmetric.io.frame_folders import pair_frames as pair_folders
from exprmetric.io.progress import Progress, no_progress
from exprmetric.io.tables import show

FRAMES = 10
"""Frames of a swap: what FaceShifter, InfoSwap and HifiFace took of each video of FaceForensics++."""


@dataclass(frozen=True)
class ClipSwap:
    """A clip in which the face of `target` was swapped, to be paired frame by frame.

    Attributes:
        source: None where there is none, as of an anonymized clip.
        id: of its rows, before '/' and the frame's name.
        group: the target clip: its frames are not independent.
        still_source: the identity is that of the source's first frame, else of its frame of the same number.
    """

    id: str
    target: Path
    source: Path | None
    swapped: Path
    model: str = ""
    group: str = ""
    still_source: bool = False


def whole_clips(items: Iterable[ClipSwap | Triplet]) -> Triplets:
    """The same swaps as rows of whole clips."""
    return Triplets(
        i if isinstance(i, Triplet) else Triplet(i.id, i.target, i.source, i.swapped, i.model, group=i.group)
        for i in items
    )


def pair_frames(
    items: Iterable[ClipSwap | Triplet],
    *,
    workdir: Path | None = None,
    frames: int = FRAMES,
    progress: Progress = no_progress,
) -> Triplets:
    """The rows of swaps: one a frame, or a single one with its problem if one of the clips can't be read.

    What is a row already stays where it is.

    Frames of videos are paired by index, those of folders as `exprmetric.io.frame_folders` says. A source that has no
    frame of the target's name gives the one at the same position, modulo its length.

    Args:
        workdir: where frames of videos are kept.
        frames: how many of each swap, evenly spaced; 0 for all.

    Raises:
        InputError: there is a video and no `workdir`, or `frames` is negative.
    """
    if frames < 0:
        raise InputError(f"`frames` must be 0 (all) or more, got {frames}")
    items = list(items)
    swaps = [item for item in items if isinstance(item, ClipSwap)]
    opened: dict[Path, Clip | str] = {}
    wanted: dict[Path, list[Choice]] = {}
    distinct = {path for swap in swaps for path in (swap.target, swap.source, swap.swapped)} - {None}

    def open_all(paths: Iterable[Path | None]) -> None:
        for path in (p for p in dict.fromkeys(paths) if p is not None):
            opened[path] = _open(path, wanted[path], workdir)
            progress("frames", len(opened), len(distinct))

    for swap in swaps:  # first: how long they are says which frames of the others are wanted
        wanted[swap.swapped] = [lambda count: evenly(count, frames)]
    open_all(swap.swapped for swap in swaps)
    readable = [(swap, clip) for swap in swaps if isinstance(clip := opened[swap.swapped], Clip)]
    for swap, clip in readable:
        positions = evenly(len(clip.names), frames)
        wanted.setdefault(swap.target, []).append(_same(positions))
        if swap.source is not None:
            wanted.setdefault(swap.source, []).append(_first if swap.still_source else _modulo(positions))
    open_all(path for swap, _ in readable for path in (swap.target, swap.source))
    rows = Triplets()
    for item in items:
        rows += _rows(item, opened, frames, rows.notes) if isinstance(item, ClipSwap) else [item]
    return rows


def _open(path: Path, choices: Sequence[Choice], workdir: Path | None) -> Clip | str:
    """The clip, or what is wrong with it."""
    try:
        return open_clip(path, lambda count: sorted({i for choice in choices for i in choice(count)}), workdir)
    except UnreadableImageError as error:
        return str(error)


def _same(positions: Sequence[int]) -> Choice:
    return lambda count: [i for i in positions if i < count]


def _modulo(positions: Sequence[int]) -> Choice:
    return lambda count: [i % count for i in positions] if count else []


def _first(count: int) -> Sequence[int]:
    return range(min(count, 1))


def _rows(swap: ClipSwap, opened: dict[Path, Clip | str], frames: int, notes: list[str]) -> list[Triplet]:
    target, swapped = (opened.get(path, "") for path in (swap.target, swap.swapped))
    source = None if swap.source is None else opened.get(swap.source, "")
    if not (isinstance(target, Clip) and isinstance(source, Clip | None) and isinstance(swapped, Clip)):
        roles = {"target": target, "source": source, "swapped": swapped}
        reasons = (f"{role} clip: {why}" for role, why in roles.items() if why and isinstance(why, str))
        return [_failed(swap, "; ".join(reasons))]
    if target.named != swapped.named:
        kinds = {True: "a folder of frames", False: "a video"}
        clips = f"the swap is {kinds[swapped.named]} and the target {kinds[target.named]} ({show(target.path)})"
        return [_failed(swap, f"{clips}: whether numbers begin at 0 or 1 can't be known; extract both in one way")]
    try:
        pairs = _pairs(target, swapped)
    except InputError as error:
        return [_failed(swap, str(error))]
    if pairs.note:
        notes.append(pairs.note)
    of_target = {swapped_name: name for name, swapped_name in pairs.partner.items()}
    chosen = evenly(len(swapped.names), frames)
    return [_row(swap, at, of_target.get(swapped.names[at]), target, source, swapped) for at in chosen]


def _pairs(target: Clip, swapped: Clip) -> FramePairs:
    """Names of swapped frames by those of the target's; of videos, whose wanted frames alone are files, by index."""
    if not target.named:
        return FramePairs({name: name for name in swapped.names if name in target.images})
    return pair_folders(target.images, swapped.images, (target.path, swapped.path))


def _failed(swap: ClipSwap, problem: str) -> Triplet:
    return Triplet(swap.id, None, None, swap.swapped, model=swap.model, group=swap.group, problem=problem)


def _row(
    swap: ClipSwap, position: int, target_name: str | None, target: Clip, source: Clip | None, swapped: Clip
) -> Triplet:
    name = swapped.names[position]
    problem = ""
    if target_name is None:
        problem = f"no target frame: {show(target.path)} holds {len(target.names)} frames, none goes with {name!r}"
    return Triplet(
        f"{swap.id}/{name}",
        None if target_name is None else target.images[target_name],
        None if source is None else source.images[_source_frame(swap, target_name or name, position, source)],
        swapped.images[name],
        model=swap.model,
        group=swap.group,
        problem=problem,
    )


def _source_frame(swap: ClipSwap, name: str, position: int, source: Clip) -> str:
    if swap.still_source:
        return source.names[0]
    if source.named and name in source.images:
        return name
    return source.names[position % len(source.names)]
