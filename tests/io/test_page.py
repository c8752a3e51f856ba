"""What a page looks like on a terminal."""

from __future__ import annotations

import pytest

from exprmetric.io.page import Page, Section
from exprmetric.io.sheet import Sheet


def test_on_a_terminal_the_verdict_is_bold_and_what_is_said_below_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    page = Page([Section(lines=["below"])], Sheet((), ()), str, [], verdict=["mine keeps more"], said=["over 3 pairs"])
    page.say("table")
    assert capsys.readouterr().out.splitlines() == ["\x1b[1mmine keeps more\x1b[0m", "over 3 pairs", "below"]
    assert page.markdown() == "mine keeps more. over 3 pairs.\n\n- below."
