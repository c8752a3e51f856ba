"""A session: the models of one evaluation, loaded once by whoever measures rows (this process, a worker elsewhere)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exprmetric.choices import BLENDSHAPES, CHANGED, IDENTITY
from exprmetric.errors import InputError
from exprmetric.evaluation.blocks import Block, Integers
from exprmetric.evaluation.carried import (
    cloud_vectors,
    expressions,
    found_again,
    moved_shapes,
    private_vectors,
    second_detector,
    target_vectors,
    yaws,
)
from exprmetric.evaluation.choosing import Chooser, Chosen, check_face, choice_of, fingerprint, photo_of
from exprmetric.evaluation.large.cache import Cache, Kept, NoCache, VectorCache
from exprmetric.evaluation.pipeline import BLOCK, measure
from exprmetric.evaluation.plan import Plan
from exprmetric.evaluation.reading import FaceReader
from exprmetric.evaluation.rows import AGAIN, EXPRESSION, MOVED, YAW, cloud_columns, table
from exprmetric.evaluation.summary import tells_people
from exprmetric.faces import open_finder
from exprmetric.faces.point_models import DEFAULT, load_points
from exprmetric.inputs.triplets import Triplet
from exprmetric.io.images import content_hash
from exprmetric.io.progress import Profile
from exprmetric.methods import Method, load_method
from exprmetric.methods.identity import IdentityMethod
from exprmetric.weights import store as weights
from exprmetric.weights.runtime import session_threads

if TYPE_CHECKING:
    import pyarrow as pa

CLASSES = "default-probabilities"
"""The method whose vectors are the probabilities of EXPRESSIONS."""
WHOLE_BATCHES = 50
"""A block is at most one in this many of all rows, so that a kill loses few."""


@dataclass(frozen=True)
class Settings:
    """All that decides the numbers of a row, but for its images.

    Attributes:
        methods: names for `load_method`.
        detector: a name for `load_detector`.
        face: which of several faces in a target: `changed` (the one that the swapped image shows changed most, else the
            largest), `largest`, `center`, `error`, the path of a photograph of the person, or `all`: each face is a row
            of its own. In a source, all but `center` and `error` take the largest; a swapped face stands where the
            target's does.
        provider: ONNX Runtime provider.
        identity: measure the identity control too.
        landmarks: the landmark model, which says where the eyes are: a key of
            `exprmetric.faces.point_models.LANDMARKS`.
        commercial_only: use no weights that exclude commercial use.
        by: names by which scores are split: those of `exprmetric.choices.BY`, and columns of the manifest.
        efid: compare the clouds of targets' and swapped faces' vectors (see `exprmetric.evaluation.clouds`).
        retrieval: the method by which swapped faces are looked up among sources; '': none.
        privacy: the method by which people are looked up again (see `exprmetric.evaluation.privacy`); '': none.
    """

    methods: tuple[str, ...]
    detector: str = "auto"
    face: str = CHANGED
    provider: str = "cpu"
    identity: bool = True
    landmarks: str = DEFAULT
    commercial_only: bool = False
    privacy: str = ""
    by: tuple[str, ...] = ()
    efid: bool = False
    retrieval: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @property
    def clouds(self) -> tuple[str, ...]:
        """The columns of vectors that are kept until all rows are known."""
        return cloud_columns(self.methods if self.efid else (), self.retrieval)

    @property
    def classes(self) -> str:
        """The method that tells the targets' expressions, where scores are split by them; else ''."""
        return CLASSES if EXPRESSION in self.by else ""

    def names(self) -> list[str]:
        """The methods asked for, without doubles, and behind them the identity control, who looks people up, and who
        tells expressions."""
        if not self.methods:
            raise InputError("no method was asked for")
        behind = [IDENTITY] * (self.identity or bool(self.privacy)) + [self.privacy] * bool(self.privacy)
        behind += [name for name in (self.retrieval, self.classes) if name]
        return list(dict.fromkeys([*self.methods, *behind]))


def check_landmarks(methods: Sequence[Method], landmarks: str) -> None:
    """InputError where a method measures points that this landmark model doesn't find."""
    if others := [m.name for m in methods if landmarks not in m.landmark_models]:
        raise InputError(
            f"{', '.join(others)} can't be measured with landmarks {landmarks!r}: name methods that read other points"
        )


def _refuse_identity(settings: Settings, photo: Path | None) -> None:
    """InputError where people must be told apart and the identity network can't be used."""
    why = (
        "allows no commercial use" if settings.commercial_only else f"needs more than landmarks {settings.landmarks!r}"
    )
    if settings.identity:
        raise InputError(f"the identity control {why}: leave it out (--no-identity, identity=False)")
    if photo is not None:
        raise InputError(f"a face is known by a photograph by the identity network, which {why}: choose otherwise")


class Session:
    """Detector and methods, loaded.

    Raises:
        InputError, UnknownMethodError, WeightsError, ProviderError: from loading them; also where they don't fit
            together or may not be used. UnreadableImageError: of the photograph that `face` names.
    """

    def __init__(self, settings: Settings, profile: Profile | None = None) -> None:
        check_face(settings.face)
        self.settings = settings
        self.profile = profile or Profile()
        may_tell = not settings.commercial_only and settings.landmarks in IdentityMethod.landmark_models
        photo = photo_of(settings.face)
        if not may_tell:
            _refuse_identity(settings, photo)
        with (
            self.profile.stage("load models"),
            session_threads(1),  # the pool is what keeps the cores busy
            weights.commercial_only(settings.commercial_only),
        ):
            load_points(settings.landmarks)  # first: what may not be used is told before what a method misses
            self.methods: list[Method] = [load_method(n, provider=settings.provider) for n in settings.names()]
            check_landmarks(self.methods, settings.landmarks)
            self.finder = open_finder(
                settings.detector,
                choice_of(settings.face),
                provider=settings.provider,
                landmarks=settings.landmarks,
            )
            self.second = second_detector(self.finder.detector, settings.provider) if settings.privacy else None
        self.reader = FaceReader(self.finder, self.methods, self.profile)
        identity = self._identity if may_tell else None
        self.chooser = Chooser(settings.face, aligned=self.finder.detector.aligned, identity=identity)
        self._photo = "" if photo is None else content_hash(photo)

    def _identity(self) -> Method:
        """The identity method, which tells people apart: that of the control where it is measured."""
        own = (m for m in self.methods if m.name == IDENTITY)
        return next(own, None) or load_method(IDENTITY, provider=self.settings.provider)

    def description(self) -> dict[str, Any]:
        """Detector and methods with their fingerprints, as JSON values."""
        return {
            "detector": {
                "asked": self.settings.detector,
                "ran": self.finder.detector.name,
                "fingerprint": fingerprint(self.finder, self.settings.face),
            },
            **({"photo": self._photo} if self._photo else {}),
            **({"second_detector": self.second.name if self.second else ""} if self.settings.privacy else {}),
            "methods": {
                m.name: {
                    "distance": m.distance_name,
                    "fingerprint": m.fingerprint,
                    **({"note": m.note} if m.note else {}),
                }
                for m in self.methods
            },
        }

    @contextmanager
    def open_cache(self, kept: Kept | None) -> Iterator[Cache]:
        """The vector cache; None: no cache."""
        if kept is None:
            yield NoCache()
        else:
            methods = [m for m in self.methods if kept.identity or not tells_people(m.name)]
            with VectorCache(kept.folder, self.finder, methods, self.settings.provider) as cache:
                yield cache

    def measure(
        self,
        plan: Plan,
        rows: Integers,
        pool: Executor,
        cache: Cache,
        *,
        block: int | None = None,
        reader: FaceReader | None = None,
    ) -> Iterator[pa.Table]:
        """Some rows of a plan as tables.

        Args:
            reader: of images; by default this session's own, in threads of the pool.
            block: new images a table rests on at most; by default few where there are few rows.
        """
        size = block or max(1, min(BLOCK, len(plan.triplets) // WHOLE_BATCHES))
        for part in measure(plan, rows, reader or self.reader, self.methods, self.chooser, pool, cache, block=size):
            rows_of_part = part.rows.tolist()
            yield table(
                [_of_face(plan.triplets[i], c) for i, c in zip(rows_of_part, part.chosen, strict=True)],
                rows_of_part,
                [plan.hashes_of(i) for i in rows_of_part],
                part.status,
                part.reasons,
                part.distances,
                part.faces,
                part.boxes,
                self._carried(plan, part, pool),
                [plan.naming(i) for i in rows_of_part],
            )

    def _carried(self, plan: Plan, part: Block, pool: Executor) -> dict[str, Sequence[Any]]:
        """What rows carry until all are known."""
        sampled = plan.sampled[part.rows].tolist()
        found: dict[str, Sequence[Any]] = dict(target_vectors(self.methods, part, sampled))
        found[YAW] = yaws(part)
        if self.settings.classes:
            found[EXPRESSION] = expressions(self.settings.classes, part)
        if (method := next((m for m in self.methods if m.name.partition(":")[0] == BLENDSHAPES), None)) is not None:
            found[MOVED] = moved_shapes(method.name, part)
        found |= cloud_vectors(self.settings.clouds, part)
        if network := self.settings.privacy:
            found |= private_vectors(network, part)
            if self.second:
                found[AGAIN] = found_again(self.second, plan, part, sampled, pool)
        return found


def _of_face(triplet: Triplet, chosen: Chosen) -> Triplet:
    """With the number of its face in the id, where every face is measured."""
    return replace(triplet, id=f"{triplet.id}#{chosen.number}") if chosen.number else triplet


@dataclass(frozen=True, eq=False)
class Job:
    """What an engine works through.

    Attributes:
        plan: of the whole input.
        rows: places of the triplets that are still to be measured.
        session: the models, loaded in this process.
        pool: threads of this process.
        cache: the vector cache; None: none.
        jobs: how many workers there may be; None: as many as there are cores.
        block: new images that a table of rows rests on, at most; None: as many as pays.
        notes: a file in which images are noted while they are on their way; None: nowhere.
    """

    plan: Plan
    rows: Integers
    session: Session
    pool: Executor
    cache: Kept | None
    jobs: int | None
    block: int | None
    notes: Path | None = None
