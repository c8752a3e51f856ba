"""Weights that a training begins with: a checkpoint of ours, or what timm or facenet-pytorch saved.

* Of `encoder.pt`, `best.pt` or `last.pt` of a training, and of an ONNX file that `exprmetric export` wrote, the
  backbone is taken, and what stands behind it where it fits.
* Of a timm network's state dict, also `.safetensors`, the backbone is taken, without the classifier.
* Of facenet-pytorch's InceptionResnetV1 (VGGFace2, CASIA) the backbone `inception_resnet_v1` is made. Its last block
  and its layers behind the mean are left out: the paper's network doesn't have them.

For luma the kernels of a network of three colours are summed in its first layer; for RGB those of one that saw luma are
shared among the colours. Files are read
without running what they hold, and every shape is checked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from exprmetric.encoder.checkpoint import load_checkpoint
from exprmetric.encoder.models import Encoder
from exprmetric.errors import InputError

Weights = dict[str, Tensor]
FACENET = "inception_resnet_v1"
FACENET_SPREAD = 0.45
"""What one standard deviation of luma is in the units that facenet-pytorch's network learned in ((x - 127.5) / 128)."""
CLASSIFIERS = ("fc.", "head.", "head_dist.", "classifier.", "last_linear.", "logits.")
"""Beginnings of the names of layers behind timm's mean over the map."""


def begin_with(encoder: Encoder, path: Path, backbone: str) -> None:
    """Give an encoder the weights of a file.

    Args:
        backbone: the encoder's, a key of `exprmetric.encoder.models.BACKBONES`.

    Raises:
        InputError: the file can't be read safely, holds no weights, or those of another network.
    """
    state = _read(path)
    if "config" in state:
        _ours(encoder, path, state, backbone)
        return
    weights = _tensors(path, state)
    if backbone == FACENET and "conv2d_1a.conv.weight" in weights:
        weights = from_facenet(path, weights)
    own = encoder.backbone.state_dict()
    weights = {k: v for k, v in weights.items() if k in own or not k.startswith(CLASSIFIERS)}
    encoder.backbone.load_state_dict(_fitting(path, weights, own, backbone))


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        if path.suffix == ".onnx":
            from exprmetric.encoder.onnx_file import load_encoder

            found, architecture = load_encoder(path)
            return {"config": {"backbone": architecture.backbone}, "encoder": found.state_dict()}
        state = load_checkpoint(path)
    except Exception as error:  # a foreign file makes its reader raise whatever it runs into
        told = " ".join(str(error).split())[:300]
        raise InputError(f"init={path} can't be read as weights alone: {told}") from error
    if not isinstance(state, dict):
        raise InputError(f"init={path} holds no weights by name, but a {type(state).__name__}")
    return state


def _tensors(path: Path, state: dict[str, Any]) -> Weights:
    """The weights in a state dict, which may lie one level down, or have `module.` before each name."""
    for inner in ("state_dict", "model"):
        if isinstance(state.get(inner), dict):
            state = state[inner]
    found = {str(k).removeprefix("module."): v for k, v in state.items() if isinstance(v, Tensor)}
    if not found:
        raise InputError(f"init={path} holds no weights")
    return found


def _ours(encoder: Encoder, path: Path, state: dict[str, Any], backbone: str) -> None:
    """The backbone must be the same; what stands behind it is taken where it fits."""
    trained = state["config"].get("backbone") if isinstance(state["config"], dict) else None
    if trained != backbone:
        raise InputError(f"init={path} is of the backbone {trained!r}, and the one to train is {backbone!r}")
    weights = state.get("encoder")
    if weights is None:
        weights = {k.removeprefix("encoder."): v for k, v in state.get("model", {}).items() if k.startswith("encoder.")}
    own = encoder.state_dict()
    body = {k: v for k, v in own.items() if k.startswith("backbone.")}
    begun = _fitting(path, {k: v for k, v in weights.items() if k in body}, body, backbone)
    behind = {k: v for k, v in weights.items() if k not in body and k in own and own[k].shape == v.shape}
    encoder.load_state_dict({**own, **begun, **behind})


def _fitting(path: Path, weights: Weights, own: Weights, backbone: str) -> Weights:
    """The weights as the network has them; InputError names the first layer that is missing, too many, or misshapen."""
    counted = {k for k in own if k.endswith("num_batches_tracked")}
    missing = [k for k in own if k not in weights and k not in counted]
    foreign = [k for k in weights if k not in own]
    if missing or foreign:
        told = f"there is no {missing[0]!r}" if missing else f"{foreign[0]!r} is not in it"
        raise InputError(f"init={path} doesn't hold the weights of {backbone}: {told}")
    fitting = {}
    for name, value in own.items():
        given = weights.get(name, value)
        if given.ndim == 4 == value.ndim and given.shape[1] == 3 and value.shape[1] == 1:
            given = given.sum(1, keepdim=True)
        elif given.ndim == 4 == value.ndim and given.shape[1] == 1 and value.shape[1] == 3:
            given = given.repeat(1, 3, 1, 1) / 3
        if given.shape != value.shape:
            shapes = f"{list(given.shape)} there and {list(value.shape)} here"
            raise InputError(f"init={path} doesn't hold the weights of {backbone}: {name!r} is {shapes}")
        fitting[name] = given.to(value.dtype)
    return fitting


def from_facenet(path: Path, weights: Weights) -> Weights:
    """facenet-pytorch's names and order of channels → those of `InceptionResNetV1`.

    It puts the maps of a reduction's max pooling behind the others, and ours stand before them as in the paper's
    figures: whatever reads or writes those channels is put in our order.
    """
    out: Weights = {}

    def unit(ours: str, theirs: str, order: Tensor | None = None) -> None:
        """A convolution with its batch norm; `order`: of the channels that it reads."""
        kernels = _of(path, weights, f"{theirs}.conv.weight")
        out[f"{ours}.0.weight"] = kernels if order is None else kernels[:, order]
        for name in ("weight", "bias", "running_mean", "running_var"):
            out[f"{ours}.1.{name}"] = _of(path, weights, f"{theirs}.bn.{name}")

    def branches(ours: str, theirs: str, lengths: tuple[int, ...], order: Tensor | None, first: int = 0) -> None:
        for i, length in enumerate(lengths):
            for j in range(length):
                place = f"{ours}.{i + first}" + (f".{j}" if length > 1 else "")
                unit(place, f"{theirs}.branch{i}" + (f".{j}" if length > 1 else ""), order if j == 0 else None)

    def block(ours: str, theirs: str, lengths: tuple[int, ...], order: Tensor | None) -> None:
        branches(f"{ours}.branches.branches", theirs, lengths, order)
        for name in ("weight", "bias"):
            value = _of(path, weights, f"{theirs}.conv2d.{name}")
            out[f"{ours}.linear.{name}"] = value if order is None else value[order]

    for place, name in ((0, "1a"), (1, "2a"), (2, "2b"), (4, "3b"), (5, "4a"), (6, "4b")):
        unit(f"stem.{place}", f"conv2d_{name}")
    out["stem.0.0.weight"] = out["stem.0.0.weight"] * FACENET_SPREAD
    for i in range(5):
        block(f"a.{i}", f"repeat_1.{i}", (1, 2, 3), None)
    branches("reduction_a.branches", "mixed_6a", (1, 3), None, first=1)
    after_a = torch.cat([torch.arange(640, 896), torch.arange(640)])  # theirs: 384, 256, pooled 256
    for i in range(10):
        block(f"b.{i}", f"repeat_2.{i}", (1, 3), after_a)
    branches("reduction_b.branches", "mixed_7a", (2, 2, 3), after_a, first=1)
    after_b = torch.cat([896 + after_a, torch.arange(896)])  # theirs: 384, 256, 256, pooled 896
    for i in range(5):
        block(f"c.{i}", f"repeat_3.{i}", (1, 3), after_b)
    return out


def _of(path: Path, weights: Weights, name: str) -> Tensor:
    if name not in weights:
        raise InputError(f"init={path} is no InceptionResnetV1 of facenet-pytorch: there is no {name!r}")
    return weights[name]
