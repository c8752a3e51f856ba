"""Images read in processes: the same rows as from threads, and nothing is lost or left behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from swaps import CLI, in_a_process, small_folder

from exprmetric import evaluate
from exprmetric.errors import ExprmetricError, WeightsHashError
from exprmetric.evaluation import forked
from exprmetric.evaluation.engines import open_reader
from exprmetric.evaluation.reading import FaceReader
from exprmetric.triplets import ROLES, Triplet

pytestmark = pytest.mark.skipif(not forked.can_fork(), reason="processes are forked on Linux alone")

METHODS = ("default", "lm68")


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)
    monkeypatch.setattr(forked, "WORTH", 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder(tmp_path_factory)


@pytest.fixture
def triplets(folder: Path, tmp_path: Path) -> list[Triplet]:
    """Four that can be measured, one whose target has no face, one whose swap is no image."""
    names = sorted(p.name for p in (folder / "target").iterdir())[:5]
    good = [[folder / role / name for role in ROLES] for name in names]
    (tmp_path / "no image.png").write_bytes(b"no image")
    Image.fromarray(np.full((200, 180, 3), 128, np.uint8)).save(tmp_path / "grey.png")
    rows = [*good[:4], [tmp_path / "grey.png", *good[0][1:]], [*good[1][:2], tmp_path / "no image.png"]]
    return [Triplet(str(i), *row) for i, row in enumerate(rows)]


def in_threads(triplets: list[Triplet], monkeypatch: pytest.MonkeyPatch, **more: object) -> list[dict[str, object]]:
    with monkeypatch.context() as patch:
        patch.setattr(forked, "can_fork", lambda: False)
        return evaluate(triplets, METHODS, detector="dlib", jobs=2, **more).triplets


def children() -> set[int]:
    return {int(p) for p in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()}


def test_processes_do_not_show(triplets: list[Triplet], monkeypatch: pytest.MonkeyPatch) -> None:
    here: list[object] = []
    monkeypatch.setattr(FaceReader, "read", lambda *a, real=FaceReader.read: (here.append(a), real(*a))[1])
    own = evaluate(triplets, METHODS, detector="dlib", jobs=3)
    assert not here
    assert own.triplets == in_threads(triplets, monkeypatch)
    assert here
    assert [r["status"] for r in own.triplets] == ["ok"] * 4 + ["no_face", "unreadable"]


def test_stages_are_summed_over_processes(triplets: list[Triplet]) -> None:
    stages = evaluate(triplets, METHODS, detector="dlib", jobs=2).summary["throughput"]["thread_seconds_by_stage"]
    assert {"decode", "detect", "landmarks", "align", "method default"} <= set(stages)


def test_none_is_left_behind(triplets: list[Triplet], monkeypatch: pytest.MonkeyPatch) -> None:
    before = children()
    evaluate(triplets, METHODS, detector="dlib", jobs=2)
    assert children() == before

    def broken(*_: object) -> object:
        raise WeightsHashError("of all images")

    monkeypatch.setattr(FaceReader, "_find", broken)
    with pytest.raises(WeightsHashError, match="of all images"):
        evaluate(triplets, METHODS, detector="dlib", jobs=2)
    assert children() == before


def test_a_killed_process_is_an_error_and_what_is_measured_is_kept(
    triplets: list[Triplet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real = tmp_path / "out", FaceReader._find

    def killed(self: FaceReader, image: np.ndarray) -> object:
        if image.shape == (200, 180, 3):
            time.sleep(1)  # those before it are done
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, image)

    with monkeypatch.context() as patch:
        patch.setattr(FaceReader, "_find", killed)
        with pytest.raises(ExprmetricError, match="was killed"):
            evaluate(triplets, METHODS, detector="dlib", jobs=2, block=1, out=out)
    again = evaluate(triplets, METHODS, detector="dlib", jobs=2, block=1, out=out)
    assert again.triplets == in_threads(triplets, monkeypatch)
    assert again.summary["throughput"]["rows_kept_from_before"] > 0


def test_they_die_with_their_parent(folder: Path, tmp_path: Path) -> None:
    before = "from exprmetric.evaluation import forked; forked.WORTH = 1"
    slow = (
        "from exprmetric.evaluation.reading import FaceReader; import time; FaceReader.read = lambda *a: time.sleep(60)"
    )
    parent = in_a_process(
        f"{before}\n{slow}\n{CLI}", "evaluate", folder, "--jobs", 2, "--quiet", "--no-cache", "--detector", "dlib"
    )
    listed = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    deadline = time.monotonic() + 60
    while len(born := listed.read_text().split()) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(born) == 2
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 10
    while any(alive(int(p)) for p in born) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(int(p)) for p in born)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(("jobs", "images"), [(1, 10_000), (4, 2)])
def test_where_it_does_not_pay_threads_read(jobs: int, images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forked, "WORTH", 200)
    reader = object.__new__(FaceReader)
    with open_reader(reader, jobs, images) as found:
        assert found is reader
