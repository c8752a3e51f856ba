"""`exprmetric reproduce`: a saved result, measured again."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from exprmetric_cli.options import jobs_option, progress_bar


@click.command()
@click.argument("result", type=click.Path(path_type=Path))
@click.option(
    "--input",
    "source",
    type=click.Path(path_type=Path),
    help="Where its folder or manifest is now.  [default: where it was]",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=1e-5,
    show_default=True,
    help="Numbers of rows and scores that differ by no more are the same; 0: digit by digit.",
)
@jobs_option("read images")
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
def reproduce(result: Path, source: Path | None, tolerance: float, jobs: int | None, quiet: bool) -> None:
    """Measure a RESULT of `evaluate --out` again, and say whether it is the same.

    The last line begins with "same", or the first rows that differ are named, and whether a version, a weight or an
    image changed. Images are told apart by their SHA-256. Nothing is taken from the cache, and RESULT is not changed.

    Exit status: 0 the same, 3 not the same, 1 it could not be measured (weights are missing), 2 wrong usage.
    """
    from exprmetric.comparing.reproduce import DIFFERS
    from exprmetric.comparing.reproduce import reproduce as run
    from exprmetric.io.tables import printable

    with progress_bar("measuring again", quiet=quiet) as progress:
        found = run(result, source, tolerance=tolerance, jobs=jobs, progress=progress)
    for line in found.lines():
        click.echo(printable(line))
    if not found.same:
        sys.exit(DIFFERS)
