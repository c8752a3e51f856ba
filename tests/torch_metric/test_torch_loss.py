"""ExpressionLoss is the metric's distance, its gradient is right, for the swapped image alone, and it teaches."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_faces import batch, crops, encoder, photographs, triplets

from exprmetric.errors import InputError
from exprmetric.torch import ExpressionEncoder, ExpressionLoss, ExpressionPreservation
from exprmetric.torch.loss import perceptual

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)
    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def smooth() -> ExpressionEncoder:
    return encoder()


@pytest.fixture(scope="module")
def images() -> tuple[Tensor, Tensor, Tensor]:
    """Three targets, sources and swapped faces, floats 0..1."""
    target, source, swapped = (batch(i[3:9:2]) / 255 for i in triplets())
    return target, source, swapped


@pytest.fixture(scope="module")
def distances(smooth: ExpressionEncoder, images: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """t2c and s2c, (3,), by hand."""
    with torch.no_grad():
        target, source, swapped = (smooth(i) for i in images)
    return (target - swapped).square().sum(1).sqrt(), (source - swapped).square().sum(1).sqrt()


def some_layer(network: ExpressionEncoder) -> str:
    """A submodule in the middle of the backbone, by the name it has in this architecture."""
    stages = [n for n, m in network.network.named_modules() if n.startswith("backbone.") and isinstance(m, nn.Conv2d)]
    return stages[len(stages) // 2]


class TestValue:
    def test_it_is_the_metrics_distance(
        self, smooth: ExpressionEncoder, images: tuple[Tensor, ...], distances: tuple[Tensor, Tensor]
    ) -> None:
        target, source, swapped = images
        found = ExpressionLoss(encoder=smooth)(target, swapped)
        assert found.item() == pytest.approx(distances[0].mean().item(), abs=1e-6)
        metric = ExpressionPreservation(encoder=smooth)
        metric.update(target, source, swapped)
        assert found.item() == pytest.approx(metric.compute()["mean_t2c"].item(), abs=1e-6)

    @pytest.mark.parametrize("margin", [0.0, 0.2, 3.0])
    def test_margin_is_the_formula(
        self, margin: float, smooth: ExpressionEncoder, images: tuple[Tensor, ...], distances: tuple[Tensor, Tensor]
    ) -> None:
        target, source, swapped = images
        t2c, s2c = distances
        found = ExpressionLoss(margin=margin, reduction="none", encoder=smooth)(target, swapped, source)
        assert torch.allclose(found, (t2c - s2c + margin).clamp(min=0), atol=1e-6)
        if margin == 3.0:  # more than two unit vectors can be apart: never satisfied
            assert (found > 0).all()

    def test_reductions(
        self, smooth: ExpressionEncoder, images: tuple[Tensor, ...], distances: tuple[Tensor, Tensor]
    ) -> None:
        target, _, swapped = images
        for reduction, expected in (("none", distances[0]), ("sum", distances[0].sum()), ("mean", distances[0].mean())):
            found = ExpressionLoss(reduction=reduction, encoder=smooth)(target, swapped)
            assert found.shape == expected.shape and torch.allclose(found, expected, atol=1e-6)

    def test_ranges_and_bytes_are_the_same_images(
        self, smooth: ExpressionEncoder, images: tuple[Tensor, ...], distances: tuple[Tensor, Tensor]
    ) -> None:
        target, _, swapped = images
        signed = ExpressionLoss(value_range=(-1.0, 1.0), encoder=smooth)
        found = signed((target * 255).round().to(torch.uint8), swapped * 2 - 1)
        assert found.item() == pytest.approx(distances[0].mean().item(), abs=1e-5)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_images(
        self, dtype: Any, smooth: ExpressionEncoder, images: tuple[Tensor, ...], distances: tuple[Tensor, Tensor]
    ) -> None:
        target, _, swapped = images
        swapped = swapped.to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = ExpressionLoss(encoder=smooth)(target.to(dtype), swapped)
        found.backward()
        assert found.dtype == torch.float32
        assert found.item() == pytest.approx(distances[0].mean().item(), abs=0.02)
        assert swapped.grad is not None and swapped.grad.dtype == dtype and swapped.grad.isfinite().all()

    def test_layers_are_weighted_and_compared_as_perceptual_losses_do(
        self, smooth: ExpressionEncoder, images: tuple[Tensor, ...], distances: tuple[Tensor, Tensor]
    ) -> None:
        target, _, swapped = images
        layer = some_layer(smooth)
        kept: list[Tensor] = []
        handle = smooth.layer(layer).register_forward_hook(lambda *a: kept.append(a[2]))
        with torch.no_grad():
            smooth(target)
            first = kept[0]
            kept.clear()
            smooth(swapped)
            second = kept[0]
        handle.remove()
        x, y = (f / (f.square().sum(1, keepdim=True).sqrt() + 1e-12) for f in (first, second))
        by_hand = ((x - y) ** 2).sum(1).mean((1, 2))
        alone = ExpressionLoss(layers={layer: 1.0}, reduction="none", encoder=smooth)(target, swapped)
        assert torch.allclose(alone, by_hand, atol=1e-4) and (alone > 0).all()
        both = ExpressionLoss(layers={"embedding": 0.5, layer: 2.0}, reduction="none", encoder=smooth)(target, swapped)
        assert torch.allclose(both, 0.5 * distances[0] + 2 * by_hand, atol=1e-4)
        assert not smooth.layer(layer)._forward_hooks

    def test_perceptual_takes_vectors_and_maps(self) -> None:
        a, b = (
            torch.eye(2)[:, :, None, None].expand(2, 2, 3, 3),
            torch.eye(2).flip(0)[:, :, None, None].expand(2, 2, 3, 3),
        )
        assert torch.allclose(perceptual(a, b), torch.tensor([2.0, 2.0]))
        assert torch.allclose(perceptual(a[..., 0, 0], b[..., 0, 0]), torch.tensor([2.0, 2.0]))


class TestGradient:
    def test_only_the_swapped_images_get_one(self, smooth: ExpressionEncoder, images: tuple[Tensor, ...]) -> None:
        target, source, swapped = (i.clone().requires_grad_() for i in images)
        loss = ExpressionLoss(margin=3.0, encoder=smooth).train()
        loss(target, swapped, source).backward()
        assert target.grad is None and source.grad is None
        assert swapped.grad is not None and swapped.grad.abs().sum() > 0
        assert not list(loss.parameters()) and not loss.state_dict()
        assert all(p.grad is None for p in smooth.network.parameters())
        assert not any(m.training for m in smooth.network.modules())

    @pytest.mark.parametrize("margin", [None, 3.0])
    def test_it_is_the_slope(self, margin: float | None, images: tuple[Tensor, ...]) -> None:
        """Against finite differences, in float64 so that they are finer than the rounding."""
        double = encoder()
        double.network.double()
        target, source, swapped = (i[:1].double() for i in images)
        loss = ExpressionLoss(margin=margin, encoder=double)
        rest = (source,) if margin is not None else ()
        swapped.requires_grad_()
        assert torch.autograd.gradcheck(
            lambda c: loss(target, c, *rest), (swapped,), fast_mode=True, eps=1e-7, atol=1e-5, rtol=1e-3
        )

    def test_it_is_the_slope_through_landmarks_and_layers(self, images: tuple[Tensor, ...]) -> None:
        double = encoder()
        double.network.double()
        photo = batch(photographs()[0][0][None, 40:180, 150:300]).double() / 255
        eyes = torch.tensor(photographs()[0][1]) - torch.tensor([150.0, 40.0])
        layers = {"embedding": 1.0, some_layer(double): 1.0}
        loss = ExpressionLoss(align="landmarks", layers=layers, encoder=double)
        swapped = (photo * 0.8 + 0.1).flip(3).requires_grad_()
        assert torch.autograd.gradcheck(
            lambda c: loss(photo, c, target_landmarks=eyes), (swapped,), fast_mode=True, eps=1e-7, atol=1e-5, rtol=1e-3
        )

    def test_a_perfect_swap_has_no_gradient_rather_than_nan(
        self, smooth: ExpressionEncoder, images: tuple[Tensor, ...]
    ) -> None:
        swapped = images[0].clone().requires_grad_()
        ExpressionLoss(encoder=smooth)(images[0], swapped).backward()
        assert swapped.grad is not None and swapped.grad.isfinite().all()

    def test_rounding_lets_it_through(self, images: tuple[Tensor, ...]) -> None:
        target, _, swapped = images
        swapped = swapped.clone().requires_grad_()
        ExpressionLoss(encoder=encoder(quantise=True))(target, swapped).backward()
        assert swapped.grad is not None and swapped.grad.abs().sum() > 0


class TestUse:
    def test_pickle(self, smooth: ExpressionEncoder, images: tuple[Tensor, ...]) -> None:
        loss = ExpressionLoss(layers={"embedding": 1.0, some_layer(smooth): 0.5}, encoder=smooth)
        other = pickle.loads(pickle.dumps(loss))
        assert other(images[0], images[2]).item() == loss(images[0], images[2]).item()

    @pytest.mark.slow
    def test_compiled_it_is_the_same(self, smooth: ExpressionEncoder, images: tuple[Tensor, ...]) -> None:
        """Traced as one graph; the code generator after that is torch's own and needs a compiler."""
        target, _, swapped = images
        loss = ExpressionLoss(encoder=smooth)
        compiled = torch.compile(loss, backend="eager", fullgraph=True)
        one, other = (swapped.clone().requires_grad_() for _ in range(2))
        value = compiled(target, one)
        expected = loss(target, other)
        value.backward()
        expected.backward()
        assert value.item() == pytest.approx(expected.item(), abs=1e-6)
        assert one.grad is not None and other.grad is not None and torch.allclose(one.grad, other.grad, atol=1e-6)

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            ({"margin": -0.1}, "margin must be 0 or more"),
            ({"reduction": "median"}, "unknown reduction 'median'"),
            ({"value_range": (0.0, 0.0)}, "value_range must rise"),
            ({"align": "box"}, "unknown align 'box'"),
            ({"crop_fraction": 1.5}, "crop_fraction must be above 0"),
            ({"layers": {}}, "layers is empty"),
            ({"layers": {"backbone.s99": 1.0}}, r"no layer 'backbone.s99'; known: embedding, backbone\."),
        ],
    )
    def test_bad_arguments(self, arguments: dict[str, Any], told: str, smooth: ExpressionEncoder) -> None:
        with pytest.raises(InputError, match=told):
            ExpressionLoss(encoder=smooth, **arguments)

    def test_margin_and_source_come_together(self, smooth: ExpressionEncoder, images: tuple[Tensor, ...]) -> None:
        target, source, swapped = images
        with pytest.raises(InputError, match="only a margin needs the source"):
            ExpressionLoss(encoder=smooth)(target, swapped, source)
        with pytest.raises(InputError, match="only a margin needs the source"):
            ExpressionLoss(margin=0.2, encoder=smooth)(target, swapped)
        with pytest.raises(InputError, match="got 2 for 3"):
            ExpressionLoss(encoder=smooth)(target, swapped[:2])


class TestValueRange:
    @pytest.mark.parametrize(
        ("value_range", "scale", "offset", "told"),
        [
            ((-1.0, 1.0), 1.0, 0.0, "9 of 9 images fill only the upper half"),
            ((0.0, 1.0), 2.0, -1.0, "9 of 9 images have values far outside"),
            ((-1.0, 1.0), 255.0, 0.0, "9 of 9 images have values far outside"),
            ((0.0, 255.0), 2.0, -1.0, "9 of 9 images .* almost none of it"),
        ],
        ids=["0..1 under -1..1", "-1..1 under 0..1", "0..255 under -1..1", "-1..1 under 0..255"],
    )
    def test_images_in_another_range_are_told_of_once(
        self, value_range: tuple[float, float], scale: float, offset: float, told: str, smooth: ExpressionEncoder,
        images: tuple[Tensor, ...],
    ) -> None:  # fmt: skip
        target, source, swapped = (i * scale + offset for i in images)
        loss = ExpressionLoss(value_range=value_range, margin=0.2, encoder=smooth)
        with pytest.warns(UserWarning, match=told) as caught:
            for _ in range(10):
                loss(target[:1], swapped[:1], source[:1]) if loss._calls else loss(target, swapped, source)
        assert len([w for w in caught if "value_range" in str(w.message)]) == 1

    @pytest.mark.filterwarnings("error")
    def test_right_images_are_no_cause_for_a_warning(
        self, smooth: ExpressionEncoder, images: tuple[Tensor, ...]
    ) -> None:
        target, _, swapped = images
        for value_range in ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)):
            low, high = value_range
            right = [i * (high - low) + low for i in (target, swapped)]
            ExpressionLoss(value_range=value_range, encoder=smooth)(*right)
        bytes_ = (target * 255).round().to(torch.uint8)
        ExpressionLoss(value_range=(-1.0, 1.0), encoder=smooth)(bytes_, swapped * 2 - 1)
        ExpressionLoss(encoder=smooth)(target, swapped * 1.1 - 0.05)  # a generator without a last tanh


class Generator(nn.Module):
    """Paints, with a mask of its own making, parts of the target over the source."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(6, 16, 5, 4, 2), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 1, 3, 1, 1)
        )

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        mask = torch.sigmoid(self.layers(torch.cat([target, source], 1)) - 1)
        return source + F.interpolate(mask, size=source.shape[2:], mode="bilinear") * (target - source)


@pytest.mark.slow
def test_a_generator_learns_expression_that_a_pixel_loss_does_not_teach(smooth: ExpressionEncoder) -> None:
    """Trained to keep the source's pixels, with and without the loss; judged on people it has not seen."""
    faces = F.avg_pool2d(batch(crops()) / 255, 2)  # 112 px: a quarter of the time
    people = torch.arange(14) % 7
    train, held_out = faces[people < 5], faces[people >= 5]
    metric = ExpressionPreservation(encoder=smooth)

    def score(generator: Generator) -> float:
        target, source = held_out, held_out.roll(1, 0)
        metric.reset()
        with torch.no_grad():
            metric.update(target, source, generator(target, source))
        return metric.compute()["mean_t2c"].item()

    def trained(weight: float, steps: int = 100) -> tuple[float, float]:
        torch.manual_seed(0)
        generator, loss = Generator(), ExpressionLoss(encoder=smooth)
        before = score(generator)
        optimizer = torch.optim.Adam(generator.parameters(), 5e-3)
        for _ in range(steps):
            target, source = train[torch.randint(len(train), (4,))], train[torch.randint(len(train), (4,))]
            swapped = generator(target, source)
            total = F.l1_loss(swapped, source)
            if weight:
                total = total + weight * loss(target, swapped)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
        return before, score(generator)

    before, with_loss = trained(1.0)
    _, pixels_alone = trained(0.0)
    assert with_loss < 0.9 * before
    assert with_loss < 0.9 * pixels_alone
