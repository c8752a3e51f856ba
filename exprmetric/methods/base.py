"""`Method`: all that differs between the rows of a result table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.faces.face import Face
from exprmetric.metrics.distances import distance_function

Vectors = npt.NDArray[np.float32]

NOT_COMPARABLE = "not comparable with other modes"
"""The note of methods that reproduce somebody else's protocol."""


class Method(ABC):
    """Turns faces into vectors and vectors into distances.

    Attributes:
        name: how the method is asked for, and its row in every table.
        template: name of the alignment template whose crop it reads.
        distance_name: a key of `exprmetric.metrics.distances.DISTANCES`.
        dimension: D, the length of its vectors.
        pixels: it reads crops or pixels; False where landmarks alone are enough.
        landmark_models: those of `exprmetric.faces.point_models.LANDMARKS` whose faces it can read; one that measures
            dlib's points can read no others.
        tag_threshold: distance within which two faces show the same expression, where its maker says so.
        note: what must stand beside its numbers wherever they are shown; '' for nothing.
    """

    name: str
    template: str
    distance_name: str = "l2"
    dimension: int
    pixels: bool = True
    landmark_models: tuple[str, ...] = ("dlib68", "mesh", "none")
    tag_threshold: float | None = None
    note: str = ""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Weights hash and preprocessing: equal fingerprints give equal vectors for equal crops."""

    def prepare(self, face: Face) -> None:  # noqa: B027  most methods need their template's crop and no more
        """Read off the original pixels what no template's crop holds, into `face.readings`.

        Called once a face, in the thread that read the image, before the face lets go of its pixels.

        Raises:
            ImageError: this method can't measure this face; its triplets are marked with the error's status.
        """

    @abstractmethod
    def represent(self, faces: Sequence[Face]) -> Vectors:
        """(N, D) float32 vectors of N faces; they don't depend on how the faces are batched."""

    def distance(self, a: npt.ArrayLike, b: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """(N,) distances between the rows of two (N, D) arrays."""
        return distance_function(self.distance_name)(a, b)


def __getattr__(name: str) -> Any:
    """Names of `exprmetric.methods.registry`, which were here once and may still be imported from here."""
    if name in ("METHODS", "Factory", "available_methods", "load_method", "register_method"):
        return getattr(import_module("exprmetric.methods.registry"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
