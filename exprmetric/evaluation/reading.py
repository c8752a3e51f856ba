"""One image → the face that is measured → one vector a method: what is done once for each distinct image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from exprmetric.errors import ImageError, LowQualityError, NoFaceError, SeveralFacesError
from exprmetric.evaluation.profile import Profile
from exprmetric.faces.face import Face
from exprmetric.faces.finder import FaceFinder
from exprmetric.faults import of_image
from exprmetric.images import read_image
from exprmetric.methods.base import Method
from exprmetric.methods.each import finite, represent_each

if TYPE_CHECKING:
    from exprmetric.images import ImageSource

Vector = npt.NDArray[np.float32]
Place = npt.NDArray[np.float64]
"""(4,) box as shares of width and height, 0..1."""


@dataclass(frozen=True, eq=False)
class Represented:
    """One face as each method sees it; `face` has neither pixels nor crops any more."""

    face: Face
    vectors: dict[str, Vector]


@dataclass(frozen=True, eq=False)
class Sighted:
    """A face without the vectors of all methods yet: fresh from its image, or left by an earlier run."""

    face: Face
    vectors: dict[str, Vector] = field(default_factory=dict)


Outcome = Represented | ImageError
Sight = Future[Sighted | ImageError] | Future[Outcome]
"""What becomes of an image that is on its way."""


class FaceReader:
    """From an image to a face that every method has prepared and whose pixels are let go of."""

    def __init__(self, finder: FaceFinder, methods: Sequence[Method], profile: Profile) -> None:
        self.finder = finder
        self.methods = {m.name: m for m in methods}
        self.profile = profile

    def submit(
        self,
        pool: Executor,
        source: ImageSource,
        near: Sight | None = None,
        known: Sighted | None = None,
    ) -> Future[Sighted | ImageError]:
        """`read` in a pool.

        Args:
            near: what becomes of the target near whose face the face is searched.
        """
        return pool.submit(self.read, source, lambda: self.place(near), known)

    def flush(self) -> None:
        """Before waiting for what was submitted: a reader that collects images lets go of them."""

    @staticmethod
    def place(target: Sight | None) -> Place | None:
        """Where a target's face is, as soon as that is known; None where it has none."""
        found = None if target is None else target.result()
        return None if found is None or isinstance(found, ImageError) else found.face.place

    def read(
        self,
        source: ImageSource,
        near: Callable[[], Place | None] = lambda: None,
        known: Sighted | None = None,
    ) -> Sighted | ImageError:
        """The face, or the error that says why there is none: whatever rises is this image's, but for `of_machine`.

        Args:
            source: path or array.
            near: asked for when the face is searched, as in `FaceFinder.choose`.
            known: what needs not be done again.
        """
        missing = self.missing(known)
        if known and not any(m.pixels for m in missing):
            return known
        try:
            with self.profile.stage("decode"):
                image = read_image(source)
            face = known.face.seen_in(image) if known else self._find(image, near())
            with self.profile.stage("align"):
                face.prepare(dict.fromkeys(m.template for m in missing if m.pixels), keep_image=True)
            for method in missing:
                with self.profile.stage(f"method {method.name}"):
                    self._prepare(method, face)
            return Sighted(face.prepare([]), known.vectors if known else {})
        except Exception as error:
            return of_image(error)

    def _find(self, image: npt.NDArray[np.uint8], near: Place | None) -> Face:
        with self.profile.stage("detect"):
            chosen = self.finder.choose(self.finder.detect(image), image, near=near)
        with self.profile.stage("landmarks"):
            return self.finder.face(image, chosen)

    @staticmethod
    def _prepare(method: Method, face: Face) -> None:
        try:
            method.prepare(face)
        except (NoFaceError, SeveralFacesError) as error:  # the finder has found one: other methods may read it
            raise LowQualityError(str(error)) from error
        except Exception as error:
            raise of_image(error, method.name) from error

    def missing(self, known: Sighted | None) -> list[Method]:
        """Methods that have no vector of an image yet."""
        return [m for m in self.methods.values() if known is None or m.name not in known.vectors]

    def represent(self, seen: Sequence[Sighted | ImageError]) -> list[Outcome]:
        """Vectors of all methods for some images, each method's faces in one batch; errors stay where they are.

        A face of which one method has no finite vector is an error: its row would be a number without a meaning.
        """
        found = [s if isinstance(s, ImageError) else _kept(s) for s in seen]
        faces = [s.face for s in seen if isinstance(s, Sighted)]
        for name, method in self.methods.items():
            wanted = [(i, o) for i, o in enumerate(found) if isinstance(o, Represented) and name not in o.vectors]
            if wanted:
                with self.profile.stage(f"method {name}"):
                    cells = represent_each(method, [o.face for _, o in wanted])
                for (i, represented), cell in zip(wanted, cells, strict=True):
                    if isinstance(cell, ImageError):
                        found[i] = cell
                    else:
                        represented.vectors[name] = cell
        for face in faces:
            face.forget()
        return found


def _kept(seen: Sighted) -> Outcome:
    """With the vectors that an earlier run has left; that run may not have looked whether they are finite."""
    cells = {name: finite(name, vector) for name, vector in seen.vectors.items()}
    failed = next((c for c in cells.values() if isinstance(c, ImageError)), None)
    return failed or Represented(seen.face, {n: c for n, c in cells.items() if not isinstance(c, ImageError)})
