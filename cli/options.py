"""Options that several commands share, and the progress bar on stderr."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from exprmetric.choices import ALL, CHANGED, DEFAULT_METHODS, DETECTORS, FACES, LANDMARKS, ON_FAIL
from exprmetric.inputs import LAYOUTS

if TYPE_CHECKING:
    from exprmetric.comparing.gate import Requirement
    from exprmetric.inputs.triplets import Triplet

F = TypeVar("F", bound=Callable[..., Any])

FORMATS = ("table", "json", "csv", "markdown", "latex")
_MOST_NOTES = 10
GIVEN = "exprmetric.given"
"""Key of the arguments as they were given, in the context's `meta`."""
DATA_SETS = tuple(name for name in LAYOUTS if name != "pairs")
"""Layouts of data sets; `pairs` is `--pairs`."""


def jobs_option(what: str) -> Callable[[F], F]:
    """`--jobs`."""
    return click.option("--jobs", type=click.IntRange(min=1), help=f"Threads that {what}.  [default: one a core]")


def provider_option() -> Callable[[F], F]:
    """`--provider`."""
    return click.option("--provider", default="cpu", show_default=True, help="ONNX Runtime provider: cpu, cuda, …")


def detector_option(more: str = "") -> Callable[[F], F]:
    """`--detector`."""
    return click.option(
        "--detector",
        type=click.Choice(DETECTORS),
        default="auto",
        show_default=True,
        help=f"auto: the first of scrfd, yunet, dlib whose weights are here{more}.",
    )


def methods_option(more: str) -> Callable[[F], F]:
    """`--method`, as often as wanted."""
    return click.option(
        "--method",
        "-m",
        "methods",
        multiple=True,
        default=DEFAULT_METHODS,
        show_default=True,
        help=f"Repeat for several; {more}.",
    )


def format_option(formats: Sequence[str] = FORMATS) -> Callable[[F], F]:
    """`--format`: what stands on stdout."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(formats),
        default="table",
        show_default=True,
        help="How the scores are printed on stdout: a table to read, or a form for programs, pages and papers.",
    )


def seed_option() -> Callable[[F], F]:
    """`--seed`."""
    return click.option(
        "--seed",
        type=int,
        default=0,
        show_default=True,
        help="Where the chance of the bootstrap intervals begins: the same number, the same intervals.",
    )


class _FaceOfSwap(click.Path):
    """A choice, or the path of a photograph."""

    name = "face"
    choices = (*FACES, CHANGED, ALL)

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> str:
        if value not in self.choices and not Path(value).is_file():
            self.fail(f"{value!r} is neither {', '.join(self.choices)} nor a photograph of the person", param, context)
        return str(value)


def face_option() -> Callable[[F], F]:
    """`--face` of images alone."""
    return click.option(
        "--face",
        type=click.Choice(FACES),
        default=FACES[0],
        show_default=True,
        help="Which of several faces in an image.",
    )


def face_options(command: F) -> F:
    """`--detector --face --provider --jobs`: how faces are found and where networks run."""
    return _face_options(command, face_option())


def stack_options(command: F) -> F:
    """`--landmarks --commercial-only`: which weights may say where a face is."""
    for option in (
        click.option("--commercial-only", is_flag=True, help="Refuse weights that exclude commercial use."),
        click.option(
            "--landmarks",
            type=click.Choice(LANDMARKS),
            default=LANDMARKS[0],
            show_default=True,
            help="What says where the eyes are: dlib's 68 points, MediaPipe's mesh, or the detector's own five points.",
        ),
    ):
        command = option(command)
    return command


def swap_face_options(command: F) -> F:
    """`face_options`, where the face of a target may be told by its swap."""
    return _face_options(
        command,
        click.option(
            "--face",
            type=_FaceOfSwap(),
            metavar=f"[{'|'.join(_FaceOfSwap.choices)}|PHOTO]",
            default=CHANGED,
            show_default=True,
            help="Which of several faces in a target: changed is the one that the swap changed most, else the largest; "
            "PHOTO shows the person; all gives a row for each face. The swapped face is the one at its place.",
        ),
    )


def _face_options(command: F, face: Callable[[F], F]) -> F:
    for option in (
        jobs_option("read images"),
        provider_option(),
        face,
        detector_option("; none: images are aligned crops"),
    ):
        command = option(command)
    return command


def result_options(command: F) -> F:
    """`--format --on-fail --seed`: how rows become scores, and what is printed."""
    for option in (
        seed_option(),
        click.option(
            "--on-fail",
            type=click.Choice(ON_FAIL),
            default=ON_FAIL[0],
            show_default=True,
            help="Score without the triplets that could not be measured, or count them as the worst.",
        ),
        format_option(),
    ):
        command = option(command)
    return command


def require_option(command: F) -> F:
    """`--require`, as often as wanted."""
    return click.option(
        "--require",
        "required",
        metavar="SCORE<NUMBER",
        multiple=True,
        help="Exit status 3 where the result doesn't meet it: default.mean_t2c<0.25, coverage>=0.95, "
        "privacy.rank1<0.1. Repeat for several.",
    )(command)


def requirements(required: Sequence[str], methods: Sequence[str] = ()) -> list[Requirement]:
    """What `--require` says; UsageError, before anything is measured, where it can't be met or missed."""
    from exprmetric.comparing.gate import Requirement
    from exprmetric.errors import InputError

    try:
        return [Requirement.parse(text, methods) for text in required]
    except InputError as error:
        raise click.UsageError(f"--require {error}") from error


def layout_options(command: F) -> F:
    """`clip_layout_options`, and which frames of clips are taken."""
    folder = click.Path(file_okay=False, path_type=Path)
    for option in (
        click.option("--workdir", type=folder, help="Where frames of videos are kept.  [default: OUT/frames]"),
        click.option(
            "--frames",
            type=click.IntRange(min=0),
            help="Take so many frames of each swapped clip; 0: all.  [default: 10]",
        ),
    ):
        command = option(command)
    return clip_layout_options(command)


def clip_layout_options(command: F) -> F:
    """`--layout --pairs …`: data sets that say by names what was swapped into what."""
    folder = click.Path(file_okay=False, path_type=Path)
    for option in (
        click.option("--compression", help="ffpp: raw, c23 or c40.  [default: the only one there is]"),
        click.option("--pair-file", type=click.Path(path_type=Path), help="casia: 'source target' in each line."),
        click.option("--source-dir", type=folder, help="--pairs, casia: folder of the sources."),
        click.option("--target-dir", type=folder, help="--pairs, casia: folder of the targets."),
        click.option(
            "--pairs",
            "template",
            metavar="TEMPLATE",
            help="INPUT's images (or videos) are named '{target}_{source}.png', '{target}.png', or so.",
        ),
        click.option(
            "--layout",
            type=click.Choice(DATA_SETS),
            help="INPUT is a data set: FaceForensics++, or results on CASIA FaceSwapping.",
        ),
    ):
        command = option(command)
    return command


CLIP_NAMES = ("template", "target_dir", "source_dir", "pair_file", "compression")
"""Arguments of `clip_layout_options`, without `layout`."""


def read_named(layout: str | None, source: Path, names: dict[str, Any], **how: Any) -> Sequence[Triplet]:
    """Triplets of a data set whose names say what was swapped into what; UsageError without a layout or template."""
    from exprmetric.inputs import read_layout

    if not layout and not names["template"]:
        given = ", ".join(as_options(f"`{name}`") for name, value in names.items() if value is not None)
        raise click.UsageError(f"{given}: needs --layout or --pairs")
    return read_layout(layout or "pairs", source, **names, **how)


_SPELLED = {f"layout {name!r}": f"--layout {name}" for name in DATA_SETS} | {
    "layout 'pairs'": "--pairs",
    "`template`": "--pairs",
    **{f"`{a}_{b}`": f"--{a}-{b}" for a, b in (("target", "dir"), ("source", "dir"), ("pair", "file"))},
    **{f"`{name}`": f"--{name}" for name in ("layout", "compression", "frames", "workdir", "rate")},
}
"""How the command line spells what messages of the package name: arguments, in backquotes, and layouts."""


def as_options(text: str) -> str:
    """A message of the package in the words of the command line: `target_dir` is --target-dir."""
    for argument, option in _SPELLED.items():
        text = text.replace(argument, option)
    return text


def tell(notes: Sequence[str]) -> None:
    """Say on stderr how rows were found where the user should know."""
    from exprmetric.io.tables import printable

    for note in notes[:_MOST_NOTES]:
        click.echo(f"Note: {printable(as_options(note))}", err=True)
    if len(notes) > _MOST_NOTES:
        click.echo(f"… and {len(notes) - _MOST_NOTES} more notes; --out writes all", err=True)


def command_line() -> str:
    """The command as it was given, as a shell takes it."""
    return f"exprmetric {shlex.join(click.get_current_context().meta[GIVEN])}"


@contextmanager
def progress_bar(label: str, *, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr; gives a callback (stage, done, total)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet, transient=True) as progress:
        task = progress.add_task(label, total=None)

        def update(stage: str, done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield update
