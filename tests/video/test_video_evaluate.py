"""Swapped videos from end to end, on clips whose answer is known: the target itself, late, frozen, silent, blurred."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import Actor, write

from exprmetric.errors import InputError, NoFaceError, VideoError
from exprmetric.inputs.triplets import Triplet
from exprmetric.inputs.videos import read_video_triplets
from exprmetric.io.images import read_image
from exprmetric.report.video import video_report_page
from exprmetric.video.faces.table import ROWS, VideoFaces
from exprmetric.video.scores.clip import worst_seconds
from exprmetric.video.scores.evaluate import VideoSettings, evaluate_video, evaluate_videos
from exprmetric.video.scores.pairing import align, changed, main_person, people
from exprmetric.video.scores.partners import NONE, partners
from exprmetric.video.scores.result import VideoResult

METHODS = ("default", "lm51")
FAST = VideoSettings(detector="dlib", detect_every=8, identity=False)
COUNT = 48


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)


@pytest.fixture(scope="module")
def stage(portrait_photo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of one head: `target` grins three times; `late` does 6 frames later, `still` doesn't, `frozen` stands."""
    import cv2

    folder, actor = tmp_path_factory.mktemp("stage"), Actor(portrait_photo)
    t = np.arange(-10, COUNT + 10)
    grin = sum(np.exp(-(((t - at) / 2.5) ** 2)) for at in (8, 21, 38))
    shown = actor.play(np.minimum(grin, 1).tolist())
    target = shown[10 : 10 + COUNT]
    write(folder / "target.mp4", target)
    write(folder / "late.mp4", shown[4 : 4 + COUNT])
    write(folder / "still.mp4", actor.play([0.0] * len(t))[10 : 10 + COUNT])
    write(folder / "frozen.mp4", [target[4]] * COUNT)
    write(folder / "blurred.mp4", [cv2.GaussianBlur(i, (0, 0), 2.5) for i in target])
    write(folder / "slow.mp4", target[::2], rate=Fraction(25, 2))
    write(folder / "retimed.mp4", target[:-1], rate=30)
    gone = [np.full_like(i, 90) if 20 <= n < 30 else i for n, i in enumerate(target)]
    write(folder / "gone.mp4", gone)
    write(folder / "empty.mp4", [np.full_like(target[0], 90)] * 4)
    return folder


@pytest.fixture(scope="module")
def measured(stage: Path, portrait_photo: Path) -> Callable[[str], dict[str, Any]]:
    """The record of a clip against `target`, measured once."""
    found: dict[str, dict[str, Any]] = {}

    def measure(name: str) -> dict[str, Any]:
        if name not in found:
            result = evaluate_video(stage / "target.mp4", portrait_photo, stage / f"{name}.mp4", METHODS, FAST, jobs=2)
            found[name] = result.summary["clips"][0]
        return found[name]

    return measure


def test_a_clip_against_itself_is_perfect(measured: Callable[[str], dict[str, Any]]) -> None:
    clip = measured("target")
    assert clip["coverage"] == {"frames": COUNT, "ok": COUNT, "failed": {}}
    assert clip["offset"]["frames"] == 0 and not clip["offset"]["shifted"]
    for method in METHODS:
        scores, course = clip["methods"][method], clip["methods"][method]["temporal"]
        assert scores["mean_t2c"] == 0 and scores["ratio"] == 1 and scores["l2_error"] == 0
        assert course["correlation"] == pytest.approx(1) and course["amplitude"] == pytest.approx(1)
        assert course["dtw"] == 0 and course["flicker_db"] == 0 and course["event_recall"] == 1
    assert clip["events"]["jaw_open"]["target"] == 3 and clip["events"]["jaw_open"]["recall"] == 1


def test_a_late_clip_is_reported_and_not_shifted(measured: Callable[[str], dict[str, Any]]) -> None:
    clip = measured("late")
    assert clip["offset"]["frames"] == 6 and clip["offset"]["shifted"]
    assert clip["offset"]["seconds"] == pytest.approx(0.24)
    course = clip["methods"]["default"]["temporal"]
    assert course["lag"]["correlation"] > 0.9 and course["correlation"] < 0.7
    assert clip["methods"]["default"]["mean_t2c"] > 0.05


@pytest.mark.parametrize("name", ["frozen", "still"])
def test_without_dynamics_a_clip_loses_them(measured: Callable[[str], dict[str, Any]], name: str) -> None:
    late, clip = measured("late"), measured(name)
    course = clip["methods"]["default"]["temporal"]
    assert course["correlation"] < 0.4 and course["amplitude"] < 0.5 and course["event_recall"] < 0.5
    grins = clip["events"]["jaw_open"]
    assert grins["target"] == 3 and len(grins["missed"]) >= 2 and grins["recall"] < 0.5
    assert not clip["offset"] or not clip["offset"]["shifted"]
    # the distance alone would not tell it from a swap that merely comes late
    assert clip["methods"]["default"]["mean_t2c"] < 2 * late["methods"]["default"]["mean_t2c"]


@pytest.fixture(scope="module")
def couple(portrait_photo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two heads side by side, the right one smaller, in frames 4 to 39 alone; `swapped` keeps its grins only."""
    import cv2

    folder, actor = tmp_path_factory.mktemp("couple"), Actor(portrait_photo)
    t = np.arange(44)
    left, right = (sum(np.exp(-(((t - at) / 2.5) ** 2)) for at in peaks) for peaks in ((8, 30), (18,)))
    stills = {"target": (left, right), "swapped": (0 * left, right)}
    for name, (a, b) in stills.items():
        images = []
        for i, (x, y) in enumerate(zip(actor.play(a.tolist()), actor.play(b.tolist()), strict=True)):
            small = cv2.resize(np.ascontiguousarray(y[:, ::-1]), (192, 192), interpolation=cv2.INTER_AREA)
            image = np.full((256, 448, 3), 90, np.uint8)
            image[:, :256] = x
            if 4 <= i < 40:
                image[32:224, 256:] = small
            images.append(image)
        write(folder / f"{name}.mp4", images)
    return folder


@pytest.mark.slow
def test_everybody_has_scores_of_their_own(couple: Path, portrait_photo: Path) -> None:
    paths = (couple / "target.mp4", portrait_photo, couple / "swapped.mp4")
    how = VideoSettings(detector="dlib", detect_every=4)
    alone = evaluate_video(*paths, ["lm51"], how)
    both = evaluate_video(*paths, ["lm51"], replace(how, people="all"))
    first, second = both.summary["clips"]
    (only,) = alone.summary["clips"]
    assert first == only and (first["person"], second["person"]) == (1, 2)
    assert (first["coverage"]["frames"], second["coverage"]["frames"]) == (44, 36)
    assert (
        first["methods"]["lm51"]["temporal"]["amplitude"] < 0.6
        and second["methods"]["lm51"]["temporal"]["amplitude"] > 0.9
    )
    assert second["methods"]["lm51"]["mean_t2c"] < 0.6 * first["methods"]["lm51"]["mean_t2c"]
    assert both.summary["coverage"]["clips"] == both.summary["coverage"]["ok"] == 1
    assert both.summary["coverage"]["people"] == 2 and both.summary["coverage"]["frames"]["total"] == 80
    frames = both.frames.to_pylist()
    assert frames[:44] == alone.frames.to_pylist() and [f["frame"] for f in frames[44:]] == list(range(4, 40))
    assert all(f["target.x1"] < 256 for f in frames[:44])
    assert all(f["target.x0"] > 240 for f in frames[44:]) and {f["person"] for f in frames[44:]} == {2}
    assert both.clips.column("person").to_pylist() == [1, 2]
    t2c = [f["lm51.t2c"] for f in frames if f["lm51.t2c"] is not None]
    assert both.summary["methods"]["lm51"]["mean_t2c"]["value"] == pytest.approx(np.mean(t2c))
    page = video_report_page(both)
    assert "person 2" in page and "1 of 1 clips measured, 2 people, 80 of 80 frames" in page
    with pytest.raises(InputError, match="people"):
        evaluate_videos([], ["lm51"], VideoSettings(people="none"))


def test_anonymized_people_of_a_video_need_no_source(couple: Path, portrait_photo: Path, tmp_path: Path) -> None:
    how = VideoSettings(detector="dlib", detect_every=4, people="all")
    sourced = evaluate_video(couple / "target.mp4", portrait_photo, couple / "swapped.mp4", ["lm51"], how)
    found = evaluate_video(couple / "target.mp4", None, couple / "swapped.mp4", ["lm51"], how)
    scores, before = found.summary["methods"]["lm51"], sourced.summary["methods"]["lm51"]
    assert scores["mean_t2c"] == before["mean_t2c"] and scores["temporal"] == before["temporal"]
    assert scores["mean_t2c"]["ci95"][0] is not None  # two people are two groups
    assert not {"l2_error", "ratio", "mean_s2c", "mean_s2t"} & scores.keys()
    assert scores["anchors"]["nothing_swapped"]["mean_t2c"] == 0.0 and "source_pasted" not in scores["anchors"]
    assert scores["anchors"]["another_target"] == before["anchors"]["another_target"]
    assert found.summary["identity"].keys() == {"n", "mean_t2c", "same_person"}
    alike = [f["identity.t2c"] < 0.6 for f in found.frames.to_pylist()]
    assert found.summary["identity"]["same_person"]["value"] == pytest.approx(sum(alike) / len(alike))
    assert "judged on photographs" in found.summary["notes"][0] and not sourced.summary["notes"]
    first, second = found.summary["clips"]
    assert (first["person"], second["person"], first["source"]) == (1, 2, "")
    assert "ratio" not in first["methods"]["lm51"] and "nearer_to_source" not in second
    frames = found.frames.to_pylist()
    assert {f["lm51.s2c"] for f in frames} == {None} and frames[9]["lm51.t2c"] == sourced.frames.to_pylist()[9][
        "lm51.t2c"
    ]
    loaded = VideoResult.load(found.save(tmp_path / "out"))
    assert json.loads(loaded.to_json()) == json.loads(found.to_json())
    assert "person 2" in video_report_page(loaded)


def test_frames_without_a_face_are_rows_with_a_reason(stage: Path, portrait_photo: Path, tmp_path: Path) -> None:
    result = evaluate_video(stage / "target.mp4", portrait_photo, stage / "gone.mp4", METHODS, FAST)
    frames = result.frames.to_pylist()
    assert [f["frame"] for f in frames] == list(range(COUNT))
    for i, frame in enumerate(frames):
        assert frame["status"] == ("no_face" if 20 <= i < 30 else "ok")
        assert ("swapped" in frame["reason"]) == (20 <= i < 30) == (frame["default.t2c"] is None)
    assert result.summary["coverage"]["frames"] == {"total": COUNT, "ok": 38, "failed": {"no_face": 10}}
    # and the other way round
    back = evaluate_video(stage / "gone.mp4", portrait_photo, stage / "target.mp4", METHODS, FAST).frames.to_pylist()
    assert all("target" in f["reason"] for f in back[20:30]) and [f["status"] for f in back].count("ok") == 38

    out = result.save(tmp_path / "new" / "out")
    assert json.loads((out / "video.json").read_text())["clips"][0]["coverage"]["ok"] == 38
    rows = list(csv.DictReader((out / "frames.csv").open()))
    assert len(rows) == COUNT and rows[25]["default.t2c"] == "" and float(rows[3]["default.t2c"]) < 0.05
    (clip,) = csv.DictReader((out / "clips.csv").open())
    assert clip["frames_ok"] == "38" and float(clip["default.mean_t2c"]) < 0.05
    loaded = VideoResult.load(out)
    assert loaded.frames.equals(result.frames) and loaded.summary == json.loads(result.to_json())
    (out / "frames.parquet").write_bytes(b"damaged")
    with pytest.raises(InputError, match="out"):
        VideoResult.load(out)


def test_a_blurred_swap_fails_faceqa(stage: Path, portrait_photo: Path) -> None:
    settings = VideoSettings(detector="dlib", detect_every=8, identity=False, quality="paper004")
    result = evaluate_video(stage / "target.mp4", portrait_photo, stage / "blurred.mp4", ["lm51"], settings)
    status = result.frames.column("status").to_pylist()
    assert set(status) == {"low_quality"} and "swapped: blurred" in result.frames.column("reason")[0].as_py()
    assert result.summary["coverage"]["ok"] == 0 and result.summary["clips"][0]["status"] == "low_quality"
    sharp = np.array(result.frames.column("target.sharpness").to_pylist())
    assert (sharp > 3).all() and (np.array(result.frames.column("swapped.sharpness").to_pylist()) < 3).all()
    assert result.summary["methods"]["lm51"]["mean_t2c"]["value"] is None
    json.loads(result.to_json())


def test_a_swap_at_half_the_rate_is_compared_at_half_the_rate(measured: Callable[[str], dict[str, Any]]) -> None:
    clip = measured("slow")
    assert clip["coverage"] == {"frames": COUNT, "ok": COUNT // 2, "failed": {"unpaired": COUNT // 2}}
    course = clip["methods"]["default"]["temporal"]
    assert course["correlation"] > 0.9 and course["lag"]["frames"] == 0 and course["velocity_correlation"] > 0.8


def test_a_swap_of_another_rate_with_a_frame_less_is_paired_by_index(
    measured: Callable[[str], dict[str, Any]],
) -> None:
    clip = measured("retimed")
    assert clip["coverage"] == {"frames": COUNT, "ok": COUNT - 1, "failed": {"unpaired": 1}}
    scores = clip["methods"]["default"]
    assert scores["mean_t2c"] < 0.015 and scores["temporal"]["correlation"] > 0.98  # by time it is 0.05 and more
    pairing = clip["pairing"]
    assert pairing["by"] == "index" and pairing["target"] == {"frames": COUNT, "rate": 25.0}
    assert pairing["swapped"] == {"frames": COUNT - 1, "rate": 30.0}
    assert "48 frames at 25 a second, the swap 47 at 30" in pairing["note"] and "movement agrees" in pairing["note"]
    assert measured("target")["pairing"]["note"] == "" and measured("slow")["pairing"]["by"] == "time"
    assert "24 at 12.5: frames are paired by time" in measured("slow")["pairing"]["note"]


def test_how_frames_were_paired_is_in_the_table_the_page_and_the_files(
    stage: Path, portrait_photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from exprmetric.report.video_tables import print_result

    how = replace(FAST, every=4)
    result = evaluate_video(stage / "target.mp4", portrait_photo, stage / "slow.mp4", ["lm51"], how)
    print_result(result)
    said = "12 frames at 6.25 a second, the swap 6 at 3.125: frames are paired by time"
    assert said in capsys.readouterr().out and said in video_report_page(result)
    (row,) = csv.DictReader((result.save(tmp_path) / "clips.csv").open())
    assert row["paired_by"] == "time"


def test_folders_of_frames_are_paired_by_the_numbers_in_their_names(
    stage: Path, portrait_photo: Path, tmp_path: Path
) -> None:
    from PIL import Image

    from exprmetric.io.video import frames

    shown = [f.image for f in frames(stage / "target.mp4") if f.index < 26]
    for name in ("target", "swapped"):
        (tmp_path / name).mkdir()
    for i, image in enumerate(shown):
        Image.fromarray(image).save(tmp_path / "target" / f"{i:04d}.png", compress_level=1)
        if not 5 <= i < 10:
            Image.fromarray(image).save(tmp_path / "swapped" / f"{i:04d}.png", compress_level=1)
    result = evaluate_video(tmp_path / "target", portrait_photo, tmp_path / "swapped", ["default"], FAST)
    (clip,) = result.summary["clips"]
    assert clip["coverage"] == {"frames": 26, "ok": 21, "failed": {"unpaired": 5}}
    rows = result.frames.to_pylist()
    assert all(row["swapped_frame"] in (None, row["frame"]) for row in rows)
    assert {row["reason"] for row in rows[5:10]} == {"no swapped frame has this number"}
    assert clip["methods"]["default"]["mean_t2c"] < 0.01 and clip["pairing"]["by"] == "number"
    assert "26 frames at 25 a second, the swap 21 at 25: frames are paired by number" in clip["pairing"]["note"]
    for path in (tmp_path / "swapped").iterdir():
        path.rename(path.with_name(f"x{path.name[2:]}"))
    (tmp_path / "swapped" / "cover.png").write_bytes((tmp_path / "target" / "0000.png").read_bytes())
    with pytest.raises(InputError, match="no frame of the one has its name in the other"):
        evaluate_video(tmp_path / "target", portrait_photo, tmp_path / "swapped", ["default"], FAST)


def test_every_nth_frame_is_compared_with_its_partner_wherever_the_numbers_begin(
    stage: Path, portrait_photo: Path, tmp_path: Path
) -> None:
    from PIL import Image

    from exprmetric.io.video import frames

    for name in ("target", "late", "odd"):
        (tmp_path / name).mkdir()
    for frame in frames(stage / "target.mp4", only=range(15)):
        names = ["target", *(["late"] if frame.index >= 5 else []), *(["odd"] if frame.index % 2 else [])]
        for name in names:  # the first frame of `late` is the target's sixth
            Image.fromarray(frame.image).save(tmp_path / name / f"{frame.index:04d}.png", compress_level=1)
    how = replace(FAST, every=2)
    result = evaluate_video(tmp_path / "target", portrait_photo, tmp_path / "late", ["lm51"], how)
    (clip,) = result.summary["clips"]
    assert clip["coverage"] == {"frames": 8, "ok": 5, "failed": {"unpaired": 3}}
    pairs = [(row["frame"], row["swapped_frame"]) for row in result.frames.to_pylist() if row["status"] == "ok"]
    assert pairs == [(6, 1), (8, 3), (10, 5), (12, 7), (14, 9)] and clip["methods"]["lm51"]["mean_t2c"] < 0.02
    with pytest.raises(InputError, match="no frame of the swap has the number of a frame that --every 2 looks at"):
        evaluate_video(tmp_path / "target", portrait_photo, tmp_path / "odd", ["lm51"], how)


def test_where_movement_does_not_tell_less_is_left_over() -> None:
    def video(count: int, rate: float) -> VideoFaces:
        return replace(faces({}, {}, count), all_times=np.arange(count) / rate)

    assert partners(video(60, 25), video(59, 30)).by == "index"  # 2.4 s and 1.97 s
    assert partners(video(60, 25), video(58, 24)).by == "time"  # 2.4 s and 2.42 s
    assert partners(video(60, 25), video(72, 30)).by == partners(video(60, 25), video(59, 25)).by == "time"
    assert partners(video(60, 25), video(60, 30)).by == "index"
    moving = {"index": 0.2, "time": 0.9}
    found = partners(video(60, 25), video(59, 30), None, lambda candidate: moving[candidate.by])
    assert found.by == "time" and "correlation 0.90; by index 0.20" in found.note


def test_many_clips_are_counted_one_by_one(stage: Path, portrait_photo: Path, tmp_path: Path) -> None:
    target = stage / "target.mp4"
    triplets = [
        Triplet("same", target, portrait_photo, target, model="copy"),
        Triplet("late", target, portrait_photo, stage / "late.mp4", model="slow"),
        Triplet("none", target, portrait_photo, stage / "empty.mp4", model="slow"),
        Triplet("lost", target, portrait_photo, tmp_path / "missing.mp4", model="slow"),
        Triplet("blank", target, stage / "empty.mp4", stage / "late.mp4", model="slow"),
    ]
    told: list[tuple[str, int, int]] = []
    result = evaluate_videos(triplets, ["lm51"], FAST, progress=lambda *step: told.append(step))
    status = dict(zip(result.clips.column("id").to_pylist(), result.clips.column("status").to_pylist(), strict=True))
    assert status == {"same": "ok", "late": "ok", "none": "unpaired", "lost": "unreadable", "blank": "no_face"}
    assert "missing.mp4" in result.summary["clips"][3]["reason"]
    coverage = result.summary["coverage"]
    assert (coverage["clips"], coverage["ok"]) == (5, 2)
    assert coverage["failed"] == {"no_face": 1, "no_frame": 1, "unreadable": 1}
    assert result.summary["models"]["copy"]["methods"]["lm51"]["mean_t2c"]["value"] == 0
    score = result.summary["methods"]["lm51"]["mean_t2c"]
    frames = [v for v in result.frames.column("lm51.t2c").to_pylist() if v is not None]
    assert score["value"] == pytest.approx(np.mean(frames)) and score["ci95"][0] <= score["value"] <= score["ci95"][1]
    assert [s for s in told if s[0] == "clips"] == [("clips", i, 5) for i in range(1, 6)]
    # the target's faces were looked for once
    assert sum(s == ("frames", 1, COUNT) for s in told) == 2


def test_wrong_calls_are_refused(stage: Path, portrait_photo: Path, tmp_path: Path) -> None:
    target = stage / "target.mp4"
    with pytest.raises(InputError, match="quality"):
        evaluate_videos([], ["lm51"], VideoSettings(quality="best"))
    with pytest.raises(InputError, match="no method"):
        evaluate_videos([], [])
    with pytest.raises(VideoError, match=r"swapped: .*missing"):
        evaluate_video(target, portrait_photo, tmp_path / "missing.mp4", ["lm51"], FAST)
    with pytest.raises(NoFaceError, match="source"):
        evaluate_video(target, stage / "empty.mp4", target, ["lm51"], FAST)


def test_folders_and_manifests_of_videos(stage: Path, portrait_photo: Path, tmp_path: Path) -> None:
    for role in ("target", "source", "swapped"):
        (tmp_path / role).mkdir()
    for name in ("target/a.mp4", "source/a.jpg", "swapped/a.mkv", "target/b.mp4", "source/b.png", "source/.x.mp4"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "swapped" / "b").mkdir()  # a folder of images is a video
    (tmp_path / "target" / "c.mp4").write_bytes(b"")
    a, b, c = read_video_triplets(tmp_path)
    assert (a.id, a.problem, b.problem) == ("a", "", "") and b.swapped == tmp_path / "swapped" / "b"
    assert "no source" in c.problem and "no swapped" in c.problem
    (tmp_path / "target" / "a.mov").write_bytes(b"")
    with pytest.raises(InputError, match="one name"):
        read_video_triplets(tmp_path)
    manifest = tmp_path / "clips.csv"
    manifest.write_text(
        "target,source,swapped,model\ntarget/a.mp4,source/a.jpg,swapped/b,m\ntarget/x.mp4,source/a.jpg,,m\n"
    )
    first, second = read_video_triplets(manifest)
    assert first.problem == "" and first.model == "m"
    assert "x.mp4" in second.problem and "no swapped" in second.problem
    with pytest.raises(InputError, match="nothing"):
        read_video_triplets(tmp_path / "nothing")


# pairing of faces


def faces(boxes: dict[tuple[int, int], tuple[float, float]], identity: dict[int, float], total: int) -> VideoFaces:
    """Faces by (frame, track): left edge and side of a square box in an image of 100 x 100 px."""
    keys = sorted(boxes)
    n = len(keys)
    rows = {k: np.full((n, *shape), 9).astype(kind) for k, (kind, shape) in ROWS.items()}
    edge = np.array([boxes[k] for k in keys], np.float32).reshape(-1, 2)
    rows["box"] = np.column_stack([edge[:, 0], np.zeros(n), edge.sum(1), edge[:, 1]]).astype(np.float32)
    rows["frame"] = np.array([k[0] for k in keys], np.int64)
    rows["track"] = np.array([k[1] for k in keys], np.int64)
    who = np.array([[identity[k[1]], 0] for k in keys], np.float32).reshape(-1, 2)
    times = np.arange(total) / 25
    return VideoFaces("x", 25.0, 100, 100, np.arange(total), times, **rows, vectors={"identity": who})


def test_the_main_person_is_the_one_that_fills_most_of_the_video() -> None:
    found = faces(
        {
            (0, 0): (0, 20),
            (1, 0): (0, 20),
            (2, 0): (0, 20),
            (0, 1): (50, 40),
            (1, 1): (50, 40),
            (3, 2): (50, 30),
            (4, 3): (0, 30),
        },
        {0: 5.0, 1: 1.0, 2: 1.2, 3: 9.0},
        6,
    )
    # track 1, and track 2, which is the same person after a cut; nobody else
    assert [int(found.track[r]) if r != NONE else None for r in main_person(found)] == [1, 1, None, 2, None, None]


def test_the_swapped_face_is_the_one_at_the_targets_place() -> None:
    target = faces({(i, 0): (50, 40) for i in range(3)}, {0: 0.0}, 3)
    swapped = faces({(0, 0): (0, 45), (0, 1): (52, 38), (1, 0): (0, 45), (2, 1): (48, 40)}, {0: 0.0, 1: 1.0}, 3)
    line = align(target, swapped)
    assert line.status == ["ok", "no_face", "ok"] and "where the target's is" in line.reason[1]
    assert swapped.track[line.swapped_row[[0, 2]]].tolist() == [1, 1]


def test_everybody_is_a_person_of_their_own() -> None:
    boxes = {(i, 0): (50.0, 40.0) for i in range(12)} | {(i, 1): (0.0, 30.0) for i in range(3, 12)}
    boxes |= {(i, 2): (52.0, 30.0) for i in range(12, 16)}  # 0 again, after a cut
    boxes |= {(i, 3): (10.0, 20.0) for i in range(16, 20)}  # like 0, but never beside it: the same person
    boxes |= {(i, 4): (70.0, 10.0) for i in range(14, 16)}  # too few frames
    target = faces(boxes, {0: 0.0, 1: 0.3, 2: 0.1, 3: 0.2, 4: 9.0}, 20)
    main, other = people(target)
    assert np.array_equal(main, main_person(target))
    assert [int(t) for t in target.track[main]] == [0] * 12 + [2] * 4 + [3] * 4
    # 1 has an identity as near as anybody's, and is seen beside 0
    assert target.track[other[other != NONE]].tolist() == [1] * 9 and np.flatnonzero(other != NONE).tolist() == [
        *range(3, 12)
    ]
    assert people(faces({}, {}, 5)) == []
    line = align(target, target, person=other)
    assert line.frame.tolist() == [*range(3, 12)] and set(line.status) == {"ok"} and len(line.reason) == 9
    assert np.array_equal(line.target_row, line.swapped_row) and line.swapped_time == pytest.approx(line.time)


@pytest.mark.parametrize(
    ("after", "who"),
    [((0.1, 5.7), 1), ((0.9, 5.1), 0), ((0.1, 5.1), 0), ((0.8, 5.7), 0), ((0.02, 5.2), 0)],
    ids=["the smaller one", "the larger one", "nobody", "both", "hardly anybody"],
)
def test_of_two_people_the_one_whom_the_swap_changed_is_measured(after: tuple[float, float], who: int) -> None:
    boxes = {(i, track): ((50.0, 40.0), (0.0, 30.0))[track] for i in range(12) for track in (0, 1)}
    target, swapped = (faces(boxes, dict(enumerate(w)), 12) for w in ((0.0, 5.0), after))
    assert changed(target, swapped, people(target)) == who
    assert changed(target, swapped, people(target)[:1]) == 0


def test_a_swapped_face_is_one_persons_alone() -> None:
    target = faces({(0, 0): (20, 40), (0, 1): (45, 30)}, {0: 0.0, 1: 5.0}, 1)
    swapped = faces({(0, 0): (44, 30)}, {0: 5.0}, 1)  # it overlaps both
    assert align(target, swapped).status == ["no_face"]
    assert align(target, swapped, person=np.array([1])).status == ["ok"]


@pytest.mark.parametrize(
    ("left", "right", "status"),
    [(9.0, 5.0, "ok"), (5.0, 5.0, "ok"), (5.0, 9.0, "no_face"), (5.0, 0.0, "no_face"), (5.0, None, "no_face")],
    ids=["swapped", "by the neighbour's face", "mirrored and swapped", "mirrored", "moved"],
)
def test_a_neighbour_who_stands_at_the_targets_place_is_not_measured(left: float, right: float, status: str) -> None:
    target = faces({(i, t): ((0.0, 40.0), (50.0, 30.0))[t] for i in range(3) for t in (0, 1)}, {0: 0.0, 1: 5.0}, 3)
    seen = {0: left} if right is None else {0: left, 1: right}
    swapped = faces({(i, t): ((0.0, 40.0), (50.0, 30.0))[t] for i in range(3) for t in seen}, seen, 3)
    line = align(target, swapped)
    assert line.status == [status] * 3
    assert ("mirrored" in line.reason[0]) == (status == "no_face") == (line.measured[1][0] == NONE)
    nameless = [replace(f, vectors={}) for f in (target, swapped)]
    assert align(*nameless).status == ["ok"] * 3  # nobody is known, so nothing can be told


@pytest.mark.parametrize("change", ["same", "mirrored", "moved"])
def test_a_mirrored_or_moved_video_of_a_group_has_no_face_where_the_targets_was(
    change: str, group_photo: Path, portrait_photo: Path, tmp_path: Path
) -> None:
    import cv2

    image = cv2.resize(read_image(group_photo), (960, 664), interpolation=cv2.INTER_AREA)
    turned = {"same": image, "mirrored": image[:, ::-1], "moved": np.roll(image, (20, 298), (0, 1))}[change]
    write(tmp_path / "target.mp4", [image] * 3)
    write(tmp_path / "swapped.mp4", [np.ascontiguousarray(turned)] * 3)
    paths = (tmp_path / "target.mp4", portrait_photo, tmp_path / "swapped.mp4")
    result = evaluate_video(*paths, ["lm51"], VideoSettings(detector="dlib", detect_every=3))
    found = {(f["status"], "mirrored" in f["reason"]) for f in result.frames.to_pylist()}
    assert found == {("ok", False) if change == "same" else ("no_face", True)}


def test_worst_seconds_do_not_overlap_and_skip_what_is_not_known() -> None:
    times = np.arange(100) / 25
    values = np.full(100, 0.1)
    values[30:55], values[80:90], values[5:20] = 0.9, 0.5, np.nan
    worst = worst_seconds(times, values, most=2)
    assert (worst[0]["start"], worst[0]["mean"], worst[0]["frames"]) == (pytest.approx(30 / 25), pytest.approx(0.9), 25)
    assert worst[1]["start"] > worst[0]["end"] and worst[1]["mean"] == pytest.approx((10 * 0.5 + 15 * 0.1) / 25)
    assert worst_seconds(times, np.full(100, math.nan)) == []


# the shared clips


@pytest.mark.slow
@pytest.mark.shared
def test_the_published_swap_has_a_timeline(
    shared: Path, shared_data: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(shared / "weights"))
    folder = next(shared_data("videos").rglob("ghost_target.webp")).parent
    paths = (folder / f"ghost_{name}" for name in ("target.webp", "source.jpg", "swapped.webp"))
    result = evaluate_video(*paths, METHODS)
    (clip,) = result.summary["clips"]
    assert clip["coverage"] == {"frames": 66, "ok": 66, "failed": {}}
    assert clip["methods"]["default"]["ratio"] == 1 and not clip["offset"]["shifted"]
    assert result.summary["identity"]["nearer_to_source"]["value"] > 0.9
    assert result.frames.num_rows == 66
    assert result.summary["alarms"] == []


@pytest.mark.slow
@pytest.mark.shared
def test_clips_with_and_without_faces_have_honest_coverage(
    shared: Path, shared_data: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from exprmetric.video.faces.tracks import track_faces

    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(shared / "weights"))
    folder = next(shared_data("hard_inputs").rglob("no_face.mp4")).parent
    names = ("no_face.mp4", "noface_face.mov", "single_face.mp4")
    none, some, all_ = (track_faces(folder / name, ["lm51"], every=2) for name in names)
    assert len(none) == 0 and none.frames_without_face == none.frames_total == 48
    assert 0.3 < some.frames_without_face / some.frames_total < 0.8 and some.tracks == [0]
    assert all_.frames_without_face == 0 and len(all_) == all_.frames_total == 36


@pytest.mark.slow
@pytest.mark.shared
def test_a_clip_seven_frames_late_is_found_seven_frames_late(
    shared: Path, shared_data: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from exprmetric.io.video import frames

    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(shared / "weights"))
    folder = next(shared_data("videos").rglob("d10.mp4")).parent
    images = [f.image for f in frames(folder / "d10.mp4") if f.index < 107]
    target, late = write(tmp_path / "target.mp4", images[7:]), write(tmp_path / "late.mp4", images[:100])
    settings = VideoSettings(identity=False)
    (clip,) = evaluate_video(target, folder / "ghost_source.jpg", late, METHODS, settings).summary["clips"]
    assert clip["offset"]["frames"] == 7 and clip["offset"]["shifted"] and clip["offset"]["correlation"] > 0.95
    assert [clip["methods"][m]["temporal"]["lag"]["frames"] for m in METHODS] == [7, 7]


def test_rows_of_videos_in_python_are_read_as_the_manifest_of_them_is(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "a.mp4").touch()
    rows = [
        {"id": "x", "target": str(tmp_path / "frames"), "swapped": str(tmp_path / "a.mp4"), "model": "M"},
        {"target": str(tmp_path / "frames"), "swapped": str(tmp_path / "away.mp4"), "model": "M"},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    read = evaluate_videos(tmp_path / "m.jsonl", ["lm51"], FAST).summary["clips"]
    given = evaluate_videos(rows, ["lm51"], FAST).summary["clips"]
    assert given == read and "swapped not found" in given[1]["reason"] and "is a folder" not in given[0]["reason"]
    with pytest.raises(InputError, match=r"no column 'source'.*perhaps 'sorce'"):
        evaluate_videos([{**rows[0], "sorce": "s.png"}], ["lm51"], FAST)
    with pytest.raises(InputError, match="not int"):
        evaluate_videos(3, ["lm51"], FAST)  # type: ignore[arg-type]
