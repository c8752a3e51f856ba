"""Clips → tables and scores: means over frames with intervals over clips, and scores over time as means over clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from exprmetric.errors import ImageError
from exprmetric.evaluation.alarms import find_alarms
from exprmetric.evaluation.summary import tells_people
from exprmetric.inputs.triplets import ROLES, Triplet
from exprmetric.io.files import path_text
from exprmetric.io.plain import finite, score
from exprmetric.methods.identity import SAME_PERSON
from exprmetric.metrics.distances import between_groups
from exprmetric.metrics.preservation import SCORES, per_triplet
from exprmetric.metrics.uncertainty import bootstrap_means, group_codes
from exprmetric.video.scores.clip import TEMPORAL_SCORES, Clip
from exprmetric.video.scores.pairing import OK

if TYPE_CHECKING:
    import pyarrow as pa

Measured = Sequence[tuple[Triplet, Clip | ImageError]]
Record = dict[str, Any]
Groups = npt.NDArray[np.intp]
"""Groups of the bootstrap as numbers in the order of their names."""
DISTANCES = ("t2c", "s2c", "s2t")
MOST_SAMPLED = 50
"""People whose faces give the distance between different people, about."""
Distance = Callable[[npt.ArrayLike, npt.ArrayLike], npt.NDArray[np.float64]]


def clip_record(triplet: Triplet, clip: Clip | ImageError, methods: Sequence[str]) -> Record:
    """A person of a clip for `video.json`; one of whom no frame could be measured has the status of its frames."""
    record: Record = {
        "id": triplet.id,
        "model": triplet.model,
        "group": triplet.group or triplet.id,
        **{role: path_text(getattr(triplet, role)) for role in ROLES},
    }
    if isinstance(clip, ImageError):
        return record | {"person": 1, "status": clip.status, "reason": path_text(str(clip)), "coverage": None}
    failed = clip.scores["coverage"]["failed"]
    status = OK if clip.timeline.ok.any() or not failed else max(failed, key=lambda s: failed[s])
    first = next((r for s, r in zip(clip.timeline.status, clip.timeline.reason, strict=True) if s == status), "")
    return record | {
        "person": clip.person,
        "status": status,
        "reason": "" if status == OK else first,
        **clip.scores,
    }


def _interval(values: npt.ArrayLike, groups: Groups, seed: int) -> dict[str, Any]:
    array = np.asarray(values, np.float64)
    known = np.isfinite(array)
    (found,) = bootstrap_means({"value": array[known]}, groups[known], seed=seed).values()
    mean = float(array[known].mean()) if known.any() else float("nan")
    return score(mean, found)


def summarise(
    measured: Measured, methods: Mapping[str, Distance], identity: str | None, *, seed: int = 0
) -> dict[str, Any]:
    """`alarms`, `coverage`, `methods`, `identity`, `events` and `models` of `video.json`.

    Args:
        methods: the distance of each method by its name.
    """
    models = sorted({t.model for t, _ in measured if t.model})
    return {
        "alarms": _alarms(measured, methods, identity),
        **_part(measured, methods, identity, seed),
        "models": {m: _part([(t, c) for t, c in measured if t.model == m], methods, identity, seed) for m in models},
    }


def _alarms(measured: Measured, methods: Iterable[str], identity: str | None) -> list[str]:
    """What is suspicious about the frames of the main people: the others need not have been swapped."""
    clips = [(t, c) for t, c in measured if isinstance(c, Clip) and c.person == 1]

    def distances(method: str) -> npt.NDArray[np.float64]:
        return np.concatenate([np.empty((0, 3)), *(c.distances[method][c.timeline.ok] for _, c in clips)])

    models = np.repeat([t.model for t, _ in clips], [int(c.timeline.ok.sum()) for _, c in clips])
    return find_alarms(
        {m: distances(m) for m in methods if not tells_people(m)},
        distances(identity) if identity else None,
        {name: models == name for name in set(models.tolist())},
        rows="frames",
    )


def _part(measured: Measured, methods: Mapping[str, Distance], identity: str | None, seed: int) -> dict[str, Any]:
    clips = [(t, c) for t, c in measured if isinstance(c, Clip)]
    good = [(t, c) for t, c in clips if c.timeline.ok.any()]
    failed = Counter(c.status for _, c in measured if isinstance(c, ImageError))
    starts = np.cumsum([isinstance(c, ImageError) or c.person == 1 for _, c in measured])  # of a clip its first person
    ok = {int(i) for i, (_, c) in zip(starts, measured, strict=True) if isinstance(c, Clip) and c.timeline.ok.any()}
    total = int(starts[-1]) if measured else 0
    failed["no_frame"] = total - len(ok) - failed.total()
    status = Counter(s for _, c in clips for s in c.timeline.status)
    return {
        "coverage": {
            "clips": total,
            "ok": len(ok),
            "people": len(good),
            "failed": {k: v for k, v in sorted(failed.items()) if v},
            "frames": {"total": sum(status.values()), "ok": status.pop(OK, 0), "failed": dict(sorted(status.items()))},
        },
        "methods": {m: _method(good, m, measure, seed) for m, measure in methods.items()},
        "identity": _identity(good, identity, seed) if identity else None,
        "events": _events(good),
    }


def _frames(
    clips: Sequence[tuple[Triplet, Clip]], method: str, *, source: bool = False
) -> tuple[npt.NDArray[np.float64], Groups]:
    """(N, 3) distances of all measured frames, and the group of each.

    Args:
        source: of clips with a source alone; else s2c and s2t may be NaN.
    """
    found, groups = [np.empty((0, 3))], [np.empty(0, np.intp)]
    names = [_group(t, c) for t, c in clips]
    for (_, clip), group in zip(clips, group_codes(names), strict=True):
        rows = clip.distances[method]
        rows = rows[np.isfinite(rows).all(axis=1) if source else np.isfinite(rows[:, 0])]
        found.append(rows)
        groups.append(np.full(len(rows), group))
    return np.concatenate(found), np.concatenate(groups)


def _method(clips: Sequence[tuple[Triplet, Clip]], method: str, measure: Distance, seed: int) -> dict[str, Any]:
    distances, groups = _frames(clips, method)
    names = group_codes([_group(t, c) for t, c in clips])
    over_time = [c.scores["methods"][method]["temporal"] for _, c in clips]
    with_source, their_groups = _frames(clips, method, source=True)
    found: dict[str, Any] = {}
    if _some_source(clips):
        columns = per_triplet(*with_source.T)
        found = {s: _interval(columns[s], their_groups, seed) for s in SCORES}
        found |= {s: finite(columns[s].mean()) if len(with_source) else None for s in ("mean_s2c", "mean_s2t")}
        if len(with_source) < len(distances):
            found["n_with_source"] = len(with_source)
    return {
        "n": len(distances),
        **found,
        "mean_t2c": _interval(distances[:, 0], groups, seed),
        "anchors": _anchors(clips, method, with_source[:, 2] if _some_source(clips) else None, measure),
        "temporal": {s: _interval([_nan(t[s]) for t in over_time], names, seed) for s in TEMPORAL_SCORES},
    }


def _anchors(
    clips: Sequence[tuple[Triplet, Clip]], method: str, s2t: npt.NDArray[np.float64] | None, measure: Distance
) -> dict[str, Any]:
    """Scores of who changes nothing, pastes the source, or gives the face of another target."""
    found: dict[str, Any] = {"nothing_swapped": {"mean_t2c": 0.0}}
    if s2t is not None:
        nothing = np.zeros_like(s2t)
        for name, (t2c, s2c) in {"nothing_swapped": (nothing, s2t), "source_pasted": (s2t, nothing)}.items():
            columns = per_triplet(t2c, s2c, s2t)
            found[name] = {s: finite(columns[s].mean()) if len(s2t) else None for s in SCORES}
    some = [(_group(t, c), c.sample[method]) for t, c in clips if method in c.sample]
    some = some[:: max(1, len(some) // MOST_SAMPLED)]
    if len({group for group, _ in some}) > 1:
        groups = np.repeat(group_codes([group for group, _ in some]), [len(vectors) for _, vectors in some])
        found["another_target"] = {
            "mean_t2c": finite(between_groups(np.concatenate([vectors for _, vectors in some]), groups, measure))
        }
    return found


def _group(triplet: Triplet, clip: Clip) -> str:
    """The group of the bootstrap: the given one, else the clip, or one of its people."""
    return triplet.group or (triplet.id if clip.person == 1 else f"{triplet.id}, person {clip.person}")


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _identity(clips: Sequence[tuple[Triplet, Clip]], method: str, seed: int) -> dict[str, Any]:
    whole, everyone = _frames(clips, method)
    t2c = whole[:, 0]
    same = {"same_person": _interval((t2c < SAME_PERSON).astype(float), everyone, seed)}
    if not _some_source(clips):
        return {"n": len(t2c), "mean_t2c": finite(t2c.mean()), **same}
    distances, groups = _frames(clips, method, source=True)
    t2c, s2c, s2t = distances.T
    means = {f"mean_{n}": finite(d.mean()) if len(d) else None for n, d in zip(DISTANCES, (t2c, s2c, s2t), strict=True)}
    nearer = _interval((s2c < t2c).astype(float), groups, seed)
    return {"n": len(distances), "nearer_to_source": nearer, **means, **same}


def _some_source(clips: Sequence[tuple[Triplet, Clip]]) -> bool:
    """Whether scores that need a source are meant: some clip has one, or there is no clip at all."""
    return not clips or any(t.source is not None for t, _ in clips)


def _events(clips: Sequence[tuple[Triplet, Clip]]) -> dict[str, Any]:
    """Events of all clips together: how many, and the shares that were kept and that are true."""
    found: dict[str, Counter[str]] = {}
    for _, clip in clips:
        for name, e in clip.scores["events"].items():
            one = {"target": e["target"], "swapped": e["swapped"], "missed": len(e["missed"]), "added": len(e["added"])}
            found.setdefault(name, Counter()).update(one)
    return {
        name: {
            "target": c["target"],
            "swapped": c["swapped"],
            "recall": finite(1 - c["missed"] / c["target"]) if c["target"] else None,
            "precision": finite(1 - c["added"] / c["swapped"]) if c["swapped"] else None,
        }
        for name, c in found.items()
    }


def clip_table(records: Sequence[Record], methods: Sequence[str]) -> pa.Table:
    """`clips.csv`: what the record of a clip, or of each of its people, says in one row."""
    import pyarrow as pa

    text = ("id", "model", "group", *ROLES, "status", "reason")
    fields = [pa.field(c, pa.string()) for c in (*text, "paired_by")]
    fields += [pa.field(c, pa.int64()) for c in ("person", "frames", "frames_ok", "offset_frames")]
    fields += [pa.field("offset_seconds", pa.float64()), pa.field("shifted", pa.bool_())]
    fields += [pa.field("nearer_to_source", pa.float64())]
    core = ("n", *SCORES, "mean_s2c", "mean_s2t")
    fields += [pa.field(f"{m}.{s}", pa.float64()) for m in methods for s in (*core, *TEMPORAL_SCORES, "lag")]
    rows = []
    for record in records:
        row = {c: record[c] for c in text}
        coverage, offset = record.get("coverage") or {}, record.get("offset") or {}
        row["paired_by"] = (record.get("pairing") or {}).get("by")
        row |= {k: record.get(k) for k in ("person", "nearer_to_source")}
        row |= {"frames": coverage.get("frames"), "frames_ok": coverage.get("ok")}
        row |= {f"offset_{k}": offset.get(k) for k in ("frames", "seconds")} | {"shifted": offset.get("shifted")}
        for method, scores in record.get("methods", {}).items():
            row |= {f"{method}.{s}": scores.get(s) for s in core}
            row |= {f"{method}.{s}": scores["temporal"][s] for s in TEMPORAL_SCORES}
            row[f"{method}.lag"] = (scores["temporal"]["lag"] or {}).get("frames")
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=pa.schema(fields))


def frame_table(measured: Measured, methods: Sequence[str]) -> pa.Table:
    """`frames.parquet`: one row a frame of each clip that could be read."""
    import pyarrow as pa

    tables = [_frame_table(t.id, c, methods) for t, c in measured if isinstance(c, Clip)]
    if not tables:
        return pa.table({"clip": pa.array([], pa.string())})
    return pa.concat_tables(tables, promote_options="default")


def _frame_table(clip: str, measured: Clip, methods: Sequence[str]) -> pa.Table:
    import pyarrow as pa

    line = measured.timeline
    numbers: Mapping[str, npt.NDArray[np.float64]] = {
        **{f"{m}.{d}": measured.distances[m][:, i] for m in methods for i, d in enumerate(DISTANCES)},
        **measured.quality,
        **measured.signals,
    }
    return pa.table(
        {
            "clip": pa.repeat(pa.scalar(clip, pa.string()), len(line.frame)),
            "person": pa.repeat(pa.scalar(measured.person, pa.int64()), len(line.frame)),
            "frame": pa.array(line.frame),
            "time": pa.array(line.time),
            "swapped_frame": pa.array(line.swapped_frame, mask=line.swapped_frame < 0),
            "swapped_time": pa.array(line.swapped_time, pa.float64(), from_pandas=True),
            "status": pa.array(line.status, pa.string()),
            "reason": pa.array(line.reason, pa.string()),
            **{name: pa.array(values, pa.float64(), from_pandas=True) for name, values in numbers.items()},
        }
    )
