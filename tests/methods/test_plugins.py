"""Methods of third parties: found by name, imported when asked for, and broken for themselves alone."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from exprmetric_cli.main import main

import exprmetric
from exprmetric.doctor import Finding, examine
from exprmetric.errors import PluginError
from exprmetric.faces import Face
from exprmetric.methods import METHODS, Method, available_methods, load_method
from exprmetric.methods.plugins import ENTRY_POINTS

Floats = npt.NDArray[np.float32]
Install = Callable[..., None]


class Brightness(Method):
    """What a third party would write."""

    template = "box"
    dimension = 3

    def __init__(self, provider: str) -> None:
        self.name = "brightness"
        self.provider = provider

    @property
    def fingerprint(self) -> str:
        return "brightness-1"

    def represent(self, faces: Sequence[Face]) -> Floats:
        return np.array([face.crop(self.template).mean((0, 1)) for face in faces], np.float32).reshape(-1, 3)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """`install("package", name="code of its module")` puts packages with entry points on the path, as pip does."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))  # where Brightness is
    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path / "cache"))

    def put(package: str, points: dict[str, str], code: str = "") -> None:
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{ENTRY_POINTS}]", *lines]))
        (tmp_path / f"{package}_module.py").write_text(code)
        sys.modules.pop(f"{package}_module", None)  # of another test
        importlib.invalidate_caches()

    return put


def findings() -> dict[str, Finding]:
    return {f.topic: f for f in examine() if f.topic.startswith("plug-in")}


def test_a_plug_in_is_found_by_its_entry_point(install: Install) -> None:
    install("bright", {"brightness": "test_plugins:Brightness"})
    assert "brightness" in available_methods() and "lm68" in available_methods()
    method = load_method("brightness:cosine", provider="openvino")
    assert type(method).__name__ == "Brightness" and vars(method)["provider"] == "openvino"
    face = Face(np.full((9, 9, 3), (1, 2, 3), np.uint8), np.array([0.0, 0, 9, 9]), 1.0, np.zeros((68, 2)))
    assert method.represent([face]).tolist() == [[1, 2, 3]] and method.distance_name == "cosine"
    assert findings()["plug-in brightness"].level == "ok"


BROKEN = {
    "does not import": ("import nowhere_to_be_found", "ModuleNotFoundError"),
    "leaves the process": ("raise SystemExit(3)", "SystemExit"),
    "has an error": ("1 / 0", "ZeroDivisionError"),
    "is no Python": ("def", "SyntaxError"),
    "lacks the name": ("", "AttributeError"),
    "is no factory": ("Mine = 3", "is no factory but int"),
    "makes no method": ("Mine = lambda provider: 3", "no exprmetric.Method but int"),
    "can not be made": ("def Mine(provider): raise OSError('no such device')", "no such device"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_plug_in_breaks_itself_alone_and_is_named_when_it_is_asked_for(
    what: str, install: Install, portrait_photo: Path, tmp_path: Path
) -> None:
    code, told = BROKEN[what]
    install("broken", {"mine": "broken_module:Mine"}, code)
    assert load_method("lm68").name == "lm68" and load_method("lm51:cosine").name == "lm51:cosine"
    assert "mine" in available_methods()
    with pytest.raises(PluginError, match="'mine'") as error:
        load_method("mine")
    assert told in str(error.value)
    ran = CliRunner().invoke(main, ["embed", str(portrait_photo), "-m", "mine", "--out", str(tmp_path / "x.npz")])
    assert ran.exit_code == 1 and ran.stderr.strip().startswith("Error: the method 'mine'") and told in ran.stderr


def test_the_doctor_names_a_broken_plug_in(install: Install) -> None:
    install("broken", {"mine": "broken_module:Mine"}, "import nowhere_to_be_found")
    found = findings()["plug-in mine"]
    assert found.level == "problem" and "nowhere_to_be_found" in found.found and "broken" in found.advice


def test_nothing_of_a_plug_in_is_imported_for_another_method(install: Install, tmp_path: Path) -> None:
    install("loud", {"loud": "loud_module:Mine"}, f"open({str(tmp_path / 'imported')!r}, 'w')")
    load_method("lm68")
    available_methods()
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("name", ["lm68", "default"])
def test_a_plug_in_with_the_name_of_an_own_method_is_refused_and_said(name: str, install: Install) -> None:
    install("taker", {name: "test_plugins:Brightness"})
    with pytest.warns(UserWarning, match=f"package 'taker'.*a method '{name}' too"):
        assert type(load_method(name)).__name__ != "Brightness"
    assert findings()[f"plug-in {name}"].level == "problem" and "taker" in findings()[f"plug-in {name}"].advice
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_method("lm51")


def test_a_name_that_two_packages_offer_is_refused_with_both(install: Install) -> None:
    install("one", {"mine": "test_plugins:Brightness"})
    install("two", {"mine": "two_module:Mine"})
    with pytest.raises(PluginError, match=r"'one'.*'two'|'two'.*'one'"):
        load_method("mine")
    assert findings()["plug-in mine"].level == "problem"


def test_a_plug_in_that_also_registers_itself_is_no_clash(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import exprmetric\nfrom test_plugins import Brightness as Mine\nexprmetric.register_method('mine')(Mine)"
    monkeypatch.setattr("exprmetric.methods.registry.METHODS", dict(METHODS))
    install("both", {"mine": "both_module:Mine"}, code)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            assert isinstance(load_method("mine"), exprmetric.Method)
