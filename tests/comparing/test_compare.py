"""Comparisons of models: the arithmetic against SciPy and by hand, every row accounted for, what the command prints."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from exprmetric_cli.main import main
from results import Row, content_file, result, row

from exprmetric.comparing.compare import Duel, compare
from exprmetric.comparing.compared import verdicts
from exprmetric.comparing.contestants import contestants, load_contestants
from exprmetric.errors import InputError
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.metrics.paired import holm

FORMS = ("table", "json", "csv", "markdown")
PAIRS = [(f"t{i}", f"s{j}") for i in range(4) for j in range(3)]


def rows_of(folder: Path, seed: object, pairs: list[tuple[str, str]] = PAIRS, **more: Any) -> list[Row]:
    return [row(folder, t, s, seed=seed, **more) for t, s in pairs]


def duel_of(a: list[Row], b: list[Row], **settings: Any) -> Duel:
    comparison = compare(contestants({"A": result(a), "B": result(b)}), **settings)
    assert comparison.models == ["A", "B"] and len(comparison.duels) == 1
    return comparison.duels[0]


# --- pairing ---


def test_scores_are_those_of_plain_arithmetic(tmp_path: Path):
    a, b = rows_of(tmp_path / "a", "a"), rows_of(tmp_path / "b", "b")
    duel = duel_of(a, list(reversed(b)))
    assert (duel.n, duel.groups, duel.unpaired, duel.left_out, duel.repeated) == (12, 4, {}, {}, 0)
    found = {(d.method, d.score): d for d in duel.differences}
    assert set(found) == {
        *((m, s) for m in ("lm68", "other") for s in ("l2_error", "mean_t2c", "ratio")),
        ("identity", "nearer_to_source"),
    }
    t2c = [[r.distances["other"].t2c for r in rows] for rows in (a, b)]
    d = found["other", "mean_t2c"]
    assert (d.a, d.b) == pytest.approx((np.mean(t2c[0]), np.mean(t2c[1])))
    assert d.difference == pytest.approx(d.a - d.b) and d.low <= d.difference <= d.high
    assert d.wins == sum(x < y for x, y in zip(*t2c, strict=True)) and d.wins + d.ties + d.losses == 12
    l2 = [[abs(r.distances["lm68"].s2t - r.distances["lm68"].s2c) for r in rows] for rows in (a, b)]
    assert found["lm68", "l2_error"].difference == pytest.approx(np.mean(l2[0]) - np.mean(l2[1]))
    nearer = [[r.distances["identity"].s2c < r.distances["identity"].t2c for r in rows] for rows in (a, b)]
    control = found["identity", "nearer_to_source"]
    assert control.difference == pytest.approx(np.mean(nearer[0]) - np.mean(nearer[1]))
    assert control.wins == sum(x > y for x, y in zip(*nearer, strict=True))
    (primary,) = (d for d in duel.differences if d.primary)  # it is tested by itself
    assert (primary.method, primary.score) == ("lm68", "mean_t2c") and primary.p_holm == primary.p
    rest = [d for d in duel.differences if not d.primary]
    assert [d.p_holm for d in rest] == pytest.approx(holm([d.p for d in rest]))


def test_a_model_against_itself_ties_everywhere(tmp_path: Path):
    duel = duel_of(rows_of(tmp_path / "a", "same"), rows_of(tmp_path / "b", "same"))
    for d in duel.differences:
        assert (d.difference, d.low, d.high, d.p, d.p_holm) == (0.0, 0.0, 0.0, 1.0, 1.0)
        assert (d.wins, d.ties, d.losses) == (0, 12, 0)


def test_swapping_the_models_mirrors_the_comparison_and_row_order_does_not_show(tmp_path: Path):
    a, b = rows_of(tmp_path / "a", "a"), rows_of(tmp_path / "b", "b")
    there, back = duel_of(a, b), duel_of(b, a)
    for x, y in zip(there.differences, back.differences, strict=True):
        assert (x.difference, x.wins, x.p) == (-y.difference, y.losses, y.p)
    shuffled = random.Random(0).sample(a, len(a))
    assert duel_of(shuffled, b) == there


def test_pairs_are_the_same_by_content_wherever_the_files_lie(tmp_path: Path):
    a, b = rows_of(tmp_path / "a", "a"), rows_of(tmp_path / "b", "b")
    assert duel_of(a, b, match="content").n == 12
    by_path = duel_of(a, b, match="path")
    assert by_path.n == 0 and by_path.differences == []
    assert {reason: len(ids) for reason, ids in by_path.unpaired.items()} == {"only in A": 12, "only in B": 12}
    assert duel_of(a, rows_of(tmp_path / "a", "b"), match="path").n == 12
    with pytest.raises(InputError, match="unknown match 'name'"):
        duel_of(a, b, match="name")


def test_every_row_is_paired_or_named_with_its_reason(tmp_path: Path):
    a = rows_of(tmp_path / "a", "a")
    b = rows_of(tmp_path / "b", "b")
    a[0] = replace(a[0], status="no_face", distances={})
    b[1] = replace(b[1], status="error", distances={})
    a.append(row(tmp_path / "a", "t9", "s0"))
    b.append(row(tmp_path / "b", "t8", "s0"))
    gone = row(tmp_path / "b", "t7", "s0")
    b.append(gone)
    assert gone.triplet.target is not None
    gone.triplet.target.unlink()
    duel = duel_of(a, b)
    assert duel.n == 10
    assert duel.unpaired == {
        "failed in A": ["t0_s0"],
        "failed in B": ["t0_s1"],
        "measured in A, failed in B": ["t0_s1"],
        "measured in B, failed in A": ["t0_s0"],
        "only in A": ["t9_s0"],
        "only in B": ["t8_s0"],
        "target or source of B can't be read any more: match by path": ["t7_s0"],
    }
    assert 2 * duel.n + sum(map(len, duel.unpaired.values())) == len(a) + len(b)


def test_a_pair_swapped_twice_counts_once_with_its_mean(tmp_path: Path):
    a, b = rows_of(tmp_path / "a", "a"), rows_of(tmp_path / "b", "b")
    again = row(tmp_path / "a", "t0", "s0", seed="again", id_="again")
    duel = duel_of([*a, again], b)
    assert (duel.n, duel.repeated) == (12, 1)
    t2c = [r.distances["lm68"].t2c for r in a]
    t2c[0] = (t2c[0] + again.distances["lm68"].t2c) / 2
    (d,) = (d for d in duel.differences if (d.method, d.score) == ("lm68", "mean_t2c"))
    assert d.a == pytest.approx(np.mean(t2c))


def test_groups_of_either_result_hold_together(tmp_path: Path):
    a = rows_of(tmp_path / "a", "a", group="one video")
    b = rows_of(tmp_path / "b", "b")
    duel = duel_of(a, b)
    assert duel.groups == 1
    assert all(math.isnan(d.low) and d.p == 1.0 for d in duel.differences)
    assert json.dumps(
        compare(contestants({"A": result(a), "B": result(b)})).as_dict(), allow_nan=False
    )  # NaN became null


def test_methods_with_other_weights_are_left_out_and_named(tmp_path: Path):
    a, b = result(rows_of(tmp_path / "a", "a")), result(rows_of(tmp_path / "b", "b"), weights="v", methods=["lm68"])
    (duel,) = compare(contestants({"A": a, "B": b})).duels
    assert set(duel.left_out) == {"lm68", "other"}
    assert duel.left_out["other"] == "not in B" and "not the same weights" in duel.left_out["lm68"]
    assert {d.method for d in duel.differences} == {"identity"}


def test_another_detector_is_noted(tmp_path: Path):
    a, b = result(rows_of(tmp_path / "a", "a")), result(rows_of(tmp_path / "b", "b"))
    b.summary["detector"]["fingerprint"] = "scrfd:1"
    (duel,) = compare(contestants({"A": a, "B": b})).duels
    assert duel.notes == ["faces were found differently: dlib:0 and scrfd:1"]


def test_each_model_of_a_result_takes_part_under_a_name_of_its_own(tmp_path: Path):
    both = result([*rows_of(tmp_path, 1, model="x"), *rows_of(tmp_path, 2, model="y"), *rows_of(tmp_path, 3)])
    other = result(rows_of(tmp_path, 4, model="x"))
    plain = result(rows_of(tmp_path, 5))
    names = [c.name for c in contestants({"R": both, "Q": other, "P": plain})]
    assert names == ["R: x", "y", "R: (no model)", "Q", "P"]
    comparison = compare(contestants({"R": both, "Q": other, "P": plain}))
    assert len(comparison.duels) == 10 and {d.n for d in comparison.duels} == {12}
    assert comparison.tests == 10 * 6  # the primary score is not among them
    for primary, count in ((True, 10), (False, 60)):
        found = [d for duel in comparison.duels for d in duel.differences if d.primary == primary]
        assert min(d.p_holm for d in found) == pytest.approx(min(1.0, min(d.p for d in found) * count))


def test_the_smallest_p_possible_is_said_and_the_verdict_claims_nothing_beyond_it(tmp_path: Path):
    for count, smallest in ((3, 0.25), (7, 2 / 2**7)):
        a = [row(tmp_path / "a", f"t{i}", f"s{i}", seed=1) for i in range(count)]
        better = [replace(r, distances={m: d._replace(t2c=d.t2c - 0.05) for m, d in r.distances.items()}) for r in a]
        comparison = compare(contestants({"A": result(a), "B": result(better)}))
        (duel,) = comparison.duels
        assert duel.smallest_p == smallest == duel.primary.p
        said = " ".join(verdicts(comparison))
        assert ("B keeps expressions better than A" in said) == (smallest < 0.05)
        assert ("p can't be below 0.250" in said) == (smallest > 0.05)


def test_groups_that_share_sources_resample_both_and_take_the_larger_p(tmp_path: Path):
    a = [row(tmp_path / "a", f"t{i}", f"s{j}", seed=1) for i in range(8) for j in range(3)]
    worse = [
        replace(
            r,
            distances={
                m: d._replace(t2c=d.t2c + (0.2 if "_s0" in r.triplet.id else 0.0)) for m, d in r.distances.items()
            },
        )
        for r in a
    ]  # one source alone makes the difference: sure over targets, not over sources
    (duel,) = compare(contestants({"A": result(a), "B": result(worse)})).duels
    assert (duel.groups, duel.sources, duel.smallest_p) == (8, 3, 0.25)
    assert duel.primary.p == 1.0 or duel.primary.p >= 0.25
    assert duel.primary.low < duel.primary.difference < duel.primary.high == pytest.approx(0, abs=0.03)


def test_one_method_and_a_score_of_it_can_be_asked_for(tmp_path: Path):
    models = contestants({"A": result(rows_of(tmp_path, 1)), "B": result(rows_of(tmp_path, 2))})
    found = compare(models, methods=["other"], score="ratio")
    assert {d.method for d in found.duels[0].differences} == {"other"}
    assert found.primary == ("other", "ratio") and found.tests == 2
    with pytest.raises(InputError, match="no result has the method 'nothing'"):
        compare(models, methods=["nothing"])
    with pytest.raises(InputError, match="unknown score"):
        compare(models, score="nothing")


# --- files and the command ---


@pytest.fixture
def saved(tmp_path: Path) -> list[Path]:
    """Two saved results, with a row that only one has."""
    a = [*rows_of(tmp_path / "in_a", "a"), row(tmp_path / "in_a", "extra", "s0")]
    b = rows_of(tmp_path / "in_b", "b")
    return [result(r).save(tmp_path / "out" / n) for r, n in ((a, "A"), (b, "B|<script>alert(1)<script>"))]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_a_saved_result_is_loaded_bit_by_bit(tmp_path: Path):
    made = result([*rows_of(tmp_path, 0), row(tmp_path, "x", "y", status="no_face", reason="swapped: none")])
    loaded = EvaluationResult.load(made.save(tmp_path / "out"))
    assert (loaded.summary, loaded.triplets) == (made.summary, made.triplets)


def test_what_is_no_result_is_refused(saved: list[Path], tmp_path: Path):
    with pytest.raises(InputError, match=r"no folder that .* wrote: no summary.json"):
        EvaluationResult.load(tmp_path)
    damaged = shutil.copytree(saved[0], tmp_path / "damaged")
    for name, content, message in (
        ("triplets.parquet", "PAR1 nonsense", "damaged/triplets.parquet' is damaged"),
        ("summary.json", "[]", "schema_version None"),
        ("summary.json", '{"schema_version": 99}', "schema_version 99; this reads 1"),
        ("summary.json", "{", "damaged/summary.json' is damaged"),
        ("summary.json", "[" * 100_000, "damaged/summary.json' is damaged"),
    ):
        shutil.copy(saved[0] / "triplets.parquet", damaged)
        content_file(damaged, name, content)
        with pytest.raises(InputError, match=message):
            EvaluationResult.load(damaged)
    for name in ("A", "B"):
        with pytest.raises(InputError, match="named twice" if name == "A" else "no folder"):
            load_contestants([saved[0], saved[0].parent / name])
    with pytest.raises(InputError, match="needs two models"):
        load_contestants(saved[:1])


def test_json_csv_markdown_and_table_tell_the_same(saved: list[Path]):
    found = json.loads(run("compare", *saved, "--format", "json").stdout)
    assert found == compare(load_contestants(saved)).as_dict()
    (duel,) = found["duels"]
    assert duel["unpaired"] == {"only in A": ["extra_s0"]}
    lines = list(csv.DictReader(io.StringIO(run("compare", *saved, "--format", "csv").stdout)))
    assert [float(r["difference"]) for r in lines] == [d["difference"] for d in duel["differences"]]
    assert {r["unpaired"] for r in lines} == {"1"}
    for form in ("table", "markdown"):
        text = run("compare", *saved, "--format", form).stdout
        assert "extra" in text and "only in A: 1" in text
        for d in duel["differences"]:
            assert f"{d['difference']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]" in text
            assert f"{d['wins']}/{d['ties']}/{d['losses']}" in text
    assert "<script" not in run("compare", *saved, "--format", "markdown").stdout


def test_the_alarms_of_a_result_stand_above_every_comparison_with_it(saved: list[Path], tmp_path: Path):
    alarmed = result(rows_of(tmp_path / "in_c", "c"))
    alarmed.summary["alarms"] = ["Is [bold]source[/bold] <b>|swapped|</b>?"]
    page = tmp_path / "page.html"
    done = {
        f: run("compare", saved[0], alarmed.save(tmp_path / "out" / "C"), "--format", f, "--out", page) for f in FORMS
    }
    assert json.loads(done["json"].stdout)["alarms"] == ["C: Is [bold]source[/bold] <b>|swapped|</b>?"]
    assert done["table"].stdout.index("ALARM: C: Is [bold]source[/bold] <b>|swapped|</b>?") < done[
        "table"
    ].stdout.index("A − B")
    assert "**ALARM: C: Is \\[bold\\]source" in done["markdown"].stdout and "<b>" not in done["markdown"].stdout
    assert "ALARM: C" in done["csv"].stderr and "ALARM" not in done["csv"].stdout
    text = page.read_text(encoding="utf-8")
    assert '<p class="alarm" role="alert">C: Is [bold]source[/bold] &lt;b&gt;|swapped|&lt;/b&gt;?</p>' in text
    assert (
        "ALARM" not in run("compare", *saved).stdout
        and '"alarms": []' in run("compare", *saved, "--format", "json").stdout
    )


def test_three_models_have_a_matrix(saved: list[Path], tmp_path: Path):
    third = result(rows_of(tmp_path / "in_c", "c")).save(tmp_path / "out" / "C")
    text = run("compare", *saved, third).stdout
    comparison = compare(load_contestants([*saved, third]))
    assert "wins/ties/losses of the row's model" in text
    d = next(d for d in comparison.duels[1].differences if (d.method, d.score) == ("lm68", "mean_t2c"))
    assert f"{d.wins}/{d.ties}/{d.losses}" in text and f"{d.losses}/{d.ties}/{d.wins}" in text


def test_the_page_is_escaped_and_loads_nothing(saved: list[Path], tmp_path: Path):
    page = tmp_path / "new" / "compare.html"
    done = run("compare", *saved, "--out", page)
    assert done.exit_code == 0 and str(page) in done.stderr
    text = page.read_text(encoding="utf-8")
    assert "B|&lt;script&gt;alert(1)&lt;script&gt;" in text and "<script>alert" not in text
    assert text.count("<script") == 1 and "http://" not in text and "https://" not in text
    comparison = compare(load_contestants(saved))
    for d in comparison.duels[0].differences:
        assert f'{d.difference:+.3f} <span class="ci">[{d.low:+.3f}, {d.high:+.3f}]</span>' in text
    assert "only in A" in text and "extra_s0" in text


def test_exit_statuses(saved: list[Path], tmp_path: Path):
    assert run("compare", *saved).exit_code == 0
    nothing = run("compare", *saved, "--match", "path", "--format", "json")
    assert nothing.exit_code == 1 and "no two models share" in nothing.stderr
    assert json.loads(nothing.stdout)["duels"][0]["differences"] == []
    for arguments in ([], [tmp_path / "absent", saved[0]], [saved[0]]):
        assert run("compare", *arguments).exit_code == 2
    blocked = content_file(tmp_path, "file", "")
    assert run("compare", *saved, "--out", blocked / "page.html").exit_code == 2


def test_a_seed_gives_the_same_comparison_and_another_seed_other_draws(tmp_path: Path):
    many = [(f"t{i}", "s") for i in range(40)]
    a, b = rows_of(tmp_path / "a", "a", many), rows_of(tmp_path / "b", "b", many)
    first = duel_of(a, b, seed=3)
    assert first == duel_of(a, b, seed=3)
    other = duel_of(a, b, seed=4)
    assert [d.low for d in first.differences] != [d.low for d in other.differences]
    assert [d.difference for d in first.differences] == [d.difference for d in other.differences]
