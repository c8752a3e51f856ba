"""Downloads that resume, and one member of a zip archive. Hashes are the callers' affair."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path
from typing import IO, Any

from exprmetric.errors import WeightsError
from exprmetric.weights.fields import is_safe_path

_CHUNK = 1 << 20
MOST_BYTES = 4 << 30
"""Of a download whose size isn't known."""


class ResumingDownloader:
    """A pooch downloader that goes on from the bytes already at `output_file` when the server can.

    `label` names the progress bar on stderr; None draws none. `most` is how many bytes the file may have, where known.
    Raises OSError (requests' errors are) on failure, leaving what came so far for the next try, and WeightsError as
    soon as more than `most` bytes are offered or come.
    """

    def __init__(self, label: str | None = None, most: int | None = None) -> None:
        self.label = label
        self.most = MOST_BYTES if most is None else most

    def __call__(
        self, url: str, output_file: str | Path, pooch: object = None, check_only: bool = False
    ) -> bool | None:
        import requests
        from pooch import HTTPDownloader

        if check_only:
            return bool(HTTPDownloader()(url, output_file, pooch, check_only=True))
        with Path(output_file).open("ab") as opened, _ProgressBar(self.label) as bar:
            part = _Capped(opened, self.most)
            start = part.tell()

            def on_response(response: Any, **_: object) -> None:
                """Before the body is written: is it the rest of the file, or all of it?"""
                if response.status_code == requests.codes.partial_content:
                    given = response.headers.get("Content-Range", "")
                    if not given.startswith(f"bytes {start}-"):
                        raise requests.RequestException(f"asked for bytes from {start}, was sent {given!r}")
                    bar.start = start
                elif response.status_code == requests.codes.ok:
                    part.truncate(0)
                else:
                    return
                part.expect(response.headers.get("Content-Length", ""))

            # identity: a compressed answer has other byte positions
            headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
            download = HTTPDownloader(progressbar=bar, headers=headers, hooks={"response": on_response})
            try:
                download(url, part, pooch)
            except requests.HTTPError as error:
                status = error.response.status_code if error.response is not None else None
                if not start or status != requests.codes.requested_range_not_satisfiable:
                    raise
                part.truncate(0)  # what is there is as long as the file or longer: start over
            else:
                return None
        return self(url, output_file, pooch)


class _Capped:
    """A file that takes so many bytes and no more."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file, self._most = file, most
        self.tell, self.truncate, self.flush = file.tell, file.truncate, file.flush

    def expect(self, length: str) -> None:
        """What the server says it will send."""
        if length.isdecimal():
            self._refuse(int(length))

    def write(self, data: bytes) -> int:
        self._refuse(len(data))
        return self._file.write(data)

    def _refuse(self, more: int) -> None:
        size = self._file.seek(0, os.SEEK_END) + more
        if size > self._most:
            raise WeightsError(f"it has {size:,} bytes or more, expected {self._most:,} at most: not fetched")


class _ProgressBar:
    """What pooch asks of a progress bar, drawn by rich on stderr; silent without a label or a terminal."""

    def __init__(self, label: str | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
        )
        self._bar = Progress(*columns, console=console, disable=label is None or not console.is_terminal)
        self._task = self._bar.add_task(label or "", total=None)
        self._total: int | None = None
        self.start = 0  # bytes that an earlier try left

    def __enter__(self) -> _ProgressBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def total(self) -> int | None:
        """Length of the body in bytes; pooch sets it once it is known, 0 where the server doesn't say."""
        return self._total

    @total.setter
    def total(self, size: int | None) -> None:
        self._total = size
        self._bar.update(self._task, total=size + self.start if size else None, completed=self.start)

    def update(self, count: int) -> None:
        self._bar.advance(self._task, count)

    def reset(self) -> None:
        self._bar.update(self._task, completed=self.start)

    def close(self) -> None:
        self._bar.stop()


def extract_member(pack: Path, member: str, target: Path, size: int | None) -> None:
    """Write the zip's only file named `member`, in whatever folder it is there, to `target` and nowhere else.

    `size` is what it must have in bytes, where known. Raises WeightsError for a zip that is broken or not
    as expected.
    """
    try:
        with zipfile.ZipFile(pack) as opened:
            found = [info for info in opened.infolist() if f"/{info.filename}".endswith(f"/{member}")]
            if len(found) != 1:
                raise WeightsError(f"the archive holds {len(found)} files named {member!r}, expected one")
            if not is_safe_path(found[0].filename):
                raise WeightsError(f"the archive's {found[0].filename!r} points outside of it: refused")
            if size is not None and found[0].file_size != size:
                raise WeightsError(f"{member} in the archive has {found[0].file_size} bytes, expected {size}")
            with opened.open(found[0]) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, _CHUNK)
    except (OSError, WeightsError):
        raise
    except Exception as error:  # a broken zip raises zlib.error, EOFError, RuntimeError and more
        raise WeightsError(f"the archive can't be read: {type(error).__name__}: {error}") from error
