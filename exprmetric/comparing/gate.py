"""Conditions on a result, for a pipeline that must stop when a model got worse: `default.mean_t2c<0.25`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from exprmetric.errors import InputError
from exprmetric.metrics.preservation import SCORES

NOT_MET = 3
"""Exit status of a command whose result doesn't meet what was required."""
_COMPARES: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_REQUIRED = re.compile(r"\s*([^<>=\s]+)\s*(<=|>=|<|>)\s*(\S+)\s*")
_OF_METHODS = (*SCORES, "mean_s2c", "mean_s2t", "kept")
_ELSEWHERE = {
    "identity": ("nearer_to_source", "same_person", "mean_t2c", "mean_s2c", "mean_s2t"),
    "privacy": ("rank1", "rank5", "mrr", "same_person", "detected"),
}


@dataclass(frozen=True)
class Requirement:
    """One condition.

    Attributes:
        name: `coverage`, `METHOD.SCORE`, `identity.SCORE` or `privacy.SCORE`.
        sign: `<`, `<=`, `>` or `>=`.
        bound: finite.
    """

    name: str
    sign: str
    bound: float

    @classmethod
    def parse(cls, text: str, methods: Sequence[str] = ()) -> Requirement:
        """`default.mean_t2c<0.25`, `coverage>=0.95`, `privacy.rank1<0.1`.

        Args:
            methods: those that will be measured; () for any.

        Raises:
            InputError: it is no condition, or no result of these methods can have such a score.
        """
        found = _REQUIRED.fullmatch(text)
        bound = _finite(found[3]) if found else None
        if not found or bound is None:
            raise InputError(f"{text!r} is no requirement: write SCORE<NUMBER, such as default.mean_t2c<0.25")
        name, (owner, _, score) = found[1], found[1].rpartition(".")
        if name != "coverage" and (not owner or score not in _ELSEWHERE.get(owner, _OF_METHODS)):
            known = ", ".join(_ELSEWHERE.get(owner, _OF_METHODS))
            raise InputError(f"{text!r}: there is no score {name!r}; write coverage, or METHOD. and one of {known}")
        if name != "coverage" and methods and owner not in (*methods, *_ELSEWHERE):
            raise InputError(f"{text!r}: no method {owner!r} is measured; measured are {', '.join(methods)}")
        return cls(name, found[2], bound)

    def __str__(self) -> str:
        return f"{self.name}{self.sign}{self.bound:g}"

    def value(self, summary: dict[str, Any]) -> float | None:
        """The number of a `summary.json`; None where it holds none."""
        if self.name == "coverage":
            counts = summary["coverage"]
            return float(counts["ok"]) / float(counts["triplets"]) if counts["triplets"] else None
        owner, _, score = self.name.rpartition(".")
        part = summary.get(owner) if owner in _ELSEWHERE else summary["methods"].get(owner)
        found = (part or {}).get(score)
        number = found.get("value") if isinstance(found, dict) else found
        return None if number is None else float(number)

    def failure(self, summary: dict[str, Any]) -> str:
        """Why a result doesn't meet it, in a sentence; '' where it does. What was not measured is not met."""
        value = self.value(summary)
        if value is None:
            return f"{self} is not met: the result has no {self.name}"
        return "" if _COMPARES[self.sign](value, self.bound) else f"{self} is not met: it is {value:.4g}"


def _finite(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
