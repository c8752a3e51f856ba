"""`identity`: dlib's face recognition network, 128 numbers; the control that stands beside every expression score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from exprmetric import weights
from exprmetric.faces.face import Face
from exprmetric.methods.base import Method, Vectors, register_method

WEIGHTS = "dlib-resnet"


@register_method("identity")
class IdentityMethod(Method):
    """dlib's ResNet on its own 150 px face chip; its authors call two faces within 0.6 the same person."""

    name = "identity"
    template = "dlib150"
    dimension = 128

    def __init__(self, provider: str = "cpu") -> None:
        self._entry = weights.entry(WEIGHTS)
        self._path = weights.find(WEIGHTS)
        self._network: Any = None

    @property
    def fingerprint(self) -> str:
        return f"{WEIGHTS}:{self._entry.sha256[:16]}/{self.template}"

    def represent(self, faces: Sequence[Face]) -> Vectors:
        if self._network is None:
            import dlib

            self._network = dlib.face_recognition_model_v1(str(self._path))
        if not faces:
            return np.empty((0, self.dimension), np.float32)
        chips = [face.crop(self.template) for face in faces]
        return np.asarray(self._network.compute_face_descriptor(chips), np.float32).reshape(len(faces), self.dimension)
