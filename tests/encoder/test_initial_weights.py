"""`init=PATH`: a training begins with the weights of a file, or says which layer doesn't fit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from exprmetric.encoder.checkpoint import save_checkpoint
from exprmetric.encoder.initial import FACENET_SPREAD, begin_with
from exprmetric.encoder.models import Encoder, import_timm
from exprmetric.errors import InputError
from exprmetric.training.recipes import RECIPES, load_recipe
from exprmetric.training.recipes.classification import ClassificationConfig
from exprmetric.training.recipes.common import save_encoder

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]


def pictures(side: int) -> Tensor:
    return torch.rand(2, 1, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_takes_a_file_to_begin_with(recipe: str, tmp_path: Path):
    trained = ClassificationConfig(backbone="resnet18", size=32)
    torch.manual_seed(1)
    encoder = trained.encoder()
    save_encoder(encoder, trained, {}, tmp_path)
    how = {"backbone": "resnet18", "pretrained": False, "size": 32, "init": str(tmp_path / "encoder.pt")}
    config = load_recipe(recipe).settings(**how, **({"frozen": 0} if recipe == "default" else {}))
    begun = config.encoder()
    for name, value in encoder.backbone.state_dict().items():
        assert torch.equal(begun.backbone.state_dict()[name], value), name
    with pytest.raises(InputError, match="can't both be set"):
        load_recipe(recipe).settings(pretrained=True, init="x.pt", backbone="efficientnet_lite0")


def test_a_neck_that_fits_is_taken_and_another_stays_as_it_was(tmp_path: Path):
    trained = ClassificationConfig(backbone="resnet18", dimension=16, size=32)
    encoder = trained.encoder()
    save_encoder(encoder, trained, {}, tmp_path)
    same, other = Encoder("resnet18", dimension=16), Encoder("resnet18", dimension=8)
    before = other.embedding.weight.clone()
    for begun in (same, other):
        begin_with(begun, tmp_path / "encoder.pt", "resnet18")
    x = pictures(32)
    torch.testing.assert_close(same.eval()(x), encoder.eval()(x))
    assert torch.equal(other.embedding.weight, before)


@pytest.mark.parametrize("form", ["bare", "state_dict", "module.", "safetensors"])
def test_timms_weights_for_colour_see_luma_as_a_grey_picture(form: str, tmp_path: Path):
    torch.manual_seed(2)
    theirs = import_timm().create_model("resnet18").eval()
    weights = theirs.state_dict()
    path = tmp_path / "weights.pth"
    if form == "safetensors":
        path = tmp_path / "weights.safetensors"
        pytest.importorskip("safetensors.torch").save_file(weights, str(path))
    else:
        named = {f"module.{k}": v for k, v in weights.items()} if form == "module." else weights
        torch.save({"state_dict": named} if form == "state_dict" else named, path)
    encoder = Encoder("resnet18").eval()
    begin_with(encoder, path, "resnet18")
    x = pictures(64)
    with torch.no_grad():
        expected = theirs.forward_features(encoder.standardise(x).repeat(1, 3, 1, 1))
        torch.testing.assert_close(encoder.feature_map(x), expected, rtol=1e-4, atol=1e-4)


def facenet_weights() -> dict[str, Tensor]:
    """By facenet-pytorch's names, at random; with its sixth block C and the layers behind the mean."""
    chance = torch.Generator().manual_seed(3)
    found: dict[str, Tensor] = {}

    def unit(name: str, before: int, after: int, *size: int) -> None:
        kernel = torch.randn(after, before, *(size * 2)[:2], generator=chance)
        found[f"{name}.conv.weight"] = kernel / kernel[0].numel() ** 0.5
        for key, low in (("weight", 0.5), ("bias", -0.1), ("running_mean", -0.1), ("running_var", 0.5)):
            found[f"{name}.bn.{key}"] = low + torch.rand(after, generator=chance)
        found[f"{name}.bn.num_batches_tracked"] = torch.tensor(7)

    def block(name: str, width: int, mid: int, last: list[tuple[int, ...]], joined: int) -> None:
        unit(f"{name}.branch0", width, mid, 1)
        unit(f"{name}.branch1.0", width, mid, 1)
        for i, size in enumerate(last, 1):
            unit(f"{name}.branch1.{i}", mid, mid, *size)
        if mid == 32:
            unit(f"{name}.branch2.0", width, 32, 1)
            unit(f"{name}.branch2.1", 32, 32, 3)
            unit(f"{name}.branch2.2", 32, 32, 3)
        found[f"{name}.conv2d.weight"] = torch.randn(width, joined, 1, 1, generator=chance) / joined**0.5
        found[f"{name}.conv2d.bias"] = torch.randn(width, generator=chance) / 10

    for name, before, after, size in (
        ("1a", 3, 32, 3), ("2a", 32, 32, 3), ("2b", 32, 64, 3),
        ("3b", 64, 80, 1), ("4a", 80, 192, 3), ("4b", 192, 256, 3),
    ):  # fmt: skip
        unit(f"conv2d_{name}", before, after, size)
    for i in range(5):
        block(f"repeat_1.{i}", 256, 32, [(3,)], 96)
    unit("mixed_6a.branch0", 256, 384, 3)
    for i, (before, after, size) in enumerate(((256, 192, 1), (192, 192, 3), (192, 256, 3))):
        unit(f"mixed_6a.branch1.{i}", before, after, size)
    for i in range(10):
        block(f"repeat_2.{i}", 896, 128, [(1, 7), (7, 1)], 256)
    for b, widths in enumerate(((256, 384), (256, 256), (256, 256, 256))):
        for i, (before, after) in enumerate(zip((896, *widths), widths, strict=False)):
            unit(f"mixed_7a.branch{b}.{i}", before, after, 1 if i == 0 else 3)
    for i in range(5):
        block(f"repeat_3.{i}", 1792, 192, [(1, 3), (3, 1)], 384)
    block("block8", 1792, 192, [(1, 3), (3, 1)], 384)
    return found | {"last_linear.weight": torch.zeros(512, 1792), "logits.bias": torch.zeros(9)}


def facenet_map(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """facenet-pytorch's network up to its fifth block C, as functions of its weights."""

    def unit(name: str, x: Tensor, stride: int = 1, *, padded: bool = True) -> Tensor:
        kernel = w[f"{name}.conv.weight"]
        padding = (kernel.shape[2] // 2, kernel.shape[3] // 2) if padded else 0
        bn = [w[f"{name}.bn.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
        return F.relu(F.batch_norm(F.conv2d(x, kernel, None, stride, padding), *bn, eps=1e-3))

    def chain(name: str, x: Tensor) -> Tensor:
        for i in range(3):
            if f"{name}.{i}.conv.weight" in w:
                x = unit(f"{name}.{i}", x)
        return x

    def block(name: str, x: Tensor, scale: float) -> Tensor:
        parts = [unit(f"{name}.branch0", x), chain(f"{name}.branch1", x)]
        if f"{name}.branch2.0.conv.weight" in w:
            parts.append(chain(f"{name}.branch2", x))
        return F.relu(x + scale * F.conv2d(torch.cat(parts, 1), w[f"{name}.conv2d.weight"], w[f"{name}.conv2d.bias"]))

    x = unit("conv2d_2b", unit("conv2d_2a", unit("conv2d_1a", x, 2, padded=False), padded=False))
    x = unit("conv2d_4a", unit("conv2d_3b", F.max_pool2d(x, 3, 2)), padded=False)
    x = unit("conv2d_4b", x, 2, padded=False)
    for i in range(5):
        x = block(f"repeat_1.{i}", x, 0.17)
    y = unit("mixed_6a.branch1.1", unit("mixed_6a.branch1.0", x))
    y = unit("mixed_6a.branch1.2", y, 2, padded=False)
    x = torch.cat([unit("mixed_6a.branch0", x, 2, padded=False), y, F.max_pool2d(x, 3, 2)], 1)
    for i in range(10):
        x = block(f"repeat_2.{i}", x, 0.10)
    one = unit("mixed_7a.branch0.1", unit("mixed_7a.branch0.0", x), 2, padded=False)
    two = unit("mixed_7a.branch1.1", unit("mixed_7a.branch1.0", x), 2, padded=False)
    three = unit("mixed_7a.branch2.1", unit("mixed_7a.branch2.0", x))
    three = unit("mixed_7a.branch2.2", three, 2, padded=False)
    x = torch.cat([one, two, three, F.max_pool2d(x, 3, 2)], 1)
    for i in range(5):
        x = block(f"repeat_3.{i}", x, 0.20)
    return x


def test_facenets_weights_make_the_papers_backbone_see_what_facenet_sees(tmp_path: Path):
    weights = facenet_weights()
    torch.save(weights, tmp_path / "vggface2.pt")
    encoder = Encoder("inception_resnet_v1").eval()
    begin_with(encoder, tmp_path / "vggface2.pt", "inception_resnet_v1")
    x = pictures(80)
    with torch.no_grad():
        seen = facenet_map(weights, FACENET_SPREAD * encoder.standardise(x).repeat(1, 3, 1, 1))
        found = encoder.feature_map(x)
        expected = torch.cat([seen[:, 896 + 640 :], seen[:, 896 : 896 + 640], seen[:, :896]], 1)  # pooled maps first
    assert float(expected.abs().mean()) > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return os.mkdir, (str(self.marker),)


def test_a_file_that_would_run_code_or_fits_no_layer_is_refused_by_name(tmp_path: Path):
    def refused(content: object, *said: str, backbone: str = "resnet18") -> None:
        torch.save(content, tmp_path / "file.pt")
        with pytest.raises(InputError) as error:
            begin_with(Encoder(backbone), tmp_path / "file.pt", backbone)
        assert all(text in str(error.value) for text in (*said, "file.pt")), error.value

    refused({"conv1.weight": Bomb(tmp_path / "exploded")}, "can't be read as weights alone")
    assert not (tmp_path / "exploded").exists()
    whole = Encoder("resnet18").backbone.state_dict()
    refused([1, 2], "list")
    refused({"epoch": 3}, "holds no weights")
    refused({k: v for k, v in whole.items() if k != "bn1.bias"}, "there is no 'bn1.bias'")
    refused({**whole, "extra.weight": torch.zeros(1)}, "'extra.weight' is not in it")
    refused({**whole, "bn1.bias": torch.zeros(3)}, "'bn1.bias' is [3] there and [64] here")
    refused({"conv2d_1a.conv.weight": torch.zeros(1)}, "facenet-pytorch", backbone="inception_resnet_v1")
    (tmp_path / "file.pt").write_bytes(b"nothing")
    with pytest.raises(InputError, match="can't be read"):
        begin_with(Encoder("resnet18"), tmp_path / "file.pt", "resnet18")
    save_checkpoint(tmp_path / "file.pt", {"encoder": whole, "config": {"backbone": "resnet50"}})
    with pytest.raises(InputError, match=r"'resnet50'.*'resnet18'"):
        begin_with(Encoder("resnet18"), tmp_path / "file.pt", "resnet18")


def test_an_exported_encoder_can_be_trained_on(tmp_path: Path):
    pytest.importorskip("onnx")
    from exprmetric.encoder.export import export_encoder

    config = ClassificationConfig(backbone="resnet18", dimension=16, size=32)
    encoder = config.encoder()
    save_encoder(encoder, config, {}, tmp_path)
    export_encoder(tmp_path / "encoder.pt", tmp_path / "net.onnx", half=False)
    begun = Encoder("resnet18", dimension=16)
    begin_with(begun, tmp_path / "net.onnx", "resnet18")
    x = pictures(32)
    torch.testing.assert_close(begun.eval()(x), encoder.eval()(x))
