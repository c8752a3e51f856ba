"""Search: the nearest moments across people and videos, and queries that can't be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_faces import Seen, Space, video
from PIL import Image

from exprmetric.errors import InputError, NoFaceError, UnreadableImageError
from exprmetric.video.people.courses import courses
from exprmetric.video.people.library import find_inputs
from exprmetric.video.people.people import find_people
from exprmetric.video.people.search import query_vector, search

ANN, BOB = (0.0, 0.0), (3.0, 0.0)


def test_the_nearest_moments_whoever_shows_them() -> None:
    first = video([Seen(i, 0, ANN, (abs(i - 10) / 10, 0.0)) for i in range(60)], 60)
    second = video(
        [Seen(i, 0, BOB, (abs(i - 30) / 10 + 0.05, 0.0)) for i in range(60)]
        + [Seen(i, 1, ANN, (4.0 - i / 100, 0.0)) for i in range(60)],
        60,
    )
    people = find_people([first, second])
    found, _ = courses([first, second], people, "space", pool=1)
    query = np.zeros(2, np.float32)
    moments = search(query, found, Space(), count=4)
    ann, bob = people.labels[0][0], people.labels[1][0]
    assert [(m.video, m.person, m.frame) for m in moments] == [(0, ann, 10), (1, bob, 30), (0, ann, 35), (1, bob, 5)]
    assert [m.distance for m in moments] == pytest.approx([0.0, 0.05, 2.5, 2.55])
    assert moments[1].time == pytest.approx(1.2) and second.frame[moments[1].row] == 30
    assert [m.frame for m in search(query, found, Space(), count=3, apart=0.0)] == [10, 30, 9]
    assert search(query, [], Space()) == []
    for wrong in ({"count": 0}, {"apart": -1.0}, {"apart": float("nan")}):
        with pytest.raises(InputError):
            search(query, found, Space(), **wrong)  # type: ignore[arg-type]


def test_what_is_a_video_in_a_folder(tmp_path: Path) -> None:
    stills, moving = tmp_path / "stills", tmp_path / "moving"
    for folder in (stills, moving, tmp_path / "empty"):
        folder.mkdir()
    frames = [Image.new("RGB", (16, 16), c) for c in ("red", "blue")]
    for i, frame in enumerate(frames):
        frame.save(stills / f"{i}.webp")
    frames[0].save(moving / "a.webp", save_all=True, append_images=frames[1:])
    assert find_inputs([stills, moving, stills]) == [stills, moving / "a.webp"]
    (moving / "b.mp4").touch()
    assert find_inputs([moving]) == [moving / "a.webp", moving / "b.mp4"]
    for wrong in ([], [tmp_path / "empty"], [tmp_path / "gone"]):
        with pytest.raises(InputError):
            find_inputs(wrong)


def test_a_query_needs_a_face(tmp_path: Path, portrait_photo: Path) -> None:
    assert query_vector(portrait_photo, "lm68", detector="dlib").shape == (136,)
    Image.new("RGB", (64, 64)).save(tmp_path / "grey.png")
    with pytest.raises(NoFaceError, match=r"the query .*grey\.png"):
        query_vector(tmp_path / "grey.png", "lm68", detector="dlib")
    (tmp_path / "x.png").write_text("no image")
    with pytest.raises(UnreadableImageError, match=r"the query .*x\.png"):
        query_vector(tmp_path / "x.png", "lm68", detector="dlib")


def test_the_page_draws_the_threshold_among_the_distances() -> None:
    from exprmetric.report.lines import HEIGHT
    from exprmetric.report.video_faces import search_chart

    (chart,) = search_chart([0.2, 0.4, 1.0], 0.5)
    distance, threshold = chart.lines
    assert [line.label for line in chart.lines] == ["distance", "threshold"]
    heights = [[float(point.split()[1]) for point in line.path[1:].split("L")] for line in (distance, threshold)]
    assert len(set(heights[1])) == 1 and all(0 < y < HEIGHT for y in heights[1])
    assert heights[0][1] > heights[1][0] > heights[0][2]  # the second moment is within it, the third beyond
    assert search_chart([0.2], 0.5) == ()
