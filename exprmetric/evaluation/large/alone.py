"""The life of a process that tries suspects (`suspects.py`): load the models, read image after image, tell of each."""

from __future__ import annotations

import json
import os
import pickle
import sys
import threading
from pathlib import Path
from typing import IO, Any

from exprmetric.evaluation.large.suspects import READY
from exprmetric.evaluation.session import Session, Settings
from exprmetric.io.images import Pinned


def main() -> None:
    """Read what is asked as a line of JSON on stdin, and answer in pickles on stdout: `READY` once the models are
    loaded, or what rose instead; then what became of each image, or what rose."""
    told: IO[bytes] = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    asked = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def tell(what: Any) -> None:
        pickle.dump(what, told)
        told.flush()

    try:
        settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in asked["settings"].items()}
        session = Session(Settings(**settings))
    except Exception as error:
        tell(error)
        return
    tell(READY)
    for path, sha256 in asked["images"]:
        try:
            (outcome,) = session.reader.represent([session.reader.read(Pinned(Path(path), sha256))])
        except Exception as error:
            tell(error)
        else:
            tell(outcome)


def _end_with_parent() -> None:
    """Its parent writes no more, and holds the pipe as long as it lives."""
    sys.stdin.buffer.read()
    os._exit(1)
