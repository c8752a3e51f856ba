"""The pair protocol: exact counts, no repeats, and the same pairs for the same seed everywhere."""

from __future__ import annotations

import csv
import random
from collections import Counter
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from exprmetric.errors import InputError
from exprmetric.inputs.pairs import LabelledImage, Pair, draw_pairs, missing_images, read_labels, write_pairs
from exprmetric.inputs.triplets import read_triplets


def faces(**counts: int) -> list[LabelledImage]:
    return [LabelledImage(f"{label}_{i:04d}.png", label) for label, n in counts.items() for i in range(n)]


def alike(pairs: list[Pair]) -> int:
    return sum(pair.target_label == pair.source_label for pair in pairs)


images_strategy = st.lists(
    st.tuples(st.sampled_from("ABC"), st.sampled_from(["", "p", "q", "r"])), min_size=1, max_size=9
)


@given(rows=images_strategy, seed=st.integers(0, 3), balanced=st.booleans())
def test_every_possible_pair_can_be_drawn_and_not_one_more(
    rows: list[tuple[str, str]], seed: int, balanced: bool
) -> None:
    images = [LabelledImage(f"{i}.png", label, person) for i, (label, person) in enumerate(rows)]
    for same in (0, 1):
        possible = {
            (a.path, b.path)
            for a, b in permutations(images, 2)
            if (a.label == b.label) == bool(same) and not (a.person and a.person == b.person)
        }
        with pytest.raises(InputError, match="allow"):
            draw_pairs(images, len(possible) + 1, same, seed, balanced)
        if possible:
            drawn = draw_pairs(images, len(possible), same, seed, balanced)
            assert {(pair.target, pair.source) for pair in drawn} == possible
            assert len(drawn) == len(possible)


@given(n=st.integers(1, 60), same=st.floats(0, 1), seed=st.integers(), balanced=st.booleans(), order=st.randoms())
def test_counts_are_exact_and_the_order_of_the_images_does_not_matter(
    n: int, same: float, seed: int, balanced: bool, order: random.Random
) -> None:
    images = faces(happiness=10, anger=8, fear=3)
    pairs = draw_pairs(images, n, same, seed, balanced)
    assert len(pairs) == n and alike(pairs) == round(n * same)
    labels = {image.path: image.label for image in images}
    assert all(p.target != p.source for p in pairs)
    assert all((p.target_label, p.source_label) == (labels[p.target], labels[p.source]) for p in pairs)
    assert len({(p.target, p.source) for p in pairs}) == len({p.id for p in pairs}) == n
    shuffled = list(images)
    order.shuffle(shuffled)
    assert draw_pairs(shuffled, n, same, seed, balanced) == pairs


def test_the_defaults_are_the_papers_protocol() -> None:
    pairs = draw_pairs(faces(happiness=400, neutral=300, anger=100))
    assert len(pairs) == 3000 and alike(pairs) == 1500


def test_a_seed_names_one_list_and_another_seed_another() -> None:
    images = faces(happiness=50, anger=50)
    assert draw_pairs(images, 50, seed=1) == draw_pairs(images, 50, seed=1)
    assert draw_pairs(images, 50, seed=1) != draw_pairs(images, 50, seed=2)


def test_the_list_of_seed_0_is_pinned() -> None:
    # published pair lists must be reproducible with later versions of Python, NumPy and this package
    pairs = draw_pairs(faces(A=4, B=3), 4)
    assert [(p.id, p.target, p.source) for p in pairs] == [
        ("pair_0000", "B_0001.png", "B_0002.png"),
        ("pair_0001", "B_0001.png", "A_0001.png"),
        ("pair_0002", "A_0002.png", "A_0000.png"),
        ("pair_0003", "A_0003.png", "B_0001.png"),
    ]


def test_targets_follow_the_data_and_balanced_ones_do_not() -> None:
    images = faces(common=900, rare=100)
    shares = Counter(pair.target_label for pair in draw_pairs(images, 4000))
    # independent draws would spread by sqrt(4000 * 0.9 * 0.1) = 19
    assert abs(shares["common"] - 3600) < 100
    shares = Counter(pair.target_label for pair in draw_pairs(images, 4000, balanced=True))
    assert abs(shares["common"] - 2000) < 160


def test_sources_of_other_labels_follow_the_data_too() -> None:
    images = faces(a=200, b=300, c=100)
    sources = Counter(p.source_label for p in draw_pairs(images, 4000, same=0) if p.target_label == "a")
    assert abs(sources["b"] / sources.total() - 0.75) < 0.05
    balanced = draw_pairs(images, 4000, same=0, balanced=True)
    sources = Counter(p.source_label for p in balanced if p.target_label == "a")
    assert abs(sources["b"] / sources.total() - 0.5) < 0.06


def test_same_and_different_pairs_are_mixed() -> None:
    pairs = draw_pairs(faces(a=100, b=100), 1000)
    assert 150 < alike(pairs[:400]) < 250  # so that the first part of a list is a sample of it


def test_people_never_meet_themselves() -> None:
    images = [LabelledImage(f"{i}.png", "AB"[i % 2], f"person {i // 8}") for i in range(32)]
    person = {image.path: image.person for image in images}
    assert all(person[p.target] != person[p.source] for p in draw_pairs(images, 700))


@pytest.mark.parametrize(
    ("images", "n", "same", "message"),
    [
        (faces(a=5), 4, 0.5, "2 pairs with different labels are asked for; these 5 images allow 0"),
        (faces(a=1, b=1), 2, 0.5, "1 pairs with the same label are asked for; these 2 images allow 0"),
        (faces(a=3), 7, 1, "7 pairs with the same label .* allow 6.*'a': 3"),
        ([LabelledImage("1", "a", "p"), LabelledImage("2", "a", "p")], 1, 1, "same label, different people"),
        ([], 1, 1, "no labelled images"),
        (faces(a=3), 0, 1, "n is 0"),
        (faces(a=3), 3, 1.5, "same is 1.5"),
        (faces(a=3), 3, float("nan"), "same is nan"),
        ([*faces(a=3), *faces(a=1)], 3, 1, "'a_0000.png' is named 2 times"),
    ],
)
def test_impossible_wishes_are_refused(images: list[LabelledImage], n: int, same: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        draw_pairs(images, n, same)


def test_labels_are_read_under_any_of_their_names(tmp_path: Path) -> None:
    for image in ("image", "path", "file"):
        for label in ("label", "emotion", "expression"):
            path = tmp_path / "labels.csv"
            path.write_text(f"{label},votes,{image},person\nfear,3,a.png,Ann\nanger,2,b.png,\n")
            assert read_labels(path) == [
                LabelledImage(str(tmp_path / "a.png"), "fear", "Ann"),
                LabelledImage(str(tmp_path / "b.png"), "anger"),
            ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,votes\na.png,3\n", "no column 'label'"),
        ("imag,label\na.png,fear\n", "no column 'image'.*perhaps 'imag'"),
        ("image,file,label\na,b,fear\n", "could all be the image"),
        ("image,label\na.png,\n", "row 1: the cell 'label' is empty"),
        ("image,label\na.png,fear\n ,fear\n", "row 2: the cell 'image' is empty"),
        ("image,label\na.png,fear\na.png,anger\n", "named 2 times"),
        ("image,label\n", "no labelled images"),
    ],
)
def test_wrong_label_tables_are_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_labels(tmp_path / "labels.csv")


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    """labels.csv beside the folder faces/ with 12 (empty) images of three labels."""
    (tmp_path / "data" / "faces").mkdir(parents=True)
    rows = [f"faces/{label}{i},é.png" for label in "abc" for i in range(4)]
    with (tmp_path / "data" / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "label"), *((row, row[6]) for row in rows)])
    for row in rows:
        (tmp_path / "data" / row).write_bytes(b"")
    return tmp_path / "data"


def test_with_a_column_swapped_the_pairs_are_a_manifest(
    data_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")  # '..' of a linked folder is not where it seems
    monkeypatch.chdir(tmp_path)
    images = read_labels("data/labels.csv")
    assert missing_images(images) == []
    pairs = draw_pairs(images, 20)
    for out in (tmp_path / "elsewhere" / "pairs.csv", Path("link/pairs.csv"), Path("pairs.csv")):
        write_pairs(pairs, out)
        with out.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == ["id", "target", "source", "target_label", "source_label"]
        assert not any(Path(row["target"]).is_absolute() for row in rows)
        with out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*rows[0], "swapped"])
            writer.writeheader()
            writer.writerows({**row, "swapped": row["target"]} for row in rows)
        triplets = read_triplets(out)
        assert [t.problem for t in triplets] == [""] * 20
        assert [t.id for t in triplets] == [p.id for p in pairs]
        assert [(t.target_label, t.source_label) for t in triplets] == [(p.target_label, p.source_label) for p in pairs]
        for triplet, pair in zip(triplets, pairs, strict=True):
            assert triplet.target is not None and triplet.target.samefile(pair.target)
            assert triplet.source is not None and triplet.source.samefile(pair.source)


def test_a_list_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be written"):
        write_pairs([], tmp_path / "no" / "such" / "folder.csv")


def command(*arguments: object) -> tuple[int, str]:
    from exprmetric_cli.pairs import pairs

    result = CliRunner().invoke(pairs, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_the_command_writes_the_same_pairs(data_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs.csv"
    code, output = command(data_set / "labels.csv", "-n", 20, "--same", 0.25, "--seed", 3, "--out", out)
    assert code == 0 and "20 pairs, 5 with the same label, 15 with different ones" in output
    assert "Warning" not in output
    written = out.read_bytes()
    write_pairs(draw_pairs(read_labels(data_set / "labels.csv"), 20, 0.25, 3), out)
    assert out.read_bytes() == written


def test_the_command_says_when_the_images_are_elsewhere(data_set: Path, tmp_path: Path) -> None:
    moved = tmp_path / "labels.csv"
    moved.write_bytes((data_set / "labels.csv").read_bytes())
    code, output = command(moved, "-n", 4, "--out", tmp_path / "pairs.csv")
    assert code == 0 and "12 of 12 images are not there" in output and "--images" in output
    code, output = command(moved, "-n", 4, "--images", data_set, "--out", tmp_path / "pairs.csv")
    assert code == 0 and "not there" not in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-n", "0"], "0 is not in the range"),
        (["--same", "2"], "'--same': 2.0 is not in the range"),
        (["-n", "5000"], "these 12 images allow"),
        (["-n", "4", "--out", "no/such/folder.csv"], "can't be written"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], message: str, data_set: Path) -> None:
    code, output = command(data_set / "labels.csv", *arguments)
    assert code == 2 and message in " ".join(output.split())


def test_the_labels_are_not_overwritten(data_set: Path) -> None:
    before = (data_set / "labels.csv").read_bytes()
    code, output = command(data_set / "labels.csv", "-n", 4, "--out", data_set / "labels.csv")
    assert code == 2 and "would overwrite" in output
    assert (data_set / "labels.csv").read_bytes() == before


@pytest.mark.shared
def test_the_protocol_runs_on_real_labels(shared_data: Callable[[str], Path]) -> None:
    folder = shared_data("lfw_expressions")
    images = read_labels(folder / "labels.csv", root=folder / "images")
    assert len(images) == 13_246 and missing_images(images) == []
    pairs = draw_pairs(images)
    person = {image.path: image.person for image in images}
    assert alike(pairs) == 1500
    assert all(person[p.target] != person[p.source] for p in pairs)


@pytest.mark.parametrize("name", ["persn", "Person", "person_id", "persons"])
def test_people_under_another_name_are_not_ignored(name: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(f"image,label,{name}\na.png,joy,Ada\n")
    with pytest.raises(InputError, match=f"no column 'person'.*perhaps '{name}'"):
        read_labels(tmp_path / "labels.csv")
