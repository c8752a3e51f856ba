"""Warps, nuisances, rated faces, curves, detectors and the command that runs them all."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from exprmetric_cli.main import main
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from exprmetric.datasets.samples import EXPRESSIONS
from exprmetric.errors import InputError, MissingPackageError, NoFaceError, UnreadableImageError
from exprmetric.evaluation.reading import FaceReader
from exprmetric.faces import Face, FaceFinder, load_detector
from exprmetric.faces.point_models import load_points
from exprmetric.io.images import read_image
from exprmetric.methods import Method, load_method
from exprmetric.metrics.rated import Agreement, RatedScores
from exprmetric.metrics.resampling import Estimate
from exprmetric.probes import curves, nuisance
from exprmetric.probes.agreement import AgreementResult, MethodReport, large_photographs
from exprmetric.probes.card import markdown, save_card
from exprmetric.probes.dataset import (
    Faces,
    person_faces,
    photographs,
    repeated_people,
)
from exprmetric.probes.detectors import detector_shift
from exprmetric.probes.rated import rated_faces
from exprmetric.probes.vectors import embed_faces, photograph_reader, represent_all
from exprmetric.probes.warp import STRENGTHS, WARPS, local_warp, warp_source

Pixels = NDArray[np.uint8]


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No weights but those that packages carry."""
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)
    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def portrait(portrait_photo: Path) -> Face:
    """The face of the portrait, with its pixels; treat it as read-only."""
    return FaceFinder(load_detector("dlib")).find(read_image(portrait_photo))


def noise_image(height: int = 90, width: int = 100, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# --- warps ---


def test_warp_source_by_hand() -> None:
    """c = (50, 50), m = (58, 50), r = 20: at the centre 400 / 464, at 10 px from it 300 / 364, at the rim 0."""
    found = warp_source([[50, 50], [60, 50], [50, 40], [70, 50], [71, 50], [90, 3]], (50, 50), (58, 50), 20)
    centre, half = 8 * (400 / 464) ** 2, 8 * (300 / 364) ** 2
    expected = [[50 - centre, 50], [60 - half, 50], [50 - half, 40], [70, 50], [71, 50], [90, 3]]
    assert found == pytest.approx(np.array(expected), abs=1e-12)
    assert np.array_equal(warp_source([[3.0, 4.0]], (3, 4), (3, 4), 0.0), [[3, 4]])


def test_a_warped_pixel_is_the_one_that_the_formula_names() -> None:
    ramp = np.repeat(np.tile(np.arange(0, 200, 2, dtype=np.uint8), (90, 1))[..., None], 3, axis=2)  # value = 2 x
    warped = local_warp(ramp, (50, 50), (58, 50), 20)
    for x, inside in ((50, 400), (60, 300), (45, 375)):
        u = x - (inside / (inside + 64)) ** 2 * 8
        assert warped[50, x] == pytest.approx(2 * u, abs=0.6)


def test_a_warp_keeps_everything_outside_its_circle() -> None:
    image = noise_image()
    before = image.copy()
    warped = local_warp(image, (40.5, 30.0), (50.5, 26.0), 25)
    assert np.array_equal(image, before)
    y, x = np.nonzero((warped != image).any(2))
    distance = np.hypot(x - 40.5, y - 30.0)
    assert distance.max() < 25 and distance.max() > 20 and len(x) > 1000
    corner = local_warp(image, (2, 2), (12, 6), 20)
    assert (corner != image).any() and np.array_equal(corner[25:], image[25:])
    assert np.array_equal(local_warp(image, (500, 500), (510, 500), 20), image)


def test_strength_zero_changes_nothing_and_more_strength_moves_farther(portrait: Face) -> None:
    assert portrait.image is not None
    for warp in WARPS.values():
        assert np.array_equal(warp(portrait.image, portrait.landmarks, 0.0), portrait.image)
        changed = [warp(portrait.image, portrait.landmarks, s) for s in STRENGTHS]
        assert all((a != b).any() for a, b in pairwise(changed))
        moved = [-float(warp_source([[0, 0]], (0, 0), (s, 0), warp.radius)[0, 0]) for s in STRENGTHS]
        assert moved == sorted(moved) and moved[-1] > 5  # equation 1 moves its centre less again beyond r / sqrt(3)


def test_mouth_corners_move_up_in_the_picture() -> None:
    """A white dot at the mouth corner of a face with level eyes 70 px apart."""
    points = np.zeros((68, 2))
    points[36:42], points[42:48], points[48], points[54] = (76, 76), (146, 76), (85, 150), (137, 150)
    image = np.zeros((224, 224, 3), np.uint8)
    image[149:152, 84:87] = 255
    up, down = (WARPS[f"mouth corners {way}"](image, points, 6.0) for way in ("up", "down"))
    rows = [float(np.average(np.arange(224), weights=i.sum((1, 2)) + 1e-9)) for i in (up, image, down)]
    assert rows[0] < 150 - 4 and rows[1] == pytest.approx(150, abs=0.1) and rows[2] > 150 + 4


def test_warps_turn_and_grow_with_the_face(portrait: Face) -> None:
    image = noise_image(120, 120)
    points = 0.4 * (portrait.landmarks - portrait.landmarks.mean(0)) * 70 / 50 + 60
    for warp in WARPS.values():
        turned = np.column_stack([points[:, 1], 119 - points[:, 0]])  # what np.rot90 does to x, y
        ours = warp(np.ascontiguousarray(np.rot90(image)), turned, 8.0)
        plain = np.rot90(warp(image, points, 8.0))
        assert (ours != np.rot90(image)).any()
        assert np.abs(ours.astype(int) - plain).max() <= 8  # the interpolation's 1/32 px


# --- nuisances ---


def test_every_nuisance_keeps_shape_and_type_and_its_input(portrait: Face) -> None:
    assert portrait.image is not None
    before = portrait.image.copy()
    for n in nuisance.NUISANCES.values():
        for strength in n.strengths:
            if n.pixels is not None:
                changed = n.pixels(portrait.image, portrait, strength)
                assert changed.shape == before.shape and changed.dtype == np.uint8
                assert (changed != before).any(), (n.name, strength)
            else:
                assert n.face is not None
                assert (n.face(portrait, strength).crop("eyes70") != portrait.crop("eyes70")).any()
    assert np.array_equal(portrait.image, before)


def test_levels_by_hand(portrait: Face) -> None:
    image = np.array([[[0, 100, 200]]], np.uint8)
    assert nuisance.brightness(image, portrait, 1.5).tolist() == [[[0, 150, 255]]]
    assert nuisance.gamma(image, portrait, 2.0).tolist() == [[[0, round(1e4 / 255), round(4e4 / 255)]]]
    assert nuisance.grey(image, portrait, 1.0).tolist() == [[[round(58.7 + 22.8)] * 3]]
    assert nuisance.grey(image, portrait, 0.5).tolist() == [[[41, 91, 141]]]


def test_blur_is_measured_in_crop_pixels(portrait: Face) -> None:
    image = noise_image().astype(np.uint8)
    sigma = 2.0 * nuisance.crop_pixel(portrait)
    eyes = portrait.landmarks[36:42].mean(0), portrait.landmarks[42:48].mean(0)
    assert nuisance.crop_pixel(portrait) == pytest.approx(np.linalg.norm(eyes[1] - eyes[0]) / 70)
    expected = ndimage.gaussian_filter(image.astype(float), (sigma, sigma, 0), mode="nearest", truncate=6)
    assert np.abs(nuisance.blur(image, portrait, 2.0) - expected)[10:-10, 10:-10].max() <= 2


def test_scale_takes_detail_away_and_never_adds_any(portrait: Face) -> None:
    assert portrait.image is not None
    detail = [ndimage.laplace(nuisance.downscale(portrait.image, portrait, s).mean(2)).std() for s in (112, 80, 48)]
    assert detail == sorted(detail, reverse=True) and detail[2] < 0.5 * detail[0]
    assert nuisance.downscale(portrait.image, portrait, 10_000) is portrait.image


def test_roll_turns_counter_clockwise_around_the_face() -> None:
    image = noise_image(81, 81)
    face = Face(image, np.array([0.0, 0, 80, 80]), 1.0, np.full((68, 2), 40.0))
    assert np.array_equal(nuisance.roll(image, face, 90), np.rot90(image))


def test_a_shift_moves_the_crop_by_its_pixels(portrait: Face) -> None:
    moved = nuisance.shift(portrait, 3.0)
    plain, after = portrait.matrix("eyes70"), moved.matrix("eyes70")
    assert after[:, :2] == pytest.approx(plain[:, :2], abs=1e-9)
    assert after[:, 2] == pytest.approx(plain[:, 2] - 3.0, abs=1e-6)
    a, b = moved.crop("eyes70")[:-3, :-3].astype(int), portrait.crop("eyes70")[3:, 3:]
    assert np.abs(a - b).mean() < 1
    assert (moved.crop("dlib150") != portrait.crop("dlib150")).any() and (moved.box > portrait.box).all()
    assert moved.aligned_landmarks() == pytest.approx(portrait.aligned_landmarks(), abs=1e-9)


def test_a_shift_of_an_aligned_crop_moves_its_pixels() -> None:
    image = noise_image(224, 224)
    face = Face(image, np.array([0.0, 0, 224, 224]), 1.0, np.zeros((68, 2)) + np.arange(68)[:, None], aligned=True)
    assert np.array_equal(nuisance.shift(face, 3.0).crop("eyes70")[:-3, :-3], image[3:, 3:])


# --- rated faces ---


def write_table(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8),
            st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=5),
            st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2),
        ),
        min_size=1,
        max_size=6,
        unique_by=lambda r: str(Path("x") / r[0]),
    ),
    st.booleans(),
)
def test_a_table_is_read_as_it_was_written(rows: list[tuple[str, str, list[float]]], known: bool) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        head = ["image", *(["person"] if known else []), "joy", "rage"]
        lines = [[r[0], *([r[1]] if known else []), *(repr(v) for v in r[2])] for r in rows]
        faces = rated_faces(write_table(Path(folder) / "rated.csv", [head, *lines]))
        assert faces.images == tuple(str(Path(folder) / r[0]) for r in rows)
        assert faces.ratings is not None and faces.ratings.tolist() == [r[2] for r in rows]
        assert faces.scales == ("joy", "rage")
        persons = tuple(r[1] for r in rows)
        assert faces.persons == (persons if known and any(persons) else ())


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_by_name(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rated.csv"
        path.write_bytes(b"image,joy\n" + content)
        try:
            faces = rated_faces(path)
        except InputError as error:
            assert "rated.csv" in str(error)
        else:
            assert faces.ratings is not None and np.isfinite(faces.ratings).all() and len(faces.ratings) == len(faces)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([["picture", "joy"], ["a.png", 1]], ["'image'", "'picture'"]),
        ([["image", "person"], ["a.png", "x"]], ["no rating columns"]),
        ([["image", "joy"], ["a.png", 1], ["b.png", "much"]], ["line 3", "'joy'", "'much'"]),
        ([["image", "joy"], ["a.png", ""]], ["line 2", "'joy'", "empty"]),
        ([["image", "joy"], ["a.png", "nan"]], ["line 2", "'nan'"]),
        ([["image", "joy"], ["a.png", "1e999"]], ["line 2", "1e999"]),
        ([["image", "joy", "rage"], ["a.png", 1]], ["line 2", "'rage'", "empty"]),
        ([["image", "joy"], ["", 1]], ["line 2", "no image"]),
        ([["image", "joy"], ["a.png", 1], ["b.png", 1], ["./a.png", 2]], ["line 4", "line 2", "a.png"]),
        ([["image", "joy"]], ["no rows"]),
        ([["image", "split", "joy"], ["a.png", "train", 1]], ["no rows", "'test'"]),
        ([["image", "joy", "joy"], ["a.png", 1, 2]], ["'joy'", "twice"]),
    ],
)
def test_what_a_table_is_refused_for(tmp_path: Path, rows: list[list[object]], words: list[str]) -> None:
    path = write_table(tmp_path / "rated.csv", rows)
    with pytest.raises(InputError) as caught:
        rated_faces(path)
    for word in ["rated.csv", *words]:
        assert word in str(caught.value)


def test_a_table_may_be_json_lines_and_have_splits(tmp_path: Path) -> None:
    path = tmp_path / "rated.jsonl"
    rows = [{"image": f"{i}.png", "split": "test" if i % 2 else "train", "joy": i / 2} for i in range(6)]
    path.write_text("\n".join(json.dumps(r) for r in rows))
    test, everything = rated_faces(path), rated_faces(path, "all")
    assert test.ratings is not None and test.ratings.ravel().tolist() == [0.5, 1.5, 2.5] and len(everything) == 6
    with pytest.raises(UnreadableImageError, match=r"1\.png"):
        test.load(test.images[0])


def png(colour: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 6), (colour, 0, 0)).save(content, "png")
    return content.getvalue()


def ferplus(path: Path) -> Path:
    votes = [*EXPRESSIONS, "unknown", "not_face"]
    rows = [
        ["split", "image", *votes],
        ["test", "a.png", 6, 2, 0, 0, 0, 0, 0, 0, 2, 0],
        ["test", "noface.png", 1, 0, 0, 0, 0, 0, 0, 0, 0, 9],
        ["valid", "b.png", 0, 0, 0, 0, 0, 0, 10, 0, 0, 0],
        ["test", "lost.png", 0, 5, 5, 0, 0, 0, 0, 0, 0, 0],
    ]
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("labels.csv", text.getvalue())
        file.writestr("test/a.png", png(200))
        file.writestr("valid/b.png", b"no image")
    return path


def test_ferplus_votes_become_shares_of_the_expressions(tmp_path: Path) -> None:
    path = ferplus(tmp_path / "ferplus.zip")
    faces = rated_faces(path)
    assert faces.images == ("test/a.png", "test/lost.png") and faces.persons == ()
    assert faces.ratings is not None
    assert faces.ratings.tolist() == [[0.75, 0.25, 0, 0, 0, 0, 0, 0], [0, 0.5, 0.5, 0, 0, 0, 0, 0]]
    assert faces.load("test/a.png").shape == (6, 8, 3) and faces.load("test/a.png")[0, 0].tolist() == [200, 0, 0]
    with pytest.raises(UnreadableImageError, match=r"lost\.png"):
        faces.load("test/lost.png")
    valid = rated_faces(path, "valid")
    with pytest.raises(UnreadableImageError, match=r"b\.png"):
        valid.load(valid.images[0])
    with pytest.raises(InputError, match=r"'train'.*'test', 'valid'"):
        rated_faces(path, "train")
    folder = tmp_path / "unpacked"
    with zipfile.ZipFile(path) as file:
        file.extractall(folder)
    assert rated_faces(folder).images == faces.images
    with pytest.raises(UnreadableImageError, match="outside"):
        rated_faces(folder).load("../ferplus.zip")


def people_set(folder: Path, rows: list[tuple[str, str, str]]) -> Path:
    (folder / "images").mkdir(parents=True)
    for image, _, _ in rows:
        (folder / "images" / image).write_bytes(png(10))
    write_table(folder / "labels.csv", [("image", "person", "emotion"), *rows])
    return folder


def test_people_with_repeated_expressions_are_drawn(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    moods = ("neutral", "happy", "bored")
    rows = [(f"{i}.png", f"p{generator.integers(30)}", moods[generator.integers(3)]) for i in range(300)]
    rows += [(f"x{i}.png", "often", "neutral") for i in range(40)] + [("nobody.png", "", "neutral")]
    faces = person_faces(people_set(tmp_path / "set", rows))
    assert len(faces) == sum(p != "" and m != "bored" for _, p, m in rows) and set(faces.labels) == {
        "neutral",
        "happiness",
    }
    with pytest.raises(InputError, match="no human ratings"):
        rated_faces(tmp_path / "set", "all")
    drawn = repeated_people(faces, 100, seed=0)
    counts = Counter(zip(drawn.persons, drawn.labels, strict=True))
    assert 90 <= len(drawn) <= 100 and all(2 <= n <= 6 for n in counts.values())
    assert drawn.images == repeated_people(faces, 100, seed=0).images != repeated_people(faces, 100, seed=1).images
    truth = {f"images/{i}": (p, {"happy": "happiness"}.get(m, m)) for i, p, m in rows}
    assert all(truth[i] == (p, m) for i, p, m in zip(drawn.images, drawn.persons, drawn.labels, strict=True))
    everybody = Counter(repeated_people(faces, 10_000, seed=0).persons)
    assert everybody["often"] == 6


def test_samples_keep_rows_together(tmp_path: Path) -> None:
    rows = [["image", "person", "joy"], *[[f"{i}.png", f"p{i}", i] for i in range(50)]]
    faces = rated_faces(write_table(tmp_path / "rated.csv", rows))
    drawn = faces.sample(20, seed=3)
    assert drawn.ratings is not None and len(drawn) == 20 == len(set(drawn.images))
    for image, person, rating in zip(drawn.images, drawn.persons, drawn.ratings, strict=True):
        assert Path(image).stem == person[1:] == str(int(rating[0]))
    assert faces.sample(50, seed=3) is faces and faces.sample(20, 3).images == drawn.images


def test_photographs_of_a_folder_and_a_zip(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as file:
        for i in range(3):
            (tmp_path / "in" / f"{i}.png").write_bytes(png(i))
            file.writestr(f"deep/{i}.png", png(i))
        file.writestr("note.txt", "")
    for path in (tmp_path / "in", tmp_path / "in.zip"):
        found = photographs(path)
        assert [int(found.load(n)[0, 0, 0]) for n in found.images] == [0, 1, 2]
    with pytest.raises(InputError, match="no such"):
        photographs(tmp_path / "absent")


def test_small_photographs_are_left_out() -> None:
    sides = [50, 99, 100, 300, 120, 20]

    def load(name: str) -> Pixels:
        if name == "5":
            raise UnreadableImageError("broken")
        return np.zeros((sides[int(name)], 400, 3), np.uint8)

    faces = Faces("f", tuple(map(str, range(6))), load)
    assert large_photographs(faces, 10, 0).images == ("2", "3", "4") and len(large_photographs(faces, 2, 0)) == 2


# --- vectors ---


class Picky(Method):
    """Mean colour of the crop; refuses faces whose crop is bright."""

    template, dimension, fingerprint = "eyes70", 3, "picky"  # type: ignore[assignment]

    def __init__(self, name: str = "picky", limit: float = 256.0, where: str = "represent") -> None:
        self.name, self.limit, self.where = name, limit, where

    def _check(self, face: Face) -> None:
        if face.crop(self.template).mean() > self.limit:
            raise NoFaceError("too bright")

    def prepare(self, face: Face) -> None:
        if self.where == "prepare":
            self._check(face)

    def represent(self, faces: Sequence[Face]) -> NDArray[np.float32]:
        if self.where == "represent":
            for face in faces:
                self._check(face)
        return np.array([f.crop(self.template).mean((0, 1)) for f in faces], np.float32).reshape(-1, 3)


def crops_of(values: Sequence[int]) -> Faces:
    def load(name: str) -> Pixels:
        if int(name) < 0:
            raise UnreadableImageError(f"{name} is broken")
        return np.full((64, 64, 3), int(name), np.uint8)

    return Faces("crops", tuple(map(str, values)), load)


def whole_images() -> FaceFinder:
    """Any image is a face."""
    return FaceFinder(load_detector("none"), points=load_points("none"))


@pytest.mark.parametrize("where", ["represent", "prepare"])
def test_a_face_that_one_method_refuses_is_its_failure_alone(where: str) -> None:
    methods = [Picky("easy"), Picky("hard", 100.0, where)]
    reader = photograph_reader(whole_images(), methods)
    values = [10, 20, -1, 150, 30, 200, 90] * 12  # more than one block
    with ThreadPoolExecutor(2) as pool:
        found = embed_faces(crops_of(values), reader, pool, lambda *a: None, "faces")
    good = [0 <= v <= 100 for v in values]
    assert found.ok.tolist() == good
    assert found.coverage("easy") == {"faces": 84, "ok": 72, "failed": {"unreadable": 12}}
    assert found.coverage("hard") == {"faces": 84, "ok": 48, "failed": {"no_face": 24, "unreadable": 12}}
    rows = np.flatnonzero(good)
    for name in ("easy", "hard"):
        assert found.matrix(name, rows)[:, 0].tolist() == [v for v, g in zip(values, good, strict=True) if g]
    failures = list(found.failures())
    assert Counter((f["method"], f["status"]) for f in failures) == {("", "unreadable"): 12, ("hard", "no_face"): 24}
    assert {f["image"] for f in failures if f["method"] == "hard"} == {"150", "200"}


def test_errors_that_are_no_images_fault_rise() -> None:
    class Broken(Picky):
        def represent(self, faces: Sequence[Face]) -> NDArray[np.float32]:
            raise MissingPackageError("no package")

    reader = photograph_reader(whole_images(), [Broken()])
    with pytest.raises(MissingPackageError):
        represent_all([reader.read(np.zeros((64, 64, 3), np.uint8))], reader)


# --- curves and detectors ---


def test_a_response_by_hand() -> None:
    """Three photographs at 0, 3, 6: mean distance 4. Two warps and a nuisance at two strengths each."""

    def nothing(image: Pixels, face: Face, reader: FaceReader) -> NoFaceError:
        return NoFaceError("")

    applied = [
        curves.Change(kind, name, s, nothing)
        for kind, name in (("warp", "a"), ("warp", "b"), ("nuisance", "n"))
        for s in (1.0, 2.0)
    ]
    unchanged = [np.array([v, v, v], np.float32) / np.float32(math.sqrt(3)) for v in (0.0, 3.0, 6.0)]
    moved = [
        np.array([1.0, 2, 2, 1, 0.5, 0.5]),
        np.array([1.0, 2, 2, 1, 0.5, np.nan]),
        np.array([1.0, 2, 2, 1, 0.5, 0.5]),
    ]
    found = curves.response(Picky(), applied, unchanged, moved)
    a, b, n = found.curves
    assert a.distances == pytest.approx((0.25, 0.5)) and b.distances == pytest.approx((0.5, 0.25))
    assert n.distances == pytest.approx((0.125, 0.125)) and n.faces == (3, 2)
    assert found.monotonicity == pytest.approx((1.0 + 0.5) / 2)  # 0 1 2 is in order, 0 2 1 half
    assert found.signal_to_nuisance == pytest.approx(0.375 / 0.125) and found.photographs == 3
    none = curves.response(Picky(), applied, [], [])
    assert all(math.isnan(d) for c in none.curves for d in c.distances) and math.isnan(none.monotonicity)
    assert math.isnan(none.signal_to_nuisance) and none.photographs == 0


@pytest.mark.slow
def test_curves_of_photographs(portrait_photo: Path, group_photo: Path, tmp_path: Path) -> None:
    Image.new("RGB", (200, 200), "grey").save(tmp_path / "blank.png")
    names = (str(portrait_photo), str(tmp_path / "blank.png"), str(group_photo))
    methods = [load_method("lm68"), load_method("lm51")]
    reader = photograph_reader(FaceFinder(load_detector("dlib")), methods)
    told: list[tuple[str, int, int]] = []
    with ThreadPoolExecutor(2) as pool:
        found = curves.measure_curves(Faces("two", names, read_image), reader, pool, lambda *a: told.append(a))
    assert told[-1][1:] == (3, 3)
    for response in found.values():
        assert response.photographs == 2
        by_name = {c.name: c for c in response.curves}
        assert list(by_name) == [*WARPS, *nuisance.NUISANCES]
        assert all(d > 0 for name in WARPS for d in by_name[name].distances)
        assert max(by_name["shift"].distances) < 1e-5  # points move with their crop
        assert response.monotonicity > 0.5
    mouth = {n: next(c for c in r.curves if c.name == "mouth corners up").distances[-1] for n, r in found.items()}
    assert mouth["lm51"] > mouth["lm68"]  # the jaw doesn't move


def test_detector_shift_by_hand() -> None:
    """Photographs at 0, 3, 6 (mean distance 4), moved by 1, 1 and 2 by the other detector."""
    one = np.ones(3, np.float32) / np.float32(math.sqrt(3))
    found = detector_shift(Picky(), [[0 * one, 1 * one], [3 * one, 4 * one], [6 * one, 4 * one]])
    assert found.value == pytest.approx((4 / 3) / 4) and found.n == 3
    assert found.low <= found.value <= found.high
    assert math.isnan(detector_shift(Picky(), [[one, one]]).value)


# --- the command ---


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["probe", "agreement", *(str(a) for a in arguments)])


FAST = ["-m", "lm68", "-m", "lm51", "--detector", "dlib", "--quiet"]


@pytest.fixture(scope="module")
def rated_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's faces, each thrice (as it is, darker, smaller), rated at random; and a blank image."""
    from exprmetric.demo.make import demo_faces

    folder = tmp_path_factory.mktemp("rated")
    generator = np.random.default_rng(0)
    rows: list[list[object]] = [["image", "person", "joy", "rage"]]
    for i, face in enumerate(demo_faces(load_detector("dlib"))):
        picture = Image.fromarray(face.image)
        for k, version in enumerate((picture, picture.point(lambda v: v * 0.8), picture.reduce(1))):
            name = f"{i}-{k}.png"
            version.save(folder / name)
            rows.append([name, f"person {i}", i % 3 + 0.1 * generator.random(), generator.random()])
    Image.new("RGB", (200, 200), "grey").save(folder / "blank.png")
    rows.append(["blank.png", "", 0, 0])
    write_table(folder / "rated.csv", rows)
    return folder


def test_the_command_measures_and_writes_a_card(rated_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    result = run(rated_folder / "rated.csv", *FAST, "--curves", 3, "--out", out)
    assert result.exit_code == 0, result.output
    assert "lm68" in result.stdout and "lm51" in result.stdout and "no_face 1" in result.stdout
    content = json.loads((out / "agreement.json").read_text())
    faces = len(list(rated_folder.glob("*.png")))
    about = content["sets"]["rated"]["rated"]
    assert (about["faces"], about["scales"], about["margin"]) == (faces, ["joy", "rage"], "0.8 rating points")
    assert about["use"] == "use not stated" and about["raters"] is None
    assert [(f["image"], f["method"], f["status"]) for f in content["failures"]] == [
        (str(rated_folder / "blank.png"), "", "no_face")
    ]
    assert list(content["methods"]) == ["lm68", "lm51"]
    for report in content["methods"].values():
        assert report["coverage"]["rated"] == {"faces": faces, "ok": faces - 1, "failed": {"no_face": 1}}
        rated = report["rated"]["rated"]
        across = rated["across"]
        assert 0 <= across["triplet_accuracy"]["value"] <= 1 and across["triplet_accuracy"]["n"] > 0
        low, high = across["rank_correlation"]["ci95"]
        assert -1 <= low <= across["rank_correlation"]["value"] <= high <= 1
        assert rated["leak"]["ratio"]["value"] > 1.5  # photographs of one person are the same one here
        assert rated["leak"]["auc"]["value"] > 0.8 and report["leak"] is None
        assert len(report["response"]["curves"]) == len(WARPS) + len(nuisance.NUISANCES)
        assert report["detector_shift"] is None  # scrfd's weights are not here
    card = (out / "card.md").read_text()
    assert card.count("\n| lm68 |") == 2 and "### rated: use not stated" in card
    assert "(warps.png)" in card and "(nuisances.png)" in card
    for name in ("warps.png", "nuisances.png"):
        with Image.open(out / name) as plot:
            pixels = np.asarray(plot.convert("RGB")).astype(int)
        assert pixels.shape[0] > 300 and pixels.shape[1] > 1000
        assert ((pixels.max(2) - pixels.min(2)) > 80).mean() > 0.002  # coloured lines, not empty axes


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers(rated_folder: Path, tmp_path: Path) -> None:
    def numbers(*more: object) -> str:
        result = run(rated_folder / "rated.csv", *FAST, "--curves", 1, "--no-plots", "--out", tmp_path / "o", *more)
        assert result.exit_code == 0, result.output
        return json.dumps(json.loads((tmp_path / "o" / "agreement.json").read_text())["methods"])

    first = numbers("--jobs", 1)
    assert numbers("--jobs", 2) == first and numbers("--seed", 1) != first
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["agreement.json", "card.md"]


def test_nothing_measured_is_exit_status_1(tmp_path: Path) -> None:
    for i in range(4):
        Image.new("RGB", (120, 120), (i, i, i)).save(tmp_path / f"{i}.png")
    table = write_table(tmp_path / "rated.csv", [["image", "joy"], *[[f"{i}.png", i] for i in range(5)]])
    result = run(table, *FAST, "--no-plots", "--out", tmp_path / "out")
    assert result.exit_code == 1 and "nothing could be measured" in result.stderr
    content = json.loads((tmp_path / "out" / "agreement.json").read_text())
    assert Counter(f["status"] for f in content["failures"]) == {"no_face": 4, "unreadable": 1}
    assert content["methods"]["lm68"]["rated"]["rated"]["across"]["triplet_accuracy"]["value"] is None


def test_wrong_usage_is_exit_status_2(rated_folder: Path, tmp_path: Path) -> None:
    bad = write_table(tmp_path / "bad.csv", [["image", "joy"], ["a.png", "much"]])
    for arguments, word in (
        ([tmp_path / "absent.csv"], "absent.csv"),
        ([tmp_path], str(tmp_path)),
        ([bad], "no rating columns"),
        ([rated_folder / "rated.csv", "--term", "fear"], "'fear'"),
        ([rated_folder / "rated.csv", "--chosen", "other"], "'other'"),
        ([rated_folder / "rated.csv", "--chosen", "rated", "--unseen", "rated"], "both"),
        ([rated_folder / "rated.csv", rated_folder / "rated.csv"], "named twice"),
        ([f"people={rated_folder / 'rated.csv'}"], "named twice"),
        ([rated_folder / "rated.csv", "-m", "lm86"], "lm86"),
        ([rated_folder / "rated.csv", "--photos", tmp_path / "none"], "none"),
        ([rated_folder / "rated.csv", "--split", "most"], "most"),
        ([], "RATED"),
    ):
        result = run(*arguments, "--quiet")
        assert result.exit_code == 2 and word in result.stderr and result.stdout == "", (arguments, result.output)


def test_plots_say_what_to_install_before_any_work(
    rated_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "matplotlib" else real(name, *a))
    result = run(rated_folder / "rated.csv", *FAST, "--out", tmp_path / "out")
    assert result.exit_code == 1 and "exprmetric[plots]" in result.stderr and not (tmp_path / "out").exists()


def test_names_in_a_card_are_harmless(tmp_path: Path) -> None:
    nothing = Estimate(float("nan"), float("nan"), float("nan"), 0)
    name = "x|<script>"
    scores = RatedScores(Agreement(nothing, nothing), None, None, {"a|<b>": nothing}, {"yaw": {}, "size": {}})
    report = MethodReport("a|b<img>", 3, "l2", "", {name: scores}, None, None, None, {name: {"faces": 0, "ok": 0}})
    rated = {"faces": 0, "people": 0, "scales": ["<i>"], "margin": "", "use": "use not stated", "raters": None}
    about = {
        "sets": {"rated": {name: rated}, "people": None, "photographs": {"name": "", "faces": 0}},
        "compared": {name: 0},
        "detector": {"ran": "dlib"},
    }
    result = AgreementResult(about, (report,), {name: None}, ())
    text = markdown(result)
    assert (
        "<script>" not in text and "<img>" not in text and "<b>" not in text and "<i>" not in text and "a\\|b" in text
    )
    assert save_card(result, tmp_path / "o") == ["card.md"] and not result.measured
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't write"):
        save_card(result, tmp_path / "file" / "o")


def test_starting_the_group_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import importlib.util as u\n"
        "if u.find_spec('exprmetric_cli') is None:\n"
        "    s = u.spec_from_file_location('exprmetric_cli', sys.argv[1] + '/cli/__init__.py',\n"
        "        submodule_search_locations=[sys.argv[1] + '/cli'])\n"
        "    sys.modules['exprmetric_cli'] = u.module_from_spec(s)\n"
        "from exprmetric_cli.main import main\n"
        "main(['probe', 'agreement', '--help'], standalone_mode=False)\n"
        "import exprmetric.datasets.layouts\n"
        "heavy = {'torch', 'matplotlib', 'onnxruntime', 'cv2', 'dlib', 'PIL', 'scipy'}\n"
        "print(sorted(heavy & {m.partition('.')[0] for m in sys.modules}))"
    )
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run([sys.executable, "-c", code, root], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.shared
@pytest.mark.slow
def test_votes_people_and_swaps(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(shared / "weights"))
    data, out = shared / "data", tmp_path / "out"
    result = run(
        data / "ferplus.zip", "--persons", data / "lfw_expressions.zip", "--photos", data / "swaps_dev.zip",
        "-m", "default", "-m", "lm51", "--limit", 150, "--curves", 3, "--no-plots", "--quiet", "--out", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    content = json.loads((out / "agreement.json").read_text())
    assert content["detector"]["ran"] == "scrfd" and content["compared"]["ferplus test"] > 135
    default, lm51 = content["methods"]["default"], content["methods"]["lm51"]
    ours, points = (m["rated"]["ferplus test"]["across"] for m in (default, lm51))
    assert ours["triplet_accuracy"]["ci95"][0] > points["triplet_accuracy"]["ci95"][1] > 1 / 3
    assert ours["rank_correlation"]["ci95"][0] > points["rank_correlation"]["ci95"][1]
    for report in (default, lm51):
        assert report["leak"]["people"] > 10 and 0.9 < report["leak"]["ratio"]["value"] < 2
        assert report["detector_shift"]["detectors"] == ["scrfd", "dlib"]
        assert 0 < report["detector_shift"]["share"]["value"] < 0.4
        assert report["response"]["photographs"] == 3 and report["response"]["monotonicity"] > 0.8
