"""Rows of a result: what is put into the table comes out of it, whatever Arrow makes of the parts."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from results import Distances, Row, rows_of, without_inner

from exprmetric.errors import InputError
from exprmetric.evaluation.rows import (
    BOX_COLUMNS,
    CONTENT_COLUMNS,
    DISTANCE_COLUMNS,
    FACE_COLUMNS,
    INNER_COLUMNS,
    PRIVATE_COLUMNS,
    TRIPLET_COLUMNS,
    Rows,
    carried_columns,
    cloud_columns,
    columns_of,
    name_columns,
    schema,
    table,
)
from exprmetric.inputs.triplets import Triplet
from exprmetric.methods.identity import SAME_PERSON

METHODS = ("one", "two")


def a_triplet(name: str, **more: str) -> Triplet:
    return Triplet(name, Path(f"t/{name}"), Path(f"s/{name}"), Path(f"c/{name}"), **more)


def a_row(name: str, group: str = "", status: str = "ok", reason: str = "", **more: str) -> Row:
    n = sum(map(ord, name))
    distances = {m: Distances(n / 8 + i, n / 4 + i, n / 2 + i) for i, m in enumerate(METHODS)}
    return Row(a_triplet(name, **more), group, status, reason, distances if status == "ok" else {})


def some_rows() -> Rows:
    """Three parts joined, each with names of its own, of which two hold the same in another order."""
    parts = [
        [a_row("b", "g2", model="M"), a_row("a", "g1", model="M")],
        [a_row("c", "g1", "error", "swapped: broken", model="L", target_label="sad", source_label="sad")],
        [a_row("d", model="K", target_label="sad", source_label="happy"), a_row("a", model="M", source_label="sad")],
    ]
    return Rows(pa.concat_tables([rows_of(part, METHODS).table for part in parts]))


def test_every_value_stands_in_its_column():
    swap = a_triplet("x", model="M", group="g", target_label="sad", source_label="happy")
    lost = Triplet("y", None, None, Path("c/\udcff"), problem="no target")
    distances = {"one": np.array([[0.5, 0.25, 0.125], [np.nan] * 3]), "two": np.array([[3.0, 2.0, 1.0], [np.nan] * 3])}
    hashes = [("of target", "of source", "of swapped"), ("", "", "")]
    made = Rows(table([swap, lost], [7, 3], hashes, ["ok", "unreadable"], ["", "c/\udcff: gone"], distances))
    first, second = made.records()
    expected = {
        "id": "x", "model": "M", "group": "g", "target": "t/x", "source": "s/x", "swapped": "c/x", "status": "ok",
        "reason": "", "index": 7, "sha256_target": "of target", "sha256_source": "of source",
        "sha256_swapped": "of swapped", "target_label": "sad", "source_label": "happy",
        "one.t2c": 0.5, "one.s2c": 0.25, "one.s2t": 0.125, "two.t2c": 3.0, "two.s2c": 2.0, "two.s2t": 1.0,
    }  # fmt: skip
    assert {name: first[name] for name in expected} == expected
    assert second["target"] == second["source"] == "" and second["swapped"] == "c/\\xff"
    assert second["reason"] == "c/\\xff: gone" and second["status"] == "unreadable" and second["index"] == 3
    assert [second[f"{m}.{d}"] for m in METHODS for d in DISTANCE_COLUMNS] == [None] * 6
    assert made.methods == list(METHODS)
    assert made.distances("two")[0].tolist() == [3.0, 2.0, 1.0] and np.isnan(made.distances("two")[1]).all()
    assert made.distance("one", "s2c")[0] == 0.25 and made.distances("one").dtype == np.float64


def test_faces_are_counted_and_boxes_are_whole_pixels_where_they_are_known():
    swaps = [a_triplet("x"), a_triplet("y")]
    boxes = [[np.array([0.4, 1.6, -3.0, 20.5]), None, None], [None, np.array([1.0, 2, 3, 4]), None]]
    counts = np.array([[1, 0, 6], [-1, 2, -1]])
    made = table(swaps, [0, 1], [("", "", "")] * 2, ["ok", "ok"], ["", ""], {"one": np.ones((2, 3))}, counts, boxes)
    first, second = Rows(made).records()
    assert [first[c] for c in FACE_COLUMNS] == [1, 0, 6] and [second[c] for c in FACE_COLUMNS] == [None, 2, None]
    assert [first[c] for c in BOX_COLUMNS] == ["0 2 -3 20", "", ""]
    assert [second[c] for c in BOX_COLUMNS] == ["", "1 2 3 4", ""]
    unknown = Rows(table(swaps, [0, 1], [("", "", "")] * 2, ["ok", "ok"], ["", ""], {"one": np.ones((2, 3))})).records()
    assert [r[c] for r in unknown for c in FACE_COLUMNS] == [None] * 6
    assert [r[c] for r in unknown for c in BOX_COLUMNS] == [""] * 6
    assert [c for c in made.column_names if c in BOX_COLUMNS] == ["box_target", "box_source", "box_swapped"]
    again = Rows.from_records(Rows(made).records()).table
    assert {again.schema.field(c).type for c in FACE_COLUMNS} == {pa.int32()}
    assert {again.schema.field(c).type for c in BOX_COLUMNS} == {pa.string()}


def test_columns_and_their_types_are_those_of_the_files():
    distances = [f"{m}.{d}" for m in METHODS for d in DISTANCE_COLUMNS]
    assert columns_of(METHODS) == [*TRIPLET_COLUMNS, *FACE_COLUMNS, *distances, *BOX_COLUMNS]
    inner, outer = schema(METHODS), schema(METHODS, inner=False)
    assert outer.names == [*columns_of(METHODS), *CONTENT_COLUMNS]
    assert set(inner.names) == {*outer.names, *INNER_COLUMNS, *carried_columns(METHODS)}
    private = schema(METHODS, private=True)
    assert [*inner.names, *PRIVATE_COLUMNS] == private.names
    assert columns_of(["identity"])[-4] == "identity.same_person"  # before the three boxes
    assert schema(METHODS, inner=True) == inner == some_rows().table.schema
    for name in ("model", "group", "target", "source", "swapped", "status", "reason"):
        assert inner.field(name).type == pa.dictionary(pa.int32(), pa.string())
        assert outer.field(name).type == pa.string()
    assert inner.field("id").type == outer.field("id").type == pa.string()
    assert inner.field("index").type == pa.int64() and inner.field("two.s2t").type == pa.float64()
    assert "id" not in name_columns(inner) and {"group", "sha256_target", "target_label"} <= set(name_columns(inner))
    assert name_columns(outer) == []


def test_codes_are_numbers_of_the_sorted_names_whatever_the_parts():
    rows = some_rows()
    for made in (
        rows,
        Rows(rows.table.combine_chunks()),
        Rows(without_inner(rows).table),
        Rows(rows.where(rows.ok | ~rows.ok).table),
    ):
        codes, names = made.codes("model")
        assert names == ["K", "L", "M"] and codes.tolist() == [2, 2, 1, 0, 2] and codes.dtype == np.int32
        assert made.codes("model")[0] is codes  # worked out once
    codes, names = rows.codes("target_label")
    assert names == ["", "sad"] and codes.tolist() == [0, 0, 1, 1, 0]


def test_a_missing_name_is_an_empty_one():
    column = pa.array(["b", None, "a", ""])
    for values in (column, column.dictionary_encode()):
        codes, names = Rows(pa.table({"group": values, "id": ["1", "2", "3", "4"]})).codes("group")
        assert names == ["", "a", "b"] and codes.tolist() == [2, 0, 1, 0]


def test_no_rows_have_no_codes():
    for made in (rows_of([], METHODS), Rows.from_records([]), some_rows().where(np.zeros(5, bool))):
        codes = made.codes("group")[0]
        assert codes.tolist() == [] and codes.dtype == np.int32 and len(made) == 0
        assert made.mask("group", "x").tolist() == [] and made.ok.tolist() == []
    assert Rows.from_records([]).table.column_names == list(TRIPLET_COLUMNS)
    empty = rows_of([], METHODS).grouped()
    assert len(empty) == 0


def test_masks_say_where_a_column_holds_a_text():
    rows = some_rows()
    assert rows.ok.tolist() == [True, True, False, True, True]
    assert rows.mask("model", "M").tolist() == [True, True, False, False, True]
    assert rows.mask("model", "nobody").tolist() == [False] * 5 and rows.mask("model", "nobody").dtype == bool
    assert rows.same_text("target_label", "source_label").tolist() == [True, True, True, False, False]
    assert rows.same_text("source_label", "target_label").tolist() == [True, True, True, False, False]


def test_records_come_back_as_they_were():
    rows = some_rows()
    records = rows.records()
    assert [r["id"] for r in records] == ["b", "a", "c", "d", "a"] and len(rows) == 5
    assert rows.record(3) == records[3] and rows.records([4, 0]) == [records[4], records[0]]
    assert rows.records([]) == []
    again = Rows.from_records(without_inner(rows).records())
    assert again.records() == without_inner(rows).records() and again.methods == list(METHODS)
    assert again.table.schema.field("group").type == pa.string()
    whole = Rows.from_records([{**r, "index": float(r["index"])} for r in records])
    assert (
        whole.table.schema.field("sha256_target").type == whole.table.schema.field("source_label").type == pa.string()
    )
    assert whole.table.schema.field("one.t2c").type == pa.float64()
    assert Rows.from_records(without_inner(rows).records([2])).records() == without_inner(rows).records([2])
    part = rows.where(np.array([False, True, False, True, False]))
    assert part.records() == [records[1], records[3]]


def test_a_group_is_the_given_one_else_the_target_told_apart_by_its_content():
    names = ["z", "y", "x", "w", "v", "u"]
    contents = [(c, "", "") for c in ("same", "same", "other", "", "", "same")]
    groups = ["", "", "", "", "", "mine"]
    made = table(
        [a_triplet(n, group=g) for n, g in zip(names, groups, strict=True)],
        range(6), contents, ["ok"] * 6, [""] * 6, {"one": np.ones((6, 3))},
    )  # fmt: skip
    # z and y have one content, which u shares: the first path of the three names it; w and v can't be read
    expected = ["t/u", "t/u", "t/x", "t/w", "t/v", "mine"]
    for order in ([0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4]):
        found = Rows(made.take(order)).grouped()
        assert [r["group"] for r in found.records()] == [expected[i] for i in order]
        assert found.table.column_names == made.column_names
        assert found.grouped().records() == found.records()
    everywhere = Rows(made.filter(pa.array([False] * 5 + [True]))).grouped()
    assert [r["group"] for r in everywhere.records()] == ["mine"]
    readable = Rows(made.slice(0, 3)).grouped()
    assert [r["group"] for r in readable.records()] == ["t/y", "t/y", "t/x"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("column", range(3))
def test_a_measured_row_without_a_finite_distance_is_named(bad: float, column: int):
    values = np.ones((4, 3))
    values[1:3, column] = bad
    status = ["ok", "ok", "ok", "error"]
    made = table(
        [a_triplet(n) for n in "abcd"],
        range(4),
        [("", "", "")] * 4,
        status,
        [""] * 4,
        {"fine": np.ones((4, 3)), "one": values},
    )
    name = ("t2c", "s2c", "s2t")[column]
    if math.isnan(bad) and column == 0:  # no distance at all
        made = made.set_column(made.column_names.index("one.t2c"), "one.t2c", pa.array(values[:, 0], from_pandas=True))
    with pytest.raises(InputError) as caught:
        Rows(made).check_finite("results/A")
    assert str(caught.value) == (
        f"results/A: 2 of the rows that are ok have no finite one.{name}, the first is 'b': measure them again"
    )


def test_rows_that_failed_and_rows_without_a_source_may_lack_distances():
    values = np.ones((3, 3))
    made = table(
        [a_triplet(n) for n in "abc"], range(3), [("", "", "")] * 3, ["ok", "error", "ok"], [""] * 3, {"one": values}
    )
    for column in ("one.s2c", "one.s2t"):
        made = made.set_column(made.column_names.index(column), column, pa.array([1.0, None, None]))
    made = made.set_column(made.column_names.index("one.t2c"), "one.t2c", pa.array([1.0, None, 2.0]))
    Rows(made).check_finite("here")


def of_two(distances: dict[str, np.ndarray], **more: object) -> pa.Table:
    pair = Triplet("pair", Path("t"), None, Path("c"), person="Ann", given=(("skin", "dark"), ("age", "30")))
    swap = a_triplet("swap")
    return table([pair, swap], [0, 1], [("a", "", "b"), ("a", "d", "e")], ["ok"] * 2, [""] * 2, distances, **more)  # type: ignore[arg-type]


def test_a_pair_has_no_distance_to_a_source() -> None:
    made = of_two({"one": np.array([[0.5, np.nan, np.nan], [0.5, 0.25, 0.125]])})
    assert [made[f"one.{d}"].to_pylist() for d in DISTANCE_COLUMNS] == [[0.5, 0.5], [None, 0.25], [None, 0.125]]


def test_the_person_and_the_given_columns_stand_in_their_row() -> None:
    made = of_two({"one": np.ones((2, 3))})
    assert made["person"].to_pylist() == ["Ann", ""]
    assert made["given"].to_pylist() == ['{"age": "30", "skin": "dark"}', ""]


def test_the_same_person_is_nearer_than_the_threshold_and_unknown_where_nothing_was_measured() -> None:
    values = np.array([[SAME_PERSON, 0.0, 0.0], [np.nextafter(SAME_PERSON, 0), 9.0, 9.0]])
    assert of_two({"identity": values})["identity.same_person"].to_pylist() == [False, True]
    values[0] = np.nan
    assert of_two({"identity": values})["identity.same_person"].to_pylist() == [None, True]


def test_what_rows_carry_is_of_its_own_kind() -> None:
    carried = {
        "yaw": [1.5, None],
        "expression": ["sad", None],
        "found_again": [True, None],
        "blendshapes:cosine.vector": [b"12", None],
        "blendshapes.moved": ["jaw 0.4 less open", None],
        "cloud.one.target": [b"34", None],
        PRIVATE_COLUMNS[0]: [b"5", None],
        PRIVATE_COLUMNS[1]: [b"6", None],
    }
    made = of_two({"blendshapes:cosine": np.ones((2, 3))}, carried=carried)
    assert {name: made[name].to_pylist() for name in carried} == carried
    kinds = [made.schema.field(name).type for name in carried]
    assert kinds == [pa.float64(), pa.string(), pa.bool_(), pa.binary(), pa.string(), *[pa.binary()] * 3]
    without = of_two({"one": np.ones((2, 3))})
    assert not {"cloud.one.target", PRIVATE_COLUMNS[0], "blendshapes.moved"} & set(without.column_names)


def test_a_method_with_a_map_has_a_column_of_what_is_kept() -> None:
    assert "one.kept" in columns_of(METHODS, kept=["one"]) and "two.kept" not in columns_of(METHODS, kept=["one"])
    assert schema(METHODS, kept=["one"]).field("one.kept").type == pa.float64()
    assert "two.kept" not in schema(METHODS, kept=["one"]).names


def test_names_are_counted_over_all_parts_and_none_is_the_empty_name() -> None:
    rows = some_rows()
    names = pa.chunked_array([pa.array(["b", None]).dictionary_encode(), pa.array(["a", "b"]).dictionary_encode()])
    joined = Rows(rows.table.slice(0, 4).set_column(rows.table.column_names.index("model"), "model", names))
    codes, kept = joined.codes("model")
    assert [kept[c] for c in codes] == ["b", "", "a", "b"]
    empty = Rows(rows.table.slice(0, 0)).codes("model")
    assert len(empty[0]) == 0 and empty[0].dtype == np.int32


def test_clouds_are_of_the_two_faces_that_are_compared_each_once() -> None:
    """A cloud of the wrong faces has a distance too."""
    of_one, of_id = ["cloud.one.target", "cloud.one.swapped"], ["cloud.id.source", "cloud.id.swapped"]
    assert list(cloud_columns(["one", "two"], "id")) == [*of_one, *(c.replace("one", "two") for c in of_one), *of_id]
    assert list(cloud_columns(["one"], "")) == of_one and list(cloud_columns([], "id")) == of_id
    assert sorted(cloud_columns(["id"], "id")) == sorted({"cloud.id.target", *of_id})
    assert cloud_columns([], "") == ()


def test_blendshapes_say_what_moved_by_whatever_distance() -> None:
    for name in ("blendshapes", "blendshapes:cosine"):
        assert "blendshapes.moved" in columns_of([name])
    assert "blendshapes.moved" not in columns_of(["one", "identity"])
