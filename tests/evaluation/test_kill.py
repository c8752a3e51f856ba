"""`kill -9` at random moments of a real run, again and again: the same command ends with the same files."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from swaps import assert_same, large_folder, start_cli

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9"),
]

TRIPLETS = 200
KILLS = 22
MOST = 0.05
"""Of the rows, what a kill may cost on average."""
SPY = """
import os
from exprmetric.evaluation import reading
_log = os.open({log!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def _read(source, read=reading.read_image):
    os.write(_log, f"{{source}}\\n".encode())  # one call of the system: a kill does not undo it
    return read(source)
reading.read_image = _read
"""


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)
    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return large_folder(tmp_path_factory)


@dataclass
class Runs:
    """The command, the folder that it writes into, and what its processes have read."""

    folder: Path
    out: Path
    log: Path
    killed: Counter[str] = field(default_factory=Counter)

    def start(self) -> subprocess.Popen[str]:
        return start_cli(
            *("evaluate", self.folder, "--out", self.out, "--no-cache", "--quiet"),
            *("--detector", "dlib", "--method", "lm68", "--method", "default", "--jobs", "1"),
            before=SPY.format(log=str(self.log)),
            stdout=subprocess.DEVNULL,
        )

    def finish(self) -> tuple[float, float]:
        """Run to the end; seconds until it first read an image, and in all."""
        begun = time.monotonic()
        process = self.start()
        while process.poll() is None and not self.log.exists():
            time.sleep(0.01)
        first = time.monotonic() - begun
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
        assert "begins anew" not in said
        return first, time.monotonic() - begun

    def kill_when(self, ready: Callable[[], bool], delay: float) -> bool:
        """Kill it some time after a moment; False where all was done before."""
        read = self.read()
        process = self.start()
        while process.poll() is None and not ready():
            time.sleep(0.001)
        try:
            _, said = process.communicate(timeout=delay)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            if stage := self.stage(read):
                self.killed[stage] += 1
            return bool(stage)
        assert process.returncode == 0, said
        return False

    def read(self) -> list[str]:
        """Images that were read so far."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    def rows(self) -> int:
        return sum(pq.ParquetFile(p).metadata.num_rows for p in (self.out / "partial").glob("rows-*.parquet"))

    def stage(self, read: list[str]) -> str:
        """What a process was at when it died, as far as its files tell; '' if at nothing any more."""
        if not (self.out / "partial").exists():
            return "" if self.out.exists() else "starting"
        if self.rows() == TRIPLETS:
            return "drawing" if (self.out / "triplets.parquet").exists() else "writing"
        if len(self.read()) > len(read):
            return "measuring"
        return "starting" if (self.out / "partial" / "run.json").exists() else "hashing"

    def measured_again(self) -> int:
        """Swapped images that were read more than once: rows that were begun again."""
        read = [line for line in self.read() if "/swapped/" in line]
        assert len(set(read)) == TRIPLETS
        return len(read) - TRIPLETS


def test_a_run_survives_kills_at_random_moments(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(2024)
    plain = Runs(folder, tmp_path / "plain", tmp_path / "plain.log")
    start, whole = plain.finish()
    assert plain.measured_again() == 0
    killed: Counter[str] = Counter()
    again, begun, chain = 0, time.monotonic(), 0
    while killed.total() < KILLS:
        chain += 1
        runs = Runs(folder, tmp_path / f"{chain}", tmp_path / f"{chain}.log")
        aimed: dict[str, tuple[Callable[[], bool], float]] = {
            "hashing": (lambda out=runs.out: (out / "partial" / "lock").exists(), 0.05),  # type: ignore[misc]
            "writing": (lambda runs=runs: runs.rows() == TRIPLETS, 0.06),  # type: ignore[misc]
            "drawing": (lambda out=runs.out: (out / "triplets.parquet").exists(), 0.12),  # type: ignore[misc]
        }
        for moment in ("hashing", "any", "any", "any", "any", "any", "writing", "drawing"):
            if moment == "any":
                left = (whole - start) * (1 - runs.rows() / TRIPLETS)
                alive = runs.kill_when(lambda: True, rng.uniform(0, start + 0.4 * left))
            else:
                ready, most = aimed[moment]
                alive = runs.kill_when(ready, rng.uniform(0, most))
            if not alive:
                break
        else:
            runs.finish()
        assert_same(runs.out, plain.out, report=True)
        again += runs.measured_again()
        killed += runs.killed
    share = again / killed.total() / TRIPLETS
    stages = ", ".join(f"{number} while {stage}" for stage, number in killed.items())
    with capsys.disabled():
        print(
            f"\n{killed.total()} kills ({stages}) of runs of {TRIPLETS} triplets that take {whole:.1f} s: "
            f"{again} rows measured again, {share:.1%} of all rows a kill; all files identical; "
            f"{time.monotonic() - begun:.0f} s"
        )
    assert killed.total() >= 20 and killed["measuring"] >= 8 and killed["drawing"] >= 1
    assert share < MOST
