"""Detectors find the faces that are there, and the finder measures the one that was meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exprmetric.errors import InputError, NoFaceError, SeveralFacesError, WeightsNotFoundError
from exprmetric.faces import CHOICES, DETECTORS, Detection, Detector, FaceFinder, available_detectors, load_detector
from exprmetric.faces.alignment import eye_centres, transform
from exprmetric.faces.place import iou
from exprmetric.io.images import read_image

Image = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]

GROUP = np.array([[117, 336], [320, 220], [517, 352], [790, 414], [947, 139], [1172, 338]])
"""Noses of the six people, px, from left to right."""
PORTRAIT = (222, 127)

Load = Callable[[str], Detector]
networks = pytest.mark.parametrize(
    "name", [pytest.param("scrfd", marks=pytest.mark.shared), pytest.param("yunet", marks=pytest.mark.shared)]
)
every = pytest.mark.parametrize(
    "name", ["dlib", pytest.param("scrfd", marks=pytest.mark.shared), pytest.param("yunet", marks=pytest.mark.shared)]
)


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)
    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path))


@pytest.fixture
def load(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Load:
    """`load_detector`, with the shared weights in reach for the detectors that need them."""

    def made(name: str) -> Detector:
        if name in ("scrfd", "yunet"):
            shared: Path = request.getfixturevalue("shared")
            monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(shared / "weights"))
        return load_detector(name)

    return made


@pytest.fixture(scope="module")
def group(group_photo: Path) -> Image:
    return read_image(group_photo)


@pytest.fixture(scope="module")
def portrait(portrait_photo: Path) -> Image:
    return read_image(portrait_photo)


def holds(box: Points, point: npt.ArrayLike) -> bool:
    x, y = np.asarray(point)
    return bool(box[0] < x < box[2] and box[1] < y < box[3])


def at(found: list[Detection], point: npt.ArrayLike) -> Detection:
    (only,) = [d for d in found if holds(d.box, point)]
    return only


@every
def test_each_of_six_faces_is_found_once(load: Load, name: str, group: Image) -> None:
    found = load(name).detect(group)
    assert len(found) == 6
    for nose in GROUP:
        box = at(found, nose).box
        assert 80 < box[2] - box[0] < 140 and 80 < box[3] - box[1] < 160


@every
def test_the_portrait_is_found_as_the_largest(load: Load, name: str, portrait: Image) -> None:
    face = FaceFinder(load(name)).find(portrait)
    assert face.detector == name and holds(face.box, PORTRAIT)
    assert np.abs(face.place * 512 - face.box).max() < 1e-9
    left, right = eye_centres(face.landmarks)
    assert 40 < right[0] - left[0] < 48 and abs(right[1] - left[1]) < 5


@every
@pytest.mark.parametrize("size", [96, 140, 224, 512])
def test_a_face_that_fills_its_image_is_found(load: Load, name: str, size: int, portrait: Image) -> None:
    tight = cv2.resize(portrait[66:179, 170:275], (size, size), interpolation=cv2.INTER_CUBIC)
    found = load(name).detect(tight)
    assert len(found) == 1
    assert holds(found[0].box, (size / 2, size / 2)) and np.prod(found[0].box[2:] - found[0].box[:2]) > 0.4 * size**2


def test_dlib_finds_a_face_smaller_than_its_window_by_doubling(portrait: Image) -> None:
    import dlib

    small = np.ascontiguousarray(cv2.resize(portrait[30:200, 140:310], (96, 96), interpolation=cv2.INTER_AREA))
    assert len(dlib.get_frontal_face_detector()(small, 0)) == 0
    (found,) = load_detector("dlib").detect(small)
    assert 40 < found.box[2] - found.box[0] < 60


def test_dlib_doubles_no_image_into_thousands_of_pixels() -> None:
    detector = load_detector("dlib")
    sides: list[tuple[int, int]] = []

    class Hog:
        def run(self, image: Image, upsamplings: int, threshold: float) -> tuple[list[int], list[int], list[int]]:
            sides.append((upsamplings, max(image.shape) << upsamplings))
            return [], [], []

    detector._local.hog = Hog()  # type: ignore[attr-defined]
    for side in (100, 900, 3000):
        assert detector.detect(np.zeros((50, side, 3), np.uint8)) == []
    assert sides == [(0, 100), (1, 200), (2, 400), (0, 900), (1, 1800), (0, 3000)]


def test_of_equal_boxes_the_surest_is_the_largest(portrait: Image) -> None:
    """Doubled, the astronaut's badge passes for a face, in a box of the very size of hers but further left."""
    change = np.array([[2, 0, 0.5], [0, 2, 0.5]])
    photo = cv2.warpAffine(portrait, change, (1024, 1024), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    finder = FaceFinder(load_detector("dlib"))
    assert holds(finder.find(photo).box, transform(change, [PORTRAIT])[0])


@networks
def test_landmarks_from_other_boxes_are_those_of_dlibs_own(
    load: Load, name: str, group: Image, portrait: Image
) -> None:
    off = []
    for image, noses in ((group, GROUP), (portrait, np.array([PORTRAIT]))):
        own, other = load_detector("dlib").detect(image), load(name).detect(image)
        for nose in noses:
            finders = FaceFinder(load_detector("dlib")), FaceFinder(load(name))
            a, b = (f.face(image, at(d, nose)).landmarks for f, d in zip(finders, (own, other), strict=True))
            eyes = eye_centres(a)
            off.append(np.linalg.norm(a - b, axis=1).mean() / np.linalg.norm(eyes[1] - eyes[0]))
    assert np.mean(off) < 0.04  # measured 0.027 and 0.032, most of it from a face in profile
    assert np.median(off) < 0.025  # measured 0.020 and 0.019; twice the same detector: 0.015


@networks
def test_five_points_stand_where_the_landmarks_stand(load: Load, name: str, portrait: Image) -> None:
    face = FaceFinder(load(name)).find(portrait)
    assert face.five_points is not None
    expected = np.concatenate([eye_centres(face.landmarks), face.landmarks[[30, 48, 54]]])
    assert np.linalg.norm(face.five_points - expected, axis=1).max() < 0.2 * 44


@networks
def test_boxes_do_not_depend_on_the_shape_of_the_image(load: Load, name: str, portrait: Image) -> None:
    """A strip far wider than high is padded, not stretched."""
    strip = np.zeros((220, 1200, 3), np.uint8)
    strip[:, 700:1000] = portrait[20:240, 80:380]
    (found,) = load(name).detect(strip)
    (alone,) = load(name).detect(portrait)
    assert iou(found.box - (620, -20, 620, -20), alone.box) > 0.8


@every
def test_threads_see_what_one_thread_sees(load: Load, name: str, group: Image, portrait: Image) -> None:
    detector = load(name)
    images = [portrait, group[:, 640:], group[:, :640]] * 2
    alone = [detector.detect(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(detector.detect, images))
    for a, b in zip(alone, together, strict=True):
        assert len(a) == len(b)
        assert all(np.array_equal(x.box, y.box) for x, y in zip(a, b, strict=True))


@every
def test_a_slice_of_an_image_is_seen_as_its_copy(load: Load, name: str, group: Image, portrait: Image) -> None:
    """dlib's bindings read freed memory when handed an array that isn't contiguous."""
    finder = FaceFinder(load(name))
    for view in (group[100:, 640:], group[:, ::-1], portrait[:400, 50:]):
        copy = view.copy(order="C")
        for _ in range(2):
            a, b = finder.find(view), finder.find(copy)
            assert np.array_equal(a.box, b.box) and np.array_equal(a.landmarks, b.landmarks)
            for template in ("eyes70", "dlib150"):
                assert np.array_equal(a.crop(template), b.crop(template))


@every
def test_a_blank_image_has_no_face(load: Load, name: str) -> None:
    blank = np.full((90, 120, 3), 128, np.uint8)
    assert load(name).detect(blank) == []
    with pytest.raises(NoFaceError, match=f"{name}.*120 x 90"):
        FaceFinder(load(name)).find(blank)


@every
def test_images_of_a_few_pixels_are_no_error_of_a_library(load: Load, name: str) -> None:
    for height, width in ((1, 1), (1, 500), (700, 2), (3, 3)):
        assert load(name).detect(np.zeros((height, width, 3), np.uint8)) == []


def test_none_takes_the_whole_image_and_finds_the_landmarks(group: Image, portrait: Image) -> None:
    detected, aligned = FaceFinder(load_detector("dlib")), FaceFinder(load_detector("none"))
    frontal = np.delete(GROUP, 4, axis=0)  # one of the six is seen from the side
    for image, noses in ((group, frontal), (portrait, np.array([PORTRAIT]))):
        found = detected.detect(image)
        for nose in noses:
            face = detected.face(image, at(found, nose))
            crop = face.crop("eyes70")
            again = aligned.find(crop)
            assert again.aligned and np.array_equal(again.box, [0, 0, 224, 224])
            assert np.array_equal(again.crop("eyes70"), crop) and np.array_equal(again.crop("box"), crop)
            off = np.linalg.norm(again.landmarks - transform(face.matrix("eyes70"), face.landmarks), axis=1)
            assert off.mean() < 0.06 * 70  # measured 0.014 to 0.046 of the eye distance
            halved = aligned.find(cv2.resize(crop, (112, 112), interpolation=cv2.INTER_AREA))
            off = np.linalg.norm(halved.aligned_landmarks() - again.aligned_landmarks(), axis=1) * 224
            assert off.mean() < 0.08 * 70


def test_auto_is_dlib_without_weights_and_says_so(portrait: Image) -> None:
    present = available_detectors()
    assert list(present) == list(DETECTORS)
    assert [n for n, here in present.items() if here] == ["dlib", "none"]
    detector = load_detector("auto")
    assert detector.name == "dlib" and detector.fingerprint.startswith("dlib-hog:")
    assert FaceFinder(detector).find(portrait).detector == "dlib"


@pytest.mark.shared
def test_auto_prefers_scrfd(shared: Path, monkeypatch: pytest.MonkeyPatch, portrait: Image) -> None:
    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(shared / "weights"))
    assert available_detectors()["scrfd"]
    assert FaceFinder(load_detector("auto")).find(portrait).detector == "scrfd"


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'retina'.*auto, scrfd, scrfd-10g, yunet, dlib, none"):
        load_detector("retina")
    with pytest.raises(InputError, match=r"'biggest'.*largest, center, error"):
        FaceFinder(load_detector("none"), "biggest")
    assert list(CHOICES) == ["largest", "center", "error"]


def test_a_detector_without_its_weights_says_how_to_get_them() -> None:
    for name, entry in (("scrfd", "scrfd-500m"), ("scrfd-10g", "scrfd-10g"), ("yunet", "yunet")):
        with pytest.raises(WeightsNotFoundError, match=f"weights pull {entry}"):
            load_detector(name)


@pytest.mark.shared
def test_fingerprints_tell_detectors_and_choices_apart(load: Load) -> None:
    detectors = [load(name) for name in ("dlib", "none", "scrfd", "yunet")]
    prints = {FaceFinder(d, choice).fingerprint for d in detectors for choice in CHOICES}
    assert len(prints) == 12


class Fixed:
    """A detector that says what it is told."""

    name, fingerprint, aligned = "fixed", "fixed", False

    def __init__(self, *boxes: tuple[float, float, float, float]) -> None:
        self.found = [Detection(np.array(b, float), 1.0 + i, np.array(b, float)) for i, b in enumerate(boxes)]

    def detect(self, image: Image) -> list[Detection]:
        return self.found


CANVAS = np.zeros((100, 200, 3), np.uint8)
CENTRAL, LARGE, LEFT = (80.0, 40.0, 120.0, 60.0), (150.0, 0.0, 200.0, 50.0), (0.0, 0.0, 10.0, 10.0)


@pytest.mark.parametrize(("choice", "expected"), [("largest", LARGE), ("center", CENTRAL)])
def test_the_choice_does_not_depend_on_the_order_of_the_boxes(choice: str, expected: tuple[float, ...]) -> None:
    for boxes in ((CENTRAL, LARGE, LEFT), (LARGE, LEFT, CENTRAL), (LEFT, CENTRAL, LARGE)):
        finder = FaceFinder(Fixed(*boxes), choice)
        assert tuple(finder.choose(finder.detect(CANVAS), CANVAS).box) == expected


def test_error_refuses_several_faces_and_takes_one() -> None:
    several, one = FaceFinder(Fixed(LARGE, LEFT), "error"), FaceFinder(Fixed(LEFT), "error")
    with pytest.raises(SeveralFacesError, match="2 faces"):
        several.choose(several.detect(CANVAS), CANVAS)
    assert tuple(one.choose(one.detect(CANVAS), CANVAS).box) == LEFT


@every
def test_near_picks_each_of_the_six_in_turn(load: Load, name: str, group: Image) -> None:
    finder = FaceFinder(load(name))
    found = finder.detect(group)
    for d in found:
        near = d.box / [1280, 886, 1280, 886]
        assert finder.choose(found, group, near=near) is d
        face = finder.find(group, near=near)
        assert np.array_equal(face.box, d.box) and face.place == pytest.approx(near)
    # shares, not pixels: the same place in a photograph of another size
    scaled = cv2.resize(group, (1600, 1108), interpolation=cv2.INTER_LINEAR)
    others = finder.detect(scaled)
    for nose in GROUP:
        place = at(found, nose).box / [1280, 886, 1280, 886]
        assert holds(finder.choose(others, scaled, near=place).box, nose * 1.25)


@pytest.mark.parametrize("boxes", [(CENTRAL, LARGE, LEFT), (CENTRAL,)])
@pytest.mark.parametrize("choice", ["largest", "center", "error"])
def test_a_face_that_is_not_where_it_was_asked_for_is_no_face(choice: str, boxes: Sequence[Any]) -> None:
    """Not even the only one: it is somebody else's."""
    finder = FaceFinder(Fixed(*boxes), choice)
    with pytest.raises(NoFaceError, match="no face where the target's was"):
        finder.choose(finder.detect(CANVAS), CANVAS, near=np.array([0.0, 0.9, 0.05, 1.0]))
    there = np.array([0.4, 0.4, 0.6, 0.6])
    assert tuple(finder.choose(finder.detect(CANVAS), CANVAS, near=there).box) == CENTRAL


corners = st.tuples(*[st.integers(0, 30)] * 4).map(
    lambda c: np.array([min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3])], float)
)


@given(a=corners, b=corners)
def test_overlap_is_what_counting_pixels_gives(a: Points, b: Points) -> None:
    def pixels(box: Points) -> set[tuple[int, int]]:
        x0, y0, x1, y1 = (int(v) for v in box)
        return {(x, y) for x in range(x0, x1) for y in range(y0, y1)}

    union = pixels(a) | pixels(b)
    assert iou(a, b) == pytest.approx(len(pixels(a) & pixels(b)) / len(union) if union else 0)
