"""The metric as a Lightning callback: any module whose steps return the swapped faces is judged as it trains.

    python examples/lightning_callback.py        # pip install lightning

Under DDP or FSDP nothing changes: `compute` syncs the ranks, so that `log_dict` needs no `sync_dist`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import lightning
import torch
from bundled_faces import aligned_faces
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from training_loop import Generator

from exprmetric.torch import ExpressionLoss, ExpressionPreservation


class ExpressionCallback(lightning.Callback):
    """Logs the scores of the validation set, and in training those of every few batches.

    A step must return a mapping with `swapped`, and a batch must begin with target and source.

    Args:
        every_n_steps: of training; 0 for validation alone.
        options: of `ExpressionPreservation`, such as `value_range=(-1, 1)`.
    """

    def __init__(self, every_n_steps: int = 10, **options: Any) -> None:
        self.every_n_steps = every_n_steps
        self.metrics = {stage: ExpressionPreservation(**options) for stage in ("train", "valid")}

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        for metric in self.metrics.values():
            metric.to(pl_module.device)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.every_n_steps and batch_idx % self.every_n_steps == 0:
            self._update("train", outputs, batch)

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._update("valid", outputs, batch)

    def _update(self, stage: str, outputs: Mapping[str, Tensor], batch: tuple[Tensor, Tensor]) -> None:
        self.metrics[stage].update(batch[0], batch[1], outputs["swapped"].detach())

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._log("train", pl_module)

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._log("valid", pl_module)
        self.metrics["valid"].reset()

    def _log(self, stage: str, pl_module: lightning.LightningModule) -> None:
        scores = self.metrics[stage].compute()  # on every rank
        pl_module.log_dict({f"{stage}/{name}": score.float() for name, score in scores.items()})
        self.metrics[stage].reset()


class Swapper(lightning.LightningModule):
    """The generator of examples/training_loop.py."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = Generator()
        self.expression = ExpressionLoss()  # its encoder is in no checkpoint

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        target, source = batch
        swapped = self.generator(target, source)
        loss = F.l1_loss(swapped, source) + 0.5 * self.expression(target, swapped)
        return {"loss": loss, "swapped": swapped.detach()}

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"swapped": self.generator(*batch)}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.generator.parameters(), 5e-3)


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args(arguments)
    faces, _ = aligned_faces()
    known, unseen = faces[:-2], faces[-2:]
    trainer = lightning.Trainer(
        max_epochs=options.epochs,
        accelerator="auto",
        callbacks=[ExpressionCallback(every_n_steps=1)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(
        Swapper(),
        DataLoader(TensorDataset(known, known.roll(1, 0)), batch_size=4, shuffle=True),
        DataLoader(TensorDataset(unseen, unseen.roll(1, 0)), batch_size=4),
    )
    scores = {name: float(value) for name, value in trainer.callback_metrics.items()}
    for name, value in scores.items():
        print(f"{name:20s} {value:.3f}")
    return scores


if __name__ == "__main__":
    main()
