"""Tables show the numbers of the summary, mark what could not be computed, and obey nothing that an input named."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results import Distances, Row, rows_of, without_inner

from exprmetric.evaluation import tables
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.evaluation.summary import summarise
from exprmetric.inputs.triplets import Triplet
from exprmetric.io.tables import markdown_text

METHODS = ["default", "lm68"]


def a_row(number: int, *, model: str = "", status: str = "ok", labels: tuple[str, str] = ("", "")) -> Row:
    image = Path(f"{number}.png")
    triplet = Triplet(f"id {number}", image, image, image, model=model, target_label=labels[0], source_label=labels[1])
    d = {m: Distances(0.1 * number + i, 0.5 + i, 0.75 + i) for i, m in enumerate(METHODS)} if status == "ok" else {}
    return Row(triplet, str(number), status, "" if status == "ok" else f"swapped: reason {number}", d)


def a_result(rows: list[Row], identity: str | None = None) -> EvaluationResult:
    made = rows_of(rows, METHODS)
    summary: dict[str, Any] = {
        **summarise(made, METHODS, identity),
        "exprmetric_version": "0.9",
        "detector": {"asked": "auto", "ran": "dlib", "fingerprint": "dlib-1"},
        "throughput": {
            "seconds": 2.0, "triplets_per_second": 1.5, "thread_seconds_by_stage": {"detect": 0.5, "hash files": 0.01}
        },
    }  # fmt: skip
    for method in METHODS:
        summary["methods"][method]["fingerprint"] = f"{method}-1"
    return EvaluationResult(summary, without_inner(made))


def printed(result: EvaluationResult, form: str, capsys: pytest.CaptureFixture[str]) -> str:
    tables.page(result).say(form)
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_a_score_is_shown_with_its_interval_and_a_dash_for_none():
    assert tables.cell({"value": 0.12349, "ci95": [0.11, 0.14]}) == "0.123 [0.110, 0.140]"
    assert tables.cell({"value": 0.5, "ci95": [None, None]}) == "0.500"
    assert tables.cell({"value": None, "ci95": [None, None]}) == "–"


def test_coverage_counts_and_names_failures():
    line = tables.coverage_line({"triplets": 123, "ok": 121, "failed": {"no_face": 2}})
    assert line == "121 of 123 triplets measured (98.4 %); failed: no_face 2"
    assert tables.coverage_line({"triplets": 0, "ok": 0, "failed": {}}) == "0 of 0 triplets measured"


def test_speed_leaves_out_stages_that_took_no_time():
    line = tables.speed_line(a_result([a_row(1)]).summary["throughput"])
    assert line == "1.5 triplets/s, 2.0 s in all (detect 0.5 s)"


def test_identity_line():
    assert tables.identity_line(None) == "" == tables.identity_line({"n": 0})
    result = a_result([a_row(1), a_row(9)], identity="default")  # t2c 0.1 and 0.9, s2c 0.5: one of two is nearer
    line = tables.identity_line(result.summary["identity"])
    assert "nearer to the source than to the target 0.500" in line
    assert line.endswith("to source 0.500, to target 0.500")


def test_the_control_of_several_models_is_said_of_each_and_never_of_all(capsys: pytest.CaptureFixture[str]):
    result = a_result([a_row(1, model="A"), a_row(9, model="B")], identity="default")
    lines = tables.identity_lines(result.summary)
    assert [line.partition(":")[0] for line in lines] == ["A", "B"]
    assert "to the target 0.000" in lines[0] and "to the target 1.000" in lines[1]
    for form in ("table", "markdown"):
        tables.page(result).say(form)
        said = capsys.readouterr().out
        assert said.count("dentity control: share") == 2
    assert "t2c" not in repr(result) and "2 models" in repr(result)
    one = a_result([a_row(1), a_row(9)], identity="default")
    assert tables.identity_lines(one.summary) == [tables.identity_line(one.summary["identity"])]


def test_all_formats_show_every_method_of_every_split(capsys: pytest.CaptureFixture[str]):
    rows = [a_row(1, model="A", labels=("happy", "happy")), a_row(2, model="B", labels=("happy", "sad"))]
    result = a_result(rows)
    splits = ["all", "same label", "different label", "A", "B"]
    found = list(csv.DictReader(io.StringIO(printed(result, "csv", capsys))))
    assert {(r["split"], r["method"]) for r in found} == {(s, m) for s in splits for m in METHODS}
    by_split = {(r["split"], r["method"]): float(r["mean_t2c"]) for r in found}
    assert by_split["A", "default"] == pytest.approx(0.1) and by_split["B", "lm68"] == pytest.approx(1.2)
    assert by_split["all", "default"] == pytest.approx(0.15)
    for form in ("table", "markdown"):
        text = printed(result, form, capsys)
        for name in (*splits[1:], "0.100", "1.200", "nothing swapped", "source pasted"):
            assert name in text


def test_several_models_stand_side_by_side_and_are_never_pooled(capsys: pytest.CaptureFixture[str]):
    result = a_result([a_row(1, model="A"), a_row(2, model="B"), a_row(9)])
    for form in ("table", "markdown", "latex"):
        text = printed(result, form, capsys)
        assert "0.100" in text and "0.200" in text and "0.400" not in text  # the mean over all three
        assert ("1 triplets name no model" in text) == (form != "latex")


def test_models_of_other_pairs_have_their_own_anchors_and_those_of_the_same_pairs_share_them():
    def made(*distances: float) -> list[list[str]]:
        rows = [a_row(i, model=name) for i, name in enumerate("AB", start=1)]
        far = [
            replace(r, distances=dict.fromkeys(METHODS, Distances(0.1, 0.5, d)))
            for r, d in zip(rows, distances, strict=True)
        ]
        shown = tables.headline(a_result(far).summary).rows
        return [[str(c) for c in r.cells] for r in shown if r.block == "default"]

    shared, own = made(0.75, 0.75), made(0.75, 0.25)
    assert [r[1] for r in shared] == ["A", "B", "nothing swapped", "source pasted"]
    assert [r[1] for r in own] == ["A", "source pasted", "B", "source pasted", "nothing swapped"]
    assert [own[1][4], own[3][4]] == ["0.750", "0.250"]  # their mean is nowhere


def test_latex_marks_the_best_and_the_second_of_each_method_and_says_what_made_the_numbers(
    capsys: pytest.CaptureFixture[str],
):
    result = a_result([a_row(i, model=name) for i, name in enumerate(("50%_b", "A & B", "$x^2$"), start=1)])
    text = printed(result, "latex", capsys)
    lines = [line.strip() for line in text.splitlines()]
    assert r"& 50\%\_b & 1 & 0.250 & \textbf{0.100} & 1.000 \\" in lines  # a ratio of 1 for all: none is best
    assert r"& A \& B & 1 & 0.250 & \underline{0.200} & 1.000 \\" in lines
    assert r"default & \$x\textasciicircum{}2\$ & 1 & 0.250 & 0.300 & 1.000 \\" in lines
    assert r"& source pasted &  & 0.750 & 0.750 & 0.000 \\" in lines
    assert lines.count(r"\toprule") == lines.count(r"\bottomrule") == 1 and lines.count(r"\midrule") == 2
    (caption,) = (line for line in lines if line.startswith(r"\caption"))
    for words in (r"3 of 3 triplets measured (100.0 \%)", "exprmetric 0.9", "dlib-1", "default default-1", "bold"):
        assert words in caption


def test_what_could_not_be_computed_is_empty_or_a_dash_and_never_nan(capsys: pytest.CaptureFixture[str]):
    result = a_result([a_row(1, status="no_face")], identity="default")
    row = next(csv.DictReader(io.StringIO(printed(result, "csv", capsys))))
    assert (row["n"], row["triplets"], row["mean_t2c"], row["ratio.low"]) == ("0", "1", "", "")
    for form in ("table", "markdown"):
        text = printed(result, form, capsys)
        assert "–" in text and "nan" not in text.lower() and "None" not in text
        assert text.replace("\\_", "_").startswith("0 of 1 triplets measured (0.0 %); failed: no_face 1")


def test_the_table_names_the_first_failures_and_counts_the_rest(capsys: pytest.CaptureFixture[str]):
    rows = [a_row(0), *(a_row(i, status="unreadable") for i in range(1, 15))]
    text = printed(a_result(rows), "table", capsys)
    assert text.count("unreadable: id") == tables.MOST_FAILURES == 10
    assert "unreadable: id 1: swapped: reason 1\n" in text
    assert "and 4 more failed triplets" in text


@pytest.mark.parametrize("name", ["[red]x[/red]", "[/]", "[link=http://x]y[/link]", "\x1b[31mred", "two\nlines"])
def test_names_are_shown_and_not_obeyed(name: str, capsys: pytest.CaptureFixture[str]):
    bad = a_row(2, model=name, status="error")
    result = a_result([a_row(1, model=name), replace(bad, triplet=replace(bad.triplet, id=name))])
    text = printed(result, "table", capsys)
    shown = name.replace("\x1b", r"\x1b").replace("\n", r"\n")
    assert text.count(shown) >= 2 and "\x1b" not in text


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_no_name_can_break_out_of_a_markdown_table(name: str):
    escaped = markdown_text(name)
    assert "<" not in escaped and ">" not in escaped and len(escaped.splitlines()) <= 1
    plain = escaped
    for character in "\\`*_|[]":  # every one that is left stands behind its backslash
        plain = plain.replace("\\" + character, "")
    assert not set("`*_|[]\\") & set(plain)


def test_markdown_tables_have_as_many_cells_as_headings(capsys: pytest.CaptureFixture[str]):
    text = printed(a_result([a_row(1, model="<b>|x|</b>")], identity="default"), "markdown", capsys)
    table_lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table_lines) == 2 * 2 + 2 * 3 + 2  # two heads, the whole with anchors, one split
    assert {line.replace(r"\|", "").count("|") for line in table_lines} == {6, 8}
    assert "<b>" not in text and r"| &lt;b&gt;\|x\|&lt;/b&gt; | 1 | 0 |" in text
    assert "dentity control" in text


@pytest.mark.parametrize("form", ["table", "json", "csv", "markdown", "latex"])
def test_a_note_stands_beside_the_numbers_in_every_format(form: str, capsys: pytest.CaptureFixture[str]):
    result = a_result([a_row(0, model="A"), a_row(1, model="B")])
    for part in (result.summary["methods"], *(g["methods"] for g in result.summary["groups"].values())):
        part["lm68"]["note"] = "not comparable with other modes"
    text = printed(result, form, capsys)
    assert "not comparable with other modes" in " ".join(text.split())
    if form in ("table", "markdown"):
        assert text.count("lm68 †") == 1 and text.count("† lm68: not comparable") == 1 and "default †" not in text
