"""Alarms: a result that measures something else than was meant says so, and a healthy one says nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from swaps import small_folder

from exprmetric.evaluation.alarms import find_alarms
from exprmetric.evaluation.evaluate import evaluate
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.evaluation.tables import page as told
from exprmetric.inputs.triplets import ROLES, Triplet, read_triplets

Floats = npt.NDArray[np.float64]
Points = dict[str, Floats]

SWAP = {"target": "target", "source": "source", "swapped": "swapped"}
PERMUTATIONS = {
    "target and source": {"target": "source", "source": "target", "swapped": "swapped"},
    "source and swapped": {"target": "target", "source": "swapped", "swapped": "source"},
    "target and swapped": {"target": "swapped", "source": "source", "swapped": "target"},
    "three roles": {"target": "source", "source": "swapped", "swapped": "target"},
    "three roles, the other way": {"target": "swapped", "source": "target", "swapped": "source"},
}


def made(count: int = 20, *, seed: int = 0, moved: float = 1.0) -> dict[str, Points]:
    """Faces as points: `person` and `expression` of target, source and swapped face, (N, 8) each. The swapped face has
    the source's person (`moved` of the way) and the target's expression, nearly."""
    rng = np.random.default_rng(seed)

    def unlike() -> tuple[Floats, Floats]:
        """Two faces at distance 0.8 in each row."""
        a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in rng.normal(size=(2, count, 8)))
        return a, a + 0.8 * b

    noise = rng.normal(size=(2, count, 8))
    noise *= np.array([0.4, 0.1])[:, None, None] / np.linalg.norm(noise, axis=2, keepdims=True)
    found = {}
    for i, kind in enumerate(("person", "expression")):
        target, source = unlike()
        swapped = target + moved * (source - target) if kind == "person" else target
        found[kind] = {"target": target, "source": source, "swapped": swapped + noise[i]}
    return found


def distances(points: Points, roles: dict[str, str] = SWAP) -> Floats:
    """(N, 3) t2c, s2c, s2t of faces whose columns are named by `roles`."""
    t, s, c = (points[roles[role]] for role in ROLES)
    return np.stack([np.linalg.norm(a - b, axis=1) for a, b in ((t, c), (s, c), (s, t))], axis=1)


def alarms(faces: dict[str, Points], roles: dict[str, str] = SWAP, *, identity: bool = True) -> list[str]:
    people = distances(faces["person"], roles) if identity else None
    return find_alarms({"m": distances(faces["expression"], roles)}, people, {})


def test_a_healthy_result_has_no_alarm() -> None:
    assert alarms(made()) == [] == alarms(made(), identity=False)
    assert find_alarms({}, None, {}) == [] == find_alarms({"m": np.empty((0, 3))}, np.empty((0, 3)), {})


@pytest.mark.parametrize("what", PERMUTATIONS)
def test_exchanged_roles_are_told_with_the_exchange(what: str) -> None:
    (alarm,) = alarms(made(), PERMUTATIONS[what])
    told = re.search(r"(\d+) of (\d+) rows", alarm)
    assert told and told[1] == told[2] and int(told[2]) >= 18  # those whose people can be told apart
    assert ("Are the three roles mixed up?" if "three" in what else f"Are {what} exchanged?") in alarm


def test_exchanged_roles_are_told_without_the_identity_control_too() -> None:
    (alarm,) = alarms(made(), PERMUTATIONS["target and source"], identity=False)
    assert "20 of 20 rows" in alarm and "identity control would tell" in alarm


def test_a_source_that_was_not_swapped_in_is_told() -> None:
    faces = made()
    faces["person"]["source"] = np.roll(faces["person"]["source"], 1, axis=0)
    faces["expression"]["source"] = np.roll(faces["expression"]["source"], 1, axis=0)
    (alarm,) = alarms(faces)
    assert "not recognised as its source's person" in alarm and re.search(r"in 1\d of \d\d rows|in 20 of 20", alarm)


@pytest.mark.parametrize("noise", [0.0, 0.02], ids=["copies", "written again"])
def test_swaps_in_which_nothing_was_swapped_are_told(noise: float) -> None:
    faces = made()
    for points in faces.values():
        points["swapped"] = points["target"] + np.random.default_rng(1).normal(scale=noise, size=(20, 8))
    (alarm,) = alarms(faces)
    assert alarm.startswith("Nothing seems to have been swapped in 20 of 20 rows") and "mean distance 0.0" in alarm
    if not noise:
        assert "Nothing seems to have been swapped" in alarms(faces, identity=False)[0]


def test_nothing_swapped_is_told_where_there_is_no_source() -> None:
    faces = made()
    people = distances(faces["person"] | {"swapped": faces["person"]["target"]})
    people[:, 1:] = np.nan
    (alarm,) = find_alarms({"m": people}, people, {})
    assert alarm.startswith("Nothing seems to have been swapped in 20 of 20 rows")
    changed = distances(faces["person"])
    changed[:, 1:] = np.nan
    assert find_alarms({"m": changed}, changed, {}) == []


def test_pasted_sources_and_a_source_that_is_the_target_are_told() -> None:
    pasted, same = made(), made()
    for points in pasted.values():
        points["swapped"] = points["source"]
    assert "Are the swapped images copies of the sources?" in alarms(pasted)[0]
    for points in same.values():
        points["source"] = points["target"]
    assert any("Target and source are the same picture in 20 of 20" in alarm for alarm in alarms(same))


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_odd_faces_are_no_alarm_about_roles(count: int) -> None:
    for roles in PERMUTATIONS.values():
        assert alarms(made(count), roles) == [] == alarms(made(count), roles, identity=False)


def test_a_sign_that_less_than_half_of_the_rows_show_is_no_alarm() -> None:
    healthy, exchanged = made(11), made(9, seed=1)
    roles = PERMUTATIONS["target and source"]
    people = np.concatenate([distances(healthy["person"]), distances(exchanged["person"], roles)])
    faces = np.concatenate([distances(healthy["expression"]), distances(exchanged["expression"], roles)])
    assert find_alarms({"m": faces}, people, {}) == []
    models = {"a": np.arange(20) < 11, "b": np.arange(20) >= 11}
    (alarm,) = find_alarms({"m": faces}, people, models)  # but of the one model all rows show it
    assert alarm.startswith("Model b: In 9 of 9 rows")


def test_a_weak_swap_that_keeps_the_expression_is_no_alarm() -> None:
    for moved in (0.45, 0.5, 0.55):
        assert alarms(made(moved=moved)) == []


@pytest.mark.parametrize(("towards", "told"), [((0.1, 0.4), True), ((0.5, 0.8), False)], ids=["stranger's", "own"])
def test_a_weak_swap_with_a_wrong_source_is_told_by_the_way_it_moved(towards: tuple[float, float], told: bool) -> None:
    """Cosines as measured on swaps that were mixed with their targets, half and half."""
    cosine, t2c, s2t = np.linspace(*towards, 20), np.full(20, 0.45), np.full(20, 0.9)
    people = np.stack([t2c, np.sqrt(t2c**2 + s2t**2 - 2 * cosine * t2c * s2t), s2t], axis=1)
    found = find_alarms({"m": np.full((20, 3), [0.1, 0.9, 0.9])}, people, {})
    assert [("Is `source` the face that was swapped in?" in alarm) for alarm in found] == [True] * told
    assert all("20 of 20 rows, nor did the target's move towards it" in alarm for alarm in found)


def test_methods_that_disagree_outvote_the_odd_one() -> None:
    faces, roles = made(), PERMUTATIONS["target and source"]
    good, odd = distances(faces["expression"]), distances(faces["expression"], roles)
    people = distances(faces["person"], roles)
    assert not any("exchanged" in alarm for alarm in find_alarms({"a": good, "b": good, "c": odd}, people, {}))
    assert "exchanged" in find_alarms({"a": odd, "b": good, "c": odd}, people, {})[0]


# Real faces


def _evaluate(triplets: Sequence[Triplet], tmp_path: Path, methods: Sequence[str] = ("lm68",)) -> EvaluationResult:
    return evaluate(triplets, methods, detector="dlib", cache=tmp_path / "cache")


def test_copies_of_the_targets_are_told_on_real_faces_above_the_table_and_in_every_output(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    from exprmetric.report.html import report_page

    swaps = read_triplets(small_folder(tmp_path_factory))[:4]
    assert _evaluate(swaps, tmp_path).summary["alarms"] == []
    result = _evaluate([replace(t, swapped=t.target, model="M\x1b[2J") for t in swaps], tmp_path)
    (alarm,) = result.summary["alarms"]
    assert alarm.startswith("Nothing seems to have been swapped in 4 of 4 rows")
    told(result).say("table")
    out = " ".join(capsys.readouterr().out.split())
    assert out.index("ALARM: Nothing seems") < out.index("method")
    told(result).say("csv")
    assert "ALARM: Nothing" in capsys.readouterr().err
    assert "**ALARM: Nothing" in result.to_markdown()
    page = report_page(result)
    assert page.index('role="alert">Nothing seems') < page.index('id="headline"')


@pytest.mark.slow
@pytest.mark.shared
def test_wrong_roles_wrong_sources_and_copies_of_published_swaps_are_told(
    shared: Path, shared_data: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(shared / "weights"))
    methods = ("default", "lm68", "lm51")
    all_of_them = read_triplets(shared_data("swaps_dev"))
    swaps = [t for t in all_of_them if t.model in ("SimSwap", "FaceShifter")][::7]
    sources = {t.source for t in swaps}
    strangers = [next(s for s in sorted(sources, key=str) if s != t.source) for t in swaps]
    variants = {
        "nothing": swaps,
        "Are target and source exchanged?": [replace(t, target=t.source, source=t.target) for t in swaps],
        "not recognised as its source's person": [replace(t, source=s) for t, s in zip(swaps, strangers, strict=True)],
        "Nothing seems to have been swapped": [replace(t, swapped=t.target) for t in swaps],
        "copies of the sources": [replace(t, swapped=t.source) for t in swaps],
    }
    for sign, triplets in variants.items():
        found = _evaluate(triplets, tmp_path, methods).summary["alarms"]
        assert [sign in alarm for alarm in found] == ([] if sign == "nothing" else [True]), (sign, found)
