"""Damaged, odd and enormous manifests: rows, or an InputError of one line that names the file, and nothing else."""

from __future__ import annotations

import csv
import datetime
import io
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile_files import DAMAGES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import exprmetric
from exprmetric.errors import InputError
from exprmetric.inputs.triplets import ROLES, read_triplets
from exprmetric.io.tables import MAX_CELL

ROOT = Path(__file__).resolve().parents[2]
MUTANTS = 120
MEMORY = 2 << 30  # pyarrow reserves much more than it uses
FUZZ = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
Row = dict[str, Any]

CHILD = f"""
import json, os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
import pyarrow.parquet
from exprmetric.errors import InputError
from exprmetric.inputs.triplets import read_triplets
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))
except ImportError:  # not on Windows
    pass
for name in sorted(os.listdir(sys.argv[1])):
    print(json.dumps(["begin", name, ""]), flush=True)
    if hasattr(signal, "alarm"):
        signal.alarm(30)
    try:
        outcome = ["rows", name, str(len(read_triplets(os.path.join(sys.argv[1], name))))]
    except InputError as error:
        outcome = ["refused", name, str(error)]
    except BaseException as error:
        outcome = ["raised", name, repr(error)]
    print(json.dumps(outcome), flush=True)
"""


def rows(count: int = 30) -> list[Row]:
    return [
        {
            "target": f"t/{i % 4}.png",
            "source": f"s, {i}.png",
            "swapped": f'c "é" {i}.png',
            "id": f"line\n{i}",
            "group": i % 3,
        }
        for i in range(count)
    ]


def as_csv(table: list[Row], **options: Any) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(table[0]), **options)
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue().encode()


def as_jsonl(table: list[Row]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in table).encode()


def as_parquet(table: list[Row], **options: Any) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(table), data, **options)
    return data.getvalue()


def originals() -> dict[str, bytes]:
    delta = {"use_dictionary": False, "column_encoding": dict.fromkeys(ROLES, "DELTA_BYTE_ARRAY")}
    return {
        "unix.csv": as_csv(rows(), lineterminator="\n"),
        "windows.csv": b"\xef\xbb\xbf" + as_csv(rows(), quoting=csv.QUOTE_ALL),
        "lines.jsonl": as_jsonl(rows()),
        "plain.parquet": as_parquet(rows(), compression="none"),
        "snappy.parquet": as_parquet(rows()),
        "groups.parquet": as_parquet(rows(), row_group_size=7, compression="zstd"),
        "second.parquet": as_parquet(rows(), data_page_version="2.0", compression="gzip"),
        "delta.parquet": as_parquet(rows(), compression="none", **delta),
    }


def test_damaged_manifests_are_rows_or_refused(tmp_path: Path, record_testsuite_property: Callable[..., None]):
    chance = random.Random(0)
    for name, data in originals().items():
        (tmp_path / f"whole-{name}").write_bytes(data)
        for i in range(MUTANTS):
            damaged = bytearray(data)
            DAMAGES[i % len(DAMAGES)](damaged, chance)
            if chance.random() < 0.5 and len(damaged) > 700:  # Parquet says at its end what it is
                end = damaged[-600:]
                DAMAGES[1](end, chance)
                damaged[-600:] = end
            (tmp_path / f"{i}-{name}").write_bytes(damaged)
    command = [sys.executable, "-W", "ignore", "-c", CHILD, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    outcomes = {name: (outcome, said) for outcome, name, said in lines}
    counts = Counter(outcome for outcome, _ in outcomes.values())
    record_testsuite_property("fuzzed_manifests", dict(counts))
    print(f"\nfuzzed manifests: {len(outcomes)}, {dict(counts)}")
    others = {name: found for name, found in outcomes.items() if found[0] not in ("rows", "refused")}
    assert not others and done.returncode == 0, (done.returncode, others, done.stderr[-2000:])
    assert len(outcomes) == len(originals()) * (MUTANTS + 1) and min(counts.values()) > 50
    for name, (outcome, said) in outcomes.items():
        if name.startswith("whole"):
            assert (outcome, said) == ("rows", "30")
        if outcome == "refused":
            assert name in said and said.isprintable() and len(said) < 3_000, said


PIECES = [
    "target",
    "source",
    "swapped",
    "id",
    ",",
    ",",
    '"',
    "\n",
    "\r",
    "\r\n",
    "\ufeff",
    "\0",
    " ",
    "a.png",
    "é",
    "\x1b",
]


@FUZZ
@given(
    pieces=st.lists(st.sampled_from(PIECES), max_size=30),
    head=st.sampled_from(["", "target,source,swapped\r\n", "\ufeff"]),
)
def test_any_text_is_rows_or_refused(pieces: list[str], head: str, tmp_path: Path):
    path = tmp_path / "m.csv"
    path.write_text(head + "".join(pieces), encoding="utf-8", newline="")
    try:
        found = read_triplets(path)
    except InputError as error:
        assert "m.csv" in str(error) and str(error).isprintable()
    else:
        assert found and all(t.problem for t in found) and len({t.id for t in found}) == len(found)


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-99, max_value=99)
    | st.datetimes()
    | st.timedeltas(datetime.timedelta(days=-9999), datetime.timedelta(days=9999))
)


@FUZZ
@given(value=scalars | st.lists(scalars, max_size=1) | st.dictionaries(st.text(max_size=2), st.integers(0, 9)))
def test_any_type_of_parquet_is_rows_or_refused(value: object, tmp_path: Path):
    import pyarrow as pa

    path = tmp_path / "m.parquet"
    try:
        path.write_bytes(as_parquet([{"target": "t", "source": "s", "swapped": "c", "id": value, "ignored": value}]))
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        return  # no such table can be written
    try:
        (found,) = read_triplets(path)
    except InputError as error:
        assert "'id'" in str(error)
        whole = isinstance(value, int) and not isinstance(value, bool)
        assert not whole and (not isinstance(value, str) or "\0" in value)
    else:
        assert value is None or isinstance(value, str | int | float)
        assert not isinstance(value, str) or found.id == (value if value.strip() else "c")


@pytest.mark.parametrize("unit", ["timestamp", "date32", "time64", "duration"])
def test_dates_beyond_pythons_are_refused(unit: str, tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    far = pa.array([2**31 - 1], pa.int32()) if unit == "date32" else pa.array([2**62], pa.int64())
    kinds = {
        "timestamp": pa.timestamp("ms"),
        "date32": pa.date32(),
        "time64": pa.time64("us"),
        "duration": pa.duration("s"),
    }
    columns = {role: pa.array(["x"]) for role in ROLES}
    pq.write_table(pa.table(columns | {"id": far.view(kinds[unit])}), tmp_path / "m.parquet")
    with pytest.raises(InputError, match=r"m\.parquet"):
        read_triplets(tmp_path / "m.parquet")
    pq.write_table(pa.table(columns | {"ignored": far.view(kinds[unit])}), tmp_path / "m.parquet")
    assert len(read_triplets(tmp_path / "m.parquet")) == 1  # a column that isn't wanted is not read


WRITERS = {".csv": as_csv, ".jsonl": as_jsonl, ".parquet": as_parquet}


@pytest.mark.parametrize("suffix", WRITERS)
def test_one_limit_for_cells_in_every_format(suffix: str, tmp_path: Path):
    path = tmp_path / f"m{suffix}"
    full = {"target": "t", "source": "s", "swapped": "x" * MAX_CELL}
    path.write_bytes(WRITERS[suffix]([full]))
    (found,) = read_triplets(path)  # no file has such a name, so the row can't be measured
    assert len(found.id) == MAX_CELL and "too long" in found.problem and len(found.problem) < 4_000
    path.write_bytes(WRITERS[suffix]([full | {"swapped": "x" * (MAX_CELL + 1)}]))
    with pytest.raises(InputError, match=r"131,?072") as caught:
        read_triplets(path)
    assert len(str(caught.value)) < 3_000
    path.write_bytes(WRITERS[suffix]([full | {"swapped": "c", "x" * 100_000: "1"}]))
    assert read_triplets(path)[0].id == "c"
    path.write_bytes(WRITERS[suffix]([{"x" * 100_000: "1"}]))
    with pytest.raises(InputError, match="no column 'target'") as caught:
        read_triplets(path)
    assert len(str(caught.value)) < 3_000


@pytest.mark.parametrize(("suffix", "count"), [(".csv", 30_000), (".jsonl", 10_000), (".parquet", 10_000)])
def test_many_rows_of_one_path_are_as_many_rows(suffix: str, count: int, tmp_path: Path):
    path = tmp_path / f"m{suffix}"
    path.write_bytes(WRITERS[suffix]([dict.fromkeys(ROLES, "same.png")] * count))
    found = read_triplets(path)
    assert len({t.id for t in found}) == len(found) == count
    assert "not found" in found[0].problem and found[0].problem == found[-1].problem
    path.write_bytes(WRITERS[suffix]([dict.fromkeys((*ROLES, "id"), "same")] * count))
    with pytest.raises(InputError, match=rf"rows 1, 2, .* and {count - 8} more have the same id 'same'") as caught:
        read_triplets(path)
    assert len(str(caught.value)) < 1_000


def test_rows_of_one_path_are_measured_once_and_reported_each(portrait_photo: Path, tmp_path: Path):
    Image.open(portrait_photo).crop((100, 0, 360, 260)).save(tmp_path / "face.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "blank.png")
    face, blank = dict.fromkeys(ROLES, "face.png"), dict.fromkeys(ROLES, "face.png") | {"swapped": "blank.png"}
    (tmp_path / "m.csv").write_bytes(as_csv([face] * 5_000 + [blank] * 5_000))
    result = exprmetric.evaluate(tmp_path / "m.csv", methods=["lm68"], identity=False, detector="dlib", jobs=1)
    assert result.summary["coverage"] == {"triplets": 10_000, "ok": 5_000, "failed": {"no_face": 5_000}}
    assert len({r["id"] for r in result.triplets}) == 10_000
    assert {r["lm68.t2c"] for r in result.triplets} == {0.0, None}
