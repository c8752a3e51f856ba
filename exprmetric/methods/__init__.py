"""Methods: expression encoders, landmarks, the identity control; `load_method(name)` gives one."""

from exprmetric.methods import blendshapes, compatibility, gaze, identity, landmarks, pose, threedmm  # registers them
from exprmetric.methods.base import NOT_COMPARABLE, Method
from exprmetric.methods.registry import METHODS, available_methods, load_method, register_method

__all__ = [
    "METHODS",
    "NOT_COMPARABLE",
    "Method",
    "available_methods",
    "blendshapes",
    "compatibility",
    "gaze",
    "identity",
    "landmarks",
    "load_method",
    "pose",
    "register_method",
    "threedmm",
]
