"""Methods: expression encoders, landmarks, the identity control; `load_method(name)` gives one."""

from exprmetric.methods import blendshapes, identity, landmarks, threedmm  # registers them
from exprmetric.methods.base import METHODS, Method, available_methods, load_method, register_method

__all__ = [
    "METHODS",
    "Method",
    "available_methods",
    "blendshapes",
    "identity",
    "landmarks",
    "load_method",
    "register_method",
    "threedmm",
]
