"""Compatibility modes: the expression measures of other people's papers, so that a number can be reproduced or refused.

Every one carries the note `NOT_COMPARABLE`: their units have nothing in common, and most papers report the mean of t2c
alone. What each one does differently, and what is not known of it, stands in docs/compatibility.md.

* `facedancer-mse`: mean of squared differences of ExpressionEmbedder's vectors (FaceDancer, Rosberg et al. 2023).
* `reface-deep3d`: L2 of Deep3DFaceRecon's 64 expression coefficients of the whole image (REFace, Baliah et al. 2025).
* `casia-3ddfa`: L2 of 3DDFA's 10 standardised expression coefficients of the whole image (CASIA, Li et al. 2026).
* `fsgan-landmarks`: Euclidean distance of 2D landmarks in px of the picture (FSGAN, Nirkin et al. 2019).

The networks of the first two can't be had as ONNX: they are converted by whoever has their files, and `stamp` writes
into the conversion what it was made of. Without that, they are refused.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exprmetric.errors import UnknownMethodError, WeightsError, WeightsHashError, WeightsNotFoundError
from exprmetric.faces.face import Face, Image
from exprmetric.faces.landmarks import fingerprint as landmarks_fingerprint
from exprmetric.io.files import sha256_of
from exprmetric.methods.base import NOT_COMPARABLE, Method, Vectors
from exprmetric.methods.onnx import OnnxEncoder
from exprmetric.methods.registry import register_method
from exprmetric.methods.threedmm import OUTPUT, SIZE, STATS, WEIGHTS, find_converted
from exprmetric.metrics.distances import distance_function
from exprmetric.weights import store as weights
from exprmetric.weights.onnx_file import read_model
from exprmetric.weights.runtime import open_session

EMBEDDER = "expression-embedder-b0"
DOCS = "docs/compatibility.md"


@dataclass(frozen=True)
class Conversion:
    """An ONNX file that a user makes of a network which can't be fetched as one.

    Attributes:
        file: its name, in a folder of EXPRMETRIC_WEIGHTS or in the cache.
        source: what it is made of.
        pinned: SHA-256 of the source; None where no published one is known.
    """

    mode: str
    file: str
    source: str
    pinned: str | None

    @property
    def key(self) -> str:
        """Of the ONNX metadata that hold the SHA-256 of the source."""
        return f"exprmetric.{self.mode}.source"


def conversion(mode: str) -> Conversion:
    """What `mode` needs converted. Raises UnknownMethodError for a mode that needs nothing."""
    embedder = weights.entry(EMBEDDER)
    known = (
        Conversion("facedancer-mse", f"{EMBEDDER}.onnx", embedder.file, embedder.sha256),
        Conversion("reface-deep3d", "deep3dfacerecon.onnx", "epoch_20.pth", None),
    )
    found = next((c for c in known if c.mode == mode), None)
    if found is None:
        raise UnknownMethodError(f"{mode!r} runs no conversion; these do: {', '.join(c.mode for c in known)}")
    return found


def stamp(mode: str, source: str | Path, converted: str | Path) -> None:
    """Write into an ONNX file which file it was made of, so that `mode` runs it.

    Args:
        source: the published file; where its SHA-256 is pinned, it is checked.
        converted: the ONNX file made of it, rewritten in place.

    Raises:
        WeightsHashError: the source is not the pinned file. WeightsError: the converted file is no ONNX file.
        InputError: the source can't be read.
    """
    wanted = conversion(mode)
    found = sha256_of(source)
    if wanted.pinned is not None and found != wanted.pinned:
        raise WeightsHashError(f"{source} is not {wanted.source}: expected SHA-256 {wanted.pinned}, found {found}")
    import onnx

    model = read_model(Path(converted))
    kept = {p.key: p.value for p in model.metadata_props}
    onnx.helper.set_model_props(model, {**kept, wanted.key: found})
    onnx.save(model, str(converted))


def find_conversion(mode: str) -> tuple[Path, str]:
    """The converted file of a mode and the SHA-256 of what it was made of.

    Raises:
        WeightsNotFoundError: it is nowhere; the message says how to make it.
        WeightsHashError: it says that it was made of another file, or doesn't say. WeightsError: it is no ONNX file.
    """
    wanted = conversion(mode)
    paths = [p.path.with_name(wanted.file) for p in weights.places(EMBEDDER) if p.path is not None]
    path = next((p for p in paths if p.is_file()), None)
    if path is None:
        searched = "".join(f"\n  {p}" for p in paths)
        raise WeightsNotFoundError(
            f"{mode} needs {wanted.source} as an ONNX file, which exprmetric may not ship and can't fetch ready-made. "
            f"Convert it once as {DOCS} says, stamp it, and put {wanted.file} into a folder that EXPRMETRIC_WEIGHTS "
            f"names. Searched:{searched}"
        )
    stated = {p.key: p.value for p in read_model(path).metadata_props}.get(wanted.key, "")
    if not stated or (wanted.pinned is not None and stated != wanted.pinned):
        raise WeightsHashError(
            f"{path} doesn't say that it is made of {wanted.source}: {wanted.key} should be "
            f"{wanted.pinned or 'its SHA-256'}, is {stated!r}; stamp it as {DOCS} says"
        )
    return path, stated


class FaceDancerMse(OnnxEncoder):
    """The first output of the converted ExpressionEmbedder, fed and compared as its manifest entry says.

    FaceDancer's training code takes the first of the network's outputs; the others are class scores.
    """

    note = NOT_COMPARABLE

    def __init__(self, provider: str = "cpu") -> None:
        path, _ = find_conversion("facedancer-mse")
        outputs = [o.name for o in read_model(path).graph.output]
        if not outputs:
            raise WeightsError(f"{path} has no output")
        super().__init__(replace(weights.entry(EMBEDDER), output=outputs[0]), provider=provider, path=path)


class WholePicture(Method):
    """A network that sees the whole picture, neither aligned nor cut, when a face is read: no large one has to be kept.

    These protocols measure pictures that were cut around a face before the swap, all in the same way.
    """

    template = "eyes70"  # of which nothing is used
    note = NOT_COMPARABLE

    @abstractmethod
    def read(self, image: Image) -> npt.NDArray[np.float32]:
        """(D,) numbers of an RGB uint8 (H, W, 3) picture."""

    def prepare(self, face: Face) -> None:
        if face.image is None:
            raise ValueError(f"the face let go of its image before {self.name!r} read it")
        face.readings[self.name] = self.read(face.image)

    def represent(self, faces: Sequence[Face]) -> Vectors:
        for face in faces:
            if self.name not in face.readings:
                self.prepare(face)
        return np.array([f.readings[self.name] for f in faces], np.float32).reshape(len(faces), self.dimension)


class ReFaceDeep3D(WholePicture):
    """Deep3DFaceRecon's ResNet-50 at 512 px; of its 257 numbers, the 64 of expression."""

    name = "reface-deep3d"
    dimension = 64
    size = 512
    """Side that REFace resizes to, px; the network was made for 224 px crops and takes any size."""
    coefficients = 257
    """80 of shape, 64 of expression, 80 of texture, 3 of pose, 27 of light, 3 of place."""
    expression = slice(80, 144)

    def __init__(self, provider: str = "cpu") -> None:
        path, self._source = find_conversion("reface-deep3d")
        self._session = open_session(str(path), provider)
        self._input = self._session.get_inputs()[0].name

    @property
    def fingerprint(self) -> str:
        return f"deep3dfacerecon:{self._source[:16]}/whole-{self.size}/{self.expression.start}-{self.expression.stop}"

    def read(self, image: Image) -> npt.NDArray[np.float32]:
        """(64,) coefficients. Raises WeightsError when the network gives other than 257 numbers."""
        from PIL import Image as Pictures

        resized = Pictures.fromarray(image).resize((self.size, self.size), Pictures.Resampling.BICUBIC)
        batch = (np.asarray(resized, np.float32) / 255).transpose(2, 0, 1)[None]
        found = np.asarray(self._session.run(None, {self._input: batch})[0], np.float32).reshape(1, -1)
        if found.shape[1] != self.coefficients:
            raise WeightsError(f"{self.name}: the network gives {found.shape[1]} numbers, not {self.coefficients}")
        return found[0, self.expression]


class Casia3ddfa(WholePicture):
    """3DDFA_V2's expression coefficients of the picture at 120 px, as the network gives them: standardised.

    The protocol's own network is the first 3DDFA (`phase1_wpdc_vdc`), of the same inputs and outputs.
    """

    name = "casia-3ddfa"
    dimension = 10

    def __init__(self, provider: str = "cpu") -> None:
        from onnx import numpy_helper

        path = find_converted()
        constants = {i.name: i for i in read_model(path).graph.initializer if i.name in ("mean", "std")}
        if len(constants) != 2:
            raise WeightsError(f"{path} doesn't hold the mean and std of its coefficients; convert it again")
        self._mean, self._std = (numpy_helper.to_array(constants[name]) for name in ("mean", "std"))
        self._session = open_session(str(path), provider)
        self._input = self._session.get_inputs()[0].name

    @property
    def fingerprint(self) -> str:
        made_of = "/".join(f"{name}:{weights.entry(name).sha256[:16]}" for name in (WEIGHTS, STATS))
        return f"{made_of}/whole-{SIZE}/standardised"

    def read(self, image: Image) -> npt.NDArray[np.float32]:
        """(10,) standardised coefficients."""
        import cv2

        small = np.asarray(cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR), np.float32)[..., ::-1]
        batch = ((small - 127.5) / 128).transpose(2, 0, 1)[None]
        (found,) = self._session.run([OUTPUT], {self._input: np.ascontiguousarray(batch, np.float32)})
        return np.asarray((np.asarray(found)[0] - self._mean) / self._std, np.float32)


class FsganLandmarks(Method):
    """dlib's 68 points in px of the picture: 136 coordinates, and the picture's width and height.

    Neither aligned nor scaled: a face that is twice as large, or that moved, is farther away. A second picture of
    another size is brought to the first one's, so that t2c is in px of the target.
    """

    name = "fsgan-landmarks"
    template = "eyes70"  # of which nothing is used
    dimension = 2 * 68 + 2
    pixels = False
    landmark_models = ("dlib68",)
    note = NOT_COMPARABLE

    @property
    def fingerprint(self) -> str:
        return f"{landmarks_fingerprint()}/px-of-the-picture/136+2"

    def represent(self, faces: Sequence[Face]) -> Vectors:
        vectors = np.empty((len(faces), self.dimension), np.float32)
        for i, face in enumerate(faces):
            if 0 in face.size:
                raise ValueError(f"{self.name!r} needs the size of the picture that the face is in")
            vectors[i] = [*face.landmarks.ravel(), *face.size[::-1]]
        return vectors

    def distance(self, a: npt.ArrayLike, b: npt.ArrayLike) -> npt.NDArray[np.float64]:
        x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
        scale = np.tile(x[:, -2:] / y[:, -2:], 68)
        return distance_function(self.distance_name)(x[:, :-2], (y[:, :-2] + 0.5) * scale - 0.5)


for _name, _method in (
    ("facedancer-mse", FaceDancerMse),
    ("reface-deep3d", ReFaceDeep3D),
    ("casia-3ddfa", Casia3ddfa),
):
    register_method(_name)(_method)


@register_method("fsgan-landmarks")
def _fsgan(provider: str) -> Method:
    return FsganLandmarks()
