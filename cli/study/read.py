"""`exprmetric study read`: answers of people → agreement among them, and of methods with them."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("answers", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--study",
    "folder",
    type=click.Path(path_type=Path),
    help="Folder of `study make`, or its study.json.  [default: beside the answers, in study/, or a folder above]",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for people.json and people.md.")
@click.option(
    "--format",
    "form",
    type=click.Choice(("table", "json", "markdown")),
    default="table",
    show_default=True,
    help="Form of what is printed.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of the intervals, and of the halves of raters."
)
def read(answers: tuple[Path, ...], folder: Path | None, out: Path | None, form: str, seed: int) -> None:
    """Say how far people agree with each other, how far each method agrees with them, and what they say of each model.

    ANSWERS are the files that the page saved, one for each person. Who answered a catch question wrongly is named, and
    all numbers stand with and without them. Faces that were named go into OUT/ratings, which `probe agreement` and
    `probe kept` read.
    """
    from exprmetric.io.say import say, say_json
    from exprmetric.study.answers import read_answers
    from exprmetric.study.key import find_study, read_study
    from exprmetric.study.outcome import read_study_answers

    study = read_study(find_study(answers, folder))
    outcome = read_study_answers(study, read_answers(answers, study), seed)
    if out is not None:
        written = outcome.save(out)
    if form == "json":
        say_json(outcome.to_json())
    elif form == "markdown":
        say(outcome.markdown())
    else:
        for sheet in outcome.sheets():
            sheet.print()
    if out is not None:
        click.echo(f"written: {out}/{', '.join(written)}", err=True)
