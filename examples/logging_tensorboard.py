"""Expression scores in TensorBoard, or in Weights & Biases without an account.

    python examples/logging_tensorboard.py --out runs/             # then: tensorboard --logdir runs/
    python examples/logging_tensorboard.py --out runs/ --wandb     # offline: `wandb sync` sends it, if ever

pip install tensorboard, or wandb. Numbers alone are logged: faces of people are not sent anywhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from training_loop import train

Log = Callable[[int, dict[str, float]], None]


@contextmanager
def tensorboard(out: Path) -> Iterator[Log]:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(out)) as writer:

        def log(step: int, scores: dict[str, float]) -> None:
            for name, value in scores.items():
                writer.add_scalar(f"expression/{name}", value, step)

        yield log


@contextmanager
def wandb_offline(out: Path) -> Iterator[Log]:
    import wandb

    settings = wandb.Settings(silent=True, console="off", disable_git=True)
    with wandb.init(project="swap-model", mode="offline", dir=str(out), settings=settings) as run:

        def log(step: int, scores: dict[str, float]) -> None:
            run.log({f"expression/{name}": value for name, value in scores.items()}, step=step)

        yield log


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--wandb", action="store_true")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    with (wandb_offline if options.wandb else tensorboard)(options.out) as log:
        for step, scores in train(0.5, options.steps):
            log(step, scores)
            print(step, {name: round(value, 3) for name, value in scores.items()})


if __name__ == "__main__":
    main()
