"""Which triplets a report shows: the worst, the middle and the best of each method, and examples of each failure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from exprmetric.evaluation.rows import OK, Rows
from exprmetric.inputs.triplets import ROLES
from exprmetric.report.crops import Card

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


def gallery(rows: Rows, methods: Sequence[str]) -> list[Card]:
    """Measured triplets by t2c of each method, each triplet once, with tags such as `worst by lm68`."""
    each = max(1, min(4, MOST_CARDS // (len(PLACES) * max(1, len(methods)))))
    measured = np.flatnonzero(rows.ok)
    tags: dict[int, list[str]] = {}
    for method in methods:
        order = measured[np.argsort(-rows.distance(method, "t2c")[measured], kind="stable")].tolist()
        middle = max(0, (len(order) - each) // 2)
        for place, part in zip(PLACES, (order[:each], order[middle : middle + each], order[-each:][::-1]), strict=True):
            for i in part:
                tags.setdefault(i, []).append(f"{place} by {method}")
    chosen = list(tags)[:MOST_CARDS]
    return [Card(row, i, tuple(tags[i])) for i, row in zip(chosen, rows.records(chosen), strict=True)]


def failures(rows: Rows) -> list[Failure]:
    """The failed triplets by status, the most frequent first."""
    codes, statuses = rows.codes("status")
    reason_codes, reasons = rows.codes("reason")
    roles = [_role(reason) for reason in reasons]
    found = []
    for i, status in enumerate(statuses):
        part = np.flatnonzero(codes == i)
        if status != OK and len(part):
            by_reason = np.bincount(reason_codes[part], minlength=len(reasons)).tolist()
            counts: Counter[str] = Counter()
            for role, count in zip(roles, by_reason, strict=True):
                counts[role] += count
            some = part[:MOST_FAILED].tolist()
            cards = [Card(row, k) for k, row in zip(some, rows.records(some), strict=True)]
            found.append(Failure(status, len(part), {r: n for r, n in counts.most_common() if n}, cards))
    return sorted(found, key=lambda f: (-f.count, f.status))


def _role(reason: str) -> str:
    """The image that a reason names first: `target`, `source`, `swapped`, or `other`."""
    found = re.match(r"(?:no )?(" + "|".join(ROLES) + r")\b", reason)
    return found[1] if found else "other"
