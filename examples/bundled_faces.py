"""Faces for the examples: people on photographs that installed packages carry, so that nothing is downloaded."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from exprmetric.demo.make import demo_faces
from exprmetric.faces import Face, load_detector


def aligned_faces(side: int = 112) -> tuple[Tensor, Tensor]:
    """`eyes70` crops of a few people and their mirror images.

    Returns:
        (N, 3, side, side) float32 RGB 0..1, and (N,) int64: who it is.
    """
    crops = []
    for face in demo_faces(load_detector("dlib")):
        box = np.concatenate([face.points.min(0), face.points.max(0)])
        crops.append(Face(face.image, box, 1.0, face.points).crop("eyes70"))
    images = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255
    images = torch.nn.functional.interpolate(images, size=(side, side), mode="area")
    people = torch.arange(len(images))
    return torch.cat([images, images.flip(3)]), torch.cat([people, people])
