"""Paper 000's table II beside what this toolkit measures on the 123 published swaps, by the same three methods.

    python benchmarks/table_two.py swaps_dev/        # a minute on two cores; prints Markdown

swaps_dev/ is the folder with `triplets.csv` and its images. Whether target and source show the same expression stands
in `swaps_labels.csv` beside this file. Each picture was labelled once, by eye, with one of the eight names: no raters
were asked. Slight smiles are happiness, and what could not be told is neutral. The labels only split the rows; no score
depends on them.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path
from typing import Any

import exprmetric

LABELS = Path(__file__).with_name("swaps_labels.csv")
METHODS = ("default", "lm68", "lm51")
SCORES = ("l2_error", "mean_t2c", "ratio")
PAPER = {
    "different_label": {"default": (0.07, 0.17, 0.73), "lm68": (0.29, 0.32, 0.39), "lm51": (0.28, 0.31, 0.49)},
    "same_label": {"default": (0.07, 0.17, 0.70), "lm68": (0.31, 0.38, 0.39), "lm51": (0.35, 0.35, 0.47)},
}
"""Table II: L2 error, mean t2c, ratio. Its first row, "Ours", is the paper's encoder, and here it is `default`."""


def manifest(swaps: Path, path: Path) -> Path:
    """The swaps' table with the labels in it, and absolute paths."""
    with LABELS.open(newline="") as file:
        labels = {row["id"]: row for row in csv.DictReader(file)}
    with (swaps / "triplets.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    if strange := {row["id"] for row in rows} ^ labels.keys():
        raise SystemExit(f"{swaps / 'triplets.csv'} has other rows than {LABELS}, such as {min(strange)!r}")
    with path.open("w", newline="") as file:
        columns = ("id", "model", "target", "source", "swapped", "target_label", "source_label")
        table = csv.DictWriter(file, columns, extrasaction="ignore")
        table.writeheader()
        for row in rows:
            paths = {role: str((swaps / row[role]).resolve()) for role in ("target", "source", "swapped")}
            table.writerow({**row, **paths, **labels[row["id"]]})
    return path


def table(summary: dict[str, Any]) -> str:
    """Markdown: by split and method, the paper's three numbers and ours with their intervals."""
    headings = ("L2 error ↓", "mean t2c ↓", "ratio ↑")
    lines = ["| target and source | method | n | " + " | ".join(f"{h}, paper | {h}, here" for h in headings) + " |"]
    lines.append("| --- | --- | ---: |" + " ---: |" * 6)
    for split, quoted in PAPER.items():
        for method, paper in quoted.items():
            found = summary["groups"][split]["methods"][method]
            cells = []
            for name, value in zip(SCORES, paper, strict=True):
                low, high = found[name]["ci95"]
                cells += [f"{value:.2f}", f"{found[name]['value']:.2f} [{low:.2f}, {high:.2f}]"]
            lines.append(f"| {split.split('_')[0]} | {method} | {found['n']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        result = exprmetric.evaluate(manifest(Path(sys.argv[1]), Path(folder) / "swaps.csv"), METHODS)
    print(table(result.summary))


if __name__ == "__main__":
    main()
