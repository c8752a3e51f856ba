"""Whatever stdout and stderr are, no command ends with a traceback or with another exit status for it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import results
from exprmetric_cli.main import COMMANDS, main
from swaps import run_cli, small_folder, start_cli

FORMATS = ("table", "json", "csv", "markdown")
NAMES = ("模型", "Ω😀")


def spoken(monkeypatch: pytest.MonkeyPatch, encoding: str, *arguments: object) -> tuple[Any, str]:
    """Exit status and stdout of the command where stdout has this encoding."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        with pytest.raises(SystemExit) as end:
            main([str(a) for a in arguments], prog_name="exprmetric")
        stream.flush()
    # click takes an ASCII stdout for one of UTF-8 that was set up wrongly
    return end.value.code or 0, raw.getvalue().decode("utf-8" if encoding == "ascii" else encoding)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1"])
def test_no_command_fails_for_an_encoding_that_lacks_its_letters(
    encoding: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for command in COMMANDS:
        assert spoken(monkeypatch, encoding, command, "--help")[0] == 0
    assert spoken(monkeypatch, encoding, "weights", "list")[0] == 0
    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path))
    status, words = spoken(monkeypatch, encoding, "doctor")
    assert status in (0, 1) and "python: " in words
    for name in NAMES:
        results.result([results.row(tmp_path, f"t{i}", "s", model=name) for i in range(3)]).save(tmp_path / name)
    for form in FORMATS:
        status, words = spoken(monkeypatch, encoding, "compare", *(tmp_path / n for n in NAMES), "--format", form)
        assert status == 0 and words
        if form == "json":  # what the encoding lacks is escaped as JSON escapes it
            assert json.loads(words)["models"] == list(NAMES)


def test_a_measurement_is_told_on_a_stdout_that_is_not_utf_8(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    name = sorted((small_folder(tmp_path_factory) / "target").iterdir())[0].name
    paths = (small_folder(tmp_path_factory) / role / name for role in ("target", "source", "swapped"))
    three = [word for option, path in zip("tsc", paths, strict=True) for word in (f"-{option}", path)]
    how = ("-m", "lm68", "--detector", "dlib", "--no-identity", "-q", "--jobs", "1", "--cache", tmp_path)
    for form in ("table", "json"):
        status, words = spoken(monkeypatch, "cp1252", "evaluate", *three, *how, "--format", form)
        assert status == 0 and "lm68" in words


def test_a_name_that_is_no_utf_8_is_told_as_escapes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    half = results.result([results.row(tmp_path, f"t{i}", "s") for i in range(3)])
    for name in (b"a\xff", b"b\xff"):
        try:
            half.save(tmp_path / os.fsdecode(name))
        except (OSError, ValueError):
            pytest.skip("this file system has no such names")
    status, words = spoken(monkeypatch, "utf-8", "compare", *(tmp_path / os.fsdecode(n) for n in (b"a\xff", b"b\xff")))
    assert status == 0 and "udcff" in words


COMMAND_LINES = (("weights", "list"), ("weights", "path", "default"), ("evaluate", "--help"), ("--help",))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("words", COMMAND_LINES, ids=" ".join)
def test_a_full_device_is_one_sentence(words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        process = start_cli(*words, stdout=full)
        _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (1, "Error: No space left on device\n")


@pytest.mark.skipif(os.name != "posix", reason="pipes of another kind")
@pytest.mark.parametrize("buffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("words", COMMAND_LINES, ids=" ".join)
def test_a_reader_that_is_gone_is_silence(
    words: tuple[str, ...], buffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", buffered)
    read, write = os.pipe()
    os.close(read)
    process = start_cli(*words, stdout=write)
    os.close(write)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (141, "")


@pytest.mark.skipif(os.name != "posix", reason="descriptors of another kind")
def test_closed_streams_change_no_exit_status() -> None:
    before = "import sys; sys.stdout.close(); sys.stdout = sys.stderr = None"
    for words, status in ((("weights", "list"), 0), (("--help",), 0), (("evaluate", "/nowhere"), 2), (("x",), 2)):
        assert run_cli(*words, before=before) == (status, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_stderr_that_can_not_be_written_changes_no_exit_status() -> None:
    with Path("/dev/full").open("w") as full:
        for words, status in ((("weights", "path", "default"), 0), (("evaluate", "/nowhere"), 2), (("x",), 2)):
            process = start_cli(*words, stderr=full, stdout=subprocess.PIPE)
            process.communicate(timeout=120)
            assert process.returncode == status
