"""dlib's face recognition network, read from dlib's own file and made into an ONNX model; dlib itself isn't needed.

The architecture is the one that dlib documents in `dnn_face_recognition_ex.cpp` (`anet_type`): a convolution, a max
pool, 14 residual blocks of two convolutions, the mean over what is left of the image, 128 numbers of it.

The file is what dlib's `serialize` writes. An integer is a byte that counts the bytes which follow (its high bit is
the sign), then these, little-endian; a float is two integers, mantissa and exponent; a string is its length and its
bytes; a bool is the character 0 or 1; a tensor is the integer 2, four sizes, and its float32s, little-endian. First
come the version numbers of all layers, the last layer first, as each contains the ones before it; then what the layers
hold, in the order in which they compute.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.errors import WeightsError

Floats = npt.NDArray[np.float32]

SIDE = 150
DIMENSION = 128
BLOCKS = (*[(32, 1)] * 3, (64, 2), *[(64, 1)] * 3, (128, 2), *[(128, 1)] * 2, (256, 2), *[(256, 1)] * 2, (256, 2))
"""(filters, stride of the first convolution) of each residual block."""

MEAN = (122.782, 117.001, 104.298)
"""What dlib subtracts from red, green and blue, before it divides by 256."""

_LOSS = (10737418, -28, 10066330, -24)  # margin 0.04 and threshold 0.6, which matter in training alone
_RATES = (16, -4, 16, -4, 16, -4, 0, 11)  # so do the learning rates and weight decays: 1, 1, 1, 0


@dataclass(frozen=True)
class Convolution:
    """`kernels` (filters, channels, side, side) and `bias` (filters,), the affine layer behind it folded in."""

    kernels: Floats
    bias: Floats
    stride: int

    @property
    def padding(self) -> int:
        """Zeros on each side, px."""
        return _padding(self.kernels.shape[2], self.stride)


@dataclass(frozen=True)
class Resnet:
    """The convolutions in order, two a block after the first; `projection` (256, 128), without a bias."""

    convolutions: tuple[Convolution, ...]
    projection: Floats


def _padding(side: int, stride: int) -> int:
    """dlib pads where a convolution keeps the size of the image, and nowhere else."""
    return 0 if stride > 1 else side // 2


class _Reader:
    """Goes through the bytes once and takes what must be there, or raises WeightsError."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:  # never negative: texts and tensors are of known lengths
            raise WeightsError(f"dlib's network ends after {len(self.data)} bytes, in the middle of what it holds")
        self.at += count
        return self.data[self.at - count : self.at]

    def integer(self) -> int:
        control = self.take(1)[0]
        if control & 0x70 or not 1 <= control & 0x0F <= 8:
            raise WeightsError(f"dlib's network: no integer begins with {control:#04x}, as at byte {self.at - 1}")
        value = int.from_bytes(self.take(control & 0x0F), "little")
        return -value if control & 0x80 else value

    def expect(self, *wanted: int | str) -> None:
        for value in wanted:
            start, found = self.at, self.text(len(value)) if isinstance(value, str) else self.integer()
            if found != value:
                raise WeightsError(f"dlib's network: expected {value!r} at byte {start}, found {found!r}")

    def text(self, length: int) -> str:
        self.expect(length)
        return self.take(length).decode("latin-1")

    def tensor(self, *shape: int) -> Floats:
        self.expect(2, *shape)
        return np.frombuffer(self.take(4 * math.prod(shape)), "<f4").reshape(shape)

    def end_of_layer(self) -> None:
        flags = self.take(3)
        if flags.strip(b"01"):
            raise WeightsError(f"dlib's network: expected three of 0 and 1 before byte {self.at}, found {flags!r}")
        for _ in range(3):  # gradients and outputs, which a network that was cleaned doesn't hold
            self.tensor(0, 0, 0, 0)

    def layer(self, *content: int | str) -> None:
        self.expect(*content)
        self.end_of_layer()

    def convolution(self, channels: int, filters: int, side: int, stride: int, *behind: int) -> Convolution:
        """A convolution, the integers `behind` it and its affine layer."""
        self.expect("con_4")
        weights = self.tensor(filters * (channels * side * side + 1), 1, 1, 1).ravel()
        self.expect(filters, side, side, stride, stride, *[_padding(side, stride)] * 2)
        self.expect(1, filters, channels, side, side, 1, 1, filters, 1, 1)  # of the weights: kernels, then biases
        self.layer(*_RATES)
        self.expect(*behind)
        self.expect("affine_")
        gamma, beta = self.tensor(2 * filters, 1, 1, 1).reshape(2, filters)
        self.layer(1, 1, filters, 1, 1, 1, 1, filters, 1, 1, 0)
        kernels = weights[:-filters].reshape(filters, channels, side, side)
        return Convolution(kernels * gamma[:, None, None, None], weights[-filters:] * gamma + beta, stride)


def _versions() -> list[int]:
    """2 of a layer, 1 of a tag or of a skip to a tag, 3 of the layer that holds the input."""
    same = [2, 2, 2, 2, 2, 2, 2, 1]  # ReLU, sum, affine, convolution, ReLU, affine, convolution; tag
    down = [2, 2, 2, 1, 1, 2, 2, 2, 2, 2, 1]  # the same with a mean pool, and a skip and a tag, behind the sum
    blocks = [version for _, stride in reversed(BLOCKS) for version in (same if stride == 1 else down)]
    return [2, 2, *blocks, 2, 2, 2, 3]


def parse(data: bytes) -> Resnet:
    """The tensors of `dlib_face_recognition_resnet_model_v1.dat`.

    Raises:
        WeightsError: anything about the file is not as it is there.
    """
    file = _Reader(data)
    file.expect(1, "loss_metric_2", *_LOSS, *_versions(), "input_rgb_image_sized")
    file.expect(*(part for mean in MEAN for part in (round(mean * 2**17), -17)), SIDE, SIDE)
    convolutions = [file.convolution(3, 32, 7, 2, 1)]  # 1: an image is one sample, as the layer at the input notes
    file.layer("relu_")
    file.layer("max_pool_2", 3, 3, 2, 2, 0, 0)
    channels = 32
    for filters, stride in BLOCKS:
        convolutions.append(file.convolution(channels, filters, 3, stride))
        file.layer("relu_")
        convolutions.append(file.convolution(filters, filters, 3, 1))
        if stride > 1:
            file.layer("avg_pool_2", 2, 2, 2, 2, 0, 0)
        file.layer("add_prev_")
        file.layer("relu_")
        channels = filters
    file.layer("avg_pool_2", 0, 0, 1, 1, 0, 0)
    file.expect("fc_2", DIMENSION, channels)
    projection = file.tensor(channels, DIMENSION, 1, 1).reshape(channels, DIMENSION)
    file.layer(1, channels, DIMENSION, 1, 1, 1, 0, 0, 0, 0, 1, *_RATES)
    if file.at != len(data):
        raise WeightsError(f"dlib's network: {len(data) - file.at} bytes follow its last layer")
    return Resnet(tuple(convolutions), projection)


class _Graph:
    """ONNX nodes and constants under numbered names."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, values: npt.NDArray[Any]) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(values, f"c{len(self.constants)}"))
        return str(self.constants[-1].name)

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [f"{kind}{len(self.nodes)}"], **attributes))
        return str(self.nodes[-1].output[0])

    def convolution(self, x: str, c: Convolution) -> str:
        kernels, bias = self.constant(c.kernels), self.constant(c.bias)
        return self.node("Conv", x, kernels, bias, strides=[c.stride] * 2, pads=[c.padding] * 4)

    def pad(self, x: str, channels: int, pixels: int) -> str:
        """Zeros behind the channels, at the right and at the bottom."""
        if not channels and not pixels:
            return x
        return self.node("Pad", x, self.constant(np.array([0, 0, 0, 0, 0, channels, pixels, pixels], np.int64)))


def to_onnx(network: Resnet) -> bytes:
    """An ONNX model: `chips` (N, 150, 150, 3) uint8 RGB → `descriptors` (N, 128) float32."""
    from onnx import TensorProto, helper

    first, *rest = network.convolutions
    graph = _Graph()
    x = graph.node("Cast", "chips", to=TensorProto.FLOAT)
    x = graph.node("Sub", x, graph.constant(np.array(MEAN, np.float32)))
    x = graph.node("Mul", x, graph.constant(np.array([1 / 256], np.float32)))
    x = graph.node("Transpose", x, perm=[0, 3, 1, 2])
    x = graph.node("Relu", graph.convolution(x, first))
    x = graph.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
    size, channels = ((SIDE - 7) // 2 + 1 - 3) // 2 + 1, len(first.bias)
    for one, two in zip(rest[::2], rest[1::2], strict=True):
        y = graph.convolution(graph.node("Relu", graph.convolution(x, one)), two)
        if one.stride > 1:  # the two ways differ in size then; to dlib's sum, what is missing is zero
            x = graph.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
            x = graph.pad(x, len(two.bias) - channels, 0)
            y = graph.pad(y, 0, size // 2 - ((size - 3) // 2 + 1))
            size, channels = size // 2, len(two.bias)
        x = graph.node("Relu", graph.node("Add", y, x))
    # a convolution, not a matrix product: that one rounds differently when the batch is of another size
    projection = Convolution(np.ascontiguousarray(network.projection.T)[..., None, None], np.zeros(DIMENSION, "<f4"), 1)
    x = graph.convolution(graph.node("GlobalAveragePool", x), projection)
    graph.nodes.append(helper.make_node("Flatten", [x], ["descriptors"]))
    chips = helper.make_tensor_value_info("chips", TensorProto.UINT8, ["N", SIDE, SIDE, 3])
    descriptors = helper.make_tensor_value_info("descriptors", TensorProto.FLOAT, ["N", DIMENSION])
    made = helper.make_graph(graph.nodes, "dlib-resnet", [chips], [descriptors], graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
