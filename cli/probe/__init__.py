"""`exprmetric probe`: instruments that show how good an expression space is, each imported only when it runs."""

from __future__ import annotations

import click
from exprmetric_cli.lazy import LazyGroup

COMMANDS = {
    "agreement": ("exprmetric_cli.probe.agreement:agreement", "Agreement, identity leak, curves, and a model card."),
    "protocols": ("exprmetric_cli.probe.protocols:protocols", "Methods and checkpoints under all protocols."),
    "kept": ("exprmetric_cli.probe.kept:kept", "Distance to the probability that people give the same answer."),
    "plot": ("exprmetric_cli.probe.plot:plot", "t-SNE, UMAP, confusion matrix, nearest faces."),
    "saliency": ("exprmetric_cli.probe.saliency:saliency", "Where on a face an encoder looks."),
    "exchange": ("exprmetric_cli.probe.exchange:exchange", "Expressions exchanged between two faces."),
}
"""Where each command lives, and its line in `--help`, which must not import it."""


@click.group(cls=LazyGroup, table=COMMANDS)
def probe() -> None:
    """Measure how good the expression space of a method is."""
