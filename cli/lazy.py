"""Groups whose commands are imported only when they run, so that `--help` is instant."""

from __future__ import annotations

from typing import Any

import click

from exprmetric.choices import resolve


class LazyGroup(click.Group):
    """A group of commands that are named and not imported.

    Args:
        table: by name, where the command lives (`module:object`), and its line in `--help`.
    """

    def __init__(self, *arguments: Any, table: dict[str, tuple[str, str]], **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._table:
            return None
        command: click.Command = resolve(self._table[cmd_name][0])
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self._table.items()])
