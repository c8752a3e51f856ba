"""Where the command's words go: a terminal, a file, a pipe whose reader is gone, a full disk, nowhere.

Nothing about stdout and stderr may turn a measurement into a traceback, or its exit status into another.
"""

from __future__ import annotations

import codecs
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TextIO, cast

READER_GONE = 141
"""Exit status when nobody reads stdout any more, as of any program that SIGPIPE stops."""
ESCAPES = "exprmetric.escapes"


@contextmanager
def safe_output() -> Iterator[None]:
    """Inside, stdout and stderr take any text, whatever their encoding is, and also where they are closed.

    Where stdout can't be written the process ends: in silence with READER_GONE where its reader is gone, else with a
    sentence and status 1. What stderr can't take is dropped.
    """
    codecs.register_error(ESCAPES, _escape)
    before = sys.stdout, sys.stderr
    sys.stdout = stdout = _encodable(sys.stdout)
    sys.stderr = cast(TextIO, _Lenient(_encodable(sys.stderr)))
    try:
        yield
        _flush(stdout)
    except SystemExit as end:
        # for a reader that is gone both end with status 1: rich at once, click after it has put a wrapper there
        if isinstance(end.__context__, BrokenPipeError) or sys.stdout is not stdout:
            _silence(stdout)
            sys.exit(READER_GONE)
        _flush(stdout)
        raise
    except OSError as error:
        _flush(stdout)
        if error.errno == errno.ENOSPC:  # not buffered, so that nothing was left to be flushed
            _say(error)
        raise
    finally:
        sys.stdout, sys.stderr = before


def _escape(error: UnicodeError) -> tuple[str, int]:
    """What an encoding lacks as escapes that JSON reads too: `\\u2193`."""
    import json

    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def _encodable(stream: TextIO | None) -> TextIO:
    if stream is None:  # closed by whoever started this process
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors=ESCAPES)
    return stream


def _flush(stdout: TextIO) -> None:
    """Write what waits; where that can't be done, the process ends as `safe_output` says."""
    try:
        stdout.flush()
    except OSError as error:
        _silence(stdout)
        if error.errno == errno.EPIPE:
            sys.exit(READER_GONE)
        _say(error)


def _say(error: OSError) -> NoReturn:
    where = f"{error.filename}: " if error.filename else ""
    print(f"Error: {where}{error.strerror or error}", file=sys.stderr)
    sys.exit(1)


def _silence(stream: TextIO) -> None:
    """What waits to be written is dropped, or Python would try once more at the end and complain."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Lenient:
    """A stream that goes on in silence when it can't be written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            _silence(self._stream)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            _silence(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
