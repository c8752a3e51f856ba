"""The database of expressions that a user makes: a folder with `tag/face.jpg`. No training; one face is enough."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from exprmetric.errors import InputError, NoFaceError
from exprmetric.io.files import write_whole
from exprmetric.io.images import IMAGE_SUFFIXES, content_hash, read_image
from exprmetric.io.tables import brief, show

_LONGEST = 100


@dataclass(frozen=True, eq=False)
class Reference:
    """A face of the database: its tags, its (first) file, its vector (D,)."""

    tags: frozenset[str]
    path: Path
    vector: npt.NDArray[np.float32]


def checked_tag(tag: str) -> str:
    """The tag, if it can name a folder.

    Raises:
        InputError: it is empty, too long, begins with a dot, or holds a slash, backslash or control character.
    """
    if not tag.strip() or len(tag) > _LONGEST or tag.startswith(".") or set(tag) & set("/\\") or not tag.isprintable():
        raise InputError(
            f"{brief(repr(tag))} can't be a tag: 1 to {_LONGEST} letters without slashes, not beginning with a dot"
        )
    return tag


def reference_files(database: str | os.PathLike[str]) -> dict[Path, frozenset[str]]:
    """The images of a database with their tags; one that lies in several tags' folders is one with several tags.

    Raises:
        InputError: there is no such folder, or no image in its folders.
        UnreadableImageError: an image can't be read.
    """
    root = Path(database)
    if not root.is_dir():
        raise InputError(f"no such folder: {show(root)}")
    first: dict[str, Path] = {}
    tags: dict[Path, frozenset[str]] = {}
    for folder in sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")):
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or path.suffix.lower() not in IMAGE_SUFFIXES or not path.is_file():
                continue
            same = first.setdefault(content_hash(path), path)
            tags[same] = tags.get(same, frozenset()) | {folder.name}
    if not tags:
        raise InputError(f"{show(root)} holds no references: expected a folder for each tag with images of faces in it")
    return tags


def read_references(
    database: str | os.PathLike[str], method: str, *, detector: str = "auto", provider: str = "cpu"
) -> list[Reference]:
    """The faces of a database as one method sees them; of several in an image, the largest.

    Raises:
        InputError: as `reference_files`, and when a face can't be used; the message names it.
    """
    from exprmetric.evaluation.embed import embed_images

    files = reference_files(database)
    found = embed_images(list(files), method, detector=detector, provider=provider)
    references = []
    for embedding in found:
        if embedding.vector is None:
            raise InputError(f"the reference {show(embedding.path)} can't be used: {embedding.reason}")
        references.append(Reference(files[embedding.path], embedding.path, embedding.vector))
    return references


def add_reference(
    database: str | os.PathLike[str],
    tags: list[str],
    face: str | os.PathLike[str],
    *,
    at: float | None = None,
    detector: str = "auto",
    provider: str = "cpu",
) -> list[Path]:
    """Put a face into a database, below each of its tags; one that is there already stays as it is.

    Args:
        database: a folder; made where there is none.
        tags: one or more.
        face: an image; or a video, with `at`.
        at: seconds into the video.

    Returns:
        The files.

    Raises:
        NoFaceError: no face is found in it. UnreadableImageError, VideoError: it can't be read.
        InputError: a tag can't be one, or the folder can't be written.
    """
    from exprmetric.faces import open_finder

    names = [checked_tag(tag) for tag in tags]
    if not names:
        raise InputError("a reference needs a tag")
    path = Path(os.fsdecode(face))
    image, stem, suffix, data = _picture(path, at)
    try:
        open_finder(detector, provider=provider).find(image)
    except NoFaceError as error:
        raise NoFaceError(f"{show(path)}: {error}") from error
    digest = hashlib.sha256(data).hexdigest()[:8]
    written = []
    for name in names:
        folder = Path(database) / name
        out = folder / f"{stem}-{digest}{suffix}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(out, _writer(data))
        except OSError as error:
            raise InputError(f"can't write {show(out)}: {error}") from error
        written.append(out)
    return written


def _writer(data: bytes) -> Callable[[IO[bytes]], object]:
    return lambda file: file.write(data)


def _picture(path: Path, at: float | None) -> tuple[npt.NDArray[np.uint8], str, str, bytes]:
    """Pixels, and stem, suffix and bytes of the file that keeps them."""
    from PIL import Image

    stem = path.stem[:_LONGEST].lstrip(".") or "face"
    if at is None and path.suffix.lower() in IMAGE_SUFFIXES:
        return read_image(path), stem, path.suffix.lower(), path.read_bytes()
    image = read_image(path) if at is None else _shown(path, at)
    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG")
    return image, stem if at is None else f"{stem}-{at:g}s", ".png", data.getvalue()


def _shown(path: Path, at: float) -> npt.NDArray[np.uint8]:
    """The picture that a video shows at a time."""
    from exprmetric.io.video import frames

    before, step = None, 0.0
    for frame in frames(path):
        if frame.time > at + 1e-6:
            break
        step = frame.time - before.time if before else 0.0
        before = frame
    else:
        if before is not None and at > before.time + max(step, 1e-6):
            before = None
    if before is None:
        raise InputError(f"{show(path)} shows nothing at {at:g} s")
    return before.image
