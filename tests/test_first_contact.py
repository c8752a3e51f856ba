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
    assert "are kept in" in capsys.readouterr().err
    cache_command.say_first_use(tmp_path)
    assert capsys.readouterr().err == ""


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
