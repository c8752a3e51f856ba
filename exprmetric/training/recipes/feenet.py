"""FEENet, paper 004: 16 numbers in which the odd one of three faces lies apart.

EfficientNet-B0, two fully connected layers to 16 numbers, unit norm; trained on triplets (a, p, n) of which raters
found n the odd one, with the paper's loss on squared distances, margin δ = 0.2:

    L(a, p, n) = max(0, |F(a) - F(p)|² - |F(a) - F(n)|² + δ) + max(0, |F(a) - F(p)|² - |F(p) - F(n)|² + δ)

Scores are triplet accuracies: the positive pair must be nearer than both others; a tie is wrong.

What the triplets are made of:

* a folder with FEC's published tables and its photographs in `images/` (see `exprmetric.datasets.fec_faces`):
  triplets of which at least 60 % of the raters agree. Of a photograph, twice the published box is cut out before the
  face is found in the middle of it, since there may be several.
* other data sets with votes of raters (FER+): triplets whose votes leave no doubt, made anew for each epoch (see
  `exprmetric.metrics.odd_one_out.vote_triplets`). Faces without votes are not used.

Where the paper is silent:

* Optimiser, rate, batch, augmentation, number of epochs. `batch` counts faces, of a third as many triplets; an epoch
  has a third as many triplets as there are training faces, so that it costs what it does in other recipes.
* Validation. FEC has none: `held_out` of the training triplets are kept for it, and training triplets with a photograph
  that also is in a validation or test triplet are left out. Their share is said, and stands in `scores.json`.
* Whether the backbone begins with ImageNet's weights. `pretrained` does so for efficientnet_lite0, the one backbone
  whose weights a package brings.
* Colour. `color` is luma unless `rgb` is set, because FER+ has no colour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from exprmetric.datasets.arrays import Batch, FaceArrays
from exprmetric.datasets.fec import AGREEMENT
from exprmetric.datasets.fec_faces import TripletFaces, is_fec, load_fec
from exprmetric.encoder import distributed
from exprmetric.encoder.models import Encoder
from exprmetric.errors import InputError
from exprmetric.metrics.odd_one_out import MARGIN, Triplets, odd_one_out_accuracy, vote_triplets
from exprmetric.training.loop import Losses, autocast, pick_device
from exprmetric.training.recipes.common import RecipeConfig, Scores, embed
from exprmetric.training.recipes.recipe import Recipe

SCORED = 30_000
"""Triplets made from votes that a score is taken over; of FEC's, all."""


@dataclass(frozen=True)
class FEENetConfig(RecipeConfig):
    """Settings; those of the paper are the network, the margin and the raters' agreement.

    Attributes:
        batch: faces a step, three a triplet.
        limit: training faces; of FEC, triplets are left out until no more faces are needed.
        margin: δ of the loss, in squared distances of unit-norm embeddings.
        agreement: FEC: share of raters who must agree on a triplet.
        held_out: FEC: share of the training triplets that are validated on. Training triplets that share a photograph
            with them are left out: some 22 in 100 at 0.01, since a photograph is in some nine triplets; 2 or 3 here.
        clear: votes: how much farther the odd one is than the others are from each other, as a share of raters.
    """

    neck: str = "two_layers"
    dimension: int = 16
    learning_rate: float = 5e-4
    batch: int = 120
    margin: float = 0.2
    agreement: float = AGREEMENT
    held_out: float = 0.001
    clear: float = MARGIN

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch < 3:
            raise InputError(f"batch is {self.batch}; a triplet has three faces")
        for name in ("agreement", "held_out", "clear"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected a share above 0 and at most 1")


class FEENet(nn.Module):
    """What is trained: the encoder, whose output the loss brings to unit norm."""

    def __init__(self, config: FEENetConfig) -> None:
        super().__init__()
        self.encoder: Encoder = config.encoder()


def two_sided_triplet_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 0.2) -> Tensor:
    """Mean of the paper's L(a, p, n) over a batch.

    Args:
        anchor: (B, D), any norm; compared at unit norm.
        positive: (B, D), any norm; compared at unit norm.
        negative: (B, D), any norm; compared at unit norm.
        margin: δ, in squared distances.
    """
    a, p, n = (F.normalize(x.float(), dim=1) for x in (anchor, positive, negative))
    near = ((a - p) ** 2).sum(1)
    sides = ((a - n) ** 2).sum(1), ((p - n) ** 2).sum(1)
    loss: Tensor = sum((F.relu(near - far + margin) for far in sides), start=torch.zeros_like(near)).mean()
    return loss


def rated_faces(faces: dict[str, FaceArrays], config: FEENetConfig) -> TripletFaces:
    """Triplets made from the votes on faces."""
    votes = {split: arrays.votes.cpu().numpy() for split, arrays in faces.items()}

    def draw(split: str, count: int, seed: int) -> Triplets:
        return vote_triplets(votes[split], count, margin=config.clear, seed=seed)

    return TripletFaces(faces, draw, lambda split: draw(split, SCORED, config.seed), {})


class FEENetRecipe(Recipe[FEENetConfig, FEENet]):
    """The recipe.

    Scores: triplet accuracy overall, with its interval, and by type; how many triplets it is of.

    Args:
        data: faces and the triplets of them.
    """

    settings = FEENetConfig
    label = "feenet"

    def __init__(self, data: TripletFaces, config: FEENetConfig, out: Path) -> None:
        self.data = data
        super().__init__(data.faces, config, out)

    @classmethod
    def open(
        cls, paths: Sequence[str | Path], out: Path, config: FEENetConfig, *, device: str = "auto", jobs: int = 2
    ) -> FEENetRecipe:
        """On a FEC folder, or on data sets with votes.

        Raises:
            InputError: a FEC folder stands beside other data sets, or there is no triplet.
        """
        folders = [Path(p) for p in paths if is_fec(Path(p))]
        if folders and len(paths) > 1:
            raise InputError(f"{folders[0]} is a FEC folder, which is trained on alone; name no other --data beside it")
        if folders:
            data = load_fec(folders[0], config, out, device=pick_device(device), jobs=jobs)
            share = data.facts["train"]["share_held_out"]
            said = f"{share:.1%} of the training triplets share a photograph with held-out ones and are left out"
            Console(stderr=True, quiet=not distributed.is_main()).print(said, markup=False, highlight=False)
            return cls(data, config, out)
        return cls(rated_faces(cls.load(paths, config, out, device=device, jobs=jobs), config), config, out)

    def build(self) -> FEENet:
        return FEENet(self.config)

    def step(self, model: FEENet, batch: Batch) -> Losses:
        with autocast(self.device):
            embeddings = model.encoder(self.seen(model, batch))
        anchor, positive, negative = embeddings.float().chunk(3)
        return {"total": two_sided_triplet_loss(anchor, positive, negative, self.config.margin)}

    def draw(self, faces: FaceArrays, size: int, generator: torch.Generator) -> Iterator[Batch]:
        """A third as many triplets as faces; where there are fewer, some come again."""
        split = "train" if faces is self.faces["train"] else "valid"
        seed = int(torch.randint(2**31, (1,), generator=generator, device=generator.device))
        rows = torch.from_numpy(self.data.draw(split, -(-len(faces) // 3), seed).rows).to(self.device)
        if not len(rows):
            raise InputError(f"the split {split!r} of the data has no triplet with a clear odd one")
        order = torch.arange(len(faces) // size * max(1, size // 3), device=self.device) % len(rows)
        for part in torch.split(order, max(1, size // 3)):  # type: ignore[no-untyped-call]
            yield faces.batch(rows[part].T.reshape(-1))  # all a, all p, all n

    def scores(self) -> Scores:
        scores: Scores = {split: dict(facts) for split, facts in self.data.facts.items()}
        for split, faces in self.tested():
            found = triplet_scores(self.encoder, faces, self.data.scored(split), self.config)
            scores.setdefault(split, {}).update(found)
        return scores


def triplet_scores(encoder: Encoder, faces: FaceArrays, triplets: Triplets, config: FEENetConfig) -> dict[str, Any]:
    """`triplet_accuracy` with `_low` and `_high`, `triplet_accuracy_TYPE`, and the number of `triplets` of each."""
    unit = F.normalize(embed(encoder, faces, precision=config.precision), dim=1).cpu().numpy()
    found = odd_one_out_accuracy(unit, triplets.rows, triplets.types, seed=config.seed)
    overall = found.pop("all")
    return {
        "triplet_accuracy": overall.value,
        "triplet_accuracy_low": overall.low,
        "triplet_accuracy_high": overall.high,
        **{f"triplet_accuracy_{name}": each.value for name, each in found.items()},
        "triplets": overall.n,
        **{f"triplets_{name}": each.n for name, each in found.items()},
    }
