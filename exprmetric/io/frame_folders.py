"""Folders of frames: what is a frame of one, in which order, and which frame of a target goes with which of a swap.

Numbers pair by number. Where that would leave frames over, and nearly all numbers differ by one constant (one program
counts from 0, the other from 1; frames may be gone), the pictures decide: the pairing under which they clearly agree is
taken and said, else none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exprmetric.errors import InputError, UnreadableImageError, VideoError
from exprmetric.io.images import IMAGE_SUFFIXES, read_image
from exprmetric.io.names import alike, natural, numbers
from exprmetric.io.tables import listed, show

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME, NUMBER, SHIFTED = "name", "number", "shifted number"
_LOOKS = 8
"""Pairs of pictures that are compared."""
_SIDE = 64
"""px that they are shrunk to."""
_CLEARLY = 0.7
"""The pictures of the right pairing differ by at most this share of what those of the wrong one do …"""
_MOSTLY = 0.75
"""… and are nearer to each other in this share of the pairs."""
_NEARLY = 0.9
"""Numbers seem shifted where this share of the smaller folder's frames has a partner then."""


@dataclass(frozen=True)
class FramePairs:
    """Pairs of frames.

    Attributes:
        partner: name of the swapped frame by name of the target's; those without one are in neither.
        by: `name`, `number` or `shifted number`.
        note: what the user should know of it; '' where names are equal.
    """

    partner: Mapping[str, str]
    by: str = NAME
    note: str = ""


def list_frames(folder: Path, wanted: Callable[[Path], bool] = lambda path: True) -> dict[str, Path]:
    """The images of a folder that are not hidden, by their names without suffix, in natural order.

    Args:
        wanted: says of an image whether it is a frame.

    Raises:
        VideoError: there is none, two have the same name, or the folder can't be listed.
    """
    try:
        files = [p for p in folder.iterdir() if not p.name.startswith(".") and p.suffix.lower() in IMAGE_SUFFIXES]
        found = sorted((p for p in files if p.is_file() and wanted(p)), key=lambda p: natural(p.name))
    except OSError as error:
        raise VideoError(f"{show(folder)} can't be listed: {error.strerror}") from error
    if not found:
        raise VideoError(f"{show(folder)} holds no frames: there is no image in this folder")
    frames = {path.stem: path for path in found}
    if twice := [path for path in found if frames[path.stem] != path]:
        raise VideoError(f"two frames have the same name: {listed([twice[0], frames[twice[0].stem]])}")
    return frames


def pair_frames(target: Mapping[str, Path], swapped: Mapping[str, Path], folders: tuple[Path, Path]) -> FramePairs:
    """Pair the frames of two folders.

    Args:
        target: the target's images by their names without suffix.
        swapped: the swap's images likewise.
        folders: of the target and of the swap, for messages.

    Raises:
        InputError: no name of the one is in the other and their numbers don't tell either, or whether numbers begin at
            one number or another can't be told from the pictures.
    """
    if target.keys() == swapped.keys():
        return FramePairs({name: name for name in target})
    ours, theirs = _numbered(target), _numbered(swapped)
    if not ours or not theirs:
        return _by_name(target, swapped, folders)
    shift = shift_of(list(ours), list(theirs))
    if shift:
        return _settle(shift, ours, theirs, target, swapped, folders)
    pairs = {ours[n]: theirs[n] for n in ours if n in theirs}
    if not pairs:
        raise InputError(f"{_counts(ours, theirs, folders)}: no number is in both; give both the same numbers")
    same = all(a == b for a, b in pairs.items())
    return FramePairs(
        pairs, NUMBER, "" if same else f"{_two(folders)}: frames are paired by the numbers in their names"
    )


def shift_of(target: Sequence[int], swapped: Sequence[int]) -> int:
    """By how much the swap's numbers seem to run ahead of the target's; 0 where they pair as they are.

    They seem to where nearly all frames of the smaller set have a partner so much further, and fewer have one of their
    own number.
    """
    if not target or not swapped:
        return 0
    shift = min(swapped) - min(target)
    ours, theirs = set(target), set(swapped)
    fewest = min(len(ours), len(theirs))
    as_they_are, shifted = len(ours & theirs), len({n + shift for n in ours} & theirs)
    return shift if as_they_are < shifted >= _NEARLY * fewest else 0


def seem_shifted(target: Mapping[str, Path], swapped: Mapping[str, Path]) -> bool:
    """Whether nearly all numbers of the one folder seem to differ from the other's by one constant."""
    ours, theirs = _numbered(target), _numbered(swapped)
    return shift_of(list(ours), list(theirs)) != 0


def _numbered(frames: Mapping[str, Path]) -> dict[int, str]:
    """Names by number, in the order of the numbers; empty where the names tell none."""
    names = sorted(frames, key=natural)
    return dict(zip(numbers(names) or (), names, strict=False))


def _by_name(target: Mapping[str, Path], swapped: Mapping[str, Path], folders: tuple[Path, Path]) -> FramePairs:
    pairs = {name: name for name in target if name in swapped}
    others = alike(target, swapped)
    if not pairs and not others:
        examples = f"{min(target, key=natural)!r} and {min(swapped, key=natural)!r}"
        raise InputError(f"{_two(folders)}: no frame of the one has its name in the other, such as {examples}")
    note = f"{_two(folders)}: frames whose names are written differently are paired" if others else ""
    return FramePairs(pairs | others, NAME, note)


def _settle(
    shift: int,
    ours: Mapping[int, str],
    theirs: Mapping[int, str],
    target: Mapping[str, Path],
    swapped: Mapping[str, Path],
    folders: tuple[Path, Path],
) -> FramePairs:
    as_they_are = any(n in theirs for n in ours)
    other = 0 if as_they_are else shift + (1 if shift > 0 else -1)  # without a common number, against the neighbours
    both = [n for n in ours if n + shift in theirs and n + other in theirs]
    at = [both[(2 * i + 1) * len(both) // (2 * _LOOKS)] for i in range(_LOOKS)] if len(both) > _LOOKS else both
    looks = [(target[ours[n]], swapped[theirs[n + shift]], swapped[theirs[n + other]]) for n in at]
    nearer, further = differences(looks)
    counts = _counts(ours, theirs, folders)
    if _clear(nearer, further):
        later = f"N {'+' if shift > 0 else '-'} {abs(shift)}"
        said = f"frame N of the target is paired with frame {later} of the swap: their pictures agree"
        pairs, by = {ours[n]: theirs[n + shift] for n in ours if n + shift in theirs}, SHIFTED
    elif as_they_are and _clear(further, nearer):
        said = "frames of equal numbers are paired: their pictures agree"
        pairs, by = {ours[n]: theirs[n] for n in ours if n in theirs}, NUMBER
    else:
        raise InputError(
            f"{counts}, and their pictures don't tell whether equal numbers belong together or whether one of them "
            "counts from another number: give both the same numbers"
        )
    a, b = sorted((_mean(nearer), _mean(further)))
    return FramePairs(pairs, by, f"{counts}; {said} (mean difference {a:.2f} grey levels, otherwise {b:.2f})")


def differences(looks: Sequence[tuple[Path, Path, Path]]) -> tuple[list[float], list[float]]:
    """How far the first picture is from the second and from the third, in grey levels, for each look.

    What stays the same in all pictures of a column doesn't count: another face differs from the target's all the time,
    movement differs where frames don't belong together. Pictures that can't be read are left out.
    """
    import numpy as np

    grey: dict[Path, NDArray[np.float32] | None] = {}
    for path in dict.fromkeys(p for look in looks for p in look):
        try:
            grey[path] = _grey(path)
        except UnreadableImageError:
            grey[path] = None
    columns = [[grey[p] for p in look] for look in looks if not any(grey[p] is None for p in look)]
    if not columns:
        return [], []
    pictures = np.array(columns)  # (looks, 3, H, W)
    if len(pictures) > 2:
        pictures = pictures - pictures.mean(0)
    near, far = (np.abs(pictures[:, 0] - pictures[:, i]).mean((1, 2)).tolist() for i in (1, 2))
    return near, far


def _grey(path: Path) -> NDArray[np.float32]:
    import cv2
    import numpy as np

    small = cv2.resize(read_image(path), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.float32)


def _clear(near: Sequence[float], far: Sequence[float]) -> bool:
    wins = sum(a < b for a, b in zip(near, far, strict=True))
    return bool(near) and _mean(near) < _CLEARLY * _mean(far) and wins >= _MOSTLY * len(near)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _two(folders: tuple[Path, Path]) -> str:
    return f"{show(folders[0])} and {show(folders[1])}"


def _counts(ours: Mapping[int, str], theirs: Mapping[int, str], folders: tuple[Path, Path]) -> str:
    pairs = zip(folders, (ours, theirs), strict=True)
    return " and ".join(f"{show(f)} holds {len(n)} frames, {min(n)} to {max(n)}" for f, n in pairs)
