"""A cache file that is cut off or damaged is made anew with a word: never a traceback, never other numbers."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from exprmetric.errors import InputError
from exprmetric.io.kept import kept_arrays
from exprmetric.video.faces.table import VideoFaces

WHOLE = {"numbers": np.arange(40, dtype=np.float32).reshape(8, 5), "name": np.array("scrfd")}


def packed(compressed: bool) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **WHOLE)
    return file.getvalue()


CONTENT = {compressed: packed(compressed) for compressed in (False, True)}


def read(path: Path, content: bytes) -> dict[str, npt.NDArray[Any]] | None:
    path.write_bytes(content)
    return kept_arrays(path, *WHOLE)


@pytest.mark.parametrize("compressed", [False, True])
def test_what_was_kept_is_read_again_and_what_is_not_there_is_none(compressed: bool, tmp_path: Path) -> None:
    found = read(tmp_path / "a.npz", CONTENT[compressed])
    assert found is not None
    for name, value in WHOLE.items():
        np.testing.assert_array_equal(found[name], value)
    assert kept_arrays(tmp_path / "absent.npz", *WHOLE) is None


@pytest.mark.parametrize("compressed", [False, True])
def test_wherever_it_is_cut_off_a_warning_tells_and_nothing_is_read(compressed: bool, tmp_path: Path) -> None:
    content = CONTENT[compressed]
    for length in range(0, len(content), 7):
        with pytest.warns(UserWarning, match=r"a\.npz' is damaged and is made anew"):
            assert read(tmp_path / "a.npz", content[:length]) is None


@pytest.mark.parametrize("content", [b"no array", b""], ids=["text", "empty"])
def test_other_content_is_damaged(content: bytes, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert read(tmp_path / "a.npz", content) is None


@given(st.booleans(), st.data())
def test_changed_bytes_never_give_other_numbers(
    tmp_path_factory: pytest.TempPathFactory, compressed: bool, data: st.DataObject
) -> None:
    content = bytearray(CONTENT[compressed])
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = read(tmp_path_factory.mktemp("changed") / "a.npz", bytes(content))
    for name in WHOLE if found else ():
        np.testing.assert_array_equal(found[name], WHOLE[name])


def of_alignment(folder: Path, photo: Path, patch: pytest.MonkeyPatch) -> Callable[[], npt.NDArray[Any]]:
    from exprmetric.datasets import alignment
    from exprmetric.datasets.layouts import open_dataset

    (folder / "data" / "fear").mkdir(parents=True)
    (folder / "data" / "fear" / "1.png").write_bytes(photo.read_bytes())
    return lambda: alignment.align_dataset(open_dataset(folder / "data"), folder, detector="dlib").matrices


def of_teacher(folder: Path, photo: Path, patch: pytest.MonkeyPatch) -> Callable[[], npt.NDArray[Any]]:
    from exprmetric.datasets import teacher
    from exprmetric.datasets.alignment import Alignment
    from exprmetric.datasets.layouts import FaceDataset
    from exprmetric.datasets.samples import Sample
    from exprmetric.io.folders import Files
    from exprmetric.weights import store as weights

    patch.setattr(weights, "find", lambda name: Path(name))
    patch.setattr(teacher, "_label_chunk", lambda *_: np.full((2, 1 + 52), 0.95, np.float32))
    (folder / "1.png").write_bytes(photo.read_bytes())
    dataset = FaceDataset("set", Files(folder), (Sample("1.png", "train", 0), Sample("2.png", "train", 0)))
    aligned = Alignment(np.zeros((2, 2, 3)), np.ones(2, np.bool_), "none", np.zeros((2, 68, 2), np.float32))
    return lambda: teacher.label_dataset(dataset, aligned, folder)


def of_swaps(folder: Path, photo: Path, patch: pytest.MonkeyPatch) -> Callable[[], npt.NDArray[Any]]:
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    from exprmetric.datasets import swapped
    from exprmetric.datasets.arrays import FaceArrays

    nan = torch.full((4,), float("nan"))
    extra = {"points": torch.rand(4, 68, 2), "person": torch.arange(4)}
    images = torch.arange(4).byte()[:, None, None, None].expand(4, 1, 8, 8)
    faces = FaceArrays(images, torch.zeros(4), nan[:, None].repeat(1, 8), nan, nan, (), extra)
    patch.setattr(swapped, "_swap_all", lambda images, *_: (images + 100, np.ones(4, np.bool_)))
    return lambda: swapped.add_swaps(faces, 1.0, 0, folder)[0].extra["swapped"].numpy()


def of_clips(folder: Path, photo: Path, patch: pytest.MonkeyPatch) -> Callable[[], npt.NDArray[Any]]:
    pytest.importorskip("torch", reason="needs the torch extra")
    from exprmetric.datasets import clips
    from exprmetric.datasets.clip_files import Clip

    frames = clips.ClipFrames(
        np.full((2, 8, 8), 7, np.uint8), np.arange(2.0), np.zeros((2, 68, 2), np.float32), faceless=0, problem=""
    )
    patch.setattr(clips, "read_clip", lambda *_, **__: frames)
    clip = Clip(photo.parent, photo.name, "someone")
    return lambda: clips._kept_clip(folder, "dlib", 176, 8, 1, 25.0, "luma", clip).images


def of_descriptors(folder: Path, photo: Path, patch: pytest.MonkeyPatch) -> Callable[[], npt.NDArray[Any]]:
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    from exprmetric.datasets.arrays import FaceArrays
    from exprmetric.training import descriptors

    nan = torch.full((2,), float("nan"))
    faces = FaceArrays(torch.zeros(2, 1, 8, 8).byte(), torch.zeros(2), nan[:, None].repeat(1, 8), nan, nan)
    encoder = torch.nn.Linear(1, 1)
    patch.setattr(descriptors, "open_encoder", lambda *_: (encoder, 8, 8))
    patch.setattr(descriptors, "describe", lambda *_: torch.arange(6.0).reshape(2, 3).half())
    return lambda: descriptors.descriptors("any", faces, 8, folder).numpy()


def of_vectors(folder: Path, photo: Path, patch: pytest.MonkeyPatch) -> Callable[[], npt.NDArray[Any]]:
    from exprmetric.methods import load_method
    from exprmetric.probes.encoders import Bench
    from exprmetric.probes.parts import judged_set

    (folder / "data" / "test" / "fear").mkdir(parents=True)
    (folder / "data" / "train" / "fear").mkdir(parents=True)
    for part in ("test", "train"):
        (folder / "data" / part / "fear" / "1.png").write_bytes(photo.read_bytes())
    rows, method = judged_set(folder / "data", 9, 0).test, load_method("lm68")
    return lambda: Bench(folder, "dlib", jobs=1).encode(rows, [method])["lm68"].vectors


@pytest.mark.parametrize("make", [of_alignment, of_teacher, of_swaps, of_clips, of_descriptors, of_vectors])
def test_a_cut_off_cache_is_made_anew_with_a_word(
    make: Callable[..., Callable[[], npt.NDArray[Any]]],
    portrait_photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result = make(tmp_path, portrait_photo, monkeypatch)
    made = result()
    (path,) = tmp_path.glob("*.npz")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match="is damaged and is made anew"):
        np.testing.assert_array_equal(result(), made)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(result(), made)


@pytest.mark.parametrize("make", [of_alignment, of_teacher, of_vectors])
def test_other_pixels_under_the_same_name_size_and_time_are_computed_anew(
    make: Callable[..., Callable[[], npt.NDArray[Any]]],
    portrait_photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photo = tmp_path / "photo.bmp"
    image = np.asarray(Image.open(portrait_photo).convert("RGB").resize((256, 256)))
    Image.fromarray(image).save(photo)
    result = make(tmp_path, photo, monkeypatch)
    made = result()
    assert len(list(tmp_path.glob("*.npz"))) == 1
    Image.fromarray(np.roll(image, 16, axis=1)).save(tmp_path / "moved.bmp")
    for path in (p for p in tmp_path.rglob("1.png") if "train" not in p.parts):
        before = path.stat()
        path.write_bytes((tmp_path / "moved.bmp").read_bytes())
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_size == before.st_size
    again = result()
    assert len(list(tmp_path.glob("*.npz"))) == 2
    assert make is of_teacher or not np.array_equal(again, made)


def test_faces_of_a_video_whose_bytes_are_damaged_are_refused_by_name(tmp_path: Path) -> None:
    for compressed in CONTENT.values():
        content = bytearray(compressed)
        content[70:90] = bytes(20)
        (tmp_path / "faces.npz").write_bytes(content)
        with pytest.raises(InputError, match=r"faces\.npz' can't be read as the faces of a video"):
            VideoFaces.load(tmp_path / "faces.npz")
