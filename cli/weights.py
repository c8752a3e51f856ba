"""`exprmetric weights`: list, pull, verify, convert and add pinned weight files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any

import click

from exprmetric.errors import WeightsError, WeightsNotFoundError
from exprmetric.io.tables import printable, printable_lines
from exprmetric.weights import store


@click.group()
def weights() -> None:
    """Weight files: what there is, what is here, under which licence."""


@weights.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array instead of a table.")
def list_(as_json: bool) -> None:
    """List all known weight files and where they stand on this machine."""
    rows = [_row(item) for item in store.entries().values()]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    from rich import filesize

    from exprmetric.io.sheet import Sheet

    def cells(row: dict[str, Any]) -> list[str]:
        size = filesize.decimal(row["bytes"]) if row["bytes"] is not None else "unknown"
        here, commercial = row["place"] or "not present", "yes" if row["commercial_use"] else "no"
        return [row["name"], row["kind"], size, here, commercial, row["licence"]]

    head = ("name", "kind", "size", "here", "commercial use", "licence")
    Sheet.of(head, map(cells, rows), words=len(head)).print(width=140)
    for row in rows:
        may = "may" if row["commercial_use"] else "may not"
        click.echo(printable(f"{row['name']} {may} be used commercially. {row['why']}"))


@weights.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--quiet", is_flag=True, help="Draw no progress bar.")
def pull(names: tuple[str, ...], quiet: bool) -> None:
    """Download weight files into the cache, verified; prints their paths."""
    for name in [store.entry(name).name for name in names]:  # a mistyped name stops before any download
        click.echo(store.pull(name, progress=not quiet))


@weights.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Hash the files that are here (or those named) against their pinned SHA-256.

    Exits 1 when one is wrong, when a named one is absent, or when there was nothing to verify.
    """
    chosen = [store.entry(name).name for name in names] or [n for n in store.entries() if store.is_present(n)]
    wrong = 0
    for name in chosen:
        try:
            click.echo(f"ok     {name}  {store.find(name)}")
        except WeightsNotFoundError:
            raise
        except WeightsError as error:
            wrong += 1
            click.echo(f"WRONG  {name}  {printable_lines(str(error))}", err=True)
    if not chosen:
        click.echo("no weights are on this machine: nothing was verified", err=True)
    if wrong or not chosen:
        raise click.exceptions.Exit(1)


@weights.command()
@click.argument("name")
def path(name: str) -> None:
    """Print the path of one verified weight file, and nothing else."""
    click.echo(store.find(name))


@weights.command()
@click.argument("entry", metavar="ENTRY.json", type=click.File("rb"))
@click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def add(entry: IO[bytes], file: Path) -> None:
    """Make an encoder of your own a method, without code: pin FILE under the entry in ENTRY.json.

    `exprmetric export … --entry > ENTRY.json` writes the entry of an encoder trained here; of any other, write one as
    weights_manifest.json has them. FILE is opened and run on two pictures, refused where it doesn't fit the entry, and
    copied beside the pulled weights.
    """
    try:
        document = json.load(entry)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{entry.name} is no JSON: {error}") from error
    from exprmetric.methods.onnx import check_fit

    item = store.add(document, file, check_fit)
    click.echo(f"{item.name}: exprmetric evaluate … -m {item.name}", err=True)
    click.echo(store.find(item.name))


@weights.command()
@click.argument("name")
def remove(name: str) -> None:
    """Forget an entry that `weights add` has made, and its copy of the file."""
    store.remove(name)


@weights.command()
@click.argument("name", type=click.Choice(("3ddfa-v2",)))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder; by default the weights cache.")
def convert(name: str, out: Path | None) -> None:
    """Make ONNX of weights that are published as a pickle, safely; prints the path.

    The pickles must be here (`weights pull 3ddfa-v2 3ddfa-v2-stats`). A folder other than the cache is found when
    EXPRMETRIC_WEIGHTS names it. Needs the torch extra.
    """
    from exprmetric_cli.train import need_torch

    need_torch()
    from exprmetric.encoder.convert_3ddfa import convert as convert_3ddfa

    made = convert_3ddfa(out)
    click.echo(f"{name}: torch and onnxruntime differ by {made.parity:.1e} standard deviations at most", err=True)
    click.echo(made.path)


def _row(item: store.WeightsEntry) -> dict[str, Any]:
    place = store.locate(item)
    return {
        "name": item.name,
        "kind": item.kind,
        "format": item.format,
        "file": item.file,
        "bytes": item.bytes,
        "sha256": item.sha256,
        "present": place is not None,
        "place": place.label if place else None,
        "path": str(place.path) if place else None,
        "licence": item.licence,
        "commercial_use": item.commercial_use,
        "why": item.why,
        "training_data": item.training_data,
    }
