"""`exprmetric train`: a paper's recipe, from data sets to an encoder."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from exprmetric.training.recipes import RECIPES, load_recipe

C = TypeVar("C")


def need_torch() -> None:
    """InputError, with what to install, where the extra is missing."""
    import importlib.util

    from exprmetric.errors import InputError

    missing = [n for n in ("torch", "timm") if importlib.util.find_spec(n) is None]
    if missing:
        raise InputError(f"{' and '.join(missing)} not installed: pip install 'exprmetric[torch]'")


@click.command()
@click.argument("recipe", type=click.Choice(list(RECIPES)))
@click.option(
    "--data",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="A data set (folder or zip), or a folder of data sets; repeat for several.",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of checkpoints, log and scores.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a setting of the recipe; repeatable."
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    help="Where to train: auto (a GPU where there is one), cpu, cuda, cuda:1, …",
)
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True, help="Processes that align faces.")
@click.option("--print-config", is_flag=True, help="Print the recipe's settings as JSON and stop.")
def train(
    recipe: str,
    data: tuple[Path, ...],
    out: Path | None,
    settings: tuple[str, ...],
    device: str,
    jobs: int,
    print_config: bool,
) -> None:
    """Train by RECIPE. The same command goes on where a stopped run left off.

    distil is the shipped encoder, expression-2: a face network learns labels, votes and other networks' opinions;
    default is expression-1, before it: raters' votes, a mesh teacher, distances that agree with both, identity out.
    wsupcon is paper 000: weighted supervised contrastive pre-training, then a classifier on the frozen encoder;
    classification, selfsupervised and autoencoder are what it is compared with. contrastive is paper 001 (nearby
    frames, swapped faces, far frames, false negatives), disentangle 002, contrawarping 003, feenet 004.

    Data sets are read as their authors publish them: AffectNet (CSV or per-image .npy), RAF-DB, FER+ and FER2013, CK+,
    a folder for each person (MS1M and others), a labels.csv with image, person, emotion, a folder per class, or
    unlabelled photographs in a folder images. Faces are found, aligned and labelled once and kept in OUT/alignment.
    Images that can't be read are left out and counted.
    """
    need_torch()
    chosen = load_recipe(recipe)
    config = parse_settings(chosen.settings, settings)
    if print_config:
        click.echo(json.dumps(asdict(config), indent=2))
        return
    if not data or out is None:
        raise click.UsageError("--data and --out are needed")
    scores = chosen.open(list(data), out, config, device=device, jobs=jobs).run()
    from exprmetric.encoder.distributed import is_main

    if not is_main():
        return
    for split, found in scores.items():
        numbers = [f"{name.replace('_', ' ')} {value:.4g}" for name, value in found.items() if isinstance(value, float)]
        click.echo(f"{split}: {', '.join(numbers)}")
    click.echo(f"{out}/encoder.pt; next: exprmetric export {out}/encoder.pt encoder.onnx")


def parse_settings(config_class: type[C], settings: tuple[str, ...]) -> C:
    """An instance of a config dataclass with `KEY=VALUE` texts applied, each read as its default's type."""
    defaults = {f.name: f.default for f in fields(cast(Any, config_class))}
    values = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or key not in defaults:
            raise click.UsageError(f"--set {setting!r}: expected KEY=VALUE with KEY one of {', '.join(defaults)}")
        kind: Any = type(defaults[key])
        try:
            values[key] = {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
        except (KeyError, ValueError):
            raise click.UsageError(f"--set {setting!r}: {text!r} is no {kind.__name__}") from None
    return config_class(**values)
