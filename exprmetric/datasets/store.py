"""Aligned faces of a training set: in memory, or in a file that is mapped where they are too many.

The file is filled chunk by chunk, and what is done is written down beside it, so that a run that is killed loses a few
seconds. Several processes that map it share the pages that the system keeps of it; those that nobody reads are let go.
"""

from __future__ import annotations

import json
import mmap
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exprmetric.datasets.alignment import Alignment, face_crop
from exprmetric.datasets.layouts import FaceDataset
from exprmetric.errors import UnreadableImageError
from exprmetric.io.files import write_whole
from exprmetric.io.kept import digest

IN_MEMORY = 1 << 31
"""Bytes of faces above which they lie in a file."""
CHUNK = 256
SAVED_EVERY = 5.0
"""Seconds after which it is written down how far a file is filled."""

Part = tuple[FaceDataset, Alignment]
"""Some samples of a data set, and where their faces are."""
Pixels = npt.NDArray[np.uint8]


def crops_of(
    parts: Sequence[Part], cache: Path, *, crop: int, size: int, color: str, channels: int, jobs: int
) -> tuple[Pixels, list[dict[int, str]]]:
    """(R, C, size, size) crops of all samples that could be read, in their order; and by part, why others could not.

    Args:
        cache: folder of the file, where one is needed.
        color: see `face_crop`; it has so many `channels`.
    """
    count = sum(len(dataset.samples) for dataset, _ in parts)
    shape = (count, channels, size, size)
    if count * channels * size * size <= IN_MEMORY:
        images, state = np.zeros(shape, np.uint8), _State.fresh(len(parts))
        for _ in _fill(images, state, parts, crop, color, jobs):
            pass
        return images[: state.filled], state.errors
    key = digest(shape, crop, color, *(f for d, a in parts for f in (d.name, a.matrices, *d.contents())))
    path = cache / f"faces-{key[:20]}.npy"
    return _mapped(path, shape, parts, crop, color, jobs)


class _State:
    """How far a store is filled: chunks that are done, faces that are in it, and by part why others are not."""

    def __init__(self, chunks: int, filled: int, errors: list[dict[int, str]], done: bool = False) -> None:
        self.chunks, self.filled, self.errors, self.done = chunks, filled, errors, done

    @classmethod
    def fresh(cls, parts: int) -> _State:
        return cls(0, 0, [{} for _ in range(parts)])

    @classmethod
    def load(cls, path: Path, parts: int) -> _State:
        """What was written down; afresh where nothing was, or something that can't be read."""
        try:
            found = json.loads(path.read_bytes())
            errors = [{int(i): str(why) for i, why in part.items()} for part in found["errors"]]
            return cls(int(found["chunks"]), int(found["filled"]), errors, bool(found["done"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls.fresh(parts)

    def save(self, path: Path) -> None:
        write_whole(path, lambda file: file.write(json.dumps(vars(self)).encode()))


def let_go(images: Pixels) -> None:
    """The pages of a mapped file no longer count as this process's memory; the system may keep them, for whoever reads
    them next. Nothing happens to faces in memory, or where a system can't do it."""
    mapped = getattr(images, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def _mapped(
    path: Path, shape: tuple[int, ...], parts: Sequence[Part], crop: int, color: str, jobs: int
) -> tuple[Pixels, list[dict[int, str]]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".json")
    state = _State.load(beside, len(parts)) if path.exists() else _State.fresh(len(parts))
    if not state.done:
        begun = state.chunks > 0
        images = np.lib.format.open_memmap(path, "r+" if begun else "w+", np.uint8, None if begun else shape)
        saved = time.monotonic()
        for _ in _fill(images, state, parts, crop, color, jobs):
            if time.monotonic() - saved > SAVED_EVERY:
                images.flush()
                let_go(images)
                state.save(beside)
                saved = time.monotonic()
        images.flush()
        state.done = True
        state.save(beside)
        del images
    # copy on write: torch asks for memory that may be written, and nothing that it writes reaches the file
    return np.lib.format.open_memmap(path, "c")[: state.filled], state.errors


def _fill(images: Pixels, state: _State, parts: Sequence[Part], crop: int, color: str, jobs: int) -> Iterator[None]:
    """Go on from `state`, and move it; a pause after each chunk."""
    size = images.shape[-1]
    work = [(k, i) for k, (d, _) in enumerate(parts) for i in range(0, len(d.samples), CHUNK)]

    def one(part: Part, i: int) -> Pixels | str:
        try:
            return face_crop(part[0].image(i), part[1].matrices[i], crop, size, color)
        except UnreadableImageError as error:
            return str(error)

    with ThreadPoolExecutor(jobs) as pool:
        for k, start in work[state.chunks :]:
            rows = range(start, min(start + CHUNK, len(parts[k][0].samples)))
            for i, found in zip(rows, pool.map(lambda i, k=k: one(parts[k], i), rows), strict=True):  # type: ignore[misc]
                if isinstance(found, str):
                    state.errors[k][i] = found
                else:
                    images[state.filled] = found
                    state.filled += 1
            state.chunks += 1
            yield
