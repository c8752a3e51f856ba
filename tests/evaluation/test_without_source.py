"""Anonymized faces have no source: the same t2c as with one, and no score that would need it, by any way in and out."""

from __future__ import annotations

import csv
import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from exprmetric_cli.main import main
from swaps import assert_same, small_folder

import exprmetric
from exprmetric.comparing.compare import compare
from exprmetric.comparing.contestants import load_contestants
from exprmetric.errors import InputError
from exprmetric.evaluation.evaluate import evaluate
from exprmetric.evaluation.large.shards import merge
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.inputs.templated import triplets_from_template
from exprmetric.inputs.triplets import Triplet, notes_of, read_triplets
from exprmetric.inputs.videos import read_video_triplets
from exprmetric.metrics import per_triplet, preservation_scores
from exprmetric.report.html import report_page

METHODS = ["lm68"]
FAST: dict[str, Any] = {"methods": METHODS, "detector": "dlib", "jobs": 1}


@pytest.fixture(scope="module")
def swaps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six of the classical swaps of the bundled photographs, of two targets."""
    whole, some = small_folder(tmp_path_factory), tmp_path_factory.mktemp("some")
    for path in sorted((whole / "swapped").iterdir())[:6]:
        for role in ("target", "source", "swapped"):
            (some / role).mkdir(exist_ok=True)
            shutil.copy(whole / role / path.name, some / role)
    return some


@pytest.fixture(scope="module")
def whole(swaps: Path) -> EvaluationResult:
    return evaluate(swaps, **FAST)


@pytest.fixture(scope="module")
def pairs(swaps: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without sources, under the names that anonymizers use."""
    root = tmp_path_factory.mktemp("pairs")
    shutil.copytree(swaps / "target", root / "original")
    shutil.copytree(swaps / "swapped", root / "anonymized")
    return root


@pytest.fixture(scope="module")
def alone(pairs: Path) -> EvaluationResult:
    return evaluate(pairs, **FAST)


def manifest(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_a_pair_has_the_t2c_of_its_triplet_and_nothing_that_needs_a_source(
    whole: EvaluationResult, alone: EvaluationResult
) -> None:
    assert [r["lm68.t2c"] for r in alone.triplets] == [r["lm68.t2c"] for r in whole.triplets]
    assert all(r[c] is None for r in alone.triplets for c in ("lm68.s2c", "lm68.s2t", "identity.s2c", "faces_source"))
    scores = alone.summary["methods"]["lm68"]
    assert scores["mean_t2c"] == whole.summary["methods"]["lm68"]["mean_t2c"] and scores["n"] == 6
    absent = {"l2_error", "ratio", "mean_s2c", "mean_s2t", "n_with_source"}
    assert not absent & scores.keys() and "source_pasted" not in scores["anchors"]
    assert scores["anchors"]["nothing_swapped"]["mean_t2c"] == 0.0
    identity, of_whole = alone.summary["identity"], whole.summary["identity"]
    assert identity["mean_t2c"] == of_whole["mean_t2c"] and not {"nearer_to_source", "mean_s2c"} & identity.keys()


def test_files_and_page_of_pairs_have_empty_cells_and_read_back(alone: EvaluationResult, tmp_path: Path) -> None:
    out = alone.save(tmp_path / "out")
    with (out / "triplets.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["lm68.s2c"] for row in rows} == {row["source"] for row in rows} == {row["box_source"] for row in rows}
    assert {row["lm68.s2c"] for row in rows} == {""} and all(float(row["lm68.t2c"]) > 0 for row in rows)
    again = EvaluationResult.load(out)
    assert json.loads(again.to_json()) == json.loads(alone.to_json()) and again.triplets == alone.triplets
    page = report_page(again, jobs=1)
    assert "no image is given" not in page and 'alt="target of' in page and 'alt="source of' not in page


def test_shards_of_pairs_merge_into_the_run_of_all(pairs: Path, alone: EvaluationResult, tmp_path: Path) -> None:
    evaluate(pairs, **FAST, out=tmp_path / "whole")
    shards = [tmp_path / str(i) for i in (1, 2)]
    for i, folder in enumerate(shards, 1):
        evaluate(pairs, **FAST, out=folder, shard=f"{i}/2")
    merge(shards).save(tmp_path / "merged")
    assert_same(tmp_path / "whole", tmp_path / "merged", files=False)


def test_a_mixed_manifest_keeps_both_kinds_and_splits_them(
    swaps: Path, whole: EvaluationResult, alone: EvaluationResult, tmp_path: Path
) -> None:
    rows = [{r: row[r] for r in ("target", "source", "swapped")} | {"id": row["id"]} for row in whole.triplets]
    mixed = [row | {"source": "" if i % 2 else row["source"]} for i, row in enumerate(rows)]
    result = evaluate(manifest(tmp_path / "m.csv", mixed), **FAST)
    assert "3 of 6 rows name no source: they are measured without one" in result.summary["notes"]
    everything, groups = result.summary["methods"]["lm68"], result.summary["groups"]
    assert everything["mean_t2c"] == whole.summary["methods"]["lm68"]["mean_t2c"]
    assert (everything["n"], everything["n_with_source"]) == (6, 3)
    own = evaluate([t for i, t in enumerate(read_triplets(swaps)) if i % 2 == 0], **FAST).summary["methods"]["lm68"]
    for score in ("l2_error", "ratio", "mean_s2c", "mean_s2t"):
        assert everything[score] == groups["with_source"]["methods"]["lm68"][score] == own[score]
    assert "l2_error" not in groups["without_source"]["methods"]["lm68"]
    assert groups["with_source"]["coverage"]["triplets"] == groups["without_source"]["coverage"]["triplets"] == 3
    cells = [(r["lm68.s2c"] is None, r["lm68.t2c"] is None) for r in result.triplets]
    assert cells == [(bool(i % 2), False) for i in range(6)]
    page = report_page(result, jobs=1)
    assert 'alt="source of' in page and "without_source" not in page
    loaded = EvaluationResult.load(result.save(tmp_path / "out"))
    assert json.loads(loaded.to_json()) == json.loads(result.to_json())
    of_models = [
        Triplet(t.id, t.target, None if i % 2 else t.source, t.swapped, "AB"[i % 2])
        for i, t in enumerate(read_triplets(swaps))
    ]
    two = EvaluationResult.load(evaluate(of_models, **FAST).save(tmp_path / "two"))
    assert "ratio" in two.summary["groups"]["A"]["methods"]["lm68"]
    assert "ratio" not in two.summary["groups"]["B"]["methods"]["lm68"]


def test_the_worst_is_counted_for_each_score_among_the_rows_that_have_it(swaps: Path, tmp_path: Path) -> None:
    found = list(read_triplets(swaps))
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    rows = [
        found[0],
        Triplet("pair", found[1].target, None, found[1].swapped),
        Triplet("bad pair", found[1].target, None, bad),
    ]
    result = evaluate(rows, **FAST, on_fail="worst")
    scores, t2c = result.summary["methods"]["lm68"], [r["lm68.t2c"] for r in result.triplets]
    assert (scores["n"], scores["n_with_source"]) == (3, 1)
    assert scores["mean_t2c"]["value"] == pytest.approx((t2c[0] + t2c[1] + max(t2c[:2])) / 3)
    assert scores["l2_error"]["value"] == pytest.approx(
        abs(result.triplets[0]["lm68.s2t"] - result.triplets[0]["lm68.s2c"])
    )


def test_one_pair_is_measured_by_paths_arrays_and_the_command_line(
    pairs: Path, whole: EvaluationResult, tmp_path: Path
) -> None:
    row = whole.triplets[0]
    files = (Path(row["target"]), Path(row["swapped"]))
    found = exprmetric.evaluate_triplet(files[0], None, files[1], METHODS, detector="dlib")
    arrays = [exprmetric.read_image(f) for f in files]
    assert found == exprmetric.evaluate_triplet(arrays[0], None, arrays[1], METHODS, detector="dlib")
    assert found == {"lm68": {"t2c": row["lm68.t2c"]}}
    call = [
        "evaluate",
        "-t",
        str(files[0]),
        "-c",
        str(files[1]),
        "-m",
        "lm68",
        "--detector",
        "dlib",
        "-q",
        "--no-cache",
    ]
    ran = CliRunner().invoke(main, [*call, "--format", "json"])
    assert ran.exit_code == 0, ran.output
    scores = json.loads(ran.stdout)["methods"]["lm68"]
    assert scores["mean_t2c"]["value"] == row["lm68.t2c"] and "ratio" not in scores
    for form in ("table", "markdown", "csv"):
        ran = CliRunner().invoke(main, [*call, "--format", form, "--no-identity"])
        assert ran.exit_code == 0 and "nan" not in ran.stdout.lower()


def test_results_of_pairs_are_compared_by_the_scores_that_they_have(alone: EvaluationResult, tmp_path: Path) -> None:
    folders = [alone.save(tmp_path / name) for name in ("a", "b")]
    (duel,) = compare(load_contestants(folders)).duels
    assert duel.n == 2 and not duel.unpaired  # two targets; swaps of one count once, with their mean
    found = {d.score: d.difference for d in duel.differences}
    assert found["mean_t2c"] == 0.0 and not {"l2_error", "ratio", "nearer_to_source"} & found.keys()


def test_only_a_missing_source_folder_means_no_source(swaps: Path, pairs: Path, tmp_path: Path) -> None:
    found = read_triplets(pairs)
    assert all(t.source is None and not t.problem for t in found) and notes_of(found) == []
    assert [t.id for t in found] == sorted(p.stem for p in (swaps / "target").iterdir())
    root = tmp_path / "lost"
    shutil.copytree(swaps, root)
    lost = sorted((root / "source").iterdir())[0]
    lost.unlink()
    problems = {t.id: t.problem for t in read_triplets(root)}
    assert [i for i, p in problems.items() if p] == [lost.stem] and "no source image" in problems[lost.stem]
    (root / "source").rename(root / "sorces")
    read = read_triplets(root)
    assert all(t.source is None for t in read)
    (note,) = notes_of(read)
    assert "has no source/: its rows are measured without a source. Left out: 'sorces'" in note


@pytest.mark.parametrize("folder", ["target", "swapped"])
def test_targets_and_changed_images_are_never_optional(pairs: Path, folder: str, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir()
    with pytest.raises(InputError, match=r"has no folder .*\(or original/ and anonymized/\)"):
        read_triplets(tmp_path)


def test_names_by_a_template_need_no_source(pairs: Path, swaps: Path) -> None:
    rows = triplets_from_template(pairs / "anonymized", pairs / "original")
    assert len(rows) == 6 and not any(t.problem or t.source for t in rows)
    with pytest.raises(InputError, match="names sources: give their folder"):
        triplets_from_template(pairs / "anonymized", pairs / "original", None, "{target}_{source}.png")
    with pytest.raises(InputError, match=r"\{source\} is missing"):
        triplets_from_template(pairs / "anonymized", pairs / "original", swaps / "source", "{target}.png")


def test_folders_and_manifests_of_videos_need_no_source(tmp_path: Path) -> None:
    for name in ("original/a.mp4", "anonymized/a.mp4", "original/b.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"film")
    rows = read_video_triplets(tmp_path)
    assert [(t.id, t.source, bool(t.problem)) for t in rows] == [("a", None, False), ("b", None, True)]
    table = manifest(tmp_path / "m.csv", [{"target": "original/a.mp4", "swapped": "anonymized/a.mp4"}])
    assert [(t.source, t.problem) for t in read_video_triplets(table)] == [(None, "")]


def test_scores_without_a_source_are_those_of_t2c_alone() -> None:
    t2c = np.array([0.2, 0.4])
    assert preservation_scores(t2c) == {"mean_t2c": pytest.approx(0.3)}
    assert list(per_triplet(t2c)) == ["mean_t2c"]
    with pytest.raises(ValueError, match="belong together"):
        per_triplet(t2c, t2c)


@pytest.mark.torch
@pytest.mark.skipif(find_spec("torchmetrics") is None, reason="needs the torch extra")
class TestTorch:
    """The metric."""

    def metric(self, **more: Any) -> Any:
        from torch_faces import encoder

        from exprmetric.torch import ExpressionPreservation

        return ExpressionPreservation(encoder=encoder(quantise=True), **more)

    def test_it_has_the_same_t2c_without_a_source(self, one_thread: None) -> None:
        import torch
        from torch import nn
        from torch_faces import batch, triplets

        target, source, swapped = (batch(i)[:4] for i in triplets())
        identity = nn.AvgPool2d(56)
        metric, full = self.metric(identity=identity), self.metric(identity=identity)
        full.update(target, source, swapped)
        metric.update(target[:1], None, swapped[:1])
        batch_scores = metric(target[1:], None, swapped[1:])
        scores, expected = metric.compute(), full.compute()
        kept = {"kept", "kept_nothing_swapped"}
        assert set(scores) == set(batch_scores) == {"mean_t2c", "identity_mean_t2c", *kept}
        for name in scores:
            assert torch.isclose(scores[name], expected[name], atol=1e-6)
        with pytest.raises(InputError, match="got 4, 3"):
            metric.update(target, None, swapped[:3])

    def test_scores_that_need_a_source_are_means_over_those_that_have_one(self, one_thread: None) -> None:
        import torch
        from torch_faces import batch, triplets

        target, source, swapped = (batch(i)[:5] for i in triplets())
        metric, full, part = (self.metric(intervals=True) for _ in range(3))
        metric.update(target[:3], source[:3], swapped[:3])
        metric.update(target[3:], None, swapped[3:])
        full.update(target, source, swapped)
        part.update(target[:3], source[:3], swapped[:3])
        scores, of_all, of_three = metric.compute(), full.compute(), part.compute()
        for name in scores:
            expected = of_all if name.startswith("mean_t2c") else of_three
            assert torch.isclose(scores[name], expected[name], atol=1e-6), name
        assert set(scores) == set(of_all)
