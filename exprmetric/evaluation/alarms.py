"""Alarms: signs that a result measures something else than was meant, each a plain sentence with its number.

A swapped face has the person of its source and the expression of its target. So in each row the identity control
says which two of the three faces are one person, the methods say which two have one expression, and the face that is
in both pairs is the swapped one, whatever its column says.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from exprmetric.methods.identity import SAME_PERSON

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int8]

LEAST = 3
"""Rows that an alarm about the roles needs at least: one face alone may be odd."""
MOST = 0.5
"""An alarm is raised where more than this share of the rows that can tell shows its sign."""
UNMOVED = 0.3
"""Identity distance below which nothing has happened to a face: half of what two photographs of one person may have."""
TOWARDS = 0.45
"""Cosine between the way from the target to the swapped face and that to the source, below which the one hardly leads
the other way. Swaps mixed with their targets, 110 pairs: 0.59 and 0.69 (medians at 35 and 50 % of the swap) to their
own source, 0.22 and 0.30 to somebody else's; 98 % of unmixed swaps have 0.69 and more."""
COPY = 0.05
"""Share of the distance between source and target below which two faces have the very same expression."""
LOST = 0.8
"""Without the identity control: share of rows with the source's expression that is an alarm, of LOST_ROWS at least."""
LOST_ROWS = 5

PAIRS = (("target", "swapped"), ("source", "swapped"), ("source", "target"))
"""The two faces of each of the columns t2c, s2c, s2t."""
T2C, S2C, S2T, NEITHER = 0, 1, 2, -1


def find_alarms(
    expressions: Mapping[str, Floats],
    identity: Floats | None,
    models: Mapping[str, Mask],
    *,
    rows: str = "rows",
) -> list[str]:
    """What is suspicious about N measured rows.

    Args:
        expressions: by method that measures expressions, (N, 3) t2c, s2c, s2t; NaN where a row has no source.
        identity: the same of the identity control; None where it was not measured.
        models: (N,) which rows are each model's. A sign that not all of them show is told of those that do.
        rows: what the rows are called.

    Returns:
        Sentences; none for a healthy result.
    """
    everything = np.ones(len(_first(expressions, identity)), bool)
    whole = _signs(expressions, identity, everything, rows)
    if len(models) < 2:
        return list(whole.values())
    parts = {name: _signs(expressions, identity, part, rows) for name, part in sorted(models.items()) if part.any()}
    found: list[str] = []
    for kind in dict.fromkeys([*whole, *(kind for signs in parts.values() for kind in signs)]):
        those = [name or "(none named)" for name, signs in parts.items() if kind in signs]
        if kind not in whole:
            found += [
                f"Model {name or '(none named)'}: {signs[kind]}" for name, signs in parts.items() if kind in signs
            ]
        elif those and len(those) < len(parts):
            found.append(f"{whole[kind]} Models that show it by themselves: {', '.join(those)}.")
        else:
            found.append(whole[kind])
    return found


def _first(expressions: Mapping[str, Floats], identity: Floats | None) -> Floats:
    return next(iter(expressions.values()), np.empty((0, 3)) if identity is None else identity)


def _signs(expressions: Mapping[str, Floats], identity: Floats | None, part: Mask, rows: str) -> dict[str, str]:
    """Sentences by kind, of some of the rows."""
    chosen = [values[part] for values in expressions.values()]
    if identity is None:
        return _without_identity(chosen, rows)
    people = identity[part]
    roles = _roles(people, _nearest_by_vote(chosen, len(people)), rows)
    # with roles mixed up, it is another face that moved or not, and another's person that it got
    return _one_picture(people, rows) | (roles or _unmoved(people, rows) | _stranger(people, rows))


def _unmoved(people: Floats, rows: str) -> dict[str, str]:
    """The swapped face is still the target's person, who isn't the source."""
    t2c, _, s2t = people.T
    known = np.isfinite(t2c) & ~(s2t < SAME_PERSON)
    sign = known & (t2c < UNMOVED)
    if not _most(sign, known, 1):
        return {}
    mean = float(t2c[sign].mean())
    return {
        "unmoved": f"Nothing seems to have been swapped in {_of(sign, known, rows)}: the identity control sees the "
        f"target's person unchanged (mean distance {mean:.2f}, and two photographs of one person have up to "
        f"{SAME_PERSON}). Are the swapped images copies of the targets?"
    }


def _one_picture(people: Floats, rows: str) -> dict[str, str]:
    """Source and target are one photograph: nothing was to be swapped."""
    s2t = people[:, 2]
    known = np.isfinite(s2t)
    sign = known & (s2t < COPY)
    if not _most(sign, known, 1):
        return {}
    return {
        "one_picture": f"Target and source are the same picture in {_of(sign, known, rows)} (identity distance below "
        f"{COPY}): the L2 error and the ratio say nothing there."
    }


def _roles(people: Floats, expression: Codes, rows: str) -> dict[str, str]:
    """The face that shares its person with one and its expression with another stands in a wrong column."""
    person = _pair_of_one_person(people)
    known = (person != NEITHER) & (expression != NEITHER)
    for same_person in (T2C, S2C, S2T):
        for same_expression in (T2C, S2C, S2T):
            sign = known & (person == same_person) & (expression == same_expression)
            if (same_person, same_expression) == (S2C, T2C) or not _most(sign, known, LEAST):
                continue
            if same_person != same_expression:
                return {"roles": _mixed_up(same_person, same_expression, _of(sign, known, rows))}
            if same_person == S2C and _most(sign & (people[:, S2C] < UNMOVED), known, LEAST):
                return {
                    "pasted": f"The swapped face has the source's person and the source's expression in "
                    f"{_of(sign, known, rows)}. Are the swapped images copies of the sources?"
                }
    return {}


def _mixed_up(same_person: int, same_expression: int, count: str) -> str:
    """What a permutation of the roles looks like, and which it may be."""
    (swapped,) = set(PAIRS[same_person]) & set(PAIRS[same_expression])
    (source,) = set(PAIRS[same_person]) - {swapped}
    (target,) = set(PAIRS[same_expression]) - {swapped}
    moved = {"swapped": swapped, "source": source, "target": target}
    wrong = [role for role, given in moved.items() if role != given]
    question = f"Are {wrong[1]} and {wrong[0]} exchanged?" if len(wrong) == 2 else "Are the three roles mixed up?"
    return (
        f"In {count} the face given as {swapped} has the person of the one given as {source} and the expression of "
        f"the one given as {target}, as a swapped face has those of its source and its target. {question}"
    )


def _stranger(people: Floats, rows: str) -> dict[str, str]:
    """The person changed, and not into the source's."""
    t2c, s2c, s2t = people.T
    known = np.isfinite(people).all(axis=1) & (s2t >= SAME_PERSON)
    with np.errstate(invalid="ignore", divide="ignore"):
        towards = (t2c**2 + s2t**2 - s2c**2) / (2 * t2c * s2t)
    gone = t2c >= SAME_PERSON
    sign = known & (s2c >= SAME_PERSON) & (gone | ((t2c >= UNMOVED) & (towards < TOWARDS)))
    if not _most(sign, known, LEAST):
        return {}
    how = "is it the target's any more" if _most(sign & gone, sign, 1) else "did the target's move towards it"
    return {
        "stranger": f"The swapped face is not recognised as its source's person in {_of(sign, known, rows)}, nor {how} "
        f"(mean identity distance to the source {s2c[sign].mean():.2f}, to the target {t2c[sign].mean():.2f}; one "
        f"person: up to {SAME_PERSON}). Is `source` the face that was swapped in?"
    }


def _without_identity(methods: list[Floats], rows: str) -> dict[str, str]:
    """What the expressions alone can say."""
    if not methods:
        return {}
    known = np.logical_and.reduce([np.isfinite(m).all(axis=1) & (m[:, S2T] > 0) for m in methods])
    same = known & np.logical_and.reduce([m[:, T2C] < COPY * m[:, S2T] for m in methods])
    if _most(same, known, LEAST):
        return {
            "unmoved": f"Nothing seems to have been swapped in {_of(same, known, rows)}: by every method the swapped "
            f"face is within {COPY:.0%} of the target".replace("%", " %")
            + ". Measure the identity control too."
        }
    nearer = [m.argmin(axis=1) == T2C for m in (np.nan_to_num(m, nan=np.inf) for m in methods)]
    kept, lost = known & np.logical_and.reduce(nearer), known & ~np.logical_or.reduce(nearer)
    told = kept | lost  # by all methods alike: the jaw of landmarks follows the source's face
    if lost.sum() >= LOST_ROWS and lost.sum() >= LOST * told.sum():
        return {
            "roles": f"The swapped face does not have the target's expression in {_of(lost, told, rows)}: two others "
            "of the three faces are nearer to each other. Are the roles mixed up? The identity control would tell."
        }
    return {}


def _pair_of_one_person(people: Floats) -> Codes:
    """(N,) which two of the three faces are one person, the third being another; NEITHER where that isn't clear."""
    near = people < SAME_PERSON
    clear = np.isfinite(people).all(axis=1) & (near.sum(axis=1) == 1)
    return np.where(clear, near.argmax(axis=1), NEITHER).astype(np.int8)


def _nearest_by_vote(methods: list[Floats], count: int) -> Codes:
    """(N,) which two of the three faces have the nearest expressions, by more than half of the methods."""
    votes = np.zeros((count, 3), np.int64)
    for values in methods:
        told = np.flatnonzero(np.isfinite(values).all(axis=1))
        votes[told, values[told].argmin(axis=1)] += 1
    return np.where(2 * votes.max(axis=1) > len(methods), votes.argmax(axis=1), NEITHER).astype(np.int8)


def _most(sign: Mask, known: Mask, least: int) -> bool:
    count = int(sign.sum())
    return count >= least and count > MOST * int(known.sum())


def _of(sign: Mask, known: Mask, rows: str) -> str:
    return f"{int(sign.sum())} of {int(known.sum())} {rows}"
