"""`blendshapes` is MediaPipe's answer, it follows the face and not the detector, and says so where it sees no face."""

from __future__ import annotations

import csv
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

import exprmetric
from exprmetric.errors import LowQualityError, MissingPackageError, WeightsError, WeightsHashError
from exprmetric.evaluation.embed import embed_images
from exprmetric.faces import FaceFinder, alignment, load_detector
from exprmetric.faces.face_mesh import BLENDSHAPE_POINTS, BLENDSHAPES, FaceMesh, Mesh
from exprmetric.faces.point_models import load_points
from exprmetric.inputs.triplets import Triplet
from exprmetric.io.images import read_image
from exprmetric.methods import load_method

Image = npt.NDArray[np.uint8]

# What the package mediapipe 1.2.2 says of the portrait after eight equal frames of a video (so that its region comes
# from the mesh): scores in the order of BLENDSHAPES, and some points in px.
OFFICIAL = [
    0.0, 0.021, 0.027, 0.034, 0.114, 0.081, 0.001, 0.0, 0.0, 0.053, 0.036, 0.103, 0.109, 0.049, 0.078, 0.081, 0.061,
    0.115, 0.1, 0.395, 0.255, 0.017, 0.033, 0.001, 0.0, 0.013, 0.0, 0.001, 0.025, 0.025, 0.0, 0.0, 0.007, 0.002, 0.055,
    0.109, 0.087, 0.142, 0.005, 0.001, 0.003, 0.022, 0.004, 0.023, 0.895, 0.891, 0.006, 0.014, 0.556, 0.536, 0.0, 0.0,
]  # fmt: skip
OFFICIAL_POINTS = {
    1: (223.5, 131.6), 13: (223.3, 143.3), 14: (222.7, 149.7), 33: (195.5, 100.6), 61: (202.4, 139.3),
    152: (221.0, 178.5), 263: (255.5, 103.8), 291: (244.5, 140.7), 468: (203.5, 101.0), 473: (246.6, 103.3),
}  # fmt: skip
FACE = 79  # px, the portrait's face from its upper edge to the chin, about


@pytest.fixture(scope="module")
def installed(shared: Path) -> Iterator[None]:
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed: pip install 'exprmetric[mediapipe]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPRMETRIC_WEIGHTS", str(shared / "weights"))
        yield


@pytest.fixture(scope="module")
def network(installed: None) -> FaceMesh:
    return FaceMesh()


@pytest.fixture(scope="module")
def portrait(portrait_photo: Path) -> tuple[Image, alignment.Matrix]:
    image = read_image(portrait_photo)
    return image, FaceFinder(load_detector("dlib")).find(image).matrix("eyes70")


@pytest.fixture(scope="module")
def mesh(network: FaceMesh, portrait: tuple[Image, alignment.Matrix]) -> Mesh:
    return network.read(*portrait)


@pytest.fixture
def blank(tmp_path: Path) -> Path:
    path = tmp_path / "blank.png"
    cv2.imwrite(str(path), np.full((200, 200, 3), 127, np.uint8))
    return path


def moved(matrix: alignment.Matrix, *, shift: float = 0, scale: float = 1, degrees: float = 0) -> alignment.Matrix:
    """The map to a crop that another detector's eyes would have given."""
    about = np.vstack([cv2.getRotationMatrix2D((111.5, 111.5), degrees, scale), [0, 0, 1]])
    about[:2, 2] += shift
    return (about @ np.vstack([matrix, [0, 0, 1]]))[:2]


@pytest.mark.shared
def test_scores_and_points_are_mediapipes(mesh: Mesh) -> None:
    assert mesh.blendshapes.shape == (52,) == (len(BLENDSHAPES),) and mesh.blendshapes.dtype == np.float32
    assert mesh.points.shape == (478, 3) and mesh.token.shape == (64,) and mesh.presence > 0.99
    assert np.abs(mesh.blendshapes - OFFICIAL).max() < 0.05
    assert np.abs(mesh.blendshapes - OFFICIAL).mean() < 0.01
    far = [np.linalg.norm(mesh.points[i, :2] - xy) for i, xy in OFFICIAL_POINTS.items()]
    assert max(far) < 0.01 * FACE


@pytest.mark.shared
def test_scores_are_one_linear_layer_and_a_sigmoid_of_the_token(network: FaceMesh, mesh: Mesh) -> None:
    generator = np.random.default_rng(0)
    base = mesh.points[BLENDSHAPE_POINTS, :2]
    read = [network._networks().blendshapes((base + generator.normal(0, 2, base.shape))[None]) for _ in range(130)]
    scores = np.stack([s.ravel() for s, _ in read]).astype(np.float64)
    tokens = np.stack([np.append(t.ravel(), 1) for _, t in read]).astype(np.float64)
    some = ((scores > 1e-3) & (scores < 1 - 1e-3)).all(0)  # of what saturates, float32 keeps no logit
    assert some.sum() >= 5
    logits = np.log(scores[:, some] / (1 - scores[:, some]))
    layer, *_ = np.linalg.lstsq(tokens[:90], logits[:90], rcond=None)
    assert np.abs(tokens[90:] @ layer - logits[90:]).max() < 0.01 < logits.std()


@pytest.mark.shared
def test_a_mirror_swaps_left_and_right(network: FaceMesh, group_photo: Path) -> None:
    image = read_image(group_photo)
    flip = np.array([[-1.0, 0, 223], [0, 1, 0], [0, 0, 1]])
    unflip = np.array([[-1.0, 0, image.shape[1] - 1], [0, 1, 0], [0, 0, 1]])
    left = [i for i, n in enumerate(BLENDSHAPES) if n.endswith("Left")]
    right = [BLENDSHAPES.index(BLENDSHAPES[i].replace("Left", "Right")) for i in left]
    rest = [i for i in range(52) if i not in left + right]
    pairs = []
    finder = FaceFinder(load_detector("dlib"))
    for found in finder.detect(image):
        matrix = finder.face(image, found).matrix("eyes70")
        mirrored = (flip @ np.vstack([matrix, [0, 0, 1]]) @ unflip)[:2]
        a = network.read(image, matrix).blendshapes
        b = network.read(np.ascontiguousarray(image[:, ::-1]), mirrored).blendshapes
        pairs.append((a, b))
    a, b = (np.stack(side) for side in zip(*pairs, strict=True))
    assert len(left) == 20 and len(a) == 6
    # MediaPipe's networks are not quite symmetric themselves
    assert np.abs(a[:, rest] - b[:, rest]).mean() < 0.04
    assert np.abs(a[:, left] - b[:, right]).mean() < 0.05
    assert np.corrcoef((a[:, left] - a[:, right]).ravel(), (b[:, left] - b[:, right]).ravel())[0, 1] < -0.4


@pytest.mark.shared
def test_surprise_opens_the_jaw_and_happiness_draws_the_mouth_up(
    installed: None, shared_data: Callable[[str], Path]
) -> None:
    folder = shared_data("lfw_expressions")
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    mean = {}
    for emotion in ("neutral", "surprise", "happiness"):
        paths = [folder / "images" / r["image"] for r in rows if r["emotion"] == emotion][:12]
        found = embed_images(paths, "blendshapes", detector="dlib", jobs=1)
        vectors = np.stack([e.vector for e in found if e.vector is not None])
        assert len(vectors) >= 9
        mean[emotion] = dict(zip(BLENDSHAPES, vectors.mean(0), strict=True))
    assert mean["surprise"]["jawOpen"] > 3 * mean["neutral"]["jawOpen"]
    assert mean["surprise"]["browInnerUp"] > 2 * mean["neutral"]["browInnerUp"]
    for side in ("Left", "Right"):
        assert mean["happiness"][f"mouthSmile{side}"] > 0.3 > 0.1 > mean["neutral"][f"mouthSmile{side}"]


@pytest.mark.shared
@pytest.mark.parametrize("change", [{"shift": 12}, {"shift": -12}, {"scale": 1.2}, {"scale": 0.85}, {"degrees": 12}])
def test_the_first_region_hardly_matters(
    network: FaceMesh, portrait: tuple[Image, alignment.Matrix], mesh: Mesh, change: dict[str, float]
) -> None:
    image, matrix = portrait
    again = network.read(image, moved(matrix, **change))
    assert np.linalg.norm(again.points[:, :2] - mesh.points[:, :2], axis=1).mean() < 0.01 * FACE
    assert np.abs(again.blendshapes - mesh.blendshapes).mean() < 0.01


@pytest.mark.slow
@pytest.mark.shared
def test_detectors_agree(installed: None, portrait_photo: Path, group_photo: Path) -> None:
    method = load_method("blendshapes")
    near: list[float] = []
    for photo in (portrait_photo, group_photo):
        image = read_image(photo)
        finders = [FaceFinder(load_detector(name)) for name in ("scrfd", "dlib")]
        first = [finders[0].face(image, d) for d in finders[0].detect(image)]
        faces = [(f, finders[1].find(image, near=f.place)) for f in first]
        a, b = (method.represent(side) for side in zip(*faces, strict=True))
        near += np.linalg.norm(a - b, axis=1).tolist()
        if len(a) > 1:
            between = np.linalg.norm(a[:, None] - a, axis=2)[np.triu_indices(len(a), 1)].mean()
    assert len(near) == 7
    assert np.mean(near) < 0.15 * between


@pytest.mark.shared
def test_a_large_photograph_gives_the_mesh_of_a_small_one(
    network: FaceMesh, portrait: tuple[Image, alignment.Matrix], mesh: Mesh
) -> None:
    image, matrix = portrait
    factor = 8
    large = np.asarray(cv2.resize(image[40:240, 120:320], None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC))
    shift = np.array([120, 40]) - (factor - 1) / 2 / factor  # px of the portrait at px 0 of the large one
    to_portrait = np.array([[1 / factor, 0, shift[0]], [0, 1 / factor, shift[1]], [0, 0, 1]])
    found = network.read(large.astype(np.uint8), (np.vstack([matrix, [0, 0, 1]]) @ to_portrait)[:2])
    assert np.linalg.norm(found.points[:, :2] / factor + shift - mesh.points[:, :2], axis=1).mean() < 0.01 * FACE
    assert np.abs(found.points[:, 2] / factor - mesh.points[:, 2]).mean() < 0.02 * FACE
    assert np.abs(found.blendshapes - mesh.blendshapes).mean() < 0.02


@pytest.mark.shared
def test_threads_and_batches_change_nothing(
    network: FaceMesh, portrait: tuple[Image, alignment.Matrix], mesh: Mesh, portrait_photo: Path, group_photo: Path
) -> None:
    image, matrix = portrait
    regions = [moved(matrix, shift=s) for s in range(6)]
    alone = [network.read(image, r).token for r in regions]
    with ThreadPoolExecutor(3) as pool:
        assert np.array_equal(list(pool.map(lambda r: network.read(image, r).token, regions)), alone)
    finder = FaceFinder(load_detector("dlib"))
    faces = [finder.find(read_image(p)) for p in (portrait_photo, group_photo)]
    method = load_method("blendshapes-token")
    together = method.represent(faces)
    assert together.shape == (2, 64) and together.dtype == np.float32
    assert np.array_equal(method.represent(faces[::-1]), together[::-1])
    assert method.represent([]).shape == (0, 64)
    fresh = finder.find(read_image(portrait_photo))
    assert np.array_equal(method.represent([fresh])[0], together[0])


@pytest.mark.shared
def test_both_methods_share_one_mesh_a_face_and_need_no_pixels_later(
    installed: None, monkeypatch: pytest.MonkeyPatch, portrait_photo: Path, group_photo: Path
) -> None:
    calls = []
    read = FaceMesh.read

    def counting(self: FaceMesh, image: Image, matrix: alignment.Matrix) -> Mesh:
        calls.append(image.shape)
        return read(self, image, matrix)

    monkeypatch.setattr(FaceMesh, "read", counting)
    names = ["blendshapes", "blendshapes-token"]
    found = exprmetric.evaluate_triplet(portrait_photo, group_photo, portrait_photo, names, detector="dlib")
    assert len(calls) == 1 + 6 + 1  # of every face once: which one is measured is chosen when all are known
    for name in names:
        assert found[name]["t2c"] == 0 < found[name]["s2t"] == found[name]["s2c"]
    unread = FaceFinder(load_detector("dlib")).find(read_image(portrait_photo)).prepare(["eyes70"])
    with pytest.raises(ValueError, match="before its mesh was read"):
        load_method("blendshapes").represent([unread])


@pytest.mark.shared
def test_a_face_that_mediapipe_does_not_see_is_a_row_with_a_status(
    installed: None, blank: Path, portrait_photo: Path, tmp_path: Path
) -> None:
    # the detector `none` takes the whole image for a face, and without landmarks it does so whatever the image shows
    face = FaceFinder(load_detector("none"), points=load_points("none")).find(read_image(blank))
    with pytest.raises(LowQualityError, match=r"presence 0\.0"):
        load_method("blendshapes").represent([face])
    read = {"detector": "none", "landmarks": "none", "jobs": 1}
    (embedding,) = embed_images([blank], "blendshapes-token", **read)  # type: ignore[arg-type]
    assert embedding.vector is None and embedding.status == "low_quality" and "MediaPipe" in embedding.reason
    crop = tmp_path / "crop.png"
    cv2.imwrite(str(crop), cv2.imread(str(portrait_photo))[60:190, 160:290])
    triplet = Triplet("one", crop, crop, blank)
    result = exprmetric.evaluate([triplet], ["blendshapes", "default"], identity=False, **read)  # type: ignore[arg-type]
    (row,) = result.triplets
    assert row["status"] == "low_quality" and "blank.png" in row["reason"]
    assert row["blendshapes.t2c"] is None and row["default.t2c"] is None
    without = exprmetric.evaluate([triplet], ["default"], identity=False, **read)  # type: ignore[arg-type]
    assert without.triplets[0]["status"] == "ok"  # it was the method that refused


@pytest.mark.shared
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (40, 900)])
@pytest.mark.parametrize("matrix", [np.eye(2, 3), np.eye(2, 3) * 1e-3, np.eye(2, 3) * 90])
def test_odd_images_and_regions_are_no_crash(
    network: FaceMesh, shape: tuple[int, int], matrix: alignment.Matrix
) -> None:
    found = network.read(np.full((*shape, 3), 200, np.uint8), matrix)
    assert found.presence < 0.5 and np.isfinite(found.points).all()


@pytest.mark.shared
def test_another_file_under_its_name_is_refused(
    installed: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "face_landmarker.task").write_bytes(b"PK")
    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsHashError):
        load_method("blendshapes")


def bundle(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, b"no network")
    return path


def test_what_is_no_bundle_of_networks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no zip")
    with pytest.raises(WeightsError, match="no MediaPipe face landmarker bundle"):
        FaceMesh(tmp_path / "text")
    with pytest.raises(WeightsError, match=r"face_blendshapes\.tflite"):
        FaceMesh(bundle(tmp_path / "half", "face_landmarks_detector.tflite"))
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    with pytest.raises(WeightsError, match="can't be run"):
        FaceMesh(bundle(tmp_path / "full", "face_landmarks_detector.tflite", "face_blendshapes.tflite"))


def test_a_missing_package_is_named_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    path = bundle(tmp_path / "full", "face_landmarks_detector.tflite", "face_blendshapes.tflite")
    with pytest.raises(MissingPackageError, match=r"pip install 'exprmetric\[mediapipe\]'"):
        FaceMesh(path)
