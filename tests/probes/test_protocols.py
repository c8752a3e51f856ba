"""Protocols on made spaces, where the answer is known, and on real faces through the command line."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from exprmetric_cli.main import main
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from exprmetric.datasets.fec import image_name
from exprmetric.datasets.layouts import FaceDataset
from exprmetric.datasets.samples import EXPRESSIONS
from exprmetric.errors import InputError, MissingPackageError
from exprmetric.metrics.distances import DISTANCES, l2
from exprmetric.metrics.odd_one_out import TYPES, Triplets
from exprmetric.probes import affect, classify, comparisons, retrieve
from exprmetric.probes.fec import among, fec_set
from exprmetric.probes.measurement import NotMeasuredError
from exprmetric.probes.parts import Known, Part, Space, judged_set, people_rows
from exprmetric.probes.protocol_card import NOTHING, number
from exprmetric.probes.protocols import PROTOCOLS, chosen_protocols

needs_sklearn = pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed")
needs_torch = pytest.mark.skipif(
    any(importlib.util.find_spec(n) is None for n in ("torch", "timm")), reason="the torch extra is not installed"
)


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No weights but those that packages carry."""
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)
    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path_factory.mktemp("cache")))


# --- made spaces ---


def part(
    vectors: Any, labels: Any, *, votes: Any = None, valence: Any = None, persons: tuple[str, ...] | None = None
) -> Part:
    n = len(labels)
    rated = np.full((n, 8), np.nan) if votes is None else np.asarray(votes, np.float64)
    known = np.full((n, 2), np.nan) if valence is None else np.asarray(valence, np.float64)
    return Part(np.asarray(vectors, np.float32), Known(np.asarray(labels, np.intp), rated, known, persons or ("",) * n))


def space(train: Part, test: Part, **more: Any) -> Space:
    return Space(train, test, more.pop("people", None), more.pop("distance", l2), resamples=20, **more)


LABELS = np.array([0] * 80 + [1] * 48 + [4] * 32)
"""Three of the eight expressions: half, 3/10, 1/5; each with more than 30 faces."""


def perfect(seed: int = 0) -> Space:
    """One corner for each expression, and a little noise; votes all for one expression."""
    generator = np.random.default_rng(seed)

    def one() -> Part:
        corners = np.eye(8)[LABELS]
        return part(corners + generator.normal(0, 0.01, corners.shape), LABELS, votes=corners)

    return space(one(), one())


def constant() -> Space:
    vectors = np.tile([0.1, 0.7, -0.3], (len(LABELS), 1))
    made = part(vectors, LABELS, votes=np.eye(8)[LABELS])
    return space(made, made)


CLASSIFIERS = [
    pytest.param("linear", marks=needs_sklearn),
    "10-nn",
    "30-nn",
    pytest.param("head", marks=[needs_torch, pytest.mark.torch]),
]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_perfect_space_is_classified_without_an_error(name: str) -> None:
    found = PROTOCOLS[name].measure(perfect())
    for score in ("accuracy", "macro_f1", "mean_recall"):
        assert (found.scores[score].value, found.scores[score].low) == (1, 1)
    assert found.scores["accuracy"].n == 160
    assert {n: e.n for n, e in found.scores.items() if n.startswith("recall ")} == {
        "recall neutral": 80,
        "recall happiness": 48,
        "recall anger": 32,
    }
    assert np.trace(found.details["confusion"]) == np.sum(found.details["confusion"]) == 160


@pytest.mark.parametrize("name", ["10-nn", "30-nn", pytest.param("linear", marks=needs_sklearn)])
def test_a_constant_space_gives_the_most_frequent_expression(name: str) -> None:
    found = PROTOCOLS[name].measure(constant()).scores
    assert found["accuracy"].value == 0.5
    assert found["mean_recall"].value == pytest.approx(1 / 3)
    assert found["macro_f1"].value == pytest.approx(2 * 80 / (160 + 80) / 3)
    assert found["accuracy"].low < 0.5 < found["accuracy"].high


def test_distances_of_a_perfect_and_of_a_constant_space() -> None:
    good, none = perfect(), constant()
    assert comparisons.agreement(good).scores["triplet_accuracy"].value == 1
    assert comparisons.agreement(good).scores["rank_correlation"].value > 0.8  # within one expression noise decides
    same = comparisons.agreement(none).scores
    assert same["triplet_accuracy"].value == pytest.approx(1 / 3)
    assert math.isnan(same["rank_correlation"].value)
    odd = comparisons.triplets(good).scores
    assert odd["accuracy"].value == 1 and odd["two_class"].n > 0
    assert comparisons.triplets(none).scores["accuracy"].value == 0  # equal distances are wrong
    found = retrieve.retrieve(good)
    assert [found.scores[n].value for n in ("precision_at_10", "map", "macro_map")] == [1, 1, 1]
    flat = retrieve.retrieve(none)
    chance = (80 * 79 + 48 * 47 + 32 * 31) / 159 / 160
    assert flat.details["chance"] == pytest.approx(chance)
    assert flat.scores["map"].value == flat.scores["precision_at_10"].value == pytest.approx(chance)
    assert flat.scores["macro_map"].value == pytest.approx((79 + 47 + 31) / 159 / 3)


def test_an_expression_that_training_lacks_is_never_recognised() -> None:
    made = perfect()
    found = classify.knn(space(made.train.take(np.flatnonzero(LABELS != 4)), made.test), k=10).scores
    assert found["recall anger"].value == 0
    assert found["mean_recall"].value == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", [pytest.param("linear", marks=needs_sklearn), *CLASSIFIERS[3:]])
def test_one_expression_alone_can_not_be_learnt(name: str) -> None:
    made = perfect()
    with pytest.raises(NotMeasuredError, match="fewer than two"):
        PROTOCOLS[name].measure(space(made.train.take(np.flatnonzero(LABELS == 0)), made.test))


def test_what_a_data_set_lacks_is_a_reason() -> None:
    bare = part(np.eye(3), [0, 1, 2])
    for protocol, reason in (
        (comparisons.agreement, "no raters' votes"),
        (comparisons.triplets, "no raters' votes"),
        (comparisons.leak, "--persons"),
        (comparisons.fec, "--fec"),
        (retrieve.retrieve, "two people"),
    ):
        with pytest.raises(NotMeasuredError, match=reason):
            protocol(space(bare, bare))


@needs_sklearn
def test_the_linear_probe_is_scikit_learns_on_standardised_features() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    generator = np.random.default_rng(1)
    x, y = generator.normal(3, [1, 100, 0.01], (200, 3)), generator.integers(0, 4, 200)
    x[:, 0] += y
    made = space(part(x[:120], y[:120]), part(x[120:], y[120:]))
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=classify.REGULARISATION, max_iter=1000))
    reference.fit(made.train.vectors, y[:120])
    score = reference.score(made.test.vectors, y[120:])
    assert 0.3 < score < 1
    assert classify.linear(made).scores["accuracy"].value == pytest.approx(score)


def test_a_feature_that_does_not_vary_in_training_is_nothing() -> None:
    train, test = classify.standardised([[1, 7, 0.1], [3, 7, 0.1]], [[5, 9, 0.1]])
    assert train.tolist() == [[-1, 0, 0], [1, 0, 0]]
    assert test.tolist() == [[3, 0, 0]]


@needs_sklearn
@pytest.mark.parametrize("k", [1, 10, 30])
def test_neighbours_vote_as_in_scikit_learn(k: int) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    generator = np.random.default_rng(2)
    x, y = generator.normal(size=(300, 4)), generator.integers(0, 5, 300)
    test = generator.normal(size=(200, 4))
    reference = KNeighborsClassifier(k, metric="cosine").fit(x, y).predict(test)
    assert np.array_equal(classify.vote(classify.similarities(test, x), y, k), reference)


def test_equally_similar_faces_share_the_votes_that_are_left() -> None:
    labels = np.array([1, 0, 0, 2, 2, 2])
    similar = np.array([[0.9, 0.5, 0.5, 0.5, 0.1, 0.1]])
    # k = 2: one vote for 1, the other split among 0, 0, 2
    assert classify.vote(similar, labels, 2).tolist() == [1]
    # k = 3: 1 has one vote; 0 has 2/3 of two, 2 has 1/3 of two
    assert classify.vote(similar, labels, 3).tolist() == [0]
    assert classify.similarities([[0.0, 0.0]], [[1.0, 2.0]]).tolist() == [[0]]


# --- valence and arousal ---


@needs_sklearn
def test_affect_that_is_linear_in_the_vectors_is_found() -> None:
    generator = np.random.default_rng(3)
    x = generator.normal(size=(200, 3))
    y = np.tanh(x @ [[0.3, 0.0], [0.0, 0.2], [0.1, 0.1]])
    y[0] = np.nan  # one face without
    made = space(part(x[:150], [0] * 150, valence=y[:150]), part(x[150:], [0] * 50, valence=y[150:]))
    found = affect.affect(made).scores
    assert found["valence_ccc"].value > 0.97 and found["arousal_ccc"].value > 0.97
    assert found["valence_rmse"].value < 0.1
    assert found["valence_ccc"].low <= found["valence_ccc"].value <= found["valence_ccc"].high
    blind = space(part(x[:150] * 0, [0] * 150, valence=y[:150]), part(x[150:] * 0, [0] * 50, valence=y[150:]))
    none = affect.affect(blind).scores
    assert none["valence_ccc"].value == pytest.approx(0, abs=1e-9)
    mean = np.nanmean(y[:150, 0].astype(np.float64))
    assert none["valence_rmse"].value == pytest.approx(np.sqrt(np.mean((y[150:, 0] - mean) ** 2)))


@needs_sklearn
def test_a_data_set_without_valence_says_so() -> None:
    bare = part(np.eye(3), [0, 1, 2])
    with pytest.raises(NotMeasuredError, match="no valence and arousal"):
        affect.affect(space(bare, bare))


# --- retrieval ---


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30))
def test_average_precision_is_scikit_learns_ties_and_all(faces: list[tuple[int, bool]]) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    far, relevant = np.array([f for f, _ in faces], np.float64), np.array([r for _, r in faces])
    found = retrieve.average_precision(far, relevant)
    if relevant.any():
        assert found == pytest.approx(sklearn.average_precision_score(relevant, -far))
    else:
        assert math.isnan(found)


def test_precision_by_hand() -> None:
    far, relevant = np.array([3.0, 1.0, 2.0, 2.0, 2.0]), np.array([True, True, False, True, True])
    assert retrieve.precision_at(far, relevant, 1) == 1
    assert retrieve.precision_at(far, relevant, 2) == pytest.approx((1 + 2 / 3) / 2)  # one of three that are tied
    assert retrieve.precision_at(far, relevant, 99) == 4 / 5
    # found one after the other: 1/1, then three at once: 3/4 for two of them, then 4/5
    assert retrieve.average_precision(far, relevant) == pytest.approx((1 + 2 * 3 / 4 + 4 / 5) / 4)


@pytest.mark.parametrize("name", sorted(DISTANCES))
def test_all_pairs_have_the_distances_of_single_pairs(name: str) -> None:
    generator = np.random.default_rng(4)
    a, b = generator.normal(100, 1, (7, 5)).astype(np.float32), generator.normal(100, 1, (6, 5)).astype(np.float32)
    b[2] = a[3]
    found = retrieve.distance_matrix(a, b, DISTANCES[name])
    for i in range(7):
        assert found[i] == pytest.approx(DISTANCES[name](np.tile(a[i], (6, 1)), b), rel=1e-6, abs=1e-9)
    assert found[3, 2] == pytest.approx(0, abs=1e-12)


def test_the_same_person_is_not_found() -> None:
    labels, people = [0, 0, 0, 1], ("ann", "ann", "bob", "")
    vectors = [[0, 0], [0, 0.1], [5, 0], [0, 0.2]]
    made = part(vectors, labels, persons=people)
    assert retrieve.askable(made).tolist() == [
        [False, False, True, True],
        [False, False, True, True],
        [True, True, False, True],
        [True, True, True, False],
    ]
    found = retrieve.retrieve(space(made, made))
    assert found.details["queries"] == 3  # nobody else is happy
    # ann finds the unknown first, then bob: AP 1/2, twice; bob finds ann at 4.9, the other at 5, then ann at 5.0
    order = np.argsort([5.0, math.hypot(5, 0.1), math.hypot(5, 0.2)])
    assert order.tolist() == [0, 1, 2]
    assert found.scores["map"].value == pytest.approx((0.5 + 0.5 + 1) / 3)


# --- FEC ---


def test_triplets_among_the_faces_that_were_found() -> None:
    made = Triplets(np.array([[0, 1, 2], [2, 3, 4], [4, 0, 2]]), np.array([0, 1, 2]))
    kept = among(made, np.array([0, 2, 4]), 5)
    assert kept.rows.tolist() == [[2, 0, 1]] and kept.types.tolist() == [2]


def test_fec_faces_are_cut_around_their_boxes_and_judged(tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    urls = [f"http://example.org/{i}.jpg" for i in range(3)]
    for i, url in enumerate(urls):
        pixels = np.zeros((100, 200, 3), np.uint8)
        pixels[40:60, 100:140] = 50 * (i + 1)
        Image.fromarray(pixels).save(folder / image_name(url), "PNG")
    box = "0.5,0.7,0.4,0.6"
    lost = "http://example.org/lost.jpg"
    lines = [
        ",".join([*(f"{u},{box}" for u in urls), "TWO_CLASS_TRIPLET", *("r,1",) * 5, "s,2"]),  # the first is odd
        ",".join([*(f"{u},{box}" for u in urls), "ONE_CLASS_TRIPLET", *("r,1", "s,2", "t,3")]),  # nobody agrees
        ",".join([*(f"{u},{box}" for u in [*urls[:2], lost]), "ONE_CLASS_TRIPLET", *("r,3",) * 6]),
    ]
    table = tmp_path / "test.csv"
    table.write_text("\n".join(lines) + "\n")
    made = fec_set(table, folder, 99, 0)
    assert (made.published, len(made.triplets), len(made.rows)) == (2, 1, 3)
    assert made.triplets.rows.tolist() == [[0, 1, 2]] and TYPES[made.triplets.types[0]] == "two_class"
    faces = [made.rows.dataset.image(i) for i in range(3)]
    assert [int(f.max()) for f in faces] == [100, 150, 50]  # anchor, positive, odd one
    assert faces[0].shape == (40, 80, 3)  # twice the box, as in training
    assert np.array_equal(made.rows.faces.load(made.rows.images[0]), faces[0])  # methods see the same
    vectors = np.array([[0, 0], [1, 0], [3, 0]], np.float32)
    bare = part(np.eye(3), [0, 1, 2])
    found = comparisons.fec(space(bare, bare, compared=(vectors, made.triplets)))
    assert found.scores["accuracy"].value == found.scores["two_class"].value == 1
    assert math.isnan(found.scores["one_class"].value)
    with pytest.raises(InputError, match="none of the 2 clear triplets"):
        fec_set(table, tmp_path, 99, 0)


# --- the table ---


def test_protocols_are_chosen_by_name_and_need_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_protocols(["retrieval", "10-nn"]) == ("10-nn", "retrieval")
    with pytest.raises(InputError, match="unknown protocol 'psychic'; known: linear"):
        chosen_protocols(["psychic"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert chosen_protocols(["retrieval"]) == ("retrieval",)
    with pytest.raises(MissingPackageError, match=r"linear needs sklearn: pip install 'exprmetric\[recipes,torch\]'"):
        chosen_protocols([])


def test_numbers_are_shown_with_half_their_interval() -> None:
    from exprmetric.metrics.resampling import Estimate

    assert number(Estimate(0.6123, 0.59, 0.63, 9), share=True) == "61.2 ±2.0"
    assert number(Estimate(0.6123, math.nan, math.nan, 9), share=False) == "0.612"
    assert number(Estimate(math.nan, math.nan, math.nan, 0), share=True) == number(None, share=True) == NOTHING


# --- real faces ---


@pytest.fixture(scope="module")
def faces() -> list[NDArray[np.uint8]]:
    """The frontal faces of the bundled photographs, RGB uint8."""
    from exprmetric.demo.make import demo_faces
    from exprmetric.faces import load_detector

    return [f.image for f in demo_faces(load_detector("dlib"))]


@pytest.fixture(scope="module")
def folder(faces: list[NDArray[np.uint8]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per class: faces and their darker copies in training, mirrored ones in test, one test image blank."""
    root = tmp_path_factory.mktemp("classes")
    for i, face in enumerate(faces):
        label = ("happiness", "anger")[i % 2]
        for split, versions in (
            ("train", {"plain": face, "dark": face // 2}),
            ("test", {"mirrored": face[:, ::-1], "grey": np.repeat(face.mean(2, keepdims=True), 3, 2)}),
        ):
            place = root / split / label
            place.mkdir(parents=True, exist_ok=True)
            for name, pixels in versions.items():
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{i}-{name}.png")
    Image.fromarray(np.full((64, 64, 3), 128, np.uint8)).save(root / "test" / "anger" / "blank.png")
    return root


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network, saved as a training would save it."""
    if any(importlib.util.find_spec(n) is None for n in ("torch", "timm")):
        pytest.skip("the torch extra is not installed")
    import torch

    from exprmetric.encoder.checkpoint import save_checkpoint
    from exprmetric.encoder.models import Encoder

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("untrained") / "encoder.pt"
    config = {"backbone": "resnet18", "dimension": 16, "size": 48, "crop": 176}
    save_checkpoint(path, {"encoder": Encoder("resnet18", dimension=16).state_dict(), "config": config})
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vectors")


@pytest.fixture
def run(cache: Path) -> Callable[..., Result]:
    def invoke(command: str, *words: object) -> Result:
        shared = ["--cache", str(cache), "--detector", "dlib", "--jobs", "1", "--quiet"]
        return CliRunner().invoke(main, ["probe", command, *map(str, words), *shared])

    return invoke


@pytest.mark.slow
@needs_sklearn
@pytest.mark.torch
def test_one_table_of_methods_and_checkpoints(
    run: Callable[..., Result], folder: Path, faces: list[Any], checkpoint: Path, tmp_path: Path
) -> None:
    words = (folder, "-m", "lm68", "--checkpoint", f"mine={checkpoint}", "--resamples", 20)
    done = run("protocols", *words, "--out", tmp_path / "out", "--format", "json")
    assert done.exit_code == 0, done.output
    content = json.loads((tmp_path / "out" / "protocols.json").read_text())
    assert content["encoders"]["mine"]["kind"] == "checkpoint" and content["encoders"]["mine"]["dimension"] == 16
    (judged,) = content["sets"].values()
    n = 2 * len(faces)
    assert judged["test_split"] == "test" and judged["compared"] == {"train": n, "test": n}
    assert set(judged["encoders"]) == {"lm68", "mine"}
    for row in judged["encoders"].values():
        assert row["coverage"]["test"] == {"faces": n + 1, "ok": n, "failed": {"no_face": 1}}
        assert row["affect"] == {"not_measured": "the data set has no valence and arousal"}
        assert "no raters' votes" in row["agreement"]["not_measured"]
        for name in ("linear", "10-nn", "30-nn", "head"):
            assert row[name]["accuracy"]["n"] == n == np.sum(row[name]["confusion"])
        assert 0 <= row["retrieval"]["map"]["value"] <= 1
    table = (tmp_path / "out" / "protocols.md").read_text()
    assert "| encoder | linear acc ↑ |" in table and f"| {NOTHING} |" in table
    assert "Not measured: affect (the data set has no valence and arousal)." in table
    assert "### Recall by class, classification head" in table
    again = run("protocols", *words)  # from the cache, as a table
    assert again.exit_code == 0 and "mine" in again.output and "valence CCC" not in again.output
    assert "Failed, most of any encoder: no_face 1" in " ".join(again.output.split())


@pytest.mark.torch
def test_a_checkpoint_sees_what_it_was_trained_on_and_its_vectors_are_kept(
    folder: Path, checkpoint: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from exprmetric.datasets.arrays import load_arrays
    from exprmetric.encoder.export import load_encoder
    from exprmetric.probes.checkpoint import Checkpoint, open_checkpoint
    from exprmetric.probes.encoders import Bench
    from exprmetric.training.recipes.common import embed

    rows = judged_set(folder, 99, 0).train
    opened = open_checkpoint("", checkpoint)
    assert isinstance(opened, Checkpoint)
    assert (opened.name, opened.crop, opened.size) == (checkpoint.parent.name, 176, 48)
    bench = Bench(cache, "dlib", jobs=1)
    found = bench.encode(rows, [opened])[opened.name]
    trained = load_arrays([rows.dataset], "train", crop=176, size=48, cache=cache, device=torch.device("cpu"), jobs=1)
    expected = torch.nn.functional.normalize(embed(load_encoder(checkpoint)[0], trained), dim=1).numpy()
    assert found.ok.all() and found.vectors == pytest.approx(expected, abs=1e-5)
    monkeypatch.setattr(Checkpoint, "embed", lambda *_: pytest.fail("computed twice"))
    assert np.array_equal(bench.encode(rows, [opened])[opened.name].vectors, found.vectors)


@pytest.mark.torch
def test_a_network_that_gives_no_numbers_is_named(folder: Path, checkpoint: Path, tmp_path: Path) -> None:
    from exprmetric.encoder.checkpoint import load_checkpoint, save_checkpoint
    from exprmetric.probes.checkpoint import open_checkpoint
    from exprmetric.probes.encoders import Bench

    state = load_checkpoint(checkpoint)
    state["encoder"]["embedding.bias" if "embedding.bias" in state["encoder"] else list(state["encoder"])[-1]].fill_(
        math.nan
    )
    save_checkpoint(tmp_path / "encoder.pt", state)
    with pytest.raises(InputError, match="broken gives numbers that are not finite"):
        Bench(tmp_path, "dlib", jobs=1).encode(
            judged_set(folder, 9, 0).test, [open_checkpoint("broken", tmp_path / "encoder.pt")]
        )


def test_wrong_usage(run: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "encoder.pt"
    foreign.write_bytes(b"no checkpoint")
    untaught = tmp_path / "test" / "anger"
    untaught.mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(untaught / "one.png")
    for words, message in (
        ((folder, "-p", "10-nn"), "at least one --method or --checkpoint"),
        ((folder, "-m", "lm68", "-p", "psychic"), "unknown protocol 'psychic'"),
        ((folder, folder, "-m", "lm68", "-p", "10-nn"), "named twice"),
        ((folder, "-m", "nobody", "-p", "10-nn"), "unknown method 'nobody'"),
        ((folder, "-m", "lm68", "-p", "10-nn", "--fec", foreign), "needed together"),
        ((tmp_path, "-m", "lm68", "-p", "10-nn"), "no labelled faces of the split train; it has 'test'"),
        ((tmp_path / "nothing",), "does not exist"),
    ):
        done = run("protocols", *words)
        assert done.exit_code == 2 and message in " ".join(done.output.split()), done.output
    if importlib.util.find_spec("torch") is not None:
        done = run("protocols", folder, "--checkpoint", foreign, "-p", "10-nn")
        assert done.exit_code == 2 and "is no checkpoint with an encoder" in done.output


def test_nothing_measured_is_exit_status_1(run: Callable[..., Result], folder: Path) -> None:
    done = run("protocols", folder, "-m", "lm68", "-p", "leak")
    assert done.exit_code == 1 and "nothing could be measured" in done.output


@pytest.mark.slow
@needs_sklearn
@pytest.mark.torch
@pytest.mark.parametrize("kind", ["tsne", "confusion", "nearest"])
def test_plots_are_drawn(run: Callable[..., Result], folder: Path, checkpoint: Path, tmp_path: Path, kind: str) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "new" / f"{kind}.png"
    done = run("plot", kind, folder, "-m", "lm68", "--checkpoint", checkpoint, "--out", out)
    assert done.exit_code == 0, done.output
    with Image.open(out) as picture:
        pixels = np.asarray(picture.convert("L"))
    assert min(pixels.shape) > 300 and len(np.unique(pixels)) > 20


def test_a_plot_says_what_is_missing(
    run: Callable[..., Result], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "plot.png"
    done = run("plot", "nearest", folder, "-m", "lm68", "--query", "nobody.png", "--out", out)
    assert done.exit_code == 2 and "'nobody.png' is no test face" in done.output
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = run("plot", "umap", folder, "-m", "lm68", "--out", out)
    assert done.exit_code == 1 and "umap-learn and Matplotlib: pip install 'exprmetric[recipes]'" in done.output
    assert not out.exists()


def test_help_imports_nothing_heavy() -> None:
    """The group lists commands whose modules it doesn't import."""
    code = (
        "import sys, runpy; sys.path.insert(0, 'tests'); import conftest\n"
        "from click.testing import CliRunner; from exprmetric_cli.main import main\n"
        "done = CliRunner().invoke(main, ['probe', '--help'])\n"
        "assert done.exit_code == 0, done.output\n"
        "assert all(c in done.output for c in ('agreement', 'protocols', 'plot', 'saliency', 'exchange'))\n"
        "print([m for m in ('numpy', 'torch', 'cv2', 'sklearn', 'matplotlib') if m in sys.modules])"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.shared
def test_rows_of_ferplus_and_of_people(shared_data: Callable[[str], Path]) -> None:
    judged = judged_set(shared_data("ferplus"), 50, 0)
    assert (judged.split, len(judged.train), len(judged.test)) == ("test", 50, 50)
    assert all(judged.train.dataset.samples[i].split == "train" for i in judged.train.rows)
    assert np.isfinite(judged.test.known.votes).all() and judged.test.known.people is None
    assert judged.test.rows == judged_set(shared_data("ferplus"), 50, 0).test.rows
    people = people_rows(shared_data("lfw_expressions"), "valid", 60, 0)
    persons = people.known.persons
    pairs = list(zip(persons, people.known.labels.tolist(), strict=True))
    assert 0 < len(people) <= 60 and all(pairs.count(p) > 1 for p in pairs)
    assert isinstance(people.dataset, FaceDataset) and EXPRESSIONS[people.known.labels[0]]


def test_without_contempt_seven_classes_are_judged(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label in ("fear", "contempt"):
            (tmp_path / "set" / split / label).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / "set" / split / label / "a.png")
    both, seven = (judged_set(tmp_path / "set", 9, 0, contempt=c) for c in (True, False))
    assert (len(both.train), len(both.test)) == (2, 2)
    assert seven.train.images == ("train/fear/a.png",) and seven.test.images == ("test/fear/a.png",)
