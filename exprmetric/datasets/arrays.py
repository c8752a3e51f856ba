"""Training data as tensors: faces aligned, decoded and kept in memory, labels beside them."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from exprmetric.choices import CHANNELS, LUMA
from exprmetric.datasets.alignment import Alignment, align_dataset
from exprmetric.datasets.layouts import FaceDataset
from exprmetric.datasets.samples import EXPRESSIONS, UNLABELLED
from exprmetric.datasets.store import crops_of, let_go
from exprmetric.errors import InputError

WORKERS = 2
"""Threads that read batches of mapped faces ahead."""
_GREY = torch.tensor([9798 / 32768, 19235 / 32768, 3735 / 32768], dtype=torch.float64)
"""OpenCV's weights of red, green and blue."""


NO_VOTES = (float("nan"),) * len(EXPRESSIONS)


@dataclass(frozen=True)
class Batch:
    """Tensors of B faces: images (B, C, S, S) float 0..1, luma or RGB, labels (B,) int64, votes (B, 8), valence and
    arousal (B,).

    Votes, valence and arousal are NaN where unknown; labels are UNLABELLED. `extra` holds what a recipe added.
    """

    images: Tensor
    labels: Tensor
    votes: Tensor
    valence: Tensor
    arousal: Tensor
    extra: dict[str, Tensor] = field(default_factory=dict)


Arrays = dict[str, npt.NDArray[np.generic]]
"""By name, one row a sample."""
Annotate = Callable[[FaceDataset, Alignment, list[int]], Arrays]
"""Data set, its whole alignment, indices of the chosen samples → arrays of one row a chosen sample."""


@dataclass(frozen=True)
class FaceArrays:
    """N aligned faces on one device: images (N, C, S, S) uint8 (luma, or RGB), and the labels of `Batch`.

    Where they don't fit into memory, `file` is the mapped file that `images` lie in. Some of them are then chosen by
    `rows` (N,) int64, and `grey` says that luma is seen of colour: neither copies an image.
    """

    images: Tensor
    labels: Tensor
    votes: Tensor
    valence: Tensor
    arousal: Tensor
    sources: tuple[str, ...] = ()
    extra: dict[str, Tensor] = field(default_factory=dict)
    file: npt.NDArray[np.uint8] | None = None
    rows: Tensor | None = None
    grey: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, indices: Tensor) -> Tensor:
        """(B, C, S, S) uint8 on the device of the labels; images that are mapped from a file stay where they are."""
        place = indices.to(self.images.device)
        found = self.images[place if self.rows is None else self.rows[place]].to(self.labels.device)
        if self.file is not None:
            let_go(self.file)
        return _luma(found) if self.grey else found

    def blocks(self, size: int = 4096) -> Iterator[Tensor]:
        """`pixels` of all faces in their own order, at most `size` at a time."""
        for start in range(0, len(self), size):
            yield self.pixels(torch.arange(start, min(start + size, len(self))))

    def batch(self, indices: Tensor) -> Batch:
        return Batch(
            self.pixels(indices).float() / 255.0,
            self.labels[indices],
            self.votes[indices],
            self.valence[indices],
            self.arousal[indices],
            {name: values[indices] for name, values in self.extra.items()},
        )

    def subset(self, indices: Tensor) -> FaceArrays:
        """Some of the faces; of mapped ones no image is copied."""
        place = indices.to(self.images.device)
        images, rows = (self.images[place], None) if self.file is None else (self.images, place)
        if self.rows is not None:
            rows = self.rows[place]
        return FaceArrays(
            images,
            self.labels[indices],
            self.votes[indices],
            self.valence[indices],
            self.arousal[indices],
            tuple(self.sources[i] for i in indices.tolist()) if self.sources else (),
            {name: values[indices] for name, values in self.extra.items()},
            self.file,
            rows,
            self.grey,
        )

    def luma(self) -> FaceArrays:
        """The same faces without colour, as OpenCV makes grey of RGB."""
        if self.images.shape[1] == 1 or self.grey:
            return self
        if self.file is not None:
            return replace(self, grey=True)
        return replace(self, images=torch.cat([_luma(part) for part in torch.split(self.images, 4096)]))

    def shuffled(self, size: int, generator: torch.Generator) -> Iterator[Batch]:
        """One epoch in random order; the last, smaller batch is left out."""
        order = torch.randperm(len(self), generator=generator, device=self.labels.device)
        yield from self._ahead([order[start : start + size] for start in range(0, len(order) - size + 1, size)])

    def ordered(self, size: int) -> Iterator[Batch]:
        """All faces in their own order."""
        order = torch.arange(len(self), device=self.labels.device)
        yield from self._ahead([order[start : start + size] for start in range(0, len(order), size)])

    def _ahead(self, parts: Sequence[Tensor]) -> Iterator[Batch]:
        """Batches in their order; of faces that are mapped from a file, WORKERS threads read those that come next."""
        if self.file is None:
            yield from map(self.batch, parts)
            return
        with ThreadPoolExecutor(WORKERS) as pool:
            waiting: deque[Future[Batch]] = deque()
            for part in parts:
                waiting.append(pool.submit(self.batch, part))
                if len(waiting) > WORKERS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


def _luma(images: Tensor) -> Tensor:
    """(B, 3, S, S) uint8 RGB → (B, 1, S, S), as OpenCV makes grey."""
    return (images.movedim(1, -1).double() @ _GREY.to(images.device)).add(0.5).byte()[:, None]


def load_arrays(
    datasets: Sequence[FaceDataset],
    split: str,
    *,
    crop: int,
    size: int,
    cache: Path,
    device: torch.device,
    jobs: int = 2,
    unlabelled: bool = False,
    color: str = LUMA,
    annotate: Annotate | None = None,
    limit: int = 0,
    seed: int = 0,
) -> FaceArrays:
    """All labelled faces of one split, and the `unlabelled` ones where they are asked for; at most `limit`, drawn with
    the seed, unless that is 0.

    `color` is a key of `exprmetric.choices.CHANNELS`.

    Labelled faces that no detector found stay, in a rough crop: a test set must not shrink to the faces that are easy
    to find. Those whose image can't be read are left out, with a warning that counts them. `annotate` adds
    arrays of its own to `FaceArrays.extra`. Faces of more than `exprmetric.datasets.store.IN_MEMORY` bytes are mapped
    from a file in `cache`.

    Raises:
        InputError: the split has no such face.
    """
    labels: list[int] = []
    votes: list[tuple[float, ...]] = []
    va: list[tuple[float, float]] = []
    sources: list[str] = []
    extra: dict[str, list[npt.NDArray[np.generic]]] = {}
    found = [
        _usable(d, align_dataset(d, cache, jobs=jobs), split, unlabelled) for d in _with(datasets, split, unlabelled)
    ]
    chosen = list(_drawn(found, limit, seed))
    parts = [(replace(d, samples=tuple(d.samples[i] for i in keep)), a.subset(keep)) for d, a, keep in chosen]
    images, unread = crops_of(parts, cache, crop=crop, size=size, color=color, channels=CHANNELS[color], jobs=jobs)
    for (dataset, alignment, keep), errors in zip(chosen, unread, strict=True):
        if errors:
            told = f"{len(errors)} of {len(keep)} images are left out, the first: {errors[min(errors)]}"
            warnings.warn(told, stacklevel=2)
        kept = [i for place, i in enumerate(keep) if place not in errors]
        if not kept:
            continue
        for name, values in (annotate(dataset, alignment, kept) if annotate else {}).items():
            extra.setdefault(name, []).append(values)
        samples = [dataset.samples[i] for i in kept]
        labels += [s.label for s in samples]
        votes += [s.votes or NO_VOTES for s in samples]
        va += [(s.valence, s.arousal) for s in samples]
        sources += [dataset.name] * len(kept)
    if not len(images):
        names = ", ".join(d.name for d in datasets)
        raise InputError(f"no face to use in split {split!r} of {names}")
    pixels = torch.from_numpy(images)
    affect = torch.tensor(va, dtype=torch.float32, device=device)
    return FaceArrays(
        pixels if isinstance(images, np.memmap) else pixels.to(device),
        torch.tensor(labels, device=device),
        torch.tensor(votes, dtype=torch.float32, device=device),
        affect[:, 0],
        affect[:, 1],
        tuple(sources),
        {name: torch.from_numpy(np.concatenate(several)).to(device) for name, several in extra.items()},
        images if isinstance(images, np.memmap) else None,
    )


Usable = tuple[FaceDataset, Alignment, list[int]]
"""A data set, its whole alignment, indices of the samples to use."""


def _with(datasets: Sequence[FaceDataset], split: str, unlabelled: bool) -> Iterator[FaceDataset]:
    """Those that have a sample of the split: the others need no alignment."""
    for dataset in datasets:
        if any(s.split == split and (unlabelled or s.label != UNLABELLED) for s in dataset.samples):
            yield dataset


def _usable(dataset: FaceDataset, alignment: Alignment, split: str, unlabelled: bool) -> Usable:
    keep = [
        i
        for i, s in enumerate(dataset.samples)
        if s.split == split and (s.label != UNLABELLED or (unlabelled and alignment.found[i]))
    ]
    return dataset, alignment, keep


def _drawn(found: Sequence[Usable], limit: int, seed: int) -> Iterator[Usable]:
    """At most `limit` samples of all data sets together, each data set's in its own order."""
    total = sum(len(keep) for _, _, keep in found)
    chosen = torch.ones(total, dtype=torch.bool)
    if 0 < limit < total:
        chosen[torch.randperm(total, generator=torch.Generator().manual_seed(seed))[limit:]] = False
    start = 0
    for dataset, alignment, keep in found:
        mine = chosen[start : start + len(keep)].tolist()
        start += len(keep)
        if any(mine):
            yield dataset, alignment, [i for i, taken in zip(keep, mine, strict=True) if taken]
