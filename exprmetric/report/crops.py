"""Pictures for a report: the few images that it shows are read again, as small JPEGs inside the page.

An evaluation lets go of every pixel once it is measured. Keeping crops of all triplets for a gallery of a few would
cost memory that grows with the input; finding the same faces again in the few costs seconds.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.errors import ImageError
from exprmetric.evaluation.choosing import choice_of
from exprmetric.evaluation.rows import Record
from exprmetric.faces import FaceFinder, open_finder
from exprmetric.faces.alignment import CROP_SIZE
from exprmetric.faces.place import place_of
from exprmetric.faces.point_models import DEFAULT
from exprmetric.inputs.triplets import ROLES
from exprmetric.io.images import read_image
from exprmetric.weights import store

TEMPLATE = "eyes70"
SIDE = 224
"""Side of a picture in px, that of a crop, so that it can be enlarged; 27 triplets of three make about 1 MB."""
QUALITY = 82


@dataclass(frozen=True)
class Picture:
    """One image of a triplet.

    Attributes:
        role: target, source or swapped.
        uri: JPEG as a data URI: the aligned crop, or the whole image where no face was found; '' where unreadable.
        landmarks: SVG path of the 68 points over a crop of 224 x 224; '' where there is no face.
        problem: why there is no face, or no image.
    """

    role: str
    uri: str = ""
    landmarks: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Card:
    """A triplet that the report shows: its record, its pictures, and why it was chosen."""

    row: Record
    index: int
    tags: tuple[str, ...] = ()
    pictures: list[Picture] = field(default_factory=list)


def with_pictures(cards: Iterable[Card], finder: FaceFinder, pool: Executor) -> Iterator[Card]:
    """The cards with their three pictures each, in their order; a pixel lives as long as its own card is drawn."""
    for card, pictures in pool.map(lambda c: (c, look(c.row, finder)), cards):
        yield Card(card.row, card.index, card.tags, pictures)


def look(row: Record, finder: FaceFinder, *, side: int = SIDE, quality: int = QUALITY) -> list[Picture]:
    """Target, source and swapped, with the faces that were measured; where none was, with that which is found.

    A row that needs no source has no picture of one. A swapped face whose box isn't known is looked for where the
    target's stands.

    Args:
        side: of the pictures, px.
        quality: of the JPEGs, 1..95.
    """
    pictures: list[Picture] = []
    place: npt.NDArray[np.float64] | None = None
    for role in ROLES:
        if role == "source" and not row[role] and "no source" not in row["reason"]:
            continue
        near = place if role == "swapped" else None
        picture, found = _picture(role, row[role], finder, near, row.get(f"box_{role}") or "", side, quality)
        pictures.append(picture)
        place = found if role == "target" else place
    return pictures


def _picture(
    role: str,
    path: str,
    finder: FaceFinder,
    near: npt.NDArray[np.float64] | None,
    box: str,
    side: int,
    quality: int,
) -> tuple[Picture, npt.NDArray[np.float64] | None]:
    """A picture, and the place of its face.

    Args:
        near: the place at which the face is looked for where its box isn't known.
        box: of the face that was measured, as the row has it.
    """
    if not path:
        return Picture(role, problem="no image is given"), None
    try:
        image = read_image(path)
    except ImageError as error:
        return Picture(role, problem=str(error)), None
    if box:
        near = place_of(np.array(box.split(), np.float64), (image.shape[0], image.shape[1]))
    try:
        face = finder.find(image, near=near)
    except ImageError as error:
        return Picture(role, jpeg_uri(image, side, quality), problem=str(error)), None
    points = face.aligned_landmarks(TEMPLATE) * CROP_SIZE
    path_of_points = "".join(f"M{x:.0f} {y:.0f}h0" for x, y in points + 0.5)
    return Picture(role, jpeg_uri(face.crop(TEMPLATE), side, quality), path_of_points), face.place


def result_finder(summary: Mapping[str, Any]) -> FaceFinder:
    """What finds the faces of a result again: its detector, choice of face, landmarks and licences."""
    settings = summary["settings"]
    landmarks = settings.get("landmarks", DEFAULT)  # older results don't say
    with store.commercial_only(settings.get("commercial_only", False)):
        asked, face = summary["detector"]["asked"], choice_of(settings["face"])
        return open_finder(asked, face, provider=settings["provider"], landmarks=landmarks)


def jpeg_uri(image: npt.NDArray[np.uint8], side: int = SIDE, quality: int = QUALITY) -> str:
    """RGB uint8 (H, W, 3), shrunk to fit into side x side, as a JPEG data URI."""
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
