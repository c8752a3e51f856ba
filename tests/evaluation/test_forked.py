"""Images read in processes: the same rows as from threads, and nothing is lost or left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from swaps import CLI, in_a_process, small_folder

from exprmetric import evaluate
from exprmetric.errors import WeightsHashError
from exprmetric.evaluation.embed import embed_images
from exprmetric.evaluation.large import forked
from exprmetric.evaluation.large.forked import open_reader
from exprmetric.evaluation.reading import FaceReader
from exprmetric.faces import FaceFinder
from exprmetric.faces.detection import WholeImage
from exprmetric.inputs.triplets import ROLES, Triplet
from exprmetric.io.progress import Profile
from exprmetric.methods.landmarks import LandmarkMethod

pytestmark = pytest.mark.skipif(not forked.can_fork(), reason="processes are forked on Linux alone")

METHODS = ("default", "lm68")


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)


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
        patch.setattr(forked, "can_fork", lambda provider: False)
        return evaluate(triplets, METHODS, detector="dlib", jobs=2, **more).triplets


def children(of: int | None = None) -> set[int]:
    """Those of all threads of a process."""
    lists = Path(f"/proc/{of or os.getpid()}/task").glob("*/children")
    return {int(p) for found in lists for p in found.read_text().split()}


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


def kills(how: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """An image of the size of the grey one ends the process that looks for a face in it."""
    real = FaceReader._find

    def find(self: FaceReader, image: np.ndarray) -> object:
        if image.shape == (200, 180, 3):
            how()
        return real(self, image)

    monkeypatch.setattr(FaceReader, "_find", find)


@pytest.mark.parametrize(
    ("how", "jobs", "said"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), 2, "SIGSEGV"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), 1, "SIGKILL; perhaps memory ran out"),
        (lambda: os._exit(3), 2, "exit status 3"),
    ],
)
def test_an_image_that_kills_its_reader_is_named_and_all_others_are_measured(
    triplets: list[Triplet],
    monkeypatch: pytest.MonkeyPatch,
    how: Callable[[], object],
    jobs: int,
    said: str,
) -> None:
    kills(how, monkeypatch)
    before = children()
    found = evaluate(triplets[2:], ["lm68"], detector="dlib", identity=False, jobs=jobs).triplets
    assert [r["status"] for r in found] == ["ok"] * 2 + ["error", "unreadable"]
    assert f"it killed its reader ({said})" in found[2]["reason"] and "grey.png" in found[2]["reason"]
    assert children() == before


@pytest.mark.slow
def test_several_such_images_in_a_row_end_no_run(
    triplets: list[Triplet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kills(lambda: os.kill(os.getpid(), signal.SIGKILL), monkeypatch)
    bad = []
    for i in range(4):
        Image.fromarray(np.full((200, 180, 3), i, np.uint8)).save(tmp_path / f"{i}.png")
        bad.append(replace(triplets[i], id=f"bad {i}", swapped=tmp_path / f"{i}.png"))
    mixed = [t for pair in zip(bad, triplets[:4], strict=True) for t in pair]
    found = evaluate(mixed, ["lm68"], detector="dlib", identity=False, jobs=2, block=1).triplets
    assert [r["status"] for r in found] == ["error", "ok"] * 4


def test_a_process_that_somebody_kills_costs_no_row(
    triplets: list[Triplet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, real = os.getpid(), FaceReader._find
    once = tmp_path / "once"

    def find(self: FaceReader, image: np.ndarray) -> object:
        if os.getpid() != begun and not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, image)

    monkeypatch.setattr(FaceReader, "_find", find)
    found = evaluate(triplets[:2], ["lm68"], detector="dlib", identity=False, jobs=2).triplets
    assert [r["status"] for r in found] == ["ok", "ok"]
    assert once.exists()


def test_vectors_of_embed_are_read_so_too(triplets: list[Triplet], monkeypatch: pytest.MonkeyPatch) -> None:
    kills(lambda: os.kill(os.getpid(), signal.SIGSEGV), monkeypatch)
    good, bad = embed_images([triplets[0].target, triplets[4].target], "lm68", detector="dlib")
    assert good.status == "ok" and (bad.status, bad.vector) == ("error", None)
    assert bad.reason == "it killed its reader (SIGSEGV)"


def in_a_daemon(triplets: list[Triplet]) -> tuple[bool, list[dict[str, object]]]:
    daemonic = multiprocessing.current_process().daemon
    return daemonic, evaluate(triplets, ["lm68"], detector="dlib", identity=False, jobs=2).triplets


def test_in_a_process_that_may_have_no_children_threads_read(triplets: list[Triplet]) -> None:
    many = [replace(t, id=f"{i} {t.id}") for i in range(forked.WORTH // 4 + 1) for t in triplets[:4]]
    assert len(many) >= forked.WORTH
    own = evaluate(many, ["lm68"], detector="dlib", identity=False, jobs=2).triplets
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(in_a_daemon, (many,)) == (True, own)


def test_they_die_with_their_parent(folder: Path, tmp_path: Path) -> None:
    slow = (
        "from exprmetric.evaluation.reading import FaceReader; import time; FaceReader.read = lambda *a: time.sleep(60)"
    )
    parent = in_a_process(
        f"{slow}\n{CLI}", "evaluate", folder, "--jobs", 2, "--quiet", "--no-cache", "--detector", "dlib"
    )
    deadline = time.monotonic() + 120
    while len(born := children(parent.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(born) == 2
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 10
    while any(alive(p) for p in born) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(p) for p in born)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class OfAnotherPackage(LandmarkMethod):
    """Nobody knows what threads it holds."""


@pytest.mark.parametrize(
    ("method", "triplets", "provider", "processes"),
    [
        (LandmarkMethod, 1, "cpu", True),
        (LandmarkMethod, 1000, "cuda", False),
        (LandmarkMethod, 0, "cpu", False),
        (OfAnotherPackage, forked.WORTH - 1, "cpu", False),
        (OfAnotherPackage, forked.WORTH, "cpu", True),
    ],
)
def test_who_reads(method: type[LandmarkMethod], triplets: int, provider: str, processes: bool) -> None:
    reader = FaceReader(FaceFinder(WholeImage()), [method("m", 68)], Profile())
    with open_reader(reader, 4, triplets, provider) as found:
        assert isinstance(found, forked.ForkedReader) == processes
        assert processes or found is reader
