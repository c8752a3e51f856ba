"""Numbers that a change of the code's shape must not change: golden files made by the code before its rooms were moved.

That of the training loop's metric was made by the code that first shipped its encoder, and is made anew with the next.
Arithmetic is equal to 1e-9; a training, whose sums a BLAS takes in its own order, to 1e-4 of its losses.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import golden_measures
import pytest

GOLDEN = Path(__file__).parent / "golden"


def golden(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text())


def assert_near(found: Any, expected: Any, tolerance: float, where: str = "") -> None:
    """Equal in structure, texts and whole numbers; numbers as near as `tolerance`, relative above 1, else absolute.

    What the golden file doesn't have may be there: results have grown.
    """
    if isinstance(expected, dict):
        for key, value in expected.items():
            assert_near(found[key], value, tolerance, f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for i, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_near(one, other, tolerance, f"{where}[{i}]")
    elif isinstance(expected, float) and not math.isnan(expected):
        assert found == pytest.approx(expected, rel=tolerance, abs=tolerance), where
    elif isinstance(expected, float):
        assert math.isnan(found), where
    else:
        assert found == expected, where


def test_the_demo_scores_as_before() -> None:
    assert_near(golden_measures.demo(), golden("demo"), 1e-9)


@pytest.mark.slow
@pytest.mark.shared
def test_the_published_swaps_score_as_before(shared_data: Any) -> None:
    assert_near(golden_measures.swaps(shared_data("swaps_dev")), golden("swaps"), 1e-9)


def test_the_clip_scores_as_before(tmp_path: Path) -> None:
    pytest.importorskip("av")
    assert_near(golden_measures.video(tmp_path), golden("video"), 1e-6)


@pytest.mark.torch
def test_the_training_loops_metric_scores_as_before() -> None:
    assert_near(golden_measures.torch_metric(), golden("torch"), 1e-6)
