"""Evaluate a data set in Hugging Face's style: a Parquet file with the columns target, source and swapped.

    python examples/huggingface_dataset.py --out swaps.parquet     # pip install datasets

The data set is made here, of swaps between people on photographs that packages carry. With one of your own, begin at
`load_dataset`: it takes a name on the hub as well.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import permutations
from pathlib import Path

import datasets
from PIL import Image

import exprmetric
from exprmetric.demo.make import demo_faces
from exprmetric.evaluation.tables import page
from exprmetric.faces import load_detector
from exprmetric.faces.swap import swap_face

ROLES = ("target", "source", "swapped")


def make(count: int) -> datasets.Dataset:
    """Swaps of the demonstration, as pictures in columns."""
    rows = []
    for target, source in list(permutations(demo_faces(load_detector("dlib")), 2))[:count]:
        swapped = swap_face(target.image, target.points, source.image, source.points)
        pictures = (target.image, source.image, swapped)
        rows.append({role: Image.fromarray(p) for role, p in zip(ROLES, pictures, strict=True)})
    features = datasets.Features({role: datasets.Image() for role in ROLES})
    return datasets.Dataset.from_list(rows, features=features)


def measure(data: datasets.Dataset, method: str = "default") -> tuple[exprmetric.EvaluationResult, datasets.Dataset]:
    """The result, and the data set with what became of each row: its status, its reason, its distances.

    The pictures are written to a folder first, as PNG and so without loss: then one detector and one network see them
    all, and a face that isn't found is a row with a reason and never a number.
    """
    with tempfile.TemporaryDirectory() as folder:
        for role in ROLES:
            (Path(folder) / role).mkdir()
            for i, picture in enumerate(data[role]):
                picture.convert("RGB").save(Path(folder) / role / f"{i:08d}.png")
        result = exprmetric.evaluate(folder, methods=[method])
    for name in ("status", "reason", *(f"{method}.{distance}" for distance in ("t2c", "s2c", "s2t"))):
        data = data.add_column(name, [row.get(name) for row in result.triplets])
    return result, data


def main(arguments: list[str] | None = None) -> datasets.Dataset:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("swaps.parquet"))
    parser.add_argument("--count", type=int, default=12)
    options = parser.parse_args(arguments)
    make(options.count).to_parquet(str(options.out))

    data = datasets.load_dataset("parquet", data_files=str(options.out), split="train")
    result, measured = measure(data)
    page(result).say("table")
    worst = max(measured, key=lambda row: row["default.t2c"] or 0.0)
    print(f"columns: {', '.join(measured.column_names)}; the worst t2c is {worst['default.t2c']:.3f}")
    return measured


if __name__ == "__main__":
    main()
