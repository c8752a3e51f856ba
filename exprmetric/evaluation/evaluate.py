"""`evaluate`: everything from an input to an `EvaluationResult`."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from exprmetric.choices import ALL, BY, CHANGED, DEFAULT_METHODS, MORE_SCORES, ON_FAIL
from exprmetric.errors import InputError
from exprmetric.evaluation.choosing import NO_SOURCE, photo_of
from exprmetric.evaluation.conclude import Measured, conclude
from exprmetric.evaluation.distances import triplet_distances
from exprmetric.evaluation.engines import ENGINES, check_engine
from exprmetric.evaluation.given import as_image, given_triplets
from exprmetric.evaluation.large.cache import Kept
from exprmetric.evaluation.large.journal import Journal, Memory
from exprmetric.evaluation.large.shards import Shard, drop_shard, save_shard
from exprmetric.evaluation.origin import Origin, of_call
from exprmetric.evaluation.plan import make_plan
from exprmetric.evaluation.privacy import recogniser
from exprmetric.evaluation.reading import Outcome
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.evaluation.rows import DISTANCE_COLUMNS
from exprmetric.evaluation.session import Job, Session, Settings
from exprmetric.evaluation.summary import check_models
from exprmetric.evaluation.trio import Pixels
from exprmetric.faces.point_models import DEFAULT
from exprmetric.inputs.face_names import NamedFace
from exprmetric.inputs.triplets import Triplet, notes_of, read_triplets, refuse_videos
from exprmetric.io.arguments import how_many, names, text, whole
from exprmetric.io.environment import environment, versions
from exprmetric.io.images import read_image
from exprmetric.io.pool import open_pool
from exprmetric.io.progress import Profile, Progress, no_progress
from exprmetric.io.tables import listed

if TYPE_CHECKING:
    from exprmetric.io.images import ImageSource


Saved = Callable[[EvaluationResult, Path], object]


def evaluate(
    source: str | os.PathLike[str] | Iterable[Any],
    methods: Sequence[str] = DEFAULT_METHODS,
    *,
    detector: str = "auto",
    face: str = CHANGED,
    provider: str = "cpu",
    landmarks: str = DEFAULT,
    commercial_only: bool = False,
    identity: bool = True,
    privacy: bool | None = None,
    on_fail: str = "exclude",
    jobs: int | None = None,
    block: int | None = None,
    seed: int = 0,
    by: Sequence[str] = (),
    scores: Sequence[str] = (),
    out: str | os.PathLike[str] | None = None,
    saved: Saved = lambda result, folder: None,
    cache: str | os.PathLike[str] | None = None,
    cache_identity: bool = False,
    engine: str = "local",
    shard: str | None = None,
    progress: Progress = no_progress,
    origin: Origin | None = None,
) -> EvaluationResult:
    """Measure how well the swapped faces keep the targets' expressions.

    Args:
        source: a folder or manifest (see `exprmetric.inputs.triplets`), or rows: triplets, tuples (target, source,
            swapped) or (target, swapped), mappings or a data frame with the columns of a manifest, of paths, arrays
            (H, W, 3) or Pillow images. How rows were found where names differ is said in `summary["notes"]`, and as
            warnings where they are read here.
        methods: names for `load_method`, such as `default`, `lm68`, `default:cosine`.
        detector: a name for `load_detector`.
        face: which of several faces in a target: `changed` (that which the swapped image shows changed most, else the
            largest), `largest`, `center`, `error`, the path of a photograph of the person, or `all`: a row for each
            face. A manifest may name faces row by row. The swapped face is the one that stands where the target's does.
        provider: ONNX Runtime provider: the one asked for runs, or an error says why not.
        landmarks: what says where the eyes are: a name for `load_points` (`dlib68`, `mesh`, `none`).
        commercial_only: refuse weights that exclude commercial use.
        identity: measure the identity control too.
        privacy: look each changed face up among the targets (see `exprmetric.evaluation.privacy`); None: where a row
            has no source. Identity vectors are on disk while the run lasts, in `out`'s `partial/` or the temporary
            folder.
        on_fail: `exclude` (scores over the rows that are ok) or `worst` (failed rows count as the worst).
        jobs: threads that read and represent images. The numbers don't depend on it.
        block: new images that a block of rows needs. The numbers don't depend on it.
        seed: of the bootstrap.
        scores: `efid` (the Fréchet distance between expressions of targets and of swapped faces) and `id_retrieval`
            (whether the swapped face's identity is found among all sources), which keep vectors on disk while the run
            lasts, as `privacy` does.
        by: split the scores by these: `expression` (the likeliest by the encoder's own classes), `yaw`, `size`,
            `faces` of the target, or columns of the manifest.
        out: a folder to save the result in. Rows are kept there as they come, in `partial/`: the same call after a kill
            goes on from there and ends with the same files.
        saved: called with the result and the folder once the result is saved, while the folder is still this run's.
        cache: a folder in which faces and vectors are kept for later runs (see `exprmetric.evaluation.large.cache`).
        cache_identity: keep vectors that tell people apart there too; without it, each run makes them anew.
        shard: `2/8` measures the second of eight pieces of the input; `exprmetric.evaluation.large.shards.merge` joins
            them.
        engine: a key of `exprmetric.evaluation.engines.ENGINES`: `local`, or `ray`.
        progress: told how far it is.
        origin: where the rows come from, for who measures them again; None: this call.

    Returns:
        Scores, rows and all that defends them. Rows that can't be measured are in it with their status and reason.

    Raises:
        InputError: the input as a whole is wrong, or the folder can't be written or is another run's.
        UnknownMethodError, WeightsError, ProviderError: from loading methods and detector.
    """
    origin = origin or of_call(evaluate, dict(locals()))
    methods, by, scores = names(methods, "methods"), names(by, "by"), names(scores, "scores")
    face, seed = text(face, "face"), whole(seed, "seed", 0)
    jobs, block = how_many(jobs, "jobs"), how_many(block, "block")
    out = None if out is None else text(out, "out")
    if on_fail not in ON_FAIL:
        raise InputError(f"unknown on_fail {on_fail!r}; known: {', '.join(ON_FAIL)}")
    if unknown := [name for name in scores if name not in MORE_SCORES]:
        raise InputError(f"unknown score {unknown[0]!r}; known: {', '.join(MORE_SCORES)}")
    check_engine(engine)
    piece = None if shard is None else Shard.parse(shard)
    if piece and not out:
        raise InputError("a shard is measured to be merged: name a folder for it (out)")
    given, notes = _read(source, out, by)
    if face == ALL and any(t.person and not t.target_face for t in given):
        raise InputError("with every face measured, `person` can't say whose they are: name the faces by `target_face`")
    triplets = [given[i] for i in piece.rows(len(given))] if piece else given
    if not origin.name:
        origin = replace(origin, faces_named=any(t.target_face or t.source_face or t.swapped_face for t in given))
    if privacy is None:
        privacy = identity and any(t.source is None and not t.problem for t in given)
    settings = Settings(
        methods,
        detector,
        face,
        provider,
        identity=identity or privacy,
        landmarks=landmarks,
        commercial_only=commercial_only,
        privacy=recogniser() if privacy else "",
        by=by,
        efid="efid" in scores,
        retrieval=recogniser() if "id_retrieval" in scores else "",
    )
    profile = Profile()
    session = Session(settings, profile)
    with ExitStack() as opened:
        pool = opened.enter_context(open_pool(jobs))
        journal = _journal(out, settings, len(triplets), opened)
        with profile.stage("hash files"):
            plan = make_plan(triplets, pool, photo=photo_of(face))
        about = session.description() | {"settings": settings.as_dict()}
        journal.begin(about | {"input": plan.digest() if out else "", "versions": versions(environment())})
        todo = journal.missing
        done = kept = len(triplets) - len(todo)
        kept_vectors = Kept(Path(cache), cache_identity) if cache else None
        job = Job(plan, todo, session, pool, kept_vectors, jobs, block, journal.notes if out else None)
        for rows in ENGINES[engine](job):
            journal.add(rows)
            done += len(np.unique(rows["index"].to_numpy()))  # a triplet of several faces has several rows
            progress("triplets", done, len(triplets))
        measured = Measured(
            journal.rows(),
            about,
            origin.as_json(),
            profile.throughput(len(todo)) | {"rows_kept_from_before": kept},
            notes,
            journal.private() if settings.privacy else None,
            journal.private(settings.clouds) if settings.clouds else None,
        )
        result = conclude(measured, settings, on_fail=on_fail, seed=seed)
        if out:
            with journal.writing():
                result.write(Path(out))
                if piece:
                    save_shard(Path(out), piece, given, measured)
                else:
                    drop_shard(Path(out))
                saved(result, Path(out))
            journal.finish()
    return result


def _read(
    source: str | os.PathLike[str] | Iterable[Any], out: str | os.PathLike[str] | None, by: Sequence[str]
) -> tuple[Sequence[Triplet], list[str]]:
    """The rows, and what the user should know of how they were found: told here where they are read here."""
    notes = notes_of(source)
    given = [name for name in dict.fromkeys(by) if name not in BY]
    if isinstance(source, str | os.PathLike):
        whole = read_triplets(source, given=given)
    else:
        whole = given_triplets(source, out, given)
        if absent := [name for name in given if any(name not in dict(t.given) for t in whole)]:
            raise InputError(f"the triplets say nothing of {listed(absent)}: read them with these columns (`given`)")
    new = notes_of(whole)
    for note in new:
        warnings.warn(note, UserWarning, stacklevel=3)
    refuse_videos(whole)
    check_models(t.model for t in whole)  # now, not after hours of work
    return whole, [*notes, *new]


def _journal(out: str | os.PathLike[str] | None, settings: Settings, count: int, opened: ExitStack) -> Journal | Memory:
    """Where rows are kept as they come: on disk, if only for this run, where vectors are kept with them."""
    if not out and (settings.privacy or settings.clouds):
        out = opened.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
    names = settings.names()
    return opened.enter_context(Journal(Path(out), names, count)) if out else Memory(names, count)


def evaluate_triplet(
    target: ImageSource,
    source: ImageSource | None,
    swapped: ImageSource,
    methods: Sequence[str] = DEFAULT_METHODS,
    *,
    detector: str = "auto",
    face: str = CHANGED,
    provider: str = "cpu",
    landmarks: str = DEFAULT,
    commercial_only: bool = False,
) -> dict[str, dict[str, float]]:
    """Distances of one triplet.

    Args:
        target: a path, an RGB uint8 (H, W, 3) array or a Pillow image.
        source: the same; None where there is none, as of an anonymized face.
        swapped: the same.
        methods: as in `evaluate`.
        detector: as in `evaluate`.
        face: as in `evaluate`.
        provider: as in `evaluate`.
        landmarks: as in `evaluate`.
        commercial_only: as in `evaluate`.

    Returns:
        By method: `t2c`, `s2c`, `s2t`; `t2c` alone without a source.

    Raises:
        UnreadableImageError, NoFaceError, SeveralFacesError: one image can't be measured; the message says which.
        LowQualityError: a method has no finite vector of a face, or no finite distance.
    """
    face = text(face, "face")
    settings = Settings(names(methods, "methods"), detector, face, provider, False, landmarks, commercial_only)
    session = Session(settings)
    for role, image in (("target", target), ("swapped", swapped)):
        if image is None:
            raise InputError(f"{role}: no image is given")

    def seen(image: ImageSource) -> tuple[Outcome, Pixels]:
        return session.reader.represent([session.reader.read(image)])[0], lambda: read_image(image)

    three = tuple(None if image is None else as_image(image) for image in (target, source, swapped))
    images, pixels = zip(*(NO_SOURCE if image is None else seen(image) for image in three), strict=True)
    photo = photo_of(face)
    named = (None if photo is None else NamedFace(photo=photo), None, None)
    photos = (None if photo is None else seen(photo), None, None)
    chosen = session.chooser.choose(images, pixels, named, photos)
    for role, error in chosen.errors:
        raise type(error)(f"{role}: {error}") from error
    distances, (problem,) = triplet_distances(session.methods, [chosen.trio or []])
    if problem:
        raise problem
    columns = DISTANCE_COLUMNS[: 1 if source is None else None]
    return {name: dict(zip(columns, rows[0].tolist(), strict=False)) for name, rows in distances.items()}
