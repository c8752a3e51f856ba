"""`OnnxEncoder`: an encoder driven wholly by its manifest entry, on the ONNX Runtime provider that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exprmetric.errors import ExprmetricError, ProviderError, WeightsError
from exprmetric.faces.face import Face
from exprmetric.methods.base import Method, Vectors
from exprmetric.weights import store as weights
from exprmetric.weights.onnx_file import read_model
from exprmetric.weights.runtime import open_session
from exprmetric.weights.store import Preprocessing, WeightsEntry

BATCH = 32
"""Faces a call of the network; results don't depend on it."""


def preprocess(crop: npt.NDArray[np.uint8], how: Preprocessing) -> npt.NDArray[np.float32]:
    """(H, W, 3) uint8 RGB crop → (C, size, size) float32, or (size, size, C) for the layout `nhwc`.

    Raises:
        WeightsError: more is to be cropped than there is.
    """
    import cv2

    if how.crop is not None:
        if how.crop > crop.shape[0]:  # a negative margin would cut from the far side
            raise WeightsError(f"the manifest entry crops {how.crop} px out of a face of {crop.shape[0]} px")
        margin = (crop.shape[0] - how.crop) // 2
        crop = crop[margin : margin + how.crop, margin : margin + how.crop]
    if how.color == "grey":
        luma = np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), np.uint8)
        crop = np.repeat(luma[..., None], len(how.mean), axis=2)
    elif how.color == "bgr":
        crop = crop[..., ::-1]
    if crop.shape[0] != how.size:
        interpolation = cv2.INTER_AREA if crop.shape[0] > how.size else cv2.INTER_LINEAR
        crop = np.asarray(cv2.resize(crop, (how.size, how.size), interpolation=interpolation), np.uint8)
    mean, std = np.asarray(how.mean, np.float32), np.asarray(how.std, np.float32)
    values: npt.NDArray[np.float32] = (
        crop.reshape(how.size, how.size, -1).astype(np.float32) * np.float32(how.scale) - mean
    ) / std
    return values.transpose(2, 0, 1) if how.layout == "nchw" else values


def fingerprint_of(entry: WeightsEntry, output: str) -> str:
    """Weights and preprocessing of an entry with `preprocessing`, read at an output of its file."""
    how = entry.preprocessing
    if how is None:
        raise WeightsError(f"{entry.name}: the manifest entry has no preprocessing")
    steps = f"{how.template}-{how.crop or 'all'}-{how.size}-{how.color}-{how.scale:.6g}-{how.mean}-{how.std}"
    ending = f"{how.layout}/{output}{'/unit' if entry.normalise else ''}"
    return f"{entry.name}:{entry.sha256[:16]}/{steps.replace(' ', '')}/{ending}"


def _exposing(path: Path, output: str) -> tuple[str | bytes, str]:
    """The model and the name of the tensor to read: inner tensors (a classifier's input) become outputs first."""
    model = read_model(path)
    if output == "last-gemm-input":
        gemms = [n for n in model.graph.node if n.op_type in ("Gemm", "MatMul")]
        if not gemms:
            raise WeightsError(f"{path} has no Gemm whose input could be the embedding")
        output = gemms[-1].input[0]
    if output in {o.name for o in model.graph.output}:
        return str(path), output
    if output not in {name for node in model.graph.node for name in node.output}:
        raise WeightsError(f"{path} has no tensor {output!r}")
    import onnx

    model.graph.output.append(onnx.ValueInfoProto(name=output))
    return model.SerializeToString(), output


class OnnxEncoder(Method):
    """An ONNX network as a method. Nothing of its preprocessing is in code: the manifest entry says it all.

    Args:
        entry: the manifest entry.
        provider: where it must run.
        path: the file, when it is not to be found by the entry's name (it is verified all the same by the caller).

    Raises:
        WeightsNotFoundError, WeightsHashError, ProviderError; WeightsError when the entry doesn't fit the file.
    """

    def __init__(self, entry: WeightsEntry, *, provider: str = "cpu", path: Path | None = None) -> None:
        if entry.preprocessing is None or entry.output is None:
            raise WeightsError(f"{entry.name}: the manifest entry has no preprocessing or output, so it can't be run")
        self.name = entry.name
        self.entry = entry
        self.how = entry.preprocessing
        self.template = self.how.template
        self.distance_name = entry.distance or "l2"
        self.dimension = entry.dimension or 0
        self.tag_threshold = entry.tag_threshold
        self.provider = provider
        place = path or weights.find(entry.name)
        model, self._output = _exposing(place, entry.output)
        try:
            self._session = open_session(model, provider)
            self._input = self._session.get_inputs()[0].name
        except ProviderError:
            raise
        except Exception as error:  # ONNX Runtime's own, of no common kind
            told = " ".join(str(error).split())
            raise WeightsError(f"{entry.name}: ONNX Runtime can't open {place}: {told}") from error

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(self.entry, self._output)

    def represent(self, faces: Sequence[Face]) -> Vectors:
        return self.embed([face.crop(self.template) for face in faces])

    def embed(self, crops: Sequence[npt.NDArray[np.uint8]]) -> Vectors:
        """(N, D) float32 vectors of N aligned RGB uint8 crops (unit-norm when the entry says so)."""
        vectors = [self._run(crops[i : i + BATCH]) for i in range(0, len(crops), BATCH)]
        return np.concatenate(vectors) if vectors else np.empty((0, self.dimension), np.float32)

    def _run(self, crops: Sequence[npt.NDArray[np.uint8]]) -> Vectors:
        batch = np.stack([preprocess(c, self.how) for c in crops])
        (vectors,) = self._session.run([self._output], {self._input: batch})
        vectors = np.array(vectors, np.float32).reshape(len(crops), -1)
        if self.dimension and vectors.shape[1] != self.dimension:
            raise WeightsError(
                f"{self.name}: {self._output!r} gives {vectors.shape[1]} numbers, its entry says {self.dimension}"
            )
        if self.entry.normalise:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
        return vectors


def check_fit(entry: WeightsEntry, path: Path) -> None:
    """Run an encoder on two pictures, together and apart, and see whether its vectors are what its entry says.

    Raises:
        WeightsError: the file can't be opened or run as the entry says, or its vectors are of another length, not
            finite, the same for both pictures, or dependent on what else is in the batch.
    """
    noise = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    pictures = [np.kron(small, np.ones((28, 28, 1), np.uint8)) for small in noise]  # 224 px, of 28 px patches
    box, nowhere = np.array([0.0, 0.0, 224.0, 224.0]), np.zeros((68, 2))
    faces = [Face(picture, box, 1.0, nowhere, aligned=True) for picture in pictures]
    try:
        encoder = OnnxEncoder(entry, path=path)
        together = encoder.represent(faces)
        apart = np.concatenate([encoder.represent([face]) for face in faces])
    except ExprmetricError as error:
        raise WeightsError(f"{path} doesn't fit its entry: {error}") from error
    except Exception as error:  # ONNX Runtime's own, of no common kind
        told = " ".join(str(error).split())
        raise WeightsError(f"{path} doesn't fit its entry {entry.name!r}: it can't be run: {told}") from error
    problem = ""
    if not np.isfinite(together).all() or not np.isfinite(apart).all():
        problem = "its vectors hold numbers that are not finite"
    elif not np.allclose(together, apart, rtol=1e-3, atol=1e-3 * float(np.abs(apart).max())):
        problem = "the vector of a face depends on the other faces of its batch"
    elif np.array_equal(apart[0], apart[1]):
        problem = "it gives two different pictures the same vector"
    if problem:
        raise WeightsError(f"{path} doesn't fit its entry {entry.name!r}: {problem}")
