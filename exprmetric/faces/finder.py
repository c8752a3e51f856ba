"""From an image to the one face that is measured: detect, choose, find its landmarks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from exprmetric.errors import InputError, NoFaceError, SeveralFacesError
from exprmetric.faces import plausible, upright
from exprmetric.faces.detection import Detection, Detector, Floats, Image, gives_points, load_detector
from exprmetric.faces.face import Face
from exprmetric.faces.place import NOT_THERE, Place, Size, at_place, place_of
from exprmetric.faces.point_models import DEFAULT, DlibPoints, load_points
from exprmetric.faces.points import PointModel


class Boxed(Protocol):
    """What a choice is made among.

    Attributes:
        box: (4,) x0, y0, x1, y1, px.
        score: the detector's confidence.
    """

    @property
    def box(self) -> Floats: ...

    @property
    def score(self) -> float: ...


B = TypeVar("B", bound=Boxed)


def largest(found: Sequence[B], size: Size) -> B:
    """The face whose box is largest."""
    # dlib's boxes come in few sizes: of equals the surest, or a faint false face could stand for the person
    return max(found, key=lambda d: (float(np.prod(np.maximum(d.box[2:] - d.box[:2], 0))), d.score, -d.box[0]))


def _center(found: Sequence[B], size: Size) -> B:
    middle = np.array([size[1], size[0]]) / 2
    return min(found, key=lambda d: float(np.linalg.norm((d.box[:2] + d.box[2:]) / 2 - middle)))


def _error(found: Sequence[B], size: Size) -> B:
    if len(found) > 1:
        raise SeveralFacesError(f"{len(found)} faces found and exactly one was asked for")
    return found[0]


CHOICES: dict[str, Callable[[Sequence[Any], Size], Any]] = {
    "largest": largest,
    "center": _center,
    "error": _error,
}
"""Which of the faces of one image, by name; the image's size is (height, width)."""


@dataclass(frozen=True)
class FaceFinder:
    """Finds the face that is measured in each image.

    Attributes:
        detector: where faces are.
        choice: which one of several: `largest`, `center`, or `error` (raise SeveralFacesError).
        points: where the eyes of a face are.
    """

    detector: Detector
    choice: str = "largest"
    points: PointModel = field(default_factory=DlibPoints)

    def __post_init__(self) -> None:
        if self.choice not in CHOICES:
            raise InputError(f"unknown face choice {self.choice!r}; known: {', '.join(CHOICES)}")

    @property
    def fingerprint(self) -> str:
        """Identifies all that decides which pixels a method sees."""
        return f"{self.detector.fingerprint}/{self.choice}/{self.points.fingerprint}"

    @property
    def seen(self) -> str:
        """Identifies what is found in an image, whichever of its faces is chosen then."""
        return f"{self.detector.fingerprint}/{self.points.fingerprint}"

    def find(self, image: Image, *, near: Place | None = None) -> Face:
        """The face of an image: `detect`, then `choose`, then `face`.

        Args:
            image: (H, W, 3) uint8 RGB.
            near: see `choose`.

        Raises:
            NoFaceError, SeveralFacesError.
        """
        return self.face(image, self.choose(self.detect(image), image, near=near))

    def detect(self, image: Image) -> list[Detection]:
        """All faces; NoFaceError when there is none."""
        found = self.detector.detect(image)
        if not found:
            height, width = image.shape[:2]
            raise NoFaceError(f"{self.detector.name} finds no face in {width} x {height} px")
        return found

    def choose(self, found: Sequence[Detection], image: Image, *, near: Place | None = None) -> Detection:
        """The one that is measured.

        Args:
            near: (4,) box as shares of the width and height, 0..1: the face at this place is taken (the swapped face
                stands where the target's face stood). None: `choice` decides.

        Raises:
            NoFaceError: no face is at the place.
            SeveralFacesError: `choice` is `error` and there are several.
        """
        size = (image.shape[0], image.shape[1])
        if near is None:
            chosen: Detection = CHOICES[self.choice](found, size)
            return chosen
        at = at_place(near, [place_of(d.box, size) for d in found])
        if at is None:
            raise NoFaceError(NOT_THERE)
        return found[at]

    def face(self, image: Image, chosen: Detection) -> Face:
        """A detection with its landmarks, found in the face turned upright.

        Raises:
            ImplausibleFaceError: box and landmarks are no face's.
        """
        where = f"{self.detector.name}'s box" if not self.detector.aligned else "image"
        plausible.check_box(chosen.box, image.shape[:2], where)
        if self.detector.aligned:  # the box was a guess: let the points say where dlib would have drawn it
            located = upright.Located(self.points.settle(image, chosen))
        else:
            located = upright.locate(image, chosen, self.detector, self.points)
        if self.points.name != "none":
            plausible.check_points(self.points.landmarks(located.points), chosen.box, where)
        elif located.five_points is not None:
            plausible.check_five(located.five_points, chosen.box, where)
        return Face(
            image,
            chosen.box,
            chosen.score,
            self.points.landmarks(located.points),
            located.five_points,
            self.detector.name,
            aligned=self.detector.aligned,
            corners=located.corners,
        )


def open_finder(
    detector: str = "auto", choice: str = "largest", *, provider: str = "cpu", landmarks: str = DEFAULT
) -> FaceFinder:
    """A finder by names.

    Args:
        detector: as in `load_detector`.
        provider: as in `load_detector`.
        choice: see `FaceFinder`.
        landmarks: see `exprmetric.faces.point_models.load_points`.

    Raises:
        InputError: no detector, landmark model or choice has this name, or the landmark model is the detector's own
            points and it has none.
        WeightsNotFoundError: its weights are not on this machine. ForbiddenWeightsError: they may not be used here.
    """
    found, points = load_detector(detector, provider=provider), load_points(landmarks)
    if points.name == "none" and not (found.aligned or gives_points(found)):
        raise InputError(f"the detector {found.name} draws no points: landmarks 'none' need scrfd or yunet")
    return FaceFinder(found, choice, points)
