"""A result as a Matplotlib figure: one point a method and model, with its interval, on a scale of its own anchors."""

from __future__ import annotations

from typing import Any

from exprmetric.errors import MissingPackageError
from exprmetric.evaluation.tables import models_of


def plot(summary: dict[str, Any]) -> Any:
    """Mean t2c as a share of what pasting the source gives; of methods without a source, mean t2c itself.

    Returns:
        A `matplotlib.figure.Figure`, which notebooks show and `savefig` writes.

    Raises:
        MissingPackageError: Matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError("plot needs Matplotlib: pip install matplotlib") from error
    points = []
    for method, whole in summary["methods"].items():
        for model in models_of(summary) or [""]:
            found = summary["groups"][model]["methods"][method] if model else whole
            far = found.get("anchors", {}).get("source_pasted", {}).get("mean_t2c")
            value, (low, high) = found["mean_t2c"]["value"], found["mean_t2c"]["ci95"]
            if value is not None:
                scale = far or 1.0
                ends = None if low is None or high is None else (low / scale, high / scale)
                points.append((f"{model}, {method}" if model else method, value / scale, ends))
    figure = Figure(figsize=(6.4, 1.2 + 0.32 * len(points)), layout="constrained")
    axis = figure.subplots()
    for i, (_, value, ends) in enumerate(points):
        if ends:
            axis.plot(ends, [i, i], color="#0072b2", linewidth=2)
        axis.plot(value, i, "o", color="#0072b2")
    axis.set_yticks(range(len(points)), [name for name, _, _ in points])
    axis.invert_yaxis()
    axis.axvline(0, color="#999999", linewidth=1)
    axis.axvline(1, color="#999999", linewidth=1, linestyle="--")
    axis.set_xlabel("mean t2c; 0: nothing swapped, 1: source pasted")
    axis.spines[["top", "right"]].set_visible(False)
    return figure
