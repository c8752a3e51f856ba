"""Values as JSON has them: no NaN, no infinity, no dataclass."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any, SupportsFloat


def finite(value: SupportsFloat | None) -> float | None:
    """A number, or None for what could not be computed (NaN, infinity, None)."""
    return float(value) if value is not None and math.isfinite(value) else None


def score(value: SupportsFloat | None, interval: Iterable[SupportsFloat]) -> dict[str, Any]:
    """A score as summaries hold it: its value and its 95 % interval."""
    return {"value": finite(value), "ci95": [finite(end) for end in interval]}


def plain(value: Any) -> Any:
    """Dataclasses, dicts, lists and tuples as JSON values, to any depth; a number that is not finite is None.

    An object with a method `plain` says itself what it is.
    """
    if not isinstance(value, type) and callable(own := getattr(value, "plain", None)):
        return plain(own())
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return finite(value) if isinstance(value, float) else value


def as_json(content: Any) -> str:
    """A document of plain values; ValueError for NaN and infinity."""
    return json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
