"""The layout `ffpp`: FaceForensics++, as its download script writes it and as others make swaps of it.

`original_sequences/youtube/<compression>/videos/TTT.mp4` are the originals, `manipulated_sequences/<method>/
<compression>/videos/TTT_SSS.mp4` the swaps of source SSS into target TTT: "All filenames are of the form
<target sequence>_<source sequence>" (dataset/README.md of ondyari/FaceForensics). Extracted frames are in `images/` or
`frames/` in place of `videos/`, a folder for each video. A root with `originals/` and `swapped/`, which hold videos or
folders of frames named in the same way (and photographs as sources), is read too.

A clip that is named as an original is, `TTT.mp4`, is that one anonymized: it has no source.

Which frames go together: frame N of a swap was made of frame N of its target. For s2c, frame N of the source is taken:
FF++'s own FaceSwap script uses that one, and so do papers that swap FF++ frame by frame (MegaFS). Where the source is
shorter, nothing is prescribed; here it begins again: N modulo its length.

Face2Face and NeuralTextures are reenactments: they keep the identity and transfer the source's expression, so they are
far from the target's expression when they work. Face2Face rewinds targets that are shorter than their source; frames
behind the target's end are rows with a problem.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from exprmetric.errors import InputError
from exprmetric.inputs.clips import CLIP_SUFFIXES, is_frame
from exprmetric.inputs.folder import files_below, misnamed, not_utf8, require_unique, unmatched
from exprmetric.inputs.pairing import FRAMES, ClipSwap, pair_frames, whole_clips
from exprmetric.inputs.template import choose, first_splits, parse_template
from exprmetric.inputs.triplets import Triplet
from exprmetric.io.images import IMAGE_SUFFIXES, MOVING_SUFFIXES
from exprmetric.io.progress import Progress, no_progress
from exprmetric.io.tables import listed, show

ORIGINALS = Path("original_sequences", "youtube")
MANIPULATED = Path("manipulated_sequences")
NO_SWAPS = frozenset({"masks", "models"})
"""What the download script puts beside the compressions of a method."""
FOLDERS = ("images", "frames", "videos")
"""Where clips lie, in the order in which they are taken: frames that are extracted already come first."""

_NAME = parse_template("{target}_{source}")


@dataclass(frozen=True)
class _Shelf:
    """The clips of a folder, by the kind of folder that they lie in and by name."""

    folder: Path
    kinds: Mapping[str, Mapping[str, Path]]

    def find(self, name: str, first: str = "") -> Path | None:
        """A clip of this name, of this kind if there is one."""
        kinds = sorted(self.kinds, key=lambda kind: kind != first)
        return next((self.kinds[kind][name] for kind in kinds if name in self.kinds[kind]), None)


@dataclass(frozen=True)
class _Method:
    """Where the swaps of one method lie, and the originals that they were made of."""

    model: str
    swapped: _Shelf
    originals: _Shelf


def triplets_from_ffpp(
    root: Path,
    *,
    compression: str | None = None,
    workdir: Path | None = None,
    frames: int = FRAMES,
    progress: Progress = no_progress,
    clips: bool = False,
) -> list[Triplet]:
    """Rows of all methods: `model` is the method, `group` the target clip, the id `method/TTT_SSS/frame`.

    A clip that is there as a video and as frames is taken as frames, if its target is there as frames too. Hidden
    files, `masks/`, `models/` and other compressions are passed over; any other file below `manipulated_sequences/` or
    `swapped/` that is no part of a swap is a row with its problem, and so is a swap without its originals.

    Args:
        root: of the data set, or a folder with `originals/` and `swapped/`.
        compression: raw, c0, c23 or c40; may be left out where there is only one.
        workdir: as in `pair_frames`.
        frames: as in `pair_frames`.
        progress: as in `pair_frames`.
        clips: a row is a whole clip.

    Raises:
        InputError: folders are missing, the compression is not named or not there, there are no swaps, two videos have
            one name, or there is a video and no `workdir`.
    """
    items: list[ClipSwap | Triplet] = []
    for method in _methods(root, compression, items):
        items += [_swap(root, method, name) for name in _names(method.swapped)]
        items += _strays(root, method)
    if not items:
        raise InputError(f"{show(root)} holds no swaps")
    rows = whole_clips(items) if clips else pair_frames(items, workdir=workdir, frames=frames, progress=progress)
    require_unique(rows)
    return rows


def _methods(root: Path, compression: str | None, items: list[ClipSwap | Triplet]) -> list[_Method]:
    """The methods of a root; what lies beside them goes to `items`."""
    manipulated = root / MANIPULATED
    if not manipulated.is_dir():
        return [_Method("", _flat(root, "swapped"), _flat(root, "originals"))]
    if (root / "swapped").is_dir():
        raise InputError(f"{show(root)} holds both {MANIPULATED}/ and swapped/: move one away")
    folders = _visible(manipulated, Path.is_dir)
    found = {folder: [child.name for child in _visible(folder, Path.is_dir)] for folder in folders}
    chosen = _compression(root, {name for names in found.values() for name in names} - NO_SWAPS, compression)
    for folder in (manipulated, *folders):
        items += [
            unmatched(root, path, "it lies beside the folders of the swaps") for path in _visible(folder, Path.is_file)
        ]
    items += [
        unmatched(root, folder, f"it holds no {chosen!r}. Found: {listed(names) or 'nothing'}", model=folder.name)
        for folder, names in found.items()
        if chosen not in names
    ]
    originals = _shelf(root / ORIGINALS / chosen)
    return [_Method(f.name, _shelf(f / chosen), originals) for f, names in found.items() if chosen in names]


def _compression(root: Path, found: set[str], wanted: str | None) -> str:
    if wanted is not None and wanted in found:
        return wanted
    if wanted is None and len(found) == 1:
        return found.pop()
    there = listed(sorted(found)) or "nothing"
    if wanted is not None:
        raise InputError(f"{show(root / MANIPULATED)} holds no compression {wanted!r}. Found: {there}")
    raise InputError(f"{show(root / MANIPULATED)}: name the `compression` to read. Found: {there}")


def _flat(root: Path, name: str) -> _Shelf:
    folder = root / name
    if not folder.is_dir():
        raise InputError(
            f"{show(root)} is no FaceForensics++: expected {MANIPULATED}/ and {ORIGINALS}/, or originals/ and swapped/"
        )
    return _Shelf(folder, {"frames": _folders(folder), "videos": _videos(folder, CLIP_SUFFIXES)})


def _shelf(folder: Path) -> _Shelf:
    if not folder.is_dir():
        raise InputError(f"no such folder: {show(folder)}")
    kinds = {kind: folder / kind for kind in FOLDERS if (folder / kind).is_dir()}
    clips = {k: _videos(p, MOVING_SUFFIXES) if k == "videos" else _folders(p) for k, p in kinds.items()}
    return _Shelf(folder, clips)


def _folders(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in _visible(folder, Path.is_dir)}


def _videos(folder: Path, suffixes: frozenset[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in _visible(folder, Path.is_file):
        if path.suffix.lower() in suffixes and found.setdefault(path.stem, path) != path:
            raise InputError(f"two videos with the stem {path.stem!r}: {show(found[path.stem])} and {show(path)}")
    return found


def _visible(folder: Path, kind: Callable[[Path], bool]) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and kind(path))
    except OSError as error:
        raise InputError(f"{show(folder)} can't be listed: {error.strerror}") from error


def _names(shelf: _Shelf) -> list[str]:
    return sorted({name for clips in shelf.kinds.values() for name in clips})


def _swap(root: Path, method: _Method, name: str) -> ClipSwap | Triplet:
    """The swap of this name with its originals, or a row that says what it lacks."""
    swapped, originals = method.swapped, method.originals
    clip = swapped.find(name)
    assert clip is not None  # the name comes from there
    if problem := not_utf8(clip):
        return unmatched(root, clip, problem, model=method.model)
    kinds = [kind for kind, clips in swapped.kinds.items() if name in clips]

    def made(target: str, source: str) -> ClipSwap | Triplet:
        kind = next((k for k in kinds if target in originals.kinds.get(k, {})), kinds[0])
        paths = {n: originals.find(n, first=kind) for n in (target, source) if n}
        roles = (("target", target), ("source", source))
        lacking = [
            f"no {role} clip: {show(originals.folder)} holds none named {n!r}"
            for role, n in roles
            if n and paths[n] is None
        ]
        if lacking or (whole := paths[target]) is None:
            return unmatched(root, clip, "; ".join(lacking), model=method.model)
        own = f"{method.model}/{name}" if method.model else name
        other = paths[source] if source else None
        return ClipSwap(own, whole, other, swapped.kinds[kind][name], model=method.model, group=target)

    if originals.find(name) is not None:  # it is named as its target is: an anonymized clip
        return made(name, "")
    splits = first_splits(_NAME, name)
    if not splits:
        return unmatched(root, clip, "its name is neither TARGET_SOURCE nor that of an original", model=method.model)
    split, problem = choose(
        splits, lambda s: originals.find(s["target"]) is not None, lambda s: originals.find(s["source"]) is not None
    )
    if split is None:
        return unmatched(root, clip, f"{problem}; looked for in {show(originals.folder)}", model=method.model)
    return made(split["target"], split["source"])


def _strays(root: Path, method: _Method) -> list[Triplet]:
    """Rows for the files of a method that are neither a swap nor a frame of one."""
    clips = {path for kind in method.swapped.kinds.values() for path in kind.values()}
    rows = []
    for path in files_below(method.swapped.folder):
        if path in clips or (path.parent in clips and is_frame(path)):
            continue
        problem = "it is no video TARGET_SOURCE, nor a frame in a folder TARGET_SOURCE/"
        if path.parent in clips:
            problem = misnamed(path, IMAGE_SUFFIXES)
        rows.append(unmatched(root, path, problem, model=method.model))
    return rows
