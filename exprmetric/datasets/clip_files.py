"""Where the clips of a data set are: video files, animated images and folders of frames, in folders and zips.

A tree may be VoxCeleb's (`id00012/21Uxsk56VDQ/00001.mp4`), whose ids say who is in each clip.
"""

from __future__ import annotations

import re
import shutil
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from exprmetric.datasets.samples import person_split
from exprmetric.errors import VideoError
from exprmetric.io.faults import of_machine
from exprmetric.io.folders import Files
from exprmetric.io.images import IMAGE_SUFFIXES, MOVING_SUFFIXES
from exprmetric.io.kept import digest
from exprmetric.io.limits import costly_member
from exprmetric.io.names import grid, natural

_VOXCELEB = re.compile(r"id\d{5}")


@dataclass(frozen=True)
class Clip:
    """One video.

    Attributes:
        root: the folder or zip it was found in, or the video itself.
        member: its name inside `root`, with forward slashes: a file, or a folder of images; "" where it is `root`.
        images: names of the images of a folder of frames, in the order in which they are shown.
        person: who is in it: VoxCeleb's id, else the folder it lies in, else of its own.
    """

    root: Path
    member: str
    person: str
    images: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f"{self.root.name}/{self.member}" if self.member else self.root.name


def find_clips(path: str | Path) -> list[Clip]:
    """The clips of a video file, a folder or a zip; empty where there are none.

    A folder with two images or more and no video is one clip of frames.
    """
    path = Path(path)
    if path.is_file() and not zipfile.is_zipfile(path):
        return [Clip(path, "", path.stem)] if path.suffix.lower() in MOVING_SUFFIXES else []
    if not path.exists():
        return []
    found: list[tuple[str, tuple[str, ...]]] = []
    stills = defaultdict(list)
    for name in sorted(n for n in Files(path).names if not PurePosixPath(n).name.startswith(".")):
        suffix = PurePosixPath(name).suffix.lower()
        if suffix in MOVING_SUFFIXES:
            found.append((name, ()))
        elif suffix in IMAGE_SUFFIXES:
            stills[name.rpartition("/")[0]].append(name)
    beside = {name.rpartition("/")[0] for name, _ in found}
    found += [
        (folder, tuple(sorted(names, key=natural)))
        for folder, names in stills.items()
        if len(names) > 1 and folder not in beside
    ]
    persons = _persons([name for name, _ in found])
    return sorted(
        (Clip(path, name, persons[name], images) for name, images in found), key=lambda c: (c.person, c.member)
    )


def _persons(members: list[str]) -> dict[str, str]:
    """By member: VoxCeleb's id in its path, else its first folder below those that all clips share, else itself."""
    columns = zip(*(PurePosixPath(m).parts[:-1] for m in members), strict=False)
    shared = len(list(takewhile(lambda column: len(set(column)) == 1, columns)))
    persons = {}
    for member in members:
        parts = PurePosixPath(member).parts
        identity = next((p for p in parts if _VOXCELEB.fullmatch(p)), None)
        persons[member] = identity or "/".join(parts[shared : shared + 1]) or member
    return persons


def clip_splits(clips: Sequence[Clip]) -> list[str]:
    """`train` or `valid` of each clip, by a hash of its person; of two persons or more, one at least is in each."""
    split = {person: person_split(person) for person in {c.person for c in clips}}
    if len(split) > 1 and len(set(split.values())) == 1:
        only = next(iter(split.values()))
        split[min(split, key=digest)] = "valid" if only == "train" else "train"
    return [split[c.person] for c in clips]


@contextmanager
def on_disk(clip: Clip) -> Iterator[Path]:
    """The clip as a path that the decoder can open; of a zip, a copy under a name of ours.

    Raises:
        VideoError: it can't be unpacked.
    """
    if not zipfile.is_zipfile(clip.root):
        yield clip.root / clip.member
        return
    with TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(clip.root) as archive:
                names = clip.images or (clip.member,)
                at, step = grid([PurePosixPath(name).stem for name in names])  # a missing number stays missing
                copies = [_unpack(archive, name, Path(folder), i * step) for i, name in zip(at, names, strict=True)]
        except (zipfile.BadZipFile, zlib.error, RuntimeError, OSError) as error:  # encrypted ones raise RuntimeError
            if machine := of_machine(error):
                raise machine from error
            raise VideoError(f"{clip.name} can't be unpacked: {error}") from error
        yield Path(folder) if clip.images else copies[0]


def _unpack(archive: zipfile.ZipFile, name: str, folder: Path, number: int) -> Path:
    if why := costly_member(archive.getinfo(name), None):
        raise VideoError(f"{name!r} is not unpacked: {why}")
    copy = folder / f"{number}{PurePosixPath(name).suffix}"
    with archive.open(name) as packed, copy.open("wb") as file:
        shutil.copyfileobj(packed, file)
    return copy


def content(clip: Clip) -> list[object]:
    """What tells one content of a clip from another without reading it: names, sizes, times or checksums."""
    names = clip.images or (clip.member,)
    if zipfile.is_zipfile(clip.root):
        with zipfile.ZipFile(clip.root) as archive:
            return [(n, archive.getinfo(n).CRC, archive.getinfo(n).file_size) for n in names]
    stats = [(clip.root / n).stat() for n in names]
    return [(n, s.st_size, s.st_mtime_ns) for n, s in zip(names, stats, strict=True)]
