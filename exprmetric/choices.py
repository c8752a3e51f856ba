"""Names that the package, the command line and its help share; importing them imports nothing else.

What has code behind a name stands in a registry that imports it when it is asked for: methods, layouts,
recipes, engines. A test sees to it that these names are those of the code.
"""

from importlib import import_module
from typing import Any

DETECTORS = ("auto", "scrfd", "scrfd-10g", "yunet", "dlib", "none")
"""`auto`: the first of scrfd, yunet, dlib whose weights are here; `none`: images are aligned crops."""
LANDMARKS = ("dlib68", "mesh", "none")
"""What says where the eyes of a face are: dlib's 68 points, MediaPipe's mesh, or the detector's own five points."""
CROPS = ("eyes70", "arcface")
"""Templates by which `align` cuts faces out."""
FACES = ("largest", "center", "error")
"""Which of several faces in an image; `error` refuses to choose."""
CHANGED = "changed"
"""Of the faces in a target, the one that the swap changed most."""
DEFAULT_METHODS = ("default", "lm68", "lm51")
IDENTITY = "identity"
"""The method of the identity control."""
BLENDSHAPES = "blendshapes"
"""The method whose numbers have names."""
ON_FAIL = ("exclude", "worst")
"""Score without the triplets that could not be measured, or count them as the worst."""
EXPRESSIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
"""The classes that encoders tell, in the order of their probabilities."""
BY = ("expression", "yaw", "size", "faces")
"""What is known of each target, by which scores may be split; all else is a column of the manifest."""
MORE_SCORES = ("efid", "id_retrieval")
"""Scores that need all vectors at once, which are measured where they are asked for."""
PRESETS = ("paper",)
"""Methods, scores and the table that belong together; `paper`: what face-swap papers print."""
MATCHES = ("content", "path")
"""By what the rows of two results are paired."""
ENGINES = ("local", "ray")
"""Who measures rows."""
QUALITIES = ("any", "paper004")
"""Which faces of a video count: all, or those that pass FaceQA."""
PEOPLE = ("changed", "one", "all")
"""Who of a video is measured."""
IDENTIFIERS = ("identity", "arcface-w600k-r50")
"""Methods that can tell people of videos apart."""
ALL = "all"
SPLITS = ("train", "valid", "test", ALL)
"""Of a data set of faces."""


def resolve(reference: str) -> Any:
    """What `module:name` names: how registries speak of code that is imported when it is asked for."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


LUMA = "luma"
CHANNELS = {LUMA: 1, "rgb": 3}
"""What a network that is trained sees of a face's colour → how many channels its input has."""
