"""Studies: which faces people are asked about, what their answers say, and which answers files are refused."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from browser import Browser, find_browser
from click.testing import CliRunner
from exprmetric_cli.main import main
from results import Distances, Row, result, row, rows_of
from swaps import small_folder

from exprmetric.errors import InputError, MissingPackageError
from exprmetric.evaluation.evaluate import evaluate
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.evaluation.rows import Rows
from exprmetric.inputs.triplets import Triplet
from exprmetric.probes.answers import answered_set
from exprmetric.report.crops import Picture
from exprmetric.study import make as making
from exprmetric.study.agreement import alpha, figures
from exprmetric.study.answers import read_answers
from exprmetric.study.drawing import DIFFERENT, IDENTICAL, NAME, ODD, PAIR, Counts, draw_questions
from exprmetric.study.key import NAMES, Question, Study, digest_of, find_study, read_study
from exprmetric.study.make import Made, make_study
from exprmetric.study.outcome import Outcome, read_study_answers

MODELS = ("good", "bad", "rare")
COUNTS = Counts(pairs=12, odd=9, names=6, catch=2)
SECRET = "<b>model & co"


@pytest.fixture
def swaps(tmp_path: Path) -> EvaluationResult:
    """60 rows of 20 targets by three models, one of which has four rows alone."""
    rows = [
        row(tmp_path, f"t{i:02}", f"s{i % 7}", model=model, id_=f"{model} {i}", seed=model)
        for model in MODELS
        for i in range(20 if model != "rare" else 4)
    ]
    return result(rows)


@pytest.fixture
def plain_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results made by hand have no images: a picture is its file's name."""

    def look(found: dict[str, Any], finder: object, **how: object) -> list[Picture]:
        return [Picture(role, f"data:,{Path(found[role]).name}") for role in ("target", "source", "swapped")]

    monkeypatch.setattr(making, "look", look)
    monkeypatch.setattr(making, "result_finder", lambda summary: None)
    monkeypatch.setattr(making, "fingerprint", lambda finder, face: "dlib:0")


@pytest.fixture
def made(swaps: EvaluationResult, plain_pictures: None) -> Made:
    return make_study(swaps, COUNTS)


@pytest.fixture
def study(made: Made, tmp_path: Path) -> Study:
    return read_study(made.save(tmp_path / "study") / "study.json")


Say = Callable[[Question], int | None]


def says(study: Study, path: Path, answer: Say, *, rater: str = "", **more: Any) -> Path:
    """An answers file as the page saves it."""
    given = {q.id: {"value": v, "seconds": 1.5} for q in study.questions.values() if (v := answer(q)) is not None}
    record = {
        "schema_version": 1,
        "study": study.digest,
        "rater": rater or path.stem,
        "code": "",
        "started": "2026-01-01T00:00:00Z",
        "saved": "2026-01-01T00:10:00Z",
        "answers": given,
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record | more))
    return path


def careful(q: Question) -> int:
    """Somebody who thinks as lm68 does, and answers catch questions rightly."""
    t2c, s2c, s2t = (v or 0.0 for v in q.distances["lm68"])
    if q.catch and q.kind == ODD:
        return q.roles.index("source")
    if q.catch:
        return 5 if q.catch == IDENTICAL else 1
    if q.kind == ODD:
        return q.roles.index(("source", "target", "swapped")[int(np.argmin([t2c, s2c, s2t]))])
    return 5 - int(t2c * 4.99) if q.kind == PAIR else len(q.row["id"]) % len(NAMES)


def careless(q: Question) -> int:
    return {ODD: 0, PAIR: 3, NAME: 0}[q.kind]


# --- drawing ---


def test_models_are_asked_about_equally_and_near_swaps_as_much_as_far_ones(swaps: EvaluationResult):
    drawn = draw_questions(swaps.rows, ["lm68"], Counts(12, 0, 0, 0), lambda i: True)
    rows = swaps.rows.records(d.row for d in drawn)
    assert Counter(r["model"] for r in rows) == dict.fromkeys(MODELS, 4)
    for model in ("good", "bad"):
        every = sorted(r["lm68.t2c"] for r in swaps.triplets if r["model"] == model)
        mine = sorted(r["lm68.t2c"] for r in rows if r["model"] == model)
        assert [every.index(v) // 5 for v in mine] == [0, 1, 2, 3]  # one of each quarter


def test_the_same_seed_draws_the_same_study_and_another_seed_another(swaps: EvaluationResult, plain_pictures: None):
    first, again, other = (make_study(swaps, COUNTS, seed=s).record for s in (0, 0, 1))
    assert first["questions"] == again["questions"] and first["questions"] != other["questions"]


def test_two_faces_of_one_picture_are_both_named_and_one_face_is_named_once(tmp_path: Path):
    folder = [row(tmp_path, "group", f"s{i}", id_=f"group#{i}") for i in range(4)]
    table = result(folder).rows.table
    boxes = ["0 0 9 9", "20 0 29 9", "20 0 29 9", None]
    for role in ("target", "swapped"):
        place = table.column_names.index(f"box_{role}")
        table = table.set_column(place, f"box_{role}", pa.array(boxes, pa.string()))
    drawn = draw_questions(Rows(table), ["lm68"], Counts(0, 0, 8, 0), lambda i: True)
    named = [(d.roles[0], boxes[d.row]) for d in drawn]
    assert sorted(named, key=str) == sorted({(r, b) for r in ("target", "swapped") for b in boxes}, key=str)


def test_a_row_without_pictures_gives_its_place_to_another(swaps: EvaluationResult):
    gone = set(range(0, len(swaps.rows), 2))
    drawn = draw_questions(swaps.rows, ["lm68"], COUNTS, lambda i: i not in gone)
    assert not gone & {d.row for d in drawn}
    assert sum(d.kind == PAIR and not d.catch for d in drawn) == 10  # `rare` has two rows left for its four places
    with pytest.raises(InputError, match="no row of the result can be shown"):
        draw_questions(swaps.rows, ["lm68"], COUNTS, lambda i: False)


def test_catch_questions_are_identical_pictures_and_the_faces_farthest_apart(swaps: EvaluationResult):
    drawn = draw_questions(swaps.rows, ["lm68", "other"], COUNTS, lambda i: True)
    catches = [d for d in drawn if d.catch]
    assert Counter((d.kind, d.catch) for d in catches) == {
        (PAIR, IDENTICAL): 2,
        (PAIR, DIFFERENT): 2,
        (ODD, DIFFERENT): 2,
    }
    assert all(d.roles[0] == d.roles[1] for d in catches if d.catch == IDENTICAL)
    places = [np.argsort(np.argsort(swaps.rows.distance(m, "s2t"))) for m in ("lm68", "other")]
    least = np.min(places, axis=0)
    best = {d.row for d in catches if d.catch == DIFFERENT}
    groups = {swaps.triplets[i]["group"] for i in best}
    assert len(groups) == len(best)  # not twice the same target
    assert all(least[i] > np.median(least) for i in best) and max(least[i] for i in best) == least.max()


def test_swaps_without_sources_are_asked_about_in_pairs_alone(tmp_path: Path):
    rows = [
        Row(
            Triplet(f"r{i}", tmp_path / f"t{i}", None, tmp_path / f"c{i}"),
            f"t{i}",
            distances={m: Distances(0.1 + i / 10, np.nan, np.nan) for m in ("lm68", "other", "identity")},
        )
        for i in range(6)
    ]
    made = rows_of(rows, ["lm68", "other"])
    drawn = draw_questions(made, ["lm68"], Counts(4, 4, 0, 1), lambda i: True)
    assert Counter((d.kind, d.catch) for d in drawn) == {(PAIR, ""): 4, (PAIR, IDENTICAL): 1}


# --- the page ---


def test_the_page_names_no_model_file_or_distance_and_loads_nothing(tmp_path: Path, plain_pictures: None):
    rows = [row(tmp_path, f"tt{i}", f"ss{i}", model=SECRET, id_=f"row{i} {SECRET}") for i in range(8)]
    made = make_study(result(rows), COUNTS, title="<i>Hm & so")
    assert "default-src 'none'" in made.page and "form-action 'none'" in made.page
    assert "&lt;i&gt;Hm &amp; so" in made.page and "<i>Hm" not in made.page
    assert "http:" not in made.page and "https:" not in made.page and "src=" not in made.page
    for word in ("model", "lm68", "row1", str(tmp_path)):
        assert word not in made.page.split('id="study"')[1].split("</script>")[0]
    key = json.dumps(made.record)
    assert SECRET in json.loads(key)["questions"][0]["row"]["model"]


def test_who_asks_for_more_than_there_is_is_told(swaps: EvaluationResult, plain_pictures: None):
    notes = make_study(swaps, Counts(500, 3, 0, 1)).notes
    assert any(n.startswith("44 questions of the kind 'pair' in place of 500: each model") for n in notes)


# --- answers ---


def test_a_method_that_answers_as_people_do_agrees_with_them_fully(study: Study, tmp_path: Path):
    files = [says(study, tmp_path / "a" / f"r{i}.json", careful) for i in range(3)]
    found = read_study_answers(study, read_answers(files, study))
    lm68 = found.everybody.methods["lm68"]
    assert lm68.triplet_accuracy.value == 1 and lm68.triplet_accuracy.n == 9
    assert lm68.rank_correlation.value > 0.95 and lm68.rank_correlation.n == 12
    assert found.everybody.methods["other"].triplet_accuracy.value < 1
    assert found.everybody.people is not None and found.everybody.people.triplet_accuracy.value == 1
    assert found.everybody.reliability[PAIR].alpha == pytest.approx(1)
    assert found.passed is None and not found.failed


def test_correlation_and_accuracy_are_those_worked_out_by_hand(study: Study, tmp_path: Path):
    scipy = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(3)
    given = [
        {
            q.id: int(generator.integers(1, 6) if q.kind == PAIR else generator.integers(0, 3))
            for q in study.questions.values()
        }
        for _ in range(5)
    ]
    files = [says(study, tmp_path / "a" / f"r{i}.json", lambda q, g=g: g[q.id]) for i, g in enumerate(given)]  # type: ignore[misc]
    found = figures(study, read_answers(files, study), 0)
    pairs = study.of(PAIR)
    apart = [-np.mean([g[q.id] for g in given]) for q in pairs]
    for m in study.methods:
        expected = scipy.spearmanr([q.distances[m][0] for q in pairs], apart).statistic
        assert found.methods[m].rank_correlation.value == pytest.approx(expected)
    right = decided = 0
    for q in study.of(ODD):
        votes = Counter(g[q.id] for g in given).most_common()
        if len(votes) > 1 and votes[0][1] == votes[1][1]:
            continue
        decided += 1
        t2c, s2c, s2t = q.distances["other"]
        near = min((t2c, "source"), (s2c, "target"), (s2t, "swapped"))[1]  # type: ignore[type-var]
        right += q.roles[votes[0][0]] == near
    assert found.methods["other"].triplet_accuracy.n == decided == 9 - found.undecided
    assert found.methods["other"].triplet_accuracy.value == pytest.approx(right / decided)


def test_alpha_is_krippendorffs_own_example():
    """His worked example of three coders with gaps, as encyclopedias give it: nominal 0.691, ordinal 0.807."""
    pytest.importorskip("krippendorff")
    n = np.nan
    answers = np.array(
        [
            [n, n, n, n, n, 3, 4, 1, 2, 1, 1, 3, 3, n, 3],
            [1, n, 2, 1, 3, 3, 4, 3, n, n, n, n, n, n, n],
            [n, n, 2, 1, 3, 4, 4, n, 2, 1, 1, 3, 3, n, 4],
        ]
    )
    assert alpha(answers - 1, NAME) == pytest.approx(0.691, abs=5e-4)  # nominal
    assert alpha(answers - 1, PAIR) == pytest.approx(0.807, abs=5e-4)  # ordinal
    assert np.isnan(alpha(answers[:1], PAIR)) and np.isnan(alpha(np.ones((3, 4)), PAIR))


def test_who_fails_a_catch_question_is_named_and_numbers_stand_with_and_without(study: Study, tmp_path: Path):
    files = [says(study, tmp_path / "a" / f"r{i}.json", careful) for i in range(2)]
    files.append(says(study, tmp_path / "a" / "lazy.json", careless, code="Eve"))
    found = read_study_answers(study, read_answers(files, study))
    assert [r.name for r in found.failed] == ["Eve (lazy)"]
    assert found.passed is not None and found.passed.raters == 2 and found.everybody.raters == 3
    assert found.passed.reliability[PAIR].alpha == pytest.approx(1)
    assert found.everybody.reliability[PAIR].alpha < 0.9
    text = found.markdown()
    assert "Eve \\(lazy\\)" in text or "Eve (lazy)" in text
    assert "all raters, 3" in text and "without who failed, 2" in text
    plain = json.loads(found.to_json())
    assert plain["raters"][2]["catch_wrong"] and plain["without_failed"]["raters"] == 2


def test_half_a_study_counts_for_what_was_answered(study: Study, tmp_path: Path):
    half = set(list(study.questions)[::2])
    files = [says(study, tmp_path / "a" / "x.json", lambda q: careful(q) if q.id in half else None)]
    found = read_study_answers(study, read_answers(files, study))
    asked = sum(q.id in half for q in study.of(PAIR))
    assert found.everybody.reliability[PAIR].answers == asked
    assert found.everybody.methods["lm68"].rank_correlation.n == asked
    assert found.everybody.people is None and np.isnan(found.everybody.reliability[PAIR].alpha)


def test_what_people_say_of_a_model_is_their_mean_answer(study: Study, tmp_path: Path):
    marks = {"good": 5, "bad": 2, "rare": 3}
    files = [
        says(study, tmp_path / "a" / f"{i}.json", lambda q: marks[q.row["model"]] if q.kind == PAIR else 0)
        for i in range(2)
    ]
    said = figures(study, read_answers(files, study), 0).models
    assert {m: s.mean.value for m, s in said.items()} == marks
    assert {m: s.alike.value for m, s in said.items()} == {"good": 1, "bad": 0, "rare": 0}


REFUSED: dict[str, tuple[Callable[[str], str], str]] = {
    "cut off": (lambda t: t[:-20], "no JSON"),
    "a picture": (lambda t: "\x89PNG", "no JSON"),
    "another version": (lambda t: t.replace('"schema_version": 1', '"schema_version": 2'), "schema_version"),
    "a question that isn't there": (lambda t: t.replace('"q1"', '"q999"'), "no question 'q999'"),
    "an answer that can't be": (
        lambda t: t.replace('"value": 0', '"value": 9').replace('"value": 3', '"value": 9'),
        "no answer",
    ),
    "an answer in words": (lambda t: t.replace('"value": 0', '"value": "0"'), "whole number"),
    "no answers": (lambda t: t.replace('"answers"', '"answer"'), "answers is missing"),
    "another study": (lambda t: t.replace('"study": "', '"study": "0'), "another study"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_answers_file_is_refused_by_name(study: Study, tmp_path: Path, what: str):
    change, message = REFUSED[what]
    path = says(study, tmp_path / "answers.json", careless)
    path.write_bytes(change(path.read_text()).encode("latin-1"))
    with pytest.raises(InputError, match=message) as caught:
        read_answers([path], study)
    assert "answers.json" in str(caught.value)


def test_two_files_of_one_person_are_refused_and_both_named(study: Study, tmp_path: Path):
    files = [says(study, tmp_path / f"{name}.json", careful, rater="same") for name in ("old", "new")]
    with pytest.raises(InputError, match=r"new\.json.*old\.json.*one person"):
        read_answers(files, study)
    with pytest.raises(InputError, match="isn't there"):
        read_answers([tmp_path / "none.json"], study)


def test_a_study_that_was_changed_is_refused(made: Made, tmp_path: Path):
    path = made.save(tmp_path) / "study.json"
    record = json.loads(path.read_text())
    record["questions"][0]["distances"]["lm68"][0] = 0.001
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match="changed after it was written"):
        read_study(path)
    record["questions"][0]["pictures"] = ["nothing"]
    record["digest"] = digest_of(record)
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match="damaged: question"):
        read_study(path)


def test_the_study_is_found_beside_its_answers_or_where_it_is_named(study: Study, tmp_path: Path):
    answers = tmp_path / "study" / "answers" / "a.json"
    assert find_study([answers], None) == tmp_path / "study" / "study.json"
    assert find_study([Path("a.json")], tmp_path / "study") == tmp_path / "study" / "study.json"
    with pytest.raises(InputError, match="--study"):
        find_study([tmp_path / "elsewhere" / "far" / "a.json"], None)


def test_named_faces_become_ratings_that_the_probes_read(study: Study, tmp_path: Path):
    for picture in study.record["pictures"].values():
        picture["faces"] = 1
    files = [says(study, tmp_path / "a" / f"r{i}.json", careful) for i in range(3)]
    out = tmp_path / "out"
    written = Outcome.save(read_study_answers(study, read_answers(files, study)), out)
    assert {"people.json", "people.md", "ratings/ratings.csv", "ratings/raw_ratings.csv"} == set(written)
    answered = answered_set(out / "ratings")
    assert len(answered.faces) == len(study.of(NAME)) and set(answered.raters) == {3}
    assert np.allclose(answered.shares.max(1), 1)  # all three say the same


def test_the_commands_say_what_is_missing(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = says(study, tmp_path / "a.json", careful)
    found = CliRunner().invoke(main, ["study", "read", str(path), "--study", str(tmp_path / "study")])
    assert found.exit_code == 0 and "Krippendorff's alpha" in found.output
    monkeypatch.setitem(sys.modules, "krippendorff", None)
    with pytest.raises(MissingPackageError, match=r"exprmetric\[study\].*pip install -e '\.\[study\]'"):
        read_study_answers(study, read_answers([path], study))


# --- in a browser ---


@pytest.mark.slow
@pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed")
def test_a_person_can_answer_the_page_by_keys_and_by_mouse_and_go_on_after_a_break(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
):
    result = evaluate(small_folder(tmp_path_factory), ["lm68"], detector="dlib")
    study = read_study(make_study(result, Counts(4, 3, 2, 1)).save(tmp_path / "study") / "study.json")
    page, total = tmp_path / "study" / "study.html", len(study.questions)
    pictures = json.loads(page.read_text().split('id="study">')[1].split("</script>")[0])["pictures"]
    assert all(uri.startswith("data:image/jpeg;base64,") for uri in pictures.values())

    def done(browser: Browser) -> int:
        return int(browser.run("Object.keys(JSON.parse(localStorage.getItem(localStorage.key(0))).answers).length"))

    def answer(browser: Browser, key: str) -> None:
        """One question more is answered by a key, when the page is ready for it."""
        before = browser.run(told := "document.getElementById('count').textContent")
        while browser.run(told) == before:
            browser.press(key)

    with Browser(tmp_path / "one", width=390, height=844) as browser:
        browser.open(page)
        browser.run("document.getElementById('code').value = 'Ann'")
        browser.click("#go")
        for key in "123":
            answer(browser, key)
        assert browser.run("document.activeElement.id") == "question"  # a screen reader begins there
        assert done(browser) == 3
        browser.press("ArrowLeft")
        assert browser.run("document.getElementById('count').textContent") == f"Question 3 of {total}"
        assert browser.run("document.querySelectorAll('[aria-pressed=true]').length") == 1
        wide = browser.run("document.documentElement.scrollWidth <= window.innerWidth")
        assert wide, "the page is wider than a phone"
        assert browser.run("[...document.images].every((i) => i.complete && i.naturalWidth > 0 && i.alt)")
    with Browser(tmp_path / "one") as browser:  # the same browser after a restart
        browser.open(page)
        assert "3 of" in browser.run("document.getElementById('memory').textContent")
        browser.click("#go")
        while browser.run("document.getElementById('end').hidden"):
            for _ in range(12):  # by keyboard alone, without the numbers: the first answer is behind some tabs
                browser.press("Tab")
                if browser.run("document.activeElement.hasAttribute('aria-pressed')"):
                    break
            browser.run("new Promise((go) => setTimeout(go, 260))")
            browser.press("Enter")
        assert done(browser) == total
        browser.click("#save")
        browser.wait("document.getElementById('saved').textContent")
        text = browser.run("document.getElementById('text').value")
        saved = browser.downloads
        for _ in range(100):
            if files := list(saved.glob("answers-*.json")):
                break
            browser.run("new Promise((go) => setTimeout(go, 50))")
        assert browser.errors == []
    record = json.loads(files[0].read_text())
    assert record["code"] == "Ann" and record["answers"] == json.loads(text)["answers"]
    found = read_study_answers(study, read_answers(files, study))
    assert found.raters[0].name.startswith("Ann (") and len(found.raters[0].answers) == total
    assert found.everybody.methods["lm68"].rank_correlation.n == 4
