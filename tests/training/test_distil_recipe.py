"""The recipe that learns from labels and from other networks: what is drawn, what is learned, and what is read out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from exprmetric.datasets.arrays import FaceArrays
from exprmetric.datasets.samples import EXPRESSIONS
from exprmetric.encoder.export import export_encoder, load_encoder, manifest_entry
from exprmetric.encoder.onnx_file import load_encoder as read_onnx
from exprmetric.errors import InputError
from exprmetric.training.opinions import evenly
from exprmetric.training.recipes import distil as recipe

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

SMALL = recipe.DistilConfig(
    backbone="efficientnet_lite0", pretrained=False, size=64, batch=16, views=96, epochs=2, warmup=2, average=0.9,
    dimension=16, augment="none", unrated="web", readout="both", learning_rate=3e-3, backbone_rate=1.0,
)  # fmt: skip


def faces(count: int, *, seed: int = 0) -> FaceArrays:
    """Squares whose brightness on the left says the expression: a third has votes, a third a label, a third neither."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (count,), generator=generator)
    images = torch.randint(0, 80, (count, 1, 64, 64), generator=generator)
    images[:, :, 16:48, 8:28] += 150 * labels[:, None, None, None]
    source = np.array(["voted", "labelled", "web"])[np.arange(count) % 3]
    votes = torch.nn.functional.one_hot(labels, 8).float()
    votes[torch.from_numpy(source != "voted")] = float("nan")
    nan = torch.full((count,), float("nan"))
    said = torch.stack([labels.float(), -labels.float(), torch.rand(count, generator=generator)], 1)
    extra = {"opinion": evenly([said], [said]), "person": torch.full((count,), -1)}
    made = FaceArrays(images.byte(), labels, votes, nan, nan, tuple(source.tolist()), extra)
    recipe.soften(made, SMALL)
    return made


def of(made: FaceArrays, source: str) -> torch.Tensor:
    return torch.tensor([s == source for s in made.sources])


def trained(train: FaceArrays, valid: FaceArrays, config: recipe.DistilConfig, out: Path) -> recipe.Student:
    training = recipe.Distil({"train": train, "valid": valid}, config, out)
    training.fit()
    return training.model


def test_a_label_is_softened_over_the_classes_of_its_own_set_and_an_unrated_one_is_not_believed() -> None:
    made = faces(90)
    labelled, voted, web = (made.votes[of(made, s)] for s in ("labelled", "voted", "web"))
    assert torch.isnan(web).all()
    assert set(voted.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(labelled.sum(1), torch.ones(len(labelled)))
    assert set(labelled[:, 2:].unique().tolist()) == {0.0}  # this set has two classes
    torch.testing.assert_close(labelled[:, :2].max(1).values, torch.full((len(labelled),), 0.975))


def test_sets_are_drawn_alike_and_rare_classes_more_often() -> None:
    made = faces(3 * 400)
    rare = of(made, "labelled") & (made.labels == 1)
    keep = torch.ones(len(made), dtype=torch.bool)
    keep[torch.nonzero(rare)[100:, 0]] = False
    made = made.subset(torch.nonzero(keep)[:, 0])
    weights = recipe.draw_weights(made, replace(SMALL, others=0.2, power=0.5))
    assert weights[of(made, "web")].sum() == pytest.approx(0.2)
    assert weights[of(made, "voted")].sum() == pytest.approx(weights[of(made, "labelled")].sum())
    labelled = of(made, "labelled")
    few, many = (int((labelled & (made.labels == c)).sum()) for c in (1, 0))
    shares = [float(weights[labelled & (made.labels == c)].sum()) for c in (1, 0)]
    assert few == 100
    assert shares[0] / shares[1] == pytest.approx((few / many) ** 0.5, rel=1e-4)


def test_a_blend_is_of_two_faces_and_of_what_is_known_of_both() -> None:
    made = faces(30)
    batch = made.batch(torch.arange(30))
    torch.manual_seed(1)
    images, blended = recipe.blend(batch.images, batch, 0.4)
    torch.manual_seed(1)
    share = float(torch.distributions.Beta(0.4, 0.4).sample())
    share, other = max(share, 1 - share), torch.randperm(30)
    assert 0.5 <= share < 1
    torch.testing.assert_close(images, share * batch.images + (1 - share) * batch.images[other])
    known = torch.isfinite(batch.votes).all(1)
    assert torch.equal(torch.isfinite(blended.votes).all(1), known & known[other])


def test_the_teachers_numbers_have_one_spread_by_the_faces_of_training() -> None:
    generator = torch.Generator().manual_seed(0)
    train = [torch.randn(500, 7, generator=generator) * 9 + 4, torch.randn(500, 8, generator=generator)]
    even = evenly(train, train)
    assert even.shape == (500, 15)
    torch.testing.assert_close(even.mean(0), torch.zeros(15), atol=1e-5, rtol=0)
    for block in (even[:, :7], even[:, 7:]):
        assert float((block**2).mean()) == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(evenly([t[:3] for t in train], train), even[:3])


def test_it_learns_and_a_run_that_was_stopped_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    train, valid = faces(180), faces(60, seed=1).subset(torch.tensor([i for i in range(60) if i % 3 < 2]))
    config = replace(SMALL, epochs=3, agreement=0.5, mix=0.4)
    whole = trained(train, valid, config, tmp_path / "whole")
    lines = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert set(lines[0]["train"]) == {"votes", "opinion", "agreement", "total"}
    assert lines[-1]["valid"]["votes"] < lines[0]["valid"]["votes"]
    for _ in range(3):
        broken = trained(train, valid, replace(config, minutes=1e-9), tmp_path / "broken")
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(broken.state_dict()[name], value, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize(("readout", "dimension"), [("embedding", 16), ("logits", 8), ("both", 11)])
def test_the_read_out_has_the_logits_and_opinions_in_place_of_the_vector_and_the_same_probabilities(
    readout: str, dimension: int, tmp_path: Path
) -> None:
    train = faces(180)
    config = replace(SMALL, readout=readout, epochs=1)
    model = trained(train, train, config, tmp_path)
    encoder = recipe.read_out(model, train, config.readout, config.backbone)
    images = train.images[:24].float() / 255
    with torch.no_grad():
        before = model.encoder.eval()(images)
        logits, said, after = model.encoder.logits(before), model.opinion(before), encoder(images)
        torch.testing.assert_close(
            torch.softmax(encoder.logits(after), 1), torch.softmax(logits, 1), atol=1e-4, rtol=1e-4
        )
    assert after.shape == (24, dimension)
    if readout == "both":
        centred = logits - logits.mean(1, keepdim=True)
        for found, meant in ((after[:, :8], centred), (after[:, 8:], said)):
            spread = float((found**2).sum() / (meant**2).sum()) ** 0.5
            torch.testing.assert_close(found, meant * spread, atol=1e-4, rtol=1e-3)
        assert float(after[:, :8].var(0).sum()) == pytest.approx(float(after[:, 8:].var(0).sum()), rel=0.5)


def test_the_bounded_read_out_bends_what_is_certain_and_keeps_the_probabilities(tmp_path: Path) -> None:
    train = faces(180)
    config = replace(SMALL, readout="bounded", epochs=2, mirror=False)
    model = trained(train, train, config, tmp_path)
    encoder = recipe.read_out(model, train, config.readout, config.backbone)
    images = train.images.float() / 255
    with torch.no_grad():
        before = model.encoder.eval()(images)
        logits, said, after = model.encoder.logits(before), model.opinion(before), encoder(images)
        probabilities = torch.softmax(encoder.logits(after), 1)
    seven = logits[:, :7] - logits[:, :7].mean(1, keepdim=True)
    torch.testing.assert_close(after, torch.tanh(torch.cat([seven, said], 1) / 2), atol=1e-4, rtol=1e-3)
    assert float((probabilities - torch.softmax(logits, 1)).abs().mean()) < 0.02


@pytest.mark.parametrize(("readout", "dimension", "unit"), [("both", 11, True), ("bounded", 10, False)])
def test_the_exported_file_says_the_probabilities_too(readout: str, dimension: int, unit: bool, tmp_path: Path) -> None:
    from exprmetric.weights.runtime import open_session

    train = faces(90)
    scores = recipe.Distil({"train": train, "valid": train}, replace(SMALL, epochs=1, readout=readout), tmp_path).run()
    assert set(scores) == {"valid labelled", "valid voted", "valid web"}
    made = export_encoder(tmp_path / "encoder.pt", tmp_path / "x.onnx", half=False)
    encoder, settings = load_encoder(tmp_path / "encoder.pt")
    assert made.dimension == settings["dimension"] == dimension
    assert manifest_entry(made, "x")["normalise"] is unit
    again, _ = read_onnx(made.path)
    images = train.images[:5].float() / 255
    embedding, probabilities = open_session(str(made.path)).run(
        ["embedding", "probabilities"], {"faces": images.numpy()}
    )
    with torch.no_grad():
        expected = encoder(images)
        np.testing.assert_allclose(embedding, expected.numpy(), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(probabilities, torch.softmax(encoder.logits(expected), 1).numpy(), atol=1e-5)
        torch.testing.assert_close(again(images), expected)
    assert probabilities.shape == (5, len(EXPRESSIONS))


def test_settings_that_can_t_be_are_refused() -> None:
    with pytest.raises(InputError, match="needs teachers"):
        recipe.DistilConfig(teachers="")
    with pytest.raises(InputError, match="unknown setting 'none'"):
        recipe.DistilConfig(readout="none")
    with pytest.raises(InputError, match="neck 'linear'"):
        recipe.DistilConfig(neck="two_layers")
