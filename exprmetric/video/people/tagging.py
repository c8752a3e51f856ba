"""Custom expressions tagged in videos (paper 004): the nearest reference within a threshold; nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.errors import InputError
from exprmetric.methods import Method
from exprmetric.video.faces.spool import by_blocks
from exprmetric.video.people.courses import Course, nearest_moments
from exprmetric.video.people.references import Reference
from exprmetric.video.people.thresholds import Threshold

CLOSEST, APART = 2, 1.0
"""Closest frames of each tag and person that are named, and how many seconds they are apart."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Segment:
    """A stretch of time with a tag.

    Attributes:
        video: its number.
        person: their number.
        start: s.
        end: s.
        faces: how many frames.
        distance: the least to a reference of the tag, which `time` s has.
    """

    video: int
    person: int
    tag: str
    start: float
    end: float
    faces: int
    distance: float
    time: float


@dataclass(frozen=True)
class Closest:
    """A face that is among the nearest to a tag's references: its row of the video's `VideoFaces`, when, how near."""

    video: int
    person: int
    tag: str
    row: int
    frame: int
    time: float
    distance: float
    reference: str


@dataclass(frozen=True, eq=False)
class TaggedCourse:
    """One person in one video, tagged.

    Attributes:
        course: M faces.
        distances: (M, T) to the nearest reference of each of the tags, in their order.
        tagged: (M, T) bool; a face has the tags of the nearest reference of all, if that is within the threshold.
    """

    course: Course
    distances: Floats
    tagged: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Tagged:
    """What `tag` found.

    Attributes:
        tags: T names, sorted.
        threshold: what was applied.
        courses: each person in each video.
        segments: by video, person and start.
    """

    tags: tuple[str, ...]
    threshold: Threshold
    courses: tuple[TaggedCourse, ...]
    segments: tuple[Segment, ...]

    def rates(self, person: int) -> dict[str, dict[str, Any]]:
        """By tag: `faces` that have it, `rate` = their share of the person's in all videos, `seconds`, `segments`."""
        mine = [c for c in self.courses if c.course.person == person]
        total = sum(len(c.course) for c in mine)
        found = {}
        for t, tag in enumerate(self.tags):
            faces = sum(int(c.tagged[:, t].sum()) for c in mine)
            seconds = sum(float((c.course.end - c.course.start)[c.tagged[:, t]].sum()) for c in mine)
            count = sum(s.person == person and s.tag == tag for s in self.segments)
            rate = faces / total if total else 0.0
            found[tag] = {"faces": faces, "rate": rate, "seconds": seconds, "segments": count}
        return found


def tag(found: Sequence[Course], references: Sequence[Reference], method: Method, threshold: Threshold) -> Tagged:
    """Tag the faces of courses.

    Args:
        found: their vectors are pooled.
        references: with vectors of the method.
        method: whose distance is taken.

    Raises:
        InputError: there is no reference.
    """
    if not references:
        raise InputError("there are no references to tag with")
    tags = tuple(sorted(frozenset[str]().union(*(r.tags for r in references))))
    has = np.array([[t in r.tags for t in tags] for r in references], bool)
    done = []
    for course in found:
        nearest = by_blocks(lambda part: _nearest(distances(method, part, references), has), course.vectors)
        each, near = nearest[:, 1:-1], nearest[:, -1].astype(np.intp)
        done.append(TaggedCourse(course, each, has[near] & (nearest[:, :1] <= threshold.value)))
    segments = [s for c in done for s in _segments(c, tags)]
    segments.sort(key=lambda s: (s.video, s.person, s.start, s.tag))
    return Tagged(tags, threshold, tuple(done), tuple(segments))


def _nearest(far: Floats, has: npt.NDArray[np.bool_]) -> Floats:
    """(M, T + 2) of (M, R): the least, the least to a reference of each tag, and which reference is nearest."""
    each = [far[:, has[:, t]].min(axis=1) for t in range(has.shape[1])]
    return np.stack([far.min(axis=1), *each, far.argmin(axis=1)], axis=1)


def distances(method: Method, vectors: npt.NDArray[np.float32], references: Sequence[Reference]) -> Floats:
    """(M, R) of each face to each reference."""
    columns = [method.distance(vectors, np.broadcast_to(r.vector, vectors.shape)) for r in references]
    return np.stack(columns, axis=1)


def intensity(distances: npt.ArrayLike, threshold: float) -> Floats:
    """How near to a reference: 2^-(d / threshold)², so 1 at the reference, ½ at the threshold, towards 0 beyond."""
    return np.asarray(np.exp2(-((np.asarray(distances, np.float64) / threshold) ** 2)))


def spans(tagged: npt.ArrayLike, place: npt.ArrayLike) -> list[slice]:
    """Stretches of True over frames that follow each other, as slices in order.

    Args:
        tagged: (M,) bool. place: (M,) numbers of their frames, increasing.
    """
    rows = np.flatnonzero(np.asarray(tagged, bool))
    if not len(rows):
        return []
    at = np.asarray(place)[rows]
    breaks = np.flatnonzero((np.diff(rows) != 1) | (np.diff(at) != 1)) + 1
    return [slice(int(part[0]), int(part[-1]) + 1) for part in np.split(rows, breaks)]


def _segments(done: TaggedCourse, tags: Sequence[str]) -> list[Segment]:
    c = done.course
    found = []
    for t, name in enumerate(tags):
        for span in spans(done.tagged[:, t], c.place):
            best = span.start + int(done.distances[span, t].argmin())
            found.append(
                Segment(
                    video=c.video,
                    person=c.person,
                    tag=name,
                    start=float(c.start[span.start]),
                    end=float(c.end[span.stop - 1]),
                    faces=span.stop - span.start,
                    distance=float(done.distances[best, t]),
                    time=float(c.start[best]),
                )
            )
    return found


def closest(tagged: Tagged, references: Sequence[Reference], method: Method, *, count: int = CLOSEST) -> list[Closest]:
    """The nearest faces of each tag and person in all videos, tagged or not; in one video `APART` s apart."""
    people = sorted({c.course.person for c in tagged.courses})
    found = []
    for person in people:
        mine = [c for c in tagged.courses if c.course.person == person]
        for t, name in enumerate(tagged.tags):
            with_tag = [r for r in references if name in r.tags]
            best = []
            for done in mine:
                c = done.course
                for i in nearest_moments(done.distances[:, t], c.start, count, APART):
                    far = distances(method, c.vectors[i : i + 1], with_tag)[0]
                    row, frame = int(c.rows[i]), int(c.frame[i])
                    near = str(with_tag[int(far.argmin())].path)
                    best.append(Closest(c.video, person, name, row, frame, float(c.start[i]), float(far.min()), near))
            found += sorted(best, key=lambda b: (b.distance, b.video, b.time))[:count]
    return found
