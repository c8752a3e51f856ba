"""Arrays that are made once and kept as `.npz`, in a file that is named after all that decides them."""

from __future__ import annotations

import hashlib
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exprmetric.io.files import write_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

DAMAGED_ARRAYS = (
    ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError, RuntimeError,
    zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip
"""What NumPy and zipfile raise on the bytes of an `.npz` that is cut off or changed."""


def digest(*parts: object) -> str:
    """SHA-256, hexadecimal, of arrays (their shape, type and content) and of the texts of other values."""
    import numpy as np

    found = hashlib.sha256()
    for i, part in enumerate(parts):
        found.update(b"\n" * bool(i))
        if isinstance(part, np.ndarray):
            found.update(f"{part.shape} {part.dtype} ".encode() + np.ascontiguousarray(part).tobytes())
        else:
            found.update(str(part).encode("utf-8", "surrogateescape"))
    return found.hexdigest()


def kept_arrays(path: Path, *names: str) -> dict[str, NDArray[Any]] | None:
    """Arrays of an `.npz` cache by name; None where it isn't there, or is cut off or damaged, of which a warning tells.

    Raises:
        OSError: it is there and can't be opened.
    """
    import numpy as np

    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    try:
        with file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in names}
    except (*DAMAGED_ARRAYS, OSError) as error:  # OSError: a damaged index sends the reader to a place that can't be
        warnings.warn(f"{str(path)!r} is damaged and is made anew: {error}", stacklevel=2)
        return None


def keep_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write them whole or not at all; the folder is made if it isn't there."""
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda file: np.savez_compressed(file, **arrays))


def kept(
    folder: Path,
    name: str,
    key: Sequence[object],
    names: Sequence[str],
    make: Callable[[], Mapping[str, Any]],
    *,
    worth: Callable[[Mapping[str, Any]], bool] = lambda made: True,
) -> dict[str, Any]:
    """What `make` gives, made once.

    Args:
        folder: of the cache, made if it isn't there.
        name: of what is kept, for people who look into the folder.
        key: all that decides it, see `digest`.
        names: of the arrays that `make` gives.
        worth: whether what was made is kept.

    Raises:
        OSError: the folder can't be written.
    """
    path = folder / f"{name}-{digest(*key)[:20]}.npz"
    found = kept_arrays(path, *names)
    if found is None:
        found = dict(make())
        if worth(found):
            keep_arrays(path, found)
    return found
