"""MediaPipe's canonical face: the neutral head that its own pose estimation fits to a mesh, out of its bundle.

`face_landmarker.task` holds it as a protocol buffer, `geometry_pipeline_metadata_landmarks.binarypb`. What is needed of
the wire format is read here: a mesh (field 1) whose vertices (field 3) are x, y, z and two texture coordinates each,
and the points that pose estimation trusts (field 2), each with its number (field 1).
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exprmetric.errors import WeightsError

FILE = "geometry_pipeline_metadata_landmarks.binarypb"
MOST_BYTES = 1 << 20
"""The file has 19 kB."""
POINTS = 468
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def canonical_face(path: Path) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """The canonical face and the numbers of its rigid points.

    Args:
        path: `face_landmarker.task`, its hash verified.

    Returns:
        (468, 3) points, cm: x to the image's right, y up, z to the camera; (K,) numbers of those that hardly move with
        an expression.

    Raises:
        WeightsError: the bundle has no such file, or another one.
    """
    try:
        with zipfile.ZipFile(path) as bundle:
            if bundle.getinfo(FILE).file_size > MOST_BYTES:
                raise WeightsError(f"{path}: {FILE} is larger than {MOST_BYTES} bytes")
            data = bundle.read(FILE)
        top = list(_fields(data))
        (mesh,) = _messages(top, 1)
        vertices = [value for number, value in _fields(mesh) if number == 3]
        basis = [dict(_fields(point)).get(1, 0) for point in _messages(top, 2)]
        points = np.array(vertices, np.float64).reshape(POINTS, 5)[:, :3]
        rigid = np.array(basis, np.intp)
    except (OSError, KeyError, ValueError, TypeError, IndexError, struct.error, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} holds no canonical face: {error}") from error
    if not np.isfinite(points).all() or len(rigid) < 6 or not ((rigid >= 0) & (rigid < POINTS)).all():
        raise WeightsError(f"{path} holds a canonical face that is none")
    return points, rigid


def _messages(fields: list[tuple[int, int | float | bytes]], number: int) -> list[bytes]:
    return [value for n, value in fields if n == number and isinstance(value, bytes)]


def _fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Number and value of each field of a protocol buffer message."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        value: int | float | bytes
        if kind == _VARINT:
            value, at = _varint(data, at)
        elif kind == _BYTES:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
            if at > len(data):
                raise ValueError("it ends in the middle of a field")
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
            (value,) = struct.unpack("<f" if size == 4 else "<d", data[at : at + size])
            at += size
        else:
            raise ValueError(f"a field of unknown kind {kind}")
        yield key >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number is longer than 64 bits")
