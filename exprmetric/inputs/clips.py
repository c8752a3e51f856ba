"""Clips as numbered images: a folder of frames, a video whose frames are extracted, or a still image.

Frames of a video are written once, as PNG, to `workdir/<hash of the video's bytes>/<index>.png`, and found there by the
next run. The file `frames.json` beside them is written when the whole video was decoded without a fault.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exprmetric.errors import ExprmetricError, InputError, VideoError
from exprmetric.inputs.folder import misnamed
from exprmetric.io.files import write_whole
from exprmetric.io.frame_folders import list_frames
from exprmetric.io.images import IMAGE_SUFFIXES, MOVING_SUFFIXES, content_hash
from exprmetric.io.tables import show

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from exprmetric.io.video import Frame

Choice = Callable[[int], Iterable[int]]
"""Which frames are wanted, 0, 1, … of that many."""

_PNG_END = b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class Clip:
    """Images with names, in the order in which they are shown.

    Attributes:
        names: the stems of a folder's images; the indices of a video's frames, in four digits or more.
        images: files by name; of a video, at least the frames that were wanted.
        named: the names are those of files, not indices.
    """

    path: Path
    names: tuple[str, ...]
    images: Mapping[str, Path]
    named: bool = False


def evenly(count: int, wanted: int) -> list[int]:
    """The middles of `wanted` equal parts of 0 … count - 1; all of them where there are no more, or wanted is 0."""
    if not 0 < wanted < count:
        return list(range(count))
    return [(2 * i + 1) * count // (2 * wanted) for i in range(wanted)]


CLIP_SUFFIXES = MOVING_SUFFIXES | IMAGE_SUFFIXES
"""Lower-case suffixes of the files that can be a clip: videos, animated images, and images, which are one frame."""


def open_clip(path: Path, wanted: Choice, workdir: Path | None) -> Clip:
    """A folder of frames, a video or an image, with the wanted frames as files.

    Raises:
        UnreadableImageError: there are no frames, two have one name, or the video can't be decoded to its end.
        InputError: it is a video, and no `workdir` is given or it can't be made.
        MissingPackageError: it is a video and PyAV is not installed.
        OSError: a frame can't be written.
    """
    if path.is_dir():
        return _folder(path)
    if path.suffix.lower() in IMAGE_SUFFIXES and not _animated(path):
        return Clip(path, (frame_name(0),), {frame_name(0): path})
    if workdir is None:
        raise InputError(f"{show(path)} is a video: name a folder for its frames (`workdir`)")
    folder = workdir / content_hash(path)[:32]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{show(workdir)} can't hold the frames of videos: {error.strerror}") from error
    count, images = _extract(path, wanted, folder)
    return Clip(path, tuple(map(frame_name, range(count))), images)


def frame_name(index: int) -> str:
    """As FaceForensics++'s own script names extracted frames: 0000, 0001, …"""
    return f"{index:04d}"


def is_frame(path: Path) -> bool:
    """Whether a file is taken as one of its folder's frames, by its name."""
    return not path.name.startswith(".") and not misnamed(path, IMAGE_SUFFIXES)


def _folder(folder: Path) -> Clip:
    images = list_frames(folder, is_frame)
    return Clip(folder, tuple(images), images, named=True)


def _animated(path: Path) -> bool:
    from exprmetric.io.video import ANIMATED_SUFFIXES

    return path.suffix.lower() in ANIMATED_SUFFIXES and _stated_count(path) != 1


@contextmanager
def _decoding(video: Path) -> Iterator[None]:
    """Whatever a decoder makes of damaged bytes is that video's problem."""
    try:
        yield
    except ExprmetricError:
        raise
    except Exception as error:
        raise VideoError(f"{show(video)}: can't be decoded: {error or type(error).__name__}") from error


def _stated_count(video: Path) -> int | None:
    from exprmetric.io.video import info

    with _decoding(video):
        return info(video).frames


def _frames(video: Path) -> Iterator[Frame]:
    from exprmetric.io.video import frames

    with _decoding(video):
        yield from frames(video)


def _extract(video: Path, wanted: Choice, folder: Path) -> tuple[int, dict[str, Path]]:
    """Frame count, and the files of the wanted frames, decoding only what isn't there.

    The video is decoded to its end: behind damage frames are counted wrongly, and only the end tells of it. The count
    that the container states is believed at first, so that one pass is enough where it is true.
    """
    known = _known_count(folder)
    count = known if known is not None else _stated_count(video) or 0
    for _ in range(2):
        files = {frame_name(index): folder / f"{frame_name(index)}.png" for index in wanted(count)}
        missing = {name for name, file in files.items() if not _is_whole(file)}
        if known == count and not missing:
            return count, files
        known = _decode(video, {name: files[name] for name in missing})
        _remember(folder, known)
        if known == count:
            return count, files
        count = known
    raise VideoError(f"{show(video)}: its frames were counted twice with different results")


def _decode(video: Path, wanted: Mapping[str, Path]) -> int:
    """Write the wanted frames, and count all."""
    count = 0
    for frame in _frames(video):
        count = frame.index + 1
        if (file := wanted.get(frame_name(frame.index))) is not None:
            _write_png(file, frame.image)
    return count


def _write_png(path: Path, image: NDArray[np.uint8]) -> None:
    from PIL import Image

    write_whole(path, lambda file: Image.fromarray(image).save(file, "PNG", compress_level=1))


def _remember(folder: Path, count: int) -> None:
    text = json.dumps({"frames": count}).encode()
    write_whole(folder / "frames.json", lambda file: file.write(text))


def _known_count(folder: Path) -> int | None:
    try:
        count = json.loads((folder / "frames.json").read_bytes())["frames"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return count if isinstance(count, int) and count > 0 else None


def _is_whole(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(-len(_PNG_END), 2)
            return file.read() == _PNG_END
    except OSError:  # not there, or shorter than that
        return False
