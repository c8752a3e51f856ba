"""What the engines share: small perceptrons, similarities, the way of a momentum encoder, predictive losses."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exprmetric.training.loop import Losses, autocast


def perceptron(*widths: int, norm: bool = True) -> nn.Sequential:
    """Linear layers of the given widths with ReLU, and batch norm if `norm`, between them; the last is bare."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(before, after, bias=not norm), *([nn.BatchNorm1d(after)] if norm else []), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


def run(images: Tensor, *modules: nn.Module) -> list[Tensor]:
    """What comes out of each of the modules, one after the other, on (B, 1, S, S) images; float32."""
    outputs, values = [], images
    with autocast(images.device):
        for module in modules:
            values = module(values)
            outputs.append(values.float())
    return outputs


def frozen_copy(module: nn.Module) -> nn.Module:
    """A copy that no optimiser moves."""
    from copy import deepcopy

    return deepcopy(module).requires_grad_(False)


@torch.no_grad()
def follow(slow: nn.Module, fast: nn.Module, momentum: float) -> None:
    """slow ← momentum · slow + (1 - momentum) · fast, over all parameters. Batch statistics are each network's own."""
    for s, f in zip(slow.parameters(), fast.parameters(), strict=True):
        s.mul_(momentum).add_(f, alpha=1 - momentum)


def symmetric_similarity(p: tuple[Tensor, Tensor], z: tuple[Tensor, Tensor]) -> Tensor:
    """sim(i, j) = ½ (cos(p_i, z_j) + cos(p_j, z_i)) (paper 003, eq. 2), with no gradient into z.

    Args:
        p: predictions (B, D) of the views i and j. z: their projections (B, D).

    Returns:
        (B,), -1..1.
    """
    return (F.cosine_similarity(p[0], z[1].detach()) + F.cosine_similarity(p[1], z[0].detach())) / 2


def predictive_losses(p: Sequence[Tensor], z: Sequence[Tensor], target_similarity: float) -> Losses:
    """Paper 003, equations (3) and (4): -sim(1, 2) + mean over negatives of max(sim(1, 3), s_t), over the batch.

    Args:
        p: predictions (B, D) of anchor, positive, and negatives. z: projections of the same.

    Returns:
        `total`, its terms `positive` and `negative`, and without a gradient what tells how learning goes:
        `negative_similarity`, the mean sim(1, 3) of the paper's table 2, and `spread`, the deviation of the anchors'
        unit-length projections over the batch times √D: 1 for directions spread evenly, 0 when all faces are one point.
    """
    spread = F.normalize(z[0].detach()).std(0, correction=0).mean() * z[0].shape[1] ** 0.5
    terms = {"positive": -symmetric_similarity((p[0], p[1]), (z[0], z[1])).mean()}
    terms["total"] = terms["positive"]
    if len(p) > 2:
        apart = torch.stack([symmetric_similarity((p[0], p[k]), (z[0], z[k])) for k in range(2, len(p))])
        terms["negative"] = apart.clamp(min=target_similarity).mean()
        terms["total"] = terms["positive"] + terms["negative"]
        terms["negative_similarity"] = apart.detach().mean()
    return {**terms, "spread": spread}


def contrastive_losses(positive: Tensor, negative: Tensor, temperature: float) -> Losses:
    """Softmax cross-entropy of picking each anchor's positive: -s⁺/τ + log(e^(s⁺/τ) + Σ e^(s⁻/τ)), mean over anchors.

    Args:
        positive: (N,) cosines s⁺ of anchors and their positives.
        negative: (N, K) cosines s⁻ with their negatives; -inf is left out.

    Returns:
        `positive` (the first term: how near positives are), `negative` (the second: how full the space around an
        anchor is), and their sum `total`.
    """
    logits = torch.cat([positive[:, None], negative], 1) / temperature
    terms = {"positive": -logits[:, 0].mean(), "negative": torch.logsumexp(logits, 1).mean()}
    return {"total": terms["positive"] + terms["negative"], **terms}
