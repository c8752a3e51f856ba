"""`video evaluate --render`: target and swapped clip side by side as an MP4, above the running score."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.errors import DamagedVideoError, ExprmetricError, InputError
from exprmetric.io.video import FOLDER_RATE, frames
from exprmetric.report.figures import scale, ticks
from exprmetric.video.scores.result import VideoResult

Image = npt.NDArray[np.uint8]

FOLDER = "side_by_side"
HEIGHT, STRIP = 320, 120
"""Height of the pictures and of the score below them, px."""
WIDEST = 640
"""Greatest width of a picture, px."""
MARGIN = 44
"""Room for the numbers of the axis, px."""
_INK, _LINE, _GREY = (245, 245, 245), (94, 180, 239), (120, 120, 120)


@dataclass(frozen=True, eq=False)
class _Clip:
    """A clip, or a person of it, as rows of `frames`.

    Attributes:
        rows: by the target's frame.
        scores: (N,) distance target-swapped; NaN where nothing was measured.
    """

    name: str
    target: Path
    swapped: Path
    rows: Sequence[dict[str, Any]]
    scores: npt.NDArray[np.float64]

    @property
    def rate(self) -> Fraction:
        """Frames a second of what is drawn."""
        steps = np.diff([r["time"] for r in self.rows])
        steps = steps[steps > 0]
        return Fraction(1 / float(np.median(steps)) if len(steps) else FOLDER_RATE).limit_denominator(1001)


def render(result: VideoResult, folder: str | os.PathLike[str]) -> list[Path]:
    """Draw each measured clip, and each person of it, into `folder/side_by_side/`.

    Args:
        result: whose videos are still where they were.

    Returns:
        The files, `NUMBER-CLIP.mp4`; `NUMBER-CLIP-person-K.mp4` where several people of a clip are measured.

    Raises:
        VideoError: a clip can't be read any more. MissingPackageError: PyAV is not installed.
        InputError: the folder can't be written.
    """
    out = Path(folder) / FOLDER
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"can't make {str(out)!r}: {error}") from error
    method = next(iter(result.summary["methods"]), "")
    rate = float(result.summary["settings"].get("rate") or FOLDER_RATE)
    made = []
    for number, clip in enumerate(_clips(result, method), start=1):
        path = out / f"{number:03d}-{clip.name}.mp4"
        _write(path, clip, method, rate)
        made.append(path)
    return made


def _clips(result: VideoResult, method: str) -> Iterator[_Clip]:
    import pyarrow.compute as pc

    clips = result.clips.to_pylist()
    people = Counter(clip["id"] for clip in clips)
    for clip in clips:
        if clip["status"] != "ok":
            continue
        of_clip = result.frames.filter(pc.equal(result.frames["clip"], clip["id"])).to_pylist()
        rows = sorted((r for r in of_clip if r["person"] == clip["person"]), key=lambda r: r["frame"])
        scores = np.array([np.nan if r[f"{method}.t2c"] is None else r[f"{method}.t2c"] for r in rows], np.float64)
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", clip["id"])[:60].strip(".") or "clip"
        name += f"-person-{clip['person']}" if people[clip["id"]] > 1 else ""
        if rows:
            yield _Clip(name, Path(clip["target"]), Path(clip["swapped"]), rows, scores)


class _Pictures:
    """Frames of a video by increasing index; the last one handed out stays."""

    def __init__(self, path: Path, wanted: set[int], rate: float) -> None:
        self._frames = frames(path, only=wanted, rate=rate)
        self._index, self._image = -1, None

    def at(self, index: int | None) -> Image | None:
        """The picture of a frame; None where there is none."""
        if index is None:
            return None
        while self._index < index:
            try:
                frame = next(self._frames)
            except (StopIteration, DamagedVideoError):  # whoever measured it was told
                return None
            self._index, self._image = frame.index, _fitted(frame.image, WIDEST)  # type: ignore[assignment]
        return self._image if self._index == index else None


def _fitted(image: Image, widest: int) -> Image:
    """Of `HEIGHT` px, at most `widest` wide."""
    import cv2

    height, width = image.shape[:2]
    factor = min(HEIGHT / height, widest / width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _write(path: Path, clip: _Clip, method: str, rate: float) -> None:
    import av

    targets, swapped = (
        _Pictures(video, {r[key] for r in clip.rows if r[key] is not None}, rate)
        for video, key in ((clip.target, "frame"), (clip.swapped, "swapped_frame"))
    )
    panel = 0
    draft = path.with_name(f".{path.name}.part")
    try:
        with av.open(os.fspath(draft), "w", format="mp4") as container:
            stream: Any = container.add_stream("libx264", rate=clip.rate)
            stream.pix_fmt = "yuv420p"
            for i, row in enumerate(clip.rows):
                pictures = targets.at(row["frame"]), swapped.at(row["swapped_frame"])
                if not panel:
                    panel = max((p.shape[1] for p in pictures if p is not None), default=HEIGHT) // 2 * 2
                    stream.width, stream.height = 2 * panel, HEIGHT + STRIP
                image = np.concatenate(
                    [np.concatenate([_panel(p, panel) for p in pictures], 1), _strip(clip, i, method, panel)]
                )
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
        draft.replace(path)
    except OSError as error:
        raise InputError(f"can't write {str(path)!r}: {error}") from error
    except av.error.FFmpegError as error:
        raise ExprmetricError(f"can't draw {str(path)!r}: {error}") from error
    finally:
        draft.unlink(missing_ok=True)


def _panel(picture: Image | None, width: int) -> Image:
    """The whole picture in the middle of a black panel; one that is wider than the first frame gets smaller."""
    panel = np.zeros((HEIGHT, width, 3), np.uint8)
    if picture is not None:
        part = picture if picture.shape[1] <= width else _fitted(picture, width)
        top, left = (HEIGHT - part.shape[0]) // 2, (width - part.shape[1]) // 2
        panel[top : top + part.shape[0], left : left + part.shape[1]] = part
    return panel


def _strip(clip: _Clip, now: int, method: str, panel: int) -> Image:
    """The curve up to this frame, its axis, and the frame's score."""
    import cv2

    strip = np.full((STRIP, 2 * panel, 3), 24, np.uint8)
    highest = float(np.nanmax(clip.scores)) if np.isfinite(clip.scores).any() else 1.0
    y = scale(0.0, 1.1 * max(highest, 1e-6), STRIP - 12, 28)
    x = scale(0.0, float(max(1, len(clip.rows) - 1)), MARGIN, 2 * panel - 12)
    for value in ticks(0.0, 1.1 * max(highest, 1e-6), 3):
        at = round(y(value))
        cv2.line(strip, (MARGIN, at), (2 * panel - 12, at), (60, 60, 60), 1)
        cv2.putText(strip, f"{value:g}", (4, at + 4), cv2.FONT_HERSHEY_SIMPLEX, 0.35, _GREY, 1, cv2.LINE_AA)
    for i in range(1, now + 1):
        if np.isfinite(clip.scores[i - 1 : i + 1]).all():
            ends = [(round(x(float(j))), round(y(float(clip.scores[j])))) for j in (i - 1, i)]
            cv2.line(strip, ends[0], ends[1], _LINE, 2, cv2.LINE_AA)
    score, row = clip.scores[now], clip.rows[now]
    words = f"{score:.3f}" if np.isfinite(score) else f"not measured: {row['status']}"
    text = f"target | swapped    {row['time']:.2f} s    {method} t2c {words}"
    cv2.putText(strip, text, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.42, _INK, 1, cv2.LINE_AA)
    return strip
