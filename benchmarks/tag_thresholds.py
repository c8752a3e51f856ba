"""Distances in `exprmetric/video/people/thresholds.py`, within which a face gets a tag, measured on FER+.

    python benchmarks/tag_thresholds.py ferplus.zip                      # all methods that one is stated for
    python benchmarks/tag_thresholds.py ferplus.zip default lm68:cosine  # these

Prints a Markdown table. Only test faces are measured on whose expression at least 8 of 10 raters agree, at most 120 of
each expression, drawn at random; those in which the detector finds no face are left out, and counted. SCRFD's weights
must be there (`exprmetric weights pull scrfd-500m`), and those of the methods. Some minutes on two cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exprmetric.datasets.layouts import FaceDataset, open_dataset
from exprmetric.datasets.samples import EXPRESSIONS
from exprmetric.errors import ImageError, InputError
from exprmetric.evaluation.pipeline import Task, represent_all
from exprmetric.evaluation.reading import lone_face
from exprmetric.evaluation.session import Session, Settings
from exprmetric.io.pool import open_pool
from exprmetric.methods import Method
from exprmetric.video.people.thresholds import CALIBRATED, OTHER_SHARE, SAME_SHARE, calibrate

METHODS = tuple(name for name in CALIBRATED if name != "feenet")  # its threshold is its paper's
AGREE = 8
MOST = 120


@dataclass(frozen=True)
class Measured:
    """A method's threshold, and the shares (0..1) of pairs with the same and with different expressions within it."""

    threshold: float
    same_within: float
    same_pairs: int
    other_within: float
    other_pairs: int


def agreed(dataset: FaceDataset, *, agree: int = AGREE, most: int = MOST, seed: int = 0) -> list[int]:
    """Places in `dataset.samples` of test faces on whose expression `agree` raters agree, `most` of each, at random.

    Raises:
        InputError: the data set has no votes, or no two such faces.
    """
    if any(sample.votes is None for sample in dataset.samples):
        raise InputError(f"{dataset.files.path}: raters' votes are needed, as FER+ has them")
    votes = {  # samples hold shares, which don't tell 8 of 10 raters from 4 of 5 that saw an expression
        f"{row['split']}/{row['image']}": max(int(row[name]) for name in EXPRESSIONS)
        for row in dataset.files.rows("labels.csv")
    }
    by_label: dict[int, list[int]] = {}
    for place, sample in enumerate(dataset.samples):
        if sample.split == "test" and votes[sample.image] >= agree:
            by_label.setdefault(sample.label, []).append(place)
    generator = np.random.default_rng(seed)
    chosen = [place for places in by_label.values() for place in generator.permutation(places)[:most].tolist()]
    if len(chosen) < 2:
        raise InputError(f"{dataset.files.path}: {len(chosen)} test faces on which {agree} raters agree, 2 are needed")
    return chosen


def represent(
    dataset: FaceDataset, places: Sequence[int], session: Session, jobs: int | None = None
) -> tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[np.float32]]]:
    """(N,) labels and by method (N, D) vectors of those of the faces at `places` that can be measured."""
    labels: list[int] = []
    vectors: dict[str, list[npt.NDArray[np.float32]]] = {method.name: [] for method in session.methods}
    session.reader.only = session.finder.choose
    with open_pool(jobs) as pool:
        tasks = (Task(dataset.image(place)) for place in places)
        for place, outcome in zip(places, represent_all(tasks, session.reader, pool), strict=True):
            found = lone_face(outcome)
            if isinstance(found, ImageError):
                continue  # counted by who compares the lengths
            labels.append(dataset.samples[place].label)
            for name, vector in found.vectors.items():
                vectors[name].append(vector)
    if len(labels) < 2:
        raise InputError(f"{len(labels)} of {len(places)} faces could be measured, 2 are needed")
    return np.array(labels, np.int64), {name: np.stack(rows) for name, rows in vectors.items()}


def pair_distances(method: Method, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """(N (N - 1) / 2,) distances of all pairs of (N, D) vectors, in the order of `np.triu_indices(N, 1)`."""
    rows = (method.distance(np.broadcast_to(a, rest.shape), rest) for a, rest in _with_rest(vectors))
    return np.concatenate([np.empty(0), *rows])


def _with_rest(vectors: npt.NDArray[np.float32]) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    return ((vectors[i], vectors[i + 1 :]) for i in range(len(vectors) - 1))


def measure(method: Method, labels: npt.NDArray[np.int64], vectors: npt.NDArray[np.float32]) -> Measured:
    """The threshold that `calibrate` finds on faces with (N,) labels and (N, D) vectors.

    Raises:
        InputError: no two faces have the same expression.
    """
    i, j = np.triu_indices(len(labels), 1)
    alike = labels[i] == labels[j]
    if not alike.any():
        raise InputError("no two faces have the same expression")
    distances = pair_distances(method, vectors)
    same, other = distances[alike], distances[~alike]
    threshold = calibrate(same, other, "").value
    within = float(np.mean(other <= threshold)) if len(other) else float("nan")
    return Measured(threshold, float(np.mean(same <= threshold)), len(same), within, len(other))


def table(methods: Sequence[Method], measured: Sequence[Measured]) -> Iterator[str]:
    """Lines of Markdown."""
    yield "| method | threshold | same expression: pairs | within | different: pairs | within | stated |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for method, found in zip(methods, measured, strict=True):
        stated = f"{CALIBRATED[method.name].value:g}" if method.name in CALIBRATED else "–"
        yield (
            f"| {method.name} | {found.threshold:.3g} | {found.same_pairs:,} | {found.same_within:.1%} "
            f"| {found.other_pairs:,} | {found.other_within:.1%} | {stated} |"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="FER+: a folder or zip file with labels.csv")
    parser.add_argument("methods", nargs="*", default=METHODS, help=f"default: {' '.join(METHODS)}")
    parser.add_argument("--detector", default="auto")
    parser.add_argument("--agree", type=int, default=AGREE, help=f"raters of 10 (default: {AGREE})")
    parser.add_argument("--most", type=int, default=MOST, help=f"faces of an expression (default: {MOST})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, help="threads (default: one a core)")
    options = parser.parse_args(arguments)

    dataset = open_dataset(options.data)
    places = agreed(dataset, agree=options.agree, most=options.most, seed=options.seed)
    session = Session(Settings(tuple(options.methods), options.detector, identity=False))
    labels, vectors = represent(dataset, places, session, options.jobs)
    counts = np.bincount(labels, minlength=len(EXPRESSIONS)).tolist()
    print(
        f"{len(labels)} of {len(places)} faces measured, found by {session.finder.detector.name}: "
        + ", ".join(f"{count} {name}" for name, count in zip(EXPRESSIONS, counts, strict=True) if count)
    )
    print(
        f"Threshold: {SAME_SHARE:.0%} of the pairs with the same expression are within, "
        f"but at most {OTHER_SHARE:.0%} of those with different ones.\n"
    )
    for line in table(session.methods, [measure(m, labels, vectors[m.name]) for m in session.methods]):
        print(line)


if __name__ == "__main__":
    main()
