"""Pure functions on arrays: distances, preservation scores, uncertainty. NumPy and SciPy alone; nothing of images."""

from exprmetric.metrics.agreement import Estimate, Leak, identity_leak, rank_correlation, triplet_accuracy
from exprmetric.metrics.distances import DISTANCES, cosine, distance_function, l2, mse, ned
from exprmetric.metrics.preservation import HIGHER_IS_BETTER, SCORES, per_triplet, preservation_scores
from exprmetric.metrics.uncertainty import bootstrap_means

__all__ = [
    "DISTANCES",
    "HIGHER_IS_BETTER",
    "SCORES",
    "Estimate",
    "Leak",
    "bootstrap_means",
    "cosine",
    "distance_function",
    "identity_leak",
    "l2",
    "mse",
    "ned",
    "per_triplet",
    "preservation_scores",
    "rank_correlation",
    "triplet_accuracy",
]
