"""`VideoFaces` made by hand: whose face is in which frame, what its identity and its expression are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from exprmetric.methods import Method
from exprmetric.video.faces.table import VideoFaces


@dataclass(frozen=True)
class Seen:
    """A face: frame, track, identity and expression vectors, sharpness, side of its box."""

    frame: int
    track: int
    who: tuple[float, ...]
    expression: tuple[float, ...]
    sharpness: float = 9.0
    side: float = 50.0


def video(faces: Sequence[Seen], frames: int, *, step: float = 0.04, path: str = "clip.mp4") -> VideoFaces:
    rows = sorted(faces, key=lambda f: (f.frame, f.track))
    n = len(rows)
    frame = np.array([f.frame for f in rows], np.int64)
    box = np.array([[0, 0, f.side, f.side] for f in rows], np.float32).reshape(n, 4)

    def vectors(each: list[tuple[float, ...]]) -> np.ndarray:
        return np.array(each, np.float32).reshape(n, len(each[0]) if each else 2)

    return VideoFaces(
        path=path,
        rate=1 / step,
        width=100,
        height=100,
        all_frames=np.arange(frames, dtype=np.int64),
        all_times=np.arange(frames) * step,
        frame=frame,
        time=frame * step,
        track=np.array([f.track for f in rows], np.int64),
        box=box,
        score=np.ones(n, np.float32),
        detected=np.ones(n, bool),
        landmarks=np.zeros((n, 68, 2), np.float32),
        sharpness=np.array([f.sharpness for f in rows], np.float32),
        yaw=np.zeros(n, np.float32),
        vectors={"identity": vectors([f.who for f in rows]), "space": vectors([f.expression for f in rows])},
    )


class Space(Method):
    """A method by name alone: Euclidean distances."""

    name, template, dimension, fingerprint = "space", "eyes70", 2, "space"  # type: ignore[assignment]

    def represent(self, faces):  # type: ignore[no-untyped-def]
        raise NotImplementedError
