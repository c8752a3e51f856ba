"""`exprmetric study make`: a result of `evaluate --out` → a page with questions about its faces."""

from __future__ import annotations

from pathlib import Path

import click
from exprmetric_cli.options import progress_bar, tell

FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.argument("result", type=FOLDER)
@click.option("--out", required=True, type=FOLDER, help="Folder for study.html and study.json.")
@click.option(
    "--pairs", type=click.IntRange(min=0), default=40, show_default=True, help="Target against swapped, from 1 to 5."
)
@click.option(
    "--odd",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="Target, source, swapped: which expression is the odd one?",
)
@click.option(
    "--names",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Faces whose expression is named; `probe kept` fits its map to them.",
)
@click.option(
    "--catch",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    help="Catch questions of each kind: identical pictures, plainly different expressions.",
)
@click.option("--model", "models", multiple=True, help="Only this model's swaps; repeatable.  [default: all]")
@click.option("--method", "-m", default="", help="Spread the swaps over this method's t2c.  [default: the first]")
@click.option("--title", help="Title of the page.  [default: How alike are these expressions?]")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed by which swaps are drawn.")
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
def make(
    result: Path,
    out: Path,
    pairs: int,
    odd: int,
    names: int,
    catch: int,
    models: tuple[str, ...],
    method: str,
    title: str | None,
    seed: int,
    quiet: bool,
) -> None:
    """Write one page on which people judge the swaps of RESULT, a folder that `evaluate --out` wrote.

    Send study.html to raters: it needs no server and no network, and shows faces, but neither models nor file names.
    Keep study.json: answers are read with it.
    """
    from exprmetric.evaluation.result import EvaluationResult
    from exprmetric.study.drawing import Counts
    from exprmetric.study.make import TITLE, make_study

    found = EvaluationResult.load(result)
    counts = Counts(pairs, odd, names, catch)
    with progress_bar("looking at rows", quiet=quiet) as progress:
        made = make_study(
            found, counts, models=models, method=method, title=title or TITLE, seed=seed, progress=progress
        )
    tell(made.notes)
    made.save(out)
    click.echo(f"written: {out}/study.html for raters, study.json for `study read`", err=True)
