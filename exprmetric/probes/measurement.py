"""What a protocol gives: numbers with intervals, or the reason why there are none."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.datasets.samples import EXPRESSIONS
from exprmetric.errors import ExprmetricError
from exprmetric.metrics.classification import accuracy, balanced_accuracy, confusion, macro_f1, recalls
from exprmetric.metrics.resampling import Estimate, Floats, bootstrap, units
from exprmetric.probes.parts import Known

CLASSES = len(EXPRESSIONS)


class NotMeasuredError(ExprmetricError):
    """The faces don't have what a protocol asks for; the message says what is missing."""


@dataclass(frozen=True)
class Measurement:
    """Numbers of one protocol.

    Attributes:
        scores: by name.
        details: what else there is to know, as JSON values.
    """

    scores: dict[str, Estimate]
    details: dict[str, Any] = field(default_factory=dict)


@contextmanager
def one_thread() -> Iterator[None]:
    """NumPy, scikit-learn and torch work in the thread that calls them.

    A protocol is thousands of small steps: threads that wait for each other after each made it thirty times as slow on
    a machine whose cores had other work.
    """
    with ExitStack() as stack:
        if importlib.util.find_spec("threadpoolctl") is not None:  # scikit-learn brings it
            from threadpoolctl import threadpool_limits  # type: ignore[import-not-found,import-untyped,unused-ignore]

            stack.enter_context(threadpool_limits(1))
        if "torch" in sys.modules:
            import torch

            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)
        yield


def estimates(
    statistic: Callable[[Floats], Sequence[float]],
    names: Sequence[str],
    people: Sequence[str] | None,
    count: int,
    *,
    n: Sequence[int] | int | None = None,
    resamples: int,
    seed: int,
) -> dict[str, Estimate]:
    """A statistic's numbers for (count,) row weights, by name, with intervals over people or, without them, faces."""
    found = bootstrap(statistic, units(count, people), resamples=resamples, seed=seed)
    counts = [count if n is None else n] * len(names) if isinstance(n, int | None) else n
    return {name: Estimate(*each, n=of) for name, each, of in zip(names, found, counts, strict=True)}


def classified(
    known: Known, predicted: npt.NDArray[np.integer], *, resamples: int, seed: int, **details: Any
) -> Measurement:
    """Accuracy, macro F1, the mean recall over classes, and the recall of each class that has a face."""
    truth = known.labels
    matrix = confusion(truth, predicted, CLASSES)
    present = np.flatnonzero(matrix.sum(1))

    def statistic(weights: Floats) -> list[float]:
        m = confusion(truth, predicted, CLASSES, weights)
        return [accuracy(m), macro_f1(m), balanced_accuracy(m), *recalls(m)[present].tolist()]

    names = ["accuracy", "macro_f1", "mean_recall", *(f"recall {EXPRESSIONS[i]}" for i in present)]
    counts = [len(truth)] * 3 + matrix.sum(1)[present].astype(int).tolist()
    scores = estimates(statistic, names, known.people, len(truth), n=counts, resamples=resamples, seed=seed)
    return Measurement(scores, {"confusion": matrix.astype(int).tolist(), **details})
