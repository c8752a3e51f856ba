"""Docstrings as documentation tools read them: one argument a line, under the name that the code gives it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = sorted(path for folder in ("exprmetric", "cli") for path in (ROOT / folder).rglob("*.py"))
SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields|Example|Examples):")


def documented(file: Path) -> Iterator[tuple[ast.AST, str, list[tuple[str, str]]]]:
    """Each docstring of a file with its name and the lines of `Args` and `Attributes` that begin an entry."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef) and (
            text := ast.get_docstring(node)
        ):
            yield node, f"{file.relative_to(ROOT)}:{node.name}", list(entries(text))


def entries(text: str) -> Iterator[tuple[str, str]]:
    """Section and line of each entry: the lines that stand four spaces in."""
    section = ""
    for line in text.splitlines():
        if found := SECTION.fullmatch(line):
            section = found[1]
        elif line.strip() and not line.startswith(" "):
            section = ""
        elif section in ("Args", "Attributes") and re.match(r" {4}\S", line):
            yield section, line.strip()


DOCUMENTED = [found for file in FILES for found in documented(file)]


def test_every_argument_has_a_line_of_its_own() -> None:
    packed = [
        f"{where}: {line}"
        for _, where, lines in DOCUMENTED
        for _, line in lines
        if not re.match(r"\*{0,2}\w+: \S", line) or re.search(r"; `?[a-z_]\w+`?: ", line.replace("None: ", ""))
    ]
    assert not packed


def test_every_argument_is_one_of_the_functions() -> None:
    for node, where, lines in DOCUMENTED:
        if isinstance(node, ast.FunctionDef):
            spec = node.args
            names = {a.arg for a in [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, spec.vararg, spec.kwarg] if a}
            told = {line.partition(":")[0].lstrip("*") for section, line in lines if section == "Args"}
            assert told <= names, f"{where}: {sorted(told - names)}"
