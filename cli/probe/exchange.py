"""`exprmetric probe exchange`: two faces exchange their expressions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from exprmetric_cli.options import detector_option, face_option, stack_options


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("first", metavar="A.jpg", type=click.Path(path_type=Path))
@click.argument("second", metavar="B.jpg", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The PNG file to write.")
@detector_option("; none: images are aligned crops")
@face_option()
@stack_options
def exchange(
    checkpoint: Path,
    first: Path,
    second: Path,
    out: Path,
    **how: Any,
) -> None:
    """Exchange the expressions of two faces, by the decoder of CHECKPOINT (paper 002, figure 2).

    CHECKPOINT is best.pt or last.pt of `exprmetric train disentangle --set beta1=0.001`, or another beta1 above 0. The
    picture has a row for each face: itself (x1, x2), decoded from its own codes (x1', x2'), and with the expression of
    the other (x1'', x2''); beside each name stands the expression that the model reads in it.
    """
    from exprmetric_cli.train import need_torch

    need_torch()
    from exprmetric.probes.exchange import exchange_files

    made = exchange_files(checkpoint, first, second, out, **how)
    click.echo(f"{out}: {', '.join(f'{name} {expression}' for name, expression in made.read.items())}")
