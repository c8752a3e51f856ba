"""How far scores of ArcFace crops lie from those of `eyes70` crops: the same swaps, aligned in both ways.

python benchmarks/arcface_crops.py SWAPS      # a folder with target/ source/ swapped/, or a manifest
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

import exprmetric
from exprmetric.choices import CROPS
from exprmetric.inputs.triplets import ROLES, read_triplets
from exprmetric.torch import ExpressionEncoder
from exprmetric.torch.alignment import aligned
from exprmetric.torch.functional import l2, preservation_scores

ALIGN = {"eyes70": "none", "arcface": "arcface"}
BATCH = 16


def crops_of(paths: list[Path], detector: str) -> dict[str, dict[Path, Any]]:
    """By template, the crops of images in which a face was found; (3, S, S) uint8."""
    found = {}
    for template in CROPS:
        cut = exprmetric.align(paths, template, detector=detector)
        found[template] = {c.path: torch.from_numpy(c.pixels).permute(2, 0, 1) for c in cut if c.pixels is not None}
    return found


def distances_of(encoder: ExpressionEncoder, crops: dict[Path, Any], rows: list[list[Path]], align: str) -> list[Any]:
    """t2c, s2c, s2t, each (N,)."""

    def vectors(role: int) -> Any:
        parts = []
        for start in range(0, len(rows), BATCH):
            pixels = torch.stack([crops[row[role]] for row in rows[start : start + BATCH]]).float()
            parts.append(encoder.embed(aligned(pixels, align)))
        return torch.cat(parts)

    with torch.no_grad():
        target, source, swapped = (vectors(role) for role in range(3))
        return [l2(target, swapped), l2(source, swapped), l2(source, target)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("swaps", type=Path)
    parser.add_argument("--detector", default="auto")
    parser.add_argument("--limit", type=int, default=0, help="so many swaps, evenly spaced; 0: all")
    asked = parser.parse_args()
    rows = [[getattr(t, role) for role in ROLES] for t in read_triplets(asked.swaps)]
    rows = [row for row in rows if all(row)]
    if asked.limit:
        rows = [rows[i] for i in np.linspace(0, len(rows) - 1, min(asked.limit, len(rows))).astype(int)]
    crops = crops_of(list(dict.fromkeys(path for row in rows for path in row)), asked.detector)
    rows = [row for row in rows if all(path in crops[template] for path in row for template in CROPS)]
    encoder = ExpressionEncoder(quantise=True)
    found = {t: distances_of(encoder, crops[t], rows, align) for t, align in ALIGN.items()}
    print(f"{len(rows)} swaps")
    scores = {t: preservation_scores(*found[t]) for t in CROPS}
    for name in scores["eyes70"]:
        print(f"{name:10} " + "  ".join(f"{t} {float(scores[t][name]):.3f}" for t in CROPS))
    before, after = (found[t][0].numpy() for t in CROPS)
    apart = np.abs(after - before)
    print(f"t2c of a swap moves by {apart.mean():.3f} on average, by more than {np.quantile(apart, 0.95):.3f} in 5 %")
    print(f"correlation of t2c over swaps {np.corrcoef(before, after)[0, 1]:.3f}")


if __name__ == "__main__":
    main()
