"""`exprmetric probe kept`: from a method's distance to the probability that people give the same answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from exprmetric_cli.options import face_options, progress_bar
from exprmetric_cli.probe.options import checkpoint_option, device_option, named_path, open_encoders

from exprmetric.choices import DEFAULT_METHODS, SPLITS


@click.command()
@click.argument("rated", nargs=-1, required=True, metavar="[NAME=]RATED...")
@click.option(
    "--split", type=click.Choice(SPLITS), default="test", show_default=True, help="Part of FER+ whose faces are used."
)
@click.option(
    "--method",
    "-m",
    "methods",
    multiple=True,
    help=f"A method to fit a map for; repeatable.  [default: {', '.join(DEFAULT_METHODS)}]",
)
@checkpoint_option()
@face_options
@device_option()
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for kept.json, kept.md, kept.svg."
)
@click.option(
    "--limit",
    type=click.IntRange(min=3),
    default=2000,
    show_default=True,
    help="Use at most so many faces of each set.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed by which faces, pairs and intervals are drawn."
)
@click.option("--plots/--no-plots", default=True, show_default=True, help="Draw the reliability diagram into --out.")
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
def kept(
    rated: tuple[str, ...],
    split: str,
    methods: tuple[str, ...],
    checkpoints: tuple[str, ...],
    device: str,
    out: Path | None,
    limit: int,
    seed: int,
    plots: bool,
    quiet: bool,
    **how: Any,
) -> None:
    """Fit the map from distance to `kept`: the probability that a rater of one face and a rater of the other agree.

    RATED are sets that hold each rater's own answers: FER+ (folder or zip), or a folder with ratings.csv and
    raw_ratings.csv. Each set is left out once and judged by the map of the others; the map that is written is fitted on
    all. kept.json goes into exprmetric/data/ of a clone: `evaluate` finds a map there by the method's fingerprint.
    """
    from exprmetric.probes.answers import answered_set
    from exprmetric.probes.card_plots import need_matplotlib
    from exprmetric.probes.encoders import Bench
    from exprmetric.probes.kept import fit_maps, save, sheet

    if out is not None and plots:
        need_matplotlib()
    sets = [answered_set(path, name=name, split=split, limit=limit, seed=seed) for name, path in map(named_path, rated)]
    encoders = open_encoders(methods or (() if checkpoints else DEFAULT_METHODS), checkpoints, device, **how)
    with progress_bar("measuring", quiet=quiet) as progress:
        made = fit_maps(sets, encoders, Bench(Path(), progress=progress, **how), seed=seed)
    sheet(made).print(width=140)
    if out is not None:
        written = save(made, encoders, out, plot=plots)
        click.echo(f"written: {out}/{', '.join(written)}", err=True)
