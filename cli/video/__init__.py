"""`exprmetric video`: expressions over time, in videos of people and of swaps."""

from __future__ import annotations

import click
from exprmetric_cli.video.evaluate import evaluate, quality
from exprmetric_cli.video.faces import search, summary, tag


@click.group()
def video() -> None:
    """Expressions over time: swapped videos measured; people, tags, summaries and searches."""


for command in (evaluate, quality, tag, summary, search):
    video.add_command(command)
