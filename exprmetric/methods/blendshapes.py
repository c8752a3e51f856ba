"""`blendshapes` and `blendshapes-token`: what MediaPipe's face landmarker says of an expression.

`blendshapes` are its 52 scores, 0..1 each, `_neutral` among them: how far a brow is raised, a jaw open, a mouth corner
drawn up. `blendshapes-token` are the 64 numbers that its last layer makes the scores of: before the sigmoid, which
flattens small and large movements alike. Both are compared as they are (Euclidean, not unit-norm: a face at rest is a
vector near zero, whose direction means nothing). Of a face that both are asked for, the networks run once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from exprmetric.errors import LowQualityError
from exprmetric.faces import alignment, upright
from exprmetric.faces.face import Face
from exprmetric.faces.face_mesh import (
    BLENDSHAPES,
    FIRST_CENTRE,
    FIRST_SIDE,
    PRESENCE,
    REFINEMENTS,
    WEIGHTS,
    FaceMesh,
    Mesh,
    shared_mesh,
)
from exprmetric.methods.base import Method, Vectors
from exprmetric.methods.registry import register_method
from exprmetric.weights import store as weights

READING = "face-mesh"
MOST, LEAST = 3, 0.1
"""Blendshapes that are named of a pair of faces, and by how much they changed at least."""


def mesh_of(face: Face, network: FaceMesh) -> Mesh:
    """The mesh of a face; its networks run once, however many methods ask.

    Raises:
        LowQualityError: MediaPipe doesn't see a face where the detector saw one.
        ValueError: the face let go of its image before.
    """
    if READING not in face.readings:
        if face.image is None:
            raise ValueError("the face let go of its image before its mesh was read")
        # not face.matrix: of a crop that came aligned, that one says nothing of the eyes
        matrix = alignment.similarity(face.eye_centres, alignment.EYES)
        face.readings[READING] = network.read(face.image, matrix)
    mesh: Mesh = face.readings[READING]
    if mesh.presence < PRESENCE:
        raise LowQualityError(
            f"MediaPipe sees no face (presence {mesh.presence:.2f}, needed {PRESENCE}) where {face.detector} found one"
        )
    return mesh


def moved(before: npt.ArrayLike, after: npt.ArrayLike) -> str:
    """Which blendshapes changed most, such as `jawOpen -0.41, mouthSmileLeft -0.35`; `nothing` where none did by
    `LEAST`. Left and right are the person's own.

    Args:
        before: (52,) scores of the target.
        after: (52,) scores of the swapped face.
    """
    change = np.asarray(after, np.float64) - np.asarray(before, np.float64)
    most = [i for i in np.argsort(-np.abs(change), kind="stable")[:MOST].tolist() if abs(change[i]) >= LEAST]
    return ", ".join(f"{BLENDSHAPES[i]} {change[i]:+.2f}" for i in most) or "nothing"


class BlendshapeMethod(Method):
    """One attribute of the `Mesh` as the vector."""

    template = "eyes70"

    def __init__(self, name: str, attribute: str, dimension: int) -> None:
        self.name = name
        self.attribute = attribute
        self.dimension = dimension
        self._network = shared_mesh(weights.find(WEIGHTS))

    @property
    def fingerprint(self) -> str:
        start = f"{FIRST_CENTRE[0]}-{FIRST_CENTRE[1]}-{FIRST_SIDE}-{REFINEMENTS}"
        return f"{WEIGHTS}:{weights.entry(WEIGHTS).sha256[:16]}/{start}/{upright.VERSION}/{self.attribute}"

    def prepare(self, face: Face) -> None:
        mesh_of(face, self._network)

    def represent(self, faces: Sequence[Face]) -> Vectors:
        vectors = np.empty((len(faces), self.dimension), np.float32)
        for i, face in enumerate(faces):
            vectors[i] = getattr(mesh_of(face, self._network), self.attribute)
        return vectors


@register_method("blendshapes")
def _blendshapes(provider: str) -> Method:
    return BlendshapeMethod("blendshapes", "blendshapes", 52)


@register_method("blendshapes-token")
def _token(provider: str) -> Method:
    return BlendshapeMethod("blendshapes-token", "token", 64)
