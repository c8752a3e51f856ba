"""For tests that train in several processes, as `torchrun` starts them."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from exprmetric.encoder import distributed
from exprmetric.training.loop import pick_device

needs_gloo = pytest.mark.skipif(
    not dist.is_available() or not dist.is_gloo_available(), reason="needs torch's gloo"
)  # fmt: skip

SECONDS = 240
"""After which a deadlock is a failure."""


def spawn(work: Any, folder: Path, *, processes: int = 2) -> list[Any]:
    """What `work(folder)` returned in each of the processes; fails when they don't end.

    Args:
        work: a function of a module, which returns tensors and plain values.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = mp.start_processes(
        _process, (work, str(folder), processes, port), processes, join=False, start_method="spawn"
    )
    wait(context, SECONDS)
    return [torch.load(folder / f"returned-{rank}.pt", weights_only=True) for rank in range(processes)]


def wait(context: mp.ProcessContext, seconds: float) -> None:
    """Until all processes have ended; fails, and kills them, when they don't in time."""
    end = time.monotonic() + seconds
    while not context.join(timeout=1):
        if time.monotonic() > end:
            for process in context.processes:
                process.kill()
            pytest.fail(f"the processes didn't end within {seconds} s: a deadlock")


def _process(rank: int, work: Any, folder: str, processes: int, port: int) -> None:
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    assert pick_device("cpu") == torch.device("cpu")  # this is where the processes meet
    torch.save(work(Path(folder)), Path(folder) / f"returned-{rank}.pt")
    distributed.leave()
