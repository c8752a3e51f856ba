"""Faces of videos as pictures, and many of them on one contact sheet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.faces import Face
from exprmetric.io.video import FOLDER_RATE, read_frames
from exprmetric.video.faces.table import VideoFaces

Image = npt.NDArray[np.uint8]
TEMPLATE = "eyes70"
SIDE, GAP, LINE = 160, 8, 15
"""Side of a face, room between two, and height of a line below it, px."""


def face_pictures(
    videos: Sequence[VideoFaces],
    paths: Sequence[Path],
    wanted: Iterable[tuple[int, int]],
    *,
    rate: float = FOLDER_RATE,
) -> dict[tuple[int, int], Image]:
    """Aligned crops (224, 224, 3) of faces, by video and row; each video is opened once.

    Args:
        paths: of the videos.
        wanted: numbers of videos, and rows of their faces.
        rate: of folders of images.

    Raises:
        VideoError: a video is not as it was any more.
    """
    rows: dict[int, set[int]] = {}
    for video, row in wanted:
        rows.setdefault(video, set()).add(row)
    found = {}
    for v, mine in rows.items():
        faces = videos[v]
        frames = read_frames(paths[v], {int(faces.frame[r]): float(faces.time[r]) for r in mine}, rate=rate)
        for r in mine:
            found[v, r] = _crop(frames[int(faces.frame[r])].image, faces, r)
    return found


def _crop(image: Image, faces: VideoFaces, row: int) -> Image:
    box, points = faces.box[row].astype(np.float64), faces.landmarks[row].astype(np.float64)
    return Face(image, box, float(faces.score[row]), points).crop(TEMPLATE)


@dataclass(frozen=True)
class Tile:
    """A picture on a sheet, with lines of text below."""

    picture: Image
    lines: tuple[str, ...] = ()


def contact_sheet(rows: Mapping[str, Sequence[Tile]], *, columns: int = 5) -> Any:
    """A PIL image: each group of tiles below its title, `columns` beside each other."""
    from PIL import Image as pillow
    from PIL import ImageDraw

    text = max((len(t.lines) for tiles in rows.values() for t in tiles), default=0) * LINE + (2 if rows else 0)
    columns = max(1, min(columns, max(map(len, rows.values()), default=1)))
    width = columns * (SIDE + GAP) + GAP
    heights = {title: 2 * LINE + -(-len(tiles) // columns) * (SIDE + text + GAP) for title, tiles in rows.items()}
    sheet = pillow.new("RGB", (width, sum(heights.values()) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    top = GAP
    for title, tiles in rows.items():
        draw.text((GAP, top + 4), _fitting(draw, title, width - 2 * GAP), "black")
        for i, tile in enumerate(tiles):
            x = GAP + i % columns * (SIDE + GAP)
            y = top + 2 * LINE - 4 + i // columns * (SIDE + text + GAP)
            sheet.paste(pillow.fromarray(tile.picture).resize((SIDE, SIDE), pillow.Resampling.LANCZOS), (x, y))
            for n, line in enumerate(tile.lines):
                draw.text((x, y + SIDE + 1 + n * LINE), _fitting(draw, line, SIDE), "#444")
        top += heights[title]
    return sheet


def _fitting(draw: Any, text: str, width: int) -> str:
    """The text on one line, its end left out where it is too long."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    if draw.textlength(text) <= width:
        return text
    while text and draw.textlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
