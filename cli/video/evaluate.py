"""`exprmetric video evaluate` and `quality`: swapped videos → scores over time; videos → FaceQA."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from exprmetric_cli.ending import end_unmeasured
from exprmetric_cli.options import (
    CLIP_NAMES,
    clip_layout_options,
    format_option,
    methods_option,
    progress_bar,
    read_named,
    seed_option,
    stack_options,
    tell,
)
from exprmetric_cli.video.options import (
    VIDEO_FORMATS,
    apart_from_inputs,
    keep_option,
    out_option,
    quality_option,
    reading_options,
)

from exprmetric.choices import PEOPLE

VIDEO = click.Path(path_type=Path)


@click.command()
@click.argument("inputs", metavar="INPUT | TARGET [SOURCE] SWAPPED", nargs=-1, required=True, type=VIDEO)
@methods_option("the first one's movement says by how much a swap is late")
@quality_option("any")
@click.option(
    "--people",
    type=click.Choice(PEOPLE),
    default=PEOPLE[0],
    show_default=True,
    help="Who is measured: whom the swap changed most, else who fills most of the target (one), or everybody in it, "
    "each with scores of their own.",
)
@click.option(
    "--cutoff",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    help="Movement that is faster than this, in Hz, counts as flicker.",
)
@click.option(
    "--identity/--no-identity",
    default=True,
    show_default=True,
    help="Measure the identity control too: whose person the swapped face shows.",
)
@click.option(
    "--render",
    is_flag=True,
    help="Also draw each clip beside its target above its running score, as OUT/side_by_side/*.mp4.",
)
@clip_layout_options
@seed_option()
@reading_options
@stack_options
@out_option("report.html, video.json, clips.csv, frames.csv, frames.parquet")
@format_option(VIDEO_FORMATS)
def evaluate(
    inputs: tuple[Path, ...],
    methods: tuple[str, ...],
    out: Path | None,
    form: str,
    jobs: int | None,
    quiet: bool,
    render: bool,
    layout: str | None,
    **settings: Any,
) -> None:
    """Measure how well swapped videos keep the expressions of their targets, per frame, per clip and over time.

    TARGET and SWAPPED are videos, SOURCE an image or a video; a folder of images is a video. Or INPUT is a folder with
    target/ source/ swapped/ (one clip a name), or a manifest .csv .jsonl .parquet with the columns target source
    swapped. With --layout or --pairs the names of clips say what was swapped into what. Anonymized videos have no
    source: leave it out everywhere.

    Exit status: 0 measured, 1 nothing could be measured, 2 wrong usage.
    """
    from exprmetric.errors import ExprmetricError
    from exprmetric.report.video import write_video_report
    from exprmetric.report.video_tables import FORMATS
    from exprmetric.video.scores.evaluate import VideoSettings, evaluate_video, evaluate_videos

    if len(inputs) > 3:
        raise click.UsageError("name one INPUT (a folder or manifest), or TARGET SOURCE SWAPPED, or TARGET SWAPPED")
    if render and out is None:
        raise click.UsageError("--render needs --out: the folder for the clips")
    names = {name: settings.pop(name) for name in CLIP_NAMES}
    named = layout or any(names.values())
    if named and len(inputs) > 1:
        raise click.UsageError("--layout and --pairs are of one INPUT")
    apart_from_inputs(out, inputs)
    chosen = VideoSettings(**settings)
    with progress_bar("measuring", quiet=quiet) as progress:
        if len(inputs) > 1:
            three = (inputs[0], inputs[1] if len(inputs) == 3 else None, inputs[-1])
            result = evaluate_video(*three, methods, chosen, jobs=jobs, progress=progress)
        else:
            given = read_named(layout, inputs[0], names, clips=True) if named else inputs[0]
            result = evaluate_videos(given, methods, chosen, jobs=jobs, progress=progress)
    tell(result.summary["notes"])
    undrawn: ExprmetricError | None = None
    if out is not None:
        result.save(out)
        try:
            write_video_report(result, out, jobs=jobs)
            if render:
                from exprmetric.report import side_by_side

                drawn = side_by_side.render(result, out)
                click.echo(f"drawn: {len(drawn)} clips in {out / side_by_side.FOLDER}", err=True)
        except ExprmetricError as error:  # the numbers come first
            undrawn = error
    FORMATS[form](result)
    if undrawn:
        raise undrawn
    if out is not None:
        click.echo(f"written: {out}/report.html, video.json, clips.csv, frames.csv, frames.parquet", err=True)
    if not result.summary["coverage"]["ok"]:
        end_unmeasured(result.clips)


@click.command()
@click.argument("videos", metavar="VIDEO...", nargs=-1, required=True, type=VIDEO)
@keep_option
@reading_options
@out_option("quality.json and quality.csv (a row a face)")
@format_option(VIDEO_FORMATS)
def quality(
    videos: tuple[Path, ...],
    keep: Path | None,
    out: Path | None,
    form: str,
    jobs: int | None,
    quiet: bool,
    **how: Any,
) -> None:
    """Which faces of videos are fit for reading expressions: sharp around the eyes, not too sideways (paper 004).

    Exit status: 0 measured, 1 no face could be measured, 2 wrong usage.
    """
    from exprmetric.io.files import write_files
    from exprmetric.report.video_tables import print_quality
    from exprmetric.video.people.faceqa import COLUMNS, measure_quality
    from exprmetric.video.people.library import Reading, find_inputs
    from exprmetric.video.people.outputs import csv_bytes, json_bytes

    apart_from_inputs(out, videos)
    with progress_bar("looking", quiet=quiet) as progress:
        result = measure_quality(find_inputs(videos), Reading(**how), keep=keep, jobs=jobs, progress=progress)
    record = result.record()
    files = {"quality.json": json_bytes(record), "quality.csv": csv_bytes(result.rows(), COLUMNS)}
    if out is not None:
        write_files(out, files)
    if form == "table":
        print_quality(record)
    else:
        from exprmetric.io.say import say_file

        say_file(f"quality.{form}", files[f"quality.{form}"])
    if not any(video["faces"] for video in record["videos"]):
        click.echo("Error: no face could be measured", err=True)
        sys.exit(1)
