"""A comparison of models as one self-contained page."""

from __future__ import annotations

from pathlib import Path

from exprmetric._version import __version__
from exprmetric.errors import InputError
from exprmetric.evaluation.compare import Comparison
from exprmetric.evaluation.compared import all_differences, left_over, matrices
from exprmetric.report.html import render, write_page

MOST_NAMES = 500
"""Rows that the page names for each reason."""


def write_html(comparison: Comparison, path: Path) -> None:
    """Write the page; its folder is made.

    Raises:
        InputError: the file can't be written.
    """
    page = render(
        "compare.html",
        comparison=comparison,
        summary={"alarms": comparison.alarms},
        version=__version__,
        matrices=list(matrices(comparison)),
        differences=all_differences(comparison.duels),
        left_over=[(duel, list(left_over(duel, MOST_NAMES))) for duel in comparison.duels],
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_page(path, page)
    except OSError as error:
        raise InputError(f"can't write {path}: {error}") from error
