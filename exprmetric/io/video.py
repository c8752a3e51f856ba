"""Frames of a video: a file that FFmpeg decodes, an animated WebP, GIF or PNG, or a folder of images.

Frames are streamed: memory does not grow with the length of a video. Each comes upright (display matrix, EXIF), with
square pixels, and with the time that the container states for it.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.errors import DamagedVideoError, InputError, UnreadableImageError, VideoError
from exprmetric.io.container import Opened, Undrawn, damaged_video, open_video, pictures_at
from exprmetric.io.frame_folders import list_frames
from exprmetric.io.images import IMAGE_SUFFIXES, MOVING_SUFFIXES, read_image
from exprmetric.io.names import grid

ANIMATED_SUFFIXES = frozenset({".webp", ".gif", ".png", ".apng"})
FOLDER_RATE = 25.0
"""Frames a second of a folder of images, which states none."""

_GIF_DURATION = 0.1  # seconds; what browsers show where a file states 0

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a video.

    Attributes:
        index: 0, 1, … in the order in which frames are shown; in a folder, a number that is missing between the names
            of two images is left out here too.
        time: seconds since the first frame.
        image: (H, W, 3) uint8 RGB, upright.
    """

    index: int
    time: float
    image: Image


@dataclass(frozen=True)
class VideoInfo:
    """What a video says of itself.

    Attributes:
        width: px, as shown.
        height: px, as shown.
        rate: frames a second, on average; 0 where it isn't stated.
        frames: how many the container states; None where it doesn't.
        duration: seconds, as stated; None where it isn't.
    """

    path: Path
    width: int
    height: int
    rate: float
    frames: int | None
    duration: float | None


def frames(
    path: str | os.PathLike[str],
    *,
    every: int = 1,
    only: Container[int] | None = None,
    rate: float = FOLDER_RATE,
    numbered: bool = False,
) -> Iterator[Frame]:
    """The frames of a video, in the order in which they are shown.

    Args:
        path: a video file, an animated or still image, or a folder of images (see `exprmetric.io.names`).
        every: hand out the frames 0, every, 2 * every, …; `index` still counts all.
        only: hand out the frames with these indices instead.
        rate: frames a second of a folder of images.
        numbered: the numbers in a folder's names count `rate` frames a second, also where they step by 25; else each
            image is one frame, however far it is from the one before.

    Raises:
        VideoError: it can't be read at all. DamagedVideoError: behind the last frame, when parts could not be decoded.
        MissingPackageError: PyAV is not installed.
        InputError: `every` or `rate` is no positive number.
    """
    if every < 1:
        raise InputError(f"every must be 1 or more, got {every}")
    opened = _open(Path(os.fsdecode(path)), rate, numbered)  # now: errors should not wait for the first frame
    return (
        Frame(i, time, picture())
        for i, time, picture in opened.frames
        if (i in only if only is not None else i % every == 0)
    )


def info(path: str | os.PathLike[str], *, rate: float = FOLDER_RATE) -> VideoInfo:
    """Size, rate, frame count and duration, as the container states them; one frame is decoded.

    Raises:
        VideoError, MissingPackageError: as `frames`.
    """
    path = Path(os.fsdecode(path))
    opened = _open(path, rate)
    first = next(opened.frames, None)
    if first is None:
        raise VideoError(f"{str(path)!r}: there is no frame in it")
    height, width = first[2]().shape[:2]
    return VideoInfo(path, width, height, opened.rate, opened.count, opened.duration)


def read_frames(
    path: str | os.PathLike[str], wanted: Iterable[int] | Mapping[int, float], *, rate: float = FOLDER_RATE
) -> dict[int, Frame]:
    """A few frames by index.

    Args:
        wanted: indices. With the time of each, as `frames` gave it, a file is decoded from the key frame before;
            without, or where that fails, from its beginning.
        rate: frames a second of a folder of images.

    Raises:
        VideoError: as `frames`, and when there is no frame of an index.
    """
    video = Path(os.fsdecode(path))
    left = set(wanted)
    found: dict[int, Frame] = {}
    if isinstance(wanted, Mapping) and _is_file_of_video(video):
        pictures = pictures_at(video, wanted.values())
        found = {i: Frame(i, time, pictures[time]) for i, time in wanted.items() if time in pictures}
        left -= found.keys()
    opened = _open(video, rate)
    try:
        for i, time, picture in opened.frames if left else ():
            if i in left:
                found[i] = Frame(i, time, picture())
                left.remove(i)
                if not left:
                    break
    except DamagedVideoError:
        pass  # whoever read the whole video was told
    if left:
        raise VideoError(f"{str(path)!r}: there is no frame {min(left)}")
    return found


def find_videos(folder: str | os.PathLike[str]) -> list[Path]:
    """Video files and animated images of a folder and those below it, sorted."""
    root = Path(os.fsdecode(folder))
    return sorted(p for p in root.rglob("*") if p.suffix.lower() in MOVING_SUFFIXES and p.is_file())


def _is_file_of_video(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() not in ANIMATED_SUFFIXES | IMAGE_SUFFIXES


def _open(path: Path, rate: float, numbered: bool = False) -> Opened:
    if not rate > 0:
        raise InputError(f"rate must be above 0 frames a second, got {rate}")
    if path.is_dir():
        return _open_folder(path, rate, numbered)
    if not path.is_file():  # opening a named pipe would wait for ever
        raise VideoError(f"{str(path)!r}: {'it is not a regular file' if path.exists() else 'no such file or folder'}")
    if path.suffix.lower() in ANIMATED_SUFFIXES:
        return _open_animated(path)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return Opened(0.0, 1, None, iter([(0, 0.0, lambda: read_image(path))]))
    return open_video(path)


def _open_folder(folder: Path, rate: float, numbered: bool) -> Opened:
    paths = list_frames(folder)
    at, step = grid(list(paths))
    rate = rate / step if numbered else rate

    def each() -> Iterator[Undrawn]:
        bad: list[str] = []
        good = 0
        for i, path in zip(at, paths.values(), strict=True):
            try:
                image = read_image(path)
            except UnreadableImageError as error:
                bad.append(str(error))
                continue
            good += 1
            yield i, i / rate, lambda image=image: image  # type: ignore[misc]
        if bad:
            raise damaged_video(folder, good, f"{len(bad)} images can't be read, the first: {bad[0]}")

    return Opened(rate, len(paths), (at[-1] + 1) / rate, each())


def _open_animated(path: Path) -> Opened:
    from PIL import Image as pillow

    still = read_image(path)  # refuses what the project refuses of images: bombs, other formats, damaged files
    image = pillow.open(path)
    image.load()  # a WebP's durations are known once a frame is decoded
    count = int(getattr(image, "n_frames", 1))
    first = _duration(image)

    def each() -> Iterator[Undrawn]:
        time = 0.0
        with image:
            yield 0, 0.0, lambda: still
            for i in range(1, count):
                time += _duration(image)
                try:
                    image.seek(i)
                    image.load()
                    pixels = np.asarray(image.convert("RGBA"))
                except Exception as error:  # on damaged bytes decoders raise anything
                    raise damaged_video(path, i, f"frame {i} can't be decoded: {error}") from error
                yield i, time, lambda pixels=pixels: read_image(pixels)  # type: ignore[misc]

    return Opened(1 / first if count > 1 else 0.0, count, first * count if count > 1 else None, each())


def _duration(image: Any) -> float:
    """Seconds that the loaded frame is shown."""
    return (image.info.get("duration") or 0) / 1000 or _GIF_DURATION
