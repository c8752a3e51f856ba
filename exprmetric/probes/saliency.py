"""Where encoders look: Grad-CAM (Selvaraju et al., 2017) over aligned faces, as in paper 001's last figure.

Grad-CAM asks which places of a layer's map raise one number. An embedding is no number, so one is made of it:

* `difference` (by default): how far the face's unit-norm embedding z lies in the direction in which it differs from
  the mean face, z · d with d = (z - m) / |z - m| held fixed and m the mean over all given photographs. It asks what
  makes this face's expression another than the others'.
* `norm`: the length of the embedding as it leaves the network; needs no other face, and knows none.

The layer is the deepest stage whose map still has CELLS x CELLS cells: from 112 px on the last one, as on the poster;
of a network for smaller images an earlier one, whose map isn't two by two. Finer maps of earlier stages mean less: over
40 faces, hiding the fifth that the shipped encoder's last stage marks lowers `difference` twice as much as hiding the
fifth that it marks least; hiding what the stage before marks lowers it less than hiding any fifth. Corners that are
marked in every face are the network's own: it keeps there what isn't of one place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exprmetric.datasets.alignment import TEMPLATE
from exprmetric.datasets.clips import onto_input
from exprmetric.encoder.models import Encoder
from exprmetric.errors import InputError, MissingPackageError
from exprmetric.faces import FaceFinder
from exprmetric.faces.alignment import CROP_SIZE, warp
from exprmetric.io.files import write_whole
from exprmetric.io.images import read_image
from exprmetric.training.descriptors import open_encoder

CELLS = 4
"""Least side of the layer's map."""


def _difference(encoder: Encoder, faces: Tensor) -> Callable[[Tensor], Tensor]:
    with torch.no_grad():
        z = F.normalize(encoder(faces))
    direction = z - z.mean(0)
    if float(direction.norm(dim=1).min()) < 1e-6:
        raise InputError("a face that is the mean face has no direction: give at least two different photographs")
    direction = F.normalize(direction)
    return lambda embeddings: (F.normalize(embeddings) * direction).sum(1)


def _norm(encoder: Encoder, faces: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda embeddings: embeddings.norm(dim=1)


SCALARS: dict[str, Callable[[Encoder, Tensor], Callable[[Tensor], Tensor]]] = {
    "difference": _difference,
    "norm": _norm,
}
"""By name: encoder, faces (N, 1, S, S) → function of their embeddings (N, D) to (N,)."""


@dataclass(frozen=True, eq=False)
class Saliency:
    """What one encoder sees in N photographs.

    Attributes:
        name: of the encoder.
        layer: of the network that the map is of.
        maps: (N, 224, 224) float32 over the aligned crop, 0..1, the most salient place of each face 1 (all 0 where
            nothing raises the number); NaN outside what the network sees.
    """

    name: str
    layer: str
    maps: npt.NDArray[np.float32]


class _Scored(nn.Module):
    """(N, 1, S, S) → (N,): the encoder, and the number that is made of its embedding."""

    def __init__(self, encoder: Encoder, scalar: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.encoder, self.scalar = encoder, scalar

    def forward(self, images: Tensor) -> Tensor:
        return self.scalar(self.encoder.embed_map(self.encoder.feature_map(images)))


@torch.no_grad()
def cam_layer(encoder: Encoder, size: int) -> str:
    """Name of the deepest stage of the backbone whose map of a face of `size` px has CELLS cells a side or more."""
    backbone = encoder.backbone
    told: list[dict[str, Any]] = list(getattr(backbone, "feature_info", []))  # timm's networks name their stages
    names = [str(stage["module"]) for stage in told] or [name for name, _ in backbone.named_children()]
    sides: dict[str, int] = {}

    def note(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: sides.update({name: output.shape[-1] if output.ndim == 4 else 0})

    handles = [backbone.get_submodule(name).register_forward_hook(note(name)) for name in names]
    try:
        encoder.feature_map(torch.zeros(1, 1, size, size, device=next(encoder.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    fitting = [name for name, side in sides.items() if side >= CELLS]
    return fitting[-1] if fitting else max(sides, key=lambda name: sides[name])


def grad_cam(encoder: Encoder, faces: Tensor, scalar: str = "difference") -> tuple[Tensor, str]:
    """The positive part of Grad-CAM of each face, and the layer's name.

    Args:
        encoder: in eval mode.
        faces: (N, 1, S, S) luma 0..1.
        scalar: a key of SCALARS.

    Returns:
        (N, S, S) float32, at least 0, not scaled.

    Raises:
        InputError: an unknown scalar, or one that these faces don't have. MissingPackageError: captum isn't installed.
    """
    try:
        from captum.attr import LayerAttribution, LayerGradCam
    except ImportError as error:
        raise MissingPackageError("saliency maps need captum: pip install 'exprmetric[recipes]'") from error
    if scalar not in SCALARS:
        raise InputError(f"unknown scalar {scalar!r}; known: {', '.join(SCALARS)}")
    mirror, encoder.mirror = encoder.mirror, False  # a map is of the face, not of its mirror image
    try:
        model = _Scored(encoder, SCALARS[scalar](encoder, faces))
        name = cam_layer(encoder, faces.shape[-1])
        cam = LayerGradCam(model, encoder.backbone.get_submodule(name))
        found = cam.attribute(faces.clone().requires_grad_(True), relu_attributions=True)
    finally:
        encoder.mirror = mirror
    size = (int(faces.shape[-2]), int(faces.shape[-1]))
    wide: Tensor = LayerAttribution.interpolate(found, size, interpolate_mode="bilinear")
    return wide[:, 0].detach().float(), name


def aligned_crops(photographs: Sequence[str | Path], finder: FaceFinder) -> list[npt.NDArray[np.uint8]]:
    """The aligned 224 x 224 RGB crop of the face in each photograph. Raises ImageError where there is none."""
    return [finder.find(read_image(photo)).crop(TEMPLATE) for photo in photographs]


def saliency(name: str, crops: Sequence[npt.NDArray[np.uint8]], scalar: str = "difference") -> Saliency:
    """Grad-CAM of one encoder over aligned crops.

    Args:
        name: a checkpoint (.pt) or a manifest entry, see `open_encoder`.
        crops: (224, 224, 3) uint8 RGB.
    """
    import cv2

    encoder, size, crop = open_encoder(name)
    if encoder.channels != 1:
        raise InputError(f"{name} sees colour, and saliency maps are drawn of luma alone")
    onto = onto_input(crop, size)
    grey = [cv2.cvtColor(warp(c, onto, size), cv2.COLOR_RGB2GRAY) for c in crops]
    faces = torch.from_numpy(np.stack(grey))[:, None].float() / 255
    found, layer = grad_cam(encoder, faces, scalar)
    maps = np.full((len(crops), CROP_SIZE, CROP_SIZE), np.nan, np.float32)
    low = (CROP_SIZE - crop) // 2
    for i, one in enumerate(found.numpy()):
        seen = cv2.resize(one, (crop, crop), interpolation=cv2.INTER_LINEAR)
        maps[i, low : low + crop, low : low + crop] = seen / max(float(seen.max()), 1e-12)
    return Saliency(name, layer, maps)


def draw_sheet(crops: Sequence[npt.NDArray[np.uint8]], found: Sequence[Saliency], labels: Sequence[str]) -> Any:
    """A Matplotlib figure: one row a photograph, which stands first, then its heat map by each encoder.

    Args:
        labels: what stands above each encoder's column.

    Raises:
        MissingPackageError: Matplotlib isn't installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError("a sheet needs Matplotlib: pip install 'exprmetric[recipes]'") from error
    rows, columns = len(crops), 1 + len(found)
    figure = Figure(figsize=(1.6 * columns, 1.6 * rows + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(rows, columns, squeeze=False)
    for row, crop in enumerate(crops):
        for column in range(columns):
            axis = axes[row, column]
            axis.set_axis_off()
            axis.imshow(crop if column == 0 else crop.mean(2), cmap=None if column == 0 else "gray", vmin=0, vmax=255)
            if column:
                heat = found[column - 1].maps[row]
                axis.imshow(heat, cmap="jet", vmin=0, vmax=1, alpha=0.5)
    for axis, title in zip(axes[0], ["photograph", *labels], strict=True):
        axis.set_title(title.replace("$", r"\$"), fontsize=8)
    return figure


def saliency_sheet(
    checkpoints: Sequence[str],
    photographs: Sequence[str | Path],
    out: str | Path,
    *,
    finder: FaceFinder,
    scalar: str = "difference",
) -> list[Saliency]:
    """Draw the sheet of all checkpoints over all photographs into the PNG `out`.

    Raises:
        InputError: no checkpoint, no photograph, or a scalar that these photographs don't have.
        ImageError: a photograph can't be read, or shows no face.
    """
    if not checkpoints or not photographs:
        raise InputError("a sheet needs at least one checkpoint and one photograph")
    crops = aligned_crops(photographs, finder)
    found = [saliency(name, crops, scalar) for name in checkpoints]
    figure = draw_sheet(crops, found, column_labels(checkpoints))
    out = Path(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, lambda file: figure.savefig(file, format="png", dpi=150))
    except OSError as error:
        raise InputError(f"can't write {out}: {error}") from error
    return found


def column_labels(checkpoints: Sequence[str]) -> list[str]:
    """Short names: of `runs/g/encoder.pt` the folder `g`."""
    return [Path(c).parent.name or Path(c).stem if c.endswith(".pt") else c for c in checkpoints]
