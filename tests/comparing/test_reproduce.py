"""A saved result is measured again: the same, or what changed is named."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from exprmetric_cli.main import main
from PIL import Image

import exprmetric
from exprmetric.comparing.reproduce import DIFFERS, reproduce
from exprmetric.errors import InputError
from exprmetric.evaluation.evaluate import evaluate
from exprmetric.evaluation.large.shards import merge
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.faces.alignment import EYES, similarity, warp
from exprmetric.inputs.triplets import ROLES, read_triplets
from exprmetric.io.images import read_image

FAST: dict[str, Any] = {"detector": "none", "identity": False}
COUNT = 4
PEOPLE = (
    [[492.0, 320.3], [540.0, 333.7]],
    [[1149.2, 327.8], [1192.3, 324.8]],
    [[292.3, 213.5], [321.2, 195.2]],
    [[761.5, 398.0], [800.7, 403.8]],
    [[916.0, 119.0], [950.2, 115.5]],
)
"""Eye centres of five people on the group photograph."""


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory, group_photo: Path) -> Path:
    """A folder of four aligned swaps: mixtures of two real faces."""
    folder, image = tmp_path_factory.mktemp("few"), read_image(group_photo)
    faces = [warp(image, similarity(eyes, EYES)).astype(float) for eyes in PEOPLE]
    for i in range(COUNT):
        three = (faces[i], faces[i + 1], 0.6 * faces[i] + 0.4 * faces[i + 1])
        for role, pixels in zip(ROLES, three, strict=True):
            (folder / role).mkdir(exist_ok=True)
            Image.fromarray(pixels.round().astype(np.uint8)).save(folder / role / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def measured(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its result, of the command line."""
    out = tmp_path_factory.mktemp("measured") / "result"
    command = [
        "evaluate",
        str(few),
        "--detector",
        "none",
        "--no-identity",
        "-m",
        "lm51",
        "--no-cache",
        "--out",
        str(out),
        "-q",
    ]
    assert CliRunner().invoke(main, command).exit_code == 0
    return out


@pytest.fixture
def own(few: Path, measured: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Copies of both, to be changed."""
    return Path(shutil.copytree(few, tmp_path / "few")), Path(shutil.copytree(measured, tmp_path / "result"))


def said(result: Path, *more: str) -> tuple[int, list[str]]:
    ran = CliRunner().invoke(main, ["reproduce", str(result), "-q", *more])
    return ran.exit_code, (ran.stdout + ran.stderr).splitlines()


def test_a_result_says_how_it_was_made_and_of_which_bytes(few: Path, measured: Path) -> None:
    result = EvaluationResult.load(measured)
    summary = result.summary
    assert summary["command"].startswith(f"exprmetric evaluate {few} --detector none")
    assert summary["input"]["name"] == str(few)
    assert (summary["input"]["triplets"], summary["input"]["images"]) == (COUNT, len(contents(few)))
    assert summary["settings"]["methods"] == ["lm51"]
    (points,) = (digest for name, digest in summary["weights"].items() if name.startswith("dlib-68"))
    assert len(points) == 64
    for row in result.triplets:
        for role in ROLES:
            assert row[f"sha256_{role}"] == hashlib.sha256(Path(row[role]).read_bytes()).hexdigest()
    assert summary["input"]["sha256"] in (measured / "report.html").read_text()
    assert "sha256_target" not in (measured / "triplets.csv").read_text()


def contents(folder: Path) -> set[bytes]:
    return {p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_digest_of_an_input_is_that_of_its_contents_wherever_it_lies_and_in_however_many_pieces(
    few: Path, measured: Path, own: tuple[Path, Path], tmp_path: Path
) -> None:
    digest = EvaluationResult.load(measured).summary["input"]["sha256"]
    moved = evaluate(own[0], ["lm51"], out=tmp_path / "moved", **FAST)
    assert moved.summary["input"]["sha256"] == digest
    assert moved.summary["command"] == (
        f"exprmetric.evaluate({str(own[0])!r}, methods=['lm51'], detector='none', identity=False)"
    )
    pieces = [tmp_path / "1", tmp_path / "2"]
    for i, out in enumerate(pieces):
        evaluate(few, ["lm51"], out=out, shard=f"{i + 1}/2", **FAST)
    joined = merge(pieces, command="exprmetric merge 1 2")
    assert joined.summary["input"] == {**moved.summary["input"], "name": str(few)}
    assert joined.summary["command"] == "exprmetric merge 1 2"
    assert [r["sha256_swapped"] for r in joined.triplets] == [r["sha256_swapped"] for r in moved.triplets]
    swapped = next((own[0] / "swapped").iterdir())
    swapped.write_bytes(swapped.read_bytes() + b"\0")  # PNG readers pass it over
    assert evaluate(own[0], ["lm51"], **FAST).summary["input"]["sha256"] != digest


def test_measured_again_it_is_the_same_digit_by_digit(measured: Path) -> None:
    before = {p.name: p.read_bytes() for p in measured.iterdir()}
    status, lines = said(measured)
    assert (status, lines[-1]) == (0, "same: all rows and scores, digit by digit")
    assert {"Versions: the same.", "Weights: the same.", "Images: the same."} <= set(lines)
    assert {p.name: p.read_bytes() for p in measured.iterdir()} == before


def test_the_row_of_a_changed_image_is_named_and_that_its_image_changed(own: tuple[Path, Path]) -> None:
    few, result = own
    third = sorted((few / "swapped").iterdir())[2]
    Image.open(third).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(third)
    status, lines = said(result, "--input", str(few))
    assert status == DIFFERS
    assert lines[-2] == f"differs: 1 of {COUNT} rows. What changed: an image."
    assert lines[-1].startswith(f"row 3 ({third.stem}): the swapped image changed; lm51.t2c was ")
    assert f"Images: 1 of {COUNT} rows has another one." in lines
    third.unlink()
    status, lines = said(result, "--input", str(few))
    assert status == DIFFERS and f"row 3 ({third.stem}): the " in lines[-1] and "unreadable" in lines[-1]


def test_an_image_that_changed_and_scores_the_same_is_named_too(own: tuple[Path, Path]) -> None:
    few, result = own
    target = sorted((few / "target").iterdir())[0]
    target.write_bytes(target.read_bytes() + b"\0")
    found = reproduce(result, few)
    assert not found.same and found.largest == 0.0
    assert found.wrong[0].endswith(": the target image changed")


def test_a_version_that_differs_is_named_whether_or_not_a_number_moved(own: tuple[Path, Path]) -> None:
    few, result = own
    summary = json.loads((result / "summary.json").read_text())
    summary["environment"] |= {"numpy": "1.0.0", "python": "3.1.4"}
    (result / "summary.json").write_text(json.dumps(summary))
    status, lines = said(result, "--input", str(few))
    assert status == 0 and lines[-1].startswith("same: ")
    assert any(line.startswith("Versions: numpy was 1.0.0, is ") for line in lines)
    assert any(line.startswith("Machine: python was 3.1.4, is ") for line in lines)


def test_weights_that_differ_are_named_and_so_is_a_row_whose_number_moved(own: tuple[Path, Path]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    few, result = own
    summary = json.loads((result / "summary.json").read_text())
    right = summary["methods"]["lm51"]["fingerprint"]
    summary["methods"]["lm51"]["fingerprint"] = "dlib-68:0000000000000000/eyes70/51"
    (result / "summary.json").write_text(json.dumps(summary))
    table = pq.read_table(result / "triplets.parquet")
    values = table["lm51.s2c"].to_pylist()
    values[1] += 0.001
    place = table.column_names.index("lm51.s2c")
    pq.write_table(table.set_column(place, "lm51.s2c", pa.array(values)), result / "triplets.parquet")
    status, lines = said(result, "--input", str(few))
    assert status == DIFFERS
    assert f"Weights: lm51 was dlib-68:0000000000000000/eyes70/51, is {right}." in lines
    assert lines[-2] == f"differs: 1 of {COUNT} rows. What changed: a weight."
    assert lines[-1].startswith("row 2 (") and f"lm51.s2c was {values[1]:.7g}, is " in lines[-1]
    status, lines = said(result, "--input", str(few), "--tolerance", "0.01")
    assert (status, lines[-1]) == (0, "same: all rows and scores, within 0.001")


def test_rows_that_were_handed_over_in_python_are_measured_again(few: Path, tmp_path: Path) -> None:
    rows = [(t.target, t.source, t.swapped) for t in read_triplets(few)][:2]
    result = exprmetric.evaluate(rows, ["lm51"], out=tmp_path / "out", **FAST)
    assert result.summary["command"].startswith("exprmetric.evaluate(rows, methods=['lm51']")
    assert exprmetric.reproduce(tmp_path / "out").same


def test_what_cannot_be_measured_again_is_said(own: tuple[Path, Path], few: Path, tmp_path: Path) -> None:
    _, result = own
    with pytest.raises(InputError, match="name the folder or manifest with --input"):
        reproduce(result, tmp_path / "nowhere")
    summary = json.loads((result / "summary.json").read_text())
    for key in ("command", "input", "weights"):
        del summary[key]
    summary["settings"] = {k: summary["settings"][k] for k in ("face", "provider", "on_fail", "seed")}
    (result / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(InputError, match="says not how it was made"):
        reproduce(result)
    status, lines = said(result)
    assert status == 2 and lines[-1].startswith("Error: ")
