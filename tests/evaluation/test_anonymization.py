"""What an anonymizer is judged by: every face counts, and whether people can still be found stands beside utility."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from exprmetric.comparing.compare import compare
from exprmetric.comparing.contestants import contestants
from exprmetric.errors import InputError
from exprmetric.evaluation.evaluate import evaluate
from exprmetric.evaluation.large.private import FILE, PrivateVectors, forget
from exprmetric.evaluation.large.shards import merge
from exprmetric.evaluation.privacy import privacy, privacy_lines, privacy_sheet
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.evaluation.rows import OK, PRIVATE_COLUMNS, Rows, table
from exprmetric.faces.detection import load_detector
from exprmetric.faces.place import one_to_one
from exprmetric.inputs.triplets import Triplet
from exprmetric.io.images import read_image
from exprmetric.report.html import report_page

FAST: dict[str, Any] = {"methods": ["lm68"], "detector": "dlib", "jobs": 1}
Image = np.ndarray[Any, np.dtype[np.uint8]]


def save(image: Image, path: Path) -> Path:
    import PIL.Image

    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(image).save(path, compress_level=1)
    return path


def blur(face: Image) -> Image:
    import cv2

    return np.asarray(cv2.GaussianBlur(face, (0, 0), face.shape[1] / 8), np.uint8)


def mosaic(face: Image) -> Image:
    import cv2

    small = cv2.resize(face, (8, 8), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, face.shape[1::-1], interpolation=cv2.INTER_NEAREST), np.uint8)


KINDS = {"blur": blur, "mosaic": mosaic, "box": np.zeros_like, "nothing": np.copy}


KINDS_SORTED = sorted(KINDS)


def painted(image: Image, box: Sequence[float], kind: str) -> Image:
    """A picture in which the face in a box, and a sixth around it, is treated in one of `KINDS`."""
    x0, y0, x1, y1 = (round(v) for v in box)
    w, h = (x1 - x0) // 6, (y1 - y0) // 6
    part = (slice(max(0, y0 - h), y1 + h), slice(max(0, x0 - w), x1 + w))
    changed = image.copy()
    changed[part] = KINDS[kind](image[part])
    return changed


@pytest.fixture(scope="module")
def group(group_photo: Path) -> tuple[Image, list[np.ndarray[Any, Any]]]:
    """The photograph of six people, a little smaller, and their faces' boxes from left to right."""
    import cv2

    image = np.asarray(cv2.resize(read_image(group_photo), None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA))
    found = sorted((d.box for d in load_detector("dlib").detect(image)), key=lambda box: float(box[0]))
    assert len(found) >= 5
    return image, found


@pytest.fixture(scope="module")
def crowd(group: tuple[Image, list[Any]], portrait_photo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`original/` and `anonymized/`: the group, of which the third face is a black box, and a portrait as it was."""
    root = tmp_path_factory.mktemp("crowd")
    image, boxes = group
    save(image, root / "original/group.png")
    save(painted(image, boxes[2], "box"), root / "anonymized/group.png")
    for folder in ("original", "anonymized"):
        save(read_image(portrait_photo), root / folder / "portrait.png")
    return root


@pytest.fixture(scope="module")
def every(crowd: Path) -> EvaluationResult:
    return evaluate(crowd, **FAST, face="all")


def test_every_face_is_a_row_and_a_destroyed_one_says_where_it_was(
    every: EvaluationResult, group: tuple[Image, list[Any]]
) -> None:
    count = len(group[1])
    rows = {row["id"]: row for row in every.triplets}
    assert list(rows) == [*(f"group#{i}" for i in range(1, count + 1)), "portrait#1"]
    assert {i for i, row in rows.items() if row["status"] != "ok"} == {"group#3"}
    gone = rows["group#3"]
    box = " ".join(str(round(v)) for v in group[1][2].tolist())
    assert gone["status"] == "no_face" and gone["reason"].endswith(f"the target's stands at {box}")
    assert gone["box_target"] == box and gone["lm68.t2c"] is None
    assert (gone["faces_target"], gone["faces_swapped"]) == (count, count - 1)
    assert every.summary["coverage"] == {"triplets": count + 1, "ok": count, "failed": {"no_face": 1}}
    groups = {row["group"] for i, row in rows.items() if i.startswith("group")}
    assert len(groups) == 1 and rows["portrait#1"]["group"] not in groups
    assert all(float(row["lm68.t2c"]) < 0.05 for row in rows.values() if row["status"] == "ok")


def test_a_picture_without_any_face_left_has_a_row_for_each_that_is_gone(
    crowd: Path, group: tuple[Image, list[Any]], tmp_path: Path
) -> None:
    changed = group[0]
    for box in group[1]:
        changed = painted(changed, box, "box")
    blank = save(changed, tmp_path / "blank.png")
    row = Triplet("x", crowd / "original/group.png", None, blank)
    found = evaluate([row], **FAST, face="all").triplets
    assert [r["id"] for r in found] == [f"x#{i}" for i in range(1, len(group[1]) + 1)]
    assert {r["status"] for r in found} == {"no_face"} and len({r["reason"] for r in found}) == len(found)


def test_shards_and_journals_keep_all_faces_of_a_picture(crowd: Path, every: EvaluationResult, tmp_path: Path) -> None:
    shards = [tmp_path / "1", tmp_path / "2"]
    for i, folder in enumerate(shards, 1):
        evaluate(crowd, **FAST, face="all", out=folder, shard=f"{i}/2")
    assert all((folder / FILE).stat().st_mode & 0o077 == 0 for folder in shards)  # biometric: for their owner alone
    merged = merge(shards)
    assert merged.triplets == every.triplets
    left_out = ("created", "throughput")
    assert all(merged.summary[k] == v for k, v in every.summary.items() if k not in left_out)
    forget(shards)
    again = merge(shards)
    assert "privacy" not in again.summary and "nobody was looked up" in again.summary["notes"][-1]
    assert again.triplets == every.triplets


def test_no_identity_vector_is_left_when_the_result_stands(crowd: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = evaluate(crowd, **FAST, face="all", out=out)
    assert sorted(p.name for p in out.iterdir()) == ["summary.json", "triplets.csv", "triplets.parquet"]
    assert privacy_lines(result.summary)[-1] == "The identity vectors of this run are deleted."
    loaded = EvaluationResult.load(out)
    assert json.loads(loaded.to_json()) == json.loads(result.to_json())
    assert not [c for c in loaded.rows.table.column_names if c.endswith(".vector") or c.startswith("private")]


def test_faces_of_one_picture_are_compared_one_by_one(every: EvaluationResult) -> None:
    (duel,) = compare(contestants({"a": every, "b": every})).duels
    assert duel.n == every.summary["coverage"]["ok"] and duel.repeated == 0


def test_with_every_face_measured_a_person_has_to_be_named_by_a_face(crowd: Path) -> None:
    row = Triplet("x", crowd / "original/group.png", None, crowd / "anonymized/group.png", person="Ada")
    with pytest.raises(InputError, match="name the faces by `target_face`"):
        evaluate([row], **FAST, face="all")


@pytest.mark.parametrize(
    ("others", "alike", "expected"),
    [
        ([(0.0, 0.0, 0.4, 1.0), (0.5, 0.0, 0.9, 1.0)], None, [0, 1]),
        ([(0.5, 0.0, 0.9, 1.0)], None, [None, 0]),  # the first one's is gone: its neighbour's isn't taken for it
        ([(0.4, 0.0, 0.8, 1.0)], None, [None, 0]),  # overlaps both: it belongs to the nearer
        ([(0.22, 0.0, 0.62, 1.0), (0.23, 0.0, 0.63, 1.0)], [[0, 1], [1, 0]], [1, 0]),  # places hardly tell: faces do
        ([(0.22, 0.0, 0.62, 1.0), (0.23, 0.0, 0.63, 1.0)], [[1, 0], [0, 1]], [0, 1]),
        ([(0.0, 0.0, 0.4, 1.0), (0.5, 0.0, 0.9, 1.0)], [[0, 1], [1, 0]], [0, 1]),  # places tell: faces don't count
        ([], None, [None, None]),
    ],
)
def test_each_face_has_one_partner_by_place_and_likeness_breaks_ties(
    others: list[tuple[float, ...]], alike: list[list[float]] | None, expected: list[int | None]
) -> None:
    places = [np.array([0.0, 0.0, 0.4, 1.0]), np.array([0.5, 0.0, 0.9, 1.0])]
    assert one_to_one(places, [np.array(o) for o in others], alike) == expected


@pytest.fixture(scope="module")
def kinds(group: tuple[Image, list[Any]], portrait_photo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of five people, each blurred, in mosaic, black, and as it was: a model each."""
    root, (image, boxes) = tmp_path_factory.mktemp("kinds"), group
    portrait = read_image(portrait_photo)
    pictures = {"portrait": (portrait, load_detector("dlib").detect(portrait)[0].box)}
    for i, box in enumerate(boxes[:4]):
        x0, y0, x1, y1 = (round(v) for v in box)
        left, top = max(0, x0 - (x1 - x0) // 2), max(0, y0 - (y1 - y0) // 2)
        crop = image[top : y1 + (y1 - y0) // 2, left : x1 + (x1 - x0) // 2]
        pictures[f"guest{i}"] = (np.ascontiguousarray(crop), box - [left, top, left, top])
    for name, (picture, box) in pictures.items():
        save(picture, root / f"original/{name}.png")
        for kind in KINDS:
            save(painted(picture, box, kind), root / f"anonymized/{kind}/{name}.png")
    return root


@pytest.fixture(scope="module")
def judged(kinds: Path) -> EvaluationResult:
    return evaluate(kinds, **{**FAST, "methods": ["default", "lm68"]})


def test_blur_mosaic_and_boxes_lose_the_face_or_its_expression(judged: EvaluationResult) -> None:
    anchor = {m: s["anchors"]["another_target"]["mean_t2c"] for m, s in judged.summary["methods"].items()}
    for row in judged.triplets:
        if row["model"] == "nothing":
            assert row["status"] == "ok" and row["default.t2c"] == 0
        else:
            lost = row["status"] in ("no_face", "low_quality")
            assert lost or row["default.t2c"] > anchor["default"] / 2, row


def test_another_target_is_the_mean_distance_between_different_people(judged: EvaluationResult, kinds: Path) -> None:
    from exprmetric.evaluation.embed import embed_images

    names = sorted((kinds / "original").iterdir())
    vectors = [e.vector for e in embed_images(names, "default", detector="dlib", jobs=1)]
    apart = [np.linalg.norm(a.astype(float) - b) for i, a in enumerate(vectors) for b in vectors[:i]]  # type: ignore
    found = judged.summary["methods"]["default"]["anchors"]["another_target"]["mean_t2c"]
    assert found == pytest.approx(np.mean(apart), rel=1e-6)


def test_an_anonymizer_that_changes_nothing_keeps_all_expressions_and_hides_nobody(judged: EvaluationResult) -> None:
    found = judged.summary["privacy"]
    assert found["network"] == "identity" and found["gallery_size"] == 5 and found["chance"] == pytest.approx(0.2)
    nothing = found["models"]["nothing"]
    assert nothing["rank1"]["value"] == nothing["same_person"]["value"] == nothing["mrr"]["value"] == 1.0
    said = " ".join(privacy_lines(judged.summary))
    assert "an upper bound" in said and "another family may still find" in said
    sheet = privacy_sheet(judged.summary)
    assert sheet and [row.cells[0] for row in sheet.rows] == [*KINDS_SORTED, "  originals", "  a guess"]
    page = report_page(judged, jobs=1)
    assert "Expression kept against re-identification" in page and "nothing changed" in page


def test_privacy_can_be_left_out_and_asked_for(kinds: Path) -> None:
    rows = [Triplet("a", kinds / "original/portrait.png", None, kinds / "anonymized/nothing/portrait.png")]
    assert "privacy" not in evaluate(rows, **FAST, privacy=False).summary
    assert "privacy" not in evaluate(rows, **FAST, identity=False).summary
    with_source = [Triplet("a", rows[0].target, rows[0].target, rows[0].swapped)]
    assert "privacy" not in evaluate(with_source, **FAST).summary
    assert evaluate(with_source, **FAST, privacy=True).summary["privacy"]["rank1"]["value"] == 1.0


def vectors_of(folder: Path, target: Any, changed: Any) -> PrivateVectors:
    """As a run with two parts keeps them, the second part first."""
    cells = [[v.astype(np.float32).tobytes() for v in side] for side in (target, changed)]
    half = len(target) // 2
    parts = [slice(half, None), slice(0, half)]
    tables = [
        pa.table({c: pa.array(s[p], pa.binary()) for c, s in zip(PRIVATE_COLUMNS, cells, strict=True)}) for p in parts
    ]
    return PrivateVectors.gather(folder, [np.arange(len(target))[p] for p in parts], tables)


def test_people_are_looked_up_among_other_photographs_of_theirs(tmp_path: Path) -> None:
    """Against a plain loop over all photographs."""
    rng = np.random.default_rng(5)
    people = [i // 3 for i in range(60)]
    person = rng.normal(size=(20, 16))
    target = person[people] + 0.9 * rng.normal(size=(60, 16))
    changed = target + 0.9 * rng.normal(size=(60, 16))
    triplets = [
        Triplet(str(i), Path(f"{i}.png"), None, Path("c.png"), person=f"P{p:02d}") for i, p in enumerate(people)
    ]
    triplets.append(Triplet("alone", Path("alone.png"), None, Path("c.png"), person="alone"))
    target, changed = np.vstack([target, rng.normal(size=16)]), np.vstack([changed, rng.normal(size=16)])
    n = len(triplets)
    distances = {m: np.column_stack([np.full(n, 0.3), np.full((n, 2), np.nan)]) for m in ("lm68", "identity")}
    made = table(
        triplets,
        range(n),
        [(f"{i:064x}", "", "") for i in range(n)],
        [OK] * n,
        [""] * n,
        distances,
        np.ones((n, 3), int),
    )
    rows = Rows(made)
    found = privacy(rows.grouped(), rows, vectors_of(tmp_path, target, changed), "identity", "")
    unit = target / np.linalg.norm(target, axis=1, keepdims=True)
    ranks = []
    for i, p in enumerate(people):
        near = changed[i] @ unit.T
        best = max(near[j] for j in range(60) if people[j] == p and j != i)
        ranks.append(1 + sum(near[j] > best for j in range(n) if j >= 60 or (people[j] != p)))
    assert found["rank1"]["value"] == pytest.approx(np.mean(np.array(ranks) == 1))
    assert found["mrr"]["value"] == pytest.approx(np.mean(1 / np.array(ranks)), rel=1e-5)
    assert (found["n"], found["left_out"], found["gallery_size"]) == (60, 1, 61)
    assert found["chance"] == pytest.approx(2 / 60) and found["gallery"] == "other photographs of the same people"
    assert found["unchanged"]["value"] > found["rank1"]["value"] and found["same_person"]["value"] == 1.0


def test_vectors_that_tell_nobody_apart_find_everybody_rather_than_nobody(tmp_path: Path) -> None:
    """No privacy is claimed because of a tie."""
    triplets = [Triplet(str(i), Path(f"{i}.png"), None, Path("c.png")) for i in range(4)]
    distances = {m: np.column_stack([np.full(4, 0.3), np.full((4, 2), np.nan)]) for m in ("lm68", "identity")}
    made = table(
        triplets,
        range(4),
        [(f"{i:064x}", "", "") for i in range(4)],
        [OK] * 4,
        [""] * 4,
        distances,
        np.ones((4, 3), int),
    )
    same = np.ones((4, 8))
    rows = Rows(made)
    found = privacy(rows.grouped(), rows, vectors_of(tmp_path, same, same), "identity", "")
    assert found["rank1"]["value"] == 1.0


@pytest.mark.shared
def test_unchanged_faces_of_lfw_are_found_again_far_above_chance(shared: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(shared / "data" / "lfw_expressions.zip") as archive:
        labels = list(csv.DictReader(io.TextIOWrapper(archive.open("labels.csv"), "utf-8-sig")))
        names, rows = set(archive.namelist()), []
        for who in ("Serena_Williams", "Jacques_Chirac", "Ariel_Sharon", "Colin_Powell", "Hugo_Chavez", "Tony_Blair"):
            own = [r["image"] for r in labels if r["person"] == who and f"images/{r['image']}" in names][:5]
            for image in own:
                (tmp_path / image).write_bytes(archive.read(f"images/{image}"))
                rows.append(Triplet(image, tmp_path / image, None, tmp_path / image, person=who))
    result = evaluate(rows, **FAST)
    found = result.summary["privacy"]
    assert found["n"] >= 25 and found["chance"] < 0.2
    assert found["rank1"] == found["unchanged"] and found["rank1"]["ci95"][0] > 2 * found["chance"]
    assert found["rank1"]["value"] > 0.9 and found["same_person"]["value"] == 1.0


@pytest.mark.shared
def test_of_five_faces_with_one_destroyed_four_are_measured(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With SCRFD: dlib finds four of the five."""
    pytest.importorskip("insightface")
    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(shared / "weights"))
    with zipfile.ZipFile(shared / "data" / "hard_inputs.zip") as archive:
        (tmp_path / "original").mkdir()
        (tmp_path / "original/five.jpg").write_bytes(archive.read("multi_face.jpg"))
    image = read_image(tmp_path / "original/five.jpg")
    boxes = sorted((d.box for d in load_detector("scrfd").detect(image)), key=lambda box: float(box[0]))
    assert len(boxes) == 5
    save(painted(image, boxes[2], "box"), tmp_path / "anonymized/five.png")
    result = evaluate(tmp_path, **{**FAST, "detector": "scrfd"}, face="all")
    assert [(r["id"], r["status"]) for r in result.triplets] == [
        (f"five#{i}", "no_face" if i == 3 else "ok") for i in range(1, 6)
    ]
    detected = result.summary["privacy"]["detected"]  # by YuNet, whose weights lie there too
    assert (detected["detector"], detected["n"], detected["value"]) == ("yunet", 5, 0.8)
