"""`exprmetric compare`: results of `evaluate --out` → which model is better on the same faces."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from exprmetric_cli.options import format_option

from exprmetric.choices import MATCHES, PRESETS


@click.command()
@click.argument("results", metavar="RESULT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--match",
    type=click.Choice(MATCHES),
    default="content",
    show_default=True,
    help="What makes two targets or sources the same: their bytes (the files must still be there), or their paths.",
)
@click.option(
    "--method", "-m", "methods", multiple=True, help="Compare by this method alone; repeatable.  [default: all]"
)
@click.option(
    "--score",
    type=click.Choice(["kept", "mean_t2c", "l2_error", "ratio"]),
    help="The primary score, tested by itself.  [default: kept where it is calibrated, else mean_t2c]",
)
@click.option(
    "--preset",
    type=click.Choice(PRESETS),
    help="paper: the table of face-swap papers, a row a model, of results of `evaluate --preset paper`.",
)
@click.option(
    "--sequence",
    is_flag=True,
    help="RESULTs are checkpoints of one run: each one's scores with intervals, how they change, and which is best.",
)
@format_option()
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="An HTML file to write, with the verdict, plots and pictures.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the intervals and the sign flips.")
def compare(
    results: tuple[Path, ...],
    match: str,
    methods: tuple[str, ...],
    score: str | None,
    preset: str | None,
    sequence: bool,
    form: str,
    out: Path | None,
    seed: int,
) -> None:
    """Compare models that were given the same targets and sources.

    Each RESULT is a folder that `evaluate --out` wrote; each model in it is compared with every other. Differences are
    paired, their intervals and p-values go over groups (and over sources where groups share them). One primary score is
    tested by itself; all others are exploratory. p-values are corrected for the number of tests of a kind (Holm).
    Rows without a partner are counted and named.

    With --sequence, scores of checkpoints stand in a row, over the pairs that all of them measured. Names that differ
    in numbers alone are put in the order of these.

    Exit status: 0 compared, 1 no two models share a measured target and source, 2 wrong usage.
    """
    from exprmetric.comparing.compare import compare as run
    from exprmetric.comparing.compared import page as told
    from exprmetric.comparing.contestants import load_contestants
    from exprmetric.report.comparison import write_html

    if preset:
        from exprmetric.comparing.contestants import load_results
        from exprmetric.comparing.paper import papers_page

        if sequence or out is not None or methods or score:
            raise click.UsageError("--preset prints one table: leave out --sequence, --out, --method and --score")
        papers_page(load_results(results), match).say(form)
        return
    models = load_contestants(results)
    if sequence:
        from exprmetric.comparing import sequenced
        from exprmetric.comparing.sequence import sequence as in_sequence
        from exprmetric.report import sequence as page

        course = in_sequence(models, match=match, methods=methods, score=score or "", seed=seed)
        sequenced.page(course).say(form)
        if out is not None:
            page.write_html(course, out)
            click.echo(f"written: {out}", err=True)
        if not course.n:
            click.echo("Error: no target and source was measured by all checkpoints", err=True)
            sys.exit(1)
        return
    comparison = run(models, match=match, methods=methods, score=score or "", seed=seed)
    told(comparison).say(form)
    if out is not None:
        write_html(comparison, out)
        click.echo(f"written: {out}", err=True)
    if not any(duel.n for duel in comparison.duels):
        click.echo("Error: no two models share a target and source that both measured; see the reasons", err=True)
        sys.exit(1)
