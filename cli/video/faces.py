"""`exprmetric video tag`, `summary` and `search`: the expressions of people in videos (paper 004)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from exprmetric_cli.options import detector_option, format_option, progress_bar
from exprmetric_cli.video.options import (
    VIDEO_FORMATS,
    apart_from_inputs,
    keep_option,
    out_option,
    people_options,
    reading_options,
)

if TYPE_CHECKING:
    from exprmetric.video.people.library import Library
    from exprmetric.video.people.outputs import Files

VIDEO = click.Path(path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
VIDEOS = click.argument("videos", metavar="VIDEO...", nargs=-1, required=True, type=VIDEO)
PERSON = click.option("--person", "persons", multiple=True, help="Only of this name; repeat for several.")


@click.group()
def tag() -> None:
    """Find expressions of your own: one face is enough, nothing is trained."""


@tag.command()
@click.argument("database", type=FOLDER)
@click.argument("faces", metavar="FACE...", nargs=-1, required=True, type=VIDEO)
@click.option("--tag", "-t", "tags", multiple=True, required=True, help="A tag to add; repeat the option for several.")
@click.option("--at", type=click.FloatRange(min=0), help="FACE is a video: seconds into it.")
@detector_option()
def add(database: Path, faces: tuple[Path, ...], tags: tuple[str, ...], at: float | None, detector: str) -> None:
    """Put faces into DATABASE, a folder with tag/face.jpg; prints the files."""
    from exprmetric.video.people.references import add_reference

    for face in faces:
        for path in add_reference(database, list(tags), face, at=at, detector=detector):
            click.echo(path)


@tag.command()
@click.argument("database", type=FOLDER)
@VIDEOS
@people_options
@click.option("--threshold", type=float, help="Distance within which a face gets a tag.  [default: the method's]")
@keep_option
@reading_options
@out_option("tags.html, tags.json, segments.csv, rates.csv, intensity.csv, closest.png, subtitles/*.vtt")
@format_option(VIDEO_FORMATS)
def run(
    database: Path,
    videos: tuple[Path, ...],
    threshold: float | None,
    keep: Path | None,
    out: Path | None,
    form: str,
    jobs: int | None,
    quiet: bool,
    **how: Any,
) -> None:
    """Tag VIDEOs with the expressions of DATABASE.

    Exit status: 0 measured, 1 no face could be measured, 2 wrong usage.
    """
    from exprmetric.report.video_faces import closest_tiles, tags_page
    from exprmetric.report.video_tables import print_tags
    from exprmetric.video.people import outputs
    from exprmetric.video.people.references import read_references
    from exprmetric.video.people.tagging import closest
    from exprmetric.video.people.tagging import tag as tag_courses
    from exprmetric.video.people.thresholds import Threshold, threshold_of

    if threshold is not None:
        Threshold(threshold, "")  # wrong usage should not wait for the videos
    references = read_references(database, how["method"], detector=how["detector"], provider=how["provider"])
    library = _read(videos, out, keep=keep, jobs=jobs, quiet=quiet, **how)
    limit = threshold_of(library.method, references, library.courses, threshold)
    tagged = tag_courses(library.courses, references, library.method, limit)
    nearest = closest(tagged, references, library.method)
    record = outputs.tag_record(library, references, tagged, nearest)
    files = outputs.tag_files(library, record, tagged)
    if out is not None:
        pictures = library.pictures((c.video, c.row) for c in nearest)
        files["tags.html"] = tags_page(library, references, tagged, nearest, pictures, record).encode()
        files["closest.png"] = outputs.sheet_bytes(closest_tiles(library, nearest, pictures), columns=6)
    _finish(
        library, files, out, {"table": lambda: print_tags(record), "json": "tags.json", "csv": "segments.csv"}[form]
    )


@click.command()
@VIDEOS
@people_options
@PERSON
@click.option(
    "-n",
    "clusters",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Show so many faces of each person.",
)
@keep_option
@reading_options
@out_option("summary.html, summary.json, expressions.csv, summary.png")
@format_option(VIDEO_FORMATS)
def summary(
    videos: tuple[Path, ...],
    persons: tuple[str, ...],
    clusters: int,
    keep: Path | None,
    out: Path | None,
    form: str,
    jobs: int | None,
    quiet: bool,
    **how: Any,
) -> None:
    """Show each person's expressions, over all VIDEOs: one representative face of each of N clusters.

    Exit status: 0 measured, 1 no face could be measured, 2 wrong usage.
    """
    from exprmetric.report.video_faces import digest_page, digest_tiles
    from exprmetric.report.video_tables import print_digest
    from exprmetric.video.people import outputs
    from exprmetric.video.people.digest import digest

    library = _read(videos, out, keep=keep, jobs=jobs, quiet=quiet, **how)
    digests = [d for p in library.persons(persons) if (d := digest(p, library.courses, clusters=clusters)).expressions]
    record = outputs.digest_record(library, digests)
    files = outputs.digest_files(record)
    if out is not None:
        pictures = library.pictures((e.video, e.row) for d in digests for e in d.expressions)
        files["summary.html"] = digest_page(library, digests, pictures, record).encode()
        files["summary.png"] = outputs.sheet_bytes(digest_tiles(library, digests, pictures))
    shown = {"table": lambda: print_digest(record), "json": "summary.json", "csv": "expressions.csv"}
    _finish(library, files, out, shown[form])


@click.command()
@click.argument("query", type=click.Path(dir_okay=False, path_type=Path))
@VIDEOS
@people_options
@PERSON
@click.option(
    "-n", "count", type=click.IntRange(min=1), default=20, show_default=True, help="Show at most so many moments."
)
@click.option(
    "--apart", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Seconds between two of one person."
)
@keep_option
@reading_options
@out_option("search.html, search.json, moments.csv, search.png")
@format_option(VIDEO_FORMATS)
def search(
    query: Path,
    videos: tuple[Path, ...],
    persons: tuple[str, ...],
    count: int,
    apart: float,
    keep: Path | None,
    out: Path | None,
    form: str,
    jobs: int | None,
    quiet: bool,
    **how: Any,
) -> None:
    """Find the moments of VIDEOs whose expression is nearest to that of the face in the image QUERY.

    Exit status: 0 measured, 1 no face could be measured, 2 wrong usage.
    """
    from exprmetric.errors import InputError
    from exprmetric.report.video_faces import search_page, search_tiles
    from exprmetric.report.video_tables import print_moments
    from exprmetric.video.people import outputs
    from exprmetric.video.people.search import query_vector
    from exprmetric.video.people.search import search as search_courses
    from exprmetric.video.people.thresholds import threshold_of

    asked = query_vector(query, how["method"], detector=how["detector"], provider=how["provider"])
    library = _read(videos, out, keep=keep, jobs=jobs, quiet=quiet, **how)
    wanted = set(library.persons(persons))
    among = [c for c in library.courses if c.person in wanted]
    moments = search_courses(asked, among, library.method, count=count, apart=apart)
    try:
        limit = threshold_of(library.method, [], library.courses)
    except InputError:  # nobody knows what is near in this space
        limit = None
    record = outputs.search_record(library, query, moments, limit)
    files = outputs.search_files(record)
    if out is not None:
        pictures = library.pictures((m.video, m.row) for m in moments)
        files["search.html"] = search_page(library, query, moments, pictures, record, limit).encode()
        files["search.png"] = outputs.sheet_bytes(search_tiles(library, moments, pictures))
    shown = {"table": lambda: print_moments(record), "json": "search.json", "csv": "moments.csv"}
    _finish(library, files, out, shown[form])


def _read(
    videos: tuple[Path, ...], out: Path | None, *, keep: Path | None, jobs: int | None, quiet: bool, **how: Any
) -> Library:
    from exprmetric.video.people.library import Reading, find_inputs, read_library

    apart_from_inputs(out, videos)
    paths = find_inputs(videos)
    with progress_bar("reading", quiet=quiet) as progress:
        return read_library(paths, Reading(**how), keep=keep, jobs=jobs, progress=progress)


def _finish(library: Library, files: Files, out: Path | None, shown: Any) -> None:
    """Write, print (a function, or the name of a file), and say by the exit status whether anything was measured."""
    from exprmetric.io.files import write_files
    from exprmetric.io.say import say_file

    if out is not None:
        write_files(out, files)
    if callable(shown):
        shown()
    else:
        say_file(shown, files[shown])
    if out is not None:
        click.echo(f"written into {out}: {', '.join(sorted(files))}", err=True)
    if not library.courses:
        click.echo("Error: no face could be measured", err=True)
        sys.exit(1)
