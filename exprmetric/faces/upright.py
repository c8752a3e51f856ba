"""Rolled faces: turned upright, by the detector's own evidence, before their landmarks are found.

dlib's predictor knows upright faces. Its points are as good as ever up to some 16 degrees of roll and break from 30 on,
and the five points of a detector say little of a face that lies on its side or stands on its head. So a face that is
rolled, or whose evidence is doubtful, is looked at again: a square around it is cut out in eight turns, 45 degrees
apart, and the turn is right in which the detector is surest. Its landmarks are found in that turn and mapped back.
An upright face is left alone: its numbers are those of the one look that found it. A face that is convincing in no
turn is a ImplausibleFaceError.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.errors import ImplausibleFaceError
from exprmetric.faces import alignment
from exprmetric.faces.alignment import Matrix
from exprmetric.faces.detection import Detection, Detector, Image
from exprmetric.faces.points import UNSETTLED, PointModel, Points, Predicted

VERSION = "upright-2"
"""Changes with whatever changes a landmark, or which faces have any."""
TOLERATED = 16.0
"""Degrees of roll up to which a face counts as upright. Turned further than this, landmarks move by more than they do
when the same upright face is detected twice: 1.5 % of the eye distance; 1.9 % at 15, 2.3 % at 25, 3 % at 30 degrees."""
DOUBT, REFUSED = 0.125, 0.3
"""Mean distance between the detector's five points and those among the 68, in units of the face: above the first, the
face is looked at in all turns; above the second, whichever way it is turned, it is refused. Of 160 photographs of
upright faces SCRFD's reach 0.10 and YuNet's 0.16; of faces on their heads they begin at 0.08, where scores are low."""
RESTLESS = 0.04
"""Drift (`landmarks.drift`) from which a face is in doubt where its detector gives no five points, and that of a turned
face may not reach; of 300 photographs 2 % do."""
SETTLED = 0.03
"""Drift below which an upright face is out of one doubt, though not of two: 95 % of faces; those
on their heads begin at 0.028."""
TURN = 45.0
"""Degrees between two turns: a face is then at most 22.5 away from being upright in one of them."""
AROUND = 2.2
"""Side of the square that is looked at, in the longer side of the face's box."""
LOOK, LARGEST = 320, 1024
"""Side of the square as the detector sees it, px, and the longest that the predictor sees."""


@dataclass(frozen=True, eq=False)
class Located:
    """Where a face is in its image, px.

    Attributes:
        points: (K, 2) of the landmark model's own kind.
        five_points: (5, 2) of the detector, where it gives them; of a rolled face those of the turn that was right.
        corners: (3, 2) upper left, upper right and lower left corner of its box as the face stands, where it is rolled.
    """

    points: Points
    five_points: Points | None = None
    corners: Points | None = None


def roll(points: npt.ArrayLike) -> float:
    """Degrees by which a face is rolled, clockwise as the image is seen: -180..180.

    Args:
        points: (K, 2), the first two of them the eye centres; the one that an upright image shows on its left comes
            first.
    """
    x, y = np.subtract(*np.asarray(points, np.float64)[1::-1])
    return float(np.degrees(np.arctan2(y, x)))


def is_rolled(points: npt.ArrayLike) -> bool:
    """Whether a face with these eye centres is turned before it is read; see `roll`."""
    return abs(roll(points)) > TOLERATED


def turned(centre: npt.ArrayLike, side: float, degrees: float, size: int) -> Matrix:
    """(2, 3) map of a square, rolled clockwise by `degrees`, to an upright one of `size` px."""
    angle, scale = np.radians(degrees), size / max(float(side), 1.0)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.array([[cos, sin], [-sin, cos]])
    return np.column_stack([linear, np.full(2, (size - 1) / 2) - linear @ np.asarray(centre, np.float64)])


def locate(image: Image, found: Detection, detector: Detector, points: PointModel) -> Located:
    """The landmarks of a detected face, however it is rolled.

    Args:
        image: (H, W, 3) uint8 RGB.
        found: by `detector` in this image.
        points: finds the landmarks of upright faces.

    Raises:
        ImplausibleFaceError: in no turn do landmarks and detector agree on a face.
    """
    first = _Look(image, np.eye(2, 3), found, points)
    as_found = Located(first.points, found.five_points)
    unsure = first.score < getattr(detector, "sure", -np.inf)
    doubts = first.doubtful + unsure
    if not first.rolled and not first.refused and (doubts == 0 or (doubts == 1 and first.drift < SETTLED)):
        return as_found
    if not hasattr(detector, "glance"):
        return _settled(first)
    centre, side = (found.box[:2] + found.box[2:]) / 2, AROUND * float((found.box[2:] - found.box[:2]).max())

    def look(degrees: float) -> _Look | None:
        return _look(image, centre, side, degrees, detector, points)

    if doubts == 0:  # rolled, and the evidence agrees: one turn settles it, if it agrees too
        one = look(first.tilt)
        if one is not None and not (one.doubtful or one.refused or one.rolled):
            return one.located(image, centre, side)
    every = (look(first.roll + TURN * k) for k in range(round(360 / TURN)))
    looks = sorted((x for x in every if x is not None), key=lambda x: -x.score)
    if not first.rolled and not first.refused and (not looks or looks[0].shows_upright):
        if first.unsettled and (not looks or looks[0].refused):
            raise ImplausibleFaceError(f"{detector.name} and the landmarks hardly see a face, however it is turned")
        return as_found
    for place, seen in enumerate(looks[:3]):
        straight = look(seen.turn + seen.tilt) if abs(seen.tilt) > TOLERATED / 2 else None
        if straight is not None and (seen.doubtful or seen.rolled or not straight.doubtful):
            seen = straight
        if seen.convincing and not (place and seen.doubtful):
            return seen.located(image, centre, side)
    if looks and not (first.rolled or first.doubtful or first.drift > RESTLESS):
        return as_found
    raise ImplausibleFaceError(f"no landmarks fit the face that {detector.name} found, however it is turned")


def _look(image: Image, centre: Points, side: float, degrees: float, detector: Any, points: PointModel) -> _Look | None:
    """What the detector sees at the middle of a square, turned; None where it sees no face there."""
    matrix = turned(centre, side, degrees, LOOK)
    region = alignment.warp(image, matrix, LOOK)
    middle = [d for d in detector.glance(region) if (d.box[:2] < LOOK / 2).all() and (d.box[2:] > LOOK / 2).all()]
    if not middle:
        return None
    best = max(middle, key=lambda d: d.score)
    return _Look(region, matrix, best, points)


def _settled(look: _Look) -> Located:
    """The face of a detector that can't be asked again; its box may not be drawn as dlib draws it."""
    if look.refused and look.found.five_points is None:
        look = look.refined()
    if look.refused:
        raise ImplausibleFaceError("no landmarks fit the face that was found")
    return Located(look.points, look.found.five_points)


class _Look:
    """A detection with its landmarks in one turn, px of that turn's picture; `matrix` maps the image's px to them."""

    def __init__(
        self, picture: Image, matrix: Matrix, found: Detection, model: PointModel, points: Points | None = None
    ) -> None:
        self.picture, self.matrix, self.found, self.model = picture, matrix, found, model
        self.score = found.score
        self._given = points

    @cached_property
    def _predicted(self) -> Predicted:
        """The landmarks, and whether the model sees a face. Most turns are told apart by their scores alone."""
        return self.model.predict(self.picture, self.found) if self._given is None else Predicted(self._given)

    @property
    def points(self) -> Points:
        """(K, 2) landmarks."""
        return self._predicted.points

    @cached_property
    def tilt(self) -> float:
        """Degrees by which the landmarks are rolled."""
        return roll(self.model.five(self.points))

    @property
    def roll(self) -> float:
        """Degrees by which the detector's five points are rolled; without any, the landmarks."""
        return self.tilt if self.found.five_points is None else roll(self.found.five_points)

    @cached_property
    def _apart(self) -> float:
        """Between detector and landmarks, in units of the face; without the detector's points, the drift."""
        five = self.found.five_points
        if five is None:
            return self.drift
        apart = float(np.linalg.norm(five - self.model.five(self.points), axis=1).mean())
        return apart / max(alignment.extent(five), 1e-9)

    @property
    def doubtful(self) -> bool:
        """Whether detector and landmarks disagree."""
        return self._apart > (RESTLESS if self.found.five_points is None else DOUBT) or not self._predicted.present

    @property
    def refused(self) -> bool:
        """Whether they disagree so far that this is no face."""
        return self._apart > (UNSETTLED if self.found.five_points is None else REFUSED) or not self._predicted.present

    def refined(self) -> _Look:
        """The same with its landmarks found again from where they are."""
        again = self.model.refine(self.picture, self.points)
        return _Look(self.picture, self.matrix, self.found, self.model, again)

    @property
    def unsettled(self) -> bool:
        """Whether the landmarks move by more than those of most faces when they are found again."""
        return self.drift > UNSETTLED / 2

    @property
    def convincing(self) -> bool:
        """Whether this is a face, upright in this turn."""
        return self.drift < RESTLESS and not self.refused and not self.rolled

    @cached_property
    def drift(self) -> float:
        """How far the landmarks move when they are found again."""
        return self.model.drift(self.picture, self.points)

    @property
    def turn(self) -> float:
        """Degrees by which the image was turned."""
        return float(np.degrees(np.arctan2(self.matrix[0, 1], self.matrix[0, 0])))

    @property
    def rolled(self) -> bool:
        """Whether the face is not upright in this turn, by the landmarks or the detector."""
        return max(abs(self.roll), abs(self.tilt)) > TOLERATED

    @property
    def shows_upright(self) -> bool:
        """Whether the face is upright in the image, as this turn shows it."""
        return abs((self.turn + self.tilt + 180) % 360 - 180) <= TOLERATED

    def located(self, image: Image, centre: Points, side: float) -> Located:
        """In px of the image; the landmarks found again in its own resolution where that is finer."""
        matrix, points = self.matrix, self.points
        size = min(round(side), LARGEST)
        if size > LOOK:
            matrix = turned(centre, side, self.turn, size)
            points = self.model.predict(alignment.warp(image, matrix, size), self._found_in(matrix)).points
        x0, y0, x1, y1 = self.found.box
        five = self.found.five_points
        return Located(
            alignment.transform(alignment.inverse(matrix), points),
            None if five is None else self._out(five),
            self._out([(x0, y0), (x1, y0), (x0, y1)]),
        )

    def _found_in(self, matrix: Matrix) -> Detection:
        """The detection in px of another picture of the same turn."""

        def there(points: Points) -> Points:
            return alignment.transform(matrix, self._out(points))

        box, square = (there(b.reshape(2, 2)).ravel() for b in (self.found.box, self.found.landmark_box))
        five = self.found.five_points
        return Detection(box, self.found.score, square, None if five is None else there(five))

    def _out(self, points: npt.ArrayLike) -> Points:
        return alignment.transform(alignment.inverse(self.matrix), points)
