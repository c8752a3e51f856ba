"""Several videos read for their people and expressions: which, by what settings, and which of them could not be."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from exprmetric.choices import IDENTITY
from exprmetric.errors import ImageError, InputError
from exprmetric.faces import open_finder
from exprmetric.io.images import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from exprmetric.io.progress import Progress, no_progress
from exprmetric.io.tables import show
from exprmetric.io.video import FOLDER_RATE, find_videos, info
from exprmetric.methods import Method, load_method
from exprmetric.video.faces.table import VideoFaces
from exprmetric.video.faces.tracks import DETECT_EVERY, SPARSE, track_faces
from exprmetric.video.people.courses import Course, Left, courses
from exprmetric.video.people.kept import kept
from exprmetric.video.people.people import People, find_people, read_named_faces
from exprmetric.video.people.sheet import Image, face_pictures
from exprmetric.weights.runtime import session_threads


@dataclass(frozen=True)
class Reading:
    """How videos are read: see `track_faces`, `courses` and `find_people`.

    Attributes:
        method: the expressions' space.
        identity: the method that tells people apart.
        quality: `paper004` or `any`.
        names: a folder of photographs that name people, or None.
        least: faces that a person has at least.
    """

    method: str = "default"
    identity: str = IDENTITY
    quality: str = "paper004"
    names: Path | None = None
    detector: str = "auto"
    detect_every: int = DETECT_EVERY
    every: int = 1
    rate: float = FOLDER_RATE
    provider: str = "cpu"
    least: int = 3


@dataclass(frozen=True, eq=False)
class Library:
    """Videos that were read.

    Attributes:
        videos: those that could be read.
        paths: their files.
        failed: path and reason of those that could not.
        people: who is in them; see `courses`.
        courses: their pooled expressions.
        left: what was left out, and why.
        method: loaded.
    """

    reading: Reading
    method: Method
    videos: tuple[VideoFaces, ...]
    paths: tuple[Path, ...]
    people: People
    courses: tuple[Course, ...]
    left: tuple[Left, ...]
    failed: dict[str, str] = field(default_factory=dict)

    def persons(self, names: Sequence[str]) -> list[int]:
        """The people of these names; all where none is named.

        Raises:
            InputError: nobody has a name.
        """
        return [self.people.index(n) for n in names] if names else list(range(len(self.people.names)))

    def pictures(self, wanted: Iterable[tuple[int, int]]) -> dict[tuple[int, int], Image]:
        """Crops of faces by video and row; see `face_pictures`."""
        return face_pictures(self.videos, self.paths, wanted, rate=self.reading.rate)


def find_inputs(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Videos as they are named, and those in folders; a folder of images is one video.

    Raises:
        InputError: a path doesn't exist, a folder has neither, or there is none.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"no such file or folder: {show(path)}")
        inside = _videos(path) if path.is_dir() else []
        if path.is_dir() and not inside and not any(p.suffix.lower() in IMAGE_SUFFIXES for p in path.iterdir()):
            raise InputError(f"{show(path)} holds neither videos nor images")
        found += inside or [path]
    if not found:
        raise InputError("no video was named")
    return list(dict.fromkeys(found))


def _videos(folder: Path) -> list[Path]:
    """Videos of a folder; none where its only ones could be the frames of one, as still WebPs."""
    found = find_videos(folder)
    if any(p.suffix.lower() in VIDEO_SUFFIXES for p in found):
        return found
    try:
        return found if not found or info(found[0]).frames != 1 else []
    except ImageError:  # reading it will say why
        return found


def read_library(
    paths: Sequence[Path],
    reading: Reading = Reading(),
    *,
    keep: Path | None = None,
    jobs: int | None = None,
    progress: Progress = no_progress,
) -> Library:
    """Read videos, find their people, and put each one's expressions in order.

    Args:
        paths: as of `find_inputs`. A video that can't be read is named in `failed`, and the others are read.
        keep: a folder where the faces of videos are kept, and are found the next time; see `kept`.
        jobs: threads.
        progress: told ("frames", done, total) of each video that is read.

    Raises:
        InputError, UnknownMethodError, WeightsError, ProviderError: a setting is wrong.
    """
    with session_threads(1):
        method = load_method(reading.method, provider=reading.provider)
        identity = load_method(reading.identity, provider=reading.provider)
    # before the videos, which take long
    named = read_named_faces(reading.names, **_how(reading)) if reading.names is not None else []
    methods = list({m.name: m for m in (method, identity)}.values())
    sparse = {} if method.name == identity.name else {identity.name: SPARSE[IDENTITY]}
    good, videos, failed = read_videos(paths, reading, methods, keep=keep, jobs=jobs, sparse=sparse, progress=progress)
    people = find_people(videos, named, method=identity.name, least=reading.least)
    found, left = courses(videos, people, method.name, required=reading.quality)
    return Library(reading, method, tuple(videos), tuple(good), people, tuple(found), tuple(left), failed)


def read_videos(
    paths: Sequence[Path],
    reading: Reading,
    methods: Sequence[Method] = (),
    *,
    keep: Path | None = None,
    jobs: int | None = None,
    sparse: Mapping[str, int] = SPARSE,
    progress: Progress = no_progress,
) -> tuple[list[Path], list[VideoFaces], dict[str, str]]:
    """The videos that could be read, their faces, and by path why the others could not."""
    good: list[Path] = []
    videos: list[VideoFaces] = []
    failed: dict[str, str] = {}
    how = {n: getattr(reading, n) for n in ("detector", "detect_every", "every", "rate", "provider")}
    settings = {**how, "sparse": dict(sparse), "methods": {m.name: m.fingerprint for m in methods}}
    if keep is not None:
        with session_threads(1):
            settings["faces"] = open_finder(reading.detector, provider=reading.provider).fingerprint
    for path in paths:
        try:
            read = partial(track_faces, path, methods, jobs=jobs, sparse=sparse, progress=progress, **how)
            faces = kept(keep, path, settings, read)
        except ImageError as error:
            failed[str(path)] = str(error)
        else:
            good.append(path)
            videos.append(faces)
    return good, videos, failed


def _how(reading: Reading) -> dict[str, str]:
    return {"method": reading.identity, "detector": reading.detector, "provider": reading.provider}
