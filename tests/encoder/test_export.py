"""Checkpoint → ONNX: the same vectors as torch, the same names of weights, and nothing left of a broken export."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from exprmetric.encoder import export as module
from exprmetric.encoder.checkpoint import save_checkpoint
from exprmetric.encoder.export import METADATA, PARITY, Export, export_encoder, load_encoder, manifest_entry
from exprmetric.encoder.models import Encoder
from exprmetric.errors import ExprmetricError, InputError, WeightsError
from exprmetric.weights import manifest
from exprmetric.weights import store as weights

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
SIZE = 48


def some_faces(count: int, size: int = SIZE, seed: int = 1) -> torch.Tensor:
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(seed))


def make_encoder(backbone: str = "resnet18") -> Encoder:
    """Weights and batch statistics that are not those of a new network."""
    torch.manual_seed(0)
    encoder = Encoder(backbone).train()
    with torch.no_grad():
        for seed in range(3):
            encoder(some_faces(8, seed=seed))
    return encoder.eval()


CONFIG = {"backbone": "resnet18", "size": SIZE, "crop": 176}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return make_encoder()


@pytest.fixture(scope="module")
def checkpoint(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "encoder.pt"
    save_checkpoint(path, {"encoder": encoder.state_dict(), "config": CONFIG})
    return path


@pytest.fixture(scope="module", params=[True, False], ids=["half", "full"])
def made(request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("onnx") / "toy.onnx"
    return request.param, export_encoder(checkpoint, out, half=request.param)


def unit(vectors) -> np.ndarray:
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def run_onnx(path: Path, faces: torch.Tensor) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["embedding"], {"faces": faces.numpy()})[0]


def run_torch(encoder: Encoder, faces: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return encoder(faces).numpy()


@pytest.mark.parametrize("count", [1, 2, 7])
def test_onnxruntime_gives_torchs_vectors_for_any_batch(made: tuple[bool, Export], encoder: Encoder, count: int):
    half, export = made
    faces = some_faces(count, seed=5)
    found, expected = run_onnx(export.path, faces), run_torch(encoder, faces)
    assert found.shape == expected.shape == (count, export.dimension) and found.dtype == np.float32
    difference = np.abs(unit(found) - unit(expected)).max()
    assert difference < (5e-3 if half else PARITY)  # against the weights before they were rounded
    if half:
        rounded = Encoder("resnet18").eval()
        rounded.load_state_dict({k: v.half().float() if v.ndim > 1 else v for k, v in encoder.state_dict().items()})
        assert np.abs(unit(found) - unit(run_torch(rounded, faces))).max() < PARITY


def test_the_export_says_what_it_measured(made: tuple[bool, Export]):
    half, export = made
    assert 0 <= export.parity < PARITY == 1e-4
    assert (0 < export.rounding < 0.01) if half else export.rounding == 0.0
    assert (export.dimension, export.size, export.config) == (512, SIZE, CONFIG)
    assert export.path.name == "toy.onnx" and [p.name for p in export.path.parent.iterdir()] == ["toy.onnx"]


def test_initialisers_carry_the_names_and_values_of_the_torch_weights(made: tuple[bool, Export], encoder: Encoder):
    half, export = made
    stored = {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(str(export.path)).graph.initializer}
    own = {k: v.numpy() for k, v in encoder.state_dict().items() if v.is_floating_point()}
    assert set(own) <= set(stored)
    for name, value in own.items():
        assert stored[name].dtype == (np.float16 if half and value.ndim > 1 else np.float32)
        np.testing.assert_array_equal(stored[name], value.astype(stored[name].dtype))


def test_the_file_loads_back_into_torch(made: tuple[bool, Export]):
    _, export = made
    stored = {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(str(export.path)).graph.initializer}
    again = Encoder("resnet18").eval()
    tensors = {k: torch.tensor(stored[k].astype(np.float32)) for k in again.state_dict() if k in stored}
    missing = again.load_state_dict(tensors, strict=False).missing_keys
    assert all(k.endswith("num_batches_tracked") for k in missing)
    faces = some_faces(3, seed=8)
    assert np.abs(unit(run_torch(again, faces)) - unit(run_onnx(export.path, faces))).max() < PARITY


def test_half_precision_halves_the_file(checkpoint: Path, tmp_path: Path):
    sizes = [export_encoder(checkpoint, tmp_path / f"{h}.onnx", half=h).path.stat().st_size for h in (True, False)]
    assert sizes[0] / sizes[1] == pytest.approx(0.5, abs=0.02)


def test_a_linear_layer_and_the_mirror_image_are_exported_and_named(tmp_path: Path):
    """The shipped kind: a face and its mirror image have one embedding, and the file says what module it is of."""
    torch.manual_seed(0)
    architecture = {"backbone": "efficientnet_lite0", "dimension": 24, "mirror": True}
    encoder = Encoder(**architecture).eval()
    save_checkpoint(
        tmp_path / "encoder.pt", {"encoder": encoder.state_dict(), "config": {**CONFIG, **architecture, "frozen": 2}}
    )
    export = export_encoder(tmp_path / "encoder.pt", tmp_path / "out.onnx")
    assert export.dimension == 24
    faces = some_faces(3, seed=2)
    mirrored = run_onnx(export.path, faces.flip(3))
    np.testing.assert_allclose(unit(mirrored), unit(run_onnx(export.path, faces)), atol=1e-5)
    properties = {p.key: json.loads(p.value) for p in onnx.load(str(export.path)).metadata_props}
    assert properties == {METADATA: {**architecture, "neck": "linear", "classes": 0, "size": SIZE}}


@pytest.mark.parametrize("backbone", ["efficientnet_b0", "regnetx_004"])
def test_other_backbones_export_too(backbone: str, tmp_path: Path):
    config = {**CONFIG, "backbone": backbone}
    save_checkpoint(tmp_path / "encoder.pt", {"encoder": make_encoder(backbone).state_dict(), "config": config})
    export = export_encoder(tmp_path / "encoder.pt", tmp_path / "out.onnx")
    assert export.parity < PARITY and export.rounding < 0.02


def test_a_training_checkpoint_gives_its_encoder(encoder: Encoder, checkpoint: Path, tmp_path: Path):
    weights = {f"encoder.{k}": v for k, v in encoder.state_dict().items()} | {"heads.votes.bias": torch.zeros(8)}
    save_checkpoint(tmp_path / "best.pt", {"model": weights, "epoch": 3, "config": CONFIG})
    loaded, config = load_encoder(tmp_path / "best.pt")
    assert config == CONFIG and not loaded.training
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in encoder.state_dict().items())


@pytest.mark.parametrize("kind", ["head", "no checkpoint", "other backbone", "text"])
def test_a_file_without_an_encoder_is_refused_by_name(kind: str, encoder: Encoder, tmp_path: Path):
    path = tmp_path / "foreign.pt"
    contents = {
        "head": {"model": {"1.weight": torch.zeros(2)}, "config": CONFIG},
        "no checkpoint": {"weights": torch.zeros(2)},
        "other backbone": {"encoder": encoder.state_dict(), "config": {**CONFIG, "backbone": "regnetx_004"}},
    }
    if kind == "text":
        path.write_text("not a checkpoint")
    else:
        save_checkpoint(path, contents[kind])
    with pytest.raises(InputError, match=r"foreign\.pt is no checkpoint with an encoder"):
        export_encoder(path, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("broken", ["other numbers", "NaN", "crash"])
@pytest.mark.parametrize("earlier", [True, False], ids=["over an earlier file", "new"])
def test_a_broken_export_is_refused_and_leaves_nothing(
    broken: str, earlier: bool, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "toy.onnx"
    if earlier:
        out.write_bytes(b"a good one")
    honest = module._run_onnx

    def spoiled(path: Path, faces: torch.Tensor, names: list[str]) -> dict[str, np.ndarray]:
        found = honest(path, faces, names)
        vectors = found["embedding"]
        if broken == "crash":
            raise RuntimeError("no such operator")
        vectors[3, 0] += {"other numbers": 0.01 * np.linalg.norm(vectors[3]), "NaN": np.nan}[broken]
        return found

    monkeypatch.setattr(module, "_run_onnx", spoiled)
    with pytest.raises(RuntimeError if broken == "crash" else ExprmetricError):
        export_encoder(checkpoint, out)
    assert [p.name for p in tmp_path.iterdir()] == (["toy.onnx"] if earlier else [])
    if earlier:
        assert out.read_bytes() == b"a good one"


def test_weights_too_large_for_half_precision_are_refused(encoder: Encoder, tmp_path: Path):
    weights = {k: v.clone() for k, v in encoder.state_dict().items()}
    weights["backbone.conv1.weight"] *= 1e9
    save_checkpoint(tmp_path / "encoder.pt", {"encoder": weights, "config": CONFIG})
    with pytest.raises(ExprmetricError):
        export_encoder(tmp_path / "encoder.pt", tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


FILLED = {
    "licence": "MIT",
    "training_data": "made-up faces",
    "citation": "none",
    "urls": ["https://example.org/x.onnx"],
}


def test_a_checkpoint_of_feenet_has_the_papers_threshold_under_any_name(made: tuple[bool, Export]):
    from exprmetric.training.recipes.feenet import FEENetConfig

    export = replace(made[1], config={**made[1].config, **asdict(FEENetConfig())})
    item = manifest.parse({"schema_version": 1, "weights": [manifest_entry(export, "toy") | FILLED]}, own=True)["toy"]
    assert item.tag_threshold == 0.5
    assert "tag_threshold" not in manifest_entry(made[1], "feenet")


def test_the_manifest_entry_parses_once_its_trainer_has_filled_it_in(made: tuple[bool, Export]):
    _, export = made
    entry = json.loads(json.dumps(manifest_entry(export, "toy")))
    with pytest.raises(WeightsError, match="licence"):  # nobody ships weights without saying what they are
        manifest.parse({"schema_version": 1, "weights": [entry]})
    item = manifest.parse({"schema_version": 1, "weights": [{**entry, **FILLED}]})["toy"]
    assert item.kind == "expression-encoder" and item.file == "toy.onnx" and item.format == "onnx"
    assert (item.sha256, item.bytes) == (weights.sha256_of(export.path), export.path.stat().st_size)
    assert (item.output, item.dimension, item.normalise, item.distance) == ("embedding", 512, True, "l2")
    assert item.preprocessing is not None
    assert (item.preprocessing.size, item.preprocessing.crop, item.preprocessing.color) == (SIZE, 176, "grey")
    assert item.commercial_use is False  # until somebody says otherwise


def test_the_exported_encoder_runs_as_a_method(
    made: tuple[bool, Export], encoder: Encoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    import cv2

    from exprmetric.methods import load_method

    half, export = made
    item = manifest.parse({"schema_version": 1, "weights": [manifest_entry(export, "toy") | FILLED]})["toy"]
    monkeypatch.setattr(weights, "_shipped", lambda: {"toy": item})
    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(export.path.parent))
    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path))
    method = load_method("toy")
    random = np.random.default_rng(0)
    crops = [cv2.resize(random.integers(0, 256, (14, 14, 3), np.uint8), (224, 224)) for _ in range(3)]
    vectors = method.embed(crops)
    assert vectors.shape == (3, 512) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    # by hand: luma, the centre 176 of 224 px, resized to the input's side
    grey = [cv2.cvtColor(c, cv2.COLOR_RGB2GRAY)[24:200, 24:200] for c in crops]
    small = np.stack([cv2.resize(g, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for g in grey])[:, None]
    expected = unit(run_torch(encoder, torch.tensor(small / 255, dtype=torch.float32)))
    np.testing.assert_allclose(vectors, expected, atol=5e-3 if half else 2e-4)


def test_a_changed_file_is_not_run(checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from exprmetric.errors import WeightsHashError
    from exprmetric.methods import load_method

    export = export_encoder(checkpoint, tmp_path / "toy.onnx")
    item = manifest.parse({"schema_version": 1, "weights": [manifest_entry(export, "toy") | FILLED]})["toy"]
    with export.path.open("ab") as file:
        file.write(b"\0")
    monkeypatch.setattr(weights, "_shipped", lambda: {"toy": item})
    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsHashError):
        load_method("toy")
