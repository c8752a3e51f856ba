"""Valence and arousal by ridge regression on frozen vectors: CCC and RMSE, as in the table of paper 001.

The features are standardised over the training faces. The penalty is the one of PENALTIES that is best on training
faces left out one at a time (scikit-learn's RidgeCV), chosen for valence and arousal apart: encoders differ too much in
dimension for one. CCC is Lin's, with the population's variances (divided by N).
"""

from __future__ import annotations

import numpy as np

from exprmetric.metrics.classification import concordance, rmse
from exprmetric.metrics.resampling import Estimate, Floats
from exprmetric.probes.classify import standardised
from exprmetric.probes.measurement import Measurement, NotMeasuredError, estimates
from exprmetric.probes.parts import Space

PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0, 10_000.0)
SCALES = ("valence", "arousal")
FEWEST = 2


def affect(space: Space) -> Measurement:
    """CCC and RMSE of valence and of arousal, over the test faces that have both."""
    from sklearn.linear_model import RidgeCV  # type: ignore[import-untyped]

    train, test = (p.take(np.flatnonzero(np.isfinite(p.known.affect).all(1))) for p in (space.train, space.test))
    if len(train) < FEWEST or len(test) < FEWEST:
        raise NotMeasuredError("the data set has no valence and arousal")
    x, unseen = standardised(train.vectors, test.vectors)
    scores: dict[str, Estimate] = {}
    penalties: dict[str, float] = {}
    for i, name in enumerate(SCALES):
        model = RidgeCV(alphas=PENALTIES).fit(x, train.known.affect[:, i])
        truth, predicted = test.known.affect[:, i], model.predict(unseen)

        def statistic(w: Floats, truth: Floats = truth, predicted: Floats = predicted) -> list[float]:
            return [concordance(truth, predicted, w), rmse(truth, predicted, w)]

        names = (f"{name}_ccc", f"{name}_rmse")
        people = test.known.people
        scores |= estimates(statistic, names, people, len(test), resamples=space.resamples, seed=space.seed)
        penalties[name] = float(model.alpha_)
    return Measurement(scores, {"penalty": penalties})
