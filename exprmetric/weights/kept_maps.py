"""The maps from distance to `kept` that travel inside the package, by method, weights and distance.

`exprmetric probe kept` writes such a file.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from exprmetric.metrics.kept import Judged, KeptMap
from exprmetric.metrics.resampling import Estimate

SHIPPED = Path(__file__).parents[1] / "data" / "kept.json"


def key(fingerprint: str, distance: str) -> str:
    """What a map is of: other weights, another crop or another distance need another map."""
    return f"{fingerprint} {distance}"


@cache
def shipped() -> dict[str, Any]:
    """The content of the package's file: `{"maps": {key: …}, …}`; nothing where there is none."""
    if not SHIPPED.is_file():
        return {"maps": {}}
    content: dict[str, Any] = json.loads(SHIPPED.read_text(encoding="utf-8"))
    return content


def kept_map(fingerprint: str, distance: str) -> KeptMap | None:
    """The map of a method; None where none was made for these weights and this distance."""
    plain = shipped()["maps"].get(key(fingerprint, distance))
    return None if plain is None else read_map(plain)


def read_map(plain: dict[str, Any]) -> KeptMap:
    """A map from the JSON values that `plain` made of it."""
    left_out = {
        name: Judged(
            Estimate(j["error"]["value"], *_interval(j["error"]["ci95"]), n=j["error"]["n"]),
            tuple(j["predicted"]),
            tuple(j["observed"]),
        )
        for name, j in plain["left_out"].items()
    }
    return KeptMap(tuple(plain["distances"]), tuple(plain["probabilities"]), left_out, plain["about"])


def _interval(stored: list[float | None]) -> tuple[float, float]:
    """NaN where there is null."""
    low, high = (float("nan") if v is None else v for v in stored)
    return low, high
