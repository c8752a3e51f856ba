"""What a study says: tables for people, one file for programs, and ratings that the probes read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from exprmetric.io.environment import environment, stamp
from exprmetric.io.files import write_files
from exprmetric.io.plain import as_json, plain
from exprmetric.io.say import csv_text
from exprmetric.io.sheet import Number, Sheet
from exprmetric.io.tables import markdown_text
from exprmetric.metrics.rated import Agreement
from exprmetric.metrics.resampling import Estimate
from exprmetric.study.agreement import Figures, figures
from exprmetric.study.answers import Rater
from exprmetric.study.drawing import NAME, ODD, PAIR
from exprmetric.study.key import NAMES, Study

SCHEMA_VERSION = 1
RESULT, CARD, RATINGS = "people.json", "people.md", "ratings"
KINDS = {PAIR: "target and swapped", ODD: "odd one of three", NAME: "name of the expression"}


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a study says.

    Attributes:
        everybody: numbers of all raters.
        passed: numbers of those who answered no catch question wrongly; None where these are all, or nobody.
    """

    study: Study
    raters: tuple[Rater, ...]
    everybody: Figures
    passed: Figures | None

    @property
    def failed(self) -> list[Rater]:
        """Who answered a catch question wrongly."""
        return [r for r in self.raters if not r.passed]

    def to_json(self) -> str:
        """All numbers; what could not be computed is null."""
        content = {
            **stamp(SCHEMA_VERSION),
            "study": self.study.digest,
            "result": self.study.record["result"],
            "raters": [
                {"name": r.name, "answered": len(r.answers), "catch_answered": r.caught, "catch_wrong": list(r.wrong)}
                for r in self.raters
            ],
            "everybody": plain(self.everybody),
            "without_failed": plain(self.passed),
            "environment": environment(),
        }
        return as_json(content)

    def sheets(self) -> Iterator[Sheet]:
        """All tables: raters, then the numbers of all of them, then without those who failed."""
        yield _raters(self)
        for name, found in (("all raters", self.everybody), ("without who failed", self.passed)):
            if found is not None:
                yield from _tables(found, f"{name}, {found.raters}" if self.passed else "")

    def markdown(self) -> str:
        """The tables as a page."""
        lines = ["# What people say of the swaps"]
        for sheet in self.sheets():
            lines += ["", f"## {markdown_text(sheet.title)}", "", sheet.markdown()]
            lines += [""] * bool(sheet.notes) + [f"- {markdown_text(note)}" for note in sheet.notes]
        return "\n".join(lines) + "\n"

    def save(self, folder: Path) -> list[str]:
        """Write the numbers, the tables, and ratings where faces were named; gives the names of the files.

        Raises:
            InputError: the folder can't be written.
        """
        files = {RESULT: self.to_json().encode() + b"\n", CARD: self.markdown().encode()}
        files |= {f"{RATINGS}/{name}": text.encode() for name, text in ratings(self).items()}
        write_files(folder, files)
        return list(files)


def read_study_answers(study: Study, raters: Sequence[Rater], seed: int = 0) -> Outcome:
    """What the raters say.

    Raises:
        MissingPackageError: Krippendorff's alpha needs the extra `study`.
    """
    good = [r for r in raters if r.passed]
    passed = figures(study, good, seed) if good and len(good) < len(raters) else None
    return Outcome(study, tuple(raters), figures(study, raters, seed), passed)


def ratings(outcome: Outcome) -> dict[str, str]:
    """`ratings.csv` and `raw_ratings.csv` of the faces that were named, as the probes read them.

    Of raters who failed no catch question, where there are some. A face whose picture shows several is left out: the
    probes look for the largest one. Nothing where no face was named.
    """
    raters = [r for r in outcome.raters if r.passed] or list(outcome.raters)
    pictures = outcome.study.record["pictures"]
    raw: list[list[object]] = []
    means: list[list[object]] = []
    for q in outcome.study.of(NAME):
        picture = pictures[q.pictures[0]]
        said = [(r, r.answers[q.id]) for r in raters if q.id in r.answers]
        if not said or picture["faces"] != 1:
            continue
        path = picture["path"]
        lines = [[path, r.name, *(float(k == answer) for k in range(len(NAMES)))] for r, answer in said]
        raw += lines
        means.append([path, *(sum(line[2 + k] for line in lines) / len(lines) for k in range(len(NAMES)))])  # type: ignore[misc]
    if not means:
        return {}
    return {
        "ratings.csv": csv_text([["image", *NAMES], *means]),
        "raw_ratings.csv": csv_text([["image", "rater", *NAMES], *raw]),
    }


def _raters(outcome: Outcome) -> Sheet:
    asked = len(outcome.study.questions)
    rows = [
        (r.name, len(r.answers), f"{len(r.wrong)} of {r.caught}", "" if r.passed else "failed") for r in outcome.raters
    ]
    notes = [f"{asked} questions were asked."]
    if failed := outcome.failed:
        notes.append(
            f"{len(failed)} of {len(outcome.raters)} raters answered a catch question wrongly. Nobody is left out "
            "silently: all numbers stand twice, with them and without them."
        )
        if outcome.passed is None:
            notes.append("All raters failed, so there are no numbers without them.")
    unasked = [r for r in outcome.raters if not r.caught]
    if unasked:
        notes.append(f"{len(unasked)} raters reached no catch question; they count as having failed none.")
    return Sheet.of(("rater", "answers", "catch questions wrong", ""), rows, title="Raters", notes=notes)


def _number(found: Estimate | None, form: str = ".3f", scale: float = 1.0) -> Number:
    return Number(None) if found is None else Number(found.value * scale, found.low * scale, found.high * scale, form)


def _tables(found: Figures, of: str) -> Iterator[Sheet]:
    behind = f" ({of})" if of else ""
    rows = [
        (KINDS[kind], r.questions, r.raters, r.answers, Number(r.alpha), r.level)
        for kind, r in found.reliability.items()
    ]
    head = ("questions", "number", "raters", "answers", "Krippendorff's alpha", "level")
    yield Sheet.of(head, rows, title=f"Do people agree with each other?{behind}", notes=["1: always; 0: by chance."])
    named: dict[str, Agreement | None] = {**found.methods, "people": found.people}
    first = next(iter(found.methods.values()))
    notes = [
        f"{first.triplet_accuracy.n} sets of three faces (target, source, swapped) in which one face has most votes "
        f"for being the odd one: is the nearest pair the same? Chance is 0.333. {found.undecided} were undecided.",
        f"{first.rank_correlation.n} pairs of target and swapped face: Spearman's correlation of t2c with how far "
        "people put them apart, from the mean answer.",
        "People: one half of the raters, judged by the other. Intervals: 95 %, over the groups of the result.",
    ]
    yield Sheet.of(
        ("method", "triplet accuracy ↑", "rank correlation ↑"),
        (
            (name, _number(a.triplet_accuracy if a else None), _number(a.rank_correlation if a else None))
            for name, a in named.items()
        ),
        title=f"Which method agrees with them?{behind}",
        notes=notes,
    )
    yield Sheet.of(
        (
            "model",
            "answers",
            "answer, 1 to 5 ↑",
            "% nearly or quite the same ↑",
            "three faces",
            "% like the target, not the source ↑",
        ),
        (
            (
                name or "all",
                s.mean.n,
                _number(s.mean, ".2f"),
                _number(s.alike, ".0f", 100),
                s.like_target.n,
                _number(s.like_target, ".0f", 100),
            )
            for name, s in found.models.items()
        ),
        title=f"What do people say of the swaps?{behind}",
        notes=["The last column: of three faces, most people find the source the odd one."],
    )
