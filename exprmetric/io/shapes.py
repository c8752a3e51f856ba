"""What JSON files of results must hold, said as a shape; what isn't so is an error that names the place.

A shape is a type or a tuple of types; a `dict` of shapes by key (a key that ends in `?` may be absent); `{str: shape}`
for any keys; `[shape]` for a list, and `[shape, shape]` for one of two.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NoReturn

from exprmetric.errors import InputError
from exprmetric.io.tables import brief, printable, show

NUMBER = (int, float)
NUMBER_OR_NONE = (int, float, type(None))
SCORE = {"value": NUMBER_OR_NONE, "ci95": [NUMBER_OR_NONE, NUMBER_OR_NONE]}
_WORDS = {int: "a whole number", float: "a number", str: "text", dict: "an object", list: "a list"}

Shape = Any


def read_json(path: Path, shape: Shape, version: int) -> dict[str, Any]:
    """A JSON file of this shape, whose `schema_version` is this one.

    Raises:
        FileNotFoundError: there is none.
        InputError: it can't be read, is no JSON, of another version, or lacks something; the message names the file and
            the place.
    """
    try:
        document = json.loads(path.read_bytes(), parse_constant=_no_number)
        json.dumps(document, ensure_ascii=False).encode()  # half a character could not be written again
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InputError(f"{show(path)} can't be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{show(path)} is damaged: it is no JSON ({brief(printable(str(error)))})") from error
    found = document.get("schema_version") if isinstance(document, dict) else None
    if found != version or isinstance(found, bool):
        raise InputError(f"{show(path)} has schema_version {brief(repr(found))}; this reads {version}")
    try:
        check_shape(document, shape)
    except ValueError as error:
        raise InputError(f"{show(path)} is damaged: {brief(printable(str(error)))}") from error
    whole: dict[str, Any] = document
    return whole


def check_shape(value: object, shape: Shape, place: str = "") -> None:
    """ValueError, which names the place, where a value of JSON hasn't the shape."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            _refuse(place, dict, value)
        for key, inner in shape.items():
            if key is str:
                for name, item in value.items():
                    check_shape(item, inner, f"{place}.{name}".lstrip("."))
                continue
            name, inside = key.removesuffix("?"), f"{place}.{key.removesuffix('?')}".lstrip(".")
            if name in value:
                check_shape(value[name], inner, inside)
            elif name == key:
                raise ValueError(f"{inside} is missing")
    elif isinstance(shape, list):
        if not isinstance(value, list):
            _refuse(place, list, value)
        if len(shape) > 1 and len(value) != len(shape):
            raise ValueError(f"{place} must be {len(shape)} values, not {brief(repr(value))}")
        for i, item in enumerate(value):
            check_shape(item, shape[i if len(shape) > 1 else 0], f"{place}[{i}]")
    elif isinstance(shape, Maybe):
        if value is not None:
            check_shape(value, shape.shape, place)
    else:
        kinds = shape if isinstance(shape, tuple) else (shape,)
        fits = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
        if isinstance(value, (int, float)):
            fits = fits and abs(value) <= sys.float_info.max  # which what is not finite isn't either
        if not fits:
            _refuse(place, kinds[-1] if len(kinds) == 1 else float, value)


class Maybe:
    """A shape, or null."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape


def _refuse(place: str, kind: type, value: object) -> NoReturn:
    raise ValueError(f"{place or 'the document'} must be {_WORDS[kind]}, not {brief(repr(value))}")


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")
