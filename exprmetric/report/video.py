"""`report.html` of `exprmetric video evaluate`: scores, clips, timelines, and the worst seconds as filmstrips."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from exprmetric.errors import ExprmetricError, VideoError
from exprmetric.faces import FaceFinder, open_finder
from exprmetric.faces.point_models import DEFAULT
from exprmetric.io.pool import open_pool
from exprmetric.report import lines
from exprmetric.report.figures import places
from exprmetric.report.filmstrips import Strip, choose, with_pictures
from exprmetric.report.html import REPORT, render, write_page
from exprmetric.report.video_tables import (
    EVENTS,
    by_model,
    clip_line,
    clip_name,
    clips_sheet,
    course_sheet,
    coverage_line,
    events_sheet,
    identity_lines,
    lag_line,
    offset_line,
    pairing_line,
    person_of,
    scores_sheet,
    value,
)
from exprmetric.video.scores.clip import LEAST_EVENT
from exprmetric.video.scores.result import VideoResult
from exprmetric.weights import store

if TYPE_CHECKING:
    import pyarrow as pa

MOST_CLIPS = 12
"""Clips whose timelines and filmstrips the page shows: those that lost most expression."""
MOST_ROWS = 500
"""Clips of the page's table; clips.csv has all."""
MOST_NAMED = 5
"""Models or clips in the title."""
MOST_STRIPS = 3
"""Filmstrips of a clip."""


@dataclass(frozen=True)
class Shown:
    """A clip as the page shows it: its record, its figures, its strips, and why there are none."""

    record: dict[str, Any]
    distances: tuple[lines.LineChart, ...]
    signals: tuple[lines.LineChart, ...]
    strips: tuple[Strip, ...]
    problem: str = ""


def write_video_report(result: VideoResult, folder: str | os.PathLike[str], *, jobs: int | None = None) -> Path:
    """Draw `report.html` into a folder that `VideoResult.save` has written.

    Args:
        result: of `evaluate_videos`, or loaded.
        folder: exists.
        jobs: threads that find the faces of the filmstrips.

    Raises:
        ExprmetricError: the page could not be drawn or written; the folder's other files are as they were.
    """
    path = Path(folder) / REPORT
    try:
        write_page(path, video_report_page(result, jobs=jobs))
    except Exception as error:  # whatever it is, it must not look as if the measurement had failed
        path.unlink(missing_ok=True)
        raise ExprmetricError(
            f"the result is written, but {path} could not be drawn: {type(error).__name__}: {error}"
        ) from error
    return path


def video_report_page(result: VideoResult, *, jobs: int | None = None) -> str:
    """The report as HTML. Videos that are not where they were give no filmstrips."""
    summary = result.summary
    methods = list(summary["methods"])
    chosen = _chosen(summary["clips"], methods)
    settings = summary["settings"]
    with store.commercial_only(settings.get("commercial_only", False)):  # older results don't say
        landmarks = settings.get("landmarks", DEFAULT)
        finder = open_finder(settings["detector"], provider=settings["provider"], landmarks=landmarks)
    parts, first = by_model(summary)
    with open_pool(jobs) as pool:
        shown = [_shown(clip, result.frames, methods, settings, finder, pool) for clip in chosen]
    return render(
        "video.html",
        summary=summary,
        coverage=coverage_line(summary["coverage"]),
        identity=identity_lines(parts),
        headline=scores_sheet(parts, first),
        places=places(summary["methods"], {m: p["methods"] for m, p in parts.items() if first}),
        data_name=_data_name(summary["clips"]),
        temporal=course_sheet(parts, first),
        events=events_sheet(parts, first),
        clips=clips_sheet(summary, MOST_ROWS),
        clip_line=clip_line,
        pairing_line=pairing_line,
        clip_name=clip_name,
        person_of=person_of,
        several=any(person_of(c) > 1 for c in summary["clips"]),
        offset_line=offset_line,
        shown=shown,
        most_rows=MOST_ROWS,
    )


def _data_name(clips: Sequence[dict[str, Any]]) -> str:
    """What the page calls its data: the models where they are named, or else the clips."""
    names = dict.fromkeys(c["model"] for c in clips if c["model"]) or dict.fromkeys(str(c["id"]) for c in clips)
    return ", ".join([*names][:MOST_NAMED]) + ("" if len(names) <= MOST_NAMED else ", …")


def _chosen(clips: Sequence[dict[str, Any]], methods: Sequence[str]) -> list[dict[str, Any]]:
    measured = [c for c in clips if c["coverage"] and c["coverage"]["ok"]]
    measured.sort(key=lambda c: -(c["methods"][methods[0]]["mean_t2c"] or 0.0))
    return measured[:MOST_CLIPS]


def _shown(
    clip: dict[str, Any],
    frames: pa.Table,
    methods: Sequence[str],
    settings: dict[str, Any],
    finder: FaceFinder,
    pool: Executor,
) -> Shown:
    import pyarrow.compute as pc

    mine = pc.equal(frames["clip"], clip["id"])
    if "person" in frames.column_names:  # older results have none
        mine = pc.and_(mine, pc.equal(frames["person"], person_of(clip)))
    table = frames.filter(mine)
    strips, problem = choose(clip["worst"], MOST_STRIPS), ""
    try:
        places = (Path(clip["target"]), Path(clip["swapped"]))
        strips = with_pictures(strips, table, places, finder, pool, rate=settings["rate"])
    except VideoError as error:
        strips, problem = [], str(error)
    curves = _with_gaps(table)
    return Shown(clip, tuple(_distances(clip, curves, methods)), tuple(_signals(clip, curves)), tuple(strips), problem)


def _with_gaps(table: pa.Table) -> pa.Table:
    """With an empty row wherever rows are missing: no curve is drawn over frames that don't show its person."""
    import pyarrow as pa

    frames = table["frame"].to_numpy()
    steps = np.diff(frames)
    gaps = np.flatnonzero(steps > steps.min()) + 1 if len(steps) else np.empty(0, np.intp)
    rows = np.insert(np.arange(len(frames)), gaps, -1)
    times = table["time"].to_numpy()
    times = np.insert(times, gaps, times[gaps - 1])
    found = table.take(pa.array(rows, mask=rows < 0))
    return found.set_column(found.column_names.index("time"), "time", pa.array(times))


def _distances(clip: dict[str, Any], table: pa.Table, methods: Sequence[str]) -> list[lines.LineChart]:
    times = table["time"].to_numpy()
    found = []
    for method in methods:
        t2c = lines.columns(table, [f"{method}.t2c"])
        most = max(1, min(MOST_STRIPS, int((times[-1] - times[0]) / 3)))  # of a short clip not all is the worst
        worst = clip["worst"].get(method, [])[:most]
        bands = [(w["start"], w["end"], f"mean t2c {w['mean']:.3f}") for w in worst]
        over_time = clip["methods"][method]["temporal"]
        found.append(
            lines.line_chart(
                f"{method}: correlation {value(over_time['correlation'])}, {lag_line(over_time['lag'])}",
                times,
                {"t2c": next(iter(t2c.values()))},
                y_label="t2c",
                low=0.0,
                bands=bands,
            )
        )
    return found


def _signals(clip: dict[str, Any], table: pa.Table) -> list[lines.LineChart]:
    times = table["time"].to_numpy()
    found = []
    for name, events in clip["events"].items():
        both = lines.columns(table, [f"target.{name}", f"swapped.{name}"])
        if len(both) != 2:
            continue
        target, swapped = both.values()
        label = EVENTS.get(name, name)
        missed = [(t, "target", "missed", f"{label} at {t:.2f} s: the swap has none") for t in events["missed"]]
        added = [(t, "swapped", "added", f"{label} at {t:.2f} s: the target has none") for t in events["added"]]
        kept = events["target"] - len(missed)
        title = f"{label}: {kept} of {events['target']} kept" if events["target"] else f"{label}: none in the target"
        title += f", {len(added)} added" if added else ""
        curves = {"target": target, "swapped": swapped}
        span = 2 * LEAST_EVENT[name]  # noise should not fill the figure
        found.append(lines.line_chart(title, times, curves, y_label=label, span=span, moments=[*missed, *added]))
    return found
