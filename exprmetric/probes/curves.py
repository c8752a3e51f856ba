"""Distance against strength: how a method answers to movements of a face, and to what is no movement.

Distances are divided by the method's mean distance between different photographs, so that methods compare: 0.1 means
that a change moves a face by a tenth of the way to another photograph. A good space rises steadily under warps and
stays flat under nuisances.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from exprmetric.errors import ImageError
from exprmetric.evaluation.reading import FaceReader, Outcome
from exprmetric.faces import Face
from exprmetric.io.progress import Progress
from exprmetric.methods import Method
from exprmetric.methods.each import Cell, Vector
from exprmetric.metrics.resampling import Floats, pair_distances
from exprmetric.probes.dataset import Faces, Image
from exprmetric.probes.nuisance import NUISANCES, Nuisance, fresh
from exprmetric.probes.vectors import represent_all
from exprmetric.probes.warp import STRENGTHS, WARPS

WARP, NUISANCE = "warp", "nuisance"


@dataclass(frozen=True)
class Change:
    """One change at one strength.

    Attributes:
        kind: `warp` or `nuisance`.
        apply: (image, face found in it, reader) → what the methods are given.
    """

    kind: str
    name: str
    strength: float
    apply: Callable[[Image, Face, FaceReader], Outcome]


@dataclass(frozen=True)
class Curve:
    """Mean relative distance of one method against the strength of one change.

    Attributes:
        strengths: S strengths.
        distances: S distances, in mean distances between different photographs; NaN where the method could measure no
            changed face.
        faces: how many each mean is over.
    """

    kind: str
    name: str
    strengths: tuple[float, ...]
    distances: tuple[float, ...]
    faces: tuple[int, ...]


@dataclass(frozen=True)
class Response:
    """All curves of one method.

    Attributes:
        curves: of warps, then of nuisances.
        monotonicity: mean over warps of Spearman's correlation of strength and mean distance, -1..1; 1 = every warp
            moves the face farther the stronger it is.
        signal_to_nuisance: mean distance under warps / mean distance under nuisances, each change counting alike at the
            mean of its strengths.
        photographs: how many all methods could measure unchanged.
    """

    curves: tuple[Curve, ...]
    monotonicity: float
    signal_to_nuisance: float
    photographs: int


def changes() -> list[Change]:
    """Every warp and nuisance at each of its strengths; warps of strength 0 change nothing and are left out."""

    def warp(name: str, strength: float) -> Change:
        def apply(image: Image, face: Face, reader: FaceReader) -> Outcome:
            return reader.at(face.place).read(WARPS[name](image, face.landmarks, strength))

        return Change(WARP, name, strength, apply)

    def disturb(nuisance: Nuisance, strength: float) -> Change:
        def apply(image: Image, face: Face, reader: FaceReader) -> Outcome:
            if nuisance.pixels is not None:
                return reader.at(face.place).read(nuisance.pixels(image, face, strength))
            assert nuisance.face is not None
            return reader.found(nuisance.face(face, strength))

        return Change(NUISANCE, nuisance.name, strength, apply)

    return [warp(name, s) for name in WARPS for s in STRENGTHS if s] + [
        disturb(n, s) for n in NUISANCES.values() for s in n.strengths
    ]


def measure_curves(faces: Faces, reader: FaceReader, pool: Executor, progress: Progress) -> dict[str, Response]:
    """The response of every method, over the photographs that all methods can measure unchanged.

    One photograph is in memory at a time, with all its changes.
    """
    applied = changes()
    unchanged: dict[str, list[Vector]] = {m: [] for m in reader.methods}
    moved: dict[str, list[Floats]] = {m: [] for m in reader.methods}
    for i, name in enumerate(faces.images):
        columns = _answers(faces, name, applied, reader, pool)
        if all(isinstance(column[0], np.ndarray) for column in columns.values()):
            for method in reader.methods.values():
                base, *changed = columns[method.name]
                assert isinstance(base, np.ndarray)
                unchanged[method.name].append(base)
                moved[method.name].append(_distances(method, base, changed))
        progress("photographs under change", i + 1, len(faces))
    return {m.name: response(m, applied, unchanged[m.name], moved[m.name]) for m in reader.methods.values()}


def _answers(
    faces: Faces, name: str, applied: Sequence[Change], reader: FaceReader, pool: Executor
) -> dict[str, list[Cell]]:
    """By method, the cells of a photograph and of all its changes."""
    try:
        image = faces.load(name)
        face = reader.finder.find(image)
    except ImageError as error:
        return {m: [error] for m in reader.methods}
    outcomes: list[Outcome] = [reader.found(fresh(face))]
    outcomes += pool.map(lambda change: change.apply(image, face, reader), applied)
    return represent_all(outcomes, reader)


def _distances(method: Method, base: Vector, changed: Sequence[Cell]) -> Floats:
    """(C,) distances to the unchanged face, NaN where the changed face can't be measured."""
    found = np.full(len(changed), np.nan)
    good = [i for i, cell in enumerate(changed) if isinstance(cell, np.ndarray)]
    if good:
        vectors = np.stack([cell for cell in changed if isinstance(cell, np.ndarray)])
        found[good] = method.distance(np.broadcast_to(base, vectors.shape), vectors)
    return found


def response(
    method: Method, applied: Sequence[Change], unchanged: Sequence[Vector], moved: Sequence[Floats]
) -> Response:
    """Curves and summary numbers out of P vectors and P rows of C distances."""
    far = mean_distance(method, unchanged)
    table = np.array(moved, np.float64).reshape(len(moved), len(applied)) / far
    counts = np.isfinite(table).sum(0)
    means = np.where(counts > 0, np.nansum(table, axis=0) / np.maximum(counts, 1), np.nan)
    curves = []
    for kind, name in dict.fromkeys((c.kind, c.name) for c in applied):
        at = [i for i, c in enumerate(applied) if (c.kind, c.name) == (kind, name)]
        strengths = tuple(applied[i].strength for i in at)
        curves.append(Curve(kind, name, strengths, tuple(means[at].tolist()), tuple(counts[at].tolist())))
    signal, noise = (_mean([_mean(c.distances) for c in curves if c.kind == kind]) for kind in (WARP, NUISANCE))
    rises = [_rise(c) for c in curves if c.kind == WARP]
    return Response(tuple(curves), _mean(rises), signal / noise if noise > 0 else float("nan"), len(unchanged))


def mean_distance(method: Method, vectors: Sequence[Vector]) -> float:
    """Mean distance between different photographs; NaN where there are fewer than two, or all are alike."""
    if len(vectors) < 2:
        return float("nan")
    first, second = np.triu_indices(len(vectors), 1)
    mean = float(pair_distances(np.stack(vectors), first, second, method.distance).mean())
    return mean if mean > 0 else float("nan")


def _rise(curve: Curve) -> float:
    """Spearman's correlation of strength and distance, from nothing at strength 0 on."""
    from scipy.stats import spearmanr

    distances = [0.0, *curve.distances]
    if not np.isfinite(distances).all() or len(set(distances)) < 2:
        return float("nan")
    return float(spearmanr([0.0, *curve.strengths], distances).statistic)


def _mean(values: Sequence[float]) -> float:
    """NaN, without a warning, where there is nothing, or something that could not be measured."""
    return float(np.mean(values)) if len(values) else float("nan")
