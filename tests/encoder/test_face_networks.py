"""The backbones that begin with a face network's weights compute what that network computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from exprmetric.encoder.face_networks import DLIB, DlibResnet, FaceMobileNet, load_dlib
from exprmetric.encoder.models import Encoder, load_pretrained
from exprmetric.weights import dlib_resnet
from exprmetric.weights import store as weights
from exprmetric.weights.runtime import open_session

pytestmark = pytest.mark.torch


def grey_face() -> np.ndarray:
    """(150, 150) uint8: a photograph of a face."""
    import cv2
    from skimage.data import astronaut

    return cv2.cvtColor(cv2.resize(astronaut()[60:190, 160:290], (150, 150)), cv2.COLOR_RGB2GRAY)


def test_dlibs_backbone_computes_the_descriptor_that_dlibs_own_file_gives() -> None:
    network = DlibResnet().eval()
    load_dlib(network)
    parsed = dlib_resnet.parse(weights.find(DLIB).read_bytes())
    grey = grey_face()
    chips = np.repeat(grey[None, ..., None], 3, axis=3)
    (expected,) = open_session(dlib_resnet.to_onnx(parsed)).run(None, {"chips": chips})

    # dlib's mean differs from colour to colour: with it in the bias of the first layer, one grey plane says the same
    mean = np.array(dlib_resnet.MEAN, np.float32) / 256
    kernels = parsed.convolutions[0].kernels
    inside = torch.from_numpy(grey.astype(np.float32) / 256)[None, None] / 0.22
    network.stem.bias.data -= torch.from_numpy((kernels.sum((2, 3)) * mean).sum(1))
    with torch.no_grad():
        found = network(inside).numpy() @ parsed.projection
    np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize("backbone", ["dlib_resnet", "efficientnet_lite0"])
def test_a_pretrained_backbone_has_other_weights_than_a_new_one_in_every_convolution(backbone: str) -> None:
    torch.manual_seed(0)
    encoder = Encoder(backbone, dimension=8)
    before = {name: p.clone() for name, p in encoder.backbone.named_parameters() if p.ndim == 4}
    load_pretrained(encoder, backbone)
    same = [name for name, p in encoder.backbone.named_parameters() if p.ndim == 4 and torch.equal(p, before[name])]
    assert before
    assert same == []


def test_the_face_mobilenet_has_the_layers_of_3ddfas_file() -> None:
    encoder = Encoder("3ddfa_mobilenet", dimension=8).eval()
    assert encoder(torch.rand(2, 1, 96, 96)).shape == (2, 8)
    assert FaceMobileNet().blocks[-1].conv_sep.weight.shape == (512, 512, 1, 1)


@pytest.mark.shared
def test_the_face_mobilenet_computes_3ddfas_features_of_a_grey_face(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from exprmetric.encoder.convert_3ddfa import load_network
    from exprmetric.encoder.face_networks import MOBILENET, load_mobilenet

    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(shared / "weights"))
    network = FaceMobileNet().eval()
    load_mobilenet(network)
    original = load_network(weights.find(MOBILENET))
    features: list[torch.Tensor] = []
    original.fc_param.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    x = torch.from_numpy(grey_face().astype(np.float32))[None, None] / 127.5 - 1
    with torch.no_grad():
        original(x.expand(-1, 3, -1, -1))
        found = network(x / 0.45)
    torch.testing.assert_close(found, features[0], atol=1e-4, rtol=1e-4)
