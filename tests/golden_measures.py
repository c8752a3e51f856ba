"""What the golden files hold: the same measurements, taken by the public names alone, at any commit.

python tests/golden_measures.py swaps FOLDER     # prints JSON; also demo, torch, video
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

LANDMARKS = ("lm68", "lm51")
FAST = {"detector": "dlib", "identity": False}


def _scores(result: Any) -> dict[str, Any]:
    """Coverage, each method's scores, and the distances of every tenth row."""
    rows = [
        {k: v for k, v in row.items() if k in ("id", "status") or k.partition(".")[0] in LANDMARKS}
        for row in result.triplets[::10]
    ]
    methods = {n: {k: v for k, v in m.items() if k != "fingerprint"} for n, m in result.summary["methods"].items()}
    return {"coverage": result.summary["coverage"], "methods": methods, "rows": rows}


def swaps(folder: Path) -> dict[str, Any]:
    """The published swaps of swaps_dev.zip, by landmarks."""
    import exprmetric

    return _scores(exprmetric.evaluate(folder, LANDMARKS, **FAST))


def demo() -> dict[str, Any]:
    """The demonstration's swaps, by landmarks."""
    import exprmetric
    from exprmetric.demo.make import make_swaps

    with tempfile.TemporaryDirectory() as folder:
        make_swaps(Path(folder))
        return _scores(exprmetric.evaluate(folder, LANDMARKS, **FAST))


def torch_metric() -> dict[str, Any]:
    """`ExpressionPreservation` on blends of real faces, with the encoder that it was computed by."""
    import torch_faces

    from exprmetric.torch import ExpressionPreservation

    encoder = torch_faces.encoder(quantise=True)
    metric = ExpressionPreservation(encoder=encoder)
    metric.update(*map(torch_faces.batch, torch_faces.triplets()))
    return {"encoder": encoder.fingerprint, "scores": {k: float(v) for k, v in metric.compute().items()}}


def video(folder: Path) -> dict[str, Any]:
    """Two clips of one head, the second six frames late, by lm51."""
    import numpy as np
    import skimage
    from clips import Actor, write

    try:
        from exprmetric.video.scores.evaluate import VideoSettings, evaluate_video
    except ImportError:  # before the rooms
        from exprmetric.video.evaluate import VideoSettings, evaluate_video

    photo = Path(skimage.__file__).parent / "data" / "astronaut.png"
    actor, t = Actor(photo), np.arange(-6, 24)
    shown = actor.play(np.exp(-(((t - 9) / 2.5) ** 2)).tolist())
    write(folder / "target.mp4", shown[6:])
    write(folder / "late.mp4", shown[:-6])
    settings = VideoSettings(detector="dlib", detect_every=8, identity=False)
    result = evaluate_video(
        target=folder / "target.mp4", source=photo, swapped=folder / "late.mp4", methods=["lm51"], settings=settings
    )
    clip = result.summary["clips"][0]
    return {k: clip[k] for k in ("coverage", "offset", "events")} | {"methods": clip["methods"]}


if __name__ == "__main__":
    what = sys.argv[1]
    if what == "swaps":
        found = swaps(Path(sys.argv[2]))
    elif what == "video":
        with tempfile.TemporaryDirectory() as made:
            found = video(Path(made))
    else:
        found = {"demo": demo, "torch": torch_metric}[what]()
    print(json.dumps(found, indent=1))
