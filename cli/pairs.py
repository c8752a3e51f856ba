"""`exprmetric pairs`: draw which source face goes into which target face."""

from __future__ import annotations

from pathlib import Path

import click

from exprmetric.errors import InputError


@click.command()
@click.argument("labels", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
@click.option(
    "--power",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Draw nothing; say from the spread in this earlier result how many targets a difference needs.",
)
@click.option(
    "-n", "count", type=click.IntRange(min=1), default=3000, show_default=True, help="So many pairs are drawn."
)
@click.option(
    "--same",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Share of pairs whose two images have the same expression label.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed draws the same pairs.")
@click.option("--balanced", is_flag=True, help="Draw labels uniformly, then images; else labels follow the data.")
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder that the image names start at.  [default: the folder of LABELS]",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("pairs.csv"),
    show_default=True,
    help="CSV file to write.",
)
def pairs(
    labels: Path | None,
    power: Path | None,
    count: int,
    same: float,
    seed: int,
    balanced: bool,
    images: Path | None,
    out: Path,
) -> None:
    """Draw (target, source) pairs from LABELS, a table with the columns image and label, or AffectNet's own.

    The protocol of Rosberg and Englund: 3000 swaps, half between images of the same expression label. An
    optional column person keeps two images of one person from being paired. Swap the pairs with your model,
    add a column swapped, and the file is an input of `exprmetric evaluate`.
    """
    from exprmetric.inputs.pairs import draw_pairs, missing_images, read_labels, write_pairs

    if (labels is None) == (power is None):
        raise click.UsageError("name LABELS, or an earlier result with --power")
    if power is not None:
        from exprmetric.comparing.power import power_sheet
        from exprmetric.evaluation.result import EvaluationResult

        power_sheet(EvaluationResult.load(power)).print()
        return
    assert labels is not None
    if out.resolve() == labels.resolve():
        raise click.UsageError(f"--out would overwrite {str(labels)!r}")
    try:
        faces = read_labels(labels, images)
        drawn = draw_pairs(faces, n=count, same=same, seed=seed, balanced=balanced)
        write_pairs(drawn, out)
    except InputError as error:
        raise click.UsageError(str(error)) from error
    if missing := missing_images(faces):
        click.echo(
            f"Warning: {len(missing)} of {len(faces)} images are not there, such as {missing[0]!r}; "
            "name their folder with --images",
            err=True,
        )
    alike = sum(pair.target_label == pair.source_label for pair in drawn)
    click.echo(f"{out}: {len(drawn)} pairs, {alike} with the same label, {len(drawn) - alike} with different ones")
