"""`exprmetric embed`: images → vectors of one method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from exprmetric_cli.ending import end_images
from exprmetric_cli.options import face_options, progress_bar, stack_options


@click.command()
@click.argument("paths", metavar="PATH_OR_FOLDER...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--method", "-m", default="default", show_default=True, help="Method whose vectors are written.")
@face_options
@stack_options
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The .npz file to write.")
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
def embed(
    paths: tuple[Path, ...],
    method: str,
    out: Path,
    quiet: bool,
    **how: Any,
) -> None:
    """Write paths (N,), embeddings (N, D) float32, status (N,) and reason (N,) of all images.

    Rows whose status is not ok hold NaN. Folders are searched for images, also below them.
    """
    from exprmetric.evaluation.embed import embed_images, find_images, save_embeddings

    images = find_images(paths)
    with progress_bar("embedding", quiet=quiet) as progress:
        found = embed_images(images, method, progress=progress, **how)
    save_embeddings(found, out)
    failed = [e for e in found if e.status != "ok"]
    end_images(failed, len(found), f"{out}: {len(found) - len(failed)} of {len(found)} images embedded by {method}")
