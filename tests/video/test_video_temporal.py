"""Scores over time against values worked out by hand and slow references: lag, frozen clips, flicker, events."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exprmetric.video.faces import smoothing, spool
from exprmetric.video.scores import events, temporal, trajectory

RATE = 25.0
TIMES = np.arange(200) / RATE


def course(seed: int = 0, count: int = 200, size: int = 5) -> npt.NDArray[np.float64]:
    """A smooth trajectory of an expression: slow sines of unrelated phases."""
    generator = np.random.default_rng(seed)
    t = np.arange(count)[:, None] / RATE
    waves = (np.sin(2 * math.pi * (f * t + generator.uniform(0, 1, size))) for f in (0.3, 0.8, 1.7))
    return np.asarray(sum(waves) * generator.uniform(1, 2, size))


# pairing


def test_the_first_frames_are_paired_by_index() -> None:
    a, b = temporal.pair_by_index(3, 5)
    assert a.tolist() == b.tolist() == [0, 1, 2]


def test_frames_are_paired_by_time() -> None:
    a, b = temporal.pair_by_time(np.arange(50) / 25, np.arange(60) / 30)
    assert len(a) == len(b) == 50 and a.tolist() == list(range(50))
    assert np.abs(a / 25 - b / 30).max() <= 0.5 / 30 + 1e-9
    # every second frame was dropped: those that are left find theirs, the others nobody
    a, b = temporal.pair_by_time(np.arange(50) / 25, np.arange(25) / 12.5)
    assert a.tolist() == list(range(0, 50, 2)) and b.tolist() == list(range(25))


def test_frames_far_from_all_others_have_no_partner() -> None:
    a, b = temporal.pair_by_time([0.0, 0.04, 0.08, 5.0], [0.0, 0.041, 0.08])
    assert a.tolist() == [0, 1, 2] and b.tolist() == [0, 1, 2]
    assert [len(v) for v in temporal.pair_by_time([], [0.0])] == [0, 0]


@given(
    st.lists(st.floats(0, 100), min_size=1, max_size=30, unique=True),
    st.lists(st.floats(0, 100), min_size=1, max_size=30, unique=True),
)
def test_a_frame_has_one_partner_at_most(x: list[float], y: list[float]) -> None:
    a, b = temporal.pair_by_time(sorted(x), sorted(y))
    assert (np.diff(a) > 0).all() and (np.diff(b) > 0).all()


def test_a_grid_has_the_step_of_the_frames_that_are_there() -> None:
    there = np.zeros(50, bool)
    there[0:20:2] = there[30:50:2] = True  # every second frame, and a stretch without
    even = trajectory.grid(np.arange(50) / 25, there)
    assert even.rate == pytest.approx(12.5) and even.times == pytest.approx(np.arange(25) / 12.5)
    spread = even.spread(np.arange(50.0))
    assert np.array_equal(spread, [*range(0, 20, 2), *[np.nan] * 5, *range(30, 50, 2)], equal_nan=True)
    uneven = trajectory.grid([0.0, 0.03, 0.08, 0.12, 0.37], [True] * 5)
    assert uneven.places.tolist() == [0, 1, 2, 3, 9]
    assert len(trajectory.grid([], []).times) == 0 and math.isnan(trajectory.grid([3.0], [True]).rate)


# correlation and lag


def test_correlation_of_one_component_is_pearsons() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 40))
    assert temporal.correlation(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1])


def test_correlation_does_not_depend_on_the_axes_of_the_space() -> None:
    x, y = course(0), course(1) + course(0)
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(5, 5)))
    assert temporal.correlation(x @ turn, y @ turn) == pytest.approx(temporal.correlation(x, y))
    assert temporal.correlation(x, 3 * x + 7) == pytest.approx(1)
    assert temporal.correlation(x, -x) == pytest.approx(-1)


def test_components_are_correlated_one_by_one() -> None:
    x, y = course(0), course(0)
    y[:, 1] *= -1
    y[:, 2] = 4.0
    x[:, 3] = 4.0
    found = temporal.component_correlations(x, y)
    assert found[[0, 1, 2, 4]] == pytest.approx([1, -1, 0, 1]) and np.isnan(found[3])


def test_what_stands_still_is_told_apart_from_what_is_not_known() -> None:
    x = course()
    still = np.full_like(x, 0.1)
    assert temporal.correlation(x, still) == 0 and temporal.amplitude(x, still) == 0
    assert math.isnan(temporal.correlation(still, x)) and math.isnan(temporal.amplitude(still, x))
    gone = np.full_like(x, np.nan)
    assert math.isnan(temporal.correlation(x, gone)) and math.isnan(temporal.dtw(x, gone, 5))
    assert temporal.lag(x, gone, 10) is None and temporal.lag(x, still, 10) is None


def test_unknown_frames_are_left_out() -> None:
    x, y = course(0), course(0) + course(1)
    x[20:30] = np.nan
    y[100] = np.nan
    rows = np.r_[0:20, 30:100, 101:200]
    assert temporal.correlation(x, y) == pytest.approx(temporal.correlation(x[rows], y[rows]))
    assert temporal.amplitude(x, y) == pytest.approx(temporal.amplitude(x[rows], y[rows]))


@pytest.mark.parametrize("shift", [-12, -1, 0, 1, 7, 25])
def test_a_shift_is_found(shift: int) -> None:
    x = course(count=300)
    late = x[40 - shift : 240 - shift]
    found = temporal.lag(x[40:240], late, 25)
    assert found is not None
    assert found.frames == shift and found.correlation == pytest.approx(1)
    assert found.at_zero == pytest.approx(temporal.correlation(x[40:240], late))
    assert (found.at_zero < 0.9) == (abs(shift) > 1)


def test_velocity_is_change_a_second() -> None:
    found = temporal.velocity([[0.0], [1.0], [np.nan], [3.0]], [0.0, 0.5, 0.6, 0.7])
    assert found[0, 0] == 2 and np.isnan(found[1:]).all()


def test_movement_is_the_distance_from_the_mean() -> None:
    square = np.tile([[0.0, 0.0], [6.0, 8.0]], (10, 1))
    assert temporal.movement(square) == pytest.approx(5) and temporal.movement(square + 7) == pytest.approx(5)
    assert math.isnan(temporal.movement(square[:5])) and temporal.movement(np.ones(9)) == 0


def test_amplitude_is_the_ratio_of_movements() -> None:
    assert temporal.amplitude(course(), 0.25 * course() + 3) == pytest.approx(0.25)


# dynamic time warping


def slow_dtw(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], band: int) -> float:
    n, m = len(x), len(y)
    table = np.full((n, m), np.inf)
    for i in range(n):
        for j in range(m):
            if abs(i - j) > band + abs(n - m):
                continue
            cost = float(np.linalg.norm(x[i] - y[j]))
            if i == j == 0:
                table[0, 0] = 2 * cost
            else:
                ways = [table[i - 1, j] + cost] if i else []
                ways += [table[i, j - 1] + cost] if j else []
                ways += [table[i - 1, j - 1] + 2 * cost] if i and j else []
                table[i, j] = min(ways)
    return float(table[-1, -1] / (n + m))


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 6), st.integers(0, 99))
def test_warping_is_that_of_the_slow_reference(n: int, m: int, band: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    x, y = generator.normal(size=(n, 2)), generator.normal(size=(m, 2))
    assert temporal.dtw(x, y, band) == pytest.approx(slow_dtw(x, y, band))


def test_warping_by_hand() -> None:
    assert temporal.dtw([0.0, 1.0, 2.0], [0.0, 1.0, 2.0], 1) == 0
    assert temporal.dtw([0.0, 0.0, 1.0], [0.0, 1.0, 1.0], 1) == 0  # the same, told at another pace
    assert temporal.dtw([0.0, 0.0, 1.0], [0.0, 1.0, 1.0], 0) == pytest.approx(1 / 3)  # no warping: the mean distance
    assert temporal.dtw(np.zeros((9, 2)), np.full((9, 2), [3.0, 4.0]), 3) == pytest.approx(5)  # a constant distance


# flicker


def test_the_energy_of_a_sine_is_half_its_square() -> None:
    t = np.arange(500) / RATE
    fast, slow = np.sin(2 * math.pi * 9 * t), np.sin(2 * math.pi * 1 * t)
    assert temporal.high_energy(0.6 * fast, RATE) == pytest.approx(0.18, rel=0.02)
    assert temporal.high_energy(slow + 3 + 0.1 * t, RATE) < 1e-4
    assert temporal.high_energy(np.stack([0.6 * fast, 0.8 * fast], 1), RATE) == pytest.approx(0.5, rel=0.02)


def test_flicker_is_the_ratio_in_decibels() -> None:
    generator = np.random.default_rng(0)
    x, noise = course(count=500), generator.normal(0, 0.05, (500, 5))
    assert temporal.flicker(x + noise, x + noise, RATE) == 0
    assert temporal.flicker(x + noise, x + 10 * noise, RATE) == pytest.approx(20, abs=1)
    assert temporal.flicker(x + 10 * noise, x + noise, RATE) == pytest.approx(-20, abs=1)
    assert math.isnan(temporal.flicker(x, x + noise, 10.0))  # ten frames a second hold nothing above 5 Hz
    gaps = x + noise
    gaps[::6] = np.nan
    assert math.isnan(temporal.flicker(gaps, x, RATE))  # no run is long enough


def test_an_offset_or_a_slow_change_is_no_flicker() -> None:
    noise = np.random.default_rng(0).normal(0, 0.05, (500, 5))
    x = course(count=500) + noise
    assert temporal.flicker(x, x + 5 + np.linspace(0, 3, 500)[:, None], RATE) == pytest.approx(0, abs=0.1)


# events


def bumps(at: list[float], height: float = 1.0) -> npt.NDArray[np.float64]:
    return np.asarray(sum((height * np.exp(-(((TIMES - t) / 0.08) ** 2)) for t in at), np.zeros_like(TIMES)))


def test_a_missed_blink_and_an_added_one() -> None:
    found = events.compare(bumps([1, 2.6, 4, 6]), bumps([1.1, 4, 5, 6]), TIMES)
    assert found.target == pytest.approx([1, 2.6, 4, 6], abs=0.03)
    assert found.missed == pytest.approx([2.6], abs=0.03) and found.added == pytest.approx([5], abs=0.03)
    assert (found.recall, found.precision) == (0.75, 0.75)


def test_a_frozen_swap_has_no_events_and_a_faint_one_too_few() -> None:
    target = bumps([1, 2.6, 4, 6])
    frozen = events.compare(target, np.full_like(target, 0.3), TIMES)
    assert frozen.recall == 0 and math.isnan(frozen.precision)
    assert events.compare(target, 0.2 * target, TIMES).recall == 0
    assert events.compare(target, 0.8 * target, TIMES).recall == 1


def test_noise_of_a_face_at_rest_is_no_event() -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, len(TIMES))
    assert events.noise(noise) == pytest.approx(0.01, rel=0.2)
    assert events.noise(bumps([1, 4])) < 1e-3 and events.noise([1.0, 2.0]) == 0
    for least in (0.0, 0.1):
        rest = events.compare(noise, noise, TIMES, least=least)
        assert len(rest.target) <= (least == 0) and (len(rest.target) > 0 or math.isnan(rest.recall))
    assert events.compare(bumps([1, 4]) + noise, bumps([1, 4]), TIMES).recall == 1


def test_events_match_one_to_one() -> None:
    found = events.match([1.0, 1.1], [1.05], 0.2)
    assert len(found.missed) == 1 and len(found.added) == 0
    # the first partner must not take the second's
    assert events.match([1.0, 1.3], [0.85, 1.15], 0.2).recall == 1
    assert events.match([1.0], [1.2], 0.2).recall == 1 and events.match([1.0], [1.21], 0.2).recall == 0


def test_peaks_beside_unknown_frames_do_not_count() -> None:
    signal = bumps([1, 4])
    signal[20:25] = np.nan  # the first peak's top is not known
    assert (events.peaks(signal, 0.3) / RATE).tolist() == pytest.approx([4], abs=0.03)


def test_landmark_signals_by_hand() -> None:
    points = np.zeros((1, 68, 2))
    for o, x in ((36, 0.0), (42, 60.0)):  # two eyes 20 wide and 8 open
        points[0, [o, o + 3]] = [(x, 0), (x + 20, 0)]
        points[0, [o + 1, o + 2]] = [(x + 5, -4), (x + 15, -4)]
        points[0, [o + 5, o + 4]] = [(x + 5, 4), (x + 15, 4)]
    points[0, [48, 54, 62, 66]] = [(20, 50), (60, 50), (40, 46), (40, 54)]
    found = events.landmark_signals(points)
    assert found["blink"] == pytest.approx([1 - 8 / 20])
    assert found["smile"] == pytest.approx([40 / 80]) and found["jaw_open"] == pytest.approx([8 / 80])


def test_intensity_is_the_distance_from_the_usual_face() -> None:
    x = np.zeros((9, 2))
    x[4], x[7] = (3, 4), np.nan
    assert events.intensity(x)[[0, 4]].tolist() == [0, 5] and np.isnan(events.intensity(x)[7])


# smoothing


def test_smoothing_has_no_lag_and_keeps_constant_acceleration() -> None:
    t = np.arange(30.0)
    parabola = {i: np.array([[2 * v**2 - 7 * v, 5 - v]]) for i, v in enumerate(t)}
    for i in parabola:
        assert smoothing.smoothed(parabola, i) == pytest.approx(parabola[i])
    step = {i: np.array([[float(i >= 15), 0.0]]) for i in range(30)}
    values = np.array([smoothing.smoothed(step, i)[0, 0] for i in range(30)])
    assert values[:15] == pytest.approx(1 - values[15:][::-1])  # symmetric about the step


def test_smoothing_takes_jitter_down() -> None:
    noise = np.random.default_rng(0).normal(size=(5000, 1, 2))
    points = dict(enumerate(noise))
    inside = np.array([smoothing.smoothed(points, i) for i in range(10, 4990)])
    assert inside.std() == pytest.approx(math.sqrt(7 / 21), rel=0.05)
    assert smoothing.kernel(3) == pytest.approx(np.array([-2, 3, 6, 7, 6, 3, -2]) / 21)


def test_smoothing_does_not_reach_over_gaps() -> None:
    points = {i: np.array([[float(i), 1000.0 * (i > 10)]]) for i in range(20) if i != 10}
    found = [smoothing.smoothed(points, i)[0, 1] for i in (7, 8, 9, 11, 12, 13)]
    assert found == pytest.approx([0, 0, 0, 1000, 1000, 1000])


def test_a_jump_ends_a_path() -> None:
    path, found = smoothing.Path(), []
    eyes = np.array([[0.0, 0.0], [40.0, 0.0]])
    paths = []
    for i in range(20):
        path = path.extended(i, eyes + (i % 2) + (500.0 * (i >= 10), 0))
        paths.append(path)
        if i >= smoothing.HALF:
            found.append(paths[i - smoothing.HALF].smoothed(i - smoothing.HALF)[0, 0])
    assert max(found[:10]) <= 1.2 and min(found[10:]) >= 499.8
    assert path.extended(25, eyes) is not path  # frames without the face end it as well


# long videos


def scores_of(target: object, swapped: object, times: np.ndarray) -> dict[str, object]:
    """All that is said of two trajectories."""
    return {
        "correlation": temporal.correlation(target, swapped),
        "velocity": temporal.velocity_correlation(target, swapped, times),
        "components": temporal.component_correlations(target, swapped).tolist(),
        "movement": temporal.movement(target),
        "amplitude": temporal.amplitude(target, swapped),
        "lag": vars(temporal.lag(target, swapped, 9)),
        "dtw": temporal.dtw(target, swapped, 5),
        "flicker": temporal.flicker(target, swapped, 25.0),
        "intensity": events.intensity(target).tolist(),
    }


def test_scores_do_not_depend_on_how_trajectories_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    columns = rng.normal(size=(2, 90, 11)).astype(np.float32).cumsum(axis=1)
    columns[0, 40] = np.nan  # a face that can't be read
    rows = np.arange(80)
    rows[30:33] = rows[60] = -1
    whole = [np.where((rows >= 0)[:, None], c[rows], np.nan).astype(np.float64) for c in columns]
    expected = scores_of(*whole, np.arange(80) / 25)
    speed = [temporal.velocity(w, np.arange(80) / 25) for w in whole]
    assert expected["velocity"] == temporal.correlation(*speed)
    read = [trajectory.Along.of(c, rows) for c in columns]
    assert np.array_equal(trajectory.known(*read), trajectory.known(*whole))
    np.testing.assert_equal(scores_of(*read, np.arange(80) / 25), expected)  # bit by bit
    monkeypatch.setattr(trajectory, "_NUMBERS", 200)  # two components at a time
    monkeypatch.setattr(trajectory, "_AHEAD", 4)
    monkeypatch.setattr(spool, "BLOCK", 16)
    assert len(list(trajectory.parts(*read))) == 6
    for some in (read, whole):
        found = scores_of(*some, np.arange(80) / 25)
        assert found.pop("lag") == pytest.approx(expected["lag"])
        for name, value in found.items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-12, err_msg=name)
