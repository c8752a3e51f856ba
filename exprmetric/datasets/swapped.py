"""FaceSwap (paper 001): another person's face put onto a training face; the expression stays, the identity goes.

The training face is the target of the classical swapper (`exprmetric.faces.swap`), which keeps its landmarks. The
source is, of a few faces of other persons drawn at random, the one whose head is turned and nods most like the
target's: a classical swap can't invent a cheek that the source hides. Swaps are made once, in the luma of the
network's input.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from exprmetric.datasets.arrays import FaceArrays
from exprmetric.errors import InputError
from exprmetric.io.kept import kept
from exprmetric.io.processes import in_processes

CANDIDATES = 8
"""Faces of which the one that looks the way of the target becomes its source."""
CHUNK = 128
VERSION = 2
"""Of the swaps that are kept: raised when the same faces would be swapped otherwise."""

Luma = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SwapCounts:
    """How many faces were to be swapped, and of how many that failed: no landmarks, nobody else, no swap."""

    wanted: int
    failed: int


def swap_pixels(target: Luma, target_points: Points, source: Luma, source_points: Points) -> Luma:
    """`swap_face` for (C, S, S) uint8, luma or RGB, and 68 points in its px.

    Raises:
        InputError: as `swap_face`, and where the geometry can't be warped.
    """
    import cv2
    from scipy.spatial import QhullError

    from exprmetric.faces.swap import swap_face

    coloured = (np.broadcast_to(image, (3, *image.shape[1:])) for image in (target, source))
    a, b = (np.ascontiguousarray(image.transpose(1, 2, 0)) for image in coloured)
    try:
        swapped = swap_face(a, target_points.astype(np.float64), b, source_points.astype(np.float64))
    except (QhullError, cv2.error) as error:
        raise InputError(f"the faces can't be warped: {error}") from error
    if len(target) == 1:
        return np.asarray(swapped[None, ..., 1])  # its channels are equal up to rounding in Lab
    return np.ascontiguousarray(swapped.transpose(2, 0, 1))


def choose_sources(
    points: Points, persons: npt.NDArray[np.int64], targets: npt.NDArray[np.int64], seed: int
) -> npt.NDArray[np.int64]:
    """(M,) for each target, by index, a face of another person; -1 where none of the candidates is one.

    Args:
        points: (N, 68, 2); NaN where there is no face. persons: (N,), equal for the same person.
    """
    usable = np.flatnonzero(np.isfinite(points).all((1, 2)))
    if not len(usable):
        return np.full(len(targets), -1)
    drawn = np.random.default_rng(seed).choice(usable, (len(targets), CANDIDATES))
    direction = _direction(points)
    unlike = np.linalg.norm(direction[drawn] - direction[targets][:, None], axis=2)
    unlike[(persons[drawn] == persons[targets][:, None]) | ~np.isfinite(unlike)] = np.inf
    best = unlike.argmin(1)
    rows = np.arange(len(targets))
    return np.where(np.isfinite(unlike[rows, best]), drawn[rows, best], -1)


def _direction(points: Points) -> npt.NDArray[np.float64]:
    """(N, 2) where the nose tip is from the middle between the eyes, in eye distances: turn (either way) and nod."""
    eyes = np.stack([points[:, 36:42].mean(1), points[:, 42:48].mean(1)], 1).astype(np.float64)
    along = eyes[:, 1] - eyes[:, 0]
    nose = points[:, 30] - eyes.mean(1)
    across = np.stack([-along[:, 1], along[:, 0]], 1)
    both = np.stack([(nose * along).sum(1), (nose * across).sum(1)], 1) / (along**2).sum(1, keepdims=True)
    both[:, 0] = np.abs(both[:, 0])  # the swapper mirrors a source that looks the other way
    return np.asarray(both)


def add_swaps(
    faces: FaceArrays, share: float, seed: int, cache: Path, *, pool: FaceArrays | None = None, jobs: int = 2
) -> tuple[FaceArrays, SwapCounts]:
    """Faces with `extra["swapped"]` (N, C, S, S) uint8 and `extra["has_swap"]` (N,) bool: a share of them, drawn by the
    seed, swapped; made once and kept in the folder `cache`.

    Args:
        faces: with `extra["points"]` and `extra["person"]` (see `clips`).
        pool: more faces that may be put onto them: those held out can be all of one person.

    Raises:
        InputError: faces were to be swapped, and not one swap succeeded.
    """
    several = [faces] if pool is None else [faces, pool]
    images = np.concatenate([block.cpu().numpy() for f in several for block in f.blocks()])
    points, persons = (np.concatenate([f.extra[n].cpu().numpy() for f in several]) for n in ("points", "person"))
    targets = np.sort(np.random.default_rng(seed).permutation(len(faces))[: round(share * len(faces))])

    def make() -> dict[str, npt.NDArray[Any]]:
        pixels, made = _swap_all(images, points, targets, choose_sources(points, persons, targets, seed), jobs)
        return {"swapped": pixels[made], "index": targets[made]}

    key = (VERSION, share, seed, len(faces), images, points, persons)
    found = kept(cache, "swaps", key, ("swapped", "index"), make)
    swapped, index = found["swapped"], found["index"]
    if len(targets) and not len(index):
        raise InputError(f"none of {len(targets)} faces could be swapped: are there two persons and landmarks?")
    full, has = np.zeros_like(images[: len(faces)]), np.zeros(len(faces), np.bool_)
    full[index], has[index] = swapped, True
    device = faces.labels.device
    extra = {"swapped": torch.from_numpy(full).to(device), "has_swap": torch.from_numpy(has).to(device)}
    return replace(faces, extra={**faces.extra, **extra}), SwapCounts(len(targets), len(targets) - len(index))


def _swap_all(
    images: Luma, points: Points, targets: npt.NDArray[np.int64], sources: npt.NDArray[np.int64], jobs: int
) -> tuple[Luma, npt.NDArray[np.bool_]]:
    """(M, C, S, S) and which of them were made."""
    work = []
    for start in range(0, len(targets), CHUNK):
        t, s = targets[start : start + CHUNK], sources[start : start + CHUNK]
        work.append((images[t], points[t], images[s], points[s], s >= 0))
    done = in_processes(_swap_block, work, jobs, "swapping faces")
    pixels = [images[:0], *(swapped for swapped, _ in done)]
    return np.concatenate(pixels), np.concatenate([np.zeros(0, np.bool_), *(ok for _, ok in done)])


def _swap_block(work: tuple[Luma, Points, Luma, Points, npt.NDArray[np.bool_]]) -> tuple[Luma, npt.NDArray[np.bool_]]:
    import cv2

    cv2.setNumThreads(1)
    targets, target_points, sources, source_points, has_source = work
    swapped, ok = targets.copy(), has_source.copy()
    for i in np.flatnonzero(has_source):
        try:
            swapped[i] = swap_pixels(targets[i], target_points[i], sources[i], source_points[i])
        except InputError:
            ok[i] = False
    return swapped, ok
