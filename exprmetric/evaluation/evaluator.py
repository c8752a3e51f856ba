"""`Evaluator`: scores that add up over a loop of any framework, on uncropped pictures, in constant memory."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from exprmetric.choices import ALL, CHANGED, DEFAULT_METHODS, IDENTITY
from exprmetric.errors import InputError
from exprmetric.evaluation.choosing import NO_SOURCE, photo_of
from exprmetric.evaluation.distances import Trio, triplet_distances
from exprmetric.evaluation.given import as_image
from exprmetric.evaluation.reading import Outcome
from exprmetric.evaluation.rows import OK
from exprmetric.evaluation.session import Session, Settings
from exprmetric.evaluation.trio import Pixels
from exprmetric.faces.point_models import DEFAULT
from exprmetric.io.arguments import how_many, names, text
from exprmetric.io.images import read_image
from exprmetric.io.pool import default_jobs
from exprmetric.methods.identity import SAME_PERSON
from exprmetric.metrics.preservation import per_triplet

if TYPE_CHECKING:
    from exprmetric.io.images import ImageSource

Pictures = Any
"""One picture, or several: a list, or an array (B, H, W, 3)."""


class Evaluator:
    """Adds up what `evaluate` measures, batch by batch, without torch and without files.

    It finds the faces itself: give it what a generator makes, uncropped. Pictures are RGB uint8 (H, W, 3) arrays
    (whatever `numpy.asarray` takes, as of JAX or TensorFlow), Pillow images or paths. There are no intervals: for those
    keep the pictures and call `exprmetric.evaluate`.

    Args:
        methods: as in `exprmetric.evaluate`.
        detector: as in `exprmetric.evaluate`.
        face: which of several faces in a target: `changed`, `largest`, `center` or `error`.
        provider: as in `exprmetric.evaluate`.
        identity: measure the identity control too.
        landmarks: as in `exprmetric.evaluate`.
        commercial_only: as in `exprmetric.evaluate`.
        jobs: threads that read a batch.

    Raises:
        InputError, UnknownMethodError, WeightsError, ProviderError: from loading methods and detector.

    Example:
        >>> from exprmetric import Evaluator
        >>> evaluator = Evaluator(["lm68"])  # doctest: +SKIP
        >>> for target, source, swapped in batches:  # doctest: +SKIP
        ...     evaluator.update(target, source, swapped)
        >>> evaluator.compute()["methods"]["lm68"]["mean_t2c"]  # doctest: +SKIP
    """

    def __init__(
        self,
        methods: Sequence[str] = DEFAULT_METHODS,
        *,
        detector: str = "auto",
        face: str = CHANGED,
        provider: str = "cpu",
        identity: bool = True,
        landmarks: str = DEFAULT,
        commercial_only: bool = False,
        jobs: int | None = None,
    ) -> None:
        methods, face = names(methods, "methods"), text(face, "face")
        if face == ALL or photo_of(face):
            raise InputError(f"an Evaluator measures one face a picture, chosen by place or size, not {face!r}")
        settings = Settings(methods, detector, face, provider, identity, landmarks, commercial_only)
        self._session = Session(settings)
        self._measured = [m for m in self._session.settings.names() if m != IDENTITY or IDENTITY in methods]
        self._jobs = how_many(jobs, "jobs") or default_jobs()
        self.reset()

    def reset(self) -> None:
        """Forget all that was measured."""
        self._status: Counter[str] = Counter()
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._counts: Counter[str] = Counter()

    def update(self, target: Pictures, source: Pictures | None, swapped: Pictures) -> list[tuple[str, str]]:
        """Measure a batch.

        Args:
            target: one picture, or several.
            source: equally many; None where there is none, as of anonymized faces.
            swapped: equally many.

        Returns:
            Status and reason of each, as in `triplets.csv`: what can't be measured is counted, and left out of scores.

        Raises:
            InputError: batches of different length.
        """
        batches = [_pictures(p) for p in (target, swapped, *([] if source is None else [source]))]
        if len({len(batch) for batch in batches}) > 1:
            raise InputError(
                f"a batch has equally many pictures of each: got {', '.join(str(len(b)) for b in batches)}"
            )
        targets, _, *sources = batches
        count = len(targets)
        with ThreadPoolExecutor(self._jobs) as pool:
            read = [list(pool.map(self._session.reader.read, batch)) for batch in batches]
        seen = self._session.reader.represent([outcome for outcomes in read for outcome in outcomes])
        found = [self._row(seen, batches, i, count) for i in range(count)]
        trios = {i: trio for i, (trio, *_) in enumerate(found) if trio is not None}
        distances, problems = triplet_distances(self._session.methods, list(trios.values()))
        problem = dict(zip(trios, problems, strict=True))
        rows = []
        for i, (_, status, reason) in enumerate(found):
            error = problem.get(i)
            rows.append((error.status, str(error)) if error else (status, reason))
        good = np.array([p is None for p in problems], bool)
        for name, values in distances.items():
            self._add(name, values[good], bool(sources))
        self._status.update(status for status, _ in rows)
        return rows

    def _row(
        self, seen: Sequence[Outcome], batches: Sequence[Sequence[ImageSource]], at: int, count: int
    ) -> tuple[Trio | None, str, str]:
        """The faces of one row, its status, and its reason."""

        def pixels(role: int) -> Pixels:
            return lambda: read_image(batches[role][at])

        sides = [(seen[role * count + at], pixels(role)) for role in range(len(batches))]
        three = [sides[0], sides[2] if len(sides) > 2 else NO_SOURCE, sides[1]]
        chosen = self._session.chooser.choose([image for image, _ in three], [own for _, own in three])
        if errors := chosen.errors:
            return None, errors[0][1].status, "; ".join(f"{role}: {error}" for role, error in errors)
        return chosen.trio, OK, chosen.note

    def _add(self, method: str, distances: Any, source: bool) -> None:
        columns = per_triplet(*distances.T[: None if source else 1])
        if method == IDENTITY:
            columns["same_person"] = (columns["mean_t2c"] < SAME_PERSON).astype(np.float64)
            if source:
                columns["nearer_to_source"] = (columns["mean_s2c"] < columns["mean_t2c"]).astype(np.float64)
        for score, values in columns.items():
            self._sums[f"{method}/{score}"] += float(values.sum())
            self._counts[f"{method}/{score}"] += len(values)

    def compute(self) -> dict[str, Any]:
        """Scores so far, in the shape of `summary.json` without intervals.

        Returns:
            `coverage` {triplets, ok, failed}; `methods`: by method `n` and the mean of each score, None where nothing
            was measured; scores that need a source are absent where none was given. `identity`: mean distances of the
            control, `nearer_to_source`, and `same_person`; None without it.
        """
        failed = {status: n for status, n in sorted(self._status.items()) if status != OK}
        total, ok = self._status.total(), self._status[OK]
        identity = None
        if self._session.settings.identity:
            identity = {k: v for k, v in self._means(IDENTITY).items() if k not in ("l2_error", "ratio")}
        return {
            "coverage": {"triplets": total, "ok": ok, "failed": failed},
            "methods": {method: self._means(method) for method in self._measured},
            "identity": identity,
        }

    def _means(self, method: str) -> dict[str, Any]:
        found: dict[str, Any] = {"n": self._counts[f"{method}/mean_t2c"]}
        for name, count in self._counts.items():
            owner, _, score = name.rpartition("/")
            if owner == method and (count or score == "mean_t2c"):
                found[score] = self._sums[name] / count if count else None
        return found if len(found) > 1 else found | {"mean_t2c": None}

    def state(self) -> str:
        """All that was measured so far, as JSON, for `merge` in another process."""
        about = {"about": self._session.description(), "status": self._status, "sums": self._sums}
        return json.dumps(about | {"counts": self._counts})

    def merge(self, states: Iterable[str] | str) -> None:
        """Add what other evaluators have measured, of the same methods, weights and detector.

        Args:
            states: of `state`, one or several.

        Raises:
            InputError: one is no state, or of other methods, weights or detector.
        """
        for state in names(states, "states"):
            try:
                other = json.loads(state)
                about, status, sums, counts = (other[key] for key in ("about", "status", "sums", "counts"))
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"this is no state of an Evaluator: {error!r}") from error
            if about != json.loads(json.dumps(self._session.description())):
                raise InputError("an evaluator of other methods, weights or detector can't be merged into this one")
            self._status.update(status)
            for name, value in sums.items():
                self._sums[name] += value
            self._counts.update(counts)


def _pictures(given: Pictures) -> list[ImageSource]:
    """A batch as a list of pictures."""
    if isinstance(given, list | tuple):
        return [as_image(picture) for picture in given]
    picture = as_image(given)
    return list(picture) if getattr(picture, "ndim", 3) == 4 else [picture]
