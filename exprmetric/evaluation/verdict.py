"""What a result says, in plain words, and what limits it: nothing that the intervals don't carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from exprmetric.choices import IDENTITY

FEW_GROUPS = 20
"""Fewer independent groups give rough intervals."""
LITTLE_COVERAGE = 0.95


def percent(value: float) -> str:
    """`73 %`."""
    return f"{value:.0%}".replace("%", " %")


def _range(score: Mapping[str, Any]) -> str:
    """`73 % (95 % interval 65 % to 80 %)`."""
    low, high = score["ci95"]
    interval = "" if low is None or high is None else f" (95 % interval {percent(low)} to {percent(high)})"
    return percent(score["value"]) + interval


def primary(methods: Sequence[str]) -> str:
    """The method that a verdict is about: `default`, else the first that says something about expressions."""
    others = [m for m in methods if m.partition(":")[0] != IDENTITY]
    return "default" if "default" in others else next(iter(others or methods), "")


def verdict(summary: Mapping[str, Any], groups: int, models: Sequence[str]) -> list[str]:
    """Sentences: what was measured, whether the identity moved, how much expression was kept, alarms, limits.

    Args:
        summary: with coverage, methods, identity, alarms and detector.
        groups: how many independent groups the measured rows form.
        models: those that stand side by side; none where all rows are of one.
    """
    total, ok = summary["coverage"]["triplets"], summary["coverage"]["ok"]
    swaps = "swap" if total == 1 else "swaps"
    lines = [f"{ok} of {total} {swaps} could be measured."]
    if not ok:
        return [*lines, "Nothing can be said about the model."]
    if models:
        lines.append(
            f"They are of {len(models)} models: the table has each, and `exprmetric compare` says which of them differ."
        )
    else:
        lines += _identity(summary.get("identity"))
        lines += _expression(summary["methods"])
    count = len(summary.get("alarms", ()))
    if count:
        lines.append(
            f"{'An alarm stands' if count == 1 else f'{count} alarms stand'} against these numbers: read first."
        )
    return lines + _limits(summary, groups)


def _identity(identity: Mapping[str, Any] | None) -> list[str]:
    if not identity or not identity["n"]:
        return ["Whether the identity changed was not measured: a model that changes nothing would look perfect."]
    moved = identity.get("nearer_to_source")
    if moved is None:
        same = identity.get("same_person")
        if same is None or same["value"] is None:
            return []
        return [f"The changed face is still taken for the target's person in {_range(same)} of them."]
    if moved["value"] is None:
        return []
    said = f"The new face is nearer to the source's identity than to the target's in {_range(moved)} of them"
    low, high = moved["ci95"]
    if high is not None and high < 0.5:
        return [f"{said}: most were hardly swapped, and a kept expression is then no merit."]
    spans = low is not None and high is not None and low <= 0.5 <= high
    return [f"{said}: it is open whether most were swapped at all." if spans else f"{said}."]


def _expression(methods: Mapping[str, Any]) -> list[str]:
    name = primary(list(methods))
    if not name or methods[name]["mean_t2c"]["value"] is None:
        return []
    found, lines = methods[name], list[str]()
    kept, anchors = found.get("kept"), found.get("anchors", {})
    if kept and kept["calibrated"] and kept["value"] is not None:
        beside = [percent(anchors["nothing_swapped"]["kept"]) + " when both look at one face"]
        if (pasted := anchors.get("source_pasted", {}).get("kept")) is not None:
            beside.append(f"{percent(pasted)} if the source's face had been pasted")
        lines.append(
            "Someone who sees the target and someone who sees the swap would name the same expression in "
            f"{_range(kept)} of the cases ({name}); {', '.join(beside)}."
        )
    far = anchors.get("source_pasted", {}).get("mean_t2c")
    if far:
        value, (low, high) = found["mean_t2c"]["value"], found["mean_t2c"]["ci95"]
        ends = [value / far] + [v / far for v in (low, high) if v is not None]
        interval = f" (95 % interval {percent(ends[1])} to {percent(ends[2])})" if len(ends) == 3 else ""
        said = f"On the way from the target's expression (0 %) to the source's (100 %) it stands at {percent(ends[0])}"
        closer = "" if high is None or high < far else ": it is open whether it is nearer than a pasted source"
        lines.append(f"{said}{interval} ({name}){closer}.")
    return lines


def _limits(summary: Mapping[str, Any], groups: int) -> list[str]:
    coverage, lines = summary["coverage"], []
    if coverage["ok"] < LITTLE_COVERAGE * coverage["triplets"]:
        lost = 1 - coverage["ok"] / coverage["triplets"]
        lines.append(
            f"{percent(lost)} could not be measured, and these may be the worst (`--on-fail worst` counts them)."
        )
    if groups < 2:
        lines.append("All rows are of one group (one target or video): there is no interval, and no claim beyond it.")
    elif groups < FEW_GROUPS:
        lines.append(f"There are only {groups} independent groups (targets or videos): intervals are rough.")
    if summary["detector"]["ran"] == "dlib":
        lines.append("dlib's detector misses turned faces; `exprmetric weights pull scrfd-500m` brings a better one.")
    return lines
