"""One labelled face of a data set, and the names of its labels and splits."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from exprmetric.choices import EXPRESSIONS as EXPRESSIONS

SYNONYMS = {
    "happy": "happiness",
    "sad": "sadness",
    "angry": "anger",
    "surprised": "surprise",
    "fearful": "fear",
}
SPLITS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
}
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
UNLABELLED = -1


@dataclass(frozen=True)
class Sample:
    """One face.

    Attributes:
        image: its name inside the data set.
        split: `train`, `valid` or `test`.
        label: index into `EXPRESSIONS`, or UNLABELLED.
        votes: shares of raters by expression, summing to 1, where raters voted.
        valence: -1..1, NaN where unknown.
        arousal: -1..1, NaN where unknown.
        person: who it shows, '' where unknown.
        raters: how many voted for an expression; 0 where unknown.
    """

    image: str
    split: str
    label: int
    votes: tuple[float, ...] | None = None
    valence: float = float("nan")
    arousal: float = float("nan")
    person: str = ""
    raters: int = 0


def expression_index(name: str) -> int:
    """Index into EXPRESSIONS of a label's name; UNLABELLED when it is none of them."""
    key = name.strip().lower()
    key = SYNONYMS.get(key, key)
    return EXPRESSIONS.index(key) if key in EXPRESSIONS else UNLABELLED


def person_split(person: str, valid_percent: int = 10) -> str:
    """`train` or `valid`, by a hash of the person's name: no person is in both, whatever the order of the rows."""
    return "valid" if int(hashlib.sha256(person.encode()).hexdigest(), 16) % 100 < valid_percent else "train"
