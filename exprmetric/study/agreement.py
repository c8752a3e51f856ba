"""How far raters agree with each other, and the methods of a result with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.errors import MissingPackageError
from exprmetric.evaluation.rows import DISTANCE_COLUMNS
from exprmetric.metrics.agreement import lines_accuracy, lines_correlation
from exprmetric.metrics.rated import Agreement
from exprmetric.metrics.resampling import Estimate, Indices, bootstrap, ratio
from exprmetric.metrics.uncertainty import group_codes
from exprmetric.study.answers import Rater, answer_matrix
from exprmetric.study.drawing import NAME, ODD, PAIR
from exprmetric.study.key import CHOICES, IN_BETWEEN, Question, Study

Floats = npt.NDArray[np.float64]

LEVELS = {PAIR: "ordinal", ODD: "nominal", NAME: "nominal"}
"""Of measurement, for Krippendorff's alpha."""
NEAREST = {"swapped": "s2t", "source": "t2c", "target": "s2c"}
"""By the odd face, the distance of the other two."""


@dataclass(frozen=True)
class Reliability:
    """How far raters agree about the questions of one kind.

    Attributes:
        alpha: Krippendorff's, 1 for full agreement and 0 for chance; NaN where it can't be told.
        level: of measurement.
    """

    questions: int
    raters: int
    answers: int
    alpha: float
    level: str


@dataclass(frozen=True)
class Said:
    """What people say of the swaps of a model, without looking at any method.

    Attributes:
        mean: answer to pairs, 1 to 5.
        alike: share of answers "nearly the same" or "the same".
        like_target: share of three faces of which most people find the source the odd one.
    """

    mean: Estimate
    alike: Estimate
    like_target: Estimate


@dataclass(frozen=True)
class Figures:
    """All numbers of some raters.

    Attributes:
        reliability: by kind of question.
        methods: of the result.
        people: one half of the raters judged by the other; None for fewer than two.
        models: by name, what people say; under '' where no model is named.
        undecided: three faces of which no odd one has most votes; they count for no method.
    """

    raters: int
    reliability: dict[str, Reliability]
    methods: dict[str, Agreement]
    people: Agreement | None
    models: dict[str, Said]
    undecided: int


def need_krippendorff() -> Any:
    """The library; MissingPackageError, with what to install, where it is missing."""
    try:
        import krippendorff
    except ImportError as error:
        raise MissingPackageError("study read needs krippendorff: pip install 'exprmetric[study]'") from error
    return krippendorff


def alpha(answers: Floats, kind: str) -> float:
    """Krippendorff's alpha of (R, Q) answers; NaN where nothing was answered twice, or all answers are the same."""
    library = need_krippendorff()
    told = answers[:, np.isfinite(answers).sum(0) > 1]
    values = told[np.isfinite(told)]
    if len(np.unique(values)) < 2:
        return math.nan
    domain = np.arange(CHOICES[kind], dtype=np.float64)
    return float(library.alpha(reliability_data=told, level_of_measurement=LEVELS[kind], value_domain=domain))


def figures(study: Study, raters: Sequence[Rater], seed: int) -> Figures:
    """All numbers of these raters."""
    answers = {kind: answer_matrix(raters, study.of(kind)) for kind in (PAIR, ODD, NAME)}
    reliability = {
        kind: Reliability(
            len(study.of(kind)),
            int(np.isfinite(found).any(1).sum()),
            int(np.isfinite(found).sum()),
            alpha(found, kind),
            LEVELS[kind],
        )
        for kind, found in answers.items()
        if found.shape[1]
    }
    pairs, odd = _Pairs(study, answers[PAIR]), _Odd(study, answers[ODD])
    methods = {
        m: Agreement(
            odd.accuracy(_distances(odd.questions, m)[odd.rows], seed=seed),
            lines_correlation(*pairs.both(_distances(pairs.questions, m)[pairs.rows, 0]), pairs.units, seed=seed),
        )
        for m in study.methods
    }
    models = sorted({q.row["model"] for q in (*pairs.questions, *odd.questions)})
    return Figures(
        len(raters),
        reliability,
        methods,
        _halves(study, raters, seed) if len(raters) > 1 else None,
        {m: _said(m, pairs, odd, seed) for m in models},
        odd.undecided,
    )


def _distances(questions: Sequence[Question], method: str) -> Floats:
    """(Q, 3) t2c, s2c, s2t."""
    found = [[math.nan if v is None else v for v in q.distances[method]] for q in questions]
    return np.array(found, np.float64).reshape(-1, len(DISTANCE_COLUMNS))


class _Pairs:
    """Pairs that somebody has judged."""

    def __init__(self, study: Study, answers: Floats) -> None:
        self.questions = study.of(PAIR)
        self.answers = answers
        self.rows = np.flatnonzero(np.isfinite(answers).any(0))
        self.units = _units([self.questions[i] for i in self.rows])
        self.means = np.nanmean(answers[:, self.rows], axis=0) if len(self.rows) else np.empty(0)

    def both(self, distances: Floats) -> tuple[Floats, Floats, Indices]:
        """Distances, how far people put the pairs apart, and what each rests on: its own row."""
        return distances, CHOICES[PAIR] - 1 - self.means, np.arange(len(self.rows))[:, None]


class _Odd:
    """Three faces each, of which one has most votes for being the odd one."""

    def __init__(self, study: Study, answers: Floats) -> None:
        self.questions = study.of(ODD)
        self.votes = np.stack([(answers == k).sum(0) for k in range(CHOICES[ODD])], axis=1).astype(np.float64)
        most = self.votes == self.votes.max(1, keepdims=True, initial=0)
        asked = self.votes.sum(1) > 0
        self.rows = np.flatnonzero(asked & (most.sum(1) == 1))
        self.undecided = int((asked & (most.sum(1) > 1)).sum())
        self.odd = [self.questions[i].roles[int(self.votes[i].argmax())] for i in self.rows]
        self.units = _units([self.questions[i] for i in self.rows])

    def accuracy(self, distances: Floats, *, seed: int) -> Estimate:
        """Of a method's (T, 3) distances t2c, s2c, s2t of the decided ones."""
        return lines_accuracy(self.sided(distances), np.arange(len(distances))[:, None], self.units, seed=seed)

    def sided(self, distances: Floats) -> Floats:
        """(T, 3) distances of the decided ones, with that of the pair which people find nearest in front."""
        first = [DISTANCE_COLUMNS.index(NEAREST[role]) for role in self.odd]
        order = np.array([[k, *(j for j in range(3) if j != k)] for k in first], np.intp).reshape(-1, 3)
        return np.take_along_axis(distances, order, axis=1)

    def as_distances(self) -> Floats:
        """(Q, 3) t2c, s2c, s2t as the votes have them: the more find the third face odd, the nearer two faces are."""
        total = np.maximum(self.votes.sum(1), 1)
        odd = {distance: role for role, distance in NEAREST.items()}
        places = [[q.roles.index(odd[d]) for d in DISTANCE_COLUMNS] for q in self.questions]
        shares = self.votes / total[:, None]
        return 1 - np.take_along_axis(shares, np.array(places, np.intp).reshape(-1, 3), axis=1)


def _units(questions: Sequence[Question]) -> Indices:
    """(Q,) codes of the rows' groups, which the bootstrap resamples."""
    return group_codes([q.row["group"] for q in questions])


def _halves(study: Study, raters: Sequence[Rater], seed: int) -> Agreement:
    """One half of the raters, drawn at random, as a method that the other half judges; both ways for three faces."""
    order = np.random.default_rng(seed).permutation(len(raters))
    halves = [[raters[i] for i in sorted(part)] for part in np.array_split(order, 2)]
    pairs = [_Pairs(study, answer_matrix(half, study.of(PAIR))) for half in halves]
    odd = [_Odd(study, answer_matrix(half, study.of(ODD))) for half in halves]
    both, first, second = np.intersect1d(pairs[0].rows, pairs[1].rows, return_indices=True)
    apart = [p.both(np.empty(0))[1][rows] for p, rows in zip(pairs, (first, second), strict=True)]
    units = _units([pairs[0].questions[i] for i in both])
    correlation = lines_correlation(apart[0], apart[1], np.arange(len(both))[:, None], units, seed=seed)
    found = [judges.sided(method.as_distances()[judges.rows]) for judges, method in (odd, odd[::-1])]
    rows = np.concatenate([o.rows for o in odd])
    everyone = _units(study.of(ODD))
    accuracy = lines_accuracy(np.concatenate(found), rows[:, None], everyone, seed=seed)
    return Agreement(accuracy, correlation)


def _said(model: str, pairs: _Pairs, odd: _Odd, seed: int) -> Said:
    own = np.array([pairs.questions[i].row["model"] == model for i in pairs.rows], bool)
    columns = pairs.answers[:, pairs.rows[own]]
    told = np.isfinite(columns)
    mine = [role for role, i in zip(odd.odd, odd.rows, strict=True) if odd.questions[i].row["model"] == model]
    theirs = np.array([odd.questions[i].row["model"] == model for i in odd.rows], bool)
    return Said(
        _mean(np.nansum(columns, axis=0) + told.sum(0), told.sum(0), pairs.units[own], seed),
        _mean((columns > IN_BETWEEN).sum(0), told.sum(0), pairs.units[own], seed),
        _mean(np.array([role == "source" for role in mine]), np.ones(len(mine)), odd.units[theirs], seed),
    )


def _mean(sums: npt.ArrayLike, counts: npt.ArrayLike, units: Indices, seed: int) -> Estimate:
    """Mean over answers, with an interval over groups."""
    above, below = np.asarray(sums, np.float64), np.asarray(counts, np.float64)
    codes = group_codes(units)
    (found,) = bootstrap(lambda w: [ratio(float(w @ above), float(w @ below))], codes, seed=seed)
    return Estimate(*found, n=int(below.sum()))
