"""Every published layout gives the same samples from a folder and from a zip file."""

from __future__ import annotations

import io
import math
import os
import pickle
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from exprmetric.datasets.layouts import FaceDataset, open_dataset, open_datasets
from exprmetric.datasets.samples import EXPRESSIONS, UNLABELLED, expression_index, person_split
from exprmetric.errors import InputError, UnreadableImageError
from exprmetric.io.images import read_image
from exprmetric.probes.dataset import photographs

Contents = dict[str, bytes]
PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def png(pixels: np.ndarray = PIXELS) -> bytes:
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def npy(value: object) -> bytes:
    data = io.BytesIO()
    np.save(data, np.array(value), allow_pickle=True)
    return data.getvalue()


def as_folder(contents: Contents, path: Path) -> Path:
    for name, data in contents.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def as_zip(contents: Contents, path: Path) -> Path:
    path = path.with_suffix(".zip")
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        for name, data in contents.items():
            file.writestr(name, data)
    return path


Writer = Callable[[Contents, Path], Path]
both = pytest.mark.parametrize("write", [as_folder, as_zip])


FERPLUS: Contents = {
    "labels.csv": (
        "split,image,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,not_face\n"
        "train,a.png,4,0,0,1,3,2,0,0,0,0\n"
        "valid,b.png,0,8,0,0,0,0,0,1,1,0\n"
        "test,c.png,0,0,0,0,0,0,9,0,0,1\n"
        "train,d.png,3,0,0,0,0,0,0,0,6,1\n"  # most raters know no expression
        "train,e.png,0,0,0,0,0,0,0,0,0,10\n"  # no face
        "train,f.png,4,0,0,0,0,0,0,0,4,0\n"  # a tie with unknown
    ).encode("utf-8-sig"),
    **{f"{split}/{name}.png": png() for split, name in (("train", "a"), ("valid", "b"), ("test", "c"), ("train", "d"))},
}
LABELLED_LIST: Contents = {
    "labels.csv": b"image,person,emotion\nx.png,Ann,happiness\nimages/y.png,Bob,Sad\nz.png,Ann,sleepy\n",
    **{f"images/{name}.png": png() for name in "xyz"},
}
AFFECTNET_CSV: Contents = {
    "training.csv": (
        b"subDirectory_filePath,face_x,expression,valence,arousal\n"
        b"1/a.jpg,0,0,0.1,-0.2\n"
        b"1/b.jpg,0,3,0.5,0.6\n"  # AffectNet's 3 is surprise
        b"1/c.jpg,0,4,-2,-2\n"  # fear, valence and arousal unknown
        b"1/d.jpg,0,8,-2,-2\n"  # none
        b"1/e.jpg,0,9,-2,-2\n"  # uncertain
        b"1/f.jpg,0,10,-2,-2\n"  # no face
    ),
    "validation.csv": b"subDirectory_filePath,expression,valence,arousal\n2/g.jpg,7,-1,1\n2/h.jpg,6,0,0\n",
    "Manually_Annotated_Images/1/a.jpg": png(),
}
AFFECTNET_NPY: Contents = {
    **{
        f"{folder}/annotations/{number}_{kind}.npy": npy(value)
        for folder, number, values in (
            ("train_set", 0, (1, 0.8, 0.3)),
            ("train_set", 1, ("6", "-0.5", "0.7")),  # the published arrays hold text
            ("train_set", 2, ("5", "-2", "-2")),
            ("train_set", 3, ("8", "0", "0")),
            ("val_set", 5, ([2], [-0.4], [0.1])),
        )
        for kind, value in zip(("exp", "val", "aro"), values, strict=True)
    },
    "train_set/images/0.jpg": png(),
}
RAFDB: Contents = {
    "basic/EmoLabel/list_patition_label.txt": (
        b"train_00001.jpg 5\r\ntrain_00002.jpg 7\r\ntrain_00003.jpg 1\r\ntrain_00004.jpg 2\r\n"
        b"test_0001.jpg 3\r\ntest_0002.jpg 4\r\ntest_0003.jpg 6\r\n"
    ),
    "basic/Image/aligned/train_00001_aligned.jpg": png(),
    "basic/Image/original/train_00001.jpg": png(),
    "basic/Image/aligned/train_00002.jpg": png(),
    "basic/Image/original/train_00003.jpg": png(),
    "basic/Image/aligned/test_0001_aligned.jpg": png(),
}
CLASSES_SPLIT: Contents = {
    "train/Happy/1.png": png(),
    "Validation/angry/2.JPG": png(),
    "test/contempt/3.png": png(),
    "test/contempt/notes.txt": b"no image",
    "test/strange/4.png": png(),
}
CLASSES: Contents = {"neutral/1.png": png(), "fear/2.webp": png(), "other/3.png": png()}


def described(dataset: FaceDataset) -> list[tuple[str, str, str]]:
    return [(s.image, s.split, EXPRESSIONS[s.label] if s.label >= 0 else "unlabelled") for s in dataset.samples]


@both
def test_ferplus_votes_become_shares_and_faces_nobody_could_name_are_left_out(write: Writer, tmp_path: Path):
    dataset = open_dataset(write(FERPLUS, tmp_path / "fer"))
    assert described(dataset) == [
        ("train/a.png", "train", "neutral"),
        ("valid/b.png", "valid", "happiness"),
        ("test/c.png", "test", "fear"),
    ]
    assert dataset.samples[0].votes == pytest.approx((0.4, 0, 0, 0.1, 0.3, 0.2, 0, 0))
    assert dataset.samples[1].votes == pytest.approx((0, 8 / 9, 0, 0, 0, 0, 0, 1 / 9))
    assert math.isnan(dataset.samples[0].valence) and math.isnan(dataset.samples[0].arousal)


@both
def test_labelled_list(write: Writer, tmp_path: Path):
    dataset = open_dataset(write(LABELLED_LIST, tmp_path / "list"))
    assert [(s.image, s.label, s.person) for s in dataset.samples] == [
        ("images/x.png", EXPRESSIONS.index("happiness"), "Ann"),
        ("images/y.png", EXPRESSIONS.index("sadness"), "Bob"),
        ("images/z.png", UNLABELLED, "Ann"),
    ]
    assert [s.split for s in dataset.samples] == [person_split(p) for p in ("Ann", "Bob", "Ann")]


@both
def test_affectnet_csv_leaves_out_codes_8_to_10_and_knows_that_minus_2_is_unknown(write: Writer, tmp_path: Path):
    dataset = open_dataset(write(AFFECTNET_CSV, tmp_path / "affectnet"))
    assert described(dataset) == [
        ("Manually_Annotated_Images/1/a.jpg", "train", "neutral"),
        ("1/b.jpg", "train", "surprise"),
        ("1/c.jpg", "train", "fear"),
        ("2/g.jpg", "valid", "contempt"),
        ("2/h.jpg", "valid", "anger"),
    ]
    affect = [(s.valence, s.arousal) for s in dataset.samples]
    np.testing.assert_array_equal(affect, [(0.1, -0.2), (0.5, 0.6), (math.nan, math.nan), (-1, 1), (0, 0)])


@both
def test_affectnet_npy_reads_numbers_and_text(write: Writer, tmp_path: Path):
    dataset = open_dataset(write(AFFECTNET_NPY, tmp_path / "affectnet"))
    assert described(dataset) == [
        ("train_set/images/0.jpg", "train", "happiness"),
        ("train_set/images/1.jpg", "train", "anger"),
        ("train_set/images/2.jpg", "train", "disgust"),
        ("val_set/images/5.jpg", "valid", "sadness"),
    ]
    affect = [(s.valence, s.arousal) for s in dataset.samples]
    np.testing.assert_array_equal(affect, [(0.8, 0.3), (-0.5, 0.7), (math.nan, math.nan), (-0.4, 0.1)])


@both
def test_rafdb_codes_are_named_the_prefix_is_the_split_and_a_missing_image_is_still_a_sample(
    write: Writer, tmp_path: Path
):
    expected = [
        ("aligned/train_00001_aligned.jpg", "train", "sadness"),
        ("aligned/train_00002.jpg", "train", "neutral"),
        ("original/train_00003.jpg", "train", "surprise"),
        ("aligned/train_00004_aligned.jpg", "train", "fear"),
        ("aligned/test_0001_aligned.jpg", "test", "disgust"),
        ("aligned/test_0002_aligned.jpg", "test", "happiness"),
        ("aligned/test_0003_aligned.jpg", "test", "anger"),
    ]
    for prefix, above in (("basic/", ""), ("RAF-DB/basic/", "RAF-DB/"), ("", None)):
        contents = {n.removeprefix("basic/") if above is None else above + n: d for n, d in RAFDB.items()}
        dataset = open_dataset(write(contents, tmp_path / f"rafdb{len(prefix)}"))
        assert described(dataset) == [(f"{prefix}Image/{name}", *rest) for name, *rest in expected]
        assert dataset.image(0).shape == (4, 4, 3)
        with pytest.raises(UnreadableImageError, match="train_00004_aligned"):
            dataset.image(3)


@pytest.mark.parametrize(
    "line", ["train_00005.jpg 8", "train_00005.jpg 0", "train_00005.jpg", "photo.jpg 3", "test_1.jpg x"]
)
def test_a_line_of_rafdb_that_says_no_label_is_named(line: str, tmp_path: Path):
    table = "basic/EmoLabel/list_patition_label.txt"
    contents = {**RAFDB, table: RAFDB[table] + line.encode()}
    with pytest.raises(InputError, match="line 8"):
        open_dataset(as_folder(contents, tmp_path / "rafdb"))


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@both
@pytest.mark.parametrize("wrapped", [True, False], ids=["object array", "bare pickle"])
def test_affectnet_npy_runs_no_pickles(write: Writer, wrapped: bool, tmp_path: Path):
    bomb = Bomb(tmp_path / "exploded")
    data = npy(bomb) if wrapped else pickle.dumps(bomb)
    path = write({**AFFECTNET_NPY, "train_set/annotations/1_exp.npy": data}, tmp_path / "affectnet")
    with pytest.raises(InputError, match=r"train_set/annotations/1_exp\.npy"):
        open_dataset(path)
    assert not bomb.marker.exists()


@both
def test_affectnet_npy_names_the_array_that_is_missing(write: Writer, tmp_path: Path):
    contents = {k: v for k, v in AFFECTNET_NPY.items() if not k.endswith("0_aro.npy")}
    path = write(contents, tmp_path / "affectnet")
    with pytest.raises(InputError, match=r"0_aro\.npy"):
        open_dataset(path)
    with pytest.raises(InputError, match=r"0_aro\.npy"):  # and is not taken for a folder without data
        open_datasets([path.parent])


@both
def test_folder_per_class_with_splits(write: Writer, tmp_path: Path):
    dataset = open_dataset(write(CLASSES_SPLIT, tmp_path / "classes"))
    assert sorted(described(dataset)) == [
        ("Validation/angry/2.JPG", "valid", "anger"),
        ("test/contempt/3.png", "test", "contempt"),
        ("train/Happy/1.png", "train", "happiness"),
    ]


@both
def test_folder_per_class_without_splits_is_split_by_name(write: Writer, tmp_path: Path):
    contents = {f"{label}/{i}.png": b"" for label in ("fear", "neutral") for i in range(200)}
    dataset = open_dataset(write(contents, tmp_path / "classes"))
    counts = Counter(s.split for s in dataset.samples)
    assert set(counts) == {"train", "valid"} and 20 <= counts["valid"] <= 60  # about a tenth of 400
    assert described(open_dataset(write(CLASSES, tmp_path / "few"))) == [
        ("fear/2.webp", person_split("fear/2.webp"), "fear"),
        ("neutral/1.png", person_split("neutral/1.png"), "neutral"),
    ]


@both
def test_a_folder_of_photographs_and_nothing_else_is_unlabelled(write: Writer, tmp_path: Path):
    contents = {f"images/{i}.jpg": b"" for i in range(200)}
    dataset = open_dataset(write(contents, tmp_path / "faces"))
    assert {s.label for s in dataset.samples} == {UNLABELLED}
    assert 5 <= sum(s.split == "valid" for s in dataset.samples) <= 40
    for other in ({**contents, "triplets.csv": b"id\n"}, {**contents, "source/1.png": b""}, {"1.jpg": b""}):
        with pytest.raises(InputError, match="none of the known layouts"):
            open_dataset(write(other, tmp_path / f"other{len(other)}"))


@pytest.mark.parametrize(
    "contents", [FERPLUS, LABELLED_LIST, AFFECTNET_CSV, AFFECTNET_NPY, RAFDB, CLASSES_SPLIT, CLASSES]
)
def test_folder_and_zip_give_the_same_samples_and_pixels(contents: Contents, tmp_path: Path):
    folder = open_dataset(as_folder(contents, tmp_path / "same"))
    packed = open_dataset(as_zip(contents, tmp_path / "same"))
    assert folder.name == packed.name == "same"
    np.testing.assert_equal([vars(s) for s in packed.samples], [vars(s) for s in folder.samples])  # NaN equals NaN
    present = [i for i, s in enumerate(folder.samples) if s.image in contents]
    assert present
    for i in present:
        np.testing.assert_array_equal(packed.image(i), PIXELS)
        np.testing.assert_array_equal(folder.image(i), PIXELS)


@both
def test_files_open_again_in_another_process(write: Writer, tmp_path: Path):
    files = open_dataset(write(CLASSES, tmp_path / "classes")).files
    assert files.names == set(CLASSES)
    again = pickle.loads(pickle.dumps(files))
    assert again.names == set(CLASSES) and again.read("fear/2.webp") == png()


@both
@pytest.mark.parametrize("name", ["absent.png", "../secret.png"])
def test_a_file_that_is_not_in_the_data_set_is_refused_by_name(write: Writer, name: str, tmp_path: Path):
    (tmp_path / "secret.png").write_bytes(png())
    files = open_dataset(write(CLASSES, tmp_path / "classes")).files
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        files.read(name)


def test_an_absolute_name_is_refused(tmp_path: Path):
    (tmp_path / "secret.png").write_bytes(png())
    files = open_dataset(as_folder(CLASSES, tmp_path / "classes")).files
    with pytest.raises(InputError, match="outside the data set"):
        files.read(str(tmp_path / "secret.png"))


@both
@pytest.mark.parametrize(
    "contents",
    [{"readme.txt": b"nothing"}, {"labels.csv": b"file,score\na,1\n"}, {"labels.csv": b""}, {"cats/1.png": png()}],
    ids=["text", "other columns", "empty table", "other classes"],
)
def test_an_unknown_layout_is_refused_with_the_known_ones(write: Writer, contents: Contents, tmp_path: Path):
    with pytest.raises(InputError, match=r"FER\+.*folder per class"):
        open_dataset(write(contents, tmp_path / "unknown"))


@pytest.mark.parametrize("opener", [open_dataset, lambda path: open_datasets([path])])
def test_what_is_neither_folder_nor_zip_is_refused(opener: Callable[[Path], object], tmp_path: Path):
    (tmp_path / "data.zip").write_bytes(b"not a zip file")
    for path in (tmp_path / "data.zip", tmp_path / "absent"):
        with pytest.raises(InputError, match=str(path)):
            opener(path)


def test_a_folder_of_data_sets_gives_all_of_them(tmp_path: Path):
    as_zip(FERPLUS, tmp_path / "all" / "fer")
    as_zip(CLASSES, tmp_path / "all" / "classes")
    as_folder(LABELLED_LIST, tmp_path / "all" / "list")
    as_folder({"readme.md": b"about"}, tmp_path / "all" / "docs")
    as_zip(AFFECTNET_CSV, tmp_path / "affectnet")
    opened = open_datasets([tmp_path / "all", tmp_path / "affectnet.zip"])
    assert [(d.name, len(d.samples)) for d in opened] == [("classes", 2), ("fer", 3), ("list", 3), ("affectnet", 5)]


def test_a_folder_without_any_data_set_is_refused(tmp_path: Path):
    as_folder({"docs/readme.md": b"about"}, tmp_path / "all")
    with pytest.raises(InputError, match="none of the known layouts"):
        open_datasets([tmp_path / "all"])


def deep(face: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(face.convert("L"), np.uint16) * 257 + 200)


def half_transparent(face: Image.Image) -> Image.Image:
    face.putalpha(Image.linear_gradient("L").resize(face.size))
    return face


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@both
@pytest.mark.parametrize(
    ("name", "make", "options"),
    [
        ("alpha.png", half_transparent, {}),
        ("cmyk.jpg", lambda face: face.convert("CMYK"), {"quality": 95}),
        ("16 bits.png", deep, {}),
        ("turned.jpg", lambda face: face, {"exif": turned()}),
        ("turned.png", lambda face: face, {"exif": turned()}),
    ],
    ids=["alpha", "CMYK", "16 bits", "turned JPEG", "turned PNG"],
)
def test_training_and_probing_decode_a_face_as_measurement_does(
    write: Writer, name: str, make: Callable[[Image.Image], Image.Image], options: dict[str, object],
    portrait_photo: Path, tmp_path: Path,
):  # fmt: skip
    face = make(Image.open(portrait_photo).convert("RGB").crop((150, 30, 310, 240)))
    face.save(tmp_path / name, **options)
    measured = read_image(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    path = write({f"fear/{name}": content}, tmp_path / "classes")
    np.testing.assert_array_equal(open_dataset(path).image(0), measured)
    probed = photographs(path)
    np.testing.assert_array_equal(probed.load(probed.images[0]), measured)
    assert measured.shape == ((160, 210, 3) if "turned" in name else (210, 160, 3))


def test_a_picture_that_cannot_be_decoded_is_named(tmp_path: Path):
    dataset = open_dataset(as_folder({"fear/broken.png": b"no picture"}, tmp_path / "classes"))
    with pytest.raises(UnreadableImageError, match=r"fear/broken\.png'?: not an image"):
        dataset.image(0)


def test_a_picture_that_is_missing_empty_or_damaged_inside_a_zip_is_an_error_of_that_picture(tmp_path: Path):
    missing = open_dataset(as_folder({**LABELLED_LIST, "images/z.png": b""}, tmp_path / "list"))
    (tmp_path / "list" / "images" / "x.png").unlink()
    whole = as_zip(LABELLED_LIST, tmp_path / "damaged")
    content = bytearray(whole.read_bytes())
    content[content.index(b"images/x.png") + 40] ^= 0xFF  # of its pixels; the sum in the zip tells
    whole.write_bytes(content)
    for dataset, index in ((missing, 0), (missing, 2), (open_dataset(whole), 0)):
        with pytest.raises(UnreadableImageError, match=dataset.samples[index].image):
            dataset.image(index)
    assert open_dataset(whole).image(1).shape == missing.image(1).shape == (4, 4, 3)


def test_a_person_is_in_one_split_alone(tmp_path: Path):
    rows = [f"{i}.png,person {i % 97},fear" for i in range(970)]
    dataset = open_dataset(
        as_folder({"labels.csv": "\n".join(["image,person,emotion", *rows]).encode()}, tmp_path / "people")
    )
    people = {split: {s.person for s in dataset.samples if s.split == split} for split in ("train", "valid")}
    assert people["train"] and people["valid"]
    assert not people["train"] & people["valid"]


@given(st.text())
def test_person_split_depends_on_the_name_alone(person: str):
    assert person_split(person) == person_split(person)
    assert person_split(person, 0) == "train" and person_split(person, 100) == "valid"


def test_person_split_takes_about_the_share_that_was_asked_for():
    shares = [np.mean([person_split(f"p{i}", percent) == "valid" for i in range(4000)]) for percent in (10, 50)]
    assert shares == pytest.approx([0.1, 0.5], abs=0.03)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Happy", "happiness"), (" sad ", "sadness"), ("FEARFUL", "fear"), ("surprised", "surprise"), ("anger", "anger")],
)
def test_labels_are_known_by_their_synonyms(name: str, expected: str):
    assert EXPRESSIONS[expression_index(name)] == expected


def test_other_labels_are_unlabelled():
    assert expression_index("bored") == expression_index("") == UNLABELLED


@pytest.mark.shared
def test_the_real_ferplus_has_the_published_faces(shared: Path):
    dataset = open_dataset(shared / "data" / "ferplus.zip")
    counts = Counter(s.split for s in dataset.samples)
    assert counts == {"train": 28150, "valid": 3526, "test": 3522}
    assert sum(counts.values()) == 35198
    assert all(s.votes is not None and math.isclose(sum(s.votes), 1) for s in dataset.samples)
    assert {s.image for s in dataset.samples} <= dataset.files.names
    assert dataset.image(0).shape == (48, 48, 3)


@pytest.mark.shared
def test_the_real_lfw_list_keeps_its_people_apart(shared: Path):
    dataset = open_dataset(shared / "data" / "lfw_expressions.zip")
    assert len(dataset.samples) == 13246
    assert {s.image for s in dataset.samples} <= dataset.files.names
    assert all(s.label != UNLABELLED for s in dataset.samples)
    people = {split: {s.person for s in dataset.samples if s.split == split} for split in ("train", "valid")}
    assert not people["train"] & people["valid"]
    assert 0.05 < len(people["valid"]) / len(people["train"] | people["valid"]) < 0.15
    assert dataset.image(0).shape == (160, 160, 3)


@pytest.mark.shared
def test_the_real_london_faces_are_102_people_twice(shared: Path):
    dataset = open_dataset(shared / "data" / "london_faces.zip")
    assert Counter(EXPRESSIONS[s.label] for s in dataset.samples) == {"neutral": 102, "happiness": 102}
    assert set(Counter(s.person for s in dataset.samples).values()) == {2}
    assert {s.image for s in dataset.samples} <= dataset.files.names
    assert dataset.image(0).ndim == 3


@pytest.mark.shared
def test_the_real_rafdb_has_the_published_counts(outside: Path):
    dataset = open_dataset(outside / "rafdb.zip")
    counts = {split: Counter(s.label for s in dataset.samples if s.split == split) for split in ("train", "test")}
    named = {split: {EXPRESSIONS[k]: n for k, n in found.items()} for split, found in counts.items()}
    assert named["train"] == {
        "happiness": 4772, "neutral": 2524, "sadness": 1982, "surprise": 1290, "disgust": 717, "anger": 705, "fear": 281
    }  # fmt: skip
    assert named["test"] == {
        "happiness": 1185, "neutral": 680, "sadness": 478, "surprise": 329, "disgust": 160, "anger": 162, "fear": 74
    }  # fmt: skip
    assert {s.image for s in dataset.samples} <= dataset.files.names
    assert dataset.image(0).shape == (100, 100, 3)
