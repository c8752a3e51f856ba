"""Tags of one's own in videos: pooling, thresholds, segments, rates and subtitles against values worked out by hand."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import write
from made_faces import Seen, Space, video
from PIL import Image

from exprmetric.errors import InputError, NoFaceError, UnreadableImageError
from exprmetric.io.images import read_image
from exprmetric.video.people import outputs, thresholds
from exprmetric.video.people.courses import courses, nearest_moments
from exprmetric.video.people.courses import pooled as pooled_rows
from exprmetric.video.people.people import People, find_people
from exprmetric.video.people.references import Reference, add_reference, checked_tag, read_references, reference_files
from exprmetric.video.people.tagging import Segment, closest, intensity, spans, tag
from exprmetric.video.people.thresholds import Threshold, calibrate, threshold_of

WHO, OTHER = (0.0, 0.0), (3.0, 0.0)


def reference(vector: tuple[float, float], *tags: str) -> Reference:
    return Reference(frozenset(tags), Path(f"{'+'.join(tags)}.png"), np.array(vector, np.float32))


# --- pooling ---


def pooled(values: Any, place: Any, track: Any, *extent: int) -> Any:
    rows = np.arange(len(values))
    return pooled_rows(np.asarray(values, np.float32), rows, np.asarray(place), np.asarray(track), *extent)


def test_the_median_of_three_frames() -> None:
    values = [[1.0, 0.0], [9.0, 1.0], [2.0, 5.0], [3.0, 4.0]]
    found = pooled(values, [0, 1, 2, 3], [0, 0, 0, 0])
    # the ends have two frames, whose median is the mean; between, each component by itself
    assert found.tolist() == [[5.0, 0.5], [2.0, 1.0], [3.0, 4.0], [2.5, 4.5]]
    assert pooled(values, [0, 1, 2, 3], [0, 0, 0, 0], 1).tolist() == values
    assert pooled([[1.0], [2.0], [7.0], [8.0], [9.0]], range(5), [0] * 5, 5)[2] == 7.0


def test_nothing_is_pooled_over_gaps_and_cuts() -> None:
    assert pooled([[1.0], [9.0], [2.0]], [0, 2, 4], [0, 0, 0]).tolist() == [[1.0], [9.0], [2.0]]
    assert pooled([[1.0], [9.0], [2.0]], [0, 1, 2], [0, 1, 1]).tolist() == [[1.0], [5.5], [5.5]]


def test_long_courses_are_pooled_as_short_ones() -> None:
    values = np.random.default_rng(0).normal(size=(9000, 3)).astype(np.float32)
    place = np.sort(np.random.default_rng(1).permutation(12_000)[:9000])
    found = pooled(values, place, np.zeros(9000))
    for i in (0, 17, 4095, 4096, 4097, 8999):
        near = np.abs(place - place[i]) <= 1
        assert np.array_equal(found[i], np.median(values[near], axis=0))


def test_courses_leave_out_what_cannot_be_used_and_say_so() -> None:
    faces = [Seen(i, 0, WHO, (float(i), 0.0)) for i in range(6)]
    faces[2] = Seen(2, 0, WHO, (99.0, 0.0), sharpness=2.0)
    faces[4] = Seen(4, 0, WHO, (np.nan, 0.0))
    faces += [Seen(5, 1, WHO, (7.0, 0.0), side=80.0), Seen(0, 2, OTHER, (0.0, 0.0))]
    clip = video(faces, 8)
    people = find_people([clip], least=2)
    (course,), (left,) = courses([clip], people, "space")
    assert course.frame.tolist() == [0, 1, 3, 5]
    assert course.vectors[:, 0].tolist() == [0.5, 0.5, 3.0, 7.0]  # of two faces in frame 5 the larger
    assert course.start == pytest.approx([0, 0.04, 0.12, 0.2]) and course.end == pytest.approx(course.start + 0.04)
    assert vars(left) == {"faces": 8, "used": 4, "nobody": 1, "unfit": 1, "unread": 1, "double": 1}
    (course,), _ = courses([clip], people, "space", required="any", pool=1)
    assert course.frame.tolist() == [0, 1, 2, 3, 5] and course.vectors[2, 0] == 99.0
    for wrong in ({"required": "good"}, {"pool": 2}, {"pool": 0}):
        with pytest.raises(InputError):
            courses([clip], people, "space", **wrong)  # type: ignore[arg-type]


def test_the_last_frame_lasts_as_long_as_most() -> None:
    clip = video([Seen(2, 0, WHO, (0.0, 0.0))], 3, step=0.5)
    (course,), _ = courses([clip], find_people([clip], least=1), "space")
    assert (course.start[0], course.end[0]) == (1.0, 1.5)


# --- thresholds ---


def test_three_in_four_of_the_same_but_one_in_twenty_of_the_others() -> None:
    assert calibrate([1.0, 2.0, 3.0, 4.0, 5.0], [], "x").value == 4.0
    assert calibrate([1.0, 2.0, 3.0, 4.0, 5.0], np.arange(2.0, 23.0), "x").value == 3.0
    with pytest.raises(InputError, match="above 0"):
        Threshold(0.0, "")
    with pytest.raises(InputError, match="above 0"):
        Threshold(float("nan"), "")


def test_where_a_threshold_comes_from() -> None:
    clip = video([Seen(i, 0, WHO, (0.1 * i * (i % 2), 0.0)) for i in range(5)], 5)
    found, _ = courses([clip], find_people([clip]), "space", pool=1)
    few = [reference((0.0, 0.0), "a"), reference((1.0, 0.0), "a")]
    many = [reference((float(i), 0.0), "a") for i in range(5)] + [reference((100.0, 0.0), "b")]
    space = Space()
    assert threshold_of(space, few, found, 0.7) == Threshold(0.7, "asked for")
    same = threshold_of(space, many, found)  # 4 x 1, 3 x 2, 2 x 3, 1 x 4: three in four are at most 2.75
    assert same.value == pytest.approx(2.75) and same.measured_on.startswith("10 pairs of references of one tag, 5 of")
    steps = threshold_of(space, few, found)  # steps of 0.1 0.1 0.3 0.3
    assert steps.value == pytest.approx(0.3) and "4 steps from a frame to the next" in steps.measured_on
    space.name = "feenet"
    assert threshold_of(space, few, found).value == 0.5
    space.name = "mine"
    space.tag_threshold = 0.5  # of any checkpoint of FEENet, whatever it is called
    assert threshold_of(space, many, found).value == 0.5
    space.tag_threshold = None
    space.name = "other"
    with pytest.raises(InputError, match="no threshold is known for 'other'"):
        threshold_of(space, few, [])
    assert all(t.measured_on and t.value > 0 for t in thresholds.CALIBRATED.values())


def test_intensity_is_one_at_the_reference_and_half_at_the_threshold() -> None:
    assert intensity([0.0, 0.5, 1.0], 0.5).tolist() == [1.0, 0.5, 0.0625]


# --- tags, segments, rates ---


def test_spans() -> None:
    assert spans([0, 1, 1, 0, 1], [0, 1, 2, 3, 4]) == [slice(1, 3), slice(4, 5)]
    assert spans([1, 1, 1], [0, 1, 3]) == [slice(0, 2), slice(2, 3)]  # a frame without a face lies between
    assert spans([0, 0], [0, 1]) == []


def tagged_clip():  # type: ignore[no-untyped-def]
    """x over time: near smile (0) for frames 0-2, of none, near frown (1) for 4-5, a gap, near frown again at 8."""
    x = {0: 0.1, 1: 0.0, 2: 0.2, 3: 0.5, 4: 0.8, 5: 1.0, 8: 0.9}
    clip = video([Seen(i, 0, WHO, (v, 0.0)) for i, v in x.items()], 10, path="c.mp4")
    found, _ = courses([clip], find_people([clip]), "space", pool=1)
    references = [reference((0.0, 0.0), "smile", "happy"), reference((1.0, 0.0), "frown")]
    return found, references, tag(found, references, Space(), Threshold(0.3, "by hand"))


def test_the_nearest_reference_within_the_threshold_gives_its_tags() -> None:
    found, _, done = tagged_clip()
    assert len(found) == 1 and done.tags == ("frown", "happy", "smile")
    smile, frown = [1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1]
    assert done.courses[0].tagged.T.astype(int).tolist() == [frown, smile, smile]
    assert done.courses[0].distances[0] == pytest.approx([0.9, 0.1, 0.1])
    segments = [
        (s.tag, round(s.start, 3), round(s.end, 3), s.faces, round(s.distance, 3), round(s.time, 3))
        for s in done.segments
    ]
    assert segments == [
        ("happy", 0.0, 0.12, 3, 0.0, 0.04),
        ("smile", 0.0, 0.12, 3, 0.0, 0.04),
        ("frown", 0.16, 0.24, 2, 0.0, 0.2),
        ("frown", 0.32, 0.36, 1, 0.1, 0.32),
    ]
    rates = done.rates(0)
    assert rates["frown"] == {"faces": 3, "rate": 3 / 7, "seconds": pytest.approx(0.12), "segments": 2}
    assert rates["smile"]["rate"] == 3 / 7 and done.rates(5)["smile"]["rate"] == 0.0
    with pytest.raises(InputError, match="no references"):
        tag(found, [], Space(), done.threshold)


def test_a_face_between_two_references_has_the_nearer_ones_tag_alone() -> None:
    clip = video([Seen(i, 0, WHO, (0.4, 0.0)) for i in range(3)], 3)
    found, _ = courses([clip], find_people([clip]), "space")
    done = tag(found, [reference((0.0, 0.0), "a"), reference((1.0, 0.0), "b")], Space(), Threshold(9.0, ""))
    assert {s.tag for s in done.segments} == {"a"}


def test_the_two_closest_frames_are_not_the_same_moment() -> None:
    x = [0.5, 0.1, 0.0, 0.1, 0.5] + [0.9] * 40 + [0.3, 0.2, 0.3]
    clip = video([Seen(i, 0, WHO, (v, 0.0)) for i, v in enumerate(x)], len(x))
    found, _ = courses([clip], find_people([clip]), "space", pool=1)
    references = [reference((0.0, 0.0), "a")]
    done = tag(found, references, Space(), Threshold(0.15, ""))
    near = closest(done, references, Space())
    assert [(c.frame, round(c.distance, 3), c.reference) for c in near] == [(2, 0.0, "a.png"), (46, 0.2, "a.png")]


def test_moments_stand_apart() -> None:
    values, times = [3.0, 1.0, 2.0, np.nan, 1.5, 9.0], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert nearest_moments(values, times, 3, 2.0) == [1, 4]
    assert nearest_moments(values, times, 3, 1.0) == [1, 4, 2]
    assert nearest_moments(values, times, 9, 0.0) == [1, 4, 2, 0, 5]
    assert nearest_moments([np.nan], [0.0], 1, 1.0) == []


# --- subtitles ---


def test_subtitles_state_times_and_hold_no_markup() -> None:
    segments = [
        Segment(0, 1, "late", 3661.0005, 3661.2, 1, 0.0, 0.0),
        Segment(0, 0, "a --> b\n\n<b>&", 0.04, 0.12, 1, 0.0, 0.0),
        Segment(0, 0, "at once", 59.9996, 59.9996, 1, 0.0, 0.0),
    ]
    assert outputs.webvtt(segments, ["Ann\r\nLee", "Bob"]) == (
        "WEBVTT\n\n"
        "00:00:00.040 --> 00:00:00.120\nAnn Lee: a --&gt; b &lt;b&gt;&amp;\n\n"
        "00:01:00.000 --> 00:01:00.001\nAnn Lee: at once\n\n"
        "01:01:01.000 --> 01:01:01.200\nBob: late\n"
    )
    assert outputs.webvtt([], []) == "WEBVTT\n"


def test_files_are_named_after_videos_and_stay_in_their_folder() -> None:
    names = outputs._distinct(["a", "A", "../../x", "..", "", "a-2", "p q/r"])
    assert names == ["a", "A-2", "_.._x", "video", "video-2", "a-2-2", "p_q_r"]
    assert all(re.fullmatch(r"[\w.-]+", n) and not n.startswith(".") for n in names)


def test_tables_have_empty_cells_and_quotes() -> None:
    rows = [{"a": None, "b": 'x,"y"'}, {"a": 0.5, "b": "z"}]
    assert outputs.csv_bytes(rows, ("a", "b")) == b'a,b\n,"x,""y"""\n0.5,z\n'


# --- the database ---


def test_a_database_is_a_folder_of_tags(tmp_path: Path, portrait_photo: Path) -> None:
    for name in ("smile", "happy"):
        (tmp_path / name).mkdir()
        shutil.copy(portrait_photo, tmp_path / name / "same.png")
    (tmp_path / ".git").mkdir()
    shutil.copy(portrait_photo, tmp_path / ".git" / "x.png")
    assert list(reference_files(tmp_path).values()) == [{"smile", "happy"}]
    (found,) = read_references(tmp_path, "lm68", detector="dlib")
    assert found.tags == {"smile", "happy"} and found.vector.shape == (136,)
    Image.new("RGB", (64, 64)).save(tmp_path / "smile" / "grey.png")
    with pytest.raises(InputError, match=r"the reference .*grey\.png.* can't be used: .*no face"):
        read_references(tmp_path, "lm68", detector="dlib")
    with pytest.raises(InputError, match="holds no references"):
        reference_files(tmp_path / "smile")
    with pytest.raises(InputError, match="no such folder"):
        reference_files(tmp_path / "gone")


def test_faces_are_added_below_each_of_their_tags(tmp_path: Path, portrait_photo: Path) -> None:
    database = tmp_path / "new" / "db"
    written = add_reference(database, ["smile", "big smile"], portrait_photo, detector="dlib")
    assert [p.parent for p in written] == [database / "smile", database / "big smile"]
    assert all(p.read_bytes() == portrait_photo.read_bytes() for p in written)
    assert add_reference(database, ["smile", "big smile"], portrait_photo, detector="dlib") == written
    assert list(reference_files(database).values()) == [{"smile", "big smile"}]
    odd = tmp_path / "face.dat"
    shutil.copy(portrait_photo, odd)
    (kept,) = add_reference(database, ["odd"], odd, detector="dlib")
    assert kept.suffix == ".png" and np.array_equal(read_image(kept), read_image(portrait_photo))


@pytest.mark.parametrize("name", ["", "  ", "..", ".x", "a/b", "a\\b", "a\nb", "a\0b", "x" * 101])
def test_a_tag_cannot_leave_the_database(tmp_path: Path, portrait_photo: Path, name: str) -> None:
    with pytest.raises(InputError, match="can't be a tag"):
        add_reference(tmp_path / "db", ["fine", name], portrait_photo, detector="dlib")
    assert not (tmp_path / "db").exists()
    assert checked_tag("Überraschung 笑") == "Überraschung 笑"


def test_a_moment_of_a_video_is_added(tmp_path: Path, portrait_photo: Path) -> None:
    pytest.importorskip("av")
    face = np.ascontiguousarray(read_image(portrait_photo)[:256, 96:352])
    pictures = [np.zeros_like(face)] * 5 + [face] * 5
    clip = write(tmp_path / "clip.mp4", pictures)
    (kept,) = add_reference(tmp_path / "db", ["a"], clip, at=0.21, detector="dlib")
    assert kept.name.startswith("clip-0.21s-") and read_image(kept).mean() > 30
    with pytest.raises(NoFaceError, match=r"clip\.mp4"):  # what is shown at 0.19 s is the frame of 0.16 s
        add_reference(tmp_path / "db", ["a"], clip, at=0.19, detector="dlib")
    add_reference(tmp_path / "db", ["a"], clip, at=0.39, detector="dlib")
    with pytest.raises(InputError, match="shows nothing at 3 s"):
        add_reference(tmp_path / "db", ["a"], clip, at=3.0, detector="dlib")
    with pytest.raises(UnreadableImageError):
        add_reference(tmp_path / "db", ["a"], clip, detector="dlib")


def test_people_keep_names() -> None:
    assert People(("a",), (0.1,), ()).index("a") == 0
