"""Options that `exprmetric probe protocols` and `plot` share: which encoders, and where vectors are kept."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from exprmetric_cli.options import detector_option, jobs_option, provider_option, seed_option, stack_options

from exprmetric.choices import LANDMARKS

if TYPE_CHECKING:
    from exprmetric.methods import Method

F = TypeVar("F", bound=Callable[..., Any])


def device_option() -> Callable[[F], F]:
    """`--device`."""
    return click.option("--device", default="auto", show_default=True, help="Where checkpoints run: auto, cpu, cuda, …")


def checkpoint_option() -> Callable[[F], F]:
    """`--checkpoint`, as often as wanted."""
    return click.option(
        "--checkpoint",
        "checkpoints",
        multiple=True,
        metavar="[NAME=]PATH",
        help="encoder.pt, best.pt or last.pt of a training, or an exported .onnx with its entry beside it as .json; "
        "repeatable. NAME is its row, by default its folder's or entry's name.",
    )


def named_path(text: str) -> tuple[str, Path]:
    """NAME and PATH of `[NAME=]PATH`; '' where none is named. A path that is there may have a = in it."""
    name, equals, path = text.partition("=")
    return (name, Path(path)) if equals and not Path(text).exists() else ("", Path(text))


def encoder_options(command: F) -> F:
    """`--method --checkpoint --limit --cache --detector --landmarks --commercial-only --provider --device --jobs
    --seed`."""
    for option in (
        seed_option(),
        jobs_option("read images and align"),
        device_option(),
        provider_option(),
        stack_options,
        detector_option(),
        click.option(
            "--cache",
            type=click.Path(file_okay=False, path_type=Path),
            help="Folder that keeps alignments and vectors; the folder alignment of a training serves.  "
            "[default: OUT/cache, else none]",
        ),
        click.option(
            "--limit",
            type=click.IntRange(min=2),
            default=6000,
            show_default=True,
            help="Use at most so many faces of each split.",
        ),
        checkpoint_option(),
        click.option("--method", "-m", "methods", multiple=True, help="A registered method; repeatable."),
    ):
        command = option(command)
    return command


def open_encoders(
    methods: Sequence[str],
    checkpoints: Sequence[str],
    device: str,
    *,
    provider: str,
    landmarks: str = LANDMARKS[0],
    commercial_only: bool = False,
    **_: Any,
) -> list[Method]:
    """Methods, then checkpoints, in the order in which they were named; `commercial_only` is of the methods.

    All other options are of how faces are found.
    """
    from exprmetric.evaluation.session import check_landmarks
    from exprmetric.methods import load_method
    from exprmetric.probes.checkpoint import open_checkpoint
    from exprmetric.weights import store

    with store.commercial_only(commercial_only):
        opened = [load_method(name, provider=provider) for name in dict.fromkeys(methods)]
    check_landmarks(opened, landmarks)
    return opened + [open_checkpoint(*named_path(c), provider=provider, device=device) for c in checkpoints]


@contextmanager
def cache_folder(cache: Path | None, out: Path | None) -> Iterator[Path]:
    """The folder named, `out/cache`, or one that goes when the command ends."""
    if cache is not None or out is not None:
        yield cache if cache is not None else out / "cache"  # type: ignore[operator]
        return
    with tempfile.TemporaryDirectory(prefix="exprmetric-probe-") as folder:
        yield Path(folder)
