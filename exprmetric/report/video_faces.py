"""Pages of faces found in videos: tags with their curves, summaries, searches. One template draws all three."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.io.images import read_image
from exprmetric.io.sheet import Sheet
from exprmetric.io.tables import counted
from exprmetric.report.crops import jpeg_uri
from exprmetric.report.html import render
from exprmetric.report.lines import LineChart, line_chart
from exprmetric.video.people.digest import Digest
from exprmetric.video.people.library import Library
from exprmetric.video.people.references import Reference
from exprmetric.video.people.search import Moment
from exprmetric.video.people.sheet import Tile
from exprmetric.video.people.tagging import Closest, Tagged, TaggedCourse, intensity
from exprmetric.video.people.thresholds import Threshold

Pictures = Mapping[tuple[int, int], npt.NDArray[np.uint8]]
SIDE = 150
MOST_CURVES = 6
"""Tags in a figure: those that the person has most."""
MOST_CHARTS = 40


@dataclass(frozen=True)
class Card:
    """A picture and the lines below it."""

    uri: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """Part of a page: a heading, a line, cards, a table, curves."""

    title: str
    note: str = ""
    cards: tuple[Card, ...] = ()
    rates: Sheet | None = None
    charts: tuple[LineChart, ...] = ()
    told: str = ""


def _page(title: str, lead: Sequence[str], sections: Sequence[Section], record: Mapping[str, Any]) -> str:
    keys = ("frames", "frames_without_face", "faces", "used", "unfit", "nobody", "unread")
    head = ("video", "frames", "without a face", "faces", "used", "unfit", "of nobody", "unread")
    videos = Sheet.of(head, ([v["path"], *(v[k] for k in keys)] for v in record["videos"]))
    about: dict[str, Any] = {"title": title, "lead": lead, "sections": sections, "record": record, "videos": videos}
    return render("video_faces.html", **about, counted=counted)


def tags_page(
    library: Library,
    references: Sequence[Reference],
    tagged: Tagged,
    nearest: Sequence[Closest],
    pictures: Pictures,
    record: Mapping[str, Any],
) -> str:
    """`tags.html`: references, then for each person rates, closest frames and intensity over time."""
    t = tagged.threshold
    lead = [
        f"{counted(len(tagged.tags), 'tag')} of {counted(len(references), 'reference')}; a face has the tags of the "
        "nearest reference within "
        f"{t.value:g} of {library.method.name} ({t.measured_on}).",
    ]
    shown = [Card(jpeg_uri(read_image(r.path), SIDE), (", ".join(sorted(r.tags)), r.path.name)) for r in references]
    sections = [Section("References", cards=tuple(shown))]
    charts = 0
    for person, name in enumerate(library.people.names):
        mine = [c for c in tagged.courses if c.course.person == person and len(c.course)]
        if not mine:
            continue
        rates = tagged.rates(person)
        rows = tuple(
            (tag, f"{r['rate']:.1%}".replace("%", " %"), str(r["segments"]), f"{r['seconds']:.1f}")
            for tag, r in sorted(rates.items(), key=lambda item: -item[1]["rate"])
        )
        cards = [
            Card(
                jpeg_uri(pictures[c.video, c.row], SIDE),
                (c.tag, f"{c.distance:.2f}{'' if c.distance <= t.value else ' (not tagged)'}", _where(library, c)),
            )
            for c in nearest
            if c.person == person
        ]
        figures = [_curves(library, tagged, c, rates) for c in mine[: max(0, MOST_CHARTS - charts)]]
        charts += len(figures)
        sections.append(
            Section(
                name,
                f"{sum(len(c.course) for c in mine)} faces in {counted(len(mine), 'video')}; the closest of each tag:",
                tuple(cards),
                Sheet.of(("tag", "appearance rate", "segments", "seconds"), rows) if rows else None,
                tuple(figures),
                "Intensity: 1 at the reference, ½ at the threshold. Shaded: segments; point at one for its tag.",
            )
        )
    return _page("Expressions tagged in videos", lead, sections, record)


def _where(library: Library, found: Closest | Moment) -> str:
    return f"{library.paths[found.video].name}, {found.time:.2f} s"


def _curves(library: Library, tagged: Tagged, done: TaggedCourse, rates: Mapping[str, Mapping[str, Any]]) -> LineChart:
    c, video = done.course, library.videos[done.course.video]
    values = intensity(done.distances, tagged.threshold.value)
    curves = {}
    most = sorted(rates, key=lambda tag: -rates[tag]["rate"])[:MOST_CURVES]
    for tag in (t for t in tagged.tags if t in most):
        column = np.full(video.frames_total, np.nan)
        column[c.place] = values[:, tagged.tags.index(tag)]
        curves[tag] = column
    bands = [(s.start, s.end, s.tag) for s in tagged.segments if s.video == c.video and s.person == c.person]
    title = f"{library.paths[c.video].name}: {library.people.names[c.person]}"
    return line_chart(title, video.all_times, curves, y_label="intensity", low=0.0, high=1.0, bands=bands)


def digest_page(library: Library, digests: Sequence[Digest], pictures: Pictures, record: Mapping[str, Any]) -> str:
    """`summary.html`: the representative faces of each person."""
    sections = []
    for d in digests:
        cards = [
            Card(
                jpeg_uri(pictures[e.video, e.row], SIDE),
                (f"{e.share:.0%} of the faces".replace("%", " %"), f"{library.paths[e.video].name}, {e.time:.2f} s"),
            )
            for e in d.expressions
        ]
        drawn = f", {d.clustered} of them clustered" if d.clustered < d.faces else ""
        name = library.people.names[d.person]
        sections.append(Section(name, f"{counted(len(cards), 'expression')} of {d.faces} faces{drawn}.", tuple(cards)))
    lead = ["Ward’s clusters of each person’s expressions, the most frequent first; one representative face of each."]
    return _page("Expressions of each person", lead, sections, record)


def search_page(
    library: Library,
    query: Path,
    moments: Sequence[Moment],
    pictures: Pictures,
    record: Mapping[str, Any],
    threshold: Threshold | None,
) -> str:
    """`search.html`: the query and the moments nearest to it, with the line behind which none has its expression."""
    names = library.people.names
    cards = [
        Card(jpeg_uri(pictures[m.video, m.row], SIDE), (f"{m.distance:.3f}", names[m.person], _where(library, m)))
        for m in moments
    ]
    asked = Card(jpeg_uri(read_image(query), SIDE), (query.name,))
    sections = [Section("Query", cards=(asked,))]
    lead = [f"Distances of {library.method.name}, nearest first."]
    if threshold is None:
        sections.append(Section("Nearest moments", cards=tuple(cards)))
    else:
        near = sum(m.distance <= threshold.value for m in moments)
        lead.append(f"Within {threshold.value:g} an expression counts as the same ({threshold.measured_on}).")
        figure = search_chart([m.distance for m in moments], threshold.value)
        sections += [Section("Distances", charts=figure, told="The level line is the threshold.")] if figure else []
        sections.append(Section("Within the threshold", "" if near else "No moment.", tuple(cards[:near])))
        if cards[near:]:
            sections.append(Section("Beyond the threshold", "The nearest ones all the same.", tuple(cards[near:])))
    return _page(f"Moments with the expression of {query.name}", lead, sections, record)


def search_chart(distances: Sequence[float], threshold: float) -> tuple[LineChart, ...]:
    """The distances of the moments, nearest first, and the threshold as a level line; nothing for fewer than two."""
    if len(distances) < 2:
        return ()
    place = np.arange(1, len(distances) + 1)
    curves = {"distance": list(distances), "threshold": [threshold] * len(distances)}
    return (line_chart("", place, curves, y_label="distance", x_label="moment, nearest first", low=0.0, whole=True),)


def digest_tiles(library: Library, digests: Sequence[Digest], pictures: Pictures) -> dict[str, list[Tile]]:
    """Groups of a contact sheet: each person's representative faces."""
    return {
        f"{library.people.names[d.person]}: {d.faces} faces": [
            Tile(pictures[e.video, e.row], (f"{e.share:.0%}", f"{library.paths[e.video].name} {e.time:.1f} s"))
            for e in d.expressions
        ]
        for d in digests
    }


def closest_tiles(library: Library, nearest: Sequence[Closest], pictures: Pictures) -> dict[str, list[Tile]]:
    """Groups of a contact sheet: each person's closest faces by tag."""
    groups: dict[str, list[Tile]] = {}
    for c in nearest:
        lines = (f"{c.tag} {c.distance:.2f}", f"{library.paths[c.video].name} {c.time:.1f} s")
        groups.setdefault(library.people.names[c.person], []).append(Tile(pictures[c.video, c.row], lines))
    return groups


def search_tiles(library: Library, moments: Sequence[Moment], pictures: Pictures) -> dict[str, list[Tile]]:
    """One group of a contact sheet: the moments, nearest first."""
    names = library.people.names
    return {
        "nearest moments": [
            Tile(
                pictures[m.video, m.row],
                (f"{m.distance:.3f} {names[m.person]}", f"{library.paths[m.video].name} {m.time:.1f} s"),
            )
            for m in moments
        ]
    }
