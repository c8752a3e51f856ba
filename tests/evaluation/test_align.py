"""`exprmetric align`: crops that stand as their template says, and a row for each image that has none."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from exprmetric_cli.main import main
from PIL import Image

import exprmetric
from exprmetric.errors import InputError
from exprmetric.faces import FaceFinder, load_detector
from exprmetric.faces.alignment import ARCFACE, similarity, warp
from exprmetric.io.images import read_image


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, portrait_photo: Path) -> Path:
    """A portrait, below a folder; two files of one stem, one of which shows nobody and one of which is broken."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "a").mkdir()
    shutil.copy(portrait_photo, folder / "a" / "face.png")
    Image.new("RGB", (96, 96), "grey").save(folder / "wall.png")
    (folder / "wall.jpg").write_bytes(b"no picture")
    return folder


def test_every_image_is_a_row_and_each_face_a_crop_below_the_same_folder(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "crops"
    ran = CliRunner().invoke(main, ["align", str(photos), "--detector", "dlib", "--out", str(out), "-q"])
    assert ran.exit_code == 0 and "1 of 3 faces cut by eyes70" in ran.stdout
    with (out / "crops.csv").open(newline="") as file:
        rows = {Path(r["image"]).name: r for r in csv.DictReader(file)}
    assert {name: (r["crop"], r["status"], r["faces"]) for name, r in rows.items()} == {
        "face.png": ("a/face.png", "ok", "1"),
        "wall.png": ("", "no_face", "0"),
        "wall.jpg": ("", "unreadable", ""),
    }
    assert all(bool(r["reason"]) == (r["status"] != "ok") for r in rows.values())
    assert "no_face: " in ran.stderr and "unreadable: " in ran.stderr
    face = FaceFinder(load_detector("dlib")).find(read_image(photos / "a" / "face.png"))
    assert (read_image(out / "a" / "face.png") == face.crop("eyes70")).all()
    assert sorted(p.name for p in out.rglob("*") if p.is_file()) == ["crops.csv", "face.png"]


def test_an_arcface_crop_is_the_fields_112_px(photos: Path) -> None:
    (crop,) = exprmetric.align(photos / "a", "arcface", detector="dlib")
    assert crop.pixels is not None and crop.pixels.shape == (112, 112, 3) and crop.file is None
    image = read_image(photos / "a" / "face.png")
    points = FaceFinder(load_detector("dlib")).find(image).landmarks
    five = np.array([points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]])
    assert (crop.pixels == warp(image, similarity(five, ARCFACE / 2), 112)).all()


def test_no_crop_is_written_over_another(photos: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    shutil.copytree(photos / "a", both)
    Image.open(both / "face.png").convert("RGB").save(both / "face.bmp")
    found = exprmetric.align([both, photos / "a"], out=tmp_path / "out", detector="dlib")
    files = [c.file.relative_to(tmp_path / "out").as_posix() for c in found if c.file]
    assert sorted(files) == ["face.bmp.png", "face.png-2.png", "face.png.png"]


def test_what_cannot_be_done_is_said_before_a_face_is_cut(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown template 'ffhq'; known: eyes70, arcface"):
        exprmetric.align(photos, "ffhq")
    with pytest.raises(InputError, match="lies in"):
        exprmetric.align(photos, out=photos / "crops")
    lost = CliRunner().invoke(main, ["align", str(photos / "wall.jpg"), "--out", str(tmp_path / "out"), "-q"])
    assert lost.exit_code == 1
