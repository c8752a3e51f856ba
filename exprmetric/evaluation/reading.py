"""One image → its faces → one vector a face and method: what is done once for each distinct image.

Which of several faces a row measures depends on all its images (`choosing.py`), so every face is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from exprmetric.errors import ImageError, LowQualityError, NoFaceError, SeveralFacesError
from exprmetric.faces.detection import Detection
from exprmetric.faces.face import Face
from exprmetric.faces.finder import FaceFinder
from exprmetric.faces.place import Place, Size, place_of
from exprmetric.io.faults import of_image
from exprmetric.io.images import read_image
from exprmetric.io.progress import Profile
from exprmetric.methods.base import Method
from exprmetric.methods.each import Cell, finite, represent_each

if TYPE_CHECKING:
    from exprmetric.io.images import ImageSource, Pinned

Image = npt.NDArray[np.uint8]
Vector = npt.NDArray[np.float32]

BATCH = 8
"""Faces represented at a time; on one core, more make an encoder no faster."""


@dataclass(eq=False)
class Represented:
    """One face as each method sees it.

    Attributes:
        box: (4,) x0, y0, x1, y1 in px of the upright image.
        score: the detector's confidence.
        face: has neither pixels nor crops any more once all methods have seen it; None where there is an error.
        vectors: by method.
        error: why this face can't be measured.
        errors: why some methods alone can't measure it; None: where one can't, none does.
    """

    box: npt.NDArray[np.float64]
    score: float
    face: Face | None = None
    vectors: dict[str, Vector] = field(default_factory=dict)
    error: ImageError | None = None
    errors: dict[str, ImageError] | None = None

    def take(self, method: str, cell: Cell) -> None:
        """What a method has made of it."""
        if not isinstance(cell, ImageError):
            self.vectors[method] = cell
        elif self.errors is None:
            self.face, self.error = None, cell
        else:
            self.errors[method] = cell

    def cell(self, method: str) -> Cell:
        """What a method made of it."""
        return self.error or (self.errors or {}).get(method) or self.vectors[method]


@dataclass(eq=False)
class Sight:
    """All faces of an image, from left to right; at least one.

    Attributes:
        size: height and width of the image, px.
    """

    size: Size
    faces: list[Represented]

    @property
    def places(self) -> list[Place]:
        """(4,) box of each face as shares of width and height."""
        return [place_of(f.box, self.size) for f in self.faces]


Outcome = Sight | ImageError


def lone_face(outcome: Outcome) -> Represented | ImageError:
    """The face of an image of which one alone was read (`FaceReader.only`), or why it can't be measured."""
    if isinstance(outcome, ImageError):
        return outcome
    (face,) = outcome.faces
    return face.error or face


class FaceReader:
    """From an image to faces that every method has prepared and whose pixels are let go of.

    Args:
        only: which of an image's faces is read; None: all.
        apart: a face that one method can't measure is measured by the others (`Represented.errors`).
    """

    def __init__(
        self,
        finder: FaceFinder,
        methods: Sequence[Method],
        profile: Profile,
        *,
        only: Callable[[Sequence[Detection], Image], Detection] | None = None,
        apart: bool = False,
    ) -> None:
        self.finder = finder
        self.methods = {m.name: m for m in methods}
        self.profile = profile
        self.only = only
        self.apart = apart

    def submit(self, pool: Executor, source: ImageSource | Pinned, known: Sight | None = None) -> Future[Outcome]:
        """`read` in a pool."""
        return pool.submit(self.read, source, known)

    def flush(self) -> None:
        """Before waiting for what was submitted: a reader that collects images lets go of them."""

    def read(self, source: ImageSource | Pinned, known: Sight | None = None) -> Outcome:
        """The faces, or the error that says why there is none: whatever rises is this image's, but for `of_machine`.

        A lone face is left to be represented with those of other images; several have all their vectors.

        Args:
            source: path, array, or a file whose content is known.
            known: what needs not be done again.
        """
        missing = self.missing(known)
        if known and not any(m.pixels for m in missing):
            return known
        try:
            with self.profile.stage("decode"):
                image = read_image(source)
            found = known or self._find(image)
        except Exception as error:
            return of_image(error)
        for start in range(0, len(found.faces), BATCH):  # a crowd's crops would fill the memory
            some = found.faces[start : start + BATCH]
            for face in some:
                self._prepare(face, image, missing)
            if len(found.faces) > 1:
                self._represent(some)
        return found

    def _find(self, image: Image) -> Sight:
        with self.profile.stage("detect"):
            detections = self.finder.detect(image)
            if self.only:
                detections = [self.only(detections, image)]
        with self.profile.stage("landmarks"):
            faces = [self._landmarks(image, d) for d in sorted(detections, key=lambda d: tuple(d.box))]
        return Sight((image.shape[0], image.shape[1]), faces)

    def _landmarks(self, image: Image, detection: Detection) -> Represented:
        seen = Represented(detection.box, detection.score, errors={} if self.apart else None)
        try:
            seen.face = self.finder.face(image, detection)
        except Exception as error:
            seen.error = of_image(error)
        return seen

    def found(self, face: Face) -> Sight:
        """The same of a face that is found already, and still has its image."""
        seen = Represented(face.box, face.score, face, errors={} if self.apart else None)
        assert face.image is not None
        self._prepare(seen, face.image, list(self.methods.values()))
        return Sight(face.size, [seen])

    def at(self, near: Place) -> FaceReader:
        """One that reads the face at a place alone (see `FaceFinder.choose`)."""
        only = partial(self.finder.choose, near=near)
        return FaceReader(self.finder, list(self.methods.values()), self.profile, only=only, apart=self.apart)

    def _prepare(self, seen: Represented, image: Image, methods: Sequence[Method]) -> None:
        """Crops and readings of one face; where a method can't read it, it has an error."""
        if seen.face is None:
            return
        face = seen.face if seen.face.image is not None else seen.face.seen_in(image)
        for method in methods:
            try:
                with self.profile.stage("align"):
                    if method.pixels:
                        face.crop(method.template)
                with self.profile.stage(f"method {method.name}"):
                    method.prepare(face)
            except Exception as error:
                failed = of_image(error, method.name)
                if isinstance(failed, NoFaceError | SeveralFacesError) and not self.apart:
                    failed = LowQualityError(str(failed))  # the finder has found one: other methods may read it
                seen.take(method.name, failed)
                if seen.error:
                    return
        seen.face = face.prepare([])

    def missing(self, known: Sight | None) -> list[Method]:
        """Methods that have no vector of a face of an image yet."""
        if known is None:
            return list(self.methods.values())
        faces = [f for f in known.faces if f.error is None]
        return [m for m in self.methods.values() if any(m.name not in f.vectors for f in faces)]

    def represent(self, seen: Sequence[Outcome]) -> list[Outcome]:
        """Vectors of all methods for some images, each method's faces in one batch; errors stay where they are.

        A face of which one method has no finite vector has an error: its row would be a number without a meaning.
        """
        self._represent([f for s in seen if isinstance(s, Sight) for f in s.faces])
        return list(seen)

    def _represent(self, seen: Sequence[Represented]) -> None:
        faces = [f.face for f in seen if f.face is not None]
        for represented in seen:
            for name, vector in represented.vectors.items():  # an earlier run may not have looked at what it kept
                represented.take(name, finite(name, vector))
        for name, method in self.methods.items():
            left = (f for f in seen if name not in f.vectors and name not in (f.errors or ()))
            if wanted := [(f, f.face) for f in left if f.face is not None]:
                with self.profile.stage(f"method {name}"):
                    cells = represent_each(method, [face for _, face in wanted])
                for (represented, _), cell in zip(wanted, cells, strict=True):
                    represented.take(name, cell)
        for face in faces:
            face.forget()
