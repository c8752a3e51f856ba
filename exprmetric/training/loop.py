"""The training loop: epochs, checkpoints, early stopping that restores the best weights, a log of metrics.

It runs in one process or, under `torchrun`, in several: see `exprmetric.encoder.distributed`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from exprmetric.encoder import distributed
from exprmetric.encoder.checkpoint import load_checkpoint, save_checkpoint
from exprmetric.encoder.precision import autocast as autocast
from exprmetric.encoder.precision import check_precision, computed_in, computing_in, sentence
from exprmetric.errors import ExprmetricError, InputError, ProviderError
from exprmetric.training.epoch_log import EpochLog

Losses = dict[str, Tensor]

STOPPING = ("epochs", "head_epochs", "patience", "minutes", "tensorboard")
"""Settings that may differ when a run goes on."""


@dataclass
class Schedule:
    """How long and how fast.

    Attributes:
        epochs: at most this many.
        patience: stop after this many epochs without a lower validation loss.
        minutes: stop after the epoch that passes this wall-clock time; 0 for no limit.
    """

    epochs: int
    patience: int
    minutes: float = 0.0


def pick_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda`, `cuda:1`, …; ProviderError when CUDA is asked for and not there.

    Under `torchrun` the processes meet here, and `cuda` becomes each one's own GPU.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ProviderError(f"device {name!r} was asked for and this torch {torch.__version__} sees no GPU")
    return distributed.join(torch.device(name))


class Trainer:
    """Runs one model to its best validation loss.

    Args:
        model: what is trained, saved and restored.
        optimizer: its optimiser.
        scheduler: stepped once a batch, or None.
        step: model, batch → losses; the one named `total` is followed downhill.
        out: folder of `last.pt`, `best.pt` and `log.jsonl`.
        config: plain values written into each checkpoint.
        average: decay of a running average of the weights, which is then what is validated and kept; 0 for none.
        after: called after each step of the optimiser: a momentum encoder follows.
        precision: a value of `exprmetric.encoder.precision.PRECISIONS`, for every `autocast` of the step.
        tensorboard: write curves into `out/tensorboard` too.

    Raises:
        InputError: unknown precision.
        MissingPackageError: TensorBoard is asked for and not installed.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler.LRScheduler | None,
        step: Callable[[nn.Module, Any], Losses],
        out: Path,
        config: dict[str, Any],
        average: float = 0.0,
        after: Callable[[], None] | None = None,
        *,
        precision: str = "auto",
        tensorboard: bool = False,
    ) -> None:
        distributed.synchronise(model)
        self.model, self.optimizer, self.scheduler, self.step = model, optimizer, scheduler, step
        self.after = after
        self.out, self.config = out, config
        self.precision, self.log = check_precision(precision), EpochLog(out, tensorboard=tensorboard)
        self.average = (
            AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(average), use_buffers=True)  # type: ignore[no-untyped-call]
            if average
            else None
        )
        self.epoch, self.best, self.best_epoch = 0, float("inf"), 0
        if distributed.is_main():
            out.mkdir(parents=True, exist_ok=True)

    @property
    def kept(self) -> nn.Module:
        """The weights that are validated and kept."""
        return self.model if self.average is None else self.average.module

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def resume(self) -> bool:
        """Go on from `last.pt`, if there is one.

        Raises:
            InputError: it was trained with other settings than this run's, apart from those that say when to stop;
                or by an earlier version that let the learning rate fall otherwise.
        """
        path = self.out / "last.pt"
        found = path.exists()
        if found:
            self._restore(path)
        if distributed.from_main(self.epoch) != self.epoch:
            raise InputError(f"{path} is not the same for all processes: choose a folder that all of them share")
        return found

    def _restore(self, path: Path) -> None:
        state = load_checkpoint(path, self._device)
        now = {**self.config, "processes": distributed.world()}
        before = {**state["config"], "processes": state.get("processes", 1)}
        other = {k: (v, now.get(k)) for k, v in before.items() if k not in STOPPING and v != now.get(k)}
        if other:
            changes = ", ".join(f"{k} was {old!r}, is {new!r}" for k, (old, new) in other.items())
            raise InputError(f"{path} is of a run with other settings ({changes}): choose another folder")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            try:
                self.scheduler.load_state_dict(state["scheduler"])
            except KeyError as error:
                raise InputError(f"{path} has another way of the learning rate: choose another folder") from error
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.epoch, self.best, self.best_epoch = state["epoch"], state["best"], state["best_epoch"]

    def fit(
        self,
        train: Callable[[int], Iterable[Any]],
        valid: Callable[[], Iterable[Any]],
        schedule: Schedule,
        *,
        batches: int,
        label: str = "training",
    ) -> None:
        """Train, then restore the weights of the epoch with the lowest validation loss.

        Args:
            train: epoch number → batches, so that a resumed run sees what an unbroken one would have seen.
            valid: → validation batches, the same each time.
            schedule: when to stop.
            batches: steps an epoch, for the progress bar.

        Of several processes, all are given all batches and each goes through its share.

        Raises:
            InputError: an epoch has no batch.
            ExprmetricError: the loss is no longer a number.
        """
        from rich.console import Console
        from rich.progress import Progress

        started = time.monotonic()
        bars = Progress(console=Console(stderr=True), refresh_per_second=2, disable=not distributed.is_main())
        with bars as progress, computing_in(self.precision), self.log:
            progress.console.print(f"{label}: {sentence(self._device, self.precision)}", highlight=False, markup=False)
            bar = progress.add_task(label, total=schedule.epochs * batches, completed=self.epoch * batches)
            while self.epoch < schedule.epochs and self.epoch - self.best_epoch < max(1, schedule.patience):
                begun = time.monotonic()
                trained = self._train_epoch(distributed.share(train(self.epoch)), lambda: progress.advance(bar))
                validated = self._validate(distributed.share(valid(), few=True))
                self._end_epoch(trained, validated, time.monotonic() - begun)
                progress.update(bar, description=f"{label}: epoch {self.epoch}, valid loss {validated['total']:.4f}")
                late = bool(schedule.minutes) and time.monotonic() - started > 60 * schedule.minutes
                if distributed.from_main(late):  # clocks differ
                    break
        distributed.barrier()  # until the best weights are written
        if (self.out / "best.pt").exists():
            self.model.load_state_dict(load_checkpoint(self.out / "best.pt")["model"])

    def _train_epoch(self, batches: Iterable[Any], advance: Callable[[], None]) -> dict[str, float]:
        self.model.train()
        sums: dict[str, Tensor] = {}
        count = 0
        for batch in batches:
            losses = self.step(self.model, batch)
            self.optimizer.zero_grad(set_to_none=True)
            losses["total"].backward()  # type: ignore[no-untyped-call]
            distributed.average_gradients(self.model.parameters())
            self.optimizer.step()
            if self.after is not None:
                self.after()
            if self.scheduler is not None:
                self.scheduler.step()
            if self.average is not None:
                self.average.update_parameters(self.model)
            _add(sums, losses)  # stays on the device: no wait for the GPU in each step
            count += 1
            advance()
        if not count:
            raise InputError("no batch to train on: there are fewer faces than the batch size")
        for trained in (self.model, self.average):
            if trained is not None:
                distributed.synchronise(trained)
        return distributed.mean({k: float(v) / max(count, 1) for k, v in sums.items()})

    @torch.no_grad()
    def _validate(self, batches: Iterable[Any]) -> dict[str, float]:
        self.kept.eval()
        sums: dict[str, Tensor] = {}
        count = 0
        for batch in batches:
            _add(sums, self.step(self.kept, batch))
            count += 1
        return distributed.mean({k: float(v) / max(count, 1) for k, v in sums.items()})

    def _end_epoch(self, trained: dict[str, float], validated: dict[str, float], seconds: float) -> None:
        if not math.isfinite(validated["total"]):
            raise ExprmetricError(
                f"epoch {self.epoch + 1}: the validation loss is {validated['total']}; lower the learning rate"
            )
        self.epoch += 1
        better = validated["total"] < self.best
        if better:
            self.best, self.best_epoch = validated["total"], self.epoch
        if distributed.is_main():
            self._save(better)
            self.log.write(
                {
                    "epoch": self.epoch,
                    "train": trained,
                    "valid": validated,
                    "best": better,
                    "seconds": round(seconds, 1),
                    "learning_rate": self.optimizer.param_groups[0]["lr"],
                    "precision": computed_in(self._device, self.precision),
                }
            )

    def _save(self, better: bool) -> None:
        if better:
            save_checkpoint(
                self.out / "best.pt",
                {"model": self.kept.state_dict(), "epoch": self.epoch, "config": self.config},
            )
        save_checkpoint(
            self.out / "last.pt",
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict() if self.scheduler is not None else {},
                "average": self.average.state_dict() if self.average is not None else {},
                "epoch": self.epoch,
                "best": self.best,
                "best_epoch": self.best_epoch,
                "config": self.config,
                "processes": distributed.world(),
            },
        )


def _add(sums: dict[str, Tensor], losses: Losses) -> None:
    for name, value in losses.items():
        sums[name] = sums[name] + value.detach() if name in sums else value.detach().clone()
