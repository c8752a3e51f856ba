"""An exported encoder read back into torch: the architecture in its metadata, and its weights by their names."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from exprmetric.choices import CHANNELS
from exprmetric.encoder.export import METADATA
from exprmetric.encoder.models import BACKBONES, Encoder
from exprmetric.encoder.necks import NECKS
from exprmetric.errors import WeightsError
from exprmetric.weights import fields as check
from exprmetric.weights.fields import Fields
from exprmetric.weights.onnx_file import read_model


@dataclass(frozen=True)
class Architecture:
    """What the weights in an ONNX file are weights of: the arguments of `Encoder`, and the input's side in px."""

    backbone: str
    dimension: int
    mirror: bool
    size: int
    neck: str = "linear"
    classes: int = 0
    channels: int = 1


def _architecture(model: Any, path: Path) -> Architecture:
    stored = {p.key: p.value for p in model.metadata_props}
    if METADATA not in stored:
        raise WeightsError(
            f"{path} doesn't say which network its weights belong to: its metadata has no {METADATA!r}. Give an "
            "Architecture(backbone, dimension, mirror, size), or export the encoder again"
        )
    try:
        document = json.loads(stored[METADATA])
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: its metadata {METADATA!r} is no JSON: {error}") from error
    fields = Fields(document, f"{path}: {METADATA}")
    found = Architecture(
        backbone=fields.take("backbone", check.one_of(tuple(BACKBONES))),
        dimension=fields.take("dimension", check.integer),
        mirror=fields.take("mirror", check.flag),
        size=fields.take("size", check.positive),
        neck=fields.take("neck", check.one_of(tuple(NECKS)), "linear"),
        classes=fields.take("classes", check.integer, 0),
        channels=fields.take("channels", check.integer, 1),
    )
    fields.done()
    if found.channels not in CHANNELS.values():
        fields.refuse("channels", f"must be 1 or 3, got {found.channels}")
    for name in ("dimension", "classes"):
        if (value := getattr(found, name)) < 0:
            fields.refuse(name, f"must be 0 or more, got {value}")
    return found


def load_encoder(path: Path, architecture: Architecture | None = None) -> tuple[Encoder, Architecture]:
    """The torch network with the weights of an ONNX file, in eval mode and with no gradients for its weights.

    Args:
        path: the file, its hash checked by the caller.
        architecture: of a file that doesn't name its own.

    Raises:
        WeightsError: the file is no ONNX, names no architecture, or its weights don't fit it.
    """
    from onnx import numpy_helper

    model = read_model(path)
    architecture = architecture or _architecture(model, path)
    how = {k: v for k, v in asdict(architecture).items() if k != "size"}
    encoder = Encoder(**how)
    own = encoder.state_dict()
    stored = {i.name: i for i in model.graph.initializer}
    wanted = [name for name, tensor in own.items() if tensor.is_floating_point()]
    missing = [name for name in wanted if name not in stored]
    # what the exporter adds is not named as a torch module names things
    foreign = [name for name in stored if name not in own and name.startswith(("backbone.", "embedding.", "classes."))]
    if missing or foreign:
        told = f"no {missing[0]!r}" if missing else f"a {foreign[0]!r} that it doesn't have"
        raise WeightsError(f"{path} holds other weights than those of {architecture}: {told}")
    for name in wanted:
        if tuple(stored[name].dims) != tuple(own[name].shape):
            raise WeightsError(
                f"{path}: {name} is {list(stored[name].dims)} there and {list(own[name].shape)} in {architecture}"
            )
        try:
            own[name] = torch.from_numpy(numpy_helper.to_array(stored[name]).astype("float32"))
        except Exception as error:  # external data, an unknown type: onnx raises several kinds
            raise WeightsError(f"{path}: the weights {name} can't be read: {error}") from error
    encoder.load_state_dict(own)
    return encoder.eval().requires_grad_(False), architecture
