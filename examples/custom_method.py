"""A method of one's own: the mouth alone, as 20 landmarks.

    python examples/custom_method.py swaps/

A package offers such a class to everybody through the entry point group `exprmetric.methods`; here it is registered by
hand.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

import exprmetric
from exprmetric.evaluation.tables import page
from exprmetric.faces import Face
from exprmetric.methods.base import Vectors


class Mouth(exprmetric.Method):
    """dlib's points 48-67 in the aligned crop, 40 numbers."""

    name = "mouth"
    template = "eyes70"
    dimension = 40

    @property
    def fingerprint(self) -> str:
        return "mouth/eyes70"

    def represent(self, faces: Sequence[Face]) -> Vectors:
        points = [face.aligned_landmarks(self.template)[48:] for face in faces]
        return np.array(points, np.float32).reshape(len(faces), self.dimension)


if __name__ == "__main__":
    exprmetric.register_method("mouth")(lambda provider: Mouth())
    page(exprmetric.evaluate(sys.argv[1], methods=["mouth", "lm51"])).say("table")
