"""What somebody meets first: hints that work, and what is kept of faces said when it happens."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from exprmetric_cli import cache as cache_command
from exprmetric_cli.main import main

from exprmetric.errors import MissingPackageError


def run(*words: str) -> str:
    result = CliRunner().invoke(main, list(words))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_cache_is_shown_cleared_and_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path))
    folder = tmp_path / "vectors"
    folder.mkdir()
    (folder / "vectors.sqlite3").write_bytes(b"x" * 5000)
    assert "5.0 kB; on" in run("cache", "show")
    run("cache", "clear")
    assert not folder.exists() and "0 bytes; on" in run("cache", "show")
    folder.mkdir()
    run("cache", "off")
    assert not folder.exists() and "off: nothing is kept" in run("cache", "show") and cache_command.cache_is_off()
    assert run("cache", "off", "--undo") == "on\n" and not cache_command.cache_is_off()


def test_what_is_kept_of_faces_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    cache_command.say_first_use(tmp_path / "absent")
    assert capsys.readouterr().err == ""
    cache_command.say_first_use(tmp_path)
    assert "and no identity vectors, are kept in" in capsys.readouterr().err
    cache_command.say_first_use(tmp_path)
    assert capsys.readouterr().err == ""
    cache_command.say_first_use(tmp_path, identity=True)
    assert "identity vectors too, are kept in" in capsys.readouterr().err


def test_a_hint_works_from_a_clone_too():
    text = str(MissingPackageError("this needs torch: pip install 'exprmetric[recipes,torch]'"))
    assert text.endswith("(in a clone: pip install -e '.[recipes,torch]')")
    assert str(MissingPackageError("pip install matplotlib")) == "pip install matplotlib"


def test_a_missing_libgl_is_a_sentence(monkeypatch: pytest.MonkeyPatch):
    from exprmetric_cli.lazy import LazyGroup

    def broken(*_: object) -> None:
        raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(LazyGroup, "invoke", broken, raising=False)
    result = CliRunner().invoke(main, ["doctor"])
    assert (
        result.exit_code == 1 and "needs the system library libGL" in result.stderr and "Traceback" not in result.output
    )


@pytest.mark.parametrize(
    ("names", "template"),
    [
        (("000_003.png", "001_002.png"), "{target}_{source}.png"),
        (("a1_to_b2.jpg", "c_to_d.jpg"), "{target}_to_{source}.jpg"),
        (("portrait.png", "001_002.png"), ""),
    ],
)
def test_a_folder_of_swaps_is_answered_by_the_template_that_fits_its_names(
    names: tuple[str, ...], template: str, tmp_path: Path
):
    for name in names:
        (tmp_path / name).touch()
    result = CliRunner().invoke(main, ["evaluate", str(tmp_path)])
    assert result.exit_code == 2 and ("--pairs" in result.stderr) == bool(template) and template in result.stderr


def test_the_power_of_a_comparison_is_that_of_the_normal_approximation(tmp_path: Path):
    from statistics import NormalDist, stdev

    from results import result, row

    rows = [row(tmp_path, f"t{i}", f"s{i}", model=m, seed=m) for i in range(12) for m in "AB"]
    made = result(rows)
    text = " ".join(run("pairs", "--power", str(made.save(tmp_path / "out"))).split())
    t2c = {(r.triplet.model, r.group): r.distances["lm68"].t2c for r in rows}
    spread = stdev(t2c["A", f"t{i}"] - t2c["B", f"t{i}"] for i in range(12))
    ten_percent = 0.1 * sum(t2c.values()) / len(t2c)
    quantile = NormalDist().inv_cdf
    needed = ((quantile(0.975) + quantile(0.8)) * spread / ten_percent) ** 2
    assert f"10 % {ten_percent:.3f} {int(needed) + 1} " in text
