"""Classifiers on frozen vectors: linear probe and nearest neighbours (paper 003), the head of paper 000.

* linear: each number to mean 0 and deviation 1 over the training faces, then scikit-learn's multinomial logistic
  regression (L-BFGS, `C` = 0.01, so a penalty of |w|² / 0.02 on the sum of the losses; classes not weighted).
* k-NN: cosine similarity, k = 10 and 30, one vote each. Of equally similar faces at the k-th place each has an equal
  share of the votes that are left; where two expressions have as many votes, the first of EXPRESSIONS wins, as in
  scikit-learn. A zero vector is similar to nobody: 0.
* head: paper 000, section IV.B (dropout 0.5, 512 units, dropout 0.5, linear; cross-entropy with its class weights;
  AdamW, its learning rate, batches and epochs). The features are standardised as for the linear probe, since encoders
  differ in scale by orders of magnitude. They are computed once, so the paper's augmentation is missing. A tenth of the
  training faces is kept back, and the epoch with the lowest loss on it is used, as in the recipe.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from exprmetric.errors import MissingPackageError
from exprmetric.metrics.resampling import Floats, Indices
from exprmetric.probes.measurement import CLASSES, Measurement, NotMeasuredError, classified, one_thread
from exprmetric.probes.parts import Space

REGULARISATION = 0.01
"""scikit-learn's C."""
HELD_BACK = 10
"""One training face in so many says when the head has learnt enough."""


def standardised(train: npt.ArrayLike, *others: npt.ArrayLike) -> list[Floats]:
    """Features with mean 0 and deviation 1 over the training faces; what doesn't vary there becomes 0 everywhere."""
    x = np.asarray(train, np.float64)
    mean, deviation = x.mean(0), x.std(0)
    varies = deviation > 1e-9 * np.maximum(np.abs(mean), 1e-30)  # float32 numbers that are equal, but for rounding
    scale = np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0)
    return [(np.asarray(v, np.float64) - mean) * scale for v in (x, *others)]


def _classes(space: Space) -> None:
    if len(np.unique(space.train.known.labels)) < 2:
        raise NotMeasuredError("the training faces have fewer than two expressions")


def linear(space: Space) -> Measurement:
    """Accuracy and F1 of a logistic regression."""
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    _classes(space)
    train, test = standardised(space.train.vectors, space.test.vectors)
    model = LogisticRegression(C=REGULARISATION, max_iter=1000, random_state=space.seed)
    predicted = model.fit(train, space.train.known.labels).predict(test)
    return classified(space.test.known, predicted, resamples=space.resamples, seed=space.seed)


def knn(space: Space, *, k: int) -> Measurement:
    """Accuracy and F1 of the vote of the k most similar training faces."""
    labels = space.train.known.labels
    similar = similarities(space.test.vectors, space.train.vectors)
    predicted = vote(similar, labels, min(k, len(labels)))
    return classified(space.test.known, predicted, resamples=space.resamples, seed=space.seed)


def similarities(first: npt.ArrayLike, second: npt.ArrayLike) -> Floats:
    """(N, M) cosine similarities, equal ones exactly equal; 0 for a zero vector."""
    a, b = (_unit(np.asarray(v, np.float64)) for v in (first, second))
    return np.asarray(np.round(a @ b.T, 12))


def _unit(vectors: Floats) -> Floats:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1.0))


def vote(similar: Floats, labels: Indices, k: int) -> Indices:
    """(N,) labels that the k most similar of M faces vote for, from (N, M) similarities."""
    edge = -np.partition(-similar, k - 1, axis=1)[:, k - 1 : k]
    member = np.eye(CLASSES)[labels]
    above, tied = (similar > edge).astype(np.float64), (similar == edge).astype(np.float64)
    left = (k - above.sum(1)) / tied.sum(1)
    votes = above @ member + left[:, None] * (tied @ member)
    return np.asarray(np.round(votes, 9).argmax(1), np.intp)


def head(space: Space) -> Measurement:
    """Accuracy and F1 of paper 000's classification head."""
    try:
        import torch

        from exprmetric.encoder.models import classification_head
        from exprmetric.training.losses import class_weights, weighted_cross_entropy
        from exprmetric.training.recipes.wsupcon import WSupConConfig
    except ImportError as error:
        raise MissingPackageError(f"the head needs torch: pip install 'exprmetric[torch]' ({error})") from error
    _classes(space)
    config = WSupConConfig(seed=space.seed)
    x, test = (torch.from_numpy(v).float() for v in standardised(space.train.vectors, space.test.vectors))
    y = torch.from_numpy(space.train.known.labels.astype(np.int64))
    generator = torch.Generator().manual_seed(space.seed)
    order = torch.randperm(len(y), generator=generator)
    kept, rest = order[: len(y) // HELD_BACK], order[len(y) // HELD_BACK :]
    weights = class_weights(y[rest], CLASSES)
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(space.seed)
        model = classification_head(x.shape[1], CLASSES)
        optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        lowest, epoch, predicted = float("inf"), 0, torch.zeros(len(test), dtype=torch.int64)
        for number in range(1, config.head_epochs + 1):
            model.train()
            for rows in torch.split(rest[torch.randperm(len(rest))], config.batch):
                optimizer.zero_grad()
                weighted_cross_entropy(model(x[rows]), y[rows], weights).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            model.eval()
            with torch.no_grad():
                loss = float(weighted_cross_entropy(model(x[kept]), y[kept], weights)) if len(kept) else -number
                if loss < lowest:
                    lowest, epoch, predicted = loss, number, model(test).argmax(1)
    return classified(space.test.known, predicted.numpy(), resamples=space.resamples, seed=space.seed, epoch=epoch)
