"""What tagging, summaries and searches write: JSON, CSV, WebVTT, contact sheets; everything as bytes by file name."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from exprmetric.io.environment import environment, stamp
from exprmetric.io.files import path_text
from exprmetric.io.plain import as_json
from exprmetric.video.people.digest import Digest
from exprmetric.video.people.library import Library
from exprmetric.video.people.references import Reference
from exprmetric.video.people.search import Moment
from exprmetric.video.people.sheet import Tile, contact_sheet
from exprmetric.video.people.tagging import Closest, Segment, Tagged, intensity
from exprmetric.video.people.thresholds import Threshold

SCHEMA_VERSION = 1
Files = dict[str, bytes]
Record = dict[str, Any]
_NUMBER = re.compile(r"[^\w.-]+")


def about(library: Library) -> Record:
    """What every JSON file begins with: versions, method, settings, videos, people, and what could not be read."""
    seconds = [0.0] * len(library.people.names)
    videos: list[set[int]] = [set() for _ in seconds]
    used = [0] * len(seconds)
    for c in library.courses:
        seconds[c.person] += float((c.end - c.start).sum())
        used[c.person] += len(c)
        videos[c.person].add(c.video)
    far = library.people.distances
    return {
        **stamp(SCHEMA_VERSION),
        "method": {"name": library.method.name, "fingerprint": library.method.fingerprint},
        "settings": {k: v if not isinstance(v, Path) else path_text(v) for k, v in vars(library.reading).items()},
        "videos": [
            {
                "path": path_text(path),
                "frames": video.frames_total,
                "frames_without_face": video.frames_without_face,
                **asdict(left),
                "problem": path_text(video.problem),
            }
            for path, video, left in zip(library.paths, library.videos, library.left, strict=True)
        ],
        "failed": [{"path": path_text(path), "reason": path_text(why)} for path, why in library.failed.items()],
        "people": [
            {
                "name": path_text(name),
                "faces": library.people.faces(i),
                "used": used[i],
                "seconds": seconds[i],
                "videos": len(videos[i]),
                "distance_to_photograph": far[i] if far[i] == far[i] else None,
            }
            for i, name in enumerate(library.people.names)
        ],
        "environment": environment(),
    }


def tag_record(library: Library, references: Sequence[Reference], tagged: Tagged, nearest: Sequence[Closest]) -> Record:
    """`tags.json`."""
    names = library.people.names
    record = about(library)
    for i, person in enumerate(record["people"]):
        person["tags"] = {path_text(t): v for t, v in tagged.rates(i).items()}
    return record | {
        "threshold": asdict(tagged.threshold),
        "tags": [path_text(t) for t in tagged.tags],
        "references": [{"path": path_text(r.path), "tags": sorted(map(path_text, r.tags))} for r in references],
        "segments": [_named(asdict(s), library, names) for s in tagged.segments],
        "closest": [_named(asdict(c), library, names) for c in nearest],
    }


def digest_record(library: Library, digests: Sequence[Digest]) -> Record:
    """`summary.json`."""
    names = library.people.names
    return about(library) | {
        "expressions": [_named(asdict(e), library, names) for d in digests for e in d.expressions],
        "clustered": {path_text(names[d.person]): {"faces": d.faces, "clustered": d.clustered} for d in digests},
    }


def search_record(library: Library, query: Path, moments: Sequence[Moment], threshold: Threshold | None) -> Record:
    """`search.json`; the threshold is null where none is known."""
    names = library.people.names
    return about(library) | {
        "query": path_text(query),
        "threshold": None if threshold is None else asdict(threshold),
        "moments": [_named(asdict(m), library, names) for m in moments],
    }


def _named(record: Record, library: Library, names: Sequence[str]) -> Record:
    """With paths and names for numbers, in front."""
    v, p = record.pop("video"), record.pop("person")
    record.pop("row", None)
    text = {k: path_text(x) if isinstance(x, str) else round(x, 4) for k, x in record.items()}
    return {"video": path_text(library.paths[v]), "person": path_text(names[p])} | text


def json_bytes(record: Record) -> bytes:
    """JSON without NaN."""
    return as_json(record).encode() + b"\n"


def csv_bytes(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> bytes:
    """A CSV table; None is an empty cell."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(["" if row[c] is None else row[c] for c in columns] for row in rows)
    return text.getvalue().encode()


def tag_files(library: Library, record: Record, tagged: Tagged) -> Files:
    """`tags.json`, `segments.csv`, `rates.csv`, `intensity.csv`, and `subtitles/<video>.vtt`."""
    rates = [{"person": p["name"], "tag": tag, **r} for p in record["people"] for tag, r in p["tags"].items()]
    files = {
        "tags.json": json_bytes(record),
        "segments.csv": csv_bytes(
            record["segments"], ("video", "person", "tag", "start", "end", "faces", "distance", "time")
        ),
        "rates.csv": csv_bytes(rates, ("person", "tag", "rate", "faces", "seconds", "segments")),
        "intensity.csv": csv_bytes(
            _intensities(library, tagged), ("video", "person", "frame", "time", *map(path_text, tagged.tags))
        ),
    }
    stems = _distinct([path.stem for path in library.paths])
    for v, stem in enumerate(stems):
        mine = [s for s in tagged.segments if s.video == v]
        files[f"subtitles/{stem}.vtt"] = webvtt(mine, library.people.names).encode("utf-8", "backslashreplace")
    return files


def _intensities(library: Library, tagged: Tagged) -> Iterable[Record]:
    for done in tagged.courses:
        c = done.course
        video, person = path_text(library.paths[c.video]), path_text(library.people.names[c.person])
        values = intensity(done.distances, tagged.threshold.value).round(4)
        for i in range(len(c)):
            found = zip(map(path_text, tagged.tags), values[i].tolist(), strict=True)
            yield {"video": video, "person": person, "frame": int(c.frame[i]), "time": float(c.start[i]), **dict(found)}


def digest_files(record: Record) -> Files:
    """`summary.json` and `expressions.csv`."""
    columns = ("video", "person", "frame", "time", "share", "faces", "videos", "spread")
    return {"summary.json": json_bytes(record), "expressions.csv": csv_bytes(record["expressions"], columns)}


def search_files(record: Record) -> Files:
    """`search.json` and `moments.csv`."""
    columns = ("video", "person", "frame", "time", "distance")
    return {"search.json": json_bytes(record), "moments.csv": csv_bytes(record["moments"], columns)}


def _distinct(stems: Sequence[str]) -> list[str]:
    """Names of files for these stems: of harmless characters, no two equal whatever their case."""
    taken: set[str] = set()
    found = []
    for stem in stems:
        name = base = _NUMBER.sub("_", stem).strip(".")[:100] or "video"
        n = 1
        while name.lower() in taken:
            n += 1
            name = f"{base}-{n}"
        taken.add(name.lower())
        found.append(name)
    return found


def webvtt(segments: Sequence[Segment], names: Sequence[str]) -> str:
    """Subtitles: a cue a segment, in order of time, with who it is and the tag."""
    cues = [
        f"{_clock(s.start)} --> {_clock(max(s.end, s.start + 0.001))}\n{_cue(names[s.person])}: {_cue(s.tag)}\n"
        for s in sorted(segments, key=lambda s: (s.start, s.end))
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _clock(seconds: float) -> str:
    """`hh:mm:ss.mmm`."""
    whole = round(seconds * 1000)
    return f"{whole // 3_600_000:02d}:{whole // 60_000 % 60:02d}:{whole // 1000 % 60:02d}.{whole % 1000:03d}"


def _cue(text: str) -> str:
    """Text of a cue: on one line, and no markup."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def sheet_bytes(rows: Mapping[str, Sequence[Tile]], *, columns: int = 5) -> bytes:
    """A contact sheet as PNG."""
    data = io.BytesIO()
    contact_sheet(rows, columns=columns).save(data, "PNG")
    return data.getvalue()
