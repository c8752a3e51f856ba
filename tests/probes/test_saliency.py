"""Grad-CAM: against its formula, against what the network loses where it is hidden, and the sheet."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("captum", reason="needs the recipes extra")

from click.testing import CliRunner
from torch.nn import functional as F

from exprmetric.encoder.checkpoint import save_checkpoint
from exprmetric.encoder.models import BACKBONES, Encoder
from exprmetric.errors import InputError, MissingPackageError, NoFaceError
from exprmetric.faces import FaceFinder, load_detector
from exprmetric.io.images import read_image
from exprmetric.probes import saliency as probe

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(autouse=True)
def no_other_weights(monkeypatch):
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)


@pytest.fixture(scope="module")
def crops() -> list[np.ndarray]:
    """Aligned crops of the frontal faces of the bundled photographs, RGB uint8 (224, 224, 3)."""
    from exprmetric.demo.make import demo_faces
    from exprmetric.faces.alignment import EYES, eye_centres, similarity, warp

    return [warp(f.image, similarity(eye_centres(f.points), EYES)) for f in demo_faces(load_detector("dlib"))]


@pytest.mark.parametrize(
    ("backbone", "size", "layer"),
    [
        ("resnet18", 64, "layer3"),  # maps of 32, 16, 8, 4, 2 cells a side
        ("resnet18", 112, "layer4"),
        ("resnet18", 224, "layer4"),
        ("efficientnet_lite0", 64, "blocks.4"),
        ("efficientnet_lite0", 112, "blocks.6"),
        ("regnetx_004", 112, "s4"),
        ("inception_resnet_v1", 160, "b"),  # its last stage has 3 cells at 160 px, so the one before
    ],
)
def test_the_map_is_of_the_deepest_stage_with_four_cells_a_side(backbone: str, size: int, layer: str):
    assert probe.cam_layer(Encoder(backbone).eval(), size) == layer


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_every_backbone_has_such_a_layer(backbone: str):
    torch.manual_seed(0)
    found, _ = probe.grad_cam(Encoder(backbone).eval(), torch.rand(2, 1, 112, 112), "norm")
    assert found.shape == (2, 112, 112) and torch.isfinite(found).all()


@pytest.mark.parametrize("scalar", ["difference", "norm"])
def test_it_is_the_formula_of_grad_cam(scalar: str):
    """relu(sum over channels of (mean gradient times activation)), by autograd alone."""
    torch.manual_seed(0)
    encoder = Encoder("resnet18", mirror=True).eval()
    faces = torch.rand(3, 1, 64, 64)
    found, layer = probe.grad_cam(encoder, faces, scalar)
    assert layer == "layer3" and encoder.mirror
    kept: list[torch.Tensor] = []
    handle = encoder.backbone.layer3.register_forward_hook(lambda _m, _i, out: kept.append(out))
    encoder.mirror = False
    z = encoder(faces)
    handle.remove()
    if scalar == "norm":
        score = z.pow(2).sum(1).sqrt()
    else:
        unit = z / z.pow(2).sum(1, keepdim=True).sqrt()
        away = (unit - unit.mean(0)).detach()
        score = (unit * away / away.pow(2).sum(1, keepdim=True).sqrt()).sum(1)
    (gradient,) = torch.autograd.grad(score.sum(), kept[0])
    raw = (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1, keepdim=True).clamp(min=0)
    expected = F.interpolate(raw, (64, 64), mode="bilinear")[:, 0]
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-6)
    assert float(found.max()) > 0


def test_a_network_that_sees_one_place_is_shown_to_look_there():
    """All but a spot is blank, so only the spot can make a face another than the others."""
    torch.manual_seed(1)
    encoder = Encoder("resnet18").eval()
    faces = torch.full((4, 1, 224, 224), 0.5)
    corners = [(20, 20), (20, 150), (150, 20), (150, 150)]
    for i, (y, x) in enumerate(corners):
        faces[i, 0, y : y + 50, x : x + 50] = torch.rand(50, 50)
    found, _ = probe.grad_cam(encoder, faces, "difference")
    for i, (y, x) in enumerate(corners):
        inside = found[i, y : y + 50, x : x + 50].mean()
        assert inside > 1.5 * found[i].mean()


def test_maps_cover_what_the_network_sees(crops):
    found = probe.saliency("default", crops)
    assert found.maps.shape == (len(crops), 224, 224)
    seen = np.isfinite(found.maps)
    assert not seen[:, 0, 0].any() and seen[:, 112, 112].all()  # it sees the middle of the crop
    for one in found.maps:
        assert np.nanmin(one) >= 0 and np.nanmax(one) == pytest.approx(1.0)


def test_scalars_that_don_t_fit_are_refused(crops):
    with pytest.raises(InputError, match="two different photographs"):
        probe.saliency("default", crops[:1])
    with pytest.raises(InputError, match="'mean'"):
        probe.saliency("default", crops, "mean")
    assert probe.saliency("default", crops[:1], "norm").maps.shape == (1, 224, 224)


def test_without_captum_the_extra_is_named(crops, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(MissingPackageError, match=r"exprmetric\[recipes\]"):
        probe.saliency("default", crops)


def test_the_sheet_has_a_row_a_photograph_and_a_column_a_checkpoint(portrait_photo, group_photo, tmp_path):
    from exprmetric_cli.probe.saliency import saliency as command

    torch.manual_seed(0)
    own = tmp_path / "mine" / "encoder.pt"
    own.parent.mkdir()
    encoder = Encoder("resnet18")
    save_checkpoint(own, {"encoder": encoder.state_dict(), "config": {"backbone": "resnet18", "size": 64, "crop": 176}})
    out = tmp_path / "sheets" / "sheet.png"
    photos = [x for p in (portrait_photo, group_photo) for x in ("--photo", str(p))]
    args = ["default", str(own), *photos, "--detector", "dlib", "--out", str(out)]
    run = CliRunner().invoke(command, args, catch_exceptions=False)
    assert run.exit_code == 0, run.output
    assert "default: layer" in run.output and str(out) in run.output
    sheet = read_image(out)
    height, width = sheet.shape[:2]
    assert width / 3 == pytest.approx((height - 60) / 2, rel=0.05)  # three columns, two rows, a line of titles
    thirds = [sheet[:, i * width // 3 : (i + 1) * width // 3] for i in range(3)]
    saturated = [np.ptp(t[100:].astype(int), axis=2).max() for t in thirds[1:]]
    assert min(saturated) > 100  # heat is coloured
    assert not np.array_equal(thirds[1], thirds[2])
    assert probe.column_labels(["default", str(own), "enc.pt"]) == ["default", "mine", "enc"]


def test_a_photograph_without_a_face_is_refused(tmp_path: Path):
    import cv2

    cv2.imwrite(str(tmp_path / "wall.png"), np.full((80, 80, 3), 127, np.uint8))
    finder = FaceFinder(load_detector("dlib"))
    with pytest.raises(NoFaceError):
        probe.saliency_sheet(["default"], [tmp_path / "wall.png"], tmp_path / "out.png", finder=finder)
    assert not (tmp_path / "out.png").exists()
    with pytest.raises(InputError, match="at least one"):
        probe.saliency_sheet([], [tmp_path / "wall.png"], tmp_path / "out.png", finder=finder)
