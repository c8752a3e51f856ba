"""`identity`: dlib's face recognition network, 128 numbers; the control that stands beside every expression score.

ONNX Runtime computes it, from dlib's own file: an order of magnitude faster than dlib does, without holding the
interpreter's lock, and equal to within the rounding of float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from exprmetric.faces.face import Face
from exprmetric.methods.base import Method, Vectors
from exprmetric.methods.registry import register_method
from exprmetric.weights import store as weights

WEIGHTS = "dlib-resnet"
SAME_PERSON = 0.6
"""The distance up to which its authors call two faces the same person."""
BATCH = 8
"""Faces a call of the network; results don't depend on it, and larger batches leave the processor's caches."""


@register_method("identity")
class IdentityMethod(Method):
    """dlib's ResNet on its own 150 px face chip; its authors call two faces within 0.6 the same person.

    Args:
        provider: where it must run.
        threads: as in `exprmetric.weights.runtime.open_session`. Several threads may call `represent` at once.

    Raises:
        WeightsNotFoundError, WeightsHashError, ProviderError; WeightsError when the file holds another network.
    """

    name = "identity"
    template = "dlib150"
    dimension = 128
    landmark_models = ("dlib68", "mesh")

    def __init__(self, provider: str = "cpu", *, threads: int | None = None) -> None:
        from exprmetric.weights.dlib_resnet import parse, to_onnx
        from exprmetric.weights.runtime import open_session

        self._entry = weights.entry(WEIGHTS)
        network = parse(weights.find(WEIGHTS).read_bytes())
        self._session = open_session(to_onnx(network), provider, threads=threads)

    @property
    def fingerprint(self) -> str:
        return f"{WEIGHTS}:{self._entry.sha256[:16]}/{self.template}"

    def represent(self, faces: Sequence[Face]) -> Vectors:
        chips = [face.crop(self.template) for face in faces]
        batches = [np.stack(chips[i : i + BATCH]) for i in range(0, len(chips), BATCH)]
        vectors = [self._session.run(["descriptors"], {"chips": batch})[0] for batch in batches]
        return np.concatenate(vectors) if vectors else np.empty((0, self.dimension), np.float32)
