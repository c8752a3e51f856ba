"""Which face of each of a triplet's images is measured, once all faces of all three are known.

The target's face is named, or chosen as the run asks; the swapped one is the face that stands at its place. A picture
of another shape than its target's is a crop of it: it may show one face alone. Whatever can't be told is no face.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from exprmetric.choices import CHANGED
from exprmetric.errors import ImageError, InputError, NoFaceError
from exprmetric.evaluation.comparing import Once, Pixels, Trio
from exprmetric.evaluation.reading import Outcome, Represented, Sight
from exprmetric.faces.finder import CHOICES, FaceFinder
from exprmetric.faces.place import NOT_THERE, at_place
from exprmetric.faces.shapes import is_grid, other_shape
from exprmetric.inputs.face_names import NamedFace
from exprmetric.inputs.triplets import ROLES
from exprmetric.io.faults import of_image
from exprmetric.methods.base import Method

RULE = "at-place-1"
"""Of which face is measured; changes with whatever changes a choice."""
CROP = "crop"
NOBODY = (None, None, None)
T = TypeVar("T")


def check_face(face: str) -> None:
    """InputError where `--face` says neither a choice nor a file."""
    if face not in CHOICES and face != CHANGED and not Path(face).is_file():
        known = ", ".join([*CHOICES, CHANGED])
        raise InputError(f"unknown face choice {face!r}; known: {known}, or a photograph of the person")


def choice_of(face: str) -> str:
    """The choice of `FaceFinder`, for an image alone, of what `--face` says."""
    return face if face in CHOICES else "largest"


def photo_of(face: str) -> Path | None:
    """The photograph that `--face` names."""
    return None if face in CHOICES or face == CHANGED else Path(face)


def fingerprint(finder: FaceFinder, face: str) -> str:
    """Identifies all that decides which pixels a method sees, but for what a photograph shows."""
    choice = face if face in CHOICES or face == CHANGED else "photo"
    return f"{finder.seen}/{choice}/{RULE}"


@dataclass(frozen=True, eq=False)
class Chosen:
    """What is measured of a triplet.

    Attributes:
        faces: of target, source and swapped: the face, or why there is none; None where another image's failure
            leaves it open.
        note: of a row that is ok.
    """

    faces: tuple[Represented | ImageError | None, ...]
    note: str = ""

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
    def trio(self) -> list[Represented] | None:
        """The three faces; None where any is missing."""
        faces = [f for f in self.faces if isinstance(f, Represented) and f.error is None]
        return faces if len(faces) == len(ROLES) else None


class Chooser:
    """Chooses faces; may be used by several threads.

    Args:
        face: as in `Settings`.
        aligned: each image is an aligned crop of one face.
        identity: gives the identity method, when it is needed; None: it may not be used.
    """

    def __init__(self, face: str, *, aligned: bool, identity: Callable[[], Method] | None) -> None:
        self._changed = face == CHANGED
        self._choice = CHOICES[choice_of(face)]
        self._aligned = aligned
        self._identity = Once(identity) if identity else None

    def choose(
        self,
        images: Sequence[Outcome],
        pixels: Sequence[Pixels],
        names: Sequence[NamedFace | None] = NOBODY,
        photos: Sequence[tuple[Outcome, Pixels] | None] = NOBODY,
    ) -> Chosen:
        """The faces of target, source and swapped.

        Args:
            images: what is seen in each.
            pixels: of each; asked for where faces have to be compared.
            names: the face that the row names in each.
            photos: what is seen in the photographs that do so, and their pixels.
        """
        target, source, swapped = images
        if isinstance(target, ImageError) or isinstance(source, ImageError) or isinstance(swapped, ImageError):
            return Chosen(tuple(i if isinstance(i, ImageError) else None for i in images))
        trio = Trio((target, source, swapped), pixels, self._identity)
        named = [_named(trio, *of_role) for of_role in zip(range(len(ROLES)), names, photos, strict=True)]
        at_target, note = (named[0], "") if named[0] is not None else self._target(trio, named[2])
        at_source = named[1] if named[1] is not None else _caught(lambda: self._alone(source))
        at_swapped = named[2]
        if at_swapped is None and isinstance(at_target, int):
            at_swapped = self._swapped(trio, at_target)
        if not self._aligned and other_shape(target.size, swapped.size):
            note = CROP
        places = (at_target, at_source, at_swapped)
        faces = [s.faces[p] if isinstance(p, int) else p for s, p in zip(trio.sights, places, strict=True)]
        return Chosen(tuple(faces), note)

    def compares(self, images: Sequence[Outcome], names: Sequence[NamedFace | None] = NOBODY) -> bool:
        """Whether pixels may be asked for: faces of several people have to be told apart."""
        several = isinstance(images[0], Sight) and len(images[0].faces) > 1
        return (self._changed and several) or any(n is not None and n.photo is not None for n in names)

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
        found = trio.partner(face)
        return NoFaceError(NOT_THERE) if found is None else found


def _named(
    trio: Trio, role: int, name: NamedFace | None, photo: tuple[Outcome, Pixels] | None
) -> int | ImageError | None:
    return None if name is None else _caught(lambda: trio.named(role, name, photo))


def _caught(choose: Callable[[], T]) -> T | ImageError:
    """What is chosen, or the error of the image: it may not be as it was any more."""
    try:
        return choose()
    except Exception as error:
        return of_image(error)


def _shape(sight: Sight) -> str:
    count = len(sight.faces)
    return f"{count} face{'s' if count > 1 else ''} in {sight.size[1]} x {sight.size[0]} px"
