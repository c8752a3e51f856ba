"""The README's picture: three swaps of the demo, and how far each moved from its target's expression.

    python examples/readme_picture.py docs/images/kept.svg

The swaps are made and measured as `exprmetric demo` does it; nothing is downloaded. The picture is one file and follows
the reader's light or dark colours.
"""

from __future__ import annotations

import base64
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

import exprmetric
from exprmetric.demo.make import make_swaps

SWAPS = ("astronaut-0_t1-0", "t1-5_t1-0", "t1-0_astronaut-0")
"""Kept, half lost, lost."""
ROLES = ("target", "source", "swapped")
WIDTH, SIDE, GAP, HEAD, ROW = 640, 112, 8, 36, 126
EDGE = 16
"""Around it all, px."""
FIRST, LAST = 3 * (SIDE + GAP) + 22, WIDTH - 14
"""Ends of the bars, px."""

STYLE = """
text { font: 21px system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328 }
.name { fill: #59636e }
.paper { fill: #ffffff }
.rail { stroke: #d1d9e0; stroke-width: 10; stroke-linecap: round }
.moved { stroke: #cf222e; stroke-width: 10; stroke-linecap: round }
.dot { fill: #ffffff; stroke: #cf222e; stroke-width: 5 }
@media (prefers-color-scheme: dark) {
  .paper { fill: #0d1117 } text { fill: #f0f6fc } .name { fill: #9198a1 } .rail { stroke: #3d444d }
  .moved, .dot { stroke: #ff7b72 } .dot { fill: #0d1117 }
}
"""


def face(path: Path, x: int, y: int) -> str:
    """One face at a place of the picture, as a data address."""
    file = io.BytesIO()
    with Image.open(path) as image:
        image.resize((2 * SIDE, 2 * SIDE), Image.Resampling.LANCZOS).save(file, "JPEG", quality=82)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<image x="{x}" y="{y}" width="{SIDE}" height="{SIDE}" href="data:image/jpeg;base64,{data}"/>'


def bar(t2c: float, s2t: float, y: int) -> str:
    """How far the swap moved: from the target's expression (left end) to the source's (right end)."""
    x = round(FIRST + (LAST - FIRST) * min(t2c / s2t, 1.0))
    text = f"t2c {t2c:.2f} of {s2t:.2f}"
    return (
        f'<path class="rail" d="M{FIRST} {y}H{LAST}"/><path class="moved" d="M{FIRST} {y}H{x}"/>'
        f'<circle class="dot" cx="{x}" cy="{y}" r="9"/><text x="{FIRST - 5}" y="{y + 38}">{text}</text>'
    )


def draw(folder: Path, rows: dict[str, tuple[float, float]]) -> str:
    """The SVG: by the swap's name its t2c and s2t."""
    names = [f'<text class="name" x="{i * (SIDE + GAP)}" y="20">{role}</text>' for i, role in enumerate(ROLES)]
    ends = f'<text class="name" x="{FIRST - 5}" y="20">target\'s</text>'
    ends += f'<text class="name" x="{LAST + 5}" y="20" text-anchor="end">source\'s</text>'
    parts = [*names, ends]
    for i, (name, (t2c, s2t)) in enumerate(rows.items()):
        top = HEAD + i * ROW
        parts += [face(folder / role / f"{name}.png", j * (SIDE + GAP), top) for j, role in enumerate(ROLES)]
        parts.append(bar(t2c, s2t, top + SIDE // 2 - 8))
    height = HEAD + len(rows) * ROW - (ROW - SIDE)
    wide, high = WIDTH + 2 * EDGE, height + 2 * EDGE
    size = f'viewBox="{-EDGE} {-EDGE} {wide} {high}" width="{wide}" height="{high}"'
    paper = f'<rect class="paper" x="{-EDGE}" y="{-EDGE}" width="{wide}" height="{high}" rx="8"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>{paper}{"".join(parts)}</svg>\n'


def main(out: Path) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        make_swaps(folder)
        result = exprmetric.evaluate(folder, ["default"], detector="dlib", identity=False)
        measured = {row["id"]: row for row in result.triplets}
        rows = {name: (measured[name]["default.t2c"], measured[name]["default.s2t"]) for name in SWAPS}
        out.write_text(draw(folder, rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
