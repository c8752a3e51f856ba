"""Does a method care which detector found the face? The same photographs, aligned from two detectors' boxes."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from exprmetric.errors import ForbiddenWeightsError, ImageError, InputError
from exprmetric.evaluation.reading import Outcome
from exprmetric.faces import available_detectors
from exprmetric.methods import Method
from exprmetric.methods.each import Vector
from exprmetric.metrics.resampling import Estimate, Floats, bootstrap, pair_distances
from exprmetric.probes.dataset import Faces
from exprmetric.probes.encoders import Bench
from exprmetric.probes.vectors import photograph_reader, represent_all

PAIR = ("scrfd", "dlib")


@dataclass(frozen=True)
class DetectorShift:
    """Of one method, how much its vectors change with the detector.

    Attributes:
        share: mean distance between the two detectors' vectors of a photograph / mean distance between different
            photographs; 0 = the detector doesn't show. Its interval resamples photographs.
        detectors: the two.
    """

    share: Estimate
    detectors: tuple[str, str]


def measure_detectors(
    faces: Faces,
    methods: Sequence[Method],
    pool: Executor,
    bench: Bench,
    *,
    detectors: tuple[str, str] = PAIR,
    seed: int = 0,
) -> dict[str, DetectorShift]:
    """The shift of every method, over the photographs in which both detectors find the face and all methods read it.

    The second detector takes the face that stands where the first one's does. Empty when a detector's weights are not
    on this machine, one of them may not be used, or one draws no points and the bench's landmarks are the detector's.
    """
    present = available_detectors()
    if not all(present[name] for name in detectors):
        return {}
    try:
        readers = [photograph_reader(bench.open_finder(name), methods) for name in detectors]
    except (ForbiddenWeightsError, InputError):
        return {}

    def read(name: str) -> tuple[Outcome, Outcome]:
        try:
            image = faces.load(name)
        except ImageError as error:
            return error, error
        first = readers[0].read(image)
        if isinstance(first, ImageError) or first.faces[0].error:
            return first, first
        return first, readers[1].at(first.places[0]).read(image)

    vectors: dict[str, list[list[Vector]]] = {m.name: [] for m in methods}
    for done, pair in enumerate(pool.map(read, faces.images), start=1):
        columns = represent_all(pair, readers[0])
        if all(isinstance(cell, np.ndarray) for column in columns.values() for cell in column):
            for name, column in columns.items():
                vectors[name].append([cell for cell in column if isinstance(cell, np.ndarray)])
        bench.progress("detectors", done, len(faces))
    return {m.name: DetectorShift(detector_shift(m, vectors[m.name], seed=seed), detectors) for m in methods}


def detector_shift(method: Method, pairs: Sequence[Sequence[Vector]], *, seed: int = 0) -> Estimate:
    """`DetectorShift.share` of P photographs' two vectors; NaN for fewer than two photographs."""
    if len(pairs) < 2:
        return Estimate(float("nan"), float("nan"), float("nan"), len(pairs))
    first, second = (np.stack(column) for column in zip(*pairs, strict=True))
    moved = np.asarray(method.distance(first, second), np.float64)
    i, j = np.triu_indices(len(pairs), 1)
    apart = pair_distances(first, i, j, method.distance)

    def share(weights: Floats) -> list[float]:
        pairs_weight = weights[i] * weights[j]
        between = pairs_weight @ apart / max(pairs_weight.sum(), 1e-12)
        return [weights @ moved / weights.sum() / between if between > 0 else float("nan")]

    (found,) = bootstrap(share, np.arange(len(pairs)), seed=seed)
    return Estimate(*found, n=len(pairs))
