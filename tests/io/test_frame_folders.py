"""Folders of frames: one order everywhere, numbers pair by number, and no neighbour is taken for a frame's partner."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from exprmetric.datasets.clip_files import find_clips, on_disk
from exprmetric.errors import InputError, VideoError
from exprmetric.inputs import read_layout
from exprmetric.inputs.clips import open_clip
from exprmetric.inputs.triplets import notes_of
from exprmetric.io.frame_folders import NAME, NUMBER, SHIFTED, list_frames, pair_frames, shift_of
from exprmetric.io.names import affixes, alike, natural, nearest, numbers, places
from exprmetric.io.video import frames
from exprmetric.video.scores.partners import by_names

Moving = Callable[[int], npt.NDArray[np.uint8]]


@pytest.fixture(scope="module")
def moving(portrait_photo: Path) -> Moving:
    """Frames of the photograph, small, on its way to the right."""
    photo = np.asarray(Image.open(portrait_photo).convert("RGB").resize((160, 160)))
    return lambda i: photo[40:136, 4 + i : 100 + i]


def write(folder: Path, images: Iterable[npt.NDArray[np.uint8]], names: Iterable[str]) -> Path:
    folder.mkdir(parents=True)
    for image, name in zip(images, names, strict=True):
        Image.fromarray(image).save(folder / name)
    return folder


def counted(first: int, count: int, form: str = "{:04d}.png") -> list[str]:
    return [form.format(i) for i in range(first, first + count)]


def swap(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The same moment with another face: the middle is painted over and everything was coded again."""
    image = image.copy()
    image[30:70, 30:70] = image[30:70, 30:70] // 2 + 60
    return image + np.random.default_rng(int(image.sum())).integers(0, 4, image.shape, np.uint8)


def pairs_of(target: Path, swapped: Path) -> tuple[dict[str, str], str, str]:
    found = pair_frames(list_frames(target), list_frames(swapped), (target, swapped))
    return dict(found.partner), found.by, found.note


# order, and numbers in names


def test_everything_that_reads_a_folder_of_frames_has_the_same_order(tmp_path: Path, moving: Moving) -> None:
    names = ["a9.png", "a10.png", "b2.png", "b10.png"]
    folder = write(tmp_path / "clip", map(moving, range(4)), names)
    with zipfile.ZipFile(tmp_path / "clip.zip", "w") as archive:
        for name in sorted(names):
            archive.write(folder / name, f"clip/{name}")
    assert [f"{n}.png" for n in list_frames(folder)] == names
    assert [f"{n}.png" for n in open_clip(folder, range, None).names] == names
    shown = [moving(i) for i in range(4)]
    assert all(np.array_equal(f.image, s) for f, s in zip(frames(folder), shown, strict=True))
    for root in (tmp_path, tmp_path / "clip.zip"):
        (clip,) = find_clips(root)
        with on_disk(clip) as path:
            assert all(np.array_equal(f.image, s) for f, s in zip(frames(path), shown, strict=True))


def test_a_missing_number_leaves_its_place_in_time_empty(tmp_path: Path, moving: Moving) -> None:
    names = [f"f_{i}.png" for i in (3, 4, 5, 9, 10)]
    folder = write(tmp_path / "clip", map(moving, range(5)), names)
    found = list(frames(folder, rate=10))
    assert [f.index for f in found] == [0, 1, 2, 6, 7] and [f.time for f in found] == [0, 0.1, 0.2, 0.6, 0.7]
    with zipfile.ZipFile(tmp_path / "zipped.zip", "w") as archive:
        for name in names:
            archive.write(folder / name, f"clip/{name}")
    (clip,) = find_clips(tmp_path / "zipped.zip")
    with on_disk(clip) as path:
        assert [f.index for f in frames(path)] == [0, 1, 2, 6, 7]


def test_hidden_files_and_names_used_twice_are_no_frames(tmp_path: Path, moving: Moving) -> None:
    folder = write(tmp_path / "clip", map(moving, range(3)), ["1.png", "2.png", "._1.png"])
    assert list(list_frames(folder)) == ["1", "2"] and len(list(frames(folder))) == 2
    Image.fromarray(moving(1)).save(folder / "2.jpg")
    for read in (lambda: list(frames(folder)), lambda: open_clip(folder, range, None)):
        with pytest.raises(VideoError, match="two frames have the same name"):
            read()


@pytest.mark.parametrize(
    ("stems", "found"),
    [
        (["0001", "0002", "0007"], (1, 2, 7)),
        (["7", "08", "009"], (7, 8, 9)),
        (["s3_f1_swap", "s3_f2_swap"], (1, 2)),
        (["a1", "b2"], None),
        (["1", "01"], None),  # which of the two is the first?
        (["1_1", "2_2"], None),  # two things change
        (["cover", "0001", "0002"], None),
        (["f0005"], (5,)),
        (["f5_v2"], None),
        (["9" * 5000, "1"], None),
        ([], None),
    ],
)
def test_numbers_are_what_alone_changes_in_the_names(stems: list[str], found: tuple[int, ...] | None) -> None:
    assert numbers(stems) == found


def test_only_multiples_of_a_step_are_places_in_time() -> None:
    assert places(["0", "10", "20", "50"]) == [0, 1, 2, 5]
    assert places(["0", "33", "67", "100"]) == [0, 1, 2, 3]  # milliseconds
    assert places(["a", "b"]) == [0, 1] and places(["5"]) == [0] and places([]) == []


@given(st.lists(st.text(st.sampled_from("ab01._é/"), min_size=1, max_size=8), max_size=12))
def test_the_natural_order_is_total_and_counts(names: list[str]) -> None:
    backwards = [*reversed(names)]
    assert sorted(names, key=natural) == sorted(backwards, key=natural)
    assert sorted((f"x{i}.png" for i in range(120)), key=natural) == [f"x{i}.png" for i in range(120)]


def test_names_written_differently_are_the_same_where_only_one_is_meant() -> None:
    assert alike(["caf\u0065\u0301", "B", "7"], ["caf\u00e9", "b", "0007"]) == {
        "caf\u0065\u0301": "caf\u00e9",
        "B": "b",
        "7": "0007",
    }
    assert alike(["7"], ["07", "007"]) == {} and alike(["a", "A"], ["a", "á"]) == {}
    assert affixes(["a_swapped", "b_swapped"]) == ("", "_swapped") and affixes(["swap_a", "swap_b"]) == ("swap_", "")
    assert affixes(["x"]) == affixes(["10", "110"]) == ("", "")
    assert nearest("anna", ["ana", "bert", "hanna"]) == ["hanna", "ana"]


# pairing


def test_frames_from_0_are_paired_with_frames_from_1_by_their_pictures(tmp_path: Path, moving: Moving) -> None:
    shown = [moving(i) for i in range(40)]
    target = write(tmp_path / "target", shown, counted(0, 40))
    swapped = write(tmp_path / "swapped", map(swap, shown), counted(1, 40))
    partner, by, note = pairs_of(target, swapped)
    assert by == SHIFTED and partner == {f"{i:04d}": f"{i + 1:04d}" for i in range(40)}
    assert "0 to 39" in note and "1 to 40" in note and "is paired with frame N + 1 of" in note
    found = by_names(target, swapped)
    assert found is not None and found.partner == {i: i for i in range(40)}  # places in time, both from 0


def test_a_swap_without_its_first_and_with_one_more_last_frame_keeps_its_numbers(
    tmp_path: Path, moving: Moving
) -> None:
    target = write(tmp_path / "target", map(moving, range(40)), counted(0, 40))
    swapped = write(tmp_path / "swapped", (swap(moving(i)) for i in range(1, 41)), counted(1, 40))
    partner, by, note = pairs_of(target, swapped)
    assert by == NUMBER and partner == {f"{i:04d}": f"{i:04d}" for i in range(1, 40)} and "equal numbers" in note


def test_pictures_that_do_not_tell_are_refused_with_what_to_do(tmp_path: Path, moving: Moving) -> None:
    target = write(tmp_path / "target", [moving(0)] * 9, counted(0, 9))
    swapped = write(tmp_path / "swapped", [swap(moving(0))] * 9, counted(1, 9))
    with pytest.raises(InputError, match=r"pictures don't tell.*give both the same numbers"):
        pairs_of(target, swapped)


def test_gaps_leave_the_rest_paired_by_number(tmp_path: Path, moving: Moving) -> None:
    target = write(tmp_path / "target", map(moving, range(30)), counted(0, 30))
    names = [n for i, n in enumerate(counted(0, 30)) if not 10 <= i < 15]
    swapped = write(tmp_path / "swapped", [swap(moving(i)) for i in range(25)], names)  # the pictures are not asked
    partner, by, note = pairs_of(target, swapped)
    assert by == NUMBER and not note and list(partner) == list(partner.values()) == [n[:-4] for n in names]


def test_a_shift_is_found_in_spite_of_gaps(tmp_path: Path, moving: Moving) -> None:
    at = [i for i in range(40) if not 10 <= i < 15]
    target = write(tmp_path / "target", map(moving, range(40)), counted(0, 40))
    swapped = write(tmp_path / "swapped", (swap(moving(i)) for i in at), [f"{i + 1:04d}.png" for i in at])
    partner, by, _ = pairs_of(target, swapped)
    assert by == SHIFTED and partner == {f"{i:04d}": f"{i + 1:04d}" for i in at}


def test_a_shift_is_found_where_both_have_lost_a_frame(tmp_path: Path, moving: Moving) -> None:
    shot, kept = ([i for i in range(30) if i != gone] for gone in (12, 17))
    target = write(tmp_path / "t", map(moving, shot), [f"{i:04d}.png" for i in shot])
    swapped = write(tmp_path / "s", (swap(moving(i)) for i in kept), [f"{i + 1:04d}.png" for i in kept])
    found, by, note = pairs_of(target, swapped)
    assert found == {f"{i:04d}": f"{i + 1:04d}" for i in range(30) if i not in (12, 17)}
    assert by == SHIFTED and "N + 1" in note
    level = write(tmp_path / "l", (swap(moving(i)) for i in kept), [f"{i:04d}.png" for i in kept])
    assert pairs_of(target, level) == ({f"{i:04d}": f"{i:04d}" for i in kept if i != 12}, NUMBER, "")


def test_numbers_of_no_common_frame_are_paired_only_if_the_pictures_agree(tmp_path: Path, moving: Moving) -> None:
    target = write(tmp_path / "target", map(moving, range(20)), counted(0, 20))
    far = write(tmp_path / "far", (swap(moving(i)) for i in range(20)), counted(100, 20, "x{}_swapped.png"))
    partner, by, _ = pairs_of(target, far)
    assert by == SHIFTED and partner["0003"] == "x103_swapped"
    squares = write(tmp_path / "squares", map(moving, range(19)), [f"{i * i}.png" for i in range(19)])
    with pytest.raises(InputError, match="no number is in both"):
        pairs_of(squares, write(tmp_path / "more", map(moving, range(30)), counted(400, 30)))


def test_padding_and_other_words_around_a_number_do_not_matter(tmp_path: Path, moving: Moving) -> None:
    target = write(tmp_path / "target", map(moving, range(12)), counted(0, 12))
    swapped = write(tmp_path / "swapped", map(moving, range(12)), counted(0, 12, "out-{}_swapped.png"))
    partner, by, note = pairs_of(target, swapped)
    assert by == NUMBER and partner["0007"] == "out-7_swapped" and "by the numbers in their names" in note


def test_names_without_numbers_pair_by_name_or_not_at_all(tmp_path: Path, moving: Moving) -> None:
    target = write(tmp_path / "target", map(moving, range(3)), ["a.png", "b.png", "\u00e9.png"])
    swapped = write(tmp_path / "swapped", map(moving, range(3)), ["b.png", "c.png", "e\u0301.png"])
    assert pairs_of(target, swapped)[:2] == ({"b": "b", "\u00e9": "e\u0301"}, NAME)
    with pytest.raises(InputError, match="no frame of the one has its name in the other, such as 'a' and 'x'"):
        pairs_of(target, write(tmp_path / "other", map(moving, range(2)), ["x.png", "y.png"]))


@given(st.sets(st.integers(0, 12), min_size=1), st.sets(st.integers(0, 12), min_size=1))
def test_a_shift_is_thought_of_only_where_numbers_leave_frames_over(a: set[int], b: set[int]) -> None:
    shift = shift_of(sorted(a), sorted(b))
    fewest = min(len(a), len(b))
    if shift:
        assert len(a & b) < len({n + shift for n in a} & b) >= 0.9 * fewest
    elif len(a & b) < fewest and min(a) != min(b):
        assert len({n + min(b) - min(a) for n in a} & b) < fewest


# and through the layouts


def test_the_layout_ffpp_pairs_frames_from_0_with_frames_from_1(tmp_path: Path, moving: Moving) -> None:
    shown = [moving(i) for i in range(30)]
    for name in ("000", "003"):
        write(tmp_path / "originals" / name, shown, counted(0, 30))
    write(tmp_path / "swapped" / "000_003", map(swap, shown), counted(1, 30))
    write(tmp_path / "originals" / "still", [moving(0)] * 30, counted(0, 30))
    write(tmp_path / "swapped" / "still_003", [swap(moving(0))] * 30, counted(1, 30))
    rows = read_layout("ffpp", tmp_path, frames=0)
    good = [row for row in rows if not row.problem]
    assert len(good) == 30
    for row in good:
        assert row.target and row.source and row.swapped
        assert int(row.target.stem) == int(row.source.stem) == int(row.swapped.stem) - 1
    (bad,) = (row for row in rows if row.problem)
    assert bad.id == "still_003" and "pictures don't tell" in bad.problem
    (note,) = notes_of(rows)
    assert "000_003" in note and "N + 1" in note


@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize(
    ("numbers", "rate", "times"),
    [
        ((25, 50, 100), 25.0, [0.0, 1.0, 3.0]), ((1, 2, 3), 25.0, [0.0, 0.04, 0.08]),
        ((0, 5, 10), 10.0, [0.0, 0.5, 1.0]),
    ],
    ids=["VoxCeleb1 steps by 25", "every frame", "another rate"],
)  # fmt: skip
def test_the_numbers_of_a_training_clips_frames_say_when_they_are(
    numbers: tuple[int, ...], rate: float, times: list[float], zipped: bool, tmp_path: Path
) -> None:
    clip_folder = tmp_path / "vox" / "Aamir_Khan" / "1.6" / "1zcIwhmdeo4"
    clip_folder.mkdir(parents=True)
    for number in numbers:
        Image.new("RGB", (8, 8), (number, 0, 0)).save(clip_folder / f"{number:07d}.png")
    root = tmp_path / "vox"
    if zipped:
        root = tmp_path / "vox.zip"
        with zipfile.ZipFile(root, "w") as archive:
            for path in clip_folder.iterdir():
                archive.write(path, path.relative_to(tmp_path / "vox").as_posix())
    (clip,) = find_clips(root)
    pytest.importorskip("torch")
    from exprmetric.datasets.clips import read_clip

    finder = SimpleNamespace(find=lambda image: Shown())
    found = read_clip(clip, finder, crop=176, size=8, rate=rate)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.times, times)


class Shown:
    """A face that fills its picture."""

    landmarks = np.zeros((68, 2))

    def matrix(self, template: str) -> np.ndarray:
        return np.array([[28.0, 0.0, 0.0], [0.0, 28.0, 0.0]])
