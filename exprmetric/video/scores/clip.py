"""One clip: a target's and a swapped video's faces, a source's vectors → distances of each frame, scores over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.io.plain import finite
from exprmetric.methods import Method
from exprmetric.metrics.preservation import SCORES, per_triplet
from exprmetric.video.faces.spool import by_blocks, readable, take
from exprmetric.video.faces.table import VideoFaces
from exprmetric.video.scores import events, temporal
from exprmetric.video.scores.pairing import LOW_QUALITY, OK, Timeline, align, along
from exprmetric.video.scores.partners import NONE, Partners, Rows
from exprmetric.video.scores.trajectory import Along, Trajectory, grid

Floats = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float32]

TEMPORAL_SCORES = (
    "correlation",
    "velocity_correlation",
    "amplitude",
    "dtw",
    "flicker_db",
    "event_recall",
    "event_precision",
)
"""The scores over time of a method, in the order of tables; see `method_course`."""
SAMPLE = 4
"""Frames of a person whose vectors stand for the person's."""
OFFSET_GAIN = 0.1
"""An offset is called a shift where it raises the correlation by this much, at least to `OFFSET_CORRELATION`."""
OFFSET_CORRELATION = 0.6
LEAST_EVENT = {"blink": 0.1, "smile": 0.05, "jaw_open": 0.05, "brows_up": 0.1}
"""Least prominence of an event, in the unit of its signal."""
_COMPONENTS = 64
"""More components than this are a space without names: their correlations are not listed."""
_WORST, _WORST_SECONDS = 5, 1.0


@dataclass(frozen=True, eq=False)
class Clip:
    """What was measured of one person of a clip.

    Attributes:
        person: 1 for the target's main person, 2, … for others.
        timeline: its frames.
        distances: by method (F, 3) t2c, s2c, s2t; NaN where a frame isn't measured, and the last two without a source.
        scores: for `video.json`: coverage, how frames were paired, offset, by method scores and scores over time,
            events, worst seconds.
        quality: (F,) `target.x0` … `target.y1` (the target's face, px), `target.sharpness`, `target.yaw`,
            `swapped.sharpness`, `swapped.yaw`.
        signals: (F,) `target.blink`, `swapped.blink`, …
        sample: by method up to `SAMPLE` of the target's vectors, for the distance between different people.
    """

    timeline: Timeline
    distances: dict[str, Floats]
    scores: dict[str, Any]
    quality: dict[str, Floats]
    signals: dict[str, Floats]
    person: int = 1
    sample: dict[str, npt.NDArray[np.floating[Any]]] = field(default_factory=dict)


def measure_clip(
    target: VideoFaces,
    swapped: VideoFaces,
    source: Mapping[str, Vector] | None,
    methods: Sequence[Method],
    control: Method | None,
    frames: Partners,
    *,
    person: int = 1,
    rows: Rows | None = None,
    required: str = "any",
    cutoff: float = temporal.CUTOFF,
) -> Clip:
    """Compare a swapped video with its target.

    Args:
        target: the target's faces with the vectors of all methods.
        swapped: the swap's faces with theirs.
        source: the source's vector by method; None where there is no source.
        methods: what is scored.
        control: the identity method, whose distances are taken and which has no scores over time.
        frames: which of them belong together.
        person: 1, 2, …; of all but the first, `rows` says where they are: see `pairing.people`.
        required: see `pairing.align`.
        cutoff: Hz, of flicker.
    """
    line = align(target, swapped, frames=frames, person=rows, required=required)
    _mark_unread(line, target, swapped, methods)
    measured, ok = line.measured, line.ok
    distances = {
        m.name: _distances(m, (target, swapped), measured, None if source is None else source[m.name])
        for m in [*methods, *([control] if control else [])]
    }
    even = grid(line.time, line.paired)
    places = even.place(measured[0]), even.place(measured[1])
    pairs = {
        m.name: (Along.of(target.vectors[m.name], places[0]), Along.of(swapped.vectors[m.name], places[1]))
        for m in methods
    }
    signals = _signals(target, swapped, measured)
    sides = (("target", target, line.target_row), ("swapped", swapped, line.swapped_row))
    scores = {
        "coverage": {"frames": len(ok), "ok": int(ok.sum()), "failed": _counts(line.status)},
        "pairing": frames.record(),
        "offset": _offset(next(iter(pairs.values())), even.rate),
        "methods": {
            name: _means(distances[name][ok], source is not None)
            | {"temporal": method_course(*pair, even.times, even.rate, cutoff=cutoff)}
            for name, pair in pairs.items()
        },
        "events": {
            name: _events(even.spread(a), even.spread(b), even.times, LEAST_EVENT[name])
            for name, (a, b) in signals.items()
        },
        **({} if source is None else {"nearer_to_source": _nearer(distances[control.name][ok]) if control else None}),
        "worst": {name: worst_seconds(line.time, d[:, 0]) for name, d in distances.items() if name in pairs},
    }
    return Clip(
        line,
        distances,
        scores,
        {f"target.{c}": along(target.box[:, i], line.target_row) for i, c in enumerate(("x0", "y0", "x1", "y1"))}
        | {f"{s}.{c}": along(getattr(faces, c), rows) for s, faces, rows in sides for c in ("sharpness", "yaw")},
        {f"{side}.{name}": pair[i] for name, pair in signals.items() for i, side in enumerate(("target", "swapped"))},
        person,
        {m.name: take(target.vectors[m.name], _some(measured[0])) for m in methods},
    )


def _some(rows: Rows) -> Rows:
    """At most `SAMPLE` of the rows of measured frames, evenly over all."""
    there = rows[rows != NONE]
    some: Rows = there[np.unique(np.linspace(0, max(len(there) - 1, 0), min(SAMPLE, len(there))).astype(int))]
    return some


def _mark_unread(line: Timeline, target: VideoFaces, swapped: VideoFaces, methods: Sequence[Method]) -> None:
    for role, faces, rows in (("target", target, line.target_row), ("swapped", swapped, line.swapped_row)):
        for method in methods:
            known = readable(faces.vectors[method.name])
            for at in np.flatnonzero(line.ok):
                if not known[rows[at]]:
                    line.status[at], line.reason[at] = LOW_QUALITY, f"{role}: {method.name} can't read the face"


def _distances(
    method: Method, faces: tuple[VideoFaces, VideoFaces], rows: tuple[Rows, Rows], source: Vector | None
) -> Floats:
    """(F, 3) t2c, s2c, s2t; the last two NaN without a source."""
    target, swapped = (f.vectors[method.name] for f in faces)

    def block(of_target: Rows, of_swapped: Rows) -> Floats:
        found = np.full((len(of_target), 3), np.nan)
        there = np.flatnonzero(of_target != NONE)
        a, b = take(target, of_target[there]), take(swapped, of_swapped[there])
        known = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
        if known.any():
            a, b = a[known], b[known]
            if source is None:
                found[there[known], 0] = method.distance(a, b)
                return found
            s = np.repeat(source[None], len(a), axis=0)
            found[there[known]] = np.stack(
                [method.distance(a, b), method.distance(s, b), method.distance(s, a)], axis=1
            )
        return found

    return by_blocks(block, *rows)


def _nearer(distances: Floats) -> float | None:
    """Share of frames whose swapped face is nearer to the source than to the target, by the identity control."""
    return finite((distances[:, 1] < distances[:, 0]).mean()) if len(distances) else None


def _means(distances: Floats, source: bool) -> dict[str, Any]:
    """`n` and plain means; without a source those that need none."""
    columns = per_triplet(*distances.T[: None if source else 1])
    names = [n for n in (*SCORES, "mean_s2c", "mean_s2t") if n in columns]
    return {"n": len(distances)} | {n: finite(columns[n].mean()) if len(distances) else None for n in names}


def method_course(
    target: Trajectory, swapped: Trajectory, times: Floats, rate: float, *, cutoff: float = temporal.CUTOFF
) -> dict[str, Any]:
    """The scores over time of one method, for JSON (None where one can't be computed).

    Args:
        target: (F, D) trajectory of the target, NaN where a frame isn't measured.
        swapped: (F, D) trajectory of the swap along the same timeline, likewise.
        times: (F,) s.
        rate: frames a second.

    Returns:
        `correlation`, `velocity_correlation`: see `temporal.correlation`; `amplitude`; `target_movement`, near the
        method's noise for a face at rest, of which no score over time says much; `lag` {frames, seconds, correlation,
        at_zero}; `dtw`, in the method's distances; `flicker_db`; `event_recall`, `event_precision` and `events` of the
        distance from the usual expression; `component_correlation`, its median over the components, and `components`,
        each, where they are few.
    """
    each = temporal.component_correlations(target, swapped)
    step = rate if math.isfinite(rate) else 0.0
    usual = _events(events.intensity(target), events.intensity(swapped), times, 0.0)
    return {
        "correlation": finite(temporal.correlation(target, swapped)),
        "velocity_correlation": finite(temporal.velocity_correlation(target, swapped, times)),
        "component_correlation": finite(np.nanmedian(each)) if np.isfinite(each).any() else None,
        "components": [finite(v) for v in each] if len(each) <= _COMPONENTS else None,
        "amplitude": finite(temporal.amplitude(target, swapped)),
        "target_movement": finite(temporal.movement(target)),
        "lag": _lag((target, swapped), rate),
        "dtw": finite(temporal.dtw(target, swapped, round(temporal.BAND * step))),
        "flicker_db": finite(temporal.flicker(target, swapped, rate, cutoff)),
        "event_recall": usual["recall"],
        "event_precision": usual["precision"],
        "events": usual,
    }


def _lag(pair: tuple[Trajectory, Trajectory], rate: float) -> dict[str, Any] | None:
    if not math.isfinite(rate):
        return None
    found = temporal.lag(*pair, max(1, round(temporal.MAX_LAG * rate)))
    if found is None:
        return None
    return {k: v if isinstance(v, int) else finite(v) for k, v in asdict(found).items()} | {
        "seconds": finite(found.frames / rate)
    }


def _offset(pair: tuple[Trajectory, Trajectory], rate: float) -> dict[str, Any] | None:
    """The lag of the first method, and whether it is one: nothing is shifted by it."""
    lag = _lag(pair, rate)
    if lag is None:
        return None
    gain = lag["correlation"] - (lag["at_zero"] if lag["at_zero"] is not None else -1.0)
    return lag | {"shifted": gain >= OFFSET_GAIN and lag["correlation"] >= OFFSET_CORRELATION}


def _signals(target: VideoFaces, swapped: VideoFaces, rows: tuple[Rows, Rows]) -> dict[str, tuple[Floats, Floats]]:
    """Named signals along the timeline: of blendshapes where they were measured, else of landmarks."""
    if "blendshapes" in target.vectors and "blendshapes" in swapped.vectors:
        from exprmetric.faces.face_mesh import BLENDSHAPES

        names = list(events.BLENDSHAPE_SIGNALS)
        columns = target.vectors["blendshapes"], swapped.vectors["blendshapes"]
        read: Callable[[Any], dict[str, Floats]] = partial(events.blendshape_signals, names=BLENDSHAPES)
    else:
        names = list(events.LANDMARK_SIGNALS)
        columns, read = (target.landmarks, swapped.landmarks), events.landmark_signals
    a, b = (by_blocks(lambda part: np.column_stack([read(part)[n] for n in names]), column) for column in columns)
    a, b = along(a, rows[0]), along(b, rows[1])
    return {name: (a[:, i], b[:, i]) for i, name in enumerate(names)}


def _events(target: Floats, swapped: Floats, times: Floats, least: float) -> dict[str, Any]:
    found = events.compare(target, swapped, times, least=least)
    return {
        "target": len(found.target),
        "swapped": len(found.swapped),
        "recall": finite(found.recall),
        "precision": finite(found.precision),
        "missed": [round(float(t), 3) for t in found.missed],
        "added": [round(float(t), 3) for t in found.added],
    }


def worst_seconds(
    times: Floats, values: Floats, *, most: int = _WORST, length: float = _WORST_SECONDS
) -> list[dict[str, Any]]:
    """The stretches of time with the largest mean, worst first; they don't overlap.

    Args:
        times: (F,) s. values: (F,), NaN where not known.

    Returns:
        `start` and `end` s, `mean`, `frames` known in it.
    """
    known = np.isfinite(values)
    if not known.any():
        return []
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    ends = np.searchsorted(times, times + length - 1e-9)
    starts = np.arange(len(times))
    n = counts[ends] - counts[starts]
    step = float(np.median(np.diff(times))) if len(times) > 1 else length
    whole = (times + length <= times[-1] + step + 1e-6) | (starts == 0)
    full = whole & (n >= max(1, n.max() // 2))  # a single known frame is no second
    mean = np.where(full, (sums[ends] - sums[starts]) / np.maximum(n, 1), -np.inf)
    found: list[dict[str, Any]] = []
    for at in np.argsort(-mean, kind="stable"):
        if len(found) == most or not np.isfinite(mean[at]):
            break
        start, end = float(times[at]), float(times[ends[at] - 1])
        if all(end < f["start"] or start > f["end"] for f in found):
            found.append({"start": start, "end": end, "mean": float(mean[at]), "frames": int(n[at])})
    return found


def _counts(status: Sequence[str]) -> dict[str, int]:
    return {s: status.count(s) for s in sorted(set(status)) if s != OK}
