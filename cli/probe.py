"""`exprmetric probe`: instruments that show how good an expression space is, each imported only when it runs."""

from __future__ import annotations

from importlib import import_module

import click

COMMANDS = {
    "agreement": ("exprmetric_cli.probe_agreement:agreement", "Agreement, identity leak, curves, and a model card."),
    "protocols": ("exprmetric_cli.probe_protocols:protocols", "Methods and checkpoints under all protocols."),
    "plot": ("exprmetric_cli.probe_plot:plot", "t-SNE, UMAP, confusion matrix, nearest faces."),
    "saliency": ("exprmetric_cli.probe_saliency:saliency", "Where on a face an encoder looks."),
    "exchange": ("exprmetric_cli.probe_exchange:exchange", "Expressions exchanged between two faces."),
}
"""Where each command lives, and its line in `--help`, which must not import it."""


class LazyCommands(click.Group):
    """Imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyCommands)
def probe() -> None:
    """Measure how good the expression space of a method is."""
