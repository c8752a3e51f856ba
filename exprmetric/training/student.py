"""What `distil` trains: an encoder that knows classes, a layer that repeats teachers, and what is read out of both."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exprmetric.datasets.arrays import FaceArrays
from exprmetric.datasets.samples import EXPRESSIONS
from exprmetric.encoder.checkpoint import load_checkpoint
from exprmetric.encoder.export import load_encoder
from exprmetric.encoder.models import Encoder
from exprmetric.encoder.necks import BOUNDED
from exprmetric.errors import InputError
from exprmetric.training.recipes.common import CONTEMPT, embed

CLASSES = len(EXPRESSIONS)
READOUTS = ("embedding", "logits", "both", BOUNDED)
STEEPNESS = 0.5
"""Of the bounded read-out: its numbers are the hyperbolic tangents of so much of each logit and opinion."""


class Student(nn.Module):
    """Encoder, which knows classes, and beside it the layer that repeats what teachers say, `said` numbers."""

    def __init__(self, encoder: Encoder, said: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.opinion = nn.Linear(encoder.dimension, said)


def begin(model: Student, start: Path) -> None:
    """Give it the encoder of a checkpoint, and its layer of opinions where that repeats as many numbers.

    Raises:
        InputError: it is no checkpoint of such an encoder.
    """
    encoder, _ = load_encoder(start)
    try:
        model.encoder.load_state_dict(encoder.state_dict())
    except RuntimeError as error:
        raise InputError(f"{start} is of another encoder than the one to train: {error}") from error
    stored = load_checkpoint(start).get("model", {})
    layer = {name: stored[f"opinion.{name}"] for name in ("weight", "bias") if f"opinion.{name}" in stored}
    if layer and layer["weight"].shape == model.opinion.weight.shape:
        model.opinion.load_state_dict(layer)


@torch.no_grad()
def read_out(model: Student, faces: FaceArrays, readout: str, backbone: str) -> Encoder:
    """The encoder whose embedding is the read-out: its last layer takes in the layers that stood behind it.

    Probabilities stay as they were; behind the bounded read-out a layer of classes is fitted to them.

    Args:
        faces: some, over which the logits and the opinion of `both` have the same spread.
        readout: of READOUTS. backbone: the encoder's, a key of `exprmetric.encoder.models.BACKBONES`.
    """
    trained, bounded = model.encoder, readout == BOUNDED
    if readout == "embedding":
        return trained
    assert trained.classes is not None
    embedding = embed(trained, faces)
    shown = CONTEMPT if bounded else CLASSES
    weight, bias = trained.classes.weight[:shown], trained.classes.bias[:shown]
    blocks: list[tuple[Tensor, Tensor]] = [(weight - weight.mean(0), bias - bias.mean())]
    if readout != "logits":
        blocks.append((model.opinion.weight, model.opinion.bias))
    spreads = [(embedding @ w.T + b).var(0, unbiased=False).sum().sqrt() for w, b in blocks]
    shares: list[Tensor] = [torch.full_like(s, STEEPNESS) if bounded else 1 / s for s in spreads]
    outer = torch.cat([w * share for (w, _), share in zip(blocks, shares, strict=True)])
    shift = torch.cat([b * share for (_, b), share in zip(blocks, shares, strict=True)])
    encoder = Encoder(
        backbone,
        dimension=len(outer),
        mirror=trained.mirror,
        neck=BOUNDED if bounded else "linear",
        classes=CLASSES,
        channels=trained.channels,
    ).to(embedding.device)
    encoder.backbone.load_state_dict(trained.backbone.state_dict())
    inner = cast(nn.Linear, trained.embedding)
    last = cast(nn.Linear, cast(nn.Sequential, encoder.embedding)[0] if bounded else encoder.embedding)
    last.weight.copy_(outer @ inner.weight)
    last.bias.copy_(outer @ inner.bias + shift)
    assert encoder.classes is not None
    if bounded:
        fit(encoder.classes, torch.tanh(embedding @ outer.T + shift), trained.logits(embedding))
    else:
        encoder.classes.weight.zero_()
        encoder.classes.weight[:, :CLASSES] = torch.eye(CLASSES, device=outer.device) * spreads[0]
        encoder.classes.bias.zero_()
    return encoder.eval()


@torch.enable_grad()
def fit(layer: nn.Linear, vectors: Tensor, logits: Tensor) -> None:
    """Give a layer the weights whose probabilities of `vectors` are nearest to those of `logits`."""
    meant = torch.softmax(logits, 1).detach()
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    search = torch.optim.LBFGS(layer.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        found = F.cross_entropy(layer(vectors.detach()), meant) + 1e-5 * layer.weight.square().sum()
        found.backward()  # type: ignore[no-untyped-call]
        return found

    search.step(loss)  # type: ignore[no-untyped-call]
