"""The plan: which distinct images a list of triplets needs, told apart by their content and not by their names.

A target that was copied for each of its swaps is embedded once, and its swaps are one group of the bootstrap.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from heapq import nsmallest
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exprmetric.errors import UnreadableImageError
from exprmetric.inputs.face_names import NamedFace
from exprmetric.inputs.triplets import ROLES, Triplet
from exprmetric.io.images import Pinned, content_hash

AHEAD = 4096
"""Files that wait to be hashed at a time."""
SAMPLE = 200
"""Targets that stand for all where each would cost much."""
NONE = -1
"""Stands for an image that is missing or unreadable."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What `pipeline.measure` works through.

    Attributes:
        triplets: in input order.
        hashes: content hash by number.
        paths: one path for each content, by number.
        contents: (N, 3) numbers of the contents of target, source, swapped; NONE where there is none.
        without_source: (N,) rows that name no source and need none.
        sampled: (N,) rows of some of the targets, `sample` of them, that stand for all.
        unreadable: reason by path, for the files that can't be read.
        faces: the distinct names of faces that rows give.
        named: (N, 3) the number of the name of the face in target, source and swapped, NONE where none is given; (0, 3)
            where no row names any.
        photos: (F,) content of the photograph of each name; NONE where it names none, or one that can't be read.
    """

    triplets: Sequence[Triplet]
    hashes: list[str]
    paths: list[Path]
    contents: npt.NDArray[np.int32]
    without_source: npt.NDArray[np.bool_]
    sampled: npt.NDArray[np.bool_]
    unreadable: dict[Path, str]
    faces: list[NamedFace] = field(default_factory=list)
    named: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty((0, len(ROLES)), np.int32))
    photos: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))

    def looks(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """(M, 3) the contents that M rows need, (M, 6) where rows name faces by photographs: those of the three come
        last. NONE where there is none; a row that lacks any that it needs has nothing else."""
        contents = self.contents[rows]
        absent = contents == NONE
        absent[self.without_source[rows], ROLES.index("source")] = False
        lacking = absent.any(1)
        if len(self.named):
            named = self.named[rows]
            photos = np.where(named == NONE, NONE, self.photos[named])
            wanted = np.array([f.photo is not None for f in self.faces], bool)[named] & (named != NONE)
            lacking |= (wanted & (photos == NONE)).any(1)
            contents = np.column_stack([contents, photos])
        return np.where(lacking[:, None], NONE, contents)

    def names(self, row: int) -> list[NamedFace | None]:
        """How a row names the faces in its target, source and swapped image."""
        codes = self.named[row].tolist() if len(self.named) else [NONE] * len(ROLES)
        return [None if code == NONE else self.faces[code] for code in codes]

    def hashes_of(self, row: int) -> list[str]:
        """Content hashes of a row's target, source and swapped image; '' where there is none, or it can't be read."""
        return ["" if content == NONE else self.hashes[content] for content in self.contents[row].tolist()]

    def naming(self, row: int) -> str:
        """Content hashes of the photographs that name a row's faces, see `exprmetric.evaluation.rows.NAMING`."""
        photos = (
            [NONE if code == NONE else int(self.photos[code]) for code in self.named[row]] if len(self.named) else []
        )
        texts = ["-" if photo == NONE else self.hashes[photo] for photo in photos]
        return " ".join(texts) if any(photo != NONE for photo in photos) else ""

    def problem(self, row: int) -> str:
        """Why a row can't be measured, as far as its files tell; '' when it can."""
        triplet = self.triplets[row]
        if triplet.problem:
            return triplet.problem
        paths = {role: getattr(triplet, role) for role in triplet.roles}
        bad = {r: "no image is given" if p is None else self.unreadable.get(p) for r, p in paths.items()}
        problems = [f"{role}: {reason}" for role, reason in bad.items() if reason]
        for role, face in zip(ROLES, self.names(row), strict=True):
            if face and face.photo in self.unreadable:
                problems.append(f"{role}: the photograph that names its face: {self.unreadable[face.photo]}")
        return "; ".join(problems)

    def image(self, content: int) -> Pinned:
        """The file of a content, which holds that or can't be read: somebody may write into it while it is measured."""
        return Pinned(self.paths[content], self.hashes[content])

    def digest(self) -> str:
        """SHA-256 of all that decides the rows, but for the methods: names, labels and contents in their order."""
        found = hashlib.sha256("\n".join(self.hashes).encode())
        for numbers in (self.contents, self.named, self.photos):
            found.update(np.ascontiguousarray(numbers).tobytes())
        for triplet in self.triplets:
            found.update(row_text(triplet) + json.dumps(triplet.problem).encode())
        return found.hexdigest()


def row_text(triplet: Triplet) -> bytes:
    """All that a row says of its triplet, for a digest: two models have swapped into files of the same names."""
    t = triplet
    paths = (str(t.target), str(t.source), str(t.swapped))
    faces = [str(face or "") for face in (t.target_face, t.source_face, t.swapped_face)]
    labels = (t.target_label, t.source_label, t.person)
    return json.dumps((t.id, *paths, t.model, t.group, *labels, *faces, *t.given)).encode() + b"\n"


def make_plan(triplets: Sequence[Triplet], pool: Executor, *, photo: Path | None = None) -> Plan:
    """Read and hash every distinct file once.

    Args:
        photo: of the person whose face is measured in targets, where a row names none.
    """
    files: dict[Path, int] = {}
    without = np.array([len(t.roles) < len(ROLES) for t in triplets], bool)
    wanted = np.full((len(triplets), len(ROLES)), NONE, np.int32)
    faces: dict[NamedFace, int] = {}
    named = np.empty((0, len(ROLES)), np.int32)
    person = None if photo is None else NamedFace(photo=photo)
    for row, triplet in enumerate(triplets):
        for column, role in enumerate(ROLES):
            path = getattr(triplet, role)
            if path is not None and (role == "target" or not triplet.problem):
                wanted[row, column] = files.setdefault(path, len(files))
            face = getattr(triplet, f"{role}_face") or (person if role == "target" else None)
            if face is not None and not triplet.problem:
                if not len(named):
                    named = np.full((len(triplets), len(ROLES)), NONE, np.int32)
                named[row, column] = faces.setdefault(face, len(faces))
                if face.photo is not None:
                    files.setdefault(face.photo, len(files))
    numbers: dict[str, int] = {}
    paths: list[Path] = []
    unreadable: dict[Path, str] = {}
    content_of = np.full(len(files) + 1, NONE, np.int32)  # the last one stands for no file
    for (path, file), found in zip(files.items(), _in_order(pool, files), strict=True):
        if isinstance(found, UnreadableImageError):
            unreadable[path] = str(found)
            continue
        if found not in numbers:
            numbers[found] = len(paths)
            paths.append(path)
        content_of[file] = numbers[found]
    photos = content_of[np.array([NONE if face.photo is None else files[face.photo] for face in faces], np.int64)]
    contents, hashes = content_of[wanted], list(numbers)
    targets = contents[:, ROLES.index("target")]
    some = sample({hashes[content] for content in np.unique(targets).tolist() if content != NONE})
    sampled = np.isin(targets, [numbers[content] for content in some])
    return Plan(triplets, hashes, paths, contents, without, sampled, unreadable, list(faces), named, photos)


def sample(targets: Iterable[str]) -> list[str]:
    """The `SAMPLE` smallest of some content hashes, sorted: as good as drawn by lot, and the same in whatever order.

    Those of the whole input are among those of its shards.
    """
    return nsmallest(SAMPLE, targets)


def _in_order(pool: Executor, files: Iterable[Path]) -> Iterator[str | UnreadableImageError]:
    waiting = iter(files)
    while some := list(islice(waiting, AHEAD)):
        yield from pool.map(_hash, some)


def _hash(path: Path) -> str | UnreadableImageError:
    try:
        return content_hash(path)
    except UnreadableImageError as error:
        return error
