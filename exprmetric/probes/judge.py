"""Every method against the raters of one set, over the faces that all methods could measure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from exprmetric.methods import Method
from exprmetric.metrics.agreement import MARGIN
from exprmetric.metrics.rated import Condition, RatedLines, RatedScores
from exprmetric.metrics.resampling import Floats, Indices
from exprmetric.probes.rated import RatedSet, shown_expressions
from exprmetric.probes.vectors import Vectors

YAW = (15.0, 30.0)
"""Bounds of the classes of the head's turn, degrees to either side."""
SIZE = (256.0, 128.0, 64.0)
"""Bounds of the classes of the face's height, px."""


def judge(
    rated: RatedSet, vectors: Vectors, methods: Sequence[Method], seed: int
) -> tuple[dict[str, RatedScores], RatedScores | None]:
    """Scores of every method by name, and of one half of the raters against the other where they are known."""
    faces = rated.faces
    assert faces.ratings is not None
    shown = np.array(shown_expressions(faces.ratings, faces.scales), dtype=str)
    conditions = pose_and_size_classes(vectors.seen)

    def lines(rows: Indices, ratings: Floats) -> RatedLines:
        return RatedLines(
            ratings,
            [faces.persons[i] for i in rows] if faces.persons else None,
            margin=MARGIN,
            points=rated.points,
            expressions=shown[rows].tolist(),
            conditions={name: Condition(c.names, c.classes[rows]) for name, c in conditions.items()},
            seed=seed,
        )

    rows = np.flatnonzero(vectors.ok)
    asked = lines(rows, faces.ratings[rows])
    scores = {m.name: asked.scores(vectors.matrix(m.name, rows), m.distance) for m in methods}
    if rated.halves is None:
        return scores, None
    kept = np.isin(rated.halves.rows, rows)
    one, other = (lines(rated.halves.rows[kept], half[kept]) for half in (rated.halves.one, rated.halves.other))
    return scores, one.against(other)


def pose_and_size_classes(seen: Floats) -> dict[str, Condition]:
    """Classes of faces by how far the head is turned and how large the face is, the easy ones first.

    Args:
        seen: (N, 2) yaw, degrees, and height of the face, px; NaN where unknown.
    """
    yaw, height = np.abs(seen[:, 0]), seen[:, 1]
    return {
        "yaw": Condition(
            (f"below {YAW[0]:.0f}°", f"{YAW[0]:.0f} to {YAW[1]:.0f}°", f"{YAW[1]:.0f}° and more"),
            np.where(np.isfinite(yaw), np.digitize(yaw, YAW), -1),
        ),
        "size": Condition(
            (f"{SIZE[0]:.0f} px and more", *(f"{b:.0f} to {a:.0f} px" for a, b in pairwise(SIZE)),
             f"below {SIZE[-1]:.0f} px"),
            np.where(np.isfinite(height), len(SIZE) - np.digitize(height, SIZE[::-1]), -1),
        ),
    }  # fmt: skip
