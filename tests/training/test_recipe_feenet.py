"""FEENet: its loss by hand, what it takes of a FEC folder, and that it learns from votes on real faces."""

from __future__ import annotations

import csv
import io
import itertools
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from exprmetric.datasets import fec, fec_faces
from exprmetric.datasets.arrays import FaceArrays
from exprmetric.datasets.layouts import open_dataset
from exprmetric.encoder.export import export_encoder, load_encoder
from exprmetric.errors import InputError
from exprmetric.training.recipes import feenet
from exprmetric.training.recipes.common import embed
from exprmetric.training.recipes.feenet import FEENetConfig, two_sided_triplet_loss

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

SMALL = FEENetConfig(backbone="resnet18", size=48, batch=30, epochs=1, augment="none", patience=99)


# --- the loss ---


def test_the_loss_by_hand():
    a = torch.tensor([[2.0, 0.0]])  # unit norm: (1, 0), (0, 1), (-1, 0)
    p = torch.tensor([[0.0, 5.0]])
    n = torch.tensor([[-0.1, 0.0]])
    # |a - p|² = 2, |a - n|² = 4, |p - n|² = 2
    assert float(two_sided_triplet_loss(a, p, n)) == pytest.approx(max(0, 2 - 4 + 0.2) + max(0, 2 - 2 + 0.2))
    assert float(two_sided_triplet_loss(a, n, p)) == pytest.approx(2 * (4 - 2 + 0.2))
    assert float(two_sided_triplet_loss(a, p, n, margin=3.0)) == pytest.approx((2 - 4 + 3) + (2 - 2 + 3))
    assert float(two_sided_triplet_loss(a, a, n)) == 0
    both = two_sided_triplet_loss(torch.cat([a, a]), torch.cat([p, n]), torch.cat([n, p]))
    assert float(both) == pytest.approx((0.2 + 4.4) / 2)  # the mean


def test_the_loss_is_two_sided_and_draws_the_pair_together():
    a, p, n = torch.randn(3, 50, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(two_sided_triplet_loss(a, p, n), two_sided_triplet_loss(p, a, n))
    p.requires_grad_()
    two_sided_triplet_loss(a, p, n, margin=10.0).backward()
    with torch.no_grad():
        after = two_sided_triplet_loss(a, p - p.grad, n, margin=10.0)
    assert after < two_sided_triplet_loss(a, p, n, margin=10.0)
    collapsed = torch.ones(5, 16)
    assert float(two_sided_triplet_loss(collapsed, collapsed, collapsed)) == pytest.approx(0.4)  # pays for no answer


def test_settings_that_can_t_be_are_refused():
    assert (FEENetConfig().neck, FEENetConfig().dimension, FEENetConfig().margin) == ("two_layers", 16, 0.2)
    for wrong in ({"pretrained": True}, {"batch": 2}, {"agreement": 0.0}, {"held_out": 1.5}, {"clear": -0.1}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            FEENetConfig(**wrong)


# --- votes ---


def squares(count: int, seed: int = 0) -> FaceArrays:
    """Images whose bright half says what most of ten raters voted for."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    votes = np.full((count, 8), np.nan, np.float32)
    for i, label in enumerate(labels[: count - 5]):  # the last ones are not rated
        votes[i] = rng.multinomial(10, np.where(np.arange(8) == label, 0.8, 0.2 / 7)) / 10
    images = rng.integers(0, 90, (count, 1, 48, 48))
    for image, label in zip(images, labels, strict=True):
        image[:, :, 24 * label : 24 * label + 24] += 150
    nan = torch.full((count,), float("nan"))
    pixels = torch.from_numpy(images.astype(np.uint8))
    return FaceArrays(pixels, torch.from_numpy(labels), torch.from_numpy(votes), nan, nan)


@pytest.mark.slow
def test_it_learns_and_the_scores_add_up_and_the_encoder_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feenet, "SCORED", 1000)
    faces = {"train": squares(180), "valid": squares(60, 1), "test": squares(60, 2)}
    config = replace(SMALL, epochs=3, learning_rate=2e-3)
    scores = feenet.FEENetRecipe(feenet.rated_faces(faces, config), config, tmp_path).run()
    assert set(scores) == {"valid", "test"}
    found = scores["test"]
    assert found["triplet_accuracy_two_class"] > 0.85  # the other types can't be seen in these images
    assert found["triplet_accuracy_low"] < found["triplet_accuracy"] < found["triplet_accuracy_high"]
    kinds = ("one_class", "two_class", "three_class")
    assert sum(found[f"triplets_{k}"] for k in kinds) == found["triplets"] > 300
    right = sum(found[f"triplets_{k}"] * found[f"triplet_accuracy_{k}"] for k in kinds if found[f"triplets_{k}"])
    assert right / found["triplets"] == pytest.approx(found["triplet_accuracy"])
    encoder, kept = load_encoder(tmp_path / "encoder.pt")
    assert kept["dimension"] == embed(encoder, faces["test"]).shape[1] == 16
    assert export_encoder(tmp_path / "encoder.pt", tmp_path / "x.onnx").dimension == 16


def test_an_epoch_sees_as_many_faces_as_there_are_whatever_the_triplets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """64 faces in batches of 30: two steps of ten triplets, also where the data has fewer."""
    faces = {"train": squares(64), "valid": squares(64, 1)}
    few = feenet.vote_triplets(faces["train"].votes.numpy(), 7)
    seen = []

    def loss(*arguments):
        seen.append([len(x) for x in arguments[:3]])
        return two_sided_triplet_loss(*arguments)

    monkeypatch.setattr(feenet, "two_sided_triplet_loss", loss)
    monkeypatch.setattr(feenet, "triplet_scores", lambda *_: {})
    feenet.FEENetRecipe(fec_faces.TripletFaces(faces, lambda *_: few, lambda _: few, {}), SMALL, tmp_path).run()
    assert seen == [[10, 10, 10]] * 4  # two steps, and two of validation


def test_faces_without_a_doubtless_triplet_are_refused(tmp_path: Path):
    faces = {"train": squares(60), "valid": squares(60, 1)}
    faces["train"].votes[:] = 1 / 8
    with pytest.raises(InputError, match="'train'"):
        feenet.FEENetRecipe(feenet.rated_faces(faces, SMALL), SMALL, tmp_path).run()


def log_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.shared
def test_the_loss_falls_on_real_faces(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """FER+ is cropped to the face already, so that nothing need be aligned."""
    import cv2

    monkeypatch.setattr(feenet, "SCORED", 1000)
    archive = shared / "data" / "ferplus.zip"
    samples = open_dataset(archive).samples
    faces = {}
    with zipfile.ZipFile(archive) as file:
        for split, count in (("train", 210), ("valid", 60)):
            chosen = [s for s in samples if s.split == split][:count]
            content = [np.frombuffer(file.read(s.image), np.uint8) for s in chosen]
            pixels = np.stack([cv2.imdecode(c, cv2.IMREAD_GRAYSCALE) for c in content])
            nan = torch.full((count,), float("nan"))
            labels, votes = torch.tensor([s.label for s in chosen]), torch.tensor([s.votes for s in chosen])
            faces[split] = FaceArrays(torch.from_numpy(pixels)[:, None], labels, votes, nan, nan)
    config = replace(SMALL, epochs=7, learning_rate=1e-3, clear=0.7)
    scores = feenet.FEENetRecipe(feenet.rated_faces(faces, config), config, tmp_path).run()
    log = log_of(tmp_path)
    assert log[-1]["train"]["total"] < 0.8 * log[0]["train"]["total"]
    assert min(line["valid"]["total"] for line in log) < 0.38  # one answer for all faces costs 0.4
    assert scores["valid"]["triplet_accuracy"] > 0.42  # chance is 1/3


# --- FEC ---

TYPES = fec.TRIPLET_TYPES


def table_row(faces: list[fec.FecFace], kind: str, answers: str) -> list[object]:
    boxes = itertools.chain(*((f.url, f.left, f.right, f.top, f.bottom) for f in faces))
    return [*boxes, kind, *itertools.chain(*((f"r{i}", a) for i, a in enumerate(answers)))]


def write_table(folder: Path, split: str, rows: list[list[object]]) -> None:
    with (folder / fec_faces.TABLES[split]).open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def put(folder: Path, url: str, image: bytes) -> None:
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images" / fec.image_name(url)).write_bytes(image)


def blank() -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (60, 40)).save(out, "PNG")
    return out.getvalue()


def faces_of(*names: str) -> list[fec.FecFace]:
    return [fec.FecFace(f"http://a.org/{n}.jpg", 0.25, 0.75, 0.25, 0.75) for n in names]


def test_what_is_used_of_a_fec_folder_and_what_falls_out(tmp_path: Path):
    for name in "abcdefghi":
        put(tmp_path, f"http://a.org/{name}.jpg", blank())
    test = [faces_of("a", "b", "c")]
    train = [
        (faces_of("d", "e", "f"), "222211"),
        (faces_of("d", "e", "g"), "333311"),
        (faces_of("d", "e", "gone"), "333333"),  # no photograph
        (faces_of("d", "e", "h"), "123123"),  # raters divided
        (faces_of("a", "h", "i"), "111111"),  # with a photograph of the test
        (faces_of("g", "h", "i"), "111111"),
    ]
    write_table(tmp_path, "test", [table_row(f, TYPES[2], "11112") for f in test])
    write_table(tmp_path, "train", [table_row(f, TYPES[i % 3], a) for i, (f, a) in enumerate(train)])
    share = {i: fec_faces._share_of(fec.FecTriplet(tuple(f), 0, ("r",), (0,))) for i, (f, _) in enumerate(train)}
    config = replace(SMALL, held_out=sorted([share[0], share[1], share[5]])[0] + 1e-12)
    held = min((0, 1, 5), key=lambda i: share[i])
    opened = fec_faces.open_fec(tmp_path, config)
    shared_faces = {0: {1}, 1: {0, 5}, 5: {1}}[held]  # d, e and g
    assert opened.facts["train"] == {
        "published": 6,
        "raters_divided": 1,
        "without_photograph": 1,
        "photograph_held_out": 1 + len(shared_faces),
        "share_held_out": (1 + len(shared_faces)) / 4,
        "rater_accuracy": pytest.approx(5 / 6, abs=0.17),
    }
    assert opened.facts["test"] == {
        "published": 1,
        "raters_divided": 0,
        "without_photograph": 0,
        "rater_accuracy": pytest.approx(0.8),
    }
    names = {fec.image_name(f"http://a.org/{n}.jpg"): n for n in "abcdefghi"}
    photographs = {}
    for split, made in opened.triplets.items():
        for triplet, kind in zip(made.rows, made.types, strict=True):
            samples = [opened.dataset.samples[i] for i in triplet]
            assert {s.split for s in samples} == {split}
            photographs.setdefault(split, []).append("".join(names[s.image.partition("?")[0]] for s in samples))
            assert 0 <= kind < 3
    expected = {0: "dfe", 1: "deg", 5: "hig"}  # the odd one last
    assert photographs["test"] == ["bca"]
    assert photographs["valid"] == [expected[held]]
    assert photographs["train"] == [expected[i] for i in (0, 1, 5) if i != held and i not in shared_faces]


def test_a_limit_of_faces_leaves_triplets_out(tmp_path: Path):
    names = [f"{i:02}" for i in range(60)]
    for name in names:
        put(tmp_path, f"http://a.org/{name}.jpg", blank())
    rows = [table_row(faces_of(*names[i : i + 3]), TYPES[0], "111111") for i in range(0, 60, 3)]
    write_table(tmp_path, "test", [table_row(faces_of("x", "y", "z"), TYPES[0], "111111")])  # not downloaded
    write_table(tmp_path, "train", rows)
    opened = fec_faces.open_fec(tmp_path, replace(SMALL, held_out=0.2, limit=10))
    assert len(opened.triplets["train"]) == 3
    assert opened.facts["train"]["beyond_limit"] == 20 - 3 - len(opened.triplets["valid"])
    assert sum(s.split == "train" for s in opened.dataset.samples) == 9
    assert set(opened.triplets) == {"train", "valid"} and opened.facts["test"]["without_photograph"] == 1
    assert len(fec_faces.open_fec(tmp_path, replace(SMALL, held_out=0.2)).triplets["train"]) > 10


def test_a_folder_that_can_t_be_trained_on_says_why(tmp_path: Path):
    write_table(tmp_path, "train", [table_row(faces_of("a", "b", "c"), TYPES[0], "111111")])
    with pytest.raises(InputError, match="exprmetric fec download"):
        fec_faces.open_fec(tmp_path, SMALL)
    for name in "abc":
        put(tmp_path, f"http://a.org/{name}.jpg", blank())
    with pytest.raises(InputError, match="held_out"):
        fec_faces.open_fec(tmp_path, SMALL)
    with pytest.raises(InputError, match="beside"):
        feenet.FEENetRecipe.open([tmp_path, tmp_path], tmp_path / "out", SMALL, device="cpu")
    (tmp_path / fec_faces.TABLES["train"]).rename(tmp_path / fec_faces.TABLES["test"])
    with pytest.raises(InputError, match="train-public"):
        fec_faces.open_fec(tmp_path, SMALL)


@pytest.mark.parametrize(
    ("box", "x", "y"),
    [
        ((0.25, 0.75, 0.25, 0.75), range(0, 40), range(0, 20)),
        ((0.5, 1.0, 0.0, 0.5), range(10, 50), range(-5, 15)),
        ((-0.1, 0.1, 0.9, 1.1), range(-8, 8), range(16, 24)),
    ],
)
def test_twice_the_box_is_cut_out_with_black_outside(box, x, y):
    image = np.random.default_rng(0).integers(1, 256, (20, 40, 3), np.uint8)
    out = fec.twice_the_box(image, *box)
    assert out.shape == (len(y), len(x), 3)
    for i, j in itertools.product(range(len(y)), range(len(x))):
        inside = y[i] in range(20) and x[j] in range(40)
        assert out[i, j].tolist() == (image[y[i], x[j]].tolist() if inside else [0, 0, 0])


def test_the_face_in_the_box_is_the_one_that_is_trained_on(
    tmp_path: Path, group_photo: Path, portrait_photo: Path, monkeypatch: pytest.MonkeyPatch
):
    """Six people on one photograph: each one's crop is of that person. Then the whole recipe, from the folder."""
    from exprmetric.datasets.alignment import align_dataset
    from exprmetric.faces import load_detector
    from exprmetric.io.images import read_image

    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)
    found = []
    for number, photograph in enumerate((group_photo, portrait_photo)):
        url = f"https://a.org/{number}.jpg"
        put(tmp_path, url, photograph.read_bytes())
        image = read_image(photograph)
        height, width = image.shape[:2]
        for detection in load_detector("dlib").detect(image):
            x0, y0, x1, y1 = (float(v) for v in detection.box)
            found.append(fec.FecFace(url, x0 / width, x1 / width, y0 / height, y1 / height))
    assert len(found) >= 6
    copies = [[replace(f, url=f"https://a.org/{c}{f.url[-5:]}") for f in found] for c in "tv"]
    for c, number in itertools.product("tv", "01"):
        source = (group_photo, portrait_photo)[int(number)]
        put(tmp_path, f"https://a.org/{c}{number}.jpg", source.read_bytes())

    rows = [table_row(list(t), TYPES[0], "333333") for t in itertools.combinations(found, 3)]
    held = [table_row(list(t), TYPES[1], "111111") for t in itertools.combinations(copies[0], 3)]
    write_table(tmp_path, "train", rows + held)
    tested = [table_row(list(t), TYPES[2], "222211") for t in itertools.combinations(copies[1], 3)]
    write_table(tmp_path, "test", tested)
    monkeypatch.setattr(fec_faces, "_share_of", lambda t: float("org/t" not in t.faces[0].url))
    out = tmp_path / "out"
    config = replace(SMALL, batch=6, held_out=0.5)
    scores = feenet.FEENetRecipe.open([tmp_path], out, config, device="cpu", jobs=1).run()

    opened = fec_faces.open_fec(tmp_path, replace(SMALL, held_out=0.5))
    alignment = align_dataset(opened.dataset, out / "alignment", jobs=1)  # kept from the run
    assert alignment.found.all()
    for i, sample in enumerate(opened.dataset.samples):
        middle = np.linalg.inv(alignment.matrices[i][:, :2]) @ (np.array([112, 112]) - alignment.matrices[i][:, 2])
        height, width = opened.dataset.image(i).shape[:2]
        assert np.abs(middle / [width, height] - 0.5).max() < 0.15, sample.image  # the face's, not a neighbour's
    count = len(list(itertools.combinations(found, 3)))
    assert scores["test"]["triplets"] == scores["test"]["used"] == scores["test"]["triplets_three_class"] == count
    assert scores["test"]["rater_accuracy"] == pytest.approx(4 / 6)
    assert scores["valid"]["triplets_two_class"] == scores["train"]["used"] == count
    assert scores["valid"]["without_face"] == 0
    assert (out / "encoder.pt").is_file()
