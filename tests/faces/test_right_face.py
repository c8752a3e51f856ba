"""The face that is measured is the one that was swapped, or the row says why there is none: six people, one picture."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PILImage

from exprmetric.comparing.reproduce import reproduce
from exprmetric.errors import InputError, NoFaceError
from exprmetric.evaluation.choosing import Chooser, Chosen
from exprmetric.evaluation.evaluate import evaluate, evaluate_triplet
from exprmetric.evaluation.large.shards import merge
from exprmetric.evaluation.reading import Represented, Sight
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.faces import Face, FaceFinder, load_detector
from exprmetric.faces.place import at_place, iou
from exprmetric.faces.shapes import is_grid, other_shape
from exprmetric.faces.swap import swap_face
from exprmetric.inputs.triplets import Triplet, read_triplets
from exprmetric.io.images import read_image

Image = NDArray[np.uint8]
Record = dict[str, Any]


@pytest.fixture(autouse=True)
def _no_weights_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)


@dataclass(frozen=True)
class Scene:
    """The group and the portrait, with their faces from left to right, as files; and which of the group is largest."""

    folder: Path
    group: Image
    faces: list[Face]
    portrait: Image
    person: Face
    largest: int

    @property
    def others(self) -> list[int]:
        return [i for i in range(len(self.faces)) if i != self.largest]

    def swapped(self, face: int, image: Image | None = None) -> Image:
        """The portrait's face on one of the group."""
        image = self.group if image is None else image
        return swap_face(image, self.faces[face].landmarks, self.portrait, self.person.landmarks)

    def pixelated(self, face: int, image: Image | None = None) -> Image:
        """One of the group made unrecognisable."""
        made = (self.group if image is None else image).copy()
        x0, y0, x1, y1 = grown(self.faces[face].box, 0.35)
        part = made[y0:y1, x0:x1]
        few = cv2.resize(part, (3, 3), interpolation=cv2.INTER_AREA)
        made[y0:y1, x0:x1] = cv2.resize(few, part.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        return made

    def crop(self, image: Image, face: int) -> Image:
        x0, y0, x1, y1 = grown(self.faces[face].box, 0.6)
        side = min(x1 - x0, y1 - y0)
        return image[y0 : y0 + side, x0 : x0 + side]

    def triplet(self, name: str, image: Image, **more: Any) -> Triplet:
        """Saved as a JPEG: all its pixels differ from the target's a little."""
        path = self.folder / f"{name}.jpg"
        PILImage.fromarray(image).save(path, quality=85)
        return Triplet(name, self.folder / "group.png", self.folder / "portrait.png", path, **more)


def grown(box: NDArray[np.float64], share: float) -> list[int]:
    margin = share * (box[2:] - box[:2])
    return [max(0, int(v)) for v in (*(box[:2] - margin), *(box[2:] + margin))]


@pytest.fixture(scope="module")
def scene(group_photo: Path, portrait_photo: Path, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("scene")
    finder = FaceFinder(load_detector("dlib"))
    group, portrait = read_image(group_photo), read_image(portrait_photo)
    found = sorted(finder.detect(group), key=lambda d: float(d.box[0]))
    faces = [finder.face(group, d) for d in found]
    PILImage.fromarray(group).save(folder / "group.png")
    PILImage.fromarray(portrait).save(folder / "portrait.png")
    return Scene(folder, group, faces, portrait, finder.find(portrait), found.index(finder.choose(found, group)))


def measured(triplets: Sequence[Triplet], **how: Any) -> dict[str, Record]:
    found = evaluate(triplets, ("lm68",), **{"detector": "dlib", "jobs": 2, **how})
    return {r["id"]: r for r in found.triplets}


def box(face: Face) -> str:
    return " ".join(str(round(v)) for v in face.box)


@pytest.fixture(scope="module")
def rows(scene: Scene) -> dict[str, Record]:
    """Everything that a swap of a group may be, in one run."""
    a, b = scene.others[0], scene.others[-1]
    grid = np.hstack([cv2.resize(scene.portrait, (1280, 886)), scene.group, scene.swapped(scene.largest)])
    height, width = scene.group.shape[:2]
    half = cv2.resize(scene.group, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    triplets = [
        *(scene.triplet(f"swap{i}", scene.swapped(i)) for i in range(len(scene.faces))),
        scene.triplet("two", scene.swapped(b, scene.swapped(a))),
        scene.triplet("nobody", scene.group),
        scene.triplet("bright", np.clip(scene.group.astype(int) + 15, 0, 255).astype(np.uint8)),
        scene.triplet("half", half),
        scene.triplet("destroyed largest", scene.pixelated(scene.largest)),
        scene.triplet("destroyed other", scene.pixelated(a)),
        scene.triplet("crop largest", scene.crop(scene.swapped(scene.largest), scene.largest)),
        scene.triplet("crop other", scene.crop(scene.swapped(a), a)),
        scene.triplet("crop of somebody else", scene.portrait[30:222, 130:322]),
        replace(scene.triplet("crop of one", scene.portrait[20:240, 100:380]), target=scene.folder / "portrait.png"),
        scene.triplet("crop of several", scene.swapped(scene.largest)[:, : width // 2]),
        scene.triplet("grid", grid),
    ]
    return measured(triplets)


# Which face


def test_the_face_that_was_swapped_is_measured_whichever_of_the_six_it_is(
    rows: dict[str, Record], scene: Scene
) -> None:
    for i, face in enumerate(scene.faces):
        row = rows[f"swap{i}"]
        assert (row["status"], row["reason"], row["box_target"]) == ("ok", "", box(face))
        assert iou(np.array(row["box_swapped"].split(), float), face.box) > 0.5
        assert row["identity.t2c"] > 0.3 and row["lm68.t2c"] > 0


def test_of_two_faces_that_changed_the_one_that_changed_most_is_measured_and_the_row_says_two(
    rows: dict[str, Record], scene: Scene
) -> None:
    row = rows["two"]
    one, other = scene.others[0], scene.others[-1]
    moved = {i: rows[f"swap{i}"]["identity.t2c"] for i in (one, other)}
    assert (row["status"], row["reason"]) == ("ok", "2 faces changed")
    assert row["box_target"] == box(scene.faces[max(moved, key=lambda i: moved[i])])


@pytest.mark.parametrize("name", ["nobody", "bright", "half"])
def test_coding_light_and_size_change_nobody_and_the_largest_is_measured(
    name: str, rows: dict[str, Record], scene: Scene
) -> None:
    row = rows[name]
    assert (row["status"], row["reason"]) == ("ok", "no face changed")
    assert row["box_target"] == box(scene.faces[scene.largest])


@pytest.mark.parametrize("who", ["largest", "other"])
def test_a_face_destroyed_beyond_detection_is_no_face_and_no_neighbour_stands_in_for_it(
    who: str, rows: dict[str, Record], scene: Scene
) -> None:
    row = rows[f"destroyed {who}"]
    destroyed = scene.faces[scene.largest if who == "largest" else scene.others[0]]
    assert row["status"] == "no_face" and row["reason"].endswith("no face where the target's was")
    assert row["box_target"] == box(destroyed) and row["box_swapped"] == ""
    assert row["lm68.t2c"] is None


@pytest.mark.shared
def test_of_five_people_the_largest_pixelated_is_no_face(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    target = shared_data("hard_inputs") / "multi_face.jpg"
    image = read_image(target)
    finder = FaceFinder(load_detector("dlib"))
    face = finder.find(image)
    scene = Scene(tmp_path, image, [face], image, face, 0)
    PILImage.fromarray(image).save(tmp_path / "portrait.png")
    row = measured([replace(scene.triplet("x", scene.pixelated(0)), target=target)])["x"]
    assert row["status"] == "no_face" and row["reason"].endswith("no face where the target's was")
    assert row["faces_target"] == row["faces_swapped"] + 1


# Pictures of another shape


@pytest.mark.parametrize("who", ["largest", "other"])
def test_a_crop_of_one_of_several_is_compared_with_that_one(who: str, rows: dict[str, Record], scene: Scene) -> None:
    row, face = rows[f"crop {who}"], scene.largest if who == "largest" else scene.others[0]
    assert (row["status"], row["reason"]) == ("ok", "crop")
    assert row["box_target"] == box(scene.faces[face])
    assert row["lm68.t2c"] < 2 * rows[f"swap{face}"]["lm68.t2c"] + 0.2


def test_a_crop_of_the_only_face_is_compared_with_it(rows: dict[str, Record], scene: Scene) -> None:
    row = rows["crop of one"]
    assert (row["status"], row["reason"], row["box_target"]) == ("ok", "crop", box(scene.person))
    assert (row["faces_target"], row["faces_swapped"]) == (1, 1) and row["lm68.t2c"] < 0.05


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("crop of somebody else", "which of them the swapped image is a crop of can't be told"),
        ("crop of several", "no face that is surely the target's"),
        ("grid", "it looks like a comparison grid"),
    ],
)
def test_a_picture_whose_shape_and_faces_do_not_fit_its_targets_is_not_measured(
    name: str, says: str, rows: dict[str, Record]
) -> None:
    row = rows[name]
    assert row["status"] == "no_face" and says in row["reason"], row["reason"]
    assert row["lm68.t2c"] is None


FACE = np.array([0.3, 0.2, 0.7, 0.8])


def panels(rows: int, columns: int, *cells: tuple[int, int]) -> list[NDArray[np.float64]]:
    """Places of faces that stand in panels of a grid where FACE stands in its picture."""
    return [(FACE + np.tile((x, y), 2)) / np.tile((columns, rows), 2) for x, y in cells]


def test_grids_are_told_by_what_their_panels_show() -> None:
    size = (300, 400)
    assert is_grid(size, [FACE], (300, 1200), panels(1, 3, (0, 0), (1, 0), (2, 0)))
    assert is_grid(size, [FACE], (450, 200), panels(3, 1, (0, 0), (0, 2)))  # not their own size, and one not found
    assert is_grid(size, [FACE], (600, 800), panels(2, 2, (0, 0), (1, 0), (0, 1)))
    assert is_grid(size, [FACE], (300, 800), panels(1, 2, (1, 0)))  # two pictures of the target's very size
    assert not is_grid(size, [FACE], (600, 800), [FACE])  # enlarged
    assert not is_grid(size, [FACE], (200, 200), [FACE])  # cropped
    assert not is_grid(size, [FACE, FACE / 3], (600, 800), [FACE, FACE / 3])  # two people


@pytest.mark.parametrize("face", ["changed", "largest", "all"])
@pytest.mark.parametrize("how", ["mirrored", "moved", "enlarged"])
def test_nobody_is_measured_by_place_in_a_picture_that_shows_the_scene_elsewhere(
    how: str, face: str, scene: Scene
) -> None:
    group = scene.group
    height, width = group.shape[:2]
    made = {
        "mirrored": group[:, ::-1],
        "moved": np.roll(group, width // 8, axis=1),
        "enlarged": cv2.resize(group[: int(0.6 * height), : int(0.6 * width)], (width, height)),
    }[how]
    seen = Sight((height, width), [Represented(f.box, 1.0, f) for f in scene.faces])
    again = replace(seen)  # those who stand nearly where these stood

    def chosen(picture: Image) -> list[Chosen]:
        pixels = (lambda: group, None, lambda: picture)
        return Chooser(face, aligned=False, identity=None).choose_all((seen, None, again), pixels)

    found = chosen(np.ascontiguousarray(made))
    assert all("around the faces the pictures don't agree" in str(c.errors[0][1]) for c in found)
    graded = np.clip(group // 2 + 90, 0, 255).astype(np.uint8)
    assert not any(c.errors for c in chosen(graded))


@pytest.mark.parametrize("other", [(443, 640), (880, 1280), (886, 1264), (100, 144)])
def test_sizes_that_were_rounded_are_the_same_shape(other: tuple[int, int]) -> None:
    assert not other_shape((886, 1280), other)
    assert other_shape((886, 1280), (other[0], other[0]))


def test_the_place_of_a_face_belongs_to_the_face_that_is_nearest() -> None:
    near, far = FACE + 0.02, FACE + np.array([0.35, 0, 0.35, 0])
    assert at_place(FACE, [far, near]) == 1
    assert at_place(FACE, [near], others=[near]) is None
    assert at_place(FACE, [far]) is None and iou(FACE, far) < 0.1
    assert at_place(FACE, []) is None


def test_aligned_crops_have_no_place_and_no_shape(scene: Scene) -> None:
    crops = [scene.crop(scene.group, i) for i in (scene.largest, scene.others[0])]
    paths = [scene.folder / f"crop{i}.png" for i in range(2)]
    for path, image, shape in zip(paths, crops, ((200, 200), (150, 170)), strict=True):
        PILImage.fromarray(cv2.resize(image, shape)).save(path)
    row = measured([Triplet("x", paths[0], paths[0], paths[1])], detector="none")
    assert (row["x"]["status"], row["x"]["reason"]) == ("ok", "")


# Which face is asked for


def test_the_face_can_be_asked_for(scene: Scene) -> None:
    other = scene.others[0]
    triplet = scene.triplet("asked", scene.swapped(other))
    photo = scene.folder / "photo.png"
    PILImage.fromarray(scene.crop(scene.group, scene.others[1])).save(photo)
    for face, expected in (("largest", scene.largest), (str(photo), scene.others[1]), ("changed", other)):
        row = measured([triplet], face=face)["asked"]
        assert (row["status"], row["box_target"]) == ("ok", box(scene.faces[expected])), face
        assert (row["identity.t2c"] > 0.3) == (expected == other)
    row = measured([triplet], face=str(scene.folder / "portrait.png"))["asked"]
    assert row["status"] == "no_face" and "no face of " in row["reason"]
    for wrong in ("left", str(scene.folder / "gone.png")):
        with pytest.raises(InputError, match="largest, center, error, changed, all, or a photograph"):
            measured([triplet], face=wrong)


def test_one_triplet_alone_has_the_same_face(rows: dict[str, Record], scene: Scene) -> None:
    paths = [scene.folder / name for name in ("group.png", "portrait.png", f"swap{scene.others[0]}.jpg")]
    row = rows[f"swap{scene.others[0]}"]
    for images in (paths, [read_image(p) for p in paths]):
        alone = evaluate_triplet(*images, ("lm68",), detector="dlib")
        assert alone == {"lm68": {d: row[f"lm68.{d}"] for d in ("t2c", "s2c", "s2t")}}
    with pytest.raises(NoFaceError, match=r"^swapped: no face where the target's was"):
        evaluate_triplet(*paths[:2], scene.folder / "destroyed largest.jpg", ("lm68",), detector="dlib")


def manifest(scene: Scene, **named: str) -> Sequence[Triplet]:
    names = {"target": "group.png", "source": "portrait.png", "swapped": "nobody.jpg", **named}
    path = scene.folder / "manifest.csv"
    path.write_text(",".join(names) + "\n" + ",".join(names.values()) + "\n")
    return read_triplets(path)


def test_a_manifest_names_the_face(rows: dict[str, Record], scene: Scene) -> None:
    """By index, by box, by photograph; in the swapped image too."""
    PILImage.fromarray(scene.crop(scene.group, 4)).save(scene.folder / "person.png")
    loose = " ".join(str(v) for v in grown(scene.faces[4].box, 0.1))
    for named in ({"target_face": "4"}, {"target_face": loose}, {"target_face": "person.png"}, {"swapped_face": "4"}):
        (row,) = measured(manifest(scene, **named)).values()
        assert (row["status"], row["reason"], row["box_target"]) == ("ok", "", box(scene.faces[4])), named
        assert iou(np.array(row["box_swapped"].split(), float), scene.faces[4].box) > 0.5
    (row,) = measured(manifest(scene, source="group.png", source_face="2")).values()
    assert row["box_source"] == box(scene.faces[2]) and row["faces_source"] == 6


def test_a_result_knows_the_photograph_that_names_a_face_and_says_when_it_changed(
    rows: dict[str, Record], scene: Scene, tmp_path: Path
) -> None:
    PILImage.fromarray(scene.crop(scene.group, 4)).save(scene.folder / "person.png")
    manifest(scene, target_face="person.png")
    result = evaluate(scene.folder / "manifest.csv", ("lm68",), out=tmp_path, detector="dlib", jobs=2)
    sha256 = hashlib.sha256((scene.folder / "person.png").read_bytes()).hexdigest()
    assert [r["sha256_naming"] for r in result.triplets] == [f"{sha256} - -"]
    assert reproduce(tmp_path).same
    PILImage.fromarray(scene.crop(scene.group, 4)[1:]).save(scene.folder / "person.png")  # the same person
    found = reproduce(tmp_path)
    assert not found.same and found.images.tolist() == [True]
    assert "a photograph that names a face changed" in found.wrong[0]
    assert found.after.summary["input"]["sha256"] != result.summary["input"]["sha256"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("6", "no face number 6 from the left (0 is the leftmost): there are 6"),
        ("0 0 20 20", "no face at 0 0 20 20"),
        ("portrait.png", "no face of "),
    ],
)
def test_a_named_face_that_is_not_there_is_no_face(name: str, says: str, rows: dict[str, Record], scene: Scene) -> None:
    (row,) = measured(manifest(scene, target_face=name)).values()
    assert row["status"] == "no_face" and says in row["reason"] and row["reason"].startswith("target")


def test_a_photograph_that_is_not_there_is_unreadable(rows: dict[str, Record], scene: Scene) -> None:
    (row,) = measured(manifest(scene, target_face="gone.png")).values()
    assert row["status"] == "unreadable" and "gone.png" in row["reason"]


# What a row says, and what it doesn't depend on


def test_each_row_counts_the_faces_of_its_images(rows: dict[str, Record]) -> None:
    for name, expected in (("swap0", (6, 1, 6)), ("destroyed largest", (6, 1, 5)), ("crop other", (6, 1, 1))):
        assert tuple(rows[name][f"faces_{r}"] for r in ("target", "source", "swapped")) == expected


def test_the_way_there_does_not_show(rows: dict[str, Record], scene: Scene, tmp_path: Path) -> None:
    """Order, jobs, blocks, a cache, shards, without the identity control; and what is saved is what was measured."""
    names = ["destroyed other", "swap0", "crop other", f"swap{scene.others[-1]}", "nobody"]
    portrait, group = scene.folder / "portrait.png", scene.folder / "group.png"
    triplets = [Triplet(name, group, portrait, scene.folder / f"{name}.jpg") for name in names]
    expected = {name: rows[name] for name in names}
    cold = measured(triplets, jobs=1, block=1, cache=tmp_path / "cache")
    assert cold == expected
    plain = {n: {k: v for k, v in r.items() if not k.startswith("identity")} for n, r in expected.items()}
    assert measured(triplets[::-1], identity=False, cache=tmp_path / "cache") == plain
    for i in (1, 2):
        evaluate(triplets, ("lm68",), detector="dlib", out=tmp_path / f"{i}", shard=f"{i}/2", cache=tmp_path / "cache")
    merged = merge([tmp_path / "2", tmp_path / "1"])
    assert merged.triplets == list(expected.values())
    assert EvaluationResult.load(merged.save(tmp_path / "out")).triplets == merged.triplets
