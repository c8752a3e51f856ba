"""Answers files, as the page saves them: one person each, of one study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exprmetric.errors import InputError
from exprmetric.io.shapes import NUMBER, read_json
from exprmetric.io.tables import show
from exprmetric.study.drawing import PAIR
from exprmetric.study.key import CHOICES, SCHEMA_VERSION, Question, Study

MOST_BYTES = 16 << 20
"""Of an answers file."""
_SHAPE = {
    "study": str,
    "rater": str,
    "code": str,
    "saved": str,
    "answers": {str: {"value": int, "seconds": NUMBER}},
}


@dataclass(frozen=True)
class Rater:
    """What one person said.

    Attributes:
        name: the code that the person entered, with the page's own number of the person.
        answers: by question 0..K-1: of a pair a point of the scale less one, of three faces the place of the odd one,
            of a face the place of its name.
        wrong: catch questions that were answered wrongly. caught: those that were answered.
    """

    name: str
    answers: dict[str, int]
    wrong: tuple[str, ...]
    caught: int

    @property
    def passed(self) -> bool:
        """No catch question was answered wrongly."""
        return not self.wrong


def read_answers(paths: Sequence[Path], study: Study) -> list[Rater]:
    """One rater a file, in the order of the files.

    Raises:
        InputError: a file is missing or damaged, is of another study, or two are of one person; the message names it.
    """
    raters: list[Rater] = []
    seen: dict[str, Path] = {}
    for path in paths:
        name, rater = _read(path, study)
        if name in seen:
            raise InputError(
                f"{show(path)} and {show(seen[name])} are of one person: leave the older one out (the page saves all "
                "answers each time)"
            )
        seen[name] = path
        raters.append(rater)
    return raters


def _read(path: Path, study: Study) -> tuple[str, Rater]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{show(path)} is no answers file: it has more than {MOST_BYTES >> 20} MiB")
        record = read_json(path, _SHAPE, SCHEMA_VERSION)
    except FileNotFoundError as error:
        raise InputError(f"{show(path)} isn't there") from error
    except OSError as error:
        raise InputError(f"{show(path)} can't be read: {error.strerror or error}") from error
    if record["study"] != study.digest:
        raise InputError(f"{show(path)} answers another study, made of other faces or questions")
    answers = {}
    for key, given in record["answers"].items():
        question = study.questions.get(key)
        if question is None:
            raise InputError(f"{show(path)} is damaged: the study has no question {key!r}")
        answers[key] = _checked(path, question, given["value"])
    caught = [q for key in answers if (q := study.questions[key]).catch]
    wrong = tuple(q.id for q in caught if not q.right(answers[q.id]))
    name = " ".join(filter(None, (record["code"].strip(), f"({record['rater'][:6]})")))
    return record["rater"], Rater(name, answers, wrong, len(caught))


def _checked(path: Path, question: Question, value: int) -> int:
    """The answer as 0..K-1."""
    first = 1 if question.kind == PAIR else 0
    if not first <= value < first + CHOICES[question.kind]:
        raise InputError(f"{show(path)} is damaged: {value} is no answer to question {question.id!r}")
    return value - first


def answer_matrix(raters: Sequence[Rater], questions: Sequence[Question]) -> npt.NDArray[np.float64]:
    """(R, Q) answers 0..K-1; NaN where somebody didn't answer."""
    rows = [[r.answers.get(q.id, np.nan) for q in questions] for r in raters]
    return np.array(rows, np.float64).reshape(len(raters), len(questions))
