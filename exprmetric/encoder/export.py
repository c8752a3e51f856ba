"""Checkpoint → ONNX: the file that every method runs, with its parity proven.

The ONNX keeps the names that the weights have in torch, so that the same file loads into the torch module. Weights are
stored in half precision and widened when the network is loaded: half the bytes in the repository. The torch side of the
parity check has the same rounded weights, so the check is of the export, and the rounding is measured apart.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from exprmetric.choices import CHANNELS, LUMA
from exprmetric.encoder.checkpoint import load_checkpoint
from exprmetric.encoder.models import Encoder
from exprmetric.encoder.necks import BOUNDED
from exprmetric.errors import ExprmetricError, InputError
from exprmetric.weights.manifest import PROBABILITIES

OPSET = 17
METADATA = "exprmetric.encoder"
"""Property of the file that holds, as JSON, what the torch module is built from."""
EMBEDDING = "embedding"
"""The first output's name."""
FEENET = {"margin", "agreement", "held_out", "clear"}
"""Settings by which a checkpoint of the recipe `feenet` is known, whatever its file is called."""
FEENET_THRESHOLD = 0.5
"""Distance of paper 004 within which two faces get the same tag: "works well in practice"."""
PARITY = 1e-4
"""Largest allowed difference between torch and ONNX Runtime in a number of a unit-norm embedding, or a probability."""


@dataclass(frozen=True)
class Export:
    """What `export_encoder` made.

    Attributes:
        parity: largest absolute difference, torch against ONNX Runtime, over unit-norm embeddings and probabilities.
        rounding: the same between half-precision and original weights, both in torch.
        dimension: D. size: input side, px.
    """

    path: Path
    parity: float
    rounding: float
    dimension: int
    size: int
    config: dict[str, Any]


def load_encoder(checkpoint: Path) -> tuple[Encoder, dict[str, Any]]:
    """The encoder of `encoder.pt`, `best.pt` or `last.pt`, in eval mode, and its recipe's settings.

    Raises:
        InputError: the file is none of these.
    """
    try:
        state = load_checkpoint(checkpoint)
        config: dict[str, Any] = state["config"]
        weights = state.get("encoder")
        if weights is None:
            prefix = "encoder."
            weights = {k[len(prefix) :]: v for k, v in state["model"].items() if k.startswith(prefix)}
        encoder = Encoder(**_architecture(config))
        encoder.load_state_dict(weights)
    except Exception as error:  # a foreign file makes torch.load raise whatever it runs into
        raise InputError(f"{checkpoint} is no checkpoint with an encoder: {error}") from error
    return encoder.eval(), config


def _architecture(config: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `Encoder` that make the trained network, from its recipe's settings."""
    return {
        "backbone": config["backbone"],
        "dimension": config.get("dimension", 0),
        "mirror": config.get("mirror", False),
        "neck": config.get("neck", "linear"),
        "classes": config.get("classes", 0),
        **({"channels": CHANNELS[config["color"]]} if config.get("color", LUMA) != LUMA else {}),
    }


def export_encoder(checkpoint: Path, out: Path, *, half: bool = True) -> Export:
    """Write the encoder as ONNX: input `faces` (N, C, S, S) 0..1, output `embedding` (N, D), not normalised.

    An encoder that knows classes has a second output, `probabilities` (N, classes).

    Raises:
        InputError: `checkpoint` holds no encoder.
        ExprmetricError: ONNX Runtime and torch differ by more than PARITY.
    """
    encoder, config = load_encoder(checkpoint)
    size = int(config["size"])
    faces = _probe_faces(size, encoder.channels)
    original = _run_torch(encoder, faces)
    if half:
        for tensor in encoder.state_dict().values():
            if tensor.is_floating_point() and tensor.ndim > 1:
                tensor.copy_(tensor.half().float())
    rounded = _run_torch(encoder, faces)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f"{out.name}.part")  # an earlier export stays until this one is proven
    try:
        _write(encoder, part, {**_architecture(config), "size": size}, half)
        parity = _difference(rounded, _run_onnx(part, faces, list(rounded)))
        if not parity <= PARITY:  # so that NaN is refused too
            raise ExprmetricError(f"ONNX Runtime and torch differ by {parity:.2e} (allowed {PARITY:.0e}): not exported")
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return Export(out, parity, _difference(rounded, original), encoder.dimension, size, config)


def _write(encoder: Encoder, out: Path, settings: dict[str, Any], half: bool) -> None:
    import onnx

    size = settings["size"]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the tracing exporter keeps the weights' names
        torch.onnx.export(
            encoder,
            (torch.zeros(2, encoder.channels, size, size),),
            str(out),
            input_names=["faces"],
            output_names=[EMBEDDING],
            dynamic_axes={"faces": {0: "n"}, EMBEDDING: {0: "n"}},
            opset_version=OPSET,
            dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE,  # batch norm stays apart, under its own names
            do_constant_folding=False,
        )
    model = onnx.load(str(out))
    _name_all(model, encoder)
    if encoder.classes is not None:
        _add_probabilities(model, encoder.classes.out_features)
    if half:
        _store_half(model)
    onnx.helper.set_model_props(model, {METADATA: json.dumps(settings)})
    onnx.checker.check_model(model)
    onnx.save(model, str(out))


def _name_all(model: Any, encoder: nn.Module) -> None:
    """torch.onnx stores equal tensors (two untouched batch norms) once, with an Identity for each other name."""
    from onnx import numpy_helper

    stored = {i.name for i in model.graph.initializer}
    missing = {k: v for k, v in encoder.state_dict().items() if v.is_floating_point() and k not in stored}
    for node in [n for n in model.graph.node if n.op_type == "Identity" and n.output[0] in missing]:
        model.graph.node.remove(node)
    model.graph.initializer.extend(numpy_helper.from_array(v.numpy(), k) for k, v in missing.items())


def _add_probabilities(model: Any, classes: int) -> None:
    """The softmax of the layer of classes, as a second output."""
    from onnx import TensorProto, helper

    inputs = [EMBEDDING, "classes.weight", "classes.bias"]
    model.graph.node.append(helper.make_node("Gemm", inputs, ["logits"], transB=1, name="classes"))
    model.graph.node.append(helper.make_node("Softmax", ["logits"], [PROBABILITIES], axis=1, name=PROBABILITIES))
    model.graph.output.append(helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, ["n", classes]))


def _store_half(model: Any) -> None:
    """Store kernels in half precision, each behind a Cast that ONNX Runtime folds away when it loads the file.

    Vectors (biases, batch statistics) stay: they take no room, and a rounded variance moves every later layer.
    """
    import onnx
    from onnx import helper, numpy_helper

    floats = [i for i in model.graph.initializer if i.data_type == onnx.TensorProto.FLOAT and len(i.dims) > 1]
    widened = {i.name: f"{i.name}:float" for i in floats}
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name in widened:
                node.input[position] = widened[name]
    for tensor in floats:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    casts = [
        helper.make_node("Cast", [n], [w], to=onnx.TensorProto.FLOAT, name=f"widen {n}") for n, w in widened.items()
    ]
    for position, cast in enumerate(casts):
        model.graph.node.insert(position, cast)


def _probe_faces(size: int, channels: int) -> torch.Tensor:
    """Smooth random images, which have the spectrum of photographs rather than of noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(16, channels, 12, 12, generator=generator)
    return nn.functional.interpolate(coarse, size=size, mode="bicubic", align_corners=False).clamp(0, 1)


Outputs = dict[str, np.ndarray[Any, np.dtype[np.float32]]]
"""By name: unit-norm embeddings, and probabilities where there are some."""


@torch.no_grad()
def _run_torch(encoder: Encoder, faces: torch.Tensor) -> Outputs:
    embedding = encoder(faces)
    found = {EMBEDDING: _unit(embedding.numpy())}
    if encoder.classes is not None:
        found[PROBABILITIES] = torch.softmax(encoder.logits(embedding), 1).numpy()
    return found


def _run_onnx(path: Path, faces: torch.Tensor, names: list[str]) -> Outputs:
    from exprmetric.weights.runtime import open_session

    found = dict(zip(names, open_session(str(path)).run(names, {"faces": faces.numpy()}), strict=True))
    return {**found, EMBEDDING: _unit(found[EMBEDDING])}


def _difference(a: Outputs, b: Outputs) -> float:
    """Largest absolute difference of any number; NaN where one is."""
    return float(np.max([np.abs(a[name] - b[name]).max() for name in a]))


def _unit(vectors: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def manifest_entry(made: Export, name: str) -> dict[str, Any]:
    """A manifest entry for an exported encoder; licence and training data are for its trainer to fill in."""
    from exprmetric.io.files import sha256_of

    channels = CHANNELS[made.config.get("color", LUMA)]
    return {
        "name": name,
        "kind": "expression-encoder",
        "file": made.path.name,
        "bytes": made.path.stat().st_size,
        "sha256": sha256_of(made.path),
        "format": "onnx",
        "preprocessing": {
            "template": "eyes70",
            "size": made.size,
            "crop": made.config["crop"],
            "color": "grey" if channels == 1 else "rgb",
            "scale": 1 / 255,
            "mean": [0.0] * channels,
            "std": [1.0] * channels,
            "layout": "nchw",
        },
        "output": "embedding",
        "dimension": made.dimension,
        "normalise": made.config.get("neck") != BOUNDED,
        "distance": "l2",
        **({"tag_threshold": FEENET_THRESHOLD} if made.config.keys() >= FEENET else {}),
        **({"classes": made.config["classes"]} if made.config.get("classes") else {}),
        "licence": "",
        "commercial_use": False,
        "training_data": "",
        "citation": "",
        "notes": "",
    }
