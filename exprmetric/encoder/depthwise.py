"""Depthwise convolution whose backward pass is fast on a CPU in bfloat16.

oneDNN has fast bfloat16 kernels for the forward pass and for 3 x 3 gradients at stride 1; the gradient of a strided
depthwise layer, and the weight gradient of a 5 x 5 one, fall back to reference code that is 10 to 50 times slower and
takes two thirds of an EfficientNet's training step. Both can be written with the fast kernels; the result is the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _Depthwise(torch.autograd.Function):
    """y = x * w for (B, C, H, W) and (C, 1, k, k), odd k, zero padding k // 2."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, kernel: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(images, kernel)
        ctx.stride = stride
        return F.conv2d(images, kernel, None, stride, kernel.shape[-1] // 2, 1, len(kernel))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        images, kernel = ctx.saved_tensors
        gradient = _unstride(gradients[0], images, ctx.stride)
        to_images = to_kernel = None
        if ctx.needs_input_grad[0]:
            to_images = F.conv2d(gradient, kernel.flip(2, 3), None, 1, kernel.shape[-1] // 2, 1, len(kernel))
        if ctx.needs_input_grad[1]:
            to_kernel = _kernel_gradient(images, gradient, kernel)
        return to_images, to_kernel, None


def _unstride(gradient: Tensor, images: Tensor, stride: int) -> Tensor:
    """The gradient of the stride-1 layer of which the strided one keeps every `stride`-th pixel."""
    if stride == 1:
        return gradient
    full = torch.zeros_like(images, memory_format=torch.channels_last)
    full[:, :, ::stride, ::stride] = gradient
    return full


def _kernel_gradient(images: Tensor, gradient: Tensor, kernel: Tensor) -> Tensor:
    """d loss / d kernel, of a 5 x 5 kernel in four overlapping blocks of 3 x 3."""
    side = kernel.shape[-1]
    padded = F.pad(images, (side // 2,) * 4).contiguous(memory_format=torch.channels_last)
    out = torch.empty_like(kernel)
    height, width = gradient.shape[2:]
    offsets = sorted({*range(0, side - 2, 3), side - 3})
    for top in offsets:
        for left in offsets:
            part = padded[:, :, top : top + height + 2, left : left + width + 2]
            block = out[:, :, top : top + 3, left : left + 3]
            block.copy_(_three_by_three(part.contiguous(memory_format=torch.channels_last), gradient, block))
    return out


def _three_by_three(images: Tensor, gradient: Tensor, block: Tensor) -> Tensor:
    shape = torch.empty(block.shape, dtype=block.dtype)
    grads = torch.ops.aten.convolution_backward(
        gradient, images, shape, None, [1, 1], [0, 0], [1, 1], False, [0, 0], len(block), [False, True, False]
    )
    return grads[1]  # type: ignore[no-any-return]


class DepthwiseConv2d(nn.Conv2d):
    """`nn.Conv2d` with the fast backward pass where it pays: on a CPU, under bfloat16 autocast."""

    def forward(self, input: Tensor) -> Tensor:
        if not (torch.is_grad_enabled() and input.device.type == "cpu" and torch.is_autocast_enabled("cpu")):
            return super().forward(input)
        out: Tensor = _Depthwise.apply(  # type: ignore[no-untyped-call]
            input.bfloat16(), self.weight.bfloat16(), self.stride[0]
        )
        return out


def use_fast_depthwise(network: nn.Module) -> None:
    """Turn depthwise layers of a network (square odd kernel, "same" zero padding, no bias) into `DepthwiseConv2d`."""
    for layer in network.modules():
        if type(layer) is nn.Conv2d and _fits(layer):
            layer.__class__ = DepthwiseConv2d


def _fits(layer: nn.Conv2d) -> bool:
    side = layer.kernel_size[0]
    return (
        1 < layer.groups == layer.in_channels == layer.out_channels
        and layer.kernel_size == (side, side)
        and side >= 3
        and side % 2 == 1
        and layer.padding == (side // 2, side // 2)
        and layer.stride[0] == layer.stride[1]
        and layer.dilation == (1, 1)
        and layer.bias is None
    )
