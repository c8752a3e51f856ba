"""`identity` is dlib's own descriptor without dlib, and it does what it is there for: tell people apart."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exprmetric.errors import ImageError, ProviderError, WeightsError
from exprmetric.faces import Face, FaceFinder, load_detector
from exprmetric.io.images import read_image
from exprmetric.methods import load_method
from exprmetric.methods.base import Method, Vectors
from exprmetric.methods.identity import IdentityMethod
from exprmetric.weights import store as weights
from exprmetric.weights.dlib_resnet import Resnet, parse

CLOSE = 3e-6
"""What float32 leaves of numbers below 1 when a few thousand are summed in another order; people differ by tenths."""


@lru_cache(maxsize=1)
def dlibs() -> Any:
    """dlib's own network."""
    import dlib

    return dlib.face_recognition_model_v1(str(weights.find("dlib-resnet")))


def descriptor(chip: npt.NDArray[np.uint8]) -> Vectors:
    """dlib's own 128 numbers of a chip."""
    return np.array(dlibs().compute_face_descriptor(chip), np.float32)


def chip_face(face: Face, chip: npt.NDArray[np.uint8]) -> Face:
    """A face of which nothing but this chip is kept."""
    return Face(None, face.box, face.score, face.landmarks, crops={"dlib150": chip})


@pytest.fixture(scope="module")
def faces(group_photo: Path, portrait_photo: Path) -> list[Face]:
    """The six of the group, then the portrait."""
    finder = FaceFinder(load_detector("dlib"))
    group = read_image(group_photo)
    found = sorted(finder.detect(group), key=lambda d: d.box[0])
    return [*(finder.face(group, d) for d in found), finder.find(read_image(portrait_photo))]


@pytest.fixture(scope="module")
def method() -> Method:
    return load_method("identity")


@pytest.fixture(scope="module")
def vectors(method: Method, faces: list[Face]) -> Vectors:
    return method.represent(faces)


def test_vectors_are_dlibs_own(faces: list[Face], vectors: Vectors) -> None:
    import dlib

    assert vectors.shape == (7, 128) and vectors.dtype == np.float32
    for face, vector in zip(faces, vectors, strict=True):
        points = dlib.points([dlib.point(round(x), round(y)) for x, y in face.landmarks])
        shape = dlib.full_object_detection(dlib.rectangle(*(int(v) for v in face.box)), points)
        np.testing.assert_allclose(vector, dlibs().compute_face_descriptor(face.image, shape), rtol=0, atol=CLOSE)


def test_vectors_are_dlibs_own_of_anything(method: Method, faces: list[Face]) -> None:
    """Flat, noisy, and bright at one border at a time: what is padded at which side shows there."""
    chance = np.random.default_rng(0)
    chips = [np.full((150, 150, 3), grey, np.uint8) for grey in (0, 128, 255)]
    chips += [chance.integers(0, 256, (150, 150, 3), np.uint8) for _ in range(3)]
    for border in (np.s_[:20], np.s_[-20:], np.s_[:, :20], np.s_[:, -20:], np.s_[..., 0], np.s_[..., 2]):
        chips.append(chips[0].copy())
        chips[-1][border] = 255
    seen = method.represent([chip_face(faces[0], chip) for chip in chips])
    np.testing.assert_allclose(seen, [descriptor(chip) for chip in chips], rtol=0, atol=CLOSE)


@pytest.mark.slow
@pytest.mark.shared
def test_vectors_are_dlibs_own_of_the_shared_faces(method: Method, shared_data: Callable[[str], Path]) -> None:
    finder, faces = FaceFinder(load_detector("dlib")), []
    for path in sorted(shared_data("swaps_dev").glob("*/*.png"))[::12]:
        try:
            faces.append(finder.find(read_image(path)).prepare([method.template]))
        except ImageError:
            continue
    assert len(faces) >= 20
    wanted = [descriptor(face.crop("dlib150")) for face in faces]
    np.testing.assert_allclose(method.represent(faces), wanted, rtol=0, atol=CLOSE)


def test_vectors_do_not_depend_on_the_batch(method: Method, faces: list[Face], vectors: Vectors) -> None:
    many, wanted = (faces * 5)[:32], np.concatenate([vectors] * 5)[:32]
    for size in (1, 2, 7, 32):
        batches = [method.represent(many[i : i + size]) for i in range(0, 32, size)]
        assert np.array_equal(np.concatenate(batches), wanted)
    assert np.array_equal(method.represent(faces[::-1] * 3), np.concatenate([vectors[::-1]] * 3))


def test_vectors_do_not_depend_on_threads(method: Method, faces: list[Face], vectors: Vectors) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(method.represent, [faces[i:] for i in range(7)] * 2))
    assert all(np.array_equal(part, vectors[i % 7 :]) for i, part in enumerate(found))
    for threads in (1, 2):
        assert np.array_equal(IdentityMethod(threads=threads).represent(faces[2:5]), vectors[2:5])


def test_dlib_is_not_needed_where_the_chips_are(
    monkeypatch: pytest.MonkeyPatch, faces: list[Face], vectors: Vectors
) -> None:
    chips = [chip_face(face, face.crop("dlib150")) for face in faces]
    monkeypatch.setitem(sys.modules, "dlib", None)  # to import it is an error now
    with pytest.raises(ImportError):
        import dlib  # noqa: F401
    assert np.array_equal(load_method("identity").represent(chips), vectors)


def test_a_provider_that_is_not_here_is_an_error() -> None:
    with pytest.raises(ProviderError, match="abacus"):
        load_method("identity", provider="abacus")


def test_no_faces_give_no_rows(method: Method) -> None:
    assert method.represent([]).shape == (0, 128)


def test_a_person_is_nearer_to_herself_than_to_anyone_else(
    method: Method, faces: list[Face], vectors: Vectors, group_photo: Path
) -> None:
    """Each photographed again: mirrored, darker, at four fifths of the size and compressed."""
    image = cv2.resize(read_image(group_photo)[:, ::-1], None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    image = cv2.convertScaleAbs(image, alpha=0.8)
    image = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR)
    finder = FaceFinder(load_detector("dlib"))
    again = []
    for face in faces[:6]:
        x0, y0, x1, y1 = face.place
        again.append(finder.find(image, near=np.array([1 - x1, y0, 1 - x0, y1])))
    seen = method.represent(again)
    distances = np.stack([method.distance(vectors, np.repeat(v[None], 7, 0)) for v in seen])
    assert distances.shape == (6, 7)
    own = distances[np.arange(6), np.arange(6)]
    others = distances[~np.eye(6, 7, dtype=bool)]
    assert (distances.argmin(1) == np.arange(6)).all()
    assert own.max() < 0.45 and others.min() > 0.6  # 0.6 is where dlib's authors draw the line


def test_crops_made_beforehand_are_enough(method: Method, faces: list[Face], vectors: Vectors) -> None:
    first = faces[0]
    face = Face(first.image, first.box, first.score, first.landmarks).prepare([method.template])
    assert face.image is None and face.crops["dlib150"].shape == (150, 150, 3)
    assert np.array_equal(method.represent([face]), vectors[:1])


@lru_cache(maxsize=1)
def stored() -> bytes:
    return weights.find("dlib-resnet").read_bytes()


@lru_cache(maxsize=1)
def network() -> Resnet:
    return parse(stored())


@lru_cache(maxsize=1)
def structure() -> list[int]:
    """Where the file's bytes are no weights: its head, its tail and what stands around the names of the layers."""
    names = list(re.finditer(rb"con_4|affine_|relu_|add_prev_|(max|avg)_pool_2|fc_2", stored()))
    spans = [(0, names[0].end()), *((m.start() - 32, m.end() + 3) for m in names), (len(stored()) - 60, len(stored()))]
    return sorted({i for start, end in spans for i in range(start, end)})


def equal(one: Resnet, other: Resnet) -> bool:
    pairs = zip(one.convolutions, other.convolutions, strict=True)
    return np.array_equal(one.projection, other.projection) and all(
        np.array_equal(a.kernels, b.kernels) and np.array_equal(a.bias, b.bias) and a.stride == b.stride
        for a, b in pairs
    )


def test_the_network_is_the_one_that_is_documented() -> None:
    filters = [32] * 7 + [64] * 8 + [128] * 6 + [256] * 8
    assert [len(c.bias) for c in network().convolutions] == filters
    assert [c.kernels.shape[1] for c in network().convolutions] == [3, *filters[:-1]]
    assert [i for i, c in enumerate(network().convolutions) if c.stride == 2] == [0, 7, 15, 21, 27]
    assert network().projection.shape == (256, 128)
    assert len(structure()) > 3000


@settings(max_examples=60)
@given(st.data())
def test_no_byte_between_the_weights_can_change_unseen(data: st.DataObject) -> None:
    at = data.draw(st.sampled_from(structure()))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != stored()[at]))
    try:
        read = parse(stored()[:at] + bytes([byte]) + stored()[at + 1 :])
    except WeightsError:
        return
    assert equal(read, network())  # a flag of training, or minus nought


@settings(max_examples=60)
@given(st.integers(0, 22_466_065), st.binary(max_size=40))
def test_a_file_that_ends_early_is_an_error(kept: int, junk: bytes) -> None:
    for data in (stored()[:kept], stored()[: max(kept - 100, 0)] + junk):
        with pytest.raises(WeightsError):
            parse(data)


@given(st.binary(max_size=500))
def test_what_is_no_network_is_an_error(data: bytes) -> None:
    with pytest.raises(WeightsError):
        parse(data)


def test_another_network_is_an_error() -> None:
    with pytest.raises(WeightsError, match="expected 13 at byte 2, found -"):
        parse(weights.find("dlib-68").read_bytes()[:1000])
    with pytest.raises(WeightsError, match="'con_4' at byte 334, found 'con_5'"):
        parse(stored().replace(b"con_4", b"con_5"))
    with pytest.raises(WeightsError, match="1 bytes follow"):
        parse(stored() + b"\0")
