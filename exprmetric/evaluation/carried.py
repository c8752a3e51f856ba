"""What some rows carry until all are known, and what is made of it: the distance between different targets.

Which targets are different is known at the end, when groups are; shards and workers don't know each other's. So rows
of `plan.sample` targets carry the vectors of their faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from exprmetric.choices import EXPRESSIONS
from exprmetric.errors import ImageError
from exprmetric.evaluation.blocks import Block
from exprmetric.evaluation.choosing import Chosen
from exprmetric.evaluation.plan import NONE, SAMPLE, Plan, sample
from exprmetric.evaluation.reading import Represented, Sight
from exprmetric.evaluation.rows import CONTENT, OK, PRIVATE_COLUMNS, Rows
from exprmetric.faces.detection import AUTO_ORDER, Detector, available_detectors, load_detector
from exprmetric.faces.head import head_pose
from exprmetric.faces.place import Place, at_place, place_of
from exprmetric.inputs.triplets import ROLES
from exprmetric.io.faults import of_image
from exprmetric.io.images import read_image
from exprmetric.methods.base import Method
from exprmetric.methods.blendshapes import moved
from exprmetric.metrics.distances import DISTANCES, between_groups, distance_function

if TYPE_CHECKING:
    import pyarrow as pa


LOOKED_AT = (OK, "no_face", "low_quality")
"""Rows whose pictures were decoded without harm."""


def target_vectors(methods: Sequence[Method], part: Block, sampled: Sequence[bool]) -> dict[str, list[bytes | None]]:
    """Columns `<method>.vector`: float32 bytes of the targets' faces in sampled rows that were measured."""
    rows = zip(part.chosen, part.status, sampled, strict=True)
    chosen = [_face(c.faces[0]) if some and status == OK else None for c, status, some in rows]
    return {
        f"{m.name}.vector": [None if face is None else face.vectors[m.name].tobytes() for face in chosen]
        for m in methods
        if type(m).distance is Method.distance and m.distance_name in DISTANCES
    }


def yaws(part: Block) -> list[float | None]:
    """Degrees by which each target's head is turned to a side; None where its landmarks don't say."""
    known: dict[int, float | None] = {}

    def yaw(seen: Represented | None) -> float | None:
        if seen is None or seen.face is None:
            return None
        if id(seen) not in known:
            turned = head_pose(seen.face.landmarks).yaw
            known[id(seen)] = turned if np.isfinite(turned) else None
        return known[id(seen)]

    return [yaw(_target(c, seen)) for c, seen in zip(part.chosen, part.targets, strict=True)]


def expressions(method: str, part: Block) -> list[str | None]:
    """The likeliest of EXPRESSIONS of each target's face; None where no face is known.

    Args:
        method: one whose vectors are the probabilities of EXPRESSIONS.
    """

    def likeliest(seen: Represented | None) -> str | None:
        return None if seen is None else EXPRESSIONS[int(np.argmax(seen.vectors[method]))]

    return [likeliest(_target(c, seen)) for c, seen in zip(part.chosen, part.targets, strict=True)]


def moved_shapes(method: str, part: Block) -> list[str | None]:
    """The blendshapes that changed most, in words, of rows that were measured."""

    def told(chosen: Chosen, status: str) -> str | None:
        target, swapped = (_face(chosen.faces[role]) for role in (0, 2))
        if status != OK or target is None or swapped is None:
            return None
        return moved(target.vectors[method], swapped.vectors[method])

    return [told(c, status) for c, status in zip(part.chosen, part.status, strict=True)]


def cloud_vectors(columns: Sequence[str], part: Block) -> dict[str, list[bytes | None]]:
    """Columns of `cloud_columns`: float32 bytes of rows that were measured; None also where there is no source."""

    def cells(column: str) -> list[bytes | None]:
        method, _, role = column.removeprefix("cloud.").rpartition(".")
        place = ROLES.index(role)
        faces = [_face(c.faces[place]) if s == OK else None for c, s in zip(part.chosen, part.status, strict=True)]
        return [None if face is None else face.vectors[method].tobytes() for face in faces]

    return {column: cells(column) for column in columns}


def private_vectors(network: str, part: Block) -> dict[str, list[bytes | None]]:
    """`PRIVATE_COLUMNS`: float32 bytes of each target's face that is known, and of each changed one that is
    measured."""

    def cell(seen: Represented | ImageError | None) -> bytes | None:
        face = _face(seen)
        return None if face is None else face.vectors[network].tobytes()

    rows = zip(part.chosen, part.status, strict=True)
    changed = [cell(c.faces[2]) if status == OK else None for c, status in rows]
    targets = [cell(_target(c, seen)) for c, seen in zip(part.chosen, part.targets, strict=True)]
    return dict(zip(PRIVATE_COLUMNS, (targets, changed), strict=True))


def second_detector(first: Detector, provider: str) -> Detector | None:
    """A detector of another family than the one that runs, whose weights are here; None where there is none."""
    if first.aligned:
        return None
    present = available_detectors()
    others = (name for name in AUTO_ORDER if present[name] and name != first.name.partition("-")[0])
    name = next(others, None)
    return None if name is None else load_detector(name, provider=provider)


def found_again(
    second: Detector, plan: Plan, part: Block, sampled: Sequence[bool], pool: Executor
) -> list[bool | None]:
    """Whether another detector finds the changed face too, in sampled rows where it finds the target's; else None."""
    seen: dict[int, Future[list[Place] | None]] = {}

    def look(content: int) -> Future[list[Place] | None]:
        if content not in seen:
            seen[content] = pool.submit(_places, second, plan, content)
        return seen[content]

    asked: list[tuple[Place, Future[list[Place] | None], Future[list[Place] | None]] | None] = []
    each = zip(part.rows.tolist(), part.chosen, part.targets, part.status, sampled, strict=True)
    for row, chosen, seen_there, status, some in each:
        face = _target(chosen, seen_there)
        of_target, of_swapped = (int(plan.contents[row, role]) for role in (0, 2))
        wanted = some and status in LOOKED_AT  # a picture that killed its reader would end the run here
        if not wanted or face is None or seen_there is None or NONE in (of_target, of_swapped):
            asked.append(None)
        else:
            asked.append((place_of(face.box, seen_there.size), look(of_target), look(of_swapped)))
    return [None if one is None else _again(one[0], one[1].result(), one[2].result()) for one in asked]


def _again(place: Place, before: Sequence[Place] | None, after: Sequence[Place] | None) -> bool | None:
    if before is None or after is None or at_place(place, before) is None:
        return None
    return at_place(place, after) is not None


def _places(detector: Detector, plan: Plan, content: int) -> list[Place] | None:
    """Where a detector finds faces in a picture of the plan; None where it can't look."""
    try:
        image = read_image(plan.image(content))
        return [place_of(d.box, (image.shape[0], image.shape[1])) for d in detector.detect(image)]
    except Exception as error:
        of_image(error)  # what is no image's fault rises
        return None


def _target(chosen: Chosen, seen: Sight | None) -> Represented | None:
    """The target's face, also where the changed picture shows none any more and the target shows one alone."""
    lone = seen.faces[0] if seen is not None and len(seen.faces) == 1 else None
    return _face(chosen.faces[0]) or _face(lone)


def _face(seen: Represented | ImageError | None) -> Represented | None:
    return seen if isinstance(seen, Represented) and seen.error is None else None


def another_target(rows: Rows, method: str, distance: str) -> float | None:
    """Mean distance between faces of targets of different groups, of at most `SAMPLE` targets: what a face of somebody
    else, taken by chance, would get for a t2c. None where there are not two groups.

    Args:
        rows: of the whole input, with their groups and what they carry.
        distance: a key of `DISTANCES`.
    """
    found = _targets(rows, f"{method}.vector")
    if found is None:
        return None
    mean = between_groups(*found, distance_function(distance))
    return mean if np.isfinite(mean) else None


def _targets(rows: Rows, column: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]] | None:
    """(T, D) vectors and (T,) groups of the sampled targets' faces, each once, whatever the order of the rows."""
    import pyarrow.compute as pc

    if column not in rows.table.column_names:
        return None
    places = np.flatnonzero(pc.is_valid(rows.table[column]).to_numpy())
    if not len(places):
        return None
    codes, contents = rows.codes(CONTENT)
    boxes = rows.table["box_target"]
    some = set(sample({c for c in contents if c}))
    faces: dict[tuple[str, str], int] = {}
    for place in places.tolist():
        content = contents[codes[place]]
        if content in some:
            faces.setdefault((content, str(boxes[place].as_py() or "")), place)
    kept = [faces[key] for key in sorted(faces)[:SAMPLE]]
    cells: Sequence[Any] = rows.table[column].take(_indices(kept)).to_pylist()
    return np.stack([np.frombuffer(cell, np.float32) for cell in cells]), rows.codes("group")[0][kept]


def _indices(places: Sequence[int]) -> pa.Array:
    import pyarrow as pa

    return pa.array(places, pa.int64())
