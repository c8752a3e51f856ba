"""Where threads read, an image that kills its process ends the run; the next one finds it and measures the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from swaps import CODE

from exprmetric.errors import ImageError
from exprmetric.evaluation.large import suspects
from exprmetric.evaluation.large.suspects import Notes
from exprmetric.evaluation.session import Settings
from exprmetric.io.images import Pinned

PLUG_IN = """
import os, signal
import numpy as np
from exprmetric.methods import Method

class Colour(Method):
    template, dimension = "box", 3
    fingerprint = "colour-1"

    def __init__(self, provider):
        self.name = "colour"

    def prepare(self, face):
        if (face.image[0, 0] == (1, 2, 3)).all():
            signal.raise_signal(signal.SIGSEGV)  # in this thread, at once, as a fault is

    def represent(self, faces):
        if any((face.crop(self.template)[0, 0] == (4, 5, 6)).all() for face in faces):
            os._exit(3)
        return np.array([face.crop(self.template).mean((0, 1)) for face in faces], np.float32).reshape(-1, 3)
"""
RUN = """
import json, sys
from exprmetric import evaluate
found = evaluate(sys.argv[1], ["colour"], detector="none", landmarks="none", identity=False, jobs=2, out=sys.argv[2])
print(json.dumps([[r["status"], r["reason"], r.get("colour.t2c")] for r in found.triplets]))
"""


@pytest.fixture
def kills(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A manifest of eight triplets, of which one image kills its reader and another whoever represents it, and the
    environment of a method of another package that does so."""
    info = tmp_path / "site" / "colour-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: colour\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[exprmetric.methods]\ncolour = colour_module:Colour\n")
    (tmp_path / "site" / "colour_module.py").write_text(PLUG_IN)
    rng = np.random.default_rng(0)
    lines = ["target,source,swapped"]
    for i in range(8):
        names = [f"{i}-{role}.png" for role in "tsc"]
        for name in names:
            pixels = rng.integers(20, 230, (64, 64, 3), np.uint8)
            if name == "3-c.png":
                pixels[0, 0] = 1, 2, 3
            if name == "6-t.png":
                pixels[:] = 4, 5, 6
            Image.fromarray(pixels).save(tmp_path / name)
        lines.append(",".join(names))
    (tmp_path / "triplets.csv").write_text("\n".join(lines))
    path = os.pathsep.join([str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return tmp_path / "triplets.csv", {**os.environ, "PYTHONPATH": path}


def run(manifest: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    code = [sys.executable, "-c", CODE + RUN, str(manifest), str(manifest.parent / "out")]
    return subprocess.run(code, capture_output=True, text=True, env=environment, timeout=120, check=False)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a process ends by other signals there")
def test_the_next_run_names_the_images_that_killed_threads_and_measures_all_others(
    kills: tuple[Path, dict[str, str]],
) -> None:
    assert run(*kills).returncode  # whichever comes first
    second = run(*kills)
    last = run(*kills) if second.returncode else second  # where only one of them had begun when the first run died
    assert last.returncode == 0, last.stderr
    rows = json.loads(last.stdout.splitlines()[-1])
    assert [status for status, _, _ in rows] == ["ok"] * 3 + ["error"] + ["ok"] * 2 + ["error", "ok"]
    assert "it killed its reader (SIGSEGV)" in rows[3][1] and "it killed its reader (exit status 3)" in rows[6][1]
    assert all(distance > 0 for status, _, distance in rows if status == "ok")
    assert not (kills[0].parent / "out" / "partial").exists()


def names(*digits: str) -> list[str]:
    return [digit * 64 for digit in digits]


def test_a_run_finds_the_images_that_an_earlier_one_began_and_did_not_end(tmp_path: Path) -> None:
    a, b, c, d = names("a", "b", "c", "d")
    first = Notes(tmp_path / "notes")
    with first.on_the_way([a, b]):
        pass
    for image in (c, b, d):
        first.begin(image)
    first.end(b)
    second = Notes(tmp_path / "notes")  # no file was closed, as in a process that died
    assert sorted(second.left) == [c, d]
    second.end(c)
    with second.on_the_way([a]):
        assert sorted(Notes(tmp_path / "notes").left) == [a, d]
    assert Notes(tmp_path / "notes").left == [d]
    for notes in (first, second):
        notes.end(d)
        notes.end(c)
        notes.close()


def test_images_that_are_still_on_their_way_when_a_run_stops_are_struck_out_as_they_end(tmp_path: Path) -> None:
    (a,) = names("a")
    notes = Notes(tmp_path / "notes")
    notes.begin(a)
    notes.close()
    assert Notes(tmp_path / "notes").left == [a]
    notes.end(a)
    assert Notes(tmp_path / "notes").left == []


def test_notes_are_not_written_through_a_link_and_damaged_ones_are_none(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "notes").symlink_to(tmp_path / "victim")
    notes = Notes(tmp_path / "notes")
    notes.begin("a" * 64)
    assert (tmp_path / "victim").read_text() == "mine"
    (tmp_path / "damaged").write_bytes(b"\xff\n" + b"b" * 64)
    assert Notes(tmp_path / "damaged").left == []


PROCESS = """
import json, os, pickle, sys, time
def tell(what):
    pickle.dump(what, sys.stdout.buffer); sys.stdout.buffer.flush()
asked = json.loads(sys.stdin.readline())
tell("ready")
for first, (path, _) in enumerate(asked["images"]):
    name = os.path.basename(path)
    if name == "kills" or name == "kills second" and first:
        os._exit(3)
    if name == "hangs":
        time.sleep(60)
    tell(name)
"""


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for one that loads models; what it makes of an image is the image's name."""
    monkeypatch.setattr(suspects, "RUN", PROCESS)
    monkeypatch.setattr(suspects, "SECONDS", 5.0)


def tried(*images: str) -> tuple[dict[str, object], set[str]]:
    with pytest.warns(UserWarning, match="an earlier run died"):
        found, killers = suspects.try_apart([Pinned(Path(i), i) for i in images], Settings(("lm68",)))
    return dict(found), killers


@pytest.mark.usefixtures("process")
def test_an_image_is_blamed_only_when_it_killed_a_process_that_had_read_no_other() -> None:
    found, killers = tried("good", "kills", "fine", "kills second", "last")
    assert killers == {"kills"}
    assert isinstance(found["kills"], ImageError) and str(found.pop("kills")) == "it killed its reader (exit status 3)"
    assert found == {name: name for name in ("good", "fine", "kills second", "last")}


@pytest.mark.usefixtures("process")
def test_an_image_that_never_ends_is_blamed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspects, "SECONDS", 0.5)
    found, killers = tried("hangs", "good")
    assert killers == {"hangs"} and "not over after" in str(found["hangs"]) and found["good"] == "good"


def test_suspects_are_read_as_others_are_where_no_process_can_load_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspects, "RUN", "raise SystemExit(1)")
    with pytest.warns(UserWarning, match="can't be tried"):
        assert tried("good") == ({}, set())
