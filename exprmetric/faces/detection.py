"""Detectors and their registry: where faces are in an image.

| name | what it is | needs |
| --- | --- | --- |
| `scrfd` | SCRFD-500M with five points, through insightface | `weights pull scrfd-500m` |
| `scrfd-10g` | SCRFD-10G, likewise | `weights pull scrfd-10g` |
| `yunet` | OpenCV's YuNet | `weights pull yunet` |
| `dlib` | dlib's frontal HOG detector | nothing: embedded in dlib |
| `none` | the whole image is one face, aligned already | nothing |
| `auto` | the first of scrfd, yunet, dlib whose weights are present and may be used | |
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from exprmetric.errors import InputError
from exprmetric.faces import alignment
from exprmetric.weights import store as weights
from exprmetric.weights.runtime import check_provider, provider_names, session_options

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Detection:
    """One face box.

    Attributes:
        box: (4,) float64 x0, y0, x1, y1, px.
        score: the detector's confidence, in its own unit.
        landmark_box: (4,) float64, the square that dlib's shape predictor expects around this face.
        five_points: (5, 2) float64 eyes, nose, mouth corners, where the detector gives them.
    """

    box: Floats
    score: float
    landmark_box: Floats
    five_points: Floats | None = None


def gives_points(detector: Detector) -> bool:
    """Whether a detector draws five points on each face."""
    return isinstance(detector, _FivePointDetector)


class Detector(Protocol):
    """What a detector has to be. `detect` takes (H, W, 3) uint8 RGB and may be called from several threads.

    Attributes:
        aligned: its images are aligned crops, and it finds nothing in them.

    A detector that also has `glance(image)`, which is `detect` at a single scale, is asked again about faces that may
    be rolled (`faces.upright`), and about those whose score is below its `sure`.
    """

    name: str
    fingerprint: str
    aligned: bool

    def detect(self, image: Image) -> list[Detection]:
        """All faces found, in no particular order; an empty list when there is none."""
        ...


def dlib_box_from_five_points(points: Floats) -> Floats:
    """The square that dlib's detector would draw around a face with these five points.

    dlib's shape predictor was trained on boxes of dlib's own detector and misses on others.
    """
    eyes, mouth = points[:2].mean(0), points[3:].mean(0)
    unit = alignment.extent(points)
    centre = (eyes + mouth) / 2 + np.array(alignment.DLIB_BOX_SHIFT) * unit
    half = alignment.DLIB_BOX * unit / 2
    return np.concatenate([centre - half, centre + half])


_TO_EYES = {"scrfd": (0.028, 0.018), "scrfd-10g": (0.028, 0.018), "yunet": (0.021, 0.028)}
"""From a detector's eye points to the centres of dlib's: inwards and down, in distances between the points. Medians
over 102 photographs of LFW."""


def eyes_of_five_points(points: Floats, detector: str) -> Floats:
    """(2, 2) centres of the eyes, px, of a face of which a detector alone says where they are."""
    across = points[1] - points[0]
    inwards, down = _TO_EYES.get(detector, (0.0, 0.0))
    moved = down * np.array([-across[1], across[0]])
    return np.stack([points[0] + inwards * across + moved, points[1] - inwards * across + moved])


class DlibDetector:
    """dlib's frontal HOG detector; it needs faces of 80 px, so a small image is doubled until one is found."""

    name = "dlib"
    aligned = False
    sure = 0.2
    max_upsamplings = 2
    max_side = 2048
    """Longest side, px, that doubling may reach: a face of 80 px in a larger image is found at its own size."""

    def __init__(self) -> None:
        self._local = threading.local()  # the detector object keeps a scratch buffer
        self.fingerprint = f"dlib-hog:{_version('dlib-bin', 'dlib')}"

    def detect(self, image: Image) -> list[Detection]:
        for upsamplings in range(self.max_upsamplings + 1):
            if upsamplings and max(image.shape[:2]) << upsamplings > self.max_side:
                break
            if found := self._at(image, upsamplings):
                return found
        return []

    def glance(self, image: Image) -> list[Detection]:
        """Faces of 80 px and more."""
        return self._at(image, 0)

    def _at(self, image: Image, upsamplings: int) -> list[Detection]:
        if not hasattr(self._local, "hog"):
            import dlib

            self._local.hog = dlib.get_frontal_face_detector()
        image = np.ascontiguousarray(image)  # of a slice dlib makes a copy and lets go of it before it has looked
        rectangles, scores, _ = self._local.hog.run(image, upsamplings, 0.0)
        boxes = [np.array([r.left(), r.top(), r.right(), r.bottom()], np.float64) for r in rectangles]
        return [Detection(b, float(s), b) for b, s in zip(boxes, scores, strict=True)]


class _FivePointDetector:
    """Shared by the networks: look at the image inside a padded canvas, then at other scales.

    A face that fills its image is larger than what these networks saw in training; with a border around it and at half
    the size it is found.
    """

    aligned = False
    looks = "padded-2"
    """Names how images are put before the network; changes with whatever changes a box."""
    sides = (320, 640)
    """Canvas, px: the smaller one for images that fit into it."""
    fills = (0.75, 0.4, 1.0)
    """Share of the canvas that the image's longest side takes, one look after the other until a face is found."""
    shapes = (0.6, 0.8, 1.0)
    """The canvas's short side by its long one: few, because a network is prepared for each; a film needs no square."""

    def detect(self, image: Image) -> list[Detection]:
        return next((found for fill in self.fills if (found := self._at(image, fill))), [])

    def glance(self, image: Image) -> list[Detection]:
        """What the first of the looks finds."""
        return self._at(image, self.fills[0])

    def _at(self, image: Image, fill: float) -> list[Detection]:
        import cv2

        longest = max(image.shape[:2])
        side = next((s for s in self.sides if longest <= s), self.sides[-1])
        scale = fill * side / longest
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        size = [max(1, round(n * scale)) for n in (image.shape[1], image.shape[0])]
        small = np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)
        canvas = self._canvas(small, side)
        top, left = (canvas.shape[0] - small.shape[0]) // 2, (canvas.shape[1] - small.shape[1]) // 2
        canvas[top : top + small.shape[0], left : left + small.shape[1]] = small[..., ::-1]
        factor = np.array([image.shape[1] / small.shape[1], image.shape[0] / small.shape[0]])
        found = []
        for box, points, score in self._look(canvas):
            corners = (box.reshape(2, 2) - (left, top)) * factor
            five = (points - (left, top)) * factor
            found.append(Detection(corners.ravel(), score, dlib_box_from_five_points(five), five))
        return found

    def _canvas(self, small: Image, side: int) -> Image:
        """Black, for BGR; across the image's longest side, the border is at least half as wide as along it."""
        height, width = small.shape[:2]
        needed = min(height, width) + (side - max(height, width)) / 2
        short = next((round(s * side) for s in self.shapes if s * side >= needed), side)
        return np.zeros((side, short, 3) if height > width else (short, side, 3), np.uint8)

    def _look(self, canvas: Image) -> Iterator[tuple[Floats, Floats, float]]:
        raise NotImplementedError


class ScrfdDetector(_FivePointDetector):
    """SCRFD through insightface's model zoo, on a verified file."""

    threshold, sure = 0.5, 0.66

    def __init__(self, name: str = "scrfd", entry: str = "scrfd-500m", provider: str = "cpu") -> None:
        import contextlib
        import io

        path = weights.find(entry)
        with contextlib.redirect_stdout(io.StringIO()):  # stdout belongs to results
            from insightface import model_zoo

            self._model = model_zoo.get_model(
                str(path), providers=provider_names(provider), sess_options=session_options(threads=1)
            )
        check_provider(self._model.session, provider)
        self._model.prepare(-1, det_thresh=self.threshold)
        self.name = name
        self.fingerprint = f"{entry}:{weights.entry(entry).sha256[:16]}/{self.looks}"

    def _look(self, canvas: Image) -> Iterator[tuple[Floats, Floats, float]]:
        size = (canvas.shape[1], canvas.shape[0])
        boxes, points = self._model.detect(canvas, input_size=size)
        for box, five in zip(boxes, points, strict=True):
            yield box[:4].astype(np.float64), five.astype(np.float64), float(box[4])


class YunetDetector(_FivePointDetector):
    """OpenCV's YuNet, on a verified file."""

    name = "yunet"
    threshold, sure = 0.6, 0.9

    def __init__(self) -> None:
        self._path = str(weights.find("yunet"))
        self._local = threading.local()  # one network a thread: it keeps its blobs
        self.fingerprint = f"yunet:{weights.entry('yunet').sha256[:16]}/{self.looks}"

    def _look(self, canvas: Image) -> Iterator[tuple[Floats, Floats, float]]:
        import cv2

        if not hasattr(self._local, "net"):
            # of the network's file OpenCV warns on stderr, once a load, of layers that it reads all the same
            log = cv2.utils.logging
            before = log.getLogLevel()
            log.setLogLevel(log.LOG_LEVEL_ERROR)
            try:
                self._local.net = cv2.FaceDetectorYN.create(self._path, "", (0, 0), self.threshold)
            finally:
                log.setLogLevel(before)
        self._local.net.setInputSize((canvas.shape[1], canvas.shape[0]))
        _, rows = self._local.net.detect(canvas)
        for row in [] if rows is None else rows.astype(np.float64):
            yield np.concatenate([row[:2], row[:2] + row[2:4]]), row[4:14].reshape(5, 2), float(row[14])


class WholeImage:
    """No detection: each image is an aligned crop of one face."""

    name = "none"
    fingerprint = "none-2"
    aligned = True

    def detect(self, image: Image) -> list[Detection]:
        height, width = image.shape[:2]
        eyes = alignment.EYES * (width / alignment.CROP_SIZE, height / alignment.CROP_SIZE)
        unit = float(np.linalg.norm(eyes[1] - eyes[0]))
        centre, half = eyes.mean(0) + np.array([0.0, 0.45 * unit]), 1.06 * unit
        box = np.array([0, 0, width, height], np.float64)
        return [Detection(box, 1.0, np.concatenate([centre - half, centre + half]))]


@dataclass(frozen=True)
class _Entry:
    make: Callable[..., Any]
    weights: str | None = None
    accelerated: bool = False


DETECTORS: dict[str, _Entry] = {
    "scrfd": _Entry(ScrfdDetector, "scrfd-500m", accelerated=True),
    "scrfd-10g": _Entry(
        lambda provider: ScrfdDetector("scrfd-10g", "scrfd-10g", provider), "scrfd-10g", accelerated=True
    ),
    "yunet": _Entry(YunetDetector, "yunet"),
    "dlib": _Entry(DlibDetector),
    "none": _Entry(WholeImage),
}
AUTO_ORDER = ("scrfd", "yunet", "dlib")


def available_detectors() -> dict[str, bool]:
    """Every registered detector and whether the weights it needs are on this machine."""
    return {n: e.weights is None or weights.is_present(e.weights) for n, e in DETECTORS.items()}


def load_detector(name: str = "auto", *, provider: str = "cpu") -> Detector:
    """The detector of this name.

    Args:
        name: a key of `DETECTORS`, or `auto`.
        provider: ONNX Runtime provider (`cpu`, `cuda`, …) for the detectors that run on it.

    Raises:
        InputError: no detector has this name.
        WeightsNotFoundError: its weights are not on this machine. ForbiddenWeightsError: they may not be used here.
    """
    if name == "auto":
        present = available_detectors()
        needed = {n: DETECTORS[n].weights for n in AUTO_ORDER}
        name = next(n for n, entry in needed.items() if present[n] and (entry is None or weights.allowed(entry)))
    if name not in DETECTORS:
        raise InputError(f"unknown detector {name!r}; known: auto, {', '.join(DETECTORS)}")
    entry = DETECTORS[name]
    detector: Detector = entry.make(provider=provider) if entry.accelerated else entry.make()
    return detector


def _version(*distributions: str) -> str:
    from importlib import metadata

    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"
