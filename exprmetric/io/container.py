"""Video files, decoded with PyAV: from their beginning, or from the key frame before a time.

Files are opened as files and nothing else: names that FFmpeg would take for an address or a list of other files are not
followed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, dropwhile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.errors import DamagedVideoError, MissingPackageError, VideoError
from exprmetric.io import limits

# Demuxers that may run: containers of one video. Playlists and concatenations could name other files.
_CONTAINERS = "mov,matroska,webm,avi,mpeg,mpegts,flv,asf,ogg,mxf,nut,ivf,dv,yuv4mpegpipe"
_LATE = 0.25  # seconds that a video may end before its stated duration
_NEAR = 5.0
"""Seconds to a frame that are decoded rather than jumped over: a key frame is hardly nearer."""
_LEADS = (0.0, 2.0, 20.0)
"""Seconds that are tried to jump to before a frame: where there is no index, a jump may end behind it."""
_SAME = 1e-7
"""Seconds that two frames' times differ by at least is ten times this."""

Image = npt.NDArray[np.uint8]
Undrawn = tuple[int, float, Callable[[], Image]]
"""Index, time and a function that makes the picture: frames that are left out are not converted."""


@dataclass(frozen=True, eq=False)
class Opened:
    """What a video says of itself, and its frames.

    Attributes:
        rate: frames a second on average, 0 = not stated.
        count: frames; None: not stated.
        duration: seconds; None: not stated.
    """

    rate: float
    count: int | None
    duration: float | None
    frames: Iterator[Undrawn]


def _pyav() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise MissingPackageError("video files need PyAV: pip install 'exprmetric[video]'") from error
    return av


def open_video(path: Path) -> Opened:
    """A video file from its beginning. VideoError, MissingPackageError."""
    container, stream = _open(path)
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    duration = _stated_duration(stream)
    return Opened(rate, stream.frames or None, duration, _decode(path, container, stream, rate, duration))


def _open(path: Path) -> tuple[Any, Any]:
    """Container and stream."""
    av = _pyav()
    allowed = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
    try:
        container = av.open(f"file:{path.absolute()}", container_options=allowed, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"{str(path)!r}: not a video that can be read ({_message(error)})") from error
    stream = next((s for s in container.streams.video if not s.disposition & _cover(s)), None)
    if stream is None:
        container.close()
        raise VideoError(f"{str(path)!r}: there is no video in it")
    context = stream.codec_context
    if context is None or context.width * context.height > limits.MAX_FRAME_PIXELS:
        container.close()
        what = "its codec isn't known" if context is None else f"{context.width} x {context.height} is too large"
        raise VideoError(f"{str(path)!r}: {what}")
    context.options = {"max_pixels": str(limits.MAX_FRAME_PIXELS)}  # a later packet may state another size
    stream.thread_type = "AUTO"
    return container, stream


def _cover(stream: Any) -> Any:
    """The flag of a cover picture, which is no video."""
    return type(stream.disposition).attached_pic


def _stated_duration(stream: Any) -> float | None:
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    clock = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))  # Matroska
    return int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3]) if clock else None


def _decode(path: Path, container: Any, stream: Any, rate: float, duration: float | None) -> Iterator[Undrawn]:
    av = _pyav()
    step = 1 / rate if rate > 0 else 0.04
    good, damaged, bad, reason = 0, 0, 0, ""
    end, promised = 0.0, 0.0
    start: float | None = None
    time = -step
    with container:
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                packet, bad, reason = None, bad + 1, _message(error)
            if packet is not None and packet.size and packet.pts is not None and not packet.is_discard:
                promised = max(promised, float(packet.pts * stream.time_base))
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
                    stated = _stated(frame, stream)
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
        raise damaged_video(path, good, f"{bad + damaged} of its parts can't be decoded ({reason or 'damaged frames'})")
    if not good:
        raise VideoError(f"{str(path)!r}: there is no frame in it")
    if (
        start is not None and promised - start > time + 0.75 * step
    ):  # at the end FFmpeg drops errors and frames silently
        raise damaged_video(path, good, f"frames up to {promised - start:.2f} s are missing at its end")
    if duration is not None and end < duration - _LATE:
        raise damaged_video(path, good, f"it ends after {end:.2f} of {duration:.2f} stated seconds: it is cut short")


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


def damaged_video(path: Path, decoded: int, why: str) -> DamagedVideoError:
    """The error behind the last frame of a video of which a part is missing."""
    return DamagedVideoError(f"{str(path)!r}: {why}; {decoded} frames could be decoded", decoded=decoded)


def _message(error: Exception) -> str:
    return str(getattr(error, "strerror", "") or error)


def pictures_at(path: Path, times: Iterable[float]) -> dict[float, Image]:
    """Pictures of frames of a video file by their times, without decoding it from its beginning.

    Args:
        times: as `open_video` gives them: a frame is known by its time, whatever an index says.

    Returns:
        Those that were found; of a file that can't be jumped in, or whose times are not the container's, fewer.

    Raises:
        VideoError, MissingPackageError: the file can't be opened.
    """
    av = _pyav()
    container, stream = _open(path)
    found: dict[float, Image] = {}
    with container:
        try:
            first = next(container.decode(stream), None)
            start = None if first is None or first.pts is None else _stated(first, stream)
            ahead: Iterator[tuple[float, Any]] = iter(())
            last: tuple[float, Any] | None = None
            for time in sorted(set(times)) if start is not None else ():
                if last is None or not last[0] - _SAME <= time <= last[0] + _NEAR:
                    ahead = _from(container, stream, start or 0.0, time)
                    last = next(ahead, None)
                while last is not None and last[0] < time - _SAME:
                    last = next(ahead, None)
                if last is not None and abs(last[0] - time) <= _SAME and not last[1].is_corrupt:
                    found[time] = _picture(last[1], stream.sample_aspect_ratio)
        except av.FFmpegError:
            pass  # whoever decodes it from the beginning will know more
    return found


def _stated(frame: Any, stream: Any) -> float:
    return float(frame.pts * stream.time_base)


def _from(container: Any, stream: Any, start: float, time: float) -> Iterator[tuple[float, Any]]:
    """Frames and their times from a key frame at or before a time; none where there is no way to get there."""
    for lead in _LEADS:
        container.seek(round((start + time - lead) / stream.time_base), stream=stream)
        decoded = ((_stated(f, stream) - start, f) for f in container.decode(stream) if f.pts is not None)
        reached = dropwhile(lambda item: not item[1].key_frame, decoded)  # frames before lack what they refer to
        key = next(reached, None)
        if key is not None and key[0] <= time + _SAME:
            return chain([key], reached)
    return iter(())
