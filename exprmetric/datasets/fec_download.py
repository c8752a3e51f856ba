"""The photographs of FEC, which are published as addresses.

`download` fetches them into a folder. There, a photograph's file is named `exprmetric.datasets.fec.image_name(url)`,
the SHA-256 of its address with `.jpg`, whatever its format, and `downloads.csv` holds for each address its file, a
status and a reason. Dead links lose nothing silently:

| status | meaning | asked again by the next run |
| --- | --- | --- |
| `ok` | the file is there, and a whole image was decoded from it | no |
| `dead` | the server has no such photograph, or sent what is no image | only with `retry` |
| `refused` | not http(s), too large, or redirected to what isn't followed | only with `retry` |
| `failed` | time-out, broken connection, an error of the server's own | yes |
"""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from exprmetric.datasets.fec import image_name
from exprmetric.datasets.fec_http import Limits, NotFetched, read_url
from exprmetric.errors import ImageError, InputError
from exprmetric.io.files import write_whole
from exprmetric.io.tables import open_text, show

REPORT = "downloads.csv"
COLUMNS = ("url", "file", "status", "reason")
STATUSES = ("ok", "dead", "refused", "failed")
SAVED_EVERY = 1000
"""Addresses between two writes of the report."""


@dataclass(frozen=True)
class Download:
    """What became of one address: a row of the report. `file` is empty unless `status` is `ok`."""

    url: str
    file: str
    status: str
    reason: str = ""


def read_report(folder: Path) -> dict[str, Download]:
    """By URL the rows of the folder's report; empty where there is none. InputError for a file that is no report."""
    path = folder / REPORT
    if not path.exists():
        return {}
    try:
        with open_text(path) as file:
            rows = list(csv.reader(file))
    except csv.Error:
        rows = []
    if not rows or tuple(rows[0]) != COLUMNS or any(len(r) != 4 or r[2] not in STATUSES for r in rows[1:]):
        raise InputError(f"{show(path)} is no report of downloads ({', '.join(COLUMNS)}); move it away")
    return {row[0]: Download(*row) for row in rows[1:]}


def download(
    urls: Sequence[str],
    folder: Path,
    *,
    limits: Limits | None = None,
    jobs: int = 8,
    retry: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Download]:
    """Fetch photographs into a folder and write `downloads.csv` there, which keeps the rows of earlier runs.

    Each file appears whole and decoded, or not at all. What is there already isn't fetched again, so that a run that
    was stopped goes on.

    Args:
        urls: addresses, each once.
        folder: made if it isn't there.
        jobs: downloads at a time.
        retry: ask again for what was `dead` or `refused`.
        progress: told (done, of how many).

    Returns:
        One row for each address, in their order.

    Raises:
        InputError: the folder can't be written, or holds a `downloads.csv` that is no report.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        known = read_report(folder)
        final = () if retry else ("dead", "refused")
        distinct = list(dict.fromkeys(urls))
        rows: dict[str, Download] = {}
        for url in distinct:
            if (folder / image_name(url)).is_file():
                rows[url] = Download(url, image_name(url), "ok")
            elif url in known and known[url].status in final:
                rows[url] = known[url]
        missing = [url for url in distinct if url not in rows]
        try:
            with (
                tempfile.TemporaryDirectory(dir=folder, prefix=".downloading-") as parts,
                closing(_fetch_all(missing, folder, Path(parts), limits or Limits(), jobs)) as fetched,
            ):
                for row in fetched:
                    rows[row.url] = row
                    progress(len(rows), len(distinct))
                    if len(rows) % SAVED_EVERY == 0:
                        _write_report(folder, known, distinct, rows)
        finally:
            _write_report(folder, known, distinct, rows)
    except OSError as error:
        raise InputError(f"can't write into {show(folder)}: {error.strerror or error}") from error
    return [rows[url] for url in distinct]


def _write_report(folder: Path, known: dict[str, Download], urls: Sequence[str], new: dict[str, Download]) -> None:
    rows = {**known, **{url: new[url] for url in urls if url in new}}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((r.url, r.file, r.status, r.reason) for r in rows.values())
    write_whole(folder / REPORT, lambda file: file.write(text.getvalue().encode("utf-8", "backslashreplace")))


def _fetch_all(
    urls: Sequence[str], folder: Path, parts: Path, limits: Limits, jobs: int
) -> Generator[Download, None, None]:
    pool = ThreadPoolExecutor(jobs)
    try:
        for future in as_completed([pool.submit(_fetch, url, folder, parts, limits) for url in urls]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _fetch(url: str, folder: Path, parts: Path, limits: Limits) -> Download:
    """One address; OSError only where the folder can't be written."""
    from exprmetric.io.images import read_image

    try:
        content = read_url(url, limits)
    except NotFetched as error:
        return Download(url, "", error.status, str(error))
    part = parts / image_name(url)
    part.write_bytes(content)
    try:
        read_image(part)
    except ImageError as error:
        part.unlink()
        return Download(url, "", "dead", f"what was sent is no image: {error}".replace(str(part), "it"))
    part.replace(folder / image_name(url))
    return Download(url, image_name(url), "ok")
