"""Trained networks as methods: a checkpoint of `exprmetric train`, or an ONNX file with its manifest entry beside it.

A checkpoint sees the crop that it was trained on, luma or RGB, cut from the original pixels. It is judged as it will
be once it is exported: by unit-norm vectors and Euclidean distances.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from exprmetric.choices import LUMA
from exprmetric.datasets.alignment import TEMPLATE, face_crop
from exprmetric.errors import InputError, MissingPackageError, WeightsError, WeightsHashError
from exprmetric.faces import Face
from exprmetric.io.files import sha256_of
from exprmetric.methods.base import Method, Vectors
from exprmetric.methods.onnx import OnnxEncoder
from exprmetric.weights import manifest

if TYPE_CHECKING:
    from exprmetric.encoder.models import Encoder

BATCH = 256


class Checkpoint(Method):
    """A trained encoder that was not exported.

    Attributes:
        path: of the file.
        crop: centre part of the 224 px crop that it sees, px.
        size: side that this part is scaled to, px.
        color: `luma` or `rgb`.
        recipe: the settings that it was trained with.
        device: where it runs: `auto`, `cpu`, `cuda`, …
    """

    template = TEMPLATE

    def __init__(self, name: str, path: Path, recipe: dict[str, Any], dimension: int, device: str = "auto") -> None:
        self.name = name
        self.path = path
        self.recipe = recipe
        self.crop, self.size = int(recipe["crop"]), int(recipe["size"])
        self.color = str(recipe.get("color", LUMA))
        self.dimension = dimension
        self.device = device
        self._digest = sha256_of(path)

    @property
    def fingerprint(self) -> str:
        return f"checkpoint:{self._digest}"

    @property
    def _reading(self) -> str:
        return f"{self.color} {self.crop} {self.size}"

    def prepare(self, face: Face) -> None:
        if self._reading not in face.readings:
            if face.image is None:
                raise ValueError("the face let go of its image before a checkpoint's crop was made")
            seen = face_crop(face.image, face.matrix(TEMPLATE), self.crop, self.size, self.color)
            face.readings[self._reading] = seen

    def represent(self, faces: Sequence[Face]) -> Vectors:
        if not faces:
            return np.empty((0, self.dimension), np.float32)
        return self.embed(np.stack([face.readings[self._reading] for face in faces]))

    @cached_property
    def _network(self) -> Encoder:
        import torch

        from exprmetric.encoder.export import load_encoder
        from exprmetric.training.loop import pick_device

        encoder, _ = load_encoder(self.path)
        return encoder.to(pick_device(self.device), memory_format=torch.channels_last)  # type: ignore[no-any-return, call-overload]

    def embed(self, crops: npt.NDArray[np.uint8]) -> Vectors:
        """(N, D) unit-norm vectors of (N, C, S, S) crops; a zero vector stays zero."""
        import torch

        network = self._network
        where = next(network.parameters()).device
        parts = [np.empty((0, self.dimension), np.float32)]
        with torch.inference_mode():
            for start in range(0, len(crops), BATCH):
                pixels = torch.from_numpy(crops[start : start + BATCH]).to(where)
                images = (pixels.float() / 255.0).contiguous(memory_format=torch.channels_last)
                parts.append(torch.nn.functional.normalize(network(images).float(), dim=1).cpu().numpy())
        return np.concatenate(parts)

    def release(self) -> None:
        """Let go of the network; the next call loads it again."""
        vars(self).pop("_network", None)


def open_checkpoint(name: str, path: Path, *, provider: str = "cpu", device: str = "auto") -> Method:
    """A trained network: `encoder.pt`, `best.pt` or `last.pt` of a training, or an exported `.onnx`.

    Args:
        name: '' for the name of a checkpoint's folder, or of an ONNX file's manifest entry.
        provider: that an ONNX file runs on. device: that a checkpoint runs on.

    Raises:
        InputError: it is none. MissingPackageError: torch isn't installed.
        WeightsError: the entry beside an ONNX file is malformed, or its hash is another's.
    """
    if path.suffix.lower() == ".onnx":
        return _exported(name, path, provider)
    try:
        from exprmetric.encoder.export import load_encoder
    except ImportError as error:
        raise MissingPackageError(f"checkpoints need torch: pip install 'exprmetric[torch]' ({error})") from error
    encoder, config = load_encoder(path)
    return Checkpoint(name or path.resolve().parent.name, path, config, encoder.dimension, device)


def _exported(name: str, path: Path, provider: str) -> OnnxEncoder:
    """An ONNX file, by the entry that `exprmetric export --entry` printed; it stands beside it as `.json`."""
    beside = path.with_suffix(".json")
    try:
        document = json.loads(beside.read_bytes())
    except FileNotFoundError as error:
        command = f"exprmetric export CHECKPOINT {path} --entry > {beside}"
        raise InputError(
            f"{path} needs its manifest entry beside it, which says how it sees a face: {command}"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{beside} can't be read as JSON: {error}") from error
    whole = {"schema_version": manifest.SCHEMA_VERSION, "weights": [document]}
    (entry,) = manifest.parse(whole, own=True).values()
    found = sha256_of(path)
    if found != entry.sha256:
        raise WeightsHashError(f"{path} is not what {beside} says: SHA-256 {entry.sha256}, found {found}")
    encoder = OnnxEncoder(entry, provider=provider, path=path)
    encoder.name = name or entry.name
    return encoder
