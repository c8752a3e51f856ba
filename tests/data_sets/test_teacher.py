"""Teacher labels of a small data set of real faces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="needs the mediapipe extra")

from exprmetric.datasets import teacher
from exprmetric.datasets.alignment import align_dataset
from exprmetric.datasets.layouts import open_dataset
from exprmetric.faces.face_mesh import BLENDSHAPES, FaceMesh

pytestmark = [pytest.mark.torch, pytest.mark.shared]


@pytest.fixture
def dataset(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Eight photographs of which the last is grey: no face is there."""
    import zipfile

    import cv2

    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(shared / "weights"))
    folder = tmp_path / "faces"
    (folder / "images").mkdir(parents=True)
    with zipfile.ZipFile(shared / "data" / "unlabelled_faces.zip") as archive:
        names = sorted(n for n in archive.namelist() if n.endswith(".jpg"))[:700:100]
        for i, name in enumerate(names):
            (folder / "images" / f"{i}.jpg").write_bytes(archive.read(name))
    cv2.imwrite(str(folder / "images" / "z.jpg"), np.full((160, 160, 3), 128, np.uint8))
    return open_dataset(folder)


def test_labels_are_the_mesh_s_and_a_face_that_isn_t_there_has_none(dataset, tmp_path):
    alignment = align_dataset(dataset, tmp_path / "cache", jobs=1)
    labels = teacher.label_dataset(dataset, alignment, tmp_path / "cache", jobs=1)
    assert labels.shape == (8, len(BLENDSHAPES))
    assert np.isnan(labels[-1]).all()
    mesh = FaceMesh()
    for i in range(7):
        read = mesh.read(dataset.image(i), alignment.matrices[i])
        if read.presence >= teacher.PRESENCE:
            np.testing.assert_array_equal(labels[i], read.blendshapes)
        else:
            assert np.isnan(labels[i]).all()
    assert np.isfinite(labels[:7]).all(1).sum() >= 5


def test_labels_are_computed_once_and_anew_for_another_alignment(dataset, tmp_path, monkeypatch):
    alignment = align_dataset(dataset, tmp_path / "cache", jobs=1)
    first = teacher.label_dataset(dataset, alignment, tmp_path / "cache", jobs=1)
    with monkeypatch.context() as patch:
        patch.setattr(teacher, "in_processes", None)  # a second computation would fail
        again = teacher.label_dataset(dataset, alignment, tmp_path / "cache", jobs=1)
        np.testing.assert_array_equal(first, again)
        moved = replace(alignment, matrices=alignment.matrices + 1.0)
        with pytest.raises(TypeError):
            teacher.label_dataset(dataset, moved, tmp_path / "cache", jobs=1)
