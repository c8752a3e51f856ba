"""The report of evaluated videos: curves where their numbers are, events marked, filmstrips, names that can't act."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from clips import Actor, write

from exprmetric.errors import ExprmetricError
from exprmetric.inputs.triplets import Triplet
from exprmetric.io.video import frames
from exprmetric.report import side_by_side
from exprmetric.report import video as report
from exprmetric.report.figures import RIGHT, TOP
from exprmetric.report.filmstrips import choose
from exprmetric.report.lines import LEFT, WIDTH, line_chart
from exprmetric.report.video_tables import (
    by_model,
    clip_line,
    coverage_line,
    events_sheet,
    identity_lines,
    lag_line,
    offset_line,
    value,
)
from exprmetric.video.scores.evaluate import VideoSettings, evaluate_videos
from exprmetric.video.scores.result import VideoResult

pytest.importorskip("av")
EVIL = "<script>alert(1)</script>\" onerror='alert(2)' & more"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


# --- curves ---


def points(path: str) -> list[list[tuple[float, float]]]:
    runs = [r.removesuffix("h0").split("L") for r in path.split("M")[1:]]
    return [[tuple(map(float, p.split())) for p in run] for run in runs]  # type: ignore[misc]


def test_a_curve_stands_where_its_numbers_are() -> None:
    times, values = [0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 1.0, np.nan, 2.0, np.nan]
    chart = line_chart("t", times, {"a": values}, y_label="y", low=0.0, high=2.0)
    first, second = points(chart.lines[0].path)
    a = chart.axes
    assert first == [(LEFT, a.bottom), (LEFT + (WIDTH - LEFT - RIGHT) / 4, (a.top + a.bottom) / 2)]
    assert second == [(LEFT + (WIDTH - LEFT - RIGHT) * 3 / 4, a.top)] and chart.lines[0].path.endswith("h0")
    assert [t.label for t in a.y] == ["0", "0.5", "1", "1.5", "2"] and a.x[-1].label == "4"


def test_marks_stand_on_their_curve_and_bands_on_their_time() -> None:
    curves = {"a": [0.0, 2.0, 0.0], "b": [0.0, np.nan, 2.0]}
    moments = [(1.1, "a", "missed", "one"), (1.0, "b", "added", "unknown there")]
    chart = line_chart(
        "t", [0.0, 1.0, 2.0], curves, y_label="", low=0.0, high=2.0, moments=moments, bands=[(0, 1, "w")]
    )
    (mark,) = chart.marks
    assert (
        mark.kind == "missed"
        and mark.y == chart.axes.top
        and mark.x == pytest.approx(LEFT + 1.1 * (WIDTH - LEFT - RIGHT) / 2)
    )
    assert (chart.bands[0].x, chart.bands[0].width) == (LEFT, (WIDTH - LEFT - RIGHT) / 2)


@pytest.mark.parametrize("values", [[1.0, 1.0], [np.nan, np.nan], [5.0]])
def test_flat_unknown_and_single_values_have_axes(values: list[float]) -> None:
    chart = line_chart("t", np.arange(len(values)), {"a": values}, y_label="")
    assert len(chart.axes.y) >= 2 and "nan" not in chart.lines[0].path
    wide = line_chart("t", [0.0, 1.0], {"a": [0.1, 0.101]}, y_label="", span=0.4)
    ys = [y for run in points(wide.lines[0].path) for _, y in run]
    assert max(ys) - min(ys) < 2  # noise does not fill the figure


def test_long_curves_keep_their_peaks() -> None:
    values = np.random.default_rng(0).normal(size=50_000)
    values[31_234] = 60.0
    values[41_234] = -60.0
    chart = line_chart("t", np.arange(50_000) / 25, {"a": values}, y_label="")
    (run,) = points(chart.lines[0].path)
    assert len(run) < 4 * WIDTH
    high, low = min(y for _, y in run), max(y for _, y in run)
    bottom, margin = chart.axes.bottom, (low - high) / 20.0
    assert (high, low) == pytest.approx((TOP + margin, bottom - margin), abs=1)


# --- words ---


def test_lags_in_words() -> None:
    late = {"frames": 7, "seconds": 0.28, "correlation": 0.99, "at_zero": 0.4, "shifted": True}
    assert offset_line(late) == "7 frames (0.28 s) late" and "7 frames (0.28 s) late" in clip_line({"offset": late})
    early = {**late, "frames": -1, "seconds": -0.04, "shifted": False}
    assert offset_line(early) == "none" and clip_line({"offset": early}) == "" and offset_line(None) == "–"
    assert lag_line(early) == "fits best 1 frame (0.04 s) early (correlation 0.99)"
    assert lag_line({**late, "frames": 0}) == "no lag" and lag_line(None) == "lag unknown"
    assert value(-0.001) == "0.00" and value(None) == "–"
    coverage = {
        "clips": 3,
        "ok": 2,
        "failed": {"no_face": 1},
        "frames": {"total": 9, "ok": 8, "failed": {"unpaired": 1}},
    }
    assert coverage_line(coverage) == (
        "2 of 3 clips measured, 8 of 9 frames; failed clips: no_face 1; frames not measured: unpaired 1"
    )


def test_worst_seconds_of_several_methods_join() -> None:
    def at(start: float, mean: float) -> dict[str, float]:
        return {"start": start, "end": start + 1, "mean": mean}

    worst = {"a": [at(0, 0.9), at(5, 0.8), at(8, 0.7)], "b": [at(0.5, 3.0), at(3, 2.0)]}
    strips = choose(worst, 3)  # type: ignore[arg-type]
    assert [(s.methods, s.start, s.mean) for s in strips] == [(("a", "b"), 0, 0.9), (("a",), 5, 0.8), (("b",), 3, 2.0)]
    assert choose({}, 3) == []


# --- the page ---


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, portrait_photo: Path) -> VideoResult:
    """A clip whose swap misses the second of two expressions, one that comes 3 frames late, and one without a face."""
    from PIL import Image

    root = tmp_path_factory.mktemp("videos")
    actor = Actor(portrait_photo)
    pulse = np.exp(-(((np.arange(50) - 12) / 3.0) ** 2))
    grin = pulse + np.roll(pulse, 22)
    target = write(root / f"target {EVIL[:8]}.mp4", actor.play(grin))
    missing = write(root / "missing.mp4", actor.play(pulse))
    played = actor.play(grin)
    late = write(root / "late.mp4", [*[played[0]] * 3, *played[:-3]])
    grey = write(root / "grey.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 50)
    source = root / "source.png"
    Image.fromarray(actor.image).save(source)
    triplets = [
        Triplet("misses", target, source, missing, model="one"),
        Triplet(f"late {EVIL}", target, source, late, model=f"two {EVIL}"),
        Triplet("grey", target, source, grey, model="one"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("EXPRMETRIC_WEIGHTS", raising=False)
        return evaluate_videos(triplets, ["lm68"], VideoSettings(detector="dlib", identity=False))


@pytest.fixture(scope="module")
def page(result: VideoResult) -> str:
    return report.video_report_page(result)


def test_the_page_shows_what_was_measured(result: VideoResult, page: str) -> None:
    assert coverage_line(result.summary["coverage"]) in page
    assert "2 of 3 clips measured" in page and page.count('<section class="clip">') == 2
    for clip in result.summary["clips"][:2]:  # the only one of its model that is measured
        scores = clip["methods"]["lm68"]
        assert f"{scores['mean_t2c']:.3f}" in page and value(scores["temporal"]["correlation"]) in page
    assert "3 frames (0.12 s) late" in page
    events = result.clips.to_pylist()
    assert [e["status"] for e in events] == ["ok", "ok", "no_face"] and "no_face: swapped" in page


def test_missed_events_are_marked(result: VideoResult, page: str) -> None:
    jaw = result.summary["clips"][0]["events"]["jaw_open"]
    (second,) = [t for t in jaw["missed"] if 1.2 < t < 1.5]  # and the first, at 0.48 s, is kept
    assert not any(t < 0.7 for t in jaw["missed"])
    assert f"jaw open at {second:.2f} s: the swap has none" in page
    assert f"jaw open: {jaw['target'] - len(jaw['missed'])} of {jaw['target']} kept" in page


def test_filmstrips_hold_pictures_of_both_videos(page: str) -> None:
    strips = re.findall(r'<div class="strip">.*?</div>', page, re.S)
    assert strips and all(s.count("<img") == 10 for s in strips)
    uris = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert all(base64.b64decode(u).startswith(b"\xff\xd8") for u in uris)


def test_names_in_the_input_cannot_act(page: str) -> None:
    assert "<script>alert" not in page and "onerror='" not in page
    assert page.count("<script") == 1 and "default-src 'none'" in page


def test_videos_that_are_gone_cost_the_filmstrips_alone(result: VideoResult, tmp_path: Path) -> None:
    clips = [{**c, "target": str(tmp_path / "gone.mp4")} for c in result.summary["clips"]]
    moved = replace(result, summary={**result.summary, "clips": clips})
    text = report.video_report_page(moved)
    assert "No filmstrips" in text and "no such file" in text and text.count("<svg") >= 4


def test_nothing_measured_is_a_page_too(result: VideoResult) -> None:
    from exprmetric.video.scores.evaluate import evaluate_videos

    grey = Path(result.summary["clips"][2]["swapped"])
    only = [Triplet("g", grey, grey, grey)]
    text = report.video_report_page(evaluate_videos(only, ["lm68"], VideoSettings(detector="dlib", identity=False)))
    assert "0 of 1 clips measured" in text


def test_a_page_that_cannot_be_drawn_leaves_the_numbers(result: VideoResult, tmp_path: Path) -> None:
    result.save(tmp_path)
    path = report.write_video_report(VideoResult.load(tmp_path), tmp_path)
    assert path.read_text().startswith("<!doctype html>")
    broken = replace(result, summary={k: v for k, v in result.summary.items() if k != "events"})
    with pytest.raises(ExprmetricError, match="the result is written, but"):
        report.write_video_report(broken, tmp_path)
    assert not path.exists() and (tmp_path / "video.json").is_file()


# --- in a browser ---

HARNESS = """<!doctype html><iframe id="f" src="report.html" width="420" height="900"></iframe><pre id="out"></pre>
<script>
document.getElementById("f").addEventListener("load", () => {
  const page = document.getElementById("f").contentDocument, seen = {};
  seen.wide = page.documentElement.scrollWidth;
  seen.images = [...page.images].every((i) => i.complete && i.naturalWidth > 0);
  seen.count = page.images.length;
  seen.lines = [...page.querySelectorAll("path.line")].filter((p) => p.getTotalLength() > 0).length;
  seen.marks = page.querySelectorAll("path.missed, path.added").length;
  document.getElementById("out").textContent = btoa(JSON.stringify(seen));
});
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_draws_it_without_an_error(result: VideoResult, page: str, tmp_path: Path) -> None:
    import json

    assert CHROMIUM is not None
    (tmp_path / "report.html").write_text(page)
    (tmp_path / "harness.html").write_text(HARNESS)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr"]
    options += ["--disable-web-security", "--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [CHROMIUM, *options, "--virtual-time-budget=8000", "--dump-dom", str(tmp_path / "harness.html")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    found = re.search(r'<pre id="out">([^<]+)</pre>', done.stdout)
    assert found is not None, done.stdout[-500:] + done.stderr[-500:]
    seen = json.loads(base64.b64decode(found[1]))
    assert seen["wide"] <= 420 and seen["images"] and seen["count"] >= 10
    assert seen["lines"] == page.count('class="line') and seen["marks"] >= 1


def test_events_and_the_identity_control_are_of_each_model_and_never_of_all() -> None:
    def part(swapped: int) -> dict[str, Any]:
        events = {"blink": {"target": 4, "swapped": swapped, "recall": swapped / 4, "precision": 1.0}}
        return {"events": events, "identity": {"n": 9, "mean_t2c": swapped / 10}}

    parts, first = by_model({**part(3), "models": {"A": part(1), "B": part(2)}})
    sheet = events_sheet(parts, first)
    assert [[str(c) for c in r.cells][:5] for r in sheet.rows] == [
        ["A", "blink", "4", "1", "0.25"],
        ["B", "blink", "4", "2", "0.50"],
    ]
    assert [line.partition(":")[0] for line in identity_lines(parts)] == ["A", "B"]
    parts, first = by_model({**part(3), "models": {"A": part(3)}})
    assert [str(c) for c in events_sheet(parts, first).rows[0].cells][:4] == ["blink", "4", "3", "0.75"]


# --- target and swapped side by side ---


def test_clips_are_drawn_beside_their_targets_frame_by_frame(result: VideoResult, tmp_path: Path) -> None:
    drawn = side_by_side.render(result, tmp_path)
    assert [p.suffix for p in drawn] == [".mp4"] * 2 and drawn[0].name == "001-misses.mp4"
    assert all(p.parent == tmp_path / "side_by_side" and re.fullmatch(r"[\w.-]+", p.name) for p in drawn)
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "side_by_side", *drawn]  # no draft is left
    seen = list(frames(drawn[1]))
    assert len(seen) == 50 and seen[1].time == pytest.approx(0.04, abs=1e-3)
    clip = result.clips.to_pylist()[1]
    rows = [r for r in result.frames.to_pylist() if r["clip"] == clip["id"]]
    target, swapped = ({f.index: f.image for f in frames(clip[role])} for role in ("target", "swapped"))
    for row in rows[5:50:10]:
        picture = seen[row["frame"]].image
        for left, original in ((0, target[row["frame"]]), (320, swapped[row["swapped_frame"]])):
            shown = cv2.resize(picture[:320, left : left + 320], (256, 256), interpolation=cv2.INTER_AREA)
            assert np.abs(shown.astype(float) - original).mean() < 8
    below = [f.image[340:] for f in seen]
    assert np.abs(below[40].astype(float) - below[5]).max() > 60  # the curve has grown


def test_a_clip_that_is_gone_is_told_and_no_draft_is_left(result: VideoResult, tmp_path: Path) -> None:
    clips = result.clips.set_column(
        result.clips.column_names.index("swapped"), "swapped", [[str(tmp_path / "gone.mp4")] * result.clips.num_rows]
    )
    with pytest.raises(ExprmetricError, match=r"gone\.mp4"):
        side_by_side.render(replace(result, clips=clips), tmp_path / "out")
    assert list((tmp_path / "out").rglob("*.*")) == []


def test_a_frame_wider_than_the_first_is_shown_whole(tmp_path: Path) -> None:
    roles = {role: tmp_path / role for role in ("target", "swapped")}
    for folder in roles.values():
        folder.mkdir()
        for number, width in enumerate((160, 320, 320)):
            image = np.zeros((160, width, 3), np.uint8)
            image[:, : width // 4], image[:, -width // 4 :] = 255, 128
            cv2.imwrite(str(folder / f"{number}.png"), image)
    clip = {"id": "c", **{role: str(folder) for role, folder in roles.items()}, "person": 0, "status": "ok"}
    rows = [
        {"clip": "c", "person": 0, "frame": i, "swapped_frame": i, "time": i / 25, "status": "ok", "m.t2c": 0.1}
        for i in range(3)
    ]
    result = VideoResult(
        {"methods": {"m": {}}, "settings": {}}, pa.Table.from_pylist([clip]), pa.Table.from_pylist(rows)
    )
    (drawn,) = side_by_side.render(result, tmp_path / "out")
    for frame in frames(drawn):
        for panel in np.split(frame.image[side_by_side.HEIGHT // 2, :, 0].astype(int), 2):
            assert panel[8] > 230 and 100 < panel[-8] < 160, "both edges are there"
