"""From a data set and encoders to a picture of `plots.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from exprmetric.datasets.alignment import align_dataset, face_crop
from exprmetric.errors import InputError
from exprmetric.io.tables import listed
from exprmetric.methods import Method
from exprmetric.probes.encoders import Bench, distance_of
from exprmetric.probes.measurement import NotMeasuredError, one_thread
from exprmetric.probes.parts import FaceRows, JudgedSet, Space
from exprmetric.probes.plots import MAPS, draw_confusion, draw_map, draw_nearest, need, queries
from exprmetric.probes.protocols import PROTOCOLS, Judged, chosen_protocols

CROP, SIDE = 176, 96
"""Px of the aligned face that is shown, and of its picture."""


def draw(
    kind: str,
    judged: JudgedSet,
    encoders: Sequence[Method],
    bench: Bench,
    out: Path,
    *,
    classifier: str = "head",
    asked: Sequence[str] = (),
    seed: int = 0,
) -> None:
    """Write one PNG.

    Args:
        kind: a key of `MAPS`, `confusion` or `nearest`.
        classifier: of `confusion`, a key of PROTOCOLS that classifies.
        asked: of `nearest`, names of test images; one of each expression where none is named.

    Raises:
        InputError: nothing to draw, or an image isn't among the test faces. MissingPackageError.
    """
    if not encoders:
        raise InputError("name at least one --method or --checkpoint")
    need(*(MAPS[kind][2] if kind in MAPS else ("matplotlib",)))  # now, not after minutes of work
    if kind == "confusion":
        chosen_protocols([classifier])
    test = Judged.of(judged.test, encoders, bench)
    if not len(test.rows):
        raise InputError(f"no test face of {judged.name} could be measured by all encoders")
    train = Judged.of(judged.train, encoders, bench) if kind == "confusion" else test
    spaces = {
        e.name: Space(train.parts[e.name], test.parts[e.name], None, distance_of(e), seed=seed, resamples=0)
        for e in encoders
    }
    if kind in MAPS:
        draw_map(kind, {name: s.test for name, s in spaces.items()}, out, seed=seed)
    elif kind == "confusion":
        try:
            with one_thread():
                matrices = {name: PROTOCOLS[classifier].measure(s).details["confusion"] for name, s in spaces.items()}
        except NotMeasuredError as error:
            raise InputError(f"{judged.name}: {error}") from error
        what = f"{PROTOCOLS[classifier].what}; {judged.name}, {judged.split}; % of the true expression's faces"
        draw_confusion(matrices, out, title=what)
    else:
        shown = FaceRows(judged.test.name, judged.test.dataset, tuple(judged.test.rows[i] for i in test.rows))
        rows = _rows(shown, asked) or queries(shown.known, seed)
        draw_nearest(spaces, _pictures(shown, bench), rows, out)


def _rows(faces: FaceRows, asked: Sequence[str]) -> list[int]:
    if missing := [name for name in asked if name not in faces.images]:
        raise InputError(f"{listed(missing)} is no test face that all encoders could measure; one is {faces.images[0]}")
    return [faces.images.index(name) for name in asked]


def _pictures(faces: FaceRows, bench: Bench) -> npt.NDArray[np.uint8]:
    matrices = align_dataset(faces.dataset, bench.cache, detector=bench.detector).matrices
    crops = [face_crop(faces.dataset.image(i), matrices[i], CROP, SIDE)[0] for i in faces.rows]
    return np.array(crops, np.uint8).reshape(-1, SIDE, SIDE)
