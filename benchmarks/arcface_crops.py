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
from exprmetric.torch import ExpressionEncoder, ExpressionPreservation
from exprmetric.torch.functional import l2

ALIGN = {"eyes70": "none", "arcface": "arcface"}


def crops_of(paths: list[Path], detector: str) -> dict[str, dict[Path, Any]]:
    """By template, the crops of images in which a face was found; (3, S, S) uint8."""
    found = {}
    for template in CROPS:
        cut = exprmetric.align(paths, template, detector=detector)
        found[template] = {c.path: torch.from_numpy(c.pixels).permute(2, 0, 1) for c in cut if c.pixels is not None}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("swaps", type=Path)
    parser.add_argument("--detector", default="auto")
    asked = parser.parse_args()
    rows = [[getattr(t, role) for role in ROLES] for t in read_triplets(asked.swaps)]
    rows = [row for row in rows if all(row)]
    crops = crops_of(list(dict.fromkeys(path for row in rows for path in row)), asked.detector)
    rows = [row for row in rows if all(path in crops[template] for path in row for template in CROPS)]
    encoder = ExpressionEncoder(quantise=True)
    scores, t2c = {}, {}
    for template in CROPS:
        metric = ExpressionPreservation(encoder=encoder, align=ALIGN[template])
        each = []
        for start in range(0, len(rows), 16):
            batch = [torch.stack([crops[template][row[i]] for row in rows[start : start + 16]]) for i in range(3)]
            metric.update(*batch)
            one = ExpressionPreservation(encoder=encoder, align=ALIGN[template])
            target, _, swapped = (encoder.represent(encoder.preprocess(*one._crop(b, None))) for b in batch)
            each.append(l2(target, swapped))
        scores[template] = {name: float(value) for name, value in metric.compute().items()}
        t2c[template] = torch.cat(each).detach().numpy()
    print(f"{len(rows)} swaps")
    for name in scores["eyes70"]:
        print(f"{name:24} {scores['eyes70'][name]:8.3f} {scores['arcface'].get(name, float('nan')):8.3f}")
    apart = np.abs(t2c["arcface"] - t2c["eyes70"])
    print(f"t2c of a swap moves by {apart.mean():.3f} on average, by {np.quantile(apart, 0.95):.3f} in 5 %")
    print(f"correlation over swaps {np.corrcoef(t2c['eyes70'], t2c['arcface'])[0, 1]:.3f}")


if __name__ == "__main__":
    main()
