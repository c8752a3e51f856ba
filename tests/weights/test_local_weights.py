"""Weights of one's own: an exported encoder becomes a method, its hash pinned like those of shipped ones."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from exprmetric_cli.main import main

from exprmetric.errors import UnknownMethodError, UnknownWeightsError, WeightsError, WeightsHashError
from exprmetric.methods import load_method
from exprmetric.methods.onnx import check_fit
from exprmetric.weights import store as weights


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)


@pytest.fixture
def document() -> dict[str, Any]:
    """The entry of the shipped encoder under another name: a real file to pin."""
    entry = dataclasses.asdict(weights.entry("default"))
    return json.loads(json.dumps({**entry, "name": "mine", "file": "mine.onnx", "bundled": None}))


@pytest.fixture
def file() -> Path:
    return weights.find("default")


def add(document: dict[str, Any], file: Path) -> weights.WeightsEntry:
    return weights.add(document, file, check_fit)


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_an_added_encoder_is_a_method(document: dict[str, Any], file: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownMethodError):
        load_method("mine")
    (tmp_path / "entry.json").write_text(json.dumps(document))
    done = run("weights", "add", tmp_path / "entry.json", file)
    assert done.exit_code == 0, done.output
    copy = tmp_path / "cache" / "weights" / "mine.onnx"
    assert str(copy) in done.stdout and copy.read_bytes() == file.read_bytes()
    crops = [np.random.default_rng(0).integers(0, 255, (224, 224, 3)).astype(np.uint8)]
    assert np.array_equal(load_method("mine").embed(crops), load_method("default").embed(crops))  # type: ignore[attr-defined]
    assert "mine" in run("weights", "list").stdout
    assert run("weights", "remove", "mine").exit_code == 0
    assert not copy.exists() and "mine" not in weights.entries()
    assert run("weights", "remove", "mine").exit_code == 2
    assert run("weights", "remove", "default").exit_code == 2


def test_a_file_that_is_not_the_pinned_one_is_refused(document: dict[str, Any], file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(WeightsHashError, match="mine"):
        add(document, other)
    assert weights.entries().keys() == weights._shipped().keys()
    item = add(document, file)
    copy = weights.cache_dir() / item.file
    copy.write_bytes(b"tampered with")
    with pytest.raises(WeightsHashError):
        load_method("mine")
    copy.unlink()
    with pytest.raises(WeightsError, match="weights add"):
        load_method("mine")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "default"}, "ships"),
        ({"file": "Default.onnx"}, "ships"),
        ({"name": "../x"}, "name"),
        ({"file": "../x.onnx"}, "file"),
        ({"sha256": "0"}, "sha256"),
        ({"bundled": "data/default.onnx"}, "bundled"),
        ({"unheard_of": 1}, "unheard_of"),
    ],
)
def test_entries_that_are_wrong_are_refused(
    document: dict[str, Any], file: Path, change: dict[str, Any], words: str
) -> None:
    if change.get("file") == "Default.onnx":
        change = {"file": weights.entry("default").file.upper()}
    with pytest.raises(WeightsError, match=words):
        add({**document, **change}, file)
    assert not list(weights.cache_dir().rglob("*.onnx"))


def test_an_entry_replaces_the_one_of_its_name_and_no_other(document: dict[str, Any], file: Path) -> None:
    add(document, file)
    add({**document, "name": "other", "file": "other.onnx"}, file)
    add({**document, "distance": "cosine"}, file)
    assert weights.entry("mine").distance == "cosine" and weights.entry("other").distance == "l2"
    with pytest.raises(WeightsError, match="share the file"):
        add({**document, "name": "third"}, file)
    assert "third" not in weights.entries()
    weights.remove("mine")
    assert (weights.cache_dir() / "other.onnx").is_file()


def test_a_damaged_list_says_which_file(tmp_path: Path) -> None:
    folder = weights.cache_dir()
    folder.mkdir(parents=True)
    (folder / "local.json").write_text("{")
    with pytest.raises(WeightsError, match=r"local\.json"):
        weights.entries()


def test_no_entry_of_ones_own_is_no_error() -> None:
    with pytest.raises(UnknownWeightsError):
        weights.remove("mine")
    assert "expression-2" in weights.entries()
