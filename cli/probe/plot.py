"""`exprmetric probe plot`: pictures of the spaces of methods and checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from exprmetric_cli.options import progress_bar
from exprmetric_cli.probe.options import cache_folder, encoder_options, open_encoders

KINDS = ("tsne", "umap", "confusion", "nearest")
CLASSIFIERS = ("head", "linear", "10-nn", "30-nn")


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@encoder_options
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The PNG file to write.")
@click.option(
    "--classifier",
    type=click.Choice(CLASSIFIERS),
    default="head",
    show_default=True,
    help="Classifier of the confusion matrix.",
)
@click.option("--query", multiple=True, help="nearest: a test image's name; repeatable.  [default: one an expression]")
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
def plot(
    kind: str,
    data: Path,
    methods: tuple[str, ...],
    checkpoints: tuple[str, ...],
    limit: int,
    cache: Path | None,
    device: str,
    seed: int,
    out: Path,
    classifier: str,
    query: tuple[str, ...],
    quiet: bool,
    **how: Any,
) -> None:
    """Draw the test faces of DATA as methods and checkpoints see them; one panel each.

    tsne, umap: maps of the space. confusion: normalised confusion matrix of a classifier on frozen vectors (paper 000,
    figure 2). nearest: the faces nearest to some, with their expressions.
    """
    from exprmetric.probes.drawing import draw
    from exprmetric.probes.encoders import Bench
    from exprmetric.probes.parts import judged_set

    encoders = open_encoders(methods, checkpoints, device, **how)
    judged = judged_set(data, limit, seed)
    with cache_folder(cache, None) as folder, progress_bar("drawing", quiet=quiet) as progress:
        bench = Bench(folder, progress=progress, **how)
        draw(kind, judged, encoders, bench, out, classifier=classifier, asked=query, seed=seed)
    click.echo(f"written: {out}", err=True)
