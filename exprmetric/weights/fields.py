"""Reading JSON field by field: every value checked, no key left over, every error names its place."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from exprmetric.errors import WeightsError

T = TypeVar("T")
Check = Callable[[object], T]  # returns the value, or raises ValueError that says what it must be


class Fields:
    """A JSON object whose fields are taken one by one; what is left over at the end is an error."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise WeightsError(f"{where}: expected an object, got {value!r}")
        self._left = dict(value)
        self._where = where

    def take(self, key: str, check: Check[T], *default: T) -> T:
        """The checked value of `key`; the default, where one is given, when the key is absent."""
        if key not in self._left:
            if default:
                return default[0]
            self.refuse(key, "is missing")
        value = self._left.pop(key)
        try:
            return check(value)
        except (ValueError, OverflowError, WeightsError) as error:
            self.refuse(key, str(error))

    def refuse(self, key: str, why: str) -> NoReturn:
        raise WeightsError(f"{self._where}: {key} {why}")

    def done(self) -> None:
        if self._left:
            raise WeightsError(f"{self._where}: unknown keys {sorted(map(str, self._left))}")


def is_safe_path(path: str) -> bool:
    """True for a relative path with forward slashes that stays inside the folder it is joined to."""
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts and not re.search(r"[\\:\x00-\x1f]", path)


def _expect(condition: bool, what: str, value: object) -> None:
    if not condition:
        raise ValueError(f"must be {what}, got {value!r}")


def any_text(value: object) -> str:
    _expect(isinstance(value, str), "text", value)
    return str(value)


def text(value: object) -> str:
    _expect(isinstance(value, str) and bool(value.strip()), "text that isn't empty", value)
    return str(value)


def flag(value: object) -> bool:
    _expect(isinstance(value, bool), "true or false", value)
    return bool(value)


def integer(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"must be a whole number, got {value!r}")


def positive(value: object) -> int:
    _expect(integer(value) > 0, "above 0", value)
    return integer(value)


def number(value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise ValueError(f"must be a finite number, got {value!r}")


def positive_number(value: object) -> float:
    _expect(number(value) > 0, "above 0", value)
    return number(value)


def listing(value: object) -> list[Any]:
    if isinstance(value, list):
        return value
    raise ValueError(f"must be a list, got {value!r}")


def safe_path(value: object) -> str:
    _expect(is_safe_path(text(value)), "a relative path with '/' and without '..'", value)
    return text(value)


def url(value: object) -> str:
    url = text(value)
    parts = urlsplit(url)
    local = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost")
    _expect(bool(parts.hostname) and (parts.scheme == "https" or local), "an https address", value)
    _expect(not re.search(r"[\s\x00-\x1f]", url), "an address without spaces", value)
    return url


def matching(pattern: str, what: str) -> Check[str]:
    def check(value: object) -> str:
        _expect(re.fullmatch(pattern, any_text(value), re.ASCII) is not None, what, value)
        return any_text(value)

    return check


sha256 = matching(r"[0-9a-f]{64}", "a SHA-256 of 64 lower-case hexadecimal digits")


def one_of(choices: tuple[str, ...]) -> Check[str]:
    def check(value: object) -> str:
        _expect(value in choices, f"one of {', '.join(choices)}", value)
        return str(value)

    return check


def optional(check: Check[T]) -> Check[T | None]:
    return lambda value: None if value is None else check(value)


def tuple_of(check: Check[T]) -> Check[tuple[T, ...]]:
    return lambda value: tuple(check(item) for item in listing(value))
