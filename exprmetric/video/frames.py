"""Frames of a video: a file that FFmpeg decodes, an animated WebP, GIF or PNG, or a folder of images.

Frames are streamed: memory does not grow with the length of a video. Each comes upright (display matrix, EXIF), with
square pixels, and with the time that the container states for it. Files are opened as files and nothing else: names
that FFmpeg would take for an address or a list of other files are not followed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.errors import DamagedVideoError, InputError, MissingPackageError, UnreadableImageError, VideoError
from exprmetric.images import IMAGE_SUFFIXES, MAX_PIXELS, read_image

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".flv", ".wmv", ".ogv"}
    | {".3gp", ".mxf", ".nut", ".ivf"}
)
"""Lower-case suffixes of the files that folders are searched for; animated images come on top."""
ANIMATED_SUFFIXES = frozenset({".webp", ".gif", ".png", ".apng"})
FOLDER_RATE = 25.0
"""Frames a second of a folder of images, which states none."""

# Demuxers that may run: containers of one video. Playlists and concatenations could name other files.
_CONTAINERS = "mov,matroska,webm,avi,mpeg,mpegts,flv,asf,ogg,mxf,nut,ivf,dv,yuv4mpegpipe"
_GIF_DURATION = 0.1  # seconds; what browsers show where a file states 0
_LATE = 0.25  # seconds that a video may end before its stated duration

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a video.

    Attributes:
        index: 0, 1, … in the order in which frames are shown.
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
        width, height: px, as shown.
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


_Undrawn = tuple[int, float, Callable[[], Image]]
"""Index, time and a function that makes the picture: frames that are left out are not converted."""


@dataclass(frozen=True, eq=False)
class _Opened:
    rate: float
    count: int | None
    duration: float | None
    frames: Iterator[_Undrawn]


def frames(path: str | os.PathLike[str], *, every: int = 1, rate: float = FOLDER_RATE) -> Iterator[Frame]:
    """The frames of a video, in the order in which they are shown.

    Args:
        path: a video file, an animated or still image, or a folder of images (sorted as people count: 2 before 10).
        every: hand out the frames 0, every, 2 * every, …; `index` still counts all.
        rate: frames a second of a folder of images.

    Raises:
        VideoError: it can't be read at all. DamagedVideoError: behind the last frame, when parts could not be decoded.
        MissingPackageError: PyAV is not installed.
        InputError: `every` or `rate` is no positive number.
    """
    if every < 1:
        raise InputError(f"every must be 1 or more, got {every}")
    opened = _open(Path(os.fsdecode(path)), rate)  # now: errors should not wait for the first frame
    return (Frame(i, time, picture()) for i, time, picture in opened.frames if i % every == 0)


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


def read_frames(path: str | os.PathLike[str], indices: Iterable[int], *, rate: float = FOLDER_RATE) -> dict[int, Frame]:
    """A few frames by index; the others are decoded on the way and not converted.

    Raises:
        VideoError: as `frames`, and when there is no frame of an index.
    """
    wanted = set(indices)
    found: dict[int, Frame] = {}
    opened = _open(Path(os.fsdecode(path)), rate)
    try:
        for i, time, picture in opened.frames if wanted else ():
            if i in wanted:
                found[i] = Frame(i, time, picture())
                if len(found) == len(wanted):
                    break
    except DamagedVideoError:
        pass  # whoever read the whole video was told
    if missing := sorted(wanted - found.keys()):
        raise VideoError(f"{str(path)!r}: there is no frame {missing[0]}")
    return found


def find_videos(folder: str | os.PathLike[str]) -> list[Path]:
    """Video files and animated images of a folder and those below it, sorted."""
    suffixes = VIDEO_SUFFIXES | {".webp", ".gif", ".apng"}
    root = Path(os.fsdecode(folder))
    return sorted(p for p in root.rglob("*") if p.suffix.lower() in suffixes and p.is_file())


def _open(path: Path, rate: float) -> _Opened:
    if not rate > 0:
        raise InputError(f"rate must be above 0 frames a second, got {rate}")
    if path.is_dir():
        return _open_folder(path, rate)
    if not path.is_file():  # opening a named pipe would wait for ever
        raise VideoError(f"{str(path)!r}: {'it is not a regular file' if path.exists() else 'no such file or folder'}")
    if path.suffix.lower() in ANIMATED_SUFFIXES:
        return _open_animated(path)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return _Opened(0.0, 1, None, iter([(0, 0.0, lambda: read_image(path))]))
    return _open_video(path)


def _open_folder(folder: Path, rate: float) -> _Opened:
    paths = sorted((p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()), key=_natural)
    if not paths:
        raise VideoError(f"{str(folder)!r}: there is no image in this folder")

    def each() -> Iterator[_Undrawn]:
        bad: list[str] = []
        good = 0
        for i, path in enumerate(paths):
            try:
                image = read_image(path)
            except UnreadableImageError as error:
                bad.append(str(error))
                continue
            good += 1
            yield i, i / rate, lambda image=image: image  # type: ignore[misc]
        if bad:
            raise _damaged(folder, good, f"{len(bad)} images can't be read, the first: {bad[0]}")

    return _Opened(rate, len(paths), len(paths) / rate, each())


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.findall(r"[0-9]+|[^0-9]+", path.name)
    return [(int(p), "") if p[0] in "0123456789" else (-1, p) for p in parts], path.name


def _open_animated(path: Path) -> _Opened:
    from PIL import Image as pillow

    still = read_image(path)  # refuses what the project refuses of images: bombs, other formats, damaged files
    image = pillow.open(path)
    image.load()  # a WebP's durations are known once a frame is decoded
    count = int(getattr(image, "n_frames", 1))
    first = _duration(image)

    def each() -> Iterator[_Undrawn]:
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
                    raise _damaged(path, i, f"frame {i} can't be decoded: {error}") from error
                yield i, time, lambda pixels=pixels: read_image(pixels)  # type: ignore[misc]

    return _Opened(1 / first if count > 1 else 0.0, count, first * count if count > 1 else None, each())


def _duration(image: Any) -> float:
    """Seconds that the loaded frame is shown."""
    return (image.info.get("duration") or 0) / 1000 or _GIF_DURATION


def _pyav() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise MissingPackageError("video files need PyAV: pip install 'exprmetric[video]'") from error
    return av


def _open_video(path: Path) -> _Opened:
    av = _pyav()
    limits = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
    try:
        container = av.open(f"file:{path.absolute()}", container_options=limits, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"{str(path)!r}: not a video that can be read ({_message(error)})") from error
    stream = next((s for s in container.streams.video if not s.disposition & _cover(s)), None)
    if stream is None:
        container.close()
        raise VideoError(f"{str(path)!r}: there is no video in it")
    context = stream.codec_context
    if context is None or context.width * context.height > MAX_PIXELS:
        container.close()
        what = "its codec isn't known" if context is None else f"{context.width} x {context.height} is too large"
        raise VideoError(f"{str(path)!r}: {what}")
    stream.thread_type = "AUTO"
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    duration = _stated_duration(stream)
    return _Opened(rate, stream.frames or None, duration, _decode(path, container, stream, rate, duration))


def _cover(stream: Any) -> Any:
    """The flag of a cover picture, which is no video."""
    return type(stream.disposition).attached_pic


def _stated_duration(stream: Any) -> float | None:
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    clock = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))  # Matroska
    return int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3]) if clock else None


def _decode(path: Path, container: Any, stream: Any, rate: float, duration: float | None) -> Iterator[_Undrawn]:
    av = _pyav()
    step = 1 / rate if rate > 0 else 0.04
    good, damaged, bad, reason = 0, 0, 0, ""
    end = 0.0
    start: float | None = None
    time = -step
    with container:
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                packet, bad, reason = None, bad + 1, _message(error)
            try:
                decoded = stream.decode(packet if packet is not None and packet.size else None)
            except av.EOFError:
                decoded = []
            except av.FFmpegError as error:
                decoded, bad, reason = [], bad + 1, _message(error)
            for frame in decoded:
                if frame.pts is None:
                    time += step
                else:
                    stated = float(frame.pts * stream.time_base)
                    start = stated if start is None else start
                    time = max(stated - start, time + 1e-6)  # time goes on, whatever a broken file states
                end = time + (float(frame.duration * stream.time_base) if frame.duration else step)
                if frame.is_corrupt:
                    damaged += 1
                    continue
                good += 1
                yield good + damaged - 1, time, lambda frame=frame: _picture(frame, stream.sample_aspect_ratio)  # type: ignore[misc]
            if packet is None or not packet.size:
                break
    if bad or damaged:
        raise _damaged(path, good, f"{bad + damaged} of its parts can't be decoded ({reason or 'damaged frames'})")
    if not good:
        raise VideoError(f"{str(path)!r}: there is no frame in it")
    if duration is not None and end < duration - _LATE:
        raise _damaged(path, good, f"it ends after {end:.2f} of {duration:.2f} stated seconds: it is cut short")


def _picture(frame: Any, aspect: Fraction | None) -> Image:
    """RGB, with square pixels, upright."""
    width = round(frame.width * aspect) if aspect else frame.width
    image: Image = frame.to_ndarray(format="rgb24", width=width, height=frame.height)
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return image if matrix is None else upright(image, np.frombuffer(matrix, np.int32)[[0, 1, 3, 4]])


def upright(image: Image, matrix: npt.ArrayLike) -> Image:
    """Turn and mirror a picture by quarter turns.

    Args:
        matrix: a, b, c, d of a display matrix: a pixel at (x, y) is shown at (a x + c y, b x + d y).
    """
    a, b, c, d = (float(v) for v in np.asarray(matrix))
    if abs(b) > abs(a):
        image = image.transpose(1, 0, 2)
        a, d = c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _damaged(path: Path, decoded: int, why: str) -> DamagedVideoError:
    return DamagedVideoError(f"{str(path)!r}: {why}; {decoded} frames could be decoded", decoded=decoded)


def _message(error: Exception) -> str:
    return str(getattr(error, "strerror", "") or error)
