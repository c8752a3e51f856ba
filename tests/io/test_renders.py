"""Rendered heads: the strength of an expression is known, and the person may be another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from renders import EXPRESSIONS, HeadModel, render, strength

from exprmetric.errors import InputError
from exprmetric.faces import FaceFinder, load_detector
from exprmetric.methods import load_method


@pytest.fixture(scope="module")
def model(shared: Path) -> HeadModel:
    return HeadModel.load(shared / "data" / "ict_facekit.npz")


@pytest.mark.shared
def test_every_expression_has_shapes_that_the_model_has(model: HeadModel) -> None:
    for name in EXPRESSIONS:
        model.vertices(strength(name, 1.0))
    with pytest.raises(InputError, match="no shape"):
        model.vertices({"earWiggle": 1.0})
    with pytest.raises(InputError, match="components"):
        model.vertices(identity=[0.0] * 41)


@pytest.mark.shared
def test_a_shape_moves_the_head_in_proportion_to_its_strength(model: HeadModel) -> None:
    rest = model.vertices()
    half, full = (model.vertices({"jawOpen": s}) - rest for s in (0.5, 1.0))
    np.testing.assert_allclose(2 * half, full, atol=1e-6)
    assert full[:, 1].min() < -1  # the chin goes down by more than a centimetre


@pytest.mark.shared
def test_the_landmarks_of_a_render_move_farther_the_stronger_its_expression(model: HeadModel) -> None:
    finder, lm51 = FaceFinder(load_detector("dlib"), "largest"), load_method("lm51")
    faces = [
        finder.find(render(model.vertices(strength("surprise", s)), model.triangles, size=320)) for s in (0, 0.5, 1)
    ]
    rest, half, full = lm51.represent(faces)
    assert 0 < lm51.distance(rest[None], half[None])[0] < lm51.distance(rest[None], full[None])[0]


def test_a_file_that_is_no_head_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    path.write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(InputError, match="no head model"):
        HeadModel.load(path)
