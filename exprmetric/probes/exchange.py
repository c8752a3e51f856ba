"""Two faces exchange their expressions (paper 002, figure 2), as a picture.

Each face is encoded into an expression code and one for all else. x1' and x2' are decoded from a face's own two codes;
x1'' and x2'' are the first and the second face with the expression code of the other.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from exprmetric.choices import CHANNELS
from exprmetric.datasets.samples import EXPRESSIONS
from exprmetric.encoder.checkpoint import load_checkpoint
from exprmetric.errors import ImageError, InputError
from exprmetric.faces import FaceFinder, open_finder
from exprmetric.faces.point_models import DEFAULT
from exprmetric.io.files import path_text, write_files
from exprmetric.io.images import read_image
from exprmetric.methods.onnx import preprocess
from exprmetric.training.disentangling import Disentangler
from exprmetric.training.recipes.disentangle import DisentangleConfig
from exprmetric.weights import store as weights
from exprmetric.weights.manifest import Preprocessing

ROWS = (("x1", "x1'", "x1''"), ("x2", "x2'", "x2''"))
CELL, EDGE, LINE = 192, 8, 20
"""Of the picture, px: a face's side, the gap between faces, the height of the names."""


@dataclass(frozen=True)
class Exchange:
    """What two faces become.

    Attributes:
        images: by the names in ROWS, (C, S, S) float 0..1 at the brightness and contrast that the decoder makes.
        read: by the same names, the expression that the model's own classifier reads in the image.
    """

    images: dict[str, Tensor]
    read: dict[str, str]


def load_disentangler(checkpoint: Path) -> tuple[Disentangler, DisentangleConfig]:
    """The model of `best.pt` or `last.pt` of `exprmetric train disentangle`, in eval mode, with its decoder.

    Raises:
        InputError: the file is none of these, or was trained without a decoder.
    """
    where = path_text(checkpoint)
    try:
        state = load_checkpoint(checkpoint)
        settings: dict[str, Any] = state["config"]
        named = "beta1" in settings
    except Exception as error:  # a foreign file makes torch.load raise whatever it runs into
        raise InputError(f"{where} is no checkpoint: {error}") from error
    if not named:
        raise InputError(
            f"{where} is of another recipe: expressions are exchanged by one of `exprmetric train disentangle`"
        )
    if not settings["beta1"]:
        raise InputError(f"{where} was trained without a decoder (beta1 = 0): train with --set beta1=0.001, or more")
    if "model" not in state:
        raise InputError(f"{where} holds the encoder alone: give best.pt or last.pt, which stand beside it")
    try:
        config = DisentangleConfig(**{**settings, "init": "", "pretrained": False})  # its weights are all in the file
        model = config.model()
        model.load_state_dict(state["model"])
    except Exception as error:
        raise InputError(f"{where} doesn't hold the model that its settings describe: {error}") from error
    return model.eval(), config


@torch.no_grad()
def exchange(model: Disentangler, first: Tensor, second: Tensor) -> Exchange:
    """Exchange the expressions of two faces.

    Args:
        model: with a decoder, in eval mode.
        first: (1, C, S, S) 0..1, luma or RGB.
        second: the same of the other face.

    Raises:
        InputError: the model has no decoder.
    """
    faces = torch.cat([first, second])
    expressions, rests = model.codes(faces)
    if rests is None:
        raise InputError("the model was trained without a branch for what is no expression")
    images = torch.cat([model.seen(faces), model.decode(expressions, rests), model.decode(expressions.flip(0), rests)])
    classes = model.expression(model.codes(images)[0]).argmax(1)
    names = [row[column] for column in range(3) for row in ROWS]
    return Exchange(
        dict(zip(names, images, strict=True)),
        {name: EXPRESSIONS[int(c)] for name, c in zip(names, classes, strict=True)},
    )


def draw(made: Exchange) -> bytes:
    """A PNG with a row for each of the two faces: itself, decoded, with the other's expression."""
    from PIL import Image, ImageDraw

    step = CELL + EDGE
    sheet = Image.new("RGB", (3 * step + EDGE, 2 * (step + LINE) + EDGE), "white")
    pen = ImageDraw.Draw(sheet)
    for i, row in enumerate(ROWS):
        for j, name in enumerate(row):
            left, top = EDGE + j * step, EDGE + i * (step + LINE)
            pixels = (made.images[name].clamp(0, 1) * 255).round().byte().cpu().numpy()
            pixels = np.ascontiguousarray(np.broadcast_to(pixels, (3, *pixels.shape[1:])).transpose(1, 2, 0))
            sheet.paste(Image.fromarray(pixels).resize((CELL, CELL), Image.Resampling.BICUBIC), (left, top + LINE))
            pen.text((left, top + 3), f"{name}  {made.read[name]}", fill="black")
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def exchange_files(
    checkpoint: Path,
    first: Path,
    second: Path,
    out: Path,
    *,
    detector: str = "auto",
    face: str = "largest",
    landmarks: str = DEFAULT,
    commercial_only: bool = False,
) -> Exchange:
    """Exchange the expressions of the faces in two images, and write the picture.

    Args:
        checkpoint: see `load_disentangler`.
        first: an image file.
        second: another one.
        out: a PNG; its folder is made.
        detector: a name that `exprmetric.faces.load_detector` knows.
        face: which of several faces, see `FaceFinder`.
        landmarks: as in `evaluate`.
        commercial_only: as in `evaluate`; the checkpoint is yours.

    Raises:
        InputError: the checkpoint has no decoder, or the picture can't be written.
        ImageError: an image can't be read or has no face; the message names it.
    """
    model, config = load_disentangler(checkpoint)
    with weights.commercial_only(commercial_only):
        finder = open_finder(detector, face, landmarks=landmarks)
    made = exchange(model, *(_face(path, finder, config) for path in (first, second)))
    write_files(out.parent, {out.name: draw(made)})
    return made


def _face(path: Path, finder: FaceFinder, config: DisentangleConfig) -> Tensor:
    """(1, C, S, S) 0..1, as `evaluate` feeds an exported encoder."""
    n = CHANNELS[config.color]
    color = "grey" if n == 1 else "rgb"
    how = Preprocessing("eyes70", config.size, config.crop, color, 1 / 255, (0.0,) * n, (1.0,) * n, "nchw")
    image = read_image(path)
    try:
        crop = finder.find(image).crop("eyes70")
    except ImageError as error:
        raise type(error)(f"{path_text(path)}: {error}") from error
    return torch.from_numpy(np.ascontiguousarray(preprocess(crop, how)))[None]
