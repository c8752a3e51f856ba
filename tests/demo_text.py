"""The demo's output in README.md and docs/first-evaluation.md, and the versions that made it: written and checked.

exprmetric demo --out demo && python tests/demo_text.py demo/result     # writes both pages
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import textwrap
from pathlib import Path

from exprmetric.evaluation.result import EvaluationResult
from exprmetric.evaluation.tables import page as told

ROOT = Path(__file__).resolve().parents[1]
README, FIRST = ROOT / "README.md", ROOT / "docs" / "first-evaluation.md"
BLOCK = re.compile(r"(<!-- DEMO -->\n```text\n)(.*?)(```\n<!-- /DEMO -->\n)", re.S)
VERSIONS = re.compile(r"\*Made with (.*?)\.\*", re.S)
NAMES = {
    "python": "Python",
    "numpy": "NumPy",
    "opencv-python": "OpenCV",
    "pillow": "Pillow",
    "dlib-bin": "dlib",
    "onnxruntime": "ONNX Runtime",
    "insightface": "insightface",
}
WITH_OTHERS = 0.02
"""By how much a mean of the table may differ where versions are other ones; the oldest supported move it by 0.011."""
WIDTH = 120


def versions(result: EvaluationResult) -> str:
    """`Python 3.11.7, NumPy 2.4.6, …`, of what the result was made with."""
    made = result.summary["environment"]
    return ", ".join(f"{name} {made[key]}" for key, name in NAMES.items() if key in made)


def printed(result: EvaluationResult) -> str:
    """What the demo prints, but for its last lines: how fast it was and where files are."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        told(result).say("table")
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    end = next(i for i, line in enumerate(lines) if "triplets/s" in line)
    folded: list[str] = []
    for line in [*lines[:2], *result.summary["verdict"][1:], *lines[table_of(lines) : end]]:
        folded += [line] if len(line) < WIDTH or line.startswith(" ") else textwrap.wrap(line, WIDTH)
    return "\n".join(folded) + "\n"


def table_of(lines: list[str]) -> int:
    """Where the table begins: the empty line above its head."""
    return next(i for i, line in enumerate(lines) if line.startswith(" method")) - 1


def excerpt(text: str) -> str:
    """README's part: the verdict without its first line and hints, and the first method."""
    lines = text.splitlines()
    start = table_of(lines)
    verdict = [line for line in lines[1:start] if "weights pull" not in line]
    method = lines[start + 1 : lines.index("", start + 1)]
    return "\n".join([*verdict, "…", *method, "…"]) + "\n"


def shown(page: Path) -> str:
    """The block that a page shows."""
    found = BLOCK.search(page.read_text(encoding="utf-8"))
    assert found is not None, f"{page.name} shows no demo"
    return found[2]


def write(result: EvaluationResult) -> None:
    """Both pages, from a result of the demo."""
    text, words = printed(result), textwrap.fill(f"*Made with {versions(result)}.*", WIDTH)
    for page, block in ((README, excerpt(text)), (FIRST, text)):
        old = page.read_text(encoding="utf-8")
        new = BLOCK.sub(lambda found, block=block: found[1] + block + found[3], old)
        page.write_text(VERSIONS.sub(lambda _: words, new), encoding="utf-8")


def means(text: str) -> list[float]:
    """Numbers of the table's rows in their order, without those of intervals."""
    rows = [line for line in text.splitlines() if re.match(r" +\S.* {2,}[\d–]", line)]
    return [float(n) for row in rows for n in re.findall(r"(?<![\d.])\d\.\d{3}", re.sub(r"\[.*?\]", "", row))]


if __name__ == "__main__":
    write(EvaluationResult.load(sys.argv[1]))
