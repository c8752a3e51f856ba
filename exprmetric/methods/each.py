"""Vectors of many faces at once, and yet each with its own error: one face spoils no other's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from exprmetric.errors import ImageError, LowQualityError
from exprmetric.faces.face import Face
from exprmetric.io.faults import of_image
from exprmetric.methods.base import Method

Vector = npt.NDArray[np.float32]
Cell = Vector | ImageError
"""What a method makes of a face: (D,) float32, all of it finite, or why there is none."""


def represent_each(method: Method, faces: Sequence[Face]) -> list[Cell]:
    """What a method makes of N faces.

    Raises:
        ExprmetricError: what is no face's fault.
    """
    if not faces:
        return []
    try:
        vectors = list(method.represent(faces))
        if len(vectors) != len(faces):
            raise ValueError(f"{len(vectors)} vectors came of {len(faces)} faces")
    except Exception as error:
        failed = of_image(error, method.name)
        return [failed] if len(faces) == 1 else [cell for face in faces for cell in represent_each(method, [face])]
    return [finite(method.name, vector) for vector in vectors]


def finite(name: str, vector: npt.ArrayLike) -> Cell:
    """A copy of a method's vector (a row of a whole batch would keep all of it alive), or the error where it is none.

    Infinite and undefined numbers come of an encoder that overflows; a distance to them says nothing.
    """
    with np.errstate(over="ignore"):
        values = np.array(vector, np.float32)
    if bad := int(values.size - np.isfinite(values).sum()):
        return LowQualityError(f"{name}: {bad} of its vector's {values.size} numbers are not finite")
    return values
