"""Losses of paper 000 against plain Python and NumPy, number by number."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from exprmetric.training.losses import (
    class_weights,
    distance_agreement,
    masked_mse,
    reverse_gradient,
    soft_cross_entropy,
    supervised_contrastive,
    weighted_cross_entropy,
)

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]


def reference_contrastive(embeddings, labels, temperature, weights=None) -> float:
    """Equations 1-5 in loops: mean over anchors with a positive of W(y) times the mean of -log softmax."""
    faces = [(np.array(e, float), y) for e, y in zip(embeddings, labels, strict=True) if y >= 0]
    unit = [e / math.sqrt(sum(x * x for x in e)) for e, _ in faces]
    anchors = []
    for i, (_, label) in enumerate(faces):
        others = [j for j in range(len(faces)) if j != i]
        positives = [j for j in others if faces[j][1] == label]
        if not positives:
            continue
        denominator = sum(math.exp(float(unit[i] @ unit[j]) / temperature) for j in others)
        terms = [-math.log(math.exp(float(unit[i] @ unit[j]) / temperature) / denominator) for j in positives]
        anchors.append((1.0 if weights is None else weights[label]) * sum(terms) / len(terms))
    return sum(anchors) / len(anchors) if anchors else 0.0


def a_batch(seed: int = 0, n: int = 9, dimension: int = 5):
    random = np.random.default_rng(seed)
    return random.normal(size=(n, dimension)), random.integers(0, 3, n)


def loss_of(embeddings, labels, **settings) -> float:
    return float(supervised_contrastive(torch.tensor(np.array(embeddings)), torch.tensor(np.array(labels)), **settings))


def test_class_weights_are_equation_4_by_hand():
    # 6 labelled samples, 4 classes, 3 + 2 + 1 + 0 occurrences; one unlabelled sample doesn't count
    weights = class_weights(torch.tensor([0, 0, 0, 1, 1, 2, -1]), 4)
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx([6 / (4 * 3), 6 / (4 * 2), 6 / (4 * 1), 0.0])


def reference_weighted(logits, labels, weights) -> float:
    """CE · W(y), mean over the batch, in loops."""
    total = 0.0
    for row, label in zip(np.asarray(logits, float).tolist(), labels, strict=True):
        total += float(weights[label]) * (math.log(sum(math.exp(x) for x in row)) - row[label])
    return total / len(labels)


def test_a_batch_of_the_common_class_alone_weighs_less_than_torchs_weighted_mean_says():
    weights = class_weights(torch.tensor([0, 0, 0, 0, 1]), 2)  # 0.625 and 2.5
    logits = torch.tensor([[0.0, math.log(math.exp(2.892) - 1)]] * 3)
    labels = torch.tensor([0, 0, 0])
    found = float(weighted_cross_entropy(logits, labels, weights))
    assert found == pytest.approx(1.808, abs=1e-3) == reference_weighted(logits, [0, 0, 0], weights.tolist())
    assert float(torch.nn.functional.cross_entropy(logits, labels, weights)) == pytest.approx(2.892, abs=1e-3)


def test_class_weights_give_every_class_the_same_total():
    labels = torch.tensor([0] * 50 + [1] * 7 + [2])
    weights = class_weights(labels, 3)
    totals = [float(weights[labels[labels == c]].sum()) for c in range(3)]
    assert totals == pytest.approx([58 / 3] * 3)
    assert float(weights[labels].mean()) == pytest.approx(1.0)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 4.0]])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_contrastive_loss_is_the_loop_by_hand(seed: int, weights: list[float] | None, temperature: float):
    embeddings, labels = a_batch(seed)
    tensor = None if weights is None else torch.tensor(weights)
    found = loss_of(embeddings, labels, temperature=temperature, weights=tensor)
    assert found == pytest.approx(reference_contrastive(embeddings, labels, temperature, weights), rel=1e-5)


def test_contrastive_loss_of_three_faces_on_paper():
    # two equal faces of one class, one orthogonal face of another: -log(e^(1/t) / (e^(1/t) + e^0)) for both anchors
    expected = math.log(1 + math.exp(-2.0))
    assert loss_of([[1, 0], [3, 0], [0, 2]], [0, 0, 1], temperature=0.5) == pytest.approx(expected, rel=1e-5)


def test_temperature_defaults_to_the_papers():
    embeddings, labels = a_batch()
    assert loss_of(embeddings, labels) == pytest.approx(reference_contrastive(embeddings, labels, 0.05), rel=1e-5)


def test_unlabelled_faces_are_neither_anchors_nor_in_a_denominator():
    embeddings, labels = a_batch()
    with_unlabelled = np.concatenate([embeddings, 10 * embeddings[:4]])
    assert loss_of(with_unlabelled, [*labels, -1, -1, -1, -1]) == pytest.approx(loss_of(embeddings, labels), rel=1e-6)


def test_an_anchor_without_positives_adds_nothing_but_stands_in_denominators():
    embeddings, labels = a_batch()
    embeddings, labels = embeddings[:6], np.array([0, 0, 1, 1, 1, 7])  # 7 is alone
    weights = torch.ones(8)
    weights[7] = 1e6  # would show at once if the lonely anchor counted
    loss = loss_of(embeddings, labels, weights=weights, temperature=0.5)
    assert loss == pytest.approx(reference_contrastive(embeddings, labels, 0.5), rel=1e-5)
    assert loss > loss_of(embeddings[:5], labels[:5], temperature=0.5)  # one more negative


def test_the_order_of_the_batch_does_not_matter():
    embeddings, labels = a_batch(3)
    order = np.random.default_rng(0).permutation(len(labels))
    assert loss_of(embeddings[order], labels[order]) == pytest.approx(loss_of(embeddings, labels), rel=1e-5)


def test_the_norms_of_embeddings_do_not_matter():
    embeddings, labels = a_batch(4)
    norms = np.linspace(0.01, 100, len(labels))[:, None]
    assert loss_of(embeddings * norms, labels) == pytest.approx(loss_of(embeddings, labels), rel=1e-5)


def test_clustered_embeddings_lose_less_than_scattered_ones():
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 5)
    clustered = np.eye(4)[labels] + 0.1 * random.normal(size=(20, 4))
    scattered = random.normal(size=(20, 4))
    assert loss_of(clustered, labels) < 0.75 * loss_of(scattered, labels)
    # the least there is: every positive equally near, every negative far, -log(1/4) for four positives
    assert loss_of(np.eye(4)[labels], labels) == pytest.approx(math.log(4), rel=1e-4)


def test_going_downhill_clusters_the_embeddings():
    embeddings, labels = a_batch(5, n=12)
    z = torch.tensor(embeddings, requires_grad=True)
    first = supervised_contrastive(z, torch.tensor(labels))
    optimiser = torch.optim.Adam([z], lr=0.05)
    for _ in range(50):
        optimiser.zero_grad()
        supervised_contrastive(z, torch.tensor(labels)).backward()
        assert torch.isfinite(z.grad).all()
        optimiser.step()
    assert supervised_contrastive(z, torch.tensor(labels)) < 0.7 * first


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [-1, -1, -1, -1], [2, -1, -1, -1]], ids=["all differ", "none", "one"])
def test_a_batch_without_positives_gives_0_and_no_gradient(labels: list[int]):
    z = torch.randn(4, 6, requires_grad=True)
    loss = supervised_contrastive(z, torch.tensor(labels))
    loss.backward()
    assert loss.item() == 0.0
    assert z.grad is not None and (z.grad == 0).all()


def test_equal_and_opposite_faces_keep_the_gradient_finite():
    z = torch.tensor([[1.0, 0], [1, 0], [-1, 0], [-1, 0], [1e-4, 0]], requires_grad=True)
    supervised_contrastive(z, torch.tensor([0, 1, 0, 1, 0])).backward()
    assert torch.isfinite(z.grad).all()


def test_half_precision_projections_are_compared_in_single_precision():
    embeddings, labels = a_batch(6)
    half = torch.tensor(embeddings).bfloat16()
    loss = supervised_contrastive(half, torch.tensor(labels))
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(reference_contrastive(half.double().numpy(), labels, 0.05), rel=1e-4)


def test_masked_mse_is_the_mean_over_what_is_known():
    prediction = np.array([0.5, -1.0, 2.0, 0.25], np.float32)
    truth = np.array([0.0, np.nan, 1.0, np.nan], np.float32)
    expected = np.nanmean((prediction - truth) ** 2)
    assert float(masked_mse(torch.tensor(prediction), torch.tensor(truth))) == pytest.approx(expected)


def test_unknown_truth_sends_no_gradient():
    prediction = torch.tensor([3.0, 4.0], requires_grad=True)
    masked_mse(prediction, torch.tensor([1.0, float("nan")])).backward()
    assert prediction.grad.tolist() == [4.0, 0.0]


def test_masked_mse_is_0_without_gradient_when_nothing_is_known():
    prediction = torch.tensor([3.0, 4.0], requires_grad=True)
    loss = masked_mse(prediction, torch.full((2,), float("nan")))
    loss.backward()
    assert loss.item() == 0.0 and prediction.grad.tolist() == [0.0, 0.0]


def test_soft_cross_entropy_is_numpys_over_rows_with_votes():
    random = np.random.default_rng(1)
    logits = random.normal(size=(6, 8))
    shares = random.dirichlet(np.ones(8), 6)
    shares[1] = shares[4] = np.nan
    known = [0, 2, 3, 5]
    log_softmax = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = np.mean([-(shares[i] * log_softmax[i]).sum() for i in known])
    assert float(soft_cross_entropy(torch.tensor(logits), torch.tensor(shares))) == pytest.approx(expected, rel=1e-5)


def test_soft_cross_entropy_of_certain_raters_is_the_usual_one():
    logits, labels = torch.randn(5, 8), torch.tensor([0, 3, 7, 3, 1])
    certain = torch.nn.functional.one_hot(labels, 8).float()
    usual = torch.nn.functional.cross_entropy(logits, labels)
    assert float(soft_cross_entropy(logits, certain)) == pytest.approx(float(usual), rel=1e-5)


def test_soft_cross_entropy_without_votes_is_0_without_gradient():
    logits = torch.randn(3, 8, requires_grad=True)
    loss = soft_cross_entropy(logits, torch.full((3, 8), float("nan")))
    loss.backward()
    assert loss.item() == 0.0 and (logits.grad == 0).all()


def test_distance_agreement_is_one_minus_pearson_over_pairs():
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(12, 5, generator=generator)
    truth = torch.rand(12, 3, generator=generator)
    unit = torch.nn.functional.normalize(embeddings, dim=1)
    expected = 1 - np.corrcoef(pdist(unit.numpy()), pdist(truth.numpy()))[0, 1]
    assert float(distance_agreement(embeddings, truth)) == pytest.approx(expected, abs=1e-4)


def test_distance_agreement_is_zero_for_distances_in_proportion_and_leaves_unknown_rows_out():
    angles = torch.linspace(0, 0.02, 6)  # so short an arc that chords are as long as arcs
    embeddings = torch.stack([angles.cos(), angles.sin()], 1) * 7
    truth = torch.stack([angles * 40, angles * 30], 1)
    assert float(distance_agreement(embeddings, truth)) == pytest.approx(0, abs=1e-3)
    far = torch.cat([embeddings, torch.randn(3, 2)])
    unknown = torch.cat([truth, torch.full((3, 2), float("nan"))])
    assert float(distance_agreement(far, unknown)) == pytest.approx(0, abs=1e-3)


def test_distance_agreement_has_finite_gradients_for_equal_faces_and_none_for_too_few():
    same = torch.ones(4, 3, requires_grad=True)
    distance_agreement(same, torch.rand(4, 2)).backward()
    assert torch.isfinite(same.grad).all()
    few = torch.randn(5, 3, requires_grad=True)
    distance_agreement(few, torch.full((5, 2), float("nan"))).backward()
    assert float(few.grad.abs().sum()) == 0


def test_reversed_gradient_makes_the_encoder_forget_what_the_head_learns():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    (reverse_gradient(x) * torch.tensor([3.0, -1.0])).sum().backward()
    assert x.grad.tolist() == [-3.0, 1.0]
