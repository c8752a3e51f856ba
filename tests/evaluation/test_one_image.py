"""One image neither takes a run down nor distorts it: its own row says what is wrong, and the others are measured."""

from __future__ import annotations

import errno
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from swaps import small_folder

from exprmetric import evaluate, evaluate_triplet
from exprmetric.comparing.contestants import contestants
from exprmetric.errors import ExprmetricError, InputError, LowQualityError, WeightsHashError
from exprmetric.evaluation.embed import embed_images
from exprmetric.evaluation.large.journal import FOLDER
from exprmetric.evaluation.large.shards import merge
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.faces import Face
from exprmetric.inputs.triplets import ROLES, Triplet
from exprmetric.methods import Method
from exprmetric.methods.base import Vectors
from exprmetric.methods.registry import METHODS
from exprmetric.video.faces.tracks import track_faces

ODD = 181
"""Width, px, of the image that is not as the others."""


class Brightness(Method):
    """The mean colour of the crop, and what a test does to the faces of odd images."""

    name, template, dimension = "brightness", "eyes70", 3
    made = itertools.count()

    def __init__(self, odd: Callable[[Vectors], Vectors]) -> None:
        self.odd, self.number = odd, next(self.made)

    @property
    def fingerprint(self) -> str:
        return f"brightness:{self.number}"

    def represent(self, faces: Sequence[Face]) -> Vectors:
        found = [face.crop(self.template).mean((0, 1)) for face in faces]
        return np.array([self.odd(v) if f.size[1] == ODD else v for v, f in zip(found, faces, strict=True)], np.float32)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """How all of this is measured; where faces are is found once."""
    return {"detector": "dlib", "identity": False, "cache": tmp_path_factory.mktemp("cache")}


@pytest.fixture
def method(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Vectors], Vectors]], None]:
    return lambda odd: monkeypatch.setitem(METHODS, "brightness", lambda provider: Brightness(odd))


@pytest.fixture(scope="module")
def triplets(tmp_path_factory: pytest.TempPathFactory) -> list[Triplet]:
    """Four swaps; the swapped image of the second is `ODD` px wide."""
    folder, odd = small_folder(tmp_path_factory), tmp_path_factory.mktemp("odd") / "odd.png"
    names = sorted(p.name for p in (folder / "target").iterdir())[:4]
    rows = [[folder / role / name for role in ROLES] for name in names]
    with Image.open(rows[1][2]) as image:
        image.resize((ODD, round(image.height * ODD / image.width))).save(odd)
    rows[1][2] = odd
    return [Triplet(str(i), *row) for i, row in enumerate(rows)]


def infinite(vector: Vectors) -> Vectors:
    return np.append(vector[:2], np.inf)


@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan])
def test_a_vector_that_is_not_finite_is_a_row_of_low_quality(
    triplets: list[Triplet], plain: dict[str, Any], method: Callable[..., None], number: float
) -> None:
    method(lambda vector: np.append(vector[:2], number))
    result = evaluate(triplets, ["brightness"], **plain)
    assert [r["status"] for r in result.triplets] == ["ok", "low_quality", "ok", "ok"]
    assert result.triplets[1]["brightness.t2c"] is None
    for word in ("swapped", "odd.png", "brightness", "1 of its vector's 3 numbers are not finite"):
        assert word in result.triplets[1]["reason"]
    good = [r for r in result.triplets if r["status"] == "ok"]
    scores = result.summary["methods"]["brightness"]
    assert scores["n"] == 3
    assert scores["mean_t2c"]["value"] == pytest.approx(np.mean([r["brightness.t2c"] for r in good]), rel=1e-12)
    assert scores["ratio"]["value"] == np.mean([r["brightness.t2c"] < r["brightness.s2c"] for r in good])


def test_vectors_that_an_earlier_run_kept_are_looked_at_too(
    triplets: list[Triplet], plain: dict[str, Any], method: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    method(infinite)
    monkeypatch.setattr(Brightness, "made", itertools.repeat(-1))
    with monkeypatch.context() as patch:  # as it was
        for place in ("methods.each", "evaluation.reading"):
            patch.setattr(f"exprmetric.{place}.finite", lambda name, vector: np.array(vector, np.float32))
        evaluate(triplets, ["brightness"], **plain)
    monkeypatch.setattr(Brightness, "represent", lambda *a: 1 / 0)
    found = evaluate(triplets, ["brightness"], **plain).triplets
    assert [r["status"] for r in found] == ["ok", "low_quality", "ok", "ok"]


def test_a_distance_that_is_not_finite_is_a_row_of_low_quality(
    triplets: list[Triplet], plain: dict[str, Any], method: Callable[..., None]
) -> None:
    method(np.zeros_like)  # finite, and without a direction
    found = evaluate(triplets, ["brightness:cosine", "lm68"], **plain).triplets
    assert [r["status"] for r in found] == ["ok", "low_quality", "ok", "ok"]
    assert "brightness:cosine: the distance t2c is nan" in found[1]["reason"] and "odd.png" in found[1]["reason"]
    assert found[1]["lm68.t2c"] is None and found[0]["lm68.t2c"] > 0


def test_one_triplet_one_vector_and_a_video_have_no_number_that_is_not_finite(
    triplets: list[Triplet], method: Callable[..., None], tmp_path: Path
) -> None:
    method(infinite)
    odd = triplets[1]
    with pytest.raises(LowQualityError, match="swapped: brightness: 1 of its vector's 3 numbers"):
        evaluate_triplet(odd.target, odd.source, odd.swapped, ["brightness"], detector="dlib")
    good, bad = embed_images([odd.target, odd.swapped], "brightness", detector="dlib")
    assert good.vector is not None and (bad.vector, bad.status) == (None, "low_quality")
    for i, image in enumerate((odd.target, odd.swapped)):
        (tmp_path / f"{i}.png").write_bytes(image.read_bytes())
    rows = track_faces(tmp_path, ["brightness"], detector="dlib").vectors["brightness"]
    assert np.isfinite(rows[0]).all() and np.isnan(rows[1]).all()


def test_compare_and_merge_refuse_distances_that_are_not_finite(
    triplets: list[Triplet], plain: dict[str, Any], tmp_path: Path
) -> None:
    for number in (1, 2):
        evaluate(triplets, ["lm68"], out=tmp_path / f"s{number}", shard=f"{number}/2", **plain)
    assert len(merge([tmp_path / "s1", tmp_path / "s2"]).rows) == 4
    whole = evaluate(triplets, ["lm68"], out=tmp_path / "whole", **plain)
    for number in (np.inf, np.nan, None):
        spoil(tmp_path / "whole" / "triplets.parquet", number)
        spoilt = EvaluationResult.load(tmp_path / "whole")
        with pytest.raises(InputError, match=r"whole.*1 of the rows that are ok have no finite lm68.t2c.*'0'"):
            contestants({"as it was": whole, "whole": spoilt})
    spoil(tmp_path / "s1" / "rows.parquet", np.inf)
    reseal(tmp_path / "s1")
    with pytest.raises(InputError, match=r"s1: 1 of the rows that are ok have no finite lm68.t2c"):
        merge([tmp_path / "s1", tmp_path / "s2"])


def spoil(path: Path, number: float | None) -> None:
    table = pq.read_table(path)
    values = [number, *table["lm68.t2c"].to_pylist()[1:]]
    column = pa.array(values, pa.float64(), from_pandas=False)
    pq.write_table(table.set_column(table.column_names.index("lm68.t2c"), "lm68.t2c", column), path)


def reseal(folder: Path) -> None:
    from exprmetric.evaluation.large import shards

    document = json.loads((folder / shards.FILE).read_text())
    del document[shards.SEAL]
    document["rows"] = shards._digest((folder / shards.ROWS).read_bytes())
    (folder / shards.FILE).write_text(
        json.dumps({**document, shards.SEAL: shards._digest(shards._canonical(document))})
    )


def test_whatever_an_image_raises_is_its_own_row(
    triplets: list[Triplet], plain: dict[str, Any], method: Callable[..., None]
) -> None:
    def broken(error: Exception) -> Callable[[Vectors], Vectors]:
        def raises(vector: Vectors) -> Vectors:
            raise error

        return raises

    method(lambda vector: vector)
    sound = evaluate(triplets, ["brightness"], **plain).triplets
    for error in (cv2.error("ssize.width < SHRT_MAX\n"), MemoryError(), ValueError("no such shape"), KeyError(3)):
        method(broken(error))
        found = evaluate(triplets, ["brightness"], **plain).triplets
        assert [r["status"] for r in found] == ["ok", "error", "ok", "ok"]
        kind = "cv2.error" if isinstance(error, cv2.error) else type(error).__name__
        assert f"brightness: {kind}" in found[1]["reason"] and "odd.png" in found[1]["reason"]
        assert [r for r in found if r["status"] == "ok"] == [r for i, r in enumerate(sound) if i != 1]


@pytest.mark.parametrize("step", ["detect", "face"])
def test_so_is_what_its_detection_or_its_landmarks_raise(
    triplets: list[Triplet], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    from exprmetric.faces import FaceFinder

    real = getattr(FaceFinder, step)

    def broken(self: FaceFinder, image: np.ndarray, *more: object) -> object:
        if image.shape[1] == ODD:
            raise cv2.error("too wide")
        return real(self, image, *more)

    monkeypatch.setattr(FaceFinder, step, broken)
    found = evaluate(triplets[1:3], ["lm68"], detector="dlib", identity=False).triplets
    assert [r["status"] for r in found] == ["error", "ok"]
    assert "odd.png" in found[0]["reason"] and "cv2.error: too wide" in found[0]["reason"]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "this machine can't go on: No space left on device"),
        (OSError(errno.EMFILE, "Too many open files"), "this machine can't go on: Too many open files"),
        (WeightsHashError("the file's hash is wrong"), "the file's hash is wrong"),
        (ImportError("libGL.so.1"), "this installation can't go on: ImportError: libGL.so.1"),
    ],
)
def test_a_fault_of_the_machine_stops_the_run_in_one_sentence(
    triplets: list[Triplet],
    plain: dict[str, Any],
    method: Callable[..., None],
    tmp_path: Path,
    error: Exception,
    says: str,
) -> None:
    def raises(vector: Vectors) -> Vectors:
        raise error

    method(raises)
    with pytest.raises(ExprmetricError) as caught:
        evaluate(triplets, ["brightness"], out=tmp_path, block=1, **plain)
    assert str(caught.value) == says
    assert (tmp_path / FOLDER).is_dir()  # the rows before it are kept
