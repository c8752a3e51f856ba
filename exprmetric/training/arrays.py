"""Training data as tensors: faces aligned, decoded and kept in memory, labels beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from exprmetric.errors import InputError
from exprmetric.training.alignment import align_dataset, load_crops
from exprmetric.training.data import EXPRESSIONS, UNLABELLED, FaceDataset


@dataclass(frozen=True)
class Batch:
    """Tensors of B faces: images (B, 1, S, S) float 0..1, labels (B,) int64, votes (B, 8), valence and arousal (B,).

    Votes, valence and arousal are NaN where unknown.
    """

    images: Tensor
    labels: Tensor
    votes: Tensor
    valence: Tensor
    arousal: Tensor


@dataclass(frozen=True)
class FaceArrays:
    """N aligned faces on one device: images (N, 1, S, S) uint8, and the labels of `Batch`."""

    images: Tensor
    labels: Tensor
    votes: Tensor
    valence: Tensor
    arousal: Tensor
    sources: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor) -> Batch:
        return Batch(
            self.images[indices].float() / 255.0,
            self.labels[indices],
            self.votes[indices],
            self.valence[indices],
            self.arousal[indices],
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
) -> FaceArrays:
    """All labelled faces of one split.

    Faces that no detector found stay, in a rough crop: a test set must not shrink to the faces that are easy to find.

    Raises:
        InputError: the split has no labelled face.
    """
    images, labels, votes, va, sources = [], [], [], [], []
    for dataset in datasets:
        alignment = align_dataset(dataset, cache, jobs=jobs)
        keep = [i for i, s in enumerate(dataset.samples) if s.split == split and s.label != UNLABELLED]
        if not keep:
            continue
        part = FaceDataset(dataset.name, dataset.files, tuple(dataset.samples[i] for i in keep))
        images.append(load_crops(part, alignment.subset(keep), crop=crop, size=size, jobs=jobs))
        labels += [s.label for s in part.samples]
        votes += [s.votes or (float("nan"),) * len(EXPRESSIONS) for s in part.samples]
        va += [(s.valence, s.arousal) for s in part.samples]
        sources += [dataset.name] * len(keep)
    if not images:
        names = ", ".join(d.name for d in datasets)
        raise InputError(f"no labelled face in split {split!r} of {names}")
    pixels = torch.from_numpy(np.concatenate(images))[:, None].to(device)
    affect = torch.tensor(va, dtype=torch.float32, device=device)
    return FaceArrays(
        pixels,
        torch.tensor(labels, device=device),
        torch.tensor(votes, dtype=torch.float32, device=device),
        affect[:, 0],
        affect[:, 1],
        tuple(sources),
    )
