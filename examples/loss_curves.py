"""Loss curves of a training run, as `exprmetric train` logged them (needs matplotlib).

python examples/loss_curves.py runs/mine/log.jsonl curves.svg
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def draw(log: Path, out: Path) -> None:
    """One panel a loss term: training and validation by epoch; the dot marks the epoch that was kept."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    lines = [json.loads(line) for line in log.read_text().splitlines()]
    terms = [t for t in lines[0]["valid"] if any(line["valid"][t] for line in lines)]
    kept = max(line["epoch"] for line in lines if line["best"])
    figure, panels = plt.subplots(1, len(terms), figsize=(4 * len(terms), 3), squeeze=False)
    for panel, term in zip(panels[0], terms, strict=True):
        for part, style in (("train", "--"), ("valid", "-")):
            panel.plot([line["epoch"] for line in lines], [line[part][term] for line in lines], style, label=part)
        panel.plot(kept, next(line["valid"][term] for line in lines if line["epoch"] == kept), "ko", label="kept")
        panel.set_title(term)
        panel.set_xlabel("epoch")
        panel.legend()
    figure.tight_layout()
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
