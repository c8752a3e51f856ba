"""What does a space score on a data set that it was not trained on? One training without each set, and one with all.

    python examples/leave_one_set_out.py --data ferplus.zip --data rafdb.zip --data lfw_expressions.zip \\
        --rated jaffe=dev_ratings_jaffe --recipe wsupcon --set epochs=4 --out runs/left_out

The trainings are those of `exprmetric train`, and go on where they were stopped. Then `exprmetric probe protocols`
judges them all on the held-out faces of every set, and `exprmetric probe agreement` on every rated set: of each set,
compare the row `without-SET` with the row `all`. Hours, unless the settings are small.
"""

from __future__ import annotations

from pathlib import Path

import click
from exprmetric_cli.main import main as exprmetric


def trainings(data: tuple[Path, ...]) -> dict[str, tuple[Path, ...]]:
    """By name, the sets of a training: `all`, and `without-SET` for each of them."""
    names = [path.stem for path in data]
    if len(data) < 2 or len(set(names)) < len(names):
        raise click.UsageError("name at least two data sets, each with a name of its own")
    return {"all": data, **{f"without-{path.stem}": tuple(p for p in data if p != path) for path in data}}


@click.command()
@click.option("--data", multiple=True, required=True, type=click.Path(exists=True, path_type=Path), help="Labelled.")
@click.option("--rated", multiple=True, metavar="[NAME=]PATH", help="A rated set, as `probe agreement` takes it.")
@click.option("--recipe", default="wsupcon", show_default=True)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Of the recipe.")
@click.option("--protocol", multiple=True, default=("linear", "10-nn", "agreement"), show_default=True)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
def main(
    data: tuple[Path, ...],
    rated: tuple[str, ...],
    recipe: str,
    settings: tuple[str, ...],
    protocol: tuple[str, ...],
    out: Path,
) -> None:
    """Train with all sets and without each, and judge every space on every set."""
    runs = trainings(data)
    for name, sets in runs.items():
        (out / name).mkdir(parents=True, exist_ok=True)
        kept = out / name / "alignment"
        if not kept.is_symlink():  # one alignment of each set serves all trainings
            (out / "alignment").mkdir(exist_ok=True)
            kept.symlink_to(Path("..") / "alignment", target_is_directory=True)
        named = [f"--data={path}" for path in sets]
        run(["train", recipe, *named, *(f"--set={s}" for s in settings), f"--out={out / name}"])
    spaces = [f"--checkpoint={name}={out / name / 'encoder.pt'}" for name in runs]
    asked = [f"--protocol={p}" for p in protocol]
    run(["probe", "protocols", *map(str, data), *spaces, *asked, f"--cache={out / 'alignment'}", f"--out={out}"])
    if rated:
        run(["probe", "agreement", *rated, *spaces, "--curves=0", "--no-plots", f"--out={out}"])


def run(words: list[str]) -> None:
    """A command of exprmetric, shown and run."""
    click.echo(f"exprmetric {' '.join(words)}", err=True)
    exprmetric(words, standalone_mode=False)


if __name__ == "__main__":
    main()
