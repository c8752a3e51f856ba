"""`VideoResult`: what `evaluate_videos` returns and saves."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exprmetric.errors import InputError
from exprmetric.evaluation.saved import read_parquet
from exprmetric.io.files import Fill, write_files
from exprmetric.io.plain import as_json
from exprmetric.io.shapes import NUMBER, NUMBER_OR_NONE, SCORE, Maybe, read_json
from exprmetric.io.tables import brief, listed, printable, show
from exprmetric.metrics.preservation import SCORES

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1
_TEXT = ("id", "model", "group", "target", "source", "swapped", "status", "reason")
_FRAMES = ("clip", "frame", "time", "status", "reason")
_COUNTS = {"ok": int, "failed": {str: int}}
_PART = {
    "coverage": {"clips": int, **_COUNTS, "frames": {"total": int, **_COUNTS}},
    "methods": {
        str: {
            "n": int,
            "n_with_source?": int,
            **{f"{s}?": SCORE for s in SCORES},
            "mean_s2c?": NUMBER_OR_NONE,
            "anchors?": {str: {str: NUMBER_OR_NONE}},
            "temporal": {str: SCORE},
        }
    },
    "identity": Maybe(
        {
            "n": int,
            "nearer_to_source?": SCORE,
            "same_person?": SCORE,
            "mean_t2c": NUMBER_OR_NONE,
            "mean_s2c?": NUMBER_OR_NONE,
        }
    ),
    "events": {str: dict},
}
SUMMARY = {
    **_PART,
    "exprmetric_version": str,
    "created": str,
    "alarms?": [str],
    "notes?": [str],
    "models": {str: _PART},
    "clips": [
        {
            **dict.fromkeys(_TEXT, str),
            "person?": int,
            "coverage": Maybe({"frames": int, **_COUNTS}),
            "methods?": {str: {"mean_t2c": NUMBER_OR_NONE, "temporal": dict}},
            "worst?": {str: [{"start": NUMBER, "end": NUMBER, "mean": NUMBER}]},
            "events?": {str: dict},
        }
    ],
    "settings": {"detector": str, "provider": str, "rate": NUMBER, "quality": str},
}
"""The shape of `video.json`, its version aside."""


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
            "frames.parquet": lambda f: pyarrow.parquet.write_table(self.frames, f, write_page_checksum=True),
        }
        write_files(out, files)
        return out

    def to_json(self) -> str:
        """`summary` as JSON; never NaN."""
        return as_json(self.summary)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> VideoResult:
        """Read what `save` wrote.

        Raises:
            InputError: a file is missing, damaged, or of another version.
        """
        path = Path(folder)
        try:
            summary = read_json(path / "video.json", SUMMARY, SCHEMA_VERSION)
            frames = read_parquet(path / "frames.parquet")
            clips = _read_clips(path / "clips.csv")
        except FileNotFoundError as error:
            absent = Path(error.filename).name
            raise InputError(
                f"{show(path)} is no folder that `exprmetric video evaluate --out` wrote: no {absent}"
            ) from error
        for name, table, needed in (("frames.parquet", frames, _FRAMES), ("clips.csv", clips, (*_TEXT, "frames"))):
            if missing := [c for c in needed if c not in table.column_names and (len(table) or name == "clips.csv")]:
                raise InputError(f"{show(path / name)} lacks the columns {listed(missing)}")
        if len(clips) != len(summary["clips"]):
            raise InputError(
                f"{show(path / 'clips.csv')} is not of the run of video.json: it holds {len(clips)} rows, and that "
                f"{len(summary['clips'])}"
            )
        return cls(summary, clips, frames)


def _read_clips(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.csv

    text = pyarrow.csv.ConvertOptions(column_types={name: pa.string() for name in _TEXT})  # a name may be a number
    try:
        with path.open("rb") as file:
            return pyarrow.csv.read_csv(file, convert_options=text)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise InputError(f"{show(path)} is damaged: {brief(printable(str(error)))}") from error
