"""Threads that read images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

from exprmetric.io.arguments import how_many


def default_jobs() -> int:
    """Threads that read images: one a core, as far as this process may use them."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


@contextmanager
def open_pool(jobs: int | None = None) -> Iterator[Executor]:
    """Threads for images; when something goes wrong, what waits is given up.

    Meanwhile OpenCV works in the thread that calls it: its own threads would take the cores from the pool's.

    Raises:
        InputError: `jobs` is no whole number, or smaller than 1.
    """
    import cv2

    pool, before = ThreadPoolExecutor(how_many(jobs, "jobs") or default_jobs(), "faces"), cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        cv2.setNumThreads(before)
