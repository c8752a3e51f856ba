"""Triplets turned as a whole, 0 to 180 degrees: what each detector's numbers do, as Markdown tables.

    python benchmarks/rolled_faces.py swaps_dev/triplets.csv --every 6
    python benchmarks/rolled_faces.py swaps_dev/triplets.csv --every 8 --floor

All three images of a triplet are turned by the same angle, the corners black. A row that is measured has *moved* by the
difference between its t2c and that of the triplet as it was, in shares of the mean distance between different targets.
Detectors whose weights are not there are left out. Some ten minutes on two cores. With `--floor` nothing is turned: the
upright images are shifted by half a pixel, or saved once more as JPEG. No way to turn faces can move numbers by less.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from exprmetric import evaluate
from exprmetric.evaluation.embed import embed_images
from exprmetric.faces import available_detectors
from exprmetric.inputs.triplets import Triplet, read_triplets
from exprmetric.io.images import read_image
from exprmetric.metrics.distances import distance_function

METHODS = ("default", "lm68")
Change = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]
ANGLES = (0, 5, 10, 20, 30, 45, 60, 75, 90, 120, 150, 180)


def turned(image: npt.NDArray[np.uint8], degrees: float) -> npt.NDArray[np.uint8]:
    """The image turned anticlockwise, whole."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    sides = np.ceil(np.abs(matrix[:, :2]) @ (width, height) - 1e-6).astype(int)
    matrix[:, 2] += (sides - (width, height)) / 2
    return np.asarray(cv2.warpAffine(image, matrix, (int(sides[0]), int(sides[1]))), np.uint8)


def shifted(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The image moved by half a pixel both ways."""
    size = (image.shape[1], image.shape[0])
    moved = cv2.warpAffine(image, np.array([[1, 0, 0.5], [0, 1, 0.5]]), size, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)


def saved_again(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The image out of a JPEG file of quality 90."""
    _, file = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    return np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR)[..., ::-1], np.uint8)


FLOOR: dict[str, Change] = {
    "as it was": lambda image: image,
    "shifted by half a pixel": shifted,
    "saved again as JPEG": saved_again,
}


def changed_triplets(triplets: Sequence[Triplet], change: Change, folder: Path) -> list[Triplet]:
    """The triplets with their images changed, written below the folder."""
    found = []
    for number, triplet in enumerate(triplets):
        paths = {}
        for role in ("target", "source", "swapped"):
            paths[role] = folder / f"{number}_{role}.png"
            image = change(read_image(getattr(triplet, role)))
            cv2.imwrite(os.fspath(paths[role]), image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        found.append(replace(triplet, **paths))
    return found


def apart(paths: Sequence[Path], method: str, detector: str) -> float:
    """Mean distance between different photographs."""
    vectors = np.stack([e.vector for e in embed_images(paths, method, detector=detector) if e.vector is not None])
    first, second = np.triu_indices(len(vectors), 1)
    return float(distance_function("l2")(vectors[first], vectors[second]).mean())


def table(triplets: Sequence[Triplet], detector: str, changes: Mapping[str, Change]) -> str:
    """One detector's rows, a change each; the first one changes nothing."""
    targets = [Path(t) for t in dict.fromkeys(str(t.target) for t in triplets)]
    scale = {method: apart(targets, method, detector) for method in METHODS}
    lines = [
        f"`{detector}` | ok | no_face | low_quality | {' | '.join(f'{m}: mean moved, most' for m in METHODS)}",
        "--- | ---: | ---: | ---: | " + " | ".join("---:" for _ in METHODS),
    ]
    upright: dict[str, npt.NDArray[np.float64]] = {}
    for name, change in changes.items():
        with tempfile.TemporaryDirectory() as folder:
            rows = evaluate(
                changed_triplets(triplets, change, Path(folder)), METHODS, detector=detector, identity=False
            ).triplets
        status = Counter(row["status"] for row in rows)
        cells = []
        for method in METHODS:
            t2c = np.array([np.nan if row[f"{method}.t2c"] is None else row[f"{method}.t2c"] for row in rows])
            moved = 100 * np.abs(t2c - upright.setdefault(method, t2c)) / scale[method]
            moved = moved[np.isfinite(moved)]
            cells.append(f"{moved.mean():.1f} %, {moved.max():.1f} %" if len(moved) else "–")
        counts = [str(status[s]) for s in ("ok", "no_face", "low_quality")]
        lines.append(" | ".join([name, *counts, *cells]))
    return "\n".join(f"| {line} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", help="folder or manifest of triplets")
    parser.add_argument("--every", type=int, default=1, help="take each n-th triplet")
    parser.add_argument("--detector", action="append", help="repeat for several; default: all that are here")
    parser.add_argument("--angle", type=int, action="append", help="degrees; 0 goes first")
    parser.add_argument("--floor", action="store_true", help="turn nothing: what do numbers do by themselves?")
    arguments = parser.parse_args()
    triplets = read_triplets(arguments.input)[:: arguments.every]
    here = [name for name, present in available_detectors().items() if present and name != "none"]
    angles = [0, *arguments.angle] if arguments.angle else ANGLES
    turns = {f"{degrees} degrees": partial(turned, degrees=degrees) for degrees in angles}
    for detector in arguments.detector or here:
        print(table(triplets, detector, FLOOR if arguments.floor else turns), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
