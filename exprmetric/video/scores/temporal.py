"""What a swap keeps of an expression's course over time. Pure functions on arrays; NumPy and SciPy alone.

A trajectory is (N, D): a method's vector in each of N frames, NaN in every column where a frame has none. Two
trajectories that are compared are paired frame by frame (see `partners`); nothing is shifted on the way, so a swap that
comes late loses, and `lag` says by how much it does.

Long trajectories (`Along`) are read some components at a time, or some frames: the memory that a score takes does not
grow with the length of a video times the components of a method.

Where the target does not move there is nothing to follow, and scores are NaN. Where the target moves and the swap does
not, correlations are 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exprmetric.video.scores.trajectory import Along, Known, Trajectory, known, one, parts, runs

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

MAX_LAG = 1.0
"""Seconds that `lag` looks ahead and back."""
CUTOFF = 5.0
"""Hz; movement above it is taken for flicker: blinks and speech have little there."""
TOLERANCE = 0.2
"""Seconds that an event of the swap may be off."""
PROMINENCE = 0.4
"""Least prominence of an event, in ranges (5th to 95th percentile) of the target's signal."""
BAND = 0.5
"""Seconds that time may be warped by."""
_LEAST = 8
"""Frames that a statistic over time needs."""


def pair_by_index(target: int, swapped: int) -> tuple[Ints, Ints]:
    """Each frame with that of the same index, of two videos of this many frames; as `pair_by_time` gives pairs."""
    both = np.arange(min(target, swapped))
    return both, both


def pair_by_time(target: npt.ArrayLike, swapped: npt.ArrayLike) -> tuple[Ints, Ints]:
    """The frames that are nearest to each other in time.

    Args:
        target: (N,) times of the target's frames, s, increasing.
        swapped: (M,) times of the swap's frames, s, increasing.

    Returns:
        Two (P,) arrays of indices. A frame without a partner within half a frame step is in neither.
    """
    a, b = np.asarray(target, np.float64), np.asarray(swapped, np.float64)
    if not len(a) or not len(b):
        return np.empty(0, np.intp), np.empty(0, np.intp)
    there, back = _nearest(a, b), _nearest(b, a)
    steps = [float(np.median(np.diff(t))) for t in (a, b) if len(t) > 1]
    near = np.abs(a - b[there]) <= 0.5 * max(steps, default=np.inf) + 1e-9
    paired = np.flatnonzero((back[there] == np.arange(len(a))) & near)
    return paired, there[paired]


def _nearest(times: Floats, among: Floats) -> Ints:
    right = np.clip(np.searchsorted(among, times), 1, max(len(among) - 1, 1))
    left = right - 1
    right = np.minimum(right, len(among) - 1)
    return np.where(np.abs(among[left] - times) <= np.abs(among[right] - times), left, right)


def _both(a: Trajectory, b: Trajectory) -> tuple[Floats | Along, Floats | Along]:
    x, y = one(a), one(b)
    if x.shape != y.shape or len(x.shape) != 2:
        raise ValueError(f"expected two trajectories (N, D) of one shape, got {x.shape} and {y.shape}")
    return x, y


def correlation(target: Trajectory, swapped: Trajectory) -> float:
    """How far the swap moves when and where the target moves, over all components at once.

    The sum of the components' covariances over the root of the product of the sums of their variances: Pearson's
    correlation for D = 1, and the same for any rotation of the space.

    Returns:
        -1..1; 0 when the swap doesn't move, NaN when the target doesn't or fewer than 8 frames are known.
    """
    x, y = _both(target, swapped)
    rows = known(x, y)
    if rows.sum() < _LEAST:
        return float("nan")
    return _ratio(*sum((_moments(a[rows], b[rows]) for a, b in parts(x, y)), _NOTHING))


def _moments(x: Floats, y: Floats) -> Floats:
    """(3,) sums of the products of both without their means, of the squares of the one, and of the other."""
    x, y = _centred(x), _centred(y)
    return np.array([(x * y).sum(), (x**2).sum(), (y**2).sum()])


_NOTHING = np.zeros(3)


def _centred(x: Floats) -> Floats:
    x = x - x[:1]  # without the offset, whose rounding would give a constant a variance
    return np.asarray(x - x.mean(0))


def _ratio(product: float, first: float, second: float) -> float:
    if first <= 0:
        return float("nan")
    return float(np.clip(product / np.sqrt(first * second), -1, 1)) if second > 0 else 0.0


def component_correlations(target: Trajectory, swapped: Trajectory) -> Floats:
    """(D,) `correlation` of each component by itself."""
    x, y = _both(target, swapped)
    return np.array([correlation(a[:, d], b[:, d]) for a, b in parts(x, y) for d in range(a.shape[1])])


def velocity(trajectory: npt.ArrayLike, times: npt.ArrayLike) -> Floats:
    """(N - 1, D) change per second from each frame to the next; NaN where one of the two is not known."""
    x = np.asarray(trajectory, np.float64)
    steps = np.diff(np.asarray(times, np.float64))
    return np.asarray(np.diff(x, axis=0) / steps.reshape(-1, *[1] * (x.ndim - 1)))


def velocity_correlation(target: Trajectory, swapped: Trajectory, times: npt.ArrayLike) -> float:
    """`correlation` of the two trajectories' `velocity`.

    Args:
        times: (N,) s.
    """
    x, y = _both(target, swapped)
    rows = known(x, y)
    rows = rows[1:] & rows[:-1]
    if rows.sum() < _LEAST:
        return float("nan")
    found = (_moments(velocity(a, times)[rows], velocity(b, times)[rows]) for a, b in parts(x, y))
    return _ratio(*sum(found, _NOTHING))


def movement(trajectory: Trajectory) -> float:
    """How much there is to follow: root mean square distance from the mean, in the unit of the method's distances; NaN
    when fewer than 8 frames are known.
    """
    x = one(trajectory)
    rows = known(x)
    if rows.sum() < _LEAST:
        return float("nan")
    squares = sum(((_centred(a[rows]) ** 2).sum(1) for (a,) in parts(x)), np.zeros(rows.sum()))
    return float(np.sqrt(squares.mean()))


def amplitude(target: Trajectory, swapped: Trajectory) -> float:
    """How much the swap moves, over how much the target does: the ratio of the trajectories' standard deviations.

    Returns:
        0..inf; 1 = as much, 0 = frozen; NaN when the target doesn't move or fewer than 8 frames are known.
    """
    x, y = _both(target, swapped)
    rows = known(x, y)
    if rows.sum() < _LEAST:
        return float("nan")
    _, first, second = sum((_moments(a[rows], b[rows]) for a, b in parts(x, y)), _NOTHING)
    return float(np.sqrt(second / first)) if first > 0 else float("nan")


@dataclass(frozen=True)
class Lag:
    """By how much the swap comes later than the target.

    Attributes:
        frames: k with the best correlation between the target's frame t and the swap's frame t + k; positive = late.
        correlation: at k.
        at_zero: without a shift.
    """

    frames: int
    correlation: float
    at_zero: float


def lag(target: Trajectory, swapped: Trajectory, max_frames: int) -> Lag | None:
    """The shift at which the two trajectories agree best.

    Args:
        target: (N, D) or (N,).
        swapped: the same.
        max_frames: the largest shift that is tried; at least half of the frames must still overlap.

    Returns:
        None when no shift has a correlation: one of the two doesn't move, or too few frames are known.
    """
    x, y = _both(target, swapped)
    count = x.shape[0]
    reach = max(0, min(max_frames, count // 2))
    overlaps = {k: (slice(max(-k, 0), count - max(k, 0)), slice(max(k, 0), count - max(-k, 0))) for k in _near(reach)}
    first, second = known(x), known(y)
    rows = {k: first[a] & second[b] for k, (a, b) in overlaps.items()}
    sums = {k: _NOTHING for k in overlaps if rows[k].sum() >= _LEAST}
    for p, q in parts(x, y):
        for k in sums:
            a, b = overlaps[k]
            sums[k] = sums[k] + _moments(p[a][rows[k]], q[b][rows[k]])
    at = {k: _ratio(*sums[k]) if k in sums else float("nan") for k in overlaps}
    best = max(at, key=lambda k: (at[k] if np.isfinite(at[k]) else -np.inf, -abs(k)))
    if not np.isfinite(at[best]) or np.nanmax(np.abs(list(at.values()))) == 0:
        return None
    return Lag(best, at[best], at[0])


def _near(reach: int) -> range:
    return range(-reach, reach + 1)


def dtw(target: Trajectory, swapped: Trajectory, band: int) -> float:
    """Dynamic time warping: the mean distance of two trajectories along the warping of time that brings them nearest.

    Sakoe and Chiba's (1978) symmetric form without slope constraint: a step in both counts twice, the sum is divided by
    N + M. So trajectories at a constant distance have that distance.

    Args:
        target: (N, D), swapped: (M, D) or (N,), (M,); unknown frames are left out.
        band: how many frames (of those that are left) one may run ahead of the other, beyond the difference in length.

    Returns:
        0..inf, Euclidean; NaN when one has no known frame.
    """
    x, y = Known(target), Known(swapped)
    n, m = len(x), len(y)
    if not n or not m:
        return float("nan")
    width = max(band, 0) + abs(n - m)
    # cost[i] on the anti-diagonal i + j = s; of the two before it, all that a step needs
    one = np.full(n + 1, np.inf)
    two = np.full(n + 1, np.inf)
    for s in range(n + m - 1):
        low = max(0, s - m + 1, -(-(s - width) // 2))
        high = min(n - 1, s, (s + width) // 2)
        new = np.full(n + 1, np.inf)
        if low <= high:
            i = np.arange(low, high + 1)
            apart = np.sqrt(((x.between(low, high + 1) - y.between(s - high, s - low + 1)[::-1]) ** 2).sum(1))
            # index -1 is the last, which is never filled
            before = np.minimum(np.minimum(one[i], one[i - 1]) + apart, two[i - 1] + 2 * apart)
            new[i] = 2 * apart if s == 0 else before
        one, two = new, one
    return float(one[n - 1] / (n + m))


def high_energy(
    trajectory: Trajectory, rate: float, cutoff: float = CUTOFF, *, within: npt.NDArray[np.bool_] | None = None
) -> float:
    """Mean energy of the movement above a frequency, summed over components.

    Hann-windowed periodogram of each uninterrupted run of at least 8 known frames, without its straight trend; runs
    count by their length. A sine of amplitude A above the cut-off has A² / 2.

    Args:
        trajectory: (N, D) or (N,), one frame every 1 / rate seconds.
        rate: frames a second.
        cutoff: Hz.
        within: (N,) the frames that count; all that are known by default.

    Returns:
        In squared units of the trajectory; NaN without such a run, or where `rate` holds nothing above the cut-off.
    """
    from scipy.signal import detrend, get_window

    if not rate > 2 * cutoff:
        return float("nan")
    x = one(trajectory)
    rows = known(x) if within is None else within
    long = [run for run in runs(rows) if run.stop - run.start >= _LEAST]
    energy = 0.0
    for (part,) in parts(x) if long else ():
        for run in long:
            count = run.stop - run.start
            window = get_window("hann", count)
            spectrum = np.abs(np.fft.rfft(detrend(part[run], axis=0) * window[:, None], axis=0)) ** 2
            spectrum[1 : (count + 1) // 2] *= 2  # the negative frequencies
            high = np.fft.rfftfreq(count, 1 / rate) >= cutoff
            energy += float(spectrum[high].sum() / (window**2).sum() / count) * count
    return energy / sum(run.stop - run.start for run in long) if long else float("nan")


def flicker(target: Trajectory, swapped: Trajectory, rate: float, cutoff: float = CUTOFF) -> float:
    """High-frequency energy of the swap over the target's, dB: 0 = as much, 10 = ten times, -10 = a tenth.

    Only frames known of both count. NaN as in `high_energy`, and when the target has none; -inf is given as NaN too.
    """
    x, y = _both(target, swapped)
    rows = known(x, y)
    first, second = (high_energy(v, rate, cutoff, within=rows) for v in (x, y))
    return float(10 * np.log10(second / first)) if first > 0 and second > 0 else float("nan")
