"""Which faces of a result people are asked about: as many of every model, and as many near as far ones.

| question | faces |
| --- | --- |
| `odd` | target, source and swapped face of one row: which expression differs most from the other two? |
| `pair` | target and swapped face of one row: how alike are the expressions, from 1 to 5? |
| `name` | one target or swapped face: which expression is it? |

**Catch questions** have an answer that a person who looks can't miss: two identical pictures, and a target and a source
whose expressions every method puts far apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exprmetric.errors import InputError
from exprmetric.evaluation.rows import Rows
from exprmetric.io.tables import listed

Indices = npt.NDArray[np.intp]
Usable = Callable[[int], bool]
"""Whether the pictures of a row can be shown."""

ODD, PAIR, NAME = "odd", "pair", "name"
IDENTICAL, DIFFERENT = "identical", "different"


@dataclass(frozen=True)
class Drawn:
    """A question.

    Attributes:
        kind: ODD, PAIR or NAME.
        row: of the result.
        roles: of the pictures, in order.
        catch: '', IDENTICAL or DIFFERENT.
    """

    kind: str
    row: int
    roles: tuple[str, ...]
    catch: str = ""


@dataclass(frozen=True)
class Counts:
    """How many questions of each kind are wanted; `catch` of each kind of catch question."""

    pairs: int = 40
    odd: int = 20
    names: int = 0
    catch: int = 2


def draw_questions(
    rows: Rows, methods: Sequence[str], counts: Counts, usable: Usable, *, models: Sequence[str] = (), seed: int = 0
) -> list[Drawn]:
    """The questions of a study, in no particular order; fewer than wanted where there are no more rows.

    Args:
        rows: of a result.
        methods: of the result; rows are spread over the distances of the first, and plainly different faces are those
            that every method puts far apart: the method that puts them least far counts.
        counts: how many.
        usable: asked once for each row that is drawn; another is drawn in its place where it says no.
        models: the only ones that are asked about; empty for all.
        seed: of every draw.

    Raises:
        InputError: a model isn't in the result, or no row can be shown.
    """
    if strange := [m for m in models if m not in rows.codes("model")[1]]:
        raise InputError(f"the result has no model {listed(strange)}; it has {listed(rows.codes('model')[1])}")
    chosen = rows.ok.copy()
    if models:
        chosen &= np.any([rows.mask("model", m) for m in models], axis=0)
    apart = np.min([_ranks(rows.distance(m, "s2t"), chosen) for m in methods], axis=0)
    three = chosen & ~rows.without_source & (rows.distance(methods[0], "s2t") > 0)
    generator = np.random.default_rng(seed)
    near = rows.distance(methods[0], "t2c")

    def some(among: npt.NDArray[np.bool_], count: int) -> list[int]:
        return balanced(rows, np.flatnonzero(among), near, count, generator, usable)

    found = [Drawn(PAIR, i, ("target", "swapped")) for i in some(chosen, counts.pairs)]
    found += [Drawn(ODD, i, ("target", "source", "swapped")) for i in some(three, counts.odd)]
    faces = [Drawn(NAME, i, (role,)) for i in some(chosen, -(-counts.names // 2)) for role in ("swapped", "target")]
    found += list({_face(rows, d): d for d in faces[: counts.names]}.values())
    if not found:
        raise InputError("no row of the result can be shown: nothing was measured, or its pictures are gone")
    found += _catches(rows, found, three, apart, counts, usable)
    return found


def _face(rows: Rows, drawn: Drawn) -> tuple[object, object]:
    """The picture, and the place of the face in it: a picture may show several that are asked about."""
    record, role = rows.record(drawn.row), drawn.roles[0]
    return record[role], record.get(f"box_{role}")


def balanced(
    rows: Rows,
    among: Indices,
    distances: npt.NDArray[np.float64],
    count: int,
    generator: np.random.Generator,
    usable: Usable,
) -> list[int]:
    """Rows, as many of each model and as many near as far ones; rare groups before frequent ones.

    Each model's rows are put in the order of their distances and cut into as many parts as it has places; one row comes
    from each part. A model with fewer rows than places gives what it has.
    """
    codes, groups = rows.codes("model")[0], rows.codes("group")[0]
    models = generator.permutation(np.unique(codes[among]))
    taken: Counter[int] = Counter()
    found: list[int] = []
    for i, model in enumerate(models):
        own = among[codes[among] == model]
        own = own[np.argsort(distances[own], kind="stable")]
        places = min(count // len(models) + (i < count % len(models)), len(own))
        for part in np.array_split(own, places) if places else []:
            order = sorted(generator.permutation(part).tolist(), key=lambda row: taken[int(groups[row])])
            row = next((r for r in order if usable(r)), None)
            if row is not None:
                taken[int(groups[row])] += 1
                found.append(row)
    return found


def _catches(
    rows: Rows,
    found: Sequence[Drawn],
    three: npt.NDArray[np.bool_],
    apart: npt.NDArray[np.float64],
    counts: Counts,
    usable: Usable,
) -> Iterator[Drawn]:
    """Catch questions of the kinds that are asked."""
    pairs, odd = ([d.row for d in found if d.kind == kind] for kind in (PAIR, ODD))
    far: list[int] = []
    groups = rows.codes("group")[0]
    for row in sorted(np.flatnonzero(three).tolist(), key=lambda r: -apart[r]):
        if len(far) == 2 * counts.catch:
            break
        if groups[row] not in groups[far] and usable(row):
            far.append(row)
    if pairs:
        spread = pairs[:: max(1, len(pairs) // counts.catch)] if counts.catch else []
        yield from (Drawn(PAIR, r, ("target", "target"), IDENTICAL) for r in spread[: counts.catch])
        yield from (Drawn(PAIR, r, ("target", "source"), DIFFERENT) for r in far[: counts.catch])
    if odd:
        others = far[counts.catch :] or far
        yield from (Drawn(ODD, r, ("target", "source", "target"), DIFFERENT) for r in others[: counts.catch])


def _ranks(values: npt.NDArray[np.float64], among: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """(N,) places 0..1 of the values among some rows; -1 for others, and where there is none."""
    known = among & np.isfinite(values)
    ranks = np.full(len(values), -1.0)
    order = np.flatnonzero(known)[np.argsort(values[known], kind="stable")]
    ranks[order] = np.linspace(0, 1, len(order))
    return ranks
