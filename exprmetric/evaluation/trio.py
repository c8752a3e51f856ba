"""The faces of a triplet compared with each other: who stands where, who was changed, who is who."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from exprmetric.errors import ImageError, NoFaceError
from exprmetric.evaluation.reading import Image, Outcome, Represented, Sight, Vector
from exprmetric.faces.finder import largest
from exprmetric.faces.place import at_place, place_of
from exprmetric.inputs.face_names import NamedFace
from exprmetric.io.tables import show
from exprmetric.methods.base import Method
from exprmetric.methods.identity import SAME_PERSON

Pixels = Callable[[], Image]
Floats = npt.NDArray[np.float64]
Luma = npt.NDArray[np.float32]

SIDE = 640
"""Longest side, px, at which the pixels of two pictures are compared."""
BLUR = 7
"""Over so many px differences are averaged, with their signs: what coding does is then nearly gone."""
LEAST_CHANGE = 1.2
"""Grey levels, of 255, by which a changed face differs at least. JPEG of quality 30 gives 0.5, half the size up to 1.2,
a swap 3 to 6; the network's distance is 0.2, 0.35 and 0.5 to 0.8 then."""
BEYOND = 3.0
"""And how many times more than the rest of the picture and the face that differs least."""
SAME_SCENE = 0.7
"""Least correlation of two pictures of one scene around their faces. Of swaps it is 0.87 or more; pictures that
were mirrored, moved, turned or enlarged reach 0.56."""
PLAIN = 3.0
"""Standard deviation, grey levels, below which what is around the faces says nothing: a studio's wall."""
AROUND = 0.1
"""Nor does it where it is less than this share of the picture."""
PATCH = 32
"""Side, px, at which aligned crops are compared."""
TEMPLATE = "eyes70"
ALIKE, AHEAD = 0.6, 0.1
"""Least correlation of the crop of a face with that in its target, and by how much it has to be ahead of the others."""


class Once:
    """A method that is loaded when it is first needed, and once."""

    def __init__(self, load: Callable[[], Method]) -> None:
        self._load, self._lock = load, threading.Lock()
        self._method: Method | None = None

    def __call__(self) -> Method:
        with self._lock:
            if self._method is None:
                self._method = self._load()
            return self._method


class Trio:
    """Target, source and swapped image of a triplet, with all their faces.

    Args:
        sights: of the three; None for a source that the row doesn't have.
        pixels: of the three; asked for where faces have to be compared.
        identity: gives the identity method, for faces whose vectors it hasn't made yet; None: nothing tells people
            apart, and pixels alone say who was changed.
    """

    def __init__(
        self,
        sights: tuple[Sight, Sight | None, Sight],
        pixels: Sequence[Pixels | None],
        identity: Callable[[], Method] | None,
    ) -> None:
        self.sights = sights
        self.target, _, self.swapped = sights
        self._pixels = [cache(p or _no_pixels) for p in pixels]
        self._identity = identity
        self._pair: tuple[Luma, Luma] | None = None

    def partner(self, face: int) -> int | None:
        """The swapped face that stands where one of the target's stands."""
        places = self.target.places
        return at_place(places[face], self.swapped.places, [p for i, p in enumerate(places) if i != face])

    def named(self, role: int, name: NamedFace, photo: tuple[Outcome, Pixels] | None) -> int:
        """The face of an image that a row names.

        Args:
            photo: what is seen in the photograph that names it, and its pixels.

        Raises:
            NoFaceError: it isn't there.
        """
        sight = self.sights[role]
        if sight is None:
            raise NoFaceError(f"no face {name}: there is no such image")
        if name.index is not None:
            if name.index >= len(sight.faces):
                raise NoFaceError(f"no face {name}: there are {len(sight.faces)}")
            return name.index
        if name.box is not None:
            found = at_place(place_of(np.array(name.box, np.float64), sight.size), sight.places)
            if found is None:
                raise NoFaceError(f"no face {name}")
            return found
        assert photo is not None
        if self._identity is None:
            raise NoFaceError(f"no face {name}: the network that knows a person by a photograph may not be used")
        person = photo[0] if isinstance(photo[0], ImageError) else largest(photo[0].faces, photo[0].size)
        error = person if isinstance(person, ImageError) else person.error
        if error or not isinstance(person, Represented):
            raise NoFaceError(f"no face of a person: the photograph {show(name.photo or Path())}: {error}")
        who = self._who(person, photo[1])
        far = [self._distance(who, f, self._pixels[role]) for f in sight.faces]
        best = int(np.nanargmin(far)) if not np.isnan(far).all() else -1
        if best < 0 or far[best] >= SAME_PERSON:
            raise NoFaceError(f"no face {name}")
        return best

    def changed(self) -> list[int]:
        """The target's faces that the swapped image shows changed, the one that changed most first.

        Changed is a face that the identity network takes for another person, or whose pixels differ clearly more than
        the rest of the picture. Those that are still found at their place come first, by the network's distance.
        """
        if self.target is self.swapped:  # one file
            return []
        levels, least = self._levels()
        found = []
        for i, (face, level) in enumerate(zip(self.target.faces, levels, strict=True)):
            at = self.partner(i)
            other = None if at is None else self.swapped.faces[at]
            far = np.nan
            if self._identity and other is not None and face.error is None and other.error is None:
                far = self._distance(self._who(face, self._pixels[0]), other, self._pixels[2])
            if level > least or far >= SAME_PERSON:
                found.append((other is not None, float(np.nan_to_num(far)), level, i))
        return [i for *_, i in sorted(found, reverse=True)]

    def check_scene(self) -> None:
        """Whether places mean anything: the pictures of several people show one scene from edge to edge.

        Raises:
            NoFaceError: they don't, so that somebody else may stand where the target stood.
        """
        if self.target is self.swapped or len(self.target.faces) < 2:
            return
        a, b = self._small()
        outside = self._outside(a.shape)
        around = [picture[outside] for picture in (a, b)]
        if outside.mean() < AROUND or min(float(part.std()) for part in around) < PLAIN:
            return
        alike = float(np.corrcoef(around[0], around[1])[0, 1])
        if alike < SAME_SCENE:
            raise NoFaceError(
                "no face that is surely the target's: around the faces the pictures don't agree (correlation "
                f"{alike:.2f}). Is the swapped one mirrored, moved or enlarged? A manifest names a `swapped_face`"
            )

    def cropped(self, face: int) -> int:
        """Which of the target's faces a crop shows, told by what a swap leaves: pose, light, hair, what is behind.

        Raises:
            NoFaceError: it can't be told.
        """
        patch = self._patch(self.swapped.faces[face], self._pixels[2])
        alike = [self._alike(patch, f) for f in self.target.faces]
        best, second = np.argsort(alike)[::-1][:2]
        if alike[best] < ALIKE or alike[best] - alike[second] < AHEAD:
            count = len(alike)
            raise NoFaceError(f"{count} faces, and which of them the swapped image is a crop of can't be told: name it")
        return int(best)

    def _who(self, seen: Represented, pixels: Pixels) -> Vector:
        """(128,) the identity network's vector of a face."""
        assert self._identity is not None
        method = self._identity()
        if method.name not in seen.vectors:
            assert seen.face is not None
            (seen.vectors[method.name],) = method.represent([seen.face.seen_in(pixels())])
        return seen.vectors[method.name]

    def _distance(self, who: Vector, seen: Represented, pixels: Pixels) -> float:
        assert self._identity is not None
        return float("nan") if seen.error else float(self._identity().distance([who], [self._who(seen, pixels)])[0])

    def _levels(self) -> tuple[list[float], float]:
        """By how many grey levels each of the target's faces differs, and above how many it is changed."""
        a, b = self._small()
        difference = np.abs(a - b)
        outside = self._outside(difference.shape)
        parts = []
        for x0, y0, x1, y1 in self._boxes(difference.shape):
            part = difference[y0:y1, x0:x1]
            parts.append(float(part.mean()) if part.size else 0.0)
        rest = float(np.median(difference[outside])) if outside.any() else 0.0
        return parts, max(LEAST_CHANGE, BEYOND * max(rest, min(parts)))

    def _small(self) -> tuple[Luma, Luma]:
        """Luma of target and swapped picture, small, of one size, and blurred."""
        if self._pair is None:
            a, b = self._pixels[0](), self._pixels[2]()
            scale = min(1.0, SIDE / max(a.shape[:2]), SIDE / max(b.shape[:2]))
            size = [max(1, round(n * scale)) for n in (min(a.shape[1], b.shape[1]), min(a.shape[0], b.shape[0]))]
            self._pair = _blurred(a, size), _blurred(b, size)
        return self._pair

    def _boxes(self, shape: tuple[int, ...]) -> list[list[int]]:
        """x0, y0, x1, y1 of each of the target's faces in a picture of this height and width, px."""
        size = [shape[1], shape[0]] * 2
        return [np.clip(np.round(place * size), 0, size).astype(int).tolist() for place in self.target.places]

    def _outside(self, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
        """Where a picture shows none of the target's faces."""
        outside = np.ones(shape, bool)
        for x0, y0, x1, y1 in self._boxes(shape):
            outside[y0:y1, x0:x1] = False
        return outside

    def _patch(self, seen: Represented, pixels: Pixels) -> Floats:
        """The aligned crop, small and grey; of mean 0 and length 1."""
        assert seen.face is not None
        crop = seen.face.seen_in(pixels()).crop(TEMPLATE)
        patch = _grey(crop, (PATCH, PATCH)).astype(np.float64)
        patch -= patch.mean()
        return patch / max(float(np.linalg.norm(patch)), 1e-9)

    def _alike(self, patch: Floats, seen: Represented) -> float:
        return -1.0 if seen.face is None else float((patch * self._patch(seen, self._pixels[0])).sum())


def _no_pixels() -> Image:
    raise NoFaceError("there is no such image")


def _blurred(image: Image, size: Sequence[int]) -> Luma:
    return np.asarray(cv2.blur(_grey(image, size), (BLUR, BLUR)), np.float32)


def _grey(image: Image, size: Sequence[int]) -> Luma:
    """Luma of a picture, resized to width and height."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)
