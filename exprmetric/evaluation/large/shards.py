"""Shards: one input measured in pieces, by jobs that know nothing of each other, and the pieces joined again.

A shard's folder is a result of its own rows, and holds beside it what joining needs: `rows.parquet` (the rows with the
contents of their targets, so that groups can be told apart across shards) and `shard.json`, which has the hashes of
both.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exprmetric.errors import InputError
from exprmetric.evaluation.conclude import Measured, conclude
from exprmetric.evaluation.large import private
from exprmetric.evaluation.large.journal import FOLDER, joined
from exprmetric.evaluation.large.private import PrivateVectors
from exprmetric.evaluation.plan import row_text
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.evaluation.rows import PRIVATE_COLUMNS, Rows, name_columns, schema
from exprmetric.evaluation.session import Settings
from exprmetric.inputs.triplets import Triplet
from exprmetric.io.environment import environment, versions
from exprmetric.io.files import path_text, write_whole

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 2
FILE, ROWS = "shard.json", "rows.parquet"
SEAL = "sha256"
"""Key of the hash of all the rest of `shard.json`."""
LOST_PEOPLE = "the shards' identity vectors are deleted, as by an earlier merge: nobody was looked up"
LOST_CLOUDS = "the shards' vectors are deleted, as by an earlier merge: no efid, no ID retrieval"


@dataclass(frozen=True)
class Shard:
    """Piece `number` (from 1) of `of` pieces: a run of consecutive triplets, whose targets mostly stand together."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`2/8`; InputError for anything else."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip(), re.ASCII)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise InputError(f"a shard is NUMBER/OF with 1 <= NUMBER <= OF, such as 2/8, not {text!r}")
        return cls(int(found[1]), int(found[2]))

    def rows(self, total: int) -> range:
        """Which of `total` rows are its own; every row is in one shard."""
        return range(total * (self.number - 1) // self.of, total * self.number // self.of)


def save_shard(out: Path, shard: Shard, triplets: Sequence[Triplet], measured: Measured) -> None:
    """Write what `merge` needs into a shard's folder.

    Args:
        triplets: of the whole input.
        measured: of this shard, its rows numbered from 0; vectors of its people stay here until it is merged.
    """
    import pyarrow.parquet as pq

    vectors, clouds = measured.vectors, measured.clouds
    content = io.BytesIO()
    pq.write_table(measured.rows, content)
    drop_shard(out)  # no kill may leave a shard.json beside the rows of another run
    document = {
        "schema_version": SCHEMA_VERSION,
        "shard": shard.number,
        "of": shard.of,
        "total": len(triplets),
        "input": _digest_of(triplets),
        "run": measured.run,
        "origin": measured.origin,
        "environment": environment(),
        "throughput": measured.throughput,
        "notes": list(measured.notes),
        "rows": _digest(content.getvalue()),
        **({} if vectors is None else {"vectors": vectors.save(out / private.FILE)}),
        **({} if clouds is None else {"clouds": clouds.save(out / private.CLOUDS)}),
    }
    write_whole(out / ROWS, lambda file: file.write(content.getvalue()))
    text = json.dumps({**document, SEAL: _digest(_canonical(document))}, indent=1).encode()
    write_whole(out / FILE, lambda file: file.write(text))


def drop_shard(out: Path) -> None:
    """What is in this folder is no shard any more."""
    if (out / FILE).is_file():
        (out / FILE).unlink()
        (out / ROWS).unlink(missing_ok=True)
    private.forget([out])


def merge(folders: Sequence[Path], *, on_fail: str = "exclude", seed: int = 0, command: str = "") -> EvaluationResult:
    """The result of an input whose shards lie in these folders: that of one run over all of it.

    What shards keep of people stays in them: `private.forget` deletes it once the result is written. Without it, people
    aren't looked up, and a note says so.

    Raises:
        InputError: a shard is missing, there twice, damaged, or of another input or of other settings.
    """
    import pyarrow.compute as pc

    documents = [_read(folder) for folder in folders]
    if not documents:
        raise InputError("no folder of a shard was named")
    first, model = folders[0], documents[0]
    found: dict[int, Path] = {}
    for folder, document in zip(folders, documents, strict=True):
        for key, what in (("of", "number of shards"), ("total", "input"), ("input", "input"), ("run", "settings")):
            if document[key] != model[key]:
                raise InputError(f"{folder} and {first} can't be merged: they are not of the same {what}")
        if other := _other_versions(document, model):
            raise InputError(f"{folder} and {first} can't be merged: they were measured with different {other}")
        number = document["shard"]
        if number in found:
            raise InputError(f"{found[number]} and {folder} are both shard {number} of {document['of']}")
        found[number] = folder
    if missing := [str(i) for i in range(1, model["of"] + 1) if i not in found]:
        raise InputError(f"shard {', '.join(missing)} of {model['of']} is missing")
    settings = Settings(**{**model["run"]["settings"], "methods": tuple(model["run"]["settings"]["methods"])})
    columns = schema(settings.names())
    names = name_columns(columns)
    tables = [columns.empty_table()]
    by_number = sorted(zip(folders, documents, strict=True), key=lambda pair: int(pair[1]["shard"]))
    for folder, document in by_number:
        own = Shard(document["shard"], document["of"]).rows(document["total"])
        rows = _read_rows(folder, document["rows"], names)
        Rows(rows).check_finite(str(folder))
        place = columns.names.index("index")
        tables.append(rows.set_column(place, columns.field(place), pc.add(rows["index"], own.start)))
    throughput = _together([d["throughput"] for d in documents], model["total"])
    notes = list(dict.fromkeys(note for document in documents for note in document.get("notes", ())))
    kept: dict[str, PrivateVectors | None] = {"vectors": None, "clouds": None}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as together:
        for kind, columns_of, file, lost in (
            ("vectors", PRIVATE_COLUMNS if settings.privacy else (), private.FILE, LOST_PEOPLE),
            ("clouds", settings.clouds, private.CLOUDS, LOST_CLOUDS),
        ):
            if columns_of and not all((folder / file).is_file() for folder in folders):
                notes.append(lost)
            elif columns_of:
                files = [(folder / file, str(document.get(kind))) for folder, document in by_number]
                kept[kind] = private.of_shards(Path(together), files, columns_of)
        origin = model["origin"] | ({"command": path_text(command)} if command else {})
        measured = Measured(joined(tables), model["run"], origin, throughput, notes, **kept)
        return conclude(measured, settings, on_fail=on_fail, seed=seed, made_with=model["environment"])


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest_of(triplets: Sequence[Triplet]) -> str:
    """Of all that the rows say of the input."""
    found = hashlib.sha256()
    for triplet in triplets:
        found.update(row_text(triplet))
    return found.hexdigest()


def _canonical(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True).encode()


def _other_versions(a: dict[str, Any], b: dict[str, Any]) -> str:
    """The packages of which two shards had different versions; the machine may differ."""
    of_a, of_b = versions(a["environment"]), versions(b["environment"])
    names = sorted({*of_a, *of_b})
    return ", ".join(f"{n} ({of_a.get(n)}, {of_b.get(n)})" for n in names if of_a.get(n) != of_b.get(n))


def _read(folder: Path) -> dict[str, Any]:
    if (folder / FOLDER).exists():
        raise InputError(f"{folder} holds a run that is not finished: the same command goes on with it")
    try:
        document: dict[str, Any] = json.loads((folder / FILE).read_bytes())
        version, seal = document["schema_version"], document.pop(SEAL)
        whole = seal == _digest(_canonical(document))
    except FileNotFoundError:
        raise InputError(
            f"{str(folder)!r} is no finished shard: it has no {FILE}. `exprmetric evaluate --shard I/N --out` makes one"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{folder / FILE} can't be read: {error!r}") from error
    if version != SCHEMA_VERSION:
        raise InputError(f"{folder / FILE} is of another version of exprmetric")
    if not whole:
        raise InputError(f"{folder / FILE} is damaged: measure the shard again")
    return document


def _read_rows(folder: Path, digest: str, names: Sequence[str]) -> pa.Table:
    import pyarrow.parquet as pq

    try:
        content = (folder / ROWS).read_bytes()
    except OSError as error:
        raise InputError(f"{folder / ROWS} can't be read: {error}") from error
    if _digest(content) != digest:
        raise InputError(f"{folder / ROWS} is damaged, or not of {folder / FILE}: measure the shard again")
    return pq.ParquetFile(io.BytesIO(content), read_dictionary=list(names)).read()


def _together(parts: Sequence[dict[str, Any]], triplets: int) -> dict[str, Any]:
    """What shards took, as if one had run after the other."""
    seconds = sum(p["seconds"] for p in parts)
    stages: dict[str, float] = {}
    for part in parts:
        for stage, spent in part["thread_seconds_by_stage"].items():
            stages[stage] = round(stages.get(stage, 0.0) + spent, 4)
    return {
        "seconds": round(seconds, 3),
        "triplets_per_second": round(triplets / seconds, 3) if seconds else 0.0,
        "thread_seconds_by_stage": stages,
        "shards": len(parts),
    }
