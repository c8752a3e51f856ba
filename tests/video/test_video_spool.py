"""Rows that go to a file and come back, and functions that read them by blocks."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exprmetric.errors import InputError
from exprmetric.video.faces import spool
from exprmetric.video.faces.spool import Spool, blocks, by_blocks, let_go, mean_vector, readable, take


def filled(sizes: list[int], width: int = 5, kept: int = 0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What came out of a spool that was given parts of these sizes, and what went in."""
    rng = np.random.default_rng(0)
    none = {"n": np.empty(0, np.int64), "flag": np.empty(0, bool), "v": np.empty((0, width), np.float32)}
    parts = [
        {"n": rng.integers(0, 99, k), "flag": rng.random(k) > 0.5, "v": rng.normal(size=(k, width)).astype(np.float32)}
        for k in sizes
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "KEPT_BYTES", kept)
        gathered = Spool(none)
        for part in parts:
            gathered.add(part)
        return gathered.arrays(), {k: np.concatenate([none[k], *(p[k] for p in parts)]) for k in none}


@given(st.lists(st.integers(0, 9), max_size=9), st.sampled_from([0, 200, 10**9]))
def test_what_goes_in_comes_out(sizes: list[int], kept: int) -> None:
    found, expected = filled(sizes, kept=kept)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array), name
        let_go(found[name])
        assert np.array_equal(found[name], array)


@pytest.mark.parametrize("kept", [0, 10**9])
@pytest.mark.parametrize("unread", [[0], [0, 1], [2], [0, 1, 2]])
def test_a_dimension_may_be_known_late(monkeypatch: pytest.MonkeyPatch, kept: int, unread: list[int]) -> None:
    monkeypatch.setattr(spool, "KEPT_BYTES", kept)
    gathered = Spool({"v": np.empty((0, 0), np.float32)})
    for i in range(3):
        gathered.add({"v": np.full((2, 0), np.nan, np.float32) if i in unread else np.full((2, 3), i, np.float32)})
    found = gathered.arrays()["v"]
    assert found.shape == (6, 0 if len(unread) == 3 else 3)
    if len(unread) < 3:
        assert [np.isnan(row).all() for row in found[::2]] == [i in unread for i in range(3)]
        assert [row[0] for i, row in enumerate(found[::2]) if i not in unread] == [
            i for i in range(3) if i not in unread
        ]


def test_blocks_cover_all_rows_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "BLOCK", 4)
    for count in (0, 1, 4, 9):
        assert [i for part in blocks(count) for i in range(count)[part]] == list(range(count))
    found, expected = filled([3, 8])
    assert np.array_equal(
        by_blocks(lambda v, n: v.sum(1) + n, found["v"], found["n"]), expected["v"].sum(1) + expected["n"]
    )
    assert by_blocks(lambda v: v[:, 0], np.empty((0, 2))).shape == (0,)


def test_means_are_of_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(1).normal(size=(50, 6)).astype(np.float32)
    vectors[::7, 2] = np.nan
    rows = np.arange(5, 45)
    known = vectors[rows][np.isfinite(vectors[rows]).all(1)]
    assert np.array_equal(mean_vector(vectors, rows), known.mean(0, dtype=np.float64))
    monkeypatch.setattr(spool, "BLOCK", 8)
    assert mean_vector(vectors, rows) == pytest.approx(known.mean(0, dtype=np.float64))
    assert np.isnan(mean_vector(vectors, np.array([0, 7]))).all()
    assert readable(vectors).tolist() == [i % 7 != 0 for i in range(50)]


def test_no_room_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(InputError, match="TMPDIR"):
        filled([3, 3])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_the_rows() -> None:
    import resource

    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

    gathered = Spool({"v": np.empty((0, 256), np.float32)})
    before = resident()
    for _ in range(600):
        gathered.add({"v": np.ones((128, 256), np.float32)})  # 75 MiB in all
    vectors = gathered.arrays()["v"]
    assert readable(vectors).all() and take(vectors, np.array([70_000])).sum() == 256
    assert resident() - before < 30
