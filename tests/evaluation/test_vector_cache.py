"""The vector cache: what it saves is not done again, and no number ever depends on it."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import stat
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from swaps import assert_same, bound_by_modes, in_a_process, small_folder

from exprmetric.errors import ImageError, LowQualityError, NoFaceError, SeveralFacesError, UnreadableImageError
from exprmetric.evaluation import entries, reading
from exprmetric.evaluation.evaluate import evaluate
from exprmetric.evaluation.large import cache as cache_module
from exprmetric.evaluation.large import forked
from exprmetric.evaluation.large.cache import FILE, PACKAGES, VectorCache
from exprmetric.evaluation.reading import Outcome, Represented, Sight
from exprmetric.evaluation.result import EvaluationResult
from exprmetric.faces import Face, FaceFinder, load_detector
from exprmetric.faces.detection import DETECTORS, Detection
from exprmetric.inputs.triplets import ROLES, Triplet, read_triplets
from exprmetric.io.images import content_hash
from exprmetric.methods import METHODS, load_method
from exprmetric.methods.landmarks import LandmarkMethod
from exprmetric.methods.onnx import OnnxEncoder

DISTINCT = 5 + 20
"""Images of the small folder, by content."""


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No weights but those that packages carry, and nobody's cache."""
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)
    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path_factory.mktemp("cache") / "weights"))


@pytest.fixture(scope="session")
def swaps(tmp_path_factory: pytest.TempPathFactory) -> list[Triplet]:
    return read_triplets(small_folder(tmp_path_factory))


@dataclass
class Work:
    """What a run has done."""

    read: list[Path] = field(default_factory=list)
    searched: int = 0
    represented: Counter[str] = field(default_factory=Counter)

    def clear(self) -> None:
        self.read.clear()
        self.searched = 0
        self.represented.clear()

    @property
    def nothing(self) -> bool:
        return not (self.read or self.searched or self.represented)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    done, lock = Work(), threading.Lock()
    monkeypatch.setattr(forked, "can_fork", lambda provider: False)  # what other processes do isn't seen here
    read, detect = reading.read_image, FaceFinder.detect

    def counted_read(source: Any) -> Any:
        with lock:
            done.read.append(source.path)
        return read(source)

    def counted_detect(self: FaceFinder, image: Any) -> Any:
        with lock:
            done.searched += 1
        return detect(self, image)

    def counted(kind: type[Any]) -> None:
        represent = kind.represent

        def counted_represent(self: Any, faces: Sequence[Face]) -> Any:
            with lock:
                done.represented[self.name] += len(faces)
            return represent(self, faces)

        monkeypatch.setattr(kind, "represent", counted_represent)

    monkeypatch.setattr(reading, "read_image", counted_read)
    monkeypatch.setattr(FaceFinder, "detect", counted_detect)
    counted(LandmarkMethod)
    counted(OnnxEncoder)
    return done


def measured(source: Any, *methods: str, **how: Any) -> EvaluationResult:
    settings = {"detector": "none", "identity": False, "jobs": 2, **how}
    return evaluate(source, methods or ("lm68",), **settings)


def numbers(result: EvaluationResult) -> tuple[Any, Any]:
    """All that may not differ: every row with all digits, and the summary."""
    return result.triplets, {k: v for k, v in result.summary.items() if k not in ("created", "throughput")}


@pytest.fixture
def complaints() -> Iterator[Callable[[], list[str]]]:
    """Warnings about the cache so far."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield lambda: [str(w.message) for w in caught if "vector cache" in str(w.message)]


# --- what is not done again ---


def test_the_same_again_looks_at_nothing(swaps: list[Triplet], tmp_path: Path, work: Work) -> None:
    methods = ("lm68", "default")
    without = measured(swaps, *methods)
    assert len(work.read) == work.searched == DISTINCT
    work.clear()
    first = measured(swaps, *methods, cache=tmp_path)
    assert len(work.read) == work.searched == DISTINCT
    work.clear()
    again = measured(swaps, *methods, cache=tmp_path)
    assert work.nothing
    assert numbers(first) == numbers(without) == numbers(again)


def test_another_method_computes_that_method_alone(swaps: list[Triplet], tmp_path: Path, work: Work) -> None:
    measured(swaps, "lm68", cache=tmp_path)
    work.clear()
    both = measured(swaps, "lm68", "default", cache=tmp_path)
    assert (len(work.read), work.searched, work.represented) == (DISTINCT, 0, {"default": DISTINCT})
    work.clear()
    measured(swaps, "default", cache=tmp_path)
    assert work.nothing
    assert numbers(both) == numbers(measured(swaps, "lm68", "default"))


def test_landmarks_are_enough_for_another_method_of_landmarks(swaps: list[Triplet], tmp_path: Path, work: Work) -> None:
    measured(swaps, "lm68", cache=tmp_path)
    work.clear()
    found = measured(swaps, "lm51", cache=tmp_path)
    assert (work.read, work.searched, work.represented) == ([], 0, {"lm51": DISTINCT})
    assert numbers(found) == numbers(measured(swaps, "lm51"))


@pytest.mark.parametrize("first, then", [("default", "default:cosine"), ("lm68:mse", "lm68")])
def test_another_distance_needs_no_other_vectors(
    first: str, then: str, swaps: list[Triplet], tmp_path: Path, work: Work
) -> None:
    measured(swaps, first, cache=tmp_path)
    work.clear()
    found = measured(swaps, then, cache=tmp_path)
    assert work.nothing
    assert numbers(found) == numbers(measured(swaps, then))


@pytest.mark.parametrize("kept", [0.5, 0.05])
def test_a_part_of_it_is_as_good_as_all_or_nothing(
    kept: float, swaps: list[Triplet], tmp_path: Path, work: Work
) -> None:
    """Some images with both methods, some with one, some with none; and the identity control too."""
    mixed = random.Random(7).sample(swaps, len(swaps))
    count = max(1, round(kept * len(swaps)))
    measured(mixed[:count], "lm68", "default", cache=tmp_path)
    measured(mixed[count : count + 4], "lm68", cache=tmp_path)
    work.clear()
    found = measured(swaps, "lm68", "default", "lm51", identity=True, cache=tmp_path)
    assert 0 < work.represented["default"] < DISTINCT and 0 < work.represented["lm68"] < DISTINCT
    assert numbers(found) == numbers(measured(swaps, "lm68", "default", "lm51", identity=True, jobs=1))


def test_vectors_that_tell_people_apart_are_kept_only_where_that_is_asked_for(
    swaps: list[Triplet], tmp_path: Path
) -> None:
    some, query = swaps[:2], "SELECT count(*) FROM kept WHERE length(value) = 128 * 4 + 8"  # numbers and a check sum
    expected = numbers(measured(some, "lm68", identity=True))
    images = len({content_hash(path) for t in some for path in (t.target, t.source, t.swapped) if path})
    for asked in (False, True):
        for _ in range(2):
            assert numbers(measured(some, "lm68", identity=True, cache=tmp_path, cache_identity=asked)) == expected
        (kept,) = sqlite3.connect(tmp_path / FILE).execute(query).fetchone()
        assert kept == (images if asked else 0)


@pytest.mark.shared
@pytest.mark.parametrize("detector", ["scrfd", "yunet"])
def test_other_detectors_faces_come_back_whole(
    detector: str, swaps: list[Triplet], shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Work
) -> None:
    """Their five points and scores too: methods that begin with them give the same numbers from a kept face."""
    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(shared / "weights"))
    some = swaps[:6]
    measured(some, "lm68", detector=detector, cache=tmp_path)
    work.clear()
    found = measured(some, "lm68", "default", detector=detector, identity=True, cache=tmp_path)
    assert work.read and work.searched == 0
    assert numbers(found) == numbers(measured(some, "lm68", "default", detector=detector, identity=True))


def test_one_file_serves_many_inputs(swaps: list[Triplet], tmp_path: Path, work: Work) -> None:
    """The same images under other names and in other triplets."""
    measured(swaps, cache=tmp_path / "kept")
    copies = []
    for t in swaps[:5]:
        paths = {role: tmp_path / f"{t.id}-{role}.png" for role in ROLES}
        for role, path in paths.items():
            shutil.copyfile(getattr(t, role), path)
        copies.append(replace(t, **paths))
    work.clear()
    measured(copies, cache=tmp_path / "kept")
    assert work.nothing


def test_a_changed_image_is_looked_at_again(swaps: list[Triplet], tmp_path: Path, work: Work) -> None:
    own = replace(swaps[0], swapped=tmp_path / "swapped.png")
    shutil.copyfile(swaps[0].swapped, own.swapped)  # type: ignore[arg-type]
    rows = [own, *swaps[1:4]]
    before = measured(rows, cache=tmp_path / "kept")
    with Image.open(own.swapped) as image:  # type: ignore[arg-type]
        image.rotate(8).save(own.swapped)  # type: ignore[arg-type]
    work.clear()
    after = measured(rows, cache=tmp_path / "kept")
    assert work.read == [own.swapped]
    assert numbers(after) == numbers(measured(rows)) != numbers(before)


# --- pictures of which it is known who stands where ---

PLACES = ((15, 50, 185, 220), (215, 10, 465, 260))
"""Where the two people of a canvas stand: one small on the left, one large on the right."""


def _canvas(path: Path, left: Path | None, right: Path | None) -> Path:
    canvas = Image.new("RGB", (480, 270), "grey")
    for source, place in zip((left, right), PLACES, strict=True):
        if source is not None:
            with Image.open(source) as face:
                canvas.paste(face.resize((place[2] - place[0], place[3] - place[1])), place[:2])
    canvas.save(path)
    return path


class Canvas:
    """A detector that knows the places: whoever stands there, anybody else in the whole image, nobody in plain grey."""

    name = fingerprint = "canvas"
    aligned = False

    def detect(self, image: Any) -> list[Detection]:
        places = PLACES if image.shape == (270, 480, 3) else [(0, 0, *image.shape[1::-1])]
        boxes = [np.array(p, np.float64) for p in places if np.ptp(image[p[1] : p[3], p[0] : p[2]])]
        return [Detection(box, 1.0, box) for box in boxes]


@pytest.fixture(autouse=True)
def canvas_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DETECTORS, "canvas", replace(DETECTORS["none"], make=Canvas))


@dataclass(frozen=True)
class Two:
    """A swapped image with two people, and targets that stand where the one or the other does."""

    left: Triplet
    right: Triplet


@pytest.fixture
def two(swaps: list[Triplet], tmp_path: Path) -> Two:
    a, b = swaps[0].target, swaps[0].source
    both = _canvas(tmp_path / "both.png", a, b)
    targets = _canvas(tmp_path / "left.png", a, None), _canvas(tmp_path / "right.png", None, a)
    rows = [Triplet(n, t, b, both) for n, t in zip("lr", targets, strict=True)]
    return Two(*rows)


# --- failures ---


def test_an_image_without_a_face_is_not_searched_again(swaps: list[Triplet], tmp_path: Path, work: Work) -> None:
    blank = tmp_path / "blank.png"
    Image.new("RGB", (200, 200), "grey").save(blank)
    rows = [replace(swaps[0], swapped=blank), swaps[1], replace(swaps[2], target=blank)]
    first = measured(rows, detector="canvas", cache=tmp_path)
    work.clear()
    again = measured(rows, detector="canvas", cache=tmp_path)
    assert work.nothing
    assert [r["status"] for r in again.triplets] == ["no_face", "ok", "no_face"]
    assert numbers(again) == numbers(first) == numbers(measured(rows, detector="canvas"))


def test_several_faces_stay_several(two: Two, tmp_path: Path, work: Work) -> None:
    rows = [replace(two.left, target=two.left.swapped)]
    how = {"detector": "canvas", "face": "error"}
    first = measured(rows, **how, cache=tmp_path)
    work.clear()
    again = measured(rows, **how, cache=tmp_path)
    assert work.nothing and again.triplets[0]["status"] == "error"
    assert numbers(again) == numbers(first)
    chosen = measured(rows, detector="canvas", cache=tmp_path)  # who asks for the largest is not told the old error
    assert chosen.triplets[0]["status"] == "ok"


def test_an_unreadable_file_is_tried_again(swaps: list[Triplet], tmp_path: Path, work: Work) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(swaps[0].swapped.read_bytes()[:900])  # type: ignore[union-attr]
    rows = [replace(swaps[0], swapped=broken)]
    first = measured(rows, cache=tmp_path)
    assert first.triplets[0]["status"] == "unreadable"
    work.clear()
    again = measured(rows, cache=tmp_path)
    assert work.read == [broken]
    assert numbers(again) == numbers(first)


class Picky(LandmarkMethod):
    """Refuses some images, known by their size, when it prepares them."""

    def __init__(self, size: int, error: type[ImageError]) -> None:
        super().__init__("lm68", 68)
        self.name, self.size, self.error, self.pixels = "picky", size, error, True

    @property
    def fingerprint(self) -> str:
        return f"picky {self.size}"

    def prepare(self, face: Face) -> None:
        if face.size[0] == self.size:
            raise self.error("not this one")


@pytest.mark.parametrize("error", [LowQualityError, NoFaceError, SeveralFacesError])
def test_what_one_method_can_not_read_is_no_failure_of_the_others(
    error: type[ImageError], swaps: list[Triplet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small.png"
    with Image.open(swaps[0].swapped) as image:  # type: ignore[arg-type]
        image.resize((240, 240)).save(small)
    rows = [replace(swaps[0], swapped=small), *swaps[1:3]]
    monkeypatch.setitem(METHODS, "picky", lambda provider: Picky(240, error))
    refused = measured(rows, "lm68", "picky", cache=tmp_path)
    assert [r["status"] == "ok" for r in refused.triplets] == [False, True, True]
    assert numbers(refused) == numbers(measured(rows, "lm68", "picky", cache=tmp_path))
    assert numbers(measured(rows, cache=tmp_path)) == numbers(measured(rows))
    assert numbers(measured(rows, "lm68", "picky", cache=tmp_path)) == numbers(refused)


# --- a swapped image and the place of its target ---


def test_a_swap_of_two_people_is_kept_once_for_the_targets_of_both(two: Two, tmp_path: Path, work: Work) -> None:
    kept = tmp_path / "kept"
    alone = [measured([t], detector="canvas").triplets[0] for t in (two.left, two.right)]
    assert alone[0]["lm68.t2c"] < 0.5 * alone[1]["lm68.t2c"], "the fixture: the person on the left is the target's"
    for _ in range(2):
        assert measured([two.left], detector="canvas", cache=kept).triplets == alone[:1]
        assert measured([two.right], detector="canvas", cache=kept).triplets == alone[1:]
    work.clear()
    assert measured([two.right, two.left], detector="canvas", cache=kept).triplets == alone[::-1]
    assert work.nothing


def test_what_a_target_lacks_does_not_spoil_what_is_kept_of_its_swap(
    two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target vanishes for one run, or another method can't read it."""
    expected = numbers(measured([two.left], detector="canvas"))

    def vanished(source: Any, read: Any = reading.read_image) -> Any:
        if source.path == two.left.target:
            raise UnreadableImageError("gone")
        return read(source)

    with monkeypatch.context() as patch:
        patch.setattr(reading, "read_image", vanished)
        assert measured([two.left], detector="canvas", cache=tmp_path / "a").triplets[0]["status"] == "unreadable"
    assert numbers(measured([two.left], detector="canvas", cache=tmp_path / "a")) == expected

    class NotThisTarget(Picky):
        def prepare(self, face: Face) -> None:
            if face.size == (270, 480) and face.image is not None and (face.image[135, 340] == 128).all():
                raise LowQualityError("not this one")

    monkeypatch.setitem(METHODS, "picky", lambda provider: NotThisTarget(0, LowQualityError))
    refused = measured([two.left], "picky", "lm68", detector="canvas", cache=tmp_path / "b")
    assert refused.triplets[0]["status"] == "low_quality" and "target" in refused.triplets[0]["reason"]
    assert numbers(measured([two.left], detector="canvas", cache=tmp_path / "b")) == expected


# --- what is shared, and what is not ---

finite = st.floats(-1e6, 1e6)
FINDERS = {(d, c): FaceFinder(load_detector(d), c) for d, c in (("none", "largest"), ("dlib", "center"))}


def made_up(finder: FaceFinder, seed: int = 0, five: bool = False) -> Face:
    rng = np.random.default_rng(seed)
    return Face(
        None,
        rng.normal(size=4),
        float(rng.normal()),
        rng.normal(size=(68, 2)),
        rng.normal(size=(5, 2)) if five else None,
        finder.detector.name,
        aligned=finder.detector.aligned,
        size=(480, 640),
    )


def opened(folder: Path, **how: Any) -> VectorCache:
    given = {"finder": FINDERS["none", "largest"], "methods": [load_method("lm68")], "provider": "cpu", **how}
    return VectorCache(folder, given.pop("finder"), given.pop("methods"), given.pop("provider"), **given)


def outcome(seed: int = 0, **methods: int) -> Sight:
    rng = np.random.default_rng(seed + 1)
    vectors = {m: rng.normal(size=d).astype(np.float32) for m, d in (methods or {"lm68": 136}).items()}
    face = made_up(FINDERS["none", "largest"], seed)
    return Sight(face.size, [Represented(face.box, face.score, face, vectors)])


def vectors_of(found: Outcome | None) -> dict[str, Any]:
    assert isinstance(found, Sight)
    (face,) = found.faces
    return face.vectors


@given(
    box=arrays(np.float64, 4, elements=finite),
    score=finite,
    points=arrays(np.float64, (68, 2), elements=finite),
    five=st.none() | arrays(np.float64, (5, 2), elements=finite),
    corners=st.none() | arrays(np.float64, (3, 2), elements=finite),
    size=st.tuples(st.integers(1, 100_000), st.integers(1, 100_000)),
    which=st.sampled_from(sorted(FINDERS)),
)
def test_a_face_comes_back_bit_by_bit(
    tmp_path_factory: pytest.TempPathFactory,
    box: Any,
    score: Any,
    points: Any,
    five: Any,
    corners: Any,
    size: Any,
    which: Any,
) -> None:
    finder = FINDERS[which]
    told = {"aligned": finder.detector.aligned, "corners": corners, "size": size}
    face = Face(None, box, score, points, five, finder.detector.name, **told)
    hidden = Represented(box + 1, score, error=NoFaceError("turned away"))
    sight = Sight(size, [Represented(box, score, face), hidden])
    found = entries.decode(entries.encode(sight), finder)
    assert isinstance(found, Sight) and found.size == size
    first, second = found.faces
    assert (second.box == hidden.box).all() and second.face is None
    assert isinstance(second.error, NoFaceError) and str(second.error) == "turned away"
    back = first.face
    assert back is not None and first.score == score and (first.box == box).all()
    for name in ("box", "landmarks", "five_points", "corners"):
        was, became = getattr(face, name), getattr(back, name)
        assert (was is None) == (became is None)
        assert was is None or (was.tobytes() == became.tobytes() and was.dtype == became.dtype)
    for name in ("score", "size", "detector", "aligned", "image"):
        assert getattr(back, name) == getattr(face, name)
    assert (back.matrix("eyes70") == face.matrix("eyes70")).all() or np.isnan(face.matrix("eyes70")).any()


def test_what_was_added_is_found_and_nothing_else(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        assert cache.find("a") is None
        cache.add("a", outcome(1))
        cache.add("b", NoFaceError("none there"))
        cache.add("c", UnreadableImageError("gone"))
    with opened(tmp_path) as cache:
        assert (vectors_of(cache.find("a"))["lm68"] == vectors_of(outcome(1))["lm68"]).all()
        error = cache.find("b")
        assert type(error) is NoFaceError and str(error) == "none there"
        assert [cache.find(content) for content in ("c", "at", "")] == [None] * 3


def test_each_of_several_faces_has_its_own_vectors(tmp_path: Path) -> None:
    """Also where one between them can't be measured."""
    lost = Represented(np.arange(4.0), 0.5, error=NoFaceError("turned away"))
    first, last = outcome(1).faces[0], outcome(2).faces[0]
    with opened(tmp_path) as cache:
        cache.add("crowd", Sight((480, 640), [first, lost, last]))
    with opened(tmp_path) as cache:
        found = cache.find("crowd")
    assert isinstance(found, Sight)
    assert [f.error is None for f in found.faces] == [True, False, True]
    for was, became in zip((first, last), found.faces[::2], strict=True):
        assert (was.vectors["lm68"] == became.vectors["lm68"]).all() and (was.box == became.box).all()


OTHERS: dict[str, dict[str, Any]] = {
    "detector": {"finder": FaceFinder(load_detector("dlib"))},
    "provider": {"provider": "cuda"},
}


def test_another_choice_among_the_same_faces_finds_them(tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        cache.add("a", outcome())
    with opened(tmp_path, finder=FaceFinder(load_detector("none"), "center")) as cache:
        assert (vectors_of(cache.find("a"))["lm68"] == vectors_of(outcome())["lm68"]).all()


def test_what_was_kept_of_one_face_an_image_is_not_taken_for_all_faces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries of before all faces of an image were read."""
    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "FORM", "one face")
        with opened(tmp_path) as cache:
            cache.add("a", outcome())
    with opened(tmp_path) as cache:
        assert cache.find("a") is None


@pytest.mark.parametrize("other", OTHERS)
def test_faces_found_otherwise_are_not_taken(other: str, tmp_path: Path) -> None:
    with opened(tmp_path) as cache:
        cache.add("a", outcome())
    with opened(tmp_path, **OTHERS[other]) as cache:
        assert cache.find("a") is None
        cache.add("a", outcome(5))
    with opened(tmp_path) as cache:
        assert (vectors_of(cache.find("a"))["lm68"] == vectors_of(outcome())["lm68"]).all()


@pytest.mark.parametrize(
    "package", ["exprmetric", "onnxruntime", "opencv-python", "opencv-python-headless", "dlib-bin"]
)
def test_another_version_does_not_share(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert package in PACKAGES
    with opened(tmp_path) as cache:
        cache.add("a", outcome())
    version = cache_module.package_version
    monkeypatch.setattr(cache_module, "package_version", lambda n: "99" if n == package else version(n))
    with opened(tmp_path) as cache:
        assert cache.find("a") is None


def test_other_weights_share_the_face_and_not_the_vector(tmp_path: Path) -> None:
    class Retrained(LandmarkMethod):
        fingerprint = "retrained"  # type: ignore[assignment]

    with opened(tmp_path) as cache:
        cache.add("a", outcome())
    with opened(tmp_path, methods=[Retrained("lm68", 68)]) as cache:
        assert vectors_of(cache.find("a")) == {}


# --- room ---


def size_of(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.iterdir())


def fill(cache: VectorCache, names: Sequence[str], width: int = 512) -> None:
    for i, name in enumerate(names):
        cache.add(name, outcome(i, lm68=width))
        if i % 16 == 15:
            cache.commit()


@pytest.mark.parametrize("widths", [(512, 512), (16, 2048), (2048, 16)])
def test_the_file_stays_below_its_cap_and_forgets_the_oldest(
    widths: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_CHECK_EVERY", 64)
    room = 1_000_000
    old, new = [[f"{age}{i}" for i in range(400)] for age in ("old", "new")]
    for names, width in zip((old, new), widths, strict=True):
        with opened(tmp_path, most_bytes=room) as cache:
            fill(cache, names, width)
            assert (tmp_path / FILE).stat().st_size <= 1.3 * room  # while it runs: what came since the last look
        assert size_of(tmp_path) <= room
    with opened(tmp_path, most_bytes=room) as cache:
        assert [cache.find(n) is None for n in new[-64:]] == [False] * 64
        here = [cache.find(n) is not None for n in (*old, *new)]
        assert not all(here) and here == sorted(here), "what is left is what came last"


def test_what_was_used_lately_is_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"n{i}" for i in range(600)]
    day = 86_400.0
    monkeypatch.setattr(cache_module.time, "time", lambda: 20_000 * day)
    with opened(tmp_path) as cache:
        fill(cache, names)
    monkeypatch.setattr(cache_module.time, "time", lambda: 20_001 * day)
    with opened(tmp_path) as cache:
        assert all(cache.find(n) is not None for n in names[:100])
    with opened(tmp_path, most_bytes=600_000):
        pass
    assert size_of(tmp_path) <= 600_000
    with opened(tmp_path) as cache:
        assert all(cache.find(n) is not None for n in names[:100])
        assert any(cache.find(n) is None for n in names[100:])


# --- who else uses it ---


def test_the_file_is_its_owners_alone(tmp_path: Path, swaps: list[Triplet]) -> None:
    before = os.umask(0)
    try:
        folder = tmp_path / "new" / "kept"
        with opened(folder) as cache:
            cache.add("a", outcome())
            cache.commit()
            modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir()}
    finally:
        os.umask(before)
    assert FILE in modes and set(modes.values()) == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_who_works_does_not_keep_others_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaints: Callable[[], list[str]]
) -> None:
    """Between two commits lie seconds of work; the file must be free in that time."""
    monkeypatch.setattr(cache_module, "_PATIENCE", 0.05)
    with opened(tmp_path) as one, opened(tmp_path) as two:
        one.add("a", outcome(1))
        two.add("b", outcome(2))
        two.commit()
        one.add("c", outcome(3))
        assert two.find("a") is None
        one.commit()
        assert (vectors_of(two.find("c"))["lm68"] == vectors_of(outcome(3))["lm68"]).all()
        assert vectors_of(one.find("b"))
    assert complaints() == []


MANY = """
import sys, warnings
warnings.filterwarnings("error", ".*vector cache")
from pathlib import Path
from test_vector_cache import opened, outcome, vectors_of
number = int(sys.argv[2])
input()  # all begin at once, on a file that isn't there yet
for turn in range(6):
    with opened(Path(sys.argv[1])) as cache:
        for i in range(20):
            cache.add(f"{number}-{turn}-{i}", outcome(i))
            cache.add(f"all-{i}", outcome(i))
            if i % 5 == 4:
                cache.commit()
            assert i < 4 or vectors_of(cache.find("all-0"))
print("done")
"""


def test_many_processes_begin_the_file_together(tmp_path: Path, complaints: Callable[[], list[str]]) -> None:
    running = [in_a_process(MANY, tmp_path / "kept", n) for n in range(3)]
    for process in running:
        print("go", file=process.stdin, flush=True)
    assert [process.communicate(timeout=120)[0] for process in running] == ["done\n"] * 3
    with opened(tmp_path / "kept") as cache:
        for number, turn, i in np.ndindex(3, 6, 20):
            kept = vectors_of(cache.find(f"{number}-{turn}-{i}"))
            assert (kept["lm68"] == vectors_of(outcome(i))["lm68"]).all()
    assert complaints() == []


RUNS = """
import sys
from pathlib import Path
from exprmetric.evaluation.evaluate import evaluate
folder, kept, out = sys.argv[1:]
for turn in ("cold", "warm"):
    input()  # both begin at once
    evaluate(folder, ("lm68", "default"), detector="none", identity=False, cache=kept, out=f"{out}-{turn}")
    print("done", flush=True)
"""


@pytest.mark.slow
def test_two_runs_at_once_share_one_file(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = small_folder(tmp_path_factory)
    measured(folder, "lm68", "default", out=tmp_path / "plain")
    running = [
        in_a_process(
            "import warnings; warnings.filterwarnings('error', '.*vector cache')" + RUNS,
            folder,
            tmp_path / "kept",
            tmp_path / n,
        )
        for n in "ab"
    ]
    for _ in range(2):
        for process in running:
            print("go", file=process.stdin, flush=True)
        assert [process.stdout.readline() for process in running] == ["done\n"] * 2
    assert [process.wait(60) for process in running] == [0, 0]
    for name, turn in np.ndindex(2, 2):
        assert_same(tmp_path / f"{'ab'[name]}-{('cold', 'warm')[turn]}", tmp_path / "plain")


# --- when it can't be used ---


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> list[Triplet]:
    return read_triplets(small_folder(tmp_path_factory))[:3]


@pytest.fixture(scope="module")
def expected(some: list[Triplet]) -> tuple[Any, Any]:
    return numbers(measured(some))


@pytest.fixture(scope="module")
def good(some: list[Triplet], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds all of `some`."""
    folder = tmp_path_factory.mktemp("good")
    measured(some, cache=folder)
    assert [p.name for p in folder.iterdir()] == [FILE], "closed, SQLite leaves one file"
    return folder / FILE


def _garbage(file: Path) -> None:
    file.write_bytes(b"this is no database, whatever its name says" * 200)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2 + 100])


def _zeros(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    file.write_bytes(content)


def _of_others(file: Path) -> None:
    file.unlink()
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE kept (something TEXT)")
    connection.close()


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("damage", [_garbage, _cut, _zeros, _of_others, _folder])
def test_a_damaged_file_costs_one_warning_and_no_number(
    damage: Callable[[Path], None],
    good: Path,
    some: list[Triplet],
    expected: Any,
    tmp_path: Path,
    complaints: Callable[[], list[str]],
) -> None:
    file = Path(shutil.copyfile(good, tmp_path / FILE))
    damage(file)
    assert numbers(measured(some, cache=tmp_path)) == expected
    (said,) = complaints()
    assert str(file) in said and "goes on without it" in said and "delete" in said


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bits_never_reach_a_number(
    seed: int, good: Path, some: list[Triplet], expected: Any, tmp_path: Path, complaints: Callable[[], list[str]]
) -> None:
    rng = random.Random(seed)
    content = bytearray(good.read_bytes())
    for _ in range(40):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    (tmp_path / FILE).write_bytes(content)
    assert numbers(measured(some, cache=tmp_path)) == expected
    assert len(complaints()) <= 1


@pytest.mark.parametrize("how", ["one bit", "cut", "text", "number", "empty", "swapped"])
def test_a_changed_value_is_not_believed(
    how: str, good: Path, some: list[Triplet], expected: Any, tmp_path: Path, work: Work
) -> None:
    file = Path(shutil.copyfile(good, tmp_path / FILE))
    connection = sqlite3.connect(file)
    rows = dict(connection.execute("SELECT name, value FROM kept"))
    others = dict(zip(rows, [*list(rows.values())[1:], next(iter(rows.values()))], strict=True))
    new: dict[str, Callable[[bytes], Any]] = {
        "one bit": lambda name: rows[name][:-9] + bytes([rows[name][-9] ^ 64]) + rows[name][-8:],
        "cut": lambda name: rows[name][:-8],
        "text": lambda name: "face" * 30,
        "number": lambda name: 7,
        "empty": lambda name: b"",
        "swapped": lambda name: others[name],
    }
    with connection:
        connection.executemany("UPDATE kept SET value = ? WHERE name = ?", [(new[how](n), n) for n in rows])
    connection.close()
    assert numbers(measured(some, cache=tmp_path)) == expected
    assert work.read, "nothing of it was of use"
    work.clear()
    assert numbers(measured(some, cache=tmp_path)) == expected
    assert work.nothing, "and it is put right"


def test_a_folder_that_can_not_be_written(
    good: Path, some: list[Triplet], expected: Any, tmp_path: Path, complaints: Callable[[], list[str]]
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    with bound_by_modes():
        assert numbers(measured(some, cache=closed / "kept")) == expected
        assert numbers(measured(some, cache=closed)) == expected
    assert [str(closed / "kept") in said for said in complaints()] == [True, False]
    assert list(closed.iterdir()) == []


def test_a_file_in_the_place_of_the_folder(
    some: list[Triplet], expected: Any, tmp_path: Path, complaints: Callable[[], list[str]]
) -> None:
    (tmp_path / "kept").write_text("mine")
    assert numbers(measured(some, cache=tmp_path / "kept")) == expected
    assert len(complaints()) == 1 and (tmp_path / "kept").read_text() == "mine"


@pytest.mark.parametrize("pages", [3, 5])
def test_a_full_disk(
    pages: int,
    some: list[Triplet],
    expected: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    complaints: Callable[[], list[str]],
) -> None:
    connect = sqlite3.connect

    def small(*args: Any, **how: Any) -> sqlite3.Connection:
        connection = connect(*args, **how)
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    monkeypatch.setattr(sqlite3, "connect", small)
    assert numbers(measured(some, "lm68", "lm51", cache=tmp_path)) == numbers(measured(some, "lm68", "lm51"))
    (said,) = complaints()
    assert "full" in said


def test_no_room_for_the_last_words(tmp_path: Path, complaints: Callable[[], list[str]]) -> None:
    """The disk fills up before the cache is closed: that is one more warning, and no error."""
    with opened(tmp_path) as cache:
        assert cache._connection is not None
        cache._connection.execute("PRAGMA max_page_count = 1")
        for i in range(50):
            cache.add(f"a{i}", outcome(i))
    assert len(complaints()) == 1


def test_somebody_who_never_lets_go(
    good: Path,
    some: list[Triplet],
    expected: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    complaints: Callable[[], list[str]],
) -> None:
    monkeypatch.setattr(cache_module, "_PATIENCE", 0.1)
    with opened(tmp_path):
        pass
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert numbers(measured(some, cache=tmp_path)) == expected
    (said,) = complaints()
    assert "locked" in said
    other.rollback()
    other.close()


# --- the command line ---


def test_the_command_keeps_vectors_beside_the_weights_unless_told_otherwise(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner
    from exprmetric_cli.main import main

    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path / "mine too"))
    folder = small_folder(tmp_path_factory)
    command = ["evaluate", str(folder), "-m", "lm68", "--no-identity", "--detector", "none", "-q", "--format", "json"]
    assert CliRunner().invoke(main, [*command, "--no-cache"]).exit_code == 0
    assert list(tmp_path.iterdir()) == []
    assert CliRunner().invoke(main, [*command, "--cache", str(tmp_path / "mine")]).exit_code == 0
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    assert CliRunner().invoke(main, command).exit_code == 0
    assert (tmp_path / "mine too" / "vectors" / FILE).is_file()
