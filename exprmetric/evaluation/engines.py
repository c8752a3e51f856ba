"""Engines: who works through the rows of a plan. All give the same rows, in any order; the journal puts them right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from exprmetric.errors import InputError
from exprmetric.evaluation.large.forked import open_reader
from exprmetric.evaluation.large.suspects import open_noted
from exprmetric.evaluation.session import Job
from exprmetric.io.pool import default_jobs

if TYPE_CHECKING:
    import pyarrow as pa


Engine = Callable[[Job], Iterator["pa.Table"]]


def _local(job: Job) -> Iterator[pa.Table]:
    """This process, in input order."""
    session, jobs = job.session, job.jobs or default_jobs()
    read = open_reader(session.reader, jobs, len(job.rows), session.settings.provider)
    with (
        session.open_cache(job.cache) as cache,
        read as unnoted,
        open_noted(unnoted, job.notes, job.plan, session.settings) as reader,
    ):
        yield from session.measure(job.plan, job.rows, job.pool, cache, block=job.block, reader=reader)


def _ray(job: Job) -> Iterator[pa.Table]:
    """Workers of a Ray cluster."""
    from exprmetric.evaluation.large.ray import measure

    yield from measure(job)


def check_engine(name: str) -> None:
    """Before any work is done: InputError for an unknown name, MissingPackageError where its package is missing."""
    if name not in ENGINES:
        raise InputError(f"unknown engine {name!r}; known: {', '.join(ENGINES)}")
    if name == "ray":
        from exprmetric.evaluation.large.ray import need_ray

        need_ray()


ENGINES: dict[str, Engine] = {"local": _local, "ray": _ray}
