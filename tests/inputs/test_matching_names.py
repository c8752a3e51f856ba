"""Names that people write differently: matched where one alone can be meant and said so, else told what helps."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from swaps import in_a_process

from exprmetric.errors import InputError
from exprmetric.inputs import read_layout
from exprmetric.inputs.triplets import ROLES, Triplet, notes_of, read_triplets
from exprmetric.inputs.videos import read_video_triplets

NFC, NFD = "caf\u00e9", "cafe\u0301"


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def folder(root: Path, target: Sequence[str], source: Sequence[str], swapped: Sequence[str]) -> Path:
    for role, names in zip(ROLES, (target, source, swapped), strict=True):
        touch(root, *(f"{role}/{name}" for name in names))
    return root


def stems(rows: Sequence[Triplet]) -> list[tuple[str, ...]]:
    return [tuple(p.stem if (p := getattr(row, role)) else "" for role in ROLES) for row in rows]


def cli(*arguments: object) -> Result:
    from exprmetric_cli.main import main

    return CliRunner().invoke(main, [str(a) for a in arguments])


# folders


def test_folders_may_be_written_in_capitals_or_in_the_plural(tmp_path: Path) -> None:
    touch(tmp_path, "Target/a.png", "sources/a.png", "SWAPPED/a.png")
    rows = read_triplets(tmp_path)
    assert stems(rows) == [("a", "a", "a")] and not rows[0].problem
    notes = " ".join(notes_of(rows))
    assert all(f"is taken for {role}/" in notes for role in ROLES)
    touch(tmp_path, "Source/a.png")
    with pytest.raises(InputError, match="no folder 'source'; several could be meant: 'Source', 'sources'"):
        read_triplets(tmp_path)


def test_a_name_in_another_unicode_form_is_the_same_name(tmp_path: Path) -> None:
    rows = read_triplets(folder(tmp_path, [f"{NFC}.png", "b.png"], [f"{NFD}.jpg", "b.png"], [f"{NFD}.png", "b.png"]))
    if len(list((tmp_path / "target").iterdir())) < 2:
        pytest.skip("this file system knows one form only")
    assert stems(rows) == [("b", "b", "b"), (NFC, NFD, NFD)] and not any(row.problem for row in rows)
    assert any("written differently" in note and NFD in note for note in notes_of(rows))


@pytest.mark.parametrize(
    ("target", "swapped"),
    [
        (["0001", "0002", "0010"], ["1", "2", "10"]),
        (["x", "y", "z"], ["x_swapped", "y_swapped", "z_swapped"]),
        (["x", "y", "z"], ["swap-x", "swap-y", "swap-z"]),
        (["x_target", "y_target", "z_target"], ["x_out", "y_out", "z_out"]),
        (["img_0001", "img_0002", "img_0003"], ["swap_1", "swap_2", "swap_3"]),
        (["Ann", "Bob", "Cid"], ["ann", "bob", "cid"]),
    ],
)
def test_padding_and_what_all_names_of_a_folder_share_make_no_difference(
    target: list[str], swapped: list[str], tmp_path: Path
) -> None:
    names = [[f"{stem}.png" for stem in role] for role in (target, target, swapped)]
    rows = read_triplets(folder(tmp_path, *names))
    assert sorted(stems(rows)) == sorted(zip(target, target, swapped, strict=True))
    assert [row.problem for row in rows] == ["", "", ""] and len(notes_of(rows)) == 1
    assert sorted(row.id for row in rows) == sorted(target)


def test_a_name_of_two_answers_is_matched_with_neither(tmp_path: Path) -> None:
    names = ["1.png", "01.png", "x.png"]
    rows = {row.id: row for row in read_triplets(folder(tmp_path, names, names, ["001.png", "x.png"]))}
    assert not rows["x"].problem
    assert all("no swapped image" in rows[name].problem for name in ("1", "01"))
    assert "no target image" in rows["001"].problem


def test_swaps_named_after_target_and_source_are_no_suffixes(tmp_path: Path) -> None:
    names = ["a.png", "b.png", "c.png"]
    root = folder(tmp_path, names, names, ["a_c.png", "b_c.png"])  # _c is no suffix: it is who went in
    with pytest.raises(InputError, match="`template`, `target_dir` and `source_dir`"):
        read_triplets(root)
    result = cli("evaluate", root)
    assert result.exit_code == 2 and "no image of" in result.stderr
    assert "--pairs, --target-dir and --source-dir" in result.stderr and "`" not in result.stderr


def test_folders_of_swapped_are_models_where_target_has_none(tmp_path: Path) -> None:
    root = folder(tmp_path, ["x.png", "y.png"], ["x.png", "y.png"], ["A/x.png", "A/y.png", "B/x.png", "B/w.png"])
    rows = {row.id: row for row in read_triplets(root)}
    assert list(rows) == ["A/x", "A/y", "B/w", "B/x", "B/y"]
    assert {id_: row.model for id_, row in rows.items()} == {id_: id_[0] for id_ in rows}
    assert stems([rows["A/x"], rows["B/x"]]) == [("x", "x", "x")] * 2
    assert rows["B/x"].swapped == root / "swapped/B/x.png" and not rows["B/x"].problem
    assert "no swapped image" in rows["B/y"].problem and "no target image" in rows["B/w"].problem
    assert any("taken for models: 'A', 'B'" in note for note in notes_of(read_triplets(root)))


def test_models_two_folders_deep_are_refused_with_what_to_move(tmp_path: Path) -> None:
    names = ["x.png", "y.png"]
    root = folder(tmp_path, names, names, [f"setA/{model}/{name}" for model in ("A", "B") for name in names])
    with pytest.raises(InputError, match=r"'setA/A/x'.*models stand right below it: move 'setA/A' up"):
        read_triplets(root)


def test_one_source_is_that_of_all_targets(tmp_path: Path) -> None:
    rows = read_triplets(folder(tmp_path, ["x.png", "y.png"], ["me.jpg"], ["A/x.png", "A/y.png"]))
    assert stems(rows) == [("x", "me", "x"), ("y", "me", "y")] and not any(row.problem for row in rows)
    assert any("is the source of all 2 targets" in note for note in notes_of(rows))
    (tmp_path / "source/me.jpg").rename(tmp_path / "source/x.jpg")  # of x alone, or of all?
    first, second = read_triplets(tmp_path)
    assert not first.problem and "no source image" in second.problem


def test_one_image_in_each_folder_is_one_row(tmp_path: Path) -> None:
    rows = read_triplets(folder(tmp_path, ["t.png"], ["s.png"], ["out.png"]))
    assert stems(rows) == [("t", "s", "out")] and not rows[0].problem and len(notes_of(rows)) == 1


def test_one_typo_is_one_row_that_names_both_files_and_measures_neither(tmp_path: Path) -> None:
    names = ["anna.png", "bert.png", "clara.png"]
    root = folder(tmp_path, names, names, ["anna.png", "bert.png", "claar.png"])
    rows = {row.id: row for row in read_triplets(root)}
    assert list(rows) == ["anna", "bert", "clara"]
    problem = rows["clara"].problem
    assert rows["clara"].swapped is None and "no swapped image" in problem
    assert "swapped/claar.png' has no target; is one of the two names misspelled?" in problem
    touch(root, "target/claro.png", "source/claro.png")  # now it could be either
    rows = {row.id: row for row in read_triplets(root)}
    assert set(rows) == {"anna", "bert", "clara", "claro", "claar"}
    other = folder(tmp_path / "numbers", ["s_19.png", "s_20.png"], ["s_19.png", "s_20.png"], ["s_19.png", "s_21.png"])
    assert [row.id for row in read_triplets(other)] == ["s_19", "s_20", "s_21"]  # another number is no typo


def test_nothing_in_common_is_an_error_that_shows_the_nearest_names(tmp_path: Path) -> None:
    root = folder(tmp_path, ["anna.png", "bob.png"], ["anna.png", "bob.png"], ["hanna.png", "rob.png"])
    with pytest.raises(InputError, match=r"the nearest are 'hanna' and 'anna'.*manifest"):
        read_triplets(root)


def test_plain_folders_of_frames_from_0_and_from_1_are_paired_by_their_pictures(
    tmp_path: Path, portrait_photo: Path
) -> None:
    photo = np.asarray(Image.open(portrait_photo).convert("RGB").resize((128, 128)))
    for role, first in (("target", 0), ("source", 0), ("swapped", 1)):
        (tmp_path / role).mkdir()
        for i in range(12):
            Image.fromarray(photo[20:100, 2 * i : 80 + 2 * i]).save(tmp_path / role / f"{i + first:04d}.png")
    rows = read_triplets(tmp_path)
    assert stems(rows) == [(f"{i:04d}", f"{i:04d}", f"{i + 1:04d}") for i in range(12)]
    assert not any(row.problem for row in rows)
    (note,) = notes_of(rows)
    assert "0 to 11" in note and "1 to 12" in note and "frame N + 1" in note
    for path in (tmp_path / "swapped").iterdir():
        Image.fromarray(photo[:80, :80]).save(path)
    with pytest.raises(InputError, match="their pictures don't tell"):
        read_triplets(tmp_path)


def test_clips_are_matched_by_the_same_rule(tmp_path: Path) -> None:
    touch(tmp_path, "Target/01.mp4", "Target/02.mp4", "source/me.jpg", "swapped/1_swap.mp4", "swapped/2_swap.mkv")
    rows = read_video_triplets(tmp_path)
    assert stems(rows) == [("01", "me", "1_swap"), ("02", "me", "2_swap")] and len(notes_of(rows)) == 3


# manifests


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., Path]:
    touch(tmp_path, "faces/t.png", "faces/s.png", f"faces/{NFC}.png", "home/c.png")

    def write(*cells: str) -> Path:
        path = tmp_path / "m.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(ROLES)
            writer.writerow(cells)
        return path

    return write


def test_paths_of_manifests_may_be_written_as_elsewhere(
    manifest: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    address = (tmp_path / "faces" / "s.png").as_uri()
    rows = read_triplets(manifest("faces\\t.png", address, "~/c.png"))
    assert stems(rows) == [("t", "s", "c")] and not rows[0].problem
    said = " ".join(notes_of(rows))
    assert "with '\\' and read with '/'" in said and "(file:)" in said and "the home folder" in said
    (row,) = read_triplets(manifest(f"faces/{NFD}.png", " faces/s.png ", "faces/t.png"))
    assert not row.problem and row.target and row.target.samefile(tmp_path / f"faces/{NFC}.png")


def test_a_name_that_is_there_as_written_is_taken_as_written(manifest: Callable[..., Path], tmp_path: Path) -> None:
    literal = tmp_path / "faces\\t.png"
    try:
        literal.write_bytes(b"")
    except OSError:
        pytest.skip("no such name here")
    rows = read_triplets(manifest("faces\\t.png", "faces/s.png", "file://elsewhere.example/c.png"))
    assert rows[0].target in (literal, tmp_path / "faces/t.png") and "swapped file not found" in rows[0].problem
    assert literal.name not in "".join(notes_of(rows))


def test_a_missing_file_of_a_manifest_names_the_nearest(manifest: Callable[..., Path]) -> None:
    (row,) = read_triplets(manifest("faces/tt.png", "faces/s.png", "~"))
    assert "target file not found" in row.problem and "the nearest name there is 't.png'" in row.problem


# layouts, and the command line


def test_a_template_that_matches_nothing_is_an_error_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from exprmetric.evaluation import evaluate

    monkeypatch.setattr(evaluate, "Session", lambda *args: pytest.fail("models were loaded"))
    touch(tmp_path, "c/a+b.png", "c/b+a.png", "t/a.png", "t/b.png", "s/a.png", "s/b.png")
    where = ("--target-dir", tmp_path / "t", "--source-dir", tmp_path / "s")
    result = cli("evaluate", tmp_path / "c", "--pairs", "{target}_{source}.png", *where)
    assert result.exit_code == 2 and "matches --pairs '{target}_{source}.png'. Found: 'a+b.png'" in result.stderr
    touch(tmp_path, "c/x_a.png", "c/y_b.png")
    result = cli("evaluate", tmp_path / "c", "--pairs", "{target}_{source}.png", *where)
    assert result.exit_code == 2 and "is that of a target in" in result.stderr and "(--target-dir)" in result.stderr
    assert "'x', 'y' against 'a', 'b'" in result.stderr
    (tmp_path / "pairs.txt").write_text("a b\n")
    options = ("--layout", "casia", "--pair-file", tmp_path / "pairs.txt", "--source-dir", tmp_path / "s")
    result = cli("evaluate", tmp_path / "c", *options)
    assert result.exit_code == 2 and "by --pairs '{source}-{target}' they are named 'a-b'" in result.stderr


def test_messages_name_options_on_the_command_line_and_arguments_in_python(tmp_path: Path) -> None:
    touch(tmp_path, "c/a_b.png")
    result = cli("evaluate", tmp_path / "c", "--pairs", "{target}_{source}.png")
    assert result.stderr.endswith("Error: --pairs needs --target-dir\n")
    with pytest.raises(InputError, match="layout 'pairs' needs `target_dir`"):
        read_layout("pairs", tmp_path / "c")
    result = cli("evaluate", tmp_path / "c", "--layout", "ffpp", "--pair-file", tmp_path / "p.txt")
    assert result.stderr.endswith("Error: --layout ffpp takes no --pair-file\n")
    result = cli("evaluate", tmp_path / "c", "--target-dir", tmp_path / "c")
    assert "--target-dir: needs --layout or --pairs" in result.stderr
    result = cli(
        "evaluate", tmp_path / "c", "--pairs", "{target}{source}.png", "--target-dir", ".", "--source-dir", "."
    )
    assert "Error: --pairs '{target}{source}.png': nothing stands between" in result.stderr


def test_names_of_a_template_may_be_written_differently(tmp_path: Path) -> None:
    touch(tmp_path, f"c/1_{NFD}.png", "c/0002_bob.png", "t/0001.png", "t/0002.png", f"s/{NFC}.png", "s/Bob.png")
    rows = read_layout("pairs", tmp_path / "c", target_dir=tmp_path / "t", source_dir=tmp_path / "s")
    assert [row.problem for row in rows] == ["", ""]
    assert {files[:2] for files in stems(rows)} == {("0001", NFC), ("0002", "Bob")}
    notes = notes_of(rows)
    assert len(notes) == 2 and "'1' with '0001.png'" in notes[0]
    touch(tmp_path, "t/01.png")  # two answers
    rows = read_layout("pairs", tmp_path / "c", target_dir=tmp_path / "t", source_dir=tmp_path / "s")
    assert sorted(bool(row.problem) for row in rows) == [False, True]


def test_frames_of_a_template_are_paired_as_those_of_a_folder(tmp_path: Path, portrait_photo: Path) -> None:
    photo = np.asarray(Image.open(portrait_photo).convert("RGB").resize((128, 128)))
    for clip, first in (("t/ann", 0), ("s/bob", 0), ("c/ann_bob", 1)):
        (tmp_path / clip).mkdir(parents=True)
        for i in range(12):
            Image.fromarray(photo[20:100, 2 * i : 80 + 2 * i]).save(tmp_path / clip / f"{i + first:03d}.png")
    how = {"target_dir": tmp_path / "t", "source_dir": tmp_path / "s", "template": "{target}_{source}/{frame}.png"}
    rows = read_layout("pairs", tmp_path / "c", **how)
    assert stems(rows) == [(f"{i:03d}", f"{i:03d}", f"{i + 1:03d}") for i in range(12)]
    assert not any(row.problem for row in rows) and "frame N + 1" in notes_of(rows)[0]


def test_notes_reach_the_terminal_and_the_summary(tmp_path: Path, portrait_photo: Path) -> None:
    from exprmetric.evaluation.evaluate import evaluate

    for name in ("Target/a.png", "source/me.png", "swapped/a.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        Image.open(portrait_photo).resize((200, 200)).save(tmp_path / "in" / name)
    how = ("-m", "lm51", "--detector", "dlib", "--no-identity", "--no-cache", "--jobs", 1, "-q")
    result = cli("evaluate", tmp_path / "in", *how, "--out", tmp_path / "out")
    assert result.exit_code == 0 and "is taken for target/" in result.stderr and "Note: " in result.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert len(summary["notes"]) == 1 and "is taken for target/" in summary["notes"][0]
    assert "is taken for target/" in (tmp_path / "out" / "report.html").read_text()
    with pytest.warns(UserWarning, match="is taken for target/"):
        result = evaluate(tmp_path / "in", ["lm51"], detector="dlib", identity=False, jobs=1)
    assert result.summary["notes"] == summary["notes"]


def test_videos_are_sent_to_the_command_that_measures_them(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{role}/a.mp4" for role in ROLES))
    files = [tmp_path / role / "a.mp4" for role in ROLES]
    (tmp_path / "m.csv").write_text("target,source,swapped\ntarget/a.mp4,source/a.mp4,swapped/a.mp4\n")
    three = ("--target", files[0], "--source", files[1], "--swapped", files[2])
    for given in ((tmp_path,), (tmp_path / "m.csv",), three):
        result = cli("evaluate", *given)
        assert result.exit_code == 2 and "`exprmetric video evaluate` measures videos" in result.stderr


def test_a_heif_picture_is_a_row_that_says_what_helps(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    from exprmetric.errors import UnreadableImageError
    from exprmetric.evaluation.embed import find_images
    from exprmetric.io.images import read_image

    rows = read_triplets(folder(tmp_path, ["a.heic"], ["a.png"], ["a.png"]))
    assert not rows[0].problem and not notes_of(rows)
    assert tmp_path / "target/a.heic" in find_images([tmp_path])
    (tmp_path / "target/a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    with pytest.raises(
        UnreadableImageError, match=r"a HEIF picture, which is not read; save it as PNG or JPEG.*pillow-heif"
    ):
        read_image(rows[0].target)
    assert not recwarn.list


def test_the_package_runs_as_a_module() -> None:
    code = "import runpy; sys.argv = ['x', '--version']; runpy.run_module('exprmetric', run_name='__main__')"
    out, _ = in_a_process(code).communicate(timeout=120)
    assert out.startswith("exprmetric, version")
