"""What a caller in Python hands over, checked: one sentence for a value of a wrong type, in whatever function."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable
from typing import Any

from exprmetric.errors import InputError


def names(given: Any, what: str) -> tuple[str, ...]:
    """Several names; a single one may stand alone.

    Raises:
        InputError: it is no text and no list of texts.
    """
    if isinstance(given, str):
        return (given,)
    found = tuple(given) if isinstance(given, Iterable) and not isinstance(given, bytes) else (given,)
    if wrong := [name for name in found if not isinstance(name, str)]:
        raise InputError(f"{what}: expected a name, or a list of names, not {_kind(wrong[0])}")
    return found


def text(given: Any, what: str) -> str:
    """A name, or a path as text.

    Raises:
        InputError: it is neither.
    """
    if isinstance(given, str | os.PathLike):
        return os.fsdecode(given)
    raise InputError(f"{what}: expected a name or a path, not {_kind(given)}")


def whole(given: Any, what: str, least: int) -> int:
    """A whole number.

    Raises:
        InputError: it is none, or smaller than `least`.
    """
    try:
        number = operator.index(given)
    except TypeError:
        raise InputError(f"{what}: expected a whole number, not {_kind(given)}") from None
    if number < least:
        raise InputError(f"{what} is {number}: it must be {least} or more")
    return number


def how_many(given: Any, what: str) -> int | None:
    """How many, 1 or more; None where it is left open.

    Raises:
        InputError: it is no whole number, or smaller than 1.
    """
    return None if given is None else whole(given, what, 1)


def _kind(given: Any) -> str:
    return "None" if given is None else f"{given!r:.40}, which is of the type {type(given).__name__}"
