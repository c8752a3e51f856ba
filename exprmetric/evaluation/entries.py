"""What the cache keeps of an image, as bytes: the error that it gave, or its faces."""

from __future__ import annotations

import contextlib
import json
from base64 import b64decode, b64encode
from typing import Any

import numpy as np

from exprmetric.errors import ImageError, ImplausibleFaceError, NoFaceError, SeveralFacesError
from exprmetric.evaluation.reading import Outcome, Represented, Sight
from exprmetric.faces.face import Face
from exprmetric.faces.finder import FaceFinder
from exprmetric.faces.place import Size

FAILURES = {error.__name__: error for error in (NoFaceError, SeveralFacesError, ImplausibleFaceError)}
"""Failures that the same pixels give again; a file that can't be read may be readable tomorrow."""


def lasting(outcome: Outcome) -> bool:
    """Whether the same pixels give the same again, whatever methods are asked for."""
    errors = [outcome] if isinstance(outcome, ImageError) else [f.error for f in outcome.faces if f.error]
    return all(type(error) in FAILURES.values() for error in errors)


def encode(outcome: Outcome) -> bytes:
    """JSON: the error, or size and faces."""
    if isinstance(outcome, ImageError):
        return json.dumps({"error": _failure(outcome)}).encode()
    return json.dumps({"size": outcome.size, "faces": [_plain(f) for f in outcome.faces]}).encode()


def _failure(error: ImageError) -> list[str]:
    return [type(error).__name__, str(error)]


def _plain(seen: Represented) -> dict[str, Any]:
    """The numbers of a face as float64 (score, box, landmarks; five points, corners), and its error."""
    parts = [np.array([seen.score]), seen.box]
    if seen.face is not None:
        parts += [p for p in (seen.face.landmarks, seen.face.five_points, seen.face.corners) if p is not None]
    numbers = np.concatenate([np.ravel(p).astype(np.float64) for p in parts])
    return {"numbers": b64encode(numbers.tobytes()).decode()} | ({"error": _failure(seen.error)} if seen.error else {})


def decode(value: bytes, finder: FaceFinder) -> Outcome | None:
    """What `_encode` wrote; None where it is something else."""
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        found = json.loads(value)
        if "error" in found:
            return _error(found["error"])
        height, width = found["size"]
        faces = [_face(plain, (int(height), int(width)), finder) for plain in found["faces"]]
        return Sight((int(height), int(width)), faces) if faces else None
    return None


def _error(plain: list[str]) -> ImageError:
    name, message = plain
    return FAILURES[name](message)


def _face(plain: dict[str, Any], size: Size, finder: FaceFinder) -> Represented:
    numbers = np.frombuffer(b64decode(plain["numbers"]), np.float64)
    score, box = float(numbers[0]), numbers[1:5]
    if "error" in plain:
        return Represented(box, score, error=_error(plain["error"]))
    landmarks, more = numbers[5:141].reshape(68, 2), numbers[141:]  # five points are 10 numbers, corners 6
    face = Face(
        None,
        size=size,
        box=box,
        score=score,
        landmarks=landmarks,
        five_points=more[:10].reshape(5, 2) if len(more) >= 10 else None,
        corners=more[-6:].reshape(3, 2) if len(more) in (6, 16) else None,
        detector=finder.detector.name,
        aligned=finder.detector.aligned,
    )
    return Represented(box, score, face)
