"""All instruments for a list of methods: agreement with people, identity leak, curves, detector independence."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

import exprmetric
from exprmetric.errors import ImageError, InputError
from exprmetric.evaluation.environment import environment
from exprmetric.evaluation.profile import Progress, no_progress
from exprmetric.evaluation.session import Settings, open_pool
from exprmetric.faces import FaceFinder, load_detector
from exprmetric.files import path_text, write_whole
from exprmetric.methods import Method, load_method
from exprmetric.metrics.agreement import Estimate, Leak, identity_leak, rank_correlation, triplet_accuracy
from exprmetric.probes.curves import Response, measure_curves
from exprmetric.probes.dataset import Faces, repeated_people
from exprmetric.probes.detectors import DetectorShift, measure_detectors
from exprmetric.probes.vectors import Reader, Vectors, embed_faces

SCHEMA_VERSION = 1
LIMIT = 2000
"""Rated faces, and faces of people."""
PHOTOGRAPHS = 60
SMALLEST = 100
"""Shorter side, px, of the photographs that are warped and disturbed where none were named."""


@dataclass(frozen=True)
class MethodReport:
    """What the instruments say of one method.

    Attributes:
        dimension: D of its vectors.
        triplet_accuracy, rank_correlation: against ratings, over the faces that all methods could measure.
        leak: None where no people are known.
        detector_shift: None where a detector's weights are missing, or there are no photographs.
        response: None where there are no photographs.
        coverage: by set (`rated`, `people`), `{"faces", "ok", "failed": {status: n}}`.
    """

    name: str
    dimension: int
    distance: str
    fingerprint: str
    triplet_accuracy: Estimate
    rank_correlation: Estimate
    leak: Leak | None
    detector_shift: DetectorShift | None
    response: Response | None
    coverage: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class AgreementResult:
    """Reports of all methods.

    Attributes:
        about: sets, detector, settings and versions: all that defends the numbers.
        methods: in the order asked for.
        failures: one record a photograph that could not be measured: set, image, method ('' = all), status, reason.
    """

    about: dict[str, Any]
    methods: tuple[MethodReport, ...]
    failures: tuple[dict[str, str], ...]

    @property
    def measured(self) -> bool:
        """Was anything compared with ratings?"""
        return any(m.rank_correlation.n for m in self.methods)

    def to_json(self) -> str:
        """Everything; what could not be computed is null."""
        content = {
            **self.about,
            "methods": {m.name: _plain(m) for m in self.methods},
            "failures": list(self.failures),
        }
        return json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `agreement.json` whole or not at all; InputError when it can't be written."""
        out = Path(folder)
        try:
            out.mkdir(parents=True, exist_ok=True)
            write_whole(out / "agreement.json", lambda f: f.write(self.to_json().encode() + b"\n"))
        except OSError as error:
            raise InputError(f"can't write the result into {out}: {error}") from error
        return out


def _plain(value: Any) -> Any:
    """Dataclasses as JSON values; an estimate as `{"value", "ci95", "n"}`, as in `summary.json`."""
    if isinstance(value, Estimate):
        return {"value": _plain(value.value), "ci95": [_plain(value.low), _plain(value.high)], "n": value.n}
    if isinstance(value, MethodReport | Leak | DetectorShift):
        return {k: _plain(getattr(value, k)) for k in value.__dataclass_fields__ if k != "name"}
    if isinstance(value, Response):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def probe_agreement(
    rated: Faces,
    methods: Sequence[str],
    *,
    people: Faces | None = None,
    photographs: Faces | None = None,
    detector: str = "auto",
    face: str = "largest",
    provider: str = "cpu",
    jobs: int | None = None,
    limit: int = LIMIT,
    most_photographs: int = PHOTOGRAPHS,
    seed: int = 0,
    progress: Progress = no_progress,
) -> AgreementResult:
    """Run all instruments.

    Args:
        rated: faces with ratings; where it names persons and `people` is None, the leak is measured on them at the
            nearest ratings.
        methods: names for `load_method`.
        people: faces with persons and labels, for the identity leak at equal labels.
        photographs: for curves and detectors; without it, those of `people` or `rated` with at least 100 px.
        detector, face, provider, jobs: as in `evaluate`.
        limit: of rated faces, and of people's faces; `most_photographs`: of photographs.
        seed: of every draw.
        progress: told how far it is.

    Returns:
        Numbers over the faces that every method could measure, with every method's own coverage beside them.

    Raises:
        InputError; UnknownMethodError, WeightsError, ProviderError from loading methods and detector.
    """
    if rated.ratings is None:
        raise InputError(f"{rated.name} has no ratings")
    names = Settings(tuple(methods), identity=False).names()
    loaded = [load_method(name, provider=provider) for name in names]
    reader = Reader(FaceFinder(load_detector(detector, provider=provider), face), loaded)
    rated = rated.sample(limit, seed)
    people = None if people is None else repeated_people(people, limit, seed)
    with open_pool(jobs) as pool:
        if photographs is None:
            photographs = large_photographs(people if people is not None else rated, most_photographs, seed)
        photographs = photographs.sample(most_photographs, seed)
        sets = {"rated": embed_faces(rated, reader, pool, progress, "rated faces")}
        if people is not None:
            sets["people"] = embed_faces(people, reader, pool, progress, "faces of people")
        responses, shifts = _photographs(photographs, reader, pool, progress, provider, seed)
    reports = tuple(_report(m, sets, responses.get(m.name), shifts.get(m.name), seed) for m in loaded)
    about = {
        "schema_version": SCHEMA_VERSION,
        "exprmetric_version": exprmetric.__version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "sets": {
            "rated": _describe(rated) | {"scales": list(rated.scales)},
            "people": None if people is None else _describe(people) | {"people": len(set(people.persons))},
            "photographs": _describe(photographs),
        },
        "compared": {name: int(v.ok.sum()) for name, v in sets.items()},
        "detector": {"asked": detector, "ran": reader.finder.detector.name, "fingerprint": reader.finder.fingerprint},
        "settings": {"face": face, "provider": provider, "limit": limit, "seed": seed},
        "environment": environment(),
    }
    failures = [{k: path_text(v) for k, v in f.items()} for vectors in sets.values() for f in vectors.failures()]
    return AgreementResult(about, reports, tuple(failures))


def _describe(faces: Faces) -> dict[str, Any]:
    return {"name": path_text(faces.name), "faces": len(faces)}


def large_photographs(faces: Faces, most: int, seed: int, smallest: int = SMALLEST) -> Faces:
    """At most `most` faces, drawn from those whose images have `smallest` px on their shorter side."""
    rows: list[int] = []
    for i in np.random.default_rng(seed).permutation(len(faces)):
        try:
            shape = faces.load(faces.images[i]).shape
        except ImageError:
            continue
        if min(shape[:2]) >= smallest:
            rows.append(int(i))
        if len(rows) == most:
            break
    return faces.take(sorted(rows))


def _photographs(
    photographs: Faces, reader: Reader, pool: Executor, progress: Progress, provider: str, seed: int
) -> tuple[dict[str, Response], dict[str, DetectorShift]]:
    if not len(photographs):
        return {}, {}
    responses = measure_curves(photographs, reader, pool, progress)
    if reader.finder.detector.aligned:  # there is no face to find in a crop
        return responses, {}
    return responses, measure_detectors(photographs, reader.methods, pool, progress, provider=provider, seed=seed)


def _report(
    method: Method,
    sets: dict[str, Vectors],
    response: Response | None,
    shift: DetectorShift | None,
    seed: int,
) -> MethodReport:
    rows = np.flatnonzero(sets["rated"].ok)
    faces = sets["rated"].faces.take(rows)
    vectors = sets["rated"].matrix(method.name, rows)
    persons = faces.persons or None
    assert faces.ratings is not None
    return MethodReport(
        method.name,
        vectors.shape[1] if len(vectors) else method.dimension,
        method.distance_name,
        method.fingerprint,
        triplet_accuracy(vectors, faces.ratings, persons=persons, distance=method.distance, seed=seed),
        rank_correlation(vectors, faces.ratings, persons=persons, distance=method.distance, seed=seed),
        _leak(method, sets, seed),
        shift,
        response,
        {name: v.coverage(method.name) for name, v in sets.items()},
    )


def _leak(method: Method, sets: dict[str, Vectors], seed: int) -> Leak | None:
    """Over people of one label each; without a set of people, over the rated faces at their nearest ratings."""
    found = sets.get("people", sets["rated"])
    rows = np.flatnonzero(found.ok)
    faces = found.faces.take(rows)
    if not faces.persons:
        return None
    vectors = found.matrix(method.name, rows)
    how: dict[str, Any] = {"groups": faces.labels} if "people" in sets else {"ratings": faces.ratings}
    return identity_leak(vectors, faces.persons, **how, distance=method.distance, seed=seed)
