"""What was measured of videos, as text on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from exprmetric.evaluation.tables import ANCHORS, alarm_lines, identity_line, shown_scores
from exprmetric.io.say import csv_text, say_csv, say_json
from exprmetric.io.sheet import NOTHING, Column, Content, Number, Row, Sheet, score_cell
from exprmetric.io.tables import counted, printable
from exprmetric.metrics.preservation import HEADINGS
from exprmetric.video.scores.clip import TEMPORAL_SCORES

if TYPE_CHECKING:
    from exprmetric.video.scores.result import VideoResult

COURSE = {
    "correlation": "correlation ↑",
    "velocity_correlation": "of velocity ↑",
    "amplitude": "amplitude →1",
    "dtw": "DTW ↓",
    "flicker_db": "flicker dB →0",
    "event_recall": "event recall ↑",
    "event_precision": "precision ↑",
}
"""Headings of the scores over time."""
EVENTS = {"blink": "blink", "smile": "smile", "jaw_open": "jaw open", "brows_up": "brows up"}
MOST_FAILURES = 10


def value(number_or_none: float | None, digits: int = 2) -> str:
    """A number, or a dash."""
    return "–" if number_or_none is None else f"{round(number_or_none, digits) + 0.0:.{digits}f}"  # no -0.00


def coverage_line(coverage: dict[str, Any]) -> str:
    """`3 of 4 clips measured; 500 of 510 frames; failed: …`."""
    frames = coverage["frames"]
    people = coverage.get("people", coverage["ok"])
    line = f"{coverage['ok']} of {coverage['clips']} clips measured, "
    line += f"{people} people, " if people > coverage["ok"] else ""
    line += f"{frames['ok']} of {frames['total']} frames"
    parts = [f"{status} {n}" for status, n in coverage["failed"].items()]
    unmeasured = [f"{status} {n}" for status, n in frames["failed"].items()]
    line += f"; failed clips: {', '.join(parts)}" if parts else ""
    return line + (f"; frames not measured: {', '.join(unmeasured)}" if unmeasured else "")


def person_of(clip: dict[str, Any]) -> int:
    """Which of a clip's people a record is of, 1 = the main one."""
    return int(clip.get("person", 1))


def clip_name(clip: dict[str, Any]) -> str:
    """A clip's id, and which of its people it is about."""
    return f"{clip['id']}, person {person_of(clip)}" if person_of(clip) > 1 else str(clip["id"])


def lag_line(lag: dict[str, Any] | None) -> str:
    """At which shift a method's movement fits the target's best."""
    if lag is None:
        return "lag unknown"
    if lag["frames"] == 0:
        return "no lag"
    return f"fits best {_late(lag)} (correlation {value(lag['correlation'])})"


def offset_line(offset: dict[str, Any] | None) -> str:
    """Whether a clip is shifted, in a few words."""
    return "–" if offset is None else _late(offset) if offset["shifted"] else "none"


def _late(lag: dict[str, Any]) -> str:
    frames, seconds = lag["frames"], lag["seconds"]
    way = "late" if frames > 0 else "early"
    return f"{counted(abs(frames), 'frame')} ({abs(seconds or 0.0):.2f} s) {way}"


def clip_line(clip: dict[str, Any]) -> str:
    """Whether a clip is shifted; '' where it isn't."""
    offset = clip.get("offset")
    if not offset or not offset["shifted"]:
        return ""
    return (
        f"The swapped video is {offset_line(offset)}: shifted back, its movement correlates "
        f"{value(offset['correlation'])} with the target's, and {value(offset['at_zero'])} as it is. "
        "For the scores nothing was shifted"
    )


def pairing_line(clip: dict[str, Any]) -> str:
    """How frames were paired, where counts, rates or names of the two videos differ; '' where they don't."""
    note = (clip.get("pairing") or {}).get("note", "")
    return str(note) if person_of(clip) == 1 else ""


def scores_sheet(parts: Mapping[str, Mapping[str, Any]], first: str = "") -> Sheet:
    """Preservation scores over the frames with their anchors, by part (models; one without a name) and method."""
    scores = shown_scores({k: m for part in parts.values() for k, m in part["methods"].items()})
    columns = [*_methods_head(first, "method"), Column("frames"), *(Column(HEADINGS[s], s) for s in scores)]

    def anchors(method: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[Content]]]:
        for key, words in ANCHORS.items():
            if found := method.get("anchors", {}).get(key):  # older results have none
                yield words, ["", *(Number(found.get(s)) for s in scores)]

    return _by_part(columns, parts, first, lambda m: [m["n"], *(score_cell(m.get(s)) for s in scores)], anchors)


def course_sheet(parts: Mapping[str, Mapping[str, Any]], first: str = "", *, name: str = "method") -> Sheet:
    """Scores over time, by part and method."""
    columns = [*_methods_head(first, name), *(Column(COURSE[k], k) for k in TEMPORAL_SCORES)]
    return _by_part(columns, parts, first, lambda m: [_course_cell(m["temporal"][k]) for k in TEMPORAL_SCORES])


def _methods_head(first: str, name: str) -> list[Column]:
    return [Column(heading, words=True) for heading in (first, name) if heading]


def _by_part(
    columns: Sequence[Column],
    parts: Mapping[str, Mapping[str, Any]],
    first: str,
    cells: Callable[[Mapping[str, Any]], Sequence[Content]],
    anchors: Callable[[Mapping[str, Any]], Iterable[tuple[str, Sequence[Content]]]] = lambda scores: (),
) -> Sheet:
    rows = []
    for part, found in parts.items():
        head = [part] * bool(first)
        for method, scores in found["methods"].items():
            rows.append(Row([*head, method, *cells(scores)], part))
            head = [""] * bool(first)
            rows += [Row([*head, f"  {words}", *found], part, anchor=True) for words, found in anchors(scores)]
    return Sheet(columns, rows)


def _course_cell(score: Mapping[str, Any]) -> Number:
    low, high = score["ci95"]
    return Number(score["value"], low, high, ".2f")


def by_model(summary: Mapping[str, Any]) -> tuple[Mapping[str, Mapping[str, Any]], str]:
    """The parts that stand side by side, and what tells them apart: several models, or the whole without a name."""
    several = len(summary["models"]) > 1
    return (summary["models"], "model") if several else ({"": summary}, "")


def identity_lines(parts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The control in a sentence; of several models in one for each, never all in one."""
    found = ((name, identity_line(part["identity"])) for name, part in parts.items())
    return [f"{name}: {line}" if name else line for name, line in found if line]


def events_sheet(parts: Mapping[str, Mapping[str, Any]], first: str = "") -> Sheet:
    """How many events of the target the swaps have too, by part."""
    rows = [
        [
            *[name] * bool(first),
            EVENTS.get(event, event),
            *(found["target"], found["swapped"], _share(found["recall"]), _share(found["precision"])),
        ]
        for name, part in parts.items()
        for event, found in part["events"].items()
    ]
    head = [*_methods_head(first, "event"), *map(Column, ("in target", "in swap", "recall ↑", "precision ↑"))]
    return Sheet(head, [Row(cells) for cells in rows])


def _share(number: float | None) -> Number:
    return Number(number, form=".2f")


def clips_sheet(summary: Mapping[str, Any], most: int) -> Sheet:
    """One row for each of the people of each clip."""
    methods, clips = list(summary["methods"]), summary["clips"]
    several, models = any(person_of(c) > 1 for c in clips), bool(summary["models"])
    columns = [Column("clip", words=True), *[Column("person"), Column("nearer to source")] * several]
    columns += [Column("model", words=True)] * models + [Column("status", words=True), Column("frames")]
    columns += [Column("shift"), *(c for m in methods for c in (Column(f"{m} t2c ↓"), Column("correlation ↑")))]
    rows = []
    for clip in clips[:most]:
        cells: list[Content] = [clip["id"]]
        cells += [person_of(clip), _share(clip.get("nearer_to_source"))] * several
        damaged = [f"{role} damaged: {why}" for role, why in clip.get("damaged", {}).items()]
        status = "; ".join([f"{clip['status']}: {clip['reason']}" if clip["reason"] else clip["status"], *damaged])
        cells += [clip["model"]] * models + [status]
        if clip["coverage"]:
            cells += [f"{clip['coverage']['ok']} / {clip['coverage']['frames']}", offset_line(clip.get("offset"))]
            for m in methods:
                found = clip["methods"][m]
                cells += [Number(found["mean_t2c"]), _share(found["temporal"]["correlation"])]
        else:
            cells += [NOTHING] * (2 + 2 * len(methods))
        rows.append(Row(cells))
    return Sheet(columns, rows)


def print_rows(head: Sequence[str], rows: Iterable[Sequence[object]], *, left: int = 1) -> None:
    """A table on stdout; the first `left` columns are text, the others numbers."""
    Sheet.of(head, rows, words=left).print()


def print_result(result: VideoResult) -> None:
    """Scores, scores over time, events and clips of `video evaluate`."""
    summary = result.summary
    print(coverage_line(summary["coverage"]))
    for line in alarm_lines(summary):
        print(line)
    parts, first = by_model(summary)
    scores_sheet(parts, first).print()
    course_sheet(parts, first, name="over time").print()
    if summary["events"]:
        events_sheet(parts, first).print()
    if any(person_of(c) > 1 for c in summary["clips"]):
        _print_people(summary)
    for clip in summary["clips"]:
        for line in filter(None, (pairing_line(clip), clip_line(clip))):
            print(printable(f"{clip_name(clip)}: {line}."))
    for line in identity_lines(parts):
        print(printable(line))
    failed = [c for c in summary["clips"] if c["status"] != "ok"]
    for clip in failed[:MOST_FAILURES]:
        print(printable(f"{clip['status']}: {clip_name(clip)}: {clip['reason']}"))
    if len(failed) > MOST_FAILURES:
        print(f"… and {len(failed) - MOST_FAILURES} more failed clips; --out writes all")
    for clip in summary["clips"]:
        for role, why in clip.get("damaged", {}).items():
            print(printable(f"damaged: {clip['id']}: {role}: {why}"))


def _print_people(summary: dict[str, Any]) -> None:
    """A row for each of the people of each clip."""
    methods = list(summary["methods"])
    head = ["clip", "person", "frames", "nearer to source", *(f"{m} t2c ↓" for m in methods), "correlation ↑"]
    rows = [
        [
            clip["id"],
            person_of(clip),
            clip["coverage"]["ok"],
            value(clip.get("nearer_to_source")),
            *(value(clip["methods"][m]["mean_t2c"], 3) for m in methods),
            value(clip["methods"][methods[0]]["temporal"]["correlation"]),
        ]
        for clip in summary["clips"]
        if clip["coverage"]
    ]
    print_rows(head, rows)


def print_csv(result: VideoResult) -> None:
    """`clips.csv` on stdout."""
    say_csv(csv_text([result.clips.column_names, *(row.values() for row in result.clips.to_pylist())]))


FORMATS: dict[str, Callable[[VideoResult], None]] = {
    "table": print_result,
    "json": lambda result: say_json(result.to_json()),
    "csv": print_csv,
}


def print_videos(record: dict[str, Any]) -> None:
    """What was read of each video, and which could not be."""
    for video in record["videos"]:
        unused = {"unfit": "fail FaceQA", "nobody": "are of nobody", "unread": "can't be read"}
        rest = ", ".join(f"{video[k]} {words}" for k, words in unused.items() if video[k])
        line = f"{video['path']}: {video['faces']} faces in {video['frames']} frames, {video['used']} used"
        print(printable(line + (f" ({rest})" if rest else "") + (f"; {video['problem']}" if video["problem"] else "")))
    for failed in record["failed"]:
        print(printable(f"failed: {failed['path']}: {failed['reason']}"))


def print_tags(record: dict[str, Any]) -> None:
    """Appearance rates of each person, and the segments' number."""
    print_videos(record)
    threshold = record["threshold"]
    print(printable(f"threshold {threshold['value']:g} of {record['method']['name']}: {threshold['measured_on']}"))
    rows = [
        (p["name"] if i == 0 else "", tag, f"{r['rate']:.1%}", r["segments"], f"{r['seconds']:.1f}")
        for p in record["people"]
        for i, (tag, r) in enumerate(p["tags"].items())
    ]
    print_rows(("person", "tag", "appearance", "segments", "seconds"), rows, left=2)


def print_digest(record: dict[str, Any]) -> None:
    """Each person's expressions, the most frequent first."""
    print_videos(record)
    rows = [(e["person"], e["video"], f"{e['share']:.1%}", f"{e['time']:.2f}") for e in record["expressions"]]
    print_rows(("person", "video", "share", "seconds"), rows, left=2)


def print_moments(record: dict[str, Any]) -> None:
    """The moments of a search, nearest first."""
    print_videos(record)
    rows = [(m["person"], m["video"], f"{m['time']:.2f}", f"{m['distance']:.3f}") for m in record["moments"]]
    print_rows(("person", "video", "seconds", "distance"), rows, left=2)


def print_quality(record: dict[str, Any]) -> None:
    """Faces of each video that pass FaceQA."""
    keys = ("frames", "frames_without_face", "faces", "fit", "blurred", "sideways")
    rows = [
        (v["path"], *(v[k] for k in keys), value(v["median_sharpness"]), value(v["largest_yaw"], 0))
        for v in record["videos"]
    ]
    print_rows(("video", "frames", "no face", *keys[2:], "median sharpness", "largest yaw"), rows)
    for v in record["videos"]:
        if v["problem"]:
            print(printable(f"damaged: {v['path']}: {v['problem']}"))
    for failed in record["failed"]:
        print(printable(f"failed: {failed['path']}: {failed['reason']}"))
