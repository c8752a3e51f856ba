"""`exprmetric probe agreement`: agreement with people, identity leak, curves."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from exprmetric_cli.options import face_options, progress_bar, stack_options
from exprmetric_cli.probe.options import checkpoint_option, device_option, named_path, open_encoders

from exprmetric.choices import DEFAULT_METHODS, SPLITS


@click.command()
@click.argument("rated", nargs=-1, required=True, metavar="[NAME=]RATED...")
@click.option("--chosen", multiple=True, metavar="NAME", help="This set was used for choosing a method; repeatable.")
@click.option("--unseen", multiple=True, metavar="NAME", help="This set was never looked at before; repeatable.")
@click.option(
    "--split",
    type=click.Choice(SPLITS),
    default="test",
    show_default=True,
    help="Part of each rated set that is judged.",
)
@click.option("--term", "terms", multiple=True, help="A rating column of tables; repeatable.  [default: all numbers]")
@click.option(
    "--margin", type=click.FloatRange(min=0), help="Rating points by which a clear triplet stands out.  [default: 0.8]"
)
@click.option("--persons", type=click.Path(path_type=Path), help="A data set with image, person, emotion.")
@click.option(
    "--persons-split",
    type=click.Choice(SPLITS),
    default="all",
    show_default=True,
    help="Part of --persons that is used; training keeps the people of valid out.",
)
@click.option("--photos", type=click.Path(path_type=Path), help="Folder or zip, for curves and detectors.")
@click.option(
    "--method",
    "-m",
    "methods",
    multiple=True,
    help=f"A method to judge; repeatable.  [default: {', '.join(DEFAULT_METHODS)}, or the checkpoints]",
)
@checkpoint_option()
@face_options
@stack_options
@device_option()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for JSON, card and plots.")
@click.option(
    "--limit",
    type=click.IntRange(min=3),
    default=2000,
    show_default=True,
    help="Judge at most so many faces of each set.",
)
@click.option(
    "--curves",
    type=click.IntRange(min=0),
    default=60,
    show_default=True,
    help="Draw curves from so many photographs; 0: no curves.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of every random draw.")
@click.option("--plots/--no-plots", default=True, show_default=True, help="Draw the curves into --out.")
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
def agreement(
    rated: tuple[str, ...],
    chosen: tuple[str, ...],
    unseen: tuple[str, ...],
    split: str,
    terms: tuple[str, ...],
    margin: float | None,
    persons: Path | None,
    persons_split: str,
    photos: Path | None,
    methods: tuple[str, ...],
    checkpoints: tuple[str, ...],
    device: str,
    out: Path | None,
    limit: int,
    curves: int,
    seed: int,
    plots: bool,
    quiet: bool,
    **how: Any,
) -> None:
    """Agreement with people, identity leak, sensitivity and invariance of methods, and a model card of them.

    RATED are sets of faces with human ratings: FER+ (folder or zip), AffectNet, or a table .csv .jsonl .parquet, or a
    folder with ratings.csv: column image, optionally person and split, and columns of numbers, which are the ratings.
    Beside a table, raw_ratings.csv (image, rater, rater_group, the rating columns) tells how far people agree with
    each other. Each set has tables of its own; the card names what it was used for.

    Exit status: 0 measured, 1 nothing could be measured, 2 wrong usage.
    """
    from exprmetric.probes.agreement import probe_agreement
    from exprmetric.probes.card import print_tables, save_card
    from exprmetric.probes.card_plots import need_matplotlib
    from exprmetric.probes.dataset import person_faces, photographs
    from exprmetric.probes.encoders import Bench
    from exprmetric.probes.rated import rated_set, state_use

    if out is not None and plots:
        need_matplotlib()  # now, not after minutes of work
    named = [named_path(text) for text in rated]
    sets = [
        rated_set(path, name=name, split=split, points=margin, terms=terms, limit=limit, seed=seed)
        for name, path in named
    ]
    sets = state_use(sets, chosen, unseen)
    asked = methods or (() if checkpoints else DEFAULT_METHODS)
    encoders = open_encoders(asked, checkpoints, device, **how)
    with progress_bar("measuring", quiet=quiet) as progress:
        result = probe_agreement(
            sets,
            encoders,
            Bench(Path(), progress=progress, **how),
            people=person_faces(persons, persons_split) if persons else None,
            photographs=photographs(photos) if photos else None,
            limit=limit,
            most_photographs=curves,
            seed=seed,
        )
    print_tables(result)
    if out is not None:
        result.save(out)
        written = ["agreement.json", *save_card(result, out, plots=plots)]
        click.echo(f"written: {out}/{', '.join(written)}", err=True)
    if not result.measured:
        click.echo("Error: nothing could be measured; agreement.json names the reasons", err=True)
        sys.exit(1)
