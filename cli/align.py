"""`exprmetric align`: images → aligned crops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from exprmetric_cli.ending import end_images
from exprmetric_cli.options import face_options, progress_bar, stack_options

from exprmetric.choices import CROPS


@click.command()
@click.argument("paths", metavar="PATH_OR_FOLDER...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--template",
    type=click.Choice(CROPS),
    default=CROPS[0],
    show_default=True,
    help="eyes70: 224 px, eye centres level and 70 px apart, as exprmetric's encoder sees faces; arcface: the 112 px "
    "of face recognition.",
)
@face_options
@stack_options
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder that the crops are written to.",
)
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
def align(
    paths: tuple[Path, ...],
    template: str,
    out: Path,
    quiet: bool,
    **how: Any,
) -> None:
    """Cut the faces of images out, aligned, for who trains on them.

    Folders are searched for images, also below them, and crops stand in OUT below the same subfolders, as PNG. Each
    image is a row of OUT/crops.csv: image, crop, status, reason, faces (how many it shows), box (the face that was cut,
    x0 y0 x1 y1 in px). An image without a crop is a row that says why.

    Exit status: 0 cut, 1 not one face could be cut, 2 wrong usage.
    """
    from exprmetric.evaluation.align import TABLE
    from exprmetric.evaluation.align import align as run

    with progress_bar("aligning", quiet=quiet) as progress:
        found = run(paths, template, out=out, progress=progress, **how)
    failed = [crop for crop in found if crop.status != "ok"]
    cut = f"{len(found) - len(failed)} of {len(found)} faces cut by {template}; {TABLE} has a row for each"
    end_images(failed, len(found), f"{out}: {cut}")
