"""Who is who in videos: clusters as scikit-learn finds them, tracks joined over videos, names from photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_faces import Seen, video
from PIL import Image

from exprmetric.errors import InputError
from exprmetric.video.faces.table import VideoFaces
from exprmetric.video.people.dbscan import NOISE, dbscan
from exprmetric.video.people.people import NOBODY, NamedFace, find_people, named_photographs, read_named_faces

A, B, C = (0.0, 0.0), (1.0, 0.0), (0.0, 3.0)


def test_a_chain_a_border_point_and_noise() -> None:
    #        a chain of cores     border     alone
    points = [[0.0], [1.0], [2.0], [3.0], [4.1], [9.0]]
    assert dbscan(points, 1.1, 3).tolist() == [0, 0, 0, 0, 0, NOISE]  # 0 is a border point as well: two within reach
    assert dbscan(points, 1.1, 4).tolist() == [NOISE] * 6
    assert dbscan(points, 0.5, 1).tolist() == [0, 1, 2, 3, 4, 5]
    assert dbscan(points, 0.5, 2, [1, 1, 1, 1, 1, 2]).tolist() == [NOISE] * 5 + [0]
    assert dbscan(np.empty((0, 3)), 1, 1).tolist() == []


def test_a_border_point_goes_to_the_nearest_core() -> None:
    # the middle point sees one core on each side, and three points are too few to be a core
    points = [[-0.5], [-0.25], [0.0], [0.9], [1.7], [1.95], [2.2]]
    assert dbscan(points, 0.9, 4).tolist() == [0, 0, 0, 1, 1, 1, 1]
    points[3] = [0.8]
    assert dbscan(points, 0.9, 4).tolist() == [0, 0, 0, 0, 1, 1, 1]


@given(st.integers(0, 10_000), st.integers(1, 5), st.floats(0.2, 2.0))
def test_cores_and_noise_are_scikit_learns(seed: int, least: int, radius: float) -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(40, 3)) + rng.integers(0, 3, (40, 1)) * 2.0
    weights = rng.integers(1, 4, 40)
    reference = cluster.DBSCAN(eps=radius, min_samples=least).fit(points, sample_weight=weights)
    found = dbscan(points, radius, least, weights)
    core = reference.core_sample_indices_
    assert ((found == NOISE) == (reference.labels_ == -1)).all()
    pairs = set(zip(found[core].tolist(), reference.labels_[core].tolist(), strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    near = np.linalg.norm(points[:, None] - points[core], axis=2) <= radius
    for i in np.flatnonzero(found != NOISE):  # a border point is of a cluster it reaches
        assert found[i] in found[core][near[i]]


def stay(track: int, who: tuple[float, ...], frames: range) -> list[Seen]:
    return [Seen(i, track, who, (0.0, 0.0)) for i in frames]


def test_tracks_of_several_videos_become_people() -> None:
    first = video(stay(0, A, range(5)) + stay(1, B, range(5)) + stay(2, (0.1, 0.0), range(6, 9)), 10)
    second = video(stay(0, (0.9, 0.1), range(8)) + stay(1, C, range(2)), 10)
    people = find_people([first, second])
    assert people.names == ("person 1", "person 2")  # B has 13 faces, A 8; C's two are too few
    assert people.faces(0) == 13 and people.faces(1) == 8 and people.faces(-1) == 2
    assert people.labels[0][first.track == 0].tolist() == [1] * 5
    assert people.labels[0][first.track == 2].tolist() == [1] * 3
    assert people.labels[1].tolist() == [0 if t == 0 else NOBODY for t in second.track]
    with pytest.raises(InputError, match="nobody is named 'Eve'"):
        people.index("Eve")


def test_a_track_is_known_by_its_fit_faces() -> None:
    blurred = [Seen(i, 0, C, (0.0, 0.0), sharpness=1.0) for i in range(5)]
    found = find_people([video([*blurred, *stay(0, A, range(5, 8)), *stay(1, A, range(8))], 10)])
    assert found.names == ("person 1",) and found.faces(-1) == 0
    unread = [Seen(i, 0, (np.nan, np.nan), (0.0, 0.0)) for i in range(5)]
    assert find_people([video(unread, 5)]).faces(-1) == 5


def test_photographs_name_people() -> None:
    faces = video(stay(0, A, range(5)) + stay(1, B, range(4)) + stay(2, C, range(3)), 10)
    named = [
        NamedFace("Ann", Path("a1.jpg"), np.array([0.3, 0.0])),
        NamedFace("Ann", Path("a2.jpg"), np.array([0.1, 0.0])),
        NamedFace("person 1", Path("b.jpg"), np.array([1.0, 0.2])),
        NamedFace("Nobody", Path("c.jpg"), np.array([0.0, 9.0])),
    ]
    people = find_people([faces], named)
    assert people.names == ("Ann", "person 1", "person 3")
    assert people.distances == (pytest.approx(0.1), pytest.approx(0.2), pytest.approx(np.nan, nan_ok=True))
    both = [NamedFace("Ann", Path("a.jpg"), np.array(v)) for v in (A, B)]
    assert find_people([faces], both).names == ("Ann", "person 2")  # two clusters of one name
    assert find_people([faces], both).faces(0) == 9


def test_what_cannot_tell_people_apart_is_refused() -> None:
    with pytest.raises(InputError, match="'space' isn't known to tell people apart"):
        find_people([video(stay(0, A, range(5)), 5)], method="space")
    plain = VideoFaces(**{**vars(video(stay(0, A, range(5)), 5)), "vectors": {}})
    with pytest.raises(InputError, match="read without 'identity'"):
        find_people([plain])


def test_folders_of_photographs(tmp_path: Path) -> None:
    (tmp_path / "Bea").mkdir()
    for name in ("Ann.png", "Bea/1.png", "Bea/2.png", ".hidden.png", "notes.txt"):
        Image.new("RGB", (8, 8)).save(tmp_path / name, "PNG")
    assert [(n, p.name) for n, p in named_photographs(tmp_path)] == [
        ("Ann", "Ann.png"),
        ("Bea", "1.png"),
        ("Bea", "2.png"),
    ]
    with pytest.raises(InputError, match=r"Ann\.png.* can't be used: .*no face"):
        read_named_faces(tmp_path, detector="dlib")
    with pytest.raises(InputError, match="no such folder"):
        named_photographs(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no photograph"):
        named_photographs(tmp_path / "empty")
