"""The fast backward pass of depthwise layers against autograd's own."""

from __future__ import annotations

import pytest
import torch

from exprmetric.encoder.depthwise import DepthwiseConv2d, _Depthwise, use_fast_depthwise

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("side", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(12, 12), (13, 9), (3, 5)])
def test_gradients_are_those_of_the_plain_convolution(side, stride, size):
    images = torch.randn(2, 4, *size, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(4, 1, side, side, dtype=torch.float64, requires_grad=True)
    plain = torch.nn.functional.conv2d(images, kernel, None, stride, side // 2, 1, 4)
    fast = _Depthwise.apply(images, kernel, stride)
    assert torch.equal(fast, plain)
    towards = torch.randn_like(plain)
    for mine, reference in zip(
        torch.autograd.grad(fast, (images, kernel), towards),
        torch.autograd.grad(plain, (images, kernel), towards),
        strict=True,
    ):
        torch.testing.assert_close(mine, reference, rtol=1e-10, atol=1e-10)


def test_only_depthwise_layers_without_surprises_are_turned():
    network = torch.nn.Sequential(
        torch.nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False),
        torch.nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False),
        torch.nn.Conv2d(4, 4, 3, padding=1, groups=4),
        torch.nn.Conv2d(4, 4, 3, groups=4, bias=False),
        torch.nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False, dilation=2),
    )
    names = list(network.state_dict())
    use_fast_depthwise(network)
    assert [type(layer) is DepthwiseConv2d for layer in network] == [True, False, False, False, False]
    assert list(network.state_dict()) == names


def test_under_autocast_a_training_step_is_the_same_up_to_bfloat16():
    torch.manual_seed(0)
    images = torch.randn(8, 16, 14, 14)
    layer = torch.nn.Conv2d(16, 16, 5, stride=2, padding=2, groups=16, bias=False)
    reference = layer(images)
    reference.square().sum().backward()
    expected = layer.weight.grad.clone()
    layer.weight.grad = None
    use_fast_depthwise(torch.nn.Sequential(layer))
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(images)
    assert out.dtype == torch.bfloat16
    out.float().square().sum().backward()
    assert layer.weight.grad.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(layer.weight.grad.flatten(), expected.flatten(), dim=0) > 0.999
