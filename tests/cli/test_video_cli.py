"""`exprmetric video`: every command on a tiny clip; what it writes and where, its exit status, and hostile names."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from clips import Actor, write
from exprmetric_cli.main import main
from PIL import Image

pytest.importorskip("av")
FAST = ["--detector", "dlib", "--quiet"]
EVIL = "<script>alert(1)</script> & 'q'"
ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, portrait_photo: Path) -> Path:
    """target/ source/ swapped/ with one clip: 24 frames of a smile that comes and goes; the swap keeps half of it."""
    root = tmp_path_factory.mktemp("clips")
    actor = Actor(portrait_photo)
    grin = 0.5 - 0.5 * np.cos(np.linspace(0, 4 * np.pi, 24))
    for role, play in (("target", grin), ("swapped", 0.5 * grin)):
        (root / role).mkdir()
        write(root / role / "a.mp4", actor.play(play))
    (root / "source").mkdir()
    Image.fromarray(actor.image).save(root / "source" / "a.png")
    (root / "photographs").mkdir()
    Image.fromarray(actor.play([0.0])[0]).save(root / "photographs" / "who.png")
    return root


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("grey") / "grey.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 4)


def listed(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_evaluate_three_files(clips: Path, tmp_path: Path) -> None:
    three = (clips / "target/a.mp4", clips / "source/a.png", clips / "swapped/a.mp4")
    done = run("video", "evaluate", *three, "--method", "lm68", "--out", tmp_path / "out", *FAST)
    assert done.exit_code == 0, done.output
    assert "1 of 1 clips measured, 24 of 24 frames" in done.output and "identity control" in done.output
    assert listed(tmp_path) == {
        f"out/{n}" for n in ("report.html", "video.json", "clips.csv", "frames.csv", "frames.parquet")
    }
    assert len(table(tmp_path / "out" / "frames.csv")) == 24
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<svg") >= 4 and page.count('class="strip"') >= 1


def test_evaluate_a_folder_in_three_formats(clips: Path, tmp_path: Path) -> None:
    done = run("video", "evaluate", clips, "-m", "lm68", "--format", "json", "--every", 2, "--no-identity", *FAST)
    assert done.exit_code == 0 and json.loads(done.stdout)["coverage"]["frames"]["total"] == 12
    done = run("video", "evaluate", clips, "-m", "lm68", "--format", "csv", "--every", 2, "--no-identity", *FAST)
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert row["id"] == "a" and float(row["lm68.mean_t2c"]) > 0
    done = run("video", "evaluate", clips, "-m", "lm68", "--people", "all", "--every", 2, *FAST)
    assert done.exit_code == 0 and "1 of 1 clips measured, 12 of 12 frames" in done.output


def test_evaluate_what_cannot_be_measured(clips: Path, grey: Path, tmp_path: Path) -> None:
    three = (grey, clips / "source/a.png", clips / "swapped/a.mp4")
    done = run("video", "evaluate", *three, "-m", "lm68", *FAST)
    assert done.exit_code == 1, done.output
    assert run("video", "evaluate", three[0]).exit_code == 2
    assert run("video", "evaluate", tmp_path / "gone", *FAST).exit_code == 2
    assert run("video", "evaluate", *three, "-m", "nothing", *FAST).exit_code == 2
    assert run("video", "evaluate", *three, "--quality", "good").exit_code == 2
    assert run("video", "evaluate", clips, "--out", clips).exit_code == 2


def test_quality(clips: Path, grey: Path, tmp_path: Path) -> None:
    done = run("video", "quality", clips / "target", grey, "--out", tmp_path / "out", *FAST)
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert [(v["frames"], v["faces"], v["frames_without_face"]) for v in record["videos"]] == [(24, 24, 0), (4, 0, 4)]
    rows = table(tmp_path / "out" / "quality.csv")
    assert len(rows) == 24 and sum(int(r["fit"]) for r in rows) == record["videos"][0]["fit"]
    assert all((r["reason"] == "") == (r["fit"] == "1") for r in rows)
    done = run("video", "quality", grey, "--format", "csv", *FAST)
    assert done.exit_code == 1 and done.stdout.count("\n") == 1
    assert run("video", "quality", tmp_path / "gone").exit_code == 2


def test_a_tag_from_its_reference_to_its_subtitles(clips: Path, tmp_path: Path, portrait_photo: Path) -> None:
    database, out = tmp_path / "db", tmp_path / "out"
    added = run(
        "video", "tag", "add", database, clips / "target/a.mp4", "-t", "grin", "--at", 0.24, "--detector", "dlib"
    )
    assert added.exit_code == 0 and Path(added.stdout.strip()).is_file()
    assert run("video", "tag", "add", database, portrait_photo, "-t", "../out", "--detector", "dlib").exit_code == 2
    names = tmp_path / "names"
    names.mkdir()
    shutil.copy(clips / "photographs" / "who.png", names / "Eileen.png")
    how = ("-m", "lm68", "--quality", "any", "--names", names, "--out", out, *FAST)
    done = run("video", "tag", "run", database, clips / "target/a.mp4", clips / "swapped/a.mp4", *how)
    assert done.exit_code == 0, done.output
    assert listed(out) == {
        *("tags.html", "tags.json", "segments.csv", "rates.csv", "intensity.csv", "closest.png"),
        *("subtitles/a.vtt", "subtitles/a-2.vtt"),
    }
    record = json.loads((out / "tags.json").read_text())
    assert [p["name"] for p in record["people"]] == ["Eileen"] and record["people"][0]["videos"] == 2
    rate = record["people"][0]["tags"]["grin"]
    assert 0 < rate["rate"] < 1 and rate["rate"] == rate["faces"] / 48
    assert record["threshold"]["value"] == 0.3 and "FER+" in record["threshold"]["measured_on"]
    frames = [c["frame"] for c in record["closest"]]
    assert len(frames) == 2 and frames[0] in (5, 6, 7)  # the frame that the reference is
    segments = table(out / "segments.csv")
    inside = [
        s for s in segments if s["video"].endswith("target/a.mp4") and float(s["start"]) <= 0.24 < float(s["end"])
    ]
    assert len(inside) == 1 and inside[0]["person"] == "Eileen"
    cues = (out / "subtitles" / "a.vtt").read_text()
    assert cues.startswith("WEBVTT\n\n00:00:00.") and "\nEileen: grin\n" in cues
    curve = [r for r in table(out / "intensity.csv") if r["video"].endswith("target/a.mp4")]
    assert len(curve) == 24 and max(range(24), key=lambda i: float(curve[i]["grin"])) in (5, 6, 7)
    again = run("video", "tag", "run", database, clips / "target/a.mp4", "--threshold", 1e-6, "--format", "csv", *how)
    assert again.exit_code == 0 and again.stdout.count("\n") == 1  # nothing is so near


def test_kept_faces_are_not_looked_for_again(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from exprmetric.video.people import library

    kept, video = tmp_path / "kept", tmp_path / "moved.mp4"
    how = (video, "-m", "lm68", "--quality", "any", "--keep", kept, *FAST)
    shutil.copy(clips / "target/a.mp4", video)
    first = run("video", "summary", "-n", 3, "--out", tmp_path / "a", *how)
    assert first.exit_code == 0 and len(listed(kept)) == 1 and kept.stat().st_mode & 0o777 == 0o700
    read, looked = library.track_faces, []
    monkeypatch.setattr(library, "track_faces", lambda path, *a, **k: looked.append(path) or read(path, *a, **k))
    second = run("video", "summary", "-n", 3, "--out", tmp_path / "b", *how)
    assert second.exit_code == 0 and not looked
    for name in ("expressions.csv", "summary.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert run("video", "search", clips / "source/a.png", *how).exit_code == 0 and not looked
    assert run("video", "summary", *how, "--every", 2).exit_code == 0 and looked == [video]  # another setting
    shutil.copy(clips / "swapped/a.mp4", video)
    assert run("video", "summary", *how).exit_code == 0 and looked == [video] * 2  # another content
    assert len(listed(kept)) == 3
    for path in kept.iterdir():
        path.write_bytes(b"damaged")
    assert run("video", "summary", *how).exit_code == 0 and looked == [video] * 3
    assert run("video", "quality", video, "--keep", kept, *FAST).exit_code == 0 and looked == [video] * 4


def test_tag_refuses_before_it_reads_videos(clips: Path, grey: Path, tmp_path: Path) -> None:
    video = clips / "target/a.mp4"
    assert run("video", "tag", "run", tmp_path / "gone", video, *FAST).exit_code == 2
    database = tmp_path / "db"
    assert run("video", "tag", "add", database, grey, "-t", "x", "--at", 0, "--detector", "dlib").exit_code == 1
    (database / "x").mkdir(parents=True)
    shutil.copy(clips / "source/a.png", database / "x" / "1.png")
    assert run("video", "tag", "run", database, video, "--threshold", -1, *FAST).exit_code == 2
    assert run("video", "tag", "run", database, tmp_path / "gone.mp4", *FAST).exit_code == 2
    done = run("video", "tag", "run", database, grey, "-m", "lm68", *FAST)
    assert done.exit_code == 1 and "no face could be measured" in done.stderr


def test_summary_and_search_with_hostile_names(clips: Path, grey: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / f"{EVIL[:8]} & 'q'.mp4").write_bytes((clips / "target/a.mp4").read_bytes())
    (folder / "broken.mp4").write_bytes(b"no video")
    names = tmp_path / "names" / EVIL.replace("/", "∕")
    names.mkdir(parents=True)
    shutil.copy(clips / "photographs" / "who.png", names / "1.png")
    how = ("-m", "lm68", "--quality", "any", "--names", names.parent, *FAST)
    done = run("video", "summary", folder, grey, "-n", 3, "--out", tmp_path / "sum", *how)
    assert done.exit_code == 0, done.output
    assert "failed: " in done.stdout and "broken.mp4" in done.stdout
    assert listed(tmp_path / "sum") == {"summary.html", "summary.json", "expressions.csv", "summary.png"}
    record = json.loads((tmp_path / "sum" / "summary.json").read_text())
    assert len(record["expressions"]) == 3 and sum(e["faces"] for e in record["expressions"]) == 24
    assert [f["path"].endswith("broken.mp4") for f in record["failed"]] == [True]
    done = run(
        "video", "search", clips / "source/a.png", folder, "-n", 2, "--apart", 0.2, "--out", tmp_path / "found", *how
    )
    assert done.exit_code == 0, done.output
    assert listed(tmp_path / "found") == {"search.html", "search.json", "moments.csv", "search.png"}
    assert len(table(tmp_path / "found" / "moments.csv")) == 2
    for page in (tmp_path / "sum" / "summary.html", tmp_path / "found" / "search.html"):
        text = page.read_text()
        assert "<script>alert" not in text and "&lt;script&gt;alert(1)" in text
    assert run("video", "search", clips / "source/a.png", folder, "--person", "Eve", *how).exit_code == 2
    assert run("video", "search", tmp_path / "gone.png", folder, *FAST).exit_code == 1
    assert run("video", "summary", grey, *FAST).exit_code == 1
    assert run("video", "summary", folder, "--out", folder, *FAST).exit_code == 2


def test_the_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests'); import conftest\n"
        "from exprmetric_cli.main import main\n"
        "try: main(['video', 'tag', 'run', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'onnxruntime', 'cv2', 'dlib', 'PIL', 'scipy', 'numpy', 'av', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0 and "--threshold" in done.stdout, done.stderr
