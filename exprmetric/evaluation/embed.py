"""Vectors of one method for a list of images, `exprmetric.embed` among them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from exprmetric.errors import ImageError, InputError
from exprmetric.evaluation.given import as_image
from exprmetric.evaluation.large.forked import open_reader
from exprmetric.evaluation.pipeline import Task, represent_all
from exprmetric.evaluation.reading import lone_face
from exprmetric.evaluation.rows import OK
from exprmetric.evaluation.session import Session, Settings
from exprmetric.faces.point_models import DEFAULT
from exprmetric.io.arguments import text
from exprmetric.io.files import path_text, write_whole
from exprmetric.io.images import PICTURE_SUFFIXES
from exprmetric.io.pool import default_jobs, open_pool
from exprmetric.io.progress import Progress, no_progress

if TYPE_CHECKING:
    from exprmetric.io.images import ImageSource


@dataclass(frozen=True, eq=False)
class Embedding:
    """One image's vector: (D,) float32, or None with a status and a reason."""

    path: Path
    vector: npt.NDArray[np.float32] | None
    status: str = OK
    reason: str = ""


def find_images(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Files as they are named, and the images of folders, sorted.

    Raises:
        InputError: a path doesn't exist, or there is no image at all.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES and p.is_file())
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"no such file or folder: {str(path)!r}")
    if not found:
        raise InputError(f"no image in {', '.join(map(str, paths))}")
    return list(dict.fromkeys(found))


def embed(
    images: ImageSource | Sequence[ImageSource],
    method: str = "default",
    *,
    detector: str = "auto",
    face: str = "largest",
    provider: str = "cpu",
    landmarks: str = DEFAULT,
    commercial_only: bool = False,
) -> npt.NDArray[np.float32]:
    """Vectors of faces.

    Args:
        images: one image or several: paths, RGB uint8 (H, W, 3) arrays, Pillow images.
        method: a name for `load_method`.
        detector: as in `evaluate`.
        face: which of several faces: `largest`, `center`, `error`.
        provider: as in `evaluate`.
        landmarks: as in `evaluate`.
        commercial_only: as in `evaluate`.

    Returns:
        (N, D) float32, a row an image; (D,) for one image.

    Raises:
        UnreadableImageError, NoFaceError, SeveralFacesError, LowQualityError: an image has no vector.
        InputError: something that is no image is given.
    """
    one = isinstance(images, str | os.PathLike) or not isinstance(images, Sequence | np.ndarray) or _is_one(images)
    listed: list[Any] = [images] if one else list(images)  # type: ignore[arg-type]
    if not listed:
        raise InputError("no image is given")
    method, face = text(method, "method"), text(face, "face")
    session = Session(Settings((method,), detector, face, provider, False, landmarks, commercial_only))
    session.reader.only = session.finder.choose
    read = [session.reader.read(as_image(image)) for image in listed]
    vectors = []
    for outcome in session.reader.represent(read):
        found = lone_face(outcome)
        if isinstance(found, Exception):
            raise found
        vectors.append(found.vectors[method])
    return np.asarray(vectors[0] if one else np.stack(vectors), np.float32)


def _is_one(images: Any) -> bool:
    return isinstance(images, np.ndarray) and images.ndim < 4


def embed_images(
    paths: Sequence[Path],
    method: str = "default",
    *,
    detector: str = "auto",
    face: str = "largest",
    provider: str = "cpu",
    landmarks: str = DEFAULT,
    commercial_only: bool = False,
    jobs: int | None = None,
    progress: Progress = no_progress,
) -> list[Embedding]:
    """One `Embedding` a path, in order; images that fail are in it with their status.

    Args:
        face: which of several faces in an image: `largest`, `center`, `error`.
        landmarks: as in `exprmetric.evaluate`.
        commercial_only: as in `exprmetric.evaluate`.
    """
    session = Session(Settings((method,), detector, face, provider, False, landmarks, commercial_only))
    session.reader.only = session.finder.choose
    results: list[Embedding] = []
    read = open_reader(session.reader, jobs or default_jobs(), len(paths), provider)
    with open_pool(jobs) as pool, read as reader:
        for path, outcome in zip(paths, represent_all(map(Task, paths), reader, pool), strict=True):
            found = lone_face(outcome)
            if isinstance(found, ImageError):
                results.append(Embedding(path, None, found.status, str(found)))
            else:
                results.append(Embedding(path, found.vectors[method]))
            progress("images", len(results), len(paths))
    return results


def save_embeddings(embeddings: Sequence[Embedding], path: Path) -> None:
    """`.npz` with paths, embeddings (NaN rows where there is none), status, reason; text, no pickles.

    Raises:
        InputError: the file can't be written.
    """
    width = next((len(e.vector) for e in embeddings if e.vector is not None), 0)
    vectors = np.full((len(embeddings), width), np.nan, np.float32)
    for i, e in enumerate(embeddings):
        if e.vector is not None:
            vectors[i] = e.vector
    paths = [path_text(e.path) for e in embeddings]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(
            path,
            lambda file: np.savez_compressed(
                file,
                paths=np.array(paths, dtype=str),
                embeddings=vectors,
                status=np.array([e.status for e in embeddings], dtype=str),
                reason=np.array([e.reason for e in embeddings], dtype=str),
            ),
        )
    except OSError as error:
        raise InputError(f"can't write {path}: {error}") from error
