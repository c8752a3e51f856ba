"""For tests that train: a data set of a few real faces, aligned once a session, and a network that learns quickly."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from exprmetric.encoder.models import Standardise

EXPRESSIONS = ("happiness", "surprise", "neutral")
EACH = 40


class Tiny(nn.Module):
    """A stand-in for the encoder that learns within seconds: (B, 1, S, S) → (B, 32)."""

    dimension = 32
    channels = 1

    def __init__(self) -> None:
        super().__init__()
        self.standardise = Standardise()
        blocks = [
            nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU())
            for before, after in ((1, 8), (8, 16), (16, 32))
        ]
        self.layers = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 32))

    def forward(self, images: Tensor) -> Tensor:
        embedding: Tensor = self.layers(self.standardise(images))
        return embedding


@cache
def few_faces(shared: Path) -> Path:
    """A folder with `labels.csv` and `images/`: EACH photographs of each of EXPRESSIONS."""
    folder = Path(tempfile.mkdtemp(prefix="few_faces"))
    (folder / "images").mkdir()
    left = dict.fromkeys(EXPRESSIONS, EACH)
    with (
        zipfile.ZipFile(shared / "data" / "lfw_expressions.zip") as archive,
        (folder / "labels.csv").open("w", newline="") as table,
    ):
        names = set(archive.namelist())
        rows = csv.DictReader(io.TextIOWrapper(archive.open("labels.csv"), "utf-8-sig"))
        kept = csv.DictWriter(table, ["image", "person", "emotion"])
        kept.writeheader()
        for row in rows:
            name = f"images/{row['image']}"
            if left.get(row["emotion"], 0) and name in names:
                left[row["emotion"]] -= 1
                kept.writerow(row)
                (folder / name).write_bytes(archive.read(name))
    return folder


@cache
def _aligned(shared: Path) -> Path:
    from exprmetric.datasets.alignment import align_dataset
    from exprmetric.datasets.layouts import open_dataset

    kept = Path(tempfile.mkdtemp(prefix="alignment"))
    align_dataset(open_dataset(few_faces(shared)), kept, jobs=1)
    return kept


def run_folder(shared: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`out` with the faces' alignment in it; the detector is SCRFD, from the data folder."""
    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(shared / "weights"))
    shutil.copytree(_aligned(shared), out / "alignment")
    return out


def log_of(out: Path) -> list[dict[str, Any]]:
    """One line an epoch."""
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
