"""FaceQA of whole videos (paper 004): which faces are fit for reading an expression off them, and why others aren't."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from exprmetric.io.files import path_text
from exprmetric.io.progress import Progress, no_progress
from exprmetric.video.faces import quality
from exprmetric.video.faces.table import VideoFaces
from exprmetric.video.people.library import Reading, read_videos

COLUMNS = ("video", "frame", "time", "track", "x0", "y0", "x1", "y1", "sharpness", "yaw", "fit", "reason")


@dataclass(frozen=True, eq=False)
class QualityResult:
    """Faces of the videos that could be read, and why others could not."""

    paths: tuple[Path, ...]
    videos: tuple[VideoFaces, ...]
    failed: Mapping[str, str] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """For `quality.json`: thresholds, and for each video how many faces are fit, blurred, sideways."""
        return {
            "thresholds": {"sharpness": quality.SHARPNESS, "yaw": quality.YAW},
            "videos": [_video(p, v) for p, v in zip(self.paths, self.videos, strict=True)],
            "failed": [{"path": path_text(p), "reason": path_text(why)} for p, why in self.failed.items()],
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """One a face, by `COLUMNS`."""
        for path, video in zip(self.paths, self.videos, strict=True):
            for i in range(len(video)):
                sharpness, yaw = float(video.sharpness[i]), float(video.yaw[i])
                reason = quality.reason(sharpness, yaw)
                box = dict(
                    zip(("x0", "y0", "x1", "y1"), video.box[i].astype(np.float64).round(2).tolist(), strict=True)
                )
                yield {
                    "video": path_text(path),
                    "frame": int(video.frame[i]),
                    "time": float(video.time[i]),
                    "track": int(video.track[i]),
                    **box,
                    "sharpness": _known(sharpness),
                    "yaw": _known(yaw),
                    "fit": int(not reason),
                    "reason": reason,
                }


def _known(value: float) -> float | None:
    return round(value, 3) if np.isfinite(value) else None


def _video(path: Path, video: VideoFaces) -> dict[str, Any]:
    sharp = video.sharpness >= quality.SHARPNESS
    ahead = np.abs(video.yaw) <= quality.YAW
    known = video.sharpness[np.isfinite(video.sharpness)]
    yaws = np.abs(video.yaw[np.isfinite(video.yaw)])
    return {
        "path": path_text(path),
        "frames": video.frames_total,
        "frames_without_face": video.frames_without_face,
        "tracks": len(video.tracks),
        "faces": len(video),
        "fit": int((sharp & ahead).sum()),
        "blurred": int((~sharp).sum()),
        "sideways": int((~ahead).sum()),
        "median_sharpness": float(np.median(known)) if len(known) else None,
        "largest_yaw": float(yaws.max()) if len(yaws) else None,
        "problem": path_text(video.problem),
    }


def measure_quality(
    paths: Sequence[Path],
    reading: Reading,
    *,
    keep: Path | None = None,
    jobs: int | None = None,
    progress: Progress = no_progress,
) -> QualityResult:
    """Sharpness and yaw of all faces of some videos; one that can't be read is named in `failed`.

    Raises:
        InputError, WeightsError, ProviderError: a setting is wrong.
    """
    good, videos, failed = read_videos(paths, reading, keep=keep, jobs=jobs, progress=progress)
    return QualityResult(tuple(good), tuple(videos), failed)
