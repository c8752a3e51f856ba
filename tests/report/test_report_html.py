"""`report.html`: its numbers are the result's, its pictures the measured faces, and no name in the input can act."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Browser
from click.testing import CliRunner, Result
from exprmetric_cli.main import main
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from results import Distances, result, row

from exprmetric.errors import ExprmetricError
from exprmetric.evaluation.evaluate import evaluate
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.evaluation.rows import Rows
from exprmetric.evaluation.tables import cell, models_of
from exprmetric.faces import FaceFinder, load_detector
from exprmetric.io.images import read_image
from exprmetric.report import crops, figures, html
from exprmetric.report.gallery import failures, gallery

FAST = ["--method", "lm68", "--method", "lm51", "--detector", "dlib", "--quiet"]
NAME = "<script>alert(1)<script> \"><img src=x onerror=alert(2)> & 'q'"
MODEL = "</script><script>alert(3)</script>"


@dataclass
class Page(HTMLParser):
    """What a browser would make of a page, as far as the tests ask."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._raw = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._raw = tag in ("script", "style")
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._raw = False

    def handle_data(self, data: str) -> None:
        if self._raw and self.tags[-1][0] == "script":
            self.scripts[-1] += data
        elif not self._raw:
            self.text.append(data)

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [a for t, a in self.tags if t == tag and all(a.get(k) == v for k, v in wanted.items())]

    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def parsed(text: str) -> Page:
    page = Page()
    page.feed(text)
    page.close()
    return page


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def picture(uri: str) -> np.ndarray[Any, Any]:
    head, _, data = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six swaps of two models with hostile names, one without a face, one without a file."""
    from exprmetric.demo.make import demo_faces
    from exprmetric.faces.swap import swap_face

    folder = tmp_path_factory.mktemp("input")
    rows = []
    for i, (target, source) in enumerate(list(permutations(demo_faces(load_detector("dlib")), 2))[::3][:6]):
        swapped = swap_face(target.image, target.points, source.image, source.points)
        names = {}
        for role, image in (("target", target.image), ("source", source.image), ("swapped", swapped)):
            names[role] = f"{role} {i} {NAME}.png"
            Image.fromarray(image).save(folder / names[role])
        rows.append({"id": f"{i} {NAME}", "model": MODEL if i % 2 else "plain", **names})
    Image.new("RGB", (300, 200), "grey").save(folder / f"blank {NAME}.png")
    rows.append({**rows[0], "id": "blank", "swapped": f"blank {NAME}.png"})
    rows.append({**rows[1], "id": "gone", "source": f"gone {NAME}.png"})
    path = folder / "triplets.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def measured(manifest: Path) -> EvaluationResult:
    return evaluate(manifest, ["lm68", "lm51"], detector="dlib")


@pytest.fixture(scope="module")
def page(measured: EvaluationResult) -> str:
    return html.report_page(measured)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results made by hand have no images."""
    monkeypatch.setattr(html, "with_pictures", lambda cards, finder, pool: cards)


# --- what it shows ---


def test_the_headline_is_the_summary(measured: EvaluationResult, page: str):
    words = parsed(page).words()
    assert "6 of 8 triplets measured (75.0 %); failed: no_face 1, unreadable 1" in words
    for m in measured.summary["methods"].values():
        for score in ("l2_error", "mean_t2c", "ratio"):
            assert score == "ratio" or cell(m[score]) not in words  # of several models: never pooled
    for group in measured.summary["groups"].values():
        assert all(cell(m["mean_t2c"]) in words for m in group["methods"].values())
    models = models_of(measured.summary)
    for name in models:
        for m in measured.summary["groups"][name]["methods"].values():
            for anchor in m["anchors"].values():
                for score in ("l2_error", "mean_t2c", "ratio"):  # another target has no source
                    assert anchor.get(score) is None or f"{anchor[score]:.3f}" in words
    assert models and cell(measured.summary["identity"]["nearer_to_source"]) not in words  # never all models in one
    for name in models:
        control = measured.summary["groups"][name]["identity"]
        assert not control["n"] or f"{name}: identity control" in words
        assert not control["n"] or cell(control["nearer_to_source"]) in words


def test_every_triplets_numbers_are_in_the_page(measured: EvaluationResult, page: str):
    found = parsed(page)
    data = json.loads(found.scripts[0])
    assert data["scores"] == [f"{m}.{d}" for m in ("lm68", "lm51", "identity") for d in ("t2c", "s2c", "s2t")]
    assert len(data["rows"]) == 8
    for i, r in enumerate(measured.triplets):
        assert data["rows"][str(i)] == [r["model"], r["status"], [r[s] for s in data["scores"]]]
    assert sum("data-i" in a for t, a in found.tags if t == "tr") == 8


def test_failures_are_shown_with_reason_and_pictures(measured: EvaluationResult, page: str):
    found = parsed(page)
    for r in measured.triplets[6:]:
        assert r["status"] != "ok" and " ".join(r["reason"].split()) in found.words()
    blank = [a for a in found.all("img") if a["alt"] == "swapped of blank"]
    assert [picture(str(a["src"])).shape for a in blank] == [(149, 224, 3)]  # the whole image, as no face was found
    assert [a for a in found.all("img") if a["alt"] == "source of gone"] == []


def test_pictures_are_the_aligned_faces_with_their_landmarks(measured: EvaluationResult):
    finder = FaceFinder(load_detector("dlib"))
    r = measured.triplets[0]
    for shown, role in zip(crops.look(r, finder), ("target", "source", "swapped"), strict=True):
        face = finder.find(read_image(r[role]))
        crop = Image.fromarray(face.crop("eyes70")).resize((crops.SIDE, crops.SIDE), Image.Resampling.LANCZOS)
        assert np.abs(picture(shown.uri).astype(float) - np.asarray(crop)).mean() < 4
        points = np.array([p.split() for p in re.findall(r"M(\S+ \S+)h0", shown.landmarks)], float)
        assert np.abs(points - 224 * face.aligned_landmarks()).max() <= 1.01
        assert (shown.role, shown.problem) == (role, "")


def test_of_several_faces_the_picture_shows_the_one_where_the_targets_stood(group_photo: Path):
    finder = FaceFinder(load_detector("dlib"))
    image = read_image(group_photo)
    largest = finder.find(image)
    other = next(d for d in finder.detect(image) if not np.allclose(d.box, largest.box))
    expected = finder.face(image, other)
    near, alone = (
        crops._picture("swapped", str(group_photo), finder, p, "", crops.SIDE, crops.QUALITY)[0]
        for p in (expected.place, None)
    )
    assert near.landmarks != alone.landmarks
    row = dict.fromkeys(("target", "source", "swapped"), str(group_photo)) | {
        "box_target": " ".join(str(round(v)) for v in other.box)
    }
    shown = [p.landmarks for p in crops.look(row, finder)]
    assert shown == [near.landmarks, alone.landmarks, near.landmarks]  # the one measured, the largest, at its place
    assert (
        np.abs(picture(alone.uri) - np.asarray(picture(crops.jpeg_uri(largest.crop("eyes70")))).astype(float)).max()
        == 0
    )
    assert (
        np.abs(picture(near.uri) - np.asarray(picture(crops.jpeg_uri(expected.crop("eyes70")))).astype(float)).max()
        == 0
    )


def test_the_gallery_holds_worst_median_and_best_of_each_method(tmp_path: Path):
    made = result([row(tmp_path, f"t{i}", "s", status="no_face" if i == 5 else "ok") for i in range(40)])
    chosen = gallery(made.rows, ["lm68", "other"])
    for method in ("lm68", "other"):
        order = sorted((r for r in made.triplets if r["status"] == "ok"), key=lambda r: -r[f"{method}.t2c"])
        for place, part in (("worst", order[:4]), ("best", order[-4:]), ("median", order[17:21])):
            tagged = [c.row["id"] for c in chosen if f"{place} by {method}" in c.tags]
            assert sorted(tagged) == sorted(r["id"] for r in part)
    assert all(made.triplets[c.index] == c.row for c in chosen) and len({c.index for c in chosen}) == len(chosen)


def test_galleries_stay_small_for_many_methods_and_whole_for_few_rows(tmp_path: Path):
    methods = [f"m{i}" for i in range(30)]
    made = result([row(tmp_path, f"t{i}", "s", methods=methods) for i in range(80)], methods=methods)
    assert 0 < len(gallery(made.rows, methods)) <= 36
    assert len(gallery(Rows.from_records(made.triplets[:2]), methods)) == 2
    assert gallery(result([], methods=methods).rows, methods) == []


def test_failures_are_counted_by_status_and_by_the_image_that_failed(tmp_path: Path):
    reasons = [("no_face", "swapped /x: none"), ("unreadable", "no target image is given"), ("no_face", "target y")]
    rows = [row(tmp_path, f"t{i}", "s", status=s, reason=r) for i, (s, r) in enumerate(reasons * 8)]
    found = failures(result([*rows, row(tmp_path, "ok", "s")]).rows)
    assert [(f.status, f.count, f.roles) for f in found] == [
        ("no_face", 16, {"swapped": 8, "target": 8}),
        ("unreadable", 8, {"target": 8}),
    ]
    assert [len(f.cards) for f in found] == [6, 6]


def test_models_on_the_same_faces_are_compared_in_the_report(tmp_path: Path, no_pictures: None):
    rows = [row(tmp_path, f"t{i}", "s", model=m, seed=m, id_=f"{m}{i}") for i in range(9) for m in ("one", "two")]
    words = parsed(html.report_page(result(rows))).words()
    assert "Models on the same targets and sources" in words
    difference = np.mean([r.distances["lm68"].t2c * (1 if r.triplet.model == "one" else -1) for r in rows]) * 2
    assert f"{difference:+.3f} [" in words
    apart = [row(tmp_path, f"{m}{i}", "s", model=m) for i in range(4) for m in ("one", "two")]
    assert "No two models were given the same target and source" in parsed(html.report_page(result(apart))).words()


def test_a_report_of_nothing_measured_says_so(tmp_path: Path, no_pictures: None):
    made = result([row(tmp_path, "t", "s", status="no_face", reason="target t: none")])
    words = parsed(html.report_page(made)).words()
    assert "0 of 1 triplets measured" in words and "Nothing was measured." in words


@pytest.mark.parametrize("kind", ["one row", "equal", "all zero", "no identity"])
def test_reports_of_odd_results_are_drawn(tmp_path: Path, no_pictures: None, kind: str):
    rows = [row(tmp_path, f"t{i}", "s") for i in range(1 if kind == "one row" else 6)]
    if kind in ("equal", "all zero"):
        flat = {m: Distances(0.0, 0.0, 0.0) for m in rows[0].distances}
        rows = [replace(r, distances=flat if kind == "all zero" else rows[0].distances) for r in rows]
    made = result(rows)
    if kind == "no identity":
        triplets = [{k: v for k, v in t.items() if not k.startswith("identity.")} for t in made.triplets]
        made = EvaluationResult({**made.summary, "identity": None}, Rows.from_records(triplets))
    page = html.report_page(made)
    assert "nan" not in parsed(page).words().lower().split() and "NaN" not in page and 'x="nan"' not in page
    assert ("Identity transfer" in page) == (kind != "no identity")


def test_a_large_result_makes_a_small_page(tmp_path: Path, no_pictures: None):
    rows = [row(tmp_path, f"t{i % 50}", "s", seed=i, id_=f"row {i}") for i in range(3000)]
    text = html.report_page(result(rows))
    assert "The first 2000 of 3000 triplets" in parsed(text).words()
    assert "1000 (evenly drawn of 3000) triplets" in parsed(text).words()
    assert len(text) < 2_000_000


# --- figures ---


@given(st.floats(0, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_even_and_inside(low: float, span: float):
    high = low + span
    found = figures.ticks(low, high)
    if span < 1e-3 * high:  # closer together than ticks are rounded to
        return
    assert 2 <= len(found) <= 12 and found == sorted(set(found))
    assert all(low - 1e-6 * span <= v <= high + 1e-6 * span for v in found)
    assert np.allclose(np.diff(found), found[1] - found[0], rtol=1e-3)


def test_dots_stand_where_their_numbers_say(tmp_path: Path):
    made = result([row(tmp_path, f"t{i}", "s") for i in range(5)]).triplets
    unchanged = {**made[0], "lm68.t2c": 0.0, "identity.t2c": 0.0, "identity.s2c": 0.7}
    pasted = {**made[0], "lm68.t2c": 0.5, "lm68.s2t": 0.5, "identity.t2c": 0.7, "identity.s2c": 0.0}
    drawn = figures.scatter(Rows.from_records([unchanged, pasted]), "lm68", "identity", {"": 0})
    nothing, source = drawn.anchors
    assert (drawn.dots[0].x, drawn.dots[0].y) == (nothing.x, nothing.y)
    assert drawn.dots[1].x == source.x and nothing.x < source.x
    mean = (unchanged["lm68.s2t"] + 0.5) / 2
    assert (nothing.y - source.y) / (nothing.y - drawn.dots[1].y) == pytest.approx(mean / 0.5, abs=0.01)


def test_calibration_is_a_ratio_of_means_with_its_interval(tmp_path: Path):
    made = result([row(tmp_path, f"t{i}", "s", model="m" if i % 2 else "k") for i in range(40)])
    drawn = figures.calibration(made.rows, "lm68")
    assert drawn is not None
    assert [b.label for b in drawn.bars] == ["k (n 20)", "m (n 20)"]  # models are never pooled
    drawn = figures.calibration(result([row(tmp_path, f"t{i}", "s") for i in range(40)]).rows, "lm68")
    assert drawn is not None and [b.label for b in drawn.bars] == ["all triplets (n 40)"]
    t2c, s2t = (np.array([r[f"lm68.{d}"] for r in made.triplets]) for d in ("t2c", "s2t"))
    value, low, high = map(float, re.findall(r"[\d.]+", drawn.bars[0].text))
    assert value == pytest.approx(t2c.mean() / s2t.mean(), abs=0.006)
    draws = np.random.default_rng(5).integers(0, 40, (4000, 40))  # the bootstrap of the ratio itself
    expected = np.quantile(t2c[draws].mean(1) / s2t[draws].mean(1), [0.025, 0.975])
    assert [low, high] == pytest.approx(expected, abs=0.04)
    bar = drawn.bars[0]
    assert drawn.axes.right + 100 <= drawn.axes.width  # numbers stand beside the drawing, where no line is
    assert drawn.pasted <= drawn.axes.right
    assert (bar.at - drawn.nothing) / (drawn.pasted - drawn.nothing) == pytest.approx(value, abs=0.006)


def test_histograms_count_every_triplet(tmp_path: Path):
    made = result([row(tmp_path, f"t{i}", "s") for i in range(200)]).triplets
    drawn = figures.histogram(Rows.from_records(made), "lm68")
    counts = np.histogram(
        [r["lm68.t2c"] for r in made], figures.BINS, (0, max(max(r["lm68.t2c"], r["lm68.s2c"]) for r in made))
    )[0]
    heights = [float(v) for v in re.findall(r"V([\d.]+)H", drawn.outlines["t2c"])]
    floor = float(drawn.outlines["t2c"].split()[1].split("V")[0])
    up = floor - np.array(heights)
    assert up / up.sum() * 200 == pytest.approx(counts, abs=0.05)


def test_no_figure_pools_several_models(tmp_path: Path):
    alone = {
        name: [row(tmp_path, f"{name}{i}", "s", model=name) for i in range(4 + 3 * k)] for k, name in enumerate("kmb")
    }
    rows = {name: result(made).rows for name, made in alone.items()}
    alone[""] = [row(tmp_path, f"none{i}", "s") for i in range(5)]
    one = result([r for made in alone.values() for r in made])
    drawn = figures.histograms(one.rows, ["lm68", "other"], ["k", "m", "b"])
    assert [(h.about, h.method) for h in drawn] == [(f"{n} (n {len(alone[n])})", "lm68") for n in "kmb"]
    highest = max(float(r.distance("lm68", d).max()) for r in rows.values() for d in ("t2c", "s2c"))
    for h, name in zip(drawn, "kmb", strict=True):
        expected = figures.histogram(rows[name], "lm68", h.about, highest)
        assert (h.outlines, h.means, h.axes) == (expected.outlines, expected.means, expected.axes)
    dots = figures.scatter(one.rows, "lm68", "identity", {"": 0, "k": 1, "m": 2, "b": 3})
    ends = {d.label.partition(": ")[2]: d for d in dots.anchors[1:]}
    assert {name: d.series for name, d in ends.items()} == {"no model named": 0, "k": 1, "m": 2, "b": 3}
    floor = dots.anchors[0].y
    means = {name: rows[name].distance("lm68", "s2t").mean() for name in "kmb"}
    heights = {name: floor - ends[name].y for name in "kmb"}
    assert [h / heights["k"] for h in heights.values()] == pytest.approx(
        [m / means["k"] for m in means.values()], rel=0.01
    )
    bars = figures.calibration(one.rows, "lm68")
    assert bars is not None and {b.label for b in bars.bars} == {
        "no model named (n 5)", "k (n 4)", "m (n 7)", "b (n 10)"
    }  # fmt: skip


def test_commands_in_a_sentence_are_code_and_all_else_is_escaped():
    assert html.commands("<b> `exprmetric compare` & more") == "&lt;b&gt; <code>exprmetric compare</code> &amp; more"
    assert html.commands("`<i>`") == "<code>&lt;i&gt;</code>"


def test_a_card_puts_the_score_between_its_anchors_and_several_models_are_not_pooled(tmp_path: Path):
    one = result([row(tmp_path, f"t{i}", "s") for i in range(8)])
    cards = html._places(one)
    assert [c.about for c in cards] == ["lm68", "other"]
    scores = one.summary["methods"]["lm68"]
    expected = scores["mean_t2c"]["value"] / scores["anchors"]["source_pasted"]["mean_t2c"]
    assert cards[0].share == pytest.approx(expected)
    assert (cards[0].at - 4) / (cards[0].end - 4) == pytest.approx(expected, abs=0.001)
    two = html._places(result([row(tmp_path, f"t{i}", "s", model="mk"[i % 2]) for i in range(8)]))
    assert [(c.about, c.n, c.method) for c in two] == [("k", 4, "lm68"), ("m", 4, "lm68")]


def test_the_page_says_what_it_is_about_and_lists_its_parts(page: str):
    found = parsed(page)
    assert [i for i, (t, _) in enumerate(found.tags) if t == "nav"]
    headings = [str(a["id"]) for a in found.all("h2")]
    links = [str(a["href"]) for a in found.all("a") if str(a.get("href")).startswith("#part-")]
    assert links == [f"#{h}" for h in headings] and len(links) > 4
    title = re.search(r"<title>(.*?)</title>", page, re.DOTALL)
    assert title is not None and "plain: expression preservation, 6 of 8" in title[1]
    from_folder = Rows.from_records(
        [{"model": "", "target": "a/swaps/target/x.png", "swapped": "a/swaps/swapped/x.png"}]
    )
    assert html.data_name(from_folder) == "swaps"


# --- nothing in the input acts ---


def test_names_and_models_are_shown_and_not_obeyed(measured: EvaluationResult, page: str):
    found = parsed(page)
    assert len(found.scripts) == 2 and "alert" not in found.scripts[1]
    allowed = {"html", "head", "meta", "title", "link", "style", "body", "main", "script"}
    for tag, attributes in found.tags:
        assert not [a for a in attributes if a.startswith("on")], (tag, attributes)
        for link in ("src", "href", "xlink:href", "action", "data"):
            assert str(attributes.get(link) or "data:").startswith(("data:", "#part-")), (tag, attributes)
        if tag == "img":
            assert str(attributes["src"]).startswith("data:image/jpeg;base64,")
    assert allowed <= {t for t, _ in found.tags}
    words = found.words()
    assert " ".join(f"0 {NAME}".split()) in words and MODEL in words
    assert MODEL in [a["value"] for a in found.all("option") if "value" in a]
    assert {r[0] for r in json.loads(found.scripts[0])["rows"].values()} == {MODEL, "plain"}


def test_the_policy_allows_the_one_script_and_no_network(page: str):
    (policy,) = (str(a["content"]) for a in parsed(page).all("meta") if a.get("http-equiv"))
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert "http:" not in page and "https:" not in page and "@import" not in page and "url(" not in page


def test_names_with_half_characters_can_be_written(tmp_path: Path, no_pictures: None):
    made = result([row(tmp_path, "t", "s", id_="half \ud83d")])
    html.write_page(tmp_path / "p.html", html.report_page(made))
    assert "half \\ud83d" in (tmp_path / "p.html").read_text(encoding="utf-8")


# --- writing it ---


def test_out_holds_the_report_and_it_is_small(manifest: Path, tmp_path: Path):
    out = tmp_path / "out"
    done = run("evaluate", manifest, *FAST, "--no-identity", "--out", out)
    assert done.exit_code == 0, done.output
    assert str(out / "report.html") in done.stderr
    assert 20_000 < (out / "report.html").stat().st_size < 1_000_000


def test_a_report_that_cant_be_drawn_loses_nothing(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object, **__: object) -> str:
        raise RuntimeError("no ink")

    monkeypatch.setattr(html, "report_page", broken)
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.html").write_text("of an older run")
    done = run("evaluate", manifest, *FAST, "--no-identity", "--format", "json", "--out", out)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    assert "the result is written" in done.stderr and "no ink" in done.stderr
    assert json.loads(done.stdout) == json.loads((out / "summary.json").read_text())
    assert sorted(p.name for p in out.iterdir()) == ["summary.json", "triplets.csv", "triplets.parquet"]
    assert len(EvaluationResult.load(out).triplets) == 8


def test_a_loaded_result_gives_the_same_report(measured: EvaluationResult, page: str, tmp_path: Path):
    assert html.report_page(EvaluationResult.load(measured.save(tmp_path))) == page


def test_images_that_are_gone_leave_the_numbers(measured: EvaluationResult, tmp_path: Path):
    lost = [
        {**r, **{role: str(tmp_path / role) for role in ("target", "source", "swapped")}} for r in measured.triplets
    ]
    text = html.report_page(EvaluationResult(measured.summary, Rows.from_records(lost)))
    assert "no such file" in parsed(text).words() and parsed(text).all("img") == []


def test_an_unwritable_folder_is_an_error_of_the_toolkit(measured: EvaluationResult, tmp_path: Path, no_pictures: None):
    with pytest.raises(ExprmetricError, match="could not be drawn: FileNotFoundError"):
        html.write_report(measured, tmp_path / "absent")


# --- in a browser ---

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HARNESS = """<!doctype html><iframe id="f" src="report.html" width="420" height="900"></iframe><pre id="out"></pre>
<script>
document.getElementById("f").addEventListener("load", () => {
  const page = document.getElementById("f").contentDocument, seen = {};
  const rows = () => [...page.querySelectorAll("#rows tr")].filter((r) => !r.hidden).map((r) => r.dataset.i);
  const cards = () => [...page.querySelectorAll("#cards > *")].filter((r) => !r.hidden).map((r) => r.dataset.i);
  const set = (id, value) => {
    const e = page.getElementById(id); e.value = value; e.dispatchEvent(new Event("input"));
  };
  seen.start = rows(); seen.start_cards = cards();
  set("order", "low"); seen.low = rows();
  set("order", "input"); seen.input = rows();
  set("model", "plain"); seen.model = rows(); seen.model_cards = cards(); set("model", "*");
  set("status", "no_face"); seen.status = rows(); seen.status_cards = cards(); set("status", "*");
  set("low", "LOW"); seen.from = rows(); set("low", "");
  set("place", "best"); seen.best = cards(); set("place", "");
  const heads = [...page.querySelectorAll("th[data-column] button")];
  heads[4].click(); seen.up = rows(); heads[4].click(); seen.down = rows();
  const box = page.getElementById("landmarks"); box.click();
  seen.hidden = getComputedStyle(page.querySelector(".triple svg")).display;
  seen.wide = page.documentElement.scrollWidth; seen.script = page.querySelectorAll("main script").length;
  document.getElementById("out").textContent = btoa(JSON.stringify(seen));
});
</script>"""


def chromium(*arguments: object) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr"]
    command = [CHROMIUM, *options, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def by(measured: EvaluationResult, score: str, sign: int) -> list[str]:
    def key(i: int) -> tuple[bool, float]:
        value = measured.triplets[i][score]
        return (value is None, 0.0 if value is None else sign * value)

    return [str(i) for i in sorted(range(len(measured.triplets)), key=key)]


def equal_but_failed(found: Iterable[str], expected: Iterable[str]) -> bool:
    """Rows without a score stand last, in any order."""
    a, b = list(found), list(expected)
    return a[:6] == b[:6] and sorted(a[6:]) == sorted(b[6:])


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_sorts_filters_and_has_nothing_to_complain_of(measured: EvaluationResult, page: str, tmp_path: Path):
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    middle = sorted(r["lm68.t2c"] for r in measured.triplets[:6])[3]
    (tmp_path / "harness.html").write_text(HARNESS.replace("LOW", repr(middle)), encoding="utf-8")
    done = chromium(
        "--disable-web-security",  # lets the harness look into the page beside it
        "--allow-file-access-from-files",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=8000",
        "--dump-dom",
        tmp_path / "harness.html",
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    encoded = re.search(r'<pre id="out">([^<]+)</pre>', done.stdout)
    assert encoded is not None, done.stdout[-500:] + done.stderr[-500:]
    seen = json.loads(base64.b64decode(encoded[1]))
    triplets = measured.triplets
    assert equal_but_failed(seen["start"], by(measured, "lm68.t2c", -1))
    assert seen["start_cards"] == by(measured, "lm68.t2c", -1)[:6]
    assert equal_but_failed(seen["low"], by(measured, "lm68.t2c", 1))
    assert seen["input"] == [str(i) for i in range(8)]
    assert seen["model"] == [str(i) for i in range(8) if triplets[i]["model"] == "plain"]
    assert seen["model_cards"] == [str(i) for i in range(6) if triplets[i]["model"] == "plain"]
    assert seen["status"] == ["6"] and seen["status_cards"] == []
    assert seen["from"] == [str(i) for i in range(6) if triplets[i]["lm68.t2c"] >= middle]
    best = {str(c.index) for c in gallery(measured.rows, ["lm68", "lm51"]) if any(t.startswith("best") for t in c.tags)}
    assert set(seen["best"]) == best
    assert equal_but_failed(seen["up"], by(measured, "lm68.s2c", 1))
    assert equal_but_failed(seen["down"], by(measured, "lm68.s2c", -1))
    assert seen["hidden"] == "none" and seen["wide"] <= 420 and seen["script"] == 1


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.slow
def test_the_console_check_can_fail(tmp_path: Path):
    (tmp_path / "bad.html").write_text("<script>console.error('oh'); undefinedFunction();</script>")
    done = chromium(f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", tmp_path / "bad.html")
    assert "CONSOLE" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_picture_enlarges_by_click_and_by_key_arrows_turn_and_escape_gives_the_focus_back(page: str, tmp_path: Path):
    (tmp_path / "report.html").write_text(page, encoding="utf-8", errors="replace")
    shown = "document.querySelector('dialog.light img')"
    with Browser(tmp_path, width=390, height=844) as browser:
        browser.open(tmp_path / "report.html")
        assert not browser.run("Boolean(document.querySelector('dialog.light').open)")
        sources = browser.run("[...document.querySelectorAll('main figure img')].map((p) => p.src)")
        browser.click("main figure img")
        assert browser.run("document.querySelector('dialog.light').open") and browser.run(f"{shown}.src") == sources[0]
        browser.wait(f"{shown}.complete && {shown}.naturalWidth > 0")
        assert browser.run("document.querySelector('dialog.light .name').textContent.length > 3")
        browser.press("ArrowRight")
        assert browser.run(f"{shown}.src") == sources[1]
        for key in ("ArrowLeft", "ArrowLeft"):
            browser.press(key)
        assert browser.run(f"{shown}.src") == sources[-1]  # around the end
        browser.press("ArrowRight")
        browser.press("ArrowRight")
        browser.press("Escape")
        browser.wait("!document.querySelector('dialog.light').open")
        assert browser.run("document.activeElement.src") == sources[1]  # at the picture that was shown last
        browser.press("Enter")
        assert browser.run("document.querySelector('dialog.light').open") and browser.run(f"{shown}.src") == sources[1]
        browser.click("dialog.light button:last-child")
        browser.wait("!document.querySelector('dialog.light').open")
        assert browser.run("[...document.images].every((i) => i.src && i.complete && i.naturalWidth > 0)")
        assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")
        assert browser.errors == []


def test_what_is_typed_is_set_as_code_in_alarms_and_the_rest_is_escaped() -> None:
    from exprmetric.report.html import environment

    told = environment().get_template("told.html")
    page = told.render(summary={"alarms": ["Is `source` <b>right</b>?"]})
    assert "Is <code>source</code> &lt;b&gt;right&lt;/b&gt;?" in page and "`" not in page
