"""What a network's layers compute in while it learns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import torch

from exprmetric.errors import InputError

PRECISIONS = ("auto", "float32", "bfloat16")
"""`auto`: bfloat16, except on a GPU that only emulates it."""

_CURRENT: ContextVar[str] = ContextVar("precision", default="auto")


def check_precision(name: str) -> str:
    """The name itself; InputError where it is none of PRECISIONS."""
    if name not in PRECISIONS:
        raise InputError(f"unknown precision {name!r}; known: {', '.join(PRECISIONS)}")
    return name


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """`autocast` inside computes in this: a setting of a run reaches every recipe's step without being handed on."""
    token = _CURRENT.set(check_precision(precision))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def autocast(device: torch.device, enabled: bool = True, precision: str | None = None) -> torch.autocast:
    """A context whose layers compute in bfloat16 where the precision says so; parameters stay in float32.

    Args:
        device: where the layers are.
        enabled: False for a part that needs float32 whatever the setting is.
        precision: one of PRECISIONS; by default that of the run around it.
    """
    name = check_precision(precision or _CURRENT.get())
    half = name == "bfloat16" or (name == "auto" and _has_bfloat16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled and half)


@cache
def _has_bfloat16(device: torch.device) -> bool:
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0)
