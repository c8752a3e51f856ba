"""Material for the benchmarks: many distinct images of the faces in photographs that installed packages carry.

Every image is a photograph moved, turned, scaled and lit a little differently, so that none is decoded or found twice.
What stands for a swapped face is such an image of the target: how long it takes does not depend on who is in it.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from exprmetric.demo.photographs import cut_face, group_photo, portrait_photo
from exprmetric.faces import FaceFinder, load_detector
from exprmetric.io.images import read_image

Pixels = npt.NDArray[np.uint8]


def faces() -> list[Pixels]:
    """Cut-outs of 256 px of the seven faces."""
    found = []
    for path in (group_photo(), portrait_photo()):
        image = read_image(path)
        finder = FaceFinder(load_detector("dlib"))
        found += [cut_face(image, finder.face(image, d).landmarks) for d in finder.detect(image)]
    return found


def moved(image: Pixels, generator: np.random.Generator, side: int) -> Pixels:
    """The image in a square of `side` px, a little moved, turned, scaled and lit."""
    scale = side / image.shape[0] * generator.uniform(0.9, 1.1)
    centre = (image.shape[1] / 2, image.shape[0] / 2)
    matrix = cv2.getRotationMatrix2D(centre, generator.uniform(-8, 8), scale)
    matrix[:, 2] += side / 2 - np.array(centre) + generator.uniform(-0.03, 0.03, 2) * side
    lit = np.clip(image * generator.uniform(0.85, 1.15), 0, 255).astype(np.uint8)
    return np.asarray(cv2.warpAffine(lit, matrix, (side, side), borderMode=cv2.BORDER_REFLECT), np.uint8)


def crop(image: Pixels, generator: np.random.Generator) -> Pixels:
    """256 x 256 px, the face fills it."""
    return moved(image, generator, 256)


def frame(image: Pixels, generator: np.random.Generator) -> Pixels:
    """1920 x 1080 px, a face of some 300 px before the blurred rest of its picture."""
    wide = cv2.GaussianBlur(cv2.resize(image, (1920, 1080)), (0, 0), 25)
    noise = generator.integers(-6, 7, wide.shape, np.int16)  # a sensor's: without it, frames would be small files
    found = np.clip(wide.astype(np.int16) + noise, 0, 255).astype(np.uint8)
    x, y = int(generator.integers(200, 1000)), int(generator.integers(100, 400))
    found[y : y + 512, x : x + 512] = moved(image, generator, 512)
    return found


KINDS: dict[str, tuple[Callable[[Pixels, np.random.Generator], Pixels], str]] = {
    "256-px crops": (crop, ".png"),
    "1080p frames": (frame, ".jpg"),
}


def swaps(folder: Path, kind: str, *, targets: int, sources: int, swaps_each: int, seed: int = 0) -> Path:
    """Write a folder of images and its manifest: each target with `swaps_each` of the sources; the manifest's path."""
    draw, suffix = KINDS[kind]
    people = faces()
    generator = np.random.default_rng(seed)

    def write(name: str, number: int) -> str:
        path = folder / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(people[number % len(people)], generator)).save(path, quality=92)
        return str(path)

    def rows() -> Iterator[list[str]]:
        given = [write(f"source/{j}", j + 3) for j in range(sources)]
        for i in range(targets):
            target = write(f"target/{i}", i)
            for k in range(swaps_each):
                j = (i * swaps_each + k) % sources
                yield [f"{i}_{j}", target, given[j], write(f"swapped/{i}_{j}", i)]

    manifest = folder / "triplets.csv"
    folder.mkdir(parents=True, exist_ok=True)
    with manifest.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "target", "source", "swapped"])
        writer.writerows(rows())
    return manifest
