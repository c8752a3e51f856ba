"""`exprmetric evaluate`: swaps → table, JSON, files."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from exprmetric_cli.options import face_options, progress_bar

FORMATS = ("table", "json", "csv", "markdown")


@click.command()
@click.argument("source", metavar="[INPUT]", type=click.Path(path_type=Path), required=False)
@click.option("--target", "-t", type=click.Path(path_type=Path), help="One triplet: the target image.")
@click.option("--source", "-s", "source_image", type=click.Path(path_type=Path), help="One triplet: the source image.")
@click.option("--swapped", "-c", type=click.Path(path_type=Path), help="One triplet: the swapped image.")
@click.option(
    "--method",
    "-m",
    "methods",
    multiple=True,
    default=("default", "lm68", "lm51"),
    show_default=True,
    help="Repeat for several; NAME or NAME:DISTANCE, such as default:cosine.",
)
@face_options
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for report.html, summary.json, triplets."
)
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="On stdout.")
@click.option(
    "--on-fail",
    type=click.Choice(["exclude", "worst"]),
    default="exclude",
    show_default=True,
    help="Score without the triplets that could not be measured, or count them as the worst.",
)
@click.option("--identity/--no-identity", default=True, show_default=True, help="Measure the identity control.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the bootstrap intervals.")
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
def evaluate(
    source: Path | None,
    target: Path | None,
    source_image: Path | None,
    swapped: Path | None,
    methods: tuple[str, ...],
    detector: str,
    face: str,
    provider: str,
    jobs: int | None,
    out: Path | None,
    form: str,
    on_fail: str,
    identity: bool,
    seed: int,
    quiet: bool,
) -> None:
    """Measure how well swapped faces keep the expression of their targets.

    INPUT is a folder with target/ source/ swapped/ (one triplet a file name), or a manifest .csv .jsonl .parquet with
    the columns target source swapped. Or name one triplet with --target --source --swapped.

    Exit status: 0 measured, 1 nothing could be measured, 2 wrong usage.
    """
    from exprmetric.evaluation.evaluate import evaluate as run
    from exprmetric.report.html import write_report
    from exprmetric.report.tables import FORMATS as writers
    from exprmetric.triplets import read_triplets, single_triplet

    three = (target, source_image, swapped)
    if (source is None) == (None in three) or (source is not None and any(three)):
        raise click.UsageError("name an INPUT, or all of --target --source --swapped")
    if out is not None and source is not None and out.resolve() in (source.resolve(), source.resolve().parent):
        raise click.UsageError(f"--out {out} would mix the results with the input: name another folder")
    triplets = read_triplets(source) if source is not None else single_triplet(*three)  # type: ignore[arg-type]
    with progress_bar("measuring", quiet=quiet) as progress:
        result = run(
            triplets,
            methods,
            detector=detector,
            face=face,
            provider=provider,
            identity=identity,
            on_fail=on_fail,
            jobs=jobs,
            seed=seed,
            progress=progress,
        )
    if out is not None:
        result.save(out)
    writers[form](result)
    if out is not None:
        click.echo(f"written: {out}/summary.json, triplets.csv, triplets.parquet", err=True)
        click.echo(f"written: {write_report(result, out, jobs=jobs)}", err=True)
    if not result.summary["coverage"]["ok"]:
        click.echo("Error: nothing could be measured; see the reasons above", err=True)
        sys.exit(1)
