"""`study.json`: what a study asks, of which rows of which result; without it nobody can read the answers.

The page itself names no model, file or distance, so that raters can't see them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from exprmetric.choices import EXPRESSIONS
from exprmetric.errors import InputError
from exprmetric.io.shapes import NUMBER_OR_NONE, read_json
from exprmetric.io.tables import show
from exprmetric.study.drawing import DIFFERENT, IDENTICAL, NAME, ODD, PAIR

SCHEMA_VERSION = 1
PAGE, KEY = "study.html", "study.json"
SCALE = ("completely different", "rather different", "in between", "nearly the same", "the same")
"""Answers 1 to 5 to a pair."""
IN_BETWEEN = 2
NAMES = (*EXPRESSIONS, "something else")
"""Answers to a face."""
CHOICES = {PAIR: len(SCALE), ODD: 3, NAME: len(NAMES)}

_QUESTION = {
    "id": str,
    "kind": str,
    "catch": str,
    "pictures": [str],
    "roles": [str],
    "row": {"id": str, "model": str, "group": str},
    "distances": {str: [NUMBER_OR_NONE, NUMBER_OR_NONE, NUMBER_OR_NONE]},
}
_SHAPE = {
    "exprmetric_version": str,
    "created": str,
    "digest": str,
    "title": str,
    "seed": int,
    "result": {"created": str, "methods": {str: {"fingerprint": str, "distance": str}}},
    "pictures": {str: {"path": str, "role": str, "faces": (int, type(None)), "sha256": str}},
    "questions": [_QUESTION],
}


@dataclass(frozen=True)
class Question:
    """A question that was asked.

    Attributes:
        id: what answers call it. kind: ODD, PAIR or NAME. catch: '', IDENTICAL or DIFFERENT.
        pictures: keys of the pictures. roles: theirs.
        row: id, model and group of the result's row.
        distances: by method t2c, s2c, s2t; None without a source.
    """

    id: str
    kind: str
    catch: str
    pictures: tuple[str, ...]
    roles: tuple[str, ...]
    row: dict[str, str]
    distances: dict[str, list[float | None]]

    def right(self, answer: int) -> bool:
        """Whether a catch question has been answered, 0..K-1, as somebody who looks would."""
        if self.kind == ODD:
            return self.roles[answer] == "source"
        return answer > IN_BETWEEN if self.catch == IDENTICAL else answer <= IN_BETWEEN


@dataclass(frozen=True, eq=False)
class Study:
    """What `study make` wrote."""

    record: dict[str, Any]

    @property
    def digest(self) -> str:
        """Of all that was asked and shown; answers hold it."""
        return str(self.record["digest"])

    @property
    def methods(self) -> list[str]:
        """Of the result."""
        return list(self.record["result"]["methods"])

    @cached_property
    def questions(self) -> dict[str, Question]:
        """By id."""
        return {q["id"]: Question(**(q | {k: tuple(q[k]) for k in ("pictures", "roles")})) for q in self._raw()}

    def of(self, kind: str) -> list[Question]:
        """Questions of one kind, without catch questions."""
        return [q for q in self.questions.values() if q.kind == kind and not q.catch]

    def _raw(self) -> Sequence[dict[str, Any]]:
        found: list[dict[str, Any]] = self.record["questions"]
        return found


def digest_of(record: dict[str, Any]) -> str:
    """SHA-256 of all of a study but its digest."""
    rest = {k: v for k, v in record.items() if k != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, ensure_ascii=True, allow_nan=False).encode()).hexdigest()


def read_study(path: Path) -> Study:
    """A study from its `study.json`.

    Raises:
        FileNotFoundError: there is none.
        InputError: it is damaged, or isn't as it was written.
    """
    record = read_json(path, _SHAPE, SCHEMA_VERSION)
    if digest_of(record) != record["digest"]:
        raise InputError(f"{show(path)} was changed after it was written: its digest doesn't fit")
    study = Study(record)
    for q in study.questions.values():
        known = q.kind in CHOICES and q.catch in ("", IDENTICAL, DIFFERENT) and len(q.pictures) == len(q.roles)
        if not known or any(p not in record["pictures"] for p in q.pictures):
            raise InputError(f"{show(path)} is damaged: question {q.id!r}")
    return study


def find_study(answers: Sequence[Path], named: Path | None) -> Path:
    """Where the `study.json` of some answers is: the file or folder that is named, or beside the answers.

    Raises:
        InputError: it isn't there.
    """
    if named is not None:
        path = named / KEY if named.is_dir() else named
        if not path.is_file():
            raise InputError(f"{show(path)} isn't there")
        return path
    folder = answers[0].parent
    for place in (folder, folder / "study", folder.parent, folder.parent / "study", Path(), Path("study")):
        if (place / KEY).is_file():
            return place / KEY
    raise InputError(f"no {KEY} stands beside {show(answers[0])}: name the folder of `study make` with --study")
