"""`exprmetric fec`: the photographs of the Facial Expression Comparison data set."""

from __future__ import annotations

from pathlib import Path

import click
from exprmetric_cli.options import progress_bar


@click.group()
def fec() -> None:
    """The Facial Expression Comparison data set, whose photographs are published as addresses."""


@fec.command()
@click.argument(
    "tables", metavar="CSV...", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that the photographs are written to.",
)
@click.option(
    "--jobs", type=click.IntRange(min=1), default=8, show_default=True, help="Download so many photographs at a time."
)
@click.option(
    "--silence",
    type=click.FloatRange(min=0.1),
    default=15.0,
    show_default=True,
    help="Seconds after which a silent server is given up.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=60.0,
    show_default=True,
    help="Give a photograph up after so many seconds.",
)
@click.option(
    "--size",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Refuse photographs of more than so many MiB.",
)
@click.option("--retry", is_flag=True, help="Ask again for what was dead or refused.")
@click.option("--quiet", is_flag=True, help="Draw no progress bar.")
def download(
    tables: tuple[Path, ...],
    out: Path,
    jobs: int,
    silence: float,
    seconds: float,
    size: int,
    retry: bool,
    quiet: bool,
) -> None:
    """Fetch the photographs that CSV names, as Google publishes it: faceexp-comparison-data-test-public.csv.

    For training, put them beside it: --out FOLDER_OF_CSV/images. OUT/downloads.csv says for each address whether its
    photograph is here (ok) or why not: dead (removed, or no image), refused (not http or https, too large), failed
    (try again). The same command goes on where a stopped run left off. Exits 1 when no photograph is there.
    """
    from exprmetric.datasets import fec_download as photographs
    from exprmetric.datasets.fec import read_fec, urls_of
    from exprmetric.datasets.fec_http import Limits

    triplets = [t for table in tables for t in read_fec(table)]
    with progress_bar("photographs", quiet=quiet) as update:
        rows = photographs.download(
            urls_of(triplets),
            out,
            limits=Limits(silence, seconds, size << 20),
            jobs=jobs,
            retry=retry,
            progress=lambda done, total: update("download", done, total),
        )
    found = {status: sum(row.status == status for row in rows) for status in photographs.STATUSES}
    here = {row.url for row in rows if row.status == "ok"}
    whole = sum(all(face.url in here for face in t.faces) for t in triplets)
    click.echo(f"{len(rows)} photographs: {', '.join(f'{n} {status}' for status, n in found.items())}")
    click.echo(f"{whole} of {len(triplets)} triplets have all three; reasons: {out / photographs.REPORT}")
    if not here:
        raise click.exceptions.Exit(1)
