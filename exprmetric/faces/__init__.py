"""Faces: detectors, landmarks, alignment, and the `Face` that carries them to the methods."""

from exprmetric.faces.detection import DETECTORS, Detection, Detector, available_detectors, load_detector
from exprmetric.faces.face import Face
from exprmetric.faces.finder import CHOICES, FaceFinder, open_finder

__all__ = [
    "CHOICES",
    "DETECTORS",
    "Detection",
    "Detector",
    "Face",
    "FaceFinder",
    "available_detectors",
    "load_detector",
    "open_finder",
]
