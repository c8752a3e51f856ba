"""`PointModel`: what says where eyes, nose and mouth of a detected face are."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from exprmetric.faces.detection import Detection, Image

Points = npt.NDArray[np.float64]
UNSETTLED = 0.15
"""Drift, see `PointModel.drift`, from which points are those of no face."""


class Predicted(NamedTuple):
    """What a model sees in a detected face.

    Attributes:
        points: (K, 2) px of the image, of the model's own kind.
        present: whether the model takes what it saw for a face; True where it can't tell.
    """

    points: Points
    present: bool = True


class PointModel(Protocol):
    """A landmark model. It knows upright faces; others are turned before (`faces.upright`).

    Attributes:
        name: one of `exprmetric.faces.point_models.LANDMARKS`.
        weights: the manifest entries that it reads.
    """

    name: str
    weights: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Identifies the points."""
        ...

    def predict(self, image: Image, found: Detection) -> Predicted:
        """The points of a face that stands upright in an image, (H, W, 3) uint8 RGB."""
        ...

    def drift(self, image: Image, points: Points) -> float:
        """How far points move, on average, when they are found again from where they are, in sizes of the face.

        On a face they stay; where there is none they move by more than `UNSETTLED`.
        """
        ...

    def refine(self, image: Image, points: Points) -> Points:
        """Points that came of a box of unknown kind, found again."""
        ...

    def settle(self, image: Image, found: Detection) -> Points:
        """The points of the face that fills an image, its box a guess.

        Raises:
            ImplausibleFaceError: there is no face.
        """
        ...

    def five(self, points: Points) -> Points:
        """(5, 2) eye centres, nose tip and mouth corners among the points."""
        ...

    def landmarks(self, points: Points) -> Points:
        """(68, 2) the points in dlib's order; NaN where the model has none."""
        ...
