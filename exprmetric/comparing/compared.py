"""A comparison of models as tables and sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from exprmetric.comparing.compare import Comparison, Difference, Duel
from exprmetric.comparing.contestants import HIGHER
from exprmetric.evaluation.tables import SHOWN, alarm_lines
from exprmetric.io.environment import package_version
from exprmetric.io.page import Page, Section
from exprmetric.io.plain import as_json
from exprmetric.io.sheet import NOTHING, Column, Content, Number, Row, Sheet
from exprmetric.io.tables import counted

HEADINGS_HERE = {**SHOWN, "nearer_to_source": "nearer to source ↑"}
MATRIX_SCORES = ("mean_t2c", "nearer_to_source")
"""Scores with a win/tie/loss matrix: one a method. The table has the others' counts."""
MOST_NAMES = 10
"""Rows that the terminal and Markdown name for each reason; JSON names all."""
LEVEL = 0.05
"""Corrected p-values below it are shown as sure."""

Wins = dict[tuple[int, int], tuple[int, int, int]]


NUMBERS = tuple(map(Column, ("A", "B", "A − B [95 %]", "p", "p Holm", "win/tie/loss")))


def differences(duel: Duel) -> Sheet:
    """All scores of two models side by side."""
    columns = [Column("method", words=True), Column("score", words=True), *NUMBERS]
    return Sheet(columns, [Row([d.method, _score(d), *_cells(d)], d.method) for d in duel.differences])


def all_differences(duels: Sequence[Duel]) -> Sheet:
    """All scores of several duels in one table; a difference that is sure stands out."""
    columns = [Column("model A", words=True), Column("model B", words=True), Column("pairs")]
    columns += [Column("method", words=True), Column("score", words=True), *NUMBERS]
    rows = []
    for duel in duels:
        head: list[Content] = [duel.a, duel.b, duel.n]
        for d in duel.differences:
            sure = frozenset({7}) if d.p_holm < LEVEL else frozenset[int]()
            rows.append(Row([*head, d.method, _score(d), *_cells(d)], (duel.a, duel.b), strong=sure))
            head = ["", "", ""]
    return Sheet(columns, rows)


def _score(d: Difference) -> str:
    """The score's heading, marked where it is the primary one."""
    return HEADINGS_HERE[d.score] + " (primary)" * d.primary


def verdicts(comparison: Comparison) -> list[str]:
    """What the comparison shows of the primary score, a sentence for every two models that share pairs."""
    method, score = comparison.primary
    name = HEADINGS_HERE[score].rpartition(" ")[0]
    first = f"Primary score: {name} of {method}, tested by itself; all others are exploratory."
    return [first, *(_verdict(duel, d) for duel in comparison.duels if (d := duel.primary) is not None)]


def _counts(duel: Duel) -> str:
    return f"{counted(duel.n, 'pair')} in {counted(duel.groups, 'group')}"


def _verdict(duel: Duel, d: Difference) -> str:
    number = Number(d.difference, d.low, d.high, "+.3f")
    better = d.difference > 0 if HIGHER[d.score] else d.difference < 0
    winner, loser = (duel.a, duel.b) if better else (duel.b, duel.a)
    told = f"A − B = {number}, p = {Number(d.p_holm, form='p')}, {_counts(duel)}"
    clear = d.p_holm < LEVEL and d.low == d.low and not d.low <= 0 <= d.high
    if clear and d.score == "nearer_to_source":
        return f"{winner} moves the identity more often than {loser} ({told})."
    if clear:
        return f"{winner} keeps expressions better than {loser} ({told})."
    why = ""
    if not duel.smallest_p < LEVEL:
        why = f" With so few groups p can't be below {duel.smallest_p:.3f}, whatever the models do."
    return f"No difference between {duel.a} and {duel.b} is shown ({told}).{why}"


def _cells(d: Difference) -> list[Content]:
    difference = Number(d.difference, d.low, d.high, "+.3f")
    wins = f"{d.wins}/{d.ties}/{d.losses}"
    return [Number(d.a), Number(d.b), difference, Number(d.p, form="p"), Number(d.p_holm, form="p"), wins]


def matrices(comparison: Comparison) -> Iterator[Sheet]:
    """Who wins against whom, one table a method and score of MATRIX_SCORES."""
    names = comparison.models
    for method, score, wins in win_tie_losses(comparison):
        rows = [
            [name, *("/".join(map(str, wins[i, j])) if (i, j) in wins else NOTHING for j in range(len(names)))]
            for i, name in enumerate(names)
        ]
        title = f"{method}, {HEADINGS_HERE[score]}: wins/ties/losses of the row's model"
        yield Sheet.of(["", *names], rows, title=title)


def win_tie_losses(comparison: Comparison) -> Iterator[tuple[str, str, Wins]]:
    """(method, score, counts) of each matrix; counts by (row, column) are wins, ties, losses of the row's model."""
    number_of = {name: i for i, name in enumerate(comparison.models)}
    matrices: dict[tuple[str, str], Wins] = {}
    for duel in comparison.duels:
        a, b = number_of[duel.a], number_of[duel.b]
        for d in duel.differences:
            if d.score in MATRIX_SCORES:
                counts = matrices.setdefault((d.method, d.score), {})
                counts[a, b], counts[b, a] = (d.wins, d.ties, d.losses), (d.losses, d.ties, d.wins)
    for (method, score), counts in matrices.items():
        yield method, score, counts


def limits(duel: Duel) -> Iterator[str]:
    """How sure the numbers of two models can be."""
    if duel.n:
        smallest = Number(duel.smallest_p, form="p").text.lstrip("< ")
        yield f"With {counted(duel.groups, 'group')} no p can be below {smallest}."
    if duel.sources:
        yield (
            f"Groups share sources: intervals resample targets and the {duel.sources} sources, and p is the larger of "
            "flipping groups and flipping sources."
        )


def left_over(duel: Duel, most: int = MOST_NAMES) -> Iterator[str]:
    """A line for each reason why rows or methods of two models are not compared, and for what else matters."""
    for reason, ids in duel.unpaired.items():
        names = ", ".join(ids[:most]) + (f", and {len(ids) - most} more" if len(ids) > most else "")
        yield f"{reason}: {len(ids)} ({names})"
    if duel.repeated:
        yield f"pairs that one model swapped several times, which count once with their mean: {duel.repeated}"
    for method, reason in duel.left_out.items():
        yield f"method {method} is left out: {reason}"
    yield from duel.notes


def _how(comparison: Comparison) -> str:
    return (
        f"Rows are paired where target and source are the same by {comparison.matched_by}; p: sign flips of groups, "
        f"Holm's correction over the primary tests, and over {comparison.tests} exploratory ones"
    )


def _title(duel: Duel) -> str:
    return f"A = {duel.a}, B = {duel.b}: {_counts(duel)}"


def page(comparison: Comparison) -> Page:
    """Differences of every two models, the matrices, and what could not be paired."""
    sections = [
        Section(differences(d) if d.differences else None, _title(d), [*limits(d), *left_over(d)], loud=True)
        for d in comparison.duels
    ]
    if len(comparison.models) > 2:
        sections += map(Section, matrices(comparison))
    made = f"{_how(comparison)}. exprmetric {package_version('exprmetric')}."
    return Page(
        verdict=verdicts(comparison),
        said=[_how(comparison)],
        sections=sections,
        whole=every_difference(comparison),
        json=lambda: as_json(comparison.as_dict()),
        printed=[(differences(d), f"{_title(d)}. {made}", "") for d in comparison.duels],
        alarms=alarm_lines({"alarms": comparison.alarms}),
    )


def every_difference(comparison: Comparison) -> Sheet:
    """One row for two models, method and score; two models that share nothing have one without numbers."""
    words, numbers = ["a", "b"], ["pairs", "groups", "unpaired"]
    columns = [*(Column(name, words=True) for name in words), *(Column(name) for name in numbers)]
    columns += [Column("method", words=True), Column("score", words=True), Column("a_mean"), Column("b_mean")]
    columns += [Column("difference", ends=("low", "high"))]
    columns += [Column(name) for name in ("p", "p_holm", "wins", "ties", "losses")]
    rows = []
    for duel in comparison.duels:
        head: list[Content] = [duel.a, duel.b, duel.n, duel.groups, sum(map(len, duel.unpaired.values()))]
        if not duel.differences:
            rows.append(Row([*head, *[""] * 10]))
        rows += [Row([*head, d.method, d.score, *_cells(d)[:-1], d.wins, d.ties, d.losses]) for d in duel.differences]
    return Sheet(columns, rows)
