"""Rows: what became of each triplet, column by column, from the moment it is measured to the report.

Columns are Arrow's: a million rows with their names take some hundred bytes each, and a part of them goes to disk as
it is. Names that repeat (paths, models, groups, reasons) are kept once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from exprmetric.choices import BLENDSHAPES, IDENTITY
from exprmetric.errors import InputError
from exprmetric.faces.place import box_text
from exprmetric.inputs.triplets import ROLES, Triplet
from exprmetric.io.files import path_text
from exprmetric.methods.identity import SAME_PERSON

if TYPE_CHECKING:
    import pyarrow as pa

Floats = npt.NDArray[np.float64]
Record = dict[str, Any]

OK = "ok"
DISTANCE_COLUMNS = ("t2c", "s2c", "s2t")
TRIPLET_COLUMNS = ("id", "model", "group", "target", "source", "swapped", "status", "reason")
FACE_COLUMNS = tuple(f"faces_{role}" for role in ROLES)
"""How many faces each image shows."""
BOX_COLUMNS = tuple(f"box_{role}" for role in ROLES)
"""The face that was measured, `x0 y0 x1 y1` in whole px of the upright image."""
GIVEN = "given"
"""What the manifest says in the columns by which scores are split, as JSON; see `exprmetric.evaluation.by`."""
HASH_COLUMNS = tuple(f"sha256_{role}" for role in ROLES)
"""SHA-256 of each image's file, as 64 hex digits; '' where there is none, or it can't be read."""
CONTENT = HASH_COLUMNS[0]
NAMING = "sha256_naming"
"""SHA-256 of the photographs that name the faces in target, source and swapped image, three texts with spaces between
them, `-` where none does; '' in rows that name no face by a photograph."""
CONTENT_COLUMNS = (*HASH_COLUMNS, NAMING)
INNER_COLUMNS = ("index", "target_label", "source_label", "person", GIVEN)
"""What joining the parts of a run needs besides: place in the input, labels."""

SAME_PERSON_COLUMN = f"{IDENTITY}.same_person"
"""Whether the identity control takes the swapped face for the target's person; null in rows that weren't measured."""
MOVED = f"{BLENDSHAPES}.moved"
"""Which blendshapes changed most between target and swapped face, in words; see `exprmetric.methods.blendshapes`."""
YAW = "yaw"
"""Degrees by which the target's head is turned to a side; null where its landmarks don't say."""
EXPRESSION = "expression"
"""The target's expression, a name of `EXPRESSIONS`, where scores are split by it; null where no face is known."""
AGAIN = "found_again"
"""Of some rows whether a second detector finds the changed face too; null of all others."""


PRIVATE_COLUMNS = ("private.target", "private.swapped")
"""Identity vectors as bytes: of each row's target, and of its changed face; see
`exprmetric.evaluation.large.private`."""


def cloud_columns(methods: Sequence[str], retrieval: str) -> tuple[str, ...]:
    """Vectors as bytes, `cloud.METHOD.ROLE`, of all rows that were measured; see `exprmetric.evaluation.clouds`.

    Args:
        methods: whose clouds of targets and of swapped faces are compared.
        retrieval: by which swapped faces are looked up among sources; '': none.
    """
    wanted = [(m, role) for m in methods for role in ("target", "swapped")]
    wanted += [(retrieval, role) for role in ("source", "swapped") if retrieval]
    return tuple(dict.fromkeys(f"cloud.{method}.{role}" for method, role in wanted))


def carried_columns(methods: Sequence[str]) -> list[str]:
    """What some rows carry until all are known: the vectors of some targets, as bytes, and what a second detector
    finds.

    They are null in most rows, see `exprmetric.evaluation.carried`.
    """
    return [*(f"{method}.vector" for method in methods), AGAIN, YAW, EXPRESSION]


def columns_of(methods: Sequence[str], kept: Sequence[str] = ()) -> list[str]:
    """The columns of `triplets.csv`; `kept`: the methods that have a column `<method>.kept`.

    `triplets.parquet` has `CONTENT_COLUMNS` too.
    """
    numbers = [f"{m}.{d}" for m in methods for d in (*DISTANCE_COLUMNS, *["kept"] * (m in kept))]
    return [*TRIPLET_COLUMNS, *FACE_COLUMNS, *numbers, *judged_columns(methods), *BOX_COLUMNS]


def judged_columns(methods: Sequence[str]) -> list[str]:
    """`identity.same_person` where the identity control is measured, `blendshapes.moved` where blendshapes are."""
    moved = any(method.partition(":")[0] == BLENDSHAPES for method in methods)
    return [SAME_PERSON_COLUMN] * (IDENTITY in methods) + [MOVED] * moved


def schema(
    methods: Sequence[str],
    *,
    inner: bool = True,
    private: bool = False,
    kept: Sequence[str] = (),
    clouds: Sequence[str] = (),
) -> pa.Schema:
    """Types of the columns; those of `triplets.parquet` where `inner` is false, with `PRIVATE_COLUMNS` where asked.

    `clouds` are of `cloud_columns`.
    """
    import pyarrow as pa

    names = pa.dictionary(pa.int32(), pa.string()) if inner else pa.string()
    fields = [pa.field(c, pa.string() if c == "id" else names) for c in TRIPLET_COLUMNS]
    fields += [pa.field(c, pa.int32()) for c in FACE_COLUMNS]
    if inner:
        fields += [pa.field(c, pa.int64() if c == "index" else names) for c in INNER_COLUMNS]
    for m in methods:
        fields += [pa.field(f"{m}.{d}", pa.float64()) for d in (*DISTANCE_COLUMNS, *["kept"] * (m in kept))]
    fields += [pa.field(c, pa.string() if c == MOVED else pa.bool_()) for c in judged_columns(methods)]
    fields += [pa.field(c, pa.string()) for c in BOX_COLUMNS]
    fields += [pa.field(c, pa.string() if c == HASH_COLUMNS[-1] else names) for c in CONTENT_COLUMNS]
    if inner:
        kinds = {AGAIN: pa.bool_(), YAW: pa.float64(), EXPRESSION: pa.string()}
        fields += [pa.field(c, kinds.get(c, pa.binary())) for c in carried_columns(methods)]
    fields += [pa.field(c, pa.binary()) for c in PRIVATE_COLUMNS if private]
    fields += [pa.field(c, pa.binary()) for c in clouds]
    return pa.schema(fields)


def name_columns(columns: pa.Schema) -> list[str]:
    """The columns whose texts are kept once."""
    import pyarrow as pa

    return [field.name for field in columns if pa.types.is_dictionary(field.type)]


def table(
    triplets: Sequence[Triplet],
    indices: Sequence[int],
    hashes: Sequence[Sequence[str]],
    status: Sequence[str],
    reasons: Sequence[str],
    distances: Mapping[str, Floats],
    faces: npt.NDArray[np.integer[Any]] | None = None,
    boxes: Sequence[Sequence[Floats | None]] | None = None,
    carried: Mapping[str, Sequence[Any]] | None = None,
    naming: Sequence[str] | None = None,
) -> pa.Table:
    """Rows of N triplets.

    Args:
        triplets: N.
        indices: their places in the input.
        hashes: N times 3 content hashes of target, source and swapped image; '' where there is none, or it can't be
            read.
        status: what became of each.
        reasons: why.
        distances: by method (N, 3) t2c, s2c, s2t; NaN where the status is not `ok`, and the last two without a source.
        faces: (N, 3) how many faces target, source and swapped image show; -1, or no array, where that isn't known.
        boxes: N times 3 boxes (4,) that were measured, px; None where there is none.
        carried: by column of `carried_columns`, `PRIVATE_COLUMNS` and `cloud_columns`, N values; None where a row
            carries none.
        naming: N texts of NAMING; None: no row names a face by a photograph.
    """
    import pyarrow as pa

    counts = np.full((len(triplets), len(ROLES)), -1) if faces is None else faces
    measured = [[None] * len(ROLES)] * len(triplets) if boxes is None else boxes
    columns: dict[str, Any] = {
        "id": [path_text(t.id) for t in triplets],
        "model": [path_text(t.model) for t in triplets],
        "group": [path_text(t.group) for t in triplets],
        **{role: [path_text(getattr(t, role)) for t in triplets] for role in ROLES},
        "status": status,
        "reason": [path_text(r) for r in reasons],
        "index": indices,
        **{c: [of_row[i] for of_row in hashes] for i, c in enumerate(HASH_COLUMNS)},
        NAMING: [""] * len(triplets) if naming is None else naming,
        "target_label": [path_text(t.target_label) for t in triplets],
        "source_label": [path_text(t.source_label) for t in triplets],
        "person": [path_text(t.person) for t in triplets],
        GIVEN: [given_text(t.given) for t in triplets],
    }
    pairs = np.array([len(t.roles) < len(ROLES) for t in triplets], bool)
    for method, values in distances.items():
        absent = np.isnan(values[:, 0])
        columns |= {
            f"{method}.{d}": pa.array(values[:, i], mask=absent | (pairs & (d != "t2c")))
            for i, d in enumerate(DISTANCE_COLUMNS)
        }
    for i, name in enumerate(FACE_COLUMNS):
        columns[name] = pa.array(counts[:, i], pa.int32(), mask=counts[:, i] < 0)
    if IDENTITY in distances:
        apart = distances[IDENTITY][:, 0]
        columns[SAME_PERSON_COLUMN] = pa.array(apart < SAME_PERSON, mask=np.isnan(apart))
    for i, name in enumerate(BOX_COLUMNS):
        columns[name] = [box_text(row[i]) for row in measured]
    nothing = [None] * len(triplets)
    more = carried or {}
    columns |= {c: more.get(c, nothing) for c in carried_columns(list(distances))}
    columns |= {c: more.get(c, nothing) for c in judged_columns(list(distances)) if c not in columns}
    private = {c: more[c] for c in PRIVATE_COLUMNS if c in more}
    clouds = {c: values for c, values in more.items() if c.startswith("cloud.")}
    kinds = schema(list(distances), private=bool(private), clouds=list(clouds))
    return pa.table(columns | private | clouds, schema=kinds)


def given_text(values: Sequence[tuple[str, str]]) -> str:
    """What a row's manifest says in the columns that were asked for, as one text; '' for nothing."""
    return json.dumps(dict(values), ensure_ascii=False, sort_keys=True) if values else ""


class Rows:
    """All rows of a result. Takes a table with at least the columns of `triplets.parquet`."""

    def __init__(self, rows: pa.Table) -> None:
        self.table = rows
        self._codes: dict[str, tuple[npt.NDArray[np.int32], list[str]]] = {}

    @classmethod
    def from_records(cls, records: Sequence[Record]) -> Rows:
        """Rows of plain values, as `records` gives them."""
        import pyarrow as pa

        columns = list(records[0]) if records else list(TRIPLET_COLUMNS)
        kinds = dict.fromkeys([*TRIPLET_COLUMNS, *INNER_COLUMNS[1:], *BOX_COLUMNS, *CONTENT_COLUMNS], pa.string())
        kinds |= dict.fromkeys(FACE_COLUMNS, pa.int32()) | dict.fromkeys((MOVED, EXPRESSION), pa.string())
        kinds |= {SAME_PERSON_COLUMN: pa.bool_()}
        fields = [pa.field(c, kinds.get(c, pa.float64())) for c in columns]
        return cls(pa.Table.from_pylist(list(records), schema=pa.schema(fields)))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def methods(self) -> list[str]:
        """Methods in the order of their columns."""
        return [c.removesuffix(".t2c") for c in self.table.column_names if c.endswith(".t2c")]

    @cached_property
    def kept(self) -> list[str]:
        """Methods with a column `<method>.kept`."""
        return [m for m in self.methods if f"{m}.kept" in self.table.column_names]

    def codes(self, column: str) -> tuple[npt.NDArray[np.int32], list[str]]:
        """(N,) numbers 0..K-1 of a text column, and the K texts in sorted order."""
        if column not in self._codes:
            import pyarrow as pa
            import pyarrow.compute as pc

            values = self.table[column]
            if not pa.types.is_dictionary(values.type):
                values = pc.dictionary_encode(values)
            whole = values.unify_dictionaries().combine_chunks()
            if isinstance(whole, pa.ChunkedArray):  # older pyarrows give a chunked array back
                whole = whole.chunk(0) if whole.num_chunks else pa.array([], pa.string()).dictionary_encode()
            names = [n or "" for n in whole.dictionary.to_pylist()] + [""] * bool(whole.null_count)
            kept = sorted(set(names))
            place = {name: i for i, name in enumerate(kept)}
            lookup = np.array([place[n] for n in names], np.int32)
            found = whole.indices.fill_null(len(names) - 1).to_numpy(zero_copy_only=False)
            self._codes[column] = (lookup[found] if len(found) else np.empty(0, np.int32), kept)
        return self._codes[column]

    def mask(self, column: str, text: str) -> npt.NDArray[np.bool_]:
        """(N,) where a text column says `text`."""
        codes, names = self.codes(column)
        return codes == names.index(text) if text in names else np.zeros(len(self), bool)

    def same_text(self, a: str, b: str) -> npt.NDArray[np.bool_]:
        """(N,) where two text columns say the same."""
        (codes_a, names_a), (codes_b, names_b) = self.codes(a), self.codes(b)
        place = {name: i for i, name in enumerate(names_b)}
        found: npt.NDArray[np.bool_] = np.array([place.get(n, -1) for n in names_a], np.int32)[codes_a] == codes_b
        return found

    def where(self, part: npt.NDArray[np.bool_]) -> Rows:
        """Some of the rows, in their order."""
        return Rows(self.table.filter(part))

    @cached_property
    def ok(self) -> npt.NDArray[np.bool_]:
        """(N,) which rows were measured."""
        return self.mask("status", OK)

    @cached_property
    def without_source(self) -> npt.NDArray[np.bool_]:
        """(N,) rows that have no source and need none.

        A row that names no source is a pair, or the source of a triplet is missing: it failed then, and where rows
        without a source are measured, or none has one, they are pairs.
        """
        nameless = self.mask("source", "")
        pairs = bool((nameless & self.ok).any()) or bool(nameless.all())
        return nameless if pairs else np.zeros(len(self), bool)

    def check_finite(self, where: str) -> None:
        """InputError, which names `where` and a row, if a row that is ok has a distance that is no finite number.

        A source may be missing, and with it s2c and s2t; t2c may not.
        """
        import pyarrow.compute as pc

        for method in self.methods:
            for name in DISTANCE_COLUMNS:
                finite = pc.fill_null(pc.is_finite(self.table[f"{method}.{name}"]), name != "t2c").to_numpy()
                if bad := np.flatnonzero(self.ok & ~finite).tolist():
                    row = self.table["id"][bad[0]].as_py()
                    raise InputError(
                        f"{where}: {len(bad)} of the rows that are ok have no finite {method}.{name}, the first is "
                        f"{row!r}: measure them again"
                    )

    def grouped(self) -> Rows:
        """With the groups of the bootstrap: the given one, else the target, told apart by content.

        Of several paths with the same content the one that sorts first names the group, whatever the order of rows.
        """
        import pyarrow as pa

        given, groups = self.codes("group")
        target, paths = self.codes("target")
        content, hashes = self.codes(CONTENT)
        name_of = np.full(len(hashes), len(paths), np.int32)
        np.minimum.at(name_of, content, target)  # codes are in sorted order
        if "" in hashes:
            name_of[hashes.index("")] = -1  # unreadable targets are told apart by their paths
        chosen = name_of[content]
        chosen = np.where(chosen < 0, target, chosen)
        without = np.array([not g for g in groups], bool)[given] if len(groups) else np.zeros(0, bool)
        names = pa.array([*groups, *paths], pa.string())
        codes = np.where(without, len(groups) + chosen, given)
        column = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), names)
        index = self.table.column_names.index("group")
        return Rows(self.table.set_column(index, "group", column))

    def distances(self, method: str) -> Floats:
        """(N, 3) t2c, s2c, s2t of one method; NaN in rows that were not measured."""
        return np.column_stack([self.distance(method, d) for d in DISTANCE_COLUMNS])

    def distance(self, method: str, name: str) -> Floats:
        """(N,) one distance of one method; NaN in rows that were not measured."""
        values = self.table[f"{method}.{name}"].to_numpy()
        return np.asarray(values, np.float64)

    def without_inner(self) -> Rows:
        """With the columns of `triplets.parquet` alone."""
        return Rows(self.table.drop_columns([*INNER_COLUMNS, *carried_columns(self.methods)]))

    def record(self, index: int) -> Record:
        """One row as plain values."""
        row: Record = self.table.slice(index, 1).to_pylist()[0]
        return row

    def records(self, indices: Iterable[int] | None = None) -> list[Record]:
        """Rows as plain values: all, or those of some indices."""
        part = self.table if indices is None else self.table.take(np.fromiter(indices, np.int64))
        found: list[Record] = part.to_pylist()
        return found
