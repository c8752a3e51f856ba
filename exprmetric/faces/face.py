"""`Face`: the one object that travels from detection to every method."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.errors import ImplausibleFaceError
from exprmetric.faces import alignment, templates
from exprmetric.faces.detection import eyes_of_five_points
from exprmetric.faces.place import place_of

Image = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]


@dataclass(eq=False)
class Face:
    """One face of one image.

    Attributes:
        image: (H, W, 3) uint8 RGB, original pixels; None once `prepare` has let go of them.
        box: (4,) float64 x0, y0, x1, y1 in image px, as the detector drew it.
        score: the detector's confidence, in its own unit.
        landmarks: (68, 2) float64 dlib points in image px, or another model's in their order; NaN where there are none
            (`--landmarks none`).
        five_points: (5, 2) eyes, nose, mouth corners of the detector, where it gives them.
        detector: name of the detector that found the face.
        corners: (3, 2) upper left, upper right and lower left corner of the box as the face stands, image px, where the
            face is rolled (see `faces.upright`).
        aligned: the image is an aligned crop already (detector `none`): templates resize it, they don't align it.
        crops: aligned crops by template name, filled on demand.
        readings: what methods read off the original pixels, by a name that methods share (`Method.prepare`).
        size: height and width of the image, px; needed only where there is no image.
    """

    image: Image | None
    box: Points
    score: float
    landmarks: Points
    five_points: Points | None = None
    detector: str = ""
    aligned: bool = False
    corners: Points | None = None
    crops: dict[str, Image] = field(default_factory=dict, repr=False)
    readings: dict[str, Any] = field(default_factory=dict, repr=False)
    size: tuple[int, int] = (0, 0)
    _matrices: dict[str, alignment.Matrix] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.image is not None:
            self.size = (self.image.shape[0], self.image.shape[1])

    @property
    def place(self) -> Points:
        """(4,) the box as shares of the image's width and height, 0..1."""
        return place_of(self.box, self.size)

    @property
    def eye_centres(self) -> Points:
        """(2, 2) px of the image: of the landmarks; without any those of the detector, or of an aligned crop."""
        if np.isfinite(self.landmarks).all():
            return alignment.eye_centres(self.landmarks)
        if self.five_points is not None:
            return eyes_of_five_points(self.five_points, self.detector)
        if self.aligned:
            height, width = self.size
            return alignment.EYES * (width / alignment.CROP_SIZE, height / alignment.CROP_SIZE)
        raise ImplausibleFaceError("nothing says where the eyes of this face are")

    @property
    def upright(self) -> alignment.Matrix:
        """(2, 3) rotation of the image about its first pixel that makes a rolled face upright; else none at all."""
        if self.corners is None:
            return np.eye(2, 3)
        cos, sin = (self.corners[1] - self.corners[0]) / np.linalg.norm(self.corners[1] - self.corners[0])
        return np.array([[cos, sin, 0.0], [-sin, cos, 0.0]])

    def matrix(self, template: str) -> alignment.Matrix:
        """(2, 3) map from image px to the crop px of a template; computed once."""
        if template not in self._matrices:
            self._matrices[template] = self._resize() if self.aligned else templates.template(template).matrix(self)
        return self._matrices[template]

    def _resize(self) -> alignment.Matrix:
        height, width = self.size
        sx, sy = alignment.CROP_SIZE / width, alignment.CROP_SIZE / height
        return np.array([[sx, 0.0, 0.5 * sx - 0.5], [0.0, sy, 0.5 * sy - 0.5]])

    def crop(self, template: str) -> Image:
        """(224, 224, 3) uint8 RGB crop (`dlib150`: 150 px), warped once from the original pixels."""
        if template not in self.crops:
            if self.image is None:
                raise ValueError(f"the face let go of its image before a crop {template!r} was made")
            cut = templates.template(template).cut
            self.crops[template] = cut(self) if cut else alignment.warp(self.image, self.matrix(template))
        return self.crops[template]

    def aligned_landmarks(self, template: str = "eyes70") -> Points:
        """(68, 2) float64 landmarks in the coordinates of the aligned crop divided by its side."""
        return alignment.transform(self.matrix(template), self.landmarks) / alignment.CROP_SIZE

    def prepare(self, templates: Iterable[str], *, keep_image: bool = False) -> Face:
        """Make the crops that the methods will ask for and let go of the original pixels; returns itself."""
        for name in templates:
            self.crop(name)
        if not keep_image:
            self.image = None
        return self

    def seen_in(self, image: Image) -> Face:
        """The same face with its pixels, which it had let go of."""
        return replace(self, image=image, crops={}, readings={})

    def forget(self) -> None:
        """Let go of crops and readings: all methods have seen them."""
        self.crops.clear()
        self.readings.clear()
