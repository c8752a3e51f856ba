"""`VideoResult`: what `evaluate_videos` returns and saves."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exprmetric.errors import InputError
from exprmetric.files import Fill, write_files

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1


@dataclass(frozen=True, eq=False)
class VideoResult:
    """Scores of swapped videos, per frame and per clip.

    Attributes:
        summary: the content of `video.json`: coverage, scores with intervals over clips, and each clip.
        clips: one row a clip, or a person of a clip: id, model, group, target, source, swapped, status, reason,
            paired_by, person, frames, ok, offset, share of frames nearer to the source, then `<method>.<score>`.
        frames: one row a frame of a target, and of each person: clip, person, frame, time, swapped_frame, swapped_time,
            status, reason, `<method>.t2c`, `.s2c`, `.s2t`, `target.x0` … `y1`, and `target.` and `swapped.` sharpness,
            yaw and signals. Empty cells where nothing was measured.
    """

    summary: dict[str, Any]
    clips: pa.Table
    frames: pa.Table

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `video.json`, `clips.csv`, `frames.csv` and `frames.parquet`; each whole or not at all.

        Raises:
            InputError: the folder can't be made or written.
        """
        import pyarrow.csv
        import pyarrow.parquet

        out = Path(folder)
        files: dict[str, Fill] = {
            "video.json": lambda f: f.write(self.to_json().encode() + b"\n"),
            "clips.csv": lambda f: pyarrow.csv.write_csv(self.clips, f),
            "frames.csv": lambda f: pyarrow.csv.write_csv(self.frames, f),
            "frames.parquet": lambda f: pyarrow.parquet.write_table(self.frames, f),
        }
        write_files(out, files)
        return out

    def to_json(self) -> str:
        """`summary` as JSON; never NaN."""
        return json.dumps(self.summary, indent=2, allow_nan=False, ensure_ascii=False)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> VideoResult:
        """Read what `save` wrote.

        Raises:
            InputError: a file is missing, damaged, or of another version.
        """
        import pyarrow as pa
        import pyarrow.csv
        import pyarrow.parquet

        path = Path(folder)
        try:
            summary = json.loads((path / "video.json").read_bytes())
            if not isinstance(summary, dict) or summary.get("schema_version") != SCHEMA_VERSION:
                raise InputError(f"{str(path)!r}: video.json is of another version than {SCHEMA_VERSION}")
            with (path / "frames.parquet").open("rb") as file:
                frames = pyarrow.parquet.ParquetFile(file).read()
            clips = pyarrow.csv.read_csv(path / "clips.csv")
        except (OSError, ValueError, RecursionError, pa.ArrowException) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{str(path)!r} can't be read as the result of videos: {error}") from error
        return cls(summary, clips, frames)
