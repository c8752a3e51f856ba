"""Smoothed alignment: the points that place a crop, filtered over time; the landmarks of the expression are not.

dlib's points stand on whole pixels and jitter, and every crop would jitter with them, which a method would read as
expression. The filter is Savitzky and Golay's (1964) of order 2 over seven frames: at each frame, the middle of the
parabola that fits the three frames before and behind it best. It is symmetric, so it has no lag; it leaves constant
acceleration as it is, and takes the deviation of white jitter down to 58 %. Where a track has fewer than three frames
on one side, fewer are taken on both; the first and last two frames of a track stay as they are. A jump,
such as a cut, ends a path as the end of its track does.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

HALF = 3
"""Frames on each side."""
JUMP = 0.25
"""A face whose eyes move farther than this from one frame to the next, in distances between the eyes, jumps."""
NAME = f"savgol-{2 * HALF + 1}-2"
"""For fingerprints."""


def kernel(half: int) -> Floats:
    """(2 half + 1,) weights of the value in the middle of the least-squares parabola; [1] for half < 2."""
    if half < 2:
        return np.ones(1)
    offsets = np.arange(-half, half + 1)
    return np.asarray(np.linalg.pinv(np.vander(offsets, 3, increasing=True))[0])


_KERNELS = [kernel(half) for half in range(HALF + 1)]


class Path:
    """The points of one face along consecutive frames, without a jump; only the last few are kept."""

    def __init__(self) -> None:
        self.last: int | None = None
        self._points: dict[int, Floats] = {}

    def extended(self, at: int, points: Floats) -> Path:
        """This path with a frame more; a new one where the frame doesn't follow, or the face jumps.

        Args:
            points: (K, 2), the first two of them the eye centres, px.
        """
        follows = self.last == at - 1 and not _jumps(self._points[at - 1], points)
        path = self if follows else Path()
        path.last = at
        path._points[at] = points
        path._points.pop(at - 2 * HALF - 1, None)
        return path

    def smoothed(self, at: int) -> Floats:
        """The points at a frame of the path, `HALF` frames or fewer behind its last."""
        return smoothed(self._points, at)


def _jumps(before: Floats, now: Floats) -> bool:
    move = np.linalg.norm(now[:2].mean(0) - before[:2].mean(0))
    return bool(move > JUMP * np.linalg.norm(before[1] - before[0]))


def smoothed(points: Mapping[int, Floats], at: int) -> Floats:
    """The points of a track at one frame, filtered.

    Args:
        points: (K, 2) by frame; frames are missing where the track has none.
        at: a frame that is there.
    """
    half = next((h for h in range(HALF) if at - h - 1 not in points or at + h + 1 not in points), HALF)
    weights = _KERNELS[half]
    reach = len(weights) // 2
    return np.asarray(sum(w * points[at + i - reach] for i, w in enumerate(weights)))
