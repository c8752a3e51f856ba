"""Ray: the rows of a cluster are those of this process, whoever dies on the way."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from exprmetric_cli.main import main
from PIL import Image
from swaps import assert_same, large_folder, run_cli, small_folder, start_cli

from exprmetric.errors import ExprmetricError, InputError, MissingPackageError, WeightsError
from exprmetric.evaluation import evaluate as evaluate_module
from exprmetric.evaluation import reading
from exprmetric.evaluation.evaluate import evaluate
from exprmetric.evaluation.large import forked
from exprmetric.evaluation.large.journal import FOLDER, PATTERN
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.evaluation.session import Session
from exprmetric.inputs.triplets import Triplet, read_triplets

pytestmark = pytest.mark.ray

WORKER = "ray::MapWorker"
KILLS_READER, KILLS_WORKER = (201, 180), (202, 180)
"""Height and width, px, of pictures that end a process."""


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No weights but those that packages carry, nobody's cache, and nobody's cluster."""
    for name in ("EXPRMETRIC_WEIGHTS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path_factory.mktemp("cache")))


def measured(source: Any, out: Path | None = None, *methods: str, **how: Any) -> EvaluationResult:
    settings = {"detector": "none", "identity": False, "jobs": 2, **how}
    return evaluate(source, methods or ("lm68",), out=out, **settings)


# --- without Ray ---


def test_what_is_missing_is_said_before_any_work(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(evaluate_module, "make_plan", lambda *a: pytest.fail("images were read"))
    folder = small_folder(tmp_path_factory)
    with pytest.raises(MissingPackageError, match=r"needs the package ray: pip install 'exprmetric\[ray\]'"):
        measured(folder, tmp_path / "out", engine="ray")
    command = ["evaluate", str(folder), "--engine", "ray", "--out", str(tmp_path / "out"), "-q"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 1 and "exprmetric[ray]" in done.stderr and done.stdout == ""
    assert not (tmp_path / "out").exists()


def test_an_unknown_engine_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(InputError, match="unknown engine 'spark'; known: local, ray"):
        measured(small_folder(tmp_path_factory), engine="spark")


# --- on a cluster ---


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two machines of one core each, as far as Ray can tell."""
    ray = pytest.importorskip("ray", reason="Ray is not installed (extra `ray`)")
    from ray.cluster_utils import Cluster

    room = {"num_cpus": 1, "object_store_memory": 100_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**room, "include_dashboard": False})
    cluster.add_node(**room)

    def deadly() -> None:
        """In a worker: a picture of one size kills the process that reads it, one of another its parent too."""
        import os
        import signal

        from exprmetric.faces import FaceFinder

        detect = FaceFinder.detect

        def killing(self: Any, image: Any) -> Any:
            if image.shape[:2] == KILLS_WORKER:
                os.kill(os.getppid(), signal.SIGKILL)
            if image.shape[:2] in (KILLS_READER, KILLS_WORKER):
                os.kill(os.getpid(), signal.SIGKILL)
            return detect(self, image)

        FaceFinder.detect = killing

    ray.init(
        address=cluster.address,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"worker_process_setup_hook": deadly},
    )
    cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def triplets(tmp_path_factory: pytest.TempPathFactory) -> list[Triplet]:
    """20 rows with models, labels and groups; three of them can't be measured."""
    rows = read_triplets(small_folder(tmp_path_factory))
    rows = [replace(t, model=f"m{i % 2}", target_label="a", source_label="ab"[i % 2]) for i, t in enumerate(rows)]
    broken = tmp_path_factory.mktemp("broken") / "broken é.png"
    broken.write_bytes(b"no picture")
    rows[2] = replace(rows[2], swapped=broken)
    rows[9] = replace(rows[9], source=broken.with_name("nowhere.png"))
    rows[13] = replace(rows[13], problem="no partner", source=None)
    rows[15] = replace(rows[15], group="given")
    return rows


def _workers() -> list[Any]:
    """Processes of our cluster that hold models; not those that they have forked to read images."""
    psutil = pytest.importorskip("psutil")
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[0].startswith(WORKER) and not process.parent().cmdline()[0].startswith(WORKER):
                found.append(process)
        except (psutil.Error, IndexError):
            continue
    return found


@pytest.mark.slow
def test_rows_are_those_of_this_process(triplets: list[Triplet], cluster: Any, tmp_path: Path) -> None:
    """All digits, failures and their reasons, splits and intervals; with the cache of a run here, and for it."""
    methods = ("lm68", "default")
    measured(triplets, tmp_path / "here", *methods, identity=True)
    told: list[int] = []
    result = measured(
        triplets,
        tmp_path / "there",
        *methods,
        identity=True,
        engine="ray",
        progress=lambda stage, done, total: told.append(done),
    )
    assert result.summary["coverage"] == {"triplets": 20, "ok": 17, "failed": {"unreadable": 3}}
    assert told == sorted(told) and told[-1] == 20
    assert_same(tmp_path / "there", tmp_path / "here")


@pytest.mark.slow
def test_workers_share_the_cache(
    triplets: list[Triplet], cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = measured(triplets, engine="ray", cache=tmp_path)
    read: list[Any] = []
    read_image = reading.read_image
    monkeypatch.setattr(reading, "read_image", lambda source: (read.append(source.path), read_image(source))[1])
    monkeypatch.setattr(forked, "can_fork", lambda provider: False)  # what other processes do isn't seen here
    here = measured(triplets, cache=tmp_path)
    assert here.triplets == there.triplets
    assert read == [triplets[2].swapped], "the file that is no picture, which may be one tomorrow"


@pytest.mark.slow
def test_shards_and_the_journal_work_with_it(triplets: list[Triplet], cluster: Any, tmp_path: Path) -> None:
    """What a stopped cluster has measured goes on here, and the other way round."""
    from exprmetric.evaluation.large.shards import merge

    class Stop(Exception):
        pass

    def stop(stage: str, done: int, total: int) -> None:
        if done >= 4:
            raise Stop

    measured(triplets, tmp_path / "whole")
    for number, engines in ((1, ("ray", "local")), (2, ("local", "ray"))):
        how = {"shard": f"{number}/2", "out": tmp_path / f"{number}"}
        with pytest.raises(Stop):
            measured(triplets, **how, engine=engines[0], progress=stop)
        assert list((tmp_path / f"{number}" / FOLDER).glob(PATTERN))
        last = measured(triplets, **how, engine=engines[1])
        assert 4 <= last.summary["throughput"]["rows_kept_from_before"] < 10
    assert_same(merge([tmp_path / "1", tmp_path / "2"]).save(tmp_path / "merged"), tmp_path / "whole")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return large_folder(tmp_path_factory)


@pytest.fixture(scope="module")
def large_plain(large: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("large") / "plain"
    measured(large, out)
    return out


def at(moments: list[int], do: Callable[[], None]) -> Callable[[str, int, int], None]:
    """Progress that does something when so many rows are there."""
    waiting = sorted(moments)

    def progress(stage: str, done: int, total: int) -> None:
        if waiting and done >= waiting[0]:
            waiting.pop(0)
            do()

    return progress


@pytest.mark.slow
def test_killed_workers_lose_nothing(
    large: Path, large_plain: Path, cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed: list[int] = []

    def kill() -> None:
        worker = next(w for w in _workers() if w.pid not in killed)
        worker.kill()
        killed.append(worker.pid)

    result = measured(large, tmp_path / "out", engine="ray", detector="none", progress=at([4, 60, 120], kill))
    with capsys.disabled():
        print(
            f"\n{len(killed)} workers killed in a run of {len(result.rows)} triplets: all rows are those of one process"
        )
    assert len(set(killed)) == 3
    assert_same(tmp_path / "out", large_plain)


def picture(path: Path, size: tuple[int, int]) -> Path:
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)
    return path


@pytest.mark.slow
def test_a_picture_that_kills_its_reader_costs_its_row(triplets: list[Triplet], cluster: Any, tmp_path: Path) -> None:
    rows = [*triplets[:2], replace(triplets[3], swapped=picture(tmp_path / "deadly.png", KILLS_READER)), triplets[4]]
    found = measured(rows, engine="ray").triplets
    assert [r["status"] for r in found] == ["ok", "ok", "error", "ok"]
    assert "deadly.png" in found[2]["reason"] and "it killed its reader (SIGKILL" in found[2]["reason"]


@pytest.mark.slow
def test_a_piece_that_ends_its_worker_each_time_ends_the_run(
    triplets: list[Triplet], cluster: Any, tmp_path: Path
) -> None:
    rows = [triplets[0], replace(triplets[3], swapped=picture(tmp_path / "deadly.png", KILLS_WORKER))]
    with pytest.raises(ExprmetricError, match="rows 2 to 2 have ended 4 workers"):
        measured(rows, tmp_path / "out", engine="ray")


@pytest.mark.slow
def test_a_worker_with_other_weights_must_not_measure(
    triplets: list[Triplet], cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process says that its method is another than that of the workers."""
    description = Session.description

    def other(self: Session) -> dict[str, Any]:
        about = json.loads(json.dumps(description(self)))
        about["methods"]["lm68"]["fingerprint"] = "of another day"
        return about

    monkeypatch.setattr(Session, "description", other)
    with pytest.raises(WeightsError, match=r"methods\.lm68\.fingerprint dlib-68.* not of another day.*same weights"):
        measured(triplets, tmp_path / "out", engine="ray")
    assert list((tmp_path / "out" / FOLDER).glob(PATTERN)) == []


@pytest.mark.slow
@pytest.mark.shared
def test_a_worker_without_the_weights_says_which(
    triplets: list[Triplet], cluster: Any, tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are found here, by a variable that the workers have never heard of."""
    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(shared / "weights"))
    with pytest.raises(ExprmetricError, match=r"yunet"):
        measured(triplets, tmp_path / "out", engine="ray", detector="yunet")


@pytest.mark.slow
def test_a_machine_that_is_gone_loses_nothing(large: Path, large_plain: Path, cluster: Any, tmp_path: Path) -> None:
    """The last test of the cluster: one machine is left of it."""
    (other,) = [n for n in cluster.list_all_nodes() if n is not cluster.head_node]
    leave = at([40], lambda: cluster.remove_node(other, allow_graceful=False))
    measured(large, tmp_path / "out", engine="ray", progress=leave)
    assert len(cluster.list_all_nodes()) == 1
    assert_same(tmp_path / "out", large_plain)


@pytest.mark.slow
def test_the_command_starts_and_ends_a_cluster_of_its_own(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (extra `ray`)")
    folder = small_folder(tmp_path_factory)
    how = ("--detector", "none", "--no-identity", "-m", "lm68", "--no-cache", "-q", "--format", "csv")
    status, out, errors = run_cli("evaluate", folder, *how, "--engine", "ray", "--jobs", "2", "--out", tmp_path / "ray")
    assert status == 0, errors
    local = CliRunner().invoke(main, ["evaluate", str(folder), *how, "--out", str(tmp_path / "local")])
    assert out == local.stdout
    assert "Traceback" not in errors and "deprecated" not in errors
    assert_same(tmp_path / "ray", tmp_path / "local", report=True)


WAIT = """
import time
import exprmetric.evaluation.large.ray as module
def encoded(rows, columns, call=module._encoded, seen=[]):
    seen.append(rows)
    if len(seen) == 4:
        print("waits", flush=True)
        time.sleep(60)
    return call(rows, columns)
module._encoded = encoded
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_ends_the_cluster_and_keeps_what_is_done(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (extra `ray`)")
    psutil = pytest.importorskip("psutil")
    folder = small_folder(tmp_path_factory)
    command = ("evaluate", folder, "--detector", "none", "--no-identity", "-m", "lm68", "--no-cache", "-q")
    out = tmp_path / "out"
    process = start_cli(*command, "--engine", "ray", "--jobs", "2", "--out", out, before=WAIT)
    assert process.stdout is not None and process.stdout.readline() == "waits\n"
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "the same command goes on" in said and "Traceback" not in said
    assert family and psutil.wait_procs(family, timeout=20)[1] == []
    done = CliRunner().invoke(main, [*map(str, command), "--out", str(out)])
    assert done.exit_code == 0
    assert EvaluationResult.load(out).summary["throughput"]["rows_kept_from_before"] == 3
