"""`lm68` and `lm51` against a plain dlib script that shares no code with the package."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from exprmetric.faces import Face, FaceFinder, load_detector
from exprmetric.io.images import read_image
from exprmetric.methods import load_method

SCRIPT = Path(__file__).parents[1] / "plain_dlib.py"


@pytest.fixture(scope="module")
def plain() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plain_dlib", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def no_other_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)


def find(path: Path) -> Face:
    return FaceFinder(load_detector("dlib")).find(read_image(path))


def assert_same_vectors(plain: ModuleType, paths: list[Path]) -> None:
    faces = [find(path) for path in paths]
    for name, reference in (("lm68", plain.lm68), ("lm51", plain.lm51)):
        vectors = load_method(name).represent(faces)
        expected = np.stack([reference(path) for path in paths])
        assert vectors.dtype == np.float32 and vectors.shape == expected.shape
        differing = [path.name for path, a, b in zip(paths, vectors, expected, strict=True) if not np.array_equal(a, b)]
        assert not differing, f"{name} of {differing}"


def test_the_plain_script_is_plain() -> None:
    imports = [line for line in SCRIPT.read_text().splitlines() if line.startswith(("import", "from"))]
    assert imports and not any("exprmetric" in line for line in imports)


def test_vectors_are_those_of_the_plain_script(plain: ModuleType, group_photo: Path, portrait_photo: Path) -> None:
    assert_same_vectors(plain, [group_photo, portrait_photo])


@pytest.mark.shared
@pytest.mark.slow
def test_vectors_are_those_of_the_plain_script_on_swapped_faces(
    plain: ModuleType, shared_data: Callable[[str], Path]
) -> None:
    images = sorted(shared_data("swaps_dev").rglob("*.png"))
    measurable = []
    for path in images[:: len(images) // 60]:
        try:
            plain.landmarks(path)
        except LookupError:
            continue
        measurable.append(path)
    assert len(measurable) >= 40
    assert_same_vectors(plain, measurable[:40])


def test_distances_are_those_of_the_script_run_on_its_own(group_photo: Path, portrait_photo: Path) -> None:
    run = subprocess.run(
        [sys.executable, str(SCRIPT), str(group_photo), str(portrait_photo)], capture_output=True, text=True, check=True
    )
    printed = dict(line.split() for line in run.stdout.splitlines())
    faces = [find(group_photo), find(portrait_photo)]
    for name in ("lm68", "lm51"):
        method = load_method(name)
        vectors = method.represent(faces)
        (distance,) = method.distance(vectors[:1], vectors[1:])
        assert distance == pytest.approx(float(printed[name]), rel=1e-12)
        assert distance > 0.1  # two people who look different ways


def test_51_points_are_68_without_the_jaw(portrait_photo: Path) -> None:
    face = find(portrait_photo)
    all_points, inner = (load_method(name).represent([face])[0] for name in ("lm68", "lm51"))
    assert np.array_equal(inner, all_points.reshape(68, 2)[17:].ravel())
    jaw, rest = all_points.reshape(68, 2)[:17], inner.reshape(51, 2)
    assert jaw[:, 1].max() > rest[:, 1].max()  # the chin is below everything: dlib's order is as we believe
    assert jaw[:, 0].min() < rest[:, 0].min() and jaw[:, 0].max() > rest[:, 0].max()


def test_eye_centres_stand_at_the_template_in_every_vector(portrait_photo: Path) -> None:
    points = load_method("lm68").represent([find(portrait_photo)]).reshape(68, 2).astype(np.float64) * 224
    assert points[36:42].mean(0) == pytest.approx([76.5, 76.5], abs=1e-4)
    assert points[42:48].mean(0) == pytest.approx([146.5, 76.5], abs=1e-4)


def test_vectors_need_no_pixels_and_no_faces_give_no_rows(portrait_photo: Path) -> None:
    face = find(portrait_photo)
    method = load_method("lm68")
    before = method.represent([face])
    assert face.prepare([method.template]).image is None
    assert np.array_equal(method.represent([face, face]), np.concatenate([before, before]))
    assert method.represent([]).shape == (0, 136)
    with pytest.raises(ValueError, match="let go"):
        face.crop("box")


def test_a_copy_of_a_photograph_is_at_distance_zero(portrait_photo: Path, tmp_path: Path) -> None:
    shutil.copy(portrait_photo, tmp_path / "copy.png")
    method = load_method("lm68:cosine")
    a, b = method.represent([find(portrait_photo), find(tmp_path / "copy.png")])
    assert method.distance([a], [b])[0] == pytest.approx(0, abs=1e-12)
    assert load_method("lm68").distance([a], [b])[0] == 0
