"""`exprmetric probe protocols`: methods and checkpoints under all protocols, in one table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from exprmetric_cli.options import format_option, progress_bar
from exprmetric_cli.probe.options import cache_folder, encoder_options, open_encoders

SPLITS = ("train", "valid", "all")


@click.command()
@click.argument("data", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@encoder_options
@click.option(
    "--protocol",
    "-p",
    "protocols",
    multiple=True,
    help="A protocol to judge by; repeat the option for several.  [default: all]",
)
@click.option("--contempt/--no-contempt", default=True, show_default=True, help="Eight classes, or seven without it.")
@click.option("--persons", type=click.Path(exists=True, path_type=Path), help="A data set with image, person, emotion.")
@click.option(
    "--persons-split",
    type=click.Choice(SPLITS),
    default="all",
    show_default=True,
    help="Part of --persons that is used.",
)
@click.option(
    "--persons-limit",
    type=click.IntRange(min=2),
    default=2000,
    show_default=True,
    help="Use at most so many faces of --persons.",
)
@click.option("--fec", type=click.Path(exists=True, path_type=Path), help="A triplet file of FEC, as published.")
@click.option("--fec-images", type=click.Path(exists=True, path_type=Path), help="Folder of FEC's photographs.")
@click.option(
    "--fec-limit",
    type=click.IntRange(min=1),
    default=9000,
    show_default=True,
    help="Use at most so many triplets of FEC.",
)
@click.option(
    "--resamples",
    type=click.IntRange(min=0),
    default=300,
    show_default=True,
    help="Draws behind each interval; 0: no intervals.",
)
@format_option(("table", "markdown", "json"))
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for protocols.json and protocols.md."
)
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
def protocols(
    data: tuple[Path, ...],
    methods: tuple[str, ...],
    checkpoints: tuple[str, ...],
    limit: int,
    cache: Path | None,
    device: str,
    seed: int,
    protocols: tuple[str, ...],
    contempt: bool,
    persons: Path | None,
    persons_split: str,
    persons_limit: int,
    fec: Path | None,
    fec_images: Path | None,
    fec_limit: int,
    resamples: int,
    form: str,
    out: Path | None,
    quiet: bool,
    **how: Any,
) -> None:
    """Judge methods and trained checkpoints under all protocols, on the same faces.

    DATA are data sets with labelled faces (FER+, RAF-DB, AffectNet, labels.csv, folder per class); each gives a table
    of its own. Classifiers learn from its training faces and are judged on its test faces, or on its validation faces
    where it has no others. The protocols: linear, 10-nn, 30-nn, head, affect, agreement, triplets, fec, retrieval,
    leak.

    Exit status: 0 measured, 1 nothing could be measured, 2 wrong usage.
    """
    from exprmetric.errors import InputError
    from exprmetric.probes.encoders import Bench
    from exprmetric.probes.fec import fec_set
    from exprmetric.probes.parts import judged_set, people_rows
    from exprmetric.probes.protocol_card import markdown, print_protocols, save_protocols
    from exprmetric.probes.protocols import chosen_protocols, probe_protocols

    chosen_protocols(protocols)  # now, not after minutes of work
    if (fec is None) != (fec_images is None):
        raise InputError("--fec and --fec-images are needed together")
    encoders = open_encoders(methods, checkpoints, device, **how)
    sets = [judged_set(path, limit, seed, contempt=contempt) for path in data]
    with cache_folder(cache, out) as folder, progress_bar("judging", quiet=quiet) as progress:
        result = probe_protocols(
            sets,
            encoders,
            Bench(folder, progress=progress, **how),
            protocols=protocols,
            people=people_rows(persons, persons_split, persons_limit, seed) if persons else None,
            fec=fec_set(fec, fec_images, fec_limit, seed) if fec and fec_images else None,
            seed=seed,
            resamples=resamples,
        )
    if form == "table":
        print_protocols(result)
    else:
        from exprmetric.io.say import say, say_json

        say(markdown(result)) if form == "markdown" else say_json(result.to_json())
    if out is not None:
        click.echo(f"written: {out}/{', '.join(save_protocols(result, out))}", err=True)
    if not result.measured:
        click.echo("Error: nothing could be measured; the table names the reasons", err=True)
        sys.exit(1)
