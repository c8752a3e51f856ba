"""Shards: an input measured in pieces and joined again is the input measured at once."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from exprmetric_cli.main import main
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from swaps import assert_same, small_folder

from exprmetric.errors import InputError
from exprmetric.evaluation.evaluate import evaluate
from exprmetric.evaluation.large import shards as shards_module
from exprmetric.evaluation.large.journal import FOLDER
from exprmetric.evaluation.large.shards import FILE, ROWS, Shard, merge
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.inputs.triplets import Triplets, read_triplets

METHODS = ("lm68", "lm51")


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No weights but those that packages carry, and nobody's cache."""
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)
    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path_factory.mktemp("cache")))


# --- which rows, and how a piece is named ---


@given(total=st.integers(0, 10**7), of=st.integers(1, 400))
def test_every_row_is_in_one_shard(total: int, of: int) -> None:
    pieces = [Shard(i, of).rows(total) for i in range(1, of + 1)]
    assert pieces[0].start == 0 and pieces[-1].stop == total
    assert all(a.stop == b.start for a, b in pairwise(pieces))
    sizes = [len(p) for p in pieces]
    assert max(sizes) - min(sizes) <= 1 and sum(sizes) == total


@given(st.integers(1, 999_999).flatmap(lambda of: st.tuples(st.integers(1, of), st.just(of))))
def test_a_piece_is_named_by_two_numbers(numbers: tuple[int, int]) -> None:
    assert Shard.parse("{}/{}".format(*numbers)) == Shard(*numbers)


@given(
    st.text(max_size=12)
    | st.text("0123456789/- +.e\n\u0663\uff11", max_size=12)
    | st.tuples(st.integers(-3, 20), st.sampled_from("/|:"), st.integers(-3, 20)).map(lambda t: "".join(map(str, t)))
)
def test_any_other_text_is_refused(text: str) -> None:
    number, slash, of = text.strip().partition("/")
    try:
        shard = Shard.parse(text)
    except InputError as error:
        assert repr(text) in str(error)
        plain = [n for n in (number, of) if n.isascii() and n.isdigit() and len(n) <= 6]
        assert not (slash and len(plain) == 2 and 1 <= int(number) <= int(of))
    else:
        assert (shard.number, shard.of) == (int(number), int(of)) and 1 <= shard.number <= shard.of


# --- merging ---


def measured(source: Any, out: Path, **how: Any) -> EvaluationResult:
    given_ = {"detector": "none", "identity": False, "jobs": 2, **how}
    return evaluate(source, given_.pop("methods", METHODS), out=out, **given_)


@pytest.fixture(scope="module")
def triplets(tmp_path_factory: pytest.TempPathFactory) -> Triplets:
    """20 rows, mixed so that copies of a target stand in several shards; with models, labels, a group, failures and a
    note."""
    rows = random.Random(4).sample(read_triplets(small_folder(tmp_path_factory)), 20)
    rows = [
        replace(t, model=f"model {i % 3}", target_label="happy", source_label=("happy", "neutral")[i % 2])
        for i, t in enumerate(rows)
    ]
    broken = tmp_path_factory.mktemp("broken") / "broken <b>.png"
    broken.write_bytes(b"no picture")
    rows[3] = replace(rows[3], swapped=broken)
    rows[12] = replace(rows[12], target=broken.with_name("nowhere.png"))
    rows[17] = replace(rows[17], group="given")
    return Triplets(rows, ["one source stands for all targets"])


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vectors")


@pytest.fixture(scope="module")
def whole(triplets: Triplets, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    measured(triplets, out)
    return out


@pytest.fixture(scope="module")
def pieces(triplets: Triplets, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], list[Path]]:
    """Folders of the n shards; each set is measured once, and copied by tests that change it."""
    made: dict[int, list[Path]] = {}

    def shards(n: int) -> list[Path]:
        if n not in made:
            root = tmp_path_factory.mktemp(f"in-{n}")
            made[n] = [root / f"{i}" for i in range(1, n + 1)]
            for i, out in enumerate(made[n], 1):
                measured(triplets, out, shard=f"{i}/{n}", cache=cache)
        return made[n]

    return shards


@pytest.mark.parametrize("n", [1, 2, 7, 23])
def test_merged_shards_are_the_whole_run_byte_by_byte(
    n: int, pieces: Callable[[int], list[Path]], whole: Path, tmp_path: Path
) -> None:
    """Also where there are more shards than rows, and in whatever order they are named."""
    shards = pieces(n)
    assert_same(merge(shards).save(tmp_path / "a"), whole)
    assert_same(merge(random.Random(n).sample(shards, n)).save(tmp_path / "b"), whole)
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert summary["throughput"]["shards"] == n and summary["throughput"]["seconds"] > 0


def test_the_whole_run_has_what_could_go_wrong(whole: Path) -> None:
    """Splits, failures, and a target whose copies stand in several shards."""
    result = EvaluationResult.load(whole)
    assert result.summary["coverage"] == {"triplets": 20, "ok": 18, "failed": {"unreadable": 2}}
    assert {"model 0", "same_label", "different_label"} <= result.summary["groups"].keys()
    rows = result.triplets
    assert rows[17]["group"] == "given"
    apart = {r["group"] for r in rows[:10]} & {r["group"] for r in rows[10:]}
    assert len(apart) >= 3 and len({r["target"] for r in rows}) == 20, "one group, under paths of both halves"


def test_how_rows_were_found_is_said_of_the_merged_result_too(
    triplets: Triplets, pieces: Callable[[int], list[Path]]
) -> None:
    assert merge(pieces(2)).summary["notes"] == triplets.notes == ["one source stands for all targets"]


def test_copies_of_a_target_are_one_group_across_shards(
    pieces: Callable[[int], list[Path]], whole: Path, tmp_path: Path
) -> None:
    """A shard alone names them otherwise, and knows fewer groups: the intervals must come from the merged ones."""
    halves = pieces(2)
    alone = [r["group"] for out in halves for r in EvaluationResult.load(out).triplets]
    merged = merge(halves)
    joined = [r["group"] for r in merged.triplets]
    assert alone != joined == [r["group"] for r in EvaluationResult.load(whole).triplets]
    intervals = [EvaluationResult.load(f).summary["methods"]["lm68"]["mean_t2c"]["ci95"] for f in (*halves, whole)]
    assert merged.summary["methods"]["lm68"]["mean_t2c"]["ci95"] == intervals[2] not in intervals[:2]


@pytest.mark.parametrize("how", [{"seed": 5}, {"on_fail": "worst"}])
def test_how_rows_are_counted_is_said_when_they_are_merged(
    how: dict[str, Any], triplets: Triplets, pieces: Callable[[int], list[Path]], cache: Path, tmp_path: Path
) -> None:
    measured(triplets, tmp_path / "whole", cache=cache, **how)
    assert_same(merge(pieces(2), **how).save(tmp_path / "merged"), tmp_path / "whole")


def test_a_shard_goes_on_after_a_stop(triplets: Triplets, pieces: Any, whole: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(stage: str, done: int, total: int) -> None:
        assert total == 10
        if done == 6:
            raise Stop

    with pytest.raises(Stop):
        measured(triplets, tmp_path / "2", shard="2/2", progress=stop)
    with pytest.raises(InputError, match=r"2 holds a run that is not finished"):
        merge([pieces(2)[0], tmp_path / "2"])
    again = measured(triplets, tmp_path / "2", shard="2/2")
    assert again.summary["throughput"]["rows_kept_from_before"] == 6
    assert_same(merge([pieces(2)[0], tmp_path / "2"]).save(tmp_path / "out"), whole)


def test_versions_are_those_of_the_machines_that_measured(
    pieces: Callable[[int], list[Path]], whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exprmetric.evaluation.conclude.environment", lambda: {"onnxruntime": "another"})
    merged = merge(pieces(2)).summary
    assert merged["environment"] == EvaluationResult.load(whole).summary["environment"]


# --- what can't be merged ---


@pytest.fixture
def halves(pieces: Callable[[int], list[Path]], tmp_path: Path) -> list[Path]:
    """Two halves to change."""
    return [Path(shutil.copytree(p, tmp_path / f"half-{p.name}")) for p in pieces(2)]


def refused(shards: list[Path], *words: str) -> None:
    with pytest.raises(InputError) as caught:
        merge(shards)
    for word in words:
        assert word in str(caught.value)


def test_nothing_to_merge() -> None:
    refused([], "no folder")


def test_a_missing_shard(pieces: Callable[[int], list[Path]]) -> None:
    seven = pieces(7)
    refused([*seven[:2], *seven[3:6]], "shard 3, 7 of 7 is missing")


def test_a_shard_that_is_there_twice(halves: list[Path], tmp_path: Path) -> None:
    copy = shutil.copytree(halves[0], tmp_path / "copy")
    refused([*halves, copy], "half-1", "copy", "both shard 1 of 2")
    refused([*halves, halves[0]], "both shard 1 of 2")


def test_shards_of_other_numbers(halves: list[Path], pieces: Callable[[int], list[Path]]) -> None:
    refused([halves[0], pieces(7)[1]], "not of the same number of shards")


@pytest.mark.parametrize("how", [{"methods": ("lm68",)}, {"face": "center"}, {"detector": "dlib"}, {"identity": True}])
def test_shards_of_other_settings(
    how: dict[str, Any], halves: list[Path], triplets: Triplets, cache: Path, tmp_path: Path
) -> None:
    measured(triplets, tmp_path / "other", shard="2/2", cache=cache, **how)
    refused([halves[0], tmp_path / "other"], "not of the same settings")


@pytest.mark.parametrize("what", ["order", "more rows", "another model under the same names", "a label"])
def test_shards_of_other_inputs(what: str, halves: list[Path], triplets: Triplets, cache: Path, tmp_path: Path) -> None:
    rows = {
        "order": [triplets[1], triplets[0], *triplets[2:]],
        "more rows": [*triplets, replace(triplets[0], id="one more")],
        "another model under the same names": [replace(t, swapped=t.source) for t in triplets],
        "a label": [replace(triplets[0], source_label="sad"), *triplets[1:]],
    }[what]
    measured(rows, tmp_path / "other", shard="2/2", cache=cache)
    refused([halves[0], tmp_path / "other"], "not of the same input")


def test_shards_of_other_versions(
    halves: list[Path], triplets: Triplets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = shards_module.environment()
    monkeypatch.setattr(shards_module, "environment", lambda: {**here, "platform": "another kernel"})
    measured(triplets, tmp_path / "near", shard="2/2")
    merge([halves[0], tmp_path / "near"])
    monkeypatch.setattr(shards_module, "environment", lambda: {**here, "onnxruntime": "9.9"})
    measured(triplets, tmp_path / "other", shard="2/2")
    refused([halves[0], tmp_path / "other"], "different onnxruntime (9.9, ")


@pytest.mark.parametrize("name", [FILE, ROWS])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "of the other"])
def test_damaged_shards(name: str, damage: str, halves: list[Path]) -> None:
    file = halves[1] / name
    content = {
        "empty": b"",
        "cut": file.read_bytes()[:-30],
        "of the other": (halves[0] / name).read_bytes(),
    }
    file.unlink() if damage == "gone" else file.write_bytes(content[damage])
    with pytest.raises(InputError):
        merge(halves)


def test_a_folder_that_is_no_shard(halves: list[Path], whole: Path, tmp_path: Path) -> None:
    for other in (whole, tmp_path / "nowhere", tmp_path):
        refused([halves[0], other], str(other), "no finished shard")


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_byte_is_refused_or_means_nothing(data: Any, halves: list[Path], whole: Path) -> None:
    name = data.draw(st.sampled_from([FILE, ROWS]))
    good = (halves[0] / name).read_bytes()
    place = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[place] = data.draw(st.integers(0, 255))
    (halves[0] / name).write_bytes(bad)
    try:
        merged = merge(halves)
    except InputError:
        pass
    else:
        assert json.loads(bad) == json.loads(good) if name == FILE else bad == good
        assert merged.triplets == EvaluationResult.load(whole).triplets
    finally:
        (halves[0] / name).write_bytes(good)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["run", "of", "shard", "x"]), inner),
    max_leaves=6,
)


@given(value=JSON, key=st.sampled_from(["", "schema_version", "shard", "of", "total", "run", "throughput", "sha256"]))
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_shard_json_of_anything_else_is_a_named_refusal(value: Any, key: str, halves: list[Path]) -> None:
    file = halves[1] / FILE
    good = json.loads(file.read_text())
    bad = {**good, key: value} if key else value
    file.write_text(json.dumps(bad))
    try:
        if bad != good:
            refused(halves, FILE)
    finally:
        file.write_text(json.dumps(good))


def test_a_whole_run_into_the_folder_of_a_shard_makes_it_none(
    halves: list[Path], triplets: Triplets, cache: Path
) -> None:
    measured(triplets, halves[0], cache=cache)
    assert sorted(p.name for p in halves[0].iterdir()) == ["summary.json", "triplets.csv", "triplets.parquet"]
    refused(halves, "no finished shard")


@pytest.mark.parametrize("dies_at", [ROWS, FILE])
def test_a_shard_that_dies_at_its_last_files_is_not_taken_for_its_older_self(
    dies_at: str, halves: list[Path], triplets: Triplets, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = shards_module.write_whole

    def die(path: Path, fill: Any) -> None:
        if path.name == dies_at:
            raise KeyboardInterrupt
        write(path, fill)

    monkeypatch.setattr(shards_module, "write_whole", die)
    other = [replace(t, swapped=t.source) for t in triplets]
    with pytest.raises(KeyboardInterrupt):
        measured(other, halves[1], shard="2/2", cache=cache)
    refused(halves, "half-2")
    shutil.rmtree(halves[1] / FOLDER)
    refused(halves, "half-2")


# --- the command line ---


def cli(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(a) for a in arguments])


QUICK = ("--detector", "none", "--no-identity", "-m", "lm68", "-q")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_folder(tmp_path_factory)


def test_a_matrix_of_commands(folder: Path, cache: Path, tmp_path: Path) -> None:
    for i in (1, 2, 3):
        done = cli("evaluate", folder, *QUICK, "--cache", cache, "--shard", f"{i}/3", "--out", tmp_path / f"{i}")
        assert done.exit_code == 0, done.output
    command = ("evaluate", folder, *QUICK, "--cache", cache, "--out", tmp_path / "whole", "--format", "csv")
    whole = cli(*command)
    merged = cli("merge", *(tmp_path / n for n in "312"), "--out", tmp_path / "merged", "--format", "csv")
    assert merged.exit_code == 0 and f"written: {tmp_path / 'merged'}/report.html" in merged.stderr
    assert_same(tmp_path / "merged", tmp_path / "whole", report=True)
    assert whole.exit_code == 0 and merged.stdout == whole.stdout != ""


def test_a_shard_without_rows_is_no_failure(folder: Path, cache: Path, tmp_path: Path) -> None:
    done = cli("evaluate", folder, *QUICK, "--cache", cache, "--shard", "1/50", "--out", tmp_path / "1")
    assert done.exit_code == 0, done.output
    assert EvaluationResult.load(tmp_path / "1").summary["coverage"]["triplets"] == 0
    assert (tmp_path / "1" / "report.html").is_file()


def test_nothing_measured_is_exit_status_1(tmp_path: Path) -> None:
    rows = "\n".join(f"{i}.png,{i}.png,{i}.png" for i in range(4))
    (tmp_path / "rows.csv").write_text(f"target,source,swapped\n{rows}\n")
    for i in (1, 2):
        done = cli("evaluate", tmp_path / "rows.csv", *QUICK, "--shard", f"{i}/2", "--out", tmp_path / "o" / str(i))
        assert done.exit_code == 1
    merged = cli("merge", tmp_path / "o" / "1", tmp_path / "o" / "2", "--out", tmp_path / "merged")
    assert merged.exit_code == 1 and "nothing could be measured" in merged.stderr
    assert EvaluationResult.load(tmp_path / "merged").summary["coverage"]["failed"] == {"unreadable": 4}


@pytest.mark.parametrize("shard", ["", "0/3", "4/3", "1", "1/0", "-1/3", "1/3/5", "a/b", "1.0/2"])
def test_a_wrong_shard_is_wrong_usage(shard: str, folder: Path, tmp_path: Path) -> None:
    """An empty one too: a job whose variable is not set must not measure everything."""
    done = cli("evaluate", folder, *QUICK, "--shard", shard, "--out", tmp_path / "out")
    assert done.exit_code == 2 and "NUMBER/OF" in done.stderr and not (tmp_path / "out").exists()


def test_wrong_usage_of_shards(folder: Path, halves: list[Path], tmp_path: Path) -> None:
    done = cli("evaluate", folder, *QUICK, "--shard", "1/2")
    assert done.exit_code == 2 and "name a folder" in done.stderr
    for arguments, said in (
        ((halves[0], "--out", tmp_path / "out"), "shard 2 of 2 is missing"),
        ((*halves, "--out", halves[0]), "is one of the shards"),
        ((*halves, tmp_path / "nowhere", "--out", tmp_path / "out"), "no finished shard"),
        (halves, "--out"),
        (("--out", tmp_path / "out"), "DIR"),
    ):
        done = cli("merge", *arguments)
        assert done.exit_code == 2 and said in done.stderr and done.stdout == ""
    assert not (tmp_path / "out").exists()


def test_a_folder_that_can_not_be_written_is_wrong_usage(halves: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    done = cli("merge", *halves, "--out", tmp_path / "file" / "out")
    assert done.exit_code == 2 and "can't write" in done.stderr
