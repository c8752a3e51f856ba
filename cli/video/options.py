"""Options that the commands of `exprmetric video` share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from exprmetric_cli.options import F, detector_option, jobs_option, provider_option

from exprmetric.choices import IDENTIFIERS, QUALITIES

VIDEO_FORMATS = ("table", "json", "csv")


def reading_options(command: F) -> F:
    """`--detector --detect-every --every --rate --provider --jobs --quiet`: how videos are read."""
    for option in (
        click.option("--quiet", "-q", is_flag=True, help="No progress bar."),
        jobs_option("find faces"),
        provider_option(),
        click.option(
            "--rate",
            type=click.FloatRange(min=0, min_open=True),
            default=25.0,
            show_default=True,
            help="Frames a second of a folder of images.",
        ),
        click.option(
            "--every",
            type=click.IntRange(min=1),
            default=1,
            show_default=True,
            help="Look at each n-th frame; 1: at every one.",
        ),
        click.option(
            "--detect-every",
            type=click.IntRange(min=1),
            default=2,
            show_default=True,
            help="Detect faces in each n-th of these, and follow them between.",
        ),
        detector_option(),
    ):
        command = option(command)
    return command


def quality_option(default: str) -> Any:
    """`--quality`: which faces count."""
    return click.option(
        "--quality",
        type=click.Choice(QUALITIES),
        default=default,
        show_default=True,
        help="Faces that count: all, or those that pass FaceQA (sharp eyes, within 50 degrees).",
    )


def out_option(holds: str) -> Any:
    """`--out`: the folder of results."""
    return click.option("--out", type=click.Path(file_okay=False, path_type=Path), help=f"Folder for {holds}.")


def keep_option(command: F) -> F:
    """`--keep`: the folder of faces that need not be looked for again."""
    return click.option(
        "--keep",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder where the faces of VIDEOs are kept, for the next question about them.",
    )(command)


def people_options(command: F) -> F:
    """`--method --quality --identity --names --min-faces`: whose expressions, in which space."""
    for option in (
        click.option(
            "--min-faces",
            "least",
            type=click.IntRange(min=1),
            default=3,
            show_default=True,
            help="Faces that somebody must have to count as a person.",
        ),
        click.option(
            "--names",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            help="Folder of photographs that name people: name.jpg or name/….jpg.",
        ),
        click.option(
            "--identity",
            type=click.Choice(IDENTIFIERS),
            default=IDENTIFIERS[0],
            show_default=True,
            help="Method that tells people apart.",
        ),
        quality_option("paper004"),
        click.option(
            "--method",
            "-m",
            default="default",
            show_default=True,
            help="Method in whose space expressions are compared.",
        ),
    ):
        command = option(command)
    return command


def apart_from_inputs(out: Path | None, inputs: tuple[Path, ...]) -> None:
    """Refuse to mix results with the input; UsageError."""
    if out is not None and any(out.resolve() == path.resolve() for path in inputs):
        raise click.UsageError(f"--out {out} would mix the results with the input: name another folder")
