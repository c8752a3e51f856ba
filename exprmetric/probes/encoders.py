"""Vectors of methods and checkpoints for the same faces of a data set: each computed once and kept.

A method sees a face as it does in `evaluate`; a checkpoint's crop is cut where the same detector found the same face,
by the alignment that a training keeps. A face that isn't found is left out for both and counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exprmetric.choices import CHANNELS
from exprmetric.datasets.alignment import CHOICE, align_dataset
from exprmetric.datasets.store import crops_of
from exprmetric.errors import InputError, UnreadableImageError
from exprmetric.faces import FaceFinder, open_finder
from exprmetric.faces.point_models import DEFAULT
from exprmetric.io.environment import environment, stamp
from exprmetric.io.kept import digest, keep_arrays, kept_arrays
from exprmetric.io.pool import default_jobs, open_pool
from exprmetric.io.progress import Progress, no_progress
from exprmetric.methods import Method
from exprmetric.metrics.distances import DISTANCES
from exprmetric.metrics.resampling import Distance
from exprmetric.probes.checkpoint import Checkpoint
from exprmetric.probes.dataset import Faces
from exprmetric.probes.parts import FaceRows, Vectors, unique_names
from exprmetric.probes.vectors import Vectors as Embedded
from exprmetric.probes.vectors import embed_faces, photograph_reader
from exprmetric.weights import store as weights


@dataclass(frozen=True, eq=False)
class Encoded:
    """What one encoder makes of N faces.

    Attributes:
        vectors: (N, D) float32; NaN where there is none.
        status: (N,) text: '' where there is a vector, else why not (`no_face`, …).
    """

    vectors: Vectors
    status: npt.NDArray[np.str_]

    @property
    def ok(self) -> npt.NDArray[np.bool_]:
        """(N,) rows that have a vector."""
        return np.asarray(self.status == "")

    def coverage(self) -> dict[str, Any]:
        """`{"faces", "ok", "failed": {status: n}}`."""
        failed = Counter(self.status[~self.ok].tolist())
        return {"faces": len(self.status), "ok": int(self.ok.sum()), "failed": dict(sorted(failed.items()))}


@dataclass(frozen=True, eq=False)
class Bench:
    """How all probes find faces, and where vectors are kept.

    Attributes:
        cache: folder of alignments and vectors; the folder `alignment` of a training serves.
        detector: as in `evaluate`.
        provider: as in `evaluate`.
        jobs: threads that read images, processes that align; None: one a core.
        face: which of several faces; of a data set the one that training aligns.
        landmarks: as in `evaluate`.
        commercial_only: as in `evaluate`.
    """

    cache: Path
    detector: str = "auto"
    provider: str = "cpu"
    jobs: int | None = None
    progress: Progress = no_progress
    face: str = CHOICE
    landmarks: str = DEFAULT
    commercial_only: bool = False

    @cached_property
    def finder(self) -> FaceFinder:
        """What finds the face of an image."""
        return self.open_finder(self.detector)

    def open_finder(self, detector: str) -> FaceFinder:
        """The same with another detector."""
        with weights.commercial_only(self.commercial_only):
            return open_finder(detector, self.face, provider=self.provider, landmarks=self.landmarks)

    def embed(self, faces: Faces, methods: Sequence[Method], stage: str, pool: Executor) -> Embedded:
        """What each method makes of each face; nothing is kept."""
        return embed_faces(faces, photograph_reader(self.finder, methods), pool, self.progress, stage)

    def about(self, schema_version: int) -> dict[str, Any]:
        """How every card begins: when, by which version, with which detector, beside which packages."""
        ran = {"ran": self.finder.detector.name, "fingerprint": self.finder.fingerprint}
        return {
            **stamp(schema_version),
            "detector": {"asked": self.detector, **ran},
            "environment": environment(),
        }

    def encode(self, rows: FaceRows, encoders: Sequence[Method]) -> dict[str, Encoded]:
        """Vectors of all encoders by name, from the cache where they are there.

        Raises:
            InputError: two encoders have one name, or an encoder gives numbers that are not finite.
        """
        unique_names([e.name for e in encoders])
        faces = digest(self.finder.fingerprint, rows.dataset.name, *rows.dataset.contents(rows.rows))
        files = {e.name: self.cache / _file_name(e, faces) for e in encoders}
        found = {name: encoded for name, path in files.items() if (encoded := _read(path))}
        missing = [e for e in encoders if e.name not in found]
        found |= self._methods(rows, [e for e in missing if not isinstance(e, Checkpoint)], files)
        found |= self._checkpoints(rows, [e for e in missing if isinstance(e, Checkpoint)], files)
        return {e.name: found[e.name] for e in encoders}

    def _methods(self, rows: FaceRows, methods: Sequence[Method], files: dict[str, Path]) -> dict[str, Encoded]:
        if not methods:
            return {}
        with open_pool(self.jobs) as pool:
            embedded = self.embed(rows.faces, methods, rows.name, pool)
        made = {}
        for method in methods:
            cells = embedded.cells[method.name]
            status = np.array(["" if isinstance(c, np.ndarray) else c.status for c in cells], dtype="U16")
            ok = np.flatnonzero(status == "")
            vectors = embedded.matrix(method.name, ok)
            made[method.name] = self._keep(method.name, rows, ok, vectors, status, files[method.name])
        return made

    def _checkpoints(
        self, rows: FaceRows, checkpoints: Sequence[Checkpoint], files: dict[str, Path]
    ) -> dict[str, Encoded]:
        if not checkpoints:
            return {}
        if self.landmarks != DEFAULT:
            raise InputError(f"checkpoints see faces as training aligned them, by landmarks {DEFAULT!r} alone")
        jobs = self.jobs or default_jobs()
        alignment = align_dataset(rows.dataset, self.cache, detector=self.detector, jobs=jobs).subset(list(rows.rows))
        ok = np.flatnonzero(alignment.found)
        status = np.where(alignment.found, "", "no_face").astype("U16")
        samples = tuple(rows.dataset.samples[rows.rows[i]] for i in ok)
        part = replace(rows.dataset, samples=samples)
        aligned = alignment.subset(ok.tolist())
        made: dict[str, Encoded] = {}
        for crop, size, color in sorted({(c.crop, c.size, c.color) for c in checkpoints}):
            how = {"crop": crop, "size": size, "channels": CHANNELS[color], "jobs": jobs}
            crops, (unread,) = crops_of([(part, aligned)], self.cache, color=color, **how)
            readable = [i for i in range(len(ok)) if i not in unread]
            status[np.delete(ok, readable)] = UnreadableImageError.status
            place = ok[readable]
            for checkpoint in (c for c in checkpoints if (c.crop, c.size, c.color) == (crop, size, color)):
                vectors, name = checkpoint.embed(crops), checkpoint.name
                checkpoint.release()
                made[name] = self._keep(name, rows, place, vectors, status.copy(), files[name])
                self.progress(f"{rows.name}, checkpoints", len(made), len(checkpoints))
        return made

    def _keep(
        self,
        name: str,
        rows: FaceRows,
        ok: npt.NDArray[np.intp],
        found: Vectors,
        status: npt.NDArray[np.str_],
        path: Path,
    ) -> Encoded:
        finite = np.isfinite(found).all(1)
        if not finite.all():
            image = rows.images[ok[int(np.argmin(finite))]]
            raise InputError(f"{name} gives numbers that are not finite, first for {image!r}: leave it out")
        vectors = np.full((len(rows), found.shape[1]), np.nan, np.float32)
        vectors[ok] = found
        keep_arrays(path, {"vectors": vectors, "status": status})
        return Encoded(vectors, status)


def _file_name(encoder: Method, faces: str) -> str:
    """Encoder, faces and what finds them decide the vectors."""
    return f"vectors-{re.sub('[^A-Za-z0-9_-]', '_', encoder.name)[:40]}-{digest(encoder.fingerprint, faces)[:16]}.npz"


def _read(path: Path) -> Encoded | None:
    kept = kept_arrays(path, "vectors", "status")
    return Encoded(kept["vectors"], kept["status"]) if kept else None


def distance_of(encoder: Method) -> Distance:
    """An encoder's own distance: where that is a plain one, the function itself, which is fast for all pairs."""
    own = type(encoder).distance
    return DISTANCES[encoder.distance_name] if own is Method.distance else encoder.distance
