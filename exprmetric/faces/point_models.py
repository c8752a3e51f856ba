"""The landmark models, and their registry: where the eyes of a face are, which decides how it is aligned.

| name | what it is | licence |
| --- | --- | --- |
| `dlib68` | dlib's 68 points, which `lm68`, `lm51` and `pose` measure; the default | for research |
| `mesh` | MediaPipe's face mesh, 68 of its points in dlib's order | Apache-2.0 |
| `none` | the detector's own five points: eyes, nose, mouth corners | the detector's |

On 102 photographs of LFW the eye centres of the mesh lie 2.3 % of the eye distance away from dlib's (mean; 0.7 %
higher in the median) and move by 0.1 % where dlib's move by 0.6 %, when YuNet finds the face instead of SCRFD. A
detector's own eye points are others: they are moved by their median distance to dlib's and lie 4 % (SCRFD) and 5 %
(YuNet) away then.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from exprmetric import choices
from exprmetric.errors import ImplausibleFaceError, InputError
from exprmetric.faces import alignment, landmarks, upright
from exprmetric.faces.detection import Detection, Image
from exprmetric.faces.face_mesh import PRESENCE, shared_mesh
from exprmetric.faces.face_mesh import WEIGHTS as MESH_WEIGHTS
from exprmetric.faces.points import UNSETTLED, PointModel, Points, Predicted
from exprmetric.weights import store as weights

DEFAULT = choices.LANDMARKS[0]

# fmt: off
MESH_68 = (
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301,
    168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,
    78, 82, 13, 312, 308, 317, 14, 87,
)
"""Points of the mesh that stand where dlib's 68 do. The jaw line is the mesh's outline, which turns with the head."""
# fmt: on


class DlibPoints:
    """dlib's 68 points."""

    name = DEFAULT
    weights: tuple[str, ...] = (landmarks.WEIGHTS,)

    @property
    def fingerprint(self) -> str:
        return f"{landmarks.fingerprint()}/{upright.VERSION}"

    def predict(self, image: Image, found: Detection) -> Predicted:
        return Predicted(landmarks.predict(image, found.landmark_box))

    def drift(self, image: Image, points: Points) -> float:
        return landmarks.drift(image, points)

    def refine(self, image: Image, points: Points) -> Points:
        return landmarks.refine(image, points)

    def settle(self, image: Image, found: Detection) -> Points:
        return landmarks.settle(image, found.landmark_box)

    def five(self, points: Points) -> Points:
        return alignment.five_points(points)

    def landmarks(self, points: Points) -> Points:
        return points


class MeshPoints:
    """MediaPipe's mesh, (478, 2) points. Its first region comes of the detector's box.

    Raises:
        MissingPackageError, WeightsNotFoundError, WeightsHashError, WeightsError: the network can't be run.
    """

    name = "mesh"
    weights: tuple[str, ...] = (MESH_WEIGHTS,)

    def __init__(self) -> None:
        self._network = shared_mesh(weights.find(MESH_WEIGHTS))

    @property
    def fingerprint(self) -> str:
        return f"{MESH_WEIGHTS}:{weights.entry(MESH_WEIGHTS).sha256[:16]}/68/{upright.VERSION}"

    def predict(self, image: Image, found: Detection) -> Predicted:
        return self._read(image, eyes_of_box(found.landmark_box))

    def drift(self, image: Image, points: Points) -> float:
        again = self._read(image, self.five(points)[:2])
        moved = float(np.linalg.norm(again.points - points, axis=1).mean())
        return moved / max(alignment.extent(self.five(points)), 1e-9) if again.present else 1.0

    def refine(self, image: Image, points: Points) -> Points:
        return self._read(image, self.five(points)[:2]).points

    def settle(self, image: Image, found: Detection) -> Points:
        points, present = self.predict(image, found)
        if not present or self.drift(image, points) > UNSETTLED:
            raise ImplausibleFaceError("no face fills the image: MediaPipe's mesh sees none")
        return points

    def five(self, points: Points) -> Points:
        return alignment.five_points(self.landmarks(points))

    def landmarks(self, points: Points) -> Points:
        return points[list(MESH_68)]

    def _read(self, image: Image, eyes: Points) -> Predicted:
        mesh = self._network.read(image, alignment.similarity(eyes, alignment.EYES))
        return Predicted(mesh.points[:, :2].astype(np.float64), mesh.presence >= PRESENCE)


class DetectorPoints:
    """The five points that the detector has drawn. They can't be found again: they settle no doubt and raise none."""

    name = "none"
    weights: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        return f"five-points-1/{upright.VERSION}"

    def predict(self, image: Image, found: Detection) -> Predicted:
        if found.five_points is None:
            raise ImplausibleFaceError("the detector gives no points of the face")
        return Predicted(found.five_points)

    def drift(self, image: Image, points: Points) -> float:
        return (upright.SETTLED + upright.RESTLESS) / 2

    def refine(self, image: Image, points: Points) -> Points:
        return points

    def settle(self, image: Image, found: Detection) -> Points:
        return np.full((5, 2), np.nan)  # an aligned crop: its eyes are where its template puts them

    def five(self, points: Points) -> Points:
        return points

    def landmarks(self, points: Points) -> Points:
        return np.full((68, 2), np.nan)


def eyes_of_box(box: Points) -> Points:
    """(2, 2) where the eyes of an upright face are, about, in the square that dlib's detector draws around it."""
    unit = float(box[2] - box[0]) / alignment.DLIB_BOX
    middle = (box[:2] + box[2:]) / 2 - np.array(alignment.DLIB_BOX_SHIFT) * unit
    return middle + np.array([[-0.5, -0.5], [0.5, -0.5]]) * unit


LANDMARKS: dict[str, Callable[[], PointModel]] = {"dlib68": DlibPoints, "mesh": MeshPoints, "none": DetectorPoints}
"""Landmark models by name."""


def load_points(name: str = DEFAULT) -> PointModel:
    """The landmark model of this name.

    Raises:
        InputError: none has this name. MissingPackageError, WeightsError: it can't be loaded, or may not be used.
    """
    if name not in LANDMARKS:
        raise InputError(f"unknown landmarks {name!r}; known: {', '.join(LANDMARKS)}")
    model = LANDMARKS[name]()
    for entry in model.weights:  # dlib's are loaded when they are first needed
        weights.check_allowed(entry)
    return model
