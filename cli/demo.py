"""`exprmetric demo`: the main job, with no data of one's own."""

from __future__ import annotations

from pathlib import Path

import click
from exprmetric_cli.options import command_line, progress_bar


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("exprmetric-demo"),
    show_default=True,
    help="Folder for the swaps and the result.",
)
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
def demo(out: Path, quiet: bool) -> None:
    """Swap the faces of photographs that installed packages carry, and measure the swaps.

    The swap is a classical one, without learning: the source's texture warped into the target's landmarks. Look at
    OUT/overview.png to see what the numbers are of.
    """
    from exprmetric.demo.make import contact_sheet, make_swaps
    from exprmetric.evaluation.evaluate import evaluate
    from exprmetric.evaluation.origin import Origin
    from exprmetric.evaluation.tables import page
    from exprmetric.report.html import write_report

    swaps = out / "swaps"
    ids = make_swaps(swaps)
    contact_sheet(swaps, ids, out / "overview.png")
    with progress_bar("measuring", quiet=quiet) as progress:
        result = evaluate(swaps, detector="dlib", progress=progress, origin=Origin(command_line(), str(swaps)))
    result.save(out / "result")
    report = write_report(result, out / "result")
    page(result).say("table")
    click.echo(f"\nLook at {out}/overview.png and {report}; the images are in {swaps}.", err=True)
