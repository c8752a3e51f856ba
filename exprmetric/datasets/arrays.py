"""Training data as tensors: faces aligned, decoded and kept in memory, labels beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from exprmetric.datasets.alignment import Alignment, align_dataset, load_readable_crops
from exprmetric.datasets.layouts import FaceDataset
from exprmetric.datasets.samples import EXPRESSIONS, UNLABELLED
from exprmetric.errors import InputError


@dataclass(frozen=True)
class Batch:
    """Tensors of B faces: images (B, 1, S, S) float 0..1, labels (B,) int64, votes (B, 8), valence and arousal (B,).

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
    """N aligned faces on one device: images (N, 1, S, S) uint8, and the labels of `Batch`."""

    images: Tensor
    labels: Tensor
    votes: Tensor
    valence: Tensor
    arousal: Tensor
    sources: tuple[str, ...] = ()
    extra: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor) -> Batch:
        return Batch(
            self.images[indices].float() / 255.0,
            self.labels[indices],
            self.votes[indices],
            self.valence[indices],
            self.arousal[indices],
            {name: values[indices] for name, values in self.extra.items()},
        )

    def subset(self, indices: Tensor) -> FaceArrays:
        """Some of the faces."""
        return FaceArrays(
            self.images[indices],
            self.labels[indices],
            self.votes[indices],
            self.valence[indices],
            self.arousal[indices],
            tuple(self.sources[i] for i in indices.tolist()) if self.sources else (),
            {name: values[indices] for name, values in self.extra.items()},
        )

    def shuffled(self, size: int, generator: torch.Generator) -> Iterator[Batch]:
        """One epoch in random order; the last, smaller batch is left out."""
        order = torch.randperm(len(self), generator=generator, device=self.labels.device)
        for start in range(0, len(order) - size + 1, size):
            yield self.batch(order[start : start + size])

    def ordered(self, size: int) -> Iterator[Batch]:
        """All faces in their own order."""
        order = torch.arange(len(self), device=self.labels.device)
        for start in range(0, len(order), size):
            yield self.batch(order[start : start + size])


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
    annotate: Annotate | None = None,
    limit: int = 0,
    seed: int = 0,
) -> FaceArrays:
    """All labelled faces of one split, and the `unlabelled` ones where they are asked for; at most `limit`, drawn with
    the seed, unless that is 0.

    Labelled faces that no detector found stay, in a rough crop: a test set must not shrink to the faces that are easy
    to find. Those whose image can't be read are left out, with a warning that counts them. `annotate` adds
    arrays of its own to `FaceArrays.extra`.

    Raises:
        InputError: the split has no such face.
    """
    images, labels, votes, va, sources = [], [], [], [], []
    extra: dict[str, list[npt.NDArray[np.generic]]] = {}
    found = [
        _usable(d, align_dataset(d, cache, jobs=jobs), split, unlabelled) for d in _with(datasets, split, unlabelled)
    ]
    for dataset, alignment, keep in _drawn(found, limit, seed):
        part = FaceDataset(dataset.name, dataset.files, tuple(dataset.samples[i] for i in keep))
        crops, readable = load_readable_crops(part, alignment.subset(keep), crop=crop, size=size, jobs=jobs)
        if not len(readable):
            continue
        images.append(crops)
        kept = [keep[i] for i in readable]
        for name, values in (annotate(dataset, alignment, kept) if annotate else {}).items():
            extra.setdefault(name, []).append(values)
        samples = [dataset.samples[i] for i in kept]
        labels += [s.label for s in samples]
        votes += [s.votes or (float("nan"),) * len(EXPRESSIONS) for s in samples]
        va += [(s.valence, s.arousal) for s in samples]
        sources += [dataset.name] * len(kept)
    if not images:
        names = ", ".join(d.name for d in datasets)
        raise InputError(f"no face to use in split {split!r} of {names}")
    pixels = torch.from_numpy(np.concatenate(images))[:, None].to(device)
    affect = torch.tensor(va, dtype=torch.float32, device=device)
    return FaceArrays(
        pixels,
        torch.tensor(labels, device=device),
        torch.tensor(votes, dtype=torch.float32, device=device),
        affect[:, 0],
        affect[:, 1],
        tuple(sources),
        {name: torch.from_numpy(np.concatenate(parts)).to(device) for name, parts in extra.items()},
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
