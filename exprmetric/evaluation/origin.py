"""Where a result comes from: the command or call, and how its rows were read, so that it can be measured again."""

from __future__ import annotations

import hashlib
import inspect
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from exprmetric.choices import ALL
from exprmetric.errors import InputError, UnknownWeightsError
from exprmetric.evaluation.rows import GIVEN, HASH_COLUMNS, NAMING, Rows
from exprmetric.inputs import read_layout
from exprmetric.inputs.triplets import Triplet, read_triplets
from exprmetric.io.files import path_text
from exprmetric.weights import store

_TEXTS = ("id", "model", "group", "target_label", "source_label", "person", GIVEN)
"""What the rows of an input say beside their images."""
_NUMBER = re.compile(r"#\d+$")
"""Behind the id of a row of which every face is measured."""
_WEIGHTS = re.compile(r"([\w.+-]+):([0-9a-f]{16})")
"""How fingerprints name a file of weights."""
_SOME = 8192
"""Rows that are plain values at a time."""
_UNSAID = (
    "source",
    "out",
    "saved",
    "cache",
    "cache_identity",
    "jobs",
    "block",
    "engine",
    "shard",
    "progress",
    "origin",
)
"""Arguments of `evaluate` that are said in other words, or decide no number."""


@dataclass(frozen=True)
class Origin:
    """How the rows of an input were read.

    Attributes:
        command: the command line or the call in Python.
        name: folder or manifest; '' where rows were handed over one by one.
        layout: a key of `exprmetric.inputs.LAYOUTS`, by which the folder was read; '': a folder with roles, or a
            manifest.
        options: of `exprmetric.inputs.read_layout`, as texts and numbers.
        faces_named: rows say which of several faces is meant.
    """

    command: str
    name: str = ""
    layout: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    faces_named: bool = False

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        options = {key: path_text(Path(v)) if isinstance(v, os.PathLike) else v for key, v in self.options.items()}
        known = {key: value for key, value in options.items() if value is not None}
        texts = {"command": path_text(self.command), "name": path_text(self.name), "layout": self.layout}
        return {**texts, "options": known, "faces_named": self.faces_named}


def of_call(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Origin:
    """The origin of rows that `evaluate` is given in Python.

    Args:
        function: `evaluate`.
        arguments: all of them by name.
    """
    source = arguments["source"]
    named = isinstance(source, str | os.PathLike)
    said = [repr(os.fsdecode(source)) if named else "rows"]
    for name, parameter in inspect.signature(function).parameters.items():
        value = arguments[name]
        if name in _UNSAID or (parameter.default is not inspect.Parameter.empty and value == parameter.default):
            continue
        plain = os.fsdecode(value) if isinstance(value, os.PathLike) else value
        said.append(f"{name}={list(plain) if isinstance(plain, tuple) else plain!r}")
    command = f"exprmetric.{function.__name__}({', '.join(said)})"
    return Origin(command, os.fsdecode(source) if named else "")


def input_record(origin: Mapping[str, Any], rows: Rows, face: str, photo: str) -> dict[str, Any]:
    """`input` of `summary.json`.

    Args:
        origin: of `Origin.as_json`.
        rows: of the whole input, as they were given: without the groups of the bootstrap.
        face: which of several faces; of `all` an input row has several rows.
        photo: content hash of the photograph that `face` names; '' for none.

    Returns:
        `name`, `layout`, `options`, `faces_named` as in `Origin`; `triplets`; `images`, which are told apart by
        content; and `sha256` of all rows: their names, labels and the contents of their images and of the photographs
        that name faces, whatever the paths.
    """
    _, first = np.unique(rows.table["index"].to_numpy(), return_index=True)
    table = rows.table.take(first)
    digest = hashlib.sha256(f"{len(table)} {photo}".encode())
    contents: set[str] = set()
    named = any(table[NAMING].unique().to_pylist())
    for column in (*_TEXTS, *HASH_COLUMNS, *[NAMING] * named):
        digest.update(column.encode())
        for start in range(0, len(table), _SOME):
            texts = [text or "" for text in table[column].slice(start, _SOME).to_pylist()]
            if column == "id" and face == ALL:
                texts = [_NUMBER.sub("", text) for text in texts]
            digest.update("".join(f"\0{text}" for text in texts).encode())
            if column in HASH_COLUMNS:
                contents.update(texts)
    about = {key: value for key, value in origin.items() if key != "command"}
    return {**about, "triplets": len(table), "images": len(contents - {""}), "sha256": digest.hexdigest()}


def weights_of(fingerprints: Iterable[str]) -> dict[str, str]:
    """The files of weights that fingerprints name, with their SHA-256; with its first 16 digits where this
    installation doesn't know the file."""
    found: dict[str, str] = {}
    for name, start in (match for text in fingerprints for match in _WEIGHTS.findall(text)):
        try:
            whole = store.entry(name).sha256
        except UnknownWeightsError:
            whole = ""
        found[name] = whole if whole.startswith(start) else start
    return dict(sorted(found.items()))


def triplets_again(
    record: Mapping[str, Any], rows: Rows, face: str, by: Sequence[str], path: str | os.PathLike[str] | None
) -> Sequence[Triplet]:
    """The rows of a result, read again as they were read then.

    Args:
        record: `input` of its summary.
        rows: of the result.
        face: which of several faces was measured.
        by: columns of the manifest that are wanted.
        path: where the folder or manifest is now; None: where it was.

    Raises:
        InputError: it isn't there any more, or rows that were handed over one by one named faces.
    """
    name = record["name"] if path is None else os.fsdecode(path)
    if name and not Path(name).exists():
        raise InputError(f"the input {name!r} is not here: name the folder or manifest with --input (source=)")
    if record["layout"]:
        return read_layout(record["layout"], name, **_as_paths(record["options"]))
    if name:
        return read_triplets(name, given=by)
    if record["faces_named"]:
        raise InputError(
            "this result's rows were handed over in Python and name faces, which no file keeps: name a manifest with "
            "--input (source=)"
        )
    found: dict[str, Triplet] = {}
    for row in rows.records():
        id_ = _NUMBER.sub("", row["id"]) if face == ALL else row["id"]
        target, source, swapped = (Path(row[role]) if row[role] else None for role in ("target", "source", "swapped"))
        found.setdefault(id_, Triplet(id_, target, source, swapped, row["model"] or "", row["group"] or ""))
    return list(found.values())


def _as_paths(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: Path(v) if key.endswith(("dir", "file")) else v for key, v in options.items()}
