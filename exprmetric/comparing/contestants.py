"""Models that are set side by side: the rows of each, which of them are of one target and source, and their scores.

Rows of several models belong together where they have the same target and the same source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from exprmetric.choices import ALL, IDENTITY, MATCHES
from exprmetric.errors import InputError, UnreadableImageError
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.evaluation.rows import DISTANCE_COLUMNS, Rows
from exprmetric.evaluation.verdict import primary as primary_method
from exprmetric.io.images import content_hash
from exprmetric.metrics.preservation import HIGHER_IS_BETTER, SCORES, WITHOUT_SOURCE, per_triplet
from exprmetric.metrics.uncertainty import Floats

NEARER = "nearer_to_source"
"""The control's score: the share of swapped faces whose identity is nearer to the source's."""
KEPT = "kept"
HIGHER = {**HIGHER_IS_BETTER, NEARER: True, KEPT: True}
NEED_NO_SOURCE = (*WITHOUT_SOURCE, KEPT)

Pair = tuple[str, ...]
"""Target and source: content hashes, or paths; '' for a source that a row doesn't have. Where a result has a row for
every face, also the target's box."""


@dataclass(frozen=True)
class Contestant:
    """The rows of one model in one result.

    Attributes:
        name: unique among those compared.
        rows: its own.
        fingerprints: by method; of the identity control too.
        detector: fingerprint of what found the faces.
        notes: by method, what must stand beside its numbers.
        alarms: of the whole result, with the result's name: the numbers may not mean what they seem to.
        every_face: each face of a target has a row.
        kept: methods whose `kept` is calibrated.
    """

    name: str
    rows: Rows
    fingerprints: dict[str, str]
    detector: str
    notes: dict[str, str]
    alarms: tuple[str, ...] = ()
    every_face: bool = False
    kept: frozenset[str] = frozenset()


def contestants(results: Mapping[str, EvaluationResult]) -> list[Contestant]:
    """The models of results, given by name (a folder): each value of the column `model` is one.

    A result whose rows name no model is one contestant with the result's name. A model that several results have
    is called `RESULT: MODEL`.

    Raises:
        InputError: two have one name, or a row that is ok has a distance that is no finite number.
    """
    found: list[tuple[str, str, Contestant]] = []
    for result, content in results.items():
        content.rows.check_finite(result)
        codes, names = content.rows.codes("model")
        order = codes[np.sort(np.unique(codes, return_index=True)[1])].tolist()  # as they come
        rows = {names[i]: content.rows.where(codes == i) for i in order}
        fingerprints = {name: m["fingerprint"] for name, m in content.summary["methods"].items()}
        if identity := content.summary.get("identity"):
            fingerprints[IDENTITY] = identity["fingerprint"]
        detector = content.summary["detector"]["fingerprint"]
        every = content.summary["settings"]["face"] == ALL
        methods = content.summary["methods"].items()
        kept = frozenset(name for name, m in methods if m.get(KEPT, {}).get("calibrated"))
        notes = {name: m["note"] for name, m in content.summary["methods"].items() if "note" in m}
        alarms = tuple(f"{result}: {alarm}" for alarm in content.summary.get("alarms", ()))  # older results have none
        found += [
            (result, model, Contestant("", part, fingerprints, detector, notes, alarms, every, kept))
            for model, part in rows.items()
        ]
    count = Counter(model for _, model, _ in found)
    alone = Counter(result for result, _, _ in found)
    named = []
    for result, model, contestant in found:
        if model and count[model] == 1:
            name = model
        elif alone[result] == 1:
            name = result
        else:
            name = f"{result}: {model or '(no model)'}"
        named.append(replace(contestant, name=name))
    if twice := [name for name, n in Counter(c.name for c in named).items() if n > 1]:
        raise InputError(f"two of the models compared are called {twice[0]!r}; rename a folder")
    return named


def load_results(folders: Sequence[Path]) -> dict[str, EvaluationResult]:
    """Results by the last parts of their paths that tell them apart.

    Raises:
        InputError: a folder is named twice or can't be read.
    """
    resolved = [folder.resolve() for folder in folders]
    if twice := [str(path) for path, n in Counter(resolved).items() if n > 1]:
        raise InputError(f"{twice[0]!r} is named twice")
    depth = 1
    while len({path.parts[-depth:] for path in resolved}) < len(resolved):
        depth += 1
    names = ["/".join(path.parts[-depth:]) for path in resolved]
    return {n: EvaluationResult.load(f) for n, f in zip(names, folders, strict=True)}


def load_contestants(folders: Sequence[Path]) -> list[Contestant]:
    """The models of folders that `evaluate --out` wrote, named by the last parts of their paths that tell them apart.

    Raises:
        InputError: a folder is named twice or can't be read, or there are fewer than two models.
    """
    found = contestants(load_results(folders))
    if len(found) < 2:
        raise InputError("a comparison needs two models or more: name a second folder that `evaluate --out` wrote")
    return found


def primary_score(models: Sequence[Contestant], methods: Sequence[str], score: str) -> tuple[str, str]:
    """Method and score that are tested by themselves."""
    shared = [m for m in (models[0].fingerprints if models else ()) if all(m in c.fingerprints for c in models)]
    for name in methods:
        if not any(name in c.fingerprints for c in models):
            known = ", ".join(dict.fromkeys(m for c in models for m in c.fingerprints))
            raise InputError(f"no result has the method {name!r}; there is {known}")
    method = methods[0] if methods else primary_method(shared)
    known_scores = [NEARER] if method == IDENTITY else [*SCORES, KEPT]
    if score and score not in known_scores:
        raise InputError(f"unknown score {score!r} of {method}; known: {', '.join(known_scores)}")
    if method == IDENTITY:
        return method, NEARER
    return method, score or (KEPT if models and all(method in c.kept for c in models) else "mean_t2c")


def shared_methods(models: Sequence[Contestant], wanted: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Methods that all have with the same weights and preprocessing; the others with why they are left out.

    Args:
        wanted: of these alone, in this order; () for all.
    """
    names = dict.fromkeys(method for model in models for method in model.fingerprints)
    left_out: dict[str, str] = {}
    for name in names:
        weights = dict.fromkeys(m.fingerprints[name] for m in models if name in m.fingerprints)
        if lacking := [m.name for m in models if name not in m.fingerprints]:
            left_out[name] = f"not in {', '.join(lacking)}"
        elif len(weights) > 1:
            left_out[name] = f"not the same weights: {' and '.join(weights)}"
    wanted = wanted or list(names)
    shared = [name for name in wanted if name in names and name not in left_out]
    return shared, {name: why for name, why in left_out.items() if name in wanted}


def notes_of(models: Sequence[Contestant], methods: Sequence[str]) -> list[str]:
    """What else a reader has to know of the methods compared."""
    detectors = dict.fromkeys(m.detector for m in models)
    differently = [f"faces were found differently: {' and '.join(detectors)}"] if len(detectors) > 1 else []
    return [*differently, *(f"method {name}: {models[0].notes[name]}" for name in methods if name in models[0].notes)]


class Keys:
    """What tells a row's target and source apart; None where a file can't be read. Each file is hashed once.

    Args:
        match: one of `MATCHES`; InputError for any other.
    """

    def __init__(self, match: str) -> None:
        if match not in MATCHES:
            raise InputError(f"unknown match {match!r}; known: {', '.join(MATCHES)}")
        self._name: Callable[[str], str | None] = self._hash if match == "content" else lambda path: path or None
        self._known: dict[str, str | None] = {}

    def pairs(self, rows: Rows, *, every: bool = False) -> list[Pair | None]:
        """Of each row; `every`: each face of a target has a row."""
        (targets, target_paths), (sources, source_paths) = rows.codes("target"), rows.codes("source")
        target_names, source_names = ([self._name(path) for path in paths] for paths in (target_paths, source_paths))
        without = rows.without_source.tolist()
        named = (
            (target_names[t], "" if pair else source_names[s])
            for t, s, pair in zip(targets.tolist(), sources.tolist(), without, strict=True)
        )
        faces = [(box,) if every else () for box in rows.table["box_target"].to_pylist()]
        return [
            (target, source, *face) if target and source is not None else None
            for (target, source), face in zip(named, faces, strict=True)
        ]

    def _hash(self, path: str) -> str | None:
        if path not in self._known:
            try:
                self._known[path] = content_hash(path) if path else None
            except UnreadableImageError:
                self._known[path] = None
        return self._known[path]


Keyed = tuple[Contestant, list["Pair | None"]]
Found = dict[Pair, list[int]]
"""Places of the rows of each pair."""


def by_pair(keyed: Keyed) -> Found:
    found: Found = {}
    for row, pair in enumerate(keyed[1]):
        if pair is not None:
            found.setdefault(pair, []).append(row)
    return found


def measured(rows: Rows, found: Found) -> Found:
    """The pairs that have measured rows, with those."""
    ok = rows.ok.tolist()
    kept = {pair: [i for i in places if ok[i]] for pair, places in found.items()}
    return {pair: places for pair, places in kept.items() if places}


def groups_of(rows: Rows, places: Sequence[int]) -> list[str]:
    codes, names = rows.codes("group")
    return [names[codes[i]] for i in places]


def crossed_sources(pairs: Sequence[Pair], groups: Sequence[str]) -> bool:
    """Some source is in several groups, and there are several sources."""
    of_source: dict[str, set[str]] = {}
    for pair, group in zip(pairs, groups, strict=True):
        of_source.setdefault(pair[1], set()).add(group)
    return len(of_source) > 1 and "" not in of_source and any(len(found) > 1 for found in of_source.values())


def score_parts(method: str, pairs: Sequence[Pair], *, kept: bool) -> Iterator[tuple[Sequence[str], list[int]]]:
    """Which scores of a method are taken over which of the pairs: some need a source."""
    of_method = [NEARER] if method == IDENTITY else [*SCORES, *[KEPT] * kept]
    sourced = [i for i, (_, source, *_) in enumerate(pairs) if source]
    if len(sourced) == len(pairs):
        parts = [(of_method, sourced)]
    else:
        parts = [
            ([s for s in of_method if s in NEED_NO_SOURCE], list(range(len(pairs)))),
            ([s for s in of_method if s not in NEED_NO_SOURCE], sourced),
        ]
    yield from ((scores, part) for scores, part in parts if scores and part)


def pair_means(method: str, scores: Sequence[str], rows: Rows, places: Sequence[Sequence[int]]) -> dict[str, Floats]:
    """(N,) columns by score: what each pair adds to it, the mean over the rows of a pair."""
    flat = np.array([i for part in places for i in part], np.int64)
    wanted = DISTANCE_COLUMNS[: 1 if set(scores) <= set(NEED_NO_SOURCE) else None]
    columns = per_triplet(*(rows.distance(method, d)[flat] for d in wanted))
    if NEARER in scores:
        columns[NEARER] = (columns["mean_s2c"] < columns["mean_t2c"]).astype(np.float64)
    if KEPT in scores:
        columns[KEPT] = rows.distance(method, KEPT)[flat]
    columns = {score: columns[score] for score in scores}
    sizes = np.array([len(part) for part in places])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return {score: np.add.reduceat(values, starts) / sizes for score, values in columns.items()}
