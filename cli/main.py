"""The `exprmetric` command: a thin group whose commands are imported only when they run."""

from __future__ import annotations

import sys
from typing import Any

import click
from exprmetric_cli.lazy import LazyGroup
from exprmetric_cli.options import GIVEN, as_options
from exprmetric_cli.output import safe_output

from exprmetric._version import __version__
from exprmetric.errors import ExprmetricError, InputError, UnknownMethodError, UnknownWeightsError

COMMANDS = {
    "evaluate": ("exprmetric_cli.evaluate:evaluate", "Measure a folder or manifest of swaps."),
    "merge": ("exprmetric_cli.merge:merge", "Join the pieces that `evaluate --shard` measured."),
    "reproduce": ("exprmetric_cli.reproduce:reproduce", "Measure a saved result again: is it the same?"),
    "compare": ("exprmetric_cli.compare:compare", "Compare models on the same targets and sources."),
    "embed": ("exprmetric_cli.embed:embed", "Write the vectors of one method for images."),
    "align": ("exprmetric_cli.align:align", "Cut faces out of images, aligned."),
    "pairs": ("exprmetric_cli.pairs:pairs", "Draw which source face goes into which target."),
    "demo": ("exprmetric_cli.demo:demo", "Swap faces of bundled photographs and measure them."),
    "video": ("exprmetric_cli.video:video", "Expressions over time, in videos of swaps and of people."),
    "probe": ("exprmetric_cli.probe:probe", "Measure how good an expression space is."),
    "study": ("exprmetric_cli.study:study", "Ask people how alike expressions are, on your own swaps."),
    "cache": ("exprmetric_cli.cache:cache", "Show, clear or switch off what is kept of faces."),
    "weights": ("exprmetric_cli.weights:weights", "List, pull and verify weight files."),
    "doctor": ("exprmetric_cli.doctor:doctor", "Say what is installed, found, and in conflict."),
    "train": ("exprmetric_cli.train:train", "Train an encoder by a paper's recipe."),
    "fec": ("exprmetric_cli.fec:fec", "Fetch the faces of the Facial Expression Comparison data set."),
    "export": ("exprmetric_cli.export:export", "Turn a trained checkpoint into ONNX."),
}
"""Where each command lives, and its line in `--help`, which must not import it."""

WRONG_USAGE = (InputError, UnknownMethodError, UnknownWeightsError)


class Program(LazyGroup):
    """Turns typed errors into exit codes: 2 wrong usage, 1 all others."""

    def main(self, *arguments: Any, **more: Any) -> Any:
        with safe_output():
            return super().main(*arguments, **more)

    def make_context(self, info_name: str | None, args: list[str], *arguments: Any, **more: Any) -> click.Context:
        given = list(args)
        context: click.Context = super().make_context(info_name, args, *arguments, **more)
        context.meta[GIVEN] = given
        return context

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ExprmetricError as error:
            from exprmetric.io.tables import printable_lines

            click.echo(f"Error: {printable_lines(as_options(str(error)))}", err=True)
            sys.exit(2 if isinstance(error, WRONG_USAGE) else 1)
        except ImportError as error:
            if "libGL" not in str(error):
                raise
            click.echo(
                "Error: OpenCV needs the system library libGL, which is missing: apt-get install libgl1, or "
                "pip install opencv-python-headless in place of opencv-python",
                err=True,
            )
            sys.exit(1)


@click.group(cls=Program, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="exprmetric")
def main() -> None:
    """How well does a face-swap or face-anonymization model keep the facial expression?"""
