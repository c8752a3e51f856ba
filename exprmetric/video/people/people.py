"""Who is who: the tracks of one or several videos clustered by identity, and named after photographs (paper 004)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.choices import IDENTITY
from exprmetric.errors import InputError
from exprmetric.io.images import IMAGE_SUFFIXES
from exprmetric.io.tables import listed, show
from exprmetric.video.faces import quality
from exprmetric.video.faces.spool import mean_vector, readable
from exprmetric.video.faces.table import VideoFaces
from exprmetric.video.people.dbscan import NOISE, dbscan

LEAST = 3
"""Faces that a person has at least."""
NOBODY = NOISE

Vector = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Reach:
    """How far apart one person is by an identity method.

    Attributes:
        track: two tracks' mean vectors: DBSCAN's radius.
        photograph: the mean of all and a photograph.
    """

    track: float
    photograph: float


REACH: Mapping[str, Reach] = {"identity": Reach(0.45, 0.5), "arcface-w600k-r50": Reach(1.1, 1.1)}
"""By method. dlib's network, on 110 people of LFW: 0.45 between means of two photographs each holds 95 % of one person
and 0.05 % of different people; 0.5 between a mean and a photograph, 95 % and 0.1 %. (Two photographs: 0.6, its authors
say.) ArcFace: unit-norm vectors with a cosine of 0.4, not measured here."""


@dataclass(frozen=True, eq=False)
class NamedFace:
    """A photograph's identity vector (D,), and whose it is."""

    name: str
    path: Path
    vector: npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class People:
    """The people of some videos.

    Attributes:
        names: of person 0, 1, …, those with most faces first; `person 1`, `person 2`, … for whom no photograph names.
        distances: of each to the nearest photograph of its name; NaN without one.
        labels: for each video, (N,) the person of each face; -1 for faces of nobody (too few to be a person, or
            without an identity vector).
    """

    names: tuple[str, ...]
    distances: tuple[float, ...]
    labels: tuple[Ints, ...]

    def faces(self, person: int) -> int:
        """Faces of one person in all videos."""
        return sum(int((found == person).sum()) for found in self.labels)

    def index(self, name: str) -> int:
        """The person of this name.

        Raises:
            InputError: there is none.
        """
        if name not in self.names:
            raise InputError(f"nobody is named {name!r}; found: {listed(self.names) if self.names else 'nobody'}")
        return self.names.index(name)


def find_people(
    videos: Sequence[VideoFaces],
    named: Sequence[NamedFace] = (),
    *,
    method: str = IDENTITY,
    reach: Reach | None = None,
    least: int = LEAST,
) -> People:
    """Cluster the tracks of all videos together.

    A track is one person, so it is one point: the mean identity vector of its faces that pass FaceQA (of all, where
    none does), which weighs as many points as it has faces. Clusters are named after the photograph nearest to their
    mean, if it is within reach; clusters of one name become one person.

    Args:
        videos: faces with vectors of `method`, of some faces of each track at least.
        named: photographs; see `read_named_faces`.
        method: the identity method.
        reach: in distances of the method; by default as in `REACH`.
        least: faces that a person has at least.

    Raises:
        InputError: `method` isn't in `REACH` and none is given, or a video has no vectors of it.
    """
    if reach is None and method not in REACH:
        raise InputError(f"{method!r} isn't known to tell people apart; known: {listed(REACH)}")
    reach = reach or REACH[method]
    tracks = [(v, t) for v, video in enumerate(videos) for t in video.tracks]
    found = [_track_vector(videos[v], t, method) for v, t in tracks]
    known = [i for i, vector in enumerate(found) if vector is not None]
    points = np.array([found[i] for i in known], np.float64)
    weights = np.array([int((videos[tracks[i][0]].track == tracks[i][1]).sum()) for i in known], np.float64)
    clusters = dbscan(points, reach.track, least, weights) if known else np.empty(0, np.intp)

    groups: dict[str, tuple[float, list[int]]] = {}
    for cluster in range(int(clusters.max(initial=-1)) + 1):
        members = np.flatnonzero(clusters == cluster)
        name, far = _name(np.average(points[members], axis=0, weights=weights[members]), named, reach.photograph)
        name = name or f"\0{cluster}"  # no photograph has this name
        before = groups.get(name, (far, []))
        groups[name] = (min(before[0], far), before[1] + members.tolist())

    order = sorted(groups, key=lambda n: -weights[groups[n][1]].sum())
    labels = [np.full(len(video), NOBODY, np.intp) for video in videos]
    for person, name in enumerate(order):
        for i in groups[name][1]:
            v, track = tracks[known[i]]
            labels[v][videos[v].track == track] = person
    taken = set(groups)
    names = tuple(_unnamed(i, taken) if n.startswith("\0") else n for i, n in enumerate(order))
    return People(names, tuple(groups[n][0] for n in order), tuple(labels))


def _track_vector(video: VideoFaces, track: int, method: str) -> Vector | None:
    if method not in video.vectors:
        raise InputError(f"{video.path!r} was read without {method!r}, which tells people apart")
    rows = np.flatnonzero(video.track == track)
    rows = rows[readable(video.vectors[method], rows)]
    fit = rows[quality.passes(video.sharpness[rows], video.yaw[rows])]
    rows = fit if len(fit) else rows
    return mean_vector(video.vectors[method], rows) if len(rows) else None


def _name(centre: Vector, named: Sequence[NamedFace], radius: float) -> tuple[str, float]:
    """The name of the nearest photograph, and how far it is; '' and NaN where none is within the radius."""
    far = [float(np.linalg.norm(centre - face.vector)) for face in named]
    nearest = int(np.argmin(far)) if far else 0
    return (named[nearest].name, far[nearest]) if far and far[nearest] <= radius else ("", float("nan"))


def _unnamed(person: int, taken: set[str]) -> str:
    name = f"person {person + 1}"
    while name in taken:
        name += "'"
    return name


def named_photographs(folder: str | os.PathLike[str]) -> list[tuple[str, Path]]:
    """Names and photographs of a folder with `name.jpg` or `name/….jpg`.

    Raises:
        InputError: there is no such folder, or no image in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"no such folder: {show(root)}")
    found = [(p.stem, p) for p in _images(root)]
    for person in sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")):
        found += [(person.name, p) for p in _images(person)]
    if not found:
        raise InputError(f"{show(root)} holds no photograph: expected name.jpg or name/….jpg")
    return sorted(found)


def _images(folder: Path) -> list[Path]:
    return [
        p
        for p in sorted(folder.iterdir())
        if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") and p.is_file()
    ]


def read_named_faces(
    folder: str | os.PathLike[str], *, method: str = IDENTITY, detector: str = "auto", provider: str = "cpu"
) -> list[NamedFace]:
    """The identity vectors of a folder of photographs (`named_photographs`); of several faces in one, the largest.

    Raises:
        InputError: there is none, or a photograph can't be used; the message names it.
    """
    from exprmetric.evaluation.embed import embed_images

    photographs = named_photographs(folder)
    paths = [path for _, path in photographs]
    found = embed_images(paths, method, detector=detector, provider=provider)
    faces = []
    for (name, path), embedding in zip(photographs, found, strict=True):
        if embedding.vector is None:
            raise InputError(f"the photograph {show(path)} can't be used: {embedding.reason}")
        faces.append(NamedFace(name, path, embedding.vector))
    return faces
