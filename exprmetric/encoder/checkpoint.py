"""Checkpoints: written whole or not at all, read without running what they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from exprmetric.io.files import write_whole


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Atomic: a kill leaves the old file or the new one."""
    write_whole(path, lambda file: torch.save(state, file))


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """A checkpoint of `save_checkpoint`; tensors and plain values only, so that a foreign file can't run code."""
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state
