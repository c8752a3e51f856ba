"""`VideoFaces`: every face of a video as a row of arrays, which lie in a temporary file where the video is long."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.errors import InputError
from exprmetric.io.files import path_text, write_whole
from exprmetric.io.kept import DAMAGED_ARRAYS

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]
Bools = npt.NDArray[np.bool_]

FORMAT = 1
"""Version of the saved file."""

ROWS: dict[str, tuple[str, tuple[int, ...]]] = {
    "frame": ("int64", ()),
    "time": ("float64", ()),
    "track": ("int64", ()),
    "box": ("float32", (4,)),
    "score": ("float32", ()),
    "detected": ("bool", ()),
    "landmarks": ("float32", (68, 2)),
    "sharpness": ("float32", ()),
    "yaw": ("float32", ()),
}
"""Type, and shape of one row, of the arrays with one row a face."""
_WHOLE = {"all_frames": "int64", "all_times": "float64"}
_TEXT: dict[str, type] = {"path": str, "rate": float, "width": int, "height": int, "problem": str, "fingerprints": dict}
_VECTORS = "vectors."


@dataclass(frozen=True, eq=False)
class VideoFaces:
    """N faces in F frames of one video, sorted by frame and, within one, by track.

    Of a long video the arrays are read-only and mapped from a temporary file; see `spool` for how to go through them.

    Attributes:
        path: the video, as text.
        rate: frames a second, as the container states them (0 = it doesn't).
        width: px of its first frame.
        height: px of its first frame.
        all_frames: (F,) int64 index of each frame that was looked at.
        all_times: (F,) float64 seconds of each of them.
        frame: (N,) int64 index of the frame a face is in.
        time: (N,) float64 seconds since the first frame.
        track: (N,) int64, 0, 1, … in order of appearance; one number is one person without interruption.
        box: (N, 4) float32 x0, y0, x1, y1, px.
        score: (N,) float32 of the detector, in its own unit; interpolated where `detected` is false.
        detected: (N,) bool; false where the box was interpolated between two detections.
        landmarks: (N, 68, 2) float32 dlib points, px, not smoothed.
        sharpness: (N,) float32, see `quality.sharpness`.
        yaw: (N,) float32 degrees, see `quality.yaw`.
        vectors: (N, D) float32 by method; a row of NaN where the method can't read the face, or wasn't asked to.
        fingerprints: of each method, and `faces`: of detector, choice of frames and smoothing.
        problem: why a part of the video could not be decoded; '' when all could.
    """

    path: str
    rate: float
    width: int
    height: int
    all_frames: Ints
    all_times: Floats
    frame: Ints
    time: Floats
    track: Ints
    box: Floats
    score: Floats
    detected: Bools
    landmarks: Floats
    sharpness: Floats
    yaw: Floats
    vectors: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)
    problem: str = ""

    def __post_init__(self) -> None:
        for name, (kind, shape) in ROWS.items():
            array = getattr(self, name)
            if array.dtype != kind or array.shape != (len(self.frame), *shape):
                raise ValueError(
                    f"{name}: expected {kind} {(len(self.frame), *shape)}, got {array.dtype} {array.shape}"
                )
        for name, vectors in self.vectors.items():
            if vectors.dtype != np.float32 or vectors.ndim != 2 or len(vectors) != len(self.frame):
                raise ValueError(f"vectors of {name}: expected float32 ({len(self.frame)}, D), got {vectors.shape}")
        if len(self.all_frames) != len(self.all_times):
            raise ValueError(f"{len(self.all_frames)} frames and {len(self.all_times)} times")

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def frames_total(self) -> int:
        """F, the frames that were looked at."""
        return len(self.all_frames)

    @property
    def frames_without_face(self) -> int:
        """How many of them show no face that was found."""
        return self.frames_total - len(np.unique(self.frame))

    @property
    def tracks(self) -> list[int]:
        """The tracks that occur, sorted."""
        return [int(t) for t in np.unique(self.track)]

    @property
    def step(self) -> float:
        """Seconds from one frame that was looked at to the next (median); NaN of a single frame."""
        return float(np.median(np.diff(self.all_times))) if len(self.all_times) > 1 else float("nan")

    def select(self, rows: npt.ArrayLike) -> VideoFaces:
        """The faces of some rows (indices, a mask or a slice as an array); the frames of the video stay all."""
        chosen = np.asarray(rows)
        return replace(
            self,
            **{name: getattr(self, name)[chosen] for name in ROWS},
            vectors={name: v[chosen] for name, v in self.vectors.items()},
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write an `.npz` that holds numbers and text, no pickles; whole or not at all.

        Raises:
            InputError: it can't be written.
        """
        out = Path(path)
        about = {"format": FORMAT, **{name: getattr(self, name) for name in _TEXT}, "path": path_text(self.path)}
        arrays = {name: getattr(self, name) for name in (*ROWS, *_WHOLE)}
        arrays |= {_VECTORS + name: v for name, v in self.vectors.items()}
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            write_whole(out, lambda file: np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays))
        except OSError as error:
            raise InputError(f"can't write {str(out)!r}: {error}") from error
        return out

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> VideoFaces:
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing, damaged or of another version.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                if about["format"] != FORMAT:
                    raise InputError(f"{str(path)!r} has format {about['format']!r}; this reads {FORMAT}")
                kinds = {name: kind for name, (kind, _) in ROWS.items()} | _WHOLE
                arrays = {name: file[name].astype(kind, casting="safe") for name, kind in kinds.items()}
                names = [n for n in file.files if n.startswith(_VECTORS)]
                vectors = {n.removeprefix(_VECTORS): file[n] for n in names}
            text = {name: kind(about[name]) for name, kind in _TEXT.items()}
            return cls(**text, **arrays, vectors=vectors)
        except (OSError, *DAMAGED_ARRAYS) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{str(path)!r} can't be read as the faces of a video: {error}") from error


assert {f.name for f in fields(VideoFaces)} == {*_TEXT, *_WHOLE, *ROWS, "vectors"}
