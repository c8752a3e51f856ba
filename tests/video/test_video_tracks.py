"""Faces followed through clips: who is who, what lies between two looks, and that only the clip decides the numbers."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from clips import Actor, write

from exprmetric.errors import InputError, VideoError
from exprmetric.faces import FaceFinder, load_detector
from exprmetric.faces.detection import Detection
from exprmetric.io.video import Frame, frames
from exprmetric.video.faces import follow as following
from exprmetric.video.faces.follow import Seen, follow
from exprmetric.video.faces.table import ROWS, VideoFaces
from exprmetric.video.faces.tracks import track_faces

Image = npt.NDArray[np.uint8]
SCRIPT = list[dict[str, tuple[float, float]]]
"""For each frame, where who stands: name → centre of a box of 40 px."""

FACES = {name: np.random.default_rng(i).integers(0, 256, (56, 56), np.uint8) for i, name in enumerate("abc")}
FACES["A"] = 255 - FACES["a"]  # a in another light: another picture, the same person
WHO = {"a": [0.0, 0.0], "A": [0.1, 0.0], "b": [1.0, 0.0], "c": [0.0, 1.0]}


class Stage:
    """Paints a script, and stands in for detector and identity network, which read who is where off the script."""

    name, fingerprint, aligned = "stage", "stage", False

    def __init__(self, script: SCRIPT) -> None:
        self.script = script
        self.looks: list[int] = []
        self.asked = 0

    def frames(self) -> Iterator[Frame]:
        for i, faces in enumerate(self.script):
            image = np.full((200, 400, 3), 90, np.uint8)
            for name, (x, y) in faces.items():
                image[int(y) - 28 : int(y) + 28, int(x) - 28 : int(x) + 28] = FACES[name][..., None]
            image[0, 0] = i
            yield Frame(i, i / 25, image)

    def detect(self, image: Image) -> list[Detection]:
        at = int(image[0, 0, 0])
        self.looks.append(at)
        boxes = [np.array([x - 20, y - 20, x + 20, y + 20], float) for x, y in self.script[at].values()]
        return [Detection(b, 1.0, b + 1, np.stack([b[:2]] * 5)) for b in boxes]

    def identify(self, image: Image, detection: Detection) -> npt.NDArray[np.float32]:
        self.asked += 1
        centre = (detection.box[:2] + detection.box[2:]) / 2
        faces = self.script[int(image[0, 0, 0])]
        name = next(n for n, c in faces.items() if np.allclose(c, centre))
        return np.array(WHO[name], np.float32)

    def follow(self, every: int = 1, jobs: int = 2, ahead: int = 4) -> list[tuple[Frame, list[Seen]]]:
        with ThreadPoolExecutor(jobs) as pool:
            return list(follow(self.frames(), self, self.identify, pool, every=every, ahead=ahead))


def tracks(found: list[tuple[Frame, list[Seen]]]) -> list[list[int]]:
    return [[s.track for s in seen] for _, seen in found]


def test_between_two_looks_boxes_move_evenly() -> None:
    stage = Stage([{"a": (50 + 3 * i, 100), "b": (300 - 2 * i, 100)} for i in range(14)])
    found = stage.follow(every=4)
    assert [f.index for f, _ in found] == list(range(14))
    assert sorted(stage.looks) == [0, 4, 8, 12, 13]  # the last frame has no look behind it
    assert tracks(found) == [[0, 1]] * 14 and stage.asked == 0
    for i, (_, seen) in enumerate(found):
        assert seen[0].detection.box == pytest.approx([30 + 3 * i, 80, 70 + 3 * i, 120])
        assert seen[0].detection.landmark_box == pytest.approx(seen[0].detection.box + 1)
        assert [s.detected for s in seen] == [i in (0, 4, 8, 12, 13)] * 2


def test_where_a_face_comes_or_goes_every_frame_is_looked_at() -> None:
    stage = Stage([{"a": (50, 100), **({"b": (300, 100)} if 5 <= i <= 9 else {})} for i in range(17)])
    found = stage.follow(every=4)
    assert sorted(stage.looks) == [0, 4, 5, 6, 7, 8, 9, 10, 11, 12, 16]
    assert tracks(found) == [[0, 1] if 5 <= i <= 9 else [0] for i in range(17)]


def test_a_cut_to_another_face_in_the_same_place_is_another_track() -> None:
    stage = Stage([{"a" if i < 6 else "b": (200, 100)} for i in range(12)])
    assert tracks(stage.follow(every=4)) == [[0]] * 6 + [[1]] * 6


def test_another_light_is_the_same_person() -> None:
    stage = Stage([{"a" if i < 6 else "A": (200, 100)} for i in range(12)])
    assert tracks(stage.follow(every=2)) == [[0]] * 12
    assert stage.asked > 0


def test_a_head_that_jumps_keeps_its_track() -> None:
    stage = Stage([{"a": (50 if i < 6 else 300, 100), "c": (180, 100)} for i in range(12)])
    assert tracks(stage.follow(every=2)) == [[0, 1]] * 12


def test_nothing_lies_between_two_shots() -> None:
    stage = Stage([{"a": (100 if i < 6 else 300, 100)} for i in range(12)])
    found = stage.follow(every=4)
    assert [seen[0].detection.box[0] for _, seen in found] == [80] * 6 + [280] * 6
    assert tracks(found) == [[0]] * 12


def test_two_who_change_places_between_shots_are_told_apart() -> None:
    stage = Stage(
        [{"a": (100, 100), "b": (300, 100)} if i < 6 else {"b": (100, 100), "a": (300, 100)} for i in range(12)]
    )
    found = stage.follow(every=1)
    assert [seen[0].detection.box[0] for _, seen in found] == [80] * 6 + [280] * 6


@pytest.mark.parametrize(("gone", "same"), [(20, True), (40, False)])
def test_a_track_waits_a_second(gone: int, same: bool) -> None:
    stage = Stage([{} if 5 <= i < 5 + gone else {"a": (200, 100)} for i in range(50)])
    found = [t for t in tracks(stage.follow()) if t]
    assert found[-1] == ([0] if same else [1])
    assert following.PATIENCE == 1.0


@pytest.mark.parametrize("every", [1, 3])
def test_threads_do_not_change_what_is_followed(every: int) -> None:
    script: SCRIPT = [{"a": (50 + i, 100), **({"b": (300, 100)} if i % 7 < 4 else {})} for i in range(30)]

    def told(jobs: int, ahead: int) -> list[tuple[int, int, list[float]]]:
        found = Stage(script).follow(every, jobs, ahead)
        return [(f.index, s.track, s.detection.box.tolist()) for f, seen in found for s in seen]

    assert told(1, 1) == told(4, 8)


def test_no_frames_and_no_faces() -> None:
    assert Stage([]).follow() == []
    assert tracks(Stage([{}] * 5).follow(every=2)) == [[]] * 5


# with a real face


@pytest.fixture(scope="module")
def actor(portrait_photo: Path) -> Actor:
    return Actor(portrait_photo)


@pytest.fixture(scope="module")
def clip(actor: Actor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 frames with a face; the 9th to 12th are empty."""
    images = actor.play(np.linspace(0, 1, 24).tolist())
    images[8:12] = [np.full_like(images[0], 90)] * 4
    return write(tmp_path_factory.mktemp("clip") / "clip.mp4", images)


@pytest.fixture(scope="module")
def followed(clip: Path) -> VideoFaces:
    return track_faces(clip, ["default", "lm51"], detector="dlib", jobs=2)


def test_every_frame_is_accounted_for(followed: VideoFaces) -> None:
    assert followed.frames_total == 24 and followed.frames_without_face == 4
    assert followed.frame.tolist() == [*range(8), *range(12, 24)] and set(followed.track) == {0}
    assert np.allclose(followed.time, followed.frame / 25, atol=1e-3)
    assert followed.problem == "" and followed.rate == 25 and (followed.width, followed.height) == (256, 256)


def test_between_looks_the_landmarks_are_the_frames_own(followed: VideoFaces, clip: Path) -> None:
    finder = FaceFinder(load_detector("dlib"))
    assert not followed.detected.all() and followed.detected.any()
    for frame in frames(clip):
        rows = np.flatnonzero(followed.frame == frame.index)
        if len(rows):
            own = finder.find(frame.image).landmarks
            apart = np.linalg.norm(followed.landmarks[rows[0]] - own, axis=1).mean()
            assert apart < 0.03 * np.linalg.norm(own[45] - own[36])


def test_vectors_are_near_those_of_single_pictures(followed: VideoFaces, clip: Path) -> None:
    from exprmetric.methods import load_method

    method, finder = load_method("default"), FaceFinder(load_detector("dlib"))
    pictures = {f.index: f.image for f in frames(clip)}
    alone = method.represent([finder.find(pictures[int(i)]) for i in followed.frame])
    vectors = followed.vectors["default"]
    apart = np.linalg.norm(vectors - alone, axis=1)
    assert np.median(apart) < 0.2 and np.isfinite(vectors).all()
    assert np.linalg.norm(vectors[0] - vectors[-1]) > 2 * np.median(apart)  # the grin is more than the way there


def test_numbers_do_not_depend_on_threads(followed: VideoFaces, clip: Path) -> None:
    again = track_faces(clip, ["default", "lm51"], detector="dlib", jobs=1)
    assert np.array_equal(again.landmarks, followed.landmarks) and np.array_equal(again.yaw, followed.yaw)
    for name in ("default", "lm51"):
        assert np.allclose(again.vectors[name], followed.vectors[name], atol=1e-6)
    assert again.fingerprints == followed.fingerprints and set(again.fingerprints) == {"default", "lm51", "faces"}


def test_quality_is_measured_on_every_face(followed: VideoFaces) -> None:
    assert (followed.sharpness > 3).all() and (np.abs(followed.yaw) < 20).all()


def test_sparse_methods_read_some_faces(clip: Path) -> None:
    found = track_faces(clip, ["identity", "lm51"], detector="dlib", sparse={"identity": 5}, every=2)
    known = np.isfinite(found.vectors["identity"]).all(axis=1)
    assert found.frames_total == 12 and np.flatnonzero(known).tolist() == list(range(0, len(found), 5))
    assert np.isfinite(found.vectors["lm51"]).all()


def test_a_damaged_video_keeps_its_good_frames(actor: Actor, tmp_path: Path) -> None:
    data = write(tmp_path / "whole.mkv", actor.play([0.0] * 40)).read_bytes()
    path = tmp_path / "cut.mkv"
    path.write_bytes(data[: int(len(data) * 0.7)])
    found = track_faces(path, ["lm51"], detector="dlib", detect_every=4)
    assert "cut.mkv" in found.problem
    assert 0 < found.frames_total < 40 and len(found) == found.frames_total


def test_videos_without_faces_give_no_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "empty.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 5)
    found = track_faces(path, ["default", "lm51"], detector="dlib")
    assert len(found) == 0 and found.frames_total == found.frames_without_face == 5
    assert found.vectors["default"].shape[1] > 0 and VideoFaces.load(found.save(tmp_path / "f.npz")).frames_total == 5


def test_a_long_video_on_disk_is_the_same_as_in_memory(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from exprmetric.video.faces import gather, spool

    found = track_faces(clip, ["lm51"], detector="dlib", every=2)
    monkeypatch.setattr(gather, "BATCH", 3)
    monkeypatch.setattr(spool, "KEPT_BYTES", 2000)
    again = track_faces(clip, ["lm51"], detector="dlib", every=2)
    assert not again.landmarks.flags.writeable  # it is mapped from a file
    for name in ROWS:
        assert np.array_equal(getattr(again, name), getattr(found, name)), name
    assert np.array_equal(again.vectors["lm51"], found.vectors["lm51"])


def test_wrong_calls_are_refused(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="detect_every"):
        track_faces(clip, detect_every=0)
    with pytest.raises(VideoError, match="missing"):
        track_faces(tmp_path / "missing.mp4")
