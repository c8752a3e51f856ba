"""Faces that don't fit into memory lie in a file: the same faces, batches and errors, also after a kill."""

from __future__ import annotations

import io
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from exprmetric.datasets import store
from exprmetric.datasets.alignment import Alignment
from exprmetric.datasets.arrays import FaceArrays
from exprmetric.datasets.clips import joined
from exprmetric.datasets.layouts import FaceDataset, open_dataset

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
COUNT, SIDE = 23, 16
BROKEN = (4, 17)


@pytest.fixture
def part(tmp_path: Path) -> store.Part:
    """Pictures that tell their number, two of which are broken; no face needs to be found."""
    folder = tmp_path / "set" / "images"
    folder.mkdir(parents=True)
    for i in range(COUNT):
        data = io.BytesIO()
        Image.new("RGB", (24, 24), (10 * i, 5 * i, 255 - 10 * i)).save(data, "PNG")
        (folder / f"{i:02d}.png").write_bytes(b"broken" if i in BROKEN else data.getvalue())
    matrix = np.array([[224 / 24, 0.0, 0.0], [0.0, 224 / 24, 0.0]])
    everywhere = np.broadcast_to(matrix, (COUNT, 2, 3)).copy()
    alignment = Alignment(everywhere, np.ones(COUNT, np.bool_), "none", np.zeros((COUNT, 68, 2), np.float32))
    return open_dataset(tmp_path / "set"), alignment


def crops(part: store.Part, cache: Path, color: str = "luma") -> tuple[np.ndarray, list[dict[int, str]]]:
    channels = 3 if color == "rgb" else 1
    return store.crops_of([part, part], cache, crop=224, size=SIDE, color=color, channels=channels, jobs=2)


@pytest.mark.parametrize("color", ["luma", "rgb"])
def test_mapped_faces_are_those_in_memory(
    color: str, part: store.Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory, errors = crops(part, tmp_path / "cache", color)
    assert len(in_memory) == 2 * (COUNT - len(BROKEN)) and not (tmp_path / "cache").exists()
    assert [sorted(e) for e in errors] == [list(BROKEN)] * 2
    monkeypatch.setattr(store, "IN_MEMORY", 100)
    monkeypatch.setattr(store, "CHUNK", 5)
    for _ in range(2):  # filled, then found
        mapped, again = crops(part, tmp_path / "cache", color)
        assert isinstance(mapped, np.memmap) and again == errors
        np.testing.assert_array_equal(mapped, in_memory)
    mapped[:] = 0  # copy on write: the file stays
    np.testing.assert_array_equal(crops(part, tmp_path / "cache", color)[0], in_memory)


def test_a_kill_loses_seconds_and_nothing_is_read_twice_that_was_written_down(
    part: store.Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, errors = crops(part, tmp_path / "cache")
    monkeypatch.setattr(store, "IN_MEMORY", 100)
    monkeypatch.setattr(store, "CHUNK", 5)
    monkeypatch.setattr(store, "SAVED_EVERY", 0.0)
    seen: list[int] = []
    real = FaceDataset.image

    def dies(self: FaceDataset, index: int) -> np.ndarray:
        seen.append(index)
        if len(seen) == 32:
            raise KeyboardInterrupt
        return real(self, index)

    monkeypatch.setattr(FaceDataset, "image", dies)
    with pytest.raises(KeyboardInterrupt):
        crops(part, tmp_path / "cache")
    before = len(seen)
    mapped, again = crops(part, tmp_path / "cache")
    np.testing.assert_array_equal(mapped, expected)
    assert again == errors and len(seen) - before == 2 * COUNT - 28  # 23 and 5 faces were written down
    (state,) = (tmp_path / "cache").glob("*.json")
    state.write_text("{broken")
    np.testing.assert_array_equal(crops(part, tmp_path / "cache")[0], expected)


def faces_of(images: np.ndarray, file: np.ndarray | None = None) -> FaceArrays:
    n = len(images)
    nan = torch.full((n,), float("nan"))
    return FaceArrays(torch.from_numpy(images), torch.arange(n) % 8, nan[:, None].repeat(1, 8), nan, nan, file=file)


def test_threads_that_read_ahead_change_no_batch(
    part: store.Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = faces_of(crops(part, tmp_path)[0])

    def drawn() -> list[torch.Tensor]:
        return [b.images for b in faces.shuffled(4, torch.Generator().manual_seed(3))]

    expected, whole = drawn(), [b.labels for b in faces.ordered(5)]
    monkeypatch.setattr(store, "IN_MEMORY", 100)
    mapped = crops(part, tmp_path / "cache")[0]
    faces = faces_of(mapped, mapped)
    for found, batch in zip(drawn(), expected, strict=True):
        assert torch.equal(found, batch)
    assert torch.equal(torch.cat([b.labels for b in faces.ordered(5)]), torch.cat(whole))


def total(path: str, queue: multiprocessing.Queue[int]) -> None:
    queue.put(int(np.load(path, mmap_mode="r").sum(dtype=np.int64)))


def test_several_processes_read_one_file(part: store.Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "IN_MEMORY", 100)
    mapped, _ = crops(part, tmp_path / "cache")
    (path,) = (tmp_path / "cache").glob("*.npy")
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=total, args=(str(path), queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    sums = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert sums == [int(mapped.sum(dtype=np.int64))] * 2


def test_some_mapped_faces_and_their_luma_are_those_in_memory_and_no_image_is_copied(
    part: store.Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = faces_of(crops(part, tmp_path, "rgb")[0])
    monkeypatch.setattr(store, "IN_MEMORY", 100)
    file = crops(part, tmp_path / "cache", "rgb")[0]
    mapped = faces_of(file, file)
    chosen, again = torch.tensor([7, 3, 19, 0, 3]), torch.tensor([4, 1])
    for change in (
        lambda f: f.subset(chosen),
        lambda f: f.luma(),
        lambda f: f.subset(chosen).luma().subset(again),
        lambda f: f.luma().subset(chosen),
    ):
        expected, found = change(faces), change(mapped)
        assert found.images.data_ptr() == mapped.images.data_ptr()
        assert len(found) == len(expected)
        for one, other in zip(found.ordered(2), expected.ordered(2), strict=True):
            assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)
        assert torch.equal(torch.cat(list(found.blocks(2))), expected.images)


def test_mapped_faces_are_joined_with_others_as_they_are_seen(
    part: store.Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = faces_of(crops(part, tmp_path)[0])
    monkeypatch.setattr(store, "IN_MEMORY", 100)
    file = crops(part, tmp_path / "cache")[0]
    chosen = torch.tensor([9, 2, 5])
    some = faces_of(file, file).subset(chosen)
    assert joined([some]) is some
    both = joined([some, faces])
    assert torch.equal(both.images, torch.cat([faces.images[chosen], faces.images]))
    assert len(both) == len(both.images) == 3 + len(faces)
