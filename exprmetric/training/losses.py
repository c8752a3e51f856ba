"""Losses as pure functions, in the notation of the papers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """Weights that give every class the same total: W = n_s / (n_c · v_o) (paper 000, eq. 4).

    Args:
        labels: (N,) integers; negative ones are unlabelled and don't count.
        classes: n_c.

    Returns:
        (classes,) float32; 0 for a class that never occurs. Where all occur, their mean over the labelled samples is 1.
    """
    labels = labels[labels >= 0]
    occurrences = torch.bincount(labels, minlength=classes).float()
    return torch.where(
        occurrences > 0, len(labels) / (classes * occurrences.clamp(min=1)), torch.zeros_like(occurrences)
    )


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """CE · W(y), mean over the batch (paper 000, section IV.B).

    Not torch's weighted mean, which divides by the batch's sum of weights: a batch of rare classes would weigh no more
    than one of common ones.

    Args:
        logits: (B, C). labels: (B,) 0..C-1. weights: (C,), or None for 1.
    """
    terms = F.cross_entropy(logits.float(), labels, reduction="none")
    return (terms if weights is None else terms * weights[labels]).mean()


def supervised_contrastive(
    embeddings: Tensor, labels: Tensor, *, temperature: float = 0.05, weights: Tensor | None = None
) -> Tensor:
    """Weighted supervised contrastive loss (paper 000, eq. 1-5).

    Readings where the paper is garbled or silent:

    * Eq. 2 squares and sums z before the product; taken literally that compares norms, not directions. z is read as the
      L2-normalised projection, so the logits are cosine similarities over the temperature.
    * Eq. 1 puts a softmax around y_l, which by eq. 3 is a distribution already. A second softmax would flatten it to
      nearly uniform (its largest over its smallest entry would be e^(1/positives)), and the optimum would be one point
      for all faces. y_l itself is the target.
    * The diagonal is left out of logits and truth (as in Khosla et al., 2020): a face's similarity to itself is 1
      whatever the network does, at temperature 0.05 that constant takes most of the softmax, and the loss would no
      longer see how near the true positives are.

    Args:
        embeddings: (B, D) projections, any norm.
        labels: (B,) integers; negative ones are neither anchors nor in any anchor's denominator.
        temperature: τ.
        weights: (classes,) of eq. 4, or None for the unweighted L_c.

    Returns:
        Scalar: mean over the anchors that have a positive in the batch; 0 (with a gradient of 0) when none has.
    """
    z = F.normalize(embeddings[labels >= 0].float(), dim=1)
    y = labels[labels >= 0]
    itself = torch.eye(len(y), dtype=torch.bool, device=y.device)
    logits = (z @ z.T / temperature).masked_fill(itself, float("-inf"))
    same = ((y[:, None] == y[None, :]) & ~itself).float()
    positives = same.sum(1)
    truth = same / positives.clamp(min=1)[:, None]
    log_softmax = torch.log_softmax(logits, dim=1).masked_fill(itself, 0.0)
    cross_entropy = -(truth * log_softmax).sum(1)
    if weights is not None:
        cross_entropy = cross_entropy * weights[y]
    return cross_entropy.sum() / (positives > 0).sum().clamp(min=1)


def masked_mse(prediction: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error over the known (not NaN) entries of `truth`; 0 when none is known (paper 000, eq. 6)."""
    known = torch.isfinite(truth)
    difference = torch.where(known, prediction.float() - torch.nan_to_num(truth), torch.zeros_like(truth))
    return (difference**2).sum() / known.sum().clamp(min=1)


def soft_cross_entropy(logits: Tensor, shares: Tensor) -> Tensor:
    """Cross-entropy against distributions over raters (Barsoum et al., 2016); NaN rows of `shares` are left out.

    Args:
        logits: (B, C).
        shares: (B, C), rows sum to 1 or are NaN.
    """
    known = torch.isfinite(shares).all(1)
    terms = -(torch.nan_to_num(shares) * torch.log_softmax(logits.float(), dim=1)).sum(1)
    return torch.where(known, terms, torch.zeros_like(terms)).sum() / known.sum().clamp(min=1)


def distance_agreement(embeddings: Tensor, truth: Tensor) -> Tensor:
    """1 - Pearson's correlation, over all pairs of the batch, of embedding distance and distance between truths.

    What a metric is for, as a loss: faces that raters describe alike are near, whoever wears them. Unlike a contrastive
    loss it knows degrees, and no class.

    Args:
        embeddings: (B, D), any norm; compared at unit norm.
        truth: (B, K), Euclidean; rows with NaN are left out.

    Returns:
        Scalar 0..2; 0 (with a gradient of 0) when fewer than three rows are known.
    """
    known = torch.isfinite(truth).all(1)
    if int(known.sum()) < 3:
        return embeddings.sum() * 0.0
    a = _pair_distances(F.normalize(embeddings[known].float(), dim=1))
    b = _pair_distances(truth[known].float())
    a, b = a - a.mean(), b - b.mean()
    correlation: Tensor = (a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-8)
    return 1 - correlation


def _pair_distances(x: Tensor) -> Tensor:
    """(B (B - 1) / 2,) Euclidean distances; their gradient is finite where two rows are equal."""
    i, j = torch.triu_indices(len(x), len(x), 1, device=x.device)
    return ((x[i] - x[j]) ** 2).sum(1).add(1e-8).sqrt()


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]


def reverse_gradient(x: Tensor) -> Tensor:
    """x; its gradient comes back with the other sign, so that x is trained against what is computed from it."""
    reversed_: Tensor = _Reverse.apply(x)  # type: ignore[no-untyped-call]
    return reversed_
