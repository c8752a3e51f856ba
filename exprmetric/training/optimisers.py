"""Optimisers by name, and the learning rate's ways: up over some steps, then along a cosine, or exponentially."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

Parameters = Iterable[nn.Parameter] | Iterable[dict[str, Any]]
"""Parameters, or groups of them as torch's optimisers take them: `{"params": [...], "lr": 0.1}`."""


def _adamw(parameters: Parameters, rate: float, decay: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, rate, weight_decay=decay, fused=True)


def _sgd(parameters: Parameters, rate: float, decay: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, rate, momentum=0.9, weight_decay=decay)


def _lars(parameters: Parameters, rate: float, decay: float) -> torch.optim.Optimizer:
    """You et al., 2017, as BYOL uses it: biases and batch norms are neither scaled nor decayed."""
    from exprmetric.encoder.models import import_timm

    import_timm()
    from timm.optim.lars import Lars

    listed = [p for given in parameters for p in (given["params"] if isinstance(given, dict) else [given])]
    groups = [
        {"params": [p for p in listed if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in listed if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer: torch.optim.Optimizer = Lars(groups, lr=rate, momentum=0.9, trust_coeff=0.001)
    return optimizer


OPTIMISERS: dict[str, Callable[[Parameters, float, float], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "sgd": _sgd,
    "lars": _lars,
}
"""By name: parameters, learning rate, weight decay → optimiser."""


def warm_cosine(optimizer: torch.optim.Optimizer, warmup: int, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Stepped once a batch: a line up over `warmup` steps, times half a cosine that is 0 after `steps`."""
    return _warm(optimizer, warmup, lambda i: 0.5 + 0.5 * math.cos(math.pi * min(1.0, i / max(1, steps))))


def warm_exponential(
    optimizer: torch.optim.Optimizer, warmup: int, factor: float, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Stepped once a batch: a line up over `warmup` steps, times `factor` for each `steps` steps."""
    return _warm(optimizer, warmup, lambda i: float(factor ** (i / steps)))


def _warm(
    optimizer: torch.optim.Optimizer, warmup: int, course: Callable[[int], float]
) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min(1.0, (i + 1) / max(1, warmup)) * course(i))
