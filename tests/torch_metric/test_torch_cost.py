"""`update` doesn't wait for the device, keeps nothing, and looks at no more pixels than it needs."""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch_faces import triplets

from exprmetric.torch import ExpressionEncoder, ExpressionPreservation
from exprmetric.torch.pixels import rounded, to_bytes, to_pixels

pytestmark = pytest.mark.torch
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "torch_cost.py"


@pytest.fixture(scope="module")
def encoder() -> ExpressionEncoder:
    return ExpressionEncoder(quantise=True)


@pytest.fixture(scope="module")
def batches() -> list[Tensor]:
    return [torch.from_numpy(np.ascontiguousarray(i[:3].transpose(0, 3, 1, 2))) for i in triplets()]


class NoWaiting(TorchDispatchMode):
    """Raises where a value goes to the host: `.item()`, `bool(tensor)`, `nonzero`."""

    forbidden = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in self.forbidden:
            raise AssertionError(f"{name} makes the host wait")
        return func(*args, **(kwargs or {}))


class Colour(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


@pytest.mark.parametrize("kind", ["uint8", "float", "half"])
@pytest.mark.parametrize("align", ["none", "center_crop", "landmarks"])
def test_update_reads_no_value(kind: str, align: str, encoder: ExpressionEncoder, batches: list[Tensor]) -> None:
    metric = ExpressionPreservation(encoder=encoder, align=align, identity=Colour(), intervals=True)
    given = batches if kind == "uint8" else [b.float() / 255 for b in batches]
    given = [b.half() for b in given] if kind == "half" else given
    eyes = torch.tensor([[[76.5, 76.5], [146.5, 76.5]]] * 3)
    points = {"target_landmarks": eyes, "source_landmarks": eyes} if align == "landmarks" else {}
    with NoWaiting():
        metric.update(*given, **points)
        with pytest.raises(AssertionError, match="makes the host wait"):
            int(metric.count)
    assert int(metric.count) == 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_update_does_not_synchronise_a_gpu(batches: list[Tensor]) -> None:
    metric = ExpressionPreservation().to("cuda")
    given = [b.to("cuda") for b in batches]
    metric.update(*given)
    torch.cuda.set_sync_debug_mode("error")
    try:
        metric.update(*given)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert int(metric.count) == 6


@pytest.mark.slow
def test_nothing_is_kept(encoder: ExpressionEncoder, batches: list[Tensor]) -> None:
    def held() -> int:
        gc.collect()
        return sum(o.numel() for o in gc.get_objects() if issubclass(type(o), Tensor))

    metric = ExpressionPreservation(encoder=encoder)
    metric.update(*batches)
    before = held()
    for _ in range(4):
        metric.update(*batches)
    assert held() == before


class TestBytes:
    @pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-2.0, 3.0)])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_every_byte_comes_back(self, value_range: tuple[float, float], dtype: torch.dtype) -> None:
        values = torch.arange(256).repeat(3).reshape(1, 3, 16, 16)
        low, high = value_range
        floats = low + values.to(dtype) * (high - low) / 255
        assert torch.equal(to_bytes(floats, value_range), values.to(dtype))
        assert torch.equal(to_bytes(values.to(torch.uint8)), values.float())

    def test_it_is_clip_and_round(self) -> None:
        images = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0)) * 4 - 2
        assert torch.equal(to_bytes(images, (-1, 1)), rounded(to_pixels(images, (-1, 1)).clamp(0, 255)))

    def test_the_images_given_stay_as_they_are(self) -> None:
        for images in (torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 4, dtype=torch.float64) * 255):
            before = images.clone()
            to_bytes(images, (0, 1))
            to_bytes(images, (0, 255))
            assert torch.equal(images, before)

    def test_a_gradient_passes_but_for_what_was_clipped(self) -> None:
        images = torch.full((1, 3, 1, 2), 0.3)
        images[..., 1] = 1.5
        images.requires_grad_()
        to_bytes(images).sum().backward()
        assert images.grad is not None and images.grad[0, 0, 0].tolist() == [255.0, 0.0]


def test_pixels_that_the_network_does_not_see_change_nothing(encoder: ExpressionEncoder) -> None:
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    noise = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    noise[..., 24:200, 24:200] = images[..., 24:200, 24:200]
    assert torch.equal(encoder.preprocess(images, (0, 1)), encoder.preprocess(noise, (0, 1)))
    inside = images.clone()
    inside[..., 24:26, 24:26] = 1 - inside[..., 24:26, 24:26]
    assert not torch.equal(encoder.preprocess(images, (0, 1)), encoder.preprocess(inside, (0, 1)))


@pytest.mark.slow
def test_the_benchmark_prints_its_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], one_thread: Iterator[None]
) -> None:
    spec = importlib.util.spec_from_file_location("torch_cost", BENCHMARK)
    assert spec is not None and spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    monkeypatch.setattr("sys.argv", ["torch_cost.py", "--quick", "--device", "cpu", "--threads", "1"])
    benchmark.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Measured on ") and "1 thread(s)" in lines[0]
    assert [line.split("|")[2].strip() for line in lines if line.startswith("| 2 |")] == ["uint8", "0..1", "-1..1"]
    with torch.no_grad():
        assert benchmark.SwapUNet((4, 8, 8), 1)(torch.zeros(2, 3, 16, 16), torch.zeros(2, 512)).shape == (2, 3, 16, 16)
