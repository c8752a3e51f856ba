"""Data sets laid out as their authors publish them, made of bundled faces: each is read, face by face."""

from __future__ import annotations

import csv
import io
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from exprmetric.datasets.layouts import FaceDataset, UnknownLayoutError, open_dataset
from exprmetric.datasets.samples import EXPRESSIONS, UNLABELLED, person_split
from exprmetric.errors import InputError, UnreadableImageError
from exprmetric.inputs.pairs import LabelledImage, read_labels

Pixels = npt.NDArray[np.uint8]
BOXES = ((180, 60, 280, 160), (175, 55, 285, 165), (170, 50, 290, 170), (160, 40, 300, 180))
HEADER = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal\n"
AFFECTNET = (
    ("1/a.jpg", 0, 0.1, -0.2, "neutral"),
    ("1/b.jpg", 3, 0.5, 0.6, "surprise"),
    ("2/c.jpg", 6, -0.4, 0.7, "anger"),
    ("2/d.jpg", 10, -2, -2, ""),
)


@pytest.fixture(scope="module")
def faces(portrait_photo: Path) -> list[bytes]:
    """Four crops of the portrait as JPEG, 48 px."""
    photo = Image.open(portrait_photo).convert("RGB")
    return [packed(photo.crop(box).resize((48, 48)), "JPEG") for box in BOXES]


def packed(image: Image.Image, kind: str = "PNG") -> bytes:
    data = io.BytesIO()
    image.save(data, kind)
    return data.getvalue()


def lay(root: Path, *named: tuple[str, bytes | str]) -> Path:
    for name, content in named:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def found(dataset: FaceDataset) -> list[tuple[str, str, str]]:
    return [(s.image, s.split, EXPRESSIONS[s.label] if s.label >= 0 else "") for s in dataset.samples]


def lines(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def affectnet_table(rows: Iterable[tuple[str, int, float, float, str]]) -> str:
    return lines((name, 5, 5, 40, 40, "1;2;3;4", code, v, a) for name, code, v, a, _ in rows)


@pytest.mark.parametrize("headed", [True, False], ids=["header", "no header"])
@pytest.mark.parametrize(
    ("tables", "images"),
    [
        ("", ""),
        ("", "images/"),
        ("", "Manually_Annotated_Images/"),
        ("Manually_Annotated_file_lists/", "Manually_Annotated/Manually_Annotated_Images/"),
        ("AffectNet/Manually_Annotated_file_lists/", "AffectNet/Manually_Annotated_compressed/"),
    ],
)
def test_affectnet_is_read_with_and_without_a_header_under_its_official_folders(
    tables: str, images: str, headed: bool, faces: list[bytes], tmp_path: Path
) -> None:
    head = HEADER if headed else ""
    lay(
        tmp_path / "a",
        (f"{tables}training.csv", HEADER + affectnet_table(AFFECTNET[:2])),
        (f"{tables}validation.csv", head + affectnet_table(AFFECTNET[2:])),
        *((f"{images}{row[0]}", face) for row, face in zip(AFFECTNET, faces, strict=True)),
    )
    dataset = open_dataset(tmp_path / "a")
    expected = [(f"{images}{name}", label) for name, _, _, _, label in AFFECTNET if label]
    assert [(image, label) for image, _, label in found(dataset)] == expected
    assert [s.split for s in dataset.samples] == ["train", "train", "valid"]
    assert dataset.samples[2].valence == -0.4 and dataset.samples[2].arousal == 0.7
    assert all(dataset.image(i).shape == (48, 48, 3) for i in range(3))


@pytest.mark.parametrize("headed", [True, False], ids=["header", "no header"])
def test_affectnets_table_draws_pairs_by_the_names_of_its_codes(
    headed: bool, faces: list[bytes], tmp_path: Path
) -> None:
    table, images = "Manually_Annotated_file_lists/validation.csv", "Manually_Annotated/Manually_Annotated_Images"
    lay(
        tmp_path,
        (table, (HEADER if headed else "") + affectnet_table(AFFECTNET)),
        *((f"{images}/{row[0]}", face) for row, face in zip(AFFECTNET, faces, strict=True)),
    )
    expected = [LabelledImage(str(tmp_path / images / n), label) for n, _, _, _, label in AFFECTNET if label]
    assert read_labels(tmp_path / table) == expected
    assert read_labels(tmp_path / table, tmp_path / "else")[0].path == str(tmp_path / "else" / "1/a.jpg")


@pytest.mark.parametrize("code", ["11", "-1", "fear", ""])
def test_an_affectnet_code_that_is_none_is_named_with_its_line(code: str, tmp_path: Path) -> None:
    lay(tmp_path, ("validation.csv", HEADER + f"1/a.jpg,0,0,9,9,x,0,0,0\n1/b.jpg,0,0,9,9,x,{code},0,0\n"))
    with pytest.raises(InputError, match="face 2"):
        open_dataset(tmp_path)
    with pytest.raises(InputError, match="line 3"):
        read_labels(tmp_path / "validation.csv")


def test_another_training_csv_is_no_affectnet(faces: list[bytes], tmp_path: Path) -> None:
    lay(tmp_path, ("training.csv", "left_eye_x,Image\n1,2\n"), ("fear/a.jpg", faces[0]))
    assert found(open_dataset(tmp_path)) == [("fear/a.jpg", person_split("fear/a.jpg"), "fear")]


def test_rafdb_in_numbered_folders_has_the_authors_codes(faces: list[bytes], tmp_path: Path) -> None:
    names = [f"DATASET/train/{i + 1}/train_0000{i}_aligned.jpg" for i in range(7)]
    lay(tmp_path / "raf", *((n, faces[0]) for n in names), ("DATASET/test/4/test_0001_aligned.jpg", faces[1]))
    lay(tmp_path / "raf", ("train_labels.csv", "image,label\n"))
    order = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
    expected = [("DATASET/test/4/test_0001_aligned.jpg", "test", "happiness")]
    assert found(open_dataset(tmp_path / "raf")) == expected + [
        (n, "train", e) for n, e in zip(names, order, strict=True)
    ]
    lay(tmp_path / "raf", ("DATASET/train/1/somebody.jpg", faces[2]))
    with pytest.raises(UnknownLayoutError):  # another set's numbers may mean something else
        open_dataset(tmp_path / "raf")


VOTES = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"
USAGES = ("Training", "Training", "PublicTest", "PrivateTest")
ROWS = ((4, 0, 0, 1, 3, 2, 0, 0, 0, 0), (0, 0, 0, 0, 0, 0, 0, 0, 0, 10), (0, 8, 0, 0, 0, 0, 0, 1, 1, 0),
        (0, 0, 0, 0, 0, 0, 9, 0, 0, 1))  # fmt: skip


def grey(face: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(face)).convert("L"))


def fer2013(faces: list[bytes], broken: int = -1) -> str:
    cells = ["1 2 3" if i == broken else " ".join(map(str, grey(f).ravel())) for i, f in enumerate(faces)]
    return "emotion,pixels,Usage\n" + lines(zip((0, 3, 3, 2), cells, USAGES, strict=True))


@pytest.mark.parametrize("packed_up", [False, True], ids=["folder", "zip"])
def test_fer2013_with_the_votes_beside_it_is_ferplus(packed_up: bool, faces: list[bytes], tmp_path: Path) -> None:
    names = ("fer0.png", "", "fer2.png", "fer3.png")
    votes = VOTES + lines((u, n, *r) for u, n, r in zip(USAGES, names, ROWS, strict=True))
    contents = (("fer/fer2013.csv", fer2013(faces)), ("fer/fer2013new.csv", votes))
    root = lay(tmp_path / "data", *contents)
    if packed_up:
        root = tmp_path / "data.zip"
        with zipfile.ZipFile(root, "w") as archive:
            for name, text in contents:
                archive.writestr(name, text)
    dataset = open_dataset(root)
    table = "fer/fer2013.csv"
    assert found(dataset) == [
        (f"{table}?0", "train", "neutral"), (f"{table}?2", "valid", "happiness"), (f"{table}?3", "test", "fear")
    ]  # fmt: skip
    assert (
        dataset.samples[0].votes == pytest.approx((0.4, 0, 0, 0.1, 0.3, 0.2, 0, 0)) and dataset.samples[0].raters == 10
    )
    for sample, row in enumerate((0, 2, 3)):
        np.testing.assert_array_equal(dataset.image(sample), np.repeat(grey(faces[row])[..., None], 3, axis=2))
    assert len({dataset.checksum(i) for i in range(3)}) == 3


def test_fer2013_alone_has_its_own_seven_labels_and_a_broken_row_is_one_unreadable_face(
    faces: list[bytes], tmp_path: Path
) -> None:
    dataset = open_dataset(lay(tmp_path, ("fer2013.csv", fer2013(faces, broken=1))))
    assert [label for _, _, label in found(dataset)] == ["anger", "happiness", "happiness", "fear"]
    assert [s.split for s in dataset.samples] == ["train", "train", "valid", "test"]
    with pytest.raises(UnreadableImageError, match="2304 pixels"):
        dataset.image(1)
    assert dataset.checksum(1) == "" and dataset.image(2).shape == (48, 48, 3)


@pytest.mark.parametrize("rows", [3, 5])
def test_votes_of_other_faces_than_the_pixels_are_refused(rows: int, faces: list[bytes], tmp_path: Path) -> None:
    votes = VOTES + lines((u, "a", *ROWS[0]) for u in (*USAGES, "PrivateTest")[:rows])
    with pytest.raises(InputError, match=r"fer2013new\.csv"):
        open_dataset(lay(tmp_path, ("fer2013.csv", fer2013(faces)), ("fer2013new.csv", votes)))


def test_the_folders_that_ferpluss_program_writes_are_read(faces: list[bytes], tmp_path: Path) -> None:
    folders = ("FER2013Train", "FER2013Valid", "FER2013Test")
    for i, (folder, row) in enumerate(zip(folders, (ROWS[0], ROWS[2], ROWS[3]), strict=True)):
        table = lines([(f"fer000{i}.png", "(0, 0, 48, 48)", *row), ("none.png", "(0, 0, 48, 48)", *ROWS[1])])
        lay(tmp_path / "ferplus/data", (f"{folder}/label.csv", table), (f"{folder}/fer000{i}.png", faces[i]))
    dataset = open_dataset(tmp_path / "ferplus")
    assert sorted(found(dataset)) == [
        ("data/FER2013Test/fer0002.png", "test", "fear"),
        ("data/FER2013Train/fer0000.png", "train", "neutral"),
        ("data/FER2013Valid/fer0001.png", "valid", "happiness"),
    ]
    assert all(dataset.image(i).shape == (48, 48, 3) for i in range(3))
    assert sorted(s.raters for s in dataset.samples) == [9, 9, 10]


def test_ckplus_gives_the_first_frame_as_neutral_and_the_last_three_as_the_emotion(
    faces: list[bytes], tmp_path: Path
) -> None:
    for person, sequence, code in (("S005", "001", "3"), ("S010", "004", None)):
        names = [f"cohn-kanade-images/{person}/{sequence}/{person}_{sequence}_{i:08d}.png" for i in range(1, 7)]
        lay(tmp_path, *((name, faces[i % 4]) for i, name in enumerate(names)))
        if code:
            lay(
                tmp_path,
                (f"Emotion/{person}/{sequence}/{person}_{sequence}_00000006_emotion.txt", f"   {code}.0e+00\n"),
            )
    dataset = open_dataset(tmp_path)
    assert [(Path(n).stem, label) for n, _, label in found(dataset)] == [
        ("S005_001_00000001", "neutral"),
        *((f"S005_001_0000000{i}", "disgust") for i in (4, 5, 6)),
    ]
    assert {s.person for s in dataset.samples} == {"S005"} and len({s.split for s in dataset.samples}) == 1
    lay(tmp_path, ("Emotion/S010/004/S010_004_00000006_emotion.txt", "nine"))
    with pytest.raises(InputError, match="S010_004_00000006_emotion"):
        open_dataset(tmp_path)


def test_folders_of_ckplus_by_class_keep_its_people_apart(faces: list[bytes], tmp_path: Path) -> None:
    for i in range(30):
        for label in ("anger", "happy"):
            lay(tmp_path, (f"{label}/S{i:03d}_00{1 + (label == 'happy')}_00000012.png", faces[0]))
    samples = open_dataset(tmp_path).samples
    assert {s.person for s in samples} == {f"S{i:03d}" for i in range(30)}
    assert all(len({s.split for s in samples if s.person == p}) == 1 for p in {s.person for s in samples})


@pytest.mark.parametrize(
    ("folder", "file"),
    [
        ("imgs/m.0107_f{}", "{}.jpg"), ("n00000{}", "0001_0{}.jpg"), ("000004{}", "00{}.jpg"),
        ("lfw/Ann_B{}", "Ann_B{}_000{}.jpg"), ("people/anyone{}", "{}.jpg"),
    ],
    ids=["MS1M", "VGGFace2", "CASIA-WebFace", "LFW", "people"],
)  # fmt: skip
def test_a_folder_for_each_identity_says_who_is_who(folder: str, file: str, faces: list[bytes], tmp_path: Path) -> None:
    for person in range(1, 4):
        for i in range(1, 3):
            name = file.format(*([person, i] if file.count("{}") == 2 else [i]))
            lay(tmp_path, (f"{folder.format(person)}/{name}", faces[0]))
    samples = open_dataset(tmp_path).samples
    assert sorted(Counter(s.person for s in samples).values()) == [2, 2, 2]
    assert all(s.label == UNLABELLED and s.split == person_split(s.person) for s in samples)


def test_folders_that_name_nobody_are_no_people(faces: list[bytes], tmp_path: Path) -> None:
    lay(tmp_path, *((f"{name}/{i}.jpg", faces[0]) for name in ("cats", "hapiness", "1") for i in range(3)))
    with pytest.raises(UnknownLayoutError):
        open_dataset(tmp_path)


@pytest.mark.torch
def test_a_set_that_has_only_train_and_test_holds_a_tenth_back_to_validate_on(
    faces: list[bytes], tmp_path: Path
) -> None:
    from exprmetric.training.recipes.common import with_valid

    names = [f"train/1/train_{i:05d}_aligned.jpg" for i in range(300)]
    lay(tmp_path, *((n, faces[0]) for n in names), ("test/4/test_0001_aligned.jpg", faces[1]))
    dataset = open_dataset(tmp_path)
    (held,) = with_valid([dataset])
    splits = Counter(s.split for s in held.samples)
    assert splits["test"] == 1 and 15 <= splits["valid"] <= 50 and sum(splits.values()) == 301
    assert [s.image for s in held.samples] == [s.image for s in dataset.samples]
    assert with_valid([held]) == [held]
