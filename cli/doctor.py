"""`exprmetric doctor`: what is installed, found, and in conflict."""

from __future__ import annotations

import json
import sys

import click

MARKS = {"ok": ("✓", "green"), "note": ("·", "yellow"), "problem": ("✗", "red")}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print what was found as a JSON array.")
def doctor(as_json: bool) -> None:
    """Print versions, providers, detectors, weights and known conflicts, with what to do about each.

    Exit status: 1 when there is a problem.
    """
    from exprmetric.doctor import as_records, examine
    from exprmetric.io.tables import printable_lines

    findings = examine()
    if as_json:
        click.echo(json.dumps(as_records(findings), indent=2))
    else:
        for f in findings:
            mark, colour = MARKS[f.level]
            click.echo(f"{click.style(mark, fg=colour)} {printable_lines(f'{f.topic}: {f.found}')}")
            if f.advice:
                click.echo(f"    {printable_lines(f.advice)}")
    if any(f.level == "problem" for f in findings):
        sys.exit(1)
