"""`exprmetric probe agreement`: agreement with people, identity leak, curves."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from exprmetric_cli.options import face_options, progress_bar

SPLITS = ("train", "valid", "test", "all")


@click.command()
@click.argument("rated", metavar="RATED", type=click.Path(path_type=Path))
@click.option("--split", type=click.Choice(SPLITS), default="test", show_default=True, help="Of the rated faces.")
@click.option("--persons", type=click.Path(path_type=Path), help="A data set with image, person, emotion.")
@click.option(
    "--persons-split",
    type=click.Choice(SPLITS),
    default="all",
    show_default=True,
    help="Of the people; training keeps those of valid out.",
)
@click.option("--photos", type=click.Path(path_type=Path), help="Folder or zip, for curves and detectors.")
@click.option("--method", "-m", "methods", multiple=True, default=("default", "lm68", "lm51"), show_default=True)
@face_options
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for JSON, card and plots.")
@click.option("--limit", type=click.IntRange(min=3), default=2000, show_default=True, help="Faces of each set.")
@click.option("--curves", type=click.IntRange(min=0), default=60, show_default=True, help="Photographs for curves.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of every draw.")
@click.option("--plots/--no-plots", default=True, show_default=True, help="Draw the curves into --out.")
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
def agreement(
    rated: Path,
    split: str,
    persons: Path | None,
    persons_split: str,
    photos: Path | None,
    methods: tuple[str, ...],
    detector: str,
    face: str,
    provider: str,
    jobs: int | None,
    out: Path | None,
    limit: int,
    curves: int,
    seed: int,
    plots: bool,
    quiet: bool,
) -> None:
    """Agreement with people, identity leak, sensitivity and invariance of methods, and a model card of them.

    RATED is FER+ (folder or zip), AffectNet, or a table .csv .jsonl .parquet with the columns image, optionally person
    and split, and rating columns.

    Exit status: 0 measured, 1 nothing could be measured, 2 wrong usage.
    """
    from exprmetric.probes.agreement import probe_agreement
    from exprmetric.probes.card import need_matplotlib, print_table, save_card
    from exprmetric.probes.dataset import person_faces, photographs, rated_faces

    if out is not None and plots:
        need_matplotlib()  # now, not after minutes of work
    with progress_bar("measuring", quiet=quiet) as progress:
        result = probe_agreement(
            rated_faces(rated, split),
            methods,
            people=person_faces(persons, persons_split) if persons else None,
            photographs=photographs(photos) if photos else None,
            detector=detector,
            face=face,
            provider=provider,
            jobs=jobs,
            limit=limit,
            most_photographs=curves,
            seed=seed,
            progress=progress,
        )
    print_table(result)
    if out is not None:
        result.save(out)
        written = ["agreement.json", *save_card(result, out, plots=plots)]
        click.echo(f"written: {out}/{', '.join(written)}", err=True)
    if not result.measured:
        click.echo("Error: nothing could be measured; agreement.json names the reasons", err=True)
        sys.exit(1)
