"""More than a thousand damaged and hostile files: each is pixels or a named refusal, and none stops a run.

The first layer decodes every file in a child process with little memory and a clock. The second measures some of them
as triplets, in every role, and looks for each in every output.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_files import NAMES, write_all
from PIL import Image

import exprmetric
from exprmetric.errors import UnreadableImageError
from exprmetric.inputs.triplets import ROLES, Triplet
from exprmetric.io.files import path_text
from exprmetric.io.images import read_image

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="pipes, locked files and memory limits as Linux has them"),
    pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning"),
]

ROOT = Path(__file__).resolve().parents[2]
MEMORY = 570 << 20
"""Bytes that the child may ask for besides what the libraries take."""
SECONDS = 30
"""That one file may take."""
TRIPLETS = 150
STATUSES = {"ok", "unreadable", "no_face", "low_quality", "error"}

CHILD = f"""
import json, os, resource, signal, sys
sys.path.insert(0, {str(ROOT)!r})
import cv2, numpy, pyarrow
from PIL import Image
from exprmetric.errors import UnreadableImageError
from exprmetric import read_image
Image.init()
with open("/proc/self/statm") as file:
    memory = {MEMORY} + int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
folder = sys.argv[1]
for name in sorted(os.listdir(folder)):
    path = os.path.join(folder, name)
    print(json.dumps(["begin", name, ""]), flush=True)
    signal.alarm({SECONDS})  # kills, whatever code is running
    try:
        pixels = read_image(path)
        height, width, channels = pixels.shape
        whole = pixels.dtype == numpy.uint8 and channels == 3 and height and width and pixels.flags.c_contiguous
        outcome = ["pixels" if whole else "no pixels", name, str(pixels.shape)]
        del pixels
    except UnreadableImageError as error:
        outcome = ["refused", name, str(error)]
    except BaseException as error:
        outcome = ["raised", name, repr(error)]
    signal.alarm(0)
    print(json.dumps(outcome), flush=True)
"""

MEASURE = f"""
import json, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
import exprmetric
from exprmetric.report.html import write_report
from exprmetric.inputs.triplets import Triplet
roles = ("target", "source", "swapped")
triplets = [Triplet(**row | {{role: Path(row[role]) for role in roles}}) for row in json.load(sys.stdin)]
result = exprmetric.evaluate(triplets, methods=["lm68"], identity=False, detector="dlib", jobs=1)
result.save(sys.argv[1])
write_report(result, sys.argv[1], jobs=1)
"""


@dataclass(frozen=True)
class Decoded:
    """What `read_image` made of the files."""

    folder: Path
    outcomes: dict[str, str]
    said: dict[str, str]
    returncode: int
    stderr: str


@pytest.fixture(scope="module")
def decoded(tmp_path_factory: pytest.TempPathFactory, portrait_photo: Path, group_photo: Path) -> Decoded:
    folder = tmp_path_factory.mktemp("fuzz") / "files"
    write_all(folder, portrait_photo, group_photo)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # threads reserve memory
    command = [sys.executable, "-W", "ignore", "-c", CHILD, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    outcomes = {name: outcome for outcome, name, _ in lines}  # a file that kills the child stays at "begin"
    return Decoded(folder, outcomes, {name: text for _, name, text in lines}, done.returncode, done.stderr)


def test_every_file_is_pixels_or_a_named_refusal(decoded: Decoded, record_testsuite_property: Callable[..., None]):
    counts = Counter(decoded.outcomes.values())
    record_testsuite_property("fuzzed_files", dict(counts))
    print(f"\nfuzzed files: {len(decoded.outcomes)}, {dict(counts)}")
    others = {n: (o, decoded.said[n]) for n, o in decoded.outcomes.items() if o not in ("pixels", "refused")}
    died = signal.Signals(-decoded.returncode).name if decoded.returncode < 0 else decoded.returncode
    assert not others and not died, (died, others, decoded.stderr[-2000:])
    assert set(decoded.outcomes) == {path.name for path in decoded.folder.iterdir()}
    assert len(decoded.outcomes) >= 1_000 and min(counts.values()) > 200, counts


def test_refusals_are_one_line_with_the_files_name(decoded: Decoded):
    for name, outcome in decoded.outcomes.items():
        if outcome == "refused":
            said = decoded.said[name]
            assert said.startswith(repr(str(decoded.folder / name)) + ": ") and said.isprintable(), said
            assert "0x7f" not in said and len(said) < 1_000, said


def test_what_is_whole_is_read_and_what_is_no_image_is_not(decoded: Decoded):
    """The fuzz would be no test if everything was refused, or if nothing was."""

    def outcome(pattern: str) -> set[str]:
        found = {o for n, o in decoded.outcomes.items() if re.fullmatch(pattern, n, re.DOTALL)}
        assert found, pattern
        return found

    assert outcome(r"(?!clip).*-as-.*") == {"pixels"}  # as they were written
    assert outcome(r"(?!clip).*-in\..*") == {"pixels"}  # under any suffix
    assert {decoded.outcomes[name] for name in NAMES} == {"pixels"}
    assert outcome(r"(one-pixel|wide|high|large).*") == {"pixels"}
    assert outcome(r"bomb.*|empty.*|page\.jpg|clip-(jpg|mp4)-in.*") == {"refused"}
    assert outcome(r"(folder|itself|there|back|nowhere|through-itself|zeros|memory|log|pipe|socket|sparse)\.png") == {
        "refused"
    }
    for name in ("clip-as-jpg.jpg", "clip-as-mp4.mp4"):
        assert "a video" in decoded.said[name]
    for kind in ("cut", "flip", "number", "move"):
        assert "refused" in outcome(rf".*-{kind}-\d+\..*")


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"\0\0\0\x20ftypisom", "a video"),
        (b"\0\0\0\x14ftypqt  ", "a video"),
        (b"\0\0\0\x08wide\0\0\0\0mdat", "a video"),
        (b"\x1aE\xdf\xa3", "a video"),
        (b"RIFF\0\0\0\0AVI LIST", "a video"),
        (b"\0\0\x01\xba", "a video"),
        (b"G" + bytes(187) + b"G", "a video"),
        (b"\0\0\0\x18ftypheic", "a HEIF picture"),
        (b"\0\0\0\x18ftypavif", "an AVIF picture that is damaged"),
        (b"The free world", "not an image in a format"),
        (b"RIFF\0\0\0\0WAVE", "not an image in a format"),
    ],
)
@pytest.mark.parametrize("size", [300, 1 << 40])
def test_what_people_take_for_images_is_named(head: bytes, what: str, size: int, tmp_path: Path):
    """At once, however large it is: a run must not read a film to its end to find out that it is none."""
    with (tmp_path / "x.png").open("wb") as file:
        file.write(head)
        file.truncate(size)
    with pytest.raises(UnreadableImageError, match=r"has 1,099,511,627,776 bytes" if size > 300 else what) as caught:
        read_image(tmp_path / "x.png")
    assert what in str(caught.value) or "more than any image" in str(caught.value)
    assert ("video" in str(caught.value)) == ("video" in what)


@pytest.mark.parametrize(
    "array",
    [
        np.full((8, 8, 3), np.nan),
        np.full((8, 8, 3), np.inf, np.float32),
        np.full((8, 8), np.nan, np.float16),
        np.zeros((8, 8, 3), np.complex128),
        np.zeros((8, 8, 3), ">u2"),
        np.zeros((8, 8, 3), "datetime64[s]"),
        np.zeros((8, 8), [("r", "u1"), ("g", "u1")]),
        np.full((8, 8, 3), None),
        np.full((8, 8, 3), "x"),
        np.zeros((8, 8, 3), bool),
        np.broadcast_to(np.uint8(0), (1 << 20, 1 << 20, 3)),  # one byte that says it is 3 TiB
        np.broadcast_to(np.uint16(0), (1 << 20, 1 << 20)),
    ],
    ids=lambda a: f"{a.dtype}-{a.shape}",
)
def test_arrays_that_are_no_pictures_are_refused(array: np.ndarray[Any, Any]):
    with pytest.raises(UnreadableImageError, match="array of"):
        read_image(array)


# --- as triplets ---


@dataclass(frozen=True)
class Measured:
    triplets: list[Triplet]
    result: exprmetric.EvaluationResult
    folder: Path


@pytest.fixture(scope="module")
def measured(decoded: Decoded, portrait_photo: Path, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Some of the files, in every role beside good pictures; all of those whose names or places are odd."""
    folder = tmp_path_factory.mktemp("triplets")
    good = folder / "good.png"
    Image.open(portrait_photo).convert("RGB").crop((130, 0, 330, 250)).save(good)
    odd = [
        n for n in sorted(decoded.outcomes) if not re.fullmatch(r"(.*-(cut|flip|number|move)-\d+|large)\..*", n, re.S)
    ]
    damaged = [n for n in sorted(decoded.outcomes) if re.fullmatch(r".*-(cut|flip|number|move)-\d+\..*", n)]
    odd = [n for n in odd if "-in." not in n]
    names = odd + damaged[:: len(damaged) // (TRIPLETS - len(odd))]
    triplets = []
    for i, name in enumerate(names):
        paths = dict.fromkeys(ROLES, good) | {ROLES[i % 3]: decoded.folder / name}
        triplets.append(Triplet(path_text(name), **paths, model=f"model {i % 2}"))
    rows = json.dumps([{k: v and str(v) for k, v in vars(t).items()} for t in triplets])
    command = [sys.executable, "-W", "ignore", "-c", MEASURE, str(folder / "out")]
    done = subprocess.run(command, input=rows, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return Measured(triplets, exprmetric.EvaluationResult.load(folder / "out"), folder / "out")


def test_every_triplet_is_accounted_for(measured: Measured, record_testsuite_property: Callable[..., None]):
    rows = measured.result.triplets
    counts = Counter(r["status"] for r in rows)
    record_testsuite_property("fuzzed_triplets", dict(counts))
    print(f"\nfuzzed triplets: {len(rows)}, {dict(counts)}")
    assert len(rows) >= TRIPLETS
    assert [r["id"] for r in rows] == [t.id for t in measured.triplets]
    assert len({r["id"] for r in rows}) == len(rows)
    for row in rows:
        assert row["status"] in STATUSES
        assert bool(row["reason"]) == (row["status"] != "ok") == (row["lm68.t2c"] is None), row
        assert row["reason"].isprintable()
    coverage = measured.result.summary["coverage"]
    assert coverage["triplets"] == len(rows) and coverage["ok"] + sum(coverage["failed"].values()) == len(rows)
    assert {"ok", "unreadable", "no_face"} <= set(counts)
    by_id = {r["id"]: r["status"] for r in rows}
    assert {by_id[path_text(name)] for name in NAMES} == {"ok"}  # a name is no reason not to measure


def test_a_damaged_neighbour_changes_no_number(measured: Measured):
    names = {path_text(name) for name in NAMES[:3]}
    triplets = [t for t in measured.triplets if t.id in names]
    alone = exprmetric.evaluate(triplets, methods=["lm68"], identity=False, detector="dlib", jobs=1)
    together = {r["id"]: r for r in measured.result.triplets}
    for row in alone.triplets:
        for column in ("status", "lm68.t2c", "lm68.s2c", "lm68.s2t"):
            assert row[column] == together[row["id"]][column]
    assert len(alone.triplets) == 3


def test_the_files_hold_every_name_as_it_is(measured: Measured):
    import pyarrow.parquet as pq

    text = (measured.folder / "triplets.csv").read_bytes().decode("utf-8")
    rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    table = pq.read_table(measured.folder / "triplets.parquet").to_pylist()
    json.loads((measured.folder / "summary.json").read_text("utf-8"))
    for triplet, row, same in zip(measured.triplets, rows, table, strict=True):
        for role in ROLES:
            assert row[role] == same[role] == path_text(getattr(triplet, role))
        assert row["id"] == same["id"] == triplet.id


def test_the_report_shows_names_and_obeys_none(measured: Measured):
    page = (measured.folder / "report.html").read_text("utf-8")
    tags: list[tuple[str, list[tuple[str, str | None]]]] = []
    words: list[str] = []

    class Page(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append((tag, attrs))

        def handle_data(self, data: str) -> None:
            words.append(data)

    Page(convert_charrefs=True).feed(page)
    assert Counter(tag for tag, _ in tags)["script"] <= 2  # its data and its code
    assert not [a for _, attributes in tags for a, _ in attributes if a.startswith("on")]
    places = {f"#{v}" for _, attributes in tags for a, v in attributes if a == "id"}
    links = [v or "" for _, attributes in tags for a, v in attributes if a in ("src", "href")]
    assert all(v.startswith("data:") or v in places for v in links)  # nothing beyond the page
    shown = " ".join(" ".join(words).split())
    for name in NAMES:
        assert " ".join(path_text(name).split()) in shown, name
