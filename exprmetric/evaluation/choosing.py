"""Which face of each of a triplet's images is measured, once all faces of all three are known.

The target's face is named, or chosen as the run asks; the swapped one is the face that stands at its place. A picture
of another shape than its target's is a crop of it: it may show one face alone. Where the target shows several, places
count only if the pictures agree around them. Whatever can't be told is no face.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from exprmetric.choices import ALL, CHANGED, IDENTITY
from exprmetric.errors import ImageError, InputError, NoFaceError
from exprmetric.evaluation.reading import Outcome, Represented, Sight
from exprmetric.evaluation.trio import Once, Pixels, Trio
from exprmetric.faces.finder import CHOICES, FaceFinder
from exprmetric.faces.place import NOT_THERE, at_place, box_text, one_to_one
from exprmetric.faces.shapes import is_grid, other_shape
from exprmetric.inputs.face_names import NamedFace
from exprmetric.inputs.triplets import ROLES
from exprmetric.io.faults import of_image
from exprmetric.methods.base import Method

RULE = "at-place-2"
"""Of which face is measured; changes with whatever changes a choice."""
CROP = "crop"
NOBODY = (None, None, None)
NO_SOURCE = (None, None)
"""What is seen, and the pixels, of a source that a row doesn't have."""
T = TypeVar("T")


def check_face(face: str) -> None:
    """InputError where `--face` says neither a choice nor a file."""
    if not _named_choice(face) and not Path(face).is_file():
        known = ", ".join([*CHOICES, CHANGED, ALL])
        raise InputError(f"unknown face choice {face!r}; known: {known}, or a photograph of the person")


def choice_of(face: str) -> str:
    """The choice of `FaceFinder`, for an image alone, of what `--face` says."""
    return face if face in CHOICES else "largest"


def photo_of(face: str) -> Path | None:
    """The photograph that `--face` names."""
    return None if _named_choice(face) else Path(face)


def _named_choice(face: str) -> bool:
    return face in CHOICES or face in (CHANGED, ALL)


def fingerprint(finder: FaceFinder, face: str) -> str:
    """Identifies all that decides which pixels a method sees, but for what a photograph shows."""
    choice = face if _named_choice(face) else "photo"
    return f"{finder.seen}/{choice}/{RULE}"


@dataclass(frozen=True, eq=False)
class Chosen:
    """What is measured of a triplet.

    Attributes:
        faces: of target, source and swapped: the face, or why there is none; None where another image's failure
            leaves it open, and for a source that the row doesn't have.
        note: of a row that is ok.
        number: 1, 2, …: which of the target's faces, from the left, where every face is measured; else 0.
    """

    faces: tuple[Represented | ImageError | None, ...]
    note: str = ""
    number: int = 0

    @property
    def errors(self) -> list[tuple[str, ImageError]]:
        """The roles whose image can't be measured, and why."""
        found = []
        for role, face in zip(ROLES, self.faces, strict=True):
            error = face.error if isinstance(face, Represented) else face
            if error is not None:
                found.append((role, error))
        return found

    @property
    def trio(self) -> list[Represented | None] | None:
        """The three faces, None for a source that the row doesn't have; None where any other is missing."""
        target, _, swapped = self.faces
        if self.errors or target is None or swapped is None:
            return None
        return [f if isinstance(f, Represented) else None for f in self.faces]


class Chooser:
    """Chooses faces; may be used by several threads.

    Args:
        face: as in `Settings`.
        aligned: each image is an aligned crop of one face.
        identity: gives the identity method, when it is needed; None: it may not be used.
    """

    def __init__(self, face: str, *, aligned: bool, identity: Callable[[], Method] | None) -> None:
        self._changed, self._every = face == CHANGED, face == ALL
        self._choice = CHOICES[choice_of(face)]
        self._aligned = aligned
        self._identity = Once(identity) if identity else None

    def choose(
        self,
        images: Sequence[Outcome | None],
        pixels: Sequence[Pixels | None],
        names: Sequence[NamedFace | None] = NOBODY,
        photos: Sequence[tuple[Outcome, Pixels] | None] = NOBODY,
    ) -> Chosen:
        """The faces of target, source and swapped.

        Args:
            images: what is seen in each; None for a source that the row doesn't have.
            pixels: of each; asked for where faces have to be compared.
            names: the face that the row names in each.
            photos: what is seen in the photographs that do so, and their pixels.
        """
        target, source, swapped = images
        if not isinstance(target, Sight) or isinstance(source, ImageError) or not isinstance(swapped, Sight):
            return Chosen(tuple(i if isinstance(i, ImageError) else None for i in images))
        trio = Trio((target, source, swapped), pixels, self._identity)
        named = [_named(trio, *of_role) for of_role in zip(range(len(ROLES)), names, photos, strict=True)]
        at_target, note = (named[0], "") if named[0] is not None else self._target(trio, named[2])
        at_source = named[1]
        if source is not None and at_source is None:
            at_source = _caught(lambda: self._alone(source))
        at_swapped = named[2]
        if at_swapped is None and isinstance(at_target, int):
            at_swapped = self._swapped(trio, at_target)
        if not self._aligned and other_shape(target.size, swapped.size):
            note = CROP
        places = (at_target, at_source, at_swapped)
        pairs = zip(trio.sights, places, strict=True)
        faces = (s.faces[p] if isinstance(p, int) and s else None if isinstance(p, int) else p for s, p in pairs)
        return Chosen(tuple(faces), note)

    def choose_all(
        self,
        images: Sequence[Outcome | None],
        pixels: Sequence[Pixels | None],
        names: Sequence[NamedFace | None] = NOBODY,
        photos: Sequence[tuple[Outcome, Pixels] | None] = NOBODY,
    ) -> list[Chosen]:
        """What is measured of a triplet: one `choose`, or where every face is asked for, one for each of the target's.

        A face that the swapped image doesn't show any more is among them, with the error that says so. Arguments are
        those of `choose`.
        """
        target, source, swapped = images
        if not self._every or names[0] or names[2] or not isinstance(target, Sight) or isinstance(source, ImageError):
            return [self.choose(images, pixels, names, photos)]
        whose: Represented | ImageError | None = None
        if source is not None:
            trio = Trio((target, source, target), pixels, self._identity)
            at = _named(trio, 1, names[1], photos[1]) if names[1] else _caught(lambda: self._alone(source))
            whose = source.faces[at] if isinstance(at, int) else at
        note = ""
        partners: list[Represented | ImageError]
        if isinstance(swapped, Sight):
            partners = self._partners(Trio((target, source, swapped), pixels, self._identity))
            note = CROP if not self._aligned and other_shape(target.size, swapped.size) else ""
        else:
            partners = [_gone(swapped, face) for face in target.faces]
        faces = zip(target.faces, partners, strict=True)
        return [Chosen((face, whose, other), note, number) for number, (face, other) in enumerate(faces, 1)]

    def _partners(self, trio: Trio) -> list[Represented | ImageError]:
        """The swapped face that belongs to each of the target's, each to one at most."""
        target, swapped = trio.target, trio.swapped
        several = len(target.faces) > 1 or len(swapped.faces) > 1
        if self._aligned or (not several and other_shape(target.size, swapped.size)):
            return list(swapped.faces[:1])
        shapes = f"{_shape(swapped)} where the target's picture shows {_shape(target)}"
        if is_grid(target.size, target.places, swapped.size, swapped.places):
            why = f"it looks like a comparison grid: {shapes}; give the swapped picture alone"
            return [NoFaceError(why) for _ in target.faces]
        if other_shape(target.size, swapped.size):
            return [NoFaceError(f"no face that is surely the target's: {shapes}") for _ in target.faces]
        other_scene = _caught(trio.check_scene)
        if other_scene is not None:
            return [other_scene for _ in target.faces]
        found = one_to_one(target.places, swapped.places, _alike(target, swapped))
        gone = NoFaceError(NOT_THERE)
        return [_gone(gone, f) if i is None else swapped.faces[i] for f, i in zip(target.faces, found, strict=True)]

    def compares(self, images: Sequence[Outcome | None], names: Sequence[NamedFace | None] = NOBODY) -> bool:
        """Whether pixels may be asked for: there are several people, who have to be told apart."""
        several = not self._aligned and isinstance(images[0], Sight) and len(images[0].faces) > 1
        return several or any(n is not None and n.photo is not None for n in names)

    def _alone(self, sight: Sight) -> int:
        return sight.faces.index(self._choice(sight.faces, sight.size))

    def _target(self, trio: Trio, swapped: int | ImageError | None) -> tuple[int | ImageError, str]:
        """The target's face, and what has to be said of it.

        Args:
            swapped: the swapped face, where the row names it.
        """
        target, other = trio.target, trio.swapped
        if len(target.faces) == 1 or not self._changed:
            return _caught(lambda: self._alone(target)), ""
        lone = 0 if len(other.faces) == 1 else None
        at = swapped if isinstance(swapped, int) else lone
        if other_shape(target.size, other.size):
            return self._alone(target) if at is None else _caught(lambda: trio.cropped(at)), ""
        if isinstance(swapped, int):
            there = at_place(other.places[swapped], target.places)
            return NoFaceError("no face where the swapped one that is named is") if there is None else there, ""
        changed = _caught(trio.changed)
        if isinstance(changed, ImageError):
            return changed, ""
        if not changed:
            return self._alone(target), "no face changed"
        return changed[0], f"{len(changed)} faces changed" if len(changed) > 1 else ""

    def _swapped(self, trio: Trio, face: int) -> int | ImageError:
        """The swapped face that belongs to a face of the target."""
        target, swapped = trio.target, trio.swapped
        if self._aligned:
            return 0
        shapes = f"{_shape(swapped)} where the target's picture shows {_shape(target)}"
        if is_grid(target.size, target.places, swapped.size, swapped.places):
            return NoFaceError(f"it looks like a comparison grid: {shapes}; give the swapped picture alone")
        if other_shape(target.size, swapped.size):
            return NoFaceError(f"no face that is surely the target's: {shapes}") if len(swapped.faces) > 1 else 0
        other_scene = _caught(trio.check_scene)
        if other_scene is not None:
            return other_scene
        found = trio.partner(face)
        return NoFaceError(NOT_THERE) if found is None else found


def _gone(error: ImageError | None, face: Represented) -> ImageError:
    """That a face of the target has no partner, with its place."""
    if error is None or isinstance(error, NoFaceError):
        return NoFaceError(f"{error or NOT_THERE}; the target's stands at {box_text(face.box)}")
    return error


def _alike(target: Sight, swapped: Sight) -> npt.NDArray[np.float64] | None:
    """(N, M) 0..1 how alike the faces of two pictures are to the identity control; None where it was not measured."""
    faces = [*target.faces, *swapped.faces]
    if any(f.error is None and IDENTITY not in f.vectors for f in faces):
        return None
    found = np.zeros((len(target.faces), len(swapped.faces)))
    for i, a in enumerate(target.faces):
        for j, b in enumerate(swapped.faces):
            if a.error is None and b.error is None:
                found[i, j] = np.exp(-np.linalg.norm(a.vectors[IDENTITY].astype(np.float64) - b.vectors[IDENTITY]))
    return found


def _named(
    trio: Trio, role: int, name: NamedFace | None, photo: tuple[Outcome, Pixels] | None
) -> int | ImageError | None:
    return None if name is None or trio.sights[role] is None else _caught(lambda: trio.named(role, name, photo))


def _caught(choose: Callable[[], T]) -> T | ImageError:
    """What is chosen, or the error of the image: it may not be as it was any more."""
    try:
        return choose()
    except Exception as error:
        return of_image(error)


def _shape(sight: Sight) -> str:
    count = len(sight.faces)
    return f"{count} face{'s' if count > 1 else ''} in {sight.size[1]} x {sight.size[0]} px"
