"""Events of an expression, such as a blink or a smile: peaks of a signal, and whether a swap has them too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exprmetric.video.scores.temporal import PROMINENCE, TOLERANCE
from exprmetric.video.scores.trajectory import Trajectory, known, one, parts, runs

Floats = npt.NDArray[np.float64]

BLENDSHAPE_SIGNALS = {
    "blink": ("eyeBlinkLeft", "eyeBlinkRight"),
    "smile": ("mouthSmileLeft", "mouthSmileRight"),
    "jaw_open": ("jawOpen",),
    "brows_up": ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
}
"""Events by the blendshapes whose mean is their signal."""
LANDMARK_SIGNALS = ("blink", "smile", "jaw_open")
"""Events that landmarks tell of."""

NOISE = 5.0
"""Least prominence of an event, in standard deviations of the noise from frame to frame."""


@dataclass(frozen=True, eq=False)
class Events:
    """Which events of the target the swap has.

    Attributes:
        target: times of the target's peaks, s.
        swapped: times of the swap's peaks, s.
        missed: times of the target's that the swap has not.
        added: times of the swap's that the target has not.
    """

    target: Floats
    swapped: Floats
    missed: Floats
    added: Floats

    @property
    def recall(self) -> float:
        """Share of the target's events that the swap has, 0..1; NaN when the target has none."""
        return 1 - len(self.missed) / len(self.target) if len(self.target) else float("nan")

    @property
    def precision(self) -> float:
        """Share of the swap's events that the target has, 0..1; NaN when the swap has none."""
        return 1 - len(self.added) / len(self.swapped) if len(self.swapped) else float("nan")


def peaks(signal: npt.ArrayLike, prominence: float) -> npt.NDArray[np.intp]:
    """Indices of the peaks of a (N,) signal that stand out by `prominence`; none touches an unknown (NaN) frame."""
    from scipy.signal import find_peaks

    values = np.asarray(signal, np.float64)
    found = [run.start + find_peaks(values[run], prominence=prominence)[0] for run in runs(known(values))]
    return np.concatenate(found).astype(np.intp) if found else np.empty(0, np.intp)


def match(target: npt.ArrayLike, swapped: npt.ArrayLike, tolerance: float = TOLERANCE) -> Events:
    """Pair events one to one, as many as can be.

    Args:
        target: times of the target's events, s, in order.
        swapped: times of the swap's events, s, in order.
        tolerance: how far apart two of a pair may be, s.
    """
    a, b = np.asarray(target, np.float64), np.asarray(swapped, np.float64)
    hit_a, hit_b = np.zeros(len(a), bool), np.zeros(len(b), bool)
    i = j = 0
    while i < len(a) and j < len(b):  # the earliest that fits never takes away a better partner
        if abs(a[i] - b[j]) <= tolerance + 1e-9:
            hit_a[i] = hit_b[j] = True
            i, j = i + 1, j + 1
        elif a[i] < b[j]:
            i += 1
        else:
            j += 1
    return Events(a, b, a[~hit_a], b[~hit_b])


def compare(
    target: npt.ArrayLike,
    swapped: npt.ArrayLike,
    times: npt.ArrayLike,
    *,
    prominence: float = PROMINENCE,
    least: float = 0.0,
    tolerance: float = TOLERANCE,
) -> Events:
    """Events of two (N,) signals over the frames known of both.

    An event stands out by `prominence`, by `least` and from the noise of the target's signal, whichever asks for most;
    the same height counts for the swap, and the swap's own noise: a trembling face keeps no smile.

    Args:
        prominence: in ranges (5th to 95th percentile) of the target's signal.
        least: in units of the signal.
        tolerance: s.
    """
    a, b, when = (np.asarray(v, np.float64) for v in (target, swapped, times))
    rows = known(a, b)
    if not rows.any():
        return match([], [], tolerance)
    low, high = np.percentile(a[rows], [5, 95])
    height = max(prominence * float(high - low), least, NOISE * noise(a), 1e-12)
    x, y = (np.where(rows, v, np.nan) for v in (a, b))
    return match(when[peaks(x, height)], when[peaks(y, max(height, NOISE * noise(b)))], tolerance)


def noise(signal: npt.ArrayLike) -> float:
    """Standard deviation of what changes from frame to frame, robustly: of the second differences of a (N,) signal,
    their median size, in the unit in which it is the deviation for white noise. 0 for fewer than three frames.
    """
    bends = np.diff(np.asarray(signal, np.float64), 2)
    bends = np.abs(bends[np.isfinite(bends)])
    return float(1.4826 * np.median(bends) / np.sqrt(6)) if len(bends) else 0.0


def intensity(trajectory: Trajectory) -> Floats:
    """(N,) Euclidean distance of each frame from the median of the trajectory: how far from the usual expression."""
    x = one(trajectory)
    rows = known(x)
    if not rows.any():
        return np.full(len(rows), np.nan)
    squares = sum((((a - np.median(a[rows], axis=0)) ** 2).sum(1) for (a,) in parts(x)), np.zeros(len(rows)))
    return np.asarray(np.sqrt(squares))


def landmark_signals(landmarks: npt.ArrayLike) -> dict[str, Floats]:
    """`LANDMARK_SIGNALS` out of (N, 68, 2) dlib points, each without unit and higher for more.

    Blink: 1 - the opening of the eyes over their width (Soukupova, Cech 2016), over both eyes. Smile: the width of the
    mouth; jaw: the opening between the lips; both over the distance of the outer eye corners.
    """
    p = np.asarray(landmarks, np.float64)

    def apart(i: int, j: int) -> Floats:
        return np.asarray(np.linalg.norm(p[:, i] - p[:, j], axis=1))

    def opening(o: int) -> Floats:
        return (apart(o + 1, o + 5) + apart(o + 2, o + 4)) / (2 * apart(o, o + 3))

    face = apart(36, 45)
    return {
        "blink": 1 - (opening(36) + opening(42)) / 2,
        "smile": apart(48, 54) / face,
        "jaw_open": apart(62, 66) / face,
    }


def blendshape_signals(blendshapes: npt.ArrayLike, names: tuple[str, ...]) -> dict[str, Floats]:
    """The signals of `BLENDSHAPE_SIGNALS` out of (N, 52) scores."""
    scores: Mapping[str, Floats] = dict(zip(names, np.asarray(blendshapes, np.float64).T, strict=True))
    return {name: np.mean([scores[part] for part in parts], axis=0) for name, parts in BLENDSHAPE_SIGNALS.items()}
