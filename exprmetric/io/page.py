"""What a command says of its result, in each form of `--format`: tables, with sentences above and below them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from exprmetric.io.say import say, say_csv, say_json
from exprmetric.io.sheet import WIDTH, Sheet
from exprmetric.io.tables import markdown_text, printable


@dataclass(frozen=True)
class Section:
    """A table, its heading, and what belongs below it; any of them may be missing.

    Attributes:
        heading: of Markdown; of the terminal too where it is `loud`.
        lines: sentences.
    """

    sheet: Sheet | None = None
    heading: str = ""
    lines: Sequence[str] = ()
    loud: bool = False


@dataclass(frozen=True)
class Page:
    """The whole; no text is escaped yet.

    Attributes:
        sections: in order.
        whole: the table of CSV.
        json: gives the document for programs.
        printed: tables for a paper, each with its caption and label.
        first: sentences that stand above the alarms.
        alarms: one line each; in CSV, whose columns have no place for them, on stderr.
        verdict: sentences above all tables, bold on a terminal.
        said: sentences below the verdict.
        more: sentences for the terminal alone, each with its style.
    """

    sections: Sequence[Section]
    whole: Sheet
    json: Callable[[], str]
    printed: Sequence[tuple[Sheet, str, str]]
    first: Sequence[str] = ()
    alarms: Sequence[str] = ()
    verdict: Sequence[str] = ()
    said: Sequence[str] = ()
    more: Sequence[tuple[str, str]] = field(default=())

    def say(self, form: str) -> None:
        """On stdout in one of the forms of `--format`."""
        if form == "json":
            say_json(self.json())
        elif form == "csv":
            for alarm in self.alarms:
                print(alarm, file=sys.stderr)
            say_csv(self.whole.csv())
        elif form == "table":
            self._print()
        else:
            say({"markdown": self.markdown, "latex": self.latex}[form]())

    def _print(self) -> None:
        from rich.console import Console

        console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)

        def tell(lines: Sequence[str], style: str = "") -> None:
            for line in lines:
                console.print(printable(line), markup=False, style=style)

        tell(self.first)
        tell(self.alarms, "bold red")
        tell(self.verdict, "bold")
        tell(self.said)
        for section in self.sections:
            if section.heading and section.loud:
                console.print()
                tell([section.heading], "bold")
            if section.sheet:
                section.sheet.print(console)
            tell(section.lines)
        for line, style in self.more:
            tell([line], style)

    def markdown(self) -> str:
        """As Markdown; what an input named is escaped."""
        return "\n\n".join(self._blocks())

    def _blocks(self) -> Iterator[str]:
        yield from map(_sentence, self.first)
        yield from (f"**{markdown_text(alarm)}**" for alarm in self.alarms)
        if above := [*self.verdict, *self.said]:
            yield " ".join(map(_sentence, above))
        for section in self.sections:
            if heading := section.heading or (section.sheet.title if section.sheet else ""):
                yield f"**{markdown_text(heading)}**"
            if section.sheet:
                yield section.sheet.markdown()
            if lines := [*(section.sheet.notes if section.sheet else ()), *section.lines]:
                yield "\n".join(f"- {_sentence(line)}" for line in lines)

    def latex(self) -> str:
        """Tables for a paper (booktabs); comments hold the alarms."""
        tables = "\n\n".join(sheet.latex(caption, label) for sheet, caption, label in self.printed)
        return "\n".join([*(f"% {alarm}" for alarm in self.alarms), tables])


def _sentence(line: str) -> str:
    text = markdown_text(line)
    return text if text.endswith((".", "!", "?")) else f"{text}."
