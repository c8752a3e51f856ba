"""How a command ends: exit statuses, and what is said on stderr before them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pyarrow as pa

    from exprmetric.comparing.gate import Requirement

REASONS = 3
"""Why nothing could be measured: so many different reasons are said …"""
LOOKED_AT = 1000
"""… of so many rows, because there may be millions."""


def end_unmet(asked: Sequence[Requirement], summary: dict[str, Any]) -> None:
    """End with the status of an unmet requirement, and say on stderr which."""
    from exprmetric.comparing.gate import NOT_MET
    from exprmetric.io.tables import printable

    failures = [failure for one in asked if (failure := one.failure(summary))]
    for failure in failures:
        click.echo(printable(f"Required: {failure}"), err=True)
    if failures:
        sys.exit(NOT_MET)


def end_unmeasured(rows: pa.Table) -> None:
    """End with status 1 where no row could be measured: the first reasons stand on stderr, whatever stdout gets."""
    from exprmetric.io.tables import brief, printable

    reasons = dict.fromkeys(f"{row['status']}: {row['reason']}" for row in rows.slice(0, LOOKED_AT).to_pylist())
    told = [brief(reason) for reason in list(reasons)[:REASONS]]
    more = f" ({len(reasons) - REASONS} more reasons)" if len(reasons) > REASONS else ""
    click.echo(printable(f"Error: nothing could be measured. {'; '.join(told)}{more}"), err=True)
    sys.exit(1)


def end_images(failed: Sequence[Any], count: int, said: str) -> None:
    """Name the images that failed, then say what was done; exit status 1 where all of them failed.

    Args:
        failed: with `path`, `status` and `reason`.
        count: of all images.
        said: what was done.
    """
    from exprmetric.io.tables import printable

    for one in failed:
        click.echo(printable(f"{one.status}: {one.path}: {one.reason}"), err=True)
    click.echo(said)
    if len(failed) == count:
        sys.exit(1)
