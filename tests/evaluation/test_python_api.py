"""The Python interface takes what people have, and results show themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from results import result, row
from swaps import small_folder

import exprmetric
from exprmetric.errors import InputError
from exprmetric.evaluation.given import as_image, given_triplets
from exprmetric.inputs.face_names import NamedFace
from exprmetric.inputs.triplets import Triplet, triplets_from_manifest

FAST: dict[str, Any] = {"methods": ["lm68"], "detector": "dlib"}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    folder = small_folder(tmp_path_factory)
    name = sorted((folder / "target").iterdir())[0].name
    return folder / "target" / name, folder / "source" / name, folder / "swapped" / name


def test_paths_arrays_pictures_tuples_mappings_and_data_frames_measure_the_same(
    three: tuple[Path, Path, Path], tmp_path: Path
):
    pictures = [Image.open(p) for p in three]
    arrays = [exprmetric.read_image(p) for p in three]
    roles = ("target", "source", "swapped")
    rows: list[Any] = [three, tuple(arrays), list(pictures), dict(zip(roles, map(str, three), strict=True))]
    rows.append(Triplet("t", *three))
    found = exprmetric.evaluate(rows, identity=False, out=tmp_path / "out", **FAST)
    assert found.summary["coverage"]["ok"] == len(rows)
    numbers = [[r[f"lm68.{d}"] for d in ("t2c", "s2c", "s2t")] for r in found.triplets]
    assert np.ptp(numbers, axis=0) == pytest.approx(0, abs=1e-9)
    assert (tmp_path / "out" / "images" / "000001_target.png").is_file()  # for the report, and to measure again
    alone = exprmetric.evaluate_triplet(*pictures, **FAST)["lm68"]
    assert list(alone.values()) == pytest.approx(numbers[0])
    vectors = [exprmetric.embed(x, "lm68", detector="dlib") for x in (three[0], arrays[0], pictures[0])]
    assert np.array_equal(vectors[0], vectors[1]) and np.array_equal(vectors[0], vectors[2])
    both = exprmetric.embed([three[0], arrays[2]], "lm68", detector="dlib")
    assert both.shape == (2, 136) and np.linalg.norm(both[0] - both[1]) == pytest.approx(numbers[0][0], rel=1e-5)


def test_a_data_frames_rows_keep_their_names_and_empty_cells_are_no_source():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"id": ["a", "b"], "target": ["t", "t"], "source": ["s", float("nan")], "swapped": ["c", "d"]}
    )
    frame["model"] = ["X", None]
    first, second = given_triplets(frame, None)
    assert (first.id, first.model, first.source) == ("a", "X", Path("s"))
    assert (second.id, second.model, second.source) == ("b", "", None)
    assert [t.id for t in given_triplets([("t", "c"), ("t", "s", "c")], None)] == ["row 0001", "row 0002"]


def test_rows_in_python_are_read_as_the_manifest_of_them_is(three: tuple[Path, Path, Path], tmp_path: Path):
    target, source, swapped = map(str, three)
    rows = [
        {"target": target, "source": source, "swapped": swapped, "person": "Ada", "target_face": "0", "light": "day"},
        {"target": target, "source": "", "swapped": swapped, "swapped_face": "1 2 30 40", "light": "night", "id": "x"},
        {"target": target, "source": source, "swapped": str(tmp_path / "away.png"), "source_face": target},
        {"target": "", "source": source, "swapped": swapped, "group": "7"},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    expected = triplets_from_manifest(tmp_path / "m.jsonl", given=["light"])
    found = given_triplets(rows, None, ["light"])
    assert found == list(expected) and [t.given for t in found[:2]] == [(("light", "day"),), (("light", "night"),)]
    assert found.notes == expected.notes and "1 of 4 rows name no source" in found.notes[0]
    assert found[0].person == "Ada" and found[0].target_face == NamedFace(index=0)
    assert "no target image is given" in found[3].problem and "swapped file not found" in found[2].problem
    pandas = pytest.importorskip("pandas")
    assert given_triplets(pandas.DataFrame(rows), None, ["light"]) == found
    own = {"target_face": (1, 2, 30, 40.5), "source_face": np.int64(2), "swapped_face": Path(target)}
    (row,) = given_triplets([rows[0] | own], None)
    assert row.target_face == NamedFace(box=(1, 2, 30, 40.5)) and row.source_face == NamedFace(index=2)
    assert row.swapped_face == NamedFace(photo=Path(target))
    (row,) = given_triplets([rows[0] | {"target_face": exprmetric.read_image(target)}], None)
    assert row.target_face and row.target_face.photo and row.target_face.photo.is_file()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"target": "t", "sorce": "s", "swapped": "c"}], "no column 'source'.*'source' is perhaps 'sorce'"),
        ([{"target": "t", "Source": "s", "swapped": "c"}], "no column 'source'"),
        (
            [{"target": "t", "source": "s", "swapped": "c"}, {"target": "t", "sorce": "s", "swapped": "c"}],
            "row 2 has nothing under 'source', and something under 'sorce'",
        ),
        ([{"id": "a", "target": "t", "swapped": "c"}] * 2, "rows 1, 2 have the same id 'a'"),
        ([{"target": "t", "swapped": "c", "person": ["Ada"]}], "row 1: 'person' must be text"),
    ],
)
def test_rows_in_python_are_refused_as_the_manifest_of_them_is(rows: list[dict[str, Any]], words: str, tmp_path: Path):
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(InputError, match=words.replace("row 1:", "line 1:")):
        triplets_from_manifest(tmp_path / "m.jsonl")
    with pytest.raises(InputError, match=words):
        given_triplets(rows, None)


def test_a_column_whose_name_is_nearly_that_of_another_is_named():
    rows = given_triplets([{"target": "t", "swapped": "c", "persn": "Ada", "light": "day", "grop": "g"}], None)
    assert [note.partition(": ")[2] for note in rows.notes] == [
        "the column 'persn' is not read; did you mean 'person'?",
        "the column 'grop' is not read; did you mean 'group'?",
    ]
    (row,) = given_triplets([{"target": "t", "swapped": "c", "source_id": "film 3"}], None)
    assert row.source is None and "no source" not in row.problem


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([Triplet("a", Path("t"), Path("s"), Path("1.png")), Triplet("a", Path("t"), Path("s"), Path("2.png"))], "'a'"),
        ([Triplet("a", Path("t"), Path("s"), Path("1.png"))] * 2, "the same id 'a': 1.png and 1.png"),
        ([Triplet("a", Path("t"), None, Path("c")), {"id": "a", "target": "t", "swapped": "d"}], "'a': c and d"),
        ([Triplet("a", Path("t"), Path("s"), Path("c"), group=float("nan"))], "row 1: group is text, not nan"),
        ([Triplet("a", float("nan"), Path("s"), Path("c"))], "row 1: target is a path or None, not nan"),
        ([Triplet(7, Path("t"), Path("s"), Path("c"))], "row 1: id is text, not 7"),
    ],
)
def test_triplets_made_by_hand_are_refused_as_the_manifest_of_them_is(rows: list[Any], words: str):
    with pytest.raises(InputError, match=words):
        given_triplets(rows, None)


def test_scores_are_split_by_a_column_of_rows_in_python(three: tuple[Path, Path, Path]):
    rows = [{"target": three[0], "source": three[1], "swapped": three[2], "light": light} for light in ("day", "night")]
    found = exprmetric.evaluate(rows, identity=False, by=["light"], **FAST)
    assert {value: part["methods"]["lm68"]["n"] for value, part in found.summary["by"]["light"].items()} == {
        "day": 1,
        "night": 1,
    }
    with pytest.raises(InputError, match=r"no column 'ligth'.*perhaps 'light'"):
        exprmetric.evaluate(rows, by=["ligth"], **FAST)


def test_pillow_images_are_read_as_their_files_are(three: tuple[Path, Path, Path], tmp_path: Path):
    photo = Image.open(three[0]).convert("RGB").resize((48, 40))
    turned = Image.Exif()
    turned[0x0112] = 6
    clear = photo.copy()
    clear.putalpha(Image.linear_gradient("L").resize(photo.size))
    deep = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    files = {"turned.jpg": photo, "clear.png": clear, "few.png": photo.quantize(16), "deep.png": deep}
    for name, image in files.items():
        image.save(tmp_path / name, **({"exif": turned} if name == "turned.jpg" else {}))
        with Image.open(tmp_path / name) as opened:
            assert np.array_equal(as_image(opened), exprmetric.read_image(tmp_path / name)), name


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (3, "rows of target, source and swapped, not int"),
        ([3], "row 1: expected .* not int"),
        ([("t", "s", "c", "x")], "row 1: expected"),
        ([{"target": "t"}], "no column 'swapped'"),
        ([("t", 3)], "an image is a path, an array"),
        ({"target": "t", "swapped": "c"}, "one mapping"),
    ],
)
def test_what_is_no_input_is_answered_by_a_sentence(given: Any, words: str):
    with pytest.raises(InputError, match=words):
        exprmetric.evaluate(given, **FAST)


def test_what_is_no_image_is_answered_by_a_sentence():
    for wrong in (3, None, {"a": 1}):
        with pytest.raises(InputError, match=f"not {type(wrong).__name__}"):
            as_image(wrong)
    with pytest.raises(InputError, match="a result is what `evaluate` returned"):
        exprmetric.compare(3, 4)  # type: ignore[arg-type]


def test_a_result_shows_itself_and_names_its_worst_rows(tmp_path: Path):
    made = result([row(tmp_path, f"t{i}", "s", model="<b>" if i % 2 else "B") for i in range(9)])
    made.summary["methods"]["lm68"]["fingerprint"] = "x"
    assert "9 of 9 triplets" in repr(made) and "2 models" in repr(made) and len(repr(made)) < 300
    alone = repr(result([row(tmp_path, f"t{i}", "s") for i in range(9)]))
    assert "9 of 9 triplets" in alone and "lm68: t2c" in alone and len(alone) < 300
    page = made._repr_html_()
    assert page.count("<table") == 1 and "&lt;b&gt;" in page and "<b>" not in page
    worst = made.worst(3)
    assert [r["lm68.t2c"] for r in worst] == sorted((r["lm68.t2c"] for r in made.triplets), reverse=True)[:3]
    assert len(made.worst(99, "other")) == 9
    with pytest.raises(InputError, match="no method 'x'"):
        made.worst(1, "x")
    assert r"\toprule" in made.to_latex() and made.to_markdown().count("| --- |") >= 1


def test_a_result_is_a_data_frame_and_a_figure(tmp_path: Path):
    made = result([row(tmp_path, f"t{i}", "s") for i in range(4)])
    pytest.importorskip("matplotlib")
    made.plot().savefig(tmp_path / "figure.png")
    assert Image.open(tmp_path / "figure.png").width > 300
    pytest.importorskip("pandas")
    frame = made.to_pandas()
    assert list(frame["id"]) == [r["id"] for r in made.triplets] and frame["lm68.t2c"].dtype == float


def test_results_in_hand_are_compared_as_their_folders_are(tmp_path: Path):
    a, b = ([row(tmp_path / "in", f"t{i}", f"s{i}", seed=seed) for i in range(8)] for seed in (1, 2))
    folders = [result(rows).save(tmp_path / name) for name, rows in (("A", a), ("B", b))]
    in_hand = exprmetric.compare(result(a), result(b))
    assert in_hand.as_dict() == exprmetric.compare(*folders).as_dict()
    assert exprmetric.compare({"A": result(a), "B": result(b)}).as_dict() == in_hand.as_dict()


def test_the_top_level_names_are_there():
    for name in ("compare", "embed", "draw_pairs", "evaluate_video"):
        assert callable(getattr(exprmetric, name)) and name in exprmetric.__all__


PIXELS = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: exprmetric.evaluate(5), "the input is a path, or rows"),
        (lambda: exprmetric.evaluate([1]), "row 1: expected"),
        (lambda: exprmetric.evaluate([(PIXELS, PIXELS)], 3), "methods: expected a name, or a list of names, not 3"),
        (lambda: exprmetric.evaluate([(PIXELS, PIXELS)], ["lm68", None]), "methods: expected .* not None"),
        (lambda: exprmetric.evaluate([(PIXELS, PIXELS)], face=5), "face: expected a name or a path, not 5"),
        (lambda: exprmetric.evaluate([(PIXELS, PIXELS)], seed="x"), "seed: expected a whole number, not 'x'"),
        (lambda: exprmetric.evaluate([(PIXELS, PIXELS)], jobs=-1), "jobs is -1: it must be 1 or more"),
        (lambda: exprmetric.evaluate([(PIXELS, PIXELS)], out=5), "out: expected a name or a path, not 5"),
        (lambda: exprmetric.evaluate_triplet(None, PIXELS, PIXELS), "target: no image is given"),
        (lambda: exprmetric.evaluate_triplet(1, PIXELS, PIXELS), "an image is a path, an array"),
        (lambda: exprmetric.evaluate_video(1, None, 2), "target: expected a name or a path, not 1"),
        (lambda: exprmetric.embed(None), "an image is a path, an array"),
        (lambda: exprmetric.embed([]), "no image is given"),
        (
            lambda: exprmetric.evaluate(b"swaps"),
            "the input is a path, or rows of target, source and swapped, not bytes",
        ),
        (lambda: exprmetric.evaluate([("a", "b", "c", "d")]), "row 1: expected .*, not tuple of 4"),
        (lambda: exprmetric.embed(PIXELS, 7), "method: expected a name or a path, not 7"),
        (lambda: exprmetric.Evaluator(None), "methods: expected a name, or a list of names, not None"),
        (lambda: exprmetric.draw_pairs(3), "expected a list of LabelledImage"),
        (lambda: exprmetric.compare(1, 2), "a result is what `evaluate` returned, or its folder, not int"),
    ],
)
def test_a_value_of_a_wrong_type_is_answered_by_one_sentence(call: Any, says: str):
    with pytest.raises(exprmetric.ExprmetricError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_single_method_may_stand_alone():
    with pytest.raises(exprmetric.ExprmetricError, match="unknown method 'lm99'"):
        exprmetric.evaluate([(PIXELS, PIXELS)], "lm99")
