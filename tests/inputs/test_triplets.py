"""What becomes of folders and manifests: every row is there, every fault is named."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exprmetric.errors import InputError
from exprmetric.inputs.triplets import (
    ROLES,
    Triplet,
    notes_of,
    read_triplets,
    single_triplet,
    triplets_from_folder,
    triplets_from_manifest,
)

COLUMNS = ("id", "model", "target", "source", "swapped", "group", "target_label", "source_label")
Row = dict[str, str | None]
FUZZ = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def make_files(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"pixels")
    return root


def write_csv(path: Path, rows: Sequence[Row], columns: Sequence[str] = COLUMNS) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({name: row.get(name) for name in columns} for row in rows)
    return path


def write_jsonl(path: Path, rows: Sequence[Row], columns: Sequence[str] = COLUMNS) -> Path:
    lines = [json.dumps({name: row.get(name) for name in columns}, ensure_ascii=False) for row in rows]
    path.write_bytes("\n".join(lines).encode())
    return path


def write_parquet(path: Path, rows: Sequence[Row], columns: Sequence[str] = COLUMNS) -> Path:
    table = {name: pyarrow.array([row.get(name) for row in rows], pyarrow.string()) for name in columns}
    pyarrow.parquet.write_table(pyarrow.table(table), path)
    return path


WRITERS: dict[str, Callable[..., Path]] = {
    ".csv": write_csv,
    ".jsonl": write_jsonl,
    ".parquet": write_parquet,
}


@pytest.fixture
def abc(tmp_path: Path) -> Path:
    """A folder with the complete triplets a, b and c."""
    return make_files(tmp_path / "swaps", *(f"{role}/{stem}.png" for role in ROLES for stem in "cab"))


def test_a_folder_pairs_by_stem_in_sorted_order(abc: Path) -> None:
    triplets = read_triplets(str(abc))
    assert [t.id for t in triplets] == ["a", "b", "c"]
    for t in triplets:
        assert (t.target, t.source, t.swapped) == tuple(abc / role / f"{t.id}.png" for role in ROLES)
        assert (t.group, t.problem, t.model) == ("", "", "")


def test_suffixes_may_differ_between_roles_and_in_case(tmp_path: Path) -> None:
    make_files(tmp_path, "target/x.v2.png", "source/x.v2.JPG", "swapped/x.v2.webp")
    (triplet,) = read_triplets(tmp_path)
    assert triplet.id == "x.v2" and not triplet.problem


@pytest.mark.parametrize("role", ROLES)
def test_a_missing_partner_is_a_row_and_never_a_shift(role: str, abc: Path) -> None:
    (abc / role / "b.png").unlink()
    a, b, c = read_triplets(abc)
    assert (a.problem, c.problem) == ("", "")
    assert b.id == "b" and getattr(b, role) is None
    assert f"no {role} image" in b.problem and "'b'" in b.problem
    assert not any(f"no {other} image" in b.problem for other in ROLES if other != role)


@FUZZ
@given(
    stems=st.dictionaries(
        st.text("abcXY_-é表 .", min_size=1, max_size=6).filter(lambda s: s[0] not in ". " and s[-1] not in ". "),
        st.sets(st.sampled_from(ROLES), min_size=1),
        min_size=1,
        max_size=8,
    ),
    nested=st.booleans(),
)
def test_every_image_is_in_a_row_and_every_missing_partner_is_named(
    stems: dict[str, set[str]], nested: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("folder")
    stems = {f"model/{stem}" if nested else stem: roles for stem, roles in stems.items()}
    stems["everywhere"] = set(ROLES)
    make_files(root, *(f"{role}/{stem}.png" for stem, roles in stems.items() for role in roles))
    triplets = triplets_from_folder(root)
    rows = {t.id: t for t in triplets}
    assert list(rows) == sorted(rows) and len(rows) == len(triplets)
    for t in triplets:
        assert all((f"no {role} image" in t.problem) == (getattr(t, role) is None) for role in ROLES)
    for stem, roles in stems.items():
        for role in roles:  # every image is in one row, or the problem of the one row that it may belong to names it
            path = root / role / f"{stem}.png"
            holds = [t for t in triplets if getattr(t, role) == path]
            assert len(holds) == 1 or (not holds and sum(repr(str(path)) in t.problem for t in triplets) == 1)
            if "target" in roles:  # and equal names always belong together
                assert holds == [rows[stem]]


def test_subfolders_belong_to_the_stem(tmp_path: Path) -> None:
    names = [f"{role}/{model}/x.png" for role in ROLES for model in ("A", "B")]
    triplets = read_triplets(make_files(tmp_path, *names))
    assert [t.id for t in triplets] == ["A/x", "B/x"]
    assert triplets[0].swapped == tmp_path / "swapped/A/x.png" and triplets[0].target == tmp_path / "target/A/x.png"


def test_two_images_with_one_stem_are_refused(abc: Path) -> None:
    make_files(abc, "source/b.jpg")
    with pytest.raises(InputError, match=r"stem 'b'.*b\.jpg.*b\.png"):
        read_triplets(abc)


def test_files_that_are_no_images_are_named_and_hidden_ones_are_not(abc: Path) -> None:
    make_files(abc, "source/notes.txt", "source/.DS_Store", "target/.cache/a.png", "swapped/clip.mp4")
    triplets = read_triplets(abc)
    assert [t.id for t in triplets] == ["a", "b", "c"]
    text = " ".join(notes_of(triplets))
    assert "notes.txt" in text and "clip.mp4" in text
    assert "DS_Store" not in text and ".cache" not in text


def test_a_wrong_folder_is_refused_with_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder or manifest"):
        read_triplets(tmp_path / "nowhere")
    with pytest.raises(InputError, match="Found: nothing"):
        read_triplets(tmp_path)
    make_files(tmp_path, "target/a.png", "Sources/a.png")
    with pytest.raises(InputError, match=r"no folder 'swapped'; .*Found: 'Sources', 'target'"):
        read_triplets(tmp_path)
    make_files(tmp_path, "swapped.zip")
    with pytest.raises(InputError, match=r"no folder 'swapped'; .*Unpack archives"):
        read_triplets(tmp_path)
    make_files(tmp_path, "swapped/a.mp4")
    with pytest.raises(InputError, match=r"swapped' holds no images. Found: .*a\.mp4'. `exprmetric video evaluate`"):
        read_triplets(tmp_path)


def test_linked_images_and_folders_are_followed_but_not_in_circles(abc: Path, tmp_path: Path) -> None:
    faces = make_files(tmp_path / "faces", "d.png")
    for role in ROLES:
        (abc / role / "more").symlink_to(faces)
    assert [t.id for t in read_triplets(abc)] == ["a", "b", "c", "more/d"]
    (abc / "target" / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    broken = next(t for t in read_triplets(abc) if t.id == "dangling")
    assert "target file not found" in broken.problem
    (abc / "source" / "loop").symlink_to(abc)
    with pytest.raises(InputError, match="links to a folder that holds it"):
        read_triplets(abc)


def test_names_that_are_not_utf8_are_rows_with_escapes_in_their_ids(abc: Path) -> None:
    name = Path(os.fsdecode(os.fsencode(abc) + b"/source/caf\xe9.png"))
    try:
        name.write_bytes(b"")
    except OSError:
        pytest.skip("this file system allows no such name")
    odd = next(t for t in read_triplets(abc) if t.id not in "abc")
    assert (odd.id, odd.source) == ("caf\\xe9", name)
    assert "no target image" in odd.problem and "no swapped image" in odd.problem
    (abc / "source" / "caf\\xe9.png").write_bytes(b"")  # the escape as a name of its own: never one row for two files
    with pytest.raises(InputError, match="two images with the stem"):
        read_triplets(abc)


def test_links_between_two_folders_are_no_endless_input(abc: Path, tmp_path: Path) -> None:
    other = make_files(tmp_path / "other", "d.png")
    (abc / "source" / "there").symlink_to(other)
    assert "there/d" in [t.id for t in read_triplets(abc)]
    (other / "back").symlink_to(abc / "source")
    with pytest.raises(InputError, match="back' links to a folder that holds it"):
        read_triplets(abc)


def test_names_that_no_file_can_have_are_problems_of_their_rows(abc: Path) -> None:
    whole = [abc / role / "a.png" for role in ROLES]
    for name in ("a\0b.png", "\ud800.png"):
        (triplet,) = single_triplet(whole[0], name, whole[2])
        assert "source can't be the name of a file" in triplet.problem and repr(name)[1:-1] in triplet.problem


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_manifest_in_the_folder_is_preferred(suffix: str, abc: Path) -> None:
    row: Row = {"target": "target/a.png", "source": "source/b.png", "swapped": "swapped/c.png", "model": "M"}
    WRITERS[suffix](abc / f"triplets{suffix}", [row])
    (triplet,) = read_triplets(abc)
    assert (triplet.id, triplet.model, triplet.source) == ("c", "M", abc / "source/b.png")
    write_csv(abc / "triplets.csv", [row])
    if suffix != ".csv":
        with pytest.raises(InputError, match="name the one to read"):
            read_triplets(abc)


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_manifest_alone_makes_a_folder(suffix: str, tmp_path: Path) -> None:
    make_files(tmp_path, "t.png", "s.png", "c.png")
    WRITERS[suffix](tmp_path / f"triplets{suffix}", [{"target": "t.png", "source": "s.png", "swapped": "c.png"}])
    (triplet,) = read_triplets(tmp_path)
    assert triplet == Triplet("c", tmp_path / "t.png", tmp_path / "s.png", tmp_path / "c.png", problem="")


cells = st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@FUZZ
@given(rows=st.lists(st.fixed_dictionaries(dict.fromkeys(COLUMNS[1:], cells)), min_size=1, max_size=6))
def test_any_text_means_the_same_in_every_format(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("manifests")
    rows = [{"id": f"{number}", **row} for number, row in enumerate(rows)]
    results = [triplets_from_manifest(write(folder / f"m{suffix}", rows)) for suffix, write in WRITERS.items()]
    assert results[0] == results[1] == results[2]
    for row, triplet in zip(rows, results[0], strict=True):
        assert triplet.id == row["id"]
        assert (triplet.model, triplet.target_label) == (row["model"] or "", row["target_label"] or "")
        for role in ROLES:
            given = (row[role] or "").strip()
            assert getattr(triplet, role) == (folder / str(row[role]) if given else None)
            # none of these files exists, and only a source may be left out
            assert (role in triplet.problem) == bool(given or role != "source")


@FUZZ
@given(data=st.binary(max_size=200), suffix=st.sampled_from(sorted(WRITERS)), header=st.booleans())
def test_random_bytes_are_read_or_refused(
    data: bytes, suffix: str, header: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / f"m{suffix}"
    path.write_bytes((b"target,source,swapped\n" if header else b"") + data)
    try:
        triplets = read_triplets(path)
    except InputError as error:
        assert path.name in str(error)
    else:
        assert triplets and all(t.problem for t in triplets)


@FUZZ
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4), st.lists, max_leaves=3
    )
)
def test_any_json_value_is_read_or_refused(value: object, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "m.jsonl"
    path.write_text(json.dumps({"target": "t", "source": "s", "swapped": "c", "id": value, "note": value}))
    try:
        (triplet,) = read_triplets(path)
    except InputError as error:
        assert "line 1" in str(error) and "'id'" in str(error)
    else:
        assert not isinstance(value, bool | list)
        if isinstance(value, int):
            assert triplet.id == str(value)


def test_relative_paths_start_at_the_manifest_and_absolute_ones_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_files(tmp_path, "faces/t.png", "data/s.png", "c.png")
    path = write_csv(
        tmp_path / "data" / "m.csv",
        [{"target": "../faces/t.png", "source": "s.png", "swapped": str(tmp_path / "c.png")}],
    )
    monkeypatch.chdir(tmp_path / "faces")
    (triplet,) = read_triplets(path)
    assert triplet.problem == ""
    assert triplet.swapped == tmp_path / "c.png"


def test_faulty_rows_stay_rows(tmp_path: Path) -> None:
    make_files(tmp_path, "t.png", "s.png", "c.png", "folder/x.png")
    complete: Row = {"target": "t.png", "source": "s.png", "swapped": "c.png"}
    changes: list[Row] = [
        {},
        {"target": None},
        {"source": "  "},
        {"swapped": "lost.png"},
        {"source": "folder"},
        {"target": "lost.png", "source": None, "swapped": "x" * 300},
    ]
    rows: list[Row] = [{"id": str(number), **complete, **row} for number, row in enumerate(changes)]
    read = read_triplets(write_csv(tmp_path / "m.csv", rows))
    assert notes_of(read)[-1] == "2 of 6 rows name no source: they are measured without one"
    problems = [t.problem for t in read]
    lost = repr(str(tmp_path / "lost.png"))
    assert problems[:4] == [
        "",
        "no target image is given",
        "",
        f"swapped file not found: {lost}",
    ]
    assert problems[4].startswith("source is a folder")
    assert f"target file not found: {lost}; swapped file can't be opened" in problems[5]


def test_ids_are_stems_where_unique_and_row_numbers_where_not(tmp_path: Path) -> None:
    rows: list[Row] = [{"swapped": name} for name in ("a/x.png", "b/x.png", "y.png", "")]
    rows.append({"swapped": "z.png", "id": "mine"})
    ids = [t.id for t in read_triplets(write_csv(tmp_path / "m.csv", rows))]
    assert ids == ["row 0001", "row 0002", "y", "row 0004", "mine"]


def test_an_id_used_twice_is_refused(tmp_path: Path) -> None:
    rows: list[Row] = [{"id": "a"}, {"id": "b"}, {"id": "a"}]
    with pytest.raises(InputError, match="rows 1, 3 have the same id 'a'"):
        read_triplets(write_csv(tmp_path / "m.csv", rows))
    with pytest.raises(InputError, match="rows 1, 2, 3, 4, 5, 6, 7, 8 and 992 more have the same id 'a'"):
        read_triplets(write_csv(tmp_path / "m.csv", rows[:1] * 1000))


def test_labels_are_read_where_they_stand(tmp_path: Path) -> None:
    labels = [("fear", "fear"), ("fear", "anger"), ("", "anger"), ("", "")]
    rows: list[Row] = [
        {"id": str(number), "target_label": a, "source_label": b} for number, (a, b) in enumerate(labels)
    ]
    triplets = read_triplets(write_csv(tmp_path / "m.csv", rows))
    assert [(t.target_label, t.source_label) for t in triplets] == labels


def test_a_group_is_what_the_manifest_says(tmp_path: Path) -> None:
    rows: list[Row] = [{"id": "0", "target": "t.png"}, {"id": "1", "target": "t.png", "group": "film"}]
    assert [t.group for t in read_triplets(write_csv(tmp_path / "m.csv", rows))] == ["", "film"]


def test_class_numbers_are_labels_whatever_the_writer_made_of_them(tmp_path: Path) -> None:
    columns = {role: ["a", "b"] for role in ROLES}
    table = pyarrow.table(
        {
            **columns,
            "id": [7, 8],
            "target_label": [3.0, float("nan")],
            "source_label": pyarrow.array([3, None]),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "m.parquet")
    first, second = read_triplets(tmp_path / "m.parquet")
    assert (first.id, first.target_label, first.source_label) == ("7", "3", "3")
    assert (second.target_label, second.source_label) == ("", "")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", b"", r"no column 'target', 'swapped'. Columns found: none"),
        ("m.csv", b"target,sorce,swapped\na,b,c\n", "no column 'source'.*'source' is perhaps 'sorce'"),
        ("m.csv", b"target,source,swapped\n", "no rows"),
        ("m.csv", b"target,source,swaped\na,b,c\n", "no column 'swapped'.*'swapped' is perhaps 'swaped'"),
        (
            "m.csv",
            b"Target, source,swapped\na,b,c\n",
            "'target' is perhaps 'Target'; 'source' is perhaps ' source'",
        ),
        ("m.csv", b"target;source;swapped\na;b;c\n", "separated by commas"),
        ("m.csv", b"target,source,swapped\na,b,c\na,b,c,d\n", "line 3: 4 cells under 3 columns"),
        ("m.csv", b'target,source,swapped\n"a,b,c\n', "line 2"),
        ("m.csv", b"target,source,swapped,target\na,b,c,d\n", "'target' occurs twice"),
        ("m.csv", b"target,source,swapped\na,\xff,c\n", "not UTF-8.*byte 24"),
        ("m.csv", "target,source,swapped\na,b,c\n".encode("utf-16"), "not UTF-8"),
        ("m.csv", b"target,source,swapped\na,b\0,c\n", "line 2: a NUL"),
        ("m.jsonl", b'{"target": "a", "source": "b", "swapped": "c"}\n{"target":', "line 2 is not JSON"),
        ("m.jsonl", b'{"target": "a", "target": "b"}', "line 1 is not JSON.*twice"),
        ("m.jsonl", b'["a", "b", "c"]', "line 1: expected an object, not list"),
        ("m.jsonl", b"[" * 100_000, "line 1 is not JSON"),
        ("m.jsonl", b'{"target": "a", "source": "b"}', "no column 'swapped'"),
        ("m.jsonl", b'{"target": ["a"], "source": "b", "swapped": "c"}', "line 1: 'target' must be text"),
        ("m.jsonl", b'{"target": "a\\u0000", "source": "b", "swapped": "c"}', "NUL"),
        ("m.jsonl", b'{"target": "\\ud800", "source": "b", "swapped": "c"}', "half a character"),
        ("m.jsonl", b"\n\n", "no column"),
        ("m.parquet", b"PAR1 but no more", "not a Parquet file"),
        ("m.xlsx", b"PK", r"expected a file that ends in \.csv, \.jsonl, \.parquet$"),
        ("swaps.zip", b"PK\x03\x04", r"\.parquet\. Unpack the archive and give its folder"),
    ],
)
def test_a_malformed_manifest_is_refused_with_the_place(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_triplets(tmp_path / name)
    assert name in str(caught.value)


def test_what_spreadsheets_write_is_read(tmp_path: Path) -> None:
    make_files(tmp_path, "t,1.png", "s.png", "c é.png")
    path = tmp_path / "M.CSV"
    text = 'target,source,swapped,note\r\n"t,1.png",s.png,c é.png,"two\r\nlines"\r\n\r\n"t,1.png",s.png\r\n'
    path.write_bytes(text.encode("utf-8-sig"))
    first, second = read_triplets(path)
    assert first.problem == "" and first.id == "c é"
    assert second.problem == "no swapped image is given" and second.id == "row 0002"


def test_three_files_make_one_triplet(abc: Path) -> None:
    (triplet,) = single_triplet(abc / "target/a.png", str(abc / "source/b.png"), abc / "swapped/c.png")
    assert (triplet.id, triplet.source, triplet.problem) == ("c", abc / "source/b.png", "")
    (broken,) = single_triplet(abc / "target/a.png", "", abc / "swapped/lost.png")
    assert "no source image is given; swapped file not found" in broken.problem


def test_reading_a_csv_loads_no_heavy_package(abc: Path) -> None:
    code = (
        "import sys; from exprmetric.inputs.triplets import read_triplets; "
        f"assert len(read_triplets({str(abc)!r})) == 3; "
        "print(sorted({'numpy', 'PIL', 'cv2', 'pyarrow', 'torch'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.shared
def test_the_development_swaps_are_complete_and_know_their_models(shared_data: Callable[[str], Path]) -> None:
    triplets = read_triplets(shared_data("swaps_dev"))
    assert len(triplets) == 123
    assert not [t.problem for t in triplets if t.problem]
    assert {"SimSwap", "GHOST", "FaceShifter"} <= {t.model for t in triplets}
