"""`evaluate_videos`: how well swapped videos keep their targets' expressions, per frame, per clip and over time."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from exprmetric.choices import DEFAULT_METHODS, IDENTITY, PEOPLE, QUALITIES
from exprmetric.errors import ExprmetricError, ImageError, InputError, NoFaceError
from exprmetric.evaluation.given import given_triplets
from exprmetric.evaluation.session import check_landmarks
from exprmetric.faces.point_models import DEFAULT
from exprmetric.inputs.triplets import Triplet, Triplets, notes_of
from exprmetric.inputs.videos import folders_too, read_video_triplets
from exprmetric.io import arguments
from exprmetric.io.environment import environment, stamp
from exprmetric.io.progress import Progress, no_progress
from exprmetric.io.video import FOLDER_RATE
from exprmetric.methods import Method, load_method
from exprmetric.video.faces.spool import readable, take
from exprmetric.video.faces.table import VideoFaces
from exprmetric.video.faces.tracks import DETECT_EVERY, track_faces
from exprmetric.video.scores import temporal
from exprmetric.video.scores.clip import Clip, Vector, measure_clip
from exprmetric.video.scores.events import intensity
from exprmetric.video.scores.pairing import OK, align, changed, main_person, people
from exprmetric.video.scores.partners import NONE, Partners, Rows, by_names, partners
from exprmetric.video.scores.result import SCHEMA_VERSION, VideoResult
from exprmetric.video.scores.summary import clip_record, clip_table, frame_table, summarise
from exprmetric.video.scores.trajectory import Along
from exprmetric.weights import store as weights
from exprmetric.weights.runtime import session_threads

_PHOTOGRAPHS = (
    "whether the people can be found again among others is judged on photographs: measure the frames with "
    "`exprmetric evaluate`"
)
_KEPT = 8
"""Videos whose faces are kept, in case that the next clips need them again."""


@dataclass(frozen=True)
class VideoSettings:
    """All that decides the numbers, but for the videos; see `evaluate_videos`."""

    detector: str = "auto"
    detect_every: int = DETECT_EVERY
    every: int = 1
    rate: float = FOLDER_RATE
    provider: str = "cpu"
    quality: str = "any"
    people: str = "changed"
    cutoff: float = temporal.CUTOFF
    identity: bool = True
    seed: int = 0
    landmarks: str = DEFAULT
    commercial_only: bool = False


def evaluate_video(
    target: str | os.PathLike[str],
    source: str | os.PathLike[str] | None,
    swapped: str | os.PathLike[str],
    methods: Sequence[str] = DEFAULT_METHODS,
    settings: VideoSettings = VideoSettings(),
    *,
    jobs: int | None = None,
    progress: Progress = no_progress,
) -> VideoResult:
    """One clip; see `evaluate_videos`.

    Args:
        target: a video.
        source: a picture or a video; None where there is none, as of an anonymized video.
        swapped: a video.
        methods: as in `evaluate_videos`.
        settings: as in `evaluate_videos`.
        jobs: as in `evaluate_videos`.
        progress: as in `evaluate_videos`.

    Raises:
        VideoError, NoFaceError: one of the three can't be read, or shows no face; the message says which.
    """
    a, c = Path(arguments.text(target, "target")), Path(arguments.text(swapped, "swapped"))
    triplet = Triplet(c.stem, a, None if source is None else Path(arguments.text(source, "source")), c)
    return _evaluate([triplet], methods, settings, jobs=jobs, progress=progress, raising=True)


def evaluate_videos(
    source: str | os.PathLike[str] | Iterable[Any],
    methods: Sequence[str] = DEFAULT_METHODS,
    settings: VideoSettings = VideoSettings(),
    *,
    jobs: int | None = None,
    progress: Progress = no_progress,
) -> VideoResult:
    """Measure how well swapped videos keep the expressions of their targets.

    Args:
        source: a folder or manifest (see `exprmetric.inputs.videos`), or triplets of videos; also tuples, mappings or a
            data frame as in `exprmetric.evaluate`. A source may be an image, and an anonymized video has none.
        methods: names for `load_method`. The first one's trajectories say by how much a swap is late.
        settings: `detector`; `detect_every` and `every` (see `track_faces`); `rate` of folders of images; `provider`;
            `quality`: `any`, or `paper004` to measure faces that FaceQA finds fit; `people`: `changed` (of
            several in the target the one whom the swap changed most, else `one`), `one` (who fills most of it), or
            `all`, each with scores of their own, against the one source; `cutoff` of flicker, Hz;
            `identity`: measure the identity control; `seed` of the bootstrap; `landmarks` (`dlib68` or `mesh`) and
            `commercial_only` as in `exprmetric.evaluate`, which then needs `people` `one` or `all` and no `identity`.
        jobs: threads. The numbers don't depend on it.
        progress: told ("frames", done, total) of each video, and ("clips", done, total).

    Returns:
        Scores of paper 000 over all measured frames, with intervals over clips; scores over time as means over clips;
        every frame and every clip as a row, whether it could be measured or not.

    Raises:
        InputError: the input as a whole, or a setting, is wrong. UnknownMethodError, WeightsError, ProviderError.
    """
    triplets = read_video_triplets(source) if isinstance(source, str | os.PathLike) else _given(source)
    return _evaluate(triplets, methods, settings, jobs=jobs, progress=progress, raising=False)


def _given(source: Iterable[Any]) -> Triplets:
    """Rows in Python: `Triplet`s as they are, and all others by the rules of a manifest of videos."""
    rows = source if hasattr(source, "columns") or not isinstance(source, Iterable) else list(source)
    made = given_triplets(rows, None)
    own = set() if hasattr(rows, "columns") else {id(row) for row in rows}
    return Triplets((t if id(t) in own else folders_too(t) for t in made), [*notes_of(source), *made.notes])


def _evaluate(
    triplets: Sequence[Triplet],
    methods: Sequence[str],
    settings: VideoSettings,
    *,
    jobs: int | None,
    progress: Progress,
    raising: bool,
) -> VideoResult:
    if settings.quality not in QUALITIES:
        raise InputError(f"unknown quality {settings.quality!r}; known: {', '.join(QUALITIES)}")
    if settings.people not in PEOPLE:
        raise InputError(f"unknown people {settings.people!r}; known: {', '.join(PEOPLE)}")
    names = list(dict.fromkeys(arguments.names(methods, "methods")))
    jobs = arguments.how_many(jobs, "jobs")
    if not names:
        raise InputError("no method was asked for")
    if settings.commercial_only and settings.identity:
        raise InputError("the identity control allows no commercial use: leave it out (--no-identity, identity=False)")
    if settings.commercial_only and settings.people == "changed":
        raise InputError(
            "whom a swap changed is told by the identity network, which allows no commercial use: ask for people `one` "
            "or `all`"
        )
    with session_threads(1), weights.commercial_only(settings.commercial_only):
        loaded = {n: load_method(n, provider=settings.provider) for n in names}
        control = None
        if not settings.commercial_only:
            control = loaded.get(IDENTITY) or load_method(IDENTITY, provider=settings.provider)
    check_landmarks(list(loaded.values()), settings.landmarks)
    beside = [control] if control and IDENTITY not in loaded else []
    reader = _Reader([*loaded.values(), *beside], settings, jobs, progress)
    measured: list[tuple[Triplet, Clip | ImageError]] = []
    for done, triplet in enumerate(triplets, 1):
        measured += [(triplet, c) for c in _measure(triplet, reader, list(loaded.values()), control, raising)]
        progress("clips", done, len(triplets))
    records = [clip_record(t, c, names) for t, c in measured]
    summary: dict[str, Any] = {
        **stamp(SCHEMA_VERSION),
        **summarise(
            measured,
            {n: m.distance for n, m in loaded.items()},
            IDENTITY if settings.identity else None,
            seed=settings.seed,
        ),
        "notes": [*notes_of(triplets), *([_PHOTOGRAPHS] if _anonymized(triplets) else [])],
        "clips": records,
        "settings": vars(settings),
        "fingerprints": reader.fingerprints,
        "environment": environment(),
    }
    for method in loaded.values():
        summary["methods"][method.name] |= {"distance": method.distance_name, "fingerprint": method.fingerprint}
    return VideoResult(summary, clip_table(records, names), frame_table(measured, [*names, *_control(settings, names)]))


def _anonymized(triplets: Sequence[Triplet]) -> bool:
    return any(t.source is None and not t.problem for t in triplets)


def _control(settings: VideoSettings, names: Sequence[str]) -> list[str]:
    return [IDENTITY] if settings.identity and IDENTITY not in names else []


class _Reader:
    """Faces of videos; the last few are kept."""

    def __init__(
        self, methods: Sequence[Method], settings: VideoSettings, jobs: int | None, progress: Progress
    ) -> None:
        self._methods, self.settings, self._jobs, self._progress = methods, settings, jobs, progress
        self._kept: OrderedDict[tuple[Path, frozenset[int] | None], VideoFaces] = OrderedDict()
        self.fingerprints: dict[str, str] = {}

    def faces(self, path: Path, only: frozenset[int] | None = None) -> VideoFaces:
        """Those of each `every`-th frame, or of the frames with the indices `only`."""
        key = path, only
        if key not in self._kept:
            s = self.settings
            self._kept[key] = track_faces(
                path,
                self._methods,
                detector=s.detector,
                detect_every=s.detect_every,
                every=s.every,
                only=only,
                rate=s.rate,
                provider=s.provider,
                jobs=self._jobs,
                sparse={},
                progress=self._progress,
                landmarks=s.landmarks,
                commercial_only=s.commercial_only,
            )
            self.fingerprints |= self._kept[key].fingerprints
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def source(self, path: Path) -> dict[str, Vector]:
        """A source's vectors: of a video, those of the frame of its main person that is nearest to the usual one."""
        faces = self.faces(path)
        rows = main_person(faces)
        rows = rows[rows != NONE]
        known = np.logical_and.reduce([readable(faces.vectors[m.name], rows) for m in self._methods])
        rows = rows[known]
        if not len(rows):
            raise NoFaceError(f"no face that can be measured in {str(path)!r}")
        typical = rows[int(np.argmin(intensity(Along.of(faces.vectors[self._methods[0].name], rows))))]
        return {m.name: take(faces.vectors[m.name], typical[None])[0] for m in self._methods}


def _measure(
    triplet: Triplet, reader: _Reader, methods: Sequence[Method], control: Method | None, raising: bool
) -> Sequence[Clip | ImageError]:
    """Each of the people, the main one first; or why there is none."""
    role = "clip"
    try:
        if triplet.problem or triplet.target is None or triplet.swapped is None:
            raise InputError(triplet.problem or "a video is missing")
        named = by_names(triplet.target, triplet.swapped)
        role = "source"
        source = None if triplet.source is None else reader.source(triplet.source)
        role = "target"
        target = reader.faces(triplet.target)
        role = "swapped"
        s = reader.settings
        some = named is not None and s.every > 1 and triplet.swapped != triplet.target
        swapped = reader.faces(triplet.swapped, named.partners_of_every(s.every) if named and some else None)
        frames = partners(target, swapped, named, lambda pairs: _agreement(target, swapped, pairs, methods[0].name))
        clips = [
            measure_clip(
                target,
                swapped,
                source,
                methods,
                control if s.identity else None,
                frames,
                person=person,
                rows=rows,
                required=s.quality,
                cutoff=s.cutoff,
            )
            for person, rows in _measured_people(target, swapped, s.people, frames)
        ]
        damaged = {name: f.problem for name, f in (("target", target), ("swapped", swapped)) if f.problem}
        return [replace(c, scores=c.scores | {"damaged": damaged}) for c in clips] if damaged else clips
    except (ImageError, InputError) as error:
        if raising:
            raise _named(error, role) from error
        return [error if isinstance(error, ImageError) else _unreadable(error)]


def _agreement(target: VideoFaces, swapped: VideoFaces, pairs: Partners, method: str) -> float:
    """Correlation of the main person's movement under a pairing of frames; NaN where there is none."""
    rows = align(target, swapped, frames=pairs).measured
    course = (Along.of(f.vectors[method], r) for f, r in zip((target, swapped), rows, strict=True))
    return temporal.correlation(*course)


def _measured_people(
    target: VideoFaces, swapped: VideoFaces, which: str, frames: Partners
) -> list[tuple[int, Rows | None]]:
    """Numbers of the people who are measured, and their rows; the main person, 1, has none: all frames are theirs."""
    everybody = [] if which == "one" else people(target)
    numbered: list[tuple[int, Rows | None]] = [(1, None), *enumerate(everybody[1:], 2)]
    return numbered if which == "all" else [numbered[changed(target, swapped, everybody, frames)]]


def _named(error: ExprmetricError, role: str) -> ExprmetricError:
    return type(error)(f"{role}: {error}")


def _unreadable(error: ExprmetricError) -> ImageError:
    from exprmetric.errors import UnreadableImageError

    return UnreadableImageError(str(error))


__all__ = ["DEFAULT_METHODS", "OK", "VideoSettings", "evaluate_video", "evaluate_videos"]
