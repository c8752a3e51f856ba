"""Data sets whose names say what was swapped into what, read as whole clips for `video evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from exprmetric_cli.main import main

from exprmetric.errors import InputError
from exprmetric.inputs import read_layout
from exprmetric.inputs.triplets import Triplet
from exprmetric.video.scores import evaluate as scores


def touch(root: Path, *names: str) -> Path:
    """Empty files, each in the folders that its name has; nothing looks into a clip before it is measured."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def told(rows: list[Triplet], root: Path) -> dict[str, tuple[str, ...]]:
    def below(path: Path | None) -> str:
        return "" if path is None else path.relative_to(root).as_posix()

    return {t.id: (below(t.target), below(t.source), below(t.swapped), t.model, t.group) for t in rows}


def test_names_of_videos_and_of_folders_of_frames_say_the_target_and_the_source(tmp_path: Path) -> None:
    touch(tmp_path, "t/a.mp4", "t/b/0000.png", "t/b/0001.png", "s/x.jpg", "s/y.mov")
    touch(tmp_path, "c/M/a_x.mp4", "c/M/b_y/0000.png", "c/M/b_y/0001.png", "c/M/odd.mp4", "c/notes.txt")
    rows = read_layout(
        "pairs", tmp_path / "c", target_dir=tmp_path / "t", source_dir=tmp_path / "s",
        template="{model}/{target}_{source}", clips=True,
    )  # fmt: skip
    assert told([t for t in rows if not t.problem], tmp_path) == {
        "M/a_x": ("t/a.mp4", "s/x.jpg", "c/M/a_x.mp4", "M", "a"),
        "M/b_y": ("t/b", "s/y.mov", "c/M/b_y", "M", "b"),
    }
    problems = {t.id: t.problem for t in rows if t.problem}
    assert set(problems) == {"M/odd.mp4", "notes.txt"} and "doesn't match" in problems["M/odd.mp4"]


def test_anonymized_clips_are_named_after_their_targets(tmp_path: Path) -> None:
    touch(tmp_path, "t/a.mp4", "t/b/0.png", "c/a.mp4", "c/b/0.png", "c/z.mp4")
    rows = read_layout("pairs", tmp_path / "c", target_dir=tmp_path / "t", clips=True)
    found = {t.id: (t.target is not None, t.source, bool(t.problem)) for t in rows}
    assert found == {"a": (True, None, False), "b": (True, None, False), "z": (False, None, True)}


@pytest.mark.parametrize("compression", [None, "c23"])
def test_faceforensics_is_read_as_clips(compression: str | None, tmp_path: Path) -> None:
    originals, swaps = "original_sequences/youtube/c23/videos", "manipulated_sequences/Deepfakes/c23/videos"
    touch(tmp_path, f"{originals}/000.mp4", f"{originals}/003.mp4", f"{swaps}/000_003.mp4", f"{swaps}/003_000.mp4")
    rows = read_layout("ffpp", tmp_path, compression=compression, clips=True)
    assert told(rows, tmp_path) == {
        f"Deepfakes/{a}_{b}": (f"{originals}/{a}.mp4", f"{originals}/{b}.mp4", f"{swaps}/{a}_{b}.mp4", "Deepfakes", a)
        for a, b in (("000", "003"), ("003", "000"))
    }


def test_casia_is_read_as_clips(tmp_path: Path) -> None:
    touch(tmp_path, "videos/s.mp4", "videos/t.mp4", "results/s-t.mp4")
    (tmp_path / "pairs.txt").write_text("s.mp4 t.mp4\n")
    found = read_layout(
        "casia", tmp_path / "results", pair_file=tmp_path / "pairs.txt", source_dir=tmp_path / "videos",
        template="{source}-{target}", clips=True,
    )  # fmt: skip
    (row,) = found
    assert (row.target, row.source, row.swapped) == tuple(
        tmp_path / n for n in ("videos/t.mp4", "videos/s.mp4", "results/s-t.mp4")
    )


def test_what_is_of_frames_alone_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "t/a.mp4", "c/a.mp4")
    with pytest.raises(InputError, match="named as a whole"):
        read_layout("pairs", tmp_path / "c", target_dir=tmp_path / "t", template="{target}/{frame}.png", clips=True)
    with pytest.raises(InputError, match="takes no `frames`"):
        read_layout("ffpp", tmp_path, frames=3, clips=True)


def test_the_command_measures_the_clips_that_names_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "t/a.mp4", "s/x.jpg", "c/a_x.mp4")
    asked: list[Any] = []

    def stop(source: Any, *_: Any, **__: Any) -> None:
        asked.append(source)
        raise InputError("far enough")

    monkeypatch.setattr(scores, "evaluate_videos", stop)
    folders = ["--target-dir", str(tmp_path / "t"), "--source-dir", str(tmp_path / "s")]
    named = ["video", "evaluate", str(tmp_path / "c"), *folders]
    ended = CliRunner().invoke(main, [*named, "--pairs", "{target}_{source}.mp4", "--quiet"])
    assert "far enough" in str(ended.exception or ended.stderr) + ended.output
    ((row,),) = asked
    assert (row.id, row.target, row.source) == ("a_x", tmp_path / "t/a.mp4", tmp_path / "s/x.jpg")
    refused = CliRunner().invoke(main, named)
    assert refused.exit_code == 2 and "needs --layout or --pairs" in refused.stderr
    both = CliRunner().invoke(main, ["video", "evaluate", str(tmp_path / "c"), str(tmp_path / "c"), *folders])
    assert both.exit_code == 2 and "one INPUT" in both.stderr
