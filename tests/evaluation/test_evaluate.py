"""`evaluate` from end to end, on faces of photographs that come with packages."""

from __future__ import annotations

import csv
import gc
import json
import math
import os
import shutil
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PILImage

from exprmetric.demo.photographs import cut_face
from exprmetric.errors import (
    InputError,
    NoFaceError,
    SeveralFacesError,
    UnknownMethodError,
    UnreadableImageError,
)
from exprmetric.evaluation import evaluate as evaluate_module
from exprmetric.evaluation.evaluate import evaluate, evaluate_triplet
from exprmetric.evaluation.plan import Plan
from exprmetric.evaluation.reading import Represented
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.faces import Face, FaceFinder, load_detector
from exprmetric.faces.swap import swap_face
from exprmetric.inputs.triplets import ROLES, Triplet, read_triplets
from exprmetric.io.images import read_image
from exprmetric.methods import METHODS, Method, load_method
from exprmetric.metrics import preservation_scores

Image = NDArray[np.uint8]
Record = dict[str, Any]

LANDMARKS = ("lm68", "lm51")
ALL = (*LANDMARKS, "identity")
DISTANCES = ("t2c", "s2c", "s2t")
SCORES = ("l2_error", "mean_t2c", "ratio")
FIRST_COLUMNS = ["id", "model", "group", "target", "source", "swapped", "status", "reason"]
FACE_COLUMNS = ["faces_target", "faces_source", "faces_swapped"]
BOX_COLUMNS = ["box_target", "box_source", "box_swapped"]

Row = tuple[str, int, int, str, str, str, str]
# id, target and source face (the group's from left to right, then the portrait's), how it was swapped, model, labels
ROWS: list[Row] = [
    ("a", 0, 5, "swap", "one", "happy", "happy"),
    ("b", 0, 6, "swap", "one", "happy", "neutral"),  # its target is a copy of the target of "a"
    ("c", 1, 5, "swap", "two", "neutral", "happy"),
    ("d", 1, 0, "unchanged", "two", "neutral", "neutral"),
    ("e", 6, 1, "pasted", "two", "neutral", "neutral"),
    ("f", 3, 0, "swap", "", "happy", ""),
]
DISTINCT_IMAGES = 5 + 4  # faces 0 1 3 5 6 and the swaps


@dataclass(frozen=True)
class Photographed:
    """One face: its cut-out of 256 px and where its landmarks are there."""

    image: Image
    points: NDArray[np.float64]


@dataclass(frozen=True)
class Group:
    """The whole group photograph and its faces from left to right."""

    image: Image
    faces: list[Face]


@pytest.fixture(autouse=True)
def _no_weights_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)


@pytest.fixture(scope="session")
def finder() -> FaceFinder:
    return FaceFinder(load_detector("dlib"))


@pytest.fixture(scope="session")
def group(finder: FaceFinder, group_photo: Path) -> Group:
    image = read_image(group_photo)
    found = sorted(finder.detect(image), key=lambda d: float(d.box[0]))
    assert len(found) == 6
    return Group(image, [finder.face(image, d) for d in found])


@pytest.fixture(scope="session")
def people(finder: FaceFinder, group: Group, portrait_photo: Path) -> list[Photographed]:
    portrait = read_image(portrait_photo)
    faces = [*((group.image, f) for f in group.faces), (portrait, finder.find(portrait))]
    crops = [cut_face(image, face.landmarks) for image, face in faces]
    return [Photographed(crop, finder.find(crop).landmarks) for crop in crops]


def save(image: Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PILImage.fromarray(image).save(path)
    return path


def write_manifest(path: Path, rows: Sequence[Row]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", *ROLES, "model", "target_label", "source_label"])
        for name, _, _, _, *rest in rows:
            writer.writerow([name, *(f"{role}/{name}.png" for role in ROLES), *rest])
    return path


@pytest.fixture(scope="session")
def folder(people: list[Photographed], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six triplets as PNG in target/, source/ and swapped/, and rows.csv with their models and labels."""
    root = tmp_path_factory.mktemp("swaps")
    for name, t, s, how, *_ in ROWS:
        target, source = people[t], people[s]
        save(target.image, root / "target" / f"{name}.png")
        save(source.image, root / "source" / f"{name}.png")
        swapped = {
            "swap": lambda t=target, s=source: swap_face(t.image, t.points, s.image, s.points),
            "unchanged": lambda t=target: t.image,
            "pasted": lambda s=source: s.image,
        }[how]()
        save(swapped, root / "swapped" / f"{name}.png")
    write_manifest(root / "rows.csv", ROWS)
    return root


@pytest.fixture(scope="session")
def manifest(folder: Path) -> Path:
    return folder / "rows.csv"


@pytest.fixture(scope="session")
def result(manifest: Path) -> EvaluationResult:
    """The six triplets with all that there is, one thread."""
    return evaluate(manifest, LANDMARKS, detector="dlib", jobs=1)


def by_id(result: EvaluationResult) -> dict[str, Record]:
    return {r["id"]: r for r in result.triplets}


def quick(source: Any, **how: Any) -> EvaluationResult:
    """Without the identity control, which takes most of the time."""
    return evaluate(source, how.pop("methods", LANDMARKS), **{"detector": "dlib", "identity": False, **how})


# What is measured


def test_every_face_is_measured_by_every_method(result: EvaluationResult) -> None:
    assert result.summary["coverage"] == {"triplets": 6, "ok": 6, "failed": {}}
    assert [r["id"] for r in result.triplets] == [row[0] for row in ROWS]
    for record in result.triplets:
        assert (record["status"], record["reason"]) == ("ok", "")
        assert all(math.isfinite(record[f"{m}.{d}"]) and record[f"{m}.{d}"] >= 0 for m in ALL for d in DISTANCES)
    for record in (r for r, row in zip(result.triplets, ROWS, strict=True) if row[3] == "swap"):
        assert all(record[f"{m}.{d}"] > 0 for m in ALL for d in DISTANCES)


def test_distances_are_those_of_the_vectors_of_the_faces(
    result: EvaluationResult, folder: Path, finder: FaceFinder
) -> None:
    """Each image on its own, through the public parts and NumPy's norm, without the pipeline."""
    for name, record in by_id(result).items():
        faces = [finder.find(read_image(folder / role / f"{name}.png")) for role in ROLES]
        for method in LANDMARKS:
            t, s, c = load_method(method).represent(faces).astype(np.float64)
            expected = [np.linalg.norm(t - c), np.linalg.norm(s - c), np.linalg.norm(s - t)]
            assert [record[f"{method}.{d}"] for d in DISTANCES] == pytest.approx(expected, rel=1e-12)


def test_scores_are_those_of_the_rows(result: EvaluationResult) -> None:
    for method in LANDMARKS:
        scores = result.summary["methods"][method]
        expected = preservation_scores(*([r[f"{method}.{d}"] for r in result.triplets] for d in DISTANCES))
        assert scores["n"] == 6
        assert {name: scores[name]["value"] for name in SCORES} == pytest.approx({n: expected[n] for n in SCORES})
        assert (scores["mean_s2c"], scores["mean_s2t"]) == pytest.approx((expected["mean_s2c"], expected["mean_s2t"]))
        for name in SCORES:
            low, high = scores[name]["ci95"]
            assert low <= scores[name]["value"] <= high
        assert scores["mean_t2c"]["ci95"][0] < scores["mean_t2c"]["ci95"][1]


def test_the_swap_keeps_the_expression_and_moves_the_identity(result: EvaluationResult) -> None:
    """The demo's swap keeps the target's geometry and takes the source's texture: every method has to see it."""
    swaps = [r for r, row in zip(result.triplets, ROWS, strict=True) if row[3] == "swap"]
    for record in swaps:
        assert all(record[f"{m}.t2c"] < 0.6 * record[f"{m}.s2c"] for m in LANDMARKS)
        assert record["identity.s2c"] < 0.95 * record["identity.s2t"]
    nearer = [r["identity.s2c"] < r["identity.t2c"] for r in result.triplets]
    control = result.summary["identity"]
    assert control["n"] == 6 and control["nearer_to_source"]["value"] == pytest.approx(sum(nearer) / 6)
    for d in DISTANCES:
        assert control[f"mean_{d}"] == pytest.approx(np.mean([r[f"identity.{d}"] for r in result.triplets]))


def test_an_unchanged_target_and_a_pasted_source_are_the_anchors(folder: Path, result: EvaluationResult) -> None:
    unchanged, pasted = (by_id(result)[name] for name in "de")
    for method in ALL:
        assert unchanged[f"{method}.t2c"] == 0 and unchanged[f"{method}.s2c"] == unchanged[f"{method}.s2t"] > 0
        assert pasted[f"{method}.s2c"] == 0 and pasted[f"{method}.t2c"] == pasted[f"{method}.s2t"] > 0
    triplets = read_triplets(folder)
    for role, anchor, ratio in (("target", "nothing_swapped", 1.0), ("source", "source_pasted", 0.0)):
        model = quick([replace(t, swapped=getattr(t, role)) for t in triplets])
        for method in LANDMARKS:
            scores = model.summary["methods"][method]
            expected = {n: scores["anchors"][anchor][n] for n in SCORES}
            assert {n: scores[n]["value"] for n in SCORES} == pytest.approx(expected)
            assert scores["ratio"] == {"value": ratio, "ci95": [ratio, ratio]}
            assert scores["anchors"] == result.summary["methods"][method]["anchors"]  # no swap has a part in them
    nothing = scores["anchors"]["nothing_swapped"]
    assert {n: nothing[n] for n in SCORES} == {"l2_error": 0.0, "mean_t2c": 0.0, "ratio": 1.0}


def test_splits_by_label_and_by_model(result: EvaluationResult, folder: Path) -> None:
    groups = result.summary["groups"]
    members = {"same_label": "ade", "different_label": "bc", "one": "ab", "two": "cde"}  # "f" has one label, no model
    assert {name: set(ids) for name, ids in members.items()}.keys() == groups.keys()
    records = by_id(result)
    for name, ids in members.items():
        assert groups[name]["coverage"] == {"triplets": len(ids), "ok": len(ids), "failed": {}}
        for method in LANDMARKS:
            scores = groups[name]["methods"][method]
            expected = preservation_scores(*([records[i][f"{method}.{d}"] for i in ids] for d in DISTANCES))
            assert scores["n"] == len(ids)
            assert {n: scores[n]["value"] for n in SCORES} == pytest.approx({n: expected[n] for n in SCORES})
    assert groups["one"]["methods"]["lm68"]["mean_t2c"]["ci95"] == [None, None]  # both swaps are of one target
    assert quick(folder).summary["groups"] == {}


@pytest.mark.parametrize("name", ["same_label", "different_label"])
def test_a_model_can_not_pass_for_a_split(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before any work is done, and whether or not there are labels."""
    triplets = [replace(t, model=name) for t in read_triplets(folder)]
    monkeypatch.setattr("exprmetric.evaluation.evaluate.Session", lambda *a, **k: pytest.fail("work was done"))
    with pytest.raises(InputError, match=rf"model can't be named {name}"):
        quick(triplets)


def test_distances_can_be_chosen(folder: Path) -> None:
    found = quick(folder, methods=("lm68", "lm68:mse", "lm68:cosine", "lm68"))
    assert list(found.summary["methods"]) == ["lm68", "lm68:mse", "lm68:cosine"]
    assert {n: m["distance"] for n, m in found.summary["methods"].items()} == {
        "lm68": "l2", "lm68:mse": "mse", "lm68:cosine": "cosine"
    }  # fmt: skip
    for record in found.triplets:
        assert record["lm68:mse.t2c"] == pytest.approx(record["lm68.t2c"] ** 2 / 136)


def test_identity_is_a_method_only_where_it_is_asked_for(folder: Path, result: EvaluationResult) -> None:
    (first, *_) = read_triplets(folder)
    asked = evaluate([first], ("lm68", "identity"), detector="dlib")
    assert list(asked.summary["methods"]) == ["lm68", "identity"] and asked.summary["identity"]["n"] == 1
    assert list(result.summary["methods"]) == ["lm68", "lm51"]
    without = quick([first])
    assert without.summary["identity"] is None and "identity.t2c" not in without.triplets[0]


# What the numbers do not depend on


def scores_of(result: EvaluationResult) -> Record:
    return {part: result.summary[part] for part in ("coverage", "methods", "groups", "identity")}


@pytest.mark.parametrize(("jobs", "block"), [(2, 64), (4, 1), (1, 2), (4, 2)])
def test_threads_and_blocks_do_not_show(manifest: Path, result: EvaluationResult, jobs: int, block: int) -> None:
    other = evaluate(manifest, LANDMARKS, detector="dlib", jobs=jobs, block=block)
    assert other.triplets == result.triplets
    assert scores_of(other) == scores_of(result)


def test_the_order_of_the_methods_does_not_show(manifest: Path, result: EvaluationResult) -> None:
    other = quick(manifest, methods=("lm51", "lm68"))
    assert list(other.summary["methods"]) == ["lm51", "lm68"]
    assert other.summary["methods"] == result.summary["methods"]
    wanted = [k for k in result.triplets[0] if not k.startswith("identity")]
    assert other.triplets == [{k: r[k] for k in wanted} for r in result.triplets]


@pytest.mark.parametrize("order", [[5, 4, 3, 2, 1, 0], [1, 0, 3, 5, 2, 4]])
def test_the_order_of_the_rows_does_not_show(manifest: Path, order: list[int]) -> None:
    """Also not in the name of the group of two targets of the same content, and so in the intervals."""
    straight = quick(manifest)
    path = write_manifest(manifest.parent / f"{''.join(map(str, order))}.csv", [ROWS[i] for i in order])
    shuffled = quick(path, block=2)
    assert [r["id"] for r in shuffled.triplets] == [ROWS[i][0] for i in order]
    assert by_id(shuffled) == by_id(straight)
    for method in LANDMARKS:
        one, other = (r.summary["methods"][method] for r in (straight, shuffled))
        for name in SCORES:
            assert other[name]["value"] == pytest.approx(one[name]["value"], rel=1e-12)
            assert other[name]["ci95"] == pytest.approx(one[name]["ci95"], rel=1e-9)


def test_a_folder_and_its_manifest_measure_the_same(folder: Path, manifest: Path) -> None:
    from_folder, from_manifest = quick(folder), quick(manifest)
    assert [{**r, "model": ""} for r in from_manifest.triplets] == from_folder.triplets
    assert from_folder.summary["methods"] == from_manifest.summary["methods"]


def test_one_triplet_alone_is_its_row(folder: Path, result: EvaluationResult) -> None:
    """From paths and from arrays."""
    for name in "ae":
        paths = [folder / role / f"{name}.png" for role in ROLES]
        record = by_id(result)[name]
        expected = {m: {d: record[f"{m}.{d}"] for d in DISTANCES} for m in ALL}
        assert evaluate_triplet(*paths, ALL, detector="dlib") == expected
        assert evaluate_triplet(*map(read_image, paths), LANDMARKS, detector="dlib") == {
            m: expected[m] for m in LANDMARKS
        }


# What fails


@pytest.fixture(scope="session")
def failing(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good triplets, "a" and "c", and five that fail in different ways."""
    root = tmp_path_factory.mktemp("failing")
    good = {role: (folder / role / "a.png").read_bytes() for role in ROLES}
    for name in ("a", "blank", "both", "cut", "lonely"):
        for role in ROLES:
            path = root / role / f"{name}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(good[role])
    for role in ROLES:
        shutil.copy(folder / role / "c.png", root / role / "c.png")
    blank = np.full((200, 180, 3), 128, np.uint8)
    save(blank, root / "swapped" / "blank.png")
    save(blank, root / "source" / "both.png")
    (root / "swapped" / "both.png").write_bytes(b"no image")
    (root / "target" / "cut.png").write_bytes(good["target"][: len(good["target"]) // 2])
    (root / "swapped" / "lonely.png").unlink()
    return root


def test_no_failure_is_lost(failing: Path) -> None:
    found = quick(failing)
    assert found.summary["coverage"] == {"triplets": 6, "ok": 2, "failed": {"no_face": 2, "unreadable": 2}}
    records = by_id(found)
    assert list(records) == ["a", "blank", "both", "c", "cut", "lonely"]
    for name, status, said in (
        ("blank", "no_face", [f"swapped '{failing}/swapped/blank.png'", "dlib finds no face in 180 x 200 px"]),
        # of two images that fail, the first gives the status, and both are named
        (
            "both",
            "no_face",
            [f"source '{failing}/source/both.png'", f"swapped '{failing}/swapped/both.png'", "not an image"],
        ),
        ("cut", "unreadable", [f"target '{failing}/target/cut.png'", "truncated"]),
        ("lonely", "unreadable", ["no swapped image", "'lonely'"]),
    ):
        assert records[name]["status"] == status
        assert all(words in records[name]["reason"] for words in said), records[name]["reason"]
        assert all(records[name][f"{m}.{d}"] is None for m in LANDMARKS for d in DISTANCES)


def test_scores_are_over_what_was_measured(failing: Path) -> None:
    """A failed row adds no zero: the good rows alone give the same."""
    everything = quick(failing)
    alone = quick([t for t in read_triplets(failing) if t.id in "ac"])
    assert everything.summary["methods"] == alone.summary["methods"]
    assert everything.summary["methods"]["lm68"]["n"] == 2


def test_the_worst_case_is_never_better(failing: Path) -> None:
    excluded, worst = quick(failing), quick(failing, on_fail="worst")
    assert worst.triplets == excluded.triplets and worst.summary["coverage"] == excluded.summary["coverage"]
    rows = [r for r in excluded.triplets if r["status"] == "ok"]
    for method in LANDMARKS:
        without, scores = excluded.summary["methods"][method], worst.summary["methods"][method]
        assert (without["n"], scores["n"]) == (2, 6)
        assert scores["l2_error"]["value"] > without["l2_error"]["value"]
        assert scores["mean_t2c"]["value"] > without["mean_t2c"]["value"]
        assert scores["ratio"]["value"] < without["ratio"]["value"]
        t2c = [r[f"{method}.t2c"] for r in rows]
        assert scores["mean_t2c"]["value"] == pytest.approx((sum(t2c) + 4 * max(t2c)) / 6)
        assert scores["ratio"]["value"] == pytest.approx(without["ratio"]["value"] * 2 / 6)
        assert scores["anchors"] == without["anchors"]
    assert quick(failing, on_fail="worst", jobs=4, block=1).summary["methods"] == worst.summary["methods"]


@pytest.mark.parametrize("on_fail", ["exclude", "worst"])
def test_where_nothing_was_measured_there_is_no_score(failing: Path, on_fail: str, tmp_path: Path) -> None:
    found = quick([t for t in read_triplets(failing) if t.id == "blank"], on_fail=on_fail)
    assert found.summary["coverage"] == {"triplets": 1, "ok": 0, "failed": {"no_face": 1}}
    for name in SCORES:
        assert found.summary["methods"]["lm68"][name] == {"value": None, "ci95": [None, None]}
    assert found.summary["methods"]["lm68"]["n"] == 0
    found.save(tmp_path)
    empty = quick([])
    assert empty.summary["coverage"] == {"triplets": 0, "ok": 0, "failed": {}}
    empty.save(tmp_path)


def test_a_triplet_made_without_an_image_says_so(folder: Path) -> None:
    whole = read_triplets(folder)[0]
    found = quick([replace(whole, swapped=None), replace(whole, id="g", target=folder / "gone.png")])
    assert [r["status"] for r in found.triplets] == ["unreadable", "unreadable"]
    assert found.triplets[0]["reason"] == "swapped: no image is given"
    assert "target" in found.triplets[1]["reason"] and "gone.png" in found.triplets[1]["reason"]


def test_an_image_that_changes_while_it_is_measured_is_not_measured(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its vectors would stand under the hash of what it was, for ever: also where size and time are the same."""
    for role in ROLES:
        (tmp_path / role).mkdir()
        for name in "af":
            with PILImage.open(folder / role / f"{name}.png") as image:
                image.convert("RGB").resize((300, 300)).save(tmp_path / role / f"{name}.bmp")
    swapped = tmp_path / "swapped" / "f.bmp"
    was, other = swapped.read_bytes(), (tmp_path / "swapped" / "a.bmp").read_bytes()
    assert len(was) == len(other) and was != other
    sound = by_id(quick(tmp_path))
    made = evaluate_module.make_plan

    def overwritten(*args: Any, **more: Any) -> Plan:
        plan, times = made(*args, **more), swapped.stat()
        swapped.write_bytes(other)
        os.utime(swapped, ns=(times.st_atime_ns, times.st_mtime_ns))
        return plan

    with monkeypatch.context() as patch:
        patch.setattr(evaluate_module, "make_plan", overwritten)
        records = by_id(quick(tmp_path, cache=tmp_path / "cache"))
    assert records["f"]["status"] == "unreadable" and "changed while it was measured" in records["f"]["reason"]
    assert records["a"] == sound["a"]
    swapped.write_bytes(was)
    assert by_id(quick(tmp_path, cache=tmp_path / "cache")) == sound


def test_an_error_of_a_programmer_is_in_every_row_with_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FaceFinder, "face", lambda *a: 1 / 0)
    for record in quick(folder).triplets:
        assert (record["status"], record["lm68.t2c"]) == ("error", None)
        assert "ZeroDivisionError: division by zero" in record["reason"]


def test_errors_of_one_triplet_name_the_image(folder: Path, failing: Path, group_photo: Path) -> None:
    good = [folder / role / "a.png" for role in ROLES]
    for role, bad, error in (
        ("target", failing / "target" / "cut.png", UnreadableImageError),
        ("source", np.zeros((100, 100, 3), np.uint8), NoFaceError),
        ("swapped", failing / "swapped" / "blank.png", NoFaceError),
        ("swapped", failing / "swapped" / "lonely.png", UnreadableImageError),
        ("target", group_photo, SeveralFacesError),
    ):
        images: list[Any] = [bad if r == role else g for r, g in zip(ROLES, good, strict=True)]
        with pytest.raises(error, match=f"^{role}: "):
            evaluate_triplet(*images, LANDMARKS, detector="dlib", face="error")


def test_wrong_usage_is_refused(folder: Path, tmp_path: Path) -> None:
    for error, words, how in (
        (InputError, r"on_fail 'zero'.*exclude, worst", {"on_fail": "zero"}),
        (InputError, r"face choice 'left'.*largest, center, error", {"face": "left"}),
        (InputError, r"detector 'haar'.*dlib", {"detector": "haar"}),
        (InputError, "no method", {"methods": ()}),
        (UnknownMethodError, r"'lm99'.*lm51, lm68", {"methods": ("lm99",)}),
        (UnknownMethodError, r"'l3'.*l2, cosine, ned, mse", {"methods": ("lm68:l3",)}),
    ):
        with pytest.raises(error, match=words):
            quick(folder, **how)
    with pytest.raises(InputError, match="no such folder"):
        quick(tmp_path / "nothing")


# Several faces


@pytest.fixture(scope="session")
def crowd(
    group: Group, people: list[Photographed], portrait_photo: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The whole group photograph on a wider canvas: as it is, and in three changes.

    `own.png`: the largest face is swapped in place. `other.png`: another one is. `guest.png`: as `own.png`, and beside
    the group stands a face that is larger than all of theirs.
    """
    root = tmp_path_factory.mktemp("crowd")
    order = sorted(range(6), key=lambda i: float(np.prod(group.faces[i].box[2:] - group.faces[i].box[:2])))
    person = people[6]
    own, other = (
        swap_face(group.image, group.faces[i].landmarks, person.image, person.points) for i in (order[-1], order[0])
    )
    portrait = PILImage.fromarray(read_image(portrait_photo)[30:222, 130:322]).resize((480, 480))
    for name, image in (("target", group.image), ("own", own), ("other", other), ("guest", own)):
        canvas = np.full((image.shape[0], image.shape[1] + 500, 3), 127, np.uint8)
        canvas[:, : image.shape[1]] = image
        if name == "guest":
            canvas[200:680, -490:-10] = np.asarray(portrait)
        save(canvas, root / f"{name}.png")
    save(person.image, root / "source.png")
    return root


def test_of_several_faces_the_one_in_the_place_of_the_targets_is_measured(crowd: Path, finder: FaceFinder) -> None:
    guest = finder.find(read_image(crowd / "guest.png"))
    assert guest.box[0] > 1280  # what `largest` alone would take
    target, source = crowd / "target.png", crowd / "source.png"
    triplets = [Triplet(name, target, source, crowd / f"{name}.png") for name in ("own", "other", "guest")]
    found = by_id(quick(triplets, face="largest"))
    assert all(r["status"] == "ok" for r in found.values())
    for method in LANDMARKS:
        values = {n: [r[f"{method}.{d}"] for d in DISTANCES] for n, r in found.items()}
        assert values["other"][0] == 0  # somebody else's face was swapped
        t2c, s2c, _ = values["own"]
        assert 0 < t2c < s2c
        assert values["guest"] == values["own"]
        (vectors,) = (load_method(method).represent([guest, finder.find(read_image(source))]),)
        assert s2c > 2 * np.linalg.norm(vectors[0] - vectors[1])  # the guest is the source
    one = evaluate_triplet(target, source, crowd / "guest.png", LANDMARKS, detector="dlib", face="largest")
    assert one == {m: {d: found["own"][f"{m}.{d}"] for d in DISTANCES} for m in LANDMARKS}


def test_several_faces_can_be_refused(crowd: Path, people: list[Photographed]) -> None:
    triplet = Triplet("x", crowd / "target.png", crowd / "source.png", crowd / "own.png")
    (record,) = quick([triplet], face="error").triplets
    assert record["status"] == "error"
    assert record["reason"].startswith(f"target '{triplet.target}': 6 faces found")


# Crops that are aligned already


def test_aligned_crops_need_no_detector(
    folder: Path, result: EvaluationResult, finder: FaceFinder, tmp_path: Path
) -> None:
    for path in sorted(folder.glob("*/*.png")):
        save(finder.find(read_image(path)).crop("eyes70"), tmp_path / path.relative_to(folder))
    found = quick(tmp_path, detector="none")
    assert found.summary["coverage"]["ok"] == 6 and found.summary["detector"]["ran"] == "none"
    records, originals = by_id(found), by_id(result)
    for method in LANDMARKS:
        assert records["d"][f"{method}.t2c"] == 0 and records["e"][f"{method}.s2c"] == 0
        errors = [
            abs(records[n][f"{method}.{d}"] - originals[n][f"{method}.{d}"]) / originals[n][f"{method}.s2t"]
            for n in records
            for d in DISTANCES
        ]
        assert statistics.median(errors) < 0.15  # the points are found anew, in fewer pixels


# Copies, memory and progress


class Counting(Method):
    """Two numbers a face; remembers how many faces it has seen."""

    template = "eyes70"
    dimension = 2
    fingerprint = "counting"

    def __init__(self) -> None:
        self.seen = 0

    def represent(self, faces: Sequence[Face]) -> NDArray[np.float32]:
        self.seen += len(faces)
        return np.array([f.crop(self.template).mean((0, 1))[:2] for f in faces], np.float32).reshape(-1, 2)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    method = Counting()
    monkeypatch.setitem(METHODS, "counting", lambda provider: method)
    return method


@pytest.mark.parametrize("block", [1, 2, 64])
def test_each_image_is_represented_once(manifest: Path, counting: Counting, block: int) -> None:
    found = quick(manifest, methods=["counting"], block=block)
    assert found.summary["coverage"]["ok"] == 6
    assert counting.seen == DISTINCT_IMAGES  # also where a block is one triplet: vectors are kept for later ones


def test_copies_of_a_target_are_one_group(folder: Path, result: EvaluationResult) -> None:
    first = str(folder / "target" / "a.png")
    records = by_id(result)
    assert records["a"]["group"] == records["b"]["group"] == first
    assert records["c"]["group"] == records["d"]["group"] == str(folder / "target" / "c.png")
    assert len({r["group"] for r in records.values()}) == 4
    triplets = {t.id: t for t in read_triplets(folder)}
    copies, given = quick([triplets["a"], triplets["b"]]), [replace(triplets[n], group=n) for n in "ab"]
    assert copies.summary["methods"]["lm68"]["mean_t2c"]["ci95"] == [None, None]
    apart = quick(given)
    assert [r["group"] for r in apart.triplets] == ["a", "b"]
    assert apart.summary["methods"]["lm68"]["mean_t2c"]["ci95"] == pytest.approx(
        sorted(r["lm68.t2c"] for r in apart.triplets)
    )


def represented() -> int:
    """How many images' vectors are alive in this process."""
    gc.collect()
    return sum(isinstance(o, Represented) and bool(o.vectors) for o in gc.get_objects())


@pytest.mark.slow  # the collector walks over all that other tests have left, time and again
def test_vectors_are_forgotten_after_their_last_triplet(
    tmp_path: Path, counting: Counting, portrait_photo: Path
) -> None:
    """24 triplets with images of their own, but for one source that all share."""
    face = np.asarray(PILImage.fromarray(read_image(portrait_photo)[60:190, 160:290]).resize((64, 64)))

    def own(number: int, name: str) -> Path:
        image = face.copy()
        image[0, 0] = number
        return save(image, tmp_path / name)

    shared_source = own(100, "source.png")
    triplets = [Triplet(str(i), own(i, f"t{i}.png"), shared_source, own(50 + i, f"c{i}.png")) for i in range(24)]
    alive: list[int] = []
    before = represented()  # of other tests' runs
    for block in (1, 4):
        alive.clear()
        counting.seen = 0
        quick(
            triplets,
            methods=["counting"],
            detector="none",
            block=block,
            progress=lambda stage, done, total: alive.append(represented()),
        )
        assert counting.seen == 24 + 24 + 1
        highest = max(alive) - before
        assert len(alive) >= 5 and 3 <= highest <= 3 + 3 * block  # a row's, a block's, and batches on their way
    assert represented() == before


def test_progress_ends_where_there_is_no_more_to_do(failing: Path) -> None:
    told: list[tuple[str, int, int]] = []
    quick(failing, block=2, progress=lambda *step: told.append(step))
    measured = [(done, total) for stage, done, total in told if stage == "triplets"]
    assert measured[-1] == (6, 6)
    assert measured == sorted(set(measured)) and {total for _, total in measured} == {6}


# What is written


def strict(text: str) -> Any:
    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def _number(cell: str) -> bool | float | None:
    """A cell that is no text."""
    return {"": None, "True": True, "False": False}.get(cell) if cell in ("", "True", "False") else float(cell)


def read_csv(path: Path) -> tuple[list[str], list[Record]]:
    """Columns and rows as `EvaluationResult.triplets` has them."""
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = [{k: v if k in FIRST_COLUMNS + BOX_COLUMNS else _number(v) for k, v in row.items()} for row in reader]
        return list(reader.fieldnames or []), rows


def read_parquet(path: Path) -> list[Record]:
    import pyarrow.parquet as pq

    rows: list[Record] = pq.read_table(path).to_pylist()
    return rows


def test_the_summary_is_strict_json_with_what_the_contract_names(result: EvaluationResult, tmp_path: Path) -> None:
    assert result.save(tmp_path / "new" / "folder") == tmp_path / "new" / "folder"
    summary = strict((tmp_path / "new" / "folder" / "summary.json").read_text("utf-8"))
    assert summary == result.summary
    contract = "schema_version exprmetric_version created coverage methods groups identity environment"
    assert set(contract.split()) <= summary.keys()
    assert summary["schema_version"] == 1
    assert set(summary["coverage"]) == {"triplets", "ok", "failed"}
    for part in (summary, *summary["groups"].values()):
        assert list(part["methods"]) == list(LANDMARKS)
        for scores in part["methods"].values():
            assert {"n", *SCORES, "mean_s2c", "mean_s2t", "fingerprint", "anchors"} <= scores.keys()
            assert all(scores[n].keys() == {"value", "ci95"} and len(scores[n]["ci95"]) == 2 for n in SCORES)
            assert scores["fingerprint"] and {"nothing_swapped", "source_pasted"} < set(scores["anchors"])
    assert {"n", "nearer_to_source", "mean_t2c", "mean_s2c", "mean_s2t", "fingerprint"} <= summary["identity"].keys()
    assert summary["detector"]["ran"] == "dlib" and summary["detector"]["fingerprint"]
    assert {"python", "platform", "numpy", "onnxruntime", "insightface"} <= summary["environment"].keys()


def test_csv_and_parquet_hold_the_rows_to_the_last_digit(
    result: EvaluationResult, failing: Path, tmp_path: Path
) -> None:
    for found, methods in ((result, ALL), (quick(failing), LANDMARKS)):
        folder = found.save(tmp_path)  # the second takes the place of the first
        columns, rows = read_csv(folder / "triplets.csv")
        distances = [f"{m}.{d}" for m in methods for d in DISTANCES]
        for kept in (c for c in columns if c.endswith(".kept")):
            assert columns[columns.index(kept) - 1] == kept.replace(".kept", ".s2t")
        assert [c for c in columns if not c.endswith(".kept")] == FIRST_COLUMNS + FACE_COLUMNS + distances + [
            "identity.same_person"
        ] * (methods == ALL) + BOX_COLUMNS
        assert rows == [{k: v for k, v in t.items() if not k.startswith("sha256_")} for t in found.triplets]
        assert read_parquet(folder / "triplets.parquet") == found.triplets
        assert sorted(p.name for p in folder.iterdir()) == ["summary.json", "triplets.csv", "triplets.parquet"]


def test_no_rows_are_written_as_no_rows(tmp_path: Path) -> None:
    quick([]).save(tmp_path)
    columns, rows = read_csv(tmp_path / "triplets.csv")
    assert (
        (columns[:11], rows) == (FIRST_COLUMNS + FACE_COLUMNS, [])
        and columns[11] == "lm68.t2c"
        and read_parquet(tmp_path / "triplets.parquet") == []
    )


def test_names_of_any_kind_can_be_saved(folder: Path, tmp_path: Path) -> None:
    """Commas, quotes, line breaks and, where the file system has them, bytes that are no UTF-8."""
    strange = os.fsdecode(tmp_path) + "/" + os.fsdecode(b'caf\xe9, "x"\n')
    try:
        shutil.copytree(folder, strange)
    except (OSError, UnicodeError):
        pytest.skip("no such names on this file system")
    (Path(strange) / "swapped" / "b.png").write_bytes(b"no image")
    found = quick([replace(t, model='M, "1"\n') for t in read_triplets(strange)])
    assert found.summary["coverage"]["failed"] == {"unreadable": 1}
    saved = found.save(tmp_path / "out")
    assert strict((saved / "summary.json").read_text("utf-8")) == found.summary
    rows = read_csv(saved / "triplets.csv")[1]
    assert read_parquet(saved / "triplets.parquet") == found.triplets
    assert rows == [{k: v for k, v in t.items() if not k.startswith("sha256_")} for t in found.triplets]
    assert all("caf\\xe9" in r[column] for r in rows for column in ("target", "group"))


def test_a_place_that_can_not_be_written_is_refused(result: EvaluationResult, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=r"can't write the result into .*file"):
            result.save(place)
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "out" / "triplets.csv").mkdir(parents=True)  # a folder where a file has to go
    with pytest.raises(InputError, match="can't write"):
        result.save(tmp_path / "out")
    assert not [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".")]  # nothing half-written is left


# Published swaps


@dataclass(frozen=True)
class Published:
    """123 published swaps of eight models, measured with one detector; notes by id."""

    detector: str
    result: EvaluationResult
    notes: dict[str, str]

    def typical(self, column: str) -> float:
        """The median over the swaps without a note."""
        return statistics.median(
            r[column] for r in self.result.triplets if r["status"] == "ok" and not self.notes[r["id"]]
        )


@pytest.fixture(scope="module", params=["dlib", "scrfd"])
def published(request: pytest.FixtureRequest, shared: Path, shared_data: Callable[[str], Path]) -> Iterator[Published]:
    folder = shared_data("swaps_dev")
    with (folder / "triplets.csv").open(newline="") as file:
        notes = {row["id"]: row["note"] for row in csv.DictReader(file)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPRMETRIC_WEIGHTS", str(shared / "weights"))
        yield Published(request.param, evaluate(folder, LANDMARKS, detector=request.param), notes)


@pytest.mark.slow
@pytest.mark.shared
def test_nearly_all_published_swaps_are_measured(published: Published) -> None:
    coverage = published.result.summary["coverage"]
    assert coverage["triplets"] == 123 == coverage["ok"] + sum(coverage["failed"].values())
    assert coverage["ok"] / 123 >= {"dlib": 0.97, "scrfd": 0.98}[published.detector]
    assert published.result.summary["detector"]["ran"] == published.detector
    models = published.result.summary["groups"]
    assert len(models) == 8 and sum(m["coverage"]["triplets"] for m in models.values()) == 123
    assert published.result.summary["alarms"] == []


@pytest.mark.slow
@pytest.mark.shared
def test_a_face_swapped_with_itself_is_near(published: Published) -> None:
    """Source and target show the same picture; the model's own loss of detail is in t2c."""
    controls = [r for r in published.result.triplets if published.notes[r["id"]] == "self-swap control"]
    assert len(controls) == 2
    for record in controls:
        for method in ALL:
            assert record[f"{method}.s2t"] < 0.001 * published.typical(f"{method}.s2t")
            assert record[f"{method}.t2c"] < 0.75 * published.typical(f"{method}.t2c")
            assert record[f"{method}.t2c"] < 0.5 * published.typical(f"{method}.s2t")
            assert record[f"{method}.s2c"] == pytest.approx(record[f"{method}.t2c"], abs=1e-4)


@pytest.mark.slow
@pytest.mark.shared
def test_published_swaps_have_the_sources_identity_and_the_targets_expression(published: Published) -> None:
    summary = published.result.summary
    assert summary["identity"]["nearer_to_source"]["value"] > 0.85
    assert summary["identity"]["mean_s2c"] < 0.6 < summary["identity"]["mean_t2c"]  # dlib: one person within 0.6
    for method in LANDMARKS:
        scores = summary["methods"][method]
        assert scores["ratio"]["value"] > 0.8
        assert scores["mean_t2c"]["value"] < scores["anchors"]["source_pasted"]["mean_t2c"]
