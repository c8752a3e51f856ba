"""Which face of the target's video is compared with which of the swapped one: one row for every frame of the target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.choices import IDENTITY
from exprmetric.faces.place import at_place, place_of
from exprmetric.methods.identity import SAME_PERSON
from exprmetric.video.faces import quality
from exprmetric.video.faces.spool import mean_vector, take
from exprmetric.video.faces.table import Ints, VideoFaces
from exprmetric.video.people.people import LEAST
from exprmetric.video.scores.partners import NONE, Partners, Rows, partners

OK, UNPAIRED, NO_FACE, LOW_QUALITY = "ok", "unpaired", "no_face", "low_quality"
SOMEBODY_ELSE = (
    "swapped: somebody else of the target's video stands where the target's face is. Is it mirrored, moved or enlarged?"
)
_SAMPLES = 32
"""Frames of each person that are compared to see who was changed."""
_BEYOND = 2.0
"""Whom a swap changed is so many times further from the target than whom it changed least, and by half of what makes
another person."""

Column = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Timeline:
    """The F frames of the target, and what stands against them.

    Attributes:
        frame: (F,) of the target's frames.
        time: (F,) seconds of the target's frames.
        swapped_frame: (F,) index of the swapped frame, -1 where there is none.
        swapped_time: (F,) its seconds, NaN where there is none.
        target_row: (F,) row of the target's `VideoFaces`, -1 where there is none.
        swapped_row: (F,) row of the swap's `VideoFaces`, -1 where there is none.
        status: (F,) `ok`, `unpaired` (no swapped frame), `no_face`, `low_quality`.
        reason: (F,) '' where ok.
    """

    frame: Ints
    time: npt.NDArray[np.float64]
    swapped_frame: Ints
    swapped_time: npt.NDArray[np.float64]
    target_row: Rows
    swapped_row: Rows
    status: list[str]
    reason: list[str]

    @property
    def ok(self) -> npt.NDArray[np.bool_]:
        """(F,) frames that are measured."""
        return np.array([s == OK for s in self.status], bool)

    @property
    def paired(self) -> npt.NDArray[np.bool_]:
        """(F,) frames that a swapped frame stands against."""
        return np.asarray(self.swapped_frame != NONE)

    def only(self, frames: Rows) -> Timeline:
        """Some of the frames."""
        kept: dict[str, Any] = {}
        for field in fields(self):
            column = getattr(self, field.name)
            kept[field.name] = column[frames] if isinstance(column, np.ndarray) else [column[i] for i in frames]
        return Timeline(**kept)

    @property
    def measured(self) -> tuple[Rows, Rows]:
        """(F,) `target_row` and `swapped_row`, -1 where a frame isn't measured."""
        ok = self.ok
        return np.where(ok, self.target_row, NONE), np.where(ok, self.swapped_row, NONE)


def along(column: Column, rows: Rows) -> npt.NDArray[np.float64]:
    """(F, …) the rows of a column; NaN for row -1."""
    found = np.full((len(rows), *column.shape[1:]), np.nan)
    found[rows != NONE] = column[rows[rows != NONE]]
    return found


def main_person(faces: VideoFaces) -> Rows:
    """(F,) the row of the person that fills most of the video, in each frame; -1 where it isn't.

    The track with the largest sum of box areas, and those whose mean identity vector is within the network's threshold
    of its; a frame with several of them takes the one that comes first in this order. A track that is mostly seen
    beside those before it is somebody else: nobody is in two places.
    """
    return next(_people(faces), np.full(faces.frames_total, NONE, np.intp))


def people(faces: VideoFaces) -> list[Rows]:
    """The main person, then who fills most of what is left, …, as in `main_person`, down to `LEAST` frames."""
    found = list(_people(faces))
    return found[:1] + [rows for rows in found[1:] if np.count_nonzero(rows != NONE) >= LEAST]


def _people(faces: VideoFaces) -> Iterator[Rows]:
    sides = np.maximum(faces.box[:, 2:] - faces.box[:, :2], 0).astype(np.float64)
    area = {t: float(sides[faces.track == t].prod(1).sum()) for t in faces.tracks}
    who = {t: _mean_identity(faces, t) for t in area}
    while area:
        found = np.full(faces.frames_total, NONE, np.intp)
        main = max(area, key=lambda t: area[t])
        near = {t: float(np.linalg.norm(who[t] - who[main])) if t != main else 0.0 for t in area}
        for track in sorted((t for t in near if near[t] < SAME_PERSON), key=lambda t: (near[t], t)):
            rows = np.flatnonzero(faces.track == track)
            at = np.searchsorted(faces.all_frames, faces.frame[rows])
            free = found[at] == NONE
            if 2 * np.count_nonzero(free) >= len(rows):
                found[at[free]] = rows[free]
                del area[track]
        yield found


def changed(target: VideoFaces, swapped: VideoFaces, everybody: Sequence[Rows], frames: Partners | None = None) -> int:
    """Which of the target's people (see `people`) the swapped video shows changed most, by the identity network; 0, the
    main one, where nobody is clearly changed."""
    if len(everybody) < 2:
        return 0
    far = np.array([_moved(target, swapped, rows, frames) for rows in everybody])
    if np.isnan(far).all():
        return 0
    most = int(np.nanargmax(far))
    clear = far[most] >= max(SAME_PERSON / 2, _BEYOND * float(np.nanmin(far)))
    return most if clear else 0


def _moved(target: VideoFaces, swapped: VideoFaces, rows: Rows, frames: Partners | None) -> float:
    """Mean identity distance between a person and whoever stands there in the swapped video; NaN where nobody does."""
    a, b = align(target, swapped, frames=frames, person=rows).measured
    both = np.flatnonzero(b != NONE)
    some = both[np.unique(np.linspace(0, len(both) - 1, min(_SAMPLES, len(both))).astype(int))]
    before, after = (take(f.vectors[IDENTITY], r[some]) for f, r in ((target, a), (swapped, b)))
    far = np.linalg.norm(before.astype(np.float64) - after, axis=1)
    known = far[np.isfinite(far)]
    return float(known.mean()) if len(known) else float("nan")


class Recognised:
    """Tells a neighbour who has moved to the target's place from a face that a swap has changed.

    Places mean nothing where the swapped video is mirrored, moved or cut otherwise. The identity network then finds
    somebody else of the target's frame at the target's place, and not at that person's own place. A source who is
    one of the group is still seen there too. Without identity vectors nothing can be told.
    """

    def __init__(self, target: VideoFaces, swapped: VideoFaces) -> None:
        self._target, self._swapped = target, swapped
        self._known = all(IDENTITY in faces.vectors for faces in (target, swapped))
        self._means: dict[tuple[bool, int], npt.NDArray[np.float64]] = {}

    def moved(self, row: int, beside: Sequence[int], found: int, candidates: Sequence[int]) -> bool:
        """Whether the swapped face `found`, at the place of the target's face `row`, is a neighbour of that face.

        Args:
            beside: rows of the target's frame. candidates: rows of the swapped one.
        """
        if not self._known or len(beside) < 2 or self._same(row, found):
            return False
        for other in beside:
            if other != row and self._same(other, found):
                at = _at_place(self._target, other, beside, self._swapped, candidates)
                if at == NONE or not self._same(other, at):
                    return True
        return False

    def _same(self, row: int, swapped_row: int) -> bool:
        before = self._mean(self._target, int(self._target.track[row]))
        after = self._mean(self._swapped, int(self._swapped.track[swapped_row]))
        return bool(np.linalg.norm(before - after) < SAME_PERSON)

    def _mean(self, faces: VideoFaces, track: int) -> npt.NDArray[np.float64]:
        key = (faces is self._target, track)
        if key not in self._means:
            self._means[key] = _mean_identity(faces, track)
        return self._means[key]


def _mean_identity(faces: VideoFaces, track: int) -> npt.NDArray[np.float64]:
    vectors = faces.vectors.get(IDENTITY)
    if vectors is None:
        return np.full(1, np.nan)
    return mean_vector(vectors, np.flatnonzero(faces.track == track))


def align(
    target: VideoFaces,
    swapped: VideoFaces,
    *,
    frames: Partners | None = None,
    person: Rows | None = None,
    required: str = "any",
) -> Timeline:
    """Pair frames, then faces: the target's main person with the swapped face at the same place.

    Args:
        frames: which of them belong together; as `partners` says by default.
        person: (F,) another person's rows (see `people`); the timeline then has the frames that show them alone.
        required: `any`, or `paper004`: faces that FaceQA finds unfit are `low_quality`.
    """
    frames = frames or partners(target, swapped)
    other = frames.row
    begins, ends = (np.searchsorted(swapped.frame, swapped.all_frames, side) for side in ("left", "right"))
    who = Recognised(target, swapped)
    target_row = main_person(target) if person is None else person
    first, last = (np.searchsorted(target.frame, target.all_frames, side) for side in ("left", "right"))
    swapped_row = np.full(len(target_row), NONE, np.intp)
    status, reason = [], []
    for at, row in enumerate(target_row):
        state, why = OK, ""
        if other[at] == NONE:
            state, why = UNPAIRED, f"no swapped frame has this {frames.by}"
        elif row == NONE:
            state, why = NO_FACE, "target: no face of the main person"
        else:
            candidates = range(begins[other[at]], ends[other[at]])
            swapped_row[at] = _at_place(target, int(row), range(first[at], last[at]), swapped, candidates)
            if swapped_row[at] == NONE:
                where = " where the target's is" if candidates else ""
                state, why = NO_FACE, f"swapped: no face{where}"
            elif who.moved(int(row), range(first[at], last[at]), int(swapped_row[at]), candidates):
                state, why, swapped_row[at] = NO_FACE, SOMEBODY_ELSE, NONE
            elif required == "paper004":
                why = _unfit(target, int(row), swapped, int(swapped_row[at]))
                state = LOW_QUALITY if why else OK
        status.append(state)
        reason.append(why)
    paired = np.flatnonzero(other != NONE)
    swapped_frame = np.full(len(other), NONE, np.int64)
    swapped_frame[paired] = swapped.all_frames[other[paired]]
    swapped_time = along(swapped.all_times, other)
    times = target.all_times.astype(np.float64)
    line = Timeline(target.all_frames, times, swapped_frame, swapped_time, target_row, swapped_row, status, reason)
    return line if person is None else line.only(np.flatnonzero(person != NONE))


def _place(faces: VideoFaces, row: int) -> npt.NDArray[np.float64]:
    return place_of(faces.box[row].astype(np.float64), (faces.height, faces.width))


def _at_place(target: VideoFaces, row: int, others: Iterable[int], swapped: VideoFaces, rows: Sequence[int]) -> int:
    """Of the swapped faces of a frame the one at a target face's place, unless another of the target's is nearer."""
    beside = [_place(target, o) for o in others if o != row]
    found = at_place(_place(target, row), [_place(swapped, r) for r in rows], beside)
    return NONE if found is None else rows[found]


def _unfit(target: VideoFaces, row: int, swapped: VideoFaces, other: int) -> str:
    found = {
        "target": quality.reason(float(target.sharpness[row]), float(target.yaw[row])),
        "swapped": quality.reason(float(swapped.sharpness[other]), float(swapped.yaw[other])),
    }
    return "; ".join(f"{role}: {why}" for role, why in found.items() if why)
