"""One photograph from its address: http and https alone, within limits of time and size."""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.request
from dataclasses import dataclass
from functools import lru_cache
from threading import Timer
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

from exprmetric.io.tables import brief

MAX_BYTES = 32 << 20
TRY_AGAIN = (408, 425, 429)
"""Client errors that are no word on the photograph; all of 5xx are none either."""
PLACEHOLDER = "unavailable"
"""In the last part of the address of the picture that Flickr redirects to where a photograph was removed."""
REDIRECTS = 5


@dataclass(frozen=True)
class Limits:
    """Of one address: seconds without a byte, seconds in all, and bytes."""

    silence: float = 15.0
    seconds: float = 60.0
    size: int = MAX_BYTES


class NotFetched(Exception):
    """Nothing usable came; `status` is `dead`, `refused` or `failed`: see `exprmetric.datasets.fec_download`."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(" ".join("".join(c if c.isprintable() else " " for c in brief(reason)).split()))
        self.status = status


def read_url(url: str, limits: Limits) -> bytes:
    """The content of an http(s) address; NotFetched says why there is none."""
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
        raise NotFetched(_status_of(error.code), f"HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        if time.monotonic() >= end:
            raise _too_slow(limits) from error
        # an address that can't be sent: spaces, letters that are no ASCII
        refused = isinstance(error, ValueError | http.client.InvalidURL)
        raise NotFetched("refused" if refused else "failed", f"{type(error).__name__}: {error}") from error
    finally:
        watch.cancel()


def _read_body(answer: Any, end: float, limits: Limits) -> bytes:
    expected = answer.headers.get("Content-Length", "")
    content = bytearray()
    while chunk := answer.read1(1 << 16):
        content += chunk
        if len(content) > limits.size:
            raise NotFetched("refused", f"more than {limits.size:,} bytes")
        if time.monotonic() >= end:
            raise _too_slow(limits)
    if expected.isdecimal() and len(content) < int(expected):
        raise NotFetched("failed", f"the connection ended after {len(content):,} of {int(expected):,} bytes")
    return bytes(content)


def _too_slow(limits: Limits) -> NotFetched:
    return NotFetched("failed", f"not done after {limits.seconds:g} s")


def _status_of(code: int) -> str:
    if 300 <= code < 400:
        return "refused"
    return "failed" if code >= 500 or code in TRY_AGAIN else "dead"


def _check_address(url: str, what: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise NotFetched("refused", f"{what} {url[:200]!r} is none: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NotFetched("refused", f"{what} {url[:200]!r} is not http or https")


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
            raise NotFetched("dead", f"the photograph was removed: redirected to {newurl[:200]!r}")
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
