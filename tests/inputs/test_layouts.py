"""Layouts: names are read as the data sets write them, nothing is dropped, and no name leads out of its folder."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from exprmetric.errors import InputError
from exprmetric.inputs import LAYOUTS, read_layout
from exprmetric.inputs.casia import read_pair_lines, triplets_from_casia
from exprmetric.inputs.clips import evenly
from exprmetric.inputs.ffpp import triplets_from_ffpp
from exprmetric.inputs.template import FIELDS, MOST_SPLITS, first_splits, parse_template
from exprmetric.inputs.templated import triplets_from_template
from exprmetric.inputs.triplets import Triplet
from exprmetric.io.images import read_image

ROLES = ("target", "source", "swapped")
SIDE = 64


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def by_id(rows: Iterable[Triplet]) -> dict[str, Triplet]:
    rows = list(rows)
    found = {row.id: row for row in rows}
    assert len(found) == len(rows)
    return found


def files_of(row: Triplet) -> list[str]:
    return [path.name if (path := getattr(row, role)) else "" for role in ROLES]


def check_accounted(
    rows: list[Triplet], folder: Path, passed_over: Callable[[Path], bool] = lambda path: False
) -> None:
    """Every file of the folder is the swapped image of a row."""
    files = {path for path in folder.rglob("*") if path.is_file() and not passed_over(path)}
    assert files <= {row.swapped for row in rows}


# --- templates ---------------------------------------------------------------------------------------------------

plain = st.text(st.sampled_from("ab_-.{} é0"), max_size=4)
values = st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=6)


@st.composite
def templates(draw: st.DrawFn) -> str:
    others = draw(st.lists(st.sampled_from(FIELDS[2:]), unique=True))
    fields = draw(st.permutations(["target", "source", *others]))
    separators = draw(st.lists(plain.filter(bool) | st.just("/"), min_size=len(fields) - 1, max_size=len(fields) - 1))
    literals = [draw(plain), *separators, draw(plain)]
    escaped = [text.replace("{", "{{").replace("}", "}}") for text in literals]
    return "".join(f"{text}{{{field}}}" for text, field in zip(escaped, fields, strict=False)) + escaped[-1]


@given(template=templates(), data=st.data())
def test_what_a_template_writes_it_reads_back(template: str, data: st.DataObject) -> None:
    pattern = parse_template(template)
    names = {field: data.draw(values) for field in pattern.fields}
    splits = list(pattern.splits(pattern.format(names)))
    assert names in splits
    assert all(pattern.format(split) == pattern.format(names) for split in splits)


@given(template=templates(), data=st.data())
def test_all_ways_to_read_a_name_are_found_once(template: str, data: st.DataObject) -> None:
    pattern = parse_template(template)
    short = st.text(st.sampled_from("ab_-./"), max_size=2)  # empty values and folders, which no field may hold, too
    name = pattern.format({field: data.draw(short) for field in pattern.fields})[:14]
    expected = set()
    for begins in itertools.combinations(range(len(name)), len(pattern.fields)):  # every choice of where fields begin
        ends = [b - len(text) for b, text in zip((*begins[1:], len(name)), pattern.literals[1:], strict=True)]
        found = tuple(name[a:b] for a, b in zip(begins, ends, strict=True) if a < b)
        whole = len(found) == len(begins) and "/" not in "".join(found)
        if whole and pattern.format(dict(zip(pattern.fields, found, strict=True))) == name:
            expected.add(found)
    splits = [tuple(split[field] for field in pattern.fields) for split in pattern.splits(name)]
    assert len(splits) == len(set(splits)) and set(splits) == expected


@given(
    st.text(max_size=30)
    | st.lists(st.sampled_from(["{target}", "{source}", "{", "}", "{frame}", "_", "/", ".."])).map("".join)
)
@settings(max_examples=300)
def test_any_text_is_a_template_or_an_input_error(text: str) -> None:
    try:
        pattern = parse_template(text)
    except InputError as error:
        assert repr(text) in str(error)
    else:
        assert {"target", "source"} <= set(pattern.fields)
        list(pattern.splits("a_b_c.png"))


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{target}_{sorce}.png", "{sorce}"),
        ("{target}{source}.png", "nothing stands between {target} and {source}"),
        ("{target}_{target}_{source}", "{target} occurs twice"),
        ("{target}_{source", "expected '}'"),
        ("{target}_source}", "Single '}'"),
        ("{target}_{source!r}", "{source!r}"),
        ("{target}_{source:03d}", "{source:03d}"),
        ("{target}_{}", "there is no field {}"),
        ("{target}.png", "{source} is missing"),
        ("*_{target}_{source}", "no wildcard"),
        ("../{target}_{source}", "below the folder"),
        ("/{target}_{source}", "below the folder"),
        ("{target}\\{source}", "separated by '/'"),
        ("", "{target}, {source} is missing"),
    ],
)
def test_a_wrong_template_says_what_is_wrong(template: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        parse_template(template)
    assert said in str(error.value) and repr(template) in str(error.value)


def test_a_name_of_many_splits_takes_no_time() -> None:
    pattern = parse_template("{target}_{source}_{model}_{frame}_{id}.png")
    started = time.process_time()
    assert len(first_splits(pattern, "a_" * 120 + "a.png")) == MOST_SPLITS + 1
    assert first_splits(pattern, "a_" * 120 + "a.jpg") == []
    assert first_splits(parse_template("{target}_{source}_{model}_{frame}X{id}"), "a_" * 120) == []
    assert time.process_time() - started < 3  # all ways are 8 million


# --- pairs -------------------------------------------------------------------------------------------------------


@pytest.fixture
def pairs(tmp_path: Path) -> Callable[..., list[Triplet]]:
    touch(tmp_path, "t/a.png", "t/b.jpg", "t/a_b.png", "s/c.png", "s/b_c.png", "s/d.png")

    def read(*swapped: str, template: str = "{target}_{source}.png") -> list[Triplet]:
        touch(tmp_path / "c", *swapped)
        rows = triplets_from_template(tmp_path / "c", tmp_path / "t", tmp_path / "s", template)
        check_accounted(rows, tmp_path / "c")
        assert len(rows) == len(swapped)
        return rows

    return read


def test_names_say_what_a_swap_was_made_of(pairs: Callable[..., list[Triplet]]) -> None:
    row = by_id(pairs("b_d.png"))["b_d"]
    assert files_of(row) == ["b.jpg", "d.png", "b_d.png"] and row.problem == "" and row.group == ""


def test_the_one_split_whose_images_exist_is_taken(pairs: Callable[..., list[Triplet]]) -> None:
    assert files_of(pairs("a_b_d.png")[0]) == ["a_b.png", "d.png", "a_b_d.png"]


def test_a_name_of_two_meanings_is_a_row_that_names_both(pairs: Callable[..., list[Triplet]]) -> None:
    row = pairs("a_b_c.png")[0]  # a + b_c, or a_b + c
    assert row.target is None and row.id == "a_b_c.png"
    assert "can be read in 2 ways: (target 'a', source 'b_c') or (target 'a_b', source 'c')" in row.problem


def test_what_no_rule_matches_is_a_row_that_names_the_rule(pairs: Callable[..., list[Triplet]]) -> None:
    rows = by_id(pairs("a.png", "a_d.png", "b_d.jpg", "notes.txt", "sub/b_d.png", "x_d.png", "x_y_z.png"))
    assert "template '{target}_{source}.png'" in rows["a.png"].problem
    assert "template" in rows["b_d.jpg"].problem and "template" in rows["sub/b_d.png"].problem
    assert "'.txt'" in rows["notes.txt"].problem
    assert "no target image" in rows["x_d"].problem and "'x'" in rows["x_d"].problem
    assert rows["x_d"].source is not None
    assert "target 'x', source 'y_z'" in rows["x_y_z.png"].problem


def test_a_template_may_hold_model_id_and_folders(pairs: Callable[..., list[Triplet]]) -> None:
    rows = by_id(pairs("net/7-b+d.webp", "other/8-b+d.png", template="{model}/{id}-{target}+{source}"))
    assert {id_: (row.model, row.problem) for id_, row in rows.items()} == {"7": ("net", ""), "8": ("other", "")}
    with pytest.raises(InputError, match="same id '7'"):
        pairs("net/7-b+d.webp", "other/8-b+d.png", "x/7-b+d.png", template="{model}/{id}-{target}+{source}")


def test_images_of_one_stem_have_different_ids(pairs: Callable[..., list[Triplet]]) -> None:
    assert set(by_id(pairs("b_d.png", "b_d.jpg", "b_d", template="{target}_{source}"))) == {"b_d.png", "b_d.jpg", "b_d"}


def test_two_targets_of_one_stem_are_not_guessed_between(pairs: Callable[..., list[Triplet]], tmp_path: Path) -> None:
    touch(tmp_path, "t/b.png")
    assert "2 target image files are named 'b'" in pairs("b_d.png")[0].problem


def test_frames_are_taken_from_folders(tmp_path: Path) -> None:
    touch(tmp_path, "t/a/01.png", "t/a/02.png", "t/still.png", "s/b/01.png", "s/still.png")
    touch(tmp_path / "c", "a_b/01.png", "a_b/02.png", "a_b/03.png", "a_still/02.png", "still_b/01.png")
    rows = by_id(
        triplets_from_template(tmp_path / "c", tmp_path / "t", tmp_path / "s", "{target}_{source}/{frame}.png")
    )
    assert rows["a_b/01"].problem == "" and rows["a_b/01"].target == tmp_path / "t/a/01.png"
    assert rows["a_b/02"].source is None and "'b/02'" in rows["a_b/02"].problem
    assert "'a/03'" in rows["a_b/03"].problem
    assert rows["still_b/01"].target is None and "'still/01'" in rows["still_b/01"].problem  # no frame of a clip
    assert rows["a_still/02"].source == tmp_path / "s/still.png" and rows["a_still/02"].group == "a"


def test_hidden_files_are_passed_over_and_odd_names_are_not(tmp_path: Path) -> None:
    touch(tmp_path, "t/a.png", "s/b.png", "c/a_b.png", "c/.DS_Store")
    try:
        (tmp_path / "c" / os.fsdecode(b"\xff.png")).write_bytes(b"")
    except OSError:
        pytest.skip("names are UTF-8 here")
    rows = by_id(triplets_from_template(tmp_path / "c", tmp_path / "t", tmp_path / "s"))
    assert set(rows) == {"a_b", "\\xff.png"} and "UTF-8" in rows["\\xff.png"].problem


@pytest.mark.parametrize("missing", ["c", "t", "s"])
def test_a_missing_or_empty_folder_is_an_input_error(tmp_path: Path, missing: str) -> None:
    for folder in "cts":
        touch(tmp_path, f"{folder}/a_b.png")
    next((tmp_path / missing).iterdir()).unlink()
    with pytest.raises(InputError, match="holds no images"):
        triplets_from_template(tmp_path / "c", tmp_path / "t", tmp_path / "s")
    (tmp_path / missing).rmdir()
    with pytest.raises(InputError, match="no such folder"):
        triplets_from_template(tmp_path / "c", tmp_path / "t", tmp_path / "s")


file_names = st.text(st.sampled_from("ab_.{}"), min_size=1, max_size=7).filter(lambda name: name.strip(".") != "")


@given(swapped=st.sets(file_names, min_size=1), partners=st.sets(file_names), template=templates())
@settings(max_examples=60)
def test_every_file_is_one_row_and_no_name_leaves_its_folder(
    swapped: set[str], partners: set[str], template: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        touch(
            root, "a.png", "b.png", *(f"t/{n}.png" for n in {"a", *partners}), *(f"s/{n}.png" for n in {"b", *partners})
        )
        touch(root / "c", *(f"{name}.png" for name in swapped))
        try:
            rows = triplets_from_template(root / "c", root / "t", root / "s", template)
        except InputError as error:  # hidden names only, an id for two, or a template that fits nothing
            assert any(
                said in str(error) for said in ("holds no images", "same id", "matches `template`", "by `template`")
            )
            return
        by_id(rows)
        assert sorted(str(r.swapped) for r in rows) == sorted(str(p) for p in (root / "c").glob("[!.]*"))
        for row in rows:
            assert row.target is None or row.target.parent == root / "t"
            assert row.source is None or row.source.parent == root / "s"
            assert bool(row.problem) == (row.target is None or row.source is None)


# --- FaceForensics++ ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def picture(portrait_photo: Path) -> Callable[[int], npt.NDArray[np.uint8]]:
    """The photograph, small, in a brightness that tells a frame's number."""
    small = np.asarray(Image.open(portrait_photo).convert("RGB").resize((SIDE, SIDE)))

    def frame(number: int) -> npt.NDArray[np.uint8]:
        image = small.copy()
        image[: SIDE // 2] = 10 + 4 * number
        return image

    return frame


Picture = Callable[[int], npt.NDArray[np.uint8]]


def number(path: Path | None) -> int:
    assert path is not None
    return round((float(np.median(read_image(path)[: SIDE // 2 - 8])) - 10) / 4)


def write_frames(
    folder: Path, picture: Picture, numbers: Iterable[int], first: int = 0, name: str = "{:04d}.png"
) -> None:
    """Frames 0, 1, …, the brightness of each telling `first` more."""
    folder.mkdir(parents=True)
    for i in numbers:
        Image.fromarray(picture(first + i)).save(folder / name.format(i))


def write_video(path: Path, picture: Picture, count: int, first: int = 0) -> Path:
    av = pytest.importorskip("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        stream.options = {"crf": "4", "g": "5"}
        for i in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(first + i), format="rgb24")))
        container.mux(stream.encode())
    return path


def originals(root: Path, kind: str = "videos") -> Path:
    return root / "original_sequences/youtube/c23" / kind


def method(root: Path, name: str = "Deepfakes", kind: str = "videos") -> Path:
    return root / "manipulated_sequences" / name / "c23" / kind


@pytest.mark.parametrize("kind", ["images", "frames"])
def test_folders_of_frames_are_paired_by_the_names_of_files(tmp_path: Path, picture: Picture, kind: str) -> None:
    write_frames(originals(tmp_path, kind) / "000", picture, range(6))
    write_frames(originals(tmp_path, kind) / "003", picture, range(4), first=20)
    write_frames(method(tmp_path, kind=kind) / "000_003", picture, (1, 2, 5, 7), first=40)
    rows = by_id(triplets_from_ffpp(tmp_path))
    assert list(rows) == [f"Deepfakes/000_003/000{i}" for i in (1, 2, 5, 7)]
    assert {(row.model, row.group) for row in rows.values()} == {("Deepfakes", "000")}
    good = [row for row in rows.values() if not row.problem]
    assert [number(row.swapped) for row in good] == [41, 42, 45]
    assert [number(row.target) for row in good] == [1, 2, 5]
    assert [number(row.source) for row in good] == [21, 22, 22]  # the third of the swap, where there is no 0005
    behind = rows["Deepfakes/000_003/0007"]
    assert behind.target is None and "none goes with '0007'" in behind.problem and "000'" in behind.problem


def test_videos_are_paired_by_index_and_short_sources_begin_again(tmp_path: Path, picture: Picture) -> None:
    write_video(originals(tmp_path) / "000.mp4", picture, 9)
    write_video(originals(tmp_path) / "003.mp4", picture, 4, first=20)
    write_video(method(tmp_path) / "000_003.mp4", picture, 9, first=40)
    write_video(method(tmp_path, "FaceSwap") / "003_000.mp4", picture, 4, first=40)
    touch(tmp_path / "manipulated_sequences/FaceSwap", "masks/videos/003_000.mp4", "models/003_000.h5")
    rows = triplets_from_ffpp(tmp_path, workdir=tmp_path / "work", frames=0)
    assert all(row.problem == "" for row in rows)
    there, back = rows[:9], rows[9:]
    assert [number(row.swapped) for row in there] == list(range(40, 49))
    assert [number(row.target) for row in there] == list(range(9))
    assert [number(row.source) for row in there] == [20, 21, 22, 23, 20, 21, 22, 23, 20]
    assert [(row.model, row.group, number(row.target), number(row.source)) for row in back] == [
        ("FaceSwap", "003", 20 + i, i) for i in range(4)
    ]


def test_frames_are_extracted_without_loss_and_only_those_wanted(tmp_path: Path, picture: Picture) -> None:
    video_frames = pytest.importorskip("exprmetric.io.video")
    for path in ("originals/000.mp4", "originals/003.mp4", "swapped/000_003.mp4"):
        write_video(tmp_path / path, picture, 12, first=len(path))
    rows = read_layout("ffpp", tmp_path, workdir=tmp_path / "work", frames=3)
    assert [row.id for row in rows] == ["000_003/0002", "000_003/0006", "000_003/0010"] and rows[0].model == ""
    whole = {f.index: f.image for f in video_frames.frames(tmp_path / "swapped/000_003.mp4")}
    for row, index in zip(rows, (2, 6, 10), strict=True):
        assert row.swapped is not None and np.array_equal(read_image(row.swapped), whole[index])
    # 000 and 003 hold the same bytes: one folder for both
    assert len(list((tmp_path / "work").rglob("*.png"))) == 6


def test_frames_are_found_again_until_the_video_changes(
    tmp_path: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap = tmp_path / "swapped/000_003.mp4"
    for path, first in ((tmp_path / "originals/000.mp4", 0), (tmp_path / "originals/003.mp4", 20), (swap, 40)):
        write_video(path, picture, 8, first)
    first_rows = triplets_from_ffpp(tmp_path, workdir=tmp_path / "work", frames=2)
    decoded: list[Path] = []
    video_frames = pytest.importorskip("exprmetric.io.video")
    real = video_frames.frames
    monkeypatch.setattr(video_frames, "frames", lambda path: decoded.append(path) or real(path))
    assert triplets_from_ffpp(tmp_path, workdir=tmp_path / "work", frames=2) == first_rows and decoded == []
    assert first_rows[0].target is not None
    first_rows[0].target.write_bytes(first_rows[0].target.read_bytes()[:-9])  # a disk that was full
    assert triplets_from_ffpp(tmp_path, workdir=tmp_path / "work", frames=2) == first_rows
    assert decoded == [tmp_path / "originals/000.mp4"] and number(first_rows[0].target) == 2
    write_video(swap, picture, 8, first=30)
    rows = triplets_from_ffpp(tmp_path, workdir=tmp_path / "work", frames=2)
    assert [number(row.swapped) for row in rows] == [32, 36]


def test_a_video_that_is_not_whole_is_one_row(tmp_path: Path, picture: Picture) -> None:
    for name in ("000", "003", "005"):
        write_video(originals(tmp_path) / f"{name}.mp4", picture, 30)
    for name in ("000_003", "003_000", "003_005", "005_003"):
        write_video(method(tmp_path) / f"{name}.mp4", picture, 30)
    (method(tmp_path) / "003_000.mp4").write_bytes(b"no video")
    damaged = originals(tmp_path) / "005.mp4"
    data = bytearray(damaged.read_bytes())
    start = data.index(b"mdat")
    end = start - 4 + int.from_bytes(data[start - 4 : start], "big")
    late = start + (end - start) * 5 // 6
    data[late:end] = bytes(end - late)  # the frame that is wanted comes before
    damaged.write_bytes(data)
    rows = by_id(triplets_from_ffpp(tmp_path, workdir=tmp_path / "work", frames=1))
    assert sum(row.problem == "" for row in rows.values()) == 1
    problems = {id_.removeprefix("Deepfakes/"): row.problem for id_, row in rows.items()}
    assert problems["003_000"].startswith("swapped clip: ") and "003_000.mp4" in problems["003_000"]
    assert problems["003_005"].startswith("source clip: ") and "005.mp4" in problems["003_005"]
    assert problems["005_003"].startswith("target clip: ") and "005.mp4" in problems["005_003"]
    assert len(rows) == 4
    assert by_id(triplets_from_ffpp(tmp_path, workdir=tmp_path / "work", frames=1)) == rows  # nothing half done is kept


def test_frames_of_a_folder_stand_in_the_order_in_which_people_count(tmp_path: Path, picture: Picture) -> None:
    for name in ("originals/000", "swapped/000_000"):
        write_frames(tmp_path / name, picture, range(12), name="f{}.png")
    assert [row.id for row in triplets_from_ffpp(tmp_path, frames=4)] == [f"000_000/f{i}" for i in (1, 4, 7, 10)]


def test_extracted_frames_are_preferred_if_the_target_has_them(tmp_path: Path, picture: Picture) -> None:
    for name in ("000", "003"):
        write_video(originals(tmp_path) / f"{name}.mp4", picture, 4)
    write_frames(originals(tmp_path, "images") / "000", picture, range(4))
    for name in ("000_003", "003_000"):
        write_video(method(tmp_path) / f"{name}.mp4", picture, 4)
        write_frames(method(tmp_path, kind="images") / name, picture, range(4))
    rows = triplets_from_ffpp(tmp_path, workdir=tmp_path / "work", frames=1)
    assert [row.problem for row in rows] == ["", ""]
    frames_of = [
        row.swapped is not None and row.swapped.is_relative_to(method(tmp_path, kind="images")) for row in rows
    ]
    assert frames_of == [True, False]
    assert rows[1].source is not None and rows[1].source.is_relative_to(tmp_path / "work")  # like the swap


def test_everything_below_the_manipulated_sequences_is_accounted_for(tmp_path: Path, picture: Picture) -> None:
    write_frames(originals(tmp_path, "images") / "000", picture, range(2))
    swaps = method(tmp_path, kind="images")
    write_frames(swaps / "000_003", picture, range(2))
    write_frames(swaps / "000_000", picture, range(2))
    (swaps / "000_000/0000.jpg").write_bytes(b"")
    write_frames(swaps / "odd", picture, range(1))
    (swaps / "000_000_empty").mkdir()
    touch(
        tmp_path / "manipulated_sequences", "README.txt", "Deepfakes/list.csv", "NeuralTextures/raw/videos/000_003.mp4"
    )
    touch(swaps, "000_003/notes.txt", "000_003/deeper/0000.png", "loose.png")
    touch(method(tmp_path, kind="masks"), "000_003.png")  # below a compression, where the data set has none
    touch(tmp_path / "manipulated_sequences/Deepfakes", "masks/videos/000_003.mp4", "models/000_003.h5")
    rows = by_id(triplets_from_ffpp(tmp_path, compression="c23"))
    problems = {id_.removeprefix("manipulated_sequences/"): row.problem for id_, row in rows.items()}
    assert "none named '003'" in problems["Deepfakes/c23/images/000_003"]
    assert "two frames have the same name" in problems["Deepfakes/000_000"]
    assert "TARGET_SOURCE" in problems["Deepfakes/c23/images/odd"]
    assert "Deepfakes/c23/images/000_000_empty" in problems
    assert problems["Deepfakes/c23/images/000_003/notes.txt"] == "its suffix '.txt' is not that of an image"
    for stray in ("images/000_003/deeper/0000.png", "images/loose.png", "masks/000_003.png"):
        assert "TARGET_SOURCE" in problems[f"Deepfakes/c23/{stray}"]
    assert "holds no 'c23'. Found: 'raw'" in problems["NeuralTextures"]
    assert {"README.txt", "Deepfakes/list.csv"} <= set(problems)
    assert len(problems) == 11 and all(problems.values())


def test_the_compression_is_named_where_there_are_several(tmp_path: Path, picture: Picture) -> None:
    for compression, first in (("c23", 0), ("c40", 20)):
        for folder in (
            "original_sequences/youtube/{}/images/000",
            "manipulated_sequences/FaceShifter/{}/images/000_000",
        ):
            write_frames(tmp_path / folder.format(compression), picture, range(1), first=first)
    with pytest.raises(InputError, match="'c23', 'c40'"):
        triplets_from_ffpp(tmp_path)
    with pytest.raises(InputError, match="no compression 'raw'"):
        read_layout("ffpp", tmp_path, compression="raw")
    rows = read_layout("ffpp", tmp_path, compression="c40")
    assert [number(row.target) for row in rows] == [number(row.swapped) for row in rows] == [20]


def test_a_photograph_may_be_the_source_of_a_clip(tmp_path: Path, picture: Picture) -> None:
    write_frames(tmp_path / "originals/dance", picture, range(3))
    Image.fromarray(picture(20)).save(tmp_path / "originals/anna.jpg", quality=98)
    write_frames(tmp_path / "swapped/dance_anna", picture, range(3), first=40)
    rows = triplets_from_ffpp(tmp_path, frames=0)
    assert [(number(r.target), number(r.source), number(r.swapped)) for r in rows] == [
        (i, 20, 40 + i) for i in range(3)
    ]


def test_a_clip_named_as_its_original_is_that_one_anonymized(tmp_path: Path, picture: Picture) -> None:
    write_frames(tmp_path / "originals/000", picture, range(4))
    write_frames(tmp_path / "originals/003", picture, range(4), first=20)
    write_frames(tmp_path / "swapped/000", picture, range(3), first=40)
    write_frames(tmp_path / "swapped/000_003", picture, range(3), first=50)
    write_frames(tmp_path / "swapped/other", picture, range(2))
    rows = triplets_from_ffpp(tmp_path, frames=0)
    alone = [row for row in rows if row.id.startswith("000/")]
    assert [(number(r.target), r.source, number(r.swapped), r.group) for r in alone] == [
        (i, None, 40 + i, "000") for i in range(3)
    ]
    assert all(row.roles == ("target", "swapped") and not row.problem for row in alone)
    sourced = [row for row in rows if row.id.startswith("000_003/")]
    assert [number(row.source) for row in sourced] == [20, 21, 22]
    (lost,) = {row.problem for row in rows if row.id == "swapped/other"}
    assert lost == "its name is neither TARGET_SOURCE nor that of an original"


def test_a_folder_is_not_paired_with_a_video(tmp_path: Path, picture: Picture) -> None:
    write_video(tmp_path / "originals/000.mp4", picture, 3)
    write_frames(tmp_path / "swapped/000_000", picture, range(3))
    (row,) = triplets_from_ffpp(tmp_path, workdir=tmp_path / "work")
    assert "whether numbers begin at 0 or 1" in row.problem


def test_roots_that_are_wrong_as_a_whole(tmp_path: Path, picture: Picture) -> None:
    with pytest.raises(InputError, match="is no FaceForensics"):
        triplets_from_ffpp(tmp_path)
    (tmp_path / "swapped").mkdir()
    (tmp_path / "originals").mkdir()
    with pytest.raises(InputError, match="holds no swaps"):
        triplets_from_ffpp(tmp_path)
    write_video(tmp_path / "originals/000.mp4", picture, 2)
    write_video(tmp_path / "swapped/000_000.mp4", picture, 2)
    with pytest.raises(InputError, match="workdir"):
        triplets_from_ffpp(tmp_path)
    with pytest.raises(InputError, match="`frames` must be 0"):
        triplets_from_ffpp(tmp_path, workdir=tmp_path / "work", frames=-1)
    with pytest.raises(InputError, match="can't hold the frames"):
        triplets_from_ffpp(tmp_path, workdir=touch(tmp_path, "file") / "file")
    touch(tmp_path, "manipulated_sequences/x.txt")
    with pytest.raises(InputError, match="holds both"):
        triplets_from_ffpp(tmp_path)
    (tmp_path / "manipulated_sequences").rename(tmp_path / "elsewhere")
    touch(tmp_path, "originals/000.avi")
    with pytest.raises(InputError, match="two videos with the stem '000'"):
        triplets_from_ffpp(tmp_path, workdir=tmp_path / "work")


@given(count=st.integers(0, 400), wanted=st.integers(0, 50))
def test_frames_are_spaced_evenly(count: int, wanted: int) -> None:
    chosen = evenly(count, wanted)
    assert len(chosen) == (min(count, wanted) if wanted else count)
    assert chosen == sorted(set(chosen)) and all(0 <= i < count for i in chosen)
    gaps = np.diff(chosen)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1
    if chosen:  # as far from the beginning as from the end
        assert abs(chosen[0] - (count - 1 - chosen[-1])) <= 1


# --- CASIA FaceSwapping ------------------------------------------------------------------------------------------


@pytest.fixture
def casia(tmp_path: Path) -> Callable[..., dict[str, Triplet]]:
    touch(tmp_path, *(f"faces/{name}.png" for name in ("0041-0_0", "0041-0_1", "1268-0_0", "1268-0_1")))

    def read(text: str | bytes, *results: str, **options: str) -> dict[str, Triplet]:
        (tmp_path / "pairs.txt").write_bytes(text.encode() if isinstance(text, str) else text)
        touch(tmp_path / "results", *results)
        rows = triplets_from_casia(
            tmp_path / "results", pair_file=tmp_path / "pairs.txt", source_dir=tmp_path / "faces", **options
        )
        check_accounted(rows, tmp_path / "results")
        return by_id(rows)

    return read


def test_the_source_of_a_pair_comes_first(casia: Callable[..., dict[str, Triplet]]) -> None:
    rows = casia("0041-0_0.png 1268-0_1.png\n", "0041-0_0-1268-0_1.png")
    row = rows["0041-0_0-1268-0_1"]
    assert files_of(row) == ["1268-0_1.png", "0041-0_0.png", "0041-0_0-1268-0_1.png"]
    assert row.problem == "" and row.group == "1268-0"


def test_every_line_and_every_result_is_a_row(casia: Callable[..., dict[str, Triplet]]) -> None:
    text = (
        "\ufeff# images\r\n"
        "0041-0_0.png\t1268-0_0.png\r\n"
        "\r\n"
        "0041-0_1.png\r\n"
        "0041-0_0.png 1268-0_0.png\r\n"
        "../pairs.txt /etc/passwd\r\n"
        "0041-0_1.png 1268-0_9.png\r\n"
        "a b c\r\n"
        "0041-0_0 1268-0_0\r\n"
    )
    rows = casia(text, "0041-0_0-1268-0_0.png", "0041-0_1-1268-0_9.png", "0041-0_0-0041-0_1.png", "log.txt")
    problems = {id_: row.problem for id_, row in rows.items()}
    assert problems.pop("0041-0_0-1268-0_0") == ""
    assert "line 4: expected 'source target', found 1 names" in problems["line 0004"]
    assert "line 5: the same pair as in line 2" in problems["line 0005"]
    assert "line 8: expected 'source target', found 3 names" in problems["line 0008"]
    assert "would be that of line 2" in problems["line 0009"]
    assert "holds none named '1268-0_9.png'" in problems["0041-0_1-1268-0_9"]
    out = rows["../pairs.txt-/etc/passwd"]
    assert (out.target, out.source, out.swapped) == (None, None, None) and "'/etc/passwd'" in out.problem
    assert "no line of" in problems["0041-0_0-0041-0_1.png"] and "no line of" in problems["log.txt"]
    assert len(problems) == 8


def test_results_may_have_another_template_and_several_models(casia: Callable[..., dict[str, Triplet]]) -> None:
    text = "0041-0_0.png 1268-0_0.png\n1268-0_0.png 0041-0_0.png\n"
    name = "{model}/all_simple/{target}+{source}.jpg"
    done = (
        "A/all_simple/1268-0_0+0041-0_0.jpg",
        "A/all_simple/0041-0_0+1268-0_0.jpg",
        "B/all_simple/1268-0_0+0041-0_0.png",
    )
    rows = casia(text, *done, template=name)
    assert [(row.model, bool(row.problem)) for row in rows.values()] == [
        ("A", False),
        ("A", False),
        ("B", False),
        ("B", True),
    ]
    assert "B/all_simple/0041-0_0+1268-0_0" in rows
    with pytest.raises(InputError, match="Anonymized images are read by their names alone"):
        casia(text, template="{target}")
    with pytest.raises(InputError, match="Anonymized images are read by their names alone"):
        casia(text, template="{target}")
    with pytest.raises(InputError, match="no \\{frame\\}"):
        casia(text, template="{source}-{target}_{frame}")
    with pytest.raises(InputError, match="holds no result"):
        casia(text, template="{model}/{source}={target}")


def test_of_a_video_pair_the_source_is_its_first_frame(tmp_path: Path, picture: Picture) -> None:
    write_video(tmp_path / "videos/1271-0.mp4", picture, 5, first=20)
    write_video(tmp_path / "videos/0113-1.mp4", picture, 8)
    write_video(tmp_path / "results/1271-0-0113-1.mp4", picture, 6, first=40)
    (tmp_path / "pairs.txt").write_text("1271-0 0113-1\n0113-1 1271-0\n")
    rows = read_layout(
        "casia",
        tmp_path / "results",
        pair_file=tmp_path / "pairs.txt",
        source_dir=tmp_path / "videos",
        workdir=tmp_path / "work",
        frames=0,
    )
    *good, bad = rows
    assert [(number(r.target), number(r.source), number(r.swapped)) for r in good] == [
        (i, 20, 40 + i) for i in range(6)
    ]
    assert {row.group for row in good} == {"0113-1"} and "none named '0113-1-1271-0'" in bad.problem


def test_a_pair_file_that_is_no_text_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    for content in (b"\xff\xfe", b"a b\0", b"", b"# nothing\n\n"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"pairs\.txt"):
            read_pair_lines(path)
    with pytest.raises(InputError, match=r"missing\.txt"):
        read_pair_lines(tmp_path / "missing.txt")


@given(st.lists(st.lists(st.text(st.sampled_from("ab-_é."), min_size=1, max_size=4), max_size=4), max_size=8))
def test_every_line_with_words_is_reported_once(lines: list[list[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pairs.txt")
        path.write_text("\n".join(map(" ".join, lines)), encoding="utf-8")
        if not any(lines):
            with pytest.raises(InputError):
                read_pair_lines(path)
            return
        found = read_pair_lines(path)
        assert [line.number for line in found] == [n for n, words in enumerate(lines, 1) if words]
        good = [(line.source, line.target) for line in found if not line.problem]
        assert good == list(dict.fromkeys(tuple(words) for words in lines if len(words) == 2))


# --- the registry, and the whole way -----------------------------------------------------------------------------


def test_options_that_a_layout_does_not_know_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no layout is named 'ff'; there are pairs, ffpp, casia"):
        read_layout("ff", tmp_path)
    with pytest.raises(InputError, match="'ffpp' takes no `pair_file`"):
        read_layout("ffpp", tmp_path, pair_file=tmp_path)
    with pytest.raises(InputError, match="'pairs' takes no `frames`"):
        read_layout("pairs", tmp_path, target_dir=tmp_path, source_dir=tmp_path, frames=3)
    with pytest.raises(InputError, match="'casia' needs `pair_file`, `source_dir`"):
        read_layout("casia", tmp_path)
    assert set(LAYOUTS) == {"pairs", "ffpp", "casia"}


def test_progress_tells_of_every_clip(tmp_path: Path, picture: Picture) -> None:
    for name in ("originals/000", "originals/003", "swapped/000_003"):
        write_frames(tmp_path / name, picture, range(2))
    told: list[tuple[str, int, int]] = []
    read_layout("ffpp", tmp_path, progress=lambda *state: told.append(state))
    assert told == [("frames", i, 3) for i in (1, 2, 3)]


def test_importing_layouts_loads_nothing_heavy() -> None:
    code = "import sys, exprmetric.inputs; print(sorted({'numpy', 'cv2', 'av', 'PIL', 'torch'} & set(sys.modules)))"
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_rows_with_a_problem_end_as_unreadable(tmp_path: Path, portrait_photo: Path) -> None:
    from exprmetric.evaluation.evaluate import evaluate

    for name in ("t/a.png", "s/b.png", "c/a_b.png", "c/stray.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.open(portrait_photo).resize((200, 200)).save(tmp_path / name)
    rows = read_layout("pairs", tmp_path / "c", target_dir=tmp_path / "t", source_dir=tmp_path / "s")
    result = evaluate(rows, ["lm51"], detector="dlib", identity=False, jobs=1)
    assert result.summary["coverage"] == {"triplets": 2, "ok": 1, "failed": {"unreadable": 1}}


@pytest.mark.shared
def test_a_published_video_swap_is_read(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    pytest.importorskip("av")
    videos = shared_data("videos")
    for name, place in (("target", "originals/t.webp"), ("source", "originals/s.jpg"), ("swapped", "swapped/t_s.webp")):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(next(videos.rglob(f"ghost_{name}.*")).read_bytes())
    (tmp_path / "swapped/t_d10.mp4").write_bytes(next(videos.rglob("d10.mp4")).read_bytes())
    rows = by_id(read_layout("ffpp", tmp_path, workdir=tmp_path / "work", frames=4))
    missing = rows.pop("swapped/t_d10.mp4")
    assert "'d10'" in missing.problem
    assert len(rows) == 4 and all(row.problem == "" and row.group == "t" for row in rows.values())
    for row in rows.values():
        target, swapped = (read_image(path).astype(float) for path in (row.target, row.swapped) if path)
        assert target.shape == swapped.shape and np.abs(target - swapped).mean() < 40  # the same moment of one scene
    assert {row.source for row in rows.values()} == {tmp_path / "originals/s.jpg"}
