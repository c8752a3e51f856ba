"""`identity` is dlib's own descriptor, and it does what it is there for: tell people apart."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from exprmetric import weights
from exprmetric.faces import Face, FaceFinder, load_detector
from exprmetric.images import read_image
from exprmetric.methods import load_method
from exprmetric.methods.base import Method, Vectors


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

    network = dlib.face_recognition_model_v1(str(weights.find("dlib-resnet")))
    predictor = dlib.shape_predictor(str(weights.find("dlib-68")))
    assert vectors.shape == (7, 128) and vectors.dtype == np.float32
    for face, vector in zip(faces, vectors, strict=True):
        shape = predictor(face.image, dlib.rectangle(*(int(v) for v in face.box)))
        assert np.array_equal(vector, np.array(network.compute_face_descriptor(face.image, shape), np.float32))


def test_vectors_do_not_depend_on_the_batch(method: Method, faces: list[Face], vectors: Vectors) -> None:
    alone = np.concatenate([method.represent([face]) for face in faces])
    assert np.array_equal(alone, vectors)
    assert np.array_equal(method.represent(faces[::-1] * 3), np.concatenate([vectors[::-1]] * 3))
    assert np.array_equal(load_method("identity").represent(faces[2:5]), vectors[2:5])


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
