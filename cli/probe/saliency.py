"""`exprmetric probe saliency`: where encoders look."""

from __future__ import annotations

from pathlib import Path

import click
from exprmetric_cli.options import detector_option, face_option, stack_options


@click.command()
@click.argument("checkpoints", nargs=-1, required=True, metavar="CHECKPOINT…")
@click.option(
    "--photo",
    "photographs",
    multiple=True,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A photograph of a face; repeat for several.",
)
@click.option(
    "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The sheet that is drawn, a PNG."
)
@click.option(
    "--scalar",
    type=click.Choice(["difference", "norm"]),
    default="difference",
    show_default=True,
    help="What is explained: what makes a face differ from the mean of the photographs, or its embedding's length.",
)
@detector_option("; none: photographs are aligned crops")
@face_option()
@stack_options
def saliency(
    checkpoints: tuple[str, ...],
    photographs: tuple[Path, ...],
    out: Path,
    scalar: str,
    detector: str,
    face: str,
    landmarks: str,
    commercial_only: bool,
) -> None:
    """Draw where encoders look: Grad-CAM over each photograph, one column a checkpoint.

    CHECKPOINT is a recipe's encoder.pt, or the name of an encoder that torch can run, such as default.
    """
    from exprmetric_cli.train import need_torch

    need_torch()
    from exprmetric.faces import open_finder
    from exprmetric.probes.saliency import saliency_sheet
    from exprmetric.weights import store

    with store.commercial_only(commercial_only):
        finder = open_finder(detector, face, landmarks=landmarks)
        found = saliency_sheet(checkpoints, photographs, out, finder=finder, scalar=scalar)
    for one in found:
        click.echo(f"{one.name}: layer {one.layer}")
    click.echo(f"{out}")
