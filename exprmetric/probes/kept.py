"""`kept` of methods: maps from distance to the probability of the same answer, each judged on a set left out."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from exprmetric.errors import InputError
from exprmetric.io.environment import environment, stamp
from exprmetric.io.files import write_whole
from exprmetric.io.plain import plain
from exprmetric.io.pool import open_pool
from exprmetric.io.sheet import Number, Sheet
from exprmetric.methods import Method
from exprmetric.metrics.kept import LIMIT, KeptMap, agreement, ceiling, fit, judge, spread
from exprmetric.metrics.resampling import every_pair, pair_distances, units
from exprmetric.probes.answers import Answered
from exprmetric.probes.encoders import Bench
from exprmetric.probes.parts import unique_names
from exprmetric.probes.vectors import Vectors
from exprmetric.weights import kept_maps as maps

PAIRS = 400_000
"""Pairs of a set of which those that count are drawn."""
MAPS, CARD, PLOT = "kept.json", "kept.md", "kept.svg"


def fit_maps(
    sets: Sequence[Answered],
    methods: Sequence[Method],
    bench: Bench,
    *,
    seed: int = 0,
) -> dict[str, KeptMap]:
    """By method, the map of all sets, and how well the map of the others fits each.

    Args:
        sets: faces with raters' answers; of one set alone nothing can be left out, and no map counts as calibrated.
            Where people are known, pairs are of two people, as target and swapped face are.
        methods: as `load_method` and `open_checkpoint` give them.
        bench: how faces are found; nothing is kept.
        seed: of pairs and bootstrap.

    Raises:
        InputError: no set or method, two have one name, or a set has no two faces that can be measured.
    """
    if not sets or not methods:
        raise InputError("a map needs a rated set and a method")
    unique_names([s.faces.name for s in sets])
    unique_names([m.name for m in methods])
    with open_pool(bench.jobs) as pool:
        seen = [bench.embed(s.faces, methods, f"faces of {s.faces.name}", pool) for s in sets]
    return {m.name: _map(m, sets, seen, seed) for m in methods}


def _map(method: Method, sets: Sequence[Answered], seen: Sequence[Vectors], seed: int) -> KeptMap:
    pairs, parts, about = [], [], {}
    for answered, vectors in zip(sets, seen, strict=True):
        rows = np.flatnonzero(vectors.ok)
        drawn = every_pair(len(rows), PAIRS, seed)
        people = [answered.faces.persons[i] for i in rows] if answered.faces.persons else None
        codes = units(len(rows), people)
        drawn = drawn[codes[drawn[:, 0]] != codes[drawn[:, 1]]]
        if not len(drawn):
            raise InputError(f"{answered.faces.name!r} has no two faces that can be measured")
        matrix = vectors.matrix(method.name, rows)
        distances = pair_distances(matrix, drawn[:, 0], drawn[:, 1], method.distance)
        kept = spread(distances, seed)
        drawn, distances = drawn[kept], distances[kept]
        same = agreement(answered.shares[rows], drawn[:, 0], drawn[:, 1])
        top = ceiling(answered.shares[rows], answered.raters[rows])
        pairs.append((drawn, codes))
        parts.append((distances, same, top))
        about[answered.faces.name] = {"faces": len(rows), "pairs": len(drawn), "ceiling": top}
    left_out = {}
    for i, name in enumerate(about):
        others = [part for k, part in enumerate(parts) if k != i]
        if others:
            left_out[name] = judge(fit(others), parts[i][0], parts[i][1], *pairs[i], seed=seed)
    return replace(fit(parts), left_out=left_out, about=about)


def sheet(made: dict[str, KeptMap]) -> Sheet:
    """Each method's error on each left-out set, and whether its map is used."""
    rows = []
    for method, found in made.items():
        verdict = "yes" if found.calibrated else "no"
        for name, about in found.about.items():
            judged = found.left_out.get(name)
            error = Number(judged.error.value, judged.error.low, judged.error.high) if judged else Number(None)
            numbers = [int(about["faces"]), int(about["pairs"]), Number(about["ceiling"])]
            far = [Number(found.probabilities[-1])]
            rows.append([method, name, *numbers, *far, error, verdict])
            method, verdict = "", ""
    head = ["method", "left out", "faces", "pairs", "two raters of one face", "farthest pairs", "error ↓", "calibrated"]
    notes = [
        "error ↓: expected calibration error on the set that is named, of a map fitted on the others (95 % interval "
        f"over people, or faces where they are unknown). A map with an error above {LIMIT:.2f} enters no verdict."
    ]
    if any(not found.left_out for found in made.values()):
        notes.append(
            "One set alone leaves none to judge its map by, so it isn't calibrated: name a second set, such as FER+."
        )
    return Sheet.of(head, rows, words=2, title="From distance to the probability of the same answer", notes=notes)


def to_json(made: dict[str, KeptMap], methods: Sequence[Method]) -> str:
    """The shipped maps of other methods, and these, as `exprmetric/data/kept.json` holds them."""
    new = {
        maps.key(m.fingerprint, m.distance_name): {"method": m.name, "calibrated": made[m.name].calibrated}
        | plain(made[m.name])
        for m in methods
    }
    names = {m.name for m in methods}
    old = {k: v for k, v in maps.shipped()["maps"].items() if v["method"] not in names and k not in new}
    about = stamp(1) | {"environment": environment()}
    return json.dumps(about | {"maps": old | new}, indent=1, allow_nan=False)


def draw(made: dict[str, KeptMap], path: Path) -> None:
    """Reliability diagrams: predicted against observed on each left-out set, a panel a method."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * len(made) + 0.6, 3.8), layout="constrained")
    FigureCanvasSVG(figure)
    axes: Any = figure.subplots(1, len(made), sharey=True, squeeze=False).ravel()
    for axis, (method, found) in zip(axes, made.items(), strict=True):
        axis.plot([0, 1], [0, 1], color="#999999", linewidth=1)
        for colour, mark, (name, judged) in zip(
            ("#0072b2", "#d55e00", "#009e73", "#cc79a7"), "osD^", found.left_out.items(), strict=False
        ):
            label = f"{name}: {judged.error.value:.3f} [{judged.error.low:.3f}, {judged.error.high:.3f}]"
            axis.plot(judged.predicted, judged.observed, color=colour, marker=mark, markersize=4, label=label)
        axis.set(title=method, xlabel="predicted by a map of the other sets", xlim=(0, 1), ylim=(0, 1), aspect="equal")
        if found.left_out:
            axis.legend(frameon=False, fontsize=8, title="left out: error [95 % interval]", title_fontsize=8)
    axes[0].set_ylabel("observed: same answer")
    alike: dict[Any, Any] = {
        "svg.hashsalt": "kept",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
    }  # the same file again
    with rc_context(alike):
        write_whole(path, lambda f: figure.savefig(f, format="svg", metadata={"Date": None}))


def save(
    made: dict[str, KeptMap], methods: Sequence[Method], folder: str | os.PathLike[str], *, plot: bool
) -> list[str]:
    """Write maps, table and diagram; gives the names of the files. InputError where the folder can't be written."""
    out = Path(folder)
    table = sheet(made)
    card = "\n".join([f"# {table.title}", "", table.markdown(), "", *table.notes, ""])
    texts = {MAPS: to_json(made, methods) + "\n", CARD: card}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_whole(out / name, lambda f, text=text: f.write(text.encode()))  # type: ignore[misc]
        if plot:
            draw(made, out / PLOT)
    except OSError as error:
        raise InputError(f"can't write the maps into {out}: {error}") from error
    return [*texts, *[PLOT] * plot]
