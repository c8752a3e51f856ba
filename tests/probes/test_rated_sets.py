"""Rated sets as people lay them out: which columns are ratings, where images are, what each rater said."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from exprmetric_cli.main import main
from PIL import Image

from exprmetric.errors import InputError
from exprmetric.faces import FaceFinder, load_detector
from exprmetric.io.images import read_image
from exprmetric.probes.judge import pose_and_size_classes
from exprmetric.probes.rated import CHOSEN, UNSEEN, UNSTATED, rated_faces, rated_set, shown_expressions, state_use
from exprmetric.probes.vectors import pose_and_size


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No weights but those that packages carry."""
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)
    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path_factory.mktemp("cache")))


def table(path: Path, rows: list[list[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


FACES: list[list[object]] = [
    ["image", "person", "posed", "morph_percent", "country", "happy", "sad", "angry"],
    ["a.jpg", "ann", "AN", 100, "NL", 1.0, 1.5, 4.5],
    ["b.jpg", "ann", 3, 25, "NL", 1.2, 1.4, 1.1],
    ["c.jpg", "bob", "HA", 50, "JP", 5.0, 1.0, 1.0],
]


def test_ratings_are_the_columns_of_numbers_that_are_no_metadata_and_images_stand_beside_or_below(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "actors"
    table(folder / "ratings.csv", FACES)
    (folder / "images").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (folder / "images" / name).write_bytes(b"")
    (folder / "c.jpg").write_bytes(b"")
    for path in (folder, folder / "ratings.csv"):
        faces = rated_faces(path)
        assert faces.name == "actors" and faces.scales == ("happy", "sad", "angry")
        assert faces.images == tuple(str(folder / n) for n in ("images/a.jpg", "images/b.jpg", "c.jpg"))
        assert faces.ratings is not None and faces.ratings.tolist() == [[1, 1.5, 4.5], [1.2, 1.4, 1.1], [5, 1, 1]]
        assert faces.persons == ("ann", "ann", "bob")
    assert rated_faces(folder, terms=("angry", "morph_percent")).scales == ("angry", "morph_percent")
    with pytest.raises(InputError, match=r"no column 'fear'"):
        rated_faces(folder, terms=("fear",))
    with pytest.raises(InputError, match=r"line 2: the rating 'country' is 'NL'"):
        rated_faces(folder, terms=("country",))


def test_a_column_with_one_word_among_numbers_is_refused_and_not_left_out(tmp_path: Path) -> None:
    rows = [row[:] for row in FACES]
    rows[2][5] = "happy"
    with pytest.raises(InputError, match=r"line 3: the rating 'happy' is 'happy'"):
        rated_faces(table(tmp_path / "ratings.csv", rows))
    rows[2][5] = ""
    with pytest.raises(InputError, match=r"line 3: the rating 'happy' is empty"):
        rated_faces(table(tmp_path / "ratings.csv", rows))


def test_a_table_has_a_margin_in_points_and_a_use_only_where_somebody_states_it(tmp_path: Path) -> None:
    path = table(tmp_path / "set" / "ratings.csv", FACES)
    sets = [rated_set(path), rated_set(path, name="mine", points=0.5), rated_set(path, name="third", limit=2)]
    assert [s.margin for s in sets] == ["0.8 rating points", "0.5 rating points", "0.8 rating points"]
    assert [s.name for s in sets] == ["set", "mine", "third"] and len(sets[2].faces) == 2
    assert [s.use for s in sets] == [UNSTATED] * 3
    assert [s.use for s in state_use(sets, ["set"], ["third"])] == [CHOSEN, UNSTATED, UNSEEN]
    with pytest.raises(InputError, match=r"'other'.*'set', 'mine', 'third'"):
        state_use(sets, ["other"], [])
    with pytest.raises(InputError, match="both"):
        state_use(sets, ["set"], ["set"])


def test_the_expression_that_people_see_is_the_term_rated_highest_or_weak() -> None:
    terms = ("happy", "sad")
    rated = [[5.0, 1.0], [1.2, 3.1], [1.0, 2.9], [1.1, 1.0]]  # the middle of 1 and 5 is 3
    assert shown_expressions(rated, terms) == ("happy", "sad", "weak", "weak")
    assert shown_expressions([[0.1, 0.5, 0.4], [0.2, 0.1, 0.7]], (*terms, "neutral")) == ("sad", "neutral")
    assert shown_expressions([[-0.5, 0.2], [0.5, 0.2]], ("valence", "arousal")) == ("", "")


def raw_rows(group: bool = True) -> list[list[object]]:
    """Four raters of the three faces; two of each group, whose means are the table's."""
    rows: list[list[object]] = [["image", "rater", *(["rater_group"] if group else []), "happy", "sad", "angry"]]
    for row in FACES[1:]:
        happy, sad, angry = (float(v) for v in row[5:])  # type: ignore[arg-type]
        for k, step in enumerate((0.5, -0.5, 0.25, -0.25)):
            values = [happy + step, sad - step, angry + step / 2]
            rows.append([row[0], f"r{k}", *([("north", "south")[k % 2]] if group else []), *values])
    return rows


def test_two_groups_of_raters_are_the_halves(tmp_path: Path) -> None:
    path = table(tmp_path / "ratings.csv", FACES)
    rows = raw_rows()
    rows[1][3] = "NA"
    rows[3][3] = 1.0  # r0 said nothing of it: r2 alone stands for the north, and the mean stays
    rows[2][3] = 1.0
    rows[4][3] = 1.0
    table(tmp_path / "raw_ratings.csv", [*rows, ["unknown.jpg", "r9", "north", 1, 1, 1]])
    halves = rated_set(path).halves
    assert halves is not None and halves.how == "raters 'north' against 'south'" and halves.rows.tolist() == [0, 1, 2]
    assert halves.one[0].tolist() == pytest.approx([1.0, 1.125, 4.6875])
    assert halves.one[2].tolist() == pytest.approx([5.375, 0.625, 1.1875])
    assert halves.other[2].tolist() == pytest.approx([4.625, 1.375, 0.8125])


def test_raters_without_groups_are_halved_at_random_and_a_face_that_a_half_did_not_rate_is_left_out(
    tmp_path: Path,
) -> None:
    path = table(tmp_path / "ratings.csv", FACES)
    rows = [r for r in raw_rows(group=False) if r[0] != "c.jpg"]
    table(tmp_path / "raw_ratings.csv", [*rows, ["c.jpg", "r0", 5.0, 1.0, 1.0]])
    halves, again, other = (rated_set(path, seed=s).halves for s in (0, 0, 3))
    assert halves is not None and again is not None and other is not None
    assert "drawn at random" in halves.how and halves.rows.tolist() == [0, 1]
    assert np.array_equal(halves.one, again.one) and not np.array_equal(halves.one, other.one)
    ratings = rated_faces(path).ratings
    assert ratings is not None
    np.testing.assert_allclose((halves.one + halves.other) / 2, ratings[:2])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ((2, 3, "much"), "line 3: the rating 'happy' is 'much'"),
        ((2, 3, 4.0), "'happy' of 'a.jpg' is"),
        ((0, 3, "joy"), "no column 'happy'"),
        ((0, 1, "who"), "no column 'rater'"),
    ],
)
def test_raters_that_are_not_the_tables_are_refused(tmp_path: Path, change: tuple[int, int, object], word: str) -> None:
    path = table(tmp_path / "ratings.csv", FACES)
    rows = raw_rows()
    rows[change[0]][change[1]] = change[2]
    table(tmp_path / "raw_ratings.csv", rows)
    with pytest.raises(InputError, match=word):
        rated_set(path)


def test_one_rater_can_not_be_halved(tmp_path: Path) -> None:
    path = table(tmp_path / "ratings.csv", FACES)
    table(tmp_path / "raw_ratings.csv", [["image", "rater", *FACES[0][5:]], *([r[0], "r", *r[5:]] for r in FACES[1:])])
    assert rated_set(path).halves is None


def test_faces_are_classed_by_turn_and_height_the_easy_ones_first(portrait_photo: Path) -> None:
    nan = float("nan")
    found = pose_and_size_classes(np.array([[0, 300], [-14.9, 256], [15, 255], [-29, 64], [31, 63], [nan, nan]]))
    assert found["yaw"].classes.tolist() == [0, 0, 1, 1, 2, -1] and len(found["yaw"].names) == 3
    assert found["size"].classes.tolist() == [0, 0, 1, 2, 3, -1] and len(found["size"].names) == 4
    face = FaceFinder(load_detector("dlib")).find(read_image(portrait_photo))
    yaw, height = pose_and_size(face)
    assert abs(yaw) < 30 and height == max(np.ptp(face.landmarks, axis=0)) and 80 < height < 200


# --- the command ---


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of the demo's faces, each twice (as it is, smaller), rated by two raters in each of two groups."""
    from exprmetric.demo.make import demo_faces

    root = tmp_path_factory.mktemp("sets")
    generator = np.random.default_rng(0)
    faces = demo_faces(load_detector("dlib"))[:7]
    for name in ("north", "south"):
        rows: list[list[object]] = [["image", "person", "posed", "joy", "rage"]]
        raw: list[list[object]] = [["image", "rater", "rater_group", "joy", "rage"]]
        (root / name / "images").mkdir(parents=True)
        for i, face in enumerate(faces):
            for k, version in enumerate((Image.fromarray(face.image), Image.fromarray(face.image).reduce(2))):
                image = f"{i}-{k}.png"
                version.save(root / name / "images" / image)
                said = np.round(4 * generator.random(2) + generator.random((4, 2)), 3)
                raw += [[image, f"r{j}", "ab"[j % 2], *s] for j, s in enumerate(said.tolist())]
                rows.append([image, f"p{i}", i, *said.mean(0).tolist()])
        table(root / name / "ratings.csv", rows)
        if name == "north":
            table(root / name / "raw_ratings.csv", raw)
    return root


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["probe", "agreement", *(str(a) for a in arguments)])


FAST = ("--detector", "dlib", "--curves", 0, "--no-plots", "--quiet")


def test_several_sets_have_tables_of_their_own_and_the_card_says_what_each_was_used_for(
    sets: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    how = ("-m", "lm68", "-m", "lm51", "--chosen", "north", "--unseen", "second", *FAST, "--out", out)
    result = run(sets / "north", f"second={sets / 'south'}", *how)
    assert result.exit_code == 0, result.output
    content = json.loads((out / "agreement.json").read_text())
    about = content["sets"]["rated"]
    assert {n: s["use"] for n, s in about.items()} == {"north": CHOSEN, "second": UNSEEN}
    assert about["north"]["raters"] == "raters 'a' against 'b'" and about["second"]["raters"] is None
    assert about["north"]["scales"] == ["joy", "rage"] and about["north"]["people"] * 2 == about["north"]["faces"]
    assert list(content["methods"]["lm68"]["rated"]) == ["north", "second"]
    north, second = content["methods"]["lm68"]["rated"].values()
    assert north["across"] != second["across"] and {"across", "within", "leak", "confusions"} <= set(north)
    people = content["raters"]["north"]
    assert people["across"]["rank_correlation"]["value"] > north["across"]["rank_correlation"]["value"]
    assert content["raters"]["second"] is None
    card = (out / "card.md").read_text()
    for name, use in (("north", CHOSEN), ("second", UNSEEN)):
        assert f"### {name}: {use}\n" in card and f"{name}: {use}" in result.stdout
    assert card.count("\n| people |") == 1


@pytest.mark.slow
@pytest.mark.torch
def test_a_checkpoint_and_its_export_are_judged_like_a_method(sets: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from dataclasses import asdict

    from exprmetric.encoder.checkpoint import save_checkpoint
    from exprmetric.encoder.export import export_encoder, manifest_entry
    from exprmetric.training.recipes.common import RecipeConfig

    torch.manual_seed(0)
    config = RecipeConfig(backbone="3ddfa_mobilenet", size=224, crop=224, dimension=16)
    checkpoint = tmp_path / "run" / "encoder.pt"
    checkpoint.parent.mkdir()
    encoder = config.network().eval()
    save_checkpoint(checkpoint, {"encoder": encoder.state_dict(), "config": asdict(config)})
    made = export_encoder(checkpoint, tmp_path / "mine.onnx", half=False)
    how = ("--checkpoint", checkpoint, "--checkpoint", tmp_path / "mine.onnx", *FAST, "--device", "cpu")
    result = run(sets / "south", *how)
    assert result.exit_code == 2 and "--entry" in result.stderr
    entry = manifest_entry(made, "mine")
    (tmp_path / "mine.json").write_text(json.dumps(entry | {"sha256": "0" * 64}))
    assert run(sets / "south", *how).exit_code != 0
    (tmp_path / "mine.json").write_text(json.dumps(entry))
    result = run(sets / "south", *how, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "out" / "agreement.json").read_text())
    assert list(content["methods"]) == ["run", "mine"]  # and no method that nobody asked for
    trained, exported = (m["rated"]["south"]["across"]["rank_correlation"] for m in content["methods"].values())
    assert trained["value"] == pytest.approx(exported["value"], abs=1e-3)
    assert content["methods"]["run"]["dimension"] == 16
