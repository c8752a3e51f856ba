"""Scores of all rows at once: the expression FID, and whether swapped faces are found among the sources.

Their vectors lie on disk until all rows are known (see `exprmetric.evaluation.large.private`), and are deleted when
the result is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.evaluation.large.private import PrivateVectors
from exprmetric.evaluation.rows import Rows
from exprmetric.io.plain import finite, score
from exprmetric.metrics.frechet import TAKEN, Moments, frechet_distance
from exprmetric.metrics.retrieval import retrieval_ranks
from exprmetric.metrics.uncertainty import bootstrap_means

Codes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def efid(rows: Rows, clouds: PrivateVectors, method: str) -> dict[str, Any]:
    """The Fréchet distance between the vectors of targets and of swapped faces, of one method.

    Returns:
        `value` in the vectors' squared unit; `n` rows that are ok; `dimension` of a vector; `halves`, the distance
        between the targets of every second group and those of the others: what chance alone makes of n / 2 and n / 2
        faces. Of several models, the same of each as `models`. It has no interval: a sample of groups with repetitions
        is farther away than all of them.
    """
    target, swapped = (clouds.columns.index(f"cloud.{method}.{role}") for role in ("target", "swapped"))
    known = rows.ok & clouds.known[target] & clouds.known[swapped]
    _, places = np.unique(rows.codes("group")[0], return_inverse=True)
    second = places.ravel() % 2 == 1

    def of(side: int, part: Mask) -> Moments:
        return moments(clouds.vectors[side], np.flatnonzero(part))

    def scored(part: Mask) -> dict[str, Any]:
        halves = frechet_distance(of(target, part & second), of(target, part & ~second))
        return {
            "value": finite(frechet_distance(of(target, part), of(swapped, part))),
            "n": int(part.sum()),
            "dimension": clouds.vectors[target].shape[1],
            "halves": finite(halves),
        }

    return _with_models(rows, known, scored(known), scored)


def moments(vectors: npt.NDArray[np.float32], places: Codes) -> Moments:
    """Of some rows of a file, in their order."""
    parts = (Moments.of(vectors[places[at : at + TAKEN]]) for at in range(0, len(places), TAKEN))
    return Moments.joined(parts, vectors.shape[1])


def id_retrieval(rows: Rows, clouds: PrivateVectors, network: str, *, seed: int = 0) -> dict[str, Any]:
    """Is the nearest of all source faces, by the cosine of a face recogniser's vectors, the one that was given?

    A source that stands in the input twice, under whatever name, is one face; of another photograph of its person
    nothing is known: it counts as somebody else.

    Returns:
        `network`, `gallery_size`, `n`, `rank1` with its interval; of several models, the same of each as `models`.
    """
    source, swapped = (clouds.columns.index(f"cloud.{network}.{role}") for role in ("source", "swapped"))
    known = rows.ok & clouds.known[source] & clouds.known[swapped]
    queries = np.flatnonzero(known)
    labels, gallery = _distinct(clouds.vectors[source], queries)
    first = np.zeros(len(rows))
    if len(queries):
        of_swapped, of_source = clouds.picked(swapped, queries), clouds.picked(source, gallery)
        first[queries] = retrieval_ranks(of_swapped, of_source, labels, np.arange(len(gallery))) == 1
    groups = rows.codes("group")[0]

    def scored(part: Mask) -> dict[str, Any]:
        (interval,) = bootstrap_means({"rank1": first[part]}, groups[part], seed=seed).values()
        value = float(first[part].mean()) if part.any() else float("nan")
        return {
            "n": int(part.sum()),
            "rank1": score(value, interval),
        }

    whole = {"network": network, "gallery_size": len(gallery), **scored(known)}
    return _with_models(rows, known, whole, scored)


def _distinct(vectors: npt.NDArray[np.float32], places: Codes) -> tuple[Codes, Codes]:
    """(N,) numbers 0..G-1 of equal vectors, and (G,) a row of each."""
    seen: dict[bytes, int] = {}
    first: list[int] = []
    labels = np.empty(len(places), np.int64)
    for i, place in enumerate(places.tolist()):
        key = vectors[place].tobytes()
        if key not in seen:
            seen[key] = len(first)
            first.append(place)
        labels[i] = seen[key]
    return labels, np.array(first, np.int64)


def _with_models(rows: Rows, known: Mask, whole: Mapping[str, Any], scored: Any) -> dict[str, Any]:
    codes, names = rows.codes("model")
    if len(names) < 2:
        return dict(whole)
    return {**whole, "models": {name: scored(known & (codes == i)) for i, name in enumerate(names) if name}}


def cloud_lines(summary: Mapping[str, Any]) -> list[str]:
    """What `efid` and `id_retrieval` of a summary say, in sentences; [] where they were not measured."""
    said = []
    if found := summary.get("id_retrieval"):
        for name, part in found.get("models", {"": found}).items():
            low, high = part["rank1"]["ci95"]
            interval = "" if low is None else f" [{100 * low:.1f}, {100 * high:.1f}]"
            share = "–" if part["rank1"]["value"] is None else f"{100 * part['rank1']['value']:.1f} %{interval}"
            said.append(
                f"ID retrieval{f' of {name}' if name else ''}: {share} of {part['n']} swapped faces are nearest to "
                f"their own source among {found['gallery_size']} ({found['network']}, cosine)"
            )
    for method, own in summary.get("efid", {}).items():
        for name, part in own.get("models", {"": own}).items():
            values = ["–" if part[key] is None else f"{part[key]:.4g}" for key in ("value", "halves")]
            said.append(
                f"expression FID by {method}{f' of {name}' if name else ''}: {values[0]} from {part['n']} faces of "
                f"{part['dimension']} numbers, too large by what few faces add (two halves of the targets: "
                f"{values[1]}): compare equal n alone"
            )
    return said
