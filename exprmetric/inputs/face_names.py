"""How a table names one of several faces in an image: by its number from the left, by a box, or by a photograph."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from exprmetric.io.tables import show

_NUMBER = r"-?\d{1,7}(?:\.\d{1,7})?"
_BOX = re.compile(rf"\s*({_NUMBER})[\s,]+({_NUMBER})[\s,]+({_NUMBER})[\s,]+({_NUMBER})\s*", re.ASCII)


@dataclass(frozen=True)
class NamedFace:
    """One face of an image. One of the three says which.

    Attributes:
        index: from the left, by the left edges of the faces' boxes; 0 is the leftmost.
        box: x0, y0, x1, y1 in px of the upright image: the face that overlaps it best.
        photo: a photograph of the person, for the identity network.
    """

    index: int | None = None
    box: tuple[float, ...] | None = None
    photo: Path | None = None

    @classmethod
    def parse(cls, text: str, base: Path = Path()) -> NamedFace | None:
        """`2`, `120 80 260 240`, or the path of a photograph, which starts at `base`; None for ''."""
        text = text.strip()
        if not text:
            return None
        if re.fullmatch(r"\d{1,4}", text, re.ASCII):
            return cls(index=int(text))
        if found := _BOX.fullmatch(text):
            return cls(box=tuple(float(number) for number in found.groups()))
        return cls(photo=base / text)

    def __str__(self) -> str:
        """As messages quote it."""
        if self.index is not None:
            return f"number {self.index} from the left (0 is the leftmost)"
        if self.box is not None:
            return f"at {' '.join(f'{v:g}' for v in self.box)}"
        return f"of {show(self.photo or Path())}"
