"""Inception-ResNet-v1: the paper's figures, and that it does all that a backbone of timm's does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from exprmetric.encoder import inception_resnet_v1 as module
from exprmetric.encoder.checkpoint import save_checkpoint
from exprmetric.encoder.inception_resnet_v1 import MINIMUM, InceptionResNetV1, Residual
from exprmetric.encoder.models import Encoder
from exprmetric.errors import InputError
from exprmetric.training.recipes.common import RecipeConfig

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def network() -> InceptionResNetV1:
    torch.manual_seed(0)
    return InceptionResNetV1().eval()


@torch.no_grad()
def test_maps_have_the_sizes_of_figure_15(network: InceptionResNetV1):
    maps = [torch.rand(1, 3, 299, 299)]
    for part in (network.stem, network.a, network.reduction_a, network.b, network.reduction_b, network.c):
        maps.append(part(maps[-1]))
    sizes = [(256, 35), (256, 35), (896, 17), (896, 17), (1792, 8), (1792, 8)]
    assert [tuple(m.shape) for m in maps[1:]] == [(1, c, s, s) for c, s in sizes]
    torch.testing.assert_close(network.forward_features(maps[0]), maps[-1])
    torch.testing.assert_close(network(maps[0]), maps[-1].mean((2, 3)))


def test_weights_are_as_many_as_the_figures_give(network: InceptionResNetV1):
    """Kernels by hand: (kernel's area, channels in, channels out), each with a batch norm's two vectors."""
    stem = [(9, 3, 32), (9, 32, 32), (9, 32, 64), (1, 64, 80), (9, 80, 192), (9, 192, 256)]
    a = [(1, 256, 32)] * 3 + [(9, 32, 32)] * 3
    b = [(1, 896, 128)] * 2 + [(7, 128, 128)] * 2
    c = [(1, 1792, 192)] * 2 + [(3, 192, 192)] * 2
    first = [(9, 256, 384), (1, 256, 192), (9, 192, 192), (9, 192, 256)]
    second = [(1, 896, 256)] * 3 + [(9, 256, 384)] + [(9, 256, 256)] * 3
    normed = stem + 5 * a + first + 10 * b + second + 5 * c
    back = 5 * [(96, 256)] + 10 * [(256, 896)] + 5 * [(384, 1792)]  # 1 x 1, with a bias and no batch norm
    expected = sum(k * i * o + 2 * o for k, i, o in normed) + sum(i * o + o for i, o in back)
    assert sum(p.numel() for p in network.parameters()) == expected == 20_963_328
    blocks = [m for m in network.modules() if isinstance(m, Residual)]
    assert [m.scale for m in blocks] == [0.17] * 5 + [0.10] * 10 + [0.20] * 5


@torch.no_grad()
def test_a_block_adds_its_scaled_branches_and_cuts_at_zero():
    torch.manual_seed(0)
    one, two = nn.Conv2d(4, 3, 1), nn.Conv2d(4, 2, 3, padding=1)
    block = Residual(4, 5, 0.17, one, two)
    x = torch.randn(2, 4, 5, 5)
    added = nn.functional.conv2d(torch.cat([one(x), two(x)], 1), block.linear.weight, block.linear.bias)
    out = block(x)
    torch.testing.assert_close(out, (x + 0.17 * added).clamp(min=0))
    assert (out == 0).any() and (out > 0).any()
    for name, width in (("block_a", 256), ("block_b", 896), ("block_c", 1792)):
        real = getattr(module, name)().eval()
        real.linear.weight.zero_(), real.linear.bias.zero_()
        x = torch.randn(1, width, 3, 3)
        torch.testing.assert_close(real(x), x.clamp(min=0))  # no batch norm after the sum


@pytest.mark.parametrize(("size", "side"), [(75, 1), (96, 1), (106, 1), (107, 2), (138, 2), (139, 3), (160, 3)])
def test_small_images_work_down_to_the_minimum(network: InceptionResNetV1, size: int, side: int):
    with torch.no_grad():
        assert network.forward_features(torch.rand(1, 3, size, size)).shape == (1, 1792, side, side)
    assert size >= MINIMUM == 75


def test_smaller_images_are_refused_with_the_minimum(network: InceptionResNetV1):
    with pytest.raises(InputError, match=r"at least 75 x 75 px, got 74 x 96"):
        network(torch.rand(1, 3, 74, 96))


def test_the_encoder_takes_it_like_any_backbone_and_all_of_it_learns():
    config = RecipeConfig(backbone="inception_resnet_v1", dimension=8, neck="four_convolutions", size=96)
    torch.manual_seed(0)
    encoder = config.encoder().train()
    encoder(torch.rand(4, 1, 96, 96)).square().sum().backward()
    assert encoder.features == 1792 and next(encoder.backbone.parameters()).shape == (32, 1, 3, 3)
    idle = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not idle
    plain = Encoder("inception_resnet_v1").eval()
    with torch.no_grad():
        assert plain(torch.rand(2, 1, 80, 80)).shape == (2, 1792)


@pytest.mark.slow
@pytest.mark.parametrize(("neck", "dimension"), [("linear", 0), ("four_convolutions", 8)])
def test_it_is_exported_and_comes_back_into_torch(neck: str, dimension: int, tmp_path: Path):
    pytest.importorskip("onnx")
    from exprmetric.encoder.export import PARITY, export_encoder
    from exprmetric.encoder.onnx_file import load_encoder

    torch.manual_seed(0)
    encoder = Encoder("inception_resnet_v1", dimension=dimension, neck=neck)
    faces = torch.rand(4, 1, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        encoder.train()(faces)  # batch statistics that are not a new network's
    config = {"backbone": "inception_resnet_v1", "neck": neck, "dimension": dimension, "size": 96, "crop": 224}
    save_checkpoint(tmp_path / "encoder.pt", {"encoder": encoder.state_dict(), "config": config})
    made = export_encoder(tmp_path / "encoder.pt", tmp_path / "out.onnx", half=False)
    assert made.parity < PARITY and made.dimension == (dimension or 1792)
    again, architecture = load_encoder(made.path)
    assert (architecture.backbone, architecture.neck) == ("inception_resnet_v1", neck)
    with torch.no_grad():
        np.testing.assert_array_equal(again(faces).numpy(), encoder.eval()(faces).numpy())
