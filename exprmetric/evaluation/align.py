"""Aligned crops of faces, for who trains on them: one PNG an image, and a row for each that failed."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exprmetric.choices import CROPS
from exprmetric.errors import ImageError, InputError
from exprmetric.evaluation.embed import find_images
from exprmetric.evaluation.rows import OK
from exprmetric.faces import FaceFinder, open_finder
from exprmetric.faces.alignment import CROP_SIZE, warp
from exprmetric.faces.place import box_text
from exprmetric.faces.point_models import DEFAULT
from exprmetric.io.faults import of_image
from exprmetric.io.files import path_text, write_files, write_whole
from exprmetric.io.images import read_image
from exprmetric.io.pool import open_pool
from exprmetric.io.progress import Progress, no_progress
from exprmetric.weights import store as weights

Image = npt.NDArray[np.uint8]

SIDES = {"eyes70": CROP_SIZE, "arcface": CROP_SIZE // 2}
"""Side of a crop, px: that of the template's own definition."""
TABLE = "crops.csv"
COLUMNS = ("image", "crop", "status", "reason", "faces", "box")
_AHEAD = 64
"""Images that are read ahead of the one that is handed out."""


@dataclass(frozen=True, eq=False)
class Crop:
    """What became of one image.

    Attributes:
        path: of the image.
        status: `ok`, or why there is no crop: `unreadable`, `no_face`, `low_quality`, `error`.
        reason: in words; '' where ok.
        pixels: (S, S, 3) uint8 RGB; None where it failed, or where it was written into a file.
        file: where it was written; None where it was not.
        faces: how many faces the image shows; None where that isn't known.
        box: (4,) x0, y0, x1, y1 of the face that was cut, px of the upright image; None where it failed.
    """

    path: Path
    status: str = OK
    reason: str = ""
    pixels: Image | None = None
    file: Path | None = None
    faces: int | None = None
    box: npt.NDArray[np.float64] | None = None


def align(
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    template: str = CROPS[0],
    *,
    out: str | os.PathLike[str] | None = None,
    detector: str = "auto",
    face: str = "largest",
    provider: str = "cpu",
    landmarks: str = DEFAULT,
    commercial_only: bool = False,
    jobs: int | None = None,
    progress: Progress = no_progress,
) -> list[Crop]:
    """Cut faces out as an encoder was trained to see them, in one warp from the original pixels.

    Args:
        images: a folder, which is searched with all that is below it, an image, or several of both.
        template: `eyes70` (224 px: eye centres level and 70 px apart, what exprmetric's encoder sees) or `arcface`
            (112 px: the five points that face recognition uses).
        out: a folder for the crops, as PNG below the same subfolders, and `crops.csv`; None: the crops are returned.
        detector: as in `evaluate`.
        face: which of several faces: `largest`, `center`, `error`.
        provider: as in `evaluate`.
        landmarks: as in `evaluate`.
        commercial_only: as in `evaluate`.
        jobs: threads that read images. The crops don't depend on it.
        progress: told how far it is.

    Returns:
        One `Crop` an image, in their order; images that fail are in it with their status and reason.

    Raises:
        InputError: there is no such template or path, no image at all, or `out` can't be written or holds the images.
        UnknownMethodError, WeightsError, ProviderError: from loading the detector.
    """
    if template not in CROPS:
        raise InputError(f"unknown template {template!r}; known: {', '.join(CROPS)}")
    named = [Path(p) for p in ([images] if isinstance(images, str | os.PathLike) else images)]
    paths = find_images(named)
    folder = None if out is None else Path(out)
    places = {} if folder is None else _places(paths, named, folder)
    with weights.commercial_only(commercial_only):
        finder = open_finder(detector, face, provider=provider, landmarks=landmarks)
    found: list[Crop] = []
    with open_pool(jobs) as pool:
        for crop in _in_order(pool, partial(_cut, finder, template, places), paths):
            found.append(crop)
            progress("images", len(found), len(paths))
    if folder is not None:
        write_files(folder, {TABLE: _table(found, folder).encode("utf-8")})
    return found


def _in_order(pool: Executor, work: partial[Crop], paths: Sequence[Path]) -> Iterator[Crop]:
    """In the order of the paths; a few at a time, so that a folder's crops don't wait in memory."""
    waiting = iter(paths)
    while some := list(islice(waiting, _AHEAD)):
        yield from pool.map(work, some)


def _cut(finder: FaceFinder, template: str, places: dict[Path, Path], path: Path) -> Crop:
    count: int | None = None
    try:
        image = read_image(path)
        seen = finder.detect(image)
        count = len(seen)
        face = finder.face(image, finder.choose(seen, image))
        side = SIDES[template]
        pixels = warp(image, _scaled(face.matrix(template), side / CROP_SIZE, aligned=face.aligned), side)
    except Exception as error:
        failed: ImageError = of_image(error)
        none = count is None and failed.status == "no_face"
        return Crop(path, failed.status, str(failed), faces=0 if none else count)
    if path not in places:
        return Crop(path, pixels=pixels, faces=count, box=face.box)
    return Crop(path, file=_written(pixels, places[path]), faces=count, box=face.box)


def _scaled(matrix: npt.NDArray[np.float64], scale: float, *, aligned: bool) -> npt.NDArray[np.float64]:
    """A map into the 224 px crop as one into a crop of another side.

    ArcFace's points are given for 112 px and were doubled, so halves are exact. A picture that is a crop already is
    resized, and there the borders of pixels count.
    """
    found = matrix * scale
    if aligned:
        found[:, 2] += 0.5 * scale - 0.5
    return found


def _written(pixels: Image, place: Path) -> Path:
    """Errors of the disk end the run: every crop would meet them."""
    from PIL import Image as Pillow

    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, lambda file: Pillow.fromarray(pixels).save(file, format="PNG"))
    except OSError as error:
        raise InputError(f"can't write {place}: {error.strerror or error}") from error
    return place


def _places(paths: Sequence[Path], named: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Where each crop goes: below `out` as the image stands below the folder that was named."""
    folders = [p for p in named if p.is_dir()]
    if inside := [p for p in folders if out.resolve().is_relative_to(p.resolve())]:
        raise InputError(f"the folder for crops, {str(out)!r}, lies in {str(inside[0])!r}, where images are looked for")
    relative = {path: _below(path, folders) for path in paths}
    uses = Counter(str(r.with_suffix("")).casefold() for r in relative.values())
    found: dict[Path, Path] = {}
    taken: set[str] = set()
    for path, below in relative.items():
        alone = uses[str(below.with_suffix("")).casefold()] == 1
        name, number = below.with_suffix(".png") if alone else below.with_name(f"{below.name}.png"), 2
        while str(name).casefold() in taken:  # of two folders that hold the same names
            name, number = below.with_name(f"{below.name}-{number}.png"), number + 1
        taken.add(str(name).casefold())
        found[path] = out / name
    return found


def _below(path: Path, folders: Sequence[Path]) -> Path:
    return next((path.relative_to(folder) for folder in folders if path.is_relative_to(folder)), Path(path.name))


def _table(crops: Sequence[Crop], out: Path) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for crop in crops:
        file = "" if crop.file is None else path_text(crop.file.relative_to(out).as_posix())
        count = "" if crop.faces is None else crop.faces
        writer.writerow([path_text(crop.path), file, crop.status, path_text(crop.reason), count, box_text(crop.box)])
    return text.getvalue()
