"""3DDFA_V2's published weights → ONNX, without running what a pickle says.

Both files are pickles. Their SHA-256 is verified before they are opened; then torch reads the one with
`weights_only=True`, and an unpickler that can make NumPy arrays and nothing else reads the other. The network is
MobileNet v1 at half its width (Howard et al. 2017) with 3DDFA_V2's names, which must fit the file to the last one.
"""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from exprmetric.errors import ExprmetricError, WeightsError
from exprmetric.io.files import write_whole
from exprmetric.methods.threedmm import CONVERTED, EXPRESSION, OUTPUT, SIZE, STATS, WEIGHTS, sources
from exprmetric.weights import store as weights
from exprmetric.weights.runtime import open_session

OPSET = 17
PARITY = 1e-4
"""Largest allowed difference between torch and ONNX Runtime, in standard deviations of an expression number."""
PARAMETERS = 62
BLOCKS = (
    ("dw2_1", 64, 1), ("dw2_2", 128, 2), ("dw3_1", 128, 1), ("dw3_2", 256, 2), ("dw4_1", 256, 1), ("dw4_2", 512, 2),
    *((f"dw5_{i}", 512, 1) for i in range(1, 6)), ("dw5_6", 1024, 2), ("dw6", 1024, 1),
)  # fmt: skip
"""Names, output channels at full width and strides of MobileNet v1's separable convolutions."""


class Separable(nn.Module):
    """A convolution of each channel by itself, then one across channels, each with batch norm and ReLU."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
        self.bn_dw = nn.BatchNorm2d(channels)
        self.conv_sep = nn.Conv2d(channels, out, 1, bias=False)
        self.bn_sep = nn.BatchNorm2d(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn_dw(self.conv_dw(x)))
        return torch.relu(self.bn_sep(self.conv_sep(x)))


class MobileNet(nn.Module):
    """(N, 3, 120, 120) standardised BGR → (N, 62) standardised parameters."""

    def __init__(self, width: float = 0.5) -> None:
        super().__init__()
        channels = int(32 * width)
        self.conv1 = nn.Conv2d(3, channels, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        for name, full, stride in BLOCKS:
            self.add_module(name, Separable(channels, int(full * width), stride))
            channels = int(full * width)
        self.fc_param = nn.Linear(channels, PARAMETERS)
        self.fc_lm = nn.Linear(channels, 136)  # landmarks that helped in training; unused, and in the file

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        for name, _, _ in BLOCKS:
            x = self.get_submodule(name)(x)
        parameters: torch.Tensor = self.fc_param(x.mean((2, 3)))
        return parameters


class Expression(nn.Module):
    """The network's expression numbers, their standardisation undone: (N, 3, 120, 120) → (N, 10)."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: MobileNet, mean: npt.NDArray[np.float32], std: npt.NDArray[np.float32]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.from_numpy(mean[EXPRESSION].copy()))
        self.register_buffer("std", torch.from_numpy(std[EXPRESSION].copy()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        standardised: torch.Tensor = self.network(x)[:, EXPRESSION]
        return standardised * self.std + self.mean


@dataclass(frozen=True)
class Conversion:
    """What `convert` made; `parity` is the largest difference, torch against ONNX Runtime, in standard deviations."""

    path: Path
    parity: float


def convert(folder: Path | None = None) -> Conversion:
    """Write `3ddfa-v2.onnx`: input `faces` (N, 3, 120, 120) as the manifest preprocesses, output `expression` (N, 10).

    Args:
        folder: where; by default the weights cache.

    Raises:
        WeightsNotFoundError, WeightsHashError: from the weight store; WeightsError: a file holds something else.
        ExprmetricError: torch and ONNX Runtime differ by more than PARITY, or the folder can't be written.
    """
    model = Expression(load_network(weights.find(WEIGHTS)), *load_stats(weights.find(STATS))).eval()
    content = _export(model)
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(8, 3, 12, 12, generator=generator) * 2 - 1
    faces = nn.functional.interpolate(coarse, size=SIZE, mode="bicubic", align_corners=False)
    (exported,) = open_session(content).run([OUTPUT], {"faces": faces.numpy()})
    with torch.no_grad():
        parity = float(((model(faces) - torch.from_numpy(exported)) / model.std).abs().max())
    if not parity <= PARITY:  # so that NaN is refused too
        raise ExprmetricError(f"ONNX Runtime and torch differ by {parity:.2e} (allowed {PARITY:.0e}): not converted")
    path = (weights.cache_dir() if folder is None else folder) / CONVERTED
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: file.write(content))
    except OSError as error:
        raise ExprmetricError(f"can't write {path}: {error}") from error
    return Conversion(path, parity)


def load_network(path: Path) -> MobileNet:
    """The network of a verified `.pth`. Raises WeightsError when any name or shape doesn't fit."""
    network = MobileNet()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        network.load_state_dict({k.removeprefix("module."): v for k, v in state.items()}, strict=True)
    except Exception as error:  # a foreign file makes torch.load raise whatever it runs into
        raise WeightsError(f"{path} does not hold 3DDFA_V2's network: {error}") from error
    return network.eval()


def load_stats(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """(62,) float32 mean and standard deviation of a verified `.pkl`. Raises WeightsError for anything else."""
    try:
        stats = ArrayUnpickler(io.BytesIO(path.read_bytes())).load()
        mean, std = stats["mean"], stats["std"]
        fits = all(type(a) is np.ndarray and a.shape == (PARAMETERS,) and a.dtype == np.float32 for a in (mean, std))
    except WeightsError:
        raise
    except Exception as error:  # so does a foreign pickle
        raise WeightsError(f"{path} can't be read: {error}") from error
    if not fits or not np.isfinite([mean, std]).all() or (std <= 0).any():
        raise WeightsError(f"{path} does not hold mean and std of {PARAMETERS} numbers")
    return mean, std


class ArrayUnpickler(pickle.Unpickler):
    """Makes NumPy arrays and plain containers; every other name in a pickle is refused."""

    def find_class(self, module: str, name: str) -> Any:
        found = _allowed().get((module, name))
        if found is None:
            raise WeightsError(f"the pickle asks for {module}.{name}, which no array needs: it is not loaded")
        return found


def _allowed() -> dict[tuple[str, str], Callable[..., Any]]:
    rebuild: Callable[..., Any] = np.empty(0).__reduce__()[0]  # type: ignore[assignment]  # where NumPy keeps it now
    return {
        ("numpy.core.multiarray", "_reconstruct"): rebuild,
        ("numpy._core.multiarray", "_reconstruct"): rebuild,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }


def _export(model: nn.Module) -> bytes:
    """The model as ONNX, with the hashes of what it is made of."""
    import onnx

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the tracing exporter needs no further package
        torch.onnx.export(
            model,
            (torch.zeros(2, 3, SIZE, SIZE),),
            buffer,  # type: ignore[arg-type]  # its annotation leaves files out
            input_names=["faces"],
            output_names=[OUTPUT],
            dynamic_axes={"faces": {0: "n"}, OUTPUT: {0: "n"}},
            opset_version=OPSET,
            dynamo=False,
        )
    exported = onnx.load_model_from_string(buffer.getvalue())
    onnx.helper.set_model_props(exported, sources())
    onnx.checker.check_model(exported)
    return bytes(exported.SerializeToString())
