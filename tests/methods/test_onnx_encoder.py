"""`OnnxEncoder` does what its manifest entry says, and nothing that it doesn't; the registry of methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from exprmetric.errors import ProviderError, UnknownMethodError, WeightsError, WeightsHashError, WeightsNotFoundError
from exprmetric.faces import Face
from exprmetric.methods import METHODS, available_methods, load_method, register_method
from exprmetric.methods import onnx as onnx_method
from exprmetric.methods.onnx import OnnxEncoder, preprocess
from exprmetric.weights import manifest, runtime
from exprmetric.weights import store as weights
from exprmetric.weights.manifest import Preprocessing, WeightsEntry

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "scale": 1 / 255}
DIMENSION = 48


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)
    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path / "cache"))


def constants(seed: int = 0) -> dict[str, Floats]:
    rng = np.random.default_rng(seed)
    return {
        "filters": rng.normal(0, 0.2, (DIMENSION, 3, 16, 16)).astype(np.float32),
        "classes": rng.normal(0, 0.2, (DIMENSION, 10)).astype(np.float32),
        "bias": rng.normal(0, 0.2, 10).astype(np.float32),
    }


def build(path: Path, nodes: list[Any] | None = None, layout: str = "nchw", seed: int = 0) -> Path:
    """A network with the signature of HSEmotion's: N images in, 10 numbers out of a Gemm at the end."""
    values = constants(seed)
    nodes = nodes or [
        helper.make_node("Conv", ["input", "filters"], ["maps"], strides=[16, 16]),
        helper.make_node("Relu", ["maps"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Gemm", ["features", "classes", "bias"], ["output"]),
    ]
    shape = ["N", 3, 224, 224] if layout == "nchw" else ["N", 224, 224, 3]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(v, name) for name, v in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def how(**changes: Any) -> dict[str, Any]:
    fields = {"template": "box", "size": 224, "crop": None, "color": "rgb", "layout": "nchw", **IMAGENET}
    return {**fields, **changes}


def describe(path: Path, preprocessing: dict[str, Any] | None = None, **changes: Any) -> WeightsEntry:
    """An entry as it would be read out of the manifest."""
    fields = {
        "name": "tiny",
        "kind": "expression-encoder",
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": weights.sha256_of(path),
        "urls": ["https://example.org/tiny.onnx"],
        "format": "onnx",
        "licence": "Apache-2.0",
        "commercial_use": True,
        "training_data": "none",
        "citation": "none",
        "preprocessing": preprocessing or how(),
        "output": "last-gemm-input",
        "dimension": DIMENSION,
        "normalise": False,
        "distance": "l2",
        **changes,
    }
    return manifest.parse({"schema_version": 1, "weights": [fields]})[fields["name"]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("onnx") / "tiny.onnx")


def pictures(count: int, seed: int = 0) -> list[Image]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, 224, 224, 3)).astype(np.uint8))


def features(batch: Floats) -> npt.NDArray[np.float64]:
    """What the tiny network computes ahead of its classifier, in NumPy."""
    blocks = batch.astype(np.float64).reshape(len(batch), 3, 14, 16, 14, 16)
    maps = np.einsum("ncyixj,dcij->ndyx", blocks, constants()["filters"].astype(np.float64), optimize=True)
    return np.asarray(np.maximum(maps, 0).mean((2, 3)))


def by_hand(crops: Sequence[Image]) -> Floats:
    """ImageNet's preprocessing, channel by channel."""
    out = np.empty((len(crops), 3, 224, 224), np.float32)
    for i, crop in enumerate(crops):
        for c in range(3):
            out[i, c] = (crop[:, :, c] / 255.0 - IMAGENET["mean"][c]) / IMAGENET["std"][c]  # type: ignore[index]
    return out


# What it computes


def test_the_vector_is_the_input_of_the_last_gemm(model: Path) -> None:
    encoder = OnnxEncoder(describe(model), path=model)
    crops = pictures(5)
    vectors = encoder.embed(crops)
    assert vectors.shape == (5, DIMENSION) and vectors.dtype == np.float32
    assert vectors == pytest.approx(features(by_hand(crops)), abs=1e-4)
    assert encoder.dimension == DIMENSION and encoder.template == "box" and encoder.distance_name == "l2"


def test_a_classifier_written_as_a_product_is_found_too(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["input", "filters"], ["maps"], strides=[16, 16]),
        helper.make_node("Relu", ["maps"], ["active"]),
        helper.make_node("ReduceMean", ["active"], ["features"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["features", "classes"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["output"]),
    ]
    path = build(tmp_path / "matmul.onnx", nodes)
    crops = pictures(2)
    assert OnnxEncoder(describe(path), path=path).embed(crops) == pytest.approx(features(by_hand(crops)), abs=1e-4)


def test_an_output_and_an_inner_tensor_can_be_named(model: Path) -> None:
    crops = pictures(3)
    expected = features(by_hand(crops))
    classes = expected @ constants()["classes"] + constants()["bias"]
    output = OnnxEncoder(describe(model, output="output", dimension=10), path=model).embed(crops)
    assert output == pytest.approx(classes, abs=1e-4)
    pooled = OnnxEncoder(describe(model, output="pooled"), path=model).embed(crops)  # (N, 48, 1, 1), flattened
    assert pooled == pytest.approx(expected, abs=1e-4)


def test_the_file_is_left_as_it_was(model: Path) -> None:
    before = weights.sha256_of(model)
    OnnxEncoder(describe(model), path=model).embed(pictures(1))
    assert weights.sha256_of(model) == before


def test_normalised_vectors_have_unit_norm_and_the_same_direction(model: Path) -> None:
    crops = pictures(4)
    raw = OnnxEncoder(describe(model), path=model).embed(crops)
    unit = OnnxEncoder(describe(model, normalise=True), path=model).embed(crops)
    assert unit.dtype == np.float32 and np.linalg.norm(unit, axis=1) == pytest.approx(1, abs=1e-6)
    assert unit == pytest.approx(raw / np.linalg.norm(raw, axis=1, keepdims=True), abs=1e-6)
    assert not np.allclose(np.linalg.norm(raw, axis=1), 1, atol=0.01)


@pytest.mark.parametrize("output", ["last-gemm-input", "output"])
def test_vectors_do_not_depend_on_the_batch(model: Path, output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = describe(model, output=output, dimension=DIMENSION if output != "output" else 10, normalise=True)
    encoder = OnnxEncoder(entry, path=model)
    crops = pictures(33)
    expected = encoder.embed(crops)
    for size in range(1, 34):
        monkeypatch.setattr(onnx_method, "BATCH", size)
        assert np.array_equal(encoder.embed(crops), expected), f"batches of {size}"
    assert np.array_equal(encoder.embed(crops[::-1]), expected[::-1])
    assert np.array_equal(encoder.embed(crops[4:5]), expected[4:5])


def test_faces_are_cropped_by_the_template_of_the_entry(model: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3)).astype(np.uint8)
    landmarks = np.random.default_rng(1).uniform(100, 200, (68, 2))
    for name in ("box", "eyes70", "arcface"):
        face = Face(image, np.array([50.0, 60, 250, 290]), 1.0, landmarks)
        encoder = OnnxEncoder(describe(model, how(template=name)), path=model)
        vectors = encoder.represent([face])
        assert list(face.crops) == [name]
        assert np.array_equal(vectors, encoder.embed([face.crop(name)]))


def test_no_faces_give_no_rows(model: Path) -> None:
    assert OnnxEncoder(describe(model), path=model).represent([]).shape == (0, DIMENSION)


# Preprocessing


def reference(crop: Image, fields: dict[str, Any]) -> npt.NDArray[np.float64]:
    """(H, W, C), in plain NumPy and float64, for sizes that a whole number of pixels averages into."""
    if fields["crop"]:
        cut = (224 - fields["crop"]) // 2
        crop = crop[cut : 224 - cut, cut : 224 - cut]
    values = crop.astype(np.float64)
    if fields["color"] == "bgr":
        values = np.stack([values[..., 2], values[..., 1], values[..., 0]], 2)
    if fields["color"] == "grey":
        grey = np.round(0.299 * values[..., 0] + 0.587 * values[..., 1] + 0.114 * values[..., 2])
        values = np.stack([grey] * len(fields["mean"]), 2)
    block = len(values) // fields["size"]
    if block > 1:
        size = fields["size"]
        values = np.floor(values.reshape(size, block, size, block, -1).mean((1, 3)) + 0.5)
    return np.asarray((values * fields["scale"] - np.array(fields["mean"])) / np.array(fields["std"]))


def parsed(fields: dict[str, Any], model: Path) -> Preprocessing:
    how = describe(model, fields).preprocessing
    assert how is not None
    return how


ONE = {"mean": [0.4], "std": [0.3]}


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"color": "bgr"},
        {"color": "grey"},
        {"color": "grey", **ONE},
        {"size": 112},
        {"size": 112, "color": "bgr"},
        {"size": 56, "color": "grey", **ONE},
        {"crop": 112, "size": 112},
        {"crop": 168, "size": 56, "color": "bgr"},
        {"scale": 1.0, "mean": [127.5, 120.0, 110.0], "std": [128.0, 64.0, 32.0]},
        {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]},
    ],
)
def test_preprocessing_is_what_the_entry_says(model: Path, changes: dict[str, Any], layout: str) -> None:
    fields = how(layout=layout, **changes)
    (crop,) = pictures(1)
    expected = reference(crop, fields)
    values = preprocess(crop, parsed(fields, model))
    assert values.dtype == np.float32
    if layout == "nchw":
        expected = expected.transpose(2, 0, 1)
    assert values.shape == expected.shape
    step = fields["scale"] / min(fields["std"])  # one grey level
    rounded = fields["size"] != (fields["crop"] or 224) or fields["color"] == "grey"
    difference = np.abs(values - expected)
    assert difference.max() <= step * (1.001 if rounded else 1e-4)
    assert difference.mean() <= step * (0.05 if rounded else 1e-4)


def test_enlarging_is_bilinear(model: Path) -> None:
    ramp = np.repeat(np.arange(224, dtype=np.uint8)[None, :, None], 224, 0).repeat(3, 2)
    fields = how(crop=112, size=224, scale=1.0, mean=[0.0] * 3, std=[1.0] * 3)
    row = preprocess(ramp, parsed(fields, model))[0, 100]
    expected = np.clip(56 + (np.arange(224) + 0.5) / 2 - 0.5, 56, 167)
    assert np.abs(row - expected).max() <= 0.5


@settings(max_examples=25)
@given(
    scale=st.floats(1e-3, 2),
    mean=st.lists(st.floats(-200, 200), min_size=3, max_size=3),
    std=st.lists(st.floats(0.01, 200), min_size=3, max_size=3),
)
def test_any_scale_mean_and_std_are_applied_in_this_order(
    model: Path, scale: float, mean: list[float], std: list[float]
) -> None:
    crop = pictures(1)[0]
    values = preprocess(crop, parsed(how(scale=scale, mean=mean, std=std), model))
    expected = (crop * scale - np.array(mean)) / np.array(std)
    assert np.abs(values - expected.transpose(2, 0, 1)).max() <= 1e-6 * (scale * 255 + 200) / min(std)


def test_the_network_is_fed_in_the_layout_of_the_entry(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["input"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "filters"], ["maps"], strides=[16, 16]),
        helper.make_node("Relu", ["maps"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Gemm", ["features", "classes", "bias"], ["output"]),
    ]
    path = build(tmp_path / "nhwc.onnx", nodes, layout="nhwc")
    crops = pictures(2)
    vectors = OnnxEncoder(describe(path, how(layout="nhwc")), path=path).embed(crops)
    assert vectors == pytest.approx(features(by_hand(crops)), abs=1e-4)


def test_a_crop_larger_than_the_face_is_refused(model: Path) -> None:
    with pytest.raises(WeightsError, match=r"300.*224"):
        preprocess(pictures(1)[0], parsed(how(crop=300), model))


def test_fingerprints_tell_every_preprocessing_apart(model: Path) -> None:
    variants: list[dict[str, Any]] = [
        {}, {"template": "eyes70"}, {"crop": 180}, {"size": 112}, {"color": "bgr"}, {"color": "grey"}, {"scale": 1.0},
        {"mean": [0.5] * 3}, {"std": [0.5] * 3}, {"layout": "nhwc"},
    ]  # fmt: skip
    prints = [OnnxEncoder(describe(model, how(**v)), path=model).fingerprint for v in variants]
    prints += [
        OnnxEncoder(describe(model, **v), path=model).fingerprint
        for v in ({"output": "output", "dimension": 10}, {"normalise": True}, {"sha256": "0" * 64})
    ]
    assert len(set(prints)) == len(prints)
    assert OnnxEncoder(describe(model), path=model).fingerprint == prints[0]


# What it refuses


def test_a_vector_of_another_length_is_refused(model: Path) -> None:
    encoder = OnnxEncoder(describe(model, dimension=64), path=model)
    with pytest.raises(WeightsError, match=r"tiny.*48.*64"):
        encoder.embed(pictures(1))


def test_a_tensor_that_is_not_there_is_refused(model: Path) -> None:
    with pytest.raises(WeightsError, match="'embedding'"):
        OnnxEncoder(describe(model, output="embedding"), path=model)


def test_a_network_without_a_gemm_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["input", "filters"], ["maps"], strides=[16, 16]),
        helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["output"]),
    ]
    path = build(tmp_path / "convolutions.onnx", nodes)
    with pytest.raises(WeightsError, match="no Gemm"):
        OnnxEncoder(describe(path), path=path)


def test_an_entry_that_cannot_be_run_is_refused(model: Path) -> None:
    detector = describe(model, kind="detector", preprocessing=None, output=None, distance=None)
    assert detector.output is None
    with pytest.raises(WeightsError, match="tiny"):
        OnnxEncoder(detector, path=model)


def test_a_provider_that_is_not_installed_is_an_error_and_no_fall_back(model: Path) -> None:
    import onnxruntime

    missing = [p for p, name in runtime.PROVIDERS.items() if name not in onnxruntime.get_available_providers()]
    assert missing
    for provider in missing:
        with pytest.raises(ProviderError, match=provider):
            OnnxEncoder(describe(model), path=model, provider=provider)


def test_cuda_on_a_machine_without_it_is_an_error(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ProviderError, match="onnxruntime-gpu"):
        OnnxEncoder(describe(model), path=model, provider="cuda")


def test_a_provider_that_falls_back_when_loaded_is_an_error() -> None:
    class Session:
        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    runtime.check_provider(Session(), "cpu")
    with pytest.raises(ProviderError, match="'cuda' was asked for and CPUExecutionProvider would run"):
        runtime.check_provider(Session(), "cuda")


def test_an_unknown_provider_is_an_error_that_lists_the_known_ones(model: Path) -> None:
    with pytest.raises(ProviderError, match=r"'gpu'.*cpu, cuda"):
        OnnxEncoder(describe(model), path=model, provider="gpu")


# The registry


Publish = Callable[[WeightsEntry], None]


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Let the manifest hold one entry more."""

    def add(entry: WeightsEntry) -> None:
        known = {**weights.entries(), entry.name: entry}
        monkeypatch.setattr(weights, "_shipped", lambda: known)

    return add


def test_an_encoder_of_the_manifest_is_a_method(model: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(describe(model, distance="cosine"))
    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(model.parent))
    assert "tiny" in available_methods()
    crops = pictures(2)
    method = load_method("tiny")
    assert isinstance(method, OnnxEncoder) and (method.name, method.distance_name) == ("tiny", "cosine")
    assert np.array_equal(method.embed(crops), OnnxEncoder(describe(model), path=model).embed(crops))
    with pytest.raises(ProviderError):
        load_method("tiny", provider="gpu")


def test_a_file_with_another_hash_is_refused(
    model: Path, tmp_path: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(describe(model))
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(folder))
    with pytest.raises(WeightsNotFoundError, match="weights pull tiny"):
        load_method("tiny")
    build(folder / "tiny.onnx", seed=1)  # it would run, with other numbers
    assert OnnxEncoder(describe(model), path=folder / "tiny.onnx").embed(pictures(1)).shape == (1, DIMENSION)
    with pytest.raises(WeightsHashError, match=weights.sha256_of(model)):
        load_method("tiny")


def test_a_name_can_carry_a_distance() -> None:
    plain, cosine = load_method("lm51"), load_method("lm51:cosine")
    assert (plain.name, plain.distance_name) == ("lm51", "l2")
    assert (cosine.name, cosine.distance_name) == ("lm51:cosine", "cosine")
    a, b = np.array([[1.0, 0.0]]), np.array([[0.0, 2.0]])
    assert cosine.distance(a, b) == pytest.approx([1.0]) and plain.distance(a, b) == pytest.approx([5**0.5])
    assert load_method("lm51").distance_name == "l2"  # the other stays as it was


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownMethodError, match=r"'lm5'.*identity.*lm51, lm68"):
        load_method("lm5")
    with pytest.raises(UnknownMethodError, match=r"'l1' in 'lm51:l1'.*l2, cosine, ned, mse"):
        load_method("lm51:l1")
    for wrong in ("", ":l2", "lm51:l2:cosine", "LM51"):
        with pytest.raises(UnknownMethodError):
            load_method(wrong)


def test_a_name_is_registered_once() -> None:
    before = dict(METHODS)
    with pytest.raises(ValueError, match="'lm68'"):
        register_method("lm68")(lambda provider: load_method("lm51"))
    assert before == METHODS
