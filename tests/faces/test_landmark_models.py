"""Landmark models: where the eyes are, by dlib's points, MediaPipe's mesh or the detector; and who may use what."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from clips import write
from exprmetric_cli.main import main

from exprmetric import Evaluator, choices, embed, evaluate_triplet, evaluate_video
from exprmetric.errors import ExprmetricError, ForbiddenWeightsError, ImplausibleFaceError, InputError
from exprmetric.evaluation.session import Session, Settings
from exprmetric.faces import FaceFinder, load_detector
from exprmetric.faces.alignment import EYES, eye_centres, transform
from exprmetric.faces.detection import eyes_of_five_points
from exprmetric.faces.point_models import LANDMARKS, DlibPoints, eyes_of_box, load_points
from exprmetric.faces.upright import roll
from exprmetric.io.images import read_image
from exprmetric.video.scores.evaluate import VideoSettings
from exprmetric.weights import store


def need(name: str) -> None:
    """Skip where weights or what runs them are missing."""
    if not store.is_present(name):
        pytest.skip(f"no {name}; name its folder in EXPRMETRIC_WEIGHTS")
    if name.startswith("mediapipe"):
        pytest.importorskip("ai_edge_litert")


@pytest.fixture(autouse=True)
def shared_weights(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "shared" in request.keywords:
        monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(request.getfixturevalue("shared") / "weights"))


def finder(detector: str, landmarks: str) -> FaceFinder:
    return FaceFinder(load_detector(detector), points=load_points(landmarks))


def test_the_default_is_dlib_and_its_fingerprint_is_the_one_that_results_have() -> None:
    own = FaceFinder(load_detector("dlib"))
    assert own.points.name == Settings(("default",)).landmarks == "dlib68"
    assert own.seen == f"{own.detector.fingerprint}/dlib-68:{store.entry('dlib-68').sha256[:16]}/upright-2"


def test_the_square_that_dlib_would_draw_says_where_the_eyes_are(portrait_photo: Path) -> None:
    image = read_image(portrait_photo)
    (found,) = load_detector("dlib").detect(image)
    eyes = eye_centres(DlibPoints().predict(image, found).points)
    assert np.abs(eyes_of_box(found.landmark_box) - eyes).max() < 0.2 * np.linalg.norm(eyes[1] - eyes[0])


def test_eyes_of_five_points_are_moved_with_the_face() -> None:
    five = np.array([[100.0, 100], [160, 100], [130, 140], [110, 170], [150, 170]])
    eyes = eyes_of_five_points(five, "scrfd")
    assert eyes.tolist() == [[100 + 0.028 * 60, 100 + 0.018 * 60], [160 - 0.028 * 60, 100 + 0.018 * 60]]
    turn = np.array([[0.0, -1, 300], [1, 0, 0]])
    assert eyes_of_five_points(transform(turn, five), "scrfd") == pytest.approx(transform(turn, eyes))
    assert (eyes_of_five_points(five, "somebody's") == five[:2]).all()


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("detector", ["scrfd", "dlib"])
def test_the_mesh_sees_the_eyes_where_dlib_sees_them(detector: str, portrait_photo: Path, shared: Path) -> None:
    need("mediapipe-face-landmarker")
    image = read_image(portrait_photo)
    by_dlib, by_mesh = (finder(detector, name).find(image) for name in ("dlib68", "mesh"))
    eyes = transform(by_dlib.matrix("eyes70"), by_mesh.eye_centres)
    assert np.linalg.norm(eyes - EYES, axis=1).max() < 0.05 * 70
    inner = np.linalg.norm((by_mesh.landmarks - by_dlib.landmarks)[17:], axis=1)
    assert inner.mean() < 0.08 * np.linalg.norm(np.diff(by_dlib.eye_centres, axis=0))


@pytest.mark.slow
@pytest.mark.shared
def test_the_mesh_hardly_depends_on_who_finds_the_face(portrait_photo: Path, shared: Path) -> None:
    need("mediapipe-face-landmarker")
    image = read_image(portrait_photo)
    one, other = (finder(detector, "mesh").find(image) for detector in ("scrfd", "dlib"))
    apart = np.linalg.norm(one.landmarks - other.landmarks, axis=1).mean()
    assert apart < 0.01 * np.linalg.norm(np.diff(one.eye_centres, axis=0))


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("landmarks", ["mesh", "none"])
@pytest.mark.parametrize("degrees", [40, 135])
def test_a_rolled_face_is_turned_upright_whatever_its_points(
    landmarks: str, degrees: int, portrait_photo: Path, shared: Path
) -> None:
    need("mediapipe-face-landmarker")
    image = read_image(portrait_photo)
    looks = finder("scrfd", landmarks)
    matrix = cv2.getRotationMatrix2D((256, 256), -degrees, 0.7)
    moved = cv2.warpAffine(image, matrix, (512, 512), borderMode=cv2.BORDER_REPLICATE)
    still, turned = looks.find(image), looks.find(moved)
    expected = transform(matrix, still.eye_centres)
    far = np.linalg.norm(turned.eye_centres - expected, axis=1).max()
    assert far < (0.06 if landmarks == "mesh" else 0.12) * np.linalg.norm(np.diff(expected, axis=0))
    assert turned.corners is not None
    assert abs((roll(turned.eye_centres) - degrees + 180) % 360 - 180) < 6


@pytest.mark.shared
def test_where_there_is_no_face_the_mesh_has_none(shared: Path) -> None:
    need("mediapipe-face-landmarker")
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), np.uint8)
    with pytest.raises(ImplausibleFaceError, match="mesh sees none"):
        finder("none", "mesh").find(noise)


def test_a_method_that_measures_dlibs_points_is_refused_with_others() -> None:
    for name in ("lm68", "pose", "identity"):
        with pytest.raises(InputError, match=f"{name} can't be measured with landmarks 'none'"):
            Session(Settings(("default", name), "none", identity=False, landmarks="none"))
    with pytest.raises(InputError, match="the identity control needs more than landmarks 'none'"):
        Session(Settings(("default",), "none", landmarks="none"))
    with pytest.raises(InputError, match="draws no points"):
        Session(Settings(("default",), "dlib", identity=False, landmarks="none"))
    with pytest.raises(InputError, match="unknown landmarks"):
        load_points("dlib86")


def test_an_aligned_crop_needs_no_landmarks(portrait_photo: Path) -> None:
    crop = FaceFinder(load_detector("dlib")).find(read_image(portrait_photo)).crop("eyes70")
    session = Session(Settings(("default",), "none", identity=False, landmarks="none"))
    (sight,) = session.reader.represent([session.reader.read(crop)])
    face = sight.faces[0].face  # type: ignore[union-attr]
    assert face is not None and np.isnan(face.landmarks).all() and (face.eye_centres == EYES).all()
    again = Session(Settings(("default",), "none", identity=False))
    (other,) = again.reader.represent([again.reader.read(crop)])
    assert (sight.faces[0].vectors["default"] == other.faces[0].vectors["default"]).all()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "settings",
    [
        Settings(("default",), "dlib", identity=False, landmarks="none", commercial_only=True),
        Settings(("blendshapes",), "dlib", identity=False, commercial_only=True),
    ],
)
def test_weights_that_exclude_commercial_use_are_refused(settings: Settings) -> None:
    with pytest.raises(ForbiddenWeightsError, match="only weights that allow commercial use were asked for"):
        Session(settings)
    with store.commercial_only(), pytest.raises(ForbiddenWeightsError, match="'yunet': The file is MIT, but"):
        load_detector("yunet")
    with pytest.raises(InputError, match="identity control allows no commercial use"):
        Session(Settings(("blendshapes",), landmarks="mesh", commercial_only=True))


def test_permission_ends_with_its_context() -> None:
    with store.commercial_only():
        assert not store.allowed("dlib-68") and store.allowed("mediapipe-face-landmarker")
        with store.commercial_only(False):
            assert not store.allowed("dlib-68")  # nobody inside takes the restriction away
    assert store.allowed("dlib-68")


def test_auto_passes_over_detectors_that_may_not_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exprmetric.faces.detection.weights.is_present", lambda name: True)
    with store.commercial_only():
        assert load_detector("auto").name == "dlib"


def test_every_weight_says_in_a_sentence_who_may_use_it() -> None:
    shown = CliRunner().invoke(main, ["weights", "list"], env={"COLUMNS": "200"})
    rows = json.loads(CliRunner().invoke(main, ["weights", "list", "--json"]).stdout)
    for row in rows:
        assert row["why"].endswith(".") and len(row["why"]) > 20
        may = "may" if row["commercial_use"] else "may not"
        assert f"{row['name']} {may} be used commercially." in shown.stdout
    assert {r["name"]: r["why"] for r in rows}["yunet"].startswith("The file is MIT, but")


@pytest.mark.slow
@pytest.mark.shared
def test_one_command_runs_on_weights_that_a_company_may_use(tmp_path: Path, group_photo: Path, shared: Path) -> None:
    need("mediapipe-face-landmarker")
    out = tmp_path / "out"
    photo = str(group_photo)
    asked = ["evaluate", "-t", photo, "-s", photo, "-c", photo, "-m", "blendshapes", "-m", "gaze", "-m", "pose-mesh"]
    stack = ["--landmarks", "mesh", "--commercial-only", "--no-identity", "--no-cache", "--out", str(out), "-q"]
    done = CliRunner().invoke(main, [*asked, *stack])
    assert done.exit_code == 0, done.output
    summary = json.loads((out / "summary.json").read_text())
    assert summary["detector"]["ran"] == "dlib"
    assert "mediapipe-face-landmarker" in summary["detector"]["fingerprint"]
    assert summary["settings"]["landmarks"] == "mesh" and summary["settings"]["commercial_only"] is True
    assert "dlib-68" not in json.dumps(summary)
    (row,) = csv.DictReader((out / "triplets.csv").open())
    assert row["status"] == "ok" and float(row["blendshapes.t2c"]) == 0
    assert tuple(LANDMARKS) == choices.LANDMARKS


@pytest.mark.shared
def test_python_and_the_command_line_see_a_face_by_the_same_points(portrait_photo: Path, shared: Path) -> None:
    need("mediapipe-face-landmarker")
    stack: dict[str, Any] = {"detector": "dlib", "landmarks": "mesh"}
    whole = evaluate_triplet(portrait_photo, None, portrait_photo, ["default"], **stack)
    adding = Evaluator(["default"], identity=False, jobs=1, **stack)
    assert adding.update(portrait_photo, None, portrait_photo) == [("ok", "")]
    assert adding.compute()["methods"]["default"]["mean_t2c"] == whole["default"]["t2c"] == 0
    assert "mediapipe" in json.loads(adding.state())["about"]["detector"]["fingerprint"]
    one, other = (embed(portrait_photo, **{**stack, "landmarks": name}) for name in ("mesh", "dlib68"))
    assert 0 < np.linalg.norm(one - other) < 0.5
    with pytest.raises(ForbiddenWeightsError):
        Evaluator(["default"], identity=False, commercial_only=True, **stack)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"landmarks": "none", "identity": False}, "measured with landmarks 'none'"),
        ({"commercial_only": True}, "the identity control allows no commercial use"),
        ({"commercial_only": True, "identity": False}, "people `one` or `all`"),
        ({"commercial_only": True, "identity": False, "people": "one"}, "only weights that allow commercial use"),
        ({"landmarks": "mesh", "identity": False}, "lm68 can't be measured with landmarks 'mesh'"),
    ],
)
def test_what_a_video_cannot_be_measured_with_is_refused(
    settings: dict[str, Any], words: str, tmp_path: Path, portrait_photo: Path
) -> None:
    clip = write(tmp_path / "clip.mp4", [read_image(portrait_photo)[:256, 96:352]] * 2)
    with pytest.raises(ExprmetricError, match=words):
        evaluate_video(clip, None, clip, ["lm68"], VideoSettings(detector="dlib", **settings))


@pytest.mark.shared
def test_a_video_is_measured_on_weights_that_a_company_may_use(
    tmp_path: Path, portrait_photo: Path, shared: Path
) -> None:
    need("mediapipe-face-landmarker")
    clip = write(tmp_path / "clip.mp4", [read_image(portrait_photo)[:256, 96:352]] * 4)
    asked = ["video", "evaluate", str(clip), str(clip), "-m", "blendshapes", "--people", "one", "--no-identity"]
    done = CliRunner().invoke(
        main, [*asked, "--landmarks", "mesh", "--commercial-only", "--out", str(tmp_path / "out"), "-q"]
    )
    assert done.exit_code == 0, done.output
    summary = json.loads((tmp_path / "out" / "video.json").read_text())
    assert summary["clips"][0]["coverage"]["ok"] == 4 and summary["identity"] is None
    assert "mediapipe-face-landmarker" in summary["fingerprints"]["faces"] and "dlib-68" not in json.dumps(summary)
    assert summary["settings"]["landmarks"] == "mesh" and (tmp_path / "out" / "report.html").is_file()


@pytest.mark.parametrize("probe", ["agreement", "protocols", "plot"])
def test_probes_refuse_what_the_landmarks_or_the_terms_do_not_allow(probe: str, tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "ratings.csv").write_text("image,smile\na.png,1\nb.png,2\nc.png,3\n")
    data = ["tsne", str(tmp_path / "faces")] if probe == "plot" else [str(tmp_path / "faces")]
    data += ["--protocol", "10-nn"] * (probe == "protocols")  # the others need torch
    asked = ["probe", probe, *data, *(["--out", str(tmp_path / "x.png")] if probe == "plot" else []), "-m"]
    for more, words in (
        (["lm68", "--landmarks", "none"], "lm68 can't be measured with landmarks 'none'"),
        (["default", "--commercial-only"], "only weights that allow commercial use were asked for"),
    ):
        refused = CliRunner().invoke(main, [*asked, *more])
        assert refused.exit_code and words in refused.stderr, refused.output
