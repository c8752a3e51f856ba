"""`evaluate`: everything from an input to an `EvaluationResult`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import exprmetric
from exprmetric.errors import ImageError, InputError
from exprmetric.evaluation.environment import environment
from exprmetric.evaluation.pipeline import BLOCK, OK, FaceReader, Row, measure, represent, triplet_distances
from exprmetric.evaluation.plan import Key, Plan, make_plan
from exprmetric.evaluation.profile import Profile
from exprmetric.evaluation.result import DISTANCE_COLUMNS, SCHEMA_VERSION, EvaluationResult, record
from exprmetric.evaluation.summary import ON_FAIL, check_models, summarise
from exprmetric.faces import Face, FaceFinder, load_detector
from exprmetric.methods import Method, load_method
from exprmetric.triplets import ROLES, Triplet, read_triplets

if TYPE_CHECKING:
    from exprmetric.images import ImageSource

DEFAULT_METHODS = ("default", "lm68", "lm51")
IDENTITY = "identity"

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, how much of it is done, and how much there is."""


def no_progress(stage: str, done: int, total: int) -> None:
    pass


def default_jobs() -> int:
    """Threads that read images: one a core, as far as this process may use them."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def load_methods(names: Sequence[str], *, identity: bool, provider: str) -> list[Method]:
    """The methods asked for, without doubles, and the identity control behind them."""
    wanted = list(dict.fromkeys([*names, IDENTITY] if identity else names))
    if not [n for n in wanted if n != IDENTITY]:
        raise InputError("no method was asked for")
    return [load_method(name, provider=provider) for name in wanted]


def evaluate(
    source: str | os.PathLike[str] | Iterable[Triplet],
    methods: Sequence[str] = DEFAULT_METHODS,
    *,
    detector: str = "auto",
    face: str = "largest",
    provider: str = "cpu",
    identity: bool = True,
    on_fail: str = "exclude",
    jobs: int | None = None,
    block: int = BLOCK,
    seed: int = 0,
    progress: Progress = no_progress,
) -> EvaluationResult:
    """Measure how well the swapped faces keep the targets' expressions.

    Args:
        source: a folder or manifest (see `exprmetric.triplets`), or triplets.
        methods: names for `load_method`, such as `default`, `lm68`, `default:cosine`.
        detector: a name for `load_detector`.
        face: which of several faces: `largest`, `center`, `error`; in a swapped image, the one where the target stood.
        provider: ONNX Runtime provider: the one asked for runs, or an error says why not.
        identity: measure the identity control too.
        on_fail: `exclude` (scores over the rows that are ok) or `worst` (failed rows count as the worst).
        jobs: threads that read images; block: triplets worked on at a time. The numbers don't depend on either.
        seed: of the bootstrap.
        progress: told how far it is.

    Returns:
        Scores, rows and all that defends them. Rows that can't be measured are in it with their status and reason.

    Raises:
        InputError: the input as a whole is wrong.
        UnknownMethodError, WeightsError, ProviderError: from loading methods and detector.
    """
    if on_fail not in ON_FAIL:
        raise InputError(f"unknown on_fail {on_fail!r}; known: {', '.join(ON_FAIL)}")
    triplets = read_triplets(source) if isinstance(source, str | os.PathLike) else list(source)
    check_models(triplets)  # now, not after hours of work
    profile = Profile()
    with profile.stage("load models"):
        loaded = load_methods(methods, identity=identity, provider=provider)
        finder = FaceFinder(load_detector(detector, provider=provider), face)
    reader = FaceReader(finder, loaded, profile)
    rows: list[Row] = []
    with ThreadPoolExecutor(jobs or default_jobs(), "faces") as pool:
        with profile.stage("hash files"):
            plan = make_plan(triplets, pool)
        for row in measure(plan, _by_content(plan), reader, loaded, pool, block=block):
            rows.append(row)
            progress("triplets", len(rows), len(triplets))
    names = [m.name for m in loaded]
    measured = [n for n in names if n != IDENTITY or n in methods]
    elapsed = profile.elapsed()
    summary: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "exprmetric_version": exprmetric.__version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **summarise(rows, measured, IDENTITY if identity else None, on_fail=on_fail, seed=seed),
        "detector": {"asked": detector, "ran": finder.detector.name, "fingerprint": finder.fingerprint},
        "settings": {"face": face, "provider": provider, "on_fail": on_fail, "seed": seed},
        "throughput": {
            "seconds": round(elapsed, 3),
            "triplets_per_second": round(len(rows) / elapsed, 3),
            "thread_seconds_by_stage": profile.seconds(),
        },
        "environment": environment(),
    }
    for method in loaded:
        for part in (summary["methods"], *(g["methods"] for g in summary["groups"].values())):
            if method.name in part:
                part[method.name] |= {"distance": method.distance_name, "fingerprint": method.fingerprint}
        if method.name == IDENTITY and identity:
            summary["identity"]["fingerprint"] = method.fingerprint
    return EvaluationResult(summary, [record(r, names) for r in rows])


def _by_content(plan: Plan) -> Callable[[Key], ImageSource]:
    """One path for each distinct content."""
    paths: dict[str, Path] = {}
    for path, digest in plan.hashes.items():
        paths.setdefault(digest, path)
    return lambda key: paths[key[0]]


def evaluate_triplet(
    target: ImageSource,
    source: ImageSource,
    swapped: ImageSource,
    methods: Sequence[str] = DEFAULT_METHODS,
    *,
    detector: str = "auto",
    face: str = "largest",
    provider: str = "cpu",
) -> dict[str, dict[str, float]]:
    """Distances of one triplet.

    Args:
        target, source, swapped: paths, or RGB uint8 (H, W, 3) arrays.
        methods, detector, face, provider: as in `evaluate`.

    Returns:
        By method: `t2c`, `s2c`, `s2t`.

    Raises:
        UnreadableImageError, NoFaceError, SeveralFacesError: one image can't be measured; the message says which.
    """
    profile = Profile()
    loaded = load_methods(methods, identity=False, provider=provider)
    reader = FaceReader(FaceFinder(load_detector(detector, provider=provider), face), loaded, profile)
    faces: list[Face] = []
    for role, image in zip(ROLES, (target, source, swapped), strict=True):
        found = reader.read(image, near=faces[0].place if role == "swapped" else None)
        if isinstance(found, ImageError):
            raise type(found)(f"{role}: {found}") from found
        faces.append(found)
    triplet = represent(faces, loaded, profile)
    return {
        m.name: {name: float(d[0]) for name, d in zip(DISTANCE_COLUMNS, triplet_distances(m, [triplet]), strict=True)}
        for m in loaded
    }


__all__ = ["DEFAULT_METHODS", "OK", "evaluate", "evaluate_triplet"]
