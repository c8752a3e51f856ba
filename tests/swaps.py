"""Real swaps to measure, results to compare, and the CLI as a process of its own."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape

from exprmetric.evaluation.tables import speed_line
from exprmetric.inputs.triplets import ROLES

ROOT = Path(__file__).resolve().parents[1]
CODE = f"""
import importlib.util, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests in the background ignores it
sys.path[:0] = {[str(ROOT / "tests"), str(ROOT / "tests" / "evaluation")]!r}
if importlib.util.find_spec("exprmetric") is None or importlib.util.find_spec("exprmetric_cli") is None:
    sys.path.insert(0, {str(ROOT)!r})
    spec = importlib.util.spec_from_file_location(
        "exprmetric_cli", {str(ROOT / "cli" / "__init__.py")!r}, submodule_search_locations=[{str(ROOT / "cli")!r}]
    )
    sys.modules["exprmetric_cli"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
"""
CLI = "from exprmetric_cli.main import main; main(prog_name='exprmetric')"
TABLES = ("triplets.csv", "triplets.parquet")


def small_folder(factory: pytest.TempPathFactory) -> Path:
    """20 swaps among five people of the bundled photographs, made once a session; each target and source stands there
    under four names, so that there are 5 + 20 distinct images."""
    return _small_folder(factory.getbasetemp())


@functools.cache
def _small_folder(folder: Path) -> Path:
    from exprmetric.demo.make import make_swaps

    folder = folder / "small_swaps"
    assert len(make_swaps(folder)) == 20
    return folder


def large_folder(factory: pytest.TempPathFactory) -> Path:
    """200 swaps: the 20 real ones under 10 small shifts and scales, so that all images differ and hold a face."""
    return _large_folder(factory.getbasetemp())


@functools.cache
def _large_folder(folder: Path) -> Path:
    import numpy as np
    from PIL import Image

    small, large = _small_folder(folder), folder / "large_swaps"
    rng = np.random.default_rng(11)
    views = [(rng.uniform(0.92, 1.08), *rng.uniform(-12, 12, 2)) for _ in range(10)]
    for role in ROLES:
        (large / role).mkdir(parents=True)
        for path in (small / role).iterdir():
            with Image.open(path) as image:
                for number, (scale, dx, dy) in enumerate(views):
                    place = (scale, 0, dx, 0, scale, dy)
                    moved = image.transform(image.size, Image.Transform.AFFINE, place, Image.Resampling.BILINEAR)
                    moved.save(large / role / f"{path.stem}-{number}.png", compress_level=1)
    return large


def plain_summary(out: Path) -> dict[str, Any]:
    """The summary without what no two runs share."""
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return {k: v for k, v in summary.items() if k not in ("created", "throughput", "command")}


def plain_report(out: Path) -> str:
    """The page without what no two runs share."""
    summary = json.loads((out / "summary.json").read_text())
    page = (out / "report.html").read_text()
    for text in (summary["created"], speed_line(summary["throughput"]), str(escape(summary["command"]))):
        assert page.count(text) == 1
        page = page.replace(text, "")
    return page


def assert_same(out: Path, other: Path, *, report: bool = False, files: bool = True) -> None:
    """Two folders of results are the same byte by byte, but for when, how fast and by which command they were made."""
    if files:
        assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in other.iterdir())
    for name in TABLES:
        assert (out / name).read_bytes() == (other / name).read_bytes(), name
    assert json.dumps(plain_summary(out)) == json.dumps(plain_summary(other))
    if report:
        assert plain_report(out) == plain_report(other)


def in_a_process(code: str, *arguments: object, **more: Any) -> subprocess.Popen[str]:
    """Code in a process of its own, in which the package and the tests can be imported; stdin and stdout are pipes."""
    command = [sys.executable, "-c", f"{CODE}\n{code}", *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, text=True, encoding="utf-8", **{**pipes, **more})


def start_cli(*arguments: object, before: str = "", **more: Any) -> subprocess.Popen[str]:
    """The command line in a process of its own; `before` is run in it first."""
    return in_a_process(f"{before}\n{CLI}", *arguments, **{"stderr": subprocess.PIPE, **more})


def run_cli(*arguments: object, before: str = "") -> tuple[int, str, str]:
    """Exit status, stdout and stderr."""
    process = start_cli(*arguments, before=before)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


class _Header(ctypes.Structure):
    _fields_: Sequence[tuple[str, Any]] = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Rights(ctypes.Structure):
    _fields_: Sequence[tuple[str, Any]] = [(n, ctypes.c_uint32) for n in ("effective", "permitted", "inheritable")]


@contextmanager
def bound_by_modes() -> Iterator[None]:
    """File modes bind this thread even where the tests run as root (who may write whatever the mode says)."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, rights = _Header(0x20080522, 0), (_Rights * 2)()
    if libc.capget(ctypes.byref(header), rights):
        pytest.skip("the rights of this process can't be read")
    had = rights[0].effective
    rights[0].effective = had & ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    if libc.capset(ctypes.byref(header), rights):
        pytest.skip("root can't lay down its rights here")
    try:
        yield
    finally:
        rights[0].effective = had
        libc.capset(ctypes.byref(header), rights)
