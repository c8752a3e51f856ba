"""A saved result measured again: the same, or which rows differ and whether a version, weight or image changed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.choices import BY
from exprmetric.errors import InputError
from exprmetric.evaluation.evaluate import evaluate
from exprmetric.evaluation.origin import Origin, triplets_again
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.evaluation.rows import CONTENT_COLUMNS, HASH_COLUMNS, NAMING, Rows
from exprmetric.inputs.triplets import ROLES
from exprmetric.io.progress import Progress, no_progress
from exprmetric.io.tables import brief, printable

TOLERANCE = 1e-5
"""Numbers that differ by no more are the same: another kind of processor may move the last digits of a float32."""
SHOWN = 5
"""Rows that differ and are named."""
DIFFERS = 3
"""Exit status where the result is not the same."""
_SCORES = ("coverage", "methods", "groups", "by", "identity", "privacy", "efid", "id_retrieval")
SETTINGS = ("methods", "face", "provider", "landmarks", "commercial_only", "identity", "on_fail", "seed", "by")
"""Of a summary, which `evaluate` takes as they are."""
_MACHINE = ("python", "platform")

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Reproduction:
    """What came of measuring a result again.

    Attributes:
        before: as it was saved.
        after: as it is now.
        versions: what was installed in another version then, by package: (then, now); '' for absent.
        weights: the same of methods and the detector, by their fingerprints.
        images: (N,) rows of which an image has another content.
        rows: (N,) rows that differ in anything: an image, a status, a number.
        largest: the largest difference between two numbers of rows.
        wrong: what differs, a sentence each: of the first rows, and of scores where no row differs.
    """

    before: EvaluationResult
    after: EvaluationResult
    versions: dict[str, tuple[str, str]]
    weights: dict[str, tuple[str, str]]
    images: Mask
    rows: Mask
    largest: float
    wrong: list[str]

    @property
    def same(self) -> bool:
        """Whether all rows and scores are the same, within the tolerance."""
        return not self.wrong

    def lines(self) -> list[str]:
        """What a reader is told; the last line begins with `same`, or names rows."""
        coverage, images = self.before.summary["coverage"], int(self.images.sum())
        have = "has" if images == 1 else "have"
        machine = self.versions.keys() & set(_MACHINE)
        packages = {name: pair for name, pair in self.versions.items() if name not in machine}
        found = [
            f"{coverage['triplets']} rows were measured again, {coverage['ok']} of which had been ok.",
            f"Versions: {_changes(packages) or 'the same'}.",
            *([f"Machine: {_changes({name: self.versions[name] for name in sorted(machine)})}."] if machine else []),
            f"Weights: {_changes(self.weights) or 'the same'}.",
            f"Images: {'the same' if not images else f'{images} of {len(self.images)} rows {have} another one'}.",
        ]
        if self.same:
            near = "digit by digit" if not self.largest else f"within {self.largest:.1g}"
            return [*found, f"same: all rows and scores, {near}"]
        return [*found, self._why(bool(packages)), *self.wrong]

    def _why(self, packages: bool) -> str:
        count = int(self.rows.sum())
        what = f"differs: {count} of {len(self.rows)} rows" if count else "differs: no row, but scores"
        causes = ["an image"] * bool(self.images.any()) + ["a version"] * packages + ["a weight"] * bool(self.weights)
        if not causes:
            return f"{what}. No image, version or weight changed: was it another processor, or other settings?"
        return f"{what}. What changed: {', '.join(causes)}."


def reproduce(
    folder: str | os.PathLike[str],
    source: str | os.PathLike[str] | None = None,
    *,
    tolerance: float = TOLERANCE,
    jobs: int | None = None,
    progress: Progress = no_progress,
) -> Reproduction:
    """Measure a saved result again, with the settings that its summary holds, and compare row by row.

    Nothing is taken from the cache. The detector is the one that ran, whatever was asked for.

    Args:
        folder: what `evaluate(out=)` or `exprmetric evaluate --out` wrote.
        source: where its folder or manifest is now; None: where it was.
        tolerance: by how much two numbers may differ and be the same.
        jobs: as in `evaluate`.
        progress: told how far it is.

    Raises:
        InputError: there is no such result, it says not how it was made, or its input is not here.
        UnknownMethodError, WeightsError: from loading its methods and detector.
    """
    before = EvaluationResult.load(folder)
    summary, settings = before.summary, before.summary["settings"]
    if "input" not in summary or "methods" not in settings:
        raise InputError(f"{os.fsdecode(folder)} says not how it was made: an older exprmetric measured it")
    given = [name for name in settings["by"] if name not in BY]
    triplets = triplets_again(summary["input"], before.rows, settings["face"], given, source)
    after = evaluate(
        triplets,
        **{name: settings[name] for name in SETTINGS},
        detector=summary["detector"]["ran"],
        privacy=bool(settings["privacy"]),
        scores=["efid"] * settings["efid"] + ["id_retrieval"] * bool(settings["retrieval"]),
        jobs=jobs,
        progress=progress,
        origin=Origin(summary["command"], summary["input"]["name"]),
    )
    return compared(before, after, tolerance)


def compared(before: EvaluationResult, after: EvaluationResult, tolerance: float = TOLERANCE) -> Reproduction:
    """Two results of one input, row by row."""
    versions = _changed(before.summary["environment"], after.summary["environment"])
    weights = _changed(_fingerprints(before.summary), _fingerprints(after.summary))
    if len(before.rows) != len(after.rows):
        counts = f"the result has {len(before.rows)} rows, and measured again {len(after.rows)}"
        none = np.zeros(0, bool)
        return Reproduction(before, after, versions, weights, none, none, float("nan"), [counts])
    names, images, status = (_other_texts(before.rows, after.rows, c) for c in (["id"], CONTENT_COLUMNS, ["status"]))
    numbers, largest = _other_numbers(before.rows, after.rows, tolerance)
    rows = names | images | status | np.any([*numbers.values(), np.zeros(len(names), bool)], axis=0)
    wrong = [_told(before.rows, after.rows, i, numbers) for i in np.flatnonzero(rows).tolist()[:SHOWN]]
    if more := int(rows.sum()) - len(wrong):
        wrong.append(f"… and {more} more rows")
    if not wrong:
        wrong = list(_other_scores(before.summary, after.summary, tolerance))[:SHOWN]
    return Reproduction(before, after, versions, weights, images, rows, largest, wrong)


def _fingerprints(summary: Mapping[str, Any]) -> dict[str, str]:
    found = {name: scores["fingerprint"] for name, scores in summary["methods"].items()}
    if summary["identity"]:
        found["identity"] = summary["identity"]["fingerprint"]
    return {**found, "detector": summary["detector"]["fingerprint"]}


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    pairs = {name: (str(before.get(name, "")), str(after.get(name, ""))) for name in {**before, **after}}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _changes(pairs: Mapping[str, tuple[str, str]]) -> str:
    return "; ".join(f"{n} was {then or 'absent'}, is {now or 'absent'}" for n, (then, now) in pairs.items())


def _texts(rows: Rows, column: str) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if column not in rows.table.column_names:  # an older result
        return pa.array([""] * len(rows))
    return pc.fill_null(rows.table[column].cast(pa.string()), "")


def _other_texts(before: Rows, after: Rows, columns: Sequence[str]) -> Mask:
    """(N,) where one of some columns of text says something else."""
    import pyarrow.compute as pc

    found = np.zeros(len(before), bool)
    for column in columns:
        found |= pc.not_equal(_texts(before, column), _texts(after, column)).to_numpy()
    return found


def _other_numbers(before: Rows, after: Rows, tolerance: float) -> tuple[dict[str, Mask], float]:
    """By column (N,) where a number is another or one is missing; and the largest difference."""
    import pyarrow as pa

    def numbers(rows: Rows) -> dict[str, Any]:
        fields = [f for f in rows.table.schema if pa.types.is_primitive(f.type) and f.name != "index"]
        return {f.name: rows.table[f.name].cast(pa.float64()) for f in fields}

    old, new, largest = numbers(before), numbers(after), 0.0
    found: dict[str, Mask] = {}
    for column in {**old, **new}:
        a, b = (
            np.asarray(some[column].to_numpy(), np.float64) if column in some else np.full(len(before), np.nan)
            for some in (old, new)
        )
        apart = np.abs(a - b)
        found[column] = (np.isnan(a) != np.isnan(b)) | (apart > tolerance)
        largest = max(largest, float(np.nanmax(apart, initial=0.0)))
    return found, largest


def _told(before: Rows, after: Rows, row: int, numbers: Mapping[str, Mask]) -> str:
    """One row that differs."""
    old, new = before.record(row), after.record(row)
    said = []
    if old["id"] != new["id"]:
        said.append(f"it is now called {brief(repr(new['id']))}")
    for role, column in zip(ROLES, HASH_COLUMNS, strict=True):
        then, now = old[column] or "", new[column] or ""
        if then != now:
            said.append(f"the {role} image {'changed' if then and now else 'is gone' if then else 'is new'}")
    if (old.get(NAMING) or "") != (new.get(NAMING) or ""):
        said.append("a photograph that names a face changed")
    if old["status"] != new["status"]:
        said.append(f"{old['status']}, now {new['status']}: {new['reason'] or old['reason']}")
    else:
        said += [
            f"{c} was {_shown(old.get(c))}, is {_shown(new.get(c))}" for c, other in numbers.items() if other[row]
        ][:SHOWN]
    return printable(f"row {row + 1} ({old['id']}): {'; '.join(said)}")


def _shown(value: object) -> str:
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def _other_scores(before: Mapping[str, Any], after: Mapping[str, Any], tolerance: float) -> Iterator[str]:
    """Scores that differ, with their place in the summary."""
    for key in _SCORES:
        yield from _other(before.get(key), after.get(key), tolerance, key)


def _other(old: Any, new: Any, tolerance: float, place: str) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in {**old, **new}:
            if key != "fingerprint":
                yield from _other(old.get(key), new.get(key), tolerance, f"{place}.{key}")
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple) and len(old) == len(new):
        for i, (one, two) in enumerate(zip(old, new, strict=True)):
            yield from _other(one, two, tolerance, f"{place}[{i}]")
    elif isinstance(old, float | int) and isinstance(new, float | int):
        if abs(old - new) > tolerance:
            yield f"{place} was {old}, is {new}"
    elif old != new:
        yield printable(f"{place} was {brief(repr(old))}, is {brief(repr(new))}")
