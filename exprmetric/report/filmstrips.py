"""The worst seconds of a clip as filmstrips: a few frames of the target, and the swapped ones below."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from exprmetric.errors import ImageError
from exprmetric.faces import FaceFinder
from exprmetric.io.video import Frame, read_frames
from exprmetric.report.crops import jpeg_uri
from exprmetric.report.figures import spread

if TYPE_CHECKING:
    import pyarrow as pa

FRAMES = 5
"""Pictures of a strip."""
SIDE = 176
TEMPLATE = "eyes70"


@dataclass(frozen=True)
class Cell:
    """A moment: the target's and the swapped picture as data URIs ('' = there is none), its time and distance."""

    target: str
    swapped: str
    time: float
    t2c: float | None
    status: str


@dataclass(frozen=True)
class Strip:
    """A stretch of time: whose worst it is (methods), from when to when, the mean t2c, its pictures."""

    methods: tuple[str, ...]
    start: float
    end: float
    mean: float
    cells: tuple[Cell, ...] = ()


def choose(worst: dict[str, list[dict[str, Any]]], most: int) -> list[Strip]:
    """The worst stretch of each method, then the second of each, …; those that overlap one before join it."""
    found: list[Strip] = []
    for place in range(max(map(len, worst.values()), default=0)):
        for method, stretches in worst.items():
            if place >= len(stretches):
                continue
            s = stretches[place]
            for i, other in enumerate(found):
                if s["start"] < other.end and other.start < s["end"]:
                    if method not in other.methods:
                        found[i] = Strip((*other.methods, method), other.start, other.end, other.mean)
                    break
            else:
                if len(found) < most:
                    found.append(Strip((method,), s["start"], s["end"], s["mean"]))
    return found


def with_pictures(
    strips: Sequence[Strip],
    rows: pa.Table,
    paths: tuple[Path, Path],
    finder: FaceFinder,
    pool: Executor,
    *,
    rate: float,
) -> list[Strip]:
    """The strips with their pictures; each of the two videos is opened once.

    Args:
        rows: of the clip's frames, in order of time.
        paths: target and swapped.
        finder: finds the faces again: the target's where it was measured, the swapped one at its place.
        rate: of folders of images.

    Raises:
        VideoError: a video is not as it was any more.
    """
    times = rows["time"].to_numpy()
    chosen = []
    for strip in strips:
        inside = np.flatnonzero((times >= strip.start - 1e-9) & (times <= strip.end + 1e-9))
        chosen.append(rows.take(inside[spread(len(inside), FRAMES)]).to_pylist())
    flat = [row for part in chosen for row in part]
    near: dict[int, npt.NDArray[np.float64] | None] = {}
    boxes = {r["frame"]: [r.get(f"target.{c}") for c in ("x0", "y0", "x1", "y1")] for r in flat}

    def target(frame: Frame) -> tuple[int, str]:
        uri, near[frame.index] = _picture(frame, finder, _share(boxes[frame.index], frame))
        return frame.index, uri

    frames = read_frames(paths[0], {r["frame"]: r["time"] for r in flat}, rate=rate)
    targets = dict(pool.map(target, frames.values()))
    place = {r["swapped_frame"]: near[r["frame"]] for r in flat if r["swapped_frame"] is not None}
    when = {r["swapped_frame"]: r.get("swapped_time") for r in flat if r["swapped_frame"] is not None}
    frames = read_frames(paths[1], set(when) if None in when.values() else when, rate=rate)  # older results have none
    swapped = dict(pool.map(lambda f: (f.index, _picture(f, finder, place[f.index])[0]), frames.values()))
    return [
        Strip(
            s.methods,
            s.start,
            s.end,
            s.mean,
            tuple(
                Cell(
                    targets[r["frame"]],
                    swapped.get(r["swapped_frame"], ""),
                    r["time"],
                    r[f"{s.methods[0]}.t2c"],
                    r["status"],
                )
                for r in part
            ),
        )
        for s, part in zip(strips, chosen, strict=True)
    ]


def _share(box: Sequence[float | None], frame: Frame) -> npt.NDArray[np.float64] | None:
    """A box as shares of the width and height; None where it isn't known."""
    if None in box:
        return None
    height, width = frame.image.shape[:2]
    return np.array(box, np.float64) / [width, height, width, height]


def _picture(
    frame: Frame, finder: FaceFinder, near: npt.NDArray[np.float64] | None
) -> tuple[str, npt.NDArray[np.float64] | None]:
    """The aligned face, or the whole frame where none is found; and where the face stands."""
    try:
        face = finder.find(frame.image, near=near)
    except ImageError:
        return jpeg_uri(frame.image, SIDE), None
    return jpeg_uri(face.crop(TEMPLATE), SIDE), face.place
