"""A swap model's training loop with the metric and the loss, small enough for a CPU.

    python examples/training_loop.py --out runs/            # about three minutes
    python examples/training_loop.py --out runs/ --plot     # and curves.svg (needs matplotlib)

The generator paints, with a mask of its own making, parts of the target over the source. It is trained twice: to keep
the source's pixels alone, and with `ExpressionLoss` besides. `ExpressionPreservation` judges both on people neither
has seen. Five people are no training set: what is shown is how the pieces go together, and that the loss teaches. The
control beside it, how much of the source's pixels is left, shows the price: whoever returns the target scores best.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from bundled_faces import aligned_faces
from torch import Tensor, nn
from torch.nn import functional as F

from exprmetric.torch import ExpressionEncoder, ExpressionLoss, ExpressionPreservation

HELD_OUT = 2
"""People whom the generator never sees."""
RUNS = {"pixels alone": 0.0, "with ExpressionLoss": 0.5}
"""Weight of the expression loss."""


class Generator(nn.Module):
    """(B, 3, S, S) target and source → (B, 3, S, S) swapped."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(6, 16, 5, 4, 2), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 1, 3, 1, 1)
        )

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        mask = torch.sigmoid(self.layers(torch.cat([target, source], 1)) - 1)
        return source + F.interpolate(mask, size=source.shape[2:], mode="bilinear") * (target - source)


def split() -> tuple[Tensor, Tensor]:
    """Faces to learn from, and faces of other people to be judged on."""
    faces, people = aligned_faces()
    known = people < int(people.max()) + 1 - HELD_OUT
    return faces[known], faces[~known]


def train(
    weight: float, steps: int, *, every: int = 20, generator: nn.Module | None = None, seed: int = 0
) -> Iterator[tuple[int, dict[str, float]]]:
    """Train, and give the step and the held-out scores before the first step and after every few."""
    torch.manual_seed(seed)
    generator = generator or Generator()
    # one encoder for both; the metric's own would round to 8 bits, as the command line does
    encoder = ExpressionEncoder()
    expression, metric = ExpressionLoss(encoder=encoder), ExpressionPreservation(encoder=encoder)
    optimizer = torch.optim.Adam(generator.parameters(), 1e-3)
    known, unseen = split()

    def score() -> dict[str, float]:
        metric.reset()
        target, source = unseen, unseen.roll(1, 0)
        with torch.no_grad():
            swapped = generator(target, source)
            metric.update(target, source, swapped)
        scores = {name: float(value) for name, value in metric.compute().items()}
        return {**scores, "pixels_to_source": float(F.l1_loss(swapped, source))}

    yield 0, score()
    for step in range(1, steps + 1):
        target, source = (known[torch.randint(len(known), (4,))] for _ in range(2))
        swapped = generator(target, source)
        loss = F.l1_loss(swapped, source)
        if weight:
            loss = loss + weight * expression(target, swapped)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % every == 0 or step == steps:
            yield step, score()


def draw(curves: dict[str, list[tuple[int, dict[str, float]]]], out: Path) -> None:
    """Held-out scores by step, one line a run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams["svg.hashsalt"] = "exprmetric"  # the same file for the same numbers
    figure, panels = plt.subplots(1, 2, figsize=(8, 3))
    labels = {"mean_t2c": "expression: mean t2c", "pixels_to_source": "control: pixels from the source"}
    for axes, (score, label) in zip(panels, labels.items(), strict=True):
        for name, curve in curves.items():
            axes.plot([step for step, _ in curve], [scores[score] for _, scores in curve], label=name)
        axes.set_xlabel("training step")
        axes.set_title(label, fontsize="medium")
        axes.set_ylim(bottom=0)
    panels[0].legend()
    figure.tight_layout()
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)


def main(arguments: list[str] | None = None) -> dict[str, list[tuple[int, dict[str, float]]]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--plot", action="store_true")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    curves: dict[str, list[tuple[int, dict[str, float]]]] = {}
    with (options.out / "log.jsonl").open("w", encoding="utf-8") as log:
        for name, weight in RUNS.items():
            curves[name] = []
            for step, scores in train(weight, options.steps):
                curves[name].append((step, scores))
                log.write(json.dumps({"run": name, "step": step, **scores}) + "\n")
                kept = f"mean t2c {scores['mean_t2c']:.3f}, pixels from the source {scores['pixels_to_source']:.3f}"
                print(f"{name:20s} step {step:4d}  {kept}")
    if options.plot:
        draw(curves, options.out / "curves.svg")
    return curves


if __name__ == "__main__":
    main()
