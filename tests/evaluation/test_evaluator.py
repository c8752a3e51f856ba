"""`Evaluator` adds up to what `evaluate` says, over batches, processes and frameworks' arrays; `--require` is a
gate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from exprmetric_cli.main import main
from swaps import small_folder

from exprmetric import Evaluator, read_image
from exprmetric.comparing.gate import NOT_MET, Requirement
from exprmetric.errors import InputError
from exprmetric.evaluation.evaluate import evaluate
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.inputs.triplets import Triplet, read_triplets

OPTIONS: dict[str, Any] = {"detector": "dlib", "jobs": 1}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Triplet]:
    return list(read_triplets(small_folder(tmp_path_factory)))[:4]


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import PIL.Image

    path = tmp_path_factory.mktemp("blank") / "blank.png"
    PIL.Image.new("RGB", (64, 64), "grey").save(path)
    return path


@pytest.fixture(scope="module")
def expected(rows: list[Triplet], blank: Path) -> EvaluationResult:
    lost = Triplet("lost", rows[0].target, rows[0].source, blank)
    return evaluate([*rows, lost], ["lm68"], **OPTIONS)


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["coverage"] == expected["coverage"]
    for score in ("l2_error", "mean_t2c", "ratio"):
        assert found["methods"]["lm68"][score] == pytest.approx(expected["methods"]["lm68"][score]["value"], abs=1e-12)
    assert found["identity"]["mean_s2c"] == pytest.approx(expected["identity"]["mean_s2c"], abs=1e-12)
    assert found["identity"]["nearer_to_source"] == expected["identity"]["nearer_to_source"]["value"]


def test_batches_and_processes_add_up_to_one_run(rows: list[Triplet], blank: Path, expected: EvaluationResult) -> None:
    one, other = (Evaluator(["lm68"], **OPTIONS) for _ in range(2))
    a, b, c, d = ([read_image(p) for p in (t.target, t.source, t.swapped)] for t in rows)  # type: ignore[arg-type]
    assert one.update(np.stack([a[0], b[0]]), np.stack([a[1], b[1]]), np.stack([a[2], b[2]])) == [("ok", "")] * 2
    one.update(*c)
    found = other.update([d[0], a[0]], [d[1], a[1]], [d[2], read_image(blank)])
    assert [status for status, _ in found] == ["ok", "no_face"] and found[1][1].startswith("swapped: ")
    one.merge(json.loads(json.dumps([other.state()])))
    assert_same(one.compute(), expected.summary)
    one.reset()
    assert one.compute()["coverage"] == {"triplets": 0, "ok": 0, "failed": {}}
    assert one.compute()["methods"]["lm68"] == {"n": 0, "mean_t2c": None}


def test_without_a_source_only_what_needs_none_is_there(rows: list[Triplet], expected: EvaluationResult) -> None:
    evaluator = Evaluator(["lm68"], **OPTIONS)
    for row in rows:
        evaluator.update(row.target, None, row.swapped)
    scores = evaluator.compute()
    assert scores["methods"]["lm68"].keys() == {"n", "mean_t2c"}
    assert scores["methods"]["lm68"]["mean_t2c"] == pytest.approx(
        expected.summary["methods"]["lm68"]["mean_t2c"]["value"]
    )
    assert scores["identity"].keys() == {"n", "mean_t2c", "same_person"}


def test_memory_does_not_grow_and_strangers_are_not_merged(rows: list[Triplet]) -> None:
    evaluator = Evaluator(["lm68"], **OPTIONS, identity=False)
    with pytest.raises(InputError, match="equally many pictures"):
        evaluator.update([rows[0].target], None, [])
    with pytest.raises(InputError, match="other methods, weights or detector"):
        evaluator.merge(Evaluator(["lm51"], **OPTIONS, identity=False).state())
    with pytest.raises(InputError, match="no state"):
        evaluator.merge("[]")
    with pytest.raises(InputError, match="one face a picture"):
        Evaluator(["lm68"], face="all")
    evaluator.update(rows[0].target, rows[0].source, rows[0].swapped)
    size = len(evaluator.state())
    evaluator.update(rows[1].target, rows[1].source, rows[1].swapped)
    assert abs(len(evaluator.state()) - size) < 40


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("lm68.mean_t2c<1", True),
        ("lm68.mean_t2c < 0.0001", False),
        ("lm68.ratio>=0", True),
        ("coverage>=0.8", True),
        ("coverage>0.8", False),
        ("identity.mean_t2c>0.01", True),
        ("privacy.rank1<=0.1", False),  # was not measured
        ("other.mean_t2c<1", False),
    ],
)
def test_a_requirement_is_met_or_says_why_not(text: str, met: bool, expected: EvaluationResult) -> None:
    assert (Requirement.parse(text).failure(expected.summary) == "") == met


@pytest.mark.parametrize("text", ["", "lm68.mean_t2c", "lm68.mean_t2c<nan", "lm68.mean<0.2", "mean_t2c<0.2", "a<b<c"])
def test_what_is_no_requirement_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        Requirement.parse(text)


def test_the_command_ends_with_a_status_of_its_own(rows: list[Triplet]) -> None:
    call = ["evaluate", "-t", rows[0].target, "-c", rows[0].swapped, "-m", "lm68", "-q", "--no-cache", "--no-identity"]

    def run(*more: str) -> Any:
        return CliRunner().invoke(main, [*map(str, call), "--detector", "dlib", *more])

    assert run("--require", "lm68.mean_t2c<5", "--require", "coverage>=1").exit_code == 0
    failed = run("--require", "lm68.mean_t2c<5", "--require", "lm68.mean_t2c<0.00001")
    assert failed.exit_code == NOT_MET == 3 and "lm68.mean_t2c<1e-05 is not met: it is 0." in failed.stderr
    assert failed.stderr.count("Required:") == 1 and "lm68" in failed.stdout
    wrong = run("--require", "lm51.mean_t2c<1")
    assert wrong.exit_code == 2 and "no method 'lm51' is measured" in wrong.stderr


def test_a_pillow_image_of_few_colours_is_no_grey_picture(rows: list[Triplet]) -> None:
    from PIL import Image

    paths = [rows[0].target, rows[0].source, rows[0].swapped]
    assert all(paths)
    few = [Image.open(str(path)).convert("RGB").quantize(200) for path in paths]
    one, other = (Evaluator(["lm68"], identity=False, **OPTIONS) for _ in range(2))
    one.update(*few)
    other.update(*(np.asarray(image.convert("RGB")) for image in few))
    assert one.compute() == other.compute() and one.compute()["coverage"]["ok"] == 1
