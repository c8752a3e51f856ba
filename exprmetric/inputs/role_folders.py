"""Images of `target/`, `source/` and `swapped/` become rows: which belong together, by their names.

An anonymizer's pictures have no source: there `target/` and `swapped/`, or `original/` and `anonymized/`, are enough.

Equal names do. Names that people write differently (Unicode form, case, zeros before a number, a word before or behind
all names of a folder) do where one image alone can be meant, and a note says so. A name with no partner is a row with a
problem that names the nearest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from exprmetric.errors import InputError
from exprmetric.io.files import path_text, walk_files
from exprmetric.io.frame_folders import NAME, SHIFTED, FramePairs, pair_frames, seem_shifted
from exprmetric.io.images import PICTURE_SUFFIXES, USE_VIDEO, VIDEO_SUFFIXES
from exprmetric.io.names import affixes, alike, composed, misspelling, natural, nearest
from exprmetric.io.tables import ARCHIVES, brief, listed, show

ROLES = TARGET, SOURCE, SWAPPED = "target", "source", "swapped"
CALLED = {TARGET: (TARGET, "original"), SOURCE: (SOURCE,), SWAPPED: (SWAPPED, "anonymized", "anonymised")}
"""What the folder of a role may be called."""
Images = Mapping[str, Path]
"""Images of a folder by their path below it, with '/' between its parts and without suffix."""
_SHOWN = 3  # names that a message gives as examples
_MOST_TYPOS = 100  # rows without a partner that are compared with each other
_TYPO = 0.75  # least likeness of two names of which one is a misspelling of the other


@dataclass(frozen=True)
class Row:
    """Images that belong together, by role; a role without one is left out.

    Attributes:
        id: the target's name, with the model before it; else the name of what is there.
        hint: what may have been meant by a role that is missing.
    """

    id: str
    images: dict[str, Path]
    model: str = ""
    hint: str = ""


def find_roles(root: Path, expected: str) -> tuple[dict[str, Path], list[str]]:
    """The role folders of a root, also `Target/` or `targets/` where no other could be meant, and notes about that.

    Args:
        expected: what the root may hold instead of role folders, for the message.

    Raises:
        InputError: one other than `source/` is missing, or several could be meant; the message says what was found.
    """
    found = {r: root / n for r, names in CALLED.items() for n in reversed(names) if (root / n).is_dir()}
    notes: list[str] = []
    there = sorted(child.name for child in root.iterdir()) if root.is_dir() else []
    several: dict[str, list[str]] = {}
    for role in (r for r in ROLES if r not in found):
        like = [n for n in there if _plainly(n) in CALLED[role] and (root / n).is_dir()]
        if len(like) == 1:
            found[role] = root / like[0]
            notes.append(f"{show(root / like[0])} is taken for {role}/")
        elif like:
            several[role] = like
    missing = [role for role in ROLES if role not in found and (role != SOURCE or role in several)]
    if missing:
        hint = f"; several could be meant: {listed(n for names in several.values() for n in names)}" if several else ""
        raise InputError(
            f"{show(root)} has no folder {listed(missing)}{hint}; expected target/ and swapped/ (or original/ and "
            f"anonymized/), and source/ where there is one, or {expected}. "
            f"Found: {listed(there) if there else 'nothing'}{_unpacked(there)}"
        )
    if SOURCE not in found:
        used = {path.name for path in found.values()}
        others = [n for n in there if n not in used and not n.startswith(".") and (root / n).is_dir()]
        if others:
            notes.append(
                f"{show(root)} has no source/: its rows are measured without a source. Left out: {listed(others)}"
            )
    return {role: found[role] for role in ROLES if role in found}, notes


def _unpacked(found: Iterable[str | Path]) -> str:
    """What helps where there are archives."""
    return ". Unpack archives: folders are read" if any(Path(f).suffix.lower() in ARCHIVES for f in found) else ""


def _plainly(name: str) -> str:
    return composed(name).casefold().removesuffix("s")


def images_by_stem(folder: Path, notes: list[str]) -> dict[str, Path]:
    """Images below a role folder by their relative path without suffix; what else lies there goes to the notes.

    Raises:
        InputError: there are none, or two of one name.
    """
    images: dict[str, Path] = {}
    others: list[Path] = []
    for path in sorted(walk_files(folder)):
        stem = path_text(path.relative_to(folder).with_suffix("").as_posix())
        if path.suffix.lower() not in PICTURE_SUFFIXES:
            others.append(path)
        elif stem in images:
            raise InputError(f"two images with the stem {stem!r}: {show(images[stem])} and {show(path)}")
        else:
            images[stem] = path
    if not images:
        videos = any(path.suffix.lower() in VIDEO_SUFFIXES for path in others)
        found = f"Found: {listed(others) if others else 'nothing'}"
        helps = f". {USE_VIDEO}" if videos else _unpacked(others)
        raise InputError(f"{show(folder)} holds no images. {found}{helps}")
    if others:
        notes.append(f"no images by their suffix, left out: {listed(others)}")
    return images


def match(images: Mapping[str, Images], folders: Mapping[str, Path]) -> tuple[list[Row], list[str]]:
    """One row for each target and each model, and for what belongs to none; sorted by id. And what to tell the user.

    Args:
        images: of each role.
        folders: of each role, for messages.

    Raises:
        InputError: no swapped image has a target, or whether frames are numbered from one number or another can't be
            told.
    """
    targets, sources = images[TARGET], images.get(SOURCE, {})
    models, note = _models(images, folders)
    notes = {note: None}  # each once
    rows: dict[str, Row] = {}
    used: set[str] = set()

    def add(name: str, model: str, role: str, found: Mapping[str, Path | None]) -> None:
        id_ = f"{model}/{name}" if model else name
        id_ = id_ if id_ not in rows else f"{role}/{id_}"
        rows[id_] = Row(id_, {r: path for r, path in found.items() if path}, model)

    for model, swapped in models.items():
        swaps = _swaps_of(targets, swapped, folders)
        with_target = set(swaps.partner.values())
        lonely = [name for name in swapped if name not in with_target]
        of_row, note = _sources_of(targets, sources, swapped, lonely, swaps, folders)
        notes |= {swaps.note: None, note: None}
        used |= set(of_row.values())
        for name, path in targets.items():
            found = {
                TARGET: path,
                SOURCE: sources.get(of_row.get(name, "")),
                SWAPPED: swapped.get(swaps.partner.get(name, "")),
            }
            add(name, model, TARGET, found)
        for name in lonely:
            source = None if name in targets else sources.get(of_row.get(name, ""))
            add(name, model, SWAPPED, {SOURCE: source, SWAPPED: swapped[name]})
    for name in (n for n in sources if n not in used):
        add(name, "", SOURCE, {SOURCE: sources[name]})
    if not any(TARGET in row.images and SWAPPED in row.images for row in rows.values()):
        raise InputError(_nothing(images, folders))
    return sorted(_without_typos(list(rows.values()), len(images)), key=lambda row: row.id), [
        note for note in notes if note
    ]


def _models(images: Mapping[str, Images], folders: Mapping[str, Path]) -> tuple[dict[str, Images], str]:
    """Swapped images by model, and a note: folders of swapped/ alone, which hold names of targets."""
    others = {n.split("/")[0] for role, named in images.items() if role != SWAPPED for n in named if "/" in n}
    plainly: dict[str, Path] = {}
    models: dict[str, dict[str, Path]] = {}
    for name, path in images[SWAPPED].items():
        model, _, rest = name.partition("/")
        if rest and model not in others:
            models.setdefault(model, {})[rest] = path
        else:
            plainly[name] = path
    if not any(_partners(images[TARGET], rest).partner for rest in models.values()):
        return {"": images[SWAPPED]}, ""
    found: dict[str, Images] = {"": plainly} if plainly else {}
    return found | dict(sorted(models.items())), (
        f"the folders of {show(folders[SWAPPED])} are taken for models: {listed(sorted(models))}"
    )


def _swaps_of(targets: Images, swapped: Images, folders: Mapping[str, Path]) -> FramePairs:
    """The swap of each target by name."""
    if targets.keys() == swapped.keys():
        return FramePairs({name: name for name in targets})
    if len(targets) == len(swapped) == 1:
        (target, a), (swap, b) = *targets.items(), *swapped.items()
        return FramePairs({target: swap}, NAME, f"{show(a)} and {show(b)} belong together: there are no others")
    ours, theirs = _by_folder(targets), _by_folder(swapped)
    shifted: dict[str, str] = {}
    notes: list[str] = []
    left = set(targets), set(swapped)
    for place in (place for place in ours if place in theirs and seem_shifted(ours[place], theirs[place])):
        both = folders[TARGET] / place, folders[SWAPPED] / place
        pairs = pair_frames(ours[place], theirs[place], both)
        shifted |= pairs.partner
        notes.append(pairs.note)
        left = left[0] - ours[place].keys(), left[1] - theirs[place].keys()
    if not shifted:
        return _partners(targets, swapped, (folders[TARGET], folders[SWAPPED]))
    rest = _partners(*left, (folders[TARGET], folders[SWAPPED]))
    return FramePairs(shifted | dict(rest.partner), SHIFTED, "; ".join(filter(None, [*notes, rest.note])))


def _by_folder(images: Images) -> dict[str, dict[str, Path]]:
    found: dict[str, dict[str, Path]] = {}
    for name, path in images.items():
        found.setdefault(name.rpartition("/")[0], {})[name] = path
    return found


def _partners(names: Iterable[str], others: Iterable[str], folders: Sequence[Path] = ()) -> FramePairs:
    """By name, the other that is the same: equal, written differently, or the same without what a folder's names share.

    The last is only looked at where nothing else fits, and not where what they share is itself a name: then swaps are
    named after target and source.
    """
    names, others = list(names), list(others)
    known = set(others)
    equal = {name: name for name in names if name in known}
    odd = alike(names, others) if len(equal) < len(names) else {}
    where = " and ".join(show(folder) for folder in folders)
    if equal or odd:
        examples = "; ".join(f"{brief(repr(a))} with {brief(repr(b))}" for a, b in sorted(odd.items())[:_SHOWN])
        note = f"{where}: {len(odd)} names that are written differently are taken for the same: {examples}"
        return FramePairs(equal | odd, NAME, note if odd else "")
    ours, theirs = affixes(names), affixes(others)
    shared = {part.strip("_-. ") for part in (*ours, *theirs)} - {""}
    if not shared or shared & {*names, *others}:
        return FramePairs({})
    bare = {_bare(name, ours): name for name in names}, {_bare(name, theirs): name for name in others}
    if len(bare[0]) < len(names) or len(bare[1]) < len(others) or "" in {*bare[0], *bare[1]}:
        return FramePairs({})
    same = {name: name for name in bare[0] if name in bare[1]} | alike(*bare)
    without = listed(sorted({part for part in (*ours, *theirs) if part}))
    note = f"{where}: names are compared without {without}" if same else ""
    return FramePairs({bare[0][a]: bare[1][b] for a, b in same.items()}, NAME, note)


def _bare(name: str, affix: tuple[str, str]) -> str:
    return name.removeprefix(affix[0]).removesuffix(affix[1])


def _sources_of(
    targets: Images,
    sources: Images,
    swapped: Images,
    lonely: Sequence[str],
    swaps: FramePairs,
    folders: Mapping[str, Path],
) -> tuple[dict[str, str], str]:
    """The source of each target, and of each swap without one, by their names; and a note."""
    if not sources:
        return {}, ""
    rows = [*targets, *lonely]
    both = folders[TARGET], folders[SOURCE]
    if len(sources) == 1 and len(rows) > 1 and not sources.keys() & {*targets, *swapped}:
        ((only, path),) = sources.items()
        return dict.fromkeys(rows, only), f"{show(path)} is the source of all {len(rows)} targets"
    if len(sources) == len(rows) == 1:
        return dict.fromkeys(rows, next(iter(sources))), ""
    if swaps.by != SHIFTED:
        found = _partners(rows, sources, both)
        return dict(found.partner), found.note
    as_targets, as_swaps = sources.keys() <= targets.keys(), sources.keys() <= swapped.keys()
    if as_targets == as_swaps and sources.keys() != targets.keys():
        raise InputError(
            f"{show(folders[TARGET])} and {show(folders[SWAPPED])} count from different numbers, and whether "
            f"{show(folders[SOURCE])} counts as the one or as the other can't be told: give all three the same numbers"
        )
    if as_targets:
        return {name: name for name in targets if name in sources}, ""
    return {target: swap for target, swap in swaps.partner.items() if swap in sources}, ""


def _without_typos(rows: Sequence[Row], roles: int) -> list[Row]:
    """Two rows that lack what the other has, and whose names are hardly different, become one that says so.

    It can't be measured: whether the two belong together is the user's to say.

    Args:
        roles: how many images a whole row has.
    """
    lacking = [row for row in rows if TARGET in row.images and len(row.images) < roles]
    orphans = [row for row in rows if TARGET not in row.images]
    if not lacking or not orphans or max(len(lacking), len(orphans)) > _MOST_TYPOS:
        return list(rows)
    hints: dict[str, str] = {}
    dropped: set[str] = set()
    for orphan in orphans:
        likest = _likest(orphan, lacking)
        if likest and _likest(likest, orphans) is orphan and likest.id not in hints:
            dropped.add(orphan.id)
            named = " and ".join(show(path) for path in orphan.images.values())
            hints[likest.id] = f"{named} has no target; is one of the two names misspelled?"
    return [Row(r.id, r.images, r.model, hints.get(r.id, "")) for r in rows if r.id not in dropped]


def _likest(row: Row, others: Iterable[Row]) -> Row | None:
    """The one of the others that lacks what this one has and has by far the likest name."""
    place, _, name = row.id.rpartition("/")
    likeness: list[tuple[float, Row]] = []
    for other in others:
        its_place, _, its_name = other.id.rpartition("/")
        if its_place == place and other.model == row.model and not other.images.keys() & row.images.keys():
            likeness.append((misspelling(name, its_name), other))
    likeness.sort(key=lambda pair: -pair[0])
    if not likeness or likeness[0][0] < _TYPO or (len(likeness) > 1 and likeness[1][0] == likeness[0][0]):
        return None
    return likeness[0][1]


def _nothing(images: Mapping[str, Images], folders: Mapping[str, Path]) -> str:
    """Why nothing can be measured, and what helps."""
    targets, swapped = (sorted(images[role], key=natural) for role in (TARGET, SWAPPED))
    deep = next((s for s in swapped if s.count("/") > 1 and s.split("/", 2)[2] in images[TARGET]), "")
    near = next(((s, found[0]) for s in swapped[:20] if (found := nearest(s, targets, 1))), None)
    return (
        f"no image of {show(folders[SWAPPED])} has the name of one in {show(folders[TARGET])}: "
        f"{listed(swapped, _SHOWN)} against {listed(targets, _SHOWN)}"
        + (f"; the nearest are {near[0]!r} and {near[1]!r}" if near and not deep else "")
        + (f". Folders of models stand right below it: move {deep.rpartition('/')[0]!r} up" if deep else "")
        + ". Give both the same names, or name the rows in a manifest, or, where swaps are named after target and "
        "source, read swapped/ with `template`, `target_dir` and `source_dir`"
    )
