"""`lm68` and `lm51`: dlib's points as an expression code, the baselines of paper 000 (section V.B).

Points in the coordinates of the `eyes70` crop divided by its side, flattened to 136 or 102 numbers; 51 points leave
out the 17 of the jaw line, which follow the shape of the face more than its expression.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from exprmetric.faces import landmarks
from exprmetric.faces.face import Face
from exprmetric.methods.base import Method, Vectors
from exprmetric.methods.registry import register_method


class LandmarkMethod(Method):
    """The last `count` of the 68 points (the jaw comes first in dlib's order)."""

    template = "eyes70"
    pixels = False
    landmark_models = ("dlib68",)

    def __init__(self, name: str, count: int) -> None:
        self.name = name
        self.count = count
        self.dimension = 2 * count

    @property
    def fingerprint(self) -> str:
        return f"{landmarks.fingerprint()}/{self.template}/{self.count}"

    def represent(self, faces: Sequence[Face]) -> Vectors:
        vectors = np.empty((len(faces), self.dimension), np.float32)
        for i, face in enumerate(faces):
            vectors[i] = face.aligned_landmarks(self.template)[-self.count :].ravel()
        return vectors


@register_method("lm68")
def _lm68(provider: str) -> Method:
    return LandmarkMethod("lm68", 68)


@register_method("lm51")
def _lm51(provider: str) -> Method:
    return LandmarkMethod("lm51", 51)
