"""Alignment: the transform against OpenCV, scikit-image and insightface; crops that don't depend on the photograph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from exprmetric.faces import Face, FaceFinder, alignment, load_detector, templates
from exprmetric.faces.alignment import ARCFACE, CROP_SIZE, EYES, similarity, transform, warp
from exprmetric.io.images import read_image

Image = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def face(portrait_photo: Path) -> Face:
    return FaceFinder(load_detector("dlib")).find(read_image(portrait_photo))


def affine(angle: float, scale: float, shift: tuple[float, float]) -> Points:
    """Angle in radians, counter-clockwise with y down."""
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    return np.array([[cos, sin, shift[0]], [-sin, cos, shift[1]]])


coordinates = st.floats(-500, 500)
clouds = st.lists(st.tuples(coordinates, coordinates), min_size=2, max_size=12).map(np.array)
maps = st.builds(
    affine, st.floats(-np.pi, np.pi), st.floats(0.05, 20), st.tuples(st.floats(-2000, 2000), st.floats(-2000, 2000))
)


def spread(points: Points) -> float:
    return float(np.ptp(points, axis=0).max())


@given(points=clouds, matrix=maps)
@example(points=np.array([[0.0, 0.0], [1.0, 0.0]]), matrix=affine(np.pi, 1, (0, 0)))
@example(points=np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 5.0]]), matrix=affine(-np.pi / 2, 2, (3, 4)))
def test_a_similarity_is_recovered_exactly(points: Points, matrix: Points) -> None:
    assume(spread(points) > 1)
    found = similarity(points, transform(matrix, points))
    assert transform(found, points) == pytest.approx(transform(matrix, points), rel=1e-9, abs=1e-6)
    assert found[:, :2] == pytest.approx(matrix[:, :2], rel=1e-6, abs=1e-6)


@given(source=clouds, data=st.data())
def test_whatever_the_points_the_result_is_a_similarity_without_reflection(source: Points, data: st.DataObject) -> None:
    size = len(source)
    pairs = st.lists(st.tuples(coordinates, coordinates), min_size=size, max_size=size).map(np.array)
    destination = data.draw(pairs)
    assume(spread(source) > 1 and spread(destination) > 1)
    (a, b), (c, d) = similarity(source, destination)[:, :2]
    assert (a, b) == pytest.approx((d, -c), rel=1e-9, abs=1e-9 * spread(destination))
    assert a * d - b * c >= 0


def test_a_mirrored_face_is_not_mirrored_back() -> None:
    mirrored = ARCFACE * [-1, 1]
    assert np.linalg.det(similarity(mirrored, ARCFACE)[:, :2]) > 0
    assert np.abs(transform(similarity(mirrored, ARCFACE), mirrored) - ARCFACE).max() > 5  # so it can't fit


@given(source=clouds.map(lambda p: p[:2]), destination=clouds.map(lambda p: p[:2]))
def test_two_points_are_fitted_exactly(source: Points, destination: Points) -> None:
    assume(np.linalg.norm(source[1] - source[0]) > 1 and np.linalg.norm(destination[1] - destination[0]) > 1)
    found = similarity(source, destination)
    assert transform(found, source) == pytest.approx(destination, abs=1e-6)
    # and as complex numbers: z → turn z + shift
    a, b = (p[:, 0] + 1j * p[:, 1] for p in (source, destination))
    turn = (b[1] - b[0]) / (a[1] - a[0])
    assert found[0, 0] + 1j * found[1, 0] == pytest.approx(turn, rel=1e-9, abs=1e-9)


noisy = st.tuples(maps, st.integers(0, 2**32 - 1), st.floats(0, 4))


@given(noisy)
def test_the_least_squares_fit_is_that_of_scikit_image(case: tuple[Points, int, float]) -> None:
    from skimage.transform import estimate_transform

    matrix, seed, noise = case
    points = transform(matrix, ARCFACE + np.random.default_rng(seed).normal(0, noise, ARCFACE.shape))
    reference = estimate_transform("similarity", points, ARCFACE).params[:2]
    assert similarity(points, ARCFACE) == pytest.approx(reference, rel=1e-6, abs=1e-6)


def test_the_fit_is_that_of_opencv() -> None:
    rng = np.random.default_rng(0)
    for angle in np.linspace(-3, 3, 9):
        points = transform(affine(angle, 0.7, (40, 9)), ARCFACE + rng.normal(0, 1.5, ARCFACE.shape))
        # a threshold that takes every point leaves OpenCV's own refinement of the least-squares fit
        reference, used = cv2.estimateAffinePartial2D(
            points, ARCFACE, method=cv2.RANSAC, ransacReprojThreshold=1e3, refineIters=100
        )
        assert used.all()
        assert similarity(points, ARCFACE) == pytest.approx(reference, abs=2e-3)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # insightface calls scikit-image by an old name
def test_arcface_is_the_alignment_of_insightface(face: Face) -> None:
    from insightface.utils import face_align

    five = alignment.five_points(face.landmarks)
    assert face.matrix("arcface") == pytest.approx(face_align.estimate_norm(five, 224), abs=1e-3)
    # the detector's own five points go before those among the 68
    own = Face(face.image, face.box, 1.0, face.landmarks, five_points=five * 1.1)
    assert own.five_points is not None
    assert own.matrix("arcface") == pytest.approx(face_align.estimate_norm(own.five_points, 224), abs=1e-3)
    assert not np.allclose(own.matrix("arcface"), face.matrix("arcface"), atol=0.1)


def test_points_of_a_face_are_those_of_dlibs_numbers_in_float64() -> None:
    points = np.stack([np.arange(68.0) ** 2, 3 * np.arange(68.0)], axis=1)
    eyes = [points[list(range(first, first + 6))].sum(axis=0) / 6 for first in (36, 42)]
    np.testing.assert_allclose(alignment.eye_centres(points), eyes, rtol=1e-14)
    np.testing.assert_allclose(alignment.five_points(points), [*eyes, points[30], points[48], points[54]], rtol=1e-14)
    few = points.astype(np.float32)
    for made in (alignment.eye_centres(few), alignment.five_points(few), transform(affine(0.3, 2.0, (5.0, 7.0)), few)):
        assert made.dtype == np.float64
    assert similarity(few[:5], (few[:5] / 3).astype(np.float32)).dtype == np.float64
    exact = similarity(few[:5].astype(np.float64), few[5:10].astype(np.float64))
    np.testing.assert_array_equal(similarity(few[:5], few[5:10]), exact)


def test_the_size_of_a_face_is_the_mean_of_its_eyes_distance_and_that_to_its_mouth() -> None:
    five = np.array([[100.0, 50.0], [160.0, 50.0], [131.0, 77.0], [110.0, 120.0], [150.0, 140.0]])
    assert alignment.extent(five) == pytest.approx((60.0 + 80.0) / 2)  # mouth: (130, 130), eyes: (130, 50)
    assert alignment.extent(five.tolist()) == alignment.extent(five.astype(np.float32)) == alignment.extent(five)
    assert alignment.extent(transform(affine(0.7, 3.0, (-40.0, 900.0)), five)) == pytest.approx(3 * 70.0)


def test_two_maps_in_turn_are_one_and_a_map_and_its_inverse_are_none() -> None:
    first, second = np.array([[2.0, 0.5, 7.0], [-1.0, 3.0, 11.0]]), np.array([[0.3, -0.7, 5.0], [1.1, 0.2, -13.0]])
    points = np.array([[0.0, 0.0], [10.0, 3.0], [-4.0, 20.0]])
    both = alignment.compose(second, first)
    np.testing.assert_allclose(transform(both, points), transform(second, transform(first, points)), rtol=1e-12)
    back = alignment.compose(alignment.inverse(first), first)
    np.testing.assert_allclose(back, [[1, 0, 0], [0, 1, 0]], atol=1e-12)


@pytest.mark.parametrize("sides", [(60.0, 90.0), (90.0, 60.0), (1.0, 1.0), (0.5, 2.0)])
def test_a_box_however_it_is_turned_fills_the_square(face: Face, sides: tuple[float, float]) -> None:
    width, height = sides
    straight = replace(face, box=np.array([30.0, 40.0, 30.0 + width, 40.0 + height]), corners=None)
    corners = np.array([[30.0, 40.0], [30.0 + width, 40.0], [30.0, 40.0 + height]])
    box = templates.template("box").matrix
    if min(sides) >= 1:
        np.testing.assert_allclose(box(replace(straight, corners=corners)), box(straight), rtol=1e-12, atol=1e-9)
    else:  # less than a pixel counts as one
        scale = CROP_SIZE / np.maximum(sides, 1.0)
        np.testing.assert_allclose(box(straight)[:, :2], np.diag(scale), rtol=1e-12)
        return
    turn = affine(0.9, 1.0, (12.0, -3.0))
    turned = box(replace(straight, corners=transform(turn, corners)))
    np.testing.assert_allclose(alignment.compose(turned, turn), box(straight), rtol=1e-9, atol=1e-9)
    small = templates.turned_box(corners, size=100)
    np.testing.assert_allclose(transform(small, corners[0]), 50 / np.array(sides) - 0.5, rtol=1e-9)


def test_eye_centres_land_on_the_template(face: Face) -> None:
    moved = transform(face.matrix("eyes70"), face.landmarks)
    assert np.stack([moved[36:42].mean(0), moved[42:48].mean(0)]) == pytest.approx(EYES, abs=1e-9)
    assert pytest.approx([70, 0]) == EYES[1] - EYES[0]
    assert face.crop("eyes70").shape == (224, 224, 3) and face.crop("eyes70").dtype == np.uint8


def test_pixels_land_where_the_matrix_says() -> None:
    """A blurred dot at each eye of a made-up face; the crop's brightest spots are the template's points."""
    landmarks = np.tile([150.0, 150.0], (68, 1))
    landmarks[36:42], landmarks[42:48] = (120, 130), (190, 160)
    for dot, place in (((120, 130), EYES[0]), ((190, 160), EYES[1])):
        image = np.zeros((300, 300, 3), np.uint8)
        image[dot[1], dot[0]] = 255
        image = cv2.GaussianBlur(image, (0, 0), 4)
        crop = Face(image, np.array([90.0, 90, 220, 220]), 1.0, landmarks).crop("eyes70")[..., 0].astype(float)
        y, x = np.mgrid[:224, :224]
        assert np.array([(crop * x).sum(), (crop * y).sum()]) / crop.sum() == pytest.approx(place, abs=0.15)


def test_the_box_template_stretches_the_box_to_the_square(face: Face) -> None:
    x0, y0, x1, y1 = 60, 20, 172, 244  # 112 x 224 px
    assert face.image is not None
    region = face.image[y0:y1, x0:x1]
    crop = Face(face.image, np.array([x0, y0, x1, y1], float), 1.0, face.landmarks).crop("box")
    expected = cv2.resize(region, (224, 224), interpolation=cv2.INTER_LINEAR)
    inner = np.s_[:, 2:-2]  # a resize knows nothing outside the box
    assert np.abs(crop[inner].astype(int) - expected[inner]).max() <= 2


@pytest.mark.parametrize(
    ("name", "change", "tolerance"),
    [
        # measured 0.0, 1.4, 1.4, 4.7, 2.6, 0.8, 0.6 grey levels; halving takes eyes 44 px apart down to 22
        ("shifted", affine(0, 1, (37, 21)), 0.01),
        ("turned 20°", affine(np.radians(20), 1, (-40, 90)), 2.0),
        ("turned -20°", affine(np.radians(-20), 1, (40, -20)), 2.0),
        ("half", affine(0, 0.5, (-0.25, -0.25)), 6.0),
        ("0.7", affine(0, 0.7, (-0.15, -0.15)), 3.5),
        ("1.5", affine(0, 1.5, (0.25, 0.25)), 1.2),
        ("double", affine(0, 2, (0.5, 0.5)), 1.0),
    ],
)
@pytest.mark.parametrize("template", ["eyes70", "arcface"])
def test_a_crop_does_not_depend_on_how_the_photograph_was_taken(
    face: Face, name: str, change: Points, tolerance: float, template: str
) -> None:
    assert face.image is not None
    photo = warp(face.image, change, 1100)
    taken = Face(photo, face.box, 1.0, transform(change, face.landmarks))
    difference = np.abs(taken.crop(template).astype(int) - face.crop(template)).mean()
    assert difference < tolerance, name
    other = face.crop(template)[:, ::-1].astype(int)  # what a wrong crop would give
    assert np.abs(taken.crop(template) - other).mean() > 5 * tolerance


@pytest.mark.parametrize(
    "change",
    [affine(np.radians(20), 1, (-40, 90)), affine(0, 0.5, (-0.25, -0.25)), affine(0, 1.5, (30.25, 0.25))],
    ids=["turned", "half", "larger"],
)
def test_landmarks_found_again_give_almost_the_same_vector(face: Face, change: Points) -> None:
    assert face.image is not None
    found = FaceFinder(load_detector("dlib")).find(warp(face.image, change, 700))
    off = np.linalg.norm(found.aligned_landmarks() - face.aligned_landmarks(), axis=1) * CROP_SIZE
    assert off.mean() < 0.03 * 70  # measured 0.015 to 0.022 of the eye distance


def test_high_frequencies_do_not_alias_into_the_crop(face: Face) -> None:
    """One face in fine noise, photographed at 600 px between the eyes and at half that: the crops agree."""
    assert face.image is not None
    enlarged = affine(0, 14.0, (-2300, -800))
    large = cv2.warpAffine(face.image, enlarged, (1600, 1600), flags=cv2.INTER_CUBIC).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 60, large.shape)
    large = np.clip(large / 2 + 64 + noise, 0, 255).astype(np.uint8)
    small = cv2.resize(large, (800, 800), interpolation=cv2.INTER_AREA)
    halved = affine(0, 0.5, (-0.25, -0.25))
    points = transform(enlarged, face.landmarks)
    first = alignment.similarity(alignment.eye_centres(points), EYES)
    second = alignment.similarity(alignment.eye_centres(transform(halved, points)), EYES)

    def difference(a: Image, b: Image) -> float:
        return float(np.abs(a.astype(int) - b).mean())

    def naive(image: Image, matrix: Points) -> Image:
        crop: Image = cv2.warpAffine(image, matrix, (224, 224), flags=cv2.INTER_LINEAR)
        return crop

    assert difference(warp(large, first), warp(small, second)) < 3.0
    assert difference(naive(large, first), naive(small, second)) > 10.0  # so the low-pass is what does it


@pytest.mark.parametrize("scale", [0.2, 0.35, 0.5, 0.8])
@pytest.mark.parametrize("angle", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (30.0, -20.0), (-60.0, 40.0)])
def test_blurring_the_region_is_blurring_the_photograph(
    group_photo: Path, scale: float, angle: float, shift: tuple[float, float]
) -> None:
    image = read_image(group_photo)
    matrix = affine(angle, scale, shift)
    if angle == 2.0:  # bring the middle back into sight
        matrix[:, 2] += 112 - transform(matrix, [[640, 443]])[0]
    blurred = cv2.GaussianBlur(image, (0, 0), 0.4 * np.sqrt(1 / scale**2 - 1), borderType=cv2.BORDER_REPLICATE)
    expected = cv2.warpAffine(blurred, matrix, (224, 224), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    difference = np.abs(warp(image, matrix).astype(int) - expected)
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3  # rounding of the shifted matrix


def test_outside_the_photograph_its_border_is_repeated() -> None:
    image = np.full((50, 50, 3), 200, np.uint8)
    for scale in (0.3, 1.0, 2.0):
        for shift in (-500.0, 0.0, 500.0):
            assert (warp(image, affine(0.1, scale, (shift, 20))) == 200).all()


def test_an_aligned_image_is_resized_and_nothing_else() -> None:
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3)).astype(np.uint8)
    points = np.random.default_rng(1).uniform(0, 224, (68, 2))
    aligned = Face(image, np.array([0.0, 0, 224, 224]), 1.0, points, aligned=True)
    for name in ("eyes70", "arcface", "box"):
        assert np.array_equal(aligned.crop(name), image)
    assert aligned.aligned_landmarks() * CROP_SIZE == pytest.approx(points)


def test_the_dlib_template_is_a_chip_of_150_px(face: Face) -> None:
    import dlib

    assert face.image is not None
    points = dlib.points([dlib.point(int(x), int(y)) for x, y in face.landmarks])
    shape = dlib.full_object_detection(dlib.rectangle(*(int(v) for v in face.box)), points)
    assert np.array_equal(face.crop("dlib150"), dlib.get_face_chip(face.image, shape))


def test_an_unknown_template_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"eyes71.*eyes70, arcface, box, dlib150"):
        templates.template("eyes71")


def test_points_in_single_precision_are_mapped_in_double() -> None:
    """Networks answer in float32, whose means lose digits in a large photograph."""
    points = np.random.default_rng(3).uniform((7000, 5000), (7060, 5060), (68, 2)).astype(np.float32)
    goal = (points[:, ::-1] * np.float32(0.3) + np.float32(11)).astype(np.float32)
    found = similarity(points, goal)
    np.testing.assert_array_equal(found, similarity(points.astype(np.float64), goal.astype(np.float64)))
