"""Other people's measures: what each computes, written out again here, and that a wrong file is refused."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from exprmetric.errors import UnknownMethodError, WeightsError, WeightsHashError, WeightsNotFoundError
from exprmetric.faces import Face, FaceFinder, alignment, load_detector, templates
from exprmetric.io.images import read_image
from exprmetric.methods import NOT_COMPARABLE, available_methods, load_method
from exprmetric.methods.compatibility import conversion, find_conversion, stamp
from exprmetric.weights import store as weights

MODES = ("facedancer-mse", "reface-deep3d", "casia-3ddfa", "fsgan-landmarks")
PINNED = "9b7e47a6adf703c6bde3d3d7f1d2a7bb4656738fd73b74238ca40a74e53f4f5d"
FILES = {"facedancer-mse": "expression-embedder-b0.onnx", "reface-deep3d": "deep3dfacerecon.onnx"}


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The only place where weights may stand."""
    store = tmp_path / "weights"
    store.mkdir()
    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(store))
    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path / "cache"))
    return store


@pytest.fixture(scope="module")
def group(group_photo: Path) -> list[Face]:
    """Faces of six people, with their pixels."""
    image = read_image(group_photo)
    finder = FaceFinder(load_detector("dlib"))
    return [finder.face(image, found) for found in finder.detect(image)]


def a_face(points: npt.ArrayLike, width: int, height: int) -> Face:
    landmarks = np.asarray(points, np.float64)
    box = np.concatenate([landmarks.min(0), landmarks.max(0)])
    return Face(np.zeros((height, width, 3), np.uint8), box, 1.0, landmarks)


def a_network(path: Path, *, layout: str, outputs: dict[str, int], stated: dict[str, str]) -> Any:
    """Mean colour times a matrix, for each output. Returns the matrix of the first."""
    rng = np.random.default_rng(7)
    shape = ["n", "h", "w", 3] if layout == "nhwc" else ["n", 3, "h", "w"]
    axes = np.array([1, 2] if layout == "nhwc" else [2, 3])
    nodes = [helper.make_node("ReduceMean", ["faces", "axes"], ["colour"], keepdims=0)]
    constants = [numpy_helper.from_array(axes, "axes")]
    matrices = {name: rng.normal(size=(3, size)).astype(np.float32) for name, size in outputs.items()}
    for name, matrix in matrices.items():
        constants.append(numpy_helper.from_array(matrix, f"{name}.weight"))
        nodes.append(helper.make_node("MatMul", ["colour", f"{name}.weight"], [name]))
    graph = helper.make_graph(
        nodes,
        "fake",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in outputs.items()],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, stated)
    onnx.save(model, str(path))
    return next(iter(matrices.values()))


class TestLabel:
    def test_every_mode_is_a_method(self) -> None:
        assert set(MODES) <= set(available_methods())

    def test_ordinary_methods_carry_none(self) -> None:
        assert load_method("lm68").note == load_method("default").note == ""

    def test_it_says_so(self, folder: Path) -> None:
        assert NOT_COMPARABLE == "not comparable with other modes"
        assert load_method("fsgan-landmarks").note == load_method("fsgan-landmarks:ned").note == NOT_COMPARABLE
        a_network(
            folder / FILES["facedancer-mse"],
            layout="nhwc",
            outputs={"e": 4},
            stated={"exprmetric.facedancer-mse.source": PINNED},
        )
        a_network(
            folder / FILES["reface-deep3d"],
            layout="nchw",
            outputs={"c": 257},
            stated={"exprmetric.reface-deep3d.source": "0" * 64},
        )
        assert [load_method(mode).note for mode in FILES] == [NOT_COMPARABLE] * 2


class TestRefusal:
    @pytest.mark.parametrize("mode", FILES)
    def test_without_the_file_the_error_says_how_to_get_it(self, mode: str, folder: Path) -> None:
        with pytest.raises(WeightsNotFoundError) as told:
            load_method(mode)
        for part in (mode, "docs/compatibility.md", str(folder / FILES[mode]), conversion(mode).source):
            assert part in str(told.value)

    def test_3ddfa_too(self, folder: Path) -> None:
        with pytest.raises(WeightsNotFoundError, match="weights convert 3ddfa-v2"):
            load_method("casia-3ddfa")

    @pytest.mark.parametrize("mode", FILES)
    def test_a_file_that_does_not_say_what_it_is_made_of(self, mode: str, folder: Path) -> None:
        a_network(folder / FILES[mode], layout="nchw", outputs={"c": 257}, stated={"other": "0" * 64})
        with pytest.raises(WeightsHashError, match="stamp it"):
            load_method(mode)

    def test_a_file_made_of_another_than_the_pinned(self, folder: Path) -> None:
        a_network(
            folder / FILES["facedancer-mse"],
            layout="nhwc",
            outputs={"e": 4},
            stated={"exprmetric.facedancer-mse.source": "0" * 64},
        )
        with pytest.raises(WeightsHashError, match=PINNED):
            load_method("facedancer-mse")

    @pytest.mark.parametrize("mode", FILES)
    def test_a_file_that_is_no_onnx(self, mode: str, folder: Path) -> None:
        (folder / FILES[mode]).write_bytes(b"\x80\x04no network")
        with pytest.raises(WeightsError):
            load_method(mode)

    def test_other_modes_have_no_conversion(self) -> None:
        with pytest.raises(UnknownMethodError, match="facedancer-mse, reface-deep3d"):
            conversion("lm68")


class TestStamp:
    def test_it_makes_a_conversion_known(self, folder: Path, tmp_path: Path) -> None:
        source, out = tmp_path / "epoch_20.pth", folder / FILES["reface-deep3d"]
        source.write_bytes(b"weights")
        a_network(out, layout="nchw", outputs={"c": 257}, stated={"kept": "yes"})
        stamp("reface-deep3d", source, out)
        stamp("reface-deep3d", source, out)  # twice is once
        digest = hashlib.sha256(b"weights").hexdigest()
        assert find_conversion("reface-deep3d") == (out, digest)
        assert digest[:16] in load_method("reface-deep3d").fingerprint
        properties = [(p.key, p.value) for p in onnx.load(str(out)).metadata_props]
        assert sorted(properties) == [("exprmetric.reface-deep3d.source", digest), ("kept", "yes")]

    def test_another_file_than_the_published_is_refused_and_nothing_written(self, folder: Path, tmp_path: Path) -> None:
        source, out = tmp_path / "ExpressionEmbedder-B0.h5", folder / FILES["facedancer-mse"]
        source.write_bytes(b"another")
        a_network(out, layout="nhwc", outputs={"e": 4}, stated={})
        before = out.read_bytes()
        with pytest.raises(WeightsHashError, match=PINNED):
            stamp("facedancer-mse", source, out)
        assert out.read_bytes() == before


class TestFaceDancer:
    def test_mean_of_squares_of_the_first_output_on_the_arcface_crop(self, folder: Path, group: list[Face]) -> None:
        matrix = a_network(
            folder / FILES["facedancer-mse"],
            layout="nhwc",
            outputs={"embedding": 6, "classes": 8},
            stated={"exprmetric.facedancer-mse.source": PINNED},
        )
        method = load_method("facedancer-mse")
        vectors = method.represent(group)
        crops = [alignment.warp(f.image, templates.template("arcface").matrix(f)) for f in group if f.image is not None]
        colours = np.array([c.astype(np.float64).mean((0, 1)) / 255 for c in crops])
        assert vectors.shape == (len(group), 6)
        np.testing.assert_allclose(vectors, colours @ matrix, atol=1e-4)
        expected = [np.mean((a - b) ** 2) for a, b in zip(colours[1:] @ matrix, colours[:-1] @ matrix, strict=True)]
        np.testing.assert_allclose(method.distance(vectors[1:], vectors[:-1]), expected, atol=1e-4)


class TestDeep3D:
    def test_l2_of_64_numbers_of_the_whole_image_at_512(self, folder: Path, tmp_path: Path) -> None:
        matrix = a_network(
            folder / FILES["reface-deep3d"],
            layout="nchw",
            outputs={"coefficients": 257},
            stated={"exprmetric.reface-deep3d.source": "0" * 64},
        )
        rng = np.random.default_rng(1)
        images = [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((600, 300), (512, 512), (64, 90))]
        method = load_method("reface-deep3d")
        faces = [Face(image, np.array([1.0, 1, 9, 9]), 1.0, rng.uniform(0, 60, (68, 2))) for image in images]
        for face in faces:
            method.prepare(face)
            face.image = None  # as the pipeline does
        vectors = method.represent(faces)
        whole = [np.asarray(Image.fromarray(i).resize((512, 512), Image.Resampling.BICUBIC), float) for i in images]
        expected = np.array([w.mean((0, 1)) / 255 @ matrix[:, 80:144] for w in whole])
        np.testing.assert_allclose(vectors, expected, atol=1e-4)
        np.testing.assert_allclose(
            method.distance(vectors[1:], vectors[:-1]), np.linalg.norm(expected[1:] - expected[:-1], axis=1), atol=1e-4
        )
        assert method.represent([]).shape == (0, 64)

    def test_a_network_with_other_coefficients_is_refused(self, folder: Path, group: list[Face]) -> None:
        a_network(
            folder / FILES["reface-deep3d"],
            layout="nchw",
            outputs={"coefficients": 62},
            stated={"exprmetric.reface-deep3d.source": "0" * 64},
        )
        with pytest.raises(WeightsError, match="62 numbers, not 257"):
            load_method("reface-deep3d").represent(group[:1])


class TestFsgan:
    def test_norm_of_the_points_differences_in_px(self, group: list[Face]) -> None:
        method = load_method("fsgan-landmarks")
        vectors = method.represent(group)
        found = method.distance(vectors[1:], vectors[:-1])
        expected = [
            np.sqrt(sum((p - q) ** 2 for p, q in zip(a.landmarks.flat, b.landmarks.flat, strict=True)))
            for a, b in zip(group[1:], group[:-1], strict=True)
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-6)

    def test_it_is_neither_aligned_nor_scaled(self) -> None:
        points = np.random.default_rng(0).uniform(20, 80, (68, 2))
        moved = points + np.array([3.0, -4.0])
        method = load_method("fsgan-landmarks")
        one, other = method.represent([a_face(points, 100, 100), a_face(moved, 100, 100)])
        assert method.distance(one[None], other[None])[0] == pytest.approx(5 * np.sqrt(68), rel=1e-5)
        twice = method.represent([a_face(2 * points, 200, 200), a_face(2 * moved, 200, 200)])
        assert method.distance(twice[:1], twice[1:])[0] == pytest.approx(10 * np.sqrt(68), rel=1e-5)

    def test_a_picture_of_another_size_is_brought_to_the_first_ones(self) -> None:
        # pixel i covers i..i+1: enlarged twice, the point at the centre of pixel 10 is at 20.5
        points = np.random.default_rng(0).uniform(20, 80, (68, 2))
        larger = (points + 0.5) * [2, 3] - 0.5
        method = load_method("fsgan-landmarks")
        target, swapped = method.represent([a_face(points, 100, 120), a_face(larger, 200, 360)])
        assert method.distance(target[None], swapped[None])[0] == pytest.approx(0, abs=1e-3)

    def test_another_distance_of_the_same_points(self) -> None:
        points = np.random.default_rng(0).uniform(20, 80, (2, 68, 2))
        method = load_method("fsgan-landmarks:mse")
        a, b = method.represent([a_face(p, 100, 100) for p in points])
        assert method.distance(a[None], b[None])[0] == pytest.approx(np.mean((points[0] - points[1]) ** 2), rel=1e-4)

    def test_a_face_that_let_go_of_its_pixels_keeps_the_size(self) -> None:
        points = np.random.default_rng(0).uniform(20, 80, (68, 2))
        method, face = load_method("fsgan-landmarks"), a_face(points, 100, 120)
        before = method.represent([face])
        face.image = None
        np.testing.assert_array_equal(method.represent([face]), before)
        assert before[0, -2:].tolist() == [100, 120] and not method.pixels

    def test_without_a_size_there_is_no_picture(self) -> None:
        with pytest.raises(ValueError, match="size of the picture"):
            load_method("fsgan-landmarks").represent([Face(None, np.zeros(4), 1.0, np.ones((68, 2)))])


@pytest.mark.shared
@pytest.mark.torch
def test_casia_is_standardised_3ddfa_of_the_whole_picture(
    shared: Path, shared_data: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch", reason="conversion needs the torch extra")
    from exprmetric.encoder import convert_3ddfa

    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", os.pathsep.join((str(shared / "weights"), str(tmp_path))))
    convert_3ddfa.convert(tmp_path)
    method, plain = load_method("casia-3ddfa"), load_method("3ddfa")
    assert method.note == NOT_COMPARABLE and plain.note == ""
    assert method.fingerprint != plain.fingerprint

    network = convert_3ddfa.load_network(shared / "weights" / "mb05_120x120.pth")
    finder = FaceFinder(load_detector("dlib"))
    targets = sorted((shared_data("swaps_dev") / "target").iterdir())[:40:8]
    faces = [finder.find(read_image(p)) for p in targets]
    expected = []
    for path in targets:
        small = cv2.resize(np.array(Image.open(path).convert("RGB")), (120, 120), interpolation=cv2.INTER_LINEAR)
        batch = (torch.from_numpy(small[..., ::-1].copy()).permute(2, 0, 1)[None].float() - 127.5) / 128
        with torch.no_grad():
            expected.append(network(batch)[0, 52:].numpy())
    vectors = method.represent(faces)
    np.testing.assert_allclose(vectors, expected, atol=1e-3)
    np.testing.assert_allclose(
        method.distance(vectors[1:], vectors[:-1]), np.linalg.norm(np.diff(expected, axis=0), axis=1), atol=1e-3
    )


def test_the_pinned_hash_is_the_published_one() -> None:
    assert weights.entry("expression-embedder-b0").sha256 == conversion("facedancer-mse").pinned == PINNED
