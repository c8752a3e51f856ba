"""Summaries: Ward's clusters by hand and as scikit-learn finds them, medoids, one person over several videos."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_faces import Seen, video
from PIL import Image

from exprmetric.errors import InputError
from exprmetric.video.people.courses import courses
from exprmetric.video.people.digest import MOST, digest, medoid, ward
from exprmetric.video.people.outputs import sheet_bytes
from exprmetric.video.people.people import find_people
from exprmetric.video.people.sheet import GAP, SIDE, Tile

WHO = (0.0, 0.0)


def test_ward_joins_what_adds_least_to_the_squares() -> None:
    # {10} and {13} add 1·1/2·9 = 4.5, {0, 0, 0, 0} and {2.5} add 4·1/5·6.25 = 5: the pair farther apart goes first
    points = [[0.0], [0.0], [0.0], [0.0], [2.5], [10.0], [13.0]]
    assert ward(points, 3).tolist() == [0, 0, 0, 0, 1, 2, 2]
    assert ward(points, 2).tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert ward(points, 1).tolist() == [0] * 7


def test_there_are_no_more_clusters_than_different_faces() -> None:
    assert ward([[1.0]], 10).tolist() == [0] and ward(np.empty((0, 2)), 10).tolist() == []
    assert ward([[1.0], [1.0], [1.0]], 10).tolist() == [0, 0, 0]
    assert len(set(ward([[1.0], [1.0], [2.0]], 10).tolist())) == 2


@given(st.integers(0, 10_000), st.integers(1, 8))
def test_ward_is_scikit_learns(seed: int, clusters: int) -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    points = np.random.default_rng(seed).normal(size=(30, 4))
    reference = cluster.AgglomerativeClustering(clusters, linkage="ward").fit_predict(points)
    pairs = set(zip(ward(points, clusters).tolist(), reference.tolist(), strict=True))
    assert len(pairs) == clusters


def test_the_medoid_is_nearest_to_all_others() -> None:
    assert medoid([[0.0], [1.0], [5.0]]) == (1, 2.5)  # the mean, 2, is no face
    assert medoid([[7.0]]) == (0, 0.0)


def test_one_person_over_two_videos() -> None:
    first = video([Seen(i, 0, WHO, (0.0, 0.1 * i)) for i in range(5)], 5)
    second = video([Seen(i, 0, WHO, (9.0, 0.1 * i) if i else (0.0, 0.2)) for i in range(4)], 4)
    people = find_people([first, second])
    assert people.names == ("person 1",)
    found, _ = courses([first, second], people, "space", pool=1)
    done = digest(0, found, clusters=2)
    assert done.faces == done.clustered == 9
    often, seldom = done.expressions
    assert (often.faces, often.videos, often.video, often.frame, often.time) == (6, 2, 0, 2, pytest.approx(0.08))
    assert (seldom.faces, seldom.videos, seldom.video, seldom.frame) == (3, 1, 1, 2)
    assert often.share == 6 / 9 and seldom.spread == pytest.approx(0.1)
    assert digest(1, found).expressions == ()
    with pytest.raises(InputError, match="must be 1 or more, got 0"):
        digest(0, found, clusters=0)


def test_long_videos_are_drawn_from_evenly() -> None:
    count = MOST + 500
    long = video([Seen(i, 0, WHO, (float(i >= count // 2), 0.0)) for i in range(count)], count)
    found, _ = courses([long], find_people([long]), "space", pool=1)
    done = digest(0, found, clusters=2)
    assert (done.faces, done.clustered) == (count, MOST)
    assert [e.share for e in done.expressions] == pytest.approx([0.5, 0.5], abs=0.001)


def test_the_contact_sheet_holds_every_face_in_its_place() -> None:
    tiles = [Tile(np.full((224, 224, 3), (10 * i, 0, 99), np.uint8), (f"{i}", "x" * 99)) for i in range(1, 8)]
    sheet = np.asarray(Image.open(io.BytesIO(sheet_bytes({"one \n person": tiles, "other": tiles[:2]}))))
    assert sheet.shape[1] == 5 * (SIDE + GAP) + GAP
    level = {10 * i: np.argwhere((sheet == (10 * i, 0, 99)).all(axis=2)) for i in range(1, 8)}
    for i in range(1, 8):
        copies = 2 if i < 3 else 1
        assert len(level[10 * i]) == SIDE * SIDE * copies
        assert level[10 * i][:, 1].min() == GAP + (i - 1) % 5 * (SIDE + GAP)
    assert level[60][:, 0].min() > level[10][:, 0].min()
    assert Image.open(io.BytesIO(sheet_bytes({}))).width > 0
