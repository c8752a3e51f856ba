"""The table of a video's faces: what goes in comes out, and what is no such file is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exprmetric.errors import InputError
from exprmetric.video.faces.table import ROWS, VideoFaces


def make(frame: list[int], track: list[int], total: int = 6) -> VideoFaces:
    generator = np.random.default_rng(0)
    n = len(frame)
    rows = {k: generator.uniform(0, 9, (n, *shape)).astype(kind) for k, (kind, shape) in ROWS.items()}
    rows |= {"frame": np.array(frame, np.int64), "track": np.array(track, np.int64)}
    return VideoFaces(
        path="clip.mp4",
        rate=25.0,
        width=64,
        height=48,
        all_frames=np.arange(total),
        all_times=np.arange(total) / 25,
        **rows,
        vectors={"default": generator.normal(size=(n, 3)).astype(np.float32)},
        fingerprints={"default": "abc", "faces": "def"},
        problem="cut short",
    )


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    faces = make([0, 1, 1, 4], [0, 0, 1, 1])
    loaded = VideoFaces.load(faces.save(tmp_path / "new" / "faces.npz"))
    for name in (*ROWS, "all_frames", "all_times"):
        before, after = getattr(faces, name), getattr(loaded, name)
        assert before.dtype == after.dtype and np.array_equal(before, after), name
    assert np.array_equal(loaded.vectors["default"], faces.vectors["default"])
    for name in ("path", "rate", "width", "height", "fingerprints", "problem"):
        assert getattr(loaded, name) == getattr(faces, name)


def test_tracks_frames_and_coverage_are_counted() -> None:
    faces = make([0, 1, 1, 4], [0, 0, 1, 1])
    assert (len(faces), faces.frames_total, faces.frames_without_face, faces.tracks) == (4, 6, 3, [0, 1])
    second = faces.select(np.flatnonzero(faces.track == 1))
    assert second.frame.tolist() == [1, 4] and second.frames_without_face == 4
    assert np.array_equal(second.vectors["default"], faces.vectors["default"][2:])
    assert faces.step == pytest.approx(0.04)


@pytest.mark.parametrize("damage", ["pickle", "text", "half", "version", "missing"])
def test_other_files_are_refused(tmp_path: Path, damage: str) -> None:
    path = make([0], [0]).save(tmp_path / "faces.npz")
    if damage == "pickle":
        np.savez(path, about=np.array([{"format": 1}], dtype=object))
    elif damage == "text":
        path.write_text("no numbers")
    elif damage == "half":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "version":
        np.savez(path, about=np.array('{"format": 99}'))
    else:
        path.unlink()
    with pytest.raises(InputError, match=r"faces\.npz"):
        VideoFaces.load(path)


def test_arrays_that_do_not_fit_are_refused() -> None:
    faces = make([0, 1], [0, 0])
    with pytest.raises(ValueError, match="yaw"):
        VideoFaces(**{**vars(faces), "yaw": faces.yaw[:1]})
    with pytest.raises(ValueError, match="default"):
        replace(faces, vectors={"default": np.zeros((3, 2), np.float32)})
