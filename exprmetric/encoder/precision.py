"""What a network's layers compute in while it learns."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import torch

from exprmetric.errors import InputError

PRECISIONS = ("auto", "float32", "bfloat16")
"""`auto`: bfloat16 where the hardware multiplies in it, else float32: emulated it is many times as slow."""

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
    half = computed_in(device, precision) == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled and half)


def computed_in(device: torch.device, precision: str | None = None) -> str:
    """`float32` or `bfloat16`: what layers under `autocast` compute in there.

    Args:
        device: where the layers are.
        precision: one of PRECISIONS; by default that of the run around it.
    """
    name = check_precision(precision or _CURRENT.get())
    if name == "auto":
        return "bfloat16" if _has_bfloat16(device) else "float32"
    return name


def sentence(device: torch.device, precision: str) -> str:
    """What a run says at its start: the precision that it computes in, and a warning where that is a slow one."""
    said = f"layers compute in {computed_in(device, precision)} ({device.type})"
    if precision == "bfloat16" and not _has_bfloat16(device):
        said += ": slow, because this device only emulates bfloat16; precision=auto takes float32 here"
    return said


@cache
def _has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware itself multiplies in bfloat16."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and _cpu_has_bfloat16()


def _cpu_has_bfloat16() -> bool:
    """What oneDNN and torch say of this CPU. oneDNN alone says yes to AVX-512 without bfloat16 too, and emulates it."""
    onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not (onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return False
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # missing in old versions of torch
    return any(getattr(torch.cpu, name, bool)() for name in names)
