"""Every encoder under every protocol on the same faces: trained checkpoints beside registered methods.

Vectors are computed once (`encoders.py`); a protocol is a function of them. Numbers are over the faces that all
encoders could measure, with each encoder's own coverage beside them. What a data set can't give has a reason instead of
a number.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from exprmetric.datasets.samples import EXPRESSIONS
from exprmetric.errors import InputError, MissingPackageError
from exprmetric.io.environment import package_version
from exprmetric.io.files import path_text
from exprmetric.io.plain import as_json, plain
from exprmetric.io.tables import listed
from exprmetric.methods import Method
from exprmetric.metrics.uncertainty import TABLE_RESAMPLES
from exprmetric.probes import affect, classify, comparisons, retrieve
from exprmetric.probes.checkpoint import Checkpoint
from exprmetric.probes.encoders import Bench, distance_of
from exprmetric.probes.fec import FecSet, among
from exprmetric.probes.measurement import Measurement, NotMeasuredError, one_thread
from exprmetric.probes.parts import FaceRows, JudgedSet, Part, Space, unique_names

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Protocol:
    """A way to judge an encoder.

    Attributes:
        measure: raises NotMeasuredError where the faces don't have what it needs.
        what: how it judges, in a sentence.
        columns: score → heading, of what stands in the table.
        packages: that must be installed.
    """

    measure: Callable[[Space], Measurement]
    what: str
    columns: dict[str, str]
    packages: tuple[str, ...] = ()


PROTOCOLS: dict[str, Protocol] = {
    "linear": Protocol(
        classify.linear,
        f"logistic regression on standardised features (C = {classify.REGULARISATION})",
        {"accuracy": "linear acc ↑", "macro_f1": "linear F1 ↑"},
        ("sklearn",),
    ),
    "10-nn": Protocol(
        partial(classify.knn, k=10), "votes of the 10 most cosine-similar faces", {"accuracy": "10-NN ↑"}
    ),
    "30-nn": Protocol(
        partial(classify.knn, k=30), "votes of the 30 most cosine-similar faces", {"accuracy": "30-NN ↑"}
    ),
    "head": Protocol(
        classify.head,
        "the classification head of paper 000, with its class weights",
        {"accuracy": "head acc ↑", "macro_f1": "head F1 ↑", "mean_recall": "head recall ↑"},
        ("torch", "timm"),
    ),
    "affect": Protocol(
        affect.affect,
        "ridge regression; CCC is Lin's with population variances",
        {
            "valence_ccc": "valence CCC ↑",
            "valence_rmse": "valence RMSE ↓",
            "arousal_ccc": "arousal CCC ↑",
            "arousal_rmse": "arousal RMSE ↓",
        },
        ("sklearn",),
    ),
    "agreement": Protocol(
        comparisons.agreement,
        "distances against raters' votes: clear triplets (chance 33.3) and Spearman's correlation of pairs",
        {"triplet_accuracy": "votes triplets ↑", "rank_correlation": "votes rank r ↑"},
    ),
    "triplets": Protocol(
        comparisons.triplets,
        "the odd one out of three, by votes, a third of each triplet type (chance 33.3)",
        {"accuracy": "votes odd one ↑"},
    ),
    "fec": Protocol(comparisons.fec, "the odd one out of three on FEC (chance 33.3)", {"accuracy": "FEC odd one ↑"}),
    "retrieval": Protocol(
        retrieve.retrieve,
        "same-label faces among the nearest, other people only; macro: mean over expressions",
        {f"precision_at_{retrieve.PLACES}": f"P@{retrieve.PLACES} ↑", "map": "mAP ↑", "macro_map": "macro mAP ↑"},
    ),
    "leak": Protocol(
        comparisons.leak,
        "distances between two people over those within one, at equal labels (1 and AUC 0.5: no leak)",
        {"ratio": "leak ratio ↓1", "auc": "leak AUC ↓.5"},
    ),
}


@dataclass(frozen=True)
class Row:
    """One encoder on one data set.

    Attributes:
        coverage: by part (`train`, `test`, `people`, `fec`), `{"faces", "ok", "failed": {status: n}}`.
        found: by protocol its numbers, or the reason why there are none.
    """

    encoder: str
    coverage: dict[str, dict[str, Any]]
    found: dict[str, Measurement | str]


@dataclass(frozen=True)
class SetReport:
    """All encoders on one data set.

    Attributes:
        split: what the test faces come from.
        compared: by part, the faces that all encoders could measure; `fec_triplets` those of FEC.
    """

    name: str
    split: str
    compared: dict[str, int]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class ProtocolResult:
    """The whole table.

    Attributes:
        about: settings, detector, encoders and versions: all that defends the numbers.
        protocols: names, in the order of the columns.
    """

    about: dict[str, Any]
    protocols: tuple[str, ...]
    sets: tuple[SetReport, ...]

    @property
    def measured(self) -> bool:
        """Is there any number?"""
        return any(isinstance(f, Measurement) for s in self.sets for row in s.rows for f in row.found.values())

    def to_json(self) -> str:
        """Everything; what could not be computed is null, or `{"not_measured": reason}`."""
        sets = {
            s.name: {
                "test_split": s.split,
                "compared": s.compared,
                "encoders": {
                    r.encoder: {"coverage": r.coverage, **{n: _found(f) for n, f in r.found.items()}} for r in s.rows
                },
            }
            for s in self.sets
        }
        return as_json({**self.about, "sets": sets})


def _found(found: Measurement | str) -> dict[str, Any]:
    if isinstance(found, str):
        return {"not_measured": found}
    return {**plain(found.scores), **found.details}


def chosen_protocols(names: Sequence[str]) -> tuple[str, ...]:
    """All protocols where none is named, in the registry's order.

    Raises:
        InputError: a name is none. MissingPackageError: a protocol needs a package that isn't installed.
    """
    if unknown := [n for n in names if n not in PROTOCOLS]:
        raise InputError(f"unknown protocol {listed(unknown)}; known: {', '.join(PROTOCOLS)}")
    chosen = tuple(n for n in PROTOCOLS if not names or n in names)
    for name in chosen:
        if missing := [p for p in PROTOCOLS[name].packages if importlib.util.find_spec(p) is None]:
            raise MissingPackageError(
                f"the protocol {name} needs {' and '.join(missing)}: pip install 'exprmetric[recipes,torch]', "
                "or name the protocols that you want with --protocol"
            )
    return chosen


def probe_protocols(
    sets: Sequence[JudgedSet],
    encoders: Sequence[Method],
    bench: Bench,
    *,
    protocols: Sequence[str] = (),
    people: FaceRows | None = None,
    fec: FecSet | None = None,
    seed: int = 0,
    resamples: int = TABLE_RESAMPLES,
) -> ProtocolResult:
    """Judge encoders.

    Args:
        sets: each gives a table of its own.
        encoders: methods and checkpoints.
        bench: how faces are found and vectors kept.
        protocols: names; empty for all.
        people: for the identity leak. fec: for FEC's triplets.
        seed: of every draw. resamples: of every bootstrap.

    Raises:
        InputError: nothing to judge, a name is given twice, or an encoder's numbers are not finite.
        MissingPackageError: a protocol needs a package that isn't installed.
    """
    names = chosen_protocols(protocols)
    if not sets or not encoders:
        raise InputError("name at least one data set, and at least one --method or --checkpoint")
    unique_names([s.name for s in sets])
    shared: dict[str, FaceRows] = {}
    if people is not None and "leak" in names:
        shared["people"] = people
    if fec is not None and "fec" in names:
        shared["fec"] = fec.rows
    common = {name: Judged.of(rows, encoders, bench) for name, rows in shared.items()}
    reports = []
    for judged in sets:
        own = {"train": judged.train, "test": judged.test}
        parts = {**{name: Judged.of(rows, encoders, bench) for name, rows in own.items()}, **common}
        triplets = among(fec.triplets, parts["fec"].rows, len(fec.rows)) if fec and "fec" in parts else None
        rows = []
        for i, encoder in enumerate(encoders):
            bench.progress(f"{judged.name}, protocols", i, len(encoders))
            each = {name: part.parts[encoder.name] for name, part in parts.items()}
            compared = (each["fec"].vectors, triplets) if triplets is not None else None
            space = Space(
                each["train"], each["test"], each.get("people"), distance_of(encoder), compared, seed, resamples
            )
            with one_thread():
                found = {name: _measure(PROTOCOLS[name], space) for name in names}
            rows.append(Row(encoder.name, {n: p.coverage[encoder.name] for n, p in parts.items()}, found))
        counts = {name: len(part.rows) for name, part in parts.items()}
        if triplets is not None:
            counts["fec_triplets"] = len(triplets)
        reports.append(SetReport(path_text(judged.name), judged.split, counts, tuple(rows)))
    about = _about(encoders, bench, seed, resamples)
    return ProtocolResult(about, names, tuple(reports))


@dataclass(frozen=True, eq=False)
class Judged:
    """All encoders' vectors of the same faces: `rows` are those of the faces that all of them could measure."""

    parts: dict[str, Part]
    coverage: dict[str, dict[str, Any]]
    rows: np.ndarray[Any, np.dtype[np.intp]]

    @classmethod
    def of(cls, faces: FaceRows, encoders: Sequence[Method], bench: Bench) -> Judged:
        encoded = bench.encode(faces, encoders)
        rows = np.flatnonzero(np.all([e.ok for e in encoded.values()], axis=0))
        known = faces.known.take(rows)
        return cls(
            {name: Part(e.vectors[rows], known) for name, e in encoded.items()},
            {name: e.coverage() for name, e in encoded.items()},
            rows,
        )


def _measure(protocol: Protocol, space: Space) -> Measurement | str:
    if not len(space.train) or not len(space.test):
        return "no face could be measured by all encoders"
    try:
        return protocol.measure(space)
    except NotMeasuredError as reason:
        return str(reason)


def _about(encoders: Sequence[Method], bench: Bench, seed: int, resamples: int) -> dict[str, Any]:
    about = bench.about(SCHEMA_VERSION)
    more = {name: package_version(name) for name in ("scikit-learn", "torch")}
    return about | {
        "expressions": list(EXPRESSIONS),
        "encoders": {e.name: _describe(e) for e in encoders},
        "settings": {"seed": seed, "resamples": resamples},
        "environment": {**about["environment"], **{k: v for k, v in more.items() if v}},
    }


def _describe(encoder: Method) -> dict[str, Any]:
    found: dict[str, Any] = {
        "kind": "checkpoint" if isinstance(encoder, Checkpoint) else "method",
        "fingerprint": encoder.fingerprint,
        "dimension": encoder.dimension,
        "distance": encoder.distance_name,
    }
    if encoder.note:
        found["note"] = encoder.note
    if isinstance(encoder, Checkpoint):
        found |= {"file": path_text(Path(encoder.path).name), "recipe": encoder.recipe}
    return found
