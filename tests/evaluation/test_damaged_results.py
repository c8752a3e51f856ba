"""Saved results that are damaged: an error that names the file and what is wrong, or the same numbers; and names in
them that are commands to a terminal."""

from __future__ import annotations

import io
import json
import random
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import results
from click.testing import CliRunner, Result
from exprmetric_cli.main import main
from exprmetric_cli.options import FORMATS
from PIL import Image

from exprmetric.comparing import compared as comparison
from exprmetric.comparing.compare import compare
from exprmetric.comparing.contestants import load_contestants
from exprmetric.errors import ExprmetricError, InputError
from exprmetric.evaluation import tables
from exprmetric.evaluation.evaluate import evaluate
from exprmetric.evaluation.large.shards import merge
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.inputs.triplets import Triplet
from exprmetric.video.scores.result import VideoResult

JUNK: tuple[Any, ...] = (None, "x", 7.5, -3, True, [], {}, ["x"], {"x": 1}, float("nan"), 10**400)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result with two models, a failed row and the identity control, and another beside it."""
    folder = tmp_path_factory.mktemp("saved")
    rows = [
        results.row(folder, f"t{i}", "s", model=model, status="ok" if i else "no_face", reason="" if i else "target")
        for model in ("one", "two")
        for i in range(4)
    ]
    results.result(rows).save(folder / "a")
    results.result([results.row(folder, f"t{i}", "s", seed=1) for i in range(4)]).save(folder / "b")
    return folder


@pytest.fixture
def damaged(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved / "a", tmp_path / "a")


def use(folder: Path, other: Path) -> None:
    """All that can be done with a loaded result, but drawing."""
    result = EvaluationResult.load(folder)
    for form in FORMATS:
        tables.page(result).say(form)
    found = compare(load_contestants([folder, other]))
    for form in FORMATS:
        comparison.page(found).say(form)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside a JSON document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*at, key)
        yield from places(inner, (*at, key))


def changed(document: Any, at: tuple[Any, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(document))
    inner = copy
    for key in at[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[at[-1]]
    else:
        inner[at[-1]] = value
    return copy


def test_a_summary_with_anything_missing_or_changed_is_refused_by_name_or_can_be_used(
    saved: Path, damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = json.loads((saved / "a" / "summary.json").read_text())
    every = [(at, value) for at in places(summary) for value in (..., *JUNK)]
    refused = 0
    for at, value in random.Random(0).sample(every, 100):
        (damaged / "summary.json").write_text(json.dumps(changed(summary, at, value)))
        try:
            use(damaged, saved / "b")
        except InputError as error:
            refused += 1
            assert "a/summary.json" in str(error) or "a/triplets.parquet" in str(error), (at, value, error)
        except ExprmetricError as error:
            pytest.fail(f"{at} {value!r}: {error}")
        capsys.readouterr()
    assert refused > 60


BROKEN_SUMMARIES = {
    "nothing": b"",
    "cut off": b'{"schema_version": 1, "meth',
    "no JSON": b"\x89PNG",
    "no UTF-8": b'{"schema_version": 1, "created": "\xff"}',
    "half a character": b'{"schema_version": 1, "created": "\\ud800"}',
    "a list": b"[]",
    "nested": b"[" * 100_000,
    "of another version": b'{"schema_version": 2}',
    "of a version that is no number": b'{"schema_version": [1]}',
    "a version alone": b'{"schema_version": 1}',
    "not a number": b'{"schema_version": NaN}',
}


@pytest.mark.parametrize("what", BROKEN_SUMMARIES)
def test_a_broken_summary_is_refused_by_name(what: str, damaged: Path) -> None:
    (damaged / "summary.json").write_bytes(BROKEN_SUMMARIES[what])
    with pytest.raises(InputError, match=r"a/summary\.json.*(is damaged|has schema_version)"):
        EvaluationResult.load(damaged)


def _cast(column: str, to: pa.DataType, fill: Any) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = pa.array([fill] * len(table), to)
        return table.set_column(table.column_names.index(column), column, values)

    return change


def _named(column: str, other: str) -> Callable[[pa.Table], pa.Table]:
    """A table one of whose columns is called otherwise."""
    return lambda table: table.rename_columns([other if c == column else c for c in table.column_names])


ODD_TABLES: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "a column less": (lambda t: t.drop_columns(["status"]), "lacks the columns 'status'"),
    "a distance less": (lambda t: t.drop_columns(["lm68.s2c"]), "lacks the columns 'lm68.s2c'"),
    "no identity": (lambda t: t.drop_columns([f"identity.{d}" for d in ("t2c", "s2c", "s2t")]), "'identity.t2c'"),
    "a column twice": (lambda t: t.append_column("id", t["id"]), "'id' twice"),
    "ids that are numbers": (_cast("id", pa.int64(), 1), "'id' holds no text but int64"),
    "models that are lists": (_cast("model", pa.list_(pa.string()), ["x"]), "'model' holds no text"),
    "models that are numbers": (_cast("model", pa.float64(), 0.5), "'model' holds no text"),
    "distances that are text": (_cast("lm68.t2c", pa.string(), "0.1"), "'lm68.t2c' holds no numbers but string"),
    "distances that are dates": (_cast("lm68.t2c", pa.date32(), 3), "'lm68.t2c' holds no numbers"),
    "faces that are text": (_cast("faces_target", pa.string(), "1"), "'faces_target' holds no whole numbers"),
    "a count whose name is damaged": (_named("faces_source", "feces_source"), "lacks the columns 'faces_source'"),
    "a box whose name is damaged": (_named("box_swapped", "box_swappad"), "lacks the columns 'box_swapped'"),
    "a derived column whose name is damaged": (
        _named("identity.same_person", "identity.same_parson"),
        "no run writes a column 'identity.same_parson'",
    ),
    "half of a method": (lambda t: t.append_column("new.t2c", t["lm68.t2c"]), "lacks distances of 'new'"),
    "a row less": (lambda t: t.slice(1), "7 rows with 6 measured, and that says 8 with 6"),
    "other statuses": (_cast("status", pa.string(), "ok"), "8 rows with 8 measured, and that says 8 with 6"),
    "no rows": (lambda t: t.slice(0, 0), "0 rows with 0 measured"),
}


@pytest.mark.parametrize("what", ODD_TABLES)
def test_a_table_of_another_kind_is_refused_by_name(what: str, damaged: Path) -> None:
    change, told = ODD_TABLES[what]
    path = damaged / "triplets.parquet"
    pq.write_table(change(pq.read_table(path)), path)
    with pytest.raises(InputError, match=rf"a/triplets\.parquet.*{re.escape(told)}"):
        EvaluationResult.load(damaged)


def test_a_damaged_table_is_refused_by_name_or_has_the_same_rows(saved: Path, damaged: Path) -> None:
    whole = (saved / "a" / "triplets.parquet").read_bytes()
    expected = EvaluationResult.load(saved / "a").triplets
    chance = random.Random(0)
    broken = [whole[: len(whole) * i // 12] for i in range(12)] + [whole + b"x", whole[::-1], b"PAR1" * 9]
    for _ in range(60):
        bits = bytearray(whole)
        bits[chance.randrange(len(bits))] ^= 1 << chance.randrange(8)
        broken.append(bytes(bits))
    refused = 0
    for content in broken:
        (damaged / "triplets.parquet").write_bytes(content)
        try:
            found = EvaluationResult.load(damaged).triplets
        except InputError as error:
            refused += 1
            assert "a/triplets.parquet" in str(error)
        else:
            assert found == expected
    assert refused > 40


def test_a_missing_file_and_a_folder_in_its_place_are_told(damaged: Path, tmp_path: Path) -> None:
    for name in ("triplets.parquet", "summary.json"):
        (damaged / name).unlink()
        with pytest.raises(InputError, match=f"no {name}"):
            EvaluationResult.load(damaged)
        (damaged / name).mkdir()
        with pytest.raises(InputError, match=name):
            EvaluationResult.load(damaged)
    with pytest.raises(InputError, match="nowhere"):
        EvaluationResult.load(tmp_path / "nowhere")


def test_compare_ends_with_one_sentence_and_status_2(saved: Path, damaged: Path) -> None:
    summary = json.loads((damaged / "summary.json").read_text())
    for words in ("detector.fingerprint", "methods.lm68.fingerprint", "methods", "identity.fingerprint"):
        at = tuple(words.split("."))
        (damaged / "summary.json").write_text(json.dumps(changed(summary, at, ...)))
        done = run("compare", damaged, saved / "b")
        assert done.exit_code == 2 and done.stderr.count("\n") == 1
        assert f"{words} is missing" in done.stderr and "summary.json" in done.stderr


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_damaged_shards_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)
    image = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(image)
    swaps = [Triplet(name, image, image, image) for name in "ab"]
    for i in (1, 2):
        evaluate(swaps, ["lm68"], detector="none", identity=False, out=tmp_path / str(i), shard=f"{i}/2")
    whole = {name: (tmp_path / "2" / name).read_bytes() for name in ("shard.json", "rows.parquet")}
    assert len(merge([tmp_path / "1", tmp_path / "2"]).triplets) == 2
    chance = random.Random(0)
    for name, content in whole.items():
        for i in range(20):
            bits = bytearray(content)
            bits[chance.randrange(len(bits))] ^= 1 << chance.randrange(7)
            broken = bytes(bits) if i % 2 else content[: len(content) * i // 20]
            (tmp_path / "2" / name).write_bytes(broken)
            with pytest.raises(InputError, match=r"2/(shard\.json|rows\.parquet)"):
                merge([tmp_path / "1", tmp_path / "2"])
        (tmp_path / "2" / name).write_bytes(content)


# Results of videos


def video_result() -> VideoResult:
    score = {"value": 0.5, "ci95": [0.4, 0.6]}
    coverage = {"ok": 1, "failed": {}}
    part: dict[str, Any] = {
        "coverage": {"clips": 1, **coverage, "people": 1, "frames": {"total": 2, **coverage}},
        "methods": {"lm68": {"n": 1, "l2_error": score, "mean_t2c": score, "ratio": score, "temporal": {"dtw": score}}},
        "identity": None,
        "events": {},
    }
    names = ("id", "model", "group", "target", "source", "swapped", "status", "reason")
    clip = dict.fromkeys(names, "007") | {"person": 1, "coverage": {"frames": 2, **coverage}, "worst": {}, "events": {}}
    summary = {
        "schema_version": 1,
        "exprmetric_version": "0",
        "created": "now",
        "alarms": [],
        **part,
        "models": {"m": part},
        "clips": [clip],
        "settings": {"detector": "dlib", "provider": "cpu", "rate": 25.0, "quality": "any"},
    }
    frames = {
        "clip": ["007"] * 2,
        "frame": [0, 1],
        "time": [0.0, 0.1],
        "status": ["ok", "no_face"],
        "reason": ["", "x"],
    }
    return VideoResult(summary, pa.table({**{n: ["007"] for n in names}, "frames": [2]}), pa.table(frames))


def test_damaged_results_of_videos_are_refused_by_name_or_are_the_same(tmp_path: Path) -> None:
    made = video_result()
    out = made.save(tmp_path / "out")
    loaded = VideoResult.load(out)
    assert loaded.clips["id"].to_pylist() == ["007"] and loaded.frames.equals(made.frames)  # a name, and no number
    chance = random.Random(0)
    every = [(at, value) for at in places(made.summary) for value in (..., *JUNK)]
    refused = 0
    for at, value in chance.sample(every, 200):
        (out / "video.json").write_text(json.dumps(changed(made.summary, at, value)))
        try:
            VideoResult.load(out)
        except InputError as error:
            refused += 1
            assert re.search(r"out/(video\.json|clips\.csv)", str(error)), (at, value, error)
    assert refused > 100
    made.save(out)
    for name in ("frames.parquet", "clips.csv"):
        content = (out / name).read_bytes()
        for broken in (b"", content[: len(content) // 2], b"\xff\xfe\0" * 9, b"a,b\n1\n", content[::-1]):
            (out / name).write_bytes(broken)
            with pytest.raises(InputError, match=rf"out/{name}"):
                VideoResult.load(out)
        (out / name).unlink()
        with pytest.raises(InputError, match=f"no {name}"):
            VideoResult.load(out)
        (out / name).write_bytes(content)


# Names that are commands to a terminal

NAMES = ("\x1b[2J\x1b]0;owned\x07", "\x9b31m\x7f", "a\rb\x08\u202eltr", "line\nbreak")


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "json"])
def test_names_never_command_a_terminal(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    methods = ("lm68", NAMES[1])
    rows = [results.row(tmp_path, f"t{i}", "s", model=name, methods=methods) for name in NAMES for i in range(3)]
    rows.append(results.row(tmp_path, "t9", "s", model="x", status="no_face", reason=NAMES[0], id_=NAMES[1]))
    result = results.result(rows, methods=methods)
    result.summary["alarms"].append(f"Model {NAMES[0]}: odd")
    result.summary["detector"]["ran"] = NAMES[0]

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys, "stdout", stdout := Terminal())
    monkeypatch.setattr(sys, "stderr", stderr := Terminal())
    tables.page(result).say(form)
    comparison.page(compare(load_contestants([result.save(tmp_path / "out")]))).say(form)
    words = stdout.getvalue() + stderr.getvalue()
    assert "t9" in words or "owned" in words
    bad = {c for c in re.sub("\x1b\\[[0-9;]*m", "", words) if not c.isprintable() and c != "\n"}  # rich's own styles
    assert not bad and "\x1b]" not in words and "\x1b[2J" not in words


def test_an_error_never_commands_a_terminal(tmp_path: Path) -> None:
    done = run("compare", tmp_path / "\x1b[2J", tmp_path / "b\x07")
    assert done.exit_code == 2 and "\x1b" not in done.stderr and "\\x1b[2J" in done.stderr


def test_json_and_csv_for_programs_keep_every_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = results.result([results.row(tmp_path, f"t{i}", "s", model=name) for name in NAMES for i in range(3)])
    tables.page(result).say("json")
    assert list(json.loads(capsys.readouterr().out)["groups"]) == sorted(NAMES)
    tables.page(result).say("csv")
    out = capsys.readouterr().out
    assert all(name.replace("\r", "") in out.replace("\r", "") for name in NAMES)
    assert np.isfinite(result.summary["methods"]["lm68"]["mean_t2c"]["value"])
