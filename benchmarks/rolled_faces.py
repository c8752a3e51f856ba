"""Triplets turned as a whole, 0 to 180 degrees: what each detector's numbers do, as Markdown tables.

    python benchmarks/rolled_faces.py swaps_dev/triplets.csv --every 6

All three images of a triplet are turned by the same angle, the corners black. A row that is measured has *moved* by the
difference between its t2c and that of the triplet as it was, in shares of the mean distance between different targets.
Detectors whose weights are not there are left out. Some ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
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
ANGLES = (0, 5, 10, 20, 30, 45, 60, 75, 90, 120, 150, 180)


def turned(image: npt.NDArray[np.uint8], degrees: float) -> npt.NDArray[np.uint8]:
    """The image turned anticlockwise, whole."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    sides = np.ceil(np.abs(matrix[:, :2]) @ (width, height) - 1e-6).astype(int)
    matrix[:, 2] += (sides - (width, height)) / 2
    return np.asarray(cv2.warpAffine(image, matrix, (int(sides[0]), int(sides[1]))), np.uint8)


def turned_triplets(triplets: Sequence[Triplet], degrees: float, folder: Path) -> list[Triplet]:
    """The triplets with their images turned, written below the folder."""
    found = []
    for number, triplet in enumerate(triplets):
        paths = {}
        for role in ("target", "source", "swapped"):
            paths[role] = folder / f"{number}_{role}.png"
            image = turned(read_image(getattr(triplet, role)), degrees)
            cv2.imwrite(os.fspath(paths[role]), image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        found.append(replace(triplet, **paths))
    return found


def apart(paths: Sequence[Path], method: str, detector: str) -> float:
    """Mean distance between different photographs."""
    vectors = np.stack([e.vector for e in embed_images(paths, method, detector=detector) if e.vector is not None])
    first, second = np.triu_indices(len(vectors), 1)
    return float(distance_function("l2")(vectors[first], vectors[second]).mean())


def table(triplets: Sequence[Triplet], detector: str, angles: Sequence[int]) -> str:
    """One detector's rows, an angle each."""
    targets = [Path(t) for t in dict.fromkeys(str(t.target) for t in triplets)]
    scale = {method: apart(targets, method, detector) for method in METHODS}
    lines = [
        f"`{detector}`: degrees | ok | no_face | low_quality | {' | '.join(f'{m}: mean moved, most' for m in METHODS)}",
        "--- | ---: | ---: | ---: | " + " | ".join("---:" for _ in METHODS),
    ]
    upright: dict[str, npt.NDArray[np.float64]] = {}
    for degrees in angles:
        with tempfile.TemporaryDirectory() as folder:
            rows = evaluate(
                turned_triplets(triplets, degrees, Path(folder)), METHODS, detector=detector, identity=False
            ).triplets
        status = Counter(row["status"] for row in rows)
        cells = []
        for method in METHODS:
            t2c = np.array([np.nan if row[f"{method}.t2c"] is None else row[f"{method}.t2c"] for row in rows])
            moved = 100 * np.abs(t2c - upright.setdefault(method, t2c)) / scale[method]
            moved = moved[np.isfinite(moved)]
            cells.append(f"{moved.mean():.1f} %, {moved.max():.1f} %" if len(moved) else "–")
        counts = [str(status[s]) for s in ("ok", "no_face", "low_quality")]
        lines.append(" | ".join([str(degrees), *counts, *cells]))
    return "\n".join(f"| {line} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", help="folder or manifest of triplets")
    parser.add_argument("--every", type=int, default=1, help="take each n-th triplet")
    parser.add_argument("--detector", action="append", help="repeat for several; default: all that are here")
    parser.add_argument("--angle", type=int, action="append", help="degrees; 0 goes first")
    arguments = parser.parse_args()
    triplets = read_triplets(arguments.input)[:: arguments.every]
    here = [name for name, present in available_detectors().items() if present and name != "none"]
    for detector in arguments.detector or here:
        print(table(triplets, detector, [0, *arguments.angle] if arguments.angle else ANGLES), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
