"""One table for all that shows one: columns and rows → terminal, Markdown, LaTeX, HTML, CSV, JSON.

A cell is text, a whole number or a `Number`. Names from the input (files, models) are escaped here, in each form's own
way.
"""

from __future__ import annotations

import html
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from exprmetric.io.plain import plain
from exprmetric.io.say import csv_text
from exprmetric.io.tables import markdown_text, printable

if TYPE_CHECKING:
    from rich.console import Console

NOTHING = "–"
"""Where there is no number: never a zero."""
WIDTH = 140
"""Characters of a table that goes to a file or a pipe."""
MANY = 6
"""From so many columns on, a phone shows a row as a list of its cells."""


@dataclass(frozen=True)
class Number:
    """A number as a cell, with its interval where it has one.

    Attributes:
        value: None or NaN where unknown.
        low: lower end of its interval, likewise.
        high: upper end of it, likewise.
        form: how it is written, such as `.3f` or `+.3f`; `p` is a p-value.
        mark: of a note that belongs to it, behind the number.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    form: str = ".3f"
    mark: str = ""

    @property
    def text(self) -> str:
        """`0.123`, or a dash."""
        return f"{self._say(self.value)} {self.mark}".rstrip()

    @property
    def interval(self) -> str:
        """`[0.110, 0.140]`, or nothing."""
        return f"[{self._say(self.low)}, {self._say(self.high)}]" if known(self.low) and known(self.high) else ""

    def __str__(self) -> str:
        return f"{self.text} {self.interval}".rstrip()

    def _say(self, value: float | None) -> str:
        if value is None or not math.isfinite(value):
            return NOTHING
        if self.form == "p":
            return "< 0.001" if value < 0.001 else f"{value:.3f}"
        text = format(value, self.form)
        return text if float(text) else format(0.0, self.form)  # no -0.00

    @property
    def rounded(self) -> float:
        """The value as it is shown: what looks equal ranks equal. NaN where unknown."""
        return float(self._say(self.value)) if known(self.value) and self.form != "p" else math.nan


def score_cell(score: Mapping[str, Any] | None) -> Number:
    """A score `{"value", "ci95"}` of `summary.json` as a cell; nothing where it was not measured."""
    if score is None:
        return Number(None)
    low, high = score["ci95"]
    marked = known(score["value"]) and not score.get("calibrated", True)
    return Number(score["value"], low, high, mark="‡" if marked else "")


def known(value: float | None) -> bool:
    """Is it a finite number?"""
    return value is not None and math.isfinite(value)


Content = str | int | Number


@dataclass(frozen=True)
class Column:
    """What a column is called.

    Attributes:
        heading: for people; `↑` in it says that higher is better, `↓` that lower is.
        key: for programs (CSV, JSON); '' for the heading.
        words: its cells are text and stand to the left.
        ends: names of two more columns of CSV and JSON, which hold the ends of the intervals.
    """

    heading: str
    key: str = ""
    words: bool = False
    ends: tuple[str, ...] = ()

    @property
    def sign(self) -> int:
        """1: higher is better; -1: lower is; 0: neither."""
        return ("↑" in self.heading) - ("↓" in self.heading)


@dataclass(frozen=True)
class Row:
    """Cells, one a column.

    Attributes:
        block: rows of one block stand together, and the best of a column is the best of its block.
        anchor: a yardstick rather than a contestant: it is drawn softer, and never the best.
        strong: columns whose cell is emphasised whatever the block says.
    """

    cells: Sequence[Content]
    block: object = ""
    anchor: bool = False
    strong: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Sheet:
    """A table, its title above it and its sentences below it; no text is escaped yet."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    title: str = ""
    notes: Sequence[str] = field(default=())

    @classmethod
    def of(
        cls, head: Sequence[str], rows: Iterable[Sequence[object]], *, words: int = 1, title: str = "", notes: Any = ()
    ) -> Sheet:
        """Plain cells under plain headings, the first `words` columns text."""
        columns = [Column(name, words=i < words) for i, name in enumerate(head)]
        cells = [Row([c if isinstance(c, str | int | Number) else str(c) for c in row]) for row in rows]
        return cls(columns, cells, title, notes)

    def ranks(self) -> dict[tuple[int, int], int]:
        """(row, column) → 1 for the best of its block, 2 for the second; only where numbers differ as shown."""
        found: dict[tuple[int, int], int] = {}
        for c, column in enumerate(self.columns):
            blocks: dict[object, dict[int, float]] = {}
            for r, row in enumerate(self.rows):
                cell = row.cells[c]
                if column.sign and not row.anchor and isinstance(cell, Number) and cell.rounded == cell.rounded:
                    blocks.setdefault(row.block, {})[r] = -column.sign * cell.rounded
            for values in blocks.values():
                places = {v: i + 1 for i, v in enumerate(sorted(set(values.values()))[:2])}
                if len(places) > 1:
                    found |= {(r, c): places[v] for r, v in values.items() if v in places}
        return found

    def print(self, console: Console | None = None, *, width: int = WIDTH) -> None:
        """On stdout, with the title above and the notes below."""
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        console = console or Console(highlight=False, width=None if sys.stdout.isatty() else width)
        table = Table(
            box=box.SIMPLE_HEAD,
            padding=(0, 2 if len(self.columns) < MANY else 1, 0, 0),
            title=Text(printable(self.title)) if self.title else None,
            title_justify="left",
        )
        for column in self.columns:
            table.add_column(
                Text(printable(column.heading)),
                justify="left" if column.words else "right",
                no_wrap=not column.words,
                overflow="fold",
            )
        for row, last in self._with_ends():
            cells = [
                Text(printable(str(c)), style="bold" if i in row.strong or (i == 0 and not row.anchor) else "")
                for i, c in enumerate(row.cells)
            ]
            table.add_row(*cells, style="dim" if row.anchor else None, end_section=last)
        console.print(table)
        for note in self.notes:
            console.print(printable(note), markup=False)

    def _with_ends(self) -> Iterator[tuple[Row, bool]]:
        """Rows, and whether a block ends behind each: told where some block has several rows."""
        several = len({row.block for row in self.rows}) < len(self.rows)
        for i, row in enumerate(self.rows):
            yield row, several and i + 1 < len(self.rows) and self.rows[i + 1].block != row.block

    def markdown(self) -> str:
        """A Markdown table without title and notes; what an input named is escaped."""
        lines = [
            f"| {' | '.join(markdown_text(c.heading) for c in self.columns)} |",
            f"| {' | '.join('---' if c.words else '---:' for c in self.columns)} |",
        ]
        for row in self.rows:
            cells = [markdown_text(c) if isinstance(c, str) else str(c) for c in row.cells]
            if row.anchor:
                cells = [f"*{c.strip()}*" if c.strip() and self.columns[i].words else c for i, c in enumerate(cells)]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)

    def latex(self, caption: str = "", label: str = "") -> str:
        """A table for the package booktabs: of each block the best in bold, the second underlined."""
        ranks = self.ranks()
        caption = caption or self.title
        lines = [r"\begin{table}", r"  \centering"]
        lines += [rf"  \caption{{{latex_text(caption)}}}"] * bool(caption) + [rf"  \label{{{label}}}"] * bool(label)
        lines += [rf"  \begin{{tabular}}{{{''.join('l' if c.words else 'r' for c in self.columns)}}}", r"    \toprule"]
        lines += [f"    {' & '.join(latex_text(c.heading) for c in self.columns)} \\\\", r"    \midrule"]
        for r, (row, last) in enumerate(self._with_ends()):
            cells = [_latex_cell(cell, ranks.get((r, c), 0)) for c, cell in enumerate(row.cells)]
            lines.append(f"    {' & '.join(cells)} \\\\")
            lines += [r"    \midrule"] * last
        return "\n".join([*lines, r"    \bottomrule", r"  \end{tabular}", r"\end{table}"])

    def html(self, name: str = "", kind: str = "") -> str:
        """A table with the classes of the reports; `name` is its id, `kind` its class."""
        kind = kind or "stack" * (len(self.columns) >= MANY)
        about = "".join(f' {key}="{html.escape(value)}"' for key, value in (("id", name), ("class", kind)) if value)
        title = f"<caption>{html.escape(self.title)}</caption>" if self.title else ""
        head = "".join(
            f'<th scope="col" class="{"name" if c.words else "n"}">{html.escape(c.heading)}</th>' for c in self.columns
        )
        lines = [f'<div class="wide"><table{about}>{title}<thead><tr>{head}</tr></thead>', "<tbody>"]
        for row, last in self._with_ends():
            kind = " ".join(["anchor"] * row.anchor + ["last"] * last)
            cells = "".join(self._html_cell(i, c, strong=i in row.strong) for i, c in enumerate(row.cells))
            lines.append(f"<tr{f' class={kind!r}' if kind else ''}>{cells}</tr>")
        return "\n".join([*lines, "</tbody></table></div>"])

    def _html_cell(self, place: int, cell: Content, *, strong: bool) -> str:
        column = self.columns[place]
        kind = " ".join(["name" if column.words else "n"] + ["sure"] * strong)
        text = html.escape(cell.text if isinstance(cell, Number) else str(cell))
        if isinstance(cell, Number) and cell.interval:
            text += f' <span class="ci">{html.escape(cell.interval)}</span>'
        return f'<td class="{kind}" data-label="{html.escape(column.heading)}">{text}</td>'

    def records(self) -> Iterator[dict[str, Any]]:
        """Each row by the columns' keys, numbers with all their digits; None where there is none."""
        for row in self.rows:
            record: dict[str, Any] = {}
            for column, cell in zip(self.columns, row.cells, strict=True):
                number = cell if isinstance(cell, Number) else None
                record[column.key or column.heading] = plain(number.value) if number else cell
                for name, end in zip(column.ends, (number.low, number.high) if number else (None, None), strict=False):
                    record[name] = plain(end)
            yield record

    def csv(self) -> str:
        """`records` under the names of the columns; what could not be computed is an empty cell."""
        head = [name for c in self.columns for name in (c.key or c.heading, *c.ends)]
        return csv_text([head, *(list(record.values()) for record in self.records())])


_LATEX = {
    "\\": r"\textbackslash{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": r"\textbar{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\rightarrow$",
    "−": "$-$",
    "±": r"$\pm$",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    NOTHING: "--",
}


def latex_text(text: str) -> str:
    """Text from the input, harmless in LaTeX and on a terminal; in one line."""
    return "".join(_LATEX.get(c, c) for c in printable(" ".join(text.split())))


def _latex_cell(cell: Content, rank: int) -> str:
    if not isinstance(cell, Number):
        return latex_text(str(cell))
    text = latex_text(cell.text)
    text = rf"\textbf{{{text}}}" if rank == 1 else rf"\underline{{{text}}}" if rank == 2 else text
    return text + (rf" {{\scriptsize {latex_text(cell.interval)}}}" if cell.interval else "")
