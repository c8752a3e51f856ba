"""Rendered heads of ICT-FaceKit: the same expression on other people, in any pose and light, with a known strength.

ICT-FaceKit (Li et al. 2020, MIT licence) is a mesh with 57 expression shapes and the principal components of identity.
It has no texture: a render shows shape and shade alone.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exprmetric.errors import InputError
from exprmetric.faces.head import Pose, rotation

Floats = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]

CENTRE = (0.0, -2.0, 5.0)
"""What the camera looks at, in the mesh's cm: between nose and mouth, inside the head."""
CAMERA, HEIGHT = 60.0, 30.0
"""Distance of the camera, and what it sees of the plane through CENTRE, cm."""
_SUBPIXEL = 4
"""Bits behind the point in the coordinates that OpenCV draws with."""

EXPRESSIONS: dict[str, dict[str, float]] = {
    "neutral": {},
    "happiness": {"mouthSmile": 0.8, "cheekSquint": 0.7, "mouthUpperUp": 0.25, "mouthDimple": 0.2},
    "surprise": {"browInnerUp": 0.9, "browOuterUp": 0.9, "eyeWide": 0.8, "jawOpen": 0.5},
    "sadness": {"browInnerUp": 0.9, "browDown": 0.3, "mouthFrown": 0.8, "mouthShrugLower": 0.4, "eyeSquint": 0.3},
    "anger": {"browDown": 1.0, "eyeSquint": 0.5, "noseSneer": 0.3, "mouthPress": 0.6, "mouthRollLower": 0.2},
    "disgust": {"noseSneer": 0.9, "mouthUpperUp": 0.6, "mouthFrown": 0.3, "browDown": 0.5, "cheekSquint": 0.4},
    "fear": {
        "browInnerUp": 0.9,
        "browOuterUp": 0.5,
        "browDown": 0.3,
        "eyeWide": 1.0,
        "mouthStretch": 0.8,
        "jawOpen": 0.2,
    },
}
"""Shapes of the full expression, by name; without `_L` or `_R` both sides are meant. They follow the action units of
Ekman and Friesen (1978)."""


@dataclass(frozen=True, eq=False)
class HeadModel:
    """The mesh and what moves it.

    Attributes:
        neutral: (V, 3) float64 cm: x to the person's left (the image's right), y up, z to the front.
        triangles: (T, 3) numbers of vertices.
        expressions: (E, V, 3) float32, what each shape adds at full strength.
        names: of the E shapes.
        identities: (I, V, 3) float32, what one standard deviation of each component adds.
    """

    neutral: Floats
    triangles: npt.NDArray[np.int32]
    expressions: npt.NDArray[np.float32]
    names: tuple[str, ...]
    identities: npt.NDArray[np.float32]

    @classmethod
    def load(cls, path: Path) -> HeadModel:
        """From an `.npz` with `neutral, triangles, expressions, expression_scale, expression_names, identities,
        identity_scale`. Raises InputError for any other file."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                expressions = stored["expressions"] * stored["expression_scale"][:, None, None]
                identities = stored["identities"] * stored["identity_scale"][:, None, None]
                names = tuple(str(n) for n in stored["expression_names"])
                return cls(
                    stored["neutral"].astype(np.float64),
                    stored["triangles"].astype(np.int32),
                    expressions.astype(np.float32),
                    names,
                    identities.astype(np.float32),
                )
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is no head model: {error}") from error

    def vertices(self, shapes: Mapping[str, float] | None = None, identity: Sequence[float] = ()) -> Floats:
        """(V, 3) a head.

        Args:
            shapes: strength by name, 0..1; a name without `_L` or `_R` moves both sides.
            identity: standard deviations of the first components.

        Raises:
            InputError: a shape that the model doesn't have, or more components than it has.
        """
        found: Floats = self.neutral.copy()
        for name, strength in (shapes or {}).items():
            parts = [i for i, n in enumerate(self.names) if n in (name, f"{name}_L", f"{name}_R")]
            if not parts:
                raise InputError(f"the head model has no shape {name!r}; it has {', '.join(self.names)}")
            found += strength * self.expressions[parts].sum(0)
        if len(identity) > len(self.identities):
            raise InputError(f"the head model has {len(self.identities)} components, not {len(identity)}")
        found += np.tensordot(np.asarray(identity, np.float64), self.identities[: len(identity)], 1)
        return found


def strength(expression: str, share: float) -> dict[str, float]:
    """The shapes of one of EXPRESSIONS at a share of its full strength, 0..1."""
    return {name: share * full for name, full in EXPRESSIONS[expression].items()}


def render(
    vertices: Floats,
    triangles: npt.NDArray[np.int32],
    pose: Pose = Pose(0.0, 0.0, 0.0),  # noqa: B008  a tuple of floats
    *,
    size: int = 384,
    light: Sequence[float] = (-0.3, -0.5, -0.8),
    skin: Sequence[float] = (205, 160, 135),
    background: int = 100,
) -> Image:
    """(size, size, 3) uint8 RGB of a head: flat shading, the farthest triangles first.

    Args:
        vertices: (V, 3) as `HeadModel.vertices` gives them.
        pose: how the head is turned.
        light: where the light comes from, seen from the head: x to the image's right, y down, z away from the camera.
        skin: RGB of the fully lit skin, 0..255.
        background: grey level.
    """
    import cv2

    corners = ((vertices - CENTRE) * (1.0, -1.0, -1.0) @ rotation(pose).T + (0.0, 0.0, CAMERA))[triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    towards = np.asarray(light, np.float64) / np.linalg.norm(light)
    facing = np.flatnonzero((normals * corners.mean(1)).sum(1) < 0)
    facing = facing[np.argsort(-corners[facing].mean(1)[:, 2])]
    shade = 0.35 + 0.65 * np.clip(normals @ towards, 0, 1)
    flat = size * (CAMERA / HEIGHT * corners[..., :2] / corners[..., 2:] + 0.5)
    points = np.round(flat * 2**_SUBPIXEL).astype(np.int32)
    image = np.full((size, size, 3), background, np.uint8)
    colours = shade[:, None] * np.asarray(skin, np.float64)
    for i in facing.tolist():
        cv2.fillConvexPoly(image, points[i], colours[i].tolist(), cv2.LINE_AA, _SUBPIXEL)
    return image
