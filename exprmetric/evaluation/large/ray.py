"""The plan on a Ray cluster: pieces of rows go to actors that hold the models, and come back as Arrow tables.

Each actor reads in a process of its own (`forked.py`), so that a picture that kills its reader costs its row alone. Ray
restarts an actor that dies and gives it its piece again; a piece that ends several actors ends the run. A driver that
dies goes on from the journal. Without a cluster (RAY_ADDRESS) one is started on this machine. All machines have to see
the images under the same paths.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from exprmetric import errors
from exprmetric.errors import ExprmetricError, MissingPackageError, WeightsError
from exprmetric.evaluation.large.cache import Kept
from exprmetric.evaluation.large.forked import open_reader
from exprmetric.evaluation.plan import Plan
from exprmetric.evaluation.rows import name_columns, schema
from exprmetric.evaluation.session import Session, Settings
from exprmetric.io.environment import environment, versions
from exprmetric.io.pool import open_pool

if TYPE_CHECKING:
    import pyarrow as pa

    from exprmetric.evaluation.session import Job

MISSING = "the engine 'ray' needs the package ray: pip install 'exprmetric[ray]'"
FETCHING = {"iter_threaded": 5.0, "Prefetcher": 0.5}
"""Threads of Ray that fetch blocks ahead, and seconds that we wait for their end."""
PIECES = 50
"""Pieces of the input, at least, where it has so many rows: a dead worker loses one."""
ATTEMPTS = 4
"""Workers that a piece may end, one after the other; Ray alone would begin new ones for ever."""
MOST_ROWS = 512
"""Rows of a piece: few beside what a worker's start costs."""


@dataclass(frozen=True, eq=False)
class Work:
    """What a worker has to know.

    Attributes:
        about: what the driver's session says of its models; a worker whose own says otherwise must not measure.
    """

    settings: Settings
    plan: Plan
    cache: Kept | None
    about: dict[str, Any]


class Attempts:
    """How often each piece was begun. It outlives the workers."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, first: int) -> int:
        """The number of this attempt at the piece that begins with a row."""
        self._begun[first] += 1
        return self._begun[first]


class Worker:
    """Holds the models; one process reads, because Ray gives a worker one core.

    Args:
        work: reference to `Work`.
        attempts: handle of `Attempts`.
    """

    def __init__(self, work: Any, attempts: Any) -> None:
        import ray

        self._work: Work = ray.get(work)
        self._begin: Callable[[int], int] = lambda first: ray.get(attempts.begin.remote(first))
        self._error: ExprmetricError | None = None
        try:
            self._session = Session(self._work.settings)
            self._check(_about(self._session))
        except ExprmetricError as error:  # raised here, it would come back as text alone
            self._error = error

    def _check(self, own: dict[str, Any]) -> None:
        if other := "; ".join(_differences(own, self._work.about)):
            raise WeightsError(
                f"a worker would not measure as the driver: {other}. Give all machines the same weights and versions"
            )

    def __call__(self, piece: dict[str, Any]) -> pa.Table:
        """Rows of the triplets whose places are in the column `data`."""
        import pyarrow as pa

        if self._error:
            raise self._error
        rows = np.asarray(piece["data"], np.int64)
        if self._begin(int(rows[0])) > ATTEMPTS:
            raise ExprmetricError(
                f"rows {rows[0] + 1} to {rows[-1] + 1} have ended {ATTEMPTS} workers: is memory short?"
            )
        session = self._session
        read = open_reader(session.reader, 1, len(rows), session.settings.provider)
        with open_pool(1) as pool, session.open_cache(self._work.cache) as cache, read as reader:
            tables = list(session.measure(self._work.plan, rows, pool, cache, reader=reader))
        return _plain(pa.concat_tables(tables))


def measure(job: Job) -> Iterator[pa.Table]:
    """Rows of a job in the order in which workers are done with them.

    Raises:
        MissingPackageError: Ray is not installed.
        ExprmetricError: a worker can't measure, or the cluster can't go on.
    """
    if not len(job.rows):
        return
    need_ray()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # measuring faces is nobody else's business
    try:
        import ray
        import ray.data
    except ImportError as error:  # Ray without its part for data
        raise MissingPackageError(f"{MISSING} ({error})") from error

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    own = not ray.is_initialized()
    if own:  # without an address Ray would join whatever cluster of somebody else runs on this machine, and die with it
        address = os.environ.get("RAY_ADDRESS") or "local"
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield from _measure(ray, job)
    except ray.exceptions.RayError as error:
        raise _cause(error) from error
    finally:
        if own:
            ray.shutdown()


def need_ray() -> None:
    """MissingPackageError where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise MissingPackageError(MISSING)


def _measure(ray: Any, job: Job) -> Iterator[pa.Table]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    workers = job.jobs or max(1, _cores(ray))
    pieces = max(1, min(len(job.rows), PIECES), len(job.rows) // MOST_ROWS)
    work = ray.put(Work(job.session.settings, job.plan, job.cache, _about(job.session)))
    attempts = ray.remote(num_cpus=0)(Attempts).remote()
    settings = job.session.settings
    names = settings.names()
    found = ray.data.from_numpy(np.array_split(job.rows, pieces)).map_batches(
        Worker,
        batch_size=None,
        fn_constructor_args=(work, attempts),
        concurrency=min(workers, pieces),
        num_cpus=1,
    )
    batches = iter(found.iter_batches(batch_size=None, batch_format="pyarrow"))
    try:
        for rows in batches:
            yield _encoded(
                rows, schema(names, private=bool(job.session.settings.privacy), clouds=job.session.settings.clouds)
            )
    finally:  # a thread of Ray that is still fetching when the cluster goes would end this process
        batches.close()
        for thread in threading.enumerate():
            if thread.name in FETCHING:
                thread.join(FETCHING[thread.name])


def _about(session: Session) -> dict[str, Any]:
    """All that has to be the same wherever rows are measured."""
    return session.description() | {"versions": versions(environment())}


def _differences(a: Any, b: Any, name: str = "") -> Iterator[str]:
    """What two descriptions say differently, as text."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(k for k in b if k not in a)]:
            yield from _differences(a.get(key), b.get(key), f"{name}.{key}".lstrip("."))
    elif a != b:
        yield f"{name} {a}, not {b}"


def _cause(error: Exception) -> ExprmetricError:
    """What went wrong in a worker; of the error itself Ray brings back its text alone."""
    said = str(error)
    own = re.search(r"^exprmetric\.errors\.(\w+): (.+)", said, re.MULTILINE)
    if own:
        kind = getattr(errors, own[1], ExprmetricError)
        found: ExprmetricError = kind(own[2])
        return found
    first = re.search(r"^[\w.]+(?:Error|Exception|Exit)\b.*", said, re.MULTILINE)
    return ExprmetricError(f"Ray can't go on: {first[0] if first else said or type(error).__name__}")


def _cores(ray: Any) -> int:
    """Of the whole cluster."""
    return int(ray.cluster_resources().get("CPU", 1))


def _plain(rows: pa.Table) -> pa.Table:
    """Text columns as text: Ray joins tables, and each has a dictionary of its own."""
    import pyarrow as pa

    return rows.cast(
        pa.schema([(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in rows.schema])
    )


def _encoded(rows: pa.Table, columns: pa.Schema) -> pa.Table:
    import pyarrow as pa

    encoded = {name: rows[name].dictionary_encode() for name in name_columns(columns)}
    return pa.table({f.name: encoded.get(f.name, rows[f.name]) for f in columns}).cast(columns)
