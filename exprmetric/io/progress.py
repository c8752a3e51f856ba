"""How far a run is, and where its time goes: seconds by stage, summed over threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, how much of it is done, and how much there is."""


def no_progress(stage: str, done: int, total: int) -> None:
    pass


class Profile:
    """Adds up seconds by stage; safe to use from several threads."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._lock = threading.Lock()
        self._started = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time spent inside is added to `name`, also when an error leaves it."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.add({name: time.perf_counter() - begun})

    def add(self, seconds: dict[str, float]) -> None:
        """Seconds by stage that were measured elsewhere."""
        with self._lock:
            for name, spent in seconds.items():
                self._seconds[name] = self._seconds.get(name, 0.0) + spent

    def seconds(self) -> dict[str, float]:
        """Seconds by stage, in the order in which the stages first ran."""
        return {name: round(s, 4) for name, s in self._seconds.items()}

    def elapsed(self) -> float:
        """Wall-clock seconds since the profile was made."""
        return time.perf_counter() - self._started

    def throughput(self, triplets: int) -> dict[str, Any]:
        """Seconds in all, triplets measured a second, and seconds by stage."""
        elapsed = self.elapsed()
        return {
            "seconds": round(elapsed, 3),
            "triplets_per_second": round(triplets / elapsed, 3),
            "thread_seconds_by_stage": self.seconds(),
        }
