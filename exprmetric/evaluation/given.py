"""What Python hands over as input: tuples, mappings or a data frame, of paths, Pillow images or arrays."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from exprmetric.errors import InputError
from exprmetric.inputs.triplets import ROLES, Triplet
from exprmetric.io.images import read_image

TEXTS = ("id", "model", "group", "target_label", "source_label", "person")
"""Keys of a row beside its images, as in a manifest."""
_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []
"""Pictures that came as pixels lie here until the process ends."""


def as_image(given: Any) -> Any:
    """A path as it is, and a Pillow image as an RGB uint8 (H, W, 3) array; arrays are checked where they are read.

    Raises:
        InputError: it is none of these.
    """
    if isinstance(given, str | os.PathLike):
        return given
    if callable(convert := getattr(given, "convert", None)) and hasattr(given, "getbands"):
        given = convert("RGB")
    if hasattr(given, "__array__") or hasattr(given, "__array_interface__"):
        import numpy as np

        return np.asarray(given)
    raise InputError(f"an image is a path, an array (H, W, 3) or a Pillow image, not {type(given).__name__}")


def given_triplets(source: Iterable[Any], out: str | os.PathLike[str] | None) -> list[Triplet]:
    """Triplets of what `evaluate` is given.

    Args:
        source: `Triplet`s; tuples (target, source, swapped) or, without a source, (target, swapped); mappings with
            these keys and optionally TEXTS; or a pandas data frame with such columns.
        out: folder of the result: pixels are written into its `images/` as PNG; None: into a temporary folder.

    Raises:
        InputError: a row is none of these; the message names it.
    """
    if hasattr(source, "to_dict") and hasattr(source, "columns"):
        source = source.to_dict("records")
    if isinstance(source, Mapping):
        raise InputError("the input is one mapping: give a list of them, one for each row")
    try:
        rows = list(source)
    except TypeError as error:
        message = f"the input is a path, or rows of target, source and swapped, not {type(source).__name__}"
        raise InputError(message) from error
    return [row if isinstance(row, Triplet) else _triplet(i, row, out) for i, row in enumerate(rows)]


def _triplet(number: int, row: Any, out: str | os.PathLike[str] | None) -> Triplet:
    if isinstance(row, Mapping):
        texts = {key: str(row[key]) for key in TEXTS if _there(row.get(key))}
        images = {role: row.get(role) for role in ROLES}
    elif isinstance(row, tuple | list) and len(row) in (2, 3):
        texts, images = {}, dict(zip(ROLES if len(row) == 3 else ("target", "swapped"), row, strict=True))
    else:
        raise InputError(
            f"row {number}: expected (target, source, swapped), (target, swapped) or a mapping, not a "
            f"{type(row).__name__}"
        )
    found = {role: image for role, image in images.items() if _there(image)}
    if missing := [role for role in ("target", "swapped") if role not in found]:
        raise InputError(f"row {number}: no {' and no '.join(missing)}")
    name = texts.pop("id", f"row{number}")
    paths = {role: _path(image, f"{number:06d}_{role}", out) for role, image in found.items()}
    made = Triplet(name, paths["target"], paths.get("source"), paths["swapped"])
    more: dict[str, Any] = texts
    return replace(made, **more) if more else made


def _there(value: Any) -> bool:
    """Something is given: not None, not '', and not the NaN of a data frame's empty cell."""
    return not (
        value is None or (isinstance(value, str) and not value) or (isinstance(value, float) and value != value)
    )


def _path(given: Any, name: str, out: str | os.PathLike[str] | None) -> Path:
    image = as_image(given)
    if isinstance(image, str | os.PathLike):
        return Path(os.fsdecode(image))
    from PIL import Image

    if out is None and not _FOLDERS:
        _FOLDERS.append(tempfile.TemporaryDirectory(prefix="exprmetric-images-"))
    folder = Path(out) / "images" if out is not None else Path(_FOLDERS[0].name)
    pixels = read_image(image)
    path = folder / f"{name}.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    except OSError as error:
        raise InputError(f"can't write {path}: {error}") from error
    return path
