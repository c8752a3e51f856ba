"""Work in parts, on several processes, with a bar on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_processes(work: Callable[[T], R], parts: Sequence[T], jobs: int, label: str) -> list[R]:
    """`work` of every part, in their order; in this process where there is one job or one part.

    Args:
        work: a function of a module, or a `partial` of one.
    """
    from rich.console import Console
    from rich.progress import track

    with ExitStack() as stack:
        run: Callable[..., Iterable[Any]] = map
        if jobs > 1 and len(parts) > 1:
            # spawn: a fork of a process whose libraries run threads can wait for ever for a lock that nobody gives back
            run = stack.enter_context(ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))).map
        return list(track(run(work, parts), label, total=len(parts), console=Console(stderr=True)))
