"""The journal: whatever stops a run, the same call goes on from there and ends with the same files."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from exprmetric_cli.main import main
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from swaps import assert_same, bound_by_modes, in_a_process, small_folder, start_cli

from exprmetric.errors import InputError
from exprmetric.evaluation import evaluate as evaluate_module
from exprmetric.evaluation import reading
from exprmetric.evaluation import result as result_module
from exprmetric.evaluation.evaluate import evaluate
from exprmetric.evaluation.large import forked
from exprmetric.evaluation.large import journal as journal_module
from exprmetric.evaluation.large.journal import DONE, FOLDER, LOCK, PATTERN, RUN, Journal
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.evaluation.rows import table
from exprmetric.inputs.triplets import Triplet, read_triplets

RESULT = ["summary.json", "triplets.csv", "triplets.parquet"]
METHODS = ("lm68", "other")
ASKED = {"methods": ["lm68"], "seed": 7}


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No weights but those that packages carry, and nobody's cache."""
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)
    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def warned() -> Iterator[Callable[[], list[str]]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield lambda: [str(w.message) for w in caught]


# --- the journal alone, with rows made by hand ---


def rows_of(indices: Sequence[int]) -> pa.Table:
    """Rows whose every value follows from their place; some have failed."""
    triplets = [Triplet(f"row {i}", Path(f"t{i % 3}"), Path("s"), Path(f"c{i}"), model=f"m{i % 2}") for i in indices]
    status = ["ok" if i % 5 else "no_face" for i in indices]
    reasons = ["" if i % 5 else f"row {i}: none" for i in indices]
    values = np.array([[i, i / 3, i / 7] if i % 5 else [np.nan] * 3 for i in indices]).reshape(-1, 3)
    contents = [(f"{i % 3:064d}", "0" * 64, f"{i:064d}") for i in indices]
    return table(triplets, list(indices), contents, status, reasons, {m: values + k for k, m in enumerate(METHODS)})


def opened(out: Path, total: int, asked: Any = ASKED) -> Journal:
    """A journal that has begun; leave it with `with`, or as a kill would with `killed`."""
    journal = Journal(out, METHODS, total).__enter__()
    journal.begin(asked)
    return journal


def killed(journal: Journal) -> None:
    """What the system does for a process that is gone: the lock is free, and nothing else happens."""
    journal._lock.release()


def close(journal: Journal) -> None:
    journal.__exit__(None)


def missing(out: Path, total: int, asked: Any = ASKED) -> list[int]:
    journal = opened(out, total, asked)
    killed(journal)
    return journal.missing.tolist()


def written(out: Path, *parts: Sequence[int], total: int = 12) -> list[Path]:
    """A journal with one file for each part, left by a kill."""
    journal = opened(out, total)
    files = []
    for part in parts:
        before = set((out / FOLDER).glob(PATTERN))
        journal.add(rows_of(part))
        journal.flush()
        files += list(set((out / FOLDER).glob(PATTERN)) - before)
    killed(journal)
    assert len(files) == len(parts)
    return files


@given(
    total=st.integers(1, 120),
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=30),
    kills=st.sets(st.integers(0, 29)),
    rng=st.randoms(use_true_random=False),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_rows_come_back_once_and_in_order_however_they_came(
    tmp_path_factory: pytest.TempPathFactory, total: int, sizes: list[int], kills: set[int], rng: Any
) -> None:
    """In any order and portions, with kills between them; what the journal misses is measured again."""
    out = tmp_path_factory.mktemp("out")
    journal = opened(out, total)
    for turn in range(10_000):
        left = journal.missing.tolist()
        waiting = {i for t in journal._waiting for i in t["index"].to_pylist()}
        todo = [i for i in left if i not in waiting]
        if not todo:
            break
        rng.shuffle(todo)
        journal.add(rows_of(todo[: sizes[turn % len(sizes)]]))
        if turn in kills:
            on_disk = total - len(journal.missing)
            killed(journal)
            journal = opened(out, total)
            assert len(journal.missing) == total - on_disk
    assert journal.rows().to_pylist() == rows_of(range(total)).to_pylist()
    close(journal)
    assert missing(out, total) == []


def test_rows_that_wait_are_written_when_the_journal_is_left(tmp_path: Path) -> None:
    for error in (None, ValueError("stop"), KeyboardInterrupt()):
        out = tmp_path / type(error).__name__
        with opened(out, 1000) as journal:
            journal.add(rows_of([3, 4]))
            assert list((out / FOLDER).glob(PATTERN)) == []
            if error:
                journal.__exit__(type(error), error, None)
        assert 3 not in (left := missing(out, 1000)) and len(left) == 998


def test_few_rows_wait_and_not_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(journal_module.time, "monotonic", lambda: clock[0])
    with opened(tmp_path, 1000) as journal:
        for i in range(500):
            journal.add(rows_of([i]))
            assert len(journal.missing) - (1000 - i - 1) < 20, "a fiftieth of all rows goes to disk at once"
        journal.flush()
        journal.add(rows_of([600]))
        clock[0] += 1.1
        journal.add(rows_of([601]))
        assert not {600, 601} & set(journal.missing.tolist()), "whatever is older than a second goes to disk"


def _flip(part: Path) -> None:
    content = bytearray(part.read_bytes())
    content[len(content) // 3] ^= 4
    part.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda part: part.write_bytes(b""),
    "cut": lambda part: part.write_bytes(part.read_bytes()[:-20]),
    "one bit": _flip,
    "zeros": lambda part: part.write_bytes(bytes(part.stat().st_size)),
    "other content": lambda part: part.write_bytes(b"PAR1 and then nothing PAR1"),
    "gone": lambda part: part.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_part_is_measured_again(damage: str, tmp_path: Path) -> None:
    _, broken, _ = written(tmp_path, [0, 1, 5], [2, 3], [4])
    DAMAGE[damage](broken)
    with opened(tmp_path, 12) as journal:
        assert journal.missing.tolist() == [2, 3, *range(6, 12)]
        journal.add(rows_of([*range(6, 12), 3, 2]))
        assert journal.rows().to_pylist() == rows_of(range(12)).to_pylist()


def test_every_single_flipped_byte_is_seen(tmp_path: Path) -> None:
    (part,) = written(tmp_path, [2, 3])
    content = part.read_bytes()
    for place in range(0, len(content), 97):
        part.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert journal_module._read_part(part, ["index"]) is None
    part.write_bytes(content)
    assert missing(tmp_path, 12) == [0, 1, *range(4, 12)]


def test_rows_that_stand_in_two_parts_are_taken_once(tmp_path: Path) -> None:
    written(tmp_path / "a", [0, 1, 2], [7])
    (other,) = written(tmp_path / "b", [2, 3])
    shutil.copy(other, tmp_path / "a" / FOLDER)
    with opened(tmp_path / "a", 12) as journal:
        assert journal.missing.tolist() == [3, 4, 5, 6, 8, 9, 10, 11]
        journal.add(rows_of(journal.missing.tolist()))
        assert journal.rows().to_pylist() == rows_of(range(12)).to_pylist()


@pytest.mark.parametrize("damage", ["one bit", "gone"])
def test_parts_that_change_under_a_run_are_an_error_and_no_wrong_result(damage: str, tmp_path: Path) -> None:
    with opened(tmp_path, 12) as journal:
        journal.add(rows_of(range(6)))
        journal.flush()
        (part,) = (tmp_path / FOLDER).glob(PATTERN)
        journal.add(rows_of(range(6, 12)))
        DAMAGE[damage](part)
        with pytest.raises(InputError, match="while this run wrote"):
            journal.rows()
    assert missing(tmp_path, 12) == list(range(6))


@pytest.mark.parametrize("asked", [{**ASKED, "seed": 8}, {**ASKED, "more": None}, {"methods": ["lm68"]}, {}])
def test_another_run_begins_anew_and_says_so(asked: Any, tmp_path: Path, warned: Callable[[], list[str]]) -> None:
    written(tmp_path, [0, 1])
    assert missing(tmp_path, 12, asked) == list(range(12))
    (said,) = warned()
    assert "other images or settings" in said and str(tmp_path) in said
    assert missing(tmp_path, 12, asked) == list(range(12))
    assert len(warned()) == 1, "and it is said once"


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\ud800", "null"])
def test_a_damaged_description_begins_anew(text: str, tmp_path: Path, warned: Callable[[], list[str]]) -> None:
    written(tmp_path, [0, 1])
    (tmp_path / FOLDER / RUN).write_bytes(text.encode("utf-8", "surrogatepass"))
    assert missing(tmp_path, 12) == list(range(12))
    assert len(warned()) == 1


def test_one_run_a_folder(tmp_path: Path) -> None:
    with opened(tmp_path, 12) as journal:
        journal.add(rows_of([1]))
        with pytest.raises(InputError, match="another run is writing into"):
            opened(tmp_path, 12)
        opened(tmp_path / "elsewhere", 12)
    assert missing(tmp_path, 12) == [0, *range(2, 12)]


HOLD = """
import sys
from pathlib import Path
from test_journal import opened
journal = opened(Path(sys.argv[1]), 12)
print("holds", flush=True)
input()
"""


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    process = in_a_process(HOLD, tmp_path)
    assert process.stdout is not None and process.stdout.readline() == "holds\n"
    with pytest.raises(InputError, match="another run is writing into"):
        opened(tmp_path, 12)
    process.kill()
    process.wait()
    assert missing(tmp_path, 12) == list(range(12))


def test_nothing_is_left_at_the_end(tmp_path: Path) -> None:
    """Neither the journal, nor what killed writers have left beside the result; what is not ours stays."""
    for name in ("summary.json", "mine.txt", ".hidden-note"):
        (tmp_path / name).write_text("kept")
    for name in (".summary.json-abc_1234", ".unknown.txt-abc_1234", ".summary.json-short"):
        (tmp_path / name).write_text("half")
    (tmp_path / DONE).mkdir()
    with opened(tmp_path, 2) as journal:
        journal.add(rows_of([0, 1]))
        (tmp_path / FOLDER / ".rows-0-abc_1234").write_text("half")
        journal.finish()
    kept = {"summary.json", "mine.txt", ".hidden-note", ".unknown.txt-abc_1234", ".summary.json-short"}
    assert {p.name for p in tmp_path.iterdir()} == kept
    with opened(tmp_path, 2) as journal:
        assert journal.missing.tolist() == [0, 1], "a finished run is not gone on with"


# --- whole runs ---


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder(tmp_path_factory)


@pytest.fixture(scope="module")
def triplets(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Triplet]:
    """20 rows; one has no file, one is no image, one needs the target of another row as its source."""
    rows = read_triplets(folder)
    broken = tmp_path_factory.mktemp("broken") / "broken.png"
    broken.write_bytes(rows[0].target.read_bytes()[:500])  # type: ignore[union-attr]
    rows[4] = replace(rows[4], swapped=broken.with_name("nowhere.png"))
    rows[9] = replace(rows[9], source=broken)
    rows[15] = replace(rows[15], source=rows[1].target)
    return rows


def measured(source: Any, out: Path | None = None, *methods: str, **how: Any) -> EvaluationResult:
    return evaluate(source, methods or ("lm68",), detector="none", identity=False, jobs=2, out=out, **how)


@pytest.fixture(scope="module")
def plain(triplets: list[Triplet], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an uninterrupted run writes."""
    out = tmp_path_factory.mktemp("plain") / "out"
    result = measured(triplets, out)
    assert result.summary["coverage"]["failed"] == {"unreadable": 2}
    assert sorted(p.name for p in out.iterdir()) == RESULT
    return out


def stop_after(count: int) -> Callable[[str, int, int], None]:
    def progress(stage: str, done: int, total: int) -> None:
        if done >= count:
            raise Stop

    return progress


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Images whose pixels were read."""
    images: list[Path] = []
    read_image = reading.read_image

    def counted(source: Any) -> Any:
        images.append(source.path)
        return read_image(source)

    monkeypatch.setattr(forked, "can_fork", lambda provider: False)  # what other processes read isn't seen here
    monkeypatch.setattr(reading, "read_image", counted)
    return images


@pytest.mark.parametrize("stops", [[1], [7], [20], [3, 4, 11, 19]])
def test_a_run_goes_on_where_it_was_stopped(
    stops: list[int],
    triplets: list[Triplet],
    plain: Path,
    tmp_path: Path,
    read: list[Path],
    warned: Callable[[], list[str]],
) -> None:
    before = 0
    for stop in stops:
        with pytest.raises(Stop):
            measured(triplets, tmp_path, progress=stop_after(stop))
        read.clear()
        before = stop
    assert sorted(p.name for p in tmp_path.iterdir()) == [FOLDER]
    last = measured(triplets, tmp_path)
    assert last.summary["throughput"]["rows_kept_from_before"] == before
    again = {t.swapped for t in triplets[:before]}
    assert not again & set(read), "what is there is not measured again"
    assert_same(tmp_path, plain)
    assert warned() == []


def test_progress_goes_on_too(triplets: list[Triplet], tmp_path: Path) -> None:
    with pytest.raises(Stop):
        measured(triplets, tmp_path, progress=stop_after(8))
    told: list[int] = []
    measured(triplets, tmp_path, progress=lambda stage, done, total: told.append(done))
    assert told == sorted(told) and told[0] > 8 and told[-1] == len(triplets)


@pytest.mark.parametrize("where", ["conclude", "summary.json", "triplets.csv", "triplets.parquet", "saved"])
def test_a_stop_at_the_end_measures_nothing_again(
    where: str,
    triplets: list[Triplet],
    plain: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read: list[Path],
) -> None:
    def stop(*_: Any, **how: Any) -> None:
        raise Stop

    def stop_at(path: Path, fill: Any, write: Any = result_module.write_whole) -> None:
        if path.name == where:
            (tmp_path / f".{where}-abcdefgh").write_text("a killed writer's")
            raise Stop
        write(path, fill)

    with monkeypatch.context() as patch:
        if where == "conclude":
            patch.setattr(evaluate_module, "conclude", stop)
        patch.setattr(result_module, "write_whole", stop_at)
        with pytest.raises(Stop):
            measured(triplets, tmp_path, saved=stop if where == "saved" else lambda result, out: None)
    read.clear()
    measured(triplets, tmp_path)
    assert read == []
    assert_same(tmp_path, plain)


def test_methods_that_were_added_begin_anew(
    folder: Path, tmp_path: Path, warned: Callable[[], list[str]], read: list[Path]
) -> None:
    with pytest.raises(Stop):
        measured(folder, tmp_path / "out", progress=stop_after(10))
    result = measured(folder, tmp_path / "out", "lm68", "lm51")
    assert result.summary["throughput"]["rows_kept_from_before"] == 0
    assert len(warned()) == 1 and "other images or settings" in warned()[0]
    measured(folder, tmp_path / "plain", "lm68", "lm51")
    assert_same(tmp_path / "out", tmp_path / "plain")


@pytest.mark.parametrize("what", ["image", "label", "order", "detector"])
def test_another_input_begins_anew(
    what: str, triplets: list[Triplet], tmp_path: Path, warned: Callable[[], list[str]]
) -> None:
    own = tmp_path / "own.png"
    shutil.copyfile(triplets[1].swapped, own)  # type: ignore[arg-type]
    rows = [triplets[0], replace(triplets[1], swapped=own), *triplets[2:8]]
    how: dict[str, Any] = {}
    with pytest.raises(Stop):
        measured(rows, tmp_path / "out", progress=stop_after(6))
    if what == "image":
        shutil.copyfile(triplets[2].swapped, own)  # type: ignore[arg-type]
    elif what == "label":
        rows[7] = replace(rows[7], model="another")
    elif what == "order":
        rows.reverse()
    else:
        how = {"face": "center"}
    result = measured(rows, tmp_path / "out", **how)
    assert result.summary["throughput"]["rows_kept_from_before"] == 0 and len(warned()) == 1
    measured(rows, tmp_path / "plain", **how)
    assert_same(tmp_path / "out", tmp_path / "plain")


def test_how_rows_are_counted_may_change(
    triplets: list[Triplet], tmp_path: Path, read: list[Path], warned: Callable[[], list[str]]
) -> None:
    """Neither the seed nor what becomes of failures nor the number of threads has a part in the rows."""
    with pytest.raises(Stop):
        measured(triplets, tmp_path / "out", progress=stop_after(19))
    how = {"seed": 3, "on_fail": "worst", "block": 5}
    result = measured(triplets, tmp_path / "out", **how)
    assert result.summary["throughput"]["rows_kept_from_before"] == 19 and warned() == []
    measured(triplets, tmp_path / "plain", **how)
    assert_same(tmp_path / "out", tmp_path / "plain")


@pytest.mark.parametrize("package, goes_on", [("platform", True), ("onnxruntime", False)])
def test_a_new_kernel_is_no_reason_to_begin_anew_and_a_new_runtime_is(
    package: str, goes_on: bool, triplets: list[Triplet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Stop):
        measured(triplets, tmp_path, progress=stop_after(6))
    here = evaluate_module.environment()
    monkeypatch.setattr(evaluate_module, "environment", lambda: {**here, package: "another"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = measured(triplets, tmp_path)
    assert result.summary["throughput"]["rows_kept_from_before"] == (6 if goes_on else 0)


def test_an_image_that_vanishes_is_a_row(triplets: list[Triplet], plain: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.png"
    shutil.copyfile(triplets[7].swapped, own)  # type: ignore[arg-type]
    rows = [*triplets[:7], replace(triplets[7], swapped=own), *triplets[8:]]

    def vanish(stage: str, done: int, total: int) -> None:
        if done == 1:
            own.unlink()

    result = measured(rows, tmp_path / "out", progress=vanish, block=1)
    row = result.triplets[7]
    assert row["status"] == "unreadable" and "own.png" in row["reason"] and row["lm68.t2c"] is None
    others = [r for i, r in enumerate(result.triplets) if i != 7]
    assert others == [r for i, r in enumerate(EvaluationResult.load(plain).triplets) if i != 7]


def test_without_a_folder_nothing_is_written(
    triplets: list[Triplet], plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    result = measured(triplets)
    assert list(tmp_path.iterdir()) == []
    assert result.triplets == EvaluationResult.load(plain).triplets


# --- places that can't be written ---


def _no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_module, "make_plan", lambda *a: pytest.fail("images were read"))


@pytest.mark.parametrize("exists", [True, False])
def test_a_closed_folder_is_refused_before_any_work(
    exists: bool, triplets: list[Triplet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_work(monkeypatch)
    out = tmp_path / "closed" / "out"
    (out / FOLDER if exists else out.parent).mkdir(parents=True)
    for path in (out / FOLDER, out, out.parent):
        if path.exists():
            path.chmod(0o555)
    with bound_by_modes(), pytest.raises(InputError, match=r"can't write into .*closed.*[Pp]ermission"):
        measured(triplets, out)


def test_a_folder_that_only_holds_an_open_journal_is_refused_too(
    triplets: list[Triplet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows would go to disk for hours, and the result could not."""
    _no_work(monkeypatch)
    (tmp_path / "out" / FOLDER).mkdir(parents=True)
    (tmp_path / "out").chmod(0o555)
    with bound_by_modes(), pytest.raises(InputError, match=r"can't write into .*[Pp]ermission"):
        measured(triplets, tmp_path / "out")


@pytest.mark.parametrize("place", ["file", "file/out", "out"])
def test_a_file_in_the_way_is_refused_before_any_work(
    place: str, triplets: list[Triplet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_work(monkeypatch)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / FOLDER).write_text("mine too")
    with pytest.raises(InputError, match="can't write into"):
        measured(triplets, tmp_path / place)
    assert (tmp_path / "file").read_text() == "mine" and (tmp_path / "out" / FOLDER).read_text() == "mine too"


def cli(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(a) for a in arguments])


QUICK = ("--detector", "none", "--no-identity", "-m", "lm68", "--no-cache", "-q")


@pytest.mark.parametrize("parts", [pytest.param(0, marks=pytest.mark.slow), 5])
def test_a_disk_that_fills_up_keeps_what_is_done(
    parts: int, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: list[Path]
) -> None:
    write, done = journal_module.write_whole, []

    def full(path: Path, fill: Any) -> None:
        if path.suffix == ".parquet" and len(done) == parts:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done.extend([path] if path.suffix == ".parquet" else [])
        write(path, fill)

    command = ("evaluate", folder, *QUICK, "--out", tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "write_whole", full)
        result = cli(*command)
    assert result.exit_code == 2 and result.stdout == ""
    assert f"can't write into {tmp_path / 'out'}: No space left on device" in result.stderr
    assert (f"{parts} of 20 rows are kept: the same command goes on" in result.stderr) == (parts > 0)
    assert [p.name for p in (tmp_path / "out").iterdir()] == [FOLDER]
    read.clear()
    assert cli(*command).exit_code == 0
    assert len([p for p in read if p.parent.name == "swapped"]) == 20 - parts
    assert cli("evaluate", folder, *QUICK, "--out", tmp_path / "plain").exit_code == 0
    assert_same(tmp_path / "out", tmp_path / "plain", report=True)


LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))"


@pytest.mark.slow
def test_no_room_for_the_result_keeps_all_rows(folder: Path, tmp_path: Path) -> None:
    """A real limit of the system, in the command itself: the rows fit, the table of all of them does not."""
    far = shutil.copytree(folder, tmp_path / ("far" * 70))  # long names: all of them are larger than a row's own file
    command = ("evaluate", far, *QUICK, "--out", tmp_path / "out")
    assert cli("evaluate", far, *QUICK, "--out", tmp_path / "plain").exit_code == 0
    size = (tmp_path / "plain" / "triplets.csv").stat().st_size - 1
    process = start_cli(*command, before=LIMIT.format(size=size))
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "File too large" in said and "20 of 20 rows are kept: the same command goes on" in said
    assert cli(*command).exit_code == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["throughput"]["rows_kept_from_before"] == 20
    assert_same(tmp_path / "out", tmp_path / "plain", report=True)


# --- two at once, and Ctrl-C ---

WAIT = """
import time
import {module} as module
def wait(*a, _f=module.{name}, _n=[0], **k):
    _n[0] += 1
    if _n[0] == {turn}:
        try:
            print("waits", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            raise
    return _f(*a, **k)
module.{name} = wait
"""


def waiting_cli(module: str, name: str, turn: int, *arguments: object) -> Any:
    """The command, in a process that stands still at a call of a function; it is told by a line on stdout."""
    process = start_cli(*arguments, before=WAIT.format(module=module, name=name, turn=turn))
    assert process.stdout is not None and process.stdout.readline() == "waits\n", process.communicate()
    return process


@pytest.mark.slow
def test_a_second_run_into_the_folder_is_refused_while_the_first_lives(folder: Path, tmp_path: Path) -> None:
    command = ("evaluate", folder, *QUICK, "--out", tmp_path / "out")
    first = waiting_cli("exprmetric.evaluation.session", "table", 9, *command)
    second = cli(*command)
    assert second.exit_code == 2 and second.stdout == ""
    assert f"another run is writing into {tmp_path / 'out'}" in second.stderr
    first.kill()
    first.communicate()
    third = cli(*command)
    assert third.exit_code == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["throughput"]["rows_kept_from_before"] == 8
    assert cli(*command).exit_code == 0, "a finished run does not stand in the way of another"


STAGES = {
    "reading the input": ("exprmetric.inputs.triplets", "read_triplets", 1, 0),
    "hashing": ("exprmetric.evaluation.evaluate", "make_plan", 1, 0),
    "measuring": ("exprmetric.evaluation.session", "table", 11, 10),
    "drawing": ("exprmetric.report.html", "report_page", 1, 20),
}


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("stage", [s if s == "measuring" else pytest.param(s, marks=pytest.mark.slow) for s in STAGES])
def test_an_interrupted_command_says_so_and_goes_on(stage: str, folder: Path, tmp_path: Path) -> None:
    *place, kept = STAGES[stage]
    command = ("evaluate", folder, *QUICK, "--out", tmp_path / "out")
    process = waiting_cli(*place, *command)  # type: ignore[arg-type]
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    out, said = process.communicate(timeout=60)
    assert time.monotonic() - begun < 30 and out == "interrupted\n"
    assert process.returncode == 130
    assert "Traceback" not in said and "interrupted" in said
    assert ("the same command goes on" in said) and str(tmp_path / "out") in said
    assert cli(*command).exit_code == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["throughput"]["rows_kept_from_before"] == kept
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["report.html", *RESULT]


def test_an_interrupted_command_without_a_folder_promises_nothing(folder: Path) -> None:
    process = waiting_cli("exprmetric.evaluation.session", "table", 5, "evaluate", folder, *QUICK)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in said and "goes on" not in said


def test_the_names_in_this_file_are_those_of_the_journal(tmp_path: Path) -> None:
    written(tmp_path, [0])
    assert {p.name for p in (tmp_path / FOLDER).iterdir()} >= {LOCK, RUN} and (FOLDER, LOCK) == ("partial", "lock")
