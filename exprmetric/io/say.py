"""Words on stdout that a terminal can't take for commands, in whatever form they come."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence

from exprmetric.io.tables import printable_lines


def say(text: str) -> None:
    """A line, or several: control characters are shown as escapes."""
    print(printable_lines(text))


def say_json(text: str) -> None:
    """JSON, of the same value: what is not printable is written as JSON's own escapes."""
    safe = re.sub(r"[^\n -~]", lambda found: found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1], text)
    print(safe)


def say_csv(text: str) -> None:
    """CSV: as it is into a file or a pipe, and with control characters as escapes on a terminal."""
    sys.stdout.write(printable_lines(text) if sys.stdout.isatty() else text)


def say_file(name: str, content: bytes) -> None:
    """A `.json` or `.csv` file as it would be written."""
    if name.endswith(".json"):
        say_json(content.decode().removesuffix("\n"))
    else:
        say_csv(content.decode())


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV; None and NaN are empty cells."""
    import csv
    import io

    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(["" if v is None or v != v else v for v in row] for row in rows)
    return text.getvalue()
