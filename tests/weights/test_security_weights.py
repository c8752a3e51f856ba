"""Weight files that somebody changed: refused wherever they stand, before anything tries to understand them.

Pulling the same weights twice at once, wrong downloads, and archives that point outside are in test_weights.py.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from exprmetric_cli.main import main
from PIL import Image

from exprmetric.errors import WeightsHashError
from exprmetric.faces import landmarks, load_detector
from exprmetric.methods import load_method
from exprmetric.weights import store as weights

LOADERS: dict[str, Callable[[], object]] = {
    "dlib-68": lambda: landmarks.load_predictor.__wrapped__(),
    "dlib-resnet": lambda: load_method("identity"),
    "default": lambda: load_method("default"),
    "scrfd-500m": lambda: load_detector("scrfd"),
    "scrfd-10g": lambda: load_detector("scrfd-10g"),
    "yunet": lambda: load_detector("yunet"),
    "mediapipe-face-landmarker": lambda: load_method("blendshapes"),
    "hsemotion-b0-va-mtl": lambda: load_method("hsemotion-b0-va-mtl"),
}
"""What makes the weights of a name be loaded."""


def places() -> list[tuple[str, str]]:
    """Each file in each place where it may stand; the cache is searched last, for what no package brings."""
    found = []
    for name in LOADERS:
        item = weights.entry(name)
        found += [(name, "EXPRMETRIC_WEIGHTS"), (name, "package" if item.bundled or item.package else "cache")]
    return found


@pytest.fixture
def no_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever reads a weight file fails the test: a wrong file is refused before a byte of it is understood."""
    import cv2
    import dlib
    import onnx
    import onnxruntime
    from insightface import model_zoo

    from exprmetric.faces import face_mesh
    from exprmetric.weights import dlib_resnet

    def reached(*_: object, **__: object) -> None:
        pytest.fail("a parser was given a file with a wrong hash")

    monkeypatch.setattr(onnx, "load", reached)
    monkeypatch.setattr(onnxruntime, "InferenceSession", reached)
    monkeypatch.setattr(dlib, "shape_predictor", reached)
    monkeypatch.setattr(dlib, "face_recognition_model_v1", reached)
    monkeypatch.setattr(dlib_resnet, "parse", reached)
    monkeypatch.setattr(model_zoo, "get_model", reached)
    monkeypatch.setattr(cv2.FaceDetectorYN, "create", reached)
    monkeypatch.setattr(face_mesh.zipfile, "ZipFile", reached)


@pytest.mark.parametrize(("name", "place"), places())
def test_a_tampered_weight_file_is_refused_before_it_is_parsed(
    name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_parser: None
):
    item = weights.entry(name)
    original = weights.locate(name)
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)
    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path / "cache"))
    if place == "EXPRMETRIC_WEIGHTS":
        file = tmp_path / item.file
        monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(tmp_path))
    elif place == "cache":
        file = weights.cache_dir() / item.file
    elif item.bundled:
        file = tmp_path / item.bundled
        monkeypatch.setattr(weights, "_PACKAGE_DIR", tmp_path)
    else:
        assert item.package is not None
        file = tmp_path / item.package.module / item.package.path
        monkeypatch.syspath_prepend(str(tmp_path))
    file.parent.mkdir(parents=True, exist_ok=True)
    content = bytearray(original.path.read_bytes() if original and original.path else b"\x08\x07" * 500)
    content[len(content) // 2] ^= 1  # a parser would not notice one bit in the middle
    file.write_bytes(content)
    if place == "package" and item.package:
        (tmp_path / item.package.module / "__init__.py").write_text("raise RuntimeError('imported')")
        importlib.invalidate_caches()
    with pytest.raises(WeightsHashError) as caught:
        LOADERS[name]()
    assert str(file) in str(caught.value) and item.sha256 in str(caught.value)


def test_a_tampered_file_stops_the_command_and_leaves_no_result(
    portrait_photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder, face = tmp_path / "weights", tmp_path / "face.png"
    folder.mkdir()
    (folder / weights.entry("dlib-68").file).write_bytes(b"not what it was")
    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(folder))
    landmarks.load_predictor.cache_clear()  # loaded by the tests before
    Image.open(portrait_photo).crop((130, 0, 330, 250)).save(face)
    three = [part for role in ("--target", "--source", "--swapped") for part in (role, str(face))]
    options = ["--method", "lm68", "--no-identity", "--detector", "dlib", "--no-cache", "--quiet"]
    done = CliRunner().invoke(main, ["evaluate", *three, *options, "--out", str(tmp_path / "out")])
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    assert "expected SHA-256" in done.stderr and str(folder) in done.stderr
    names = {path.name for path in (tmp_path / "out").rglob("*")}
    assert not names & {"summary.json", "triplets.csv", "triplets.parquet", "report.html"}
