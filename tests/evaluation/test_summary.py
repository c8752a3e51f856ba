"""The summary of a result's rows, number by number against plain loops over its records."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from results import Distances, Row, rows_of

from exprmetric.errors import InputError
from exprmetric.evaluation.alarms import find_alarms
from exprmetric.evaluation.rows import Record, Rows
from exprmetric.evaluation.summary import (
    DIFFERENT,
    ON_FAIL,
    SAME,
    alarms,
    check_models,
    coverage,
    identity_control,
    method_scores,
    models_in,
    splits,
    summarise,
    tells_people,
)
from exprmetric.inputs.triplets import Triplet
from exprmetric.methods.identity import SAME_PERSON
from exprmetric.metrics import bootstrap_means
from exprmetric.weights import store as weights

STATUSES = ("ok", "unreadable", "no_face", "low_quality", "error")
METHODS = ("one", "two")


def a_row(
    number: int, *, model: str = "", status: str = "ok", labels: tuple[str, str] = ("", ""), group: str | None = None
) -> Row:
    """Distances are eighths, of which t2c and s2c are equal in some rows: sums of them are exact."""
    chance = np.random.default_rng(number)
    distances = {m: Distances(*(chance.integers(1, 5, 3) / 8)) for m in METHODS}
    image = Path(f"{number}.png")
    triplet = Triplet(f"{number}", image, image, image, model=model, target_label=labels[0], source_label=labels[1])
    return Row(triplet, f"g{number // 3}" if group is None else group, status, "", distances if status == "ok" else {})


def of_two_models() -> Rows:
    """60 rows: every status, both models and neither, every pair of labels that there can be."""
    labels = [("happy", "happy"), ("happy", "sad"), ("", ""), ("sad", ""), ("", "sad")]
    rows = [
        a_row(
            i,
            model=("", "A", "B")[i % 3],
            status=STATUSES[i % 5] if i % 7 in (0, 2) else "ok",
            labels=labels[i // 3 % 5],
        )
        for i in range(60)
    ]
    return rows_of(rows, METHODS)


def measured(rows: Rows) -> list[Record]:
    return [r for r in rows.records() if r["status"] == "ok"]


def by_hand(records: list[Record], method: str) -> dict[str, float]:
    """Paper 000's scores in plain Python."""
    t2c, s2c, s2t = ([r[f"{method}.{d}"] for r in records] for d in ("t2c", "s2c", "s2t"))
    return {
        "l2_error": fmean(abs(a - b) for a, b in zip(s2t, s2c, strict=True)),
        "mean_t2c": fmean(t2c),
        "ratio": fmean(float(a < b) for a, b in zip(t2c, s2c, strict=True)),
        "mean_s2c": fmean(s2c),
        "mean_s2t": fmean(s2t),
    }


def interval(values: list[float], groups: list[str], seed: int = 0) -> list[float]:
    return list(bootstrap_means({"x": values}, groups, seed=seed)["x"])


@pytest.mark.parametrize("status", STATUSES[1:])
def test_coverage_names_every_status_that_a_row_failed_with(status: str):
    """One that was left out would make failures vanish while the percentage stays."""
    rows = rows_of([a_row(0), a_row(1, status=status), a_row(2, status=status)], METHODS)
    assert coverage(rows) == {"triplets": 3, "ok": 1, "failed": {status: 2}}


def test_coverage_counts_each_row_once():
    rows = of_two_models()
    found = coverage(rows)
    counts = {s: sum(r["status"] == s for r in rows.records()) for s in STATUSES}
    assert found == {"triplets": 60, "ok": counts.pop("ok"), "failed": counts}
    assert all(counts.values()) and found["ok"] + sum(found["failed"].values()) == 60
    assert coverage(rows_of([], METHODS)) == {"triplets": 0, "ok": 0, "failed": {}}
    assert coverage(rows_of([a_row(0, status="error")], METHODS)) == {"triplets": 1, "ok": 0, "failed": {"error": 1}}


def test_a_status_that_no_row_of_a_part_has_is_not_listed():
    rows = of_two_models()
    part = rows.where(rows.ok)
    assert coverage(part) == {"triplets": len(part), "ok": len(part), "failed": {}}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", [0, 5])
def test_scores_and_intervals_are_those_of_the_measured_rows_of_a_part(method: str, seed: int):
    rows = of_two_models()
    part = np.arange(60) % 4 != 1
    found = method_scores(rows, part, method, seed=seed)
    records = [r for i, r in enumerate(rows.records()) if part[i] and r["status"] == "ok"]
    expected = by_hand(records, method)
    assert found["n"] == len(records) > 20
    groups = [r["group"] for r in records]
    each: dict[str, list[float]] = {
        "l2_error": [abs(r[f"{method}.s2t"] - r[f"{method}.s2c"]) for r in records],
        "mean_t2c": [r[f"{method}.t2c"] for r in records],
        "ratio": [float(r[f"{method}.t2c"] < r[f"{method}.s2c"]) for r in records],
    }
    for name, values in each.items():
        assert found[name]["value"] == pytest.approx(expected[name], rel=1e-12)
        assert found[name]["ci95"] == pytest.approx(interval(values, groups, seed), rel=1e-12)
    assert (found["mean_s2c"], found["mean_s2t"]) == pytest.approx((expected["mean_s2c"], expected["mean_s2t"]))


def test_the_anchors_are_the_scores_of_models_that_change_nothing_and_that_paste_the_source():
    rows = of_two_models()
    s2t = fmean(r["one.s2t"] for r in measured(rows))
    assert method_scores(rows, np.ones(60, bool), "one")["anchors"] == {
        "nothing_swapped": {"l2_error": 0.0, "mean_t2c": 0.0, "ratio": 1.0},
        "source_pasted": {"l2_error": pytest.approx(s2t), "mean_t2c": pytest.approx(s2t), "ratio": 0.0},
    }


def test_worst_counts_a_failed_row_as_the_worst_that_was_measured_and_as_not_preserved():
    rows = of_two_models()
    part = np.arange(60) < 45
    records = rows.records()[:45]
    ok = [r for r in records if r["status"] == "ok"]
    failed = len(records) - len(ok)
    assert failed > 3
    found = method_scores(rows, part, "two", on_fail="worst")
    assert found["n"] == 45
    groups = [r["group"] for r in ok] + [r["group"] for r in records if r["status"] != "ok"]
    plain = {
        "l2_error": [abs(r["two.s2t"] - r["two.s2c"]) for r in ok],
        "mean_t2c": [r["two.t2c"] for r in ok],
        "ratio": [float(r["two.t2c"] < r["two.s2c"]) for r in ok],
        "mean_s2c": [r["two.s2c"] for r in ok],
        "mean_s2t": [r["two.s2t"] for r in ok],
    }
    for name, values in plain.items():
        whole = values + [0.0 if name == "ratio" else max(values)] * failed
        if name in ("mean_s2c", "mean_s2t"):
            assert found[name] == pytest.approx(fmean(whole))
        else:
            assert found[name]["value"] == pytest.approx(fmean(whole))
            assert found[name]["ci95"] == pytest.approx(interval(whole, groups))
    assert found["anchors"] == method_scores(rows, part, "two")["anchors"]  # of what was measured


@pytest.mark.parametrize("on_fail", ON_FAIL)
def test_where_nothing_was_measured_every_score_is_null(on_fail: str):
    rows = rows_of([a_row(0, status="no_face"), a_row(1, status="error")], METHODS)
    found = method_scores(rows, np.ones(2, bool), "one", on_fail=on_fail)
    nothing = {"value": None, "ci95": [None, None]}
    anchors = dict.fromkeys(("l2_error", "mean_t2c", "ratio"))
    assert found == {
        "n": 0, "l2_error": nothing, "mean_t2c": nothing, "ratio": nothing, "mean_s2c": None, "mean_s2t": None,
        "anchors": {"nothing_swapped": anchors, "source_pasted": anchors},
    }  # fmt: skip


@pytest.mark.parametrize("seed", [0, 5])
def test_the_identity_control_is_the_share_of_measured_rows_nearer_to_the_source(seed: int):
    rows = of_two_models()
    records = measured(rows)
    nearer = [float(r["one.s2c"] < r["one.t2c"]) for r in records]
    assert any(r["one.s2c"] == r["one.t2c"] for r in records)
    found = identity_control(rows, "one", seed=seed)
    assert found["n"] == len(records)
    assert found["nearer_to_source"]["value"] == pytest.approx(fmean(nearer))
    assert found["nearer_to_source"]["ci95"] == pytest.approx(interval(nearer, [r["group"] for r in records], seed))
    for name in ("t2c", "s2c", "s2t"):
        assert found[f"mean_{name}"] == pytest.approx(fmean(r[f"one.{name}"] for r in records))


def test_a_face_as_near_to_the_source_as_to_the_target_is_no_transfer_of_identity():
    """As a model's that gives back one photograph for both: nothing was moved towards the source."""
    (tie, before, after) = (Distances(t, 0.5, 0.5) for t in (0.5, math.nextafter(0.5, 0.0), math.nextafter(0.5, 1.0)))
    for distances, share in ((tie, 0.0), (before, 0.0), (after, 1.0)):
        row = a_row(0)
        rows = rows_of([Row(row.triplet, row.group, distances={"identity": distances})], ["identity"])
        assert identity_control(rows, "identity")["nearer_to_source"]["value"] == share


def test_no_measured_row_no_identity_control():
    found = identity_control(rows_of([a_row(0, status="error")], METHODS), "one")
    assert found == {
        "n": 0, "nearer_to_source": {"value": None, "ci95": [None, None]},
        "mean_t2c": None, "mean_s2c": None, "mean_s2t": None, "same_person": {"value": None, "ci95": [None, None]},
    }  # fmt: skip


def test_splits_are_the_labels_and_the_models():
    rows = of_two_models()
    records = rows.records()

    def labels(r: Record) -> tuple[Any, Any]:
        return r["target_label"], r["source_label"]

    found = splits(rows)
    assert list(found) == [DIFFERENT, SAME, "A", "B"]
    assert found[DIFFERENT].tolist() == [labels(r) == ("happy", "sad") for r in records]
    assert found[SAME].tolist() == [labels(r) == ("happy", "happy") for r in records]
    assert found["A"].tolist() == [r["model"] == "A" for r in records]
    assert found["B"].tolist() == [r["model"] == "B" for r in records]


def test_a_split_without_rows_is_left_out():
    assert list(splits(rows_of([a_row(0, labels=("sad", "sad"))], METHODS))) == [SAME]
    assert list(splits(rows_of([a_row(0, labels=("sad", "happy"))], METHODS))) == [DIFFERENT]
    assert splits(rows_of([a_row(0), a_row(1, labels=("sad", ""))], METHODS)) == {}


@pytest.mark.parametrize("name", [SAME, DIFFERENT])
def test_no_model_may_have_the_name_of_a_split(name: str):
    check_models(["A", "B"])
    with pytest.raises(InputError, match=f"a model can't be named {name}: that is the name of a split"):
        check_models(["A", name])
    with pytest.raises(InputError, match=name):
        splits(rows_of([a_row(0, model=name)], METHODS))
    with pytest.raises(InputError, match=f"named {DIFFERENT}, {SAME}:"):
        check_models([SAME, DIFFERENT])


@pytest.mark.parametrize(("on_fail", "seed"), [("exclude", 0), ("exclude", 5), ("worst", 5)])
def test_the_summary_holds_the_scores_of_the_whole_and_of_each_split(on_fail: str, seed: int):
    rows = of_two_models()
    found = summarise(rows, METHODS, "two", on_fail=on_fail, seed=seed)
    assert found["alarms"] == alarms(rows, METHODS, "two")
    assert found["coverage"] == coverage(rows)
    everything = np.ones(60, bool)
    assert found["methods"] == {m: method_scores(rows, everything, m, on_fail=on_fail, seed=seed) for m in METHODS}
    assert list(found["groups"]) == list(splits(rows))
    for name, part in splits(rows).items():
        assert found["groups"][name] == {
            "coverage": coverage(rows.where(part)),
            "methods": {m: method_scores(rows, part, m, on_fail=on_fail, seed=seed) for m in METHODS},
        } | ({"identity": identity_control(rows.where(part), "two", seed=seed)} if name in models_in(rows) else {})
    assert found["identity"] == identity_control(rows, "two", seed=seed)


def test_alarms_are_looked_for_in_the_measured_rows_of_the_methods_of_expressions():
    """The swapped faces have the source's expression, as where the roles are exchanged; a failed row says nothing."""
    exchanged = {"one": Distances(0.5, 0.01, 0.5), "identity": Distances(0.9, 0.9, 0.9)}
    rows = [Row(a_row(i).triplet, f"g{i}", distances=exchanged) for i in range(8)]
    rows.append(a_row(8, status="no_face"))
    made = rows_of(rows, ["one", "identity"])
    assert alarms(made, ["one"], "identity") == find_alarms(
        {"one": made.distances("one")[:8]}, made.distances("identity")[:8], {"": np.ones(8, bool)}
    )
    assert alarms(made, ["one"], "identity") and alarms(made, ["one"], None) != alarms(made, ["one"], "identity")
    assert alarms(made, ["one", "identity"], "identity") == alarms(made, ["one"], "identity")
    assert tells_people("identity") and tells_people("identity:dlib") and not tells_people("one")
    assert all(tells_people(name) for name in weights.entries("identity-encoder"))


def test_alarms_are_of_each_model():
    exchanged = {"one": Distances(0.5, 0.01, 0.5), "identity": Distances(0.9, 0.9, 0.9)}
    healthy = {"one": Distances(0.1, 0.4, 0.5), "identity": Distances(0.9, 0.1, 0.9)}
    rows = [Row(a_row(i, model="AB"[i % 2]).triplet, f"g{i}", distances=(exchanged, healthy)[i % 2]) for i in range(18)]
    made = rows_of(rows, ["one", "identity"])
    models = {"A": np.arange(18) % 2 == 0, "B": np.arange(18) % 2 == 1}
    known = {"one": made.distances("one")}, made.distances("identity")
    assert alarms(made, ["one"], "identity") == find_alarms(*known, models) != find_alarms(*known, {})


def test_by_default_failed_rows_are_left_out_and_the_seed_is_0():
    rows = of_two_models()
    assert summarise(rows, METHODS, None) == summarise(rows, METHODS, None, on_fail="exclude", seed=0)
    assert summarise(rows, METHODS, None)["identity"] is None
    everything = np.ones(60, bool)
    assert method_scores(rows, everything, "one") == method_scores(rows, everything, "one", on_fail="exclude", seed=0)
    assert identity_control(rows, "one") == identity_control(rows, "one", seed=0)


def test_an_unknown_way_to_count_failures_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="unknown on_fail 'zero'; known: exclude, worst"):
        summarise(of_two_models(), METHODS, None, on_fail="zero")


def with_and_without_source(n: int = 24) -> Rows:
    """Rows of which every third names no source, some failed."""
    rows = []
    for i in range(n):
        row = a_row(i, status="no_face" if i % 5 == 4 else "ok")
        rows.append(replace(row, triplet=replace(row.triplet, source=None)) if i % 3 == 0 else row)
    return rows_of(rows, METHODS)


@pytest.mark.parametrize("on_fail", ON_FAIL)
@pytest.mark.parametrize("seed", [0, 5])
def test_t2c_is_of_all_rows_and_what_needs_a_source_of_those_that_have_one(on_fail: str, seed: int):
    rows = with_and_without_source()
    part = np.arange(24) < 20
    pairs = np.array([not r["source"] for r in rows.records()])
    found = method_scores(rows, part, "one", on_fail=on_fail, seed=seed)
    of_sources = rows.where(part & ~pairs)
    alone = method_scores(of_sources, np.ones(len(of_sources), bool), "one", on_fail=on_fail, seed=seed)
    t2c = [r["one.t2c"] for r in rows.records()[:20] if r["status"] == "ok"]
    groups = [r["group"] for r in rows.records()[:20] if r["status"] == "ok"]
    if on_fail == "worst":
        failed = [r["group"] for r in rows.records()[:20] if r["status"] != "ok"]
        t2c, groups = t2c + [max(t2c)] * len(failed), groups + failed
    assert found["n"] == len(t2c) > found["n_with_source"] == alone["n"] > 0
    assert found["mean_t2c"] == {
        "value": pytest.approx(fmean(t2c)),
        "ci95": pytest.approx(interval(t2c, groups, seed)),
    }
    assert alone["ratio"]["ci95"][0] < alone["ratio"]["ci95"][1]
    for name in ("l2_error", "ratio", "mean_s2c", "mean_s2t", "anchors"):
        assert found[name] == alone[name], name
    assert set(found) == set(alone) | {"n_with_source"}


def test_rows_without_any_source_have_no_score_that_needs_one():
    rows = with_and_without_source()
    pairs = np.array([not r["source"] for r in rows.records()])
    found = method_scores(rows, pairs, "two")
    t2c = [r["two.t2c"] for r in rows.where(pairs).records() if r["status"] == "ok"]
    assert set(found) == {"n", "mean_t2c", "anchors"} and found["n"] == len(t2c)
    assert found["mean_t2c"]["value"] == pytest.approx(fmean(t2c))
    assert found["anchors"] == {"nothing_swapped": {"mean_t2c": 0.0}}


def test_rows_with_and_without_a_source_are_splits_beside_labels_and_models():
    rows = [a_row(i, model="AB"[i % 2], labels=("happy", "happy" if i % 4 else "sad")) for i in range(12)]
    rows = [replace(r, triplet=replace(r.triplet, source=None)) if i < 5 else r for i, r in enumerate(rows)]
    found = {name: part.tolist() for name, part in splits(rows_of(rows, METHODS)).items()}
    assert found == {
        DIFFERENT: [i % 4 == 0 for i in range(12)],
        SAME: [i % 4 != 0 for i in range(12)],
        "with_source": [i >= 5 for i in range(12)],
        "without_source": [i < 5 for i in range(12)],
        "A": [i % 2 == 0 for i in range(12)],
        "B": [i % 2 == 1 for i in range(12)],
    }
    assert not {"with_source", "without_source"} & set(splits(rows_of(rows[5:], METHODS)))
    assert not {"with_source", "without_source"} & set(splits(rows_of(rows[:5], METHODS)))


def test_a_distance_at_the_threshold_is_another_person():
    at = [(SAME_PERSON, 0.0), (math.nextafter(SAME_PERSON, 0.0), 1.0)]
    for distance, share in at:
        row = a_row(0)
        rows = rows_of(
            [Row(row.triplet, row.group, distances={"identity": Distances(distance, 1.0, 1.0)})], ["identity"]
        )
        assert identity_control(rows, "identity")["same_person"]["value"] == share


@pytest.mark.parametrize("seed", [0, 5])
def test_the_share_of_the_same_person_has_the_interval_of_its_groups(seed: int):
    same = [float(i % 7 < 3) for i in range(200)]
    groups = [f"g{i * i % 211}" for i in range(200)]
    t2c = [SAME_PERSON + (-0.1 if yes else 0.1) for yes in same]
    rows = [
        replace(a_row(i, group=group), distances={"identity": Distances(d, 1.0, 1.0)})
        for i, (group, d) in enumerate(zip(groups, t2c, strict=True))
    ]
    found = identity_control(rows_of(rows, ["identity"]), "identity", seed=seed)["same_person"]
    assert found["value"] == pytest.approx(fmean(same))
    assert found["ci95"] == pytest.approx(interval(same, groups, seed))
    assert interval(same, groups, 0) != interval(same, groups, 5)


def test_scores_are_split_by_what_was_asked_for_and_by_nothing_else():
    rows = [
        replace(r := a_row(i), triplet=replace(r.triplet, given=(("light", "dim" if i % 3 else "sun"),)))
        for i in range(9)
    ]
    made = rows_of(rows, METHODS)
    assert "by" not in summarise(made, METHODS, None)
    found = summarise(made, METHODS, None, by=["light"])["by"]["light"]
    dim = np.arange(9) % 3 > 0
    assert set(found) == {"dim", "sun"}
    for value, part in (("dim", dim), ("sun", ~dim)):
        assert found[value]["methods"]["one"] == method_scores(made, part, "one")
        assert found[value]["coverage"] == coverage(made.where(part))


def test_the_summary_has_the_alarms_of_its_identity_control():
    rows = []
    for i in range(18):
        row = a_row(i)
        rows.append(replace(row, distances=row.distances | {"identity": Distances(0.01, 1.0, 1.0)}))
    made = rows_of(rows, [*METHODS, "identity"])
    found = summarise(made, list(METHODS), "identity")["alarms"]
    assert found == alarms(made, METHODS, "identity") != alarms(made, METHODS, None)


def test_only_weights_that_recognise_people_tell_them():
    for name, item in weights.entries().items():
        assert tells_people(name) == (item.kind == "identity-encoder"), name
    assert tells_people("identity:cosine") and not tells_people("default") and not tells_people("lm68:cosine")


def test_methods_that_tell_people_raise_no_alarm_of_expressions():
    far = dict.fromkeys(("one", "identity"), Distances(9, 9, 1))
    rows = [replace(a_row(i), distances=far) for i in range(18)]
    made = rows_of(rows, ["one", "identity"])
    assert alarms(made, ["one"], None) == alarms(made, ["one", "identity"], None) != []
    assert alarms(made, ["identity"], None) == []


def test_rows_that_know_no_labels_are_split_by_source_and_model():
    rows = [replace(a_row(i, model="AB"[i % 2])) for i in range(6)]
    rows[0] = replace(rows[0], triplet=replace(rows[0].triplet, source=None))
    made = Rows(rows_of(rows, METHODS).table.drop_columns(["target_label", "source_label"]))
    assert list(splits(made)) == ["with_source", "without_source", "A", "B"]
