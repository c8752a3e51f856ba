"""`3ddfa`: the 10 expression numbers that 3DDFA_V2 fits of a 3D morphable face (Guo et al., ECCV 2020).

A MobileNet reads 62 numbers off a 120 px crop: 12 of pose, 40 of shape, 10 of expression. Only the last 10 are used, in
the model's own unit (what the network's standardised outputs stand for), compared by their Euclidean distance. The
published file is a pickle: `exprmetric weights convert 3ddfa-v2` makes an ONNX file of it, once (see
`exprmetric.encoder.convert_3ddfa`), which says of which files it was made.

The authors crop around a detector's box, or, when they follow a face, around its 68 landmarks. The latter is done here
(template `3ddfa`), with dlib's points, so that the numbers hardly depend on the detector: a square about the middle of
the points' bounding box, its side √2 times the box's longer one.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exprmetric.errors import WeightsError, WeightsHashError, WeightsNotFoundError
from exprmetric.faces import alignment
from exprmetric.faces.templates import TEMPLATES, Located, Template
from exprmetric.methods.base import Method
from exprmetric.methods.onnx import OnnxEncoder
from exprmetric.methods.registry import register_method
from exprmetric.weights import store as weights
from exprmetric.weights.onnx_file import read_model

WEIGHTS, STATS = "3ddfa-v2", "3ddfa-v2-stats"
CONVERTED = "3ddfa-v2.onnx"
CONVERT = f"exprmetric weights convert {WEIGHTS}"
SIZE = 120
"""Side of the network's input, px."""
EXPRESSION = slice(52, 62)
"""Where the expression stands in the network's 62 numbers."""
OUTPUT = "expression"


def region(face: Located, size: int = alignment.CROP_SIZE) -> alignment.Matrix:
    """(2, 3) map from image px to a crop of `size` px: 3DDFA_V2's region around 68 landmarks; only a rolled face is
    rotated."""
    points = alignment.transform(face.upright, face.landmarks)
    low, high = points.min(0), points.max(0)
    side = max(float(np.sqrt(2) * (high - low).max()), 1.0)
    scale, corner = size / side, (low + high - side) / 2
    # the corner of the region is the corner of the first pixel, whose centre is at 0
    crop = np.array([[scale, 0.0, (0.5 - corner[0]) * scale - 0.5], [0.0, scale, (0.5 - corner[1]) * scale - 0.5]])
    return alignment.compose(crop, face.upright)


def _cut(face: Located) -> npt.NDArray[np.uint8]:
    if face.image is None:
        raise ValueError("the face let go of its image before a crop '3ddfa' was made")
    return alignment.warp(face.image, region(face, SIZE), SIZE)


TEMPLATES["3ddfa"] = Template(region, cut=_cut)


def sources() -> dict[str, str]:
    """What the ONNX file's metadata must say: the pinned SHA-256 of the files that it was made of, by entry."""
    return {f"exprmetric.{name}": weights.entry(name).sha256 for name in (WEIGHTS, STATS)}


def find_converted() -> Path:
    """The ONNX file, in one of the folders where the published file may stand: EXPRMETRIC_WEIGHTS or the cache.

    Raises:
        WeightsNotFoundError: it was not converted yet. WeightsHashError: it was made of other files than the pinned.
        WeightsError: it is no ONNX file.
    """
    paths = [place.path.with_name(CONVERTED) for place in weights.places(WEIGHTS) if place.path is not None]
    path = next((p for p in paths if p.is_file()), None)
    if path is None:
        searched = "".join(f"\n  {p}" for p in paths)
        raise WeightsNotFoundError(f"{WEIGHTS} must be converted once: {CONVERT} (needs torch). Searched:{searched}")
    try:
        stated = {p.key: p.value for p in read_model(path).metadata_props}
    except WeightsError as error:
        raise WeightsError(f"{path} is no ONNX file to be used ({error}); convert it again: {CONVERT}") from error
    for key, expected in sources().items():
        if stated.get(key) != expected:
            raise WeightsHashError(
                f"{path} is not made of the pinned files: {key} should be SHA-256 {expected}, is "
                f"{stated.get(key)!r}; convert it again: {CONVERT}"
            )
    return path


class MorphableMethod(OnnxEncoder):
    """The converted network, fed as the manifest says."""

    landmark_models = ("dlib68",)

    def __init__(self, provider: str = "cpu") -> None:
        super().__init__(replace(weights.entry(WEIGHTS), output=OUTPUT), provider=provider, path=find_converted())

    @property
    def fingerprint(self) -> str:
        return f"{super().fingerprint}/{STATS}:{weights.entry(STATS).sha256[:16]}"


@register_method("3ddfa")
def _3ddfa(provider: str) -> Method:
    return MorphableMethod(provider)
