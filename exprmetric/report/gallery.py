"""Which triplets a report shows: the worst, the middle and the best of each method, and examples of each failure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from exprmetric.evaluation.pipeline import OK
from exprmetric.evaluation.result import Record
from exprmetric.report.crops import Card
from exprmetric.triplets import ROLES

MOST_CARDS = 36
"""Triplets of the gallery, however many methods there are; three pictures of some 8 kB each."""
PLACES = ("worst", "median", "best")
MOST_FAILED = 6
"""Examples of each failure status."""


@dataclass(frozen=True)
class Failure:
    """One status: how many triplets ended with it, by the role whose image failed first, and examples of them."""

    status: str
    count: int
    roles: dict[str, int]
    cards: list[Card]


def gallery(rows: Sequence[Record], methods: Sequence[str]) -> list[Card]:
    """Measured triplets by t2c of each method, each triplet once, with tags such as `worst by lm68`."""
    each = max(1, min(4, MOST_CARDS // (len(PLACES) * max(1, len(methods)))))
    tags: dict[int, list[str]] = {}
    for method in methods:
        column = f"{method}.t2c"
        order = sorted((i for i, r in enumerate(rows) if r["status"] == OK), key=lambda i: (-rows[i][column], i))
        middle = max(0, (len(order) - each) // 2)
        for place, part in zip(PLACES, (order[:each], order[middle : middle + each], order[-each:][::-1]), strict=True):
            for i in part:
                tags.setdefault(i, []).append(f"{place} by {method}")
    return [Card(rows[i], i, tuple(tags[i])) for i in list(tags)[:MOST_CARDS]]


def failures(rows: Sequence[Record]) -> list[Failure]:
    """The failed triplets by status, the most frequent first."""
    found: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        if row["status"] != OK:
            found.setdefault(row["status"], []).append(i)
    return [
        Failure(
            status,
            len(part),
            dict(Counter(_role(rows[i]["reason"]) for i in part).most_common()),
            [Card(rows[i], i) for i in part[:MOST_FAILED]],
        )
        for status, part in sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _role(reason: str) -> str:
    """The image that a reason names first: `target`, `source`, `swapped`, or `other`."""
    found = re.match(r"(?:no )?(" + "|".join(ROLES) + r")\b", reason)
    return found[1] if found else "other"
