"""`exprmetric evaluate`: swaps → table, JSON, files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from exprmetric_cli.cache import cache_is_off, say_first_use
from exprmetric_cli.ending import end_unmeasured, end_unmet
from exprmetric_cli.options import (
    CLIP_NAMES,
    command_line,
    layout_options,
    methods_option,
    progress_bar,
    read_named,
    require_option,
    requirements,
    result_options,
    stack_options,
    swap_face_options,
    tell,
)

from exprmetric.choices import BY, ENGINES, MORE_SCORES, PRESETS

if TYPE_CHECKING:
    from exprmetric.inputs.triplets import Triplet


@click.command()
@click.argument("source", metavar="[INPUT]", type=click.Path(path_type=Path), required=False)
@click.option("--target", "-t", type=click.Path(path_type=Path), help="One triplet: the target image.")
@click.option("--source", "-s", "source_image", type=click.Path(path_type=Path), help="One triplet: the source image.")
@click.option("--swapped", "-c", type=click.Path(path_type=Path), help="One triplet: the swapped image.")
@methods_option("NAME or NAME:DISTANCE, such as default:cosine")
@layout_options
@swap_face_options
@stack_options
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for report.html, summary.json, triplets."
)
@result_options
@require_option
@click.option(
    "--preset",
    type=click.Choice(PRESETS),
    help="paper: the table of face-swap papers: ID retrieval, pose, expression, gaze, L2 error, ratio.",
)
@click.option(
    "--by",
    multiple=True,
    metavar=f"[{'|'.join(BY)}|COLUMN]",
    help="Split the scores by the target's expression, yaw, face size or number of faces, or by a column of the "
    "manifest. Repeat for several.",
)
@click.option(
    "--score",
    "scores",
    type=click.Choice(MORE_SCORES),
    multiple=True,
    help="Measure it too. efid: the Fréchet distance between the expressions of targets and of swapped faces; "
    "id_retrieval: whether a swapped face's identity is found among all sources.",
)
@click.option(
    "--identity/--no-identity",
    default=True,
    show_default=True,
    help="Measure the identity control too: whose person the swapped face shows.",
)
@click.option(
    "--privacy/--no-privacy",
    default=None,
    help="Look each changed face up among the targets.  [default: where there is no source]",
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder in which faces and vectors are kept for later runs.  [default: beside the pulled weights]",
)
@click.option(
    "--cache-identity",
    is_flag=True,
    help="Keep vectors that tell people apart in the cache too. Otherwise each run makes them anew.",
)
@click.option("--no-cache", is_flag=True, help="Keep nothing, and look at every image again.")
@click.option("--shard", metavar="I/N", help="Measure only the I-th of N pieces; `exprmetric merge` joins them.")
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default=ENGINES[0],
    show_default=True,
    help="What measures: this machine (local), or a Ray cluster.",
)
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
def evaluate(
    source: Path | None,
    target: Path | None,
    source_image: Path | None,
    swapped: Path | None,
    methods: tuple[str, ...],
    jobs: int | None,
    out: Path | None,
    form: str,
    cache: Path | None,
    cache_identity: bool,
    no_cache: bool,
    quiet: bool,
    required: tuple[str, ...],
    by: tuple[str, ...],
    scores: tuple[str, ...],
    preset: str | None,
    layout: str | None,
    **how: Any,
) -> None:
    """Measure how well swapped faces keep the expression of their targets.

    INPUT is a folder with target/ source/ swapped/ (one triplet a file name), or a manifest .csv .jsonl .parquet with
    the columns target source swapped. With --pairs, INPUT is a folder of swapped images that are named after their
    target and source; with --layout, a public data set. Or name one triplet with --target --source --swapped.

    Anonymized faces have no source: leave it out everywhere (a folder with original/ anonymized/ will do). Scores that
    need a source are then absent.

    With --out, rows are kept in OUT/partial as they come: the same command after a kill goes on from there.

    Exit status: 0 measured, 1 nothing could be measured, 2 wrong usage, 3 a --require is not met, 130 interrupted.
    """
    from exprmetric.comparing import paper
    from exprmetric.errors import ExprmetricError
    from exprmetric.evaluation.evaluate import evaluate as run
    from exprmetric.evaluation.large.cache import cache_folder
    from exprmetric.evaluation.origin import Origin
    from exprmetric.evaluation.result import EvaluationResult
    from exprmetric.evaluation.tables import page
    from exprmetric.inputs.triplets import notes_of, single_triplet
    from exprmetric.report.html import write_report

    three = (target, source_image, swapped)
    if (source is None) == (target is None or swapped is None) or (source is not None and any(three)):
        raise click.UsageError("name an INPUT, or --target and --swapped, with --source where there is one")
    if out is not None and source is not None and out.resolve() in (source.resolve(), source.resolve().parent):
        raise click.UsageError(f"--out {out} would mix the results with the input: name another folder")
    if preset:
        named_here = (
            click.get_current_context().get_parameter_source("methods") == click.core.ParameterSource.COMMANDLINE
        )
        methods = tuple(dict.fromkeys([*paper.paper_methods(), *(methods if named_here else ())]))
        scores = tuple(dict.fromkeys([*paper.SCORES, *scores]))
    asked = requirements(required, methods)
    names = {name: how.pop(name) for name in (*CLIP_NAMES, "frames", "workdir")}
    named = layout or any(value is not None for value in names.values())
    if named and source is None:
        raise click.UsageError("--layout and --pairs read an INPUT")
    given = [name for name in by if name not in BY]
    if given and (named or source is None):
        raise click.UsageError(f"--by {given[0]}: only a manifest has columns; known of any input: {', '.join(BY)}")
    kept = None if no_cache or (cache is None and cache_is_off()) else cache or cache_folder()
    undrawn: list[ExprmetricError] = []

    def draw(result: EvaluationResult, folder: Path) -> None:
        try:
            write_report(result, folder, jobs=jobs)
        except ExprmetricError as error:  # the numbers come first
            undrawn.append(error)

    try:
        triplets: Sequence[Triplet]
        if source is None:
            triplets = single_triplet(*three)  # type: ignore[arg-type]
        else:
            triplets = _data_set(layout, source, names, out, quiet=quiet) if named else _read(source, given)
        tell(notes_of(triplets))
        with progress_bar("measuring", quiet=quiet) as progress:
            result = run(
                triplets,
                methods,
                jobs=jobs,
                by=by,
                scores=scores,
                out=out,
                saved=draw,
                cache=kept,
                cache_identity=cache_identity,
                progress=progress,
                origin=Origin(
                    command_line(),
                    "" if source is None else str(source),
                    (layout or "pairs") if named else "",
                    names if named else {},
                ),
                **how,
            )
    except KeyboardInterrupt:
        goes_on = f": what was measured is kept, and the same command goes on from there ({out}/partial)" if out else ""
        click.echo(f"interrupted{goes_on}", err=True)
        sys.exit(130)
    (paper.paper_page if preset else page)(result).say(form)
    if undrawn:
        raise undrawn[0]
    if out is not None:
        click.echo(f"written: {out}/report.html, summary.json, triplets.csv, triplets.parquet", err=True)
    if kept is not None and cache is None:
        say_first_use(kept, identity=cache_identity)
    coverage = result.summary["coverage"]
    if coverage["triplets"] and not coverage["ok"]:  # of a few triplets, some shards get none
        end_unmeasured(result.rows.table)
    end_unmet(asked, result.summary)


def _read(source: Path, given: Sequence[str]) -> Sequence[Triplet]:
    """A folder or manifest; of a folder that has no roles, what its names look like stands in the error."""
    from exprmetric.errors import InputError
    from exprmetric.inputs.triplets import read_triplets

    try:
        return read_triplets(source, given=given)
    except InputError as error:
        hint = _template(source)
        if not hint:
            raise
        raise InputError(f"{error}. Are these swaps named after their images? Then add {hint}") from error


def _template(folder: Path) -> str:
    """`--pairs` for a folder of images whose names have two parts; '' where they have not."""
    import re
    import shlex

    from exprmetric.io.images import PICTURE_SUFFIXES

    if not folder.is_dir():
        return ""
    names = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)[:200]
    for between in ("_to_", "__", "_", "-"):
        if names and all(re.fullmatch(rf"[^{between[0]}]+{between}[^{between[0]}]+\.\w+", name) for name in names):
            template = f"{{target}}{between}{{source}}{Path(names[0]).suffix}"
            return f"--pairs {shlex.quote(template)} (or source before target), with --target-dir and --source-dir"
    return ""


def _data_set(
    layout: str | None, source: Path, names: dict[str, Any], out: Path | None, *, quiet: bool
) -> Sequence[Triplet]:
    """Triplets of a data set whose names say what was swapped into what."""
    from exprmetric.evaluation.large.cache import cache_folder

    if layout and not names["workdir"]:
        names["workdir"] = out / "frames" if out else cache_folder().with_name("frames")
    with progress_bar("reading clips", quiet=quiet) as progress:
        found: Sequence[Triplet] = read_named(layout, source, names, progress=progress)
    return found
