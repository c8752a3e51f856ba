"""Training on one million faces of 112 px: resident memory over some hundred steps of batches drawn at random.

    python benchmarks/million_faces.py FOLDER [FACES] [STEPS]     # FOLDER needs 13 GB; prints a table

The faces are those of the package's bundled photographs. `crops_of` writes the first 20,000 as a training does, and the
file of all of them repeats these. Then the code of a training maps the file, and `FaceArrays.shuffled` draws the
batches, which are augmented and seen by a small network. Faces are neither found nor aligned here: that is done once,
chunk by chunk.
"""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from exprmetric.datasets import store
from exprmetric.datasets.alignment import Alignment
from exprmetric.datasets.arrays import FaceArrays
from exprmetric.datasets.layouts import FaceDataset
from exprmetric.datasets.samples import Sample
from exprmetric.demo.make import demo_faces
from exprmetric.faces import load_detector
from exprmetric.io.folders import Files
from exprmetric.training.augment import robust

SIDE, BATCH, BLOCK = 112, 128, 20_000


@dataclass(frozen=True)
class Repeated(FaceDataset):
    """Samples that all show one of a few pictures."""

    pictures: tuple[np.ndarray, ...] = ()

    def image(self, index: int) -> np.ndarray:
        return self.pictures[index % len(self.pictures)]

    def checksum(self, index: int) -> str:
        return str(index % len(self.pictures))


def resident() -> str:
    """Memory of this process now, that of its own, and at most so far, GB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    now, own = (int(fields[name].split()[0]) / 1e6 for name in ("VmRSS", "RssAnon"))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return f"| {now:.2f} | {own:.2f} | {most:.2f} |"


def written(folder: Path, count: int) -> np.ndarray:
    """(count, 1, SIDE, SIDE) crops, as a training writes and maps them."""
    pictures = tuple(face.image[::2, ::2].copy() for face in demo_faces(load_detector("dlib")))
    samples = tuple(Sample(f"{i}.png", "train", i % 8) for i in range(count))
    scale = 224 / pictures[0].shape[0]
    matrices = np.broadcast_to(np.array([[scale, 0.0, 0.0], [0.0, scale, 0.0]]), (count, 2, 3))
    points = np.broadcast_to(np.zeros((68, 2), np.float32), (count, 68, 2))
    alignment = Alignment(matrices, np.ones(count, np.bool_), "none", points)
    store.IN_MEMORY = 0
    dataset = Repeated("repeated", Files(folder), samples, pictures)
    how = {"crop": 224, "size": SIDE, "color": "luma", "channels": 1, "jobs": 2}
    images, _ = store.crops_of([(dataset, alignment)], folder, **how)
    return images


def main() -> None:
    folder, count, steps = Path(sys.argv[1]), int((sys.argv[2:] or ["1000000"])[0]), int((sys.argv[3:] or ["300"])[0])
    torch.set_num_threads(1)
    print("| step | seconds | resident, GB | of it its own | most so far |\n| --- | ---: | ---: | ---: | ---: |")
    begun = time.monotonic()
    block = written(folder, min(BLOCK, count))
    print(f"| {len(block):,} written | {time.monotonic() - begun:.0f} {resident()}", flush=True)
    path = folder / "million.npy"
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *block.shape[1:])}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, count, len(block)):
            file.write(block[: count - start].tobytes())
    images = np.lib.format.open_memmap(path, "c")
    print(f"| {count:,} there | {time.monotonic() - begun:.0f} {resident()}", flush=True)
    nan = torch.full((count,), float("nan"))
    labels = torch.arange(count) % 8
    faces = FaceArrays(torch.from_numpy(images), labels, nan[:, None].expand(count, 8), nan, nan, file=images)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 5, 4),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(4),
        torch.nn.Flatten(),
        torch.nn.Linear(128, 8),
    )
    descent, chance = torch.optim.SGD(network.parameters(), 0.01), torch.Generator().manual_seed(0)
    for step, batch in zip(range(1, steps + 1), faces.shuffled(BATCH, chance), strict=False):
        descent.zero_grad()
        torch.nn.functional.cross_entropy(network(robust(batch.images, chance)), batch.labels).backward()
        descent.step()
        if step in (1, 10) or step % 50 == 0:
            print(f"| {step} | {time.monotonic() - begun:.0f} {resident()}", flush=True)


if __name__ == "__main__":
    main()
