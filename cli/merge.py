"""`exprmetric merge`: the shards of one input → the result of all of it."""

from __future__ import annotations

from pathlib import Path

import click
from exprmetric_cli.ending import end_unmeasured, end_unmet
from exprmetric_cli.options import (
    command_line,
    require_option,
    requirements,
    result_options,
    tell,
)


@click.command()
@click.argument("shards", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that the joined result is written to.",
)
@result_options
@require_option
def merge(shards: tuple[Path, ...], out: Path, form: str, on_fail: str, seed: int, required: tuple[str, ...]) -> None:
    """Join what `exprmetric evaluate INPUT --shard I/N --out DIR` has measured in N pieces.

    The result is that of one run over the whole INPUT, digit by digit. A piece that is missing, there twice, or
    measured with other settings or weights is an error.

    What shards keep of people for re-identification is deleted when the result is written.

    Exit status: 0 merged, 1 nothing was measured, 2 wrong usage, 3 a --require is not met.
    """
    from exprmetric.evaluation.large.private import forget
    from exprmetric.evaluation.large.shards import merge as run
    from exprmetric.evaluation.tables import page
    from exprmetric.report.html import write_report

    if out.resolve() in [shard.resolve() for shard in shards]:
        raise click.UsageError(f"--out {out} is one of the shards: name another folder")
    asked = requirements(required)
    result = run(shards, on_fail=on_fail, seed=seed, command=command_line())
    tell(result.summary["notes"])
    write_report(result, result.save(out))
    forget(shards)
    page(result).say(form)
    click.echo(f"written: {out}/report.html, summary.json, triplets.csv, triplets.parquet", err=True)
    if not result.summary["coverage"]["ok"]:
        end_unmeasured(result.rows.table)
    end_unmet(asked, result.summary)
