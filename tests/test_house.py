"""The house: which room imports which.

A room is a top folder of the package, `cli/`, or a file at the package's top.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"exprmetric": ROOT / "exprmetric", "exprmetric_cli": ROOT / "cli"}


def files() -> dict[str, Path]:
    """Every module by its dotted name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: frozenset[str]) -> Iterator[str]:
    """Modules of exprmetric that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            base = str(node.module)
            names = [f"{base}.{a.name}" if f"{base}.{a.name}" in known else base for a in node.names]
        else:
            continue
        yield from (name for name in names if name in known)


@cache
def imports() -> dict[str, set[str]]:
    modules = files()
    known = frozenset(modules)
    return {name: set(imported(path, known)) - {name} for name, path in modules.items()}


def room(module: str) -> str:
    """The top folder or file that a module lies in; the package's own `__init__` is `exprmetric`."""
    parts = module.split(".")
    return parts[0] if parts[0] == "exprmetric_cli" or len(parts) == 1 else parts[1]


@cache
def arrows() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for module, others in imports().items():
        found.setdefault(room(module), set()).update({room(other) for other in others} - {room(module)})
    return found


def loops(graph: dict[str, set[str]]) -> list[set[str]]:
    """Sets of nodes that reach each other (Tarjan's strongly connected components of more than one node)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            at = stack.index(node)
            ring = set(stack[at:])
            del stack[at:]
            if len(ring) > 1:
                found.append(ring)

    for node in sorted(graph):
        if node not in order:
            visit(node)
    return found


def floors() -> dict[str, int]:
    graph = arrows()

    @cache
    def floor(name: str) -> int:
        return 1 + max((floor(other) for other in graph.get(name, ())), default=-1)

    return {name: floor(name) for name in graph}


def test_no_room_imports_a_room_above_it() -> None:
    assert loops(arrows()) == []


def test_no_files_import_each_other_in_a_circle() -> None:
    assert loops(imports()) == []


def told() -> str:
    """The house in lines, for `python tests/test_house.py`."""
    graph, heights = arrows(), floors()
    size = dict.fromkeys(graph, 0)
    for module, path in files().items():
        size[room(module)] += len(path.read_text(encoding="utf-8").splitlines())
    lines = [
        f"{heights[name]:2d} {name:15s} {size[name]:6d} lines  imports {', '.join(sorted(graph[name])) or '-'}"
        for name in sorted(graph, key=lambda name: (heights[name], name))
    ]
    total = sum(size.values())
    lines.append(
        f"{len(graph)} rooms on {max(heights.values()) + 1} floors, {sum(map(len, graph.values()))} arrows, "
        f"{total} lines, the largest room {max(size.values()) / total:.0%}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    print(told())
