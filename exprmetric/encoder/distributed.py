"""One training run in several processes, as `torchrun` starts them. Every function works without them too.

W processes with batch B make the steps of one process with batch W·B: all draw the same order of batches, each takes
its share, and gradients are averaged before the optimiser's step. The learning rate is left as it is set.

Gradients are averaged here, after `backward`, and not by DistributedDataParallel, which gets ready in its own
`forward`: a recipe's step calls parts of its model (`model.encoder(…)`, an engine's `losses`), never the model. It is
one exchange a step, behind the backward pass instead of beside it; our networks' gradients are tens of megabytes.

Batch norm takes its statistics from each process's own batch; the running ones are averaged at the end of an epoch. For
one of the whole step, convert the model before `fit`: `timm.layers.convert_sync_batchnorm` (GPUs only).
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from exprmetric.errors import InputError, ProviderError

T = TypeVar("T")

PATIENCE = timedelta(hours=12)
"""How long processes wait for each other: the first one aligns the faces of a data set alone."""


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, 0..W-1."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this is the process that writes files and shows progress."""
    return rank() == 0


def join(device: torch.device) -> torch.device:
    """Meet the other processes that the environment tells of: over nccl with a GPU each, over gloo on the CPU.

    Returns:
        The device of this process: under `torchrun`, `cuda` is its own GPU.

    Raises:
        InputError: one GPU is named for all processes.
        ProviderError: there are more processes than GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ:
        return device
    if device.type == "cuda":
        if device.index is not None:
            raise InputError(f"device {device} is one GPU and there are several processes: ask for cuda")
        local = int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))
        if local >= torch.cuda.device_count():
            raise ProviderError(f"process {local} of this machine has no GPU: it sees {torch.cuda.device_count()}")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
        atexit.register(leave)
    return device


def leave() -> None:
    """Part from the other processes."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def barrier() -> None:
    """Wait for all."""
    if world() > 1:
        dist.barrier()


@contextmanager
def main_first() -> Iterator[None]:
    """The first process goes through the block alone, then all others: it fills a cache that they read.

    Where it fails, the others are ended by `torchrun`.
    """
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()


def share(batches: Iterable[T], *, few: bool = False) -> Iterator[T]:
    """This process's batches: one of every W, and as many as every other process gets.

    All processes draw all batches, so that the draw can be any.

    Args:
        batches: the same on all processes.
        few: fewer than W are gone through by all processes; else by none.
    """
    group: list[T] = []
    shared = False
    for batch in batches:
        group.append(batch)
        if len(group) == world():
            yield group[rank()]
            group, shared = [], True
    if few and not shared:
        yield from group


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the processes; none counts as zero unless no process has one."""
    if world() == 1:
        return
    trained = [p for p in parameters if p.requires_grad]
    present = torch.tensor([p.grad is not None for p in trained], dtype=torch.int32, device=trained[0].device)
    dist.all_reduce(present)
    used = [p for p, count in zip(trained, present.tolist(), strict=True) if count]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in used]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    flat /= world()
    parts = torch.split(flat, [g.numel() for g in gradients])
    for parameter, gradient, part in zip(used, gradients, parts, strict=True):
        parameter.grad = gradient.copy_(part.view(gradient.shape))


@torch.no_grad()
def synchronise(module: nn.Module) -> None:
    """Bring all processes to one state: the mean of batch norms' running statistics, else what the first one has."""
    if world() == 1:
        return
    for part in module.modules():
        if isinstance(part, _BatchNorm) and part.running_mean is not None and part.running_var is not None:
            for statistic in (part.running_mean, part.running_var):
                dist.all_reduce(statistic)
                statistic /= world()
    for value in module.state_dict().values():
        if isinstance(value, Tensor):
            sent = value.contiguous() if value.dtype != torch.bool else value.to(torch.uint8)
            dist.broadcast(sent, 0)
            value.copy_(sent)


def mean(values: dict[str, float]) -> dict[str, float]:
    """The mean over the processes; all have the same keys."""
    if world() == 1:
        return values
    numbers = torch.tensor(list(values.values()), dtype=torch.float64, device=_device())
    dist.all_reduce(numbers)
    return dict(zip(values, (numbers / world()).tolist(), strict=True))


def from_main(value: int) -> int:
    """What the first process has, on all of them."""
    if world() == 1:
        return value
    sent = torch.tensor([value], device=_device())
    dist.broadcast(sent, 0)
    return int(sent)


def gather(tensor: Tensor) -> Tensor:
    """(B, …) of each process, of the same shape on all → (W·B, …), by rank; for losses that compare faces of a batch.

    Gradients flow to every process's rows. Where all processes compute the same loss of what was gathered, the averaged
    gradient is that of one process with all the rows.
    """
    if world() == 1:
        return tensor
    gathered: Tensor = _Gather.apply(tensor)  # type: ignore[no-untyped-call]
    return gathered


class _Gather(torch.autograd.Function):
    """`torch.distributed.nn.all_gather` is deprecated, and what follows it is not in every torch that we support."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        ctx.rows = len(tensor)
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(world())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[rank() * ctx.rows : (rank() + 1) * ctx.rows]


def _device() -> torch.device:
    """Where the backend takes its numbers from."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
