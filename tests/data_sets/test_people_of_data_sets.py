"""People of two data sets are never one, whatever their names; in every recipe that tells people apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from exprmetric.datasets import clips, teacher
from exprmetric.datasets.alignment import Alignment
from exprmetric.datasets.arrays import Annotate
from exprmetric.datasets.clip_files import Clip
from exprmetric.datasets.layouts import FaceDataset, open_datasets
from exprmetric.training.recipes import default, disentangle, distil

pytestmark = pytest.mark.torch


def data_set(folder: Path, people: str) -> Path:
    folder.mkdir(parents=True)
    rows = [f"{i}.png,{name.strip()},fear" for i, name in enumerate(people.split(","))]
    (folder / "labels.csv").write_text("\n".join(["image,person,emotion", *rows]))
    return folder


def of_default(monkeypatch: pytest.MonkeyPatch) -> Annotate:
    """The one that `default` gives to `load_faces`."""
    given: list[Annotate] = []
    monkeypatch.setattr(default, "load_faces", lambda *_, annotate, **__: given.append(annotate) or {})
    blank = np.zeros((9, 52), np.float32)
    monkeypatch.setattr(teacher, "label_dataset", lambda *_, **__: blank)
    default.Default.load([], default.DefaultConfig(pretrained=False), Path())
    return given[0]


ANNOTATE: dict[str, Callable[[pytest.MonkeyPatch], Annotate]] = {
    "default": of_default,
    "distil": lambda _: distil.Distil.annotate,
    "disentangle": lambda _: disentangle.Disentangle.annotate,
    "contrastive": lambda _: clips.annotate_photographs(176, 64),
}


def persons(annotate: Annotate, dataset: FaceDataset) -> npt.NDArray[np.int64]:
    count = len(dataset.samples)
    zeros = np.zeros((count, 68, 2), np.float32)
    aligned = Alignment(np.zeros((count, 2, 3)), np.ones(count, np.bool_), "none", zeros)
    return annotate(dataset, aligned, list(range(count)))["person"].astype(np.int64)


@pytest.mark.parametrize("recipe", ANNOTATE)
@pytest.mark.parametrize("second", ["b/set", "a/other"], ids=["both named set", "other names"])
def test_people_of_two_data_sets_are_never_one(
    recipe: str, second: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [data_set(tmp_path / "a" / "set", "Ann,Ben,Ann,"), data_set(tmp_path / second, "Ann,Cid,Cid,")]
    first, other = (persons(ANNOTATE[recipe](monkeypatch), d) for d in open_datasets(paths))
    assert first[0] == first[2] != first[1] and other[1] == other[2] != other[0]
    assert not {*first[:3]} & {*other[:3]}  # neither Ann and Ann nor Ann and Cid, who are each the first by name
    unknown = [first[3], other[3]]
    assert unknown == [-1, -1] if recipe != "contrastive" else len({*unknown, *first[:3], *other[:3]}) == 6


def test_the_same_data_set_named_twice_has_the_same_people(tmp_path: Path) -> None:
    path = data_set(tmp_path / "set", "Ann,Ben")
    one, two = open_datasets([path, tmp_path / "." / "set"])
    assert one.name == two.name == "set"
    assert one.persons([0, 1]).tolist() == two.persons([0, 1]).tolist()


def test_people_of_the_clips_of_two_folders_of_one_name_are_never_one(tmp_path: Path) -> None:
    read = clips.ClipFrames(
        np.zeros((1, 8, 8), np.uint8), np.zeros(1), np.zeros((1, 68, 2), np.float32), faceless=0, problem=""
    )
    found = [
        Clip(tmp_path / side / "videos", f"{who}/1.mp4", who) for side, who in (("a", "1"), ("a", "1"), ("b", "1"))
    ]
    numbers = clips._arrays([0, 1, 2], found, [read] * 3, torch.device("cpu")).extra["person"].tolist()
    assert numbers[0] == numbers[1] != numbers[2]
