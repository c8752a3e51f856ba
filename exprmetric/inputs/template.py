"""File names by a template such as `{target}_{source}.png`: parsed, written, told apart where they are ambiguous."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import PurePosixPath

from exprmetric.errors import InputError

FIELDS = ("target", "source", "model", "frame", "id")
NEEDED = ("target", "source")
MOST_SPLITS = 1000
"""Ways to split one name that are looked at; names with more are refused."""

Split = dict[str, str]
"""What a name says: a value for each field of the template."""


@dataclass(frozen=True)
class Template:
    """Text around fields, as `parse_template` makes it.

    Attributes:
        text: as the user wrote it.
        fields: their names, from left to right.
        literals: the text before, between and behind them: one more than fields.
    """

    text: str
    fields: tuple[str, ...]
    literals: tuple[str, ...]

    def format(self, values: Mapping[str, str]) -> str:
        """The name that these values give; other values than the template's fields are not looked at."""
        filled = (literal + values[field] for literal, field in zip(self.literals, self.fields, strict=False))
        return "".join(filled) + self.literals[-1]

    def splits(self, name: str) -> Iterator[Split]:
        """Every way to read a name, the shortest first values first. Values are not empty and hold no '/'."""
        if not name.startswith(self.literals[0]):
            return

        def ends(at: int, start: int) -> Iterator[int]:
            """Where the value of a field that starts here may end, without a look at the fields behind it."""
            stop = name.find("/", start)
            stop = len(name) if stop < 0 else stop
            literal = self.literals[at + 1]
            if at == len(self.fields) - 1:
                end = len(name) - len(literal)
                if start < end <= stop and name.endswith(literal):
                    yield end
                return
            end = name.find(literal, start + 1)
            while 0 <= end <= stop:
                yield end
                end = name.find(literal, end + 1)

        @cache
        def possible(at: int, start: int) -> bool:  # keeps dead ends from being walked again and again
            return at == len(self.fields) or any(
                possible(at + 1, end + len(self.literals[at + 1])) for end in ends(at, start)
            )

        def walk(at: int, start: int) -> Iterator[Split]:
            if at == len(self.fields):
                yield {}
                return
            for end in ends(at, start):
                behind = end + len(self.literals[at + 1])
                if possible(at + 1, behind):
                    for rest in walk(at + 1, behind):
                        yield {self.fields[at]: name[start:end], **rest}

        yield from walk(0, len(self.literals[0]))


def parse_template(text: str, needed: Sequence[str] = NEEDED) -> Template:
    """Read a template: fields `{target}` and `{source}`, perhaps `{model}`, `{frame}`, `{id}`; `{{` stands for a brace.

    Args:
        needed: fields that it must have.

    Raises:
        InputError: what is wrong with it: a brace without its partner, an unknown, doubled or missing field, two fields
            with no text between them, a wildcard, or text that leads out of the folder.
    """
    try:
        pieces = list(string.Formatter().parse(text))
    except ValueError as error:
        raise _wrong(text, f"{error}; write {{{{ for a brace that is meant") from None
    literals: list[str] = [""]
    fields: list[str] = []
    for literal, field, spec, conversion in pieces:
        literals[-1] += literal
        if field is None:
            continue
        if field not in FIELDS or spec or conversion:
            found = field + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            raise _wrong(text, f"there is no field {{{found}}}; the fields are {_braced(FIELDS)}")
        if field in fields:
            raise _wrong(text, f"{{{field}}} occurs twice")
        if fields and not literals[-1]:
            raise _wrong(
                text, f"nothing stands between {{{fields[-1]}}} and {{{field}}}, so names can't be split there"
            )
        fields.append(field)
        literals.append("")
    if missing := [field for field in needed if field not in fields]:
        raise _wrong(text, f"{_braced(missing)} is missing")
    _check_path(text, "x".join(literals))
    return Template(text, tuple(fields), tuple(literals))


def choose(
    splits: Sequence[Split], has_target: Callable[[Split], bool], has_source: Callable[[Split], bool]
) -> tuple[Split | None, str]:
    """The one way to read a name whose target and source exist, or None and why there is no such.

    Where no way has both, the only one that has either is taken, or the only one at all: what it lacks can be named.
    """
    if len(splits) > MOST_SPLITS:
        return None, f"its name can be split in more than {MOST_SPLITS} ways"
    both = [split for split in splits if has_target(split) and has_source(split)]
    if len(both) > 1:
        return None, f"its name can be read in {len(both)} ways: {_ways(both)}; rename it, or use a manifest"
    either = both or [split for split in splits if has_target(split) or has_source(split)] or list(splits)
    if len(either) == 1:
        return either[0], ""
    return None, f"none of the {len(splits)} ways to read its name has both images: {_ways(splits)}"


def first_splits(template: Template, name: str) -> list[Split]:
    """All ways to read a name, or one more than `MOST_SPLITS`."""
    return list(islice(template.splits(name), MOST_SPLITS + 1))


def _ways(splits: Sequence[Split], most: int = 4) -> str:
    ways = [", ".join(f"{field} {value!r}" for field, value in split.items()) for split in splits[:most]]
    return " or ".join(f"({way})" for way in ways) + (" or …" if len(splits) > most else "")


def _check_path(text: str, example: str) -> None:
    if "*" in example:
        raise _wrong(text, "'*' is no wildcard here; use the fields")
    if "\\" in example or "\0" in example:
        raise _wrong(text, "folders are separated by '/', and no NUL may occur")
    if example.startswith("/") or any(part in ("", ".", "..") for part in example.split("/")):
        raise _wrong(text, "it must be a path below the folder, without '.', '..' or empty parts")
    if any("\ud800" <= letter <= "\udfff" for letter in example):
        raise _wrong(text, "it holds half a character")


def _braced(fields: Sequence[str]) -> str:
    return ", ".join(f"{{{field}}}" for field in fields)


def _wrong(text: str, why: str) -> InputError:
    return InputError(f"`template` {text!r}: {why}")


def without_suffix(name: str, suffixes: frozenset[str]) -> str:
    """The name less its suffix, if that is one of these (lower case): `a.b.PNG` → `a.b`, `a.b` stays."""
    suffix = PurePosixPath(name).suffix
    return name[: -len(suffix)] if suffix.lower() in suffixes else name
