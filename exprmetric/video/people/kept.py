"""Faces of videos that are kept in a folder: the next question about the same videos does not look for them again.

A file of faces is found again by the content of its video and by all that decides what is in it: settings, weights,
versions. They describe people: the folder is for its owner alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from exprmetric.errors import InputError
from exprmetric.io.environment import PACKAGES, package_version
from exprmetric.io.files import path_text
from exprmetric.io.images import content_hash
from exprmetric.io.tables import show
from exprmetric.video.faces.table import FORMAT, VideoFaces


def kept(folder: Path | None, video: Path, settings: Mapping[str, Any], read: Callable[[], VideoFaces]) -> VideoFaces:
    """The faces that are kept of a video; else those that are read, which are kept then.

    Args:
        folder: made if it isn't there; None: nothing is kept. Nor is it of a folder of images.
        settings: all but the video that decides the faces, as JSON can hold it.
        read: reads the video.

    Raises:
        InputError: the folder can't be written. And what `read` raises, of which nothing is kept.
    """
    if folder is None or not video.is_file():
        return read()
    path = folder / f"{_key(video, settings)}.npz"
    try:
        return replace(VideoFaces.load(path), path=path_text(video))
    except InputError:  # there is none, or a damaged one
        faces = read()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise InputError(f"can't keep faces in {show(folder)}: {error}") from error
    faces.save(path)
    return faces


def _key(video: Path, settings: Mapping[str, Any]) -> str:
    versions = {name: package_version(name) for name in ("av", *PACKAGES)}
    about = [FORMAT, content_hash(video), versions, dict(settings)]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
