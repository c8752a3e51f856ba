"""Scores by anything: columns of the manifest, and what is known of the target; which blendshapes moved."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from exprmetric_cli.main import main
from swaps import small_folder

from exprmetric import embed
from exprmetric.choices import BY, EXPRESSIONS
from exprmetric.errors import InputError
from exprmetric.evaluation.by import MOST, OTHERS, UNKNOWN, by_parts, split_by
from exprmetric.evaluation.evaluate import evaluate
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.evaluation.rows import EXPRESSION, GIVEN, YAW, Rows
from exprmetric.faces.face_mesh import BLENDSHAPES
from exprmetric.inputs.triplets import Triplet, read_triplets
from exprmetric.methods.blendshapes import LEAST, moved


def rows(**columns: list[object]) -> Rows:
    count = len(next(iter(columns.values())))
    plain = {"id": [str(i) for i in range(count)], "status": ["ok"] * count, "model": [""] * count}
    whole = {**plain, **columns}
    return Rows.from_records([dict(zip(whole, values, strict=True)) for values in zip(*whole.values(), strict=True)])


def test_every_row_is_in_one_part_and_a_bin_begins_with_its_lower_edge() -> None:
    parts = split_by(rows(**{YAW: [-14.9, 15.0, -29.9, 30.0, 75.0, None]}), "yaw")
    assert {name: np.flatnonzero(part).tolist() for name, part in parts.items()} == {
        "below 15°": [0],
        "15 to 30°": [1, 2],
        "30 to 60°": [3],
        "60° and more": [4],
        UNKNOWN: [5],
    }
    sizes = split_by(rows(box_target=["0 0 63 20", "10 10 74 20", "0 0 10 300", ""]), "size")
    assert list(sizes) == ["below 64 px", "64 to 128 px", "256 px and more", UNKNOWN]
    faces = split_by(rows(faces_target=[1, 2, 3, 4, None]), "faces")
    assert [part.sum() for part in faces.values()] == [1, 2, 1, 1] and list(faces)[-1] == UNKNOWN
    told = split_by(rows(**{EXPRESSION: ["happiness", None, "neutral", "happiness"]}), "expression")
    assert {name: np.flatnonzero(part).tolist() for name, part in told.items()} == {
        "neutral": [2],
        "happiness": [0, 3],
        UNKNOWN: [1],
    }
    assert set(BY) == {"expression", "yaw", "size", "faces"}


def test_a_columns_values_are_parts_and_rare_ones_stand_together() -> None:
    common = [json.dumps({"who": f"v{i:02d}"}) for i in range(MOST)] * 2
    parts = split_by(rows(**{GIVEN: [*common, json.dumps({"who": "rare"}), json.dumps({"who": ""}), ""]}), "who")
    assert list(parts) == [*(f"v{i:02d}" for i in range(MOST)), OTHERS, UNKNOWN]
    assert sum(part.astype(int) for part in parts.values()).tolist() == [1] * (2 * MOST + 3)
    assert np.flatnonzero(parts[OTHERS]).tolist() == [2 * MOST]
    own = split_by(rows(**{GIVEN: [json.dumps({"who": UNKNOWN}), ""]}), "who")
    assert list(own) == [UNKNOWN, f"({UNKNOWN})"]


def test_several_models_are_split_each_by_itself() -> None:
    some = rows(model=["a", "a", "b", "b"], faces_target=[1, 5, 1, 1])
    found = by_parts(some, ["faces"], lambda part: {"n": int(part.sum())})
    assert found["faces"]["below 2"] == {"n": 3, "models": {"a": {"n": 1}, "b": {"n": 2}}}
    assert found["faces"]["4 and more"] == {"n": 1, "models": {"a": {"n": 1}}}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight real swaps with a column that says nothing of the pictures."""
    folder = small_folder(tmp_path_factory)
    path = tmp_path_factory.mktemp("by") / "swaps.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "target", "source", "swapped", "light"])
        for i, swapped in enumerate(sorted((folder / "swapped").iterdir())[:8]):
            three = [str(folder / role / swapped.name) for role in ("target", "source", "swapped")]
            writer.writerow([swapped.stem, *three, ("day", "night", "")[i % 3]])
    return path


@pytest.fixture(scope="module")
def result(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> EvaluationResult:
    out = tmp_path_factory.mktemp("by-out") / "out"
    evaluate(manifest, ["default"], detector="dlib", identity=False, by=["light", "yaw"], out=out)
    return EvaluationResult.load(out)


@pytest.mark.slow
def test_the_scores_of_a_part_are_those_of_its_rows_alone(result: EvaluationResult, manifest: Path) -> None:
    by = result.summary["by"]
    assert list(by) == ["light", "yaw"] and list(by["light"]) == ["day", "night", UNKNOWN]
    light = [row["light"] for row in csv.DictReader(manifest.open())]
    t2c = np.array([row["default.t2c"] for row in result.triplets])
    for value, name in (("day", "day"), ("night", "night"), (UNKNOWN, "")):
        own = t2c[[word == name for word in light]]
        part = by["light"][value]
        assert part["coverage"]["ok"] == part["methods"]["default"]["n"] == len(own)
        assert part["methods"]["default"]["mean_t2c"]["value"] == pytest.approx(own.mean(), rel=1e-12)
        assert part["methods"]["default"]["fingerprint"] == result.summary["methods"]["default"]["fingerprint"]
    assert sum(part["coverage"]["triplets"] for part in by["yaw"].values()) == len(t2c)
    assert UNKNOWN not in by["yaw"]


@pytest.mark.slow
def test_other_scores_do_not_change_and_shards_merge_to_the_same(
    result: EvaluationResult, manifest: Path, tmp_path: Path
) -> None:
    from exprmetric.evaluation.large.shards import merge

    plain = evaluate(manifest, ["default"], detector="dlib", identity=False)
    assert "by" not in plain.summary and plain.summary["methods"] == result.summary["methods"]
    assert plain.triplets == result.triplets
    for i in (1, 2):
        piece = tmp_path / str(i)
        evaluate(manifest, ["default"], detector="dlib", identity=False, by=["light", "yaw"], out=piece, shard=f"{i}/2")
    assert merge([tmp_path / "1", tmp_path / "2"]).summary["by"] == result.summary["by"]


@pytest.mark.slow
def test_the_table_names_column_and_value(manifest: Path) -> None:
    asked = ["evaluate", str(manifest), "-m", "lm51", "--detector", "dlib", "--no-identity", "--no-cache", "-q"]
    shown = CliRunner().invoke(main, [*asked, "--by", "light", "--by", "size", "--format", "csv"])
    assert shown.exit_code == 0, shown.output
    splits = {row["split"]: int(row["n"]) for row in csv.DictReader(shown.stdout.splitlines())}
    assert splits["light: day"] == 3 and splits["light: night"] == 3 and splits["all"] == 8
    assert any(name.startswith("size: ") for name in splits)


def test_a_column_that_is_not_there_is_told_before_anything_is_measured(manifest: Path) -> None:
    with pytest.raises(InputError, match="has no column 'ligth'"):
        evaluate(manifest, ["default"], by=["ligth"])
    with pytest.raises(InputError, match="say nothing of 'light'"):
        evaluate(read_triplets(manifest), ["default"], by=["light"])
    refused = CliRunner().invoke(main, ["evaluate", "-t", "a", "-c", "b", "--by", "light"])
    assert refused.exit_code == 2 and "only a manifest has columns" in refused.stderr


def test_the_blendshapes_that_moved_most_are_named_with_their_sign() -> None:
    before, after = np.zeros(52), np.zeros(52)
    jaw, smile, brow = (BLENDSHAPES.index(name) for name in ("jawOpen", "mouthSmileLeft", "browInnerUp"))
    before[jaw], after[jaw] = 0.9, 0.49
    before[smile], after[brow] = 0.35, LEAST - 0.01
    assert moved(before, after) == "jawOpen -0.41, mouthSmileLeft -0.35"
    assert moved(after, before) == "jawOpen +0.41, mouthSmileLeft +0.35"
    assert moved(before, before) == "nothing"


@pytest.mark.slow
@pytest.mark.shared
def test_each_row_says_which_blendshapes_moved(
    manifest: Path, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ai_edge_litert")
    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(shared / "weights"))
    evaluate(read_triplets(manifest)[:2], ["blendshapes"], detector="dlib", identity=False, out=tmp_path)
    rows = EvaluationResult.load(tmp_path).triplets
    assert all(row["blendshapes.moved"] for row in rows)
    assert "blendshapes.moved" in (tmp_path / "triplets.csv").read_text().splitlines()[0]


def test_scores_are_split_by_what_the_targets_encoder_sees(manifest: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"detector": "dlib", "identity": False}
    some = read_triplets(manifest)[3:5]  # of two targets
    lost = Triplet("lost", tmp_path / "absent.png", some[0].source, some[0].swapped)
    found = evaluate([*some, lost], ["lm68"], by=["expression"], **options)
    told = [embed(str(t.target), "default-probabilities", detector="dlib") for t in some]
    names = [EXPRESSIONS[int(np.argmax(probabilities))] for probabilities in told]
    by = found.summary["by"]["expression"]
    assert {name: part["methods"]["lm68"]["n"] for name, part in by.items()} == {**Counter(names), UNKNOWN: 0}
    assert list(found.summary["methods"]) == ["lm68"] and by[names[0]]["methods"]["lm68"]["mean_t2c"]["value"]
    assert names == ["happiness", "neutral"]
    kept = {name: part["methods"]["lm68"]["kept"]["value"] for name, part in by.items()}
    assert kept[UNKNOWN] is None
    assert [kept[name] for name in names] == pytest.approx([r["lm68.kept"] for r in found.triplets[:2]])
