"""Privacy beside utility: can the people in changed faces still be found?

An anonymizer that changes nothing keeps every expression, so its utility means nothing without this. Each changed face
is looked up among target faces by a face recogniser, as re-identification is judged; a recogniser of another family
may still find whom this one doesn't.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.choices import IDENTITY
from exprmetric.evaluation.large.private import PrivateVectors
from exprmetric.evaluation.rows import AGAIN, CONTENT, Rows
from exprmetric.io.plain import score
from exprmetric.io.sheet import Column, Number, Row, Sheet, score_cell
from exprmetric.methods.identity import SAME_PERSON
from exprmetric.metrics.retrieval import ABSENT, retrieval_ranks, retrieval_scores
from exprmetric.metrics.uncertainty import bootstrap_means
from exprmetric.weights import store as weights

Codes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


STRONG = "arcface-w600k-r50"
"""Preferred where its weights are here: it recognises faces better than dlib's network."""
OTHERS = "other photographs of the same people"
THEMSELVES = "the targets themselves"
LIMIT = "A face recogniser of another family may still find the person."


def recogniser() -> str:
    """The method that looks people up: the strongest whose weights are here."""
    return STRONG if weights.is_present(STRONG) else IDENTITY


def privacy(
    rows: Rows, given: Rows, vectors: PrivateVectors, network: str, second: str, *, seed: int = 0
) -> dict[str, Any]:
    """`privacy` of `summary.json`.

    Args:
        rows: of the whole input, with the groups of the bootstrap.
        given: the same with the groups that the input names.
        vectors: of the network, for each row.
        network: the method that looks people up.
        second: the detector that looks for changed faces again; '' where there is none.

    Returns:
        `network`; `gallery`, what is looked through, and `gallery_size`; `n` faces that were looked up, `left_out` of
        people without another photograph; `rank1`, `rank5`, `mrr` with intervals; `chance`, the rank-1 of a guess;
        `unchanged`, rank-1 of the targets themselves; `same_person`, the share that the control still takes for the
        target's person; `detected`, the share that the second detector finds too; `models`, the same for each.
    """
    gallery, own = _gallery(rows, vectors.known[0])
    people = bool((~rows.mask("person", "")).any())
    labels, groups = _labels(rows, given, own, people)
    queries = np.flatnonzero(rows.ok & vectors.known[1] & (own >= 0) & (labels >= 0))
    of_gallery = labels[gallery]
    found = vectors.picked(0, gallery)
    ranks = retrieval_ranks(
        vectors.picked(1, queries),
        found,
        labels[queries],
        of_gallery,
        excluded=own[queries] if people else None,
        ties="for",
    )
    answered, places = queries[ranks != ABSENT], ranks[ranks != ABSENT]
    summary: dict[str, Any] = {
        "network": network,
        "gallery": OTHERS if people else THEMSELVES,
        "gallery_size": len(gallery),
        "n": len(places),
        "left_out": int((ranks == ABSENT).sum()),
        **_scores(retrieval_scores(places), groups[answered], seed),
        "chance": _chance(labels[answered], of_gallery, people),
        "unchanged": _unchanged(found, of_gallery, groups[gallery], seed) if people else None,
        "same_person": same_person(rows, rows.ok, seed=seed),
        "detected": _detected(rows, rows.ok | rows.mask("status", "no_face"), second, seed),
        "limit": LIMIT,
    }
    codes, names = rows.codes("model")
    models = {name: codes == i for i, name in enumerate(names) if name}
    summary["models"] = {
        name: {
            "n": int(part[answered].sum()),
            **_scores(retrieval_scores(places[part[answered]]), groups[answered][part[answered]], seed),
            "same_person": same_person(rows, rows.ok & part, seed=seed),
        }
        for name, part in models.items()
    }
    return summary


def same_person(rows: Rows, part: Mask, *, seed: int = 0) -> dict[str, Any]:
    """Share of changed faces that the identity control still takes for the target's person."""
    same = (rows.distance(IDENTITY, "t2c")[part] < SAME_PERSON).astype(np.float64)
    return _scores({"same": same}, rows.codes("group")[0][part], seed)["same"]


def _gallery(rows: Rows, known: Mask) -> tuple[Codes, Codes]:
    """(G,) rows of the distinct target faces, and (N,) the place among them of each row's own, -1 where unknown."""
    boxes, names = rows.codes("box_target")
    several = rows.table["faces_target"].fill_null(0).to_numpy() > 1  # a lone face is known without its box
    key = rows.codes(CONTENT)[0].astype(np.int64) * (len(names) + 1) + np.where(several, boxes + 1, 0)
    own = np.full(len(rows), -1, np.int64)
    there = np.flatnonzero(known)
    _, first, inverse = np.unique(key[there], return_index=True, return_inverse=True)
    own[there] = inverse.ravel()
    return there[first], own


def _labels(rows: Rows, given: Rows, own: Codes, people: bool) -> tuple[Codes, Codes]:
    """(N,) who is to be found for each row, -1 for nobody; and the groups of the bootstrap.

    Without `person` the right answer is the target's own face, or any of the group that the input names, whose faces
    are often one person's: counting those as others would make the attack look weaker than it is.
    """
    if people:
        codes, names = rows.codes("person")
        nobody = np.array([not name for name in names], bool)[codes]
        labels = np.where(nobody, -1, codes).astype(np.int64)
        return labels, np.where(nobody, len(names) + rows.codes("group")[0], codes).astype(np.int64)
    codes, names = given.codes("group")
    named = ~np.array([not name for name in names], bool)[codes] if len(names) else np.zeros(len(rows), bool)
    labels = np.where(named, codes.astype(np.int64) + len(rows), own)
    return np.where(own < 0, -1, labels), rows.codes("group")[0].astype(np.int64)


def _chance(wanted: Codes, gallery: Codes, people: bool) -> float | None:
    """Rank-1 of a guess: the share of the gallery that is right, without the query's own photograph."""
    if not len(wanted):
        return None
    labels, counts = np.unique(gallery, return_counts=True)
    right = counts[np.searchsorted(labels, wanted)]
    return float((right - 1).mean() / (len(gallery) - 1)) if people else float(right.mean() / len(gallery))


def _unchanged(vectors: Any, labels: Codes, groups: Codes, seed: int) -> dict[str, Any] | None:
    """Rank-1 of the target faces themselves, each left out of the gallery: what this recogniser can do."""
    some = np.flatnonzero(labels >= 0)
    ranks = retrieval_ranks(np.asarray(vectors)[some], vectors, labels[some], labels, excluded=some, ties="for")
    kept = ranks != ABSENT
    return _scores(retrieval_scores(ranks[kept]), groups[some][kept], seed)["rank1"] if kept.any() else None


def _detected(rows: Rows, part: Mask, second: str, seed: int) -> dict[str, Any] | None:
    """Share of changed faces that the second detector finds too, of those whose target it finds, in sampled rows."""
    import pyarrow.compute as pc

    asked = part & pc.is_valid(rows.table[AGAIN]).to_numpy()
    if not second or not asked.any():
        return None
    again = pc.fill_null(rows.table[AGAIN], False).to_numpy()[asked].astype(np.float64)
    found = _scores({"again": again}, rows.codes("group")[0][asked], seed)["again"]
    return {"detector": second, "n": int(asked.sum()), **found}


def _scores(columns: Mapping[str, Any], groups: Any, seed: int) -> dict[str, dict[str, Any]]:
    """Means with 95 % intervals, as in `summary.json`."""
    intervals = bootstrap_means(columns, np.asarray(groups, np.int64), seed=seed)
    return {name: score(np.mean(values) if len(values) else None, intervals[name]) for name, values in columns.items()}


SHARES = {"rank1": "found first ↓", "rank5": "among five ↓", "mrr": "reciprocal rank ↓", "same_person": "same person ↓"}


def privacy_sheet(summary: dict[str, Any]) -> Sheet | None:
    """How often people are found again, each model by itself; None where nobody was looked up."""
    found = summary.get("privacy")
    if not found:
        return None
    models = found["models"] if len(found["models"]) > 1 else {}
    columns = [Column("privacy", words=True), Column("n")]
    columns += [Column(words, name, ends=(f"{name}.low", f"{name}.high")) for name, words in SHARES.items()]
    parts = models or {next(iter(found["models"]), "") or "changed faces": found}
    rows = [Row([name, part["n"], *(score_cell(part[s]) for s in SHARES)]) for name, part in parts.items()]
    originals = (
        score_cell(found["unchanged"]) if found["unchanged"] else Number(None if found["gallery"] == OTHERS else 1.0)
    )
    nothing = Number(None)
    rows.append(Row(["  originals", "", originals, nothing, nothing, nothing], anchor=True))
    rows.append(Row(["  a guess", "", Number(found["chance"]), nothing, nothing, nothing], anchor=True))
    return Sheet(columns, rows, notes=privacy_lines(summary))


def privacy_lines(summary: dict[str, Any]) -> list[str]:
    """What has to be said of `privacy`, in sentences; [] where nobody was looked up."""
    found = summary.get("privacy")
    if not found:
        return []
    bound = "" if found["gallery"] == OTHERS else ", an upper bound"
    said = [
        f"Each changed face was looked up by {found['network']} among {found['gallery_size']} faces: {found['gallery']}"
        f"{bound}. Same person: identity distance to the target below {SAME_PERSON}."
    ]
    if found["left_out"]:
        said.append(
            f"{found['left_out']} changed faces were not looked up: there is no other photograph of the person."
        )
    if detected := found["detected"]:
        share = f"{100 * detected['value']:.1f} % of {detected['n']} changed faces"
        said.append(f"A second detector ({detected['detector']}) finds {share} too.")
    return [*said, found["limit"], "The identity vectors of this run are deleted."]
