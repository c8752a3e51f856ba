"""The torch encoder is the ONNX file's network, and ExpressionPreservation gives the command line's scores."""

from __future__ import annotations

import json
import pickle
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch_faces import architecture, batch, crops, encoder, photographs, triplets
from torchmetrics import MetricCollection

from exprmetric import metrics
from exprmetric.encoder.checkpoint import save_checkpoint
from exprmetric.encoder.export import METADATA, export_encoder
from exprmetric.encoder.models import Encoder
from exprmetric.encoder.onnx_file import load_encoder
from exprmetric.errors import InputError, WeightsError, WeightsHashError
from exprmetric.faces.alignment import ARCFACE_EYES, EYES, similarity, warp
from exprmetric.methods.onnx import OnnxEncoder, preprocess
from exprmetric.torch import Architecture, ExpressionEncoder, ExpressionPreservation, functional
from exprmetric.torch.alignment import aligned
from exprmetric.torch.pixels import resample, to_pixels
from exprmetric.weights import store as weights
from exprmetric.weights.kept_maps import kept_map
from exprmetric.weights.runtime import open_session

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

Floats = npt.NDArray[np.float64]


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)
    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def like_the_command_line() -> ExpressionEncoder:
    return encoder(quantise=True)


@pytest.fixture(scope="module")
def onnx_encoder() -> OnnxEncoder:
    return OnnxEncoder(weights.entry("default"))


@pytest.fixture
def metric(like_the_command_line: ExpressionEncoder) -> ExpressionPreservation:
    return ExpressionPreservation(encoder=like_the_command_line)


@pytest.fixture(scope="module")
def batches() -> tuple[Tensor, Tensor, Tensor]:
    target, source, swapped = triplets()
    return batch(target), batch(source), batch(swapped)


@pytest.fixture(scope="module")
def expected(onnx_encoder: OnnxEncoder) -> dict[str, float]:
    return scores_of_onnx(onnx_encoder, *triplets())


def scores_of_onnx(method: OnnxEncoder, *images: npt.NDArray[np.uint8]) -> dict[str, float]:
    """What the command line makes of these crops: ONNX Runtime, and exprmetric.metrics."""
    target, source, swapped = (method.embed(list(i)) for i in images)
    distance = metrics.distance_function(method.distance_name)
    t2c, s2c, s2t = distance(target, swapped), distance(source, swapped), distance(source, target)
    scores = metrics.preservation_scores(t2c, s2c, s2t)
    made = kept_map(method.fingerprint, method.distance_name)
    assert made is not None, "the shipped encoder has a map of `kept`"
    anchors = {"kept_source_pasted": float(made(s2t).mean()), "kept_nothing_swapped": made.ceiling}
    return scores | {"kept": float(made(t2c).mean())} | anchors


def assert_scores(found: dict[str, Tensor], expected: dict[str, float], within: float = 1e-4) -> None:
    assert {k: v.item() for k, v in found.items()} == pytest.approx(expected, abs=within, nan_ok=True)


class TestEncoder:
    def test_embeddings_are_those_of_onnx_runtime(
        self, like_the_command_line: ExpressionEncoder, onnx_encoder: OnnxEncoder
    ) -> None:
        with torch.no_grad():
            found = like_the_command_line(batch(crops())).numpy()
        assert np.abs(found - onnx_encoder.embed(list(crops()))).max() < 1e-4

    def test_input_is_that_of_onnx_runtime(
        self, like_the_command_line: ExpressionEncoder, onnx_encoder: OnnxEncoder
    ) -> None:
        found = like_the_command_line.preprocess(to_pixels(batch(crops()))).numpy()
        assert np.abs(found - np.stack([preprocess(c, onnx_encoder.how) for c in crops()])).max() * 255 < 0.01

    def test_without_rounding_the_input_is_the_plain_arithmetic(self) -> None:
        smooth = encoder()
        side, kept, size = 224, smooth.how.crop or 224, smooth.how.size
        grey = crops()[:2].astype(np.float64) @ [9798 / 32768, 19235 / 32768, 3735 / 32768]
        areas = np.zeros((size, side))
        for i in range(size):  # the share of each pixel that lies in the i-th of `size` equal parts
            for j in range(side):
                a, b = ((side - kept) / 2 + kept / size * k for k in (i, i + 1))
                areas[i, j] = max(0.0, min(b, j + 1) - max(a, j)) / (b - a)
        expected = (areas @ grey @ areas.T) * smooth.how.scale
        found = smooth.preprocess(to_pixels(batch(crops()[:2])))[:, 0].numpy()
        assert np.abs(found - expected).max() < 1e-4
        session = open_session(str(weights.find("default")))
        name = session.get_inputs()[0].name
        with torch.no_grad():
            vectors = smooth(batch(crops()[:2])).numpy()
        (raw,) = session.run(["embedding"], {name: expected[:, None].astype(np.float32)})
        raw /= np.linalg.norm(raw, axis=1, keepdims=True)
        assert np.abs(vectors - raw).max() < 1e-4

    @pytest.mark.parametrize("size", [256, 300, 112, 80])
    def test_other_sides_are_the_same_part_of_the_face(self, size: int) -> None:
        rng = np.random.default_rng(0)
        image = cv2.resize(rng.random((9, 9)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
        how = cv2.INTER_AREA if size > 112 else cv2.INTER_LINEAR
        found = resample(torch.from_numpy(image)[None, None], (0.0, float(size)), 112)[0, 0].numpy()
        assert np.abs(found - cv2.resize(image, (112, 112), interpolation=how)).max() < 1e-3

    def test_floats_in_any_range_are_the_same_images(self, like_the_command_line: ExpressionEncoder) -> None:
        images = batch(crops()[:3])
        with torch.no_grad():
            bytes_, unit, signed = (
                like_the_command_line(images),
                like_the_command_line(images / 255),
                like_the_command_line(images / 127.5 - 1, value_range=(-1.0, 1.0)),
            )
        assert torch.equal(bytes_, unit) and torch.equal(bytes_, signed)

    @pytest.mark.parametrize("images", [torch.zeros(1, 1, 8, 8), torch.zeros(3, 8, 8), torch.zeros(1, 3, 8, 8).int()])
    def test_other_tensors_are_refused(self, like_the_command_line: ExpressionEncoder, images: Tensor) -> None:
        with pytest.raises(InputError, match="images must be"):
            like_the_command_line(images)

    def test_images_that_are_not_square_are_refused(self, like_the_command_line: ExpressionEncoder) -> None:
        with pytest.raises(InputError, match="square"):
            like_the_command_line(torch.zeros(1, 3, 224, 200))

    @pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
    def test_half_precision_is_near(self, precision: torch.dtype, like_the_command_line: ExpressionEncoder) -> None:
        images = batch(crops()[:4])
        with torch.no_grad():
            half, full = encoder(quantise=True, precision=precision)(images), like_the_command_line(images)
        assert half.dtype == torch.float32
        assert 0 < (half - full).norm(dim=1).max() < 0.05

    def test_autocast_around_it_changes_nothing(self, like_the_command_line: ExpressionEncoder) -> None:
        images = batch(crops()[:2])
        with torch.no_grad():
            expected = like_the_command_line(images)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                assert torch.equal(like_the_command_line(images), expected)

    def test_it_is_no_part_of_the_model_around_it(self) -> None:
        model = nn.ModuleDict({"own": nn.Linear(2, 2), "encoder": encoder()})
        images = batch(crops()[:1])
        with torch.no_grad():
            before = model["encoder"](images)
        assert [n for n, _ in model.named_parameters()] == ["own.weight", "own.bias"] == list(model.state_dict())
        assert not list(model["encoder"].buffers())
        model.half().train()
        assert model["own"].weight.dtype == torch.float16
        with torch.no_grad():
            assert torch.equal(model["encoder"](images), before)

    def test_it_moves_with_the_model_around_it(self) -> None:
        model = nn.Sequential(encoder())
        model.to_empty(device="cpu")  # what deferred initialisation calls: must not lose the weights
        with torch.no_grad():
            assert torch.equal(model[0](batch(crops()[:1])), encoder()(batch(crops()[:1])))
        model.to("meta")
        assert {p.device.type for p in model[0].network.parameters()} == {"meta"}

    def test_validation_in_inference_mode_leaves_training_alone(self) -> None:
        small = encoder()
        images = torch.rand(1, 3, 200, 200)
        with torch.inference_mode():
            small(images)
        small(images.requires_grad_()).sum().backward()
        assert images.grad is not None and images.grad.abs().sum() > 0

    def test_another_precision_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"float64"):
            encoder(precision=torch.float64)


class TestFile:
    """What stands in the ONNX file decides which network is built."""

    @pytest.fixture
    def model(self) -> Any:
        return onnx.load(str(weights.find("default")))

    @pytest.fixture
    def right(self) -> Architecture:
        return architecture() or load_encoder(weights.find("default"))[1]

    def write(self, model: Any, path: Path, metadata: object) -> Path:
        del model.metadata_props[:]
        if metadata is not None:
            text = metadata if isinstance(metadata, str) else json.dumps(metadata)
            model.metadata_props.add(key=METADATA, value=text)
        onnx.save(model, str(path))
        return path

    def test_metadata_say_the_architecture(self, model: Any, right: Architecture, tmp_path: Path) -> None:
        path = self.write(model, tmp_path / "a.onnx", vars(right))
        found, said = load_encoder(path)
        assert said == right
        expected = encoder().network
        faces = torch.rand(2, 1, right.size, right.size)
        with torch.no_grad():
            assert torch.allclose(found(faces), expected(faces), atol=1e-5)  # another memory format
        assert not any(p.requires_grad for p in found.parameters())

    def test_an_export_is_loaded_as_it_is(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        original = Encoder("efficientnet_lite0", dimension=8, mirror=True).eval()
        config = {"backbone": "efficientnet_lite0", "dimension": 8, "mirror": True, "size": 48, "crop": 176}
        save_checkpoint(tmp_path / "a.pt", {"encoder": original.state_dict(), "config": config})
        path = export_encoder(tmp_path / "a.pt", tmp_path / "a.onnx").path
        found, said = load_encoder(path)
        assert said == Architecture("efficientnet_lite0", 8, True, 48)
        faces = torch.rand(3, 1, 48, 48)
        (expected,) = open_session(str(path)).run(["embedding"], {"faces": faces.numpy()})
        with torch.no_grad():
            apart = nn.functional.normalize(found(faces)) - nn.functional.normalize(torch.from_numpy(expected))
        assert apart.abs().max() < 1e-4

    def test_without_metadata_the_error_says_what_to_do(self, model: Any, tmp_path: Path) -> None:
        path = self.write(model, tmp_path / "a.onnx", None)
        with pytest.raises(WeightsError, match=rf"{METADATA}.*Give an Architecture"):
            load_encoder(path)

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"backbone": "vgg"}, "backbone must be one of"),
            ({"dimension": -1}, "dimension must be 0 or more"),
            ({"dimension": True}, "dimension must be a whole number"),
            ({"mirror": 1}, "mirror must be true or false"),
            ({"size": 0}, "size must be above 0"),
            ({"depth": 3}, "unknown keys"),
            ("{", "is no JSON"),
            ("[" * 100_000, "is no JSON"),
            ("[]", "expected an object"),
        ],
    )
    def test_broken_metadata_are_refused(
        self, change: object, told: str, model: Any, right: Architecture, tmp_path: Path
    ) -> None:
        document = {**vars(right), **change} if isinstance(change, dict) else change
        with pytest.raises(WeightsError, match=told):
            load_encoder(self.write(model, tmp_path / "a.onnx", document))

    def test_weights_of_another_network_are_refused(self, right: Architecture) -> None:
        other = "resnet18" if right.backbone != "resnet18" else "resnet50"
        with pytest.raises(WeightsError, match="other weights"):
            load_encoder(weights.find("default"), Architecture(other, right.dimension, right.mirror, right.size))
        with pytest.raises(WeightsError):
            load_encoder(weights.find("default"), Architecture(right.backbone, 17, right.mirror, right.size))

    def test_a_weight_of_another_shape_is_refused(self, model: Any, right: Architecture, tmp_path: Path) -> None:
        first = model.graph.initializer[0]
        first.CopyFrom(onnx.numpy_helper.from_array(np.zeros((2, 2), np.float16), first.name))
        path = self.write(model, tmp_path / "a.onnx", vars(right))
        with pytest.raises(WeightsError, match=r"\[2, 2\] there"):
            load_encoder(path)

    def test_a_foreign_file_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "a.onnx"
        path.write_bytes(b"\x80\x04no protobuf")
        with pytest.raises(WeightsError):
            load_encoder(path)

    def test_a_file_with_another_hash_is_refused(self, model: Any, right: Architecture, tmp_path: Path) -> None:
        path = self.write(model, tmp_path / "a.onnx", vars(right) | {"size": right.size + 1})
        with pytest.raises(WeightsHashError):
            ExpressionEncoder(path=path)

    def test_an_input_side_that_is_not_the_entrys_is_refused(self, right: Architecture) -> None:
        with pytest.raises(WeightsError, match="preprocessing"):
            ExpressionEncoder(architecture=replace(right, size=right.size + 1))


class TestFunctional:
    @pytest.mark.parametrize("name", sorted(metrics.DISTANCES))
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
    def test_distances_are_numpys(self, name: str, dtype: torch.dtype) -> None:
        a, b = torch.randn(2, 9, 7, generator=torch.Generator().manual_seed(1)).to(dtype)
        a[0] = b[0]
        a[1], b[1] = 3, -2
        found = functional.DISTANCES[name](a, b)
        assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        expected = metrics.DISTANCES[name](a.double().numpy(), b.double().numpy())
        assert found.numpy() == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize("name", sorted(metrics.DISTANCES))
    def test_distances_pass_gradcheck(self, name: str) -> None:
        a, b = torch.randn(2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        assert torch.autograd.gradcheck(functional.DISTANCES[name], (a.requires_grad_(), b.requires_grad_()))

    def test_equal_vectors_have_no_gradient_rather_than_nan(self) -> None:
        a = torch.ones(1, 3, requires_grad=True)
        functional.l2(a, a.detach()).sum().backward()
        assert a.grad is not None and torch.equal(a.grad, torch.zeros(1, 3))

    def test_a_zero_vector_has_no_direction(self) -> None:
        assert functional.cosine(torch.zeros(1, 3), torch.ones(1, 3)).isnan().all()

    def test_scores_by_hand(self) -> None:
        found = functional.preservation_scores(
            torch.tensor([0.1, 0.5, 0.4]), torch.tensor([0.9, 0.5, 0.1]), torch.tensor([1.0, 0.2, 0.4])
        )
        assert list(found) == list(functional.SCORES)
        by_hand = {"l2_error": 0.7 / 3, "mean_t2c": 1 / 3, "ratio": 1 / 3, "mean_s2c": 0.5, "mean_s2t": 1.6 / 3}
        assert_scores(found, by_hand, 1e-6)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
    def test_scores_are_numpys(self, dtype: torch.dtype) -> None:
        distances = torch.rand(3, 50, generator=torch.Generator().manual_seed(3)).to(dtype)
        expected = metrics.preservation_scores(*distances.double().numpy())
        assert_scores(functional.preservation_scores(*distances), expected, 1e-6)

    def test_nothing_measured_is_nan(self) -> None:
        assert all(v.isnan() for v in functional.preservation_scores(*torch.empty(3, 0)).values())

    def test_shapes_and_names_are_checked(self) -> None:
        with pytest.raises(InputError, match=r"\(2, 3\) and \(2, 4\)"):
            functional.l2(torch.zeros(2, 3), torch.zeros(2, 4))
        with pytest.raises(InputError, match="one length"):
            functional.per_triplet(torch.zeros(2), torch.zeros(3), torch.zeros(2))
        with pytest.raises(InputError, match="unknown distance 'l3'"):
            functional.distance_function("l3")


class TestMetric:
    @pytest.mark.parametrize("sizes", [(11,), (4, 7), (1,) * 11, (3, 0, 8)])
    def test_scores_are_the_command_lines(
        self,
        sizes: tuple[int, ...],
        metric: ExpressionPreservation,
        batches: tuple[Tensor, ...],
        expected: dict[str, float],
    ) -> None:
        for parts in zip(*(images.split(list(sizes)) for images in batches), strict=True):
            metric.update(*parts)
        assert_scores(metric.compute(), expected)
        assert int(metric.count) == 11
        assert 0 < expected["ratio"] < 1

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
    def test_floats_are_scored_as_the_files_they_would_become(
        self, dtype: torch.dtype, like_the_command_line: ExpressionEncoder, batches: tuple[Tensor, ...], expected: Any
    ) -> None:
        metric = ExpressionPreservation(value_range=(-1.0, 1.0), encoder=like_the_command_line)
        metric.update(*((images.double() / 127.5 - 1).to(dtype) for images in batches))
        # bfloat16 keeps 8 bits of a number, less than a pixel has
        assert_scores(metric.compute(), expected, {torch.bfloat16: 0.05, torch.float16: 5e-3}.get(dtype, 1e-4))

    def test_nothing_measured_is_nan(self, metric: ExpressionPreservation) -> None:
        with pytest.warns(UserWarning, match="before the ``update``"):
            assert all(v.isnan() for v in metric.compute().values())
        empty = torch.empty(0, 3, 224, 224)
        metric.update(empty, empty, empty)
        assert all(v.isnan() for v in metric.compute().values())

    def test_anchors(self, metric: ExpressionPreservation, batches: tuple[Tensor, ...]) -> None:
        target, source, _ = batches
        metric.update(target, source, target)
        kept = metric.compute()
        assert kept["mean_t2c"] == kept["l2_error"] == 0 and kept["ratio"] == 1
        metric.reset()
        metric.update(target, source, source)
        assert metric.compute()["ratio"] == 0 and metric.compute()["mean_s2c"] == 0

    def test_forward_gives_the_batch_and_keeps_the_whole(
        self, metric: ExpressionPreservation, batches: tuple[Tensor, ...], expected: dict[str, float]
    ) -> None:
        first, second = ([i[a:b] for i in batches] for a, b in ((0, 4), (4, 11)))
        of_first = metric(*first)
        of_second = metric(*second)
        assert_scores(metric.compute(), expected)
        alone = ExpressionPreservation(encoder=metric.encoder)
        alone.update(*second)
        assert_scores(of_second, {k: v.item() for k, v in alone.compute().items()}, 1e-12)
        assert of_first["mean_t2c"] < of_second["mean_t2c"]

    def test_reset_forgets(self, metric: ExpressionPreservation, batches: tuple[Tensor, ...]) -> None:
        metric.update(*batches)
        metric.reset()
        assert int(metric.count) == 0 and not metric.sums.any()
        few = [i[:2] for i in batches]
        metric.update(*few)
        fresh = ExpressionPreservation(encoder=metric.encoder)
        fresh.update(*few)
        assert all(torch.equal(v, fresh.compute()[k]) for k, v in metric.compute().items())

    def test_pickle_and_copy_go_on_where_it_stood(
        self, metric: ExpressionPreservation, batches: tuple[Tensor, ...], expected: dict[str, float]
    ) -> None:
        metric.update(*(i[:4] for i in batches))
        for other in (pickle.loads(pickle.dumps(metric)), deepcopy(metric), metric.clone()):
            other.update(*(i[4:] for i in batches))
            assert_scores(other.compute(), expected)
        assert int(metric.count) == 4

    def test_state_dict_holds_the_sums_and_no_weights(
        self, metric: ExpressionPreservation, batches: tuple[Tensor, ...], expected: dict[str, float]
    ) -> None:
        assert not metric.state_dict() and not list(metric.parameters())
        metric.persistent(True)
        metric.update(*(i[:4] for i in batches))
        stored = metric.state_dict()
        assert sorted(stored) == [
            "count", "count_with_source", "half_empty", "left_out", "outside", "sums", "with_source",
        ]  # fmt: skip
        other = ExpressionPreservation(encoder=metric.encoder)
        other.load_state_dict(stored)
        other.update(*(i[4:] for i in batches))
        assert_scores(other.compute(), expected)

    def test_collection(
        self, metric: ExpressionPreservation, batches: tuple[Tensor, ...], expected: dict[str, float]
    ) -> None:
        middle = ExpressionPreservation(align="center_crop", crop_fraction=0.9, encoder=metric.encoder)
        collection = MetricCollection({"aligned": metric, "middle": middle}, prefix="val/")
        for a, b in ((0, 4), (4, 11)):
            collection.update(*(i[a:b] for i in batches))
        found = collection.compute()
        assert len(found) == 10 + 3  # and `kept` with its anchors, which has no map for `center_crop`
        own = {k: found[next(n for n in found if "aligned" in n and n.endswith(k))] for k in expected}
        assert_scores(own, expected)
        other = found[next(n for n in found if "middle" in n and n.endswith("mean_t2c"))]
        assert abs(other.item() - expected["mean_t2c"]) > 1e-3

    def test_half_precision_around_it_changes_nothing(
        self, metric: ExpressionPreservation, batches: tuple[Tensor, ...], expected: dict[str, float]
    ) -> None:
        around = nn.ModuleDict({"metric": metric})
        metric.update(*(i[:4] for i in batches))
        around.half()
        around.to(torch.bfloat16)
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
            metric.update(*(i[4:] for i in batches))
        assert metric.sums.dtype == torch.float64
        assert_scores(metric.compute(), expected)
        assert metric.set_dtype(torch.float32).sums.dtype == torch.float32

    def test_inference_mode_then_training_mode(
        self, metric: ExpressionPreservation, batches: tuple[Tensor, ...]
    ) -> None:
        with torch.inference_mode():
            metric.reset()
            metric.update(*(i[:2] for i in batches))
        metric.update(*(i[:2] for i in batches))
        assert int(metric.count) == 4

    def test_update_needs_no_value_on_the_host(
        self, metric: ExpressionPreservation, batches: tuple[Tensor, ...]
    ) -> None:
        """Tensors without values raise where the host would wait for one."""
        metric.update(*batches)
        with FakeTensorMode(allow_non_fake_inputs=True):
            images = torch.empty(2, 3, 224, 224)
            metric.update(images, images, images)
            with pytest.raises(DataDependentOutputException):
                int(metric.outside)

    def test_images_outside_the_range_are_told_of_once_asked(
        self, metric: ExpressionPreservation, batches: tuple[Tensor, ...]
    ) -> None:
        signed = [i[:3] / 127.5 - 1 for i in batches]
        metric.update(*signed)
        with pytest.warns(UserWarning, match=r"9 of 9 images .* value_range=\(0.0, 1.0\)"):
            metric.compute()
        metric.reset()
        metric.update(*((i[:3] / 255) * 1.1 - 0.05 for i in batches))  # what a generator without a last tanh gives
        metric.compute()
        assert int(metric.outside) == 0

    @pytest.mark.parametrize(
        ("value_range", "told"),
        [
            ((-1.0, 1.0), r"9 of 9 images fill only the upper half"),
            ((0.0, 255.0), "9 of 9 images .* almost none of it"),
        ],
    )
    def test_images_of_0_to_1_under_a_wider_range_are_told_of(
        self, value_range: tuple[float, float], told: str, metric: ExpressionPreservation, batches: tuple[Tensor, ...]
    ) -> None:
        other = ExpressionPreservation(value_range=value_range, encoder=metric.encoder)
        other.update(*(i[:3] / 255 for i in batches))
        with pytest.warns(UserWarning, match=told):
            other.compute()

    @pytest.mark.parametrize("which", [0, 1, 2], ids=["target", "source", "swapped"])
    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    def test_a_triplet_whose_image_is_no_numbers_is_left_out_counted_and_told_of(
        self, which: int, value: float, like_the_command_line: ExpressionEncoder, onnx_encoder: OnnxEncoder,
        batches: tuple[Tensor, ...],
    ) -> None:  # fmt: skip
        metric = ExpressionPreservation(encoder=like_the_command_line, identity=Colours(), intervals=True)
        images = [i / 255 for i in batches]
        images[which][4, 1, 100, 90] = value  # one pixel: clipped, an infinite one would be a white one
        metric.update(*(i[:6] for i in images))
        metric.update(*(i[6:] for i in images))
        with pytest.warns(UserWarning, match="1 of 11 triplets hold a value that is NaN or infinite"):
            found = metric.compute()
        assert (int(metric.count), int(metric.left_out)) == (10, 1)
        rest = [np.delete(i, 4, 0) for i in triplets()]
        expected = scores_of_onnx(onnx_encoder, *rest)
        assert_scores({k: found[k] for k in expected}, expected)
        without = ExpressionPreservation(encoder=like_the_command_line, identity=Colours(), intervals=True)
        without.update(*(batch(i) for i in rest))
        assert_scores(found, {k: v.item() for k, v in without.compute().items()}, 1e-6)

    def test_landmarks_or_vectors_that_are_no_numbers_are_left_out_too(
        self, metric: ExpressionPreservation, batches: tuple[Tensor, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        eyes = torch.tensor([[[76.5, 76.5], [146.5, 76.5]]] * 3)
        eyes[1, 0, 0] = float("nan")
        by_eyes = ExpressionPreservation(align="landmarks", encoder=metric.encoder)
        by_eyes.update(*(i[:3] for i in batches), target_landmarks=eyes, source_landmarks=eyes.nan_to_num(76.5))
        assert (int(by_eyes.count), int(by_eyes.left_out)) == (2, 1)
        represent = ExpressionEncoder.represent

        def overflows(self: ExpressionEncoder, faces: Tensor) -> Tensor:
            vectors = represent(self, faces)
            vectors[2] = float("inf")
            return vectors

        monkeypatch.setattr(ExpressionEncoder, "represent", overflows)
        metric.update(*(i[:4] for i in batches))
        assert (int(metric.count), int(metric.left_out)) == (3, 1)

    def test_where_no_triplet_is_numbers_there_is_no_score(
        self, like_the_command_line: ExpressionEncoder, batches: tuple[Tensor, ...]
    ) -> None:
        metric = ExpressionPreservation(encoder=like_the_command_line, intervals=True)
        metric.update(*(torch.full_like(i[:2], 1, dtype=torch.float32) * float("nan") for i in batches))
        with pytest.warns(UserWarning, match="2 of 2 triplets"):
            assert all(v.isnan() for v in metric.compute().values())

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            ({"align": "eyes"}, "unknown align 'eyes'"),
            ({"value_range": (1.0, 0.0)}, "value_range must rise"),
            ({"crop_fraction": 0.0}, "crop_fraction must be above 0"),
        ],
    )
    def test_bad_arguments(self, arguments: dict[str, Any], told: str, metric: ExpressionPreservation) -> None:
        with pytest.raises(InputError, match=told):
            ExpressionPreservation(encoder=metric.encoder, **arguments)

    def test_batches_of_different_length(self, metric: ExpressionPreservation, batches: tuple[Tensor, ...]) -> None:
        target, source, swapped = batches
        with pytest.raises(InputError, match="got 11, 5, 11"):
            metric.update(target, source[:5], swapped)
        assert int(metric.count) == 0


class Colours(nn.Module):
    """An "identity" that is easily computed by hand: the mean colour."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


class TestIdentity:
    def test_control_is_the_plain_arithmetic(
        self, like_the_command_line: ExpressionEncoder, batches: tuple[Tensor, ...], expected: dict[str, float]
    ) -> None:
        metric = ExpressionPreservation(encoder=like_the_command_line, identity=Colours())
        metric.update(*(i[:5] for i in batches))
        metric.update(*(i[5:] for i in batches))
        found = metric.compute()
        means = [images.astype(np.float64).mean((1, 2)) for images in triplets()]
        t, s, c = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in means)
        t2c, s2c, s2t = (np.linalg.norm(a - b, axis=1) for a, b in ((t, c), (s, c), (s, t)))
        control = {
            "identity_nearer_to_source": (s2c < t2c).mean(),
            "identity_mean_t2c": t2c.mean(),
            "identity_mean_s2c": s2c.mean(),
            "identity_mean_s2t": s2t.mean(),
        }
        assert_scores(found, expected | control)

    def test_the_identity_network_stays_out_of_checkpoints(self, like_the_command_line: ExpressionEncoder) -> None:
        network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 224 * 224, 2))
        metric = ExpressionPreservation(encoder=like_the_command_line, identity=network)
        assert not metric.state_dict() and not list(metric.parameters()) and not network.training


class TestIntervals:
    def test_intervals_are_the_cores_whatever_the_batches(
        self, like_the_command_line: ExpressionEncoder, onnx_encoder: OnnxEncoder, batches: tuple[Tensor, ...]
    ) -> None:
        groups = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4])
        found = []
        for order, parts in ((torch.arange(11), [11]), (torch.randperm(11), [2, 0, 9])):
            metric = ExpressionPreservation(encoder=like_the_command_line, intervals=True)
            for index in order.split(parts):
                metric.update(*(i[index] for i in batches), groups=groups[index])
            found.append(metric.compute())
        target, source, swapped = (onnx_encoder.embed(list(i)) for i in triplets())
        columns = metrics.per_triplet(
            metrics.l2(target, swapped), metrics.l2(source, swapped), metrics.l2(source, target)
        )
        expected = metrics.bootstrap_means(
            {name: columns[name] for name in metrics.SCORES}, [f"group {int(g)}" for g in groups]
        )
        for scores in found:
            for name, (low, high) in expected.items():
                assert scores[f"{name}_low"].item() == pytest.approx(low, abs=1e-4)
                assert scores[f"{name}_high"].item() == pytest.approx(high, abs=1e-4)

    def test_without_groups_each_triplet_is_its_own(
        self, like_the_command_line: ExpressionEncoder, batches: tuple[Tensor, ...]
    ) -> None:
        metric = ExpressionPreservation(encoder=like_the_command_line, intervals=True)
        assert not any(k.endswith("_low") for k in metric(*batches))
        scores = metric.compute()
        assert scores["mean_t2c_low"] < scores["mean_t2c"] < scores["mean_t2c_high"]
        assert scores["kept_low"] < scores["kept"] < scores["kept_high"]

    def test_groups_are_for_intervals(self, metric: ExpressionPreservation, batches: tuple[Tensor, ...]) -> None:
        with pytest.raises(InputError, match="intervals=True"):
            metric.update(*batches, groups=torch.zeros(11))


class TestAlignment:
    @pytest.mark.parametrize("zoom", [1.0, 4.0])
    def test_crops_from_landmarks_are_the_command_lines(self, zoom: float) -> None:
        """OpenCV warps with coordinates in steps of 1/32 px and 8-bit rounding on the way, so some levels apart."""
        image, places = photographs()[0]
        big = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
        eyes = (places[0] + 0.5) * zoom - 0.5
        expected = warp(big, similarity(eyes, EYES))
        found = aligned(to_pixels(batch(big[None])), "landmarks", torch.tensor(eyes[None]))[0]
        apart = np.abs(found.permute(1, 2, 0).numpy() - expected)
        assert apart.mean() < 0.5 and np.quantile(apart, 0.99) < 3

    def test_scores_from_landmarks(self, like_the_command_line: ExpressionEncoder, onnx_encoder: OnnxEncoder) -> None:
        image, eyes = photographs()[1]
        faces = np.stack([warp(image, similarity(places, EYES)) for places in eyes])
        whole = batch(np.stack([image] * 2))
        metric = ExpressionPreservation(align="landmarks", encoder=like_the_command_line)
        metric.update(
            whole,
            whole,
            whole,
            target_landmarks=torch.tensor(eyes[[0, 1]]),
            source_landmarks=torch.tensor(eyes[[2, 3]]),
            swapped_landmarks=torch.tensor(eyes[[4, 5]]),
        )
        expected = scores_of_onnx(onnx_encoder, faces[:2], faces[2:4], faces[4:])
        assert_scores(metric.compute(), expected, 0.01)

    def test_68_points_stand_for_their_eyes(self) -> None:
        image, places = photographs()[0]
        points = np.random.default_rng(0).uniform(0, 500, (68, 2))
        points[36:42] = places[0][0] + np.array([[-3, 1], [-1, -1], [1, -1], [3, 1], [1, 0], [-1, 0]])
        points[42:48] = places[0][1] + np.array([[-3, 1], [-1, -1], [1, -1], [3, 1], [1, 0], [-1, 0]])
        pixels = to_pixels(batch(image[None]))
        by_points = aligned(pixels, "landmarks", torch.tensor(points[None]))
        by_eyes = aligned(pixels, "landmarks", torch.tensor(places[:1]))
        assert (by_points - by_eyes).abs().max() < 1e-2

    def test_the_crop_is_differentiable_in_pixels_and_eyes(self) -> None:
        rng = torch.Generator().manual_seed(0)
        coarse = torch.rand(1, 1, 6, 6, generator=rng, dtype=torch.float64)
        image = nn.functional.interpolate(coarse, size=320, mode="bicubic").requires_grad_()
        eyes = torch.tensor([[[110.3, 130.2], [208.1, 139.7]]], dtype=torch.float64, requires_grad=True)

        def crop(image: Tensor, eyes: Tensor) -> Tensor:
            return aligned(image, "landmarks", eyes)[..., 40:180:35, 40:180:35]

        assert torch.autograd.gradcheck(crop, (image, eyes), fast_mode=True, eps=1e-5, atol=1e-4)

    def test_center_crop_is_the_middle_square(self) -> None:
        pixels = torch.arange(6.0 * 10).reshape(1, 1, 6, 10)
        assert torch.equal(aligned(pixels, "center_crop"), pixels[..., 2:8])
        assert torch.equal(aligned(pixels, "center_crop", fraction=0.67), pixels[..., 1:5, 3:7])

    def test_landmarks_are_taken_where_they_are_asked_for(
        self, metric: ExpressionPreservation, batches: tuple[Tensor, ...]
    ) -> None:
        eyes = torch.zeros(11, 2, 2)
        with pytest.raises(InputError, match="no landmarks"):
            metric.update(*batches, target_landmarks=eyes)
        by_landmarks = ExpressionPreservation(align="landmarks", encoder=metric.encoder)
        with pytest.raises(InputError, match="takes landmarks"):
            by_landmarks.update(*batches)
        with pytest.raises(InputError, match=r"got \(11, 5, 2\)"):
            by_landmarks.update(*batches, target_landmarks=torch.zeros(11, 5, 2), source_landmarks=eyes)
        with pytest.raises(InputError, match="square"):
            metric.update(*(i[..., :200] for i in batches))


class TestKept:
    def test_without_a_source_it_stands_beside_the_anchor_that_needs_none(
        self, metric: ExpressionPreservation, batches: tuple[Tensor, ...]
    ) -> None:
        metric.update(batches[0], None, batches[2])
        assert metric.compute().keys() == {"mean_t2c", "kept", "kept_nothing_swapped"}

    def test_other_crops_than_the_maps_have_none(self, metric: ExpressionPreservation) -> None:
        for align in ("center_crop", "arcface"):
            other = ExpressionPreservation(encoder=metric.encoder, align=align)
            assert other.kept_map is None and not [name for name in other.compute() if name.startswith("kept")]
        assert metric.kept_map is not None and all(v.isnan() for v in metric.compute().values())

    def test_it_is_drawn_as_torchmetrics_draws(
        self, metric: ExpressionPreservation, batches: tuple[Tensor, ...]
    ) -> None:
        pytest.importorskip("matplotlib")
        metric.update(*batches)
        figure, axis = metric.plot()
        assert set(axis.get_legend_handles_labels()[1]) == set(metric.compute())
        lines, _ = metric.plot([metric.compute(), metric.compute()])
        assert figure is not None and lines is not None


class TestArcFaceCrops:
    def test_they_are_warped_to_where_eyes70_has_the_eyes(self, metric: ExpressionPreservation) -> None:
        """A crop whose eyes stand where those of photographs stand on average gives the face of `eyes70`."""
        (image, places), *_ = photographs()
        small = warp(image, similarity(places[0], ARCFACE_EYES), 112)
        wanted = warp(image, similarity(places[0], EYES))
        found = aligned(to_pixels(batch(small[None])), "arcface")[0].permute(1, 2, 0).numpy()
        assert found.shape == (224, 224, 3)
        seen = slice(24, 190)  # what the encoder looks at, but for the lowest rows, which the small crop lacks
        assert np.abs(found[seen, seen] - wanted[seen, seen]).mean() < 4
        assert np.abs(np.roll(found, 3, 1)[seen, seen] - wanted[seen, seen]).mean() > 8
        larger = aligned(to_pixels(batch(cv2.resize(small, (224, 224))[None])), "arcface")[0].permute(1, 2, 0).numpy()
        assert np.abs(larger[seen, seen] - found[seen, seen]).mean() < 2
        with pytest.raises(InputError, match="square arcface crops"):
            aligned(to_pixels(batch(small[None, :, :100])), "arcface")
