"""Threads that read images: how many there may be."""

from __future__ import annotations

import pytest

from exprmetric.errors import InputError
from exprmetric.io.pool import default_jobs, open_pool


@pytest.mark.parametrize("jobs", [0, -1, 1.5, "2"])
def test_a_number_of_threads_that_can_t_be_is_refused_by_one_sentence(jobs: object) -> None:
    with pytest.raises(InputError, match=r"^jobs"), open_pool(jobs):  # type: ignore[arg-type]
        pass


def test_work_is_done_by_as_many_threads_as_were_asked_for_or_as_there_are_cores() -> None:
    for jobs in (None, 1, 3):
        with open_pool(jobs) as pool:
            assert pool._max_workers == (jobs or default_jobs())  # type: ignore[attr-defined]
            assert list(pool.map(abs, [-1, 2])) == [1, 2]
