"""The documentation: command lines parse, blocks run or say why they don't, links lead somewhere.

Blocks of a page run from top to bottom in a folder of small swaps, as a reader would run them. Above a block that can't
run there stands `<!-- not run: the reason -->`.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from exprmetric_cli.main import main
from swaps import small_folder

import exprmetric
from exprmetric.inputs.triplets import ROLES

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *(path for name in ("CONTRIBUTING.md", "SECURITY.md") if (path := ROOT / name).is_file()),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "exprmetric" / "data").glob("*.md")),
]
QUICK = {"weights.md"}
"""Pages that need no swaps and no time; all others are marked slow."""
NEEDS = {
    "notebook.md": ("torch", "timm", "torchmetrics", "IPython"),
    "training-loop.md": ("torch", "timm", "torchmetrics"),
    "training.md": ("torch", "timm"),
    "video.md": ("av",),
}
RUN = ("bash", "python")
LANGUAGES = {*RUN, "text", "json", "toml", "dockerfile", "yaml"}
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.M | re.S)
NOT_RUN = re.compile(r"<!-- not run: (\S.*?) -->\s*\Z", re.S)
LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        language: what stands behind its fence.
        code: its lines.
        line: where it begins.
        why_not: why it isn't run; '' where it is.
    """

    language: str
    code: str
    line: int
    why_not: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            found[1].split()[0] if found[1].split() else "",
            found[2],
            text.count("\n", 0, found.start()) + 1,
            why[1] if (why := NOT_RUN.search(text, 0, found.start())) else "",
        )
        for found in FENCE.finditer(text)
    ]


def command_lines(code: str) -> Iterator[list[str]]:
    """The calls of `exprmetric` in shell code, as lists of arguments."""
    for line in code.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
        lexer.wordchars += "{}$*?[]=,:%…+@!~"
        lexer.commenters = "#"
        call: list[str] | None = None
        first = True  # of a simple command; settings before it and `torchrun --no-python` go on to it
        for word in [*lexer, ";"]:
            if set(word) <= set("&|;<>"):
                if call is not None:
                    yield call
                call, first = None, True
            elif call is not None:
                call.append(word)
            elif word == "exprmetric" and first:
                call = []
            else:
                first = "=" in word or word == "--no-python"


COMMANDS = [
    pytest.param(call, id=f"{page.name}:{block.line}: {' '.join(call)}"[:120])
    for page in PAGES
    for block in blocks(page)
    if block.language == "bash"
    for call in command_lines(block.code)
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_names_its_language(page: Path) -> None:
    unnamed = [f"{page.name}:{b.line}" for b in blocks(page) if b.language.strip("{}") == b.language not in LANGUAGES]
    assert not unnamed


@pytest.mark.parametrize("call", COMMANDS)
def test_every_command_line_parses(call: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Options, choices, ranges and the number of arguments; files need not be there."""
    monkeypatch.setattr(click.Path, "convert", lambda self, value, param, ctx: Path(value))
    monkeypatch.setattr(click.File, "convert", lambda self, value, param, ctx: value)
    command, context, rest = main, click.Context(main, info_name="exprmetric", **main.context_settings), call
    while isinstance(command, click.Group):
        name, *rest = rest
        found = command.get_command(context, name)
        assert found is not None, f"no command {name!r}"
        command, context = found, click.Context(found, info_name=name, parent=context)
    with contextlib.suppress(click.exceptions.Exit):  # --help and --version
        command.make_context(context.info_name, list(rest), parent=context.parent)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_block_is_python(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            ast.parse(block.code, f"{page.name}:{block.line}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = [link.partition("#")[0] for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8")))]
    broken = [link for link in links if link and "://" not in link and not (page.parent / link).exists()]
    assert not broken


def test_every_page_is_on_the_site() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    listed = {
        line.strip() for toctree in FENCE.findall(index) if "toctree" in toctree[0] for line in toctree[1].split()
    }
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} - listed == {"index"}


def test_the_design_names_files_and_rooms_that_are_there() -> None:
    text = FENCE.sub("", (ROOT / "docs" / "design.md").read_text(encoding="utf-8"))
    named = set(re.findall(r"`([\w/]+/|[\w/]+\.(?:py|json))`", text)) - {"partial/", "run.json"}
    roots = [ROOT / "exprmetric" / room for room in ("..", ".", "evaluation", "training", "video")]
    assert not {name for name in named if not any((root / name).exists() for root in roots)}


def test_every_public_name_is_on_the_python_page() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert not [name for name in exprmetric.__all__ if name != "__version__" and f"exprmetric.{name}\n" not in text]


def test_the_citation_names_this_version() -> None:
    assert f"\nversion: {exprmetric.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) < 1000


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages call swaps/, swaps.csv, target.png and so on: four of the demo's swaps."""
    folder, made = tmp_path_factory.mktemp("material"), small_folder(tmp_path_factory)
    people = sorted({path.stem.partition("_")[0] for path in (made / "target").iterdir()})
    pairs = [(t, s) for t, s in product(people[:3], repeat=2) if t != s][:4]
    for t, s in pairs:
        name = f"{t}_{s}.png"
        for role, root in product(ROLES, ("swaps", "model-a", "model-b")):
            _copy(made / role / name, folder / root / role / name)
        _copy(made / "target" / name, folder / "model-b" / "swapped" / name)  # a model that changes nothing
        _copy(made / "swapped" / name, folder / "swapped" / name)
        for role in ROLES:
            _copy(made / role / name, folder / f"{role}.png")
    for i, person in enumerate(people):
        other = people[i - 1]
        _copy(made / "target" / f"{person}_{other}.png", folder / "targets" / f"{person}.png")
        _copy(made / "source" / f"{other}_{person}.png", folder / "sources" / f"{person}.png")
    rows = [",".join(f"swaps/{role}/{t}_{s}.png" for role in ROLES) for t, s in pairs]
    (folder / "swaps.csv").write_text("\n".join([",".join(ROLES), *rows]) + "\n")
    labels = [f"{kind}/{person}.png,{i % 2}" for kind in ("targets", "sources") for i, person in enumerate(people)]
    (folder / "labels.csv").write_text("\n".join(["image,label", *labels]) + "\n")
    for name in ("examples", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def clips(folder: Path) -> None:
    """target.mp4 and swapped.mp4, twelve frames each."""
    import av
    import numpy as np
    from PIL import Image

    for role in ("target", "swapped"):
        picture = np.asarray(Image.open(folder / f"{role}.png").convert("RGB"))
        with av.open(str(folder / f"{role}.mp4"), "w") as file:
            stream = file.add_stream("mpeg4", rate=25)
            stream.height, stream.width, stream.pix_fmt, stream.bit_rate = *picture.shape[:2], "yuv420p", 4_000_000
            for i in range(12):
                file.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(picture, i, 1).copy(), format="rgb24")))
            file.mux(stream.encode())


def run_bash(code: str, folder: Path, shims: Path) -> None:
    """In one process where it is nothing but calls of `exprmetric`, which saves its start; else in a shell."""
    lines = [line for line in code.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    if all(line.startswith("exprmetric ") and not set("|&;<>*$'\"") & set(line) for line in lines):
        for line in lines:
            result = CliRunner().invoke(main, shlex.split(line, comments=True)[1:])
            assert result.exit_code == 0, f"{line}\n{result.output}"
        return
    path = f"{shims}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code], cwd=folder, text=True, capture_output=True, timeout=900,
        env={**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"


def marks(page: Path) -> list[pytest.MarkDecorator]:
    quick, torch = page.name in QUICK, "torch" in NEEDS.get(page.name, ())
    return [] if quick else [pytest.mark.slow] + [pytest.mark.torch] * torch


RUNNABLE = [
    pytest.param(page, id=page.name, marks=marks(page))
    for page in PAGES
    if any(b.language in RUN and not b.why_not for b in blocks(page))
]


@pytest.mark.parametrize("page", RUNNABLE)
def test_a_pages_code_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    for package in NEEDS.get(page.name, ()):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    folder, shims = tmp_path / "work", tmp_path / "shims"
    if page.name in QUICK:
        folder.mkdir()
    else:
        shutil.copytree(request.getfixturevalue("material"), folder, symlinks=True)
    shims.mkdir()
    for name, module in (("python", ""), ("exprmetric", "-m exprmetric ")):  # a link would leave the environment
        (shims / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {module}"$@"\n')
        (shims / name).chmod(0o755)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)
    if page.name == "video.md":
        clips(folder)
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(page):
        if block.why_not:
            continue
        if block.language == "bash":
            run_bash(block.code, folder, shims)
        elif block.language == "python":
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(block.code, f"{page.name}:{block.line}", "exec"), names)
