"""The table of `recipes.py`: each row's budget, its scores over seeds, and intervals.

A cell is the mean over a row's seeds. Behind ± stands half of a 95 % interval of that mean. It joins two things: the
bootstrap over faces (or people) that each run has, and Student's t over the seeds, where there are several.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from scipy.special import stdtrit

PROTOCOLS = {
    "linear": ("linear", "accuracy", 100), "10-NN": ("10-nn", "accuracy", 100), "30-NN": ("30-nn", "accuracy", 100),
    "head recall": ("head", "mean_recall", 100), "votes r": ("agreement", "rank_correlation", 1),
    "votes odd one": ("triplets", "accuracy", 100), "leak AUC": ("leak", "auc", 1),
}  # fmt: skip
"""Heading → protocol, score, factor."""

Score = tuple[float, float]
"""A value, and half of its interval."""


def joined(scores: list[Score]) -> str:
    """One cell from the scores of a row's seeds; '' where there is none."""
    found = [(v, h) for v, h in scores if math.isfinite(v)]
    if not found:
        return ""
    n = len(found)
    mean = sum(v for v, _ in found) / n
    over_faces = sum(h**2 for _, h in found) / n
    spread = sum((v - mean) ** 2 for v, _ in found) / (n - 1) if n > 1 else 0.0
    student = float(stdtrit(n - 1, 0.975)) if n > 1 else 0.0
    half = math.sqrt(over_faces + student**2 * spread / n)
    return f"{mean:.3f} ±{half:.3f}" if abs(mean) < 1.5 else f"{mean:.1f} ±{half:.1f}"


def of(found: Any, score: str, factor: float = 1) -> Score | None:
    """A score in a result's JSON; None where it wasn't measured."""
    if not isinstance(found, dict) or not isinstance(found.get("scores", found).get(score), dict):
        return None
    cell = found.get("scores", found)[score]
    if cell.get("value") is None:
        return None
    low, high = cell.get("ci95") or (cell["value"], cell["value"])
    return factor * cell["value"], factor * (high - low) / 2


def views(folder: Path) -> int:
    """Faces that a run saw: epochs in its log times the whole batches of its limit."""
    config = json.loads((folder / "config.json").read_text())
    log = folder / "log.jsonl"
    epochs = len(log.read_text().splitlines()) if log.exists() else 0
    return epochs * (int(config["limit"]) // int(config["batch"])) * int(config["batch"])


def finetuned(folder: Path) -> Score | None:
    """Accuracy on RAF-DB's test faces in per cent; its interval is the binomial's."""
    path = folder / "scores.json"
    if not path.exists():
        return None
    found = json.loads(path.read_text())["test"]
    share = found["accuracy"]
    return 100 * share, 196 * math.sqrt(share * (1 - share) / found["n"])


def write_table(out: Path, made: list[str]) -> Path:
    """`out/table.md` from what the judges wrote; `made` are the names of the runs."""
    judged = json.loads((out / "protocols.json").read_text())["sets"]
    agreement = out / "rated" / "agreement.json"
    people = json.loads(agreement.read_text())["methods"] if agreement.exists() else {}
    runs: dict[str, list[str]] = defaultdict(list)
    for name in [*made, "default", "lm68"]:
        runs[name.partition("@")[0]].append(name)
    columns: dict[str, dict[str, list[Score]]] = defaultdict(lambda: defaultdict(list))
    for row, names in runs.items():
        for name in names:
            for dataset, report in judged.items():
                for heading, (protocol, score, factor) in PROTOCOLS.items():
                    found = of(report["encoders"].get(name, {}).get(protocol), score, factor)
                    columns[f"{dataset}: {heading}"][row] += [found] if found else []
            for dataset, scores in people.get(name, {}).get("rated", {}).items():
                found = of(scores.get("across"), "triplet_accuracy", 100)
                columns[f"{dataset}: triplets"][row] += [found] if found else []
        for seed in sorted((out / "finetuned").glob(f"{row}*")):
            found = finetuned(seed) if seed.name.partition("@")[0] == row else None
            columns["rafdb: fine-tuned"][row] += [found] if found else []
    shown = [heading for heading, rows in columns.items() if any(rows.values())]
    lines = [f"| {' | '.join(['encoder', 'views', 'seeds', *shown])} |", "| --- |" + " ---: |" * (2 + len(shown))]
    for row, names in runs.items():
        trained = [n for n in names if (out / n / "config.json").exists()]
        seen = f"{max(map(views, ((out / n) for n in trained))):,}" if trained else ""
        cells = [row, seen, str(len(trained) or ""), *(joined(columns[heading][row]) for heading in shown)]
        lines.append(f"| {' | '.join(cells)} |")
    path = out / "table.md"
    path.write_text("\n".join(lines) + "\n")
    return path
