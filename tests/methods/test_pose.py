"""`pose` and `gaze` against heads projected and rendered at known angles, turned photographs and mirror images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from exprmetric.errors import LowQualityError
from exprmetric.faces import FaceFinder, load_detector
from exprmetric.faces.face import Face
from exprmetric.faces.face_mesh import BLENDSHAPES
from exprmetric.faces.head import HEAD, Pose, angles, fitted_pose, head_pose, rotation
from exprmetric.io.images import read_image
from exprmetric.methods import load_method
from exprmetric.methods.blendshapes import mesh_of
from exprmetric.metrics.distances import degrees

Image = npt.NDArray[np.uint8]
POSES = [Pose(0, 0, 0), Pose(25, 0, 0), Pose(-40, 10, 0), Pose(0, -20, 0), Pose(10, 15, 35), Pose(-15, 5, -60)]


@pytest.fixture
def finder() -> FaceFinder:
    return FaceFinder(load_detector("dlib"), "largest")


@pytest.fixture
def mesh_weights(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(shared / "weights"))


def by_hand(pose: Pose) -> npt.NDArray[np.float64]:
    """The rotation written out with the vectors that each angle moves, without the package's matrices."""
    yaw, pitch, roll = np.radians(pose)
    nose = np.array([np.sin(yaw) * np.cos(pitch), -np.sin(pitch), -np.cos(yaw) * np.cos(pitch)])
    ear = np.array([np.cos(yaw), 0.0, np.sin(yaw)])  # the axis through the ears, to the image's right
    chin = np.cross(-nose, ear)
    turn = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    return turn @ np.column_stack([ear, chin, -nose])


@pytest.mark.parametrize("pose", POSES)
def test_angles_are_those_by_which_nose_and_ears_were_turned(pose: Pose) -> None:
    np.testing.assert_allclose(angles(by_hand(pose)), pose, atol=1e-9)
    np.testing.assert_allclose(rotation(pose), by_hand(pose), atol=1e-12)


@pytest.mark.parametrize("pose", POSES)
def test_the_pose_of_a_projected_head_is_found(pose: Pose) -> None:
    turned = (HEAD - HEAD.mean(0)) @ by_hand(pose).T + [0, 0, 1000]
    seen = 640 * turned[:, :2] / turned[:, 2:]
    np.testing.assert_allclose(fitted_pose(HEAD, seen, 64.0), pose, atol=1.0)


def test_points_that_are_no_face_have_no_pose() -> None:
    assert np.isnan(head_pose(np.zeros((68, 2)))).all()
    assert np.isnan(head_pose(np.full((68, 2), np.nan))).all()
    nowhere = Face(None, np.zeros(4), 1.0, np.zeros((68, 2)), size=(100, 100))
    with pytest.raises(LowQualityError):
        load_method("pose").prepare(nowhere)


def test_degrees_go_the_short_way_round() -> None:
    assert degrees([[179.0, 0.0, 0.0]], [[-179.0, 0.0, 4.0]]) == pytest.approx([2.0])
    assert degrees([[10.0, -20.0]], [[40.0, -20.0]]) == pytest.approx([15.0])


@pytest.mark.parametrize("turned", [-20, -10])
def test_a_photograph_turned_in_its_plane_changes_the_roll_alone(
    portrait_photo: Path, finder: FaceFinder, turned: float
) -> None:
    image = read_image(portrait_photo)
    height, width = image.shape[:2]
    about = cv2.getRotationMatrix2D((width / 2, height / 2), -turned, 1)  # OpenCV turns counter-clockwise
    pose = load_method("pose")
    before, after = (
        pose.represent([finder.find(i)])[0] for i in (image, np.asarray(cv2.warpAffine(image, about, (width, height))))
    )
    np.testing.assert_allclose(after - before, [0, 0, turned], atol=5)


@pytest.mark.shared
def test_a_smile_hardly_turns_the_head(shared: Path, finder: FaceFinder) -> None:
    from renders import HeadModel, render, strength

    model = HeadModel.load(shared / "data" / "ict_facekit.npz")
    faces = [finder.find(render(model.vertices(strength("happiness", s)), model.triangles)) for s in (0.0, 0.8)]
    rest, smile = load_method("pose").represent(faces)
    assert degrees(rest[None], smile[None])[0] < 2.5


def test_a_mirror_turns_yaw_and_roll_round(portrait_photo: Path, finder: FaceFinder) -> None:
    image = read_image(portrait_photo)
    pose = load_method("pose")
    before, after = (pose.represent([finder.find(i)])[0] for i in (image, np.ascontiguousarray(image[:, ::-1])))
    np.testing.assert_allclose(after, before * [-1, 1, -1], atol=3)


@pytest.mark.shared
@pytest.mark.parametrize("pose", [Pose(20, 0, 0), Pose(-30, 0, 0), Pose(0, 14, 0), Pose(0, -15, 15)])
def test_the_pose_of_a_rendered_head_is_found(shared: Path, finder: FaceFinder, pose: Pose) -> None:
    from renders import HeadModel, render

    model = HeadModel.load(shared / "data" / "ict_facekit.npz")
    face = finder.find(render(model.vertices(), model.triangles, pose))
    found = Pose(*load_method("pose").represent([face])[0])
    assert (found.yaw, found.roll) == pytest.approx((pose.yaw, pose.roll), abs=3)
    assert found.pitch == pytest.approx(pose.pitch, abs=5.5)  # 68 points say least of it


@pytest.mark.shared
def test_the_pose_from_the_mesh_follows_a_rendered_head(mesh_weights: None, shared: Path, finder: FaceFinder) -> None:
    from renders import HeadModel, render

    model, method = HeadModel.load(shared / "data" / "ict_facekit.npz"), load_method("pose-mesh")
    found = []
    for yaw in (-25, 0, 25):
        face = finder.find(render(model.vertices(), model.triangles, Pose(yaw, 0, 0)))
        method.prepare(face)
        found.append(method.represent([face])[0])
    assert [f[0] for f in found] == pytest.approx([-25, 0, 25], abs=4)


@pytest.mark.shared
def test_gaze_is_mirrored_by_a_mirror_and_agrees_with_mediapipes_eye_scores(
    mesh_weights: None, shared_data: Callable[[str], Path], finder: FaceFinder
) -> None:
    method = load_method("gaze")
    photographs = sorted((shared_data("swaps_dev") / "target").iterdir())[::12]
    seen, mirrored, scores = [], [], []
    for path in photographs:
        image = read_image(path)
        faces = [finder.find(i) for i in (image, np.ascontiguousarray(image[:, ::-1]))]
        for face, into in zip(faces, (seen, mirrored), strict=True):
            method.prepare(face)
            into.append(method.represent([face])[0])
        # the network that `method` read the mesh with is not asked again
        reading = dict(zip(BLENDSHAPES, mesh_of(faces[0], method._network).blendshapes, strict=True))
        right = reading["eyeLookInRight"] + reading["eyeLookOutLeft"]
        scores.append(right - reading["eyeLookInLeft"] - reading["eyeLookOutRight"])
    a, b = np.array(seen), np.array(mirrored)
    assert np.abs(a - b * [-1, 1]).mean() < 3
    assert np.corrcoef(a[:, 0], scores)[0, 1] > 0.8  # the person's left is the image's right


@pytest.mark.shared
def test_a_damaged_canonical_face_is_a_typed_error(shared: Path, tmp_path: Path) -> None:
    import zipfile

    from exprmetric.errors import WeightsError
    from exprmetric.methods.canonical_face import FILE, canonical_face

    bundle = shared / "weights" / "face_landmarker.task"
    points, rigid = canonical_face(bundle)
    assert points.shape == (468, 3) and len(rigid) == 33
    with zipfile.ZipFile(bundle) as file:
        whole = file.read(FILE)
    for name, data in {"cut": whole[:9000], "empty": b"", "junk": bytes(range(256)) * 8}.items():
        with zipfile.ZipFile(tmp_path / name, "w") as file:
            file.writestr(FILE, data)
        with pytest.raises(WeightsError):
            canonical_face(tmp_path / name)
