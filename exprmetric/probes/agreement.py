"""All instruments for a list of methods: agreement with people, identity leak, curves, detector independence."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from exprmetric.errors import ImageError, InputError
from exprmetric.io.files import path_text, write_whole
from exprmetric.io.plain import as_json, plain
from exprmetric.io.pool import open_pool
from exprmetric.methods import Method
from exprmetric.metrics.agreement import Leak, identity_leak
from exprmetric.metrics.rated import RatedScores
from exprmetric.probes.curves import Response, measure_curves
from exprmetric.probes.dataset import Faces, repeated_people
from exprmetric.probes.detectors import DetectorShift, measure_detectors
from exprmetric.probes.encoders import Bench
from exprmetric.probes.judge import judge
from exprmetric.probes.parts import unique_names
from exprmetric.probes.rated import RatedSet
from exprmetric.probes.vectors import Vectors, photograph_reader

SCHEMA_VERSION = 2
LIMIT = 2000
"""Faces of a set."""
PHOTOGRAPHS = 60
PEOPLE = "people"
"""Names the set of people where rated sets have names of their own."""
SMALLEST = 100
"""Shorter side, px, of the photographs that are warped and disturbed where none were named."""


@dataclass(frozen=True)
class MethodReport:
    """What the instruments say of one method.

    Attributes:
        dimension: D of its vectors.
        rated: by set, against its ratings, over the faces that all methods could measure.
        leak: of a set of people, at equal labels; None where none was given.
        detector_shift: None where a detector's weights are missing, or there are no photographs.
        response: None where there are no photographs.
        coverage: by set (the rated ones, then `people`), `{"faces", "ok", "failed": {status: n}}`.
    """

    name: str
    dimension: int
    distance: str
    fingerprint: str
    rated: dict[str, RatedScores]
    leak: Leak | None
    detector_shift: DetectorShift | None
    response: Response | None
    coverage: dict[str, dict[str, Any]]

    def plain(self) -> dict[str, Any]:
        """All but the name, by which results hold it."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "name"}


@dataclass(frozen=True)
class AgreementResult:
    """Reports of all methods.

    Attributes:
        about: sets, detector, settings and versions: all that defends the numbers.
        methods: in the order asked for.
        raters: by set, how far one half of its raters agrees with the other, over the same faces; None where unknown.
        failures: one record a photograph that could not be measured: set, image, method ('' = all), status, reason.
    """

    about: dict[str, Any]
    methods: tuple[MethodReport, ...]
    raters: dict[str, RatedScores | None]
    failures: tuple[dict[str, str], ...]

    @property
    def measured(self) -> bool:
        """Was anything compared with ratings?"""
        return any(r.across.rank_correlation.n for m in self.methods for r in m.rated.values())

    def to_json(self) -> str:
        """Everything; what could not be computed is null."""
        content = {
            **self.about,
            "methods": {m.name: plain(m) for m in self.methods},
            "raters": plain(self.raters),
            "failures": list(self.failures),
        }
        return as_json(content)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `agreement.json` whole or not at all; InputError when it can't be written."""
        out = Path(folder)
        try:
            out.mkdir(parents=True, exist_ok=True)
            write_whole(out / "agreement.json", lambda f: f.write(self.to_json().encode() + b"\n"))
        except OSError as error:
            raise InputError(f"can't write the result into {out}: {error}") from error
        return out


def probe_agreement(
    rated: Sequence[RatedSet],
    methods: Sequence[Method],
    bench: Bench,
    *,
    people: Faces | None = None,
    photographs: Faces | None = None,
    limit: int = LIMIT,
    most_photographs: int = PHOTOGRAPHS,
    seed: int = 0,
) -> AgreementResult:
    """Run all instruments.

    Args:
        rated: sets of faces with ratings. Where one names persons, its leak is measured at the nearest ratings.
        methods: as `load_method` and `open_checkpoint` give them.
        people: faces with persons and labels, for the identity leak at equal labels.
        photographs: for curves and detectors; without it, those of `people`, or else of the first rated set, with at
            least 100 px.
        bench: how faces are found; nothing is kept.
        limit: of people's faces.
        most_photographs: of photographs.
        seed: of every draw.

    Returns:
        Numbers over the faces that every method could measure, with every method's own coverage beside them.

    Raises:
        InputError: nothing to compare, or two sets or methods have one name; ProviderError, WeightsError from loading
            the detector.
    """
    if not rated or not methods:
        raise InputError("agreement needs a rated set and a method")
    unique_names([*(s.name for s in rated), PEOPLE])
    unique_names([m.name for m in methods])
    people = None if people is None else repeated_people(people, limit, seed)
    with open_pool(bench.jobs) as pool:
        if photographs is None:
            photographs = large_photographs(people if people is not None else rated[0].faces, most_photographs, seed)
        photographs = photographs.sample(most_photographs, seed)
        vectors = {s.name: bench.embed(s.faces, methods, f"faces of {s.name}", pool) for s in rated}
        if people is not None:
            vectors[PEOPLE] = bench.embed(people, methods, "faces of people", pool)
        responses, shifts = _photographs(photographs, methods, bench, pool, seed)
    scores, raters = {}, {}
    for each in rated:
        scores[each.name], raters[each.name] = judge(each, vectors[each.name], methods, seed)
    reports = tuple(
        MethodReport(
            m.name,
            _dimension(m, vectors),
            m.distance_name,
            m.fingerprint,
            {name: found[m.name] for name, found in scores.items()},
            _leak(m, vectors.get(PEOPLE), seed),
            shifts.get(m.name),
            responses.get(m.name),
            {name: v.coverage(m.name) for name, v in vectors.items()},
        )
        for m in methods
    )
    about = bench.about(SCHEMA_VERSION) | {
        "sets": {
            "rated": {s.name: _describe_rated(s) for s in rated},
            "people": None if people is None else _describe(people) | {"people": len(set(people.persons))},
            "photographs": _describe(photographs),
        },
        "compared": {name: int(v.ok.sum()) for name, v in vectors.items()},
        "settings": {"face": bench.face, "provider": bench.provider, "limit": limit, "seed": seed},
    }
    failures = [{k: path_text(v) for k, v in f.items()} for found in vectors.values() for f in found.failures()]
    return AgreementResult(about, reports, raters, tuple(failures))


def _describe_rated(rated: RatedSet) -> dict[str, Any]:
    faces = rated.faces
    return _describe(faces) | {
        "people": len(set(faces.persons)),
        "scales": list(faces.scales),
        "margin": rated.margin,
        "use": rated.use,
        "raters": rated.halves.how if rated.halves else None,
    }


def _dimension(method: Method, vectors: dict[str, Vectors]) -> int:
    """Of a vector of it, or what the method says where there is none."""
    for found in vectors.values():
        rows = np.flatnonzero(found.ok)[:1]
        if len(rows):
            return int(found.matrix(method.name, rows).shape[1])
    return method.dimension


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
    photographs: Faces, methods: Sequence[Method], bench: Bench, pool: Executor, seed: int
) -> tuple[dict[str, Response], dict[str, DetectorShift]]:
    if not len(photographs):
        return {}, {}
    responses = measure_curves(photographs, photograph_reader(bench.finder, methods), pool, bench.progress)
    if bench.finder.detector.aligned:  # there is no face to find in a crop
        return responses, {}
    return responses, measure_detectors(photographs, methods, pool, bench, seed=seed)


def _leak(method: Method, people: Vectors | None, seed: int) -> Leak | None:
    """Over people, within faces of one label."""
    if people is None:
        return None
    rows = np.flatnonzero(people.ok)
    faces = people.faces.take(rows)
    vectors = people.matrix(method.name, rows)
    return identity_leak(vectors, faces.persons, faces.labels, distance=method.distance, seed=seed)
