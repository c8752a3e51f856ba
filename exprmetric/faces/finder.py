"""From an image to the one face that is measured: detect, choose, find its landmarks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from exprmetric.errors import InputError, NoFaceError, SeveralFacesError
from exprmetric.faces import landmarks
from exprmetric.faces.detection import Detection, Detector, Floats, Image
from exprmetric.faces.face import Face


def _largest(found: Sequence[Detection], image: Image) -> Detection:
    # dlib's boxes come in few sizes: of equals the surest, or a faint false face could stand for the person
    return max(found, key=lambda d: (d.area, d.score, -d.box[0]))


def _center(found: Sequence[Detection], image: Image) -> Detection:
    middle = np.array([image.shape[1], image.shape[0]]) / 2
    return min(found, key=lambda d: float(np.linalg.norm((d.box[:2] + d.box[2:]) / 2 - middle)))


def _error(found: Sequence[Detection], image: Image) -> Detection:
    raise SeveralFacesError(f"{len(found)} faces found and exactly one was asked for")


CHOICES: dict[str, Callable[[Sequence[Detection], Image], Detection]] = {
    "largest": _largest,
    "center": _center,
    "error": _error,
}


def iou(a: Floats, b: Floats) -> float:
    """Intersection over union of two boxes x0, y0, x1, y1; 0..1."""
    overlap = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - overlap
    return float(overlap / union) if union > 0 else 0.0


@dataclass(frozen=True)
class FaceFinder:
    """Finds the face that is measured in each image.

    Attributes:
        detector: where faces are.
        choice: which one of several: `largest`, `center`, or `error` (raise SeveralFacesError).
    """

    detector: Detector
    choice: str = "largest"

    def __post_init__(self) -> None:
        if self.choice not in CHOICES:
            raise InputError(f"unknown face choice {self.choice!r}; known: {', '.join(CHOICES)}")

    @property
    def fingerprint(self) -> str:
        """Identifies all that decides which pixels a method sees."""
        return f"{self.detector.fingerprint}/{self.choice}/{landmarks.fingerprint()}"

    def find(self, image: Image, *, near: Floats | None = None) -> Face:
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

    def choose(self, found: Sequence[Detection], image: Image, *, near: Floats | None = None) -> Detection:
        """The one that is measured.

        Args:
            near: (4,) box as shares of the width and height, 0..1. Of several faces, the one that overlaps it best
                is taken (the swapped face stands where the target's face stood); where none does, `choice` decides.

        Raises:
            SeveralFacesError: `choice` is `error` and there are several.
        """
        if len(found) == 1:
            return found[0]
        if near is not None:
            size = np.array([image.shape[1], image.shape[0]] * 2, np.float64)
            overlaps = [iou(d.box / size, near) for d in found]
            if max(overlaps) > 0:
                return found[int(np.argmax(overlaps))]
        return CHOICES[self.choice](found, image)

    def face(self, image: Image, chosen: Detection) -> Face:
        """A detection with its 68 landmarks."""
        points = landmarks.predict(image, chosen.landmark_box)
        if self.detector.aligned:  # the box was a guess: let the points say where dlib would have drawn it
            points = landmarks.refine(image, points)
        return Face(
            image,
            chosen.box,
            chosen.score,
            points,
            chosen.five_points,
            self.detector.name,
            aligned=self.detector.aligned,
        )
