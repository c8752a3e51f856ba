"""What an embedding is worth: as what a classifier reads, and in the numbers that the encoder is made for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from exprmetric.datasets.arrays import FaceArrays
from exprmetric.datasets.samples import EXPRESSIONS
from exprmetric.metrics import classification
from exprmetric.metrics.agreement import identity_leak, rank_correlation, triplet_accuracy
from exprmetric.metrics.resampling import Estimate


@torch.no_grad()
def classification_scores(head: nn.Module, embeddings: Tensor, labels: Tensor) -> dict[str, Any]:
    """Accuracy, mean accuracy per class, recall by name, and the confusion matrix (rows: truth; counts).

    Args:
        head: (N, D) → (N, 8) logits of `EXPRESSIONS`.
        labels: (N,) 0..7.
    """
    predicted = head.eval()(embeddings).argmax(1)
    matrix = classification.confusion(labels.cpu().numpy(), predicted.cpu().numpy(), len(EXPRESSIONS))
    recall = zip(EXPRESSIONS, classification.recalls(matrix).tolist(), matrix.sum(1), strict=True)
    return {
        "n": len(labels),
        "accuracy": classification.accuracy(matrix),
        "mean_class_accuracy": classification.balanced_accuracy(matrix),
        "recall": {expression: share for expression, share, faces in recall if faces},
        "confusion": matrix.astype(int).tolist(),
    }


def space_scores(embeddings: Tensor, faces: FaceArrays) -> dict[str, Any]:
    """Agreement with the raters' votes, and identity leak where persons are known; each with its interval.

    Args:
        embeddings: (N, D) of `faces`, compared at unit norm.
        faces: `extra["person"]` holds (N,) numbers of people, -1 where unknown.
    """
    unit = torch.nn.functional.normalize(embeddings.float(), dim=1).cpu().numpy()
    scores: dict[str, Any] = {}
    voted = torch.isfinite(faces.votes).all(1).cpu().numpy()
    if voted.any():
        votes = faces.votes.cpu().numpy()[voted]
        scores["triplet_accuracy"] = _plain(triplet_accuracy(unit[voted], votes))
        scores["rank_correlation"] = _plain(rank_correlation(unit[voted], votes))
    person = faces.extra["person"].cpu().numpy()
    known = (person >= 0) & (faces.labels.cpu().numpy() >= 0)
    if known.any():
        leak = identity_leak(
            unit[known], [str(p) for p in person[known]], groups=faces.labels.cpu().numpy()[known].tolist()
        )
        scores["leak"], scores["leak_auc"] = _plain(leak.ratio), _plain(leak.auc)
    return scores


def _plain(estimate: Estimate) -> dict[str, Any]:
    interval = [round(float(estimate.low), 4), round(float(estimate.high), 4)]
    return {"value": round(float(estimate.value), 4), "ci95": interval, "n": estimate.n}
