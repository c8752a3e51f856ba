"""A result as tables like Table II of paper 000, and as sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from exprmetric.evaluation.clouds import cloud_lines
from exprmetric.evaluation.privacy import privacy_sheet
from exprmetric.io.page import Page, Section
from exprmetric.io.sheet import Column, Content, Number, Row, Sheet, score_cell
from exprmetric.io.tables import printable
from exprmetric.metrics.preservation import HEADINGS, SCORES

if TYPE_CHECKING:
    from exprmetric.evaluation.rows import Rows


class Result(Protocol):
    """What `evaluate` returns, as far as tables show it."""

    @property
    def summary(self) -> dict[str, Any]:
        """The content of `summary.json`."""
        ...

    @property
    def rows(self) -> Rows:
        """One row a triplet."""
        ...

    def to_json(self) -> str:
        """The summary as JSON."""
        ...


SHOWN = {**HEADINGS, "kept": "kept ↑"}
"""Scores of a table, with their headings."""
ANCHORS = {
    "nothing_swapped": "nothing swapped",
    "another_target": "another target's face",
    "source_pasted": "source pasted",
}
SPLITS = {
    "same_label": "same label",
    "different_label": "different label",
    "with_source": "with a source",
    "without_source": "without a source",
}
MOST_FAILURES = 10
"""Failed triplets that the terminal names; the files name all."""


def cell(score: Mapping[str, Any] | None) -> str:
    """A score with its interval: `0.123 [0.110, 0.140]`."""
    return str(score_cell(score))


def number(value: float | None) -> str:
    """Three decimals, or a dash for what could not be computed."""
    return Number(value).text


def coverage_line(coverage: dict[str, Any]) -> str:
    """`121 of 123 triplets measured (98.4 %); failed: no_face 2`."""
    total, ok = coverage["triplets"], coverage["ok"]
    share = f" ({ok / total:.1%})".replace("%", " %") if total else ""
    failed = ", ".join(f"{status} {n}" for status, n in coverage["failed"].items())
    return f"{ok} of {total} triplets measured{share}" + (f"; failed: {failed}" if failed else "")


def identity_line(identity: dict[str, Any] | None) -> str:
    """The control in a sentence; '' when it was not measured."""
    if not identity or not identity["n"]:
        return ""
    if "nearer_to_source" not in identity:
        mean = f"mean distance to the target {number(identity['mean_t2c'])}"
        same = identity.get("same_person")
        return f"identity control: {f'still the same person {cell(same)}; ' if same else ''}{mean}"
    nearer = cell(identity["nearer_to_source"])
    distances = f"to source {number(identity['mean_s2c'])}, to target {number(identity['mean_t2c'])}"
    return f"identity control: share nearer to the source than to the target {nearer}; mean distance {distances}"


def identity_lines(summary: Mapping[str, Any]) -> list[str]:
    """The control in a sentence; of several models in one for each, never all in one."""
    models = models_of(dict(summary))
    if not models:
        return [line] if (line := identity_line(summary["identity"])) else []
    parts = ((name, identity_line(summary["groups"][name].get("identity"))) for name in models)  # older results: none
    return [f"{name}: {line}" for name, line in parts if line]


def alarm_lines(summary: dict[str, Any]) -> list[str]:
    """What is suspicious about a result, one line each; models' names come from the input."""
    return [f"ALARM: {printable(sentence)}" for sentence in summary.get("alarms", [])]  # older results have none


def speed_line(throughput: dict[str, Any]) -> str:
    """Triplets a second, and the stages that took longest."""
    stages = sorted(throughput["thread_seconds_by_stage"].items(), key=lambda s: -s[1])
    parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in stages if seconds >= 0.05)
    return f"{throughput['triplets_per_second']:.1f} triplets/s, {throughput['seconds']:.1f} s in all ({parts})"


def label(method: str, scores: dict[str, Any]) -> str:
    """A method's name, marked where a note belongs to its numbers."""
    return f"{method} †" if scores.get("note") else method


def note_lines(methods: dict[str, Any]) -> list[str]:
    """What the marks mean."""
    lines = [f"† {method}: {scores['note']}" for method, scores in methods.items() if scores.get("note")]
    far = {m: s["kept"]["error"] for m, s in methods.items() if "kept" in s and not s["kept"]["calibrated"]}
    if far:
        off = ", ".join(
            f"{m} by {error:.2f}" if error is not None else f"{m} was never judged" for m, error in far.items()
        )
        lines.append(
            f"‡ kept is not calibrated, and enters no verdict: off on faces that took no part in its fit ({off})"
        )
    return lines


def models_of(summary: dict[str, Any]) -> list[str]:
    """The models whose numbers stand side by side; none where all triplets are of one, or name none."""
    named = {name: g["coverage"]["triplets"] for name, g in summary["groups"].items() if name not in SPLITS}
    return list(named) if len(named) > 1 or 0 < sum(named.values()) < summary["coverage"]["triplets"] else []


def shown_scores(methods: dict[str, Any]) -> list[str]:
    """The scores that some method has: those that need a source are absent where there is none."""
    return [s for s in SHOWN if any(s in m for m in methods.values())] or list(SCORES)


def parts_of(summary: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, coverage and methods) of each value that `--by` splits by; of several models each by itself."""
    for column, values in summary.get("by", {}).items():
        for value, part in values.items():
            for model, own in part.get("models", {"": part}).items():
                yield f"{column}: {value}" + (f", {model}" if model else ""), own


def _columns(*first: str, scores: Iterable[str]) -> list[Column]:
    head = [Column(name, words=name not in ("n", "failed")) for name in first]
    return [*head, *(Column(SHOWN[s], s, ends=(f"{s}.low", f"{s}.high")) for s in scores)]


def headline(summary: dict[str, Any]) -> Sheet:
    """The scores that matter: by method, with the anchors; of several models each by itself, never all in one.

    An anchor that all models share stands once, below all of them; one that they don't, below each model.
    """
    scores, models = shown_scores(summary["methods"]), models_of(summary)
    rows: list[Row] = []
    for method, whole in summary["methods"].items():
        parts = {name: summary["groups"][name]["methods"][method] for name in models} or {"": whole}
        anchors = [_anchors(part, scores, method, bool(models)) for part in parts.values()]
        shared = set.intersection(*({tuple(map(str, row.cells)) for row in found} for found in anchors))
        for i, (name, part) in enumerate(parts.items()):
            head: list[Content] = [label(method, whole) if i == 0 else "", *[name] * bool(models), part["n"]]
            rows.append(Row([*head, *(score_cell(part.get(s)) for s in scores)], method))
            rows += [row for row in anchors[i] if tuple(map(str, row.cells)) not in shared]
        rows += [row for row in anchors[0] if tuple(map(str, row.cells)) in shared]
    notes = []
    if models:
        unnamed = summary["coverage"]["triplets"] - sum(summary["groups"][m]["coverage"]["triplets"] for m in models)
        if unnamed:
            notes.append(f"{unnamed} triplets name no model: their scores are in the files, not in this table.")
    return Sheet(_columns("method", *["model"] * bool(models), "n", scores=scores), rows, notes=notes)


def _anchors(part: Mapping[str, Any], scores: Sequence[str], method: str, models: bool) -> list[Row]:
    """The anchors of a part's scores, a row each."""
    found = ((words, part.get("anchors", {}).get(key)) for key, words in ANCHORS.items())
    return [
        Row(
            [*(["", words] if models else [f"  {words}"]), "", *(Number(a.get(s)) for s in scores)], method, anchor=True
        )
        for words, a in found
        if a
    ]


def splits(summary: dict[str, Any]) -> Sheet | None:
    """The scores of each split that the headline does not show; None where there is no other."""
    scores, models = shown_scores(summary["methods"]), models_of(summary)
    rows: list[Row] = []
    groups = [(SPLITS.get(name, name), group) for name, group in summary["groups"].items() if name not in models]
    for name, group in [*groups, *parts_of(summary)]:
        head: list[Content] = [name, group["coverage"]["ok"], sum(group["coverage"]["failed"].values())]
        for method, found in group["methods"].items():
            rows.append(Row([*head, label(method, found), *(score_cell(found.get(s)) for s in scores)], name))
            head = ["", "", ""]
    return Sheet(_columns("split", "n", "failed", "method", scores=scores), rows) if rows else None


def every_split(summary: dict[str, Any]) -> Sheet:
    """One row a split and method, with all that CSV holds."""
    columns = [Column("split", words=True), Column("method", words=True), Column("n"), Column("triplets")]
    rows = []
    for name, coverage, methods in _sections(summary):
        for method, found in methods.items():
            head = [name, method, found["n"], coverage["triplets"]]
            rows.append(Row([*head, *(score_cell(found.get(s)) for s in SHOWN), found.get("note", "")]))
    return Sheet([*columns, *_columns(scores=SHOWN), Column("note", words=True)], rows)


def _sections(summary: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(name, coverage, methods) of the whole and of each split."""
    yield "all", summary["coverage"], summary["methods"]
    for name, group in summary["groups"].items():
        yield SPLITS.get(name, name), group["coverage"], group["methods"]
    for name, group in parts_of(summary):
        yield name, group["coverage"], group["methods"]


def page(result: Result) -> Page:
    """The headline with its anchors, then one line a split and method, then what has to be known."""
    summary = result.summary
    head, rest, privacy = headline(summary), splits(summary), privacy_sheet(summary)
    sections = [Section(head, "Models" if models_of(summary) else "All triplets")]
    sections += [Section(rest, "Splits")] if rest else []
    sections += [Section(privacy, "Privacy")] if privacy else []
    told = [*note_lines(summary["methods"]), *identity_lines(summary), *cloud_lines(summary)]
    failed = np.flatnonzero(~result.rows.ok).tolist()
    named = result.rows.records(failed[:MOST_FAILURES])
    more = [(speed_line(summary["throughput"]), "")]
    more += [(f"{t['status']}: {t['id']}: {t['reason']}", "red") for t in named]
    if len(failed) > MOST_FAILURES:
        more.append((f"… and {len(failed) - MOST_FAILURES} more failed triplets; --out writes all", ""))
    return Page(
        first=[f"{coverage_line(summary['coverage'])}; detector {summary['detector']['ran']}"],
        said=summary.get("verdict", []),  # older results have none
        sections=[*sections, Section(lines=told)],
        whole=every_split(summary),
        json=result.to_json,
        printed=[(head, caption(summary), "tab:expression")],
        alarms=alarm_lines(summary),
        more=more,
    )


def caption(summary: dict[str, Any]) -> str:
    """What a table in a paper has to say below: coverage, what the numbers are, and all versions that made them."""
    made = "; ".join(f"{m} {s['fingerprint']}" for m, s in summary["methods"].items())
    best = " Best in bold, second underlined." if models_of(summary) else ""
    notes = "".join(f" {line}." for line in note_lines(summary["methods"]))
    return (
        f"Expression preservation, {coverage_line(summary['coverage'])}. Means with 95 % intervals.{best}{notes} "
        f"exprmetric {summary['exprmetric_version']}, detector {summary['detector']['fingerprint']}, methods {made}."
    )
