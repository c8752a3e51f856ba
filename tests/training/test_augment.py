"""Degradations that the encoder learns to ignore."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from exprmetric.training.augment import AUGMENTATIONS, jpeg

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]


@pytest.fixture
def faces(portrait_photo):
    luma = cv2.cvtColor(cv2.imread(str(portrait_photo)), cv2.COLOR_BGR2GRAY)
    crops = [cv2.resize(luma[i : i + 200, j : j + 200], (112, 112)) for i in (0, 80) for j in (100, 180)]
    return torch.from_numpy(np.stack(crops))[:, None].float() / 255


@pytest.mark.parametrize("quality", [10, 30, 75, 95])
def test_jpeg_is_libjpegs_up_to_rounding(faces, quality):
    mine = jpeg(faces, torch.full((len(faces),), float(quality)))
    for face, compressed in zip(faces, mine, strict=True):
        pixels = (face[0] * 255).round().byte().numpy()
        _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
        reference = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE).astype(np.float32) / 255
        assert np.abs(compressed[0].numpy() - reference).mean() < 0.004
        loss = np.abs(reference - pixels / 255).mean()
        assert loss < 0.01 or np.abs(compressed[0].numpy() - pixels / 255).mean() == pytest.approx(loss, rel=0.15)


def test_degraded_leaves_the_face_recognisable(faces):
    """Averaged over many draws, what it makes of a face still looks more like that face than like another."""
    generator = torch.Generator().manual_seed(0)
    seen = AUGMENTATIONS["degraded"](faces[:1].repeat(64, 1, 1, 1), generator)
    mirrored = (seen.mean(0) + seen.mean(0).flip(2)) / 2
    originals = (faces + faces.flip(3)) / 2
    likeness = [float(np.corrcoef(mirrored.flatten(), o.flatten())[0, 1]) for o in originals]
    assert likeness[0] == max(likeness)
