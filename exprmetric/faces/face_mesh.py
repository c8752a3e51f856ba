"""`FaceMesh`: MediaPipe's face mesh and blendshapes on one CPU thread.

`face_landmarker.task` is a zip of TFLite networks. Two are used: the face mesh (256 x 256 px RGB in 0..1 → 478 points
and a presence logit) and the blendshapes (146 of those points → 52 scores). MediaPipe's own short-range detector is
not: the first region comes from the eyes, and every further one from the mesh, as MediaPipe follows a face in a video.
Sources: Kartynnik et al. 2019; Grishchenko et al. 2022; MediaPipe's face_landmarks_detector_graph.cc and
face_blendshapes_graph.cc.
"""

from __future__ import annotations

import threading
import warnings
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from exprmetric.errors import MissingPackageError, WeightsError
from exprmetric.faces import alignment, upright
from exprmetric.faces.alignment import Matrix
from exprmetric.weights import store as weights

WEIGHTS = "mediapipe-face-landmarker"
INSTALL = "pip install 'exprmetric[mediapipe]'"
SIZE = 256
"""Side of the mesh network's input, px."""
PRESENCE = 0.5
"""Faces whose presence is below have no mesh; MediaPipe's own threshold."""
REFINEMENTS = 2
"""Times that the region is derived again from the mesh found in the one before."""
MARGIN = 1.5
"""Side of a region over the long side of the mesh's bounding box."""
EYE_CORNERS = (33, 263)
"""Points of the mesh, outer corners of the eyes, that are level in a region."""
TOKEN = "getitem_1/strided_slice3"
"""End of the name of the 64 numbers that the last layer of the blendshape network reads."""
FIRST_CENTRE, FIRST_SIDE = (111.5, 111.5), 277.5
"""The first region in px of the `eyes70` crop: where, in the median, the last one comes to stand."""
LARGEST = 4 * SIZE
"""Longest side, px, of the part of an image in which a rolled face is turned upright."""

# fmt: off
BLENDSHAPE_POINTS = (
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70, 78, 80, 81,
    82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150, 152, 153, 154,
    155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251, 263,
    267, 269, 270, 276, 282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318, 321,
    323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386, 387,
    388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466, 468, 469, 470, 471, 472, 473, 474, 475, 476, 477,
)
BLENDSHAPES = (
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight",
)
# fmt: on


@dataclass(frozen=True, eq=False)
class Mesh:
    """What MediaPipe reads off one face.

    Attributes:
        points: (478, 3) float32 x and y in image px, and z in the same unit (smaller is nearer to the camera); 468
            points of the skin, then 5 of each iris.
        presence: 0..1, how surely the last region held a face.
        blendshapes: (52,) float32 0..1 in the order of `BLENDSHAPES`; left and right are the person's own.
        token: (64,) float32, the read-out token of the blendshape network's MLP-Mixer after its last block: the
            blendshapes are the sigmoid of one linear layer of it.
    """

    points: npt.NDArray[np.float32]
    presence: float
    blendshapes: npt.NDArray[np.float32]
    token: npt.NDArray[np.float32]


class FaceMesh:
    """MediaPipe's face landmarker without its detector. `read` may be called from several threads.

    On photographs of 40 people its points lie within 0.5 % of the face's size (mean over a face, worst of 40) and its
    blendshapes within 0.004 (mean; 0.02 for the worst of 52 in the median face) of what MediaPipe says once it follows
    the face. MediaPipe's answer to a single photograph, whose region its detector draws, is 0.02 away in the mean.

    Args:
        path: `face_landmarker.task`; by default found, and its hash verified, by the weight store.

    Raises:
        MissingPackageError: `ai-edge-litert` is not installed.
        WeightsNotFoundError, WeightsHashError: from the weight store; WeightsError: the file is not such a bundle.
    """

    def __init__(self, path: Path | None = None) -> None:
        path = path or weights.find(WEIGHTS)
        try:
            with zipfile.ZipFile(path) as bundle:
                mesh, blendshapes = (
                    bundle.read(f"{n}.tflite") for n in ("face_landmarks_detector", "face_blendshapes")
                )
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise WeightsError(f"{path} is no MediaPipe face landmarker bundle: {error}") from error
        self._models = mesh, blendshapes
        self._local = threading.local()
        try:
            self._networks()
        except ValueError as error:
            raise WeightsError(f"{path} holds networks that can't be run: {error}") from error

    def read(self, image: npt.NDArray[np.uint8], matrix: Matrix) -> Mesh:
        """The mesh of one face.

        Args:
            image: (H, W, 3) uint8 RGB, original pixels.
            matrix: (2, 3) map from image px to the 224 px `eyes70` crop; it only says where to look first.
        """
        networks = self._networks()
        image, to_original, matrix = _upright(image, matrix)
        image, to_image, region = _near(image, _first_region(matrix))
        for _ in range(REFINEMENTS):
            points, _ = _look(networks.mesh, image, region)
            region = _region(points)
        points, presence = _look(networks.mesh, image, region)
        points = np.column_stack([alignment.transform(to_image, points[:, :2]), to_image[0, 0] * points[:, 2]])
        scores, token = networks.blendshapes(points[np.newaxis, BLENDSHAPE_POINTS, :2])
        if to_original is not None:
            depth = points[:, 2] * np.sqrt(np.linalg.det(to_original[:, :2]))
            points = np.column_stack([alignment.transform(to_original, points[:, :2]), depth])
        return Mesh(points.astype(np.float32), presence, scores.ravel(), token.ravel())

    def _networks(self) -> _Networks:
        """This thread's own: an interpreter holds the state of the one inference that it runs."""
        if not hasattr(self._local, "networks"):
            mesh, blendshapes = self._models
            self._local.networks = _Networks(_Network(mesh), _Network(blendshapes, TOKEN))
        networks: _Networks = self._local.networks
        return networks


shared_mesh = lru_cache(maxsize=1)(FaceMesh)
"""The networks of one file, one for all that read the mesh."""


class _Networks(NamedTuple):
    mesh: _Network
    blendshapes: _Network


class _Network:
    """A TFLite network on one thread: an array in; its outputs out, and behind them the inner tensor asked for."""

    def __init__(self, model: bytes, inner: str | None = None) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingPackageError(f"MediaPipe's networks need the package ai-edge-litert: {INSTALL}") from error
        with warnings.catch_warnings():
            # inner tensors are "for debugging": the tests hold the token to the scores that are made of it
            warnings.simplefilter("ignore", UserWarning)
            self._runner: Any = Interpreter(
                model_content=model, num_threads=1, experimental_preserve_all_tensors=inner is not None
            )
        self._runner.allocate_tensors()
        self._input = self._runner.get_input_details()[0]["index"]
        self._outputs = [d["index"] for d in self._runner.get_output_details()]
        if inner is not None:
            found = [d["index"] for d in self._runner.get_tensor_details() if d["name"].endswith(inner)]
            if len(found) != 1:
                raise ValueError(f"{len(found)} tensors are named {inner!r}")
            self._outputs += found

    def __call__(self, values: npt.NDArray[Any]) -> list[npt.NDArray[np.float32]]:
        self._runner.set_tensor(self._input, np.asarray(values, np.float32))
        self._runner.invoke()
        return [self._runner.get_tensor(index) for index in self._outputs]


def _look(mesh: _Network, image: npt.NDArray[np.uint8], region: Matrix) -> tuple[npt.NDArray[np.float64], float]:
    """Points in px of the image and presence, from the part of it that `region` maps to the network's input."""
    crop = alignment.warp(image, region, SIZE)
    found, logit, _ = mesh(crop[np.newaxis].astype(np.float32) / np.float32(255))
    points = found.reshape(-1, 3).astype(np.float64)
    inverse = np.linalg.inv(region[:, :2])
    points[:, :2] = (points[:, :2] - region[:, 2]) @ inverse.T
    points[:, 2] *= np.sqrt(abs(np.linalg.det(inverse)))
    return points, float(1 / (1 + np.exp(-logit.item())))


def _square(centre: npt.NDArray[Any], side: float, axis: npt.NDArray[Any]) -> Matrix:
    """(2, 3) map of a rotated square in image px to the network's input; `axis` points along its upper edge."""
    cos, sin = axis / max(float(np.hypot(*axis)), 1e-9)
    linear = SIZE / max(side, 1.0) * np.array([[cos, sin], [-sin, cos]])
    return np.column_stack([linear, SIZE / 2 - linear @ centre])


def _first_region(matrix: Matrix) -> Matrix:
    inverse = np.linalg.inv(matrix[:, :2])
    centre = inverse @ (np.array(FIRST_CENTRE) - matrix[:, 2])
    return _square(centre, FIRST_SIDE * float(np.sqrt(abs(np.linalg.det(inverse)))), inverse[:, 0])


def _upright(image: npt.NDArray[np.uint8], matrix: Matrix) -> tuple[npt.NDArray[np.uint8], Matrix | None, Matrix]:
    """A rolled face turned upright: regions are derived from the mesh's bounding box, and blendshapes from its points,
    and both would follow the roll. What is cut out is all that later regions can reach.

    Returns:
        the part, the map from its px to those of the image (None: it is the image), the map from its px to the crop.
    """
    inverse = alignment.inverse(matrix)
    eyes = alignment.transform(inverse, alignment.EYES)
    if not upright.is_rolled(eyes):
        return image, None, matrix
    centre = alignment.transform(inverse, [FIRST_CENTRE])[0]
    side = 2 * FIRST_SIDE * float(np.sqrt(np.linalg.det(inverse[:, :2])))
    size = max(min(round(side), LARGEST), 1)
    turn = upright.turned(centre, side, upright.roll(eyes), size)
    back = alignment.inverse(turn)
    return alignment.warp(image, turn, size), back, alignment.compose(matrix, back)


def _near(image: npt.NDArray[np.uint8], region: Matrix) -> tuple[npt.NDArray[np.uint8], Matrix, Matrix]:
    """What every later region of this face can reach, shrunk by a whole factor while a px of the network's input
    averages several of the image; else each of the warps would low-pass a large photograph anew.

    Returns:
        the part, the map from its px to those of the image (one scale, no rotation), the region in its px.
    """
    import cv2

    inverse = np.linalg.inv(region[:, :2])
    step = float(np.sqrt(abs(np.linalg.det(inverse))))  # px of the image a px of the input
    factor = max(min(int(step), *image.shape[:2]), 1)
    if factor == 1:
        return image, np.eye(2, 3), region
    centre = inverse @ (np.full(2, SIZE / 2) - region[:, 2])
    height, width = image.shape[:2]
    low = np.clip(np.floor(centre - SIZE * step), 0, np.maximum((width - factor, height - factor), 0)).astype(int)
    high = np.clip(np.ceil(centre + SIZE * step), low + factor, (width, height)).astype(int)
    cells = (high - low) // factor
    part = image[low[1] : low[1] + cells[1] * factor, low[0] : low[0] + cells[0] * factor]
    part = np.asarray(cv2.resize(part, (int(cells[0]), int(cells[1])), interpolation=cv2.INTER_AREA), np.uint8)
    shift = low + (factor - 1) / 2  # pixel centres are whole numbers
    to_image = np.array([[factor, 0.0, shift[0]], [0.0, factor, shift[1]]])
    return part, to_image, np.column_stack([region[:, :2] * factor, region[:, 2] + region[:, :2] @ shift])


def _region(points: npt.NDArray[np.float64]) -> Matrix:
    """MediaPipe's: the square of `MARGIN` times the mesh's bounding box, turned so that the eyes are level."""
    flat = points[:, :2]
    low, high = flat.min(0), flat.max(0)
    first, last = EYE_CORNERS
    return _square((low + high) / 2, MARGIN * float((high - low).max()), flat[last] - flat[first])
