"""Layouts: data sets that say by folders and names which target and source a swapped image was made of.

| name | what it is |
| --- | --- |
| `pairs` | swapped images whose names follow a template, such as `{target}_{source}.png`, or `{target}.png` |
| `ffpp` | FaceForensics++: videos or folders of frames TARGET_SOURCE, by method and compression |
| `casia` | CASIA FaceSwapping: a file of pairs, and results named after them |

Every reader gives a `Triplet` for each swapped image or frame, and one with its `problem` for every file that it can't
make sense of. A further layout is a file with such a function and a line in `LAYOUTS`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from exprmetric.choices import resolve
from exprmetric.errors import InputError
from exprmetric.inputs.triplets import Triplet
from exprmetric.io.progress import Progress, no_progress


@dataclass(frozen=True)
class Layout:
    """How a layout is read.

    Attributes:
        reader: `module:function`, called with the root and the options by name → triplets.
        needs: options that must be given.
        takes: options that may be given.
    """

    reader: str
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()


_VIDEO = ("workdir", "frames", "progress")

LAYOUTS: dict[str, Layout] = {
    "pairs": Layout("exprmetric.inputs.templated:triplets_from_template", ("target_dir",), ("source_dir", "template")),
    "ffpp": Layout("exprmetric.inputs.ffpp:triplets_from_ffpp", (), ("compression", *_VIDEO)),
    "casia": Layout(
        "exprmetric.inputs.casia:triplets_from_casia", ("pair_file", "source_dir"), ("target_dir", "template", *_VIDEO)
    ),
}


def read_layout(
    name: str,
    root: str | os.PathLike[str],
    *,
    template: str | None = None,
    target_dir: Path | None = None,
    source_dir: Path | None = None,
    pair_file: Path | None = None,
    compression: str | None = None,
    frames: int | None = None,
    workdir: Path | None = None,
    progress: Progress = no_progress,
    clips: bool = False,
) -> list[Triplet]:
    """Read a data set of this layout; options that are None have the defaults of its reader.

    Args:
        name: one of `LAYOUTS`.
        root: the folder of the swapped images (`pairs`, `casia`), or of the whole data set (`ffpp`).
        template: how swapped images are named.
        target_dir: folder of the targets.
        source_dir: folder of the sources.
        pair_file: a text file with a pair 'source target' in each line.
        compression: of FaceForensics++: raw, c23, c40.
        frames: of each swapped clip, evenly spaced; 0 for all.
        workdir: where frames of videos are kept, and found by the next run.
        progress: told how many clips are read. Layouts of single images don't call it.
        clips: rows are whole clips, for `exprmetric video evaluate`; no frame is taken from them.

    Raises:
        InputError: there is no such layout, it needs an option that isn't given or takes none of that name, or the
            data set is wrong as a whole.
    """
    layout = LAYOUTS.get(name)
    if layout is None:
        raise InputError(f"no layout is named {name!r}; there are {', '.join(LAYOUTS)}")
    options: dict[str, object] = {
        "template": template,
        "target_dir": target_dir,
        "source_dir": source_dir,
        "pair_file": pair_file,
        "compression": compression,
        "frames": frames,
        "workdir": workdir,
    }
    given = {option: value for option, value in options.items() if value is not None}
    if missing := [option for option in layout.needs if option not in given]:
        raise InputError(f"layout {name!r} needs {_arguments(missing)}")
    accepted = [option for option in layout.needs + layout.takes if not (clips and option in _VIDEO)]
    if extra := [option for option in given if option not in accepted]:
        raise InputError(f"layout {name!r} takes no {_arguments(extra)}")
    if "progress" in accepted:
        given["progress"] = progress
    if clips:
        given["clips"] = True
    found: list[Triplet] = resolve(layout.reader)(Path(os.fsdecode(root)), **given)
    return found


def _arguments(names: list[str]) -> str:
    """In backquotes, which the command line replaces by its options."""
    return ", ".join(f"`{name}`" for name in names)
