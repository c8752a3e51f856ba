"""`ExpressionEncoder`: the expression encoder in torch, out of the very ONNX file that the command line runs.

The file's initialisers have the names that the weights have in torch, so it is the one source of truth; what they are
weights of (the architecture) stands in its metadata. Preprocessing comes from the manifest entry, as for ONNX Runtime.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exprmetric.encoder.models import Encoder
from exprmetric.encoder.onnx_file import Architecture, load_encoder
from exprmetric.errors import InputError, WeightsError, WeightsHashError
from exprmetric.faces.alignment import CROP_SIZE
from exprmetric.io.files import sha256_of
from exprmetric.torch.frozen import Frozen
from exprmetric.torch.functional import widened
from exprmetric.torch.pixels import luma, resample, rounded, to_bytes, to_pixels
from exprmetric.weights import store as weights
from exprmetric.weights.manifest import PROBABILITIES
from exprmetric.weights.store import Preprocessing, WeightsEntry

EMBEDDING = "embedding"
"""The layer that every encoder ends with; others are named as torch names the submodules."""
PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)


def _fitting(entry: WeightsEntry, size: int, channels: int) -> Preprocessing:
    how = entry.preprocessing
    if entry.format != "onnx" or how is None:
        raise WeightsError(f"{entry.name}: only an ONNX encoder with preprocessing can be loaded into torch")
    color = "grey" if channels == 1 else "rgb"
    if (how.template, how.color, len(how.mean), how.layout, how.size) != ("eyes70", color, channels, "nchw", size):
        raise WeightsError(f"{entry.name}: its preprocessing is not that of an exprmetric encoder of {size} px: {how}")
    if how.crop is not None and how.crop > CROP_SIZE:
        raise WeightsError(f"{entry.name}: the manifest entry crops {how.crop} px out of a face of {CROP_SIZE} px")
    return how


class ExpressionEncoder(Frozen):
    """(B, 3, S, S) aligned RGB faces → (B, D) float32 embeddings, of unit norm where the manifest entry says so.

    Differentiable in the images; its weights are frozen (see `Frozen`).

    Args:
        name: of a manifest entry of the kind expression-encoder, or an entry of your own.
        path: the file, where it is not to be found by the entry's name; it must have the entry's hash.
        architecture: of a file whose metadata doesn't name one.
        quantise: round pixels, luma and the resized face to 8 bits, as the command line does: scores are then the
            command line's. Gradients pass as if nothing had been rounded.
        precision: torch.float32, or what the network's convolutions run in: torch.bfloat16, torch.float16. An autocast
            region around the call changes nothing.

    Raises:
        UnknownWeightsError, WeightsNotFoundError, WeightsHashError.
        WeightsError: file, entry and architecture don't fit.
        InputError: another precision.
    """

    def __init__(
        self,
        name: str | WeightsEntry = "default",
        *,
        path: Path | None = None,
        architecture: Architecture | None = None,
        quantise: bool = False,
        precision: torch.dtype = torch.float32,
    ) -> None:
        if precision not in PRECISIONS:
            raise InputError(f"precision must be one of {', '.join(map(str, PRECISIONS))}, got {precision}")
        entry = weights.entry(name) if isinstance(name, str) else name
        if path is not None and (found := sha256_of(path)) != entry.sha256:
            raise WeightsHashError(f"{path} is not {entry.name}: expected SHA-256 {entry.sha256}, found {found}")
        network, self_described = load_encoder(path or weights.find(entry), architecture)
        super().__init__(network.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
        self.architecture = self_described
        self.entry = entry
        self.how = _fitting(entry, self_described.size, self_described.channels)
        self.unit = entry.normalise
        self.distance_name = entry.distance or "l2"
        self.dimension: int = network.dimension
        self.output = entry.output
        if self.output == PROBABILITIES:
            if network.classes is None:
                raise WeightsError(f"{entry.name}: the file has no layer for the probabilities that its entry names")
            self.dimension = network.classes.out_features
        self.quantise = quantise
        self.precision = precision
        self.fingerprint = f"{entry.name}:{entry.sha256[:16]}/torch"

    def extra_repr(self) -> str:
        return f"{self.fingerprint}, {self.architecture}, quantise={self.quantise}, precision={self.precision}"

    def forward(self, images: Tensor, value_range: tuple[float, float] = (0.0, 1.0)) -> Tensor:
        """(B, 3, S, S) uint8, or floats in `value_range`: `eyes70` crops of any side S → (B, D)."""
        return self.represent(self.preprocess(images, value_range))

    def embed(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) RGB in 0..255 → (B, D)."""
        return self.forward(pixels, (0.0, 255.0))

    def represent(self, faces: Tensor) -> Tensor:
        """(B, C, size, size), as `preprocess` makes them → (B, D)."""
        vectors = widened(self._run(faces))
        if self.output == PROBABILITIES:
            return torch.softmax(cast(Encoder, self.network).logits(vectors), 1)
        return F.normalize(vectors, dim=1, eps=1e-12) if self.unit else vectors

    def features(
        self, images: Tensor, layers: Iterable[str], value_range: tuple[float, float] = (0.0, 255.0)
    ) -> dict[str, Tensor]:
        """Outputs of inner layers by name, and the embedding: of the face itself, also where the network mirrors it."""
        found: dict[str, Tensor] = {}
        handles = [self._watch(name, found) for name in layers if name != EMBEDDING]
        try:
            vectors = self.forward(images, value_range)
        finally:
            for handle in handles:
                handle.remove()
        found[EMBEDDING] = vectors
        return found

    def _watch(self, name: str, found: dict[str, Tensor]) -> Any:
        def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            found.setdefault(name, output)  # the mirrored face comes second

        return self.layer(name).register_forward_hook(keep)

    def layer(self, name: str) -> nn.Module:
        """A submodule by its name, such as `backbone.second.9`. Raises InputError for a name that is none."""
        try:
            return self.network.get_submodule(name)
        except AttributeError:
            stages = [n for n, _ in self.network.named_modules() if n.count(".") == 1]
            raise InputError(f"the encoder has no layer {name!r}; known: {EMBEDDING}, {', '.join(stages)}, …") from None

    def _run(self, faces: Tensor) -> Tensor:
        half = self.precision != torch.float32
        dtype = self.precision if half else torch.bfloat16  # a disabled autocast still checks its type
        with torch.autocast(faces.device.type, dtype=dtype, enabled=half):
            faces = faces.to(next(self.network.parameters()).dtype, memory_format=torch.channels_last)
            out: Tensor = self.network(faces)
        return out

    def preprocess(self, images: Tensor, value_range: tuple[float, float] = (0.0, 255.0)) -> Tensor:
        """(B, 3, S, S) uint8, or floats in `value_range` → (B, C, size, size) faces, as ONNX Runtime is fed.

        See `exprmetric.methods.onnx.preprocess`. Only the part of the crop that the network sees is worked on.
        """
        side = images.shape[-1]
        kept = side * (self.how.crop or CROP_SIZE) / CROP_SIZE
        low = (side - kept) / 2
        if images.shape[-2] == side:  # of others, resample tells
            first, last = max(math.floor(low) - 1, 0), min(math.ceil(low + kept) + 1, side)  # 1 px: to interpolate
            images, low = images[..., first:last, first:last], low - first
        seen = to_bytes(images, value_range) if self.quantise else to_pixels(images, value_range)
        if self.how.color == "grey":
            seen = rounded(luma(seen)) if self.quantise else luma(seen)
        faces = resample(seen, (low, low + kept), self.how.size)
        if self.quantise:
            faces = rounded(faces)
        if self.how.color == "grey":
            return (faces * self.how.scale - self.how.mean[0]) / self.how.std[0]
        mean, std = (faces.new_tensor(v)[:, None, None] for v in (self.how.mean, self.how.std))
        return (faces * self.how.scale - mean) / std
