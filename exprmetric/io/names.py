"""Names of files: their natural order, the numbers in them, and which of two written differently are the same.

This is the one rule for folders of frames, wherever one is read. Names alone are looked at here, never files.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import PurePosixPath

_DIGITS = re.compile(r"([0-9]+)")
_MOST_DIGITS = 15  # of a frame's number: more are dates, hashes, addresses
_MOST_COMPARED = 1000  # names that a misspelled one is compared with
_LIKE = 0.6  # least likeness of a misspelled name, 0..1


def natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Key that sorts names as people count: 2 before 10, by the name without its suffix; a9, a10, b2, b10."""
    stem = str(PurePosixPath(name).with_suffix("")) if PurePosixPath(name).name else name
    parts = [part for part in _DIGITS.split(stem) if part]
    return [_counted(part) if part[0] in "0123456789" else (0, 0, part) for part in parts], name


def _counted(digits: str) -> tuple[int, int, str]:
    digits = digits.lstrip("0")
    return 1, len(digits), digits


def numbers(stems: Sequence[str]) -> tuple[int, ...] | None:
    """The number of each frame, as the names of a folder (without suffix) tell it; None where they don't.

    All names are the same but for one run of digits, which differs from frame to frame: 0001, frame-12, 7_swapped.
    """
    parts = [_DIGITS.split(stem) for stem in stems]
    if not parts or len(parts[0]) < 3 or any(p[::2] != parts[0][::2] for p in parts):
        return None
    columns = list(zip(*(p[1::2] for p in parts), strict=True))
    changing = [c for c in columns if len({digits.lstrip("0") for digits in c}) > 1] if len(stems) > 1 else columns
    if len(changing) != 1 or max(map(len, changing[0])) > _MOST_DIGITS:
        return None
    found = tuple(map(int, changing[0]))
    return found if len(set(found)) == len(found) else None


def places(stems: Sequence[str]) -> list[int]:
    """Where frames stand on an even grid of time that begins with 0, from their names in natural order.

    A frame that is missing between two numbers leaves its place empty. Names that tell no numbers, or numbers that are
    no multiples of their most frequent step (times of day), stand side by side.
    """
    return grid(stems)[0]


def grid(stems: Sequence[str]) -> tuple[list[int], int]:
    """`places`, and by how much the numbers grow from one place to the next: 1 where they tell none."""
    found = numbers(stems)
    if found is None or len(found) < 2:
        return list(range(len(stems))), 1
    steps = Counter(b - a for a, b in pairwise(found))
    step = min(steps, key=lambda s: (-steps[s], s))
    if step <= 0 or any(s % step for s in steps):
        return list(range(len(stems))), 1
    return [(number - found[0]) // step for number in found], step


def composed(name: str) -> str:
    """The name in Unicode's composed form: macOS writes é as two characters."""
    return unicodedata.normalize("NFC", name)


def plain(name: str) -> str:
    """What is left of a name without what people write differently: Unicode form, case, zeros before a number."""
    return _DIGITS.sub(lambda digits: digits[0].lstrip("0") or "0", composed(composed(name).casefold()))


_FORMS: tuple[Callable[[str], str], ...] = (composed, plain)


def alike(names: Iterable[str], among: Iterable[str]) -> dict[str, str]:
    """By name, the one of `among` that is the same name written differently; those with none or several are left out.

    Names that are equal to one of `among` are no question, and are left out too.
    """
    names, among = set(names), set(among)
    found: dict[str, str] = {}
    for form in _FORMS:
        ours, theirs = _by(form, names), _by(form, among)
        only = {ours[key][0]: theirs[key][0] for key in ours if len(ours[key]) == len(theirs.get(key, ())) == 1}
        found = {name: other for name, other in only.items() if name != other} | found
    return found


def _by(form: Callable[[str], str], names: Iterable[str]) -> Mapping[str, Sequence[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        found[form(name)].append(name)
    return found


def nearest(name: str, among: Iterable[str], most: int = 3) -> list[str]:
    """The names that are spelled most like this one, the likest first; [] where none is, or there are very many."""
    names = list(dict.fromkeys(among))
    if len(names) > _MOST_COMPARED:
        return []
    likeness = {other: SequenceMatcher(None, plain(name), plain(other)).ratio() for other in names}
    return sorted((n for n in names if likeness[n] >= _LIKE), key=lambda n: (-likeness[n], n))[:most]


def misspelling(name: str, other: str) -> float:
    """How much of two names is spelled alike, 0..1; 0 where their numbers differ: another number is no misspelling."""
    a, b = plain(name), plain(other)
    return SequenceMatcher(None, a, b).ratio() if _DIGITS.findall(a) == _DIGITS.findall(b) else 0.0


def affixes(stems: Sequence[str]) -> tuple[str, str]:
    """What all names begin and end with, up to a `_`, `-`, `.` or space: ('swap_', '') of swap_a, swap_b."""
    if len(stems) < 2:
        return "", ""
    low, high = min(stems), max(stems)
    shared = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    begin = re.match(r".*[_\-. ]", low[:shared], re.DOTALL)
    head = begin[0] if begin else ""
    backwards = [stem[len(head) :][::-1] for stem in stems]
    low, high = min(backwards), max(backwards)
    shared = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    end = re.match(r".*[_\-. ]", low[:shared], re.DOTALL)
    return head, end[0][::-1] if end else ""
