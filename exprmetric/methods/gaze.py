"""`gaze`: where the eyes look, relative to the head, in degrees, from the irises of MediaPipe's mesh.

An eyeball is taken for a sphere whose radius is 0.4 of the distance between the corners of its eye (12 of 30 mm). An
iris that stands away from the middle of the corners is then turned by the arcsine of that share of the radius. The mean
over both eyes is compared. How the head is turned is `pose`; the two together say where a person looks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from exprmetric.faces.face import Face
from exprmetric.faces.face_mesh import WEIGHTS, shared_mesh
from exprmetric.methods.base import Method, Vectors
from exprmetric.methods.blendshapes import mesh_of
from exprmetric.methods.registry import register_method
from exprmetric.weights import store as weights

EYES = ((33, 133, 468), (362, 263, 473))
"""Of each eye the left and the right corner in the image, and the centre of its iris."""
RADIUS = 0.4
"""Of the eyeball, in distances between the corners of its eye."""


def eye_direction(points: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """(2,) degrees to the image's right and up, relative to the head's own axes; (478, 2 or 3) points of a mesh."""
    seen = np.asarray(points, np.float64)[:, :2]
    turned = []
    for left, right, iris in EYES:
        across = seen[right] - seen[left]
        width = max(float(np.hypot(*across)), 1e-9)
        along = across / width
        off = (seen[iris] - (seen[left] + seen[right]) / 2) / (RADIUS * width)
        turned.append((off @ along, -(off @ np.array([-along[1], along[0]]))))
    return np.degrees(np.arcsin(np.clip(turned, -1, 1))).mean(0)  # type: ignore[no-any-return]


class GazeMethod(Method):
    """(N, 2) degrees, compared by their mean absolute difference; `gaze:l2` is the Euclidean distance."""

    name = "gaze"
    template = "eyes70"
    distance_name = "degrees"
    dimension = 2

    def __init__(self) -> None:
        self._network = shared_mesh(weights.find(WEIGHTS))

    @property
    def fingerprint(self) -> str:
        return f"{WEIGHTS}:{weights.entry(WEIGHTS).sha256[:16]}/irises-{RADIUS}"

    def prepare(self, face: Face) -> None:
        mesh_of(face, self._network)

    def represent(self, faces: Sequence[Face]) -> Vectors:
        found = [eye_direction(mesh_of(face, self._network).points) for face in faces]
        return np.array(found, np.float32).reshape(len(faces), self.dimension)


@register_method("gaze")
def _gaze(provider: str) -> Method:
    return GazeMethod()
