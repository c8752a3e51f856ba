"""Frames of videos as training faces: aligned and luma as photographs are, with the clip and the time of each.

Every `stride`-th frame of a clip (see `clip_files`) is decoded and aligned once and kept as `.npz`. Frames without a
face are left out and counted, and so are clips that can't be read.

`extra` of clips and, through `annotate_photographs`, of photographs trained on beside them:

| name | of a frame | of a photograph |
| --- | --- | --- |
| `clip` | (N,) int64, 0, 1, … over all clips | -1 |
| `time` | (N,) float64, seconds since the clip's first frame | NaN |
| `person` | (N,) int64; equal means the same person | likewise; where unknown, of its own |
| `points` | (N, 68, 2) float32, px of `images` | likewise; NaN where no detector found a face |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from exprmetric.choices import CHANNELS, LUMA
from exprmetric.datasets.alignment import CHOICE, TEMPLATE, Alignment, in_channels
from exprmetric.datasets.arrays import Annotate, FaceArrays
from exprmetric.datasets.clip_files import Clip, clip_splits, content, on_disk
from exprmetric.datasets.layouts import FaceDataset, names_apart, person_number
from exprmetric.datasets.samples import EXPRESSIONS, UNLABELLED
from exprmetric.errors import ImageError, InputError
from exprmetric.faces import FaceFinder, load_detector, open_finder
from exprmetric.faces.alignment import CROP_SIZE, transform, warp
from exprmetric.io.kept import kept
from exprmetric.io.processes import in_processes
from exprmetric.io.video import FOLDER_RATE, frames


@dataclass(frozen=True)
class ClipFrames:
    """The frames of one clip that show a face.

    Attributes:
        images: (n, C, S, S) uint8. times: (n,) float64, seconds. points: (n, 68, 2) float32, px of `images`.
        faceless: frames in which no face was found.
        problem: why the clip, or its end, could not be decoded; "" where it could.
    """

    images: npt.NDArray[np.uint8]
    times: npt.NDArray[np.float64]
    points: npt.NDArray[np.float32]
    faceless: int = 0
    problem: str = ""


@dataclass(frozen=True)
class ClipCounts:
    """What became of clips: how many gave `frames` faces, `faceless` frames, and (name, reason) of `damaged` ones."""

    clips: int
    frames: int
    faceless: int
    damaged: tuple[tuple[str, str], ...] = ()


def onto_input(crop: int, size: int) -> npt.NDArray[np.float64]:
    """(2, 3) map from px of the 224 crop to px of its centre `crop` seen at `size` px."""
    scale = size / crop  # pixel centres are at whole numbers on both sides
    shift = 0.5 * scale - 0.5 - scale * (CROP_SIZE - crop) / 2
    return np.array([[scale, 0.0, shift], [0.0, scale, shift]])


def read_clip(
    clip: Clip,
    finder: FaceFinder,
    *,
    crop: int,
    size: int,
    stride: int = 1,
    rate: float = FOLDER_RATE,
    color: str = LUMA,
) -> ClipFrames:
    """Decode, find and align every `stride`-th frame. What can't be decoded is told by `ClipFrames.problem`.

    The times of a folder of frames are the numbers in their names, of which a second has `rate`: VoxCeleb1's frames
    step by 25, and are a second apart.

    Raises:
        MissingPackageError: video files need PyAV.
    """
    inner = onto_input(crop, size)
    images, times, points, faceless, problem = [], [], [], 0, ""
    try:
        with on_disk(clip) as path:
            for frame in frames(path, every=stride, rate=rate, numbered=True):
                try:
                    face = finder.find(frame.image)
                except ImageError:
                    faceless += 1
                    continue
                matrix = face.matrix(TEMPLATE) * inner[0, 0]
                matrix[:, 2] += inner[:, 2]
                images.append(in_channels(warp(frame.image, matrix, size), color))
                times.append(frame.time)
                points.append(transform(matrix, face.landmarks))
    except (ImageError, OSError) as error:  # of a DamagedVideoError, what was decoded before stays
        problem = str(error)
    return ClipFrames(
        np.array(images, np.uint8).reshape(-1, CHANNELS[color], size, size),
        np.array(times, np.float64),
        np.array(points, np.float32).reshape(-1, 68, 2),
        faceless,
        problem,
    )


def _kept_clip(
    cache: Path, detector: str, crop: int, size: int, stride: int, rate: float, color: str, clip: Clip
) -> ClipFrames:
    """`read_clip` through the folder `cache`; the problem of a damaged clip is kept with its frames."""
    import cv2

    cv2.setNumThreads(1)
    finder = open_finder(detector, CHOICE)
    key = (*content(clip), finder.fingerprint, TEMPLATE, crop, size, stride, rate, "by number", color)
    found = kept(
        cache,
        "clip",
        key,
        ("images", "times", "points", "faceless", "problem"),
        lambda: vars(read_clip(clip, finder, crop=crop, size=size, stride=stride, rate=rate, color=color)),
        worth=lambda made: len(made["times"]) > 0 or not made["problem"],  # a disk that was away may be back next time
    )
    return ClipFrames(**{**found, "faceless": int(found["faceless"]), "problem": str(found["problem"])})


def load_clips(
    clips: Sequence[Clip],
    *,
    crop: int,
    size: int,
    stride: int,
    cache: Path,
    device: torch.device,
    jobs: int = 2,
    detector: str = "auto",
    rate: float = FOLDER_RATE,
    color: str = LUMA,
) -> tuple[dict[str, FaceArrays], ClipCounts]:
    """Faces of all clips by split (`clip_splits`), and what was left out.

    Args:
        crop: centre part that the network sees, as for photographs, px.
        size: side of the network's input, px.
        stride: every how many-th frame of a video is taken.
        cache: folder of the `.npz` files.
        rate: how many of the numbers in the names of a folder of frames are a second.
        color: a key of `exprmetric.choices.CHANNELS`.

    Raises:
        InputError: no clip gave a face. MissingPackageError: video files need PyAV.
    """
    if stride < 1:
        raise InputError(f"stride is {stride}: take every 1st, 2nd, … frame")
    detector = load_detector(detector).name  # fails here, not in each worker
    work = partial(_kept_clip, cache, detector, crop, size, stride, rate, color)
    read = in_processes(work, list(clips), jobs, "reading clips")
    damaged = tuple((c.name, r.problem) for c, r in zip(clips, read, strict=True) if r.problem)
    counts = ClipCounts(
        sum(len(r.times) > 0 for r in read), sum(len(r.times) for r in read), sum(r.faceless for r in read), damaged
    )
    if not counts.frames:
        why = f"; {damaged[0][0]!r}: {damaged[0][1]}" if damaged else f": no face in {counts.faceless} frames"
        raise InputError(f"none of {len(clips)} clips gave a face{why}")
    splits = clip_splits(clips)
    faces = {}
    for split in ("train", "valid"):
        chosen = [i for i, r in enumerate(read) if splits[i] == split and len(r.times)]
        if chosen:
            faces[split] = _arrays(chosen, clips, read, device)
    return faces, counts


def _arrays(chosen: list[int], clips: Sequence[Clip], read: Sequence[ClipFrames], device: torch.device) -> FaceArrays:
    lengths = [len(read[i].times) for i in chosen]
    names = names_apart({c.root: c.root.name for c in clips})
    nan = torch.full((sum(lengths),), float("nan"), device=device)
    extra = {
        "clip": np.repeat(chosen, lengths).astype(np.int64),
        "time": np.concatenate([read[i].times for i in chosen]),
        "person": np.repeat([person_number(names[clips[i].root], clips[i].person) for i in chosen], lengths),
        "points": np.concatenate([read[i].points for i in chosen]),
    }
    return FaceArrays(
        torch.from_numpy(np.concatenate([read[i].images for i in chosen])).to(device),
        torch.full((len(nan),), UNLABELLED, device=device),
        nan[:, None].repeat(1, len(EXPRESSIONS)),
        nan,
        nan,
        tuple(clips[i].root.stem for i, n in zip(chosen, lengths, strict=True) for _ in range(n)),
        {name: torch.from_numpy(values).to(device) for name, values in extra.items()},
    )


def annotate_photographs(crop: int, size: int) -> Annotate:
    """`annotate` of `load_faces` that gives photographs the `extra` of clips."""

    def annotate(dataset: FaceDataset, alignment: Alignment, keep: list[int]) -> dict[str, npt.NDArray[np.generic]]:
        samples = [dataset.samples[i] for i in keep]
        points = transform(onto_input(crop, size), alignment.landmarks[keep].reshape(-1, 2)).reshape(-1, 68, 2)
        points[~alignment.found[keep]] = np.nan
        own = [person_number(dataset.name, s.image) for s in samples]
        persons = dataset.persons(keep)
        return {
            "clip": np.full(len(keep), -1, np.int64),
            "time": np.full(len(keep), np.nan),
            "person": np.where(persons >= 0, persons, np.array(own, np.int64)),
            "points": points.astype(np.float32),
        }

    return annotate


def joined(parts: Sequence[FaceArrays]) -> FaceArrays:
    """Several sets of faces as one; a single one stays as it is. InputError where their `extra` differ."""
    if len(parts) == 1:
        return parts[0]
    names = set(parts[0].extra)
    if any(set(p.extra) != names for p in parts):
        raise InputError(f"faces with {sorted(names)} can't be joined with faces that have other arrays")
    columns = ("labels", "votes", "valence", "arousal")
    labels, votes, valence, arousal = (torch.cat([getattr(p, c) for p in parts]) for c in columns)
    images = torch.cat([block for p in parts for block in p.blocks()])
    sources = tuple(s for p in parts for s in p.sources)
    return FaceArrays(
        images, labels, votes, valence, arousal, sources, {n: torch.cat([p.extra[n] for p in parts]) for n in names}
    )
