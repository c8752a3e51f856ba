"""`exprmetric study`: people judge the swaps of a result."""

from __future__ import annotations

import click
from exprmetric_cli.lazy import LazyGroup

COMMANDS = {
    "make": ("exprmetric_cli.study.make:make", "Write a page on which people judge the swaps of a result."),
    "read": ("exprmetric_cli.study.read:read", "Say what the answers tell of people and of methods."),
}
"""Where each command lives, and its line in `--help`, which must not import it."""


@click.group(cls=LazyGroup, table=COMMANDS)
def study() -> None:
    """Ask people how alike expressions are, on your own swaps."""
