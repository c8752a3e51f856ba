"""`pose` and `pose-mesh`: yaw, pitch and roll of the head in degrees, compared by their mean absolute difference.

Swap papers print a pose error beside the expression: a swap that keeps the expression and turns the head has failed.
`pose` reads dlib's 68 points. `pose-mesh` fits MediaPipe's canonical face to its mesh, where its weights are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from exprmetric.errors import LowQualityError
from exprmetric.faces import landmarks
from exprmetric.faces.face import Face
from exprmetric.faces.face_mesh import EYE_CORNERS, WEIGHTS, shared_mesh
from exprmetric.faces.head import Pose, fitted_pose, head_pose
from exprmetric.methods.base import Method, Vectors
from exprmetric.methods.blendshapes import mesh_of
from exprmetric.methods.canonical_face import canonical_face
from exprmetric.methods.registry import register_method
from exprmetric.weights import store as weights

MODEL = "head11"
"""Version of the head model, for the fingerprint."""


class PoseMethod(Method):
    """(N, 3) yaw, pitch, roll of `exprmetric.faces.head.Pose`, degrees; `pose:l2` is the Euclidean distance."""

    name = "pose"
    template = "eyes70"
    distance_name = "degrees"
    dimension = 3
    pixels = False
    landmark_models: tuple[str, ...] = ("dlib68",)

    @property
    def fingerprint(self) -> str:
        return f"{landmarks.fingerprint()}/{MODEL}"

    def pose(self, face: Face) -> Pose:
        """The pose of one face."""
        return head_pose(face.landmarks)

    def prepare(self, face: Face) -> None:
        if not np.isfinite(self.pose(face)).all():
            raise LowQualityError("its points are those of no head that could be seen: the pose can't be told")

    def represent(self, faces: Sequence[Face]) -> Vectors:
        return np.array([self.pose(face) for face in faces], np.float32).reshape(len(faces), self.dimension)


class MeshPoseMethod(PoseMethod):
    """The same from the points of MediaPipe's mesh that its own pose estimation trusts."""

    name = "pose-mesh"
    pixels = True
    landmark_models = Method.landmark_models

    def __init__(self) -> None:
        path = weights.find(WEIGHTS)
        self._network = shared_mesh(path)
        points, self._rigid = canonical_face(path)
        self._model = points[self._rigid] * np.array([1.0, -1.0, -1.0])  # its y points up, its z to the camera

    @property
    def fingerprint(self) -> str:
        return f"{WEIGHTS}:{weights.entry(WEIGHTS).sha256[:16]}/canonical"

    def pose(self, face: Face) -> Pose:
        points = mesh_of(face, self._network).points[:, :2].astype(np.float64)
        first, last = (points[i] for i in EYE_CORNERS)
        # between the outer corners lie about 1.5 distances of the eye centres
        return fitted_pose(self._model, points[self._rigid], float(np.linalg.norm(last - first)) / 1.5)


@register_method("pose")
def _pose(provider: str) -> Method:
    return PoseMethod()


@register_method("pose-mesh")
def _pose_mesh(provider: str) -> Method:
    return MeshPoseMethod()
