"""What each ingredient of the shipped encoder is worth: short runs with one of them changed, scored on faces held out.

    python examples/ablation.py --data data/ --out runs/ablation

Prints a Markdown table. The runs are short (80 px, 16,000 faces with votes and 11,000 without, 336 steps), so that they
compare; none of them reaches what the whole recipe reaches. About three minutes each on two cores.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch

from exprmetric.datasets.arrays import FaceArrays
from exprmetric.training.recipes.common import embed
from exprmetric.training.recipes.default import Default, DefaultConfig
from exprmetric.training.space import classification_scores, space_scores

BASE = DefaultConfig(
    size=80, epochs=2, warmup=60, average=0.99, others=0.5, mirror=False,
    votes=1.0, agreement=1.0, contrast=0.1, mesh=0.3, mesh_agreement=0.2, identity=0.0, pseudo=0.5,
)  # fmt: skip
ROWS: dict[str, dict[str, Any]] = {
    "all but the adversary": {},
    "without distance agreement": {"agreement": 0.0, "mesh_agreement": 0.0},
    "without the mesh teacher": {"mesh": 0.0, "mesh_agreement": 0.0},
    "without votes of its own": {"pseudo": 0.0},
    "without the contrastive loss": {"contrast": 0.0},
    "with the identity adversary": {"identity": 0.1},
    "without ImageNet's weights": {"pretrained": False},
}
VOTED, OTHERS = 16_000, 11_000
COLUMNS = ("accuracy", "triplet_accuracy", "rank_correlation", "leak", "leak_auc")


def some(train: FaceArrays) -> FaceArrays:
    """The same draw of faces with and without votes for every row."""
    generator = torch.Generator().manual_seed(1)
    voted = torch.isfinite(train.votes).all(1)
    drawn = [
        torch.nonzero(mask)[:, 0][torch.randperm(int(mask.sum()), generator=generator)[:count]]
        for mask, count in ((voted, VOTED), (~voted, OTHERS))
    ]
    return train.subset(torch.cat(drawn))


def score(config: DefaultConfig, train: FaceArrays, valid: FaceArrays, out: Path) -> dict[str, float]:
    training = Default({"train": train, "valid": valid}, config, out)
    training.fit()
    model = training.model.eval()
    rated = valid.subset(torch.nonzero(torch.isfinite(valid.votes).all(1))[:, 0])
    found = space_scores(embed(model.encoder, valid), valid)
    votes = classification_scores(model.votes, embed(model.encoder, rated), rated.labels)
    return {"accuracy": votes["accuracy"], **{k: v["value"] for k, v in found.items()}}


@click.command()
@click.option("--data", multiple=True, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--alignment", type=click.Path(path_type=Path), help="Alignment folder of another run; default OUT's.")
def main(data: tuple[Path, ...], out: Path, alignment: Path | None) -> None:
    """Train each row of ROWS and print the table."""
    if alignment and not (out / "alignment").exists():
        out.mkdir(parents=True, exist_ok=True)
        (out / "alignment").symlink_to(alignment.resolve(), target_is_directory=True)
    faces = Default.load(data, BASE, out, device="cpu")
    train, valid = some(faces["train"]), faces["valid"]
    click.echo(f"| | {' | '.join(COLUMNS)} |\n| --- |{' ---: |' * len(COLUMNS)}")
    for i, (name, change) in enumerate(ROWS.items()):
        found = score(replace(BASE, **change), train, valid, out / str(i))
        click.echo(f"| {name} | {' | '.join(f'{found[c]:.3f}' for c in COLUMNS)} |")


if __name__ == "__main__":
    main()
