"""The self-supervised engines against values worked by hand and plain NumPy: losses, gradients, queue and momentum."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from exprmetric.encoder.models import Encoder
from exprmetric.errors import InputError
from exprmetric.training.engines import ENGINES, USES_IGNORED, EngineConfig, Views, build_engine, heads
from exprmetric.training.engines.simclr import nt_xent
from exprmetric.training.optimisers import OPTIMISERS

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]


class Pixels(nn.Module):
    """A stand-in for the encoder: (B, 1, 4, 4) → (B, 6), with batch norm; it remembers what it was called on."""

    dimension = 6

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.BatchNorm1d(6))
        self.seen: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(images)
        return self.layers(images)


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """float32 throughout, so that references can be compared closely."""
    monkeypatch.setattr(heads, "autocast", lambda device: contextlib.nullcontext())


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def engine_of(name: str, **settings):
    return build_engine(Pixels(), EngineConfig(engine=name, **{"projection": 8, "hidden": 10, "queue": 7, **settings}))


def faces(count: int = 5) -> torch.Tensor:
    return torch.rand(count, 1, 4, 4)


def unit(x: torch.Tensor) -> np.ndarray:
    x = x.detach().double().numpy()
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def views(negatives: int = 0, count: int = 5) -> Views:
    return Views(faces(count), faces(count), tuple(faces(count) for _ in range(negatives)))


# --- predictive losses (paper 003, equations 2-4) ---


def angle(degrees: float) -> list[float]:
    return [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]


def test_similarity_is_the_mean_of_both_directions_whatever_the_lengths():
    p = (torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]]))
    z = (torch.tensor([[5.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
    # cos(p1, z2) = 3/5, cos(p2, z1) = 0
    torch.testing.assert_close(heads.symmetric_similarity(p, z), torch.tensor([0.3]))


def test_the_target_similarity_bounds_each_face_and_not_their_mean():
    zero = torch.tensor([angle(0), angle(0)])
    apart = torch.tensor([angle(math.degrees(math.acos(0.9))), angle(120)])  # sim(1, 3) = 0.9 and -0.5
    half = torch.tensor([angle(60), angle(60)])  # sim(1, 2) = 0.5
    terms = heads.predictive_losses([zero, half, apart], [zero, half, apart], 0.6)
    assert float(terms["positive"]) == pytest.approx(-0.5, abs=1e-6)
    assert float(terms["negative"]) == pytest.approx((0.9 + 0.6) / 2, abs=1e-6)
    assert float(terms["negative_similarity"]) == pytest.approx((0.9 - 0.5) / 2, abs=1e-6)
    assert float(terms["total"]) == pytest.approx(-0.5 + 0.75, abs=1e-6)
    two = heads.predictive_losses([zero, half, apart, half], [zero, half, apart, half], 0.6)
    assert float(two["negative"]) == pytest.approx((0.75 + 0.6) / 2, abs=1e-6)  # the mean over negatives


def test_a_face_that_is_far_enough_is_not_pushed():
    p = [torch.randn(4, 8, requires_grad=True) for _ in range(3)]
    z = [torch.randn(4, 8) for _ in range(3)]
    heads.predictive_losses(p, z, 0.999)["negative"].backward()
    assert p[2].grad is not None and not p[2].grad.any()
    heads.predictive_losses(p, z, -1.0)["negative"].backward()
    assert (p[2].grad != 0).any(1).all()


def test_one_point_for_all_faces_scores_minus_one_and_spread_tells():
    point = torch.randn(1, 8).expand(6, 8)
    terms = heads.predictive_losses([point, point], [point, point], 0.6)
    assert float(terms["total"]) == pytest.approx(-1, abs=1e-6)
    assert float(terms["spread"]) == pytest.approx(0, abs=1e-6)
    even = torch.randn(4000, 8)
    assert float(heads.predictive_losses([even, even], [even, even], 0.6)["spread"]) == pytest.approx(1, abs=0.02)


def test_a_collapsed_simsiam_scores_minus_one():
    engine = engine_of("simsiam").eval()
    for parameter in engine.encoder.parameters():
        parameter.data.zero_()
    engine.encoder.layers[2].bias.data.fill_(0.5)  # the same embedding for all faces
    engine.projector, engine.predictor = nn.Identity(), nn.Identity()
    assert float(engine.losses(views())["total"].detach()) == pytest.approx(-1, abs=1e-6)


def test_simsiams_gradient_stops_at_the_projections():
    engine, seen = engine_of("simsiam"), views(1)
    engine.losses(seen)["total"].backward()
    got = {n: p.grad.clone() for n, p in engine.named_parameters()}
    engine.zero_grad()
    images = (seen.anchor, seen.positive, seen.negatives[0])
    z = [engine.projector(engine.encoder(x)) for x in images]
    p = [engine.predictor(v) for v in z]
    constants = [torch.tensor(v.tolist()) for v in z]

    def sim(i: int, j: int) -> torch.Tensor:
        ij, ji = (p[i] * constants[j]).sum(1), (p[j] * constants[i]).sum(1)
        ij = ij / p[i].norm(dim=1) / constants[j].norm(dim=1)
        return (ij + ji / p[j].norm(dim=1) / constants[i].norm(dim=1)) / 2

    (-sim(0, 1).mean() + torch.maximum(sim(0, 2), torch.tensor(0.6)).mean()).backward()
    for name, parameter in engine.named_parameters():
        torch.testing.assert_close(got[name], parameter.grad, atol=1e-6, rtol=1e-4)
    assert got["encoder.layers.1.weight"].any()


def test_simsiams_heads_are_those_of_its_paper():
    engine = build_engine(Pixels(), EngineConfig())
    widths = [(m.in_features, m.out_features) for m in engine.projector.modules() if isinstance(m, nn.Linear)]
    assert widths == [(6, 2048), (2048, 2048), (2048, 2048)]
    norms = [m.affine for m in engine.projector.modules() if isinstance(m, nn.BatchNorm1d)]
    assert norms == [True, True, False]
    widths = [(m.in_features, m.out_features) for m in engine.predictor.modules() if isinstance(m, nn.Linear)]
    assert widths == [(2048, 512), (512, 2048)]
    assert [type(m) for m in engine.predictor] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]


# --- BYOL and the momentum encoder ---


def test_byol_foretells_what_the_slow_network_makes_of_the_other_view():
    engine, seen = engine_of("byol"), views()
    for parameter in engine.slow_projector.parameters():
        parameter.data.normal_()
    total = engine.losses(seen)["total"]
    p = [unit(engine.predictor(engine.projector(engine.encoder(x)))) for x in (seen.anchor, seen.positive)]
    z = [unit(engine.slow_projector(engine.slow_encoder(x))) for x in (seen.anchor, seen.positive)]
    assert float(total.detach()) == pytest.approx(-((p[0] * z[1]).sum(1) + (p[1] * z[0]).sum(1)).mean() / 2, abs=1e-5)
    total.backward()
    assert all(p.grad is None and not p.requires_grad for p in engine.slow_encoder.parameters())
    assert all(p.grad is None and not p.requires_grad for p in engine.slow_projector.parameters())
    assert engine.encoder.layers[1].weight.grad.any()


def moved(engine) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Slow and fast parameters, float64."""
    slow = [*engine.slow_encoder.parameters(), *engine.slow_projector.parameters()]
    fast = [*engine.encoder.parameters(), *engine.projector.parameters()]
    return [p.detach().double().numpy() for p in slow], [p.detach().double().numpy() for p in fast]


@pytest.mark.parametrize(
    ("name", "settings", "momenta"),
    [
        ("mocov2", {"momentum": 0.9}, [0.9, 0.9, 0.9]),
        ("mocov2", {}, [0.999] * 3),
        ("byol", {}, [0.996] * 3),
        ("byol", {"momentum": 0.8, "momentum_steps": 2}, [0.8, 0.9, 1.0, 1.0]),  # (cos(0, π/2, π) + 1) / 2
    ],
)
def test_the_slow_network_follows_after_each_step(name: str, settings: dict, momenta: list[float]):
    engine = engine_of(name, **settings)
    slow, fast = moved(engine)
    assert all(np.array_equal(s, f) for s, f in zip(slow, fast, strict=True))  # it starts as a copy
    for momentum in momenta:
        with torch.no_grad():
            for p in [*engine.encoder.parameters(), *engine.projector.parameters()]:
                p += torch.randn_like(p)
        before, _ = moved(deepcopy(engine))
        engine.after_step()
        after, fast = moved(engine)
        for b, a, f in zip(before, after, fast, strict=True):
            np.testing.assert_allclose(a, momentum * b + (1 - momentum) * f, atol=1e-6)


def test_byol_learns_with_lars():
    engine, images = engine_of("byol", hidden=32).train(), faces(32)
    optimizer = OPTIMISERS["lars"]([p for p in engine.parameters() if p.requires_grad], 2.0, 1e-6)
    history = []
    for _ in range(40):
        terms = engine.losses(Views(images + 0.05 * torch.randn_like(images), images))
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
        engine.after_step()
        history.append(float(terms["total"].detach()))
    assert np.mean(history[-5:]) < np.mean(history[:5]) - 0.1


# --- the softmax against many ---


def picked(positive: float, negatives: list[float], temperature: float) -> float:
    """-log of the positive's share, one exponential at a time."""
    top = math.exp(positive / temperature)
    return -math.log(top / (top + sum(math.exp(s / temperature) for s in negatives)))


def reference_nt_xent(anchor, positive, temperature, negatives=(), ignored=None) -> float:
    """Per view of each face, over explicit lists of negatives."""
    z, own = [unit(anchor), unit(positive)], [unit(n) for n in negatives]
    count, total = len(anchor), 0.0
    for view in (0, 1):
        for i in range(count):
            others = [
                float(z[view][i] @ z[other][j])
                for other in (0, 1)
                for j in range(count)
                if j != i and not (ignored is not None and ignored[i][j])
            ]
            hard = [float(z[view][i] @ n[i]) for n in own]
            total += picked(float(z[view][i] @ z[1 - view][i]), others + hard, temperature)
    return total / (2 * count)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
def test_nt_xent_is_the_plain_formula(temperature: float):
    a, b = torch.randn(2, 6, 5).unbind()
    terms = nt_xent(a, b, temperature)
    assert float(terms["total"]) == pytest.approx(reference_nt_xent(a, b, temperature), rel=1e-5)
    assert float(terms["total"]) == pytest.approx(float(terms["positive"] + terms["negative"]), rel=1e-6)
    assert float(terms["positive"]) == pytest.approx(-(unit(a) * unit(b)).sum(1).mean() / temperature, rel=1e-5)


def test_nt_xent_of_faces_at_right_angles():
    z, nothing = torch.eye(4), torch.zeros(4, 4, dtype=torch.bool)
    e = math.e
    assert float(nt_xent(z, z, 1.0)["total"]) == pytest.approx(math.log(e + 6) - 1, rel=1e-6)  # 2·4 - 2 negatives
    one = nothing.clone()
    one[2, 0] = True  # both views of face 2 lose two negatives; face 0 none
    expected = (3 * math.log(e + 6) + math.log(e + 4)) / 4 - 1
    assert float(nt_xent(z, z, 1.0, ignored=one)["total"]) == pytest.approx(expected, rel=1e-6)
    opposite, away = -z, torch.roll(z, 1, 0)
    hard = nt_xent(z, z, 1.0, negatives=(opposite, away))["total"]
    assert float(hard) == pytest.approx(math.log(e + 6 + 1 / e + 1) - 1, rel=1e-6)


@pytest.mark.parametrize("hard", [0, 1, 2])
@pytest.mark.parametrize("masked", [False, True])
def test_ignored_pairs_and_hard_negatives_change_their_own_terms(hard: int, masked: bool):
    a, b, *negatives = torch.randn(2 + hard, 6, 5).unbind()
    ignored = (torch.rand(6, 6) < 0.3) if masked else None
    got = nt_xent(a, b, 0.3, negatives=tuple(negatives), ignored=ignored)["total"]
    assert float(got) == pytest.approx(reference_nt_xent(a, b, 0.3, negatives, ignored), rel=1e-5)


def test_a_faces_other_view_stays_its_positive_whatever_is_ignored():
    a, b = torch.randn(2, 4, 5, requires_grad=True).unbind()
    nobody = torch.zeros(4, 4, dtype=torch.bool)
    assert torch.equal(nt_xent(a, b, 0.5, ignored=torch.eye(4).bool())["total"], nt_xent(a, b, 0.5)["total"])
    assert torch.equal(nt_xent(a, b, 0.5, ignored=nobody)["total"], nt_xent(a, b, 0.5)["total"])
    leaf = torch.randn(4, 5, requires_grad=True)
    alone = nt_xent(leaf, b.detach(), 0.5, ignored=~nobody)["total"]
    assert float(alone.detach()) == pytest.approx(0, abs=1e-6)  # nothing left to tell it from
    alone.backward()
    assert torch.isfinite(leaf.grad).all()


def test_simclr_hands_its_projections_to_the_loss():
    engine = engine_of("simclr", temperature=0.4)
    seen = Views(faces(), faces(), (faces(),), torch.eye(5).roll(1, 0).bool())
    z = [engine.projector(engine.encoder(x)) for x in (seen.anchor, seen.positive, seen.negatives[0])]
    expected = reference_nt_xent(z[0], z[1], 0.4, z[2:], seen.ignored)
    assert float(engine.losses(seen)["total"].detach()) == pytest.approx(expected, rel=1e-5)


# --- MoCo v2 ---


@pytest.mark.parametrize("hard", [0, 2])
def test_moco_tells_the_key_from_the_queue_and_the_anchors_own_negatives(hard: int):
    engine, seen = engine_of("mocov2", temperature=0.3), views(hard)
    engine.losses(views())  # five keys for seven places
    for parameter in engine.slow_projector.parameters():
        parameter.data.normal_()
    query = unit(engine.projector(engine.encoder(seen.anchor)))
    slow = [unit(engine.slow_projector(engine.slow_encoder(x))) for x in (seen.positive, *seen.negatives)]
    queue, full = unit(engine.queue[:5]), 0.3 * math.log(7 / 5)  # five count for seven
    expected = np.mean(
        [
            picked(float(q @ slow[0][i]), [*(queue @ q + full), *(float(q @ s[i]) for s in slow[1:])], 0.3)
            for i, q in enumerate(query)
        ]
    )
    terms = engine.losses(seen)
    assert float(terms["total"].detach()) == pytest.approx(expected, rel=1e-5)
    terms["total"].backward()  # though the queue has been written to
    assert engine.encoder.layers[1].weight.grad.any()
    assert all(p.grad is None for p in [*engine.slow_encoder.parameters(), *engine.slow_projector.parameters()])


def test_the_queue_forgets_its_oldest_keys_first():
    engine = engine_of("mocov2", queue=7)
    held: list[torch.Tensor | None] = [None] * 7
    place = 0
    for _ in range(4):
        seen = views(count=3)
        keys = engine.keys(seen.positive)
        engine.losses(seen)
        for key in keys:
            held[place] = key
            place = (place + 1) % 7
        for slot, key in zip(engine.queue, held, strict=True):
            torch.testing.assert_close(slot, torch.zeros(8) if key is None else key)
    assert int(engine.written) == 12
    torch.testing.assert_close(engine.queue.norm(dim=1), torch.ones(7))


def test_places_without_a_key_are_no_negatives():
    engine = engine_of("mocov2", queue=100).eval()
    assert float(engine.losses(views())["total"].detach()) == pytest.approx(0, abs=1e-6)  # nothing to tell it from
    engine.train().losses(views(count=4))
    engine.eval()
    seen = views(count=4)
    few = engine.losses(seen)["total"]
    engine.queue[4:] = torch.randn(96, 8)
    assert torch.equal(engine.losses(seen)["total"], few)


def test_the_loss_is_alike_however_full_the_queue_is():
    engine, seen = engine_of("mocov2", queue=8), views(count=4)
    engine.losses(seen)
    engine.eval()
    half = float(engine.losses(seen)["total"].detach())
    engine.queue[4:] = engine.queue[:4]  # the same keys again
    engine.written += 4
    assert float(engine.losses(seen)["total"].detach()) == pytest.approx(half, rel=1e-6)
    engine.written -= 4
    assert float(engine.losses(seen)["total"].detach()) == pytest.approx(half, rel=1e-6)


def test_of_a_batch_larger_than_the_queue_the_last_keys_stay():
    engine, seen = engine_of("mocov2", queue=3), views(count=5)
    keys = engine.keys(seen.positive)
    engine.losses(seen)
    torch.testing.assert_close(engine.queue, keys[2:])


# --- what all engines keep ---


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_outside_training_nothing_changes(name: str):
    engine, seen = engine_of(name), views(1)
    engine.eval()
    before = deepcopy(engine.state_dict())
    first = engine.losses(seen)
    assert all(torch.equal(v, before[k]) for k, v in engine.state_dict().items())
    assert torch.equal(engine.losses(seen)["total"], first["total"])
    engine.train().losses(seen)
    changed = {k for k, v in engine.state_dict().items() if not torch.equal(v, before[k])}
    assert "encoder.layers.2.running_mean" in changed
    assert ("queue" in changed) == (name == "mocov2")


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_the_total_is_the_sum_of_its_terms_and_negatives_raise_it(name: str):
    engine, seen = engine_of(name, target_similarity=-0.2).eval(), views(1)
    if hasattr(engine, "predictor"):
        engine.predictor = nn.Identity()
    terms = engine.losses(seen)
    assert float(terms["total"].detach()) == pytest.approx(float((terms["positive"] + terms["negative"]).detach()))
    near = Views(seen.anchor, seen.positive, (seen.anchor,))
    assert float(engine.losses(near)["total"].detach()) > float(terms["total"].detach())  # not told from itself


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_only_engines_that_say_so_use_ignored_pairs(name: str):
    engine, seen = engine_of(name).eval(), views()
    masked = Views(seen.anchor, seen.positive, ignored=torch.eye(5).roll(1, 0).bool())
    same = torch.equal(engine.losses(seen)["total"], engine.losses(masked)["total"])
    assert same == (name not in USES_IGNORED)


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_the_encoder_sees_the_views_in_the_documented_order(name: str):
    engine, seen = engine_of(name), views(2)
    engine.losses(seen)
    images = (seen.anchor, seen.positive, *seen.negatives)
    expected = images[:1] if name == "mocov2" else images
    assert [id(x) for x in engine.encoder.seen] == [id(x) for x in expected]
    if name == "mocov2":
        assert [id(x) for x in engine.slow_encoder.seen] == [id(x) for x in images[1:]]


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_a_resumed_engine_goes_on_as_it_was(name: str):
    engine = engine_of(name, momentum_steps=5)
    for _ in range(2):
        engine.losses(views())
        engine.after_step()
    other = engine_of(name, momentum_steps=5)
    other.load_state_dict(engine.state_dict())
    for e in (engine, other):
        torch.manual_seed(1)
        for p in e.encoder.parameters():
            p.data += torch.randn_like(p)
        e.losses(views())
        e.after_step()
    for k, v in engine.state_dict().items():
        assert torch.equal(v, other.state_dict()[k]), k


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_a_real_encoder_gets_a_gradient_in_mixed_precision(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    engine = build_engine(Encoder("resnet18", dimension=8), EngineConfig(engine=name, queue=16))
    terms = engine.losses(Views(*(torch.rand(4, 1, 32, 32) for _ in range(2)), (torch.rand(4, 1, 32, 32),)))
    assert all(v.dtype == torch.float32 and torch.isfinite(v) for v in terms.values())
    terms["total"].backward()
    assert torch.isfinite(engine.encoder.backbone.conv1.weight.grad).all()
    assert engine.encoder.backbone.conv1.weight.grad.any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engine": "dino"}, "unknown engine 'dino'; known: simsiam, byol, mocov2, simclr"),
        ({"queue": 0}, "queue is 0"),
        ({"momentum": 1.5}, "momentum is 1.5"),
        ({"target_similarity": 2.0}, "target_similarity is 2.0"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"projection": -1}, "projection is -1"),
    ],
)
def test_settings_that_no_engine_can_have_are_refused(settings: dict, message: str):
    with pytest.raises(InputError, match=message):
        EngineConfig(**settings)
