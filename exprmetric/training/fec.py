"""The Facial Expression Comparison data set (FEC), as Google publishes it (Vemulapalli and Agarwala, CVPR 2019).

`faceexp-comparison-data-train-public.csv` and `…-test-public.csv` have no header. A row is one triplet of faces: three
times (URL of the photograph, left, right, top, bottom of the face's box as shares of width and height), the triplet's
type, then pairs (rater's id, answer) of about six raters; the answer 1, 2 or 3 is the face that differs most.

The photographs are not published, only their addresses: `download` fetches them into a folder. There, a photograph's
file is named `image_name(url)`, the SHA-256 of its address with `.jpg`, whatever its format, and `downloads.csv` holds
for each address its file, a status and a reason. Dead links lose nothing silently:

| status | meaning | asked again by the next run |
| --- | --- | --- |
| `ok` | the file is there, and a whole image was decoded from it | no |
| `dead` | the server has no such photograph, or sent what is no image | only with `retry` |
| `refused` | not http(s), too large, or redirected to what isn't followed | only with `retry` |
| `failed` | time-out, broken connection, an error of the server's own | yes |
"""

from __future__ import annotations

import csv
import hashlib
import http.client
import io
import math
import ssl
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Timer
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

from exprmetric.errors import ImageError, InputError
from exprmetric.files import write_whole
from exprmetric.tables import brief, open_text, show

TRIPLET_TYPES = ("ONE_CLASS_TRIPLET", "TWO_CLASS_TRIPLET", "THREE_CLASS_TRIPLET")
"""In the order of `exprmetric.metrics.odd_one_out.TYPES`."""
AGREEMENT = 0.6
"""Share of raters who must agree on a triplet that is used (paper 004)."""
FACE_CELLS = 5

REPORT = "downloads.csv"
COLUMNS = ("url", "file", "status", "reason")
STATUSES = ("ok", "dead", "refused", "failed")
MAX_BYTES = 32 << 20
SAVED_EVERY = 1000
"""Addresses between two writes of the report."""
TRY_AGAIN = (408, 425, 429)
"""Client errors that are no word on the photograph; all of 5xx are none either."""
PLACEHOLDER = "unavailable"
"""In the last part of the address of the picture that Flickr redirects to where a photograph was removed."""
REDIRECTS = 5


class FecFormatError(InputError):
    """A line of a FEC file is not as published.

    Attributes:
        line: its number, from 1.
    """

    def __init__(self, path: Path, line: int, why: str) -> None:
        super().__init__(f"{show(path)}, line {line}: {why}")
        self.line = line


@dataclass(frozen=True)
class FecFace:
    """A face: the photograph's address, and its box as shares of width and height (0..1; it may stick out a little)."""

    url: str
    left: float
    right: float
    top: float
    bottom: float


@dataclass(frozen=True)
class FecTriplet:
    """Three faces, and what raters said.

    Attributes:
        kind: index into TRIPLET_TYPES.
        answers: of each rater, the face (0, 1 or 2) that differs most.
    """

    faces: tuple[FecFace, FecFace, FecFace]
    kind: int
    raters: tuple[str, ...]
    answers: tuple[int, ...]

    @property
    def odd(self) -> int | None:
        """The face that most raters chose; None where two have as many votes."""
        counts = [self.answers.count(i) for i in range(3)]
        return counts.index(max(counts)) if counts.count(max(counts)) == 1 else None

    @property
    def agreement(self) -> float:
        """Share of the raters who chose the face that most chose."""
        return max(self.answers.count(i) for i in range(3)) / len(self.answers)

    def is_clear(self, least: float = AGREEMENT) -> bool:
        """Whether one face has more votes than the others, and at least this share of them."""
        return self.odd is not None and self.agreement >= least

    def odd_last(self) -> tuple[FecFace, FecFace, FecFace]:
        """Anchor, positive, negative. Raises ValueError where raters are divided."""
        if self.odd is None:
            raise ValueError(f"raters are divided: {self.answers}")
        a, p = (face for i, face in enumerate(self.faces) if i != self.odd)
        return a, p, self.faces[self.odd]


def read_fec(path: Path) -> list[FecTriplet]:
    """All triplets of a published file, in its order; empty lines are passed over.

    Raises:
        FecFormatError: a line has not enough cells, a box or an answer that can't be, or an unknown type.
        InputError: the file can't be read, or is no UTF-8 text.
    """
    faces: dict[FecFace, FecFace] = {}  # each face stands in about nine triplets
    try:
        with open_text(path) as file:
            return list(_triplets(path, file, faces))
    except OSError as error:
        raise InputError(f"{show(path)} can't be read: {error.strerror or error}") from error


def _triplets(path: Path, file: Iterable[str], faces: dict[FecFace, FecFace]) -> Iterator[FecTriplet]:
    reader = csv.reader(file, strict=True)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise FecFormatError(path, reader.line_num, str(error)) from error
        if row is None:
            return
        if row:
            try:
                yield _triplet(row, faces)
            except ValueError as error:
                raise FecFormatError(path, reader.line_num, str(error)) from error


def _triplet(row: Sequence[str], faces: dict[FecFace, FecFace]) -> FecTriplet:
    """A row of cells; ValueError says what is wrong with it."""
    start = 3 * FACE_CELLS
    votes = row[start + 1 :]
    if not votes or len(votes) % 2:
        raise ValueError(
            f"{len(row)} cells; expected three faces of {FACE_CELLS} cells, a type, and two cells for each rater"
        )
    if row[start] not in TRIPLET_TYPES:
        raise ValueError(f"the type {brief(row[start])} is none of {', '.join(TRIPLET_TYPES)}")
    read = [_face(row[i : i + FACE_CELLS], i // FACE_CELLS + 1) for i in range(0, start, FACE_CELLS)]
    for answer in votes[1::2]:
        if answer not in ("1", "2", "3"):
            raise ValueError(f"the answer {brief(answer)} is none of 1, 2, 3")
    first, second, third = (faces.setdefault(face, face) for face in read)
    return FecTriplet(
        (first, second, third),
        TRIPLET_TYPES.index(row[start]),
        tuple(map(sys.intern, votes[::2])),
        tuple(int(answer) - 1 for answer in votes[1::2]),
    )


def _face(cells: Sequence[str], number: int) -> FecFace:
    url = cells[0]
    if not url.strip():
        raise ValueError(f"face {number} has no URL")
    try:
        left, right, top, bottom = map(float, cells[1:])
    except ValueError:
        raise ValueError(f"face {number}: the box {brief(', '.join(cells[1:]))} is not four numbers") from None
    inside = all(math.isfinite(v) and -1 <= v <= 2 for v in (left, right, top, bottom))
    if not (inside and max(left, 0) < min(right, 1) and max(top, 0) < min(bottom, 1)):
        raise ValueError(
            f"face {number}: left {left}, right {right}, top {top}, bottom {bottom} is no box of a picture "
            "that goes from 0 to 1"
        )
    return FecFace(url, left, right, top, bottom)


def urls_of(triplets: Iterable[FecTriplet]) -> list[str]:
    """The distinct addresses, in the order in which they occur."""
    return list(dict.fromkeys(face.url for triplet in triplets for face in triplet.faces))


def image_name(url: str) -> str:
    """Name of a photograph's file: 64 hex digits and `.jpg`; what format it has, its content says."""
    return f"{hashlib.sha256(url.encode('utf-8', 'surrogateescape')).hexdigest()}.jpg"


# --- photographs ---


@dataclass(frozen=True)
class Download:
    """What became of one address: a row of the report. `file` is empty unless `status` is `ok`."""

    url: str
    file: str
    status: str
    reason: str = ""


@dataclass(frozen=True)
class Limits:
    """Of one address: seconds without a byte, seconds in all, and bytes."""

    silence: float = 15.0
    seconds: float = 60.0
    size: int = MAX_BYTES


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
    from exprmetric.images import read_image

    try:
        content = _read_url(url, limits)
    except _NotFetched as error:
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


class _NotFetched(Exception):
    """Nothing usable came; `status` is one of STATUSES."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(" ".join("".join(c if c.isprintable() else " " for c in brief(reason)).split()))
        self.status = status


def _read_url(url: str, limits: Limits) -> bytes:
    """The content of an http(s) address; _NotFetched says why there is none."""
    _check_address(url, "the address")
    connections: list[http.client.HTTPConnection] = []
    end = time.monotonic() + limits.seconds
    watch = Timer(limits.seconds, _cut, [connections])  # a server that sends its headers byte by byte is never silent
    watch.daemon = True
    watch.start()
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "exprmetric", "Accept-Encoding": "identity"})
        with _opener(connections).open(request, timeout=limits.silence) as answer:
            return _read_body(answer, end, limits)
    except HTTPError as error:
        error.close()
        raise _NotFetched(_status_of(error.code), f"HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        if time.monotonic() >= end:
            raise _too_slow(limits) from error
        # an address that can't be sent: spaces, letters that are no ASCII
        refused = isinstance(error, ValueError | http.client.InvalidURL)
        raise _NotFetched("refused" if refused else "failed", f"{type(error).__name__}: {error}") from error
    finally:
        watch.cancel()


def _read_body(answer: Any, end: float, limits: Limits) -> bytes:
    expected = answer.headers.get("Content-Length", "")
    content = bytearray()
    while chunk := answer.read1(1 << 16):
        content += chunk
        if len(content) > limits.size:
            raise _NotFetched("refused", f"more than {limits.size:,} bytes")
        if time.monotonic() >= end:
            raise _too_slow(limits)
    if expected.isdecimal() and len(content) < int(expected):
        raise _NotFetched("failed", f"the connection ended after {len(content):,} of {int(expected):,} bytes")
    return bytes(content)


def _too_slow(limits: Limits) -> _NotFetched:
    return _NotFetched("failed", f"not done after {limits.seconds:g} s")


def _status_of(code: int) -> str:
    if 300 <= code < 400:
        return "refused"
    return "failed" if code >= 500 or code in TRY_AGAIN else "dead"


def _check_address(url: str, what: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise _NotFetched("refused", f"{what} {url[:200]!r} is none: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _NotFetched("refused", f"{what} {url[:200]!r} is not http or https")


def _cut(connections: list[http.client.HTTPConnection]) -> None:
    """End what is waiting for an answer."""
    import socket

    for connection in connections:
        try:
            connection.sock.shutdown(socket.SHUT_RDWR)
        except (OSError, AttributeError):  # never connected, or done
            continue


class _Watched(urllib.request.AbstractHTTPHandler):
    """Notes each connection that is made."""

    connections: list[http.client.HTTPConnection]

    def do_open(self, http_class: Any, req: urllib.request.Request, **options: Any) -> Any:
        def connect(*args: Any, **more: Any) -> http.client.HTTPConnection:
            made: http.client.HTTPConnection = http_class(*args, **more)
            self.connections.append(made)
            return made

        return super().do_open(connect, req, **options)


class _Http(_Watched, urllib.request.HTTPHandler):
    pass


class _Https(_Watched, urllib.request.HTTPSHandler):
    pass


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = REDIRECTS

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _check_address(newurl, "the redirect to")
        if PLACEHOLDER in newurl.rpartition("/")[2].lower():
            raise _NotFetched("dead", f"the photograph was removed: redirected to {newurl[:200]!r}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """The system's certificates, and those that come with requests for systems that have none."""
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    context = ssl.create_default_context()
    context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    return context


def _opener(connections: list[http.client.HTTPConnection]) -> urllib.request.OpenerDirector:
    """Follows http and https alone: `build_opener` would bring file and ftp along."""
    plain, secure = _Http(), _Https(context=_tls())
    plain.connections = secure.connections = connections
    director = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        plain,
        secure,
        _Redirects(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        director.add_handler(handler)
    return director
