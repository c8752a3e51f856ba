"""The record of a training run: a line an epoch in `log.jsonl`, and the same curves for TensorBoard."""

from __future__ import annotations

import importlib.util
import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from exprmetric.errors import MissingPackageError


def need_tensorboard() -> None:
    """MissingPackageError where TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise MissingPackageError(
            "tensorboard=true, and tensorboard is not installed: pip install 'exprmetric[recipes]' or tensorboard"
        )


class EpochLog(AbstractContextManager["EpochLog"]):
    """Appends to `out/log.jsonl`, and to `out/tensorboard` where it is asked for; closes it at the end of a `with`.

    Raises:
        MissingPackageError: it is asked for and not installed.
    """

    def __init__(self, out: Path, *, tensorboard: bool = False) -> None:
        if tensorboard:
            need_tensorboard()
        self._out, self._tensorboard = out, tensorboard
        self._writer: Any = None

    def write(self, line: dict[str, Any]) -> None:
        """One epoch: `epoch`, texts, numbers, and dictionaries of numbers, which become curves named `train/total`."""
        with (self._out / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        if self._tensorboard:
            self._draw(line)

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def _draw(self, line: dict[str, Any]) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        if self._writer is None:
            self._writer = SummaryWriter(str(self._out / "tensorboard"))  # type: ignore[no-untyped-call]
        for name, value in line.items():
            curves = {f"{name}/{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
            for curve, number in curves.items():
                if curve != "epoch" and not isinstance(number, str):
                    self._writer.add_scalar(curve, float(number), line["epoch"])
        self._writer.flush()  # a kill loses no epoch
