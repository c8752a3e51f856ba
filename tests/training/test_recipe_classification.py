"""End-to-end classification: its loss by hand, that it learns from real faces, and what it leaves behind."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from few_faces import EXPRESSIONS, Tiny, few_faces, log_of, run_folder

from exprmetric.datasets.arrays import FaceArrays
from exprmetric.datasets.samples import EXPRESSIONS as ALL
from exprmetric.encoder.export import export_encoder
from exprmetric.training.losses import weighted_cross_entropy
from exprmetric.training.recipes import classification as recipe
from exprmetric.training.recipes.classification import ClassificationConfig
from exprmetric.training.space import classification_scores

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]


def test_the_loss_weighs_each_face_by_its_class_alone():
    logits = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0], [0.0, 0.0]])
    labels, weights = torch.tensor([0, 1, 1]), torch.tensor([0.5, 2.0])
    terms = [math.log(2), math.log(4), math.log(2)]
    assert float(weighted_cross_entropy(logits, labels, None)) == pytest.approx(sum(terms) / 3)
    expected = (0.5 * terms[0] + 2 * terms[1] + 2 * terms[2]) / 3  # not over the sum of weights
    assert float(weighted_cross_entropy(logits, labels, weights)) == pytest.approx(expected)
    unseen = weighted_cross_entropy(logits, labels, torch.zeros(2))
    assert float(unseen) == 0  # a class that training never saw is no NaN


def test_the_encoder_is_not_frozen_and_the_head_is_the_papers():
    config = ClassificationConfig(backbone="resnet18")
    model = recipe.Classifier(config.encoder())
    model.eval()
    weighted_cross_entropy(model(torch.rand(2, 1, 32, 32)), torch.tensor([0, 1]), None).backward()
    assert model.encoder.backbone.conv1.weight.grad.any()
    sizes = [m.out_features for m in model.head if isinstance(m, torch.nn.Linear)]
    assert sizes == [512, 8] and [m.p for m in model.head if isinstance(m, torch.nn.Dropout)] == [0.5, 0.5]


def test_scores_are_those_of_what_the_head_answers():
    answers = torch.nn.functional.one_hot(torch.tensor([0, 0, 3, 3, 3, 7]), 8).float()
    found = classification_scores(torch.nn.Identity(), answers, torch.tensor([0, 1, 1, 3, 3, 3]))
    assert (found["n"], found["accuracy"]) == (6, 0.5)  # right: the first, and two of the last three
    assert found["recall"] == {ALL[0]: 1.0, ALL[1]: 0.0, ALL[3]: 2 / 3}  # 7 is answered and never the truth
    assert found["mean_class_accuracy"] == pytest.approx(5 / 9)
    rows = {i: row for i, row in enumerate(found["confusion"]) if sum(row)}
    assert rows == {0: [1] + [0] * 7, 1: [1, 0, 0, 1] + [0] * 4, 3: [0, 0, 0, 2, 0, 0, 0, 1]}
    assert json.loads(json.dumps(found)) == found
    with pytest.raises(ValueError, match="classes -1"):
        classification_scores(torch.nn.Identity(), answers, torch.tensor([0, 1, 1, 3, 3, -1]))


@pytest.mark.parametrize("weighted", [True, False])
def test_weights_come_from_the_training_faces(weighted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []
    real = weighted_cross_entropy
    monkeypatch.setattr(recipe, "weighted_cross_entropy", lambda a, b, w: (seen.append(w), real(a, b, w))[1])
    labels = torch.tensor([0] * 6 + [3] * 2)
    nan = torch.full((8,), float("nan"))
    images = torch.randint(0, 255, (8, 1, 32, 32)).byte()
    faces = FaceArrays(images, labels, torch.full((8, 8), float("nan")), nan, nan)
    config = ClassificationConfig(backbone="resnet18", size=32, batch=4, epochs=1, weighted=weighted)
    recipe.Classification({"train": faces, "valid": faces}, config, tmp_path).run()
    if weighted:  # 8 / (8 classes · 6 and 2)
        expected = [1 / 6, 0, 0, 1 / 2, 0, 0, 0, 0]
        torch.testing.assert_close(seen[0], torch.tensor(expected))
    else:
        assert seen[0] is None


@pytest.mark.shared
def test_it_learns_from_real_faces(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ClassificationConfig, "encoder", lambda config: Tiny())
    out = run_folder(shared, tmp_path / "out", monkeypatch)
    config = ClassificationConfig(size=48, crop=176, batch=16, epochs=25, learning_rate=5e-3, augment="none")
    recipe.Classification.open([few_faces(shared)], out, config, device="cpu", jobs=1).run()
    log = log_of(out)
    nothing_known = math.log(3) * 3 / 8  # equal chances of three classes, whose weights are 3/8
    assert log[-1]["train"]["total"] < nothing_known * 0.85 < log[0]["train"]["total"]
    assert log[-1]["train"]["accuracy"] > 0.6  # of three


@pytest.mark.shared
def test_the_encoder_of_a_training_is_exported(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = run_folder(shared, tmp_path / "out", monkeypatch)
    config = ClassificationConfig(backbone="resnet18", size=32, crop=176, batch=16, epochs=1)
    scores = recipe.Classification.open([few_faces(shared)], out, config, device="cpu", jobs=1).run()
    valid = scores["valid"]
    assert 0 <= valid["accuracy"] <= 1 and valid["n"] == sum(map(sum, valid["confusion"]))
    rows = {ALL[i] for i, row in enumerate(valid["confusion"]) if sum(row)}
    assert rows and rows <= set(EXPRESSIONS)
    assert json.loads((out / "scores.json").read_text()) == scores
    assert export_encoder(out / "encoder.pt", tmp_path / "x.onnx").dimension == 512
