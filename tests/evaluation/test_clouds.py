"""Scores of all rows at once: expression FID and ID retrieval, against the same vectors taken together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from exprmetric_cli.main import main
from scipy.linalg import sqrtm
from swaps import small_folder

from exprmetric.errors import InputError
from exprmetric.evaluation.clouds import cloud_lines
from exprmetric.evaluation.embed import embed_images
from exprmetric.evaluation.evaluate import evaluate
from exprmetric.evaluation.large.private import CLOUDS
from exprmetric.evaluation.large.shards import merge
from exprmetric.evaluation.privacy import recogniser
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.inputs.triplets import ROLES, Triplet, read_triplets

pytestmark = pytest.mark.slow
SCORES = ("efid", "id_retrieval")


@pytest.fixture(scope="module")
def swaps(tmp_path_factory: pytest.TempPathFactory) -> list[Triplet]:
    """Eight real swaps of five people, and one whose picture shows nobody."""
    some = list(read_triplets(small_folder(tmp_path_factory)))[:8]
    blank = tmp_path_factory.mktemp("blank") / "blank.png"
    from PIL import Image

    Image.new("RGB", (200, 200)).save(blank)
    return [*some, Triplet("blank", some[0].target, some[0].source, blank)]


@pytest.fixture(scope="module")
def result(swaps: list[Triplet], tmp_path_factory: pytest.TempPathFactory) -> EvaluationResult:
    out = tmp_path_factory.mktemp("clouds") / "out"
    evaluate(swaps, ["lm51"], detector="dlib", scores=SCORES, out=out)
    assert {p.name for p in out.iterdir()} == {"summary.json", "triplets.csv", "triplets.parquet"}
    return EvaluationResult.load(out)


def vectors(swaps: list[Triplet], method: str) -> dict[str, npt.NDArray[np.float64]]:
    """(8, D) by role, of the swaps that can be measured."""
    found = {}
    for role in ROLES:
        embedded = embed_images([getattr(t, role) for t in swaps[:8]], method, detector="dlib")
        found[role] = np.array([e.vector for e in embedded], np.float64)
    return found


def test_the_expression_fid_is_that_of_the_vectors_by_scipy(result: EvaluationResult, swaps: list[Triplet]) -> None:
    found = vectors(swaps, "lm51")
    a, b = found["target"], found["swapped"]
    root = sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False) + 0j).real
    spread = np.trace(np.cov(a, rowvar=False)) + np.trace(np.cov(b, rowvar=False)) - 2 * np.trace(root)
    own = result.summary["efid"]["lm51"]
    assert own["n"] == 8 and own["dimension"] == 102
    assert own["value"] == pytest.approx(((a.mean(0) - b.mean(0)) ** 2).sum() + spread, rel=2e-3)
    assert own["halves"] > 0


def test_a_swapped_face_is_found_if_its_own_source_is_nearest(result: EvaluationResult, swaps: list[Triplet]) -> None:
    found = vectors(swaps, recogniser())
    unit = {role: v / np.linalg.norm(v, axis=1, keepdims=True) for role, v in found.items()}
    gallery, own = np.unique(unit["source"], axis=0, return_inverse=True)
    nearest = (unit["swapped"] @ gallery.T).argmax(1)
    told = result.summary["id_retrieval"]
    assert told["n"] == 8 and told["gallery_size"] == len(gallery) < 8
    assert told["rank1"]["value"] == pytest.approx((nearest == own.ravel()).mean())
    low, high = told["rank1"]["ci95"]
    assert low <= told["rank1"]["value"] <= high
    assert result.summary["methods"].keys() == {"lm51"}


def test_lines_say_how_many_samples_and_in_which_direction_the_bias_goes(result: EvaluationResult) -> None:
    retrieval, fid = cloud_lines(result.summary)
    assert "8 swapped faces are nearest to their own source" in retrieval
    assert "from 8 faces of 102 numbers, too large by what few faces add" in fid
    assert cloud_lines({}) == []


def test_shards_merge_to_the_same_and_no_vector_stays(
    result: EvaluationResult, swaps: list[Triplet], tmp_path: Path
) -> None:
    folders = [tmp_path / str(i) for i in (1, 2)]
    for i, folder in enumerate(folders, 1):
        evaluate(swaps, ["lm51"], detector="dlib", scores=SCORES, out=folder, shard=f"{i}/2")
    assert (folders[0] / CLOUDS).stat().st_mode & 0o077 == 0
    merged = merge(folders)
    assert merged.summary["id_retrieval"] == result.summary["id_retrieval"]
    assert merged.summary["efid"] == result.summary["efid"]
    out = tmp_path / "all"
    done = CliRunner().invoke(main, ["merge", *map(str, folders), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert not any((folder / CLOUDS).exists() for folder in folders)
    assert EvaluationResult.load(out).summary["efid"] == result.summary["efid"]


def test_without_a_source_nobody_is_looked_up_and_models_stand_apart(swaps: list[Triplet]) -> None:
    from dataclasses import replace

    some = [replace(t, source=None, model="ab"[i % 2]) for i, t in enumerate(swaps[:4])]
    found = evaluate(some, ["lm51"], detector="dlib", privacy=False, scores=SCORES).summary
    assert found["id_retrieval"]["n"] == 0 and found["id_retrieval"]["rank1"]["value"] is None
    assert {name: part["n"] for name, part in found["efid"]["lm51"]["models"].items()} == {"a": 2, "b": 2}


def test_an_unknown_score_is_refused(swaps: list[Triplet]) -> None:
    with pytest.raises(InputError, match="unknown score 'fid'; known: efid, id_retrieval"):
        evaluate(swaps, ["lm51"], scores=["fid"])
