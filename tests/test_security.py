"""Inputs by somebody who means harm: nothing runs, nothing leaks, nothing is written where it must not be.

Tampered weights are in test_security_weights.py, downloads in test_weights.py, damaged files in test_fuzz.py.
"""

from __future__ import annotations

import base64
import csv
import html
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from exprmetric_cli.main import main
from PIL import Image

from exprmetric.evaluation.result import EvaluationResult
from exprmetric.inputs.triplets import ROLES

OPTIONS = ("--method", "lm68", "--no-identity", "--detector", "dlib", "--no-cache", "--quiet", "--jobs", "1")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)
    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory, portrait_photo: Path) -> list[Path]:
    """Two pictures of one face."""
    folder = tmp_path_factory.mktemp("faces")
    portrait = Image.open(portrait_photo).convert("RGB").crop((130, 0, 330, 250))
    portrait.save(folder / "one.png")
    portrait.resize((220, 250)).save(folder / "two.png")
    return [folder / "one.png", folder / "two.png"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def manifest(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    return path


# --- files that are none of the run's business ---

SECRET = "hunter2-Zq9x"
DISGUISES = {
    "passwd": f"root:{SECRET}:0:0:root:/root:/bin/bash\n",
    "key.pem": f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n",
    "plain.ppm": f"P3 {SECRET} 4 255",
    "long.ppm": f"P6 {SECRET * 3}",
    "data.ppm": f"P3 2 2 255 {SECRET} {SECRET}",
    "bits.pbm": f"P1 2 2 {SECRET}",
    "float.pfm": f"PF {SECRET}",
    "bitmap.bmp": f"BM{SECRET * 9}",
    "moving.gif": f"GIF89a{SECRET * 9}",
    "picture.png": f"\x89PNG\r\n\x1a\n{SECRET * 9}",
    "tagged.tif": f"II*\0{SECRET * 9}",
}


def test_files_that_are_no_images_are_refused_and_never_quoted(tmp_path: Path, faces: list[Path]):
    """Relative paths that leave the manifest's folder and absolute ones are opened as images, and as nothing else."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name, text in DISGUISES.items():
        (tmp_path / "secrets" / name).write_bytes(text.encode("latin-1"))
    good = dict.fromkeys(ROLES, str(faces[0]))
    places = [f"../../secrets/{n}" for n in DISGUISES] + [f"{tmp_path}/secrets/{n}" for n in DISGUISES]
    system = ["../" * 30 + "etc/passwd", "/etc/passwd", "/etc/shadow", "/proc/self/environ", "/dev/stdin"]
    rows = [good | {ROLES[i % 3]: place} for i, place in enumerate(places + system)]
    path = manifest(tmp_path / "a" / "b" / "m.csv", [good, *rows])
    out = tmp_path / "out"
    done = run("evaluate", path, "--out", out, *OPTIONS)
    result = EvaluationResult.load(out)
    assert [r["status"] for r in result.triplets] == ["ok"] + ["unreadable"] * len(rows)
    shown = [done.stdout, done.stderr, str(result.triplets), *(p.read_text("utf-8") for p in out.glob("*.[chj]*"))]
    etc = Path("/etc/passwd")
    lines = [line for line in etc.read_text().splitlines() if len(line) > 20] if etc.is_file() else []
    for text in shown:
        for secret in (SECRET, SECRET[:6], repr(SECRET.encode())[2:-1], *lines):
            assert secret not in text
        assert base64.b64encode(SECRET.encode()).decode()[:12] not in text
    assert sorted(p.suffix for p in out.iterdir()) == [".csv", ".html", ".json", ".parquet"]


# --- markup and scripts ---

OWN = "document.title='owned'"
PAYLOADS = (
    f"<script>{OWN}</script>",
    f"</script><script>{OWN}</script>",
    f"</title></style></textarea></svg><script>{OWN}</script>",
    f'"><img src=x onerror="{OWN}">',
    f"' onmouseover='{OWN}' autofocus onfocus='{OWN}' x='",
    f"<svg/onload={OWN}>",
    f"javascript:{OWN}",
    f"--><!--<script>{OWN}</script>-->",
    f"]]><script>{OWN}</script>",
    f"\u2028{OWN}//",
    f'\\u003cscript>{OWN}; "}});{OWN}//',
    "{{ 7 * 191 }}{% include 'report.js' %}",
    "<base href='http://127.0.0.1/'><meta http-equiv=refresh content='0;url=http://127.0.0.1/'>",
    f"<iframe srcdoc='<script>top.{OWN}</script>'></iframe><a href=\"javascript:{OWN}\">x</a>",
)


class Page(HTMLParser):
    """Tags, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, faces: list[Path]) -> dict[str, str]:
    """`report.html` and the page of `compare`, of inputs with a payload in every place that takes a text."""
    folder = tmp_path_factory.mktemp("pages")
    rows = []
    for i, payload in enumerate(PAYLOADS):
        name = f"{i}{payload}"
        file = folder / f"{name.replace('/', '')[:200]}.png"
        file.write_bytes(faces[i % 2].read_bytes())
        texts = {"model": payload, "group": name, "target_label": name, "source_label": payload}
        shared = {"target": faces[0], "source": faces[1]}
        rows.append(shared | texts | {"swapped": file, "id": name})
        rows.append(shared | texts | {"swapped": f"{folder}/gone/{payload}.png", "id": f"gone {name}"})
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("EXPRMETRIC_WEIGHTS", raising=False)
        for out in ("first", f"second {PAYLOADS[0].replace('/', '')}"):
            done = run("evaluate", manifest(folder / "m.csv", rows), "--out", folder / out, *OPTIONS)
            assert done.exit_code == 0, done.output
        results = sorted(p for p in folder.iterdir() if (p / "summary.json").is_file())
        done = run("compare", *results, "--out", folder / "compare.html")
        assert done.exit_code == 0, done.output
    assert len(results) == 2
    return {
        "report": (results[0] / "report.html").read_text("utf-8"),
        "compare": (folder / "compare.html").read_text("utf-8"),
    }


@pytest.mark.parametrize("kind", ["report", "compare"])
def test_no_text_of_the_input_becomes_markup(kind: str, pages: dict[str, str]):
    page = Page(pages[kind])
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") <= 2 and tags.count("title") - tags.count("circle") <= 2
    assert not {"iframe", "base", "object", "embed", "form"} & set(tags)
    for tag, attributes in page.tags:
        assert not [a for a in attributes if a.startswith("on") or a in ("srcdoc", "formaction", "style")], (
            tag,
            attributes,
        )
        assert attributes.get("http-equiv") in (None, "Content-Security-Policy")
        for name in ("src", "href", "xlink:href", "action"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#")), (tag, attributes)
    shown = " ".join(" ".join([*page.words, *(str(v) for _, a in page.tags for v in a.values())]).split())
    for payload in PAYLOADS:  # harmless, and yet told
        assert " ".join(payload.split()) in shown, payload
    assert str(7 * 191) not in shown


def chromium(page: Path, profile: Path) -> str:
    """The page as it stands once its scripts have run."""
    assert CHROMIUM is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--virtual-time-budget=3000"]
    command = [CHROMIUM, *options, f"--user-data-dir={profile}", "--dump-dom", str(page)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("kind", ["report", "compare", "control"])
def test_no_payload_runs_in_a_browser(kind: str, pages: dict[str, str], tmp_path: Path):
    """Not even without the page's policy, which would stop scripts that escaping had let through."""
    control = f"<title>a</title>{PAYLOADS[3]}"  # shows that the check can fail
    text, count = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", pages.get(kind, control))
    assert count == (kind != "control")
    (tmp_path / "page.html").write_text(text, "utf-8")
    before, after = (
        html.unescape(found[1]) if (found := re.search(r"<title>(.*?)</title>", page, re.DOTALL)) else "gone"
        for page in (text, chromium(tmp_path / "page.html", tmp_path / "profile"))
    )
    assert (before, after) == ("a", "owned") if kind == "control" else before == after != "gone"


# --- formulas ---


def test_cells_that_a_spreadsheet_would_compute_stay_what_they_are(tmp_path: Path, faces: list[Path]):
    """Paths and ids are read back by programs, so that no cell is altered; see the documentation of triplets.csv."""
    formulas = ["=1+1", "+1", "-1", "@SUM(A1)", "=cmd|' /C calc'!A0", "\t=1", '=HYPERLINK("http://x")']
    shared = {"target": faces[0], "source": faces[1]}
    rows = [shared | {"swapped": f"{f}.png", "id": f, "model": f} for f in formulas]
    done = run("evaluate", manifest(tmp_path / "m.csv", rows), "--out", tmp_path / "out", *OPTIONS)
    assert done.exit_code == 1
    with (tmp_path / "out" / "triplets.csv").open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file, strict=True))
    assert [r["id"] for r in found] == [r["model"] for r in found] == formulas
    assert [Path(r["swapped"]) for r in found] == [tmp_path / f"{f}.png" for f in formulas]


# --- output folders ---


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def climbing(tmp_path: Path, faces: list[Path]) -> Path:
    """A manifest whose texts would lead out of the output folder, were they taken for paths."""
    names = ["../up", "../../up", "/abs", "a/../../b", "..", "C:\\x", "report.html", "partial/lock"]
    rows = [dict.fromkeys(ROLES, faces[0]) | dict.fromkeys(("id", "model", "group", "target_label"), n) for n in names]
    (tmp_path / "in").mkdir()
    return manifest(tmp_path / "in" / "m.csv", rows)


WRITTEN = {"report.html", "summary.json", "triplets.csv", "triplets.parquet"}


def test_no_id_or_model_leads_out_of_the_output_folder(climbing: Path, tmp_path: Path):
    before = everything(tmp_path)
    out = tmp_path / "deep" / "er" / "out"
    assert run("evaluate", climbing, "--out", out, *OPTIONS).exit_code == 0
    assert everything(tmp_path).keys() - before.keys() == {f"deep/er/out/{name}" for name in WRITTEN}


def test_a_linked_output_folder_gets_its_files_and_links_in_it_are_replaced(climbing: Path, tmp_path: Path):
    """Who names a link means the folder behind it; what a link in the folder points to is somebody else's."""
    real, victim = tmp_path / "real", tmp_path / "victim"
    real.mkdir()
    victim.write_text("mine")
    for name in WRITTEN:
        (real / name).symlink_to(victim)
    (tmp_path / "out").symlink_to(real)
    assert run("evaluate", climbing, "--out", tmp_path / "out", *OPTIONS).exit_code == 0
    assert victim.read_text() == "mine"
    assert set(everything(real)) == WRITTEN and not any((real / name).is_symlink() for name in WRITTEN)


@pytest.mark.parametrize("what", ["partial", "partial/lock", "partial/run.json", "partial/on-the-way"])
def test_a_planted_link_in_the_journal_harms_no_file_behind_it(what: str, climbing: Path, tmp_path: Path):
    out, victim = tmp_path / "out", tmp_path / "victim"
    (out / what).parent.mkdir(parents=True)
    victim.mkdir()
    for name in ("rows-000000000-1.parquet", "run.json", "lock", "other"):
        (victim / name).write_text("mine")
    (out / what).symlink_to(victim if what == "partial" else victim / "other")
    done = run("evaluate", climbing, "--out", out, *OPTIONS)
    assert done.exit_code in (0, 2) and not isinstance(done.exception, OSError)
    assert set(everything(victim).values()) == {b"mine"} and len(everything(victim)) == 4


@pytest.mark.parametrize("place", ["file", "file/below", "dangling"])
def test_a_place_that_is_no_folder_is_refused_and_untouched(place: str, climbing: Path, tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    before = everything(tmp_path)
    done = run("evaluate", climbing, "--out", tmp_path / place, *OPTIONS)
    assert done.exit_code == 2 and "Error: " in done.stderr and isinstance(done.exception, SystemExit)
    assert everything(tmp_path) == before
