"""The demonstration's folder of swaps: faces of bundled photographs, each swapped into the others."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exprmetric.demo.photographs import cut_face, group_photo, portrait_photo
from exprmetric.errors import InputError
from exprmetric.faces import Detection, Detector, FaceFinder, load_detector
from exprmetric.faces.swap import swap_face
from exprmetric.inputs.triplets import ROLES
from exprmetric.io.files import write_whole
from exprmetric.io.images import read_image

SIZE = 256
MARGIN = 0.4
MAX_TURN = 0.22
"""Faces whose nose tip is farther from the middle between their eyes, in eye distances, are turned too much to be
swapped by a classical method; they are left out."""


@dataclass(frozen=True, eq=False)
class DemoFace:
    """A face cut out of a photograph: RGB uint8 (256, 256, 3), and its 68 points in it."""

    name: str
    image: npt.NDArray[np.uint8]
    points: npt.NDArray[np.float64]


def demo_faces(detector: Detector) -> list[DemoFace]:
    """The frontal faces of the bundled photographs, from left to right."""
    finder = FaceFinder(detector)
    faces = []
    for photo, best in ((group_photo(), 6), (portrait_photo(), 1)):
        image = read_image(photo)
        found = sorted(finder.detect(image), key=lambda d: -d.score)[:best]
        for number, detection in enumerate(sorted(found, key=lambda d: float(d.box[0]))):
            cut = _cut(finder, image, detection, f"{photo.stem}-{number}")
            if _turn(cut.points) <= MAX_TURN:
                faces.append(cut)
    return faces


def _cut(finder: FaceFinder, image: npt.NDArray[np.uint8], detection: Detection, name: str) -> DemoFace:
    crop = cut_face(image, finder.face(image, detection).landmarks, SIZE, MARGIN)
    return DemoFace(name, crop, finder.find(crop).landmarks)


def _turn(points: npt.NDArray[np.float64]) -> float:
    left, right = points[36:42].mean(0), points[42:48].mean(0)
    along = right - left
    return float(abs((points[30] - (left + right) / 2) @ along) / (along @ along))


def make_swaps(out: Path) -> list[str]:
    """Write `target/ source/ swapped/` below `out`; each pair of faces is one PNG in each. Returns the ids.

    Raises:
        InputError: the folder can't be written.
    """
    faces = demo_faces(load_detector("dlib"))
    ids = []
    try:
        for role in ROLES:
            (out / role).mkdir(parents=True, exist_ok=True)
        for target, source in permutations(faces, 2):
            swapped = swap_face(target.image, target.points, source.image, source.points)
            ids.append(f"{target.name}_{source.name}")
            for role, image in zip(ROLES, (target.image, source.image, swapped), strict=True):
                _write(out / role / f"{ids[-1]}.png", image)
    except OSError as error:
        raise InputError(f"can't write the demo into {out}: {error}") from error
    return ids


def contact_sheet(folder: Path, ids: list[str], out: Path, *, columns: int = 2, side: int = 160) -> None:
    """One PNG with target | source | swapped of every id, to look at."""
    from PIL import Image

    tile = 3 * side + 12
    rows = -(-len(ids) // columns)
    sheet = Image.new("RGB", (columns * tile, rows * (side + 8)), "white")
    for i, name in enumerate(ids):
        for j, role in enumerate(ROLES):
            with Image.open(folder / role / f"{name}.png") as image:
                sheet.paste(image.resize((side, side)), ((i % columns) * tile + j * side, (i // columns) * (side + 8)))
    sheet.save(out)


def _write(path: Path, image: npt.NDArray[np.uint8]) -> None:
    from PIL import Image

    write_whole(path, lambda file: Image.fromarray(image).save(file, format="PNG"))
