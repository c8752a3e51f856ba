"""Paper 003's warp: equation (1) pixel by pixel, where points go, and how it scales."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
import torch

from exprmetric.training.warping import (
    CENTRE,
    RADIUS,
    STEP_SQUARED,
    STEPS,
    STRENGTH,
    Warps,
    draw_warps,
    move_points,
    sources,
    to_input,
    warp_images,
)

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def warp(*each: tuple[tuple[float, float], tuple[float, float], float, float]) -> Warps:
    """Warps of one face: centre, end, radius, strength."""
    centres, ends, radii, strengths = (torch.tensor([values]) for values in zip(*each, strict=True))
    return Warps(centres.float(), (ends - centres).float(), radii.float(), strengths.float())


def source(x: npt.NDArray[np.float64], c: npt.ArrayLike, m: npt.ArrayLike, r: float, strength: float) -> np.ndarray:
    """Equation (1) for one point, as printed where strength is 100."""
    c, m = np.asarray(c, float), np.asarray(m, float)
    distance = np.linalg.norm(x - c)
    if distance >= r:
        return x
    top = r**2 - distance**2
    return x - (top / (top + 100 / strength * np.linalg.norm(m - c) ** 2)) ** 2 * (m - c)


def pixel(image: npt.NDArray[np.float64], at: npt.NDArray[np.float64]) -> float:
    """Bilinear, the border repeated."""
    height, width = image.shape
    x, y = np.clip(at, 0, (width - 1, height - 1))
    left, top = min(int(x), width - 2), min(int(y), height - 2)
    fx, fy = x - left, y - top
    upper = image[top, left] * (1 - fx) + image[top, left + 1] * fx
    lower = image[top + 1, left] * (1 - fx) + image[top + 1, left + 1] * fx
    return float(upper * (1 - fy) + lower * fy)


CASES = [
    pytest.param([((12.0, 9.0), (14.5, 8.0), 7.0, 100.0)], id="one"),
    pytest.param([((12.0, 9.0), (14.5, 8.0), 7.0, 300.0)], id="strong"),
    pytest.param([((2.0, 3.0), (-1.0, 1.5), 8.0, 150.0)], id="over the border"),
    pytest.param([((10.0, 9.0), (12.0, 9.0), 8.0, 200.0), ((13.0, 11.0), (12.0, 8.5), 6.0, 150.0)], id="two"),
]


@pytest.mark.parametrize("each", CASES)
def test_a_warped_image_is_equation_1_pixel_by_pixel(each):
    image = np.random.default_rng(0).random((20, 26))
    warped = np.empty_like(image)
    for y, x in np.ndindex(image.shape):
        at = np.array([x, y], float)
        for c, m, r, strength in reversed(each):
            at = source(at, c, m, r, strength)
        warped[y, x] = pixel(image, at)
    found = warp_images(torch.from_numpy(image).float()[None, None], warp(*each))[0, 0].numpy()
    assert np.abs(found - image).max() > 0.1
    np.testing.assert_allclose(found, warped, atol=2e-5)


def test_hand_worked_displacements():
    """r² = 100, |m - c|² = 4: at the centre (100/104)² of the step, at half the radius (75/79)², at the circle none."""
    places = torch.tensor([[[20.0, 20.0], [20.0, 25.0], [20.0, 30.0], [31.0, 20.0]]])
    one = warp(((20.0, 20.0), (22.0, 20.0), 10.0, 100.0))
    moved = (places - sources(places, one))[0]
    expected = torch.tensor([[2 * (100 / 104) ** 2, 0.0], [2 * (75 / 79) ** 2, 0.0], [0.0, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=0)
    stronger = warp(((20.0, 20.0), (22.0, 20.0), 10.0, 200.0))  # k = 1/2
    assert (places - sources(places, stronger))[0, 0, 0].item() == pytest.approx(2 * (100 / 102) ** 2, abs=1e-5)


def test_outside_the_circle_nothing_changes_to_the_bit():
    images = torch.rand(3, 1, 40, 40, generator=generator())
    warps = draw_warps(3, generator(1), n=1, size=40, crop=224)
    warped = warp_images(images, warps)
    y, x = torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij")
    for i in range(3):
        distance = ((x - warps.centres[i, 0, 0]) ** 2 + (y - warps.centres[i, 0, 1]) ** 2).sqrt()
        outside = distance > warps.radii[i, 0]
        assert outside.any() and torch.equal(warped[i, 0][outside], images[i, 0][outside])
        assert not torch.equal(warped[i, 0][~outside], images[i, 0][~outside])


def test_no_step_is_no_warp_even_on_the_circle():
    images = torch.rand(1, 1, 30, 30, generator=generator())
    still = warp(((15.0, 15.0), (15.0, 15.0), 10.0, 150.0))
    assert torch.equal(warp_images(images, still), images)
    points = torch.tensor([[[25.0, 15.0], [15.0, 15.0], [15.0, 5.0]]])
    assert torch.equal(move_points(points, still), points)


def test_each_face_has_its_own_warps_and_they_pass_a_gradient():
    images = torch.rand(4, 2, 32, 32, generator=generator()).requires_grad_()
    warps = draw_warps(4, generator(2), size=32, crop=224)
    together = warp_images(images, warps)
    for i in range(4):
        own = Warps(*(v[i : i + 1] for v in (warps.centres, warps.steps, warps.radii, warps.strengths)))
        torch.testing.assert_close(warp_images(images[i : i + 1], own)[0], together[i])
    together.sum().backward()
    assert torch.isfinite(images.grad).all()


def test_points_arrive_where_a_dense_search_finds_them():
    """Roots of (1) along m - c, in float64; the stated bound, and float32's rounding at 200 px."""
    warps = draw_warps(40, generator(3), n=1, size=224, crop=224)
    points = 224 * torch.rand(40, 60, 2, generator=generator(4))
    moved = move_points(points, warps)
    s = np.linspace(0, 1, 20_001)
    inside = 0
    for i in range(40):
        c, step = warps.centres[i, 0].double().numpy(), warps.steps[i, 0].double().numpy()
        r, strength = float(warps.radii[i, 0]), float(warps.strengths[i, 0])
        for p, found in zip(points[i].double().numpy(), moved[i].double().numpy(), strict=True):
            distance = np.linalg.norm(p - c)
            if distance >= r:
                assert np.array_equal(found, p)
                continue
            if distance > r - 0.05:
                continue  # one of three
            inside += 1
            top = (r**2 - ((p + s[:, None] * step - c) ** 2).sum(1)).clip(0)
            difference = s - (top / (top + 100 / strength * (step**2).sum())) ** 2
            (root,) = np.flatnonzero((difference[:-1] < 0) & (difference[1:] >= 0))
            low, high = s[root], s[root + 1]
            for _ in range(40):
                middle = (low + high) / 2
                short = middle < share(p + middle * step, c, step, r, strength)
                low, high = (middle, high) if short else (low, middle)
            bound = np.linalg.norm(step) * 2.0**-STEPS + 1e-4
            assert np.linalg.norm(found - (p + low * step)) < bound
    assert inside > 300 and STEPS >= 20


def share(x: npt.NDArray[np.float64], c: npt.NDArray[np.float64], step: npt.NDArray[np.float64], r: float, k: float):
    top = max(r**2 - float(((x - c) ** 2).sum()), 0.0)
    return (top / (top + 100 / k * float((step**2).sum()))) ** 2


def test_content_comes_from_where_points_came_from_through_several_warps():
    warps = draw_warps(50, generator(5), n=3, size=224, crop=224)
    points = 40 + 120 * torch.rand(50, 68, 2, generator=generator(6))
    warps, points = Warps(*(v.double() for v in vars(warps).values())), points.double()
    moved = move_points(points, warps)
    assert ((moved - points).norm(dim=-1) > 5).float().mean() > 0.3
    steepest = 16.0**3  # |du/dx| of a warp is below 16
    assert (sources(moved, warps) - points).norm(dim=-1).max() < steepest * 15 * 2.0**-STEPS


def test_a_bright_dot_moves_to_where_its_point_moves():
    size, n = 96, 40
    warps = draw_warps(n, generator(7), n=2, size=size, crop=224)
    points = to_input(60 + 90 * torch.rand(n, 1, 2, generator=generator(8)), size=size, crop=224)
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    grid = torch.stack([x, y], -1).float()
    dots = torch.exp(-((grid - points[:, :, None]) ** 2).sum(-1) / (2 * 1.2**2))[:, None]
    warped, moved = warp_images(dots, warps), move_points(points, warps)[:, 0]
    tried = 0
    for i in range(n):
        rims = (points[i] - warps.centres[i]).norm(dim=-1) - warps.radii[i]
        if rims.abs().min() < 8:
            continue  # at a rim the dot is torn or squeezed
        tried += 1
        mass = warped[i, 0] / warped[i, 0].sum()
        centre = (mass[..., None] * grid).sum((0, 1))
        assert (centre - moved[i]).norm() < 0.6
        if (moved[i] - points[i, 0]).norm() > 3:
            assert (centre - points[i, 0]).norm() > 2.4
    assert tried > 8


def test_drawn_numbers_are_the_papers_and_scale_with_the_input():
    warps = draw_warps(4000, generator(), n=2, size=224, crop=224)
    for values, (low, high) in (
        (warps.centres, CENTRE),
        ((warps.steps**2).sum(-1), STEP_SQUARED),
        (warps.radii, RADIUS),
        (warps.strengths, STRENGTH),
    ):
        assert values.shape[:2] == (4000, 2)
        assert low - 1e-3 <= values.min() and values.max() <= high + 1e-3
        assert values.mean() == pytest.approx((low + high) / 2, rel=0.01)
        assert values.std() == pytest.approx((high - low) / math.sqrt(12), rel=0.03)
    angle = torch.atan2(warps.steps[..., 1], warps.steps[..., 0])
    assert torch.histc(angle, 8, -math.pi, math.pi).min() > 850
    small = draw_warps(4000, generator(), n=2, size=64, crop=176)
    torch.testing.assert_close(small.radii, warps.radii * 64 / 176)
    torch.testing.assert_close(small.steps**2, warps.steps**2 * (64 / 176) ** 2)
    torch.testing.assert_close(small.centres, (warps.centres + 0.5 - 24) * 64 / 176 - 0.5)
    assert torch.equal(small.strengths, warps.strengths)


def test_a_warp_at_another_size_moves_the_same_point_of_the_face():
    """Equation (1) has no scale but its own lengths: 224 px of the crop and any input tell the same story."""
    points = 40 + 140 * torch.rand(30, 68, 2, generator=generator(9))
    full = move_points(points, draw_warps(30, generator(10), size=224, crop=224))
    small = move_points(to_input(points, size=64, crop=176), draw_warps(30, generator(10), size=64, crop=176))
    near = (small - to_input(full, size=64, crop=176)).norm(dim=-1)
    assert near.median() < 1e-4 and (near < 1e-2).float().mean() > 0.99  # a rounding can cross a rim


def test_centres_at_landmarks_are_the_faces_own():
    landmarks = 64 * torch.rand(500, 68, 2, generator=generator(11))
    warps = draw_warps(500, generator(12), n=3, size=64, crop=224, landmarks=landmarks)
    match = (warps.centres[:, :, None] == landmarks[:, None]).all(-1)  # (B, n, 68)
    assert match.any(-1).all()
    assert match.float().sum((0, 1)).min() > 5  # each of the 68 is chosen


def test_points_of_the_crop_land_on_the_same_pixels_as_its_images():
    """The corner pixels of the centre `crop` px are those of the input, px being squares around whole numbers."""
    for size, crop in ((224, 224), (64, 176), (48, 200)):
        first, last = (224 - crop) / 2 - 0.5, (224 + crop) / 2 - 0.5  # outer edges
        edges = to_input(torch.tensor([[first, last]]), size=size, crop=crop)
        torch.testing.assert_close(edges, torch.tensor([[-0.5, size - 0.5]]))


def test_the_warp_folds_only_at_the_side_that_content_leaves():
    """What the docstring says of mirages: along the axis, places ahead of the centre keep their order, others don't."""
    one = warp(((112.0, 112.0), (112.0 + math.sqrt(150), 112.0), 50.0, 200.0))
    t = torch.linspace(62, 162, 2001)
    u = sources(torch.stack([t, torch.full_like(t, 112.0)], 1)[None], one)[0, :, 0].tolist()
    rising = [b > a for a, b in pairwise(u)]
    assert all(rising[1000:]) and not all(rising[:1000])
    assert 54 < min(u) < 62
