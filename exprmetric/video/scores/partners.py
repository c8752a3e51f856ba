"""Which frames of a target and of its swap belong together: by the names of images, by index or by time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.errors import InputError
from exprmetric.io.frame_folders import list_frames, pair_frames
from exprmetric.io.names import places
from exprmetric.video.faces.table import VideoFaces
from exprmetric.video.scores.temporal import pair_by_index, pair_by_time

Rows = npt.NDArray[np.intp]
NONE = -1
INDEX, TIME = "index", "time"
NEARLY = 0.05
"""Counts and rates that differ by this share at most are nearly the same; counts also by one frame."""
_SAME_RATE = 0.01
_DECISIVE = 0.1
"""By how much the correlation of one pairing must be above the other's to decide."""


@dataclass(frozen=True, eq=False)
class Partners:
    """The swapped frame of each of the target's F frames.

    Attributes:
        row: (F,) its place among `VideoFaces.all_frames` of the swap, -1 where there is none.
        by: `index`, `time`, or `name`, `number` and `shifted number` of two folders of images.
        note: what the user should know of it; '' where counts, rates and names are the same.
        counts: frames of target and swap.
        rates: frames a second of target and swap; NaN of a single frame.
    """

    row: Rows
    by: str
    note: str = ""
    counts: tuple[int, int] = (0, 0)
    rates: tuple[float, float] = (float("nan"), float("nan"))

    def record(self) -> dict[str, Any]:
        """For `video.json`."""
        sides = zip(("target", "swapped"), self.counts, self.rates, strict=True)
        about = {s: {"frames": n, "rate": round(r, 3) if np.isfinite(r) else None} for s, n, r in sides}
        return {"by": self.by, **about, "note": self.note}


@dataclass(frozen=True)
class ByNames:
    """Pairs of frames of two folders of images: `partner` is the swap's index by the target's; the rest as above."""

    partner: Mapping[int, int]
    by: str
    note: str

    def partners_of_every(self, nth: int) -> frozenset[int]:
        """The swap's frames that belong to each n-th frame of the target, by index.

        Raises:
            InputError: there is none.
        """
        found = frozenset(b for a, b in self.partner.items() if a % nth == 0)
        if not found:
            raise InputError(f"no frame of the swap has the {self.by} of a frame that --every {nth} looks at: use less")
        return found


def by_names(target: Path, swapped: Path) -> ByNames | None:
    """What the names of two folders say, before anything is decoded for long; None unless both are folders.

    Raises:
        InputError: the names don't tell which frames belong together. VideoError: a folder holds no frames.
    """
    if not (target.is_dir() and swapped.is_dir()):
        return None
    ours, theirs = list_frames(target), list_frames(swapped)
    pairs = pair_frames(ours, theirs, (target, swapped))
    index = [dict(zip(names, places(list(names)), strict=True)) for names in (ours, theirs)]
    return ByNames({index[0][a]: index[1][b] for a, b in pairs.partner.items()}, pairs.by, pairs.note)


def partners(
    target: VideoFaces,
    swapped: VideoFaces,
    names: ByNames | None = None,
    agreement: Callable[[Partners], float] = lambda candidate: float("nan"),
) -> Partners:
    """Pair the frames of two videos.

    Two folders of images are paired by names (see `exprmetric.io.frame_folders`), equally many frames by index,
    others by time. Where the rates differ and the counts hardly do, one of the two has probably been given another
    rate: then the pairing under which the clips move together is taken, and where that doesn't tell, the one which
    leaves less over.
    Args:
        names: of two folders of images.
        agreement: correlation of the movement under a pairing, NaN where nothing moves.
    """
    counts = target.frames_total, swapped.frames_total
    rates = _rate(target), _rate(swapped)
    if names:
        found = Partners(_looked_at(target, swapped, names.partner), names.by, names.note, counts, rates)
        return _said(found, "") if counts[0] != counts[1] and not names.note else found
    index = Partners(_rows(target, *pair_by_index(*counts)), INDEX, "", counts, rates)
    same_rate = not abs(rates[0] - rates[1]) > _SAME_RATE * max(rates)
    if counts[0] == counts[1]:
        return index if same_rate else _said(index, "equally many frames")
    time = Partners(_rows(target, *pair_by_time(target.all_times, swapped.all_times)), TIME, "", counts, rates)
    if same_rate or abs(counts[0] - counts[1]) > max(1, NEARLY * max(counts)):
        return _said(time, "")
    moving = agreement(index), agreement(time)
    apart = moving[0] - moving[1]
    if abs(apart) >= _DECISIVE:
        chosen, other = (index, time) if apart > 0 else (time, index)
        why = f"so their movement agrees (correlation {max(moving):.2f}; by {other.by} {min(moving):.2f})"
        return _said(chosen, why)
    left = abs(counts[0] - counts[1]) / max(counts), abs(1 - _length(target) / max(_length(swapped), 1e-9))
    return _said(index if left[0] < left[1] else time, "so less is left over; their movement doesn't tell")


def _looked_at(target: VideoFaces, swapped: VideoFaces, partner: Mapping[int, int]) -> Rows:
    """Of the pairs of indices those whose frames could be read, and were to be looked at."""
    place = {int(index): row for row, index in enumerate(swapped.all_frames)}
    wanted = (partner.get(int(index), NONE) for index in target.all_frames)
    return np.array([place.get(index, NONE) for index in wanted], np.intp)


def _rows(target: VideoFaces, paired: npt.NDArray[np.intp], partner: npt.NDArray[np.intp]) -> Rows:
    found = np.full(target.frames_total, NONE, np.intp)
    found[paired] = partner
    return found


def _rate(faces: VideoFaces) -> float:
    return 1 / faces.step if faces.step > 0 else float("nan")


def _length(faces: VideoFaces) -> float:
    """Seconds from the first frame to behind the last."""
    return float(faces.all_times[-1] - faces.all_times[0]) + faces.step if faces.frames_total > 1 else 0.0


def _said(found: Partners, why: str) -> Partners:
    (a, b), (x, y) = found.counts, found.rates
    sides = f"the target has {a} frames at {x:.4g} a second, the swap {b} at {y:.4g}"
    note = f"{sides}: frames are paired by {found.by}" + (f", {why}" if why else "")
    return Partners(found.row, found.by, note, found.counts, found.rates)
