"""`exprmetric cache`: what earlier runs kept of faces, and how to have it gone."""

from __future__ import annotations

from pathlib import Path

import click

OFF = "off"
"""A file of this name beside the cache says that nothing is kept."""


def cache_is_off() -> bool:
    """Whether `exprmetric cache off` was said."""
    from exprmetric.evaluation.large.cache import cache_folder

    return (cache_folder().parent / f"vectors.{OFF}").is_file()


def say_first_use(folder: Path, *, identity: bool = False) -> None:
    """Say, once a folder, that faces and vectors of this run are kept there; and once that identity vectors are."""
    told = folder / ("told.identity" if identity else "told")
    which = "identity vectors too," if identity else "and no identity vectors,"
    if folder.is_dir() and not told.exists():
        click.echo(
            f"Note: faces and expression vectors of these images, {which} are kept in {folder} so that later runs "
            "are faster. `exprmetric cache show|clear|off`, or --no-cache.",
            err=True,
        )
        told.touch()


@click.group()
def cache() -> None:
    """Show, clear or switch off the folder that keeps faces and vectors of earlier runs."""


@cache.command()
def show() -> None:
    """Say where the cache is, how large it is, and whether it is used."""
    from rich import filesize

    from exprmetric.evaluation.large.cache import cache_folder

    folder = cache_folder()
    files = [p for p in folder.rglob("*") if p.is_file()] if folder.is_dir() else []
    size = filesize.decimal(sum(p.stat().st_size for p in files))
    state = "off: nothing is kept" if cache_is_off() else "on"
    click.echo(f"{folder}: {size}; {state}")


@cache.command()
def clear() -> None:
    """Delete all faces and vectors that earlier runs kept in the default folder."""
    import shutil

    from exprmetric.errors import ExprmetricError
    from exprmetric.evaluation.large.cache import cache_folder

    folder = cache_folder()
    try:
        if folder.is_dir():
            shutil.rmtree(folder)
    except OSError as error:
        raise ExprmetricError(f"can't delete {folder}: {error.strerror or error}") from error
    click.echo(f"{folder}: nothing is kept")


@cache.command()
@click.option("--undo", is_flag=True, help="Keep faces and vectors again.")
def off(*, undo: bool) -> None:
    """Keep nothing from now on, and delete what is kept."""
    from exprmetric.errors import ExprmetricError
    from exprmetric.evaluation.large.cache import cache_folder

    mark = cache_folder().parent / f"vectors.{OFF}"
    try:
        if undo:
            mark.unlink(missing_ok=True)
        else:
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
    except OSError as error:
        raise ExprmetricError(f"can't write {mark}: {error.strerror or error}") from error
    if undo:
        click.echo("on")
        return
    click.get_current_context().invoke(clear)
