"""FaceQA against values worked out by hand and a head projected by hand."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from exprmetric.faces import head as head_model
from exprmetric.video.faces import quality

M = 40


def absolute_mean_of_gaussian(sigma: float) -> float:
    """E|K| of the sampled Gaussian: what a unit step loses to the blur, summed along the line across it."""
    weights = {k: math.exp(-(k**2) / (2 * sigma**2)) for k in range(-12, 13)}
    return sum(abs(k) * w for k, w in weights.items()) / sum(weights.values())


def test_a_constant_patch_has_no_sharpness() -> None:
    assert quality.patch_sharpness(np.full((M, M), 200)) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_a_step_edge_has_the_sharpness_of_its_height(sigma: float) -> None:
    patch = np.zeros((M, M))
    patch[:, M // 2 :] = 100.0
    expected = 100.0 * absolute_mean_of_gaussian(sigma) / M
    assert quality.patch_sharpness(patch, sigma) == pytest.approx(expected, rel=1e-3)
    assert quality.patch_sharpness(patch.T, sigma) == pytest.approx(expected, rel=1e-3)
    assert expected == pytest.approx(100 * sigma * math.sqrt(2 / math.pi) / M, rel=0.1)  # the continuous limit


def test_the_score_is_the_mean_of_the_two_eyes() -> None:
    crop = np.zeros((224, 224, 3), np.uint8)
    crop[:, 77:110] = 100  # an edge through the middle of the left eye's patch; the right eye's is constant
    eyes = [(76.5, 76.5), (146.5, 76.5)]
    assert quality.sharpness(crop, eyes) == pytest.approx(100 * absolute_mean_of_gaussian(2.0) / M / 2, rel=1e-2)
    assert math.isnan(quality.sharpness(crop, [(10, 10), (146, 76)]))


def project(yaw: float, pitch: float = 0.0, roll: float = 0.0, distance: float = 10.0) -> npt.NDArray[np.float64]:
    """dlib's points of the model head, turned by hand, seen by a pinhole camera of focal length 640 from the middle."""
    y, p, r = (math.radians(v) for v in (yaw, pitch, roll))
    # the nose (-z) goes to the image's right (+x) for a positive yaw
    about_y = np.array([[math.cos(y), 0, -math.sin(y)], [0, 1, 0], [math.sin(y), 0, math.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, math.cos(p), -math.sin(p)], [0, math.sin(p), math.cos(p)]])
    about_z = np.array([[math.cos(r), -math.sin(r), 0], [math.sin(r), math.cos(r), 0], [0, 0, 1]])
    head = np.full((68, 3), np.nan)
    head[list(head_model.RIGID)] = head_model.HEAD
    head[[48, 54]] = (-40.9, 112.6, -12.3), (40.9, 112.6, -12.3)  # corners of the mouth, which say how large it is
    for eye, (a, b) in ((slice(36, 42), (36, 39)), (slice(42, 48), (42, 45))):
        missing = np.isnan(head[eye, 0])
        head[eye][missing] = (head[a] + head[b]) / 2
    turned = about_z @ about_y @ about_x  # roll comes last: it is the photograph that is turned in its plane
    seen = head @ turned.T + [0, 0, 100 * distance]
    return np.asarray(640 * seen[:, :2] / seen[:, 2:] + (319.5, 239.5))


@pytest.mark.parametrize("yaw", [-60, -49, -20, 0, 10, 35, 51, 75])
@pytest.mark.parametrize(("pitch", "roll"), [(0, 0), (12, 0), (0, 25)])
def test_the_yaw_of_a_projected_head_is_found(yaw: float, pitch: float, roll: float) -> None:
    assert quality.yaw(project(yaw, pitch, roll)) == pytest.approx(yaw, abs=2.5)


def test_where_in_the_picture_a_face_is_does_not_matter() -> None:
    points = project(30)
    for moved in (points + np.array([500, -200]), 0.3 * points):
        assert quality.yaw(moved) == pytest.approx(quality.yaw(points), abs=1e-3)


@pytest.mark.parametrize("distance", [6.0, 20.0, 100.0])
@pytest.mark.parametrize("yaw", [0, 30, 50])
def test_the_distance_of_the_camera_hardly_matters(distance: float, yaw: float) -> None:
    assert quality.yaw(project(yaw, distance=distance)) == pytest.approx(yaw, abs=5)


def test_pixels_of_noise_do_not_turn_the_head() -> None:
    noise = np.random.default_rng(0).normal(0, 0.5, (68, 2))
    assert quality.yaw(project(30, distance=10) + noise) == pytest.approx(30, abs=6)


def test_points_that_are_no_face_have_no_yaw() -> None:
    assert math.isnan(quality.yaw(np.zeros((68, 2))))
    assert math.isnan(quality.yaw(np.full((68, 2), np.nan)))


def test_the_thresholds_are_the_papers() -> None:
    fit = quality.passes([3.0, 2.99, 9.0, 9.0, np.nan, 9.0], [0.0, 0.0, -50.0, 50.1, 0.0, np.nan])
    assert fit.tolist() == [True, False, True, False, False, False]
    assert quality.reason(3.0, 50.0) == ""
    assert "2.90" in quality.reason(2.9, 0) and "-51" in quality.reason(9, -51)
    assert quality.reason(float("nan"), 0) and quality.reason(9, float("nan"))
