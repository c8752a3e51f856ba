"""Distances of frozen vectors against people: raters' votes, triplets of odd ones out, and identity at equal labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.metrics.agreement import identity_leak, rank_correlation, triplet_accuracy
from exprmetric.metrics.odd_one_out import Triplets, odd_one_out_accuracy, vote_triplets
from exprmetric.metrics.resampling import Distance
from exprmetric.probes.measurement import Measurement, NotMeasuredError
from exprmetric.probes.parts import Part, Space

TRIPLETS = 9000
"""Triplets made from votes."""
FEWEST = 3


def _rated(part: Part) -> Part:
    rated = part.take(np.flatnonzero(np.isfinite(part.known.votes).all(1)))
    if len(rated) < FEWEST:
        raise NotMeasuredError("the data set has no raters' votes")
    return rated


def agreement(space: Space) -> Measurement:
    """The instruments of `exprmetric probe agreement`: clear triplets of three faces, and rank correlation of pairs."""
    rated = _rated(space.test)
    votes, people, distance = rated.known.votes, rated.known.people, space.distance
    how: dict[str, Any] = {
        "persons": people,
        "distance": distance,
        "resamples": space.resamples,
        "seed": space.seed,
    }
    return Measurement(
        {
            "triplet_accuracy": triplet_accuracy(rated.vectors, votes, **how),
            "rank_correlation": rank_correlation(rated.vectors, votes, **how),
        }
    )


def triplets(space: Space) -> Measurement:
    """Paper 004's triplet accuracy on triplets made from votes: overall and by type."""
    rated = _rated(space.test)
    made = vote_triplets(rated.known.votes, TRIPLETS, seed=space.seed)
    if not len(made):
        raise NotMeasuredError("no three test faces have votes that clearly say which is the odd one")
    return odd_ones(rated.vectors, made, rated.known.people, space.distance, space.resamples, space.seed)


def fec(space: Space) -> Measurement:
    """The same on triplets of the data set FEC, which people judged side by side."""
    if space.compared is None:
        raise NotMeasuredError("no FEC triplets: name them with --fec and --fec-images")
    vectors, judged = space.compared
    if not len(judged):
        raise NotMeasuredError("no FEC triplet has three faces that all encoders could measure")
    return odd_ones(vectors, judged, None, space.distance, space.resamples, space.seed)


def odd_ones(
    vectors: npt.ArrayLike,
    made: Triplets,
    people: tuple[str, ...] | None,
    distance: Distance,
    resamples: int,
    seed: int,
) -> Measurement:
    """Triplet accuracy of any triplets, overall (`accuracy`) and by type; two equal distances are wrong."""
    found = odd_one_out_accuracy(
        vectors, made.rows, made.types, persons=people, distance=distance, resamples=resamples, seed=seed
    )
    return Measurement({"accuracy" if name == "all" else name: value for name, value in found.items()})


def leak(space: Space) -> Measurement:
    """How much farther apart two people are than one, at equal labels: 1 (AUC 0.5) where identity doesn't show."""
    if space.people is None or space.people.known.people is None:
        raise NotMeasuredError("no faces of known people: name a data set with --persons")
    part = space.people
    found = identity_leak(
        part.vectors,
        part.known.persons,
        groups=part.known.labels.tolist(),
        distance=space.distance,
        resamples=space.resamples,
        seed=space.seed,
    )
    if not found.people:
        raise NotMeasuredError("nobody has two photographs of one expression")
    return Measurement({"ratio": found.ratio, "auc": found.auc}, {"people": found.people})
